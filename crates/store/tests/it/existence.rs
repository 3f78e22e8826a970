//! Whether anything lies under a prefix, found out without a scan: what is dead in newer sources, what has expired, and when a scan is left to say.
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use aquifer_store::{Checkpoint, KeyPart, Merge, StoreOptions, TableId, TableOptions};

use crate::harness::{ALL, POINTS, SORTED, Worker, World, small};

/// Maps by a key of two bytes, which filters know, and whose entries expire.
const MAPS: TableId = TableId(7);
/// Lists.
const LISTS: TableId = TableId(8);
const TTL_MS: u64 = 100;

/// What a source may hold of a map.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Layer {
    Nothing,
    Put,
    Deleted,
    Cleared,
    Other,
}

const LAYERS: [Layer; 5] = [
    Layer::Nothing,
    Layer::Put,
    Layer::Deleted,
    Layer::Cleared,
    Layer::Other,
];

fn entry(map: u16, entry: u8) -> Vec<u8> {
    [&map.to_be_bytes()[..], &[entry]].concat()
}

fn open(world: &World, options: StoreOptions, now: &Arc<AtomicI64>) -> Worker {
    let clock = now.clone();
    let mut worker = world.open_with(options, vec![], move |env| {
        env.clock = Arc::new(move || clock.load(Ordering::SeqCst));
    });
    let maps = TableOptions {
        ordered: true,
        prefix: vec![KeyPart::Fixed(2)],
        ttl_ms: Some(TTL_MS),
        ..TableOptions::default()
    };
    let lists = TableOptions {
        ordered: true,
        merge: Merge::Append,
        ..TableOptions::default()
    };
    worker.store.create_table(MAPS, maps).unwrap();
    worker.store.create_table(LISTS, lists).unwrap();
    worker
}

fn checkpoint(worker: &mut Worker) -> Checkpoint {
    worker.store.freeze(MAPS).unwrap();
    worker.store.freeze(LISTS).unwrap();
    worker.checkpoint()
}

fn holds(worker: &Worker, table: TableId, map: u16) -> Option<bool> {
    let prefix = map.to_be_bytes();
    worker.store.holds_any(table, 3, &prefix).unwrap()
}

/// Three sources, one above the other, each of which says one of five things of the same entry or of its map: every combination, as
/// memtables, as files with memtables beside them, and as files alone.
#[test]
fn what_newer_sources_say_counts() {
    for retained_memtables_max in [0, 1] {
        let world = World::new(8 << 20);
        let now = Arc::new(AtomicI64::new(1_000));
        let options = StoreOptions {
            memtable_bytes_max: 8 << 20,
            retained_memtables_max,
            // What was flushed stays as it is.
            l0_files_max: 100,
            ..small()
        };
        let mut worker = open(&world, options, &now);
        let combinations = (LAYERS.len() as u16).pow(3);
        let layer_of = |map: u16, at: u32| {
            LAYERS[usize::from(map / (LAYERS.len() as u16).pow(at)) % LAYERS.len()]
        };
        let expected = |map: u16, layers: u32| {
            let mut entries = [false; 2];
            for at in 0..layers {
                match layer_of(map, at) {
                    Layer::Nothing => {}
                    Layer::Put => entries[0] = true,
                    Layer::Deleted => entries[0] = false,
                    Layer::Cleared => entries = [false; 2],
                    Layer::Other => entries[1] = true,
                }
            }
            entries[0] || entries[1]
        };
        let check = |worker: &Worker, layers: u32| {
            for map in 0..combinations {
                let said = holds(worker, MAPS, map);
                let layers: Vec<Layer> = (0..layers).map(|at| layer_of(map, at)).collect();
                let right = expected(map, layers.len() as u32);
                assert_eq!(
                    said,
                    Some(right),
                    "{layers:?}, {retained_memtables_max} kept"
                );
            }
        };
        for at in 0..3 {
            for map in 0..combinations {
                let store = &mut worker.store;
                let key = entry(map, 5);
                match layer_of(map, at) {
                    Layer::Nothing => {}
                    Layer::Put => store.put_at(MAPS, 3, &key, b"v", 1_000).unwrap(),
                    Layer::Deleted => store.delete(MAPS, 3, &key).unwrap(),
                    Layer::Cleared => {
                        store.delete_prefix(MAPS, 3, &map.to_be_bytes()).unwrap();
                    }
                    Layer::Other => {
                        store.put_at(MAPS, 3, &entry(map, 9), b"v", 1_000).unwrap();
                    }
                }
            }
            check(&worker, at + 1);
            checkpoint(&mut worker);
            // Files are read once, so that memory has their blocks.
            for map in 0..combinations {
                worker.scan(MAPS, 3, &map.to_be_bytes(), b"", None, 10);
            }
            check(&worker, at + 1);
        }
        now.store(1_000 + TTL_MS as i64, Ordering::SeqCst);
        for map in 0..combinations {
            assert_eq!(holds(&worker, MAPS, map), Some(false), "all has expired");
        }
        worker
            .store
            .put_at(MAPS, 3, &entry(7, 5), b"v", 1_050)
            .unwrap();
        assert_eq!(holds(&worker, MAPS, 7), Some(true));
    }
}

#[test]
fn a_row_of_operands_is_a_value_if_a_read_says_so() {
    let world = World::new(8 << 20);
    let now = Arc::new(AtomicI64::new(1_000));
    let mut worker = open(&world, small(), &now);
    worker.store.merge(LISTS, 3, &entry(1, 1), b"a").unwrap();
    assert_eq!(holds(&worker, LISTS, 1), Some(true));
    assert_eq!(holds(&worker, LISTS, 2), Some(false));
    checkpoint(&mut worker);
    worker.scan(LISTS, 3, b"", b"", None, 10);
    assert_eq!(holds(&worker, LISTS, 1), Some(true));
    worker.store.merge(LISTS, 3, &entry(1, 1), b"b").unwrap();
    assert_eq!(holds(&worker, LISTS, 1), Some(true));
    worker.delete(LISTS, 3, &entry(1, 1));
    assert_eq!(holds(&worker, LISTS, 1), Some(false));
}

#[test]
fn a_scan_is_left_to_say_where_many_rows_are_dead_or_memory_does_not_know() {
    let mut world = World::new(8 << 20);
    let now = Arc::new(AtomicI64::new(1_000));
    let mut worker = open(&world, small(), &now);
    for i in 0..60 {
        worker.put(MAPS, 3, &entry(1, i), b"v");
    }
    worker.put(POINTS, 3, &entry(1, 1), b"v");
    // Nothing keeps this table in order, so it is not searched.
    assert_eq!(holds(&worker, POINTS, 1), None);
    for i in 0..60 {
        worker.delete(MAPS, 3, &entry(1, i));
    }
    assert_eq!(holds(&worker, MAPS, 1), None);
    worker.put(SORTED, 3, &entry(1, 1), b"v");
    let files = checkpoint(&mut worker);
    drop(worker);
    world.forget_cache();
    let restored = world.open(small(), vec![(files, ALL)]);
    assert_eq!(holds(&restored, SORTED, 1), None, "nothing was read yet");
    let found = restored.scan(SORTED, 3, &1u16.to_be_bytes(), b"", None, 1);
    assert_eq!(found.rows.len(), 1);
    assert_eq!(holds(&restored, SORTED, 1), Some(true));
}
