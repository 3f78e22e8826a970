//! Reducing state.
use aquifer_state::{KeyedStateStore, ReducingState, ReducingStateDescriptor};
use futures_util::future::join3;

use crate::cases::{ask, conformance};
use crate::world::{Worker, World};

conformance!(
    sums_belong_to_their_key,
    values_are_reduced_in_order,
    two_snapshots_restore_as_of_their_time,
    every_add_can_be_read,
    an_absent_sum_is_none,
    two_adds_of_one_record_both_count,
);

type Sum = ReducingState<i64, fn(i64, i64) -> i64>;

fn sums(worker: &Worker) -> (KeyedStateStore<u32>, Sum) {
    let store = worker.store::<u32>("op");
    let add: fn(i64, i64) -> i64 = |a, b| a + b;
    let sum = store
        .reducing_state(&ReducingStateDescriptor::new("sum", add))
        .unwrap();
    (store, sum)
}

fn sums_belong_to_their_key(world: &World) {
    let worker = world.worker();
    let (store, sum) = sums(&worker);
    for (key, value) in [(1, 5), (2, 10), (1, 6)] {
        store.set_current_key(&key);
        ask!(worker, sum.add(value));
    }
    for (key, expected) in [(1, Some(11)), (2, Some(10)), (3, None)] {
        store.set_current_key(&key);
        assert_eq!(ask!(worker, sum.get()), expected);
    }
}

fn values_are_reduced_in_order(world: &World) {
    let worker = world.worker();
    let store = worker.store::<u32>("op");
    // Never called for the first value.
    let join = |a: String, b: String| {
        assert!(!a.is_empty());
        a + &b
    };
    let descriptor = ReducingStateDescriptor::<String, _>::new("text", join);
    let text = store.reducing_state(&descriptor).unwrap();
    store.set_current_key(&1);
    for part in ["a", "b", "c"] {
        ask!(worker, text.add(part.to_string()));
    }
    assert_eq!(ask!(worker, text.get()).as_deref(), Some("abc"));
}

fn two_snapshots_restore_as_of_their_time(world: &World) {
    let worker = world.worker();
    let (store, sum) = sums(&worker);
    let add = |key: u32, value: i64| {
        store.set_current_key(&key);
        ask!(worker, sum.add(value));
    };
    add(1, 11);
    add(2, 10);
    let first = worker.checkpoint(1);
    add(1, 1);
    add(2, 1);
    let second = worker.checkpoint(2);
    for (saved, one, two) in [(&first, 11, 10), (&second, 12, 11)] {
        let worker = world.restore(saved);
        let (store, sum) = sums(&worker);
        store.set_current_key(&1);
        assert_eq!(ask!(worker, sum.get()), Some(one));
        ask!(worker, sum.add(5));
        assert_eq!(ask!(worker, sum.get()), Some(one + 5));
        // Adding first, reading then.
        store.set_current_key(&2);
        ask!(worker, sum.add(5));
        assert_eq!(ask!(worker, sum.get()), Some(two + 5), "{}", world.name());
    }
}

fn every_add_can_be_read(world: &World) {
    let worker = world.worker();
    let (store, sum) = sums(&worker);
    store.set_current_key(&1);
    for (value, expected) in [(1, 1), (2, 3), (3, 6), (4, 10), (5, 15)] {
        ask!(worker, sum.add(value));
        assert_eq!(ask!(worker, sum.get()), Some(expected));
    }
    sum.clear().unwrap();
    assert_eq!(ask!(worker, sum.get()), None);
    ask!(worker, sum.add(3));
    assert_eq!(ask!(worker, sum.get()), Some(3));
}

fn an_absent_sum_is_none(world: &World) {
    let worker = world.worker();
    let (store, sum) = sums(&worker);
    store.set_current_key(&1);
    assert_eq!(ask!(worker, sum.get()), None);
    ask!(worker, sum.add(3));
    sum.clear().unwrap();
    assert_eq!(ask!(worker, sum.get()), None);
    let worker = world.restore(&worker.checkpoint(1));
    let (store, sum) = sums(&worker);
    store.set_current_key(&1);
    assert_eq!(ask!(worker, sum.get()), None);
}

/// Flink's asynchronous API reads, and writes when the read is there: additions that are not chained overwrite one another.
fn two_adds_of_one_record_both_count(world: &World) {
    let worker = world.worker();
    let (store, sum) = sums(&worker);
    for key in 0..100 {
        store.set_current_key(&key);
        ask!(worker, sum.add(100));
    }
    let worker = world.restore(&worker.checkpoint(1));
    let (store, sum) = sums(&worker);
    for key in 0..100 {
        store.set_current_key(&key);
        // Both are under way before either is done: on forst both are cold.
        let (first, second, third) = (sum.add(1), sum.add(20), sum.add(300));
        let done = worker.run(join3(first, second, third));
        done.0.and(done.1).and(done.2).unwrap();
        assert_eq!(
            ask!(worker, sum.get()),
            Some(421),
            "key {key}, {}",
            world.name()
        );
    }
}
