//! Value state.
use aquifer_state::{StateError, ValueState, ValueStateDescriptor};
use serde::{Deserialize, Serialize};

use crate::cases::{ask, conformance};
use crate::world::{Worker, World};

conformance!(
    values_belong_to_their_key,
    values_of_any_serde_type,
    many_keys_through_flushes,
    a_key_must_be_current,
    the_key_is_read_when_the_method_is_called,
    states_of_one_operator_do_not_mix,
    two_snapshots_restore_as_of_their_time,
    two_states_of_one_key_are_restored_apart,
    a_default_answers_for_what_is_not_there,
    every_key_gets_a_default_of_its_own,
    a_value_that_was_read_is_a_copy,
);

fn values_belong_to_their_key(world: &World) {
    let worker = world.worker();
    let store = worker.store::<i64>("op");
    let count: ValueState<u64> = store
        .value_state(&ValueStateDescriptor::new("count"))
        .unwrap();
    store.set_current_key(&1);
    assert_eq!(worker.value(&count), None);
    count.put(5).unwrap();
    assert_eq!(worker.value(&count), Some(5));
    store.set_current_key(&2);
    assert_eq!(worker.value(&count), None);
    count.update(&7).unwrap();
    store.set_current_key(&1);
    count.put(6).unwrap();
    assert_eq!(worker.value(&count), Some(6));
    count.clear().unwrap();
    assert_eq!(worker.value(&count), None);
    count.clear().unwrap();
    store.set_current_key(&2);
    assert_eq!(worker.value(&count), Some(7));
}

fn values_of_any_serde_type(world: &World) {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    enum Shape {
        Point,
        Circle { radius: f64 },
        Path(Vec<(i32, i32)>),
    }
    let worker = world.worker();
    let store = worker.store::<(String, i32)>("op");
    let shape: ValueState<Option<Shape>> = store
        .value_state(&ValueStateDescriptor::new("shape"))
        .unwrap();
    let shapes = [
        None,
        Some(Shape::Point),
        Some(Shape::Circle { radius: 1.5 }),
        Some(Shape::Path((0..100).map(|i| (i, -i)).collect())),
    ];
    for (i, value) in shapes.iter().enumerate() {
        store.set_current_key(&("k".into(), i as i32));
        shape.update(value).unwrap();
    }
    for (i, value) in shapes.iter().enumerate() {
        store.set_current_key(&("k".into(), i as i32));
        assert_eq!(
            worker.value(&shape),
            Some(value.clone()),
            "a stored None is not an absent value"
        );
    }
}

fn many_keys_through_flushes(world: &World) {
    let worker = world.worker();
    let store = worker.store::<u32>("op");
    let count: ValueState<u64> = store
        .value_state(&ValueStateDescriptor::new("count"))
        .unwrap();
    for round in 0..5u64 {
        for key in 0..1500u32 {
            store.set_current_key(&key);
            let old = worker.value(&count);
            assert_eq!(
                old,
                (round > 0).then(|| (round - 1) * 10_000 + u64::from(key))
            );
            count.put(round * 10_000 + u64::from(key)).unwrap();
        }
        worker.backend.borrow_mut().poll().unwrap();
    }
    for key in (0..1500u32).step_by(3) {
        store.set_current_key(&key);
        count.clear().unwrap();
    }
    for key in 0..1500u32 {
        store.set_current_key(&key);
        let expected = (key % 3 != 0).then(|| 40_000 + u64::from(key));
        assert_eq!(worker.value(&count), expected, "key {key}");
    }
}

fn a_key_must_be_current(world: &World) {
    let worker = world.worker();
    let store = worker.store::<u32>("op");
    let count: ValueState<u64> = store
        .value_state(&ValueStateDescriptor::new("count"))
        .unwrap();
    let usage = |result: Result<(), StateError>| match result {
        Err(StateError::Usage(text)) => assert!(text.contains("without a current key"), "{text}"),
        other => panic!("expected a usage error, got {other:?}"),
    };
    usage(count.put(1));
    usage(count.clear());
    usage(count.value().map(|_| ()));
    usage(worker.run(count.get()).map(|_| ()));
    store.set_current_key(&1);
    count.put(1).unwrap();
    store.current_key().clear();
    usage(count.put(1));
}

