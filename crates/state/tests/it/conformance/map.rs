//! Map state.
use std::collections::BTreeMap;

use aquifer_state::{MapState, MapStateDescriptor};
use futures_util::{StreamExt, TryStreamExt};

use crate::cases::{all, ask, conformance};
use crate::world::{Worker, World};

conformance!(
    entries_belong_to_their_key,
    iteration_is_in_the_order_of_user_keys,
    iteration_survives_removals,
    emptiness,
    keys_that_start_alike_do_not_mix,
    two_snapshots_restore_as_of_their_time,
    an_absent_map_is_empty,
    none_is_a_user_value_like_another,
    iterations_end_where_the_entries_do,
    entries_can_be_changed_and_removed_on_the_way,
    an_iteration_may_use_state_on_its_way,
    clearing_a_large_map_leaves_nothing,
);

fn entries_belong_to_their_key(world: &World) {
    let worker = world.worker();
    let store = worker.store::<i32>("op");
    let map: MapState<String, i64> = store.map_state(&MapStateDescriptor::new("m")).unwrap();
    store.set_current_key(&1);
    assert_eq!(worker.map_get(&map, &"a".into()), None);
    map.put(&"a".into(), &1).unwrap();
    map.put_all([(&"b".to_string(), &2), (&"c".to_string(), &3)])
        .unwrap();
    store.set_current_key(&2);
    map.sync().put(&"a".into(), &-1).unwrap();
    store.set_current_key(&1);
    assert_eq!(worker.map_get(&map, &"a".into()), Some(1));
    assert!(worker.map_contains(&map, &"b".into()));
    assert!(!worker.map_contains(&map, &"z".into()));
    map.remove(&"b".into()).unwrap();
    map.remove(&"never there".into()).unwrap();
    map.put(&"c".into(), &30).unwrap();
    assert_eq!(
        worker.map_entries(&map),
        [("a".into(), 1), ("c".into(), 30)]
    );
    store.set_current_key(&2);
    assert_eq!(worker.map_entries(&map), [("a".into(), -1)]);
}

fn iteration_is_in_the_order_of_user_keys(world: &World) {
    let worker = world.worker();
    let store = worker.store::<i32>("op");
    let map: MapState<i32, String> = store.map_state(&MapStateDescriptor::new("m")).unwrap();
    let mut expected = BTreeMap::new();
    for key in [7, 8] {
        store.set_current_key(&key);
        for i in 0..1000i32 {
            let user_key = (i * 7919) % 1000 - 500;
            map.put(&user_key, &format!("{key}/{user_key}")).unwrap();
            if key == 7 {
                expected.insert(user_key, format!("{key}/{user_key}"));
            }
        }
    }
    store.set_current_key(&7);
    let entries = worker.map_entries(&map);
    assert_eq!(entries, expected.clone().into_iter().collect::<Vec<_>>());
    let keys: Vec<i32> = expected.keys().copied().collect();
    let values: Vec<String> = expected.into_values().collect();
    assert_eq!(worker.collect(map.keys()), keys);
    assert_eq!(worker.collect(map.values()), values);
    assert_eq!(
        map.sync().keys().collect::<Result<Vec<_>, _>>().unwrap(),
        keys
    );
    assert_eq!(
        map.sync().values().collect::<Result<Vec<_>, _>>().unwrap(),
        values
    );
}

/// As Flink's testMapStateIteratorArbitraryAccess: 4096 entries, every other one is removed on the way.
fn iteration_survives_removals(world: &World) {
    let worker = world.worker();
    let store = worker.store::<i32>("op");
    let map: MapState<u32, u32> = store.map_state(&MapStateDescriptor::new("m")).unwrap();
    store.set_current_key(&1);
    for i in 0..4096u32 {
        map.put(&i, &(i * 2)).unwrap();
    }
    let mut seen = 0;
    if world.asynchronous.get() {
        worker
            .run(map.entries().try_for_each(|(key, value)| {
                assert_eq!((key, value), (seen, seen * 2));
                seen += 1;
                futures_util::future::ready(if key % 2 == 0 {
                    map.remove(&key)
                } else {
                    Ok(())
                })
            }))
            .unwrap();
    } else {
        for entry in map.sync().entries() {
            let (key, value) = entry.unwrap();
            assert_eq!((key, value), (seen, seen * 2));
            seen += 1;
            if key % 2 == 0 {
                map.remove(&key).unwrap();
            }
        }
    }
    assert_eq!(seen, 4096);
    let left = worker.map_entries(&map);
    assert_eq!(left.len(), 2048);
    assert!(left.iter().all(|(key, _)| key % 2 == 1));
}

