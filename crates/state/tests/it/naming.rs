//! Errors of serializers say which state of which operator they are about, and in which key group, on every backend and in both APIs. A serializer
//! that says more of itself than a checkpoint holds is refused.

use aquifer_state::key_group::{KeyHash, assign_to_key_group};
use aquifer_state::operator::OperatorStateStore;
use aquifer_state::serializer::{Serializer, SerializerSnapshot};
use aquifer_state::{
    KeyedStateStore, ListState, ListStateDescriptor, MapState, MapStateDescriptor, ReducingState,
    ReducingStateDescriptor, StateError, ValueState, ValueStateDescriptor,
};
use futures_util::StreamExt;

use crate::cases::{conformance, try_ask};
use crate::world::{MAX_PARALLELISM, Saved, Worker, World};

conformance!(
    errors_of_writing_name_the_state,
    errors_of_reading_name_the_state,
);

const OPERATOR: &str = "7-probe";
const KEY: u32 = 5;
/// Not written.
const UNWRITABLE: u32 = 13;
/// Written, and not read.
const UNREADABLE: u32 = 77;

#[derive(Clone)]
struct Picky;

impl Serializer<u32> for Picky {
    fn serialize(&self, value: &u32, out: &mut Vec<u8>) -> Result<(), StateError> {
        if *value == UNWRITABLE {
            return Err(StateError::Usage("thirteen is not written".into()));
        }
        out.extend_from_slice(&value.to_le_bytes());
        Ok(())
    }

    fn deserialize(&self, bytes: &[u8]) -> Result<u32, StateError> {
        match bytes.try_into().map(u32::from_le_bytes) {
            Ok(value) if value != UNREADABLE => Ok(value),
            _ => Err(StateError::Corrupt("this is not read".into())),
        }
    }

    fn layout(&self) -> String {
        "picky-1".into()
    }
}

fn value() -> ValueStateDescriptor<u32, Picky> {
    ValueStateDescriptor::with_serializer("value", Picky)
}

fn list() -> ListStateDescriptor<u32, Picky> {
    ListStateDescriptor::with_serializer("list", Picky)
}

fn map() -> MapStateDescriptor<u8, u32, Picky> {
    MapStateDescriptor::with_serializer("map", Picky)
}

type Add = fn(u32, u32) -> u32;

/// The state that is asked for, of the current key.
struct States {
    value: Result<ValueState<u32, Picky>, StateError>,
    list: Result<ListState<u32, Picky>, StateError>,
    map: Result<MapState<u8, u32, Picky>, StateError>,
    sum: Result<ReducingState<u32, Add, Picky>, StateError>,
}

fn opened(worker: &Worker) -> States {
    let store: KeyedStateStore<u32> = worker.store(OPERATOR);
    store.set_current_key(&KEY);
    let add: Add = |a, b| a + b;
    let sum = ReducingStateDescriptor::with_serializer("sum", add, Picky);
    States {
        value: store.value_state(&value()),
        list: store.list_state(&list()),
        map: store.map_state(&map()),
        sum: store.reducing_state(&sum),
    }
}

#[track_caller]
fn named<T>(state: &str, outcome: Result<T, StateError>) {
    let error = outcome.map(drop).expect_err(state).to_string();
    let group = assign_to_key_group(KEY.hash_code(), MAX_PARALLELISM);
    let expected = format!("state `{state}` of operator `{OPERATOR}`, key group {group}: ");
    assert_eq!(error.matches(&expected).count(), 1, "{error}");
    let why = error.contains("thirteen is not written") || error.contains("this is not read");
    assert!(why, "{error}");
}

fn is_heap(worker: &Worker) -> bool {
    worker.backend.borrow().heap().is_some()
}

/// A snapshot of all tables.
fn snapshot(worker: &Worker) -> Result<Saved, StateError> {
    let tables = worker.backend.borrow().tables();
    for (_, table) in tables {
        worker.backend.borrow_mut().freeze(table)?;
    }
    worker.backend.borrow_mut().snapshot(1)?;
    worker.finished(1)
}

