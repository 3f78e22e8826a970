//! Every kind of state as a table shows what the reader shows.

use std::collections::BTreeMap;
use std::time::Duration;

use aquifer_state::key_group::{KeyHash, assign_to_key_group};
use aquifer_state::ordered::OrderedKey;
use aquifer_state::reader::{ReadableTable, StateReader, StateRow};
use aquifer_state::{
    KeyedStateStore, ListStateDescriptor, MapStateDescriptor, ReducingStateDescriptor, TtlConfig,
    ValueStateDescriptor,
};

use crate::world::{KINDS, MAX_PARALLELISM, NOW_MS, Worker, World};
use aquifer_store::KeyGroupRange;

/// One state of each kind, with keys from 0 to 39.
pub fn every_kind(worker: &Worker) {
    let states = KeyedStateStore::<i64>::new(worker.access.clone(), "7-auctions");
    let counts = states
        .value_state(&ValueStateDescriptor::<u64>::new("counts"))
        .unwrap();
    let bids = states
        .value_state(&ValueStateDescriptor::<Vec<f64>>::new("floats"))
        .unwrap();
    let log = states
        .list_state(&ListStateDescriptor::<String>::new("log"))
        .unwrap();
    let prices = states
        .map_state(&MapStateDescriptor::<String, i32>::new("prices"))
        .unwrap();
    let sums = states
        .reducing_state(
            &ReducingStateDescriptor::<i64, _>::new("sums", |a: i64, b: i64| a + b)
                .namespace::<(i64, String)>(),
        )
        .unwrap();
    let fading = states
        .map_state(
            &MapStateDescriptor::<u8, bool>::new("fading")
                .ttl(TtlConfig::new(Duration::from_secs(60))),
        )
        .unwrap();
    let timers = states.timer_service("timers").unwrap();
    for key in (0..40).filter(|key| worker.owns(key)) {
        states.set_current_key(&key);
        counts.put(key as u64 * 10).unwrap();
        bids.put(vec![key as f64 / 4.0, f64::NAN]).unwrap();
        for i in 0..key % 4 {
            log.add(&format!("entry \"{i}\" of\n{key}")).unwrap();
        }
        for i in 0..3 {
            prices.put(&format!("item-{i}"), &(key as i32 - i)).unwrap();
        }
        for window in 0..2 {
            sums.set_namespace(&(window * 100, "w".to_owned()));
            worker.access.run(sums.add(key)).unwrap();
        }
        fading.put(&(key as u8), &(key % 2 == 0)).unwrap();
        let group = assign_to_key_group(key.hash_code(), MAX_PARALLELISM);
        let mut bytes = Vec::new();
        key.encode_ordered(&mut bytes);
        timers.register(1000 + key, group, &bytes, &[]).unwrap();
    }
}

/// A row as SQL should show it.
fn expected(table: &ReadableTable, row: &StateRow) -> String {
    let time = |ms: Option<i64>| match ms {
        None => "null".to_owned(),
        Some(ms) => format!("\"{}\"", utc(ms)),
    };
    let mut columns: Vec<(&str, String)> = Vec::new();
    if table.kind.is_keyed() {
        columns.push(("key", row.key.to_string()));
    }
    if table.namespace.is_some() {
        let namespace = row.namespace.as_ref().map(ToString::to_string);
        columns.push(("namespace", namespace.unwrap_or("null".to_owned())));
    }
    if let Some(user_key) = &row.user_key {
        columns.push(("user_key", user_key.to_string()));
    }
    if table.kind.has_index() {
        columns.push(("index", row.index.unwrap().to_string()));
    }
    columns.push(("value", row.value.to_string()));
    if table.ttl_ms.is_some() {
        columns.push(("written_at", time(row.written_ms)));
        columns.push(("expires_at", time(row.expires_ms)));
    }
    if let Some(group) = row.key_group {
        columns.push(("key_group", group.to_string()));
    }
    let columns: Vec<String> = columns
        .iter()
        .map(|(name, value)| format!("\"{name}\":{value}"))
        .collect();
    format!("{{{}}}", columns.join(","))
}

