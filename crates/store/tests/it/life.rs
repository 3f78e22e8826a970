//! Checkpoints, restoring, and who owns the files.
use aquifer_store::{ErrorKind, KeyGroupRange, StoreOptions, TableId};
use aquifer_testkit::{Fault, FaultyObjects, RequestKind, Rng};

use crate::harness::{ALL, POINTS, SORTED, World, small};

#[test]
fn a_checkpoint_holds_what_was_frozen_and_nothing_newer() {
    let world = World::new(1 << 20);
    let mut worker = world.open(small(), vec![]);
    worker.put(POINTS, 1, b"a", b"old");
    worker.put(SORTED, 1, b"b", b"old");
    worker.store.freeze(POINTS).unwrap();
    // The barrier has passed one operator; the other still works for the old epoch.
    worker.put(POINTS, 1, b"a", b"new");
    worker.put(POINTS, 1, b"c", b"new");
    worker.put(SORTED, 1, b"b", b"late");
    worker.store.freeze(SORTED).unwrap();
    worker.store.checkpoint().unwrap();
    worker.delete(SORTED, 1, b"b");
    let checkpoint = worker.wait();
    assert_eq!(worker.get(POINTS, 1, b"a").as_deref(), Some(&b"new"[..]));
    assert_eq!(worker.get(SORTED, 1, b"b"), None);

    let restored = world.open(small(), vec![(checkpoint, ALL)]);
    assert_eq!(restored.get(POINTS, 1, b"a").as_deref(), Some(&b"old"[..]));
    assert_eq!(restored.get(POINTS, 1, b"c"), None);
    assert_eq!(restored.get(SORTED, 1, b"b").as_deref(), Some(&b"late"[..]));
}

/// Memory is bounded while a barrier is on its way, and still no file mixes what is before it with what is after it.
#[test]
fn memtables_that_fill_up_during_a_barrier_are_flushed_to_either_side_of_it() {
    let world = World::new(1 << 20);
    let mut worker = world.open(small(), vec![]);
    worker.put(POINTS, 0, b"before", b"1");
    worker.put(POINTS, 0, &1u32.to_be_bytes(), b"before");
    worker.store.freeze(POINTS).unwrap();
    for i in 0..20_000u32 {
        worker.put(POINTS, 0, &i.to_be_bytes(), &[7; 64]);
        worker.put(SORTED, 0, &(i % 100).to_be_bytes(), &i.to_le_bytes());
    }
    let stats = worker.store.stats();
    assert!(stats.memtable_bytes < (5 * 64) << 10, "{stats:?}");
    assert!(stats.flushes > 2, "{stats:?}");
    let newest = worker.get(POINTS, 0, &1u32.to_be_bytes());
    assert_eq!(newest, Some(vec![7; 64]), "reads see what is ahead");
    worker.store.freeze(SORTED).unwrap();
    worker.put(SORTED, 0, &0u32.to_be_bytes(), b"after");
    worker.store.checkpoint().unwrap();
    let checkpoint = worker.wait();
    worker.settle();
    let newest = worker.get(POINTS, 0, &1u32.to_be_bytes());
    assert_eq!(newest, Some(vec![7; 64]), "and go on seeing it");

    let restored = world.open(small(), vec![(checkpoint, ALL)]);
    let points = restored.rows(POINTS, 0);
    assert_eq!(points.len(), 2, "rows of the next epoch stay out");
    assert_eq!(points[&1u32.to_be_bytes()[..]], b"before");
    let sorted = restored.rows(SORTED, 0);
    assert_eq!(sorted.len(), 100, "rows of the epoch are all there");
    assert_eq!(sorted[&0u32.to_be_bytes()[..]], 19_900u32.to_le_bytes());

    // The next checkpoint has what was ahead.
    let next = worker.checkpoint();
    let restored = world.open(small(), vec![(next, ALL)]);
    assert_eq!(restored.rows(POINTS, 0).len(), 20_001);
    assert_eq!(restored.rows(SORTED, 0)[&0u32.to_be_bytes()[..]], b"after");
}

