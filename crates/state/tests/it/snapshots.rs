//! Freezing, snapshots, restoring: the same worker, other workers, the other backend.
use aquifer_state::{
    BackendKind, MapState, MapStateDescriptor, StateDescription, StateError, ValueState,
    ValueStateDescriptor,
};
use aquifer_store::TableOptions;

use crate::backends::table;
use crate::cases::{BACKENDS, conformance};
use crate::world::{Saved, Worker, World, checkpoint_all, owner};

conformance!(
    a_snapshot_holds_what_was_there_at_the_barrier,
    operators_freeze_at_their_own_barriers,
    an_empty_snapshot_restores,
    untouched_state_is_in_the_next_snapshot,
    deletions_are_in_the_snapshot,
    rescaling_one_two_three_one,
    every_backend_restores_every_other,
    states_that_the_program_lost_come_back,
    another_layout_is_refused,
    changed_fields_are_refused,
    a_table_may_become_ordered,
    one_snapshot_at_a_time,
    freezing_twice_is_refused,
);

fn values(worker: &Worker) -> (aquifer_state::KeyedStateStore<u32>, ValueState<String>) {
    let store = worker.store::<u32>("op");
    let state = store.value_state(&ValueStateDescriptor::new("v")).unwrap();
    (store, state)
}

fn a_snapshot_holds_what_was_there_at_the_barrier(world: &World) {
    let worker = world.worker();
    let (store, state) = values(&worker);
    let set = |key: u32, value: &str| {
        store.set_current_key(&key);
        state.put(value.into()).unwrap();
    };
    (0..300).for_each(|key| set(key, "before"));
    let tables = worker.backend.borrow().tables();
    for (_, table) in &tables {
        worker.backend.borrow_mut().freeze(*table).unwrap();
    }
    // Between the barrier and the snapshot, and while it is being written, work goes on.
    (100..200).for_each(|key| set(key, "between"));
    worker.backend.borrow_mut().snapshot(1).unwrap();
    (150..400).for_each(|key| set(key, "after"));
    store.set_current_key(&0);
    state.clear().unwrap();
    for (key, expected) in [
        (0, None),
        (50, Some("before")),
        (120, Some("between")),
        (399, Some("after")),
    ] {
        store.set_current_key(&key);
        assert_eq!(
            worker.value(&state).as_deref(),
            expected,
            "while the snapshot is under way"
        );
    }
    let first = worker.finish(1);
    let second = worker.checkpoint(2);

    let restored = world.restore(&first);
    let (store, state) = values(&restored);
    for key in 0..400 {
        store.set_current_key(&key);
        let expected = (key < 300).then_some("before");
        assert_eq!(
            restored.value(&state).as_deref(),
            expected,
            "key {key} of the first checkpoint"
        );
    }
    let restored = world.restore(&second);
    let (store, state) = values(&restored);
    for key in 0..400 {
        store.set_current_key(&key);
        let expected = match key {
            0 => None,
            1..100 => Some("before"),
            100..150 => Some("between"),
            _ => Some("after"),
        };
        assert_eq!(
            restored.value(&state).as_deref(),
            expected,
            "key {key} of the second checkpoint"
        );
    }
}

fn operators_freeze_at_their_own_barriers(world: &World) {
    let tables = |worker: &Worker| {
        ["upstream", "downstream"].map(|operator| {
            let options = TableOptions::default();
            let state = StateDescription::raw(operator, "s", options, "raw");
            worker.backend.borrow_mut().register(&state).unwrap()
        })
    };
    let worker = world.worker();
    let [up, down] = tables(&worker);
    worker.access.put(up, 0, b"k", b"epoch 1").unwrap();
    worker.backend.borrow_mut().freeze(up).unwrap();
    // The barrier is between the two: records of the next epoch reach the first, of the old epoch the second.
    worker.access.put(up, 0, b"k", b"epoch 2").unwrap();
    worker.access.put(up, 0, b"k2", b"epoch 2").unwrap();
    worker.access.put(down, 0, b"k", b"epoch 1").unwrap();
    worker.backend.borrow_mut().freeze(down).unwrap();
    worker.access.put(down, 0, b"k", b"epoch 2").unwrap();
    worker.backend.borrow_mut().snapshot(1).unwrap();
    let saved = worker.finish(1);
    assert_eq!(
        worker.access.get_blocking(up, 0, b"k").unwrap().as_deref(),
        Some(&b"epoch 2"[..])
    );

    let worker = world.restore(&saved);
    let [up, down] = tables(&worker);
    let read = |table, key: &[u8]| worker.access.get_blocking(table, 0, key).unwrap();
    assert_eq!(read(up, b"k").as_deref(), Some(&b"epoch 1"[..]));
    assert_eq!(read(up, b"k2"), None);
    assert_eq!(read(down, b"k").as_deref(), Some(&b"epoch 1"[..]));
}