fn the_key_is_read_when_the_method_is_called(world: &World) {
    let saved = {
        let worker = world.worker();
        let store = worker.store::<u32>("op");
        let count: ValueState<u64> = store
            .value_state(&ValueStateDescriptor::new("count"))
            .unwrap();
        for key in 0..50 {
            store.set_current_key(&key);
            count.put(u64::from(key) * 100).unwrap();
        }
        worker.checkpoint(1)
    };
    // From files, so that on forst the reads are cold and complete later.
    let worker = world.restore(&saved);
    let store = worker.store::<u32>("op");
    let count: ValueState<u64> = store
        .value_state(&ValueStateDescriptor::new("count"))
        .unwrap();
    let reads: Vec<_> = (0..50)
        .map(|key| {
            store.set_current_key(&key);
            count.get()
        })
        .collect();
    store.set_current_key(&999);
    let values = worker
        .run(futures_util::future::try_join_all(reads))
        .unwrap();
    assert_eq!(
        values,
        (0..50).map(|key| Some(key * 100)).collect::<Vec<_>>()
    );
}

fn states_of_one_operator_do_not_mix(world: &World) {
    let worker = world.worker();
    let store = worker.store::<String>("op");
    let other = worker.store::<String>("other");
    let states: Vec<ValueState<String>> = vec![
        store.value_state(&ValueStateDescriptor::new("a")).unwrap(),
        store.value_state(&ValueStateDescriptor::new("b")).unwrap(),
        other.value_state(&ValueStateDescriptor::new("a")).unwrap(),
    ];
    // Asking for a state again gives the same state.
    let again: ValueState<String> = store.value_state(&ValueStateDescriptor::new("a")).unwrap();
    for key in ["", "k", "k\0", "k\0\u{1}"] {
        store.set_current_key(&key.into());
        other.set_current_key(&key.into());
        for (i, state) in states.iter().enumerate() {
            state.put(format!("{key}{i}")).unwrap();
        }
    }
    for key in ["", "k", "k\0", "k\0\u{1}"] {
        store.set_current_key(&key.into());
        other.set_current_key(&key.into());
        for (i, state) in states.iter().enumerate() {
            assert_eq!(worker.value(state), Some(format!("{key}{i}")));
        }
        assert_eq!(worker.value(&again), Some(format!("{key}0")));
    }
    assert_eq!(store.tables().len(), 2);
    assert_eq!(other.tables().len(), 1);
}

fn two_snapshots_restore_as_of_their_time(world: &World) {
    let open = |worker: &Worker| {
        let store = worker.store::<u32>("op");
        let text: ValueState<String> = store
            .value_state(&ValueStateDescriptor::new("text"))
            .unwrap();
        (store, text)
    };
    let worker = world.worker();
    let (store, text) = open(&worker);
    let put = |key: u32, value: &str| {
        store.set_current_key(&key);
        text.put(value.into()).unwrap();
    };
    put(1, "1");
    put(2, "2");
    let first = worker.checkpoint(1);
    put(1, "u1");
    put(2, "u2");
    put(3, "u3");
    let second = worker.checkpoint(2);
    for (saved, expected) in [
        (&first, [Some("1"), Some("2"), None]),
        (&second, [Some("u1"), Some("u2"), Some("u3")]),
        (&first, [Some("1"), Some("2"), None]),
    ] {
        let worker = world.restore(saved);
        let (store, text) = open(&worker);
        for (key, expected) in (1..).zip(expected) {
            store.set_current_key(&key);
            assert_eq!(
                worker.value(&text).as_deref(),
                expected,
                "key {key}, {}",
                world.name()
            );
        }
    }
}

