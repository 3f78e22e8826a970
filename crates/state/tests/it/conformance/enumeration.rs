//! Which keys and namespaces hold something.
use std::collections::BTreeSet;

use aquifer_state::key_group::{KeyHash, assign_to_key_group};
use aquifer_state::{
    BackendKind, ListState, ListStateDescriptor, MapState, MapStateDescriptor, ValueState,
    ValueStateDescriptor,
};
use aquifer_store::SCAN_BYTES_MAX;
use futures_util::StreamExt;

use crate::cases::{all, ask, conformance};
use crate::world::{MAX_PARALLELISM, Saved, Worker, World, checkpoint_all};

conformance!(
    keys_of_a_namespace_are_those_that_hold_something,
    keys_and_namespaces_are_listed_once,
    a_key_of_a_large_map_is_listed_once,
    entries_are_counted,
    applying_to_all_keys_meets_each_once,
    applying_to_all_keys_may_clear_and_write,
    only_own_key_groups_are_listed,
    large_values_are_walked_in_pieces,
);

fn keys_of_a_namespace_are_those_that_hold_something(world: &World) {
    for enumerable in [false, true] {
        let open = |worker: &Worker| {
            let store = worker.store::<u32>("op");
            let mut descriptor = ValueStateDescriptor::<u8>::new("v").namespace::<String>();
            if enumerable {
                descriptor = descriptor.enumerable();
            }
            let value = store.value_state(&descriptor).unwrap();
            let other = ValueStateDescriptor::<u8>::new("other").namespace::<String>();
            (store.value_state(&other).unwrap(), value, store)
        };
        let worker = world.worker();
        let (other, value, store) = open(&worker);
        let (a, b) = ("a".to_string(), "b".to_string());
        for key in 0..1000 {
            store.set_current_key(&key);
            value.set_namespace(if key < 500 { &a } else { &b });
            value.put(1).unwrap();
        }
        let sorted = |mut keys: Vec<u32>| {
            keys.sort_unstable();
            keys
        };
        assert!(
            sorted(all!(worker, store.keys(&value, &a)))
                .into_iter()
                .eq(0..500)
        );
        assert!(
            sorted(all!(worker, store.keys(&value, &b)))
                .into_iter()
                .eq(500..1000)
        );
        assert!(all!(worker, store.keys(&value, &"c".into())).is_empty());
        assert!(all!(worker, store.keys(&other, &a)).is_empty());
        value.set_namespace(&a);
        for key in 0..250 {
            store.set_current_key(&key);
            value.clear().unwrap();
        }
        let worker = world.restore(&worker.checkpoint(1));
        let (_, value, store) = open(&worker);
        let left = sorted(all!(worker, store.keys(&value, &a)));
        assert!(left.into_iter().eq(250..500), "{}", world.name());
        for key in 0..1000 {
            store.set_current_key(&key);
            value.set_namespace(if key < 500 { &a } else { &b });
            value.clear().unwrap();
        }
        assert!(all!(worker, store.keys(&value, &a)).is_empty());
        assert!(all!(worker, store.keys_and_namespaces(&value)).is_empty());
    }
}

fn keys_and_namespaces_are_listed_once(world: &World) {
    let worker = world.worker();
    let store = worker.store::<i64>("op");
    let descriptor = ValueStateDescriptor::<u8>::new("v").namespace::<String>();
    let value = store.value_state(&descriptor).unwrap();
    let other: ValueState<u8> = store.value_state(&ValueStateDescriptor::new("w")).unwrap();
    for key in 0..1000 {
        store.set_current_key(&key);
        for namespace in ["a", "b"] {
            value.set_namespace(&namespace.into());
            value.put(1).unwrap();
        }
        store.set_current_key(&-key);
        other.put(1).unwrap();
    }
    let listed = all!(worker, store.keys_and_namespaces(&value));
    assert_eq!(listed.len(), 2000);
    let distinct: BTreeSet<(i64, String)> = listed.into_iter().collect();
    let expected = (0..1000).flat_map(|key| [(key, "a".to_string()), (key, "b".to_string())]);
    assert!(distinct.into_iter().eq(expected), "{}", world.name());
}

fn a_key_of_a_large_map_is_listed_once(world: &World) {
    const KEYS: u32 = 4;
    let open = |worker: &Worker| {
        let store = worker.store::<u32>("op");
        let map = MapStateDescriptor::<u32, u8>::new("m").namespace::<u8>();
        let list = ListStateDescriptor::<u32>::new("l")
            .namespace::<u8>()
            .chunk_bytes_max(64);
        (
            store.map_state(&map).unwrap(),
            store.list_state(&list).unwrap(),
            store,
        )
    };
    let worker = world.worker();
    let (map, list, store) = open(&worker);
    let mut expected = Vec::new();
    for key in 0..KEYS {
        store.set_current_key(&key);
        for namespace in [1, 2] {
            map.set_namespace(&namespace);
            list.set_namespace(&namespace);
            for entry in 0..1500 {
                map.put(&entry, &1).unwrap();
            }
            list.add_all(&[7; 500]).unwrap();
            expected.push((key, namespace));
        }
    }
    // Nothing is left of this one.
    store.set_current_key(&99);
    map.put(&1, &1).unwrap();
    map.remove(&1).unwrap();
    let worker = world.restore(&worker.checkpoint(1));
    let (map, list, store) = open(&worker);
    let mut of_map = all!(worker, store.keys_and_namespaces(&map));
    let mut of_list = all!(worker, store.keys_and_namespaces(&list));
    of_map.sort_unstable();
    of_list.sort_unstable();
    assert_eq!(of_map, expected, "{}", world.name());
    assert_eq!(of_list, expected, "{}", world.name());
    assert_eq!(all!(worker, store.keys(&map, &2)).len(), KEYS as usize);
}

