//! Requests to the object store: how many, and that answers are right when hardly anything is in memory.
use aquifer_store::{Checkpoint, KeyGroupRange, Lookup, ScanLookup, StoreOptions};
use aquifer_testkit::{FaultPlan, RequestKind};

use crate::harness::{ALL, POINTS, SORTED, World, small};

fn key(i: u32) -> [u8; 4] {
    i.to_be_bytes()
}

/// `rows` rows spread over groups 0 to 7 in one file, in a process that has cached nothing.
fn cold_world(rows: u32, cache_bytes: u64) -> (World, Checkpoint) {
    let mut world = World::new(cache_bytes);
    let mut writer = world.open(
        StoreOptions {
            memtable_bytes_max: 1 << 30,
            ..small()
        },
        vec![],
    );
    for i in 0..rows {
        writer.put(SORTED, (i % 8) as u16, &key(i), &i.to_le_bytes().repeat(4));
    }
    let checkpoint = writer.checkpoint();
    drop(writer);
    world.forget_cache();
    world.objects.take_counts();
    (world, checkpoint)
}

#[test]
fn opening_reads_nothing_and_the_first_get_takes_two_requests() {
    let (world, checkpoint) = cold_world(5_000, 8 << 20);
    let store = world.open(small(), vec![(checkpoint, ALL)]);
    assert_eq!(world.objects.take_counts().total(), 0);
    assert_eq!(
        store.get(SORTED, 1, &key(1)),
        Some(1u32.to_le_bytes().repeat(4))
    );
    let counts = world.objects.take_counts();
    assert_eq!((counts.requests(RequestKind::Get), counts.total()), (2, 2));
    // Index and filter stay; another block costs one request, the same block none.
    assert!(store.get(SORTED, 7, &key(4999)).is_some());
    assert_eq!(world.objects.take_counts().total(), 1);
    assert!(matches!(
        store.store.get(SORTED, 7, &key(4999)).unwrap(),
        Lookup::Found(_)
    ));
    assert_eq!(world.objects.take_counts().total(), 0);
}

/// An index that is too long to be read at once costs a third round, whatever its length.
#[test]
fn a_large_index_is_read_in_parts() {
    let mut world = World::new(8 << 20);
    let options = StoreOptions {
        memtable_bytes_max: 1 << 30,
        // A block for every row.
        block_bytes: 20,
        ..small()
    };
    let mut writer = world.open(options.clone(), vec![]);
    let rows = 60_000;
    for i in 0..rows {
        writer.put(SORTED, (i % 8) as u16, &key(i), &i.to_le_bytes().repeat(4));
    }
    let checkpoint = writer.checkpoint();
    drop(writer);
    assert!(
        checkpoint.files[0].index_bytes > 256 << 10,
        "{checkpoint:?}"
    );
    world.forget_cache();
    world.objects.take_counts();
    let store = world.open(options, vec![(checkpoint, ALL)]);
    assert_eq!(store.get(SORTED, 0, &key(rows)), None);
    // A page of the filter, and the end of the file.
    assert_eq!(world.objects.take_counts().total(), 2);
    assert_eq!(
        store.get(SORTED, 3, &key(3)),
        Some(3u32.to_le_bytes().repeat(4))
    );
    // Another page, a partition of the index, and the block.
    let total = world.objects.take_counts().total();
    assert!((2..=3).contains(&total), "{total}");
    let bytes = world.cache.used_bytes();
    assert!(
        bytes < 100 << 10,
        "{bytes} bytes are in memory after two reads"
    );
}

#[test]
fn absent_keys_are_answered_by_the_filter() {
    let (world, checkpoint) = cold_world(5_000, 8 << 20);
    let store = world.open(small(), vec![(checkpoint, ALL)]);
    store.get(SORTED, 0, &key(0));
    world.objects.take_counts();
    for i in 10_000..11_000 {
        assert_eq!(store.get(SORTED, (i % 8) as u16, &key(i)), None);
    }
    let asked = world.objects.take_counts().total();
    assert!(asked < 40, "{asked} requests for 1000 absent keys");
}

