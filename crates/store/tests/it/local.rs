//! Stores whose object store is a local directory: files are read where they lie.
use std::sync::Arc;

use aquifer_store::{ErrorKind, Lookup, StoreOptions};
use aquifer_testkit::{FaultyObjects, RequestKind};
use object_store::local::LocalFileSystem;

use crate::harness::{ALL, POINTS, SORTED, World, small};

fn local_world(dir: &std::path::Path, cache_bytes: u64) -> World {
    let objects = LocalFileSystem::new_with_prefix(dir).unwrap();
    let mut world = World::new(cache_bytes);
    world.objects = FaultyObjects::new(Arc::new(objects));
    world.local_root = Some(dir.into());
    world
}

#[test]
fn cold_reads_ask_the_disk_and_not_the_object_store() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = local_world(dir.path(), 16 << 10);
    let mut worker = world.open(small(), vec![]);
    let value = |i: u32| i.to_le_bytes().repeat(8);
    for i in 0..20_000u32 {
        worker.put(SORTED, (i % 4) as u16, &i.to_be_bytes(), &value(i));
    }
    let checkpoint = worker.checkpoint();
    drop(worker);
    world.forget_cache();
    for read_io_parallelism in [1, 4] {
        let options = StoreOptions {
            read_io_parallelism,
            ..small()
        };
        world.objects.take_counts();
        let store = world.open(options, vec![(checkpoint.clone(), ALL)]);
        let keys: Vec<[u8; 4]> = (0..30_000u32).step_by(7).map(u32::to_be_bytes).collect();
        for keys in keys.chunks(500) {
            let asked: Vec<(u16, &[u8])> = keys
                .iter()
                .map(|key| ((u32::from_be_bytes(*key) % 4) as u16, &key[..]))
                .collect();
            let answers = store.multi_get(SORTED, &asked);
            for (key, answer) in keys.iter().zip(answers) {
                let i = u32::from_be_bytes(*key);
                assert_eq!(answer, (i < 20_000).then(|| value(i)), "{i}");
            }
        }
        assert_eq!(store.rows(SORTED, 3).len(), 5_000);
        assert_eq!(world.objects.take_counts().requests(RequestKind::Get), 0);
    }
}

#[test]
fn compactions_read_from_disk_and_remove_what_no_checkpoint_names() {
    let dir = tempfile::tempdir().unwrap();
    let world = local_world(dir.path(), 16 << 10);
    let mut worker = world.open(small(), vec![]);
    for i in 0..20_000u32 {
        worker.put(
            POINTS,
            0,
            &(i % 3_000).to_be_bytes(),
            &i.to_le_bytes().repeat(8),
        );
        if i % 5_000 == 4_999 {
            // What is compacted before any checkpoint names it is the store's to delete.
            worker.settle();
        }
    }
    let checkpoint = worker.checkpoint();
    worker.settle();
    for i in (17_000..20_000u32).step_by(3) {
        let key = (i % 3_000).to_be_bytes();
        assert_eq!(worker.get(POINTS, 0, &key), Some(i.to_le_bytes().repeat(8)));
    }
    let stats = worker.store.stats();
    assert!(stats.compactions > 0);
    world.until(|world| world.objects.counts().requests(RequestKind::Delete) > 0);
    assert_eq!(world.objects.counts().requests(RequestKind::Get), 0);
    assert!(!checkpoint.files.is_empty());
}

#[test]
fn a_file_that_is_gone_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = local_world(dir.path(), 8 << 20);
    let mut worker = world.open(small(), vec![]);
    worker.put(POINTS, 0, b"k", b"v");
    let checkpoint = worker.checkpoint();
    drop(worker);
    world.forget_cache();
    std::fs::remove_file(dir.path().join(&checkpoint.files[0].path)).unwrap();
    let worker = world.open(small(), vec![(checkpoint, ALL)]);
    assert!(matches!(
        worker.store.get(POINTS, 0, b"k"),
        Ok(Lookup::Cold(_))
    ));
    let error = worker.try_get(POINTS, 0, b"k").unwrap_err();
    assert_eq!(error.kind, ErrorKind::Missing);
}
