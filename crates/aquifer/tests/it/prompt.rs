//! The prompt, at a pseudo-terminal that Python opens.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::support::{Ended, Place, ended};

/// Types lines at `aquifer sql`, each when a prompt is there.
fn typed(place: &Place, lines: &str) -> Ended {
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/it/at_a_terminal.py");
    let mut child = Command::new("python3")
        .arg(script)
        .args([env!("CARGO_BIN_EXE_aquifer"), "sql"])
        .current_dir(place.path())
        .env("XDG_DATA_HOME", place.path().join("data"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("python3 starts");
    child
        .stdin
        .take()
        .expect("its input")
        .write_all(lines.as_bytes())
        .expect("lines are taken");
    ended(child.wait_with_output().expect("the session ends"))
}

#[test]
fn an_error_does_not_end_the_prompt_and_history_is_kept() {
    let place = Place::new();
    let session = typed(
        &place,
        "SELEC 1;\nCREATE VIEW v AS SELECT 41 + 1 AS answer;\nSELECT * FROM v;\nhelp;\nquit;\n",
    )
    .with_status(0);
    assert!(session.stdout.contains("error: "), "{}", session.stdout);
    assert!(session.stdout.contains("+I[42]"), "{}", session.stdout);
    assert!(
        session.stdout.contains("EXECUTE STATEMENT SET"),
        "{}",
        session.stdout
    );
    let history =
        std::fs::read_to_string(place.path().join("data/aquifer/history.sql")).expect("a history");
    assert!(history.contains("SELECT * FROM v;"), "{history}");
}

#[test]
fn a_statement_may_take_several_lines() {
    // A carriage return is what the Enter key sends; the first one does not end the statement.
    let session = typed(&Place::new(), "SELECT 6 * 7\rAS answer;\nexit;\n").with_status(0);
    assert!(session.stdout.contains("+I[42]"), "{}", session.stdout);
}
