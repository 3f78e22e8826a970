//! Arguments, exit statuses, and what goes to which stream.

use std::io::Write;
use std::process::Stdio;

use crate::support::{Place, ended};

#[test]
fn version_and_help_go_to_standard_output() {
    let place = Place::new();
    let version = place.run(&["--version"]).with_status(0);
    assert_eq!(
        version.stdout.trim(),
        format!("aquifer {}", env!("CARGO_PKG_VERSION"))
    );
    let help = place.run(&["sql", "--help"]).with_status(0);
    for word in [
        "--file",
        "--config",
        "-D",
        "--parallelism",
        "--resume",
        "Exit status",
        "standard output",
    ] {
        assert!(
            help.stdout.contains(word),
            "{word} is missing in:\n{}",
            help.stdout
        );
    }
}

#[test]
fn wrong_arguments_are_status_2() {
    let place = Place::new();
    for arguments in [
        &["sql", "--nonsense"][..],
        &["sqll"],
        &[],
        &["sql", "-f", "no/such/file.sql"],
        &["sql", "-f", "-", "-D", "novalue"],
    ] {
        let run = place.run(arguments).with_status(2);
        assert_eq!(run.stdout, "", "{arguments:?}");
        assert!(!run.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn an_error_in_the_text_shows_its_line_with_a_caret() {
    let place = Place::new();
    let run = place
        .sql("CREATE VIEW v AS SELECT 1 AS a;\n  SELEC * FROM v;\n")
        .with_status(2);
    assert_eq!(run.stdout, "");
    let lines: Vec<&str> = run.stderr.lines().collect();
    assert!(lines[0].starts_with("error: "), "{}", run.stderr);
    assert!(run.stderr.contains("script.sql:2:3"), "{}", run.stderr);
    let shown = lines
        .iter()
        .position(|line| line.contains("SELEC * FROM v"))
        .expect("the line is shown");
    let caret = lines[shown + 1].find('^').expect("a caret below the line");
    assert_eq!(lines[shown].find("SELEC"), Some(caret), "{}", run.stderr);
}

#[test]
fn an_unknown_table_is_status_2_and_named() {
    let run = Place::new().sql("SELECT * FROM nowhere;").with_status(2);
    assert!(run.stderr.contains("nowhere"), "{}", run.stderr);
    assert!(run.stderr.contains("script.sql:1:"), "{}", run.stderr);
}

#[test]
fn nothing_of_a_script_runs_when_its_end_cannot_be_read() {
    let run = Place::new().sql("SELECT 1 AS a;\nSELECT (;").with_status(2);
    assert_eq!(run.stdout, "");
}

#[test]
fn a_script_comes_from_standard_input_too() {
    let place = Place::new();
    for arguments in [&["sql", "-f", "-"][..], &["sql"]] {
        let mut child = place
            .aquifer(arguments)
            .stdin(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let mut input = child.stdin.take().expect("its input");
        input
            .write_all(b"CREATE VIEW v AS SELECT 1 AS a;\nSHOW VIEWS;\n")
            .expect("the script is taken");
        drop(input);
        let run = ended(child.wait_with_output().expect("the binary ends")).with_status(0);
        assert!(
            run.stdout.lines().any(|line| line.contains('v')),
            "{}",
            run.stdout
        );
    }
}

#[test]
fn a_statement_set_that_is_not_closed_is_told() {
    let run = Place::new()
        .sql("CREATE TABLE t (a INT) WITH ('connector' = 'print');\nBEGIN STATEMENT SET;\nINSERT INTO t VALUES (1);")
        .with_status(2);
    assert_eq!(run.stdout, "");
    assert!(run.stderr.contains("END"), "{}", run.stderr);
}
