//! Stores with a cache of files on the local disk.
use std::sync::Arc;

use aquifer_store::{Checkpoint, FileCache, FileCacheOptions, LocalDisk, StoreOptions};
use aquifer_testkit::RequestKind;

use crate::harness::{ALL, POINTS, World, small};

fn open_cache(dir: &std::path::Path, access_before_promote: u32) -> Arc<FileCache> {
    let options = FileCacheOptions {
        directory: dir.into(),
        job: "job".into(),
        size_limit_bytes: 64 << 20,
        reserve_bytes: 0,
        access_before_promote,
    };
    FileCache::open(options, Arc::new(LocalDisk)).unwrap()
}

fn value(i: u32) -> Vec<u8> {
    // Does not compress, so that files are as large as their rows.
    let mut random = aquifer_testkit::Rng::new(i.into());
    (0..12)
        .flat_map(|_| random.next_u64().to_le_bytes())
        .collect()
}

/// A checkpoint of some megabytes, written by a worker with these surroundings.
fn filled(world: &World) -> Checkpoint {
    let options = StoreOptions {
        memtable_bytes_max: 1 << 30,
        file_bytes_target: 8 << 20,
        ..small()
    };
    let mut worker = world.open(options, vec![]);
    for i in 0..30_000u32 {
        worker.put(POINTS, 0, &i.to_be_bytes(), &value(i));
    }
    worker.checkpoint()
}

fn read_some(world: &World, checkpoint: &Checkpoint, step: usize) {
    let worker = world.open(small(), vec![(checkpoint.clone(), ALL)]);
    for i in (0..30_000u32).step_by(step) {
        assert_eq!(
            worker.get(POINTS, 0, &i.to_be_bytes()),
            Some(value(i)),
            "{i}"
        );
    }
}

#[test]
fn what_was_written_is_read_from_disk_also_by_the_next_process() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::new(64 << 10);
    world.file_cache = Some(open_cache(dir.path(), 6));
    let checkpoint = filled(&world);
    let bytes: u64 = checkpoint.files.iter().map(|file| file.size_bytes).sum();
    world.until_file_cache_rests();
    let adopted = world.file_cache.as_ref().unwrap().stats().files;
    assert_eq!(adopted, checkpoint.files.len() as u64);
    for restart in [false, true] {
        if restart {
            world.forget_cache();
            // As long as somebody uses it, its directory belongs to this process.
            world.until_file_cache_rests();
            world.file_cache = None;
            world.file_cache = Some(open_cache(dir.path(), 6));
        }
        world.objects.take_counts();
        read_some(&world, &checkpoint, 97);
        assert_eq!(
            world.objects.take_counts().requests(RequestKind::Get),
            0,
            "restart: {restart}"
        );
        let stats = world.file_cache.as_ref().unwrap().stats();
        assert!(stats.hits > 100 && stats.misses == 0, "{stats:?}");
        assert!(
            stats.used_bytes >= bytes && stats.used_bytes <= 64 << 20,
            "{stats:?}"
        );
    }
}

#[test]
fn a_cold_process_fills_its_cache_by_reading() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::new(64 << 10);
    let checkpoint = filled(&world);
    world.forget_cache();
    world.file_cache = Some(open_cache(dir.path(), 3));
    read_some(&world, &checkpoint, 50);
    let stats = |world: &World| world.file_cache.as_ref().unwrap().stats();
    assert!(stats(&world).misses > 0);
    // Chunks are fetched behind the reader's back; read until all are there.
    world.until(|world| {
        world.objects.take_counts();
        read_some(world, &checkpoint, 500);
        world.objects.take_counts().requests(RequestKind::Get) == 0
    });
    assert!(stats(&world).refilled >= 3, "{:?}", stats(&world));
}

#[test]
fn a_cache_that_lies_or_is_gone_changes_no_answer() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::new(64 << 10);
    world.file_cache = Some(open_cache(dir.path(), 6));
    let checkpoint = filled(&world);
    world.until_file_cache_rests();
    let adopted = world.file_cache.as_ref().unwrap().stats().files;
    assert_eq!(adopted, checkpoint.files.len() as u64);
    // Bits flip under a running process, which does not check its chunks again.
    for file in std::fs::read_dir(dir.path().join("job")).unwrap() {
        let path = file.unwrap().path();
        if path
            .extension()
            .is_some_and(|extension| extension == "chunks")
        {
            let mut bytes = std::fs::read(&path).unwrap();
            bytes
                .iter_mut()
                .step_by(3_001)
                .for_each(|byte| *byte ^= 0x10);
            std::fs::write(&path, bytes).unwrap();
        }
    }
    world.forget_cache();
    read_some(&world, &checkpoint, 97);
    // Chunks that were wrong are fetched again behind the reader's back.
    world.until_file_cache_rests();
    std::fs::remove_dir_all(dir.path().join("job")).unwrap();
    world.forget_cache();
    read_some(&world, &checkpoint, 97);
}

#[test]
fn what_was_hot_is_fetched_after_a_restore_before_anyone_asks() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut world = World::new(64 << 10);
    world.file_cache = Some(open_cache(here.path(), 1_000));
    let mut checkpoint = filled(&world);
    world.forget_cache();
    let hot = || (9_000..10_000u32).step_by(7);
    {
        let mut worker = world.open(small(), vec![(checkpoint, ALL)]);
        for i in hot() {
            assert_eq!(worker.get(POINTS, 0, &i.to_be_bytes()), Some(value(i)));
        }
        checkpoint = worker.checkpoint();
    }
    // A version, and so few chunks that a byte says how many.
    let warm_chunks = u64::from(checkpoint.warm[1]);
    assert!((2..128).contains(&warm_chunks), "{:?}", checkpoint.warm);
    // Another machine.
    world.forget_cache();
    let cache = open_cache(there.path(), 1_000);
    world.file_cache = Some(cache.clone());
    let worker = world.open(small(), vec![(checkpoint.clone(), ALL)]);
    world.until(|_| cache.stats().refilled == warm_chunks);
    world.objects.take_counts();
    for i in hot() {
        assert_eq!(worker.get(POINTS, 0, &i.to_be_bytes()), Some(value(i)));
    }
    assert_eq!(world.objects.take_counts().requests(RequestKind::Get), 0);
    // A list that is no list is no reason to refuse a checkpoint.
    checkpoint.warm = vec![9; 9].into();
    let worker = world.open(small(), vec![(checkpoint, ALL)]);
    assert_eq!(worker.get(POINTS, 0, &1u32.to_be_bytes()), Some(value(1)));
}