fn an_empty_snapshot_restores(world: &World) {
    let files = |saved: &Saved| {
        let mut count = 0;
        saved.keyed[0].1.for_each_path(&mut |_, _| count += 1);
        count + saved.keyed[0].1.inline.len()
    };
    let worker = world.worker();
    let saved = worker.checkpoint(1);
    assert_eq!(files(&saved), 0);
    let worker = world.restore(&saved);
    let (store, state) = values(&worker);
    store.set_current_key(&1);
    assert_eq!(worker.value(&state), None);
    state.put("x".into()).unwrap();
    let saved = worker.checkpoint(2);
    let part = &saved.keyed[0].1;
    assert!(files(&saved) > 0);
    let stats = worker.backend.borrow().stats();
    assert!(stats.files > 0 && stats.state_bytes > 0, "{stats:?}");
    assert_eq!(
        stats.bytes_uploaded == 0,
        part.inline_bytes() > 0,
        "{stats:?}"
    );
}

fn untouched_state_is_in_the_next_snapshot(world: &World) {
    let worker = world.worker();
    let (store, state) = values(&worker);
    for key in 0..500 {
        store.set_current_key(&key);
        state.put(format!("v{key}")).unwrap();
    }
    let mut saved = worker.checkpoint(1);
    for id in 2..5 {
        saved = world.restore(&saved).checkpoint(id);
    }
    let worker = world.restore(&saved);
    let (store, state) = values(&worker);
    for key in 0..500 {
        store.set_current_key(&key);
        assert_eq!(worker.value(&state), Some(format!("v{key}")));
    }
}

fn deletions_are_in_the_snapshot(world: &World) {
    let worker = world.worker();
    let (store, state) = values(&worker);
    for key in 0..300 {
        store.set_current_key(&key);
        state.put("x".into()).unwrap();
    }
    worker.checkpoint(1);
    for key in 0..300 {
        store.set_current_key(&key);
        state.clear().unwrap();
    }
    let saved = worker.checkpoint(2);
    let worker = world.restore(&saved);
    let (store, state) = values(&worker);
    for key in 0..300 {
        store.set_current_key(&key);
        assert_eq!(worker.value(&state), None, "key {key}");
    }
}

/// Every key has a count, a map and, in the map, the history of the parallelism under which it was seen.
fn touch(workers: &[Worker], round: u64) {
    for worker in workers {
        let store = worker.store::<i64>("op");
        let count: ValueState<u64> = store
            .value_state(&ValueStateDescriptor::new("count"))
            .unwrap();
        let seen: MapState<u64, u64> = store.map_state(&MapStateDescriptor::new("seen")).unwrap();
        for key in (0..400i64).filter(|key| worker.owns(key)) {
            store.set_current_key(&key);
            assert!(std::ptr::eq(owner(workers, &key), worker));
            let old = worker.value(&count);
            assert_eq!(
                old,
                (round > 0).then_some(round),
                "key {key} in round {round}"
            );
            let entries = worker.map_entries(&seen);
            let expected: Vec<(u64, u64)> = (0..round).map(|r| (r, r + key as u64)).collect();
            assert_eq!(entries, expected, "key {key} in round {round}");
            count.put(round + 1).unwrap();
            seen.put(&round, &(round + key as u64)).unwrap();
        }
    }
}

