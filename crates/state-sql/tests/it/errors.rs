//! Errors say what is wrong: with the query, with the state, with what a query may use.

use aquifer_state_sql::ErrorKind;
use object_store::ObjectStoreExt;

use crate::tables::every_kind;
use crate::world::{KINDS, World};

#[test]
fn nothing_but_queries_is_taken() {
    let world = World::new(KINDS[0], 1, every_kind);
    for statement in [
        "CREATE TABLE t (a INT)",
        "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'",
        "DROP TABLE counts",
        "INSERT INTO counts VALUES (1, 2, 3)",
        "DELETE FROM counts",
        "COPY (SELECT 1) TO '/tmp/x.csv'",
        "SET datafusion.execution.batch_size = 1",
        "SELECT 1; SELECT 2",
        "SELEC key FROM counts",
        "",
        "SELECT * FROM counts WHERE key = 'seven'",
        "SELECT * FROM '/etc/passwd'",
    ] {
        let error = world.refusal(statement);
        assert_eq!(error.kind, ErrorKind::Query, "{statement}: {error}");
        assert!(!error.message.is_empty() && !error.message.contains("backtrace"));
    }
    assert_eq!(
        world.json("SELECT count(*) AS n FROM counts;"),
        ["{\"n\":40}"]
    );
}

#[test]
fn a_damaged_file_is_named() {
    for &kind in KINDS {
        let world = World::new(kind, 1, every_kind);
        let objects = &world.objects;
        let paths = world.paths();
        assert!(!paths.is_empty());
        for path in &paths {
            world.runtime.block_on(async {
                let bytes = objects.get(path).await.unwrap().bytes().await.unwrap();
                let mut damaged = bytes.to_vec();
                // Somewhere in the first block.
                damaged[100] ^= 0x40;
                objects.put(path, damaged.into()).await.unwrap();
            });
        }
        let error = world.refusal("SELECT * FROM counts");
        assert_eq!(error.kind, ErrorKind::State, "{error}");
        let named = paths
            .iter()
            .any(|path| error.message.contains(path.as_ref()));
        assert!(named, "{error}");
    }
}

#[test]
fn a_missing_file_is_named() {
    let world = World::new(KINDS[1], 1, every_kind);
    let paths = world.paths();
    for path in &paths {
        world.runtime.block_on(world.objects.delete(path)).unwrap();
    }
    let error = world.refusal("SELECT sum(value) FROM counts");
    assert_eq!(error.kind, ErrorKind::State, "{error}");
    let named = paths
        .iter()
        .any(|path| error.message.contains(path.as_ref()));
    assert!(named, "{error}");
}
