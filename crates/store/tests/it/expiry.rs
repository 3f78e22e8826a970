//! What expires when: event time instead of the clock, rows without a time, and times in answers.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use aquifer_store::{
    Checkpoint, ErrorKind, ExpiryCleanup, Lookup, Merge, ScanLookup, StoreOptions, TableId,
    TableOptions,
};
use aquifer_testkit::{RequestKind, Rng};

use crate::harness::{ALL, POINTS, Worker, World, small};

/// Expires by event time.
const EVENTS: TableId = TableId(20);
/// Expires by the clock.
const CLOCKED: TableId = TableId(21);
const TTL_MS: u64 = 100;

fn events() -> TableOptions {
    TableOptions {
        ttl_ms: Some(TTL_MS),
        event_time: true,
        ..TableOptions::default()
    }
}

fn clocked() -> TableOptions {
    TableOptions {
        ttl_ms: Some(TTL_MS),
        ..TableOptions::default()
    }
}

/// A worker whose clock stands at `now`, with these tables.
fn open(
    world: &World,
    restored: Option<&Checkpoint>,
    options: StoreOptions,
    tables: [TableOptions; 2],
    now: &Arc<AtomicI64>,
) -> Worker {
    let restored = restored.into_iter().map(|files| (files.clone(), ALL));
    let clock = now.clone();
    let mut worker = world.open_with(options, restored.collect(), |env| {
        env.clock = Arc::new(move || clock.load(Ordering::SeqCst));
    });
    for (table, options) in [EVENTS, CLOCKED].into_iter().zip(tables) {
        worker.store.create_table(table, options).unwrap();
    }
    worker
}

fn checkpoint(worker: &mut Worker) -> Checkpoint {
    worker.store.freeze(EVENTS).unwrap();
    worker.store.freeze(CLOCKED).unwrap();
    worker.checkpoint()
}

fn entries(files: &Checkpoint) -> u64 {
    files.files.iter().map(|file| file.entries).sum()
}

/// Makes checkpoints of two new rows, the first and the last there are, so long that compactions go over everything in between.
fn churn(worker: &mut Worker) -> Checkpoint {
    let mut random = Rng::new(1);
    for _ in 0..12 {
        let value: Vec<u8> = (0..3_000).map(|_| random.below(256) as u8).collect();
        worker.put(EVENTS, 0, &[0], &value);
        worker.put(CLOCKED, 0, &[255; 8], &value);
        checkpoint(worker);
        worker.settle();
    }
    checkpoint(worker)
}

#[test]
fn event_time_takes_the_place_of_the_clock() {
    let mut world = World::new(1 << 20);
    let now = Arc::new(AtomicI64::new(1_000_000));
    let mut worker = open(&world, None, small(), [events(), clocked()], &now);
    let store = &mut worker.store;
    store.put_at(EVENTS, 0, b"k", b"v", 500).unwrap();
    store.put_at(CLOCKED, 0, b"k", b"v", 1_000_000).unwrap();
    let value = Some(b"v".to_vec());
    // By the clock it would have gone long ago, but event time has not begun.
    assert_eq!(worker.get(EVENTS, 0, b"k"), value);
    for (event_ms, found) in [(599, true), (600, false), (0, false), (i64::MIN, false)] {
        worker.store.advance_event_time(EVENTS, event_ms).unwrap();
        assert_eq!(worker.get(EVENTS, 0, b"k").is_some(), found, "{event_ms}");
        assert_eq!(worker.rows(EVENTS, 0).len(), usize::from(found));
        let answers = worker.multi_get(EVENTS, &[(0, b"k")]);
        assert_eq!(answers[0].is_some(), found);
    }
    // The other table knows nothing of it, and goes by the clock alone.
    assert_eq!(worker.get(CLOCKED, 0, b"k"), value);
    now.store(1_000_100, Ordering::SeqCst);
    assert_eq!(worker.get(CLOCKED, 0, b"k"), None);
    for (table, text) in [(CLOCKED, "by the clock"), (TableId(99), "does not exist")] {
        let error = worker.store.advance_event_time(table, 5).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Usage);
        assert!(error.message.contains(text), "{error}");
    }
    // A checkpoint does not keep it; who restores tells it again. A cold read goes by the moment it was planned.
    let files = checkpoint(&mut worker);
    drop(worker);
    world.forget_cache();
    let mut worker = open(&world, Some(&files), small(), [events(), clocked()], &now);
    let Lookup::Cold(read) = worker.store.get(EVENTS, 0, b"k").unwrap() else {
        panic!("nothing is in memory")
    };
    let ScanLookup::Cold(scan) = worker.store.scan(EVENTS, 0, b"", b"", None, 9).unwrap() else {
        panic!("nothing is in memory")
    };
    worker.store.advance_event_time(EVENTS, 600).unwrap();
    let fetched = world.runtime.block_on(worker.store.fetch(vec![read]));
    assert_eq!(fetched.unwrap()[0].as_deref(), Some(&b"v"[..]));
    let fetched = world.runtime.block_on(worker.store.fetch_scan(scan));
    assert_eq!(fetched.unwrap().rows.len(), 1);
    assert_eq!(worker.get(EVENTS, 0, b"k"), None);
}

