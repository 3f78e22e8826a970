//! What goes wrong in Flink 2.3 and must be right here, as far as no other file tests it by name.
use aquifer_state::{
    KeyedStateStore, ListState, ListStateDescriptor, MapState, MapStateDescriptor, ValueState,
    ValueStateDescriptor,
};
use futures_util::StreamExt;

use crate::cases::{all, conformance};
use crate::world::{Worker, World, checkpoint_all, owner};

conformance!(lists_of_many_chunks_go_on_where_they_are_restored);

fn values(worker: &Worker) -> (KeyedStateStore<u32>, ValueState<Vec<u8>>) {
    let store = worker.store::<u32>("op");
    let value = store.value_state(&ValueStateDescriptor::new("v")).unwrap();
    (store, value)
}

/// Flink (FLINK-37367) uploads files again after a restore that the restored checkpoint has. The first checkpoint after a restore costs what has
/// changed, and does not need the one it began with.
#[test]
fn the_checkpoint_after_a_restore_names_the_restored_files() {
    let mut world = World::forst(true);
    let worker = world.worker();
    let (store, value) = values(&worker);
    for key in 0..2000u32 {
        store.set_current_key(&key);
        // What cannot be compressed.
        let bytes: Vec<u8> = (0..100u32)
            .map(|i| (key.wrapping_mul(2_654_435_761) >> (i % 24)) as u8 ^ i as u8)
            .collect();
        value.put(bytes).unwrap();
    }
    let saved = worker.settled(1);
    drop((worker, store, value));
    // A compaction that the new file sets off rewrites what has not changed: that is not what the checkpoint costs.
    world.options.l0_files_max = usize::MAX;
    let worker = world.restore(&saved);
    let (store, value) = values(&worker);
    let written = world.objects.counts().bytes_written;
    store.set_current_key(&7);
    value.put(vec![1]).unwrap();
    let next = worker.checkpoint(2);
    let written = world.objects.counts().bytes_written - written;
    let paths = |saved: &crate::world::Saved| -> Vec<String> {
        let files = saved.keyed.iter().flat_map(|(_, part)| &part.files.files);
        files.map(|file| file.path.clone()).collect()
    };
    let (before, after) = (paths(&saved), paths(&next));
    let kept = before.iter().filter(|path| after.contains(path)).count();
    assert!(
        kept * 2 > before.len(),
        "{kept} of {} files are named again",
        before.len()
    );
    assert!(written < 100 << 10, "{written} bytes for one key");
    let worker = world.restore(&next);
    let (store, value) = values(&worker);
    store.set_current_key(&7);
    assert_eq!(worker.value(&value), Some(vec![1]));
    store.set_current_key(&8);
    assert_eq!(worker.value(&value).map(|bytes| bytes.len()), Some(100));
}

/// Flink keeps rows of other workers after a rescale until compactions come by, and clips by copying. Here they are never seen, and
/// compactions leave them out.
#[test]
fn rows_of_other_workers_fall_out() {
    let mut world = World::forst(true);
    let worker = world.worker();
    let open = |worker: &Worker| -> (KeyedStateStore<u32>, MapState<u32, u64>) {
        let store = worker.store::<u32>("op");
        let map = store.map_state(&MapStateDescriptor::new("m")).unwrap();
        (store, map)
    };
    let (store, map) = open(&worker);
    for key in 0..200u32 {
        store.set_current_key(&key);
        (0..40).for_each(|entry| map.put(&entry, &u64::from(key)).unwrap());
    }
    let saved = worker.settled(1);
    let bytes = |saved: &crate::world::Saved| -> u64 {
        let files = saved.keyed.iter().flat_map(|(_, part)| &part.files.files);
        files.map(|file| file.size_bytes).sum()
    };
    let before = bytes(&saved);
    // At rest nothing is left in level 0, where old rows could stay below new ones.
    world.options.l0_files_max = 1;
    let workers = world.workers(4, &saved);
    for worker in &workers {
        let (store, map) = open(worker);
        for key in (0..200).filter(|key| worker.owns(key)) {
            store.set_current_key(&key);
            assert_eq!(worker.map_entries(&map).len(), 40);
            // Everything is written once more, so that it is compacted.
            (0..40).for_each(|entry| map.put(&entry, &1).unwrap());
        }
        assert_eq!(
            worker.rows("m").len(),
            40 * (0..200).filter(|key| worker.owns(key)).count()
        );
    }
    let after: u64 = workers.iter().map(|worker| bytes(&worker.settled(2))).sum();
    assert!(after <= before * 3 / 2, "{before} bytes became {after}");
}

/// RocksDB's lists are one value, which ends at 2^31 bytes without a word. Ours are chunks, here of 64 bytes: they go on after a restore
/// on other workers, element for element.
fn lists_of_many_chunks_go_on_where_they_are_restored(world: &World) {
    let open = |worker: &Worker| -> (KeyedStateStore<u32>, ListState<u32>) {
        let store = worker.store::<u32>("op");
        let list = ListStateDescriptor::new("l").chunk_bytes_max(64);
        let list = store.list_state(&list).unwrap();
        (store, list)
    };
    let mut workers = world.workers(1, &crate::world::Saved::default());
    for (id, parallelism) in (1..).zip([3, 1, 8, 2]) {
        for worker in &workers {
            let (store, list) = open(worker);
            for key in (0..8u32).filter(|key| worker.owns(key)) {
                store.set_current_key(&key);
                let more: Vec<u32> = (0..300).map(|i| id as u32 * 1000 + i).collect();
                list.add_all(&more).unwrap();
            }
        }
        let saved = checkpoint_all(&workers, id);
        workers = world.workers(parallelism, &saved);
    }
    for key in 0..8u32 {
        let worker = owner(&workers, &key);
        let (store, list) = open(worker);
        store.set_current_key(&key);
        let expected: Vec<u32> = (1..=4)
            .flat_map(|id| (0..300).map(move |i| id * 1000 + i))
            .collect();
        assert_eq!(
            all!(worker, list.get()),
            expected,
            "key {key}, {}",
            world.name()
        );
    }
}

/// The same beyond what any value can be.
#[test]
#[ignore = "writes two gibibytes: cargo test -p aquifer-state --test it -- --ignored longer_than_two_gibibytes"]
fn a_list_is_longer_than_two_gibibytes() {
    let mut world = World::forst(true);
    world.options = aquifer_store::StoreOptions::default();
    world.cache_bytes = 64 << 20;
    let worker = world.worker();
    let store = worker.store::<u32>("op");
    let list: ListState<Vec<u8>> = store.list_state(&ListStateDescriptor::new("l")).unwrap();
    store.set_current_key(&1);
    let elements = (1u64 << 31) / (1 << 20) + 1;
    for i in 0..elements {
        list.add(&vec![i as u8; 1 << 20]).unwrap();
        worker.backend.borrow_mut().poll().unwrap();
    }
    let saved = worker.checkpoint(1);
    let worker = world.restore(&saved);
    let store = worker.store::<u32>("op");
    let list: ListState<Vec<u8>> = store.list_state(&ListStateDescriptor::new("l")).unwrap();
    store.set_current_key(&1);
    let mut read = list.get();
    let mut seen = 0u64;
    while let Some(element) = worker.run(read.next()) {
        let element = element.unwrap();
        assert_eq!((element.len(), element[0]), (1 << 20, seen as u8));
        seen += 1;
    }
    assert_eq!(seen, elements);
}
