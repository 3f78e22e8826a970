//! Compaction from outside: files stay few, content stays the same.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use aquifer_store::{IoOptions, KeyGroupRange, StoreOptions, TableId, TableOptions};
use aquifer_testkit::{Fault, RequestKind, Rng};

use crate::harness::{ALL, POINTS, SORTED, Worker, World, small};

#[test]
fn files_stay_few_and_content_stays_the_same() {
    let world = World::new(4 << 20);
    let mut worker = world.open(small(), vec![]);
    let mut random = Rng::new(3);
    let mut model = BTreeMap::new();
    for round in 0..120 {
        for _ in 0..150 {
            let key = format!("{:05}", random.below(4_000)).into_bytes();
            if random.chance(200) {
                worker.delete(SORTED, 2, &key);
                model.remove(&key);
            } else {
                let value = random.next_u64().to_le_bytes().repeat(3);
                worker.put(SORTED, 2, &key, &value);
                model.insert(key, value);
            }
        }
        worker.checkpoint();
        // However far behind compactions are, they do not all become one.
        if round % 10 == 0 {
            worker.settle();
        }
    }
    worker.settle();
    let stats = worker.store.stats();
    let data: usize = model.iter().map(|(k, v)| k.len() + v.len()).sum();
    assert!(stats.compactions > 5, "{stats:?}");
    assert!(
        stats.files <= 9 + 4 * (data as u64 / (16 << 10)),
        "{data} bytes of rows, {stats:?}"
    );
    assert_eq!(worker.rows(SORTED, 2), model);

    let last = worker.checkpoint();
    assert!(last.files.iter().any(|file| file.level > 0));
    let again = world.open(small(), vec![(last, ALL)]);
    assert_eq!(again.rows(SORTED, 2), model);
}

#[test]
fn what_was_deleted_leaves_no_trace_in_the_end() {
    let world = World::new(4 << 20);
    let mut worker = world.open(small(), vec![]);
    for i in 0..3_000u32 {
        worker.put(POINTS, 0, &i.to_be_bytes(), &[1; 30]);
    }
    worker.checkpoint();
    for i in 0..3_000u32 {
        worker.delete(POINTS, 0, &i.to_be_bytes());
    }
    for round in 0..20u8 {
        worker.put(POINTS, 0, b"last", &[round]);
        worker.checkpoint();
        worker.settle();
    }
    let entries: u64 = worker
        .checkpoint()
        .files
        .iter()
        .map(|file| file.entries)
        .sum();
    assert!(entries < 30, "{entries} entries are left of one row");
}

#[test]
fn rows_outside_of_the_clip_fall_out() {
    let world = World::new(4 << 20);
    let mut one = world.open(small(), vec![]);
    for i in 0..4_000u32 {
        one.put(POINTS, (i % 4) as u16, &i.to_be_bytes(), &[2; 30]);
    }
    let whole = one.checkpoint();
    let range = KeyGroupRange { start: 1, end: 1 };
    let mut part = world.open(small(), vec![(whole, range)]);
    for round in 0..12u8 {
        part.put(POINTS, 1, b"x", &[round]);
        part.checkpoint();
        part.settle();
    }
    let last = part.checkpoint();
    let entries: u64 = last.files.iter().map(|file| file.entries).sum();
    assert!(
        (1_001..1_020).contains(&entries),
        "{entries} entries for 1001 rows"
    );
    assert!(last.files.iter().all(|file| file.clip == range), "{last:?}");
}

