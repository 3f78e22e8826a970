//! Namespaces: several entries per key, and merging them.
use aquifer_state::{
    AggregateFunction, AggregatingState, AggregatingStateDescriptor, BackendKind, KeyedStateStore,
    ListState, ListStateDescriptor, MapStateDescriptor, ReducingState, ReducingStateDescriptor,
    StateError, ValueStateDescriptor,
};
use aquifer_testkit::RequestKind;

use crate::cases::{all, ask, conformance};
use crate::world::{Worker, World};

conformance!(
    namespaces_of_a_key_do_not_mix,
    keys_and_namespaces_that_start_alike_do_not_mix,
    a_namespace_must_be_set,
    clones_share_the_namespace_and_detached_handles_do_not,
    another_namespace_type_is_refused,
    merging_lists_empties_the_sources,
    merging_sums_in_every_layout,
    merging_accumulators,
    merging_into_a_source_is_harmless,
);

fn namespaces_of_a_key_do_not_mix(world: &World) {
    let worker = world.worker();
    let store = worker.store::<String>("op");
    let value = store
        .value_state(&ValueStateDescriptor::<String>::new("value").namespace::<i32>())
        .unwrap();
    let list = store
        .list_state(&ListStateDescriptor::<String>::new("list").namespace::<i32>())
        .unwrap();
    let map = store
        .map_state(&MapStateDescriptor::<String, u8>::new("map").namespace::<i32>())
        .unwrap();
    let append = |a: String, b: String| a + &b;
    let sum = store
        .reducing_state(
            &ReducingStateDescriptor::<String, _>::new("sum", append).namespace::<i32>(),
        )
        .unwrap();
    let at = |key: &str, namespace: i32| {
        store.set_current_key(&key.to_string());
        value.set_namespace(&namespace);
        list.set_namespace(&namespace);
        map.set_namespace(&namespace);
        sum.set_namespace(&namespace);
        format!("{key}{namespace}")
    };
    for key in ["a", "b"] {
        for namespace in [1, 2] {
            let text = at(key, namespace);
            value.put(text.clone()).unwrap();
            list.add_all(&[text.clone(), text.clone()]).unwrap();
            map.put(&text, &1).unwrap();
            ask!(worker, sum.add(text.clone()));
            ask!(worker, sum.add(text));
        }
    }
    at("a", 2);
    value.clear().unwrap();
    list.clear().unwrap();
    map.clear().unwrap();
    sum.clear().unwrap();
    for key in ["a", "b"] {
        for namespace in [1, 2] {
            let text = at(key, namespace);
            let there = (key, namespace) != ("a", 2);
            let some = there.then(|| text.clone());
            assert_eq!(ask!(worker, value.get()), some, "{text}, {}", world.name());
            let twice: Vec<String> = some.iter().flat_map(|t| [t.clone(), t.clone()]).collect();
            assert_eq!(all!(worker, list.get()), twice);
            let keys: Vec<String> = some.iter().cloned().collect();
            assert_eq!(all!(worker, map.keys()), keys);
            assert_eq!(ask!(worker, map.is_empty()), !there);
            assert_eq!(ask!(worker, sum.get()), some.map(|t| t.clone() + &t));
        }
    }
}

fn keys_and_namespaces_that_start_alike_do_not_mix(world: &World) {
    let keys = ["", "a", "a\0", "a\0\u{1}", "ab"];
    let namespaces = ["", "\0", "\0\u{1}", "b"];
    let open = |worker: &Worker| {
        let store = worker.store::<String>("op");
        let descriptor = ValueStateDescriptor::<String>::new("v").namespace::<String>();
        let value = store.value_state(&descriptor).unwrap();
        (store, value)
    };
    let worker = world.worker();
    let (store, value) = open(&worker);
    for key in keys {
        for namespace in namespaces {
            store.set_current_key(&key.to_string());
            value.set_namespace(&namespace.to_string());
            value.put(format!("{key}/{namespace}")).unwrap();
        }
    }
    let worker = world.restore(&worker.checkpoint(1));
    let (store, value) = open(&worker);
    for key in keys {
        for namespace in namespaces {
            store.set_current_key(&key.to_string());
            value.set_namespace(&namespace.to_string());
            assert_eq!(
                ask!(worker, value.get()),
                Some(format!("{key}/{namespace}"))
            );
        }
    }
    assert_eq!(ask!(worker, store.entry_count(&value)), 20);
}

fn a_namespace_must_be_set(world: &World) {
    let worker = world.worker();
    let store = worker.store::<u32>("op");
    let descriptor = ValueStateDescriptor::<u8>::new("v").namespace::<String>();
    let value = store.value_state(&descriptor).unwrap();
    store.set_current_key(&1);
    for refused in [value.put(1), value.value().map(drop), value.clear()] {
        match refused {
            Err(StateError::Usage(text)) => assert!(text.contains("String"), "{text}"),
            other => panic!("{other:?}"),
        }
    }
    value.set_namespace(&"n".into());
    value.put(1).unwrap();
}