#[test]
fn full_memtables_are_flushed_between_checkpoints() {
    let world = World::new(1 << 20);
    let mut worker = world.open(
        StoreOptions {
            l0_files_max: 1000,
            ..small()
        },
        vec![],
    );
    for i in 0..20_000u32 {
        worker.put(POINTS, 0, &(i % 5_000).to_be_bytes(), &i.to_le_bytes());
    }
    let stats = worker.store.stats();
    assert!(stats.flushes >= 1, "{stats:?}");
    assert!(
        stats.memtable_bytes < (5 * 64) << 10,
        "writes wait for flushes: {stats:?}"
    );
    let checkpoint = worker.checkpoint();
    let restored = world.open(small(), vec![(checkpoint, ALL)]);
    for i in (0..5_000u32).step_by(97) {
        let newest = 15_000 + i;
        assert_eq!(
            restored.get(POINTS, 0, &i.to_be_bytes()),
            Some(newest.to_le_bytes().to_vec())
        );
    }
}

#[test]
fn an_empty_checkpoint_writes_nothing() {
    let world = World::new(1 << 20);
    let mut worker = world.open(small(), vec![]);
    assert_eq!(worker.checkpoint().files, []);
    worker.put(POINTS, 3, b"k", b"v");
    let first = worker.checkpoint();
    let second = worker.checkpoint();
    assert_eq!(first, second);
    assert_eq!(world.files().len(), 1);
}

#[test]
fn checkpoints_come_in_the_order_they_were_asked_for() {
    let world = World::new(1 << 20);
    let mut worker = world.open(
        StoreOptions {
            l0_files_max: 100,
            ..small()
        },
        vec![],
    );
    for round in 0..5u8 {
        worker.put(POINTS, 0, b"k", &[round]);
        worker.start_checkpoint();
    }
    for round in 0..5u8 {
        let checkpoint = worker.wait();
        assert_eq!(checkpoint.files.len(), usize::from(round) + 1);
        let restored = world.open(small(), vec![(checkpoint, ALL)]);
        assert_eq!(restored.get(POINTS, 0, b"k"), Some(vec![round]));
    }
}

#[test]
fn a_file_never_shows_more_than_the_groups_its_writer_had() {
    let world = World::new(1 << 20);
    let mut one = world.open(small(), vec![]);
    for group in 0..8 {
        one.put(POINTS, group, b"k", b"first");
    }
    let both = one.checkpoint();
    let half = |start, end| KeyGroupRange { start, end };
    let mut left = world.open(small(), vec![(both.clone(), half(0, 3))]);
    let mut right = world.open(small(), vec![(both, half(4, 7))]);
    for group in 0..4 {
        left.delete(POINTS, group, b"k");
        right.put(POINTS, group + 4, b"k", b"second");
        assert_eq!(left.get(POINTS, group + 4, b"k"), None);
        assert_eq!(right.get(POINTS, group, b"k"), None);
    }
    // The union is opened with the whole range for both: clips that were made stay.
    let again = world.open(
        small(),
        vec![(left.checkpoint(), ALL), (right.checkpoint(), ALL)],
    );
    for group in 0..4 {
        assert_eq!(again.get(POINTS, group, b"k"), None);
        assert_eq!(
            again.get(POINTS, group + 4, b"k").as_deref(),
            Some(&b"second"[..])
        );
    }
}

#[test]
fn files_no_checkpoint_named_are_deleted_and_named_ones_are_not() {
    let world = World::new(1 << 20);
    let mut worker = world.open(small(), vec![]);
    worker.put(POINTS, 0, b"k", b"v");
    let first = worker.checkpoint();
    // Between two checkpoints files come and go.
    for i in 0..30_000u32 {
        worker.put(POINTS, 0, &(i % 3_000).to_be_bytes(), &i.to_le_bytes());
    }
    worker.settle();
    let second = worker.checkpoint();
    worker.settle();
    let stats = worker.store.stats();
    assert!(stats.compactions > 0, "{stats:?}");
    let named: std::collections::BTreeSet<String> = [&first, &second]
        .iter()
        .flat_map(|c| c.files.iter().map(|f| f.path.clone()))
        .collect();
    let current = worker.checkpoint();
    let current: Vec<String> = current.files.iter().map(|f| f.path.clone()).collect();
    let expected = |path: &String| named.contains(path) || current.contains(path);
    world.until(|world| world.files().iter().all(expected));
    let there = world.files();
    for path in &named {
        assert!(
            there.contains(path),
            "{path} was named by a checkpoint and is gone"
        );
    }
}

