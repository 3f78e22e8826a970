//! What jobs write to standard output, and what they say on standard error.

use crate::support::Place;

#[test]
fn a_select_prints_its_changelog_and_only_that() {
    let run = Place::new()
        .sql("SELECT k, COUNT(*) AS n FROM (VALUES (1, 'a'), (2, 'b'), (1, 'c')) AS t(k, v) GROUP BY k;")
        .with_status(0);
    assert_eq!(run.rows(), ["+I[1, 1]", "+I[2, 1]", "+U[1, 2]", "-U[1, 1]"]);
    assert_eq!(
        run.stderr
            .lines()
            .filter(|line| line.contains("finished in"))
            .count(),
        1,
        "{}",
        run.stderr
    );
}

#[test]
fn print_writes_rows_as_flink_does() {
    let run = Place::new()
        .sql(
            "CREATE TABLE out_table (a INT, b STRING, c DECIMAL(10, 3), d TIMESTAMP(3), e DOUBLE, f BOOLEAN) WITH ('connector' = 'print');\n\
             INSERT INTO out_table VALUES\n\
               (1, 'x', 2.5, TIMESTAMP '2020-04-15 08:00:00', CAST(1 AS DOUBLE), TRUE),\n\
               (2, CAST(NULL AS STRING), -0.001, TIMESTAMP '2020-01-01 00:00:02.500', CAST(1e10 AS DOUBLE), FALSE);",
        )
        .with_status(0);
    assert_eq!(
        run.rows(),
        [
            "+I[1, x, 2.500, 2020-04-15T08:00, 1.0, true]",
            "+I[2, null, -0.001, 2020-01-01T00:00:02.500, 1.0E10, false]"
        ]
    );
}

#[test]
fn inserts_of_a_script_are_one_job() {
    let place = Place::new();
    let run = place
        .sql(
            "CREATE TABLE one (a INT) WITH ('connector' = 'print', 'print-identifier' = 'one');\n\
             CREATE TABLE two (a INT) WITH ('connector' = 'print', 'print-identifier' = 'two');\n\
             INSERT INTO one VALUES (1);\n\
             INSERT INTO two VALUES (2);",
        )
        .with_status(0);
    assert_eq!(run.rows(), ["one> +I[1]", "two> +I[2]"]);
    assert_eq!(
        run.stderr.matches("Job 'script' finished").count(),
        1,
        "{}",
        run.stderr
    );
}

#[test]
fn resuming_a_finished_job_does_nothing() {
    let place = Place::new();
    let script = place.file(
        "done.sql",
        "CREATE TABLE t (a INT) WITH ('connector' = 'print');\nINSERT INTO t VALUES (1);",
    );
    let first = place.run(&["sql", "-f", &script]).with_status(0);
    assert_eq!(first.rows(), ["+I[1]"]);
    let again = place
        .run(&["sql", "-f", &script, "--resume"])
        .with_status(0);
    assert_eq!(again.stdout, "");
    assert!(
        again.stderr.contains("already finished"),
        "{}",
        again.stderr
    );
}

#[test]
fn a_job_that_fails_is_status_1() {
    let place = Place::new();
    place.file("rows.json", "{\"a\": 1}\n{\"a\": \"one\"}\n");
    let run = place
        .sql(
            "CREATE TABLE rows_in (a INT) WITH ('connector' = 'filesystem', 'path' = 'rows.json', 'format' = 'json');\n\
             SELECT a FROM rows_in;",
        )
        .with_status(1);
    assert!(run.stderr.contains("rows.json"), "{}", run.stderr);
}

#[test]
fn a_sink_that_cannot_take_updates_is_status_2() {
    let run = Place::new()
        .sql(
            "CREATE TABLE counts (k INT, n BIGINT) WITH ('connector' = 'filesystem', 'path' = 'out', 'format' = 'json');\n\
             INSERT INTO counts SELECT k, COUNT(*) FROM (VALUES (1), (1)) AS t(k) GROUP BY k;",
        )
        .with_status(2);
    assert!(run.stderr.contains("counts"), "{}", run.stderr);
}

#[test]
fn explain_and_show_answer_on_standard_output() {
    let run = Place::new()
        .sql(
            "CREATE TABLE t (a INT, b STRING) WITH ('connector' = 'datagen', 'number-of-rows' = '1');\n\
             SHOW TABLES;\n\
             DESCRIBE t;\n\
             EXPLAIN SELECT a FROM t WHERE b = 'x';",
        )
        .with_status(0);
    for word in ["t", "STRING", "Filter"] {
        assert!(
            run.stdout.contains(word),
            "{word} is missing in:\n{}",
            run.stdout
        );
    }
}