fn clones_share_the_namespace_and_detached_handles_do_not(world: &World) {
    let worker = world.worker();
    let store = worker.store::<u32>("op");
    let descriptor = ValueStateDescriptor::<u8>::new("v").namespace::<u8>();
    let value = store.value_state(&descriptor).unwrap();
    store.set_current_key(&1);
    value.set_namespace(&1);
    let (clone, own) = (value.clone(), value.detached());
    clone.set_namespace(&2);
    value.put(22).unwrap();
    own.put(11).unwrap();
    // A method acts on the namespace that is set when it is called.
    let before = value.get();
    value.set_namespace(&1);
    assert_eq!(worker.run(before).unwrap(), Some(22));
    assert_eq!(ask!(worker, clone.get()), Some(11));
}

fn another_namespace_type_is_refused(world: &World) {
    let worker = world.worker();
    let store = worker.store::<u32>("op");
    let descriptor = ValueStateDescriptor::<u8>::new("v").namespace::<u32>();
    store.value_state(&descriptor).unwrap();
    let worker = world.restore(&worker.checkpoint(1));
    let store = worker.store::<u32>("op");
    let other = ValueStateDescriptor::<u8>::new("v").namespace::<String>();
    match store.value_state(&other).map(drop) {
        Err(StateError::Incompatible(text)) => {
            for part in ["`v`", "`op`", "u32", "String"] {
                assert!(text.contains(part), "{text}");
            }
        }
        other => panic!("{:?}", other.err()),
    }
    store.value_state(&descriptor).unwrap();
}

type Lists = (
    KeyedStateStore<u32>,
    ListState<i32, aquifer_state::serializer::Postcard<i32>, i32>,
);

fn lists(worker: &Worker) -> Lists {
    let store = worker.store::<u32>("op");
    let descriptor = ListStateDescriptor::<i32>::new("l").namespace::<i32>();
    let list = store.list_state(&descriptor).unwrap();
    (store, list)
}