/// Rows that were written before event time began have no time: they count from its beginning, in files as in memory.
#[test]
fn rows_from_before_event_time_count_from_its_beginning() {
    let world = World::new(1 << 20);
    let now = Arc::new(AtomicI64::new(0));
    let mut worker = open(&world, None, small(), [events(), clocked()], &now);
    for i in 1..500u32 {
        worker.put(EVENTS, 0, &i.to_be_bytes(), b"v");
    }
    worker.put(CLOCKED, 0, b"k", b"v");
    checkpoint(&mut worker);
    worker.put(EVENTS, 0, b"in memory", b"v");
    worker.store.advance_event_time(EVENTS, 500).unwrap();
    worker.store.count_untimed_as(EVENTS, 500).unwrap();
    // Only the first counts, and only where event time does.
    worker.store.count_untimed_as(EVENTS, 900).unwrap();
    worker.store.count_untimed_as(CLOCKED, 900).unwrap();
    for (event_ms, found) in [(599, true), (600, false)] {
        worker.store.advance_event_time(EVENTS, event_ms).unwrap();
        for key in [&1u32.to_be_bytes()[..], b"in memory"] {
            assert_eq!(worker.get(EVENTS, 0, key).is_some(), found, "{event_ms}");
        }
    }
    assert!(worker.get(CLOCKED, 0, b"k").is_some());
    let left = entries(&churn(&mut worker));
    assert!(left < 100, "{left} rows are left of 500 that have expired");
    // Whoever registers the table again says the same.
    let known = TableOptions {
        untimed_as_ms: Some(500),
        ..events()
    };
    worker.store.create_table(EVENTS, known).unwrap();
}

#[test]
fn compactions_go_by_each_tables_own_time() {
    let world = World::new(1 << 20);
    let now = Arc::new(AtomicI64::new(1_000_000));
    let mut worker = open(&world, None, small(), [events(), clocked()], &now);
    for i in 0..500u32 {
        let key = i.to_be_bytes();
        worker.store.put_at(EVENTS, 0, &key, b"v", 500).unwrap();
        let time_ms = 1_000_000;
        worker
            .store
            .put_at(CLOCKED, 0, &key, b"v", time_ms)
            .unwrap();
    }
    let before = churn(&mut worker);
    assert!(entries(&before) >= 1_000, "{} are left", entries(&before));
    // Now one table's rows have expired, and then the other's.
    worker.store.advance_event_time(EVENTS, 600).unwrap();
    let between = entries(&churn(&mut worker));
    assert!((502..600).contains(&between), "{between} are left of 502");
    assert_eq!(worker.rows(CLOCKED, 0).len(), 501);
    now.store(1_000_100, Ordering::SeqCst);
    let after = entries(&churn(&mut worker));
    assert!(after < 40, "{after} are left of 2");
}

