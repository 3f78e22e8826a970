//! Serializers as users give them: each form comes back, refuses other bytes, and says what it is.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aquifer_state::serializer::{
    Compatibility, Nullable, Plain, PlainValue, Postcard, Serializer, SerializerSnapshot, Tagged,
};
use aquifer_state::{
    ListState, ListStateDescriptor, MapState, MapStateDescriptor, StateError, ValueState,
    ValueStateDescriptor,
};
use aquifer_testkit::Rng;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::cases::{all, ask, conformance, try_ask};
use crate::world::World;

conformance!(
    the_serializer_of_the_descriptor_is_used,
    errors_of_a_serializer_come_out,
    plain_values_are_kept,
    values_may_be_null_in_maps,
);

/// Adds one on the way in, counts what it does, and fails on values it does not like.
#[derive(Clone, Default)]
struct Probe {
    calls: Arc<AtomicU64>,
}

impl Serializer<u32> for Probe {
    fn serialize(&self, value: &u32, out: &mut Vec<u8>) -> Result<(), StateError> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        if *value == 13 {
            return Err(StateError::Usage("thirteen is not written".into()));
        }
        out.extend_from_slice(&(value + 1).to_le_bytes());
        Ok(())
    }

    fn deserialize(&self, bytes: &[u8]) -> Result<u32, StateError> {
        let bytes = bytes.try_into().ok().map(u32::from_le_bytes);
        match bytes {
            Some(77) => Err(StateError::Corrupt("77 is not read".into())),
            Some(value) => Ok(value),
            None => Err(StateError::Corrupt("not four bytes".into())),
        }
    }

    fn layout(&self) -> String {
        "probe-1".into()
    }
}

fn the_serializer_of_the_descriptor_is_used(world: &World) {
    let probe = Probe::default();
    let value = ValueStateDescriptor::with_serializer("value", probe.clone());
    let list = ListStateDescriptor::with_serializer("list", probe.clone());
    let map = MapStateDescriptor::<u8, u32, Probe>::with_serializer("map", probe.clone());
    let worker = world.worker();
    let store = worker.store::<u32>("op");
    store.set_current_key(&1);
    store.value_state(&value).unwrap().put(5).unwrap();
    let elements = store.list_state(&list).unwrap();
    elements.add_all(&[6, 7]).unwrap();
    let entries = store.map_state(&map).unwrap();
    entries.put(&1, &8).unwrap();
    let saved = worker.checkpoint(1);
    assert!(probe.calls.load(Ordering::Relaxed) >= 4);

    let worker = world.restore(&saved);
    let store = worker.store::<u32>("op");
    store.set_current_key(&1);
    let value: ValueState<u32, Probe> = store.value_state(&value).unwrap();
    assert_eq!(ask!(worker, value.get()), Some(6));
    let list: ListState<u32, Probe> = store.list_state(&list).unwrap();
    assert_eq!(all!(worker, list.get()), [7, 8]);
    let map: MapState<u8, u32, Probe> = store.map_state(&map).unwrap();
    assert_eq!(ask!(worker, map.get(&1)), Some(9));
    // Another layout under the same name is another serializer.
    let error = store.value_state(&ValueStateDescriptor::<u32>::new("value"));
    assert!(
        matches!(error.map(|_| ()), Err(StateError::Incompatible(text)) if text.contains("probe-1"))
    );
}

fn errors_of_a_serializer_come_out(world: &World) {
    let worker = world.worker();
    let store = worker.store::<u32>("op");
    let descriptor = ValueStateDescriptor::with_serializer("v", Probe::default());
    let state: ValueState<u32, Probe> = store.value_state(&descriptor).unwrap();
    store.set_current_key(&1);
    state.put(1).unwrap();
    let is_heap = worker.backend.borrow().heap().is_some();
    if !is_heap {
        // On the heap values become bytes in snapshots only.
        assert!(matches!(state.put(13), Err(StateError::Usage(_))));
        assert_eq!(ask!(worker, state.get()), Some(2));
    }
    state.put(76).unwrap();
    let saved = worker.checkpoint(1);
    let worker = world.restore(&saved);
    let store = worker.store::<u32>("op");
    store.set_current_key(&1);
    let read = match store.value_state(&descriptor) {
        Ok(state) => try_ask!(worker, state.get()).map(|_| ()),
        // On the heap values are read when the state is asked for.
        Err(error) => Err(error),
    };
    assert!(matches!(read, Err(StateError::Corrupt(text)) if text.contains("77")));
}

