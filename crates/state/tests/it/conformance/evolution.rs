//! What becomes of a state whose types have changed between two programs.
//!
//! `Tagged` goes on from old rows without touching them; `Postcard` goes on from its own bytes, or rewrites the state by a function; everything else
//! is refused when the state is asked for, by an error that names state, operator, the old type and the new one.
use std::time::Duration;

use aquifer_state::key_group::KeyHash;
use aquifer_state::ordered::OrderedKey;
use aquifer_state::serializer::{Compatibility, Plain, Postcard, Serializer, Tagged, Upgrading};
use aquifer_state::{
    BackendKind, ListState, ListStateDescriptor, MapState, MapStateDescriptor, ReducingState,
    ReducingStateDescriptor, StateError, StateValue, TtlConfig, ValueState, ValueStateDescriptor,
};
use aquifer_testkit::FaultPlan;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::cases::{all, ask, conformance};
use crate::world::{Saved, Worker, World};

conformance!(
    a_verdict_is_given_before_anything_is_read,
    values_with_added_and_removed_fields_are_read,
    elements_with_added_and_removed_fields_are_read,
    user_values_with_added_and_removed_fields_are_read,
    fields_and_variants_may_change_places,
    another_value_type_is_refused,
    another_element_type_is_refused,
    another_type_of_sum_is_refused,
    another_user_key_or_user_value_type_is_refused,
    another_kind_of_state_is_refused,
    another_key_type_is_refused,
    a_key_with_another_field_is_refused,
    a_key_type_may_be_renamed,
    another_namespace_type_is_refused,
    a_namespace_with_another_field_is_refused,
    a_namespace_type_may_be_renamed,
    timers_of_another_key_are_refused,
    timers_of_a_renamed_key_go_on,
    timers_of_a_key_with_another_field_are_refused,
    old_and_new_rows_meet_in_compactions,
    evolution_crosses_backends,
    an_upgrade_rewrites_values_elements_and_entries,
    an_upgrade_keeps_the_times_of_rows,
    an_upgrade_rewrites_what_has_expired,
    an_upgrade_that_is_cut_off_starts_over,
    an_upgrade_that_fails_names_the_state,
);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct V1 {
    owner: String,
    cents: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct V2 {
    owner: String,
    cents: u64,
    #[serde(default)]
    blocked: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct V3 {
    owner: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct V4 {
    cents: u64,
    owner: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct V5 {
    owner: u64,
    cents: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct V6 {
    owner: String,
    cents: u64,
    country: String,
}

const ROWS: [(&str, u64); 3] = [("foo", 1456), ("bar", 478), ("hello", 189)];

fn v1(at: usize) -> V1 {
    let (owner, cents) = ROWS[at];
    let owner = owner.into();
    V1 { owner, cents }
}

fn v2(at: usize) -> V2 {
    let V1 { owner, cents } = v1(at);
    let blocked = false;
    V2 {
        owner,
        cents,
        blocked,
    }
}

fn v3(at: usize) -> V3 {
    V3 {
        owner: v1(at).owner,
    }
}

fn v4(at: usize) -> V4 {
    let V1 { owner, cents } = v1(at);
    V4 { cents, owner }
}

/// A type that serde knows, with all that states want.
trait Type: StateValue + PartialEq + std::fmt::Debug + Serialize + DeserializeOwned {}
impl<T: StateValue + PartialEq + std::fmt::Debug + Serialize + DeserializeOwned> Type for T {}

fn refused<T>(result: Result<T, StateError>, parts: &[&str]) {
    match result.map(|_| ()) {
        Err(StateError::Incompatible(text)) => {
            for part in ["`s`", "`op`"].iter().chain(parts) {
                assert!(text.contains(part), "{part} in: {text}");
            }
        }
        other => panic!("expected a refusal with {parts:?}, got {other:?}"),
    }
}

fn value<T: Type>(worker: &Worker) -> Result<ValueState<T, Tagged<T>>, StateError> {
    let descriptor = ValueStateDescriptor::<T, Tagged<T>>::new("s");
    let store = worker.store::<u32>("op");
    store.set_current_key(&0);
    store.value_state(&descriptor)
}

fn list<T: Type>(worker: &Worker) -> Result<ListState<T, Tagged<T>>, StateError> {
    let store = worker.store::<u32>("op");
    store.set_current_key(&7);
    store.list_state(&ListStateDescriptor::<T, Tagged<T>>::new("s"))
}

fn map<T: Type>(worker: &Worker) -> Result<MapState<u8, T, Tagged<T>>, StateError> {
    let store = worker.store::<u32>("op");
    store.set_current_key(&7);
    store.map_state(&MapStateDescriptor::<u8, T, Tagged<T>>::new("s"))
}

/// Rows as the backend has them, where it has bytes.
fn stored(world: &World, worker: &Worker) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
    (world.kind.get() != BackendKind::Hashmap).then(|| worker.rows("s"))
}

/// Values of `Old` at keys 0, 1, 2 are values of `New`: read, overwritten, restored again; what is not overwritten stays byte for byte.
fn values_go_on<Old: Type, New: Type>(
    world: &World,
    old: impl Fn(usize) -> Old,
    new: impl Fn(usize) -> New,
) {
    let worker = world.worker();
    let store = worker.store::<u32>("op");
    let descriptor = ValueStateDescriptor::<Old, Tagged<Old>>::new("s");
    let state = store.value_state(&descriptor).unwrap();
    for key in 0..3 {
        store.set_current_key(&key);
        state.put(old(key as usize)).unwrap();
    }
    let before = stored(world, &worker);
    let mut saved = worker.checkpoint(1);
    let descriptor = ValueStateDescriptor::<New, Tagged<New>>::new("s");
    for round in 2..4 {
        let worker = world.restore(&saved);
        let store = worker.store::<u32>("op");
        let state = store.value_state(&descriptor).unwrap();
        for key in 0..3 {
            store.set_current_key(&key);
            assert_eq!(ask!(worker, state.get()), Some(new(key as usize)));
        }
        if round == 2 {
            assert_eq!(stored(world, &worker), before, "nothing is rewritten");
        }
        store.set_current_key(&1);
        state.put(new(1)).unwrap();
        assert_eq!(ask!(worker, state.get()), Some(new(1)));
        let after = stored(world, &worker);
        if let (Some(before), Some(after)) = (&before, &after) {
            let same = before.iter().zip(after).filter(|(a, b)| a == b).count();
            assert!((2..=3).contains(&same), "{same} rows stay as they were");
        }
        saved = worker.checkpoint(round);
    }
}

fn elements_go_on<Old: Type, New: Type>(
    world: &World,
    old: impl Fn(usize) -> Old,
    new: impl Fn(usize) -> New,
) {
    let worker = world.worker();
    let state = list_of::<Old>(&worker, 7);
    state.add_all(&[old(0), old(1), old(2)]).unwrap();
    let other = list_of::<Old>(&worker, 8);
    other.add(&old(2)).unwrap();
    let mut saved = worker.checkpoint(1);
    let mut expected = vec![new(0), new(1), new(2)];
    for round in 2..4 {
        let worker = world.restore(&saved);
        let state = list_of::<New>(&worker, 7);
        assert_eq!(all!(worker, state.get()), expected);
        // Old and new ones, in the order in which they came.
        state.add(&new(round)).unwrap();
        expected.push(new(round));
        assert_eq!(all!(worker, state.get()), expected);
        let other = list_of::<New>(&worker, 8);
        assert_eq!(all!(worker, other.get()), [new(2)]);
        saved = worker.checkpoint(round as u64);
    }
}

fn list_of<T: Type>(worker: &Worker, key: u32) -> ListState<T, Tagged<T>> {
    let store = worker.store::<u32>("op");
    store.set_current_key(&key);
    let descriptor = ListStateDescriptor::<T, Tagged<T>>::new("s");
    store.list_state(&descriptor).unwrap()
}

fn entries_go_on<Old: Type, New: Type>(
    world: &World,
    old: impl Fn(usize) -> Old,
    new: impl Fn(usize) -> New,
) {
    let worker = world.worker();
    let state = map::<Old>(&worker).unwrap();
    for user_key in 0..3u8 {
        state.put(&user_key, &old(usize::from(user_key))).unwrap();
    }
    let mut saved = worker.checkpoint(1);
    for round in 2..4 {
        let worker = world.restore(&saved);
        let state = map::<New>(&worker).unwrap();
        assert_eq!(ask!(worker, state.get(&0)), Some(new(0)));
        let expected = || [0u8, 1, 2].map(|user_key| (user_key, new(usize::from(user_key))));
        assert_eq!(all!(worker, state.entries()), expected());
        assert_eq!(
            all!(worker, state.values()),
            expected().map(|(_, value)| value)
        );
        state.put(&1, &new(1)).unwrap();
        assert_eq!(all!(worker, state.entries()), expected());
        saved = worker.checkpoint(round);
    }
}

fn values_with_added_and_removed_fields_are_read(world: &World) {
    values_go_on(world, v1, v2);
    values_go_on(world, v1, v3);
    values_go_on(world, v2, v1);
}

fn at_most_two<T>(value: impl Fn(usize) -> T) -> impl Fn(usize) -> T {
    move |at| value(at.min(2))
}

fn elements_with_added_and_removed_fields_are_read(world: &World) {
    elements_go_on(world, v1, at_most_two(v2));
    elements_go_on(world, v1, at_most_two(v3));
    elements_go_on(world, v2, at_most_two(v1));
}

fn user_values_with_added_and_removed_fields_are_read(world: &World) {
    entries_go_on(world, v1, v2);
    entries_go_on(world, v1, v3);
    entries_go_on(world, v2, v1);
}

fn fields_and_variants_may_change_places(world: &World) {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    enum Before {
        A,
        B(u8),
    }
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    enum After {
        B(u8),
        A,
    }
    let before = |at: usize| [Before::A, Before::B(5), Before::A][at].clone();
    let after = |at: usize| [After::A, After::B(5), After::A][at].clone();
    values_go_on(world, v1, v4);
    elements_go_on(world, v1, at_most_two(v4));
    entries_go_on(world, v1, v4);
    values_go_on(world, before, after);
    elements_go_on(world, before, at_most_two(after));
    entries_go_on(world, before, after);
}

/// A state of V1 with some rows, in a checkpoint.
fn saved_value(world: &World) -> Saved {
    let worker = world.worker();
    let store = worker.store::<u32>("op");
    let descriptor = ValueStateDescriptor::<V1, Tagged<V1>>::new("s");
    let state = store.value_state(&descriptor).unwrap();
    for key in 0..300 {
        store.set_current_key(&key);
        state.put(v1(key as usize % 3)).unwrap();
    }
    worker.checkpoint(1)
}

fn a_verdict_is_given_before_anything_is_read(world: &World) {
    let saved = saved_value(world);
    let worker = world.restore(&saved);
    world.objects.take_counts();
    refused(
        value::<V5>(&worker),
        &[
            "V1{owner:str,cents:u64}",
            "V5{owner:u64,cents:str}",
            "`owner`",
        ],
    );
    refused(value::<V6>(&worker), &["`country` is new"]);
    assert_eq!(world.objects.take_counts().total(), 0);
}

fn another_value_type_is_refused(world: &World) {
    let saved = saved_value(world);
    let worker = world.restore(&saved);
    refused(
        value::<V5>(&worker),
        &["`owner` was `str` and is now `u64`"],
    );
    refused(value::<u64>(&worker), &["`u64`"]);
    let store = worker.store::<u32>("op");
    refused(
        store.value_state(&ValueStateDescriptor::<V1>::new("s")),
        &["tagged-1:V1{", "postcard-1:V1{"],
    );
    // Nothing has happened: with the right type it is there.
    let state = value::<V2>(&worker).unwrap();
    assert_eq!(ask!(worker, state.get()), Some(v2(0)));
    // The same of the positional form.
    let worker = world.worker();
    let store = worker.store::<u32>("op");
    store.set_current_key(&1);
    let state: ValueState<String> = store.value_state(&ValueStateDescriptor::new("s")).unwrap();
    state.put("x".into()).unwrap();
    let saved = worker.checkpoint(1);
    let worker = world.restore(&saved);
    let store = worker.store::<u32>("op");
    refused(
        store.value_state(&ValueStateDescriptor::<u64>::new("s")),
        &["`str`", "`u64`"],
    );
}

fn another_element_type_is_refused(world: &World) {
    let worker = world.worker();
    let state = list::<V1>(&worker).unwrap();
    state.add(&v1(0)).unwrap();
    let saved = worker.checkpoint(1);
    let worker = world.restore(&saved);
    refused(list::<V5>(&worker), &["`owner`"]);
    let state = list::<V1>(&worker).unwrap();
    assert_eq!(all!(worker, state.get()), [v1(0)]);
}

fn another_type_of_sum_is_refused(world: &World) {
    type Sum<T> = ReducingState<T, fn(T, T) -> T, Tagged<T>>;
    fn sum<T: Type>(worker: &Worker, reduce: fn(T, T) -> T) -> Result<Sum<T>, StateError> {
        let store = worker.store::<u32>("op");
        store.set_current_key(&7);
        store.reducing_state(&ReducingStateDescriptor::with_serializer(
            "s",
            reduce,
            Tagged::<T>::default(),
        ))
    }
    let worker = world.worker();
    let state = sum::<u32>(&worker, |a, b| a + b).unwrap();
    ask!(worker, state.add(5));
    let saved = worker.checkpoint(1);
    let worker = world.restore(&saved);
    refused(sum::<String>(&worker, |a, b| a + &b), &["`u32`", "`str`"]);
    refused(sum::<u16>(&worker, |a, b| a + b), &["`u32`", "`u16`"]);
    // A wider sum goes on.
    let state = sum::<i64>(&worker, |a, b| a + b).unwrap();
    ask!(worker, state.add(-7));
    assert_eq!(ask!(worker, state.get()), Some(-2));
}

fn another_user_key_or_user_value_type_is_refused(world: &World) {
    let worker = world.worker();
    let state = map::<V1>(&worker).unwrap();
    state.put(&1, &v1(0)).unwrap();
    let saved = worker.checkpoint(1);
    let worker = world.restore(&saved);
    refused(map::<V5>(&worker), &["`owner`"]);
    let store = worker.store::<u32>("op");
    let other = MapStateDescriptor::<u16, V1, Tagged<V1>>::new("s");
    refused(store.map_state(&other), &["user key", "`u8`", "`u16`"]);
    let state = map::<V1>(&worker).unwrap();
    assert_eq!(ask!(worker, state.get(&1)), Some(v1(0)));
}

fn another_kind_of_state_is_refused(world: &World) {
    let saved = saved_value(world);
    let worker = world.restore(&saved);
    refused(list::<V1>(&worker), &["value state", "list state"]);
    refused(map::<V1>(&worker), &["value state", "map state"]);
    let state = value::<V1>(&worker).unwrap();
    assert_eq!(ask!(worker, state.get()), Some(v1(0)));
}

/// A type of the user's own for keys and namespaces, with the encoding of a tuple.
macro_rules! place {
    ($name:ident, $tuple:ty) => {
        #[derive(Clone)]
        struct $name($tuple);

        impl OrderedKey for $name {
            fn encode_ordered(&self, out: &mut Vec<u8>) {
                self.0.encode_ordered(out);
            }
            fn decode_ordered(input: &mut &[u8]) -> Result<Self, StateError> {
                <$tuple>::decode_ordered(input).map(Self)
            }
            fn type_name() -> String {
                <$tuple>::type_name()
            }
        }

        impl KeyHash for $name {
            fn hash_code(&self) -> i32 {
                self.0.hash_code()
            }
        }
    };
}

place!(Shop, (u32, String));
place!(Store, (u32, String));
place!(Floor, (u32, String, u8));

fn keyed_by<K: OrderedKey + KeyHash + 'static>(
    worker: &Worker,
    key: &K,
) -> Result<ValueState<u64>, StateError> {
    let store = worker.store::<K>("op");
    store.set_current_key(key);
    store.value_state(&ValueStateDescriptor::new("s"))
}

fn another_key_type_is_refused(world: &World) {
    let worker = world.worker();
    keyed_by(&worker, &"a".to_owned()).unwrap().put(5).unwrap();
    let saved = worker.checkpoint(1);
    let worker = world.restore(&saved);
    refused(keyed_by(&worker, &1i64), &["key", "`String`", "`i64`"]);
    let state = keyed_by(&worker, &"a".to_owned()).unwrap();
    assert_eq!(ask!(worker, state.get()), Some(5));
}

fn a_key_with_another_field_is_refused(world: &World) {
    let worker = world.worker();
    let key = Shop((1, "x".into()));
    keyed_by(&worker, &key).unwrap().put(5).unwrap();
    let saved = worker.checkpoint(1);
    let worker = world.restore(&saved);
    let floor = Floor((1, "x".into(), 2));
    refused(
        keyed_by(&worker, &floor),
        &["key", "`(u32, String)`", "`(u32, String, u8)`"],
    );
}

fn a_key_type_may_be_renamed(world: &World) {
    let worker = world.worker();
    keyed_by(&worker, &Shop((1, "x".into())))
        .unwrap()
        .put(5)
        .unwrap();
    let saved = worker.checkpoint(1);
    let worker = world.restore(&saved);
    let state = keyed_by(&worker, &Store((1, "x".into()))).unwrap();
    assert_eq!(ask!(worker, state.get()), Some(5));
}

fn in_namespace<N: OrderedKey + 'static>(
    worker: &Worker,
    namespace: &N,
) -> Result<ValueState<u64, Postcard<u64>, N>, StateError> {
    let store = worker.store::<u32>("op");
    store.set_current_key(&7);
    let state = store.value_state(&ValueStateDescriptor::<u64>::new("s").namespace::<N>())?;
    state.set_namespace(namespace);
    Ok(state)
}

fn another_namespace_type_is_refused(world: &World) {
    let worker = world.worker();
    in_namespace(&worker, &1i64).unwrap().put(5).unwrap();
    let saved = worker.checkpoint(1);
    let worker = world.restore(&saved);
    refused(
        in_namespace(&worker, &"1".to_owned()),
        &["namespace", "`i64`", "`String`"],
    );
    refused(in_namespace(&worker, &()), &["namespace", "`i64`"]);
    let state = in_namespace(&worker, &1i64).unwrap();
    assert_eq!(ask!(worker, state.get()), Some(5));
}

fn a_namespace_with_another_field_is_refused(world: &World) {
    let worker = world.worker();
    in_namespace(&worker, &Shop((1, "x".into())))
        .unwrap()
        .put(5)
        .unwrap();
    let saved = worker.checkpoint(1);
    let worker = world.restore(&saved);
    let floor = Floor((1, "x".into(), 2));
    refused(
        in_namespace(&worker, &floor),
        &["namespace", "`(u32, String, u8)`"],
    );
}

fn a_namespace_type_may_be_renamed(world: &World) {
    let worker = world.worker();
    in_namespace(&worker, &Shop((1, "x".into())))
        .unwrap()
        .put(5)
        .unwrap();
    let saved = worker.checkpoint(1);
    let worker = world.restore(&saved);
    let state = in_namespace(&worker, &Store((1, "x".into()))).unwrap();
    assert_eq!(ask!(worker, state.get()), Some(5));
}

/// (Namespaces of timers are bytes to the state layer: their owner says what they mean.)
fn timers_of_another_key_are_refused(world: &World) {
    let worker = world.worker();
    let timers = worker.store::<u32>("op").timer_service("t").unwrap();
    drop(timers);
    let saved = worker.checkpoint(1);
    let worker = world.restore(&saved);
    match worker.store::<String>("op").timer_service("t").map(|_| ()) {
        Err(StateError::Incompatible(text)) => {
            for part in ["event_t`", "`op`", "`u32`", "`String`"] {
                assert!(text.contains(part), "{part} in: {text}");
            }
        }
        other => panic!("{other:?}"),
    }
    worker.store::<u32>("op").timer_service("t").unwrap();
}

/// Registers a timer of a key, as an operator does whose keys have this type.
fn register<K: OrderedKey + KeyHash + 'static>(worker: &Worker, key: &K, times: &[i64]) {
    let store = worker.store::<K>("op");
    let (event, processing) = (
        store.timer_service("t").unwrap(),
        store.processing_timers("t").unwrap(),
    );
    store.set_current_key(key);
    let current = store.current_key();
    for time in times {
        let registered = current.with(|group, key| {
            event.register(*time, group, key, b"n")?;
            processing.register(*time + 1, group, key, b"")
        });
        registered.unwrap().unwrap();
    }
}

/// Timers that one program has registered fire in the next, whose type of keys has another name, together with its own; and again.
fn timers_of_a_renamed_key_go_on(world: &World) {
    let worker = world.worker();
    register(&worker, &Shop((1, "x".into())), &[10, 30]);
    register(&worker, &Shop((2, "y".into())), &[20]);
    let worker = world.restore(&worker.checkpoint(1));
    // The same timer as one that is there, and a new one.
    register(&worker, &Store((1, "x".into())), &[30, 40]);
    let service = worker.store::<Store>("op").timer_service("t").unwrap();
    let times = |fired: Vec<(i64, Vec<u8>, Vec<u8>)>| -> Vec<i64> {
        fired.into_iter().map(|(time, ..)| time).collect()
    };
    assert_eq!(times(worker.fire(&service, 15)), [10]);
    let worker = world.restore(&worker.checkpoint(2));
    let store = worker.store::<Shop>("op");
    let service = store.timer_service("t").unwrap();
    assert_eq!(times(worker.fire(&service, 100)), [20, 30, 40]);
    let service = store.processing_timers("t").unwrap();
    assert_eq!(times(worker.fire(&service, 100)), [11, 21, 31, 41]);
}

fn timers_of_a_key_with_another_field_are_refused(world: &World) {
    let worker = world.worker();
    register(&worker, &Shop((1, "x".into())), &[10]);
    let saved = worker.checkpoint(1);
    let worker = world.restore(&saved);
    let store = worker.store::<Floor>("op");
    for refused in [store.timer_service("t"), store.processing_timers("t")] {
        let Err(StateError::Incompatible(text)) = refused.map(|_| ()) else {
            panic!("it was not refused")
        };
        for part in ["_t`", "`op`", "(u32, String)", "(u32, String, u8)"] {
            assert!(text.contains(part), "{part} in: {text}");
        }
    }
    // They are still there for who knows them.
    let worker = world.restore(&worker.checkpoint(2));
    let service = worker.store::<Shop>("op").timer_service("t").unwrap();
    assert_eq!(worker.fire(&service, 10).len(), 1);
}

fn old_and_new_rows_meet_in_compactions(world: &World) {
    type Totals<T> = ReducingState<T, fn(T, T) -> T, Tagged<T>>;
    fn totals<T: Type>(
        store: &aquifer_state::KeyedStateStore<u32>,
        reduce: fn(T, T) -> T,
    ) -> Totals<T> {
        let serializer = Tagged::<T>::default();
        store
            .reducing_state(&ReducingStateDescriptor::with_serializer(
                "sums", reduce, serializer,
            ))
            .unwrap()
    }
    const KEYS: u32 = 600;
    let add1: fn(V1, V1) -> V1 = |a, b| V1 {
        cents: a.cents + b.cents,
        ..a
    };
    let add2: fn(V2, V2) -> V2 = |a, b| V2 {
        cents: a.cents + b.cents,
        blocked: true,
        ..a
    };
    let worker = world.worker();
    let store = worker.store::<u32>("op");
    let values = ValueStateDescriptor::<V1, Tagged<V1>>::new("s");
    let state = store.value_state(&values).unwrap();
    let sums = totals(&store, add1);
    for key in 0..KEYS {
        store.set_current_key(&key);
        state.put(v1(key as usize % 3)).unwrap();
        ask!(worker, sums.add(v1(key as usize % 3)));
    }
    let saved = worker.checkpoint(1);
    let worker = world.restore(&saved);
    let store = worker.store::<u32>("op");
    let values = ValueStateDescriptor::<V2, Tagged<V2>>::new("s");
    let state = store.value_state(&values).unwrap();
    let sums = totals(&store, add2);
    let blocked = |at| V2 {
        blocked: true,
        ..v2(at)
    };
    for key in (0..KEYS).step_by(2) {
        store.set_current_key(&key);
        state.put(blocked(key as usize % 3)).unwrap();
        ask!(worker, sums.add(v2(key as usize % 3)));
    }
    let saved = match world.kind.get() {
        BackendKind::Forst => worker.settled(2),
        _ => worker.checkpoint(2),
    };
    let worker = world.restore(&saved);
    let store = worker.store::<u32>("op");
    let state = store.value_state(&values).unwrap();
    let sums = totals(&store, add2);
    for key in 0..KEYS {
        store.set_current_key(&key);
        let (at, again) = (key as usize % 3, key % 2 == 0);
        let expected = if again { blocked(at) } else { v2(at) };
        assert_eq!(
            ask!(worker, state.get()),
            Some(expected.clone()),
            "key {key}"
        );
        let cents = v1(at).cents * if again { 2 } else { 1 };
        assert_eq!(
            ask!(worker, sums.get()),
            Some(V2 { cents, ..expected }),
            "key {key}"
        );
    }
}

fn evolution_crosses_backends(world: &World) {
    let saved = saved_value(world);
    let other = match world.kind.get() {
        BackendKind::Hashmap => BackendKind::Forst,
        _ => BackendKind::Hashmap,
    };
    world.kind.set(other);
    let read = |saved: &Saved| {
        let worker = world.restore(saved);
        let store = worker.store::<u32>("op");
        let descriptor = ValueStateDescriptor::<V2, Tagged<V2>>::new("s");
        let state = store.value_state(&descriptor).unwrap();
        for key in 0..300 {
            store.set_current_key(&key);
            assert_eq!(ask!(worker, state.get()), Some(v2(key as usize % 3)));
        }
        worker.checkpoint(2)
    };
    let saved = read(&saved);
    read(&saved);
}

/// V2 from what `Postcard<V1>` wrote.
fn upgrading() -> Upgrading<V2, Postcard<V2>> {
    Postcard::default().upgrading(|old: V1| V2 {
        blocked: old.cents > 1000,
        owner: old.owner.to_uppercase(),
        cents: old.cents,
    })
}

fn upgraded(at: usize) -> V2 {
    V2 {
        blocked: at == 0,
        owner: v1(at).owner.to_uppercase(),
        ..v2(at)
    }
}

fn an_upgrade_rewrites_values_elements_and_entries(world: &World) {
    const KEYS: u32 = 200;
    let worker = world.worker();
    let store = worker.store::<u32>("op");
    let value = store
        .value_state(&ValueStateDescriptor::<V1>::new("value"))
        .unwrap();
    let list = ListStateDescriptor::<V1>::new("list").chunk_bytes_max(40);
    let list = store.list_state(&list).unwrap();
    let map = store
        .map_state(&MapStateDescriptor::<u8, V1>::new("map"))
        .unwrap();
    let untouched = store
        .value_state(&ValueStateDescriptor::<V1>::new("untouched"))
        .unwrap();
    for key in 0..KEYS {
        store.set_current_key(&key);
        value.put(v1(key as usize % 3)).unwrap();
        untouched.put(v1(0)).unwrap();
        list.add_all(&[v1(0), v1(1), v1(2)]).unwrap();
        for user_key in 0..3u8 {
            map.put(&user_key, &v1(usize::from(user_key))).unwrap();
        }
    }
    let mut saved = worker.checkpoint(1);
    // The first restore rewrites; the second finds the new type, and needs no function any more.
    for round in 2..4 {
        let worker = world.restore(&saved);
        let store = worker.store::<u32>("op");
        macro_rules! check {
            ($serializer:expr) => {
                let value = ValueStateDescriptor::with_serializer("value", $serializer);
                let value = store.value_state(&value).unwrap();
                let list = ListStateDescriptor::with_serializer("list", $serializer);
                let list = store.list_state(&list.chunk_bytes_max(40)).unwrap();
                let map = MapStateDescriptor::<u8, V2, _>::with_serializer("map", $serializer);
                let map = store.map_state(&map).unwrap();
                for key in 0..KEYS {
                    store.set_current_key(&key);
                    assert_eq!(ask!(worker, value.get()), Some(upgraded(key as usize % 3)));
                    assert_eq!(all!(worker, list.get()), [0, 1, 2].map(upgraded));
                    let entries = [0u8, 1, 2].map(|at| (at, upgraded(usize::from(at))));
                    assert_eq!(all!(worker, map.entries()), entries);
                }
            };
        }
        if round == 2 {
            check!(upgrading());
        } else {
            check!(Postcard::<V2>::default());
        }
        saved = worker.checkpoint(round);
    }
    // A state that nobody asked for is as it was, and can be rewritten later.
    let worker = world.restore(&saved);
    let store = worker.store::<u32>("op");
    let untouched = ValueStateDescriptor::with_serializer("untouched", upgrading());
    let untouched = store.value_state(&untouched).unwrap();
    store.set_current_key(&(KEYS - 1));
    assert_eq!(ask!(worker, untouched.get()), Some(upgraded(0)));
}

fn an_upgrade_keeps_the_times_of_rows(world: &World) {
    let ttl = || TtlConfig::new(Duration::from_millis(100));
    world.at(0);
    let worker = world.worker();
    let store = worker.store::<u32>("op");
    let value = ValueStateDescriptor::<u32, Plain<u32>>::new("value").ttl(ttl());
    let value = store.value_state(&value).unwrap();
    let list = ListStateDescriptor::<u32, Plain<u32>>::new("list").ttl(ttl());
    let list = store.list_state(&list).unwrap();
    store.set_current_key(&1);
    value.put(5).unwrap();
    list.add(&5).unwrap();
    world.at(40);
    store.set_current_key(&2);
    value.put(6).unwrap();
    store.set_current_key(&1);
    list.add(&6).unwrap();
    let saved = worker.checkpoint(1);
    world.at(90);
    let worker = world.restore(&saved);
    let store = worker.store::<u32>("op");
    let wider = || {
        Upgrading::new(Plain::<u64>::default())
            .from(Plain::<u32>::default(), |old: u32| u64::from(old) * 10)
    };
    let value = ValueStateDescriptor::with_serializer("value", wider()).ttl(ttl());
    let value = store.value_state(&value).unwrap();
    let list = ListStateDescriptor::with_serializer("list", wider()).ttl(ttl());
    let list = store.list_state(&list).unwrap();
    let read = |key| {
        store.set_current_key(&key);
        ask!(worker, value.get())
    };
    assert_eq!((read(1), read(2)), (Some(50), Some(60)));
    world.at(100);
    assert_eq!((read(1), read(2)), (None, Some(60)));
    store.set_current_key(&1);
    assert_eq!(all!(worker, list.get()), [60]);
    world.at(140);
    assert_eq!((read(1), read(2)), (None, None));
    assert!(ask!(worker, list.is_empty()));
}

/// Rows that had expired were not seen, so they stayed as they were under the new type. A later run that shows them again, with a longer TTL
/// or without one, could not read them.
fn an_upgrade_rewrites_what_has_expired(world: &World) {
    let ttl = |ms| TtlConfig::new(Duration::from_millis(ms));
    let wider = || {
        Upgrading::new(Plain::<u64>::default())
            .from(Plain::<u32>::default(), |old: u32| u64::from(old) * 10)
    };
    for later in [Some(ttl(100_000)), None] {
        world.at(0);
        let worker = world.worker();
        let store = worker.store::<u32>("op");
        let value = ValueStateDescriptor::<u32, Plain<u32>>::new("value").ttl(ttl(100));
        let value = store.value_state(&value).unwrap();
        let list = ListStateDescriptor::<u32, Plain<u32>>::new("list").ttl(ttl(100));
        let list = store.list_state(&list).unwrap();
        let map = MapStateDescriptor::<u8, u32, Plain<u32>>::new("map").ttl(ttl(100));
        let map = store.map_state(&map).unwrap();
        for key in 0..20 {
            store.set_current_key(&key);
            value.put(5).unwrap();
            list.add(&5).unwrap();
            map.put(&1, &5).unwrap();
        }
        let mut saved = worker.checkpoint(1);
        for (round, ttl) in [(2, Some(ttl(100))), (3, later)] {
            world.at(200);
            let worker = world.restore(&saved);
            let store = worker.store::<u32>("op");
            macro_rules! open {
                ($state:ident, $descriptor:expr) => {{
                    let descriptor = $descriptor;
                    let descriptor = match &ttl {
                        Some(ttl) => descriptor.ttl(ttl.clone()),
                        None => descriptor,
                    };
                    store.$state(&descriptor).unwrap()
                }};
            }
            let value = ValueStateDescriptor::with_serializer("value", wider());
            let value = open!(value_state, value);
            let list = open!(
                list_state,
                ListStateDescriptor::with_serializer("list", wider())
            );
            let map = MapStateDescriptor::<u8, u64, _>::with_serializer("map", wider());
            let map = open!(map_state, map);
            // Not read with the short TTL: that would remove it.
            if round == 3 {
                for key in 0..20 {
                    store.set_current_key(&key);
                    // Some of it may have been cleaned up.
                    let one = ask!(worker, value.get());
                    assert!(matches!(one, None | Some(50)), "{one:?}");
                    let elements = all!(worker, list.get());
                    assert!(matches!(elements[..], [] | [50]), "{elements:?}");
                    let entries = all!(worker, map.entries());
                    assert!(matches!(entries[..], [] | [(1, 50)]), "{entries:?}");
                }
            }
            saved = worker.checkpoint(round);
        }
    }
}

fn old_values(world: &World, keys: u32) -> Saved {
    let worker = world.worker();
    let store = worker.store::<u32>("op");
    let state = store
        .value_state(&ValueStateDescriptor::<V1>::new("s"))
        .unwrap();
    for key in 0..keys {
        store.set_current_key(&key);
        state.put(v1(key as usize % 3)).unwrap();
    }
    worker.checkpoint(1)
}

fn an_upgrade_that_is_cut_off_starts_over(world: &World) {
    // More than a memtable.
    const KEYS: u32 = 1000;
    let saved = old_values(world, KEYS);
    let descriptor = || ValueStateDescriptor::with_serializer("s", upgrading());
    // It dies after the rewrite and before the next checkpoint, twice; flushes have happened.
    for _ in 0..2 {
        let worker = world.restore(&saved);
        let store = worker.store::<u32>("op");
        store.value_state(&descriptor()).unwrap();
        worker.backend.borrow_mut().poll().unwrap();
    }
    // And in the midst of it, wherever it reads or writes.
    for crash_at in [0, 1, 3, 8, 20] {
        let worker = world.restore(&saved);
        let store = worker.store::<u32>("op");
        world.objects.set_plan(FaultPlan {
            crash_at: Some(crash_at),
            ..FaultPlan::default()
        });
        drop(store.value_state(&descriptor()));
        drop((store, worker));
        world.objects.set_plan(FaultPlan::default());
    }
    let worker = world.restore(&saved);
    let store = worker.store::<u32>("op");
    let state = store.value_state(&descriptor()).unwrap();
    let check = |worker: &Worker, state: &ValueState<V2, Upgrading<V2, Postcard<V2>>>| {
        for key in 0..KEYS {
            store.set_current_key(&key);
            assert_eq!(ask!(worker, state.get()), Some(upgraded(key as usize % 3)));
        }
    };
    check(&worker, &state);
    // The checkpoint from before is what it was: the old program can go back to it.
    let old = world.restore(&saved);
    let store = old.store::<u32>("op");
    let state = store
        .value_state(&ValueStateDescriptor::<V1>::new("s"))
        .unwrap();
    store.set_current_key(&1);
    assert_eq!(ask!(old, state.get()), Some(v1(1)));
}

fn an_upgrade_that_fails_names_the_state(world: &World) {
    /// Does not like one value.
    #[derive(Clone)]
    struct Picky(Plain<u64>);
    impl Serializer<u64> for Picky {
        fn serialize(&self, value: &u64, out: &mut Vec<u8>) -> Result<(), StateError> {
            self.0.serialize(value, out)
        }
        fn deserialize(&self, bytes: &[u8]) -> Result<u64, StateError> {
            self.0.deserialize(bytes)
        }
        fn layout(&self) -> String {
            "picky".into()
        }
        fn compatibility(
            &self,
            _old: &aquifer_state::serializer::SerializerSnapshot,
        ) -> Compatibility {
            Compatibility::AfterMigration
        }
        fn migrate(
            &self,
            _old: &aquifer_state::serializer::SerializerSnapshot,
            bytes: &[u8],
        ) -> Result<u64, StateError> {
            match self.0.deserialize(bytes)? {
                150 => Err(StateError::Corrupt("150 is not a value".into())),
                value => Ok(value + 1),
            }
        }
    }
    let worker = world.worker();
    let store = worker.store::<u32>("op");
    let state = store
        .value_state(&ValueStateDescriptor::<u64, Plain<u64>>::new("s"))
        .unwrap();
    for key in 0..300 {
        store.set_current_key(&key);
        state.put(u64::from(key)).unwrap();
    }
    let saved = worker.checkpoint(1);
    let worker = world.restore(&saved);
    let store = worker.store::<u32>("op");
    let picky = ValueStateDescriptor::with_serializer("s", Picky(Plain::default()));
    match store.value_state(&picky).map(|_| ()) {
        Err(StateError::Corrupt(text)) => {
            for part in ["`s`", "`op`", "150 is not a value"] {
                assert!(text.contains(part), "{part} in: {text}");
            }
        }
        other => panic!("{other:?}"),
    }
    // The attempt ends; the next one, of the program as it was, finds all values.
    let worker = world.restore(&saved);
    let store = worker.store::<u32>("op");
    let state = store
        .value_state(&ValueStateDescriptor::<u64, Plain<u64>>::new("s"))
        .unwrap();
    for key in 0..300 {
        store.set_current_key(&key);
        assert_eq!(ask!(worker, state.get()), Some(u64::from(key)));
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Verdict {
    AsIs,
    Reconfigured,
    Refused,
}

fn verdict<T>(
    new: &impl Serializer<T>,
    old: &aquifer_state::serializer::SerializerSnapshot,
) -> Verdict {
    match new.compatibility(old) {
        Compatibility::AsIs => Verdict::AsIs,
        Compatibility::Reconfigured => Verdict::Reconfigured,
        Compatibility::AfterMigration => panic!("nothing is rewritten unasked"),
        Compatibility::Incompatible(why) => {
            assert!(
                why.contains("written as") && why.contains("expects"),
                "{why}"
            );
            Verdict::Refused
        }
    }
}

#[test]
fn every_pair_of_old_and_new_has_a_verdict() {
    use Verdict::{AsIs, Reconfigured, Refused};
    fn s<T: Type>() -> Tagged<T> {
        Tagged::default()
    }
    fn p<T: Type>() -> Postcard<T> {
        Postcard::default()
    }
    let (s1, p1) = (s::<V1>().snapshot(), p::<V1>().snapshot());
    assert_eq!(verdict(&s::<V1>(), &s1), AsIs);
    assert_eq!(verdict(&s::<V2>(), &s1), Reconfigured);
    assert_eq!(verdict(&s::<V3>(), &s1), Reconfigured);
    assert_eq!(verdict(&s::<V4>(), &s1), Reconfigured);
    assert_eq!(verdict(&s::<V5>(), &s1), Refused);
    assert_eq!(verdict(&s::<V6>(), &s1), Refused);
    match s::<V6>().compatibility(&s1) {
        Compatibility::Incompatible(why) => assert!(why.contains("`country`"), "{why}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(verdict(&p::<V1>(), &p1), AsIs);
    assert_eq!(verdict(&p::<V2>(), &p1), Refused);
    assert_eq!(verdict(&p::<V3>(), &p1), Refused);
    assert_eq!(verdict(&p::<V4>(), &p1), Refused);
    assert_eq!(verdict(&p::<V5>(), &p1), Refused);
    // From one form to the other only by a function.
    assert_eq!(verdict(&s::<V1>(), &p1), Refused);
    assert_eq!(verdict(&p::<V1>(), &s1), Refused);
    let changed = Upgrading::new(s::<V1>()).from(p::<V1>(), |same| same);
    assert_eq!(changed.compatibility(&p1), Compatibility::AfterMigration);
    assert_eq!(changed.compatibility(&s1), Compatibility::AsIs);
    let back = Upgrading::new(p::<V2>())
        .from(p::<V1>(), |old| V2 {
            owner: old.owner,
            cents: old.cents,
            blocked: false,
        })
        .from(s::<V3>(), |old| V2 {
            owner: old.owner,
            cents: 0,
            blocked: false,
        });
    assert_eq!(back.compatibility(&s1), Compatibility::AfterMigration);
    assert_eq!(back.compatibility(&p1), Compatibility::AfterMigration);
    for old in [s::<V5>().snapshot(), p::<V5>().snapshot()] {
        assert_eq!(verdict(&back, &old), Refused);
    }
    // Numbers.
    let plain = Plain::<u32>::default().snapshot();
    assert_eq!(verdict(&Plain::<u32>::default(), &plain), AsIs);
    assert_eq!(verdict(&Plain::<u64>::default(), &plain), Refused);
    assert_eq!(verdict(&s::<u64>(), &s::<u32>().snapshot()), Reconfigured);
    assert_eq!(verdict(&s::<u32>(), &s::<u64>().snapshot()), Refused);
    assert_eq!(verdict(&p::<u64>(), &p::<u32>().snapshot()), Refused);
    // Variants at the end, and types with other names.
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    enum Two {
        A,
        B(u8),
    }
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    enum Three {
        A,
        B(u8),
        C,
    }
    assert_eq!(verdict(&s::<Three>(), &s::<Two>().snapshot()), Reconfigured);
    assert_eq!(verdict(&p::<Three>(), &p::<Two>().snapshot()), Reconfigured);
    assert_eq!(verdict(&s::<Two>(), &s::<Three>().snapshot()), Refused);
    assert_eq!(verdict(&p::<Two>(), &p::<Three>().snapshot()), Refused);
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Renamed {
        owner: String,
        cents: u64,
    }
    assert_eq!(verdict(&s::<Renamed>(), &s1), Reconfigured);
    assert_eq!(verdict(&p::<Renamed>(), &p1), Reconfigured);
    // Names that the program gives.
    let named = |name: &str| Postcard::<V1>::named(name);
    assert_eq!(verdict(&named("x"), &named("x").snapshot()), AsIs);
    assert_eq!(verdict(&named("y"), &named("x").snapshot()), Refused);
    assert_eq!(verdict(&named("x"), &p1), Refused);
}