fn errors_of_writing_name_the_state(world: &World) {
    let worker = world.worker();
    if is_heap(&worker) {
        // On the heap values become bytes in snapshots.
        opened(&worker).value.unwrap().put(UNWRITABLE).unwrap();
        named("value", snapshot(&worker));
        let world = World::like(world);
        let worker = world.worker();
        opened(&worker).list.unwrap().add(&UNWRITABLE).unwrap();
        named("list", snapshot(&worker));
        let world = World::like(&world);
        let worker = world.worker();
        opened(&worker).map.unwrap().put(&1, &UNWRITABLE).unwrap();
        named("map", snapshot(&worker));
        return;
    }
    let States {
        value,
        list,
        map,
        sum,
    } = opened(&worker);
    let (value, list, map, sum) = (value.unwrap(), list.unwrap(), map.unwrap(), sum.unwrap());
    named("value", value.put(UNWRITABLE));
    named("list", list.add(&UNWRITABLE));
    named("list", list.add_all(&[1, UNWRITABLE]));
    named("list", list.update(&[UNWRITABLE]));
    named("map", map.put(&1, &UNWRITABLE));
    named("map", map.put_all([(&1, &UNWRITABLE)]));
    try_ask!(worker, sum.add(UNWRITABLE - 1)).unwrap();
    named("sum", try_ask!(worker, sum.add(1)));
}

fn errors_of_reading_name_the_state(world: &World) {
    let worker = world.worker();
    let states = opened(&worker);
    states.value.unwrap().put(UNREADABLE).unwrap();
    states.list.unwrap().add(&UNREADABLE).unwrap();
    states.map.unwrap().put(&1, &UNREADABLE).unwrap();
    let sum = states.sum.unwrap();
    try_ask!(worker, sum.add(UNREADABLE)).unwrap();
    let worker = world.restore(&snapshot(&worker).unwrap());
    let states = opened(&worker);
    if is_heap(&worker) {
        // There they are read when the state is asked for.
        named("value", states.value);
        named("list", states.list);
        named("map", states.map);
        named("sum", states.sum);
        return;
    }
    let (value, list, map) = (
        states.value.unwrap(),
        states.list.unwrap(),
        states.map.unwrap(),
    );
    let sum = states.sum.unwrap();
    // The first read is cold, the second is not.
    for _ in 0..2 {
        named("value", try_ask!(worker, value.get()));
        named("map", try_ask!(worker, map.get(&1)));
        named("sum", try_ask!(worker, sum.get()));
        named("sum", try_ask!(worker, sum.add(1)));
        let (elements, entries, values) = if world.asynchronous.get() {
            worker.run(async {
                (
                    list.get().next().await,
                    map.entries().next().await,
                    map.values().next().await,
                )
            })
        } else {
            (
                list.sync().get().next(),
                map.sync().entries().next(),
                map.sync().values().next(),
            )
        };
        named("list", elements.unwrap());
        named("map", entries.unwrap());
        named("map", values.unwrap());
    }
}

/// Says too much of itself.
#[derive(Clone)]
struct Wordy;

impl Serializer<u32> for Wordy {
    fn serialize(&self, value: &u32, out: &mut Vec<u8>) -> Result<(), StateError> {
        Picky.serialize(value, out)
    }

    fn deserialize(&self, bytes: &[u8]) -> Result<u32, StateError> {
        Picky.deserialize(bytes)
    }

    fn layout(&self) -> String {
        "x".repeat(SerializerSnapshot::PAYLOAD_BYTES_MAX + 1)
    }
}

/// A checkpoint was written that no program could read.
#[test]
fn what_a_checkpoint_cannot_hold_is_refused() {
    #[track_caller]
    fn refused<T>(name: &str, outcome: Result<T, StateError>) {
        match outcome.map(drop) {
            Err(StateError::Usage(text)) => {
                assert!(
                    text.contains(name) && text.contains("1048577 bytes"),
                    "{text}"
                );
            }
            other => panic!("{other:?}"),
        }
    }
    let world = World::forst(true);
    let worker = world.worker();
    let store: KeyedStateStore<u32> = worker.store(OPERATOR);
    let wordy = ValueStateDescriptor::with_serializer("long", Wordy);
    refused(
        "state `long` of operator `7-probe`",
        store.value_state(&wordy).map(drop),
    );
    let operator = OperatorStateStore::empty(OPERATOR);
    let wordy = ListStateDescriptor::with_serializer("list", Wordy);
    refused(
        "operator state `list`",
        operator.list_state(&wordy).map(drop),
    );
    let map = operator.broadcast_state_with("map", Wordy, Picky);
    refused("broadcast state `map`", map.map(drop));
}
