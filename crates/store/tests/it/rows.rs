//! Merges, times, deletes by prefix and limits, from outside.
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use aquifer_store::{
    Checkpoint, ErrorKind, KeyPart, Lookup, Merge, SCAN_BYTES_MAX, Store, StoreOptions, TableId,
    TableOptions,
};
use aquifer_testkit::RequestKind;

use crate::harness::{ALL, SORTED, Worker, World, small};

const LISTS: TableId = TableId(5);
const BRIEF: TableId = TableId(6);

fn lists() -> TableOptions {
    TableOptions {
        ordered: true,
        merge: Merge::Append,
        prefix: vec![KeyPart::Terminated],
        ..Default::default()
    }
}

fn brief() -> TableOptions {
    TableOptions {
        ttl_ms: Some(100),
        ..Default::default()
    }
}

/// A worker with a table of lists and one of values that live for 100 ms of a clock that stands at `now`.
fn open(
    world: &World,
    restored: Vec<Checkpoint>,
    brief: TableOptions,
    now: &Arc<AtomicI64>,
) -> Worker {
    let restored = restored.into_iter().map(|files| (files, ALL)).collect();
    let clock = now.clone();
    let mut worker = world.open_with(small(), restored, |env| {
        env.clock = Arc::new(move || clock.load(Ordering::Relaxed));
    });
    worker.store.create_table(LISTS, lists()).unwrap();
    worker.store.create_table(BRIEF, brief).unwrap();
    worker
}

fn checkpoint(worker: &mut Worker) -> Checkpoint {
    worker.store.freeze(LISTS).unwrap();
    worker.store.freeze(BRIEF).unwrap();
    worker.checkpoint()
}

fn cold(store: &Store, table: TableId, key: &[u8]) -> aquifer_store::ColdRead {
    match store.get(table, 0, key).unwrap() {
        Lookup::Cold(read) => read,
        other => panic!("this should be cold: {other:?}"),
    }
}

#[test]
fn operands_on_a_cold_value_come_with_the_fetched_one() {
    let mut world = World::new(1 << 20);
    let now = Arc::default();
    let mut worker = open(&world, vec![], brief(), &now);
    worker.put(LISTS, 0, b"k\x00\x01", b"base");
    let first = checkpoint(&mut worker);
    worker.store.merge(LISTS, 0, b"k\x00\x01", b"+1").unwrap();
    let second = checkpoint(&mut worker);
    assert_eq!(first.files.len() + 1, second.files.len());
    drop(worker);
    world.forget_cache();
    let mut worker = open(&world, vec![second], brief(), &now);
    let key = b"k\x00\x01";
    worker.store.merge(LISTS, 0, key, b"+2").unwrap();
    let read = cold(&worker.store, LISTS, key);
    let planned = read.moment();
    assert_eq!(cold(&worker.store, LISTS, key).moment(), planned);
    // What comes later is not in the answer, and the read's moment says so.
    worker.store.merge(LISTS, 0, key, b"+3").unwrap();
    assert_ne!(cold(&worker.store, LISTS, key).moment(), planned);
    let later = cold(&worker.store, LISTS, key);
    let fetched = world
        .runtime
        .block_on(worker.store.fetch(vec![read, later]))
        .unwrap();
    assert_eq!(fetched[0].as_deref(), Some(&b"base+1+2"[..]));
    assert_eq!(fetched[1].as_deref(), Some(&b"base+1+2+3"[..]));
    // Now it is hot.
    assert_eq!(worker.get(LISTS, 0, key), Some(b"base+1+2+3".to_vec()));
    assert_eq!(worker.store.stats().cold_reads, 4);
    let rows = worker.scan(LISTS, 0, b"k", b"", None, 9).rows;
    assert_eq!(rows[0].1, &b"base+1+2+3"[..]);
}

#[test]
fn tables_take_only_what_they_were_made_for() {
    let world = World::new(1 << 20);
    let mut worker = open(&world, vec![], brief(), &Arc::default());
    let error = worker.store.merge(BRIEF, 0, b"k", b"v").unwrap_err();
    assert_eq!(error.kind, ErrorKind::Usage);
    assert!(error.message.contains("table 6"), "{error}");
    let unknown = TableOptions {
        merge: Merge::Fold("nobody-knows".into()),
        ..Default::default()
    };
    let error = worker.store.create_table(TableId(7), unknown).unwrap_err();
    assert!(error.message.contains("nobody-knows"), "{error}");
    // The longest key there can be comes back; one byte more is refused and changes nothing.
    let longest = vec![7; 65_531];
    worker.put(SORTED, 3, &longest, b"v");
    worker.start_checkpoint();
    worker.wait();
    assert_eq!(worker.get(SORTED, 3, &longest), Some(b"v".to_vec()));
    for refused in [
        worker.store.put(SORTED, 3, &vec![7; 65_532], b"v"),
        worker.store.delete(SORTED, 3, &vec![7; 65_532]),
        worker.store.delete_prefix(SORTED, 3, &vec![7; 65_532]),
        worker
            .store
            .merge(LISTS, 3, &vec![7; 65_532], b"v")
            .map(drop),
    ] {
        let error = refused.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Usage);
        assert!(error.message.contains("65531"), "{error}");
    }
    assert_eq!(worker.rows(SORTED, 3).len(), 1);
}

