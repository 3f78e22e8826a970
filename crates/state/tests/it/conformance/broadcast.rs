//! Broadcast maps: the same on every worker, in memory, over checkpoints.

use aquifer_state::operator::{BroadcastState, OperatorStateStore};
use aquifer_state::serializer::Compatibility;
use aquifer_state::{ListStateDescriptor, MapStateDescriptor, StateError};

use super::versioned::Versioned;
use crate::operators::{Operators, restored};

fn map(name: &str) -> MapStateDescriptor<i32, i32> {
    MapStateDescriptor::new(name)
}

#[test]
fn broadcast_state_is_snapshotted_without_lists() {
    let store = OperatorStateStore::empty("op");
    let broadcast = store.broadcast_state(&map("b")).unwrap();
    broadcast.put_all([(1, 2), (3, 4), (5, 6)]).unwrap();
    let store = restored(&store);
    let broadcast = store.broadcast_state(&map("b")).unwrap();
    assert_eq!(broadcast.entries(), [(1, 2), (3, 4), (5, 6)]);
    assert!(broadcast.remove(&1).unwrap() && !broadcast.remove(&1).unwrap());
    let store = restored(&store);
    let broadcast = store.broadcast_state(&map("b")).unwrap();
    assert_eq!(broadcast.entries(), [(3, 4), (5, 6)]);
    broadcast.clear();
    let store = restored(&store);
    assert_eq!(store.registered_broadcast(), ["b"]);
    assert!(store.broadcast_state(&map("b")).unwrap().is_empty());
    assert!(store.registered().is_empty());
}

#[test]
fn maps_are_read_and_written() {
    let store = OperatorStateStore::empty("op");
    let broadcast = store.broadcast_state(&map("b")).unwrap();
    let read_only = broadcast.read_only();
    assert_eq!(broadcast.get(&1).unwrap(), None);
    broadcast.put(1, 2).unwrap();
    broadcast.put(-1, 3).unwrap();
    broadcast.put(1, 4).unwrap();
    assert_eq!(read_only.get(&1).unwrap(), Some(4));
    assert!(read_only.contains(&-1).unwrap() && !read_only.contains(&2).unwrap());
    assert_eq!((read_only.len(), read_only.is_empty()), (2, false));
    // In the order of the keys.
    assert_eq!(read_only.entries(), [(-1, 3), (1, 4)]);
    let mut sum = 0;
    read_only.for_each(|_, value| sum += value);
    assert_eq!(sum, 7);
    // Asked for again it is the same map.
    store.broadcast_state(&map("b")).unwrap().put(9, 9).unwrap();
    assert_eq!(broadcast.len(), 3);
}

/// The copies of each worker, which are made distinct on purpose.
fn copies(operators: &Operators, reported: &[usize]) {
    for (worker, store) in operators.each() {
        if reported.contains(&worker) {
            let broadcast = store.broadcast_state(&map("who")).unwrap();
            broadcast.put(0, worker as i32).unwrap();
        }
    }
}

fn who(operators: &Operators) -> Vec<i32> {
    let of = |store: &OperatorStateStore| {
        let broadcast = store.broadcast_state(&map("who")).unwrap();
        broadcast.get(&0).unwrap().unwrap()
    };
    operators.each().map(|(_, store)| of(store)).collect()
}

#[test]
fn workers_that_are_new_get_a_copy() {
    for (before, now, expected) in [
        (2, 5, &[0, 1, 0, 1, 0][..]),
        (3, 2, &[0, 1]),
        (2, 2, &[0, 1]),
        (1, 3, &[0, 0, 0]),
    ] {
        let operators = Operators::new(before);
        copies(&operators, &[0, 1, 2]);
        assert_eq!(who(&operators.rescaled(now)), expected);
    }
}

#[test]
fn workers_that_did_not_report_get_a_copy() {
    let operators = Operators::new(3);
    copies(&operators, &[0, 2]);
    assert_eq!(who(&operators.rescaled(3)), [0, 2, 0]);
}

#[test]
fn another_type_of_key_or_value_is_refused() {
    let store = OperatorStateStore::empty("op");
    let broadcast = store.broadcast_state(&map("b")).unwrap();
    broadcast.put(1, 2).unwrap();
    let again = restored(&store);
    let key = again.broadcast_state(&MapStateDescriptor::<i64, i32>::new("b"));
    let value = again.broadcast_state(&MapStateDescriptor::<i32, String>::new("b"));
    for (error, says) in [
        (key.err(), ["a key of broadcast state `b`", "i32", "i64"]),
        (
            value.err(),
            ["a value of broadcast state `b`", "`i32`", "`str`"],
        ),
    ] {
        let Some(StateError::Incompatible(text)) = error else {
            panic!("{error:?}")
        };
        for part in says {
            assert!(text.contains(part), "{text}");
        }
    }
    // Nothing was lost by the attempts.
    let broadcast = again.broadcast_state(&map("b")).unwrap();
    assert_eq!(broadcast.entries(), [(1, 2)]);
}

