//! Aggregating and folding state.
use aquifer_state::{
    AggregateFunction, AggregatingState, AggregatingStateDescriptor, FoldingStateDescriptor,
    KeyedStateStore,
};
use serde::{Deserialize, Serialize};

use crate::cases::{ask, conformance};
use crate::world::{Worker, World};

conformance!(
    accumulators_are_kept_per_key,
    accumulators_are_not_shared,
    the_output_may_have_another_type,
    folding_starts_from_a_copy_of_the_initial_value,
);

/// Keeps its inputs, and says their sum.
#[derive(Clone, Copy)]
struct SumOf;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Inputs {
    inputs: Vec<i64>,
}

impl AggregateFunction for SumOf {
    type In = i64;
    type Acc = Inputs;
    type Out = i64;

    fn create(&self) -> Inputs {
        Inputs { inputs: vec![] }
    }

    fn add(&self, value: i64, acc: &mut Inputs) {
        acc.inputs.push(value);
    }

    fn result(&self, acc: &Inputs) -> i64 {
        acc.inputs.iter().sum()
    }

    fn merge(&self, mut a: Inputs, b: Inputs) -> Inputs {
        a.inputs.extend(b.inputs);
        a
    }
}

fn sums(worker: &Worker) -> (KeyedStateStore<String>, AggregatingState<SumOf>) {
    let store = worker.store::<String>("op");
    let sum = store
        .aggregating_state(&AggregatingStateDescriptor::new("sum", SumOf))
        .unwrap();
    (store, sum)
}

fn accumulators_are_kept_per_key(world: &World) {
    let worker = world.worker();
    let (store, sum) = sums(&worker);
    for (key, value) in [("abc", 17), ("def", 1), ("abc", 11), ("def", 2), ("def", 3)] {
        store.set_current_key(&key.to_string());
        ask!(worker, sum.add(value));
    }
    let check =
        |worker: &Worker, store: &KeyedStateStore<String>, sum: &AggregatingState<SumOf>| {
            for (key, expected) in [("abc", Some(28)), ("def", Some(6)), ("jkl", None)] {
                store.set_current_key(&key.to_string());
                assert_eq!(ask!(worker, sum.get()), expected);
            }
        };
    check(&worker, &store, &sum);
    let worker = world.restore(&worker.checkpoint(1));
    let (store, sum) = sums(&worker);
    check(&worker, &store, &sum);
    store.set_current_key(&"abc".to_string());
    ask!(worker, sum.add(1));
    assert_eq!(ask!(worker, sum.get()), Some(29));
    sum.clear().unwrap();
    assert_eq!(ask!(worker, sum.get()), None);
}

fn accumulators_are_not_shared(world: &World) {
    let worker = world.worker();
    let store = worker.store::<u32>("op");
    /// Hands the accumulator out.
    struct Whole;
    impl AggregateFunction for Whole {
        type In = u8;
        type Acc = Vec<u8>;
        type Out = Vec<u8>;
        fn create(&self) -> Vec<u8> {
            vec![0]
        }
        fn add(&self, value: u8, acc: &mut Vec<u8>) {
            acc.push(value);
        }
        fn result(&self, acc: &Vec<u8>) -> Vec<u8> {
            acc.clone()
        }
        fn merge(&self, a: Vec<u8>, b: Vec<u8>) -> Vec<u8> {
            [a, b].concat()
        }
    }
    let all = store
        .aggregating_state(&AggregatingStateDescriptor::<Whole>::new("all", Whole))
        .unwrap();
    for key in [1, 2] {
        store.set_current_key(&key);
        ask!(worker, all.add(key as u8));
    }
    let mut read = ask!(worker, all.get()).unwrap();
    read.push(99);
    assert_eq!(ask!(worker, all.get()), Some(vec![0, 2]));
    store.set_current_key(&1);
    assert_eq!(ask!(worker, all.get()), Some(vec![0, 1]));
}

fn the_output_may_have_another_type(world: &World) {
    struct Average;
    impl AggregateFunction for Average {
        type In = i64;
        type Acc = (i64, u32);
        type Out = f64;
        fn create(&self) -> (i64, u32) {
            (0, 0)
        }
        fn add(&self, value: i64, acc: &mut (i64, u32)) {
            *acc = (acc.0 + value, acc.1 + 1);
        }
        fn result(&self, acc: &(i64, u32)) -> f64 {
            acc.0 as f64 / f64::from(acc.1)
        }
        fn merge(&self, a: (i64, u32), b: (i64, u32)) -> (i64, u32) {
            (a.0 + b.0, a.1 + b.1)
        }
    }
    let worker = world.worker();
    let store = worker.store::<u32>("op");
    let average = store
        .aggregating_state(&AggregatingStateDescriptor::<Average>::new(
            "average", Average,
        ))
        .unwrap();
    store.set_current_key(&1);
    for value in [1, 3, 5] {
        ask!(worker, average.add(value));
    }
    assert_eq!(ask!(worker, average.get()), Some(3.0));
}

fn folding_starts_from_a_copy_of_the_initial_value(world: &World) {
    let open = |worker: &Worker| {
        let store = worker.store::<u32>("op");
        let push = |acc: &mut String, digit: u32| acc.push_str(&digit.to_string());
        let descriptor =
            FoldingStateDescriptor::<u32, String, _>::new("text", || "start:".into(), push);
        let text = store.folding_state(&descriptor).unwrap();
        (store, text)
    };
    let worker = world.worker();
    let (store, text) = open(&worker);
    for (key, digit) in [(1, 1), (2, 3), (1, 2)] {
        store.set_current_key(&key);
        ask!(worker, text.add(digit));
    }
    for (key, expected) in [(1, Some("start:12")), (2, Some("start:3")), (3, None)] {
        store.set_current_key(&key);
        assert_eq!(ask!(worker, text.get()).as_deref(), expected);
    }
    store.set_current_key(&1);
    text.clear().unwrap();
    assert_eq!(ask!(worker, text.get()), None);
    ask!(worker, text.add(9));
    let worker = world.restore(&worker.checkpoint(1));
    let (store, text) = open(&worker);
    store.set_current_key(&1);
    assert_eq!(ask!(worker, text.get()).as_deref(), Some("start:9"));
}