fn entries_are_counted(world: &World) {
    let open = |worker: &Worker| {
        let store = worker.store::<u32>("op");
        let value: ValueState<u8> = store.value_state(&ValueStateDescriptor::new("v")).unwrap();
        (store, value)
    };
    let worker = world.worker();
    let (store, value) = open(&worker);
    assert_eq!(ask!(worker, store.entry_count(&value)), 0);
    for key in [0, 1] {
        store.set_current_key(&key);
        value.put(1).unwrap();
        value.put(2).unwrap();
        assert_eq!(ask!(worker, store.entry_count(&value)), u64::from(key) + 1);
    }
    store.set_current_key(&0);
    value.clear().unwrap();
    assert_eq!(ask!(worker, store.entry_count(&value)), 1);
    let worker = world.restore(&worker.checkpoint(1));
    let (store, value) = open(&worker);
    assert_eq!(ask!(worker, store.entry_count(&value)), 1);
    store.set_current_key(&1);
    value.clear().unwrap();
    assert_eq!(ask!(worker, store.entry_count(&value)), 0);
}

fn applying_to_all_keys_meets_each_once(world: &World) {
    let saved = {
        let worker = world.worker();
        let store = worker.store::<u32>("op");
        let value: ValueState<u32> = store.value_state(&ValueStateDescriptor::new("v")).unwrap();
        for key in 0..200 {
            store.set_current_key(&key);
            value.put(key).unwrap();
        }
        worker.checkpoint(1)
    };
    let worker = world.restore(&saved);
    let store = worker.store::<u32>("op");
    let value: ValueState<u32> = store.value_state(&ValueStateDescriptor::new("v")).unwrap();
    store.set_current_key(&7);
    let mut seen = Vec::new();
    if worker.is_v2() {
        let act = async |key: &u32, value: &ValueState<u32>| {
            // Cold on forst: the key is still this one afterwards.
            let n = value.get().await?.unwrap();
            seen.push((*key, n));
            value.put(n + 1)
        };
        worker
            .run(store.apply_to_all_keys(&value, &(), act))
            .unwrap();
    } else {
        let act = |key: &u32, value: &ValueState<u32>| {
            let n = value.value()?.unwrap();
            seen.push((*key, n));
            value.put(n + 1)
        };
        store.sync().apply_to_all_keys(&value, &(), act).unwrap();
    }
    seen.sort_unstable();
    assert!(
        seen.into_iter().eq((0..200).map(|key| (key, key))),
        "{}",
        world.name()
    );
    // The current key is what it was.
    assert_eq!(worker.value(&value), Some(8));
    for key in 0..200 {
        store.set_current_key(&key);
        assert_eq!(worker.value(&value), Some(key + 1));
    }
}

fn applying_to_all_keys_may_clear_and_write(world: &World) {
    let worker = world.worker();
    let store = worker.store::<u32>("op");
    let descriptor = ValueStateDescriptor::<u32>::new("v").namespace::<u8>();
    let value = store.value_state(&descriptor).unwrap();
    for key in 0..200 {
        store.set_current_key(&key);
        for namespace in [1, 2] {
            value.set_namespace(&namespace);
            value.put(key + 1).unwrap();
        }
    }
    value.set_namespace(&2);
    let mut seen = BTreeSet::new();
    let mut added = 10_000;
    let mut act = |key: u32, n: Option<u32>| {
        assert!(seen.insert(key), "{key} came twice, {}", world.name());
        if key >= 10_000 {
            return Ok(());
        }
        if key.is_multiple_of(3) {
            value.clear()?;
        } else {
            value.put(n.unwrap() * 2)?;
        }
        if added < 10_005 {
            // Another key in the same namespace.
            store.set_current_key(&added);
            added += 1;
            value.put(1)?;
            store.set_current_key(&key);
        }
        Ok(())
    };
    if worker.is_v2() {
        let act = async |key: &u32, value: &_| {
            let value: &ValueState<u32, _, u8> = value;
            let n = value.get().await?;
            act(*key, n)
        };
        worker
            .run(store.apply_to_all_keys(&value, &1, act))
            .unwrap();
    } else {
        let act = |key: &u32, value: &ValueState<u32, _, u8>| act(*key, value.value()?);
        store.sync().apply_to_all_keys(&value, &1, act).unwrap();
    }
    assert!(seen.iter().filter(|key| **key < 10_000).copied().eq(0..200));
    // The namespace is what it was, and what is in it was not touched.
    store.set_current_key(&3);
    assert_eq!(ask!(worker, value.get()), Some(4));
    value.set_namespace(&1);
    for key in 0..200 {
        store.set_current_key(&key);
        let expected = (key % 3 != 0).then_some((key + 1) * 2);
        assert_eq!(ask!(worker, value.get()), expected);
    }
}