#[test]
fn expired_rows_are_hidden_unless_asked_for_and_leave_the_files() {
    let mut world = World::new(1 << 20);
    let now = Arc::new(AtomicI64::new(1_000));
    let mut worker = open(&world, vec![], brief(), &now);
    for i in 0..500u32 {
        let key = i.to_be_bytes();
        worker.store.put_at(BRIEF, 0, &key, b"old", 500).unwrap();
    }
    checkpoint(&mut worker);
    for i in 0..500u32 {
        let key = i.to_be_bytes();
        worker.store.put_at(BRIEF, 0, &key, b"v", 1_000).unwrap();
    }
    worker.put(BRIEF, 0, b"timeless", b"v");
    let files = checkpoint(&mut worker);
    drop(worker);
    world.forget_cache();
    for (at, shown) in [(1_099, 501), (1_100, 1)] {
        now.store(at, Ordering::Relaxed);
        let worker = open(&world, vec![files.clone()], brief(), &now);
        assert_eq!(worker.rows(BRIEF, 0).len(), shown);
        let found = worker.get(BRIEF, 0, &7u32.to_be_bytes());
        assert_eq!(found.is_some(), shown > 1, "at {at}");
        let again = worker.get(BRIEF, 0, &7u32.to_be_bytes());
        assert_eq!(again, found, "cold or hot makes no difference");
    }
    let shows = TableOptions {
        show_expired: true,
        ..brief()
    };
    let worker = open(&world, vec![files.clone()], shows, &now);
    assert_eq!(worker.rows(BRIEF, 0).len(), 501);
    assert_eq!(
        worker.get(BRIEF, 0, &7u32.to_be_bytes()),
        Some(b"v".to_vec())
    );
    drop(worker);
    // Compactions drop them, and what they hid does not come back.
    let mut worker = open(&world, vec![files], brief(), &now);
    for round in 0..12u8 {
        worker.put(BRIEF, 0, b"timeless", &[round]);
        worker.put(BRIEF, 0, &[255; 8], &[round]);
        checkpoint(&mut worker);
        worker.settle();
    }
    let last = checkpoint(&mut worker);
    let entries: u64 = last.files.iter().map(|file| file.entries).sum();
    assert!(entries < 30, "{entries} entries are left of two rows");
    drop(worker);
    let worker = open(&world, vec![last], TableOptions::default(), &now);
    assert_eq!(worker.rows(BRIEF, 0).len(), 2);
}

#[test]
fn deleting_a_prefix_reads_nothing_and_takes_one_entry() {
    let mut world = World::new(1 << 20);
    let now = Arc::default();
    let mut worker = open(&world, vec![], brief(), &now);
    for map in 0..50u8 {
        for entry in 0..40u8 {
            let key = [b'm', map + 2, 0, 1, entry];
            worker.put(LISTS, 0, &key, &[1; 30]);
        }
    }
    let files = checkpoint(&mut worker);
    drop(worker);
    world.forget_cache();
    let mut worker = open(&world, vec![files.clone()], brief(), &now);
    world.objects.take_counts();
    worker
        .store
        .delete_prefix(LISTS, 0, &[b'm', 9, 0, 1])
        .unwrap();
    worker.put(LISTS, 0, &[b'm', 9, 0, 1, 200], b"new");
    let second = checkpoint(&mut worker);
    let counts = world.objects.take_counts();
    assert_eq!(counts.requests(RequestKind::Get), 0);
    let added: Vec<_> = (second.files.iter())
        .filter(|file| files.files.iter().all(|old| old.path != file.path))
        .collect();
    assert_eq!(added.len(), 1);
    assert_eq!((added[0].entries, added[0].range_tombstones), (1, 1));
    drop(worker);
    world.forget_cache();
    let mut worker = open(&world, vec![second], brief(), &now);
    let rows = worker.scan(LISTS, 0, &[b'm', 9, 0, 1], b"", None, 100);
    assert_eq!(rows.rows.len(), 1);
    assert_eq!(worker.get(LISTS, 0, &[b'm', 9, 0, 1, 3]), None);
    assert_eq!(worker.rows(LISTS, 0).len(), 49 * 40 + 1);
    // A whole group goes the same way, and in the end nothing is left of either.
    worker.store.delete_prefix(LISTS, 0, b"").unwrap();
    for _ in 0..10 {
        worker.put(LISTS, 0, b"a", b"");
        worker.put(LISTS, 0, b"z", b"");
        checkpoint(&mut worker);
        worker.settle();
    }
    let last = checkpoint(&mut worker);
    let entries: u64 = last.files.iter().map(|file| file.entries).sum();
    assert!(entries < 30, "{entries} entries are left of two rows");
    assert_eq!(worker.rows(LISTS, 0).len(), 2);
}