fn plain_values_are_kept(world: &World) {
    let value = ValueStateDescriptor::<i64, Plain<i64>>::new("value");
    let list = ListStateDescriptor::<f64, Plain<f64>>::new("list");
    let map = MapStateDescriptor::<String, String, Plain<String>>::new("map");
    let worker = world.worker();
    let store = worker.store::<u32>("op");
    store.set_current_key(&1);
    store.value_state(&value).unwrap().put(-5).unwrap();
    let elements = store.list_state(&list).unwrap();
    elements.add_all(&[0.5, -0.0, f64::INFINITY]).unwrap();
    let entries = store.map_state(&map).unwrap();
    entries.put(&"a".into(), &String::new()).unwrap();
    let saved = worker.checkpoint(1);
    let worker = world.restore(&saved);
    let store = worker.store::<u32>("op");
    store.set_current_key(&1);
    let value = store.value_state(&value).unwrap();
    assert_eq!(ask!(worker, value.get()), Some(-5));
    let list = store.list_state(&list).unwrap();
    let bits: Vec<u64> = all!(worker, list.get())
        .into_iter()
        .map(f64::to_bits)
        .collect();
    assert_eq!(bits, [0.5, -0.0, f64::INFINITY].map(f64::to_bits));
    let map = store.map_state(&map).unwrap();
    assert_eq!(
        all!(worker, map.entries()),
        [("a".to_owned(), String::new())]
    );
}

