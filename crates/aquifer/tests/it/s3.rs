//! Checkpoints on an S3 server: the kill test again, and a server that ignores create-if-absent.

use crate::kill::{seed, survives};
use crate::servers::{Forgetful, Moto};
use crate::support::Place;

const CREDENTIALS: &[(&str, &str)] = &[
    ("AWS_ACCESS_KEY_ID", "test"),
    ("AWS_SECRET_ACCESS_KEY", "test"),
    ("AWS_REGION", "us-east-1"),
];

/// A server in Python on a busy machine answers late.
const PATIENCE: [&str; 4] = [
    "-D",
    "s3.connection.request.timeout=2 min",
    "-D",
    "s3.retry.timeout=5 min",
];

#[test]
fn ten_kills_on_s3_lose_nothing_and_double_nothing() {
    let Some(server) = Moto::start() else { return };
    let endpoint = format!("s3.endpoint={}", server.endpoint());
    let directory = format!("execution.checkpointing.dir=s3://{}/kills", server.bucket());
    let place = ["-D", &endpoint, "-D", &directory];
    survives(seed(77), &[&place[..], &PATIENCE].concat(), CREDENTIALS);
}

#[test]
fn a_store_that_ignores_create_if_absent_is_refused_unless_overridden() {
    let Some(server) = Moto::start() else { return };
    let proxy = Forgetful::before(&server);
    let place = Place::new();
    let script = place.file(
        "one.sql",
        "CREATE TABLE t (a INT) WITH ('connector' = 'print');\nINSERT INTO t VALUES (1);",
    );
    let endpoint = format!("s3.endpoint={}", proxy.endpoint());
    let directory = format!(
        "execution.checkpointing.dir=s3://{}/refused",
        server.bucket()
    );
    let arguments = ["sql", "-f", &script, "-D", &endpoint, "-D", &directory];
    let run = |more: &[&str]| {
        let all = [&arguments[..], &PATIENCE, more].concat();
        crate::support::ended(
            place
                .aquifer(&all)
                .envs(CREDENTIALS.iter().copied())
                .output()
                .expect("the binary starts"),
        )
    };
    let refused = run(&[]);
    assert!(
        matches!(refused.status, Some(1 | 2)),
        "{:?}\n{}",
        refused.status,
        refused.stderr
    );
    assert!(
        refused
            .stderr
            .contains("execution.checkpointing.allow-unsafe-commits"),
        "{}",
        refused.stderr
    );
    assert_eq!(
        refused.stdout, "",
        "nothing may be printed before the store is known to be safe"
    );
    let allowed = run(&["-D", "execution.checkpointing.allow-unsafe-commits=true"]).with_status(0);
    assert_eq!(allowed.rows(), ["+I[1]"]);
}

#[test]
fn tables_on_s3_are_written_and_read_with_the_keys_of_the_configuration() {
    let Some(server) = Moto::start() else { return };
    let place = Place::new();
    let table = format!(
        "SET 's3.endpoint' = '{}';\n\
         SET 's3.access-key' = 'test';\n\
         SET 's3.secret-key' = 'test';\n\
         SET 's3.region' = 'us-east-1';\n\
         CREATE TABLE t (a INT, b STRING) WITH ('connector' = 'filesystem', 'path' = 's3://{}/table', 'format' = 'csv');\n",
        server.endpoint(),
        server.bucket()
    );
    place
        .sql(&format!("{table}INSERT INTO t VALUES (1, 'x'), (2, 'y');"))
        .with_status(0);
    let read = place
        .sql(&format!("{table}SELECT * FROM t;"))
        .with_status(0);
    assert_eq!(read.rows(), ["+I[1, x]", "+I[2, y]"]);
}