fn emptiness(world: &World) {
    let worker = world.worker();
    let store = worker.store::<i32>("op");
    let map: MapState<u16, ()> = store.map_state(&MapStateDescriptor::new("m")).unwrap();
    store.set_current_key(&1);
    assert!(worker.map_is_empty(&map));
    map.put(&3, &()).unwrap();
    assert!(!worker.map_is_empty(&map));
    map.remove(&3).unwrap();
    assert!(worker.map_is_empty(&map));
    for i in 0..300 {
        map.put(&i, &()).unwrap();
    }
    store.set_current_key(&2);
    map.put(&0, &()).unwrap();
    store.set_current_key(&1);
    worker.map_clear(&map);
    assert!(worker.map_is_empty(&map));
    assert!(worker.map_entries(&map).is_empty());
    worker.map_clear(&map);
    store.set_current_key(&2);
    assert_eq!(worker.map_entries(&map), [(0, ())]);
}

fn keys_that_start_alike_do_not_mix(world: &World) {
    let worker = world.worker();
    let store = worker.store::<String>("op");
    let map: MapState<Vec<u8>, u8> = store.map_state(&MapStateDescriptor::new("m")).unwrap();
    let keys = ["", "a", "a\0", "a\0\u{1}", "ab", "b"];
    let user_keys: [&[u8]; 5] = [b"", b"\0", b"\0\x01", b"b", b"\xff"];
    for (i, key) in keys.iter().enumerate() {
        store.set_current_key(&(*key).into());
        for user_key in &user_keys[..i.min(5)] {
            map.put(&user_key.to_vec(), &(i as u8)).unwrap();
        }
    }
    for (i, key) in keys.iter().enumerate() {
        store.set_current_key(&(*key).into());
        let expected: Vec<_> = user_keys[..i.min(5)]
            .iter()
            .map(|u| (u.to_vec(), i as u8))
            .collect();
        assert_eq!(worker.map_entries(&map), expected, "key {key:?}");
    }
}

fn two_snapshots_restore_as_of_their_time(world: &World) {
    let open = |worker: &Worker| {
        let store = worker.store::<u32>("op");
        let map: MapState<u8, String> = store.map_state(&MapStateDescriptor::new("m")).unwrap();
        store.set_current_key(&1);
        map
    };
    let worker = world.worker();
    let map = open(&worker);
    let put = |key: u8, value: &str| map.put(&key, &value.to_string()).unwrap();
    put(1, "a");
    put(2, "b");
    let first = worker.checkpoint(1);
    put(2, "c");
    map.remove(&1).unwrap();
    map.remove(&77).unwrap();
    map.put_all([(&3, &"d".to_string()), (&4, &"e".to_string())])
        .unwrap();
    let second = worker.checkpoint(2);
    for (saved, expected) in [
        (&first, &[(1, "a"), (2, "b")][..]),
        (&second, &[(2, "c"), (3, "d"), (4, "e")]),
        (&first, &[(1, "a"), (2, "b")]),
    ] {
        let worker = world.restore(saved);
        let map = open(&worker);
        let entries = all!(worker, map.entries());
        let entries: Vec<_> = entries
            .iter()
            .map(|(key, value)| (*key, &value[..]))
            .collect();
        assert_eq!(entries, expected, "{}", world.name());
    }
}

fn an_absent_map_is_empty(world: &World) {
    let worker = world.worker();
    let store = worker.store::<u32>("op");
    let map: MapState<u8, u8> = store.map_state(&MapStateDescriptor::new("m")).unwrap();
    store.set_current_key(&1);
    for _ in 0..2 {
        assert!(all!(worker, map.entries()).is_empty());
        assert!(all!(worker, map.keys()).is_empty());
        assert!(all!(worker, map.values()).is_empty());
        assert_eq!(ask!(worker, map.get(&1)), None);
        assert!(!ask!(worker, map.contains(&1)));
        assert!(ask!(worker, map.is_empty()));
        map.put(&1, &1).unwrap();
        map.clear().unwrap();
    }
}

fn none_is_a_user_value_like_another(world: &World) {
    let open = |worker: &Worker| {
        let store = worker.store::<u32>("op");
        let map: MapState<u8, Option<i32>> =
            store.map_state(&MapStateDescriptor::new("m")).unwrap();
        store.set_current_key(&1);
        map
    };
    let worker = world.worker();
    let map = open(&worker);
    map.put(&1, &None).unwrap();
    map.put(&2, &Some(5)).unwrap();
    let worker = world.restore(&worker.checkpoint(1));
    let map = open(&worker);
    assert_eq!(ask!(worker, map.get(&1)), Some(None));
    assert!(ask!(worker, map.contains(&1)));
    assert_eq!(ask!(worker, map.get(&3)), None);
    assert_eq!(all!(worker, map.values()), [None, Some(5)]);
}