#[test]
fn a_failed_compaction_changes_nothing_and_is_tried_again() {
    let world = World::new(4 << 20);
    let options = StoreOptions {
        // Background work tries again by itself, four times in all.
        io: IoOptions {
            retries_max: 0,
            ..IoOptions::default()
        },
        ..small()
    };
    let mut worker = world.open(options, vec![]);
    for round in 0..2u8 {
        worker.put(POINTS, 0, b"k", &[round]);
        worker.checkpoint();
    }
    // The third flush goes through, and sets off a compaction, of which all four attempts fail.
    let puts = AtomicU64::new(0);
    let objects = world.objects.clone();
    world.objects.set_hook(Some(Arc::new(move |kind| {
        if kind == RequestKind::Put && (1..=4).contains(&puts.fetch_add(1, Ordering::SeqCst)) {
            objects.fail_next(kind, Fault::ErrorNotApplied);
        }
        Box::pin(std::future::ready(()))
    })));
    worker.put(POINTS, 0, b"k", &[2]);
    let third = worker.checkpoint();
    worker.settle();
    world.objects.set_hook(None);
    let stats = worker.store.stats();
    assert_eq!((stats.files, stats.compactions), (3, 0), "{stats:?}");
    assert_eq!(worker.get(POINTS, 0, b"k"), Some(vec![2]));
    for round in 3..9u8 {
        worker.put(POINTS, 0, b"k", &[round]);
        worker.checkpoint();
        worker.settle();
    }
    assert_eq!(worker.get(POINTS, 0, b"k"), Some(vec![8]));
    assert!(worker.store.stats().files < 4, "{:?}", worker.store.stats());
    let restored = world.open(small(), vec![(third, ALL)]);
    assert_eq!(restored.get(POINTS, 0, b"k"), Some(vec![2]));
}

/// Writes that stay in one neighbourhood at a time drag files along that reach farther than L0 does. Deletions of such a
/// file once lost their tombstones while older rows lay deeper, and the rows came back.
#[test]
fn wandering_writes_over_many_levels_lose_nothing_and_bring_nothing_back() {
    for seed in 0..4 {
        let world = World::new(4 << 20);
        let options = StoreOptions {
            file_bytes_target: 512,
            level_bytes_base: 512,
            dynamic_levels: seed % 2 == 1,
            l0_files_max: 2,
            ..small()
        };
        let mut worker = world.open(options, vec![]);
        let mut random = Rng::new(seed);
        let mut model = BTreeMap::new();
        let mut levels = std::collections::BTreeSet::new();
        for round in 0..300u64 {
            // The key space grows, so that deep levels have gaps.
            let neighbourhood = random.below(round + 1) * 15;
            for _ in 0..25 {
                let key = format!("{:05}", neighbourhood + random.below(15)).into_bytes();
                if random.chance(400) {
                    worker.delete(SORTED, 2, &key);
                    model.remove(&key);
                } else {
                    let value = random.next_u64().to_le_bytes().to_vec();
                    worker.put(SORTED, 2, &key, &value);
                    model.insert(key, value);
                }
            }
            let checkpoint = worker.checkpoint();
            levels.extend(checkpoint.files.iter().map(|file| file.level));
            if round % 5 == 0 {
                let rows = worker.rows(SORTED, 2);
                assert_eq!(rows, model, "seed {seed}, round {round}, under way");
                worker.settle();
                let rows = worker.rows(SORTED, 2);
                assert_eq!(rows, model, "seed {seed}, round {round}, settled");
            }
        }
        assert!(levels.len() >= 4, "the tree used levels {levels:?} only");
    }
}