/// Milliseconds of the first hour of 1970.
fn utc(ms: i64) -> String {
    let (minutes, seconds, rest) = (ms / 60_000, ms / 1000 % 60, ms % 1000);
    match rest {
        0 => format!("1970-01-01T00:{minutes:02}:{seconds:02}Z"),
        rest => format!("1970-01-01T00:{minutes:02}:{seconds:02}.{rest:03}Z"),
    }
}

fn rows_of(reader: &StateReader, table: &ReadableTable) -> Vec<StateRow> {
    let mut rows = reader.rows(table, KeyGroupRange::ALL, None).unwrap();
    let mut all = Vec::new();
    while let Some(piece) = rows.next_piece(7).unwrap() {
        all.extend(piece);
    }
    all
}

/// Tuples are lists to the reader, and structs in SQL.
fn with_named_parts(line: &str) -> String {
    let mut line = line.to_owned();
    for window in [0, 100] {
        line = line.replace(
            &format!("\"namespace\":[{window},\"w\"]"),
            &format!("\"namespace\":{{\"f0\":{window},\"f1\":\"w\"}}"),
        );
    }
    line
}

#[test]
fn every_kind_of_state_shows_what_the_reader_shows() {
    for &kind in KINDS {
        for parallelism in [1, 3] {
            let world = World::new(kind, parallelism, every_kind);
            let reader = world.reader();
            let mut rows_by_state = BTreeMap::new();
            for table in reader.tables() {
                let rows = rows_of(&reader, table);
                rows_by_state.insert(table.state.clone(), rows.len());
                let mut lines: Vec<String> = rows
                    .iter()
                    .map(|row| with_named_parts(&expected(table, row)))
                    .collect();
                lines.sort_unstable();
                let name = format!("\"{}\".\"{}\"", table.operator, table.state);
                let found = world.sorted(&format!("SELECT * FROM {name}"));
                assert_eq!(found, lines, "{} of {kind:?}", table.full_name());
            }
            let counts = |state: &str| rows_by_state.get(state).copied();
            assert_eq!(counts("counts"), Some(40));
            assert_eq!(counts("log"), Some(60));
            assert_eq!(counts("prices"), Some(120));
            assert_eq!(counts("sums"), Some(80));
            assert_eq!(counts("fading"), Some(40));
            assert_eq!(rows_by_state.len(), 7, "{rows_by_state:?}");
            let timers = rows_by_state
                .iter()
                .find(|(name, _)| name.contains("timer"));
            assert_eq!(timers.map(|(_, rows)| *rows), Some(40));
        }
    }
}

#[test]
fn columns_are_read_alone_and_not_at_all() {
    let world = World::new(KINDS[1], 2, every_kind);
    assert_eq!(
        world.json("SELECT count(*) AS n FROM prices"),
        ["{\"n\":120}"]
    );
    assert_eq!(
        world.sorted("SELECT DISTINCT user_key FROM prices"),
        ["item-0", "item-1", "item-2"].map(|item| format!("{{\"user_key\":\"{item}\"}}"))
    );
    assert_eq!(
        world.json("SELECT value, key FROM counts WHERE value = 390"),
        ["{\"value\":390,\"key\":39}"]
    );
}

#[test]
fn times_of_state_with_a_ttl_are_timestamps() {
    let world = World::new(KINDS[0], 1, every_kind);
    let life = utc(NOW_MS + 60_000);
    assert_eq!(
        world.json("SELECT min(written_at) AS a, max(expires_at) AS b FROM fading"),
        [format!("{{\"a\":\"{}\",\"b\":\"{life}\"}}", utc(NOW_MS))]
    );
    assert_eq!(
        world.json("SELECT count(*) AS n FROM fading WHERE expires_at > '1970-01-01T00:17:00Z'"),
        ["{\"n\":40}"]
    );
}
