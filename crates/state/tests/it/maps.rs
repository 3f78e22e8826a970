//! Map state.
use std::collections::BTreeMap;

use aquifer_state::{MapState, MapStateDescriptor};
use futures_util::TryStreamExt;

use crate::conformance;
use crate::world::World;

conformance!(
    entries_belong_to_their_key,
    iteration_is_in_the_order_of_user_keys,
    iteration_survives_removals,
    emptiness,
    keys_that_start_alike_do_not_mix,
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
    if world.asynchronous {
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
    assert_eq!(worker.map_entries(&map), []);
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