/// A file whose rows have all expired by event time goes without being read, whatever the clock says.
#[test]
fn what_has_expired_by_event_time_goes_unread() {
    let world = World::new(4 << 20);
    let now = Arc::new(AtomicI64::new(0));
    let options = StoreOptions::default();
    let mut worker = open(&world, None, options, [events(), clocked()], &now);
    for (keys, time_ms) in [(0..2_000u32, 1_000), (5_000..5_500, 2_000)] {
        for i in keys {
            let key = i.to_be_bytes();
            let put = worker.store.put_at(EVENTS, 0, &key, &[5; 40], time_ms);
            put.unwrap();
        }
        checkpoint(&mut worker);
    }
    worker.settle();
    world.objects.take_counts();
    now.fetch_add(60_000, Ordering::SeqCst);
    worker.settle();
    assert_eq!(worker.store.stats().files, 2, "event time has not begun");
    worker.store.advance_event_time(EVENTS, 1_500).unwrap();
    now.fetch_add(60_000, Ordering::SeqCst);
    worker.settle();
    let stats = worker.store.stats();
    assert_eq!((stats.files, stats.files_dropped), (1, 1), "{stats:?}");
    assert_eq!(world.objects.counts().requests(RequestKind::Get), 0);
    assert_eq!(worker.rows(EVENTS, 0).len(), 500);
}

/// A bounded input ends with the latest event time there is. That ends what is over by then, and nothing that never is.
#[test]
fn at_the_end_of_time_rows_that_never_expire_stay() {
    let world = World::new(1 << 20);
    let forever = TableOptions {
        ttl_ms: Some(u64::MAX),
        ..events()
    };
    let now = Arc::default();
    for (options, left) in [(forever, 500), (events(), 0)] {
        let mut worker = open(&world, None, small(), [options, clocked()], &now);
        for i in 0..500u32 {
            let key = i.to_be_bytes();
            worker.store.put_at(EVENTS, 0, &key, b"v", 500).unwrap();
        }
        worker.store.advance_event_time(EVENTS, i64::MAX).unwrap();
        assert_eq!(worker.rows(EVENTS, 0).len(), left);
        let files = churn(&mut worker);
        assert_eq!(worker.rows(EVENTS, 0).len(), left + 1);
        let entries = entries(&files);
        assert!(
            (left as u64..left as u64 + 40).contains(&entries),
            "{entries}"
        );
    }
}

/// Where compactions are told to keep what has expired, they do, file by file and row by row; reads hide it all the same.
#[test]
fn compactions_keep_what_has_expired_where_they_are_told_to() {
    let world = World::new(1 << 20);
    let kept = |kept: bool| TableOptions {
        cleanup: ExpiryCleanup {
            in_compactions: !kept,
            ..ExpiryCleanup::default()
        },
        ..clocked()
    };
    for (is_kept, left) in [(true, 500), (false, 0)] {
        let now = Arc::new(AtomicI64::new(0));
        let mut worker = open(&world, None, small(), [events(), kept(is_kept)], &now);
        for i in 0..500u32 {
            let key = i.to_be_bytes();
            worker.store.put_at(CLOCKED, 0, &key, b"v", 0).unwrap();
        }
        checkpoint(&mut worker);
        now.store(TTL_MS as i64, Ordering::SeqCst);
        assert_eq!(worker.rows(CLOCKED, 0).len(), 0);
        churn(&mut worker);
        assert_eq!(worker.rows(CLOCKED, 0).len(), 1);
        now.store(0, Ordering::SeqCst);
        assert_eq!(worker.rows(CLOCKED, 0).len(), left + 1);
    }
}