/// A file whose rows have all expired goes without being read; one that still has live rows stays.
#[test]
fn what_has_expired_goes_unread() {
    let world = World::new(4 << 20);
    let now_ms = Arc::new(AtomicI64::new(1_000_000));
    let clock = now_ms.clone();
    let mut worker = world.open_with(StoreOptions::default(), vec![], |env| {
        env.clock = Arc::new(move || clock.load(Ordering::SeqCst));
    });
    let expiring = TableId(7);
    let options = TableOptions {
        ttl_ms: Some(600_000),
        ..TableOptions::default()
    };
    worker.store.create_table(expiring, options).unwrap();
    let write = |worker: &mut Worker, keys: std::ops::Range<u32>| {
        let time_ms = now_ms.load(Ordering::SeqCst);
        for i in keys {
            let key = i.to_be_bytes();
            let put = worker.store.put_at(expiring, 0, &key, &[5; 40], time_ms);
            put.unwrap();
        }
        worker.store.freeze(expiring).unwrap();
        worker.checkpoint()
    };
    write(&mut worker, 0..2_000);
    now_ms.fetch_add(300_000, Ordering::SeqCst);
    write(&mut worker, 5_000..5_500);
    worker.settle();
    assert_eq!(worker.store.stats().files, 2);
    world.objects.take_counts();
    // Nothing has changed, but more than a minute has passed since the tree was looked at.
    now_ms.fetch_add(350_000, Ordering::SeqCst);
    worker.settle();
    let stats = worker.store.stats();
    assert_eq!((stats.files, stats.files_dropped), (1, 1), "{stats:?}");
    assert_eq!(world.objects.counts().requests(RequestKind::Get), 0);
}

/// While files cannot be written as fast as memtables fill, writers slow down before they wait, and memory stays bounded.
#[test]
fn writers_slow_down_when_uploads_are_slow() {
    let world = World::new(4 << 20);
    // However slow the writer is, the first uploads are slower: they wait until it was slowed down.
    let held = Arc::new(AtomicBool::new(true));
    let hold = held.clone();
    world.objects.set_hook(Some(Arc::new(move |kind| {
        let hold = hold.clone();
        Box::pin(async move {
            while kind == RequestKind::Put && hold.load(Ordering::SeqCst) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            if kind == RequestKind::Put {
                tokio::time::sleep(Duration::from_millis(60)).await;
            }
        })
    })));
    let options = StoreOptions {
        memtable_bytes_max: 256 << 10,
        l0_files_max: 1_000,
        ..small()
    };
    let mut worker = world.open(options, vec![]);
    let mut most = 0;
    for i in 0..30_000u32 {
        worker.put(POINTS, 0, &i.to_be_bytes(), &[1; 60]);
        if i % 500 == 0 {
            let stats = worker.store.stats();
            most = most.max(stats.memtable_bytes);
            held.fetch_and(stats.write_delayed_total_ns == 0, Ordering::SeqCst);
        }
    }
    let stats = worker.store.stats();
    assert!(stats.write_delayed_total_ns > 0, "{stats:?}");
    assert!(most < 5 * (256 << 10), "memtables took {most} bytes");
    let last = worker.checkpoint();
    let entries: u64 = last.files.iter().map(|file| file.entries).sum();
    assert_eq!(entries, 30_000);
}

/// A range tombstone over all of an older file makes it go without being read.
#[test]
fn what_a_prefix_deletion_covers_goes_unread() {
    let world = World::new(4 << 20);
    let mut worker = world.open(StoreOptions::default(), vec![]);
    for i in 0..1_000u32 {
        worker.put(POINTS, 3, &[b"a/", &i.to_be_bytes()[..]].concat(), &[4; 30]);
    }
    let first = worker.checkpoint();
    worker.store.delete_prefix(POINTS, 3, b"a/").unwrap();
    worker.put(POINTS, 3, b"a/new", b"stays");
    world.objects.take_counts();
    let second = worker.checkpoint();
    assert_eq!(second.files.len(), 2, "the checkpoint comes before");
    worker.settle();
    let stats = worker.store.stats();
    assert_eq!((stats.files, stats.files_dropped), (1, 1), "{stats:?}");
    assert_eq!(world.objects.counts().requests(RequestKind::Get), 0);
    assert_eq!(worker.rows(POINTS, 3).len(), 1);
    for (checkpoint, rows) in [(first, 1_000), (second, 1)] {
        let restored = world.open(StoreOptions::default(), vec![(checkpoint, ALL)]);
        assert_eq!(restored.rows(POINTS, 3).len(), rows);
    }
}