#[test]
fn rescaling_copies_and_reads_nothing() {
    let (world, checkpoint) = cold_world(5_000, 8 << 20);
    for start in 0..8 {
        let range = KeyGroupRange { start, end: start };
        let mut part = world.open(small(), vec![(checkpoint.clone(), range)]);
        assert_eq!(part.checkpoint().files.len(), 1);
    }
    assert_eq!(world.objects.take_counts().total(), 0);
}

#[test]
fn cold_reads_of_a_batch_go_together() {
    let (world, checkpoint) = cold_world(5_000, 8 << 20);
    let store = world.open(small(), vec![(checkpoint, ALL)]);
    let keys: Vec<[u8; 4]> = (0..5_000).step_by(8).map(key).collect();
    let asked: Vec<(u16, &[u8])> = keys.iter().map(|k| (0u16, &k[..])).collect();
    let answers = store.multi_get(SORTED, &asked);
    for (k, answer) in keys.iter().zip(answers) {
        assert_eq!(answer, Some(u32::from_be_bytes(*k).to_le_bytes().repeat(4)));
    }
    // One for index and filter; the blocks of one key group lie side by side.
    assert_eq!(world.objects.take_counts().total(), 2);
}

#[test]
fn newly_written_files_are_never_cold() {
    let world = World::new(8 << 20);
    let options = StoreOptions {
        // Else memtables would answer.
        retained_memtables_max: 0,
        ..small()
    };
    let mut worker = world.open(options, vec![]);
    for i in 0..2_000 {
        worker.put(POINTS, 3, &key(i), &key(i));
    }
    worker.checkpoint();
    worker.settle();
    world.objects.take_counts();
    for i in 0..2_000 {
        assert!(matches!(
            worker.store.get(POINTS, 3, &key(i)).unwrap(),
            Lookup::Found(_)
        ));
    }
    assert_eq!(worker.store.stats().cold_reads, 0);
    assert!(worker.store.stats().block_cache_hits >= 2_000);
}

#[test]
fn a_cold_scan_gives_the_rows_of_the_moment_it_was_asked() {
    let (world, checkpoint) = cold_world(4_000, 8 << 20);
    let mut store = world.open(small(), vec![(checkpoint, ALL)]);
    store.put(SORTED, 0, &key(8), b"newer");
    store.delete(SORTED, 0, &key(16));
    store.put(SORTED, 0, &key(17), b"between");
    let ScanLookup::Cold(scan) = store.store.scan(SORTED, 0, b"", b"", None, 5).unwrap() else {
        panic!("nothing is cached");
    };
    store.delete(SORTED, 0, &key(0));
    store.put(SORTED, 0, &key(16), b"too late");
    store.checkpoint();
    let rows = world
        .runtime
        .block_on(store.store.fetch_scan(scan))
        .unwrap();
    let keys: Vec<&[u8]> = rows.rows.iter().map(|(k, _)| &k[..]).collect();
    assert_eq!(keys, [key(0), key(8), key(17), key(24), key(32)]);
    assert_eq!(&rows.rows[1].1[..], b"newer");
    assert!(!rows.done);
}

#[test]
fn a_cold_read_sees_the_version_it_was_planned_on_even_when_its_files_were_compacted_away() {
    let mut world = World::new(8 << 20);
    let mut worker = world.open(small(), vec![]);
    worker.put(POINTS, 0, b"k", b"old");
    let first = worker.checkpoint();
    drop(worker);
    world.forget_cache();
    let mut worker = world.open(small(), vec![(first, ALL)]);
    let Lookup::Cold(read) = worker.store.get(POINTS, 0, b"k").unwrap() else {
        panic!("nothing is cached")
    };
    let before = worker.store.installs();
    for round in 0..20u8 {
        worker.put(POINTS, 0, b"k", &[round]);
        worker.checkpoint();
    }
    worker.settle();
    assert!(worker.store.installs() > before);
    let values = world
        .runtime
        .block_on(worker.store.fetch(vec![read]))
        .unwrap();
    assert_eq!(values[0].as_deref(), Some(&b"old"[..]));
    assert_eq!(worker.get(POINTS, 0, b"k"), Some(vec![19]));
}