/// A TTL is switched on over rows that were there: from that moment they live as long as if they had been written then, whether they
/// have a time from earlier or none.
#[test]
fn rows_from_before_the_ttl_count_as_written_when_it_was_switched_on() {
    let mut world = World::new(1 << 20);
    let now = Arc::new(AtomicI64::new(1_000));
    let off = TableOptions {
        merge: Merge::Append,
        ..TableOptions::default()
    };
    let on = TableOptions {
        ttl_ms: Some(TTL_MS),
        untimed_as_ms: Some(5_000),
        ..off.clone()
    };
    let plain = |merges: &TableOptions| TableOptions {
        merge: Merge::None,
        ..merges.clone()
    };
    let mut worker = open(&world, None, small(), [off.clone(), plain(&off)], &now);
    let store = &mut worker.store;
    for i in 0..300u32 {
        let key = i.to_be_bytes();
        store.merge(EVENTS, 0, &key, b"untimed").unwrap();
        match i % 2 {
            0 => store.put(CLOCKED, 0, &key, b"untimed").unwrap(),
            _ => store.put_at(CLOCKED, 0, &key, b"early", 10).unwrap(),
        }
    }
    let files = checkpoint(&mut worker);
    drop(worker);
    for (at, shown) in [(5_099, 300), (5_100, 0)] {
        world.forget_cache();
        now.store(at, Ordering::SeqCst);
        let mut worker = open(
            &world,
            Some(&files),
            small(),
            [on.clone(), plain(&on)],
            &now,
        );
        for table in [EVENTS, CLOCKED] {
            assert_eq!(worker.rows(table, 0).len(), shown, "at {at}");
        }
        // An operand joins what is there and keeps it, or comes too late and meets nothing.
        let key = 7u32.to_be_bytes();
        worker.store.merge_at(EVENTS, 0, &key, b"+", at).unwrap();
        let expected: &[u8] = if shown > 0 { b"untimed+" } else { b"+" };
        assert_eq!(worker.get(EVENTS, 0, &key).unwrap(), expected);
        now.store(at + 50, Ordering::SeqCst);
        assert_eq!(worker.get(EVENTS, 0, &key).unwrap(), expected);
        // Rows that have no time count as old even if they are new.
        churn(&mut worker);
        let left = entries(&churn(&mut worker));
        assert!(left < 40, "{left} rows are left of 1");
        assert_eq!(worker.get(EVENTS, 0, &key).unwrap(), expected);
    }
    // Without a word on them, rows that have no time stay.
    now.store(1 << 40, Ordering::SeqCst);
    let silent = TableOptions {
        untimed_as_ms: None,
        ..on
    };
    let worker = open(
        &world,
        Some(&files),
        small(),
        [silent.clone(), plain(&silent)],
        &now,
    );
    assert_eq!(worker.rows(EVENTS, 0).len(), 300);
    assert_eq!(worker.rows(CLOCKED, 0).len(), 150);
}

/// As above, for a file that can go as a whole.
#[test]
fn a_file_of_rows_from_before_the_ttl_goes_unread() {
    let world = World::new(4 << 20);
    let now = Arc::new(AtomicI64::new(0));
    let off = TableOptions::default();
    let options = StoreOptions::default;
    let mut worker = open(&world, None, options(), [off.clone(), off.clone()], &now);
    for i in 0..2_000u32 {
        worker.put(CLOCKED, 0, &i.to_be_bytes(), &[5; 40]);
    }
    let files = checkpoint(&mut worker);
    drop(worker);
    let on = TableOptions {
        untimed_as_ms: Some(1_000),
        ..clocked()
    };
    let mut worker = open(&world, Some(&files), options(), [off, on], &now);
    // What the file holds is known once something of it was read.
    assert!(worker.get(CLOCKED, 0, &7u32.to_be_bytes()).is_some());
    worker.settle();
    now.store(1_099, Ordering::SeqCst);
    worker.settle();
    assert_eq!(worker.store.stats().files_dropped, 0);
    now.store(61_099, Ordering::SeqCst);
    worker.settle();
    let stats = worker.store.stats();
    assert_eq!((stats.files, stats.files_dropped), (0, 1), "{stats:?}");
}