/// Keys need no order of their own if they come with a serializer.
#[test]
fn keys_may_have_a_serializer() {
    use aquifer_state::serializer::Postcard;
    type Key = (String, Option<f32>);
    let open = |store: &OperatorStateStore| {
        let keys = Postcard::<Key>::default();
        let opened = store.broadcast_state_with::<Key, u8, _, _>("b", keys, Postcard::default());
        opened.unwrap()
    };
    let store = OperatorStateStore::empty("op");
    let key = ("a".to_owned(), Some(0.5));
    open(&store).put(key.clone(), 7).unwrap();
    let again = restored(&store);
    assert_eq!(open(&again).get(&key).unwrap(), Some(7));
    assert_eq!(open(&again).get(&("a".to_owned(), None)).unwrap(), None);
}

#[test]
fn lists_and_maps_of_one_operator_do_not_mix() {
    let store = OperatorStateStore::empty("op");
    let split = store
        .list_state(&ListStateDescriptor::<i32>::new("l"))
        .unwrap();
    split.add(1);
    store.broadcast_state(&map("b")).unwrap().put(2, 3).unwrap();
    let again = restored(&store);
    assert_eq!(
        (again.registered(), again.registered_broadcast()),
        (vec!["l".to_owned()], vec!["b".to_owned()])
    );
}

/// Written by one version, read by another, written on by that, and read again: keys, values, and both.
#[test]
fn the_verdicts_on_keys_and_values_count() {
    type Map = BroadcastState<i64, i64>;
    let open = |store: &OperatorStateStore, key: &Versioned, value: &Versioned| {
        let opened: Result<Map, StateError> =
            store.broadcast_state_with("b", key.clone(), value.clone());
        opened
    };
    let first = Versioned::new(1, Compatibility::AsIs);
    let after_migration = Versioned::new(2, Compatibility::AfterMigration);
    let second = Versioned::new(2, Compatibility::AsIs);
    let refusing = Versioned::new(
        2,
        Compatibility::Incompatible("old is v1, new is v2".into()),
    );
    let store = OperatorStateStore::empty("op");
    let broadcast = open(&store, &first, &first).unwrap();
    broadcast.put_all([(2, 20), (1, 10)]).unwrap();
    for (migrates_keys, migrates_values) in [(true, false), (false, true), (true, true)] {
        let choose = |migrates, changed| if migrates { changed } else { &first };
        let migrated = restored(&store);
        let keys = choose(migrates_keys, &after_migration);
        let values = choose(migrates_values, &after_migration);
        let broadcast = open(&migrated, keys, values).unwrap();
        assert_eq!(broadcast.get(&1).unwrap(), Some(10));
        broadcast.put(2, 21).unwrap();
        broadcast.put(3, 30).unwrap();
        assert_eq!(broadcast.len(), 3, "an old key is the same key");
        let (keys, values) = (
            choose(migrates_keys, &second),
            choose(migrates_values, &second),
        );
        let broadcast = open(&restored(&migrated), keys, values).unwrap();
        assert_eq!(broadcast.entries(), [(1, 10), (2, 21), (3, 30)]);
        assert!(broadcast.remove(&3).unwrap());
        let keys = choose(migrates_keys, &refusing);
        let values = choose(migrates_values, &refusing);
        let refused = open(&restored(&store), keys, values);
        let Some(StateError::Incompatible(text)) = refused.err() else {
            panic!("it was not refused")
        };
        let part = if migrates_keys { "a key" } else { "a value" };
        for part in [part, "`b`", "`op`", "old is v1, new is v2"] {
            assert!(text.contains(part), "{text}");
        }
    }
}

mod rules {
    //! Keys and values, as they were and as they became.
    use serde::{Deserialize, Serialize};

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub struct Name {
        pub tenant: u32,
        pub name: String,
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(rename = "Name")]
    pub struct Longer {
        pub name: String,
        #[serde(default)]
        pub version: Option<u32>,
        pub tenant: u32,
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub struct Rule {
        pub limit: u64,
        pub unit: String,
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(rename = "Rule")]
    pub struct Shorter {
        pub limit: u64,
    }
}

/// Keys may change as values may, because a broadcast map is read as a whole when it is restored.
#[test]
fn keys_and_values_with_added_and_removed_fields_are_read() {
    use aquifer_state::serializer::Tagged;
    use rules::{Longer, Name, Rule, Shorter};
    let store = OperatorStateStore::empty("op");
    let open =
        store.broadcast_state_with::<Name, Rule, _, _>("b", Tagged::default(), Tagged::default());
    let broadcast = open.unwrap();
    for tenant in [2, 1] {
        let (name, unit) = ("n".to_owned(), "ms".to_owned());
        let limit = u64::from(tenant) * 10;
        broadcast
            .put(Name { tenant, name }, Rule { limit, unit })
            .unwrap();
    }
    let again = restored(&store);
    let open = again.broadcast_state_with::<Longer, Shorter, _, _>(
        "b",
        Tagged::default(),
        Tagged::default(),
    );
    let broadcast = open.unwrap();
    let key = |tenant, version| Longer {
        name: "n".into(),
        version,
        tenant,
    };
    assert_eq!(broadcast.len(), 2);
    assert_eq!(
        broadcast.get(&key(1, None)).unwrap(),
        Some(Shorter { limit: 10 })
    );
    assert_eq!(
        broadcast.get(&key(2, None)).unwrap(),
        Some(Shorter { limit: 20 })
    );
    // An old key is the same as the one that the program makes now.
    broadcast.put(key(1, None), Shorter { limit: 11 }).unwrap();
    broadcast
        .put(key(1, Some(7)), Shorter { limit: 12 })
        .unwrap();
    assert_eq!(broadcast.len(), 3);
}