#[test]
fn scans_ask_filters_for_the_prefix() {
    let mut world = World::new(1 << 20);
    let now = Arc::default();
    let mut worker = open(&world, vec![], brief(), &now);
    // Every file has maps of its own; both reach over the whole range.
    let mut files = Checkpoint::default();
    for file in 0..2u8 {
        for map in 0..60u8 {
            let key = [b'm', 4 * map + file + 2, 0, 1, 7];
            worker.put(LISTS, 0, &key, &[1; 100]);
        }
        worker.put(LISTS, 0, b"a\x00\x01", b"");
        worker.put(LISTS, 0, b"z\x00\x01", b"");
        files = checkpoint(&mut worker);
    }
    drop(worker);
    assert_eq!(files.files.len(), 2);
    let other_shape = TableOptions {
        prefix: vec![KeyPart::Fixed(1), KeyPart::Fixed(1)],
        ..lists()
    };
    let mut requests = Vec::new();
    for options in [lists(), other_shape] {
        world.forget_cache();
        let mut worker = world.open(small(), vec![(files.clone(), ALL)]);
        worker.store.create_table(LISTS, options).unwrap();
        let scan = |map: u8| worker.scan(LISTS, 0, &[b'm', map, 0, 1], b"", None, 9).rows;
        assert_eq!(scan(2).len(), 1);
        world.objects.take_counts();
        for map in 0..60u8 {
            assert_eq!(scan(4 * map + 4).len(), 0);
        }
        requests.push(world.objects.take_counts().total());
        for map in 0..60u8 {
            for file in 0..2 {
                let rows = scan(4 * map + file + 2);
                assert_eq!(rows.len(), 1);
                assert_eq!(rows[0].0, &[b'm', 4 * map + file + 2, 0, 1, 7][..]);
            }
        }
    }
    // Where the filter was made for another shape it is not asked, and nothing is lost.
    assert!(
        requests[0] < 3 && requests[1] > 6,
        "{requests:?} requests with and without a filter of this shape"
    );
}

/// Whoever asked for 65,536 rows of 1 MiB was given them all at once.
#[test]
fn the_answer_of_a_scan_is_bounded_in_bytes() {
    const VALUE_BYTES: usize = SCAN_BYTES_MAX / 4;
    const KEYS: u8 = 11;
    let world = World::new(8 << 20);
    let open = |restored: Vec<Checkpoint>| {
        let options = StoreOptions {
            memtable_bytes_max: 256 << 20,
            ..small()
        };
        let restored = restored.into_iter().map(|files| (files, ALL)).collect();
        let mut worker = world.open_with(options, restored, |_| {});
        worker.store.create_table(LISTS, lists()).unwrap();
        worker
    };
    let checkpoint = |worker: &mut Worker| {
        worker.store.freeze(LISTS).unwrap();
        worker.checkpoint()
    };
    let mut worker = open(Vec::new());
    let name = |key: u8| [key + 1, 0];
    let value = |key: u8, part: u8| vec![key ^ part; VALUE_BYTES / 2];
    let pieces = |worker: &Worker, table: TableId| {
        let (mut rows, mut from, mut pieces) = (Vec::new(), Vec::new(), 0);
        loop {
            let piece = worker.scan(table, 0, b"", &from, None, 1000);
            assert!(piece.rows.len() <= 4, "{} rows at once", piece.rows.len());
            pieces += 1;
            rows.extend(
                piece
                    .rows
                    .iter()
                    .map(|(key, value)| (key[0] - 1, value.clone())),
            );
            match piece.rows.last() {
                Some((last, _)) if !piece.done => from = [&last[..], &[0]].concat(),
                _ => break,
            }
        }
        for (at, (key, found)) in (0..).zip(&rows) {
            assert_eq!((*key, found.len()), (at, VALUE_BYTES));
            assert!(*found == [value(at, 0), value(at, 99)].concat());
        }
        assert_eq!(rows.len(), usize::from(KEYS));
        assert!((3..=4).contains(&pieces), "{pieces} pieces");
    };
    // First parts in a file, the others in memory; then all in files, first of them cold.
    for key in 0..KEYS {
        let whole = [value(key, 0), value(key, 99)].concat();
        worker.store.put(SORTED, 0, &name(key), &whole).unwrap();
        worker
            .store
            .merge(LISTS, 0, &name(key), &value(key, 0))
            .unwrap();
    }
    pieces(&worker, SORTED);
    checkpoint(&mut worker);
    for key in 0..KEYS {
        worker
            .store
            .merge(LISTS, 0, &name(key), &value(key, 99))
            .unwrap();
    }
    pieces(&worker, LISTS);
    let files = checkpoint(&mut worker);
    drop(worker);
    let worker = open(vec![files]);
    pieces(&worker, SORTED);
    pieces(&worker, LISTS);
}
