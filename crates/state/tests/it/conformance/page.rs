//! `docs/conformance.md` names tests that exist.
use std::path::Path;

/// Whether a file has a test of this name.
fn has(path: &Path, test: &str) -> bool {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.contains(&format!("fn {test}("))
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

#[test]
fn every_test_that_the_page_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let page = std::fs::read_to_string(root.join("docs/conformance.md")).unwrap();
    let tests = root.join("crates/state/tests/it");
    let (mut named, mut missing) = (0, Vec::new());
    for row in page.lines().filter(|line| line.starts_with('|')) {
        // What stands between back quotes.
        for quoted in row.split('`').skip(1).step_by(2) {
            let found = if let Some((path, test)) = quoted.split_once(".rs: ") {
                has(&root.join(format!("{path}.rs")), test)
            } else if let Some((module, test)) = quoted.split_once("::")
                && is_name(module)
                && is_name(test)
            {
                has(&tests.join(format!("conformance/{module}.rs")), test)
                    || has(&tests.join(format!("{module}.rs")), test)
            } else {
                continue;
            };
            named += 1;
            if !found {
                missing.push(quoted);
            }
        }
    }
    assert!(named > 200, "the page names {named} tests");
    assert!(missing.is_empty(), "no such tests: {missing:#?}");
}