fn iterations_end_where_the_entries_do(world: &World) {
    let worker = world.worker();
    let store = worker.store::<u32>("op");
    let map: MapState<u32, u8> = store.map_state(&MapStateDescriptor::new("m")).unwrap();
    for count in [0, 1, 127, 128, 129, 256, 257] {
        store.set_current_key(&count);
        for entry in 0..count {
            map.put(&entry, &1).unwrap();
        }
        let keys = all!(worker, map.keys());
        assert!(
            keys.into_iter().eq(0..count),
            "{count} entries, {}",
            world.name()
        );
    }
    // An iteration that has ended stays ended.
    store.set_current_key(&129);
    let mut stream = map.keys();
    let mut iterator = map.sync().keys();
    assert_eq!(worker.run(stream.by_ref().count()), 129);
    assert_eq!(iterator.by_ref().count(), 129);
    map.put(&999, &1).unwrap();
    for _ in 0..3 {
        assert!(worker.run(stream.next()).is_none());
        assert!(iterator.next().is_none());
    }
}

fn entries_can_be_changed_and_removed_on_the_way(world: &World) {
    let worker = world.worker();
    let store = worker.store::<u32>("op");
    let map: MapState<u32, u32> = store.map_state(&MapStateDescriptor::new("m")).unwrap();
    store.set_current_key(&1);
    for entry in 0..300 {
        map.put(&entry, &entry).unwrap();
    }
    let mut iterator = map.sync().entries();
    assert!(iterator.remove().is_err(), "nothing was returned yet");
    let mut seen = 0;
    while let Some(entry) = iterator.next() {
        let (key, value) = entry.unwrap();
        assert_eq!((key, value), (seen, seen));
        seen += 1;
        // Entries belong to the key under which the iteration began.
        store.set_current_key(&2);
        match key % 3 {
            0 => iterator.remove().unwrap(),
            1 => iterator.set_value(&(value + 1000)).unwrap(),
            _ => {}
        }
        store.set_current_key(&1);
    }
    assert_eq!(seen, 300);
    let expected = (0..300).filter(|key| key % 3 != 0);
    let expected = expected.map(|key| (key, if key % 3 == 1 { key + 1000 } else { key }));
    assert!(
        all!(worker, map.entries()).into_iter().eq(expected),
        "{}",
        world.name()
    );
    store.set_current_key(&2);
    assert!(ask!(worker, map.is_empty()));
}

fn an_iteration_may_use_state_on_its_way(world: &World) {
    let open = |worker: &Worker| {
        let store = worker.store::<u32>("op");
        let map: MapState<u32, u32> = store.map_state(&MapStateDescriptor::new("m")).unwrap();
        let copy: MapState<u32, u32> = store.map_state(&MapStateDescriptor::new("n")).unwrap();
        (store, map, copy)
    };
    let worker = world.worker();
    let (store, map, _) = open(&worker);
    for key in [1, 2] {
        store.set_current_key(&key);
        for entry in 0..300 {
            map.put(&entry, &(key * 1000 + entry)).unwrap();
        }
    }
    let worker = world.restore(&worker.checkpoint(1));
    let (store, map, copy) = open(&worker);
    store.set_current_key(&1);
    let sum = worker.run(async {
        let mut sum = 0;
        let mut entries = map.entries();
        while let Some((key, value)) = entries.try_next().await? {
            copy.put(&key, &value)?;
            map.put(&key, &(value + 1))?;
            if key % 100 == 0 {
                store.set_current_key(&2);
                let other = map.get(&key);
                store.set_current_key(&1);
                sum += other.await?.unwrap_or(0);
            }
        }
        Ok::<_, aquifer_state::StateError>(sum)
    });
    assert_eq!(sum.unwrap(), 2000 + 2100 + 2200);
    assert!(
        all!(worker, copy.entries())
            .into_iter()
            .eq((0..300).map(|k| (k, 1000 + k)))
    );
    assert!(
        all!(worker, map.values())
            .into_iter()
            .eq((0..300).map(|k| 1001 + k))
    );
}

fn clearing_a_large_map_leaves_nothing(world: &World) {
    let worker = world.worker();
    let store = worker.store::<u32>("op");
    let map: MapState<u32, u64> = store.map_state(&MapStateDescriptor::new("m")).unwrap();
    for key in [1, 2] {
        store.set_current_key(&key);
        for entry in 0..5000 {
            map.put(&entry, &7).unwrap();
        }
        worker.backend.borrow_mut().poll().unwrap();
    }
    store.set_current_key(&1);
    map.clear().unwrap();
    map.put(&3, &1).unwrap();
    assert_eq!(all!(worker, map.entries()), [(3, 1)], "{}", world.name());
    assert_eq!(worker.rows("m").len(), 5001);
    let worker = world.restore(&worker.checkpoint(1));
    let store = worker.store::<u32>("op");
    let map: MapState<u32, u64> = store.map_state(&MapStateDescriptor::new("m")).unwrap();
    store.set_current_key(&1);
    assert_eq!(all!(worker, map.entries()), [(3, 1)]);
    assert_eq!(worker.rows("m").len(), 5001);
}