fn rescaling_one_two_three_one(world: &World) {
    let mut saved = Saved::default();
    for (round, parallelism) in [1, 2, 3, 1, 5, 2, 1].into_iter().enumerate() {
        let workers = world.workers(parallelism, &saved);
        touch(&workers, round as u64);
        saved = checkpoint_all(&workers, round as u64 + 1);
        assert_eq!(saved.keyed.len(), usize::from(parallelism));
    }
}

fn every_backend_restores_every_other(world: &World) {
    let mut saved = Saved::default();
    // Every backend after every one, itself among them.
    let pairs = BACKENDS
        .iter()
        .flat_map(|to| BACKENDS.iter().flat_map(move |from| [from, to]));
    for (round, kind) in pairs.enumerate() {
        world.kind.set(*kind);
        let workers = world.workers(1 + round as u16 % 3, &saved);
        touch(&workers, round as u64);
        saved = checkpoint_all(&workers, round as u64 + 1);
    }
}

fn states_that_the_program_lost_come_back(world: &World) {
    let worker = world.worker();
    let (store, state) = values(&worker);
    store.set_current_key(&1);
    state.put("kept".into()).unwrap();
    let saved = worker.checkpoint(1);

    let worker = world.restore(&saved);
    let other: ValueState<u8> = worker
        .store::<u32>("op")
        .value_state(&ValueStateDescriptor::new("new"))
        .unwrap();
    drop(other);
    let saved = worker.checkpoint(2);
    assert_eq!(saved.tables.len(), 2);

    let worker = world.restore(&saved);
    let (store, state) = values(&worker);
    store.set_current_key(&1);
    assert_eq!(worker.value(&state).as_deref(), Some("kept"));
}

fn another_layout_is_refused(world: &World) {
    let worker = world.worker();
    let _state = values(&worker);
    let saved = worker.checkpoint(1);
    let worker = world.restore(&saved);
    let refused = |result: Result<(), StateError>, parts: [&str; 2]| match result {
        Err(StateError::Incompatible(text)) => {
            for part in parts.into_iter().chain(["`v`", "`op`"]) {
                assert!(text.contains(part), "{text}");
            }
        }
        other => panic!("expected a refusal, got {other:?}"),
    };
    let store = worker.store::<u32>("op");
    refused(
        store
            .value_state(&ValueStateDescriptor::<u64>::new("v"))
            .map(|_| ()),
        ["`str`", "`u64`"],
    );
    refused(
        store
            .map_state(&MapStateDescriptor::<u8, u8>::new("v"))
            .map(|_| ()),
        ["value state", "map state"],
    );
    let store = worker.store::<i64>("op");
    refused(
        store
            .value_state(&ValueStateDescriptor::<String>::new("v"))
            .map(|_| ()),
        ["key", "i64"],
    );
}

fn a_table_may_become_ordered(world: &World) {
    let worker = world.worker();
    let hashed = table(&worker, "s", false);
    for i in [3u8, 1, 2] {
        worker.access.put(hashed, 0, &[i], &[i]).unwrap();
    }
    let saved = worker.checkpoint(1);
    let worker = world.restore(&saved);
    let ordered = table(&worker, "s", true);
    assert_eq!(hashed, ordered);
    worker.access.put(ordered, 0, &[0], &[0]).unwrap();
    let rows = worker
        .run(worker.access.scan(ordered, 0, b"", b"", None, 10))
        .unwrap()
        .rows;
    assert_eq!(
        rows.iter().map(|(key, _)| key[0]).collect::<Vec<_>>(),
        [0, 1, 2, 3]
    );
}

fn one_snapshot_at_a_time(world: &World) {
    let worker = world.worker();
    let (store, state) = values(&worker);
    store.set_current_key(&1);
    state.put("x".into()).unwrap();
    let tables = worker.backend.borrow().tables();
    let freeze = || {
        for (_, table) in &tables {
            worker.backend.borrow_mut().freeze(*table).unwrap();
        }
    };
    freeze();
    worker.backend.borrow_mut().snapshot(1).unwrap();
    let error = worker.backend.borrow_mut().snapshot(2).unwrap_err();
    assert!(error.to_string().contains("checkpoint 1"), "{error}");
    worker.finish(1);
    worker.checkpoint(3);
}