#[test]
fn a_flush_survives_errors_that_pass_and_reports_those_that_do_not() {
    let world = World::new(1 << 20);
    let mut worker = world.open(small(), vec![]);
    worker.put(POINTS, 0, b"k", b"v");
    world
        .objects
        .fail_next(RequestKind::Put, Fault::ErrorNotApplied);
    world
        .objects
        .fail_next(RequestKind::Put, Fault::ErrorApplied);
    let checkpoint = worker.checkpoint();
    assert_eq!(checkpoint.files.len(), 1);
    world.until(|world| world.files() == [checkpoint.files[0].path.clone()]);
    let restored = world.open(small(), vec![(checkpoint, ALL)]);
    assert_eq!(restored.get(POINTS, 0, b"k").as_deref(), Some(&b"v"[..]));

    worker.put(POINTS, 0, b"k", b"w");
    for _ in 0..100 {
        world.objects.fail_next(RequestKind::Put, Fault::Throttled);
    }
    worker.start_checkpoint();
    let error = worker.try_wait().unwrap_err();
    assert_eq!(error.kind, ErrorKind::Retry);
    assert!(error.message.contains("job/shared/"), "{error}");
    assert_eq!(
        worker.store.poll().unwrap_err().kind,
        ErrorKind::Retry,
        "a lost flush is not forgotten"
    );
}

#[test]
fn wrong_calls_are_told_so() {
    let world = World::new(1 << 20);
    let mut worker = world.open(small(), vec![]);
    let unknown = TableId(99);
    assert_eq!(
        worker.store.put(unknown, 0, b"k", b"v").unwrap_err().kind,
        ErrorKind::Usage
    );
    assert_eq!(
        worker.store.get(unknown, 0, b"k").unwrap_err().kind,
        ErrorKind::Usage
    );
    assert_eq!(
        worker.store.freeze(unknown).unwrap_err().kind,
        ErrorKind::Usage
    );
    let other = aquifer_store::TableOptions {
        ordered: true,
        ..Default::default()
    };
    assert_eq!(
        worker.store.create_table(POINTS, other).unwrap_err().kind,
        ErrorKind::Usage
    );

    worker.put(POINTS, 0, b"k", b"v");
    worker.store.freeze(SORTED).unwrap();
    assert_eq!(
        worker.store.checkpoint().unwrap_err().kind,
        ErrorKind::Usage,
        "a table was forgotten"
    );
    worker.store.freeze(POINTS).unwrap();
    worker.put(POINTS, 0, b"k", b"next epoch");
    assert_eq!(
        worker.store.freeze(POINTS).unwrap_err().kind,
        ErrorKind::Usage,
        "frozen twice"
    );
    worker.store.checkpoint().unwrap();
    assert_eq!(worker.wait().files.len(), 1);
}

/// More than one part of an upload, on memory and on a real directory.
#[test]
fn large_files_are_uploaded_in_parts() {
    let roomy = || StoreOptions {
        memtable_bytes_max: 1 << 30,
        ..StoreOptions::default()
    };
    let value = |i: u32| {
        let mut random = Rng::new(u64::from(i));
        (0..128)
            .flat_map(|_| random.next_u64().to_le_bytes())
            .collect::<Vec<u8>>()
    };
    let directory = tempfile::tempdir().unwrap();
    let local = object_store::local::LocalFileSystem::new_with_prefix(directory.path()).unwrap();
    let mut on_disk = World::new(1 << 20);
    on_disk.objects = FaultyObjects::new(std::sync::Arc::new(local));
    for mut world in [World::new(1 << 20), on_disk] {
        let mut worker = world.open(roomy(), vec![]);
        for i in 0..24_000u32 {
            worker.put(POINTS, (i % 100) as u16, &i.to_be_bytes(), &value(i));
        }
        // A part fails on its way; the flush starts again under another name.
        world
            .objects
            .fail_next(RequestKind::MultipartPart, Fault::ErrorNotApplied);
        let checkpoint = worker.checkpoint();
        let counts = world.objects.take_counts();
        // Two threads build a file each; the other file of the attempt that failed may have been complete.
        assert!((2..=3).contains(&counts.requests(RequestKind::MultipartComplete)));
        assert!(
            counts.requests(RequestKind::MultipartPart) >= 4,
            "{counts:?}"
        );
        let sizes: Vec<u64> = checkpoint.files.iter().map(|f| f.size_bytes).collect();
        assert_eq!(sizes.len(), 2);
        assert!(sizes.iter().all(|&size| size > 10 << 20), "{sizes:?}");
        assert_eq!(worker.store.stats().l0_runs, 1, "they count as one run");
        drop(worker);
        world.forget_cache();
        let restored = world.open(roomy(), vec![(checkpoint, ALL)]);
        for i in (0..24_000u32).step_by(977) {
            assert_eq!(
                restored.get(POINTS, (i % 100) as u16, &i.to_be_bytes()),
                Some(value(i))
            );
        }
    }
}