fn only_own_key_groups_are_listed(world: &World) {
    let open = |worker: &Worker| {
        let store = worker.store::<u32>("op");
        let value: ValueState<u8> = store.value_state(&ValueStateDescriptor::new("v")).unwrap();
        (store, value)
    };
    let workers = world.workers(3, &Saved::default());
    for worker in &workers {
        let (store, value) = open(worker);
        for key in (0..300).filter(|key| worker.owns(key)) {
            store.set_current_key(&key);
            value.put(1).unwrap();
        }
    }
    let saved = checkpoint_all(&workers, 1);
    let mut listed = Vec::new();
    for worker in world.workers(2, &saved) {
        let (store, value) = open(&worker);
        let keys = all!(worker, store.keys(&value, &()));
        assert!(keys.iter().all(|key| worker.owns(key)));
        listed.extend(keys);
    }
    listed.sort_unstable();
    assert!(listed.into_iter().eq(0..300), "{}", world.name());
}

/// An enumeration that is dropped early has not looked at everything.
#[test]
fn enumeration_loads_bounded_pieces() {
    let mut world = World::forst(true);
    world.cache_bytes = 0;
    // One sorted run: what is read depends on where rows lie, and that on which compactions came first.
    world.options.memtable_bytes_max = 64 << 20;
    let open = |worker: &Worker| {
        let store = worker.store::<u32>("op");
        let map: MapState<u32, u64> = store.map_state(&MapStateDescriptor::new("m")).unwrap();
        let list: ListState<u32> = store.list_state(&ListStateDescriptor::new("l")).unwrap();
        (store, map, list)
    };
    let worker = world.worker();
    let (store, map, list) = open(&worker);
    for key in 0..20 {
        store.set_current_key(&key);
        for entry in 0..3000 {
            map.put(&entry, &7).unwrap();
        }
        list.add(&1).unwrap();
    }
    let saved = worker.checkpoint(1);
    let bytes_of = |take: usize| {
        let worker = world.restore(&saved);
        let (store, map, _) = open(&worker);
        let before = world.objects.counts();
        let keys = worker.run(store.keys(&map, &()).take(take).collect::<Vec<_>>());
        assert_eq!(keys.len(), take.min(20));
        world.objects.counts().bytes_read - before.bytes_read
    };
    let (all, one) = (bytes_of(100), bytes_of(1));
    // Reading every entry, in one scan per key group: the least that it can cost.
    let worker = world.restore(&saved);
    open(&worker);
    let before = world.objects.counts();
    assert_eq!(worker.rows("m").len(), 20 * 3000);
    let entries = world.objects.counts().bytes_read - before.bytes_read;
    assert!(one * 4 < all, "{one} bytes for one key, {all} for all");
    assert!(
        all * 4 < entries * 3,
        "{all} bytes for the keys, {entries} for all their entries"
    );
}

/// An enumeration looks at 65,536 rows together; their values were all in memory at once, however large.
fn large_values_are_walked_in_pieces(world: &World) {
    const VALUE_BYTES: usize = SCAN_BYTES_MAX / 4;
    let mut world = World::like(world);
    world.options.memtable_bytes_max = 64 << 20;
    let worker = world.worker();
    let store = worker.store::<u32>("op");
    let descriptor = ValueStateDescriptor::<String>::new("v").enumerable();
    let value = store.value_state(&descriptor).unwrap();
    let group = |key: &u32| assign_to_key_group(key.hash_code(), MAX_PARALLELISM);
    let keys: Vec<u32> = (0..).filter(|key| group(key) == 3).take(10).collect();
    let large = "x".repeat(VALUE_BYTES);
    for key in &keys {
        store.set_current_key(key);
        value.put(large.clone()).unwrap();
    }
    let worker = world.restore(&worker.checkpoint(1));
    let store = worker.store::<u32>("op");
    let value = store.value_state(&descriptor).unwrap();
    let mut found = all!(worker, store.keys(&value, &()));
    found.sort_unstable();
    assert_eq!(found, keys, "{}", world.name());
    assert_eq!(ask!(worker, store.entry_count(&value)), 10);
    if world.kind.get() != BackendKind::Hashmap {
        let (_, table) = worker.backend.borrow().tables()[0].clone();
        let scanned = worker.access.scan_blocking(table, 3, &[], &[], None, 1000);
        let scanned = scanned.unwrap();
        assert_eq!((scanned.rows.len(), scanned.done), (4, false));
    }
}