fn freezing_twice_is_refused(world: &World) {
    let worker = world.worker();
    let rows = table(&worker, "s", false);
    worker.access.put(rows, 0, b"k", b"1").unwrap();
    worker.backend.borrow_mut().freeze(rows).unwrap();
    worker.backend.borrow_mut().freeze(rows).unwrap();
    worker.access.put(rows, 0, b"k", b"2").unwrap();
    let error = worker.backend.borrow_mut().freeze(rows).unwrap_err();
    assert!(error.to_string().contains("frozen twice"), "{error}");
}

#[test]
fn a_heap_snapshot_is_one_sorted_run() {
    let world = World::hashmap(true);
    let worker = world.worker();
    let (hashed, ordered) = (table(&worker, "h", false), table(&worker, "o", true));
    for i in 0..3000u32 {
        let key = i.wrapping_mul(2_654_435_761).to_be_bytes();
        for table in [hashed, ordered] {
            worker
                .access
                .put(table, (i % 16) as u16, &key, &[7; 30])
                .unwrap();
        }
    }
    let saved = worker.checkpoint(1);
    let files = &saved.keyed[0].1.files.files;
    assert!(files.len() > 5, "the memtable is small: {}", files.len());
    assert!(files.iter().all(|file| file.level == 1));
    assert!(files.is_sorted_by(|a, b| a.upper <= b.smallest));
    assert_eq!(files.iter().map(|file| file.entries).sum::<u64>(), 6000);
    // The next one is written whole again, under other names.
    let again = worker.checkpoint(2);
    for file in &again.keyed[0].1.files.files {
        assert!(files.iter().all(|old| old.path != file.path));
    }
    world.kind.set(BackendKind::Forst);
    let worker = world.restore(&saved);
    let hashed = table(&worker, "h", false);
    for i in (0..3000u32).step_by(7) {
        let key = i.wrapping_mul(2_654_435_761).to_be_bytes();
        let value = worker
            .access
            .get_blocking(hashed, (i % 16) as u16, &key)
            .unwrap();
        assert_eq!(value.as_deref(), Some(&[7; 30][..]));
    }
}

mod old_program {
    #[derive(Clone, serde::Serialize, serde::Deserialize)]
    pub struct Account {
        pub owner: String,
        pub cents: u64,
    }
}

mod new_program {
    #[derive(Clone, serde::Serialize, serde::Deserialize)]
    pub struct Account {
        pub owner: String,
        pub cents: u64,
        pub blocked: bool,
    }
}

/// postcard writes no field names: without a check, old bytes would be read as if they were new ones.
fn changed_fields_are_refused(world: &World) {
    let worker = world.worker();
    let store = worker.store::<u32>("op");
    let old: ValueState<old_program::Account> = store
        .value_state(&ValueStateDescriptor::new("account"))
        .unwrap();
    store.set_current_key(&1);
    old.put(old_program::Account {
        owner: "ann".into(),
        cents: 5,
    })
    .unwrap();
    let saved = worker.checkpoint(1);

    let worker = world.restore(&saved);
    let store = worker.store::<u32>("op");
    let same = ValueStateDescriptor::<old_program::Account>::new("account");
    let account: ValueState<old_program::Account> = store.value_state(&same).unwrap();
    store.set_current_key(&1);
    assert_eq!(
        worker.value(&account).map(|a| (a.owner, a.cents)),
        Some(("ann".into(), 5))
    );
    let store = world.restore(&saved).store::<u32>("op");
    let changed = ValueStateDescriptor::<new_program::Account>::new("account");
    let refused = store.value_state(&changed).map(|_| ());
    assert!(
        matches!(refused, Err(StateError::Incompatible(_))),
        "{refused:?}"
    );
}
