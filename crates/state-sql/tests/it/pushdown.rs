//! Conditions on the key read what they must and no more.

use aquifer_state::{KeyedStateStore, MapStateDescriptor, ValueStateDescriptor};
use aquifer_state_sql::output::Format;

use crate::tables::every_kind;
use crate::world::{KINDS, Worker, World};

/// Rows of a query, and how many rows of state it read.
fn read(world: &World, query: &str) -> (usize, usize) {
    let (text, query) = world.run(&world.sql(), Format::Json, query).unwrap();
    (text.lines().count(), query.rows_read())
}

#[test]
fn a_key_reads_its_rows_only() {
    for &kind in KINDS {
        let world = World::new(kind, 3, every_kind);
        for (query, rows, rows_read) in [
            ("SELECT * FROM counts", 40, 40),
            ("SELECT * FROM counts WHERE key = 7", 1, 1),
            ("SELECT * FROM counts WHERE 7 = key AND value > 0", 1, 1),
            ("SELECT * FROM counts WHERE key = 7 AND key = 8", 0, 0),
            ("SELECT * FROM counts WHERE key = 1000", 0, 0),
            ("SELECT * FROM counts WHERE key IN (7, 8, 8, 1000)", 2, 2),
            (
                "SELECT * FROM counts WHERE key IN (1, 2, 3, 4, 5) AND key IN (4, 5, 6, 7, 8)",
                2,
                2,
            ),
            ("SELECT * FROM counts WHERE key = 7 OR key = 8", 2, 2),
            ("SELECT * FROM counts WHERE key = 7 OR value = 80", 2, 40),
            ("SELECT * FROM counts WHERE key > 37", 2, 40),
            ("SELECT * FROM counts WHERE key <> 7", 39, 40),
            ("SELECT * FROM log WHERE key = 3", 3, 3),
            ("SELECT * FROM prices WHERE key = 3", 3, 3),
            (
                "SELECT * FROM prices WHERE key = 3 AND user_key = 'item-1'",
                1,
                3,
            ),
            ("SELECT * FROM sums WHERE key = 3", 2, 2),
            ("SELECT * FROM fading WHERE key = 3", 1, 1),
        ] {
            assert_eq!(read(&world, query), (rows, rows_read), "{query}, {kind:?}");
        }
        let timers = "SELECT state FROM tables WHERE kind = 'timers'";
        let (text, _) = world.run(&world.sql(), Format::Csv, timers).unwrap();
        let state = text.lines().nth(1).unwrap();
        let query = format!("SELECT value FROM \"{state}\" WHERE key = 3");
        assert_eq!(world.json(&query), ["{\"value\":1003}"]);
    }
}

#[test]
fn a_key_group_reads_itself_only() {
    let world = World::new(KINDS[1], 3, every_kind);
    let mut all = 0;
    for group in 0..16 {
        let query = format!("SELECT * FROM counts WHERE key_group = {group}");
        let (rows, rows_read) = read(&world, &query);
        assert_eq!(rows, rows_read, "{group}");
        all += rows;
    }
    assert_eq!(all, 40);
    assert_eq!(
        read(
            &world,
            "SELECT * FROM counts WHERE key_group = 1 AND key_group = 2"
        ),
        (0, 0)
    );
}

#[test]
fn a_limit_ends_reading() {
    let world = World::new(KINDS[1], 1, many);
    let (rows, rows_read) = read(&world, "SELECT * FROM many LIMIT 5");
    assert_eq!(rows, 5);
    // Each of two partitions may have read as many.
    assert!(rows_read <= 10, "{rows_read}");
}

#[test]
fn keys_of_other_types_are_sought_too() {
    let world = World::new(KINDS[1], 2, |worker| {
        let states = KeyedStateStore::<(String, i32)>::new(worker.access.clone(), "tuples");
        let tuples = ValueStateDescriptor::<u8>::new("tuples");
        let tuples = states.value_state(&tuples).unwrap();
        for i in 0..10 {
            let key = ("k".to_owned(), i);
            if worker.owns(&key) {
                states.set_current_key(&key);
                tuples.put(i as u8).unwrap();
            }
        }
        let states = KeyedStateStore::<bool>::new(worker.access.clone(), "bools");
        let map = MapStateDescriptor::<i32, i32>::new("bools");
        let map = states.map_state(&map).unwrap();
        for key in [false, true] {
            if worker.owns(&key) {
                states.set_current_key(&key);
                map.put(&1, &2).unwrap();
            }
        }
    });
    // All parts of a key are a key.
    for (condition, rows, rows_read) in [
        ("key.f0 = 'k' AND key.f1 = 4", 1, 1),
        ("4 = key.f1 AND key.f0 = 'k' AND value = 4", 1, 1),
        ("key.f0 IN ('k', 'l') AND (key.f1 = 4 OR key.f1 = 5)", 2, 2),
        ("key.f0 = 'k' AND key.f1 = 4 AND key.f1 = 5", 0, 0),
        ("key.f1 = 4", 1, 10),
        ("key.f0 = 'k' AND key.f1 > 7", 2, 10),
        ("key.f0 = 'k' AND key.f1 <> 4", 9, 10),
    ] {
        let query = format!("SELECT value FROM tuples WHERE {condition}");
        assert_eq!(read(&world, &query), (rows, rows_read), "{condition}");
    }
    assert_eq!(read(&world, "SELECT * FROM bools WHERE key = true"), (1, 1));
    assert_eq!(
        read(&world, "SELECT * FROM bools WHERE key = false"),
        (1, 1)
    );
}

/// Twenty thousand rows of a hundred bytes.
fn many(worker: &Worker) {
    let states = KeyedStateStore::<i64>::new(worker.access.clone(), "op");
    let many = ValueStateDescriptor::<String>::new("many");
    let many = states.value_state(&many).unwrap();
    for key in (0..20_000).filter(|key| worker.owns(key)) {
        states.set_current_key(&key);
        many.put(format!("{:x}", u128::MAX / (key as u128 + 3)).repeat(3))
            .unwrap();
    }
}

#[test]
fn a_key_reads_few_bytes() {
    let world = World::new(KINDS[1], 2, many);
    let bytes = |query: &str| {
        world.objects.take_counts();
        let (rows, _) = read(&world, query);
        (rows, world.objects.take_counts().bytes_read)
    };
    let (rows, all) = bytes("SELECT count(value) FROM many");
    assert_eq!(rows, 1);
    let (rows, one) = bytes("SELECT value FROM many WHERE key = 4711");
    assert_eq!(rows, 1);
    assert!(all > 500_000, "{all}");
    assert!(one * 5 < all, "{one} of {all}");
    let (_, few) = bytes("SELECT value FROM many LIMIT 3");
    assert!(few * 3 < all, "{few} of {all}");
}

#[test]
fn plans_say_what_is_read() {
    let world = World::new(KINDS[0], 1, every_kind);
    let plan = world
        .json("EXPLAIN SELECT value FROM counts WHERE key = 7 LIMIT 3")
        .join("\n");
    assert!(
        plan.contains("StateScan: 7-auctions/counts, partitions=1, keys=[7], limit=3"),
        "{plan}"
    );
}
