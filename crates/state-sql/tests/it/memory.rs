//! State that is larger than the memory a query may use.

use aquifer_state::{BackendKind, KeyedStateStore, ValueStateDescriptor};
use aquifer_state_sql::output::Format;
use aquifer_state_sql::{ErrorKind, StateSqlOptions};
use futures_util::StreamExt;

use crate::world::{Worker, World};

const VALUE_BYTES: usize = 4096;

fn filled(bytes: usize) -> World {
    World::new(BackendKind::Forst, 1, |worker: &Worker| {
        let states = KeyedStateStore::<i64>::new(worker.access.clone(), "op");
        let state = ValueStateDescriptor::<String>::new("large");
        let state = states.value_state(&state).unwrap();
        for key in 0..(bytes / VALUE_BYTES) as i64 {
            states.set_current_key(&key);
            // The order of values is not that of keys.
            let first = (key as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mut value = format!("{first:016x}");
            value.push_str(&"x".repeat(VALUE_BYTES - value.len()));
            state.put(value).unwrap();
            if key % 256 == 0 {
                worker.access.backend().borrow_mut().poll().unwrap();
            }
        }
    })
}

#[test]
fn sorts_and_aggregations_go_on_on_disk() {
    let world = filled(64 << 20);
    let directory = tempfile::tempdir().unwrap();
    let options = StateSqlOptions {
        memory_bytes: 16 << 20,
        temporary_directory: Some(directory.path().to_owned()),
        ..StateSqlOptions::default()
    };
    let sql = world.sql_with(&options);
    let rows = (64 << 20) / VALUE_BYTES;
    let query = "SELECT key, value FROM large ORDER BY value";
    let (text, query) = world.run(&sql, Format::Csv, query).unwrap();
    assert!(
        query.spilled_bytes() > 16 << 20,
        "{}",
        query.spilled_bytes()
    );
    let values: Vec<&str> = text
        .lines()
        .skip(1)
        .map(|line| line.split_once(',').unwrap().1)
        .collect();
    assert_eq!(values.len(), rows);
    assert!(values.is_sorted());
    drop(query);
    let query = "SELECT count(*) AS n, sum(times) AS times FROM (SELECT value, count(*) AS times FROM large GROUP BY value)";
    let (text, query) = world.run(&sql, Format::Json, query).unwrap();
    assert_eq!(text, format!("{{\"n\":{rows},\"times\":{rows}}}\n"));
    drop(query);
    drop(sql);
    let left = std::fs::read_dir(directory.path()).unwrap().count();
    assert_eq!(left, 0, "what is written goes with the queries");
}

/// However slowly rows are taken, few are read ahead of them.
#[test]
fn rows_are_read_as_they_are_taken() {
    // Of each of two partitions a few batches may be under way.
    const ROWS_AHEAD_MAX: usize = 12 * 256;
    let bytes = 32 << 20;
    let world = filled(bytes);
    let sql = world.sql();
    let rows = bytes / VALUE_BYTES;
    assert!(rows > 2 * ROWS_AHEAD_MAX);
    let taken = world.runtime.block_on(async {
        let mut query = sql.query("SELECT key, value FROM large").await.unwrap();
        let mut taken = 0;
        while let Some(batch) = query.next().await {
            taken += batch.unwrap().num_rows();
            // Whoever reads has all the time to run ahead.
            for _ in 0..1000 {
                tokio::task::yield_now().await;
            }
            let ahead = query.rows_read() - taken;
            assert!(ahead <= ROWS_AHEAD_MAX, "{ahead} rows are held");
        }
        taken
    });
    assert_eq!(taken, rows);
}

#[test]
fn what_needs_memory_and_has_none_is_refused() {
    let world = filled(16 << 20);
    let options = StateSqlOptions {
        memory_bytes: 4 << 20,
        temporary_bytes_max: 1 << 20,
        ..StateSqlOptions::default()
    };
    let sql = world.sql_with(&options);
    for query in [
        "SELECT count(*) FROM large a JOIN large b ON a.value = b.value",
        "SELECT value FROM large ORDER BY value",
    ] {
        let Err(error) = world.run(&sql, Format::Json, query) else {
            panic!("{query} fits");
        };
        assert_eq!(error.kind, ErrorKind::Resources, "{error}");
    }
}

/// How much memory all of it takes is measured with the command: `crates/aquifer/tests/it/state_sql.rs`.
#[test]
#[ignore = "two gigabytes of state take minutes: cargo test -p aquifer-state-sql --test it -- --ignored two_gigabytes"]
fn two_gigabytes_are_sorted_in_a_tenth() {
    let world = filled(2 << 30);
    let options = StateSqlOptions {
        memory_bytes: 128 << 20,
        ..StateSqlOptions::default()
    };
    let query = "SELECT sum(place) AS s FROM (SELECT row_number() OVER (ORDER BY value) AS place FROM large)";
    let (text, query) = world
        .run(&world.sql_with(&options), Format::Json, query)
        .unwrap();
    let rows = (2u64 << 30) / VALUE_BYTES as u64;
    assert_eq!(text, format!("{{\"s\":{}}}\n", rows * (rows + 1) / 2));
    assert!(query.spilled_bytes() > 1 << 30);
}