fn values_may_be_null_in_maps(world: &World) {
    type Seen = MapState<u8, Option<String>, Nullable<Plain<String>>>;
    let descriptor =
        || MapStateDescriptor::<u8, Option<String>, Nullable<Plain<String>>>::new("seen");
    let worker = world.worker();
    let store = worker.store::<u32>("op");
    let seen: Seen = store.map_state(&descriptor()).unwrap();
    store.set_current_key(&1);
    seen.put(&1, &None).unwrap();
    seen.put(&2, &Some(String::new())).unwrap();
    let saved = worker.checkpoint(1);
    let worker = world.restore(&saved);
    let store = worker.store::<u32>("op");
    let seen: Seen = store.map_state(&descriptor()).unwrap();
    store.set_current_key(&1);
    assert_eq!(ask!(worker, seen.get(&1)), Some(None), "a null is there");
    assert_eq!(ask!(worker, seen.get(&2)), Some(Some(String::new())));
    assert_eq!(ask!(worker, seen.get(&3)), None);
    assert!(ask!(worker, seen.contains(&1)));
    assert!(!ask!(worker, seen.is_empty()));
    assert_eq!(
        all!(worker, seen.entries()),
        [(1, None), (2, Some(String::new()))]
    );
    assert_eq!(all!(worker, seen.values()), [None, Some(String::new())]);
    seen.remove(&1).unwrap();
    assert_eq!(ask!(worker, seen.get(&1)), None);
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Order {
    id: u64,
    lines: Vec<(String, i32)>,
    note: Option<Option<char>>,
    by_day: BTreeMap<i16, f32>,
    state: State,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum State {
    New,
    Paid(i128),
    Sent { to: String, parcels: u8 },
}

fn order(rng: &mut Rng) -> Order {
    let text = |rng: &mut Rng| "ä€x".repeat(rng.below(15) as usize);
    Order {
        id: rng.next_u64() >> rng.below(64),
        lines: (0..rng.below(4))
            .map(|_| (text(rng), rng.next_u64() as i32))
            .collect(),
        note: rng.chance(600).then(|| rng.chance(500).then_some('ß')),
        by_day: (0..rng.below(3)).map(|i| (-(i as i16), 0.25)).collect(),
        state: match rng.below(3) {
            0 => State::New,
            1 => State::Paid(i128::from(rng.next_u64() as i64) << rng.below(64)),
            _ => State::Sent {
                to: text(rng),
                parcels: rng.next_u64() as u8,
            },
        },
    }
}

/// Random values come back; cut, longer and random bytes are errors or other values, and never a panic.
fn check<T, S>(serializer: S, cuts_are_errors: bool, mut value: impl FnMut(&mut Rng) -> T)
where
    T: PartialEq + std::fmt::Debug,
    S: Serializer<T>,
{
    let mut rng = Rng::new(41);
    let mut bytes = Vec::new();
    for _ in 0..1000 {
        let value = value(&mut rng);
        bytes.clear();
        serializer.serialize(&value, &mut bytes).unwrap();
        assert_eq!(serializer.deserialize(&bytes).unwrap(), value);
        if cuts_are_errors {
            let cut = rng.below(bytes.len() as u64) as usize;
            let error = serializer.deserialize(&bytes[..cut]).unwrap_err();
            assert!(matches!(error, StateError::Corrupt(_)), "{error}");
            bytes.push(0);
            assert!(serializer.deserialize(&bytes).is_err());
        }
        let random: Vec<u8> = (0..rng.below(40)).map(|_| rng.next_u64() as u8).collect();
        drop(serializer.deserialize(&random));
    }
}

fn check_plain<T: PlainValue + PartialEq + std::fmt::Debug>(
    cuts_are_errors: bool,
    value: impl FnMut(&mut Rng) -> T,
) {
    check(Plain::<T>::default(), cuts_are_errors, value);
}

#[test]
fn every_form_comes_back_and_refuses_other_bytes() {
    check(Postcard::<Order>::default(), true, order);
    check(Tagged::<Order>::default(), true, order);
    check(Nullable::new(Tagged::<Order>::default()), true, |rng| {
        rng.chance(700).then(|| order(rng))
    });
    check_plain(true, |rng| rng.next_u64() as i8);
    check_plain(true, |rng| rng.next_u64() as u16);
    check_plain(true, |rng| rng.next_u64() as i32);
    check_plain(true, Rng::next_u64);
    check_plain(true, |rng| u128::from(rng.next_u64()) << 60);
    check_plain(true, |rng| rng.next_u64() as f32);
    check_plain(true, |rng| rng.next_u64() as f64 / 3.0);
    check_plain(true, |rng| rng.chance(500));
    // Text and bytes of any length are themselves.
    check_plain(false, |rng| "xü".repeat(rng.below(30) as usize));
    check_plain(false, |rng| {
        vec![rng.next_u64() as u8; rng.below(30) as usize]
    });
}

fn snapshots() -> Vec<SerializerSnapshot> {
    fn of<T: Serialize + DeserializeOwned + 'static>() -> [SerializerSnapshot; 4] {
        [
            Postcard::<T>::default().snapshot(),
            Postcard::<T>::named("name").snapshot(),
            Tagged::<T>::default().snapshot(),
            Nullable::new(Tagged::<T>::default()).snapshot(),
        ]
    }
    let mut snapshots = Vec::from(of::<Order>());
    snapshots.extend(of::<u8>());
    snapshots.extend(of::<std::net::IpAddr>());
    snapshots.push(Plain::<f64>::default().snapshot());
    snapshots.push(Probe::default().snapshot());
    snapshots
}

#[test]
fn a_stored_snapshot_comes_back() {
    for snapshot in snapshots() {
        let mut bytes = Vec::new();
        snapshot.encode(&mut bytes);
        assert_eq!(SerializerSnapshot::decode(&bytes).unwrap(), snapshot);
        for end in 0..bytes.len() {
            assert!(SerializerSnapshot::decode(&bytes[..end]).is_err());
        }
        // Whatever is in a damaged one, a verdict is given.
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 0x15;
            if let Ok(bad) = SerializerSnapshot::decode(&bad) {
                drop(bad.describe());
                drop(Postcard::<Order>::default().compatibility(&bad));
                drop(Tagged::<Order>::default().compatibility(&bad));
                drop(Nullable::new(Tagged::<Order>::default()).compatibility(&bad));
                drop(Tagged::<Order>::default().restored(&bad));
            }
        }
    }
}

#[test]
fn a_serializer_goes_on_from_itself() {
    let tagged = Tagged::<Order>::default();
    assert_eq!(
        tagged.compatibility(&tagged.snapshot()),
        Compatibility::AsIs
    );
    let postcard = Postcard::<Order>::default();
    assert_eq!(
        postcard.compatibility(&postcard.snapshot()),
        Compatibility::AsIs
    );
    // And no other's.
    let all = snapshots();
    for (i, old) in all.iter().enumerate() {
        let verdict = tagged.compatibility(old);
        assert_eq!(
            i == 2,
            !matches!(verdict, Compatibility::Incompatible(_)),
            "{i} {verdict:?}"
        );
    }
}