/// What namespaces 1, 2, 3 hold before, what is merged into 1, and what 1 holds then.
type Merged = ([&'static [i32]; 3], &'static [i32], &'static [i32]);

fn merging_lists_empties_the_sources(world: &World) {
    let worker = world.worker();
    let (store, list) = lists(&worker);
    let cases: [Merged; 6] = [
        ([&[33, 55], &[22], &[11]], &[2, 3], &[33, 55, 22, 11]),
        ([&[], &[22, 55], &[11]], &[3, 2], &[11, 22, 55]),
        ([&[1], &[2], &[]], &[2, 2, 2], &[1, 2]),
        ([&[1], &[], &[]], &[2, 3], &[1]),
        ([&[], &[], &[]], &[2, 3], &[]),
        ([&[1], &[2], &[3]], &[], &[1]),
    ];
    for (key, (before, ..)) in (0..).zip(&cases) {
        store.set_current_key(&key);
        for (namespace, elements) in (1..).zip(before) {
            list.set_namespace(&namespace);
            list.add_all(*elements).unwrap();
        }
    }
    // Cold on forst.
    let worker = world.restore(&worker.checkpoint(1));
    let (store, list) = lists(&worker);
    for (key, (_, sources, _)) in (0..).zip(&cases) {
        store.set_current_key(&key);
        ask!(worker, list.merge_namespaces(&1, sources));
    }
    let saved = worker.checkpoint(2);
    for worker in [worker, world.restore(&saved)] {
        let (store, list) = lists(&worker);
        for (key, (before, sources, after)) in (0..).zip(&cases) {
            store.set_current_key(&key);
            for (namespace, elements) in (1..).zip(before) {
                list.set_namespace(&namespace);
                let expected = match namespace {
                    1 => *after,
                    merged if sources.contains(&merged) => &[],
                    _ => *elements,
                };
                let found = all!(worker, list.get());
                assert_eq!(
                    found,
                    expected,
                    "key {key}, namespace {namespace}, {}",
                    world.name()
                );
            }
        }
        assert_eq!(ask!(worker, store.entry_count(&list)), 4 + 3);
    }
}

const LAYOUTS: [[&[i64]; 3]; 5] = [
    [&[33, 55], &[22, 11], &[44]],
    [&[], &[11, 22, 33, 44, 55], &[]],
    [&[11, 22, 33, 44, 55], &[], &[]],
    [&[11, 22, 33], &[], &[44, 55]],
    [&[], &[], &[11, 22, 33, 44, 55]],
];

fn merging_sums_in_every_layout(world: &World) {
    type Sums =
        ReducingState<i64, fn(i64, i64) -> i64, aquifer_state::serializer::Postcard<i64>, i32>;
    let open = |worker: &Worker| {
        let store = worker.store::<u32>("op");
        let add: fn(i64, i64) -> i64 = |a, b| a + b;
        let descriptor = ReducingStateDescriptor::new("sum", add).namespace::<i32>();
        let sum: Sums = store.reducing_state(&descriptor).unwrap();
        (store, sum)
    };
    let worker = world.worker();
    let (store, sum) = open(&worker);
    for (key, layout) in (0..).zip(LAYOUTS) {
        store.set_current_key(&key);
        for (namespace, values) in (1..).zip(layout) {
            sum.set_namespace(&namespace);
            for value in values {
                ask!(worker, sum.add(*value));
            }
        }
    }
    let worker = world.restore(&worker.checkpoint(1));
    let (store, sum) = open(&worker);
    for key in 0..6 {
        store.set_current_key(&key);
        ask!(worker, sum.merge_namespaces(&1, &[2, 3]));
    }
    let saved = worker.checkpoint(2);
    for worker in [worker, world.restore(&saved)] {
        let (store, sum) = open(&worker);
        for key in 0..6 {
            store.set_current_key(&key);
            for namespace in 1..=3 {
                sum.set_namespace(&namespace);
                let expected = (namespace == 1 && key < 5).then_some(165);
                assert_eq!(
                    ask!(worker, sum.get()),
                    expected,
                    "key {key}, {}",
                    world.name()
                );
            }
        }
        assert_eq!(ask!(worker, store.entry_count(&sum)), 5);
    }
}

/// Keeps the order of its inputs.
struct Inputs;

impl AggregateFunction for Inputs {
    type In = i64;
    type Acc = Vec<i64>;
    type Out = Vec<i64>;

    fn create(&self) -> Vec<i64> {
        vec![]
    }

    fn add(&self, value: i64, acc: &mut Vec<i64>) {
        acc.push(value);
    }

    fn result(&self, acc: &Vec<i64>) -> Vec<i64> {
        acc.clone()
    }

    fn merge(&self, mut a: Vec<i64>, b: Vec<i64>) -> Vec<i64> {
        a.extend(b);
        a
    }
}

fn merging_accumulators(world: &World) {
    type All = AggregatingState<Inputs, aquifer_state::serializer::Postcard<Vec<i64>>, i32>;
    let worker = world.worker();
    let store = worker.store::<u32>("op");
    let descriptor = AggregatingStateDescriptor::new("all", Inputs).namespace::<i32>();
    let all: All = store.aggregating_state(&descriptor).unwrap();
    for (key, layout) in (0..).zip(LAYOUTS) {
        store.set_current_key(&key);
        for (namespace, values) in (1..).zip(layout) {
            all.set_namespace(&namespace);
            for value in values {
                ask!(worker, all.add(*value));
            }
        }
        ask!(worker, all.merge_namespaces(&1, &[2, 3]));
        all.set_namespace(&1);
        let expected = layout.concat();
        assert_eq!(
            ask!(worker, all.get()),
            Some(expected.clone()),
            "{}",
            world.name()
        );
        // A source that is filled again is another one.
        all.set_namespace(&2);
        assert_eq!(ask!(worker, all.get()), None);
        ask!(worker, all.add(1));
        all.set_namespace(&1);
        ask!(worker, all.add(2));
        all.set_namespace(&2);
        assert_eq!(ask!(worker, all.get()), Some(vec![1]));
    }
}

fn merging_into_a_source_is_harmless(world: &World) {
    let worker = world.worker();
    let (store, list) = lists(&worker);
    store.set_current_key(&1);
    list.set_namespace(&1);
    list.add_all(&[1, 2]).unwrap();
    ask!(worker, list.merge_namespaces(&1, &[1]));
    assert_eq!(all!(worker, list.get()), [1, 2]);
    list.set_namespace(&2);
    list.add(&3).unwrap();
    ask!(worker, list.merge_namespaces(&1, &[1, 2, 1]));
    list.set_namespace(&1);
    assert_eq!(all!(worker, list.get()), [1, 2, 3]);
}

/// All that a merge has to read goes out as one request to each file.
#[test]
fn cold_sources_are_read_together() {
    let mut world = World::new(BackendKind::Forst, true);
    // One block, so that the sources are neighbours.
    world.options.block_bytes = 64 << 10;
    let worker = world.worker();
    let (store, list) = lists(&worker);
    store.set_current_key(&1);
    for namespace in 0..20 {
        list.set_namespace(&namespace);
        list.add(&namespace).unwrap();
    }
    let worker = world.restore(&worker.checkpoint(1));
    let (store, list) = lists(&worker);
    store.set_current_key(&1);
    let before = world.objects.counts();
    let sources: Vec<i32> = (1..20).collect();
    worker.run(list.merge_namespaces(&0, &sources)).unwrap();
    let counts = world.objects.counts();
    let gets = counts.requests(RequestKind::Get) - before.requests(RequestKind::Get);
    assert!(
        gets <= 3,
        "{gets} requests: index, filter and block are enough"
    );
    list.set_namespace(&0);
    let merged = worker.collect(list.get());
    assert_eq!(merged, (0..20).collect::<Vec<i32>>());
}