#[test]
fn many_fetches_at_once_all_get_their_answers() {
    let (world, checkpoint) = cold_world(20_000, 64 << 10);
    let store = world.open(small(), vec![(checkpoint, ALL)]);
    let mut fetches = Vec::new();
    for round in 0..50u32 {
        let wanted: Vec<u32> = (0..100)
            .map(|i| (round * 7_919 + i * 104_729) % 25_000)
            .collect();
        let mut reads = Vec::new();
        let mut expected = Vec::new();
        for &i in &wanted {
            if let Lookup::Cold(read) = store.store.get(SORTED, (i % 8) as u16, &key(i)).unwrap() {
                reads.push(read);
                expected.push((i < 20_000).then(|| i.to_le_bytes().repeat(4)));
            }
        }
        fetches.push((store.store.fetch(reads), expected));
    }
    world.runtime.block_on(async {
        let (fetches, expected): (Vec<_>, Vec<_>) = fetches.into_iter().unzip();
        for (answers, expected) in futures_util::future::join_all(fetches)
            .await
            .into_iter()
            .zip(expected)
        {
            let answers: Vec<Option<Vec<u8>>> = answers
                .unwrap()
                .into_iter()
                .map(|a| a.map(|b| b.to_vec()))
                .collect();
            assert_eq!(answers, expected);
        }
    });
}

#[test]
fn reads_survive_errors_that_pass() {
    let (world, checkpoint) = cold_world(5_000, 2 << 10);
    world.objects.set_plan(FaultPlan {
        seed: 5,
        error_not_applied_per_mille: 50,
        throttle_per_mille: 20,
        throttle_burst_requests: 2,
        ..FaultPlan::default()
    });
    let store = world.open(small(), vec![(checkpoint, ALL)]);
    for i in (0..5_000).step_by(23) {
        assert_eq!(
            store.get(SORTED, (i % 8) as u16, &key(i)),
            Some(i.to_le_bytes().repeat(4))
        );
    }
}

/// Where the first requests are sent from changes neither answers nor requests, also when the answer is awaited outside of the runtime.
#[test]
fn reads_may_be_planned_by_whoever_asks_first() {
    let keys: Vec<[u8; 4]> = (0..500).map(|i| key(i * 7)).collect();
    let mut requests = Vec::new();
    for plan_inline in [false, true] {
        let (world, checkpoint) = cold_world(4_000, 8 << 20);
        let options = StoreOptions {
            plan_inline,
            ..small()
        };
        let worker = world.open(options, vec![(checkpoint, ALL)]);
        let mut reads = Vec::new();
        for key in &keys {
            let group = (u32::from_be_bytes(*key) % 8) as u16;
            match worker.store.get(SORTED, group, key).unwrap() {
                Lookup::Cold(read) => reads.push(read),
                other => panic!("{other:?}"),
            }
        }
        let values = futures_util::future::join_all([worker.store.fetch(reads)]);
        let answered = std::thread::spawn(move || {
            let outside = tokio::runtime::Builder::new_current_thread();
            let outside = { outside }.build().unwrap();
            outside.block_on(values).remove(0).unwrap()
        });
        for (key, value) in keys.iter().zip(answered.join().unwrap()) {
            let expected = u32::from_be_bytes(*key).to_le_bytes().repeat(4);
            assert_eq!(value.as_deref(), Some(&expected[..]));
        }
        requests.push(world.objects.take_counts().total());
        drop(worker);
    }
    assert_eq!(requests[0], requests[1]);
}
