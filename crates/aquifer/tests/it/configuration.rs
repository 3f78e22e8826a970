//! Configuration from file, script and command line.

use crate::support::Place;

const NOTHING: &str = "CREATE VIEW v AS SELECT 1 AS a;";

#[test]
fn errors_name_file_line_and_key() {
    let place = Place::new();
    let script = place.file("nothing.sql", NOTHING);
    let config = place.file(
        "config.yaml",
        "parallelism:\n  default: 2\nexecution.checkpointing.intervall: 1 s\n",
    );
    let run = place
        .run(&["sql", "-f", &script, "-c", &config])
        .with_status(2);
    assert_eq!(
        run.stderr.trim(),
        "error: config.yaml:3: there is no configuration key 'execution.checkpointing.intervall'; did you mean 'execution.checkpointing.interval'?"
    );
    let run = place
        .run(&["sql", "-f", &script, "-D", "state.backend.type=rocksbd"])
        .with_status(2);
    assert!(
        run.stderr.contains("did you mean rocksdb?"),
        "{}",
        run.stderr
    );
}

#[test]
fn a_wrong_set_shows_the_statement() {
    let run = Place::new()
        .sql("SET 'parallelism.default' = '1';\nSET 'parallelism.defaul' = '2';")
        .with_status(2);
    assert!(
        run.stderr.contains("did you mean 'parallelism.default'?"),
        "{}",
        run.stderr
    );
    assert!(run.stderr.contains("script.sql:2:"), "{}", run.stderr);
}

#[test]
fn flinks_other_keys_are_noted_once_and_pass() {
    let place = Place::new();
    let script = place.file("nothing.sql", NOTHING);
    let config = place.file(
        "config.yaml",
        "jobmanager:\n  rpc:\n    address: localhost\n",
    );
    let run = place
        .run(&["sql", "-f", &script, "-c", &config])
        .with_status(0);
    assert_eq!(
        run.stderr.matches("jobmanager.rpc.address").count(),
        1,
        "{}",
        run.stderr
    );
    assert_eq!(run.stdout, "");
}

#[test]
fn the_command_line_wins_over_set_and_says_so() {
    let place = Place::new();
    let script = place.file("set.sql", "SET 'parallelism.default' = '2';");
    let run = place.run(&["sql", "-f", &script, "-p", "3"]).with_status(0);
    assert!(
        run.stderr
            .contains("the command line gives parallelism.default"),
        "{}",
        run.stderr
    );
}

#[test]
fn credentials_do_not_reach_messages() {
    let place = Place::new();
    let script = place.file("nothing.sql", NOTHING);
    let run = place
        .run(&["sql", "-f", &script, "-D", "s3.secret-keyy=hunter2"])
        .with_status(2);
    assert!(
        run.stderr.contains("did you mean 's3.secret-key'?"),
        "{}",
        run.stderr
    );
    assert!(!run.stderr.contains("hunter2"), "{}", run.stderr);
}