fn two_states_of_one_key_are_restored_apart(world: &World) {
    let saved = {
        let worker = world.worker();
        let store = worker.store::<u32>("op");
        let a: ValueState<String> = store.value_state(&ValueStateDescriptor::new("a")).unwrap();
        let b: ValueState<i32> = store.value_state(&ValueStateDescriptor::new("b")).unwrap();
        for key in [1, 2] {
            store.set_current_key(&key);
            a.put(format!("a{key}")).unwrap();
            b.put(key as i32 * 10).unwrap();
        }
        store.set_current_key(&1);
        b.clear().unwrap();
        worker.checkpoint(1)
    };
    let worker = world.restore(&saved);
    let store = worker.store::<u32>("op");
    let b: ValueState<i32> = store.value_state(&ValueStateDescriptor::new("b")).unwrap();
    let a: ValueState<String> = store.value_state(&ValueStateDescriptor::new("a")).unwrap();
    store.set_current_key(&1);
    assert_eq!(
        (worker.value(&a).as_deref(), worker.value(&b)),
        (Some("a1"), None)
    );
    store.set_current_key(&2);
    assert_eq!(
        (worker.value(&a).as_deref(), worker.value(&b)),
        (Some("a2"), Some(20))
    );
}

fn a_default_answers_for_what_is_not_there(world: &World) {
    let open = |worker: &Worker, default: i64| {
        let store = worker.store::<u32>("op");
        let descriptor = ValueStateDescriptor::<i64>::new("n").default_value(move || default);
        let state = store.value_state(&descriptor).unwrap();
        (store, state)
    };
    let worker = world.worker();
    let (store, state) = open(&worker, 42);
    store.set_current_key(&1);
    assert_eq!(worker.value(&state), Some(42));
    assert_eq!(
        ask!(worker, store.entry_count(&state)),
        0,
        "a default is never stored"
    );
    state.put(7).unwrap();
    assert_eq!(worker.value(&state), Some(7));
    assert_eq!(ask!(worker, store.entry_count(&state)), 1);
    state.clear().unwrap();
    assert_eq!(worker.value(&state), Some(42));
    assert_eq!(ask!(worker, store.entry_count(&state)), 0);
    let saved = worker.checkpoint(1);
    let worker = world.restore(&saved);
    // The default is the program's, not the checkpoint's.
    let (store, state) = open(&worker, 43);
    store.set_current_key(&1);
    assert_eq!(worker.value(&state), Some(43));
    state.set(Some(5)).unwrap();
    assert_eq!(ask!(worker, state.get()), Some(5));
    state.set(None).unwrap();
    assert_eq!(ask!(worker, state.get()), Some(43));
}

fn every_key_gets_a_default_of_its_own(world: &World) {
    let worker = world.worker();
    let store = worker.store::<u32>("op");
    let descriptor = ValueStateDescriptor::<Vec<u8>>::new("n").default_value(|| vec![1]);
    let state = store.value_state(&descriptor).unwrap();
    store.set_current_key(&1);
    let mut read = worker.value(&state).unwrap();
    read.push(2);
    for key in [1, 2] {
        store.set_current_key(&key);
        assert_eq!(worker.value(&state), Some(vec![1]));
    }
    store.set_current_key(&1);
    state.put(read).unwrap();
    assert_eq!(worker.value(&state), Some(vec![1, 2]));
    store.set_current_key(&2);
    assert_eq!(worker.value(&state), Some(vec![1]));
}

fn a_value_that_was_read_is_a_copy(world: &World) {
    let worker = world.worker();
    let store = worker.store::<u32>("op");
    let state: ValueState<Vec<u8>> = store.value_state(&ValueStateDescriptor::new("v")).unwrap();
    store.set_current_key(&1);
    state.put(vec![1]).unwrap();
    let mut a = worker.value(&state).unwrap();
    let b = worker.value(&state).unwrap();
    a.push(9);
    assert_eq!(worker.value(&state), Some(vec![1]));
    drop((state, store));
    assert_eq!((a, b), (vec![1, 9], vec![1]));
}