#[test]
fn scans_give_the_times_of_rows() {
    let mut world = World::new(1 << 20);
    let now = Arc::default();
    let lists = TableOptions {
        merge: Merge::Append,
        ..TableOptions::default()
    };
    let mut worker = open(&world, None, small(), [lists.clone(), clocked()], &now);
    let mut expected: BTreeMap<Vec<u8>, (Vec<u8>, Option<i64>)> = BTreeMap::new();
    let mut files = Checkpoint::default();
    // Three layers: of each row the newest value counts, and of operands the newest time.
    for layer in 0..3u8 {
        for key in (0..90u8).filter(|key| key % 3 <= layer) {
            let time = (key % 4 != 0).then_some(100 * i64::from(layer) + i64::from(key));
            let merged = match time {
                Some(time) => worker.store.merge_at(EVENTS, 0, &[key], &[layer], time),
                None => worker.store.merge(EVENTS, 0, &[key], &[layer]),
            };
            merged.unwrap();
            let (value, newest) = expected.entry(vec![key]).or_default();
            value.push(layer);
            *newest = time.max(*newest);
        }
        worker.put(POINTS, 0, &[layer], b"v");
        files = checkpoint(&mut worker);
    }
    let compare = |worker: &Worker| {
        let mut seen = BTreeMap::new();
        let mut from = Vec::new();
        loop {
            let piece = worker.scan(EVENTS, 0, b"", &from, None, 7);
            assert_eq!(piece.times.len(), piece.rows.len());
            for (i, (key, value)) in piece.rows.iter().enumerate() {
                seen.insert(key.to_vec(), (value.to_vec(), piece.time_ms(i)));
                from = [&key[..], &[0]].concat();
            }
            if piece.done {
                break;
            }
        }
        assert_eq!(seen, expected);
        // Rows without times cost nothing, in a table that never had any as well as where a piece has none.
        let untimed = worker.scan(POINTS, 0, b"", b"", None, 9);
        assert_eq!((untimed.rows.len(), untimed.times.len()), (3, 0));
        assert_eq!(untimed.time_ms(1), None);
        let piece = worker.scan(EVENTS, 0, &[8], b"", None, 9);
        assert_eq!((piece.rows.len(), piece.times.len()), (1, 0));
    };
    compare(&worker);
    drop(worker);
    world.forget_cache();
    let worker = open(&world, Some(&files), small(), [lists, clocked()], &now);
    compare(&worker);
    compare(&worker);
}

#[test]
fn merges_say_how_much_the_memtable_holds_of_the_row() {
    let world = World::new(1 << 20);
    let now = Arc::default();
    let lists = TableOptions {
        merge: Merge::Append,
        ttl_ms: Some(TTL_MS),
        ..TableOptions::default()
    };
    let mut worker = open(&world, None, small(), [lists, clocked()], &now);
    let sums = TableOptions {
        merge: Merge::Fold("sum-i64".into()),
        ..TableOptions::default()
    };
    worker.store.create_table(TableId(30), sums).unwrap();
    let store = &mut worker.store;
    let mut merge = |bytes: usize, time_ms| {
        let operand = vec![7; bytes];
        store.merge_at(EVENTS, 0, b"k", &operand, time_ms).unwrap()
    };
    assert_eq!(merge(10, 0), 10);
    assert_eq!(merge(0, 0), 10);
    assert_eq!(merge(5_000, 50), 5_010);
    assert_eq!(merge(1, 60), 5_011);
    // What has expired is not there any more.
    assert_eq!(merge(3, 160), 3);
    store.put_at(EVENTS, 0, b"k", b"value", 170).unwrap();
    assert_eq!(store.merge_at(EVENTS, 0, b"k", b"+", 170).unwrap(), 6);
    store.delete(EVENTS, 0, b"k").unwrap();
    assert_eq!(store.merge(EVENTS, 0, b"k", b"ab").unwrap(), 2);
    for _ in 0..3 {
        let operand = 5i64.to_le_bytes();
        assert_eq!(store.merge(TableId(30), 0, b"k", &operand).unwrap(), 8);
    }
    // What lies below the memtable does not count, whether it is frozen or in a file.
    store.freeze(TableId(30)).unwrap();
    checkpoint(&mut worker);
    let store = &mut worker.store;
    assert_eq!(store.merge(EVENTS, 0, b"k", b"c").unwrap(), 1);
    assert_eq!(store.merge(EVENTS, 0, b"k", b"d").unwrap(), 2);
    store.freeze(EVENTS).unwrap();
    assert_eq!(store.merge(EVENTS, 0, b"other", b"e").unwrap(), 1);
    assert_eq!(worker.get(EVENTS, 0, b"k").unwrap(), b"abcd");
}
