//! Lists of operators: split and union, over checkpoints and other numbers of workers.

use aquifer_state::checkpoint::OperatorSnapshot;
use aquifer_state::operator::{OperatorList, OperatorStateSnapshot, OperatorStateStore};
use aquifer_state::serializer::{Compatibility, Tagged};
use aquifer_state::{ListStateDescriptor, MapStateDescriptor, StateError};
use aquifer_testkit::Rng;

use super::versioned::Versioned;
use crate::operators::{MAX, Operators, restored};

fn list(name: &str) -> ListStateDescriptor<i32> {
    ListStateDescriptor::new(name)
}

fn map(name: &str) -> MapStateDescriptor<i32, i32> {
    MapStateDescriptor::new(name)
}

#[test]
fn nothing_is_registered_at_first() {
    let store = OperatorStateStore::empty("op");
    assert!(store.registered().is_empty() && store.registered_broadcast().is_empty());
    assert!(!store.is_restored());
    assert_eq!(store.restored_checkpoint(), None);
}

#[test]
fn states_are_registered_once() {
    let store = OperatorStateStore::empty("op");
    let test1 = store.list_state(&list("test1")).unwrap();
    test1.update([42, 4711]);
    assert_eq!(store.registered(), ["test1"]);
    store
        .list_state(&list("test2"))
        .unwrap()
        .update([7, 13, 23]);
    assert_eq!(store.registered().len(), 2);
    let test3 = store.union_list_state(&list("test3")).unwrap();
    test3.update([17, 3]);
    assert_eq!(store.registered(), ["test1", "test2", "test3"]);
    // Asked for again it is the same list.
    store.list_state(&list("test1")).unwrap().add(123);
    assert_eq!(test1.get(), [42, 4711, 123]);
    assert_eq!(store.registered().len(), 3);
    store.union_list_state(&list("test3")).unwrap().add(123);
    assert_eq!(test3.get(), [17, 3, 123]);
    // As something else it is not.
    let other = store.list_state(&ListStateDescriptor::<String>::new("test1"));
    let error = other.err().unwrap().to_string();
    assert!(
        error.contains("`test1`") && error.contains("another type"),
        "{error}"
    );
}

#[test]
fn another_redistribution_is_refused() {
    let check = |store: &OperatorStateStore| {
        let texts = [
            (
                store.union_list_state(&list("split")).err(),
                "split",
                "union",
            ),
            (store.list_state(&list("union")).err(), "union", "split"),
            (
                store.broadcast_state(&map("split")).err(),
                "split",
                "broadcast",
            ),
            (
                store.list_state(&list("broadcast")).err(),
                "broadcast",
                "split",
            ),
        ];
        for (error, was, asked) in texts {
            let Some(StateError::Usage(text)) = error else {
                panic!("{error:?}");
            };
            assert!(
                text.contains(&format!("is redistributed by {was}")),
                "{text}"
            );
            assert!(text.contains(&format!("asked for by {asked}")), "{text}");
            assert!(text.contains("`op`"), "{text}");
        }
    };
    let store = OperatorStateStore::empty("op");
    store.list_state(&list("split")).unwrap();
    store.union_list_state(&list("union")).unwrap();
    store.broadcast_state(&map("broadcast")).unwrap();
    check(&store);
    check(&restored(&store));
}

#[test]
fn lists_unions_and_maps_are_restored() {
    let store = OperatorStateStore::empty("op");
    store.list_state(&list("test1")).unwrap().update([42, 4711]);
    store
        .list_state(&list("test2"))
        .unwrap()
        .update([7, 13, 23]);
    store
        .union_list_state(&list("test3"))
        .unwrap()
        .update([17, 18, 19, 20]);
    let maps: [(&str, &[(i32, i32)]); 3] = [
        ("test4", &[(1, 2), (2, 5)]),
        ("test5", &[(2, 5)]),
        ("test6", &[]),
    ];
    for (name, entries) in maps {
        let map = store.broadcast_state(&map(name)).unwrap();
        map.put_all(entries.iter().copied()).unwrap();
    }
    let again = restored(&store);
    assert_eq!(again.restored_checkpoint(), Some(7));
    // Known before they are asked for.
    assert_eq!(again.registered(), ["test1", "test2", "test3"]);
    assert_eq!(again.registered_broadcast(), ["test4", "test5", "test6"]);
    assert_eq!(again.list_state(&list("test1")).unwrap().get(), [42, 4711]);
    assert_eq!(again.list_state(&list("test2")).unwrap().get(), [7, 13, 23]);
    let union = again.union_list_state(&list("test3")).unwrap();
    assert_eq!(union.get(), [17, 18, 19, 20]);
    for (name, entries) in maps {
        assert_eq!(
            again.broadcast_state(&map(name)).unwrap().entries(),
            entries
        );
    }
}

#[test]
fn a_snapshot_is_not_changed_by_later_writes() {
    let store = OperatorStateStore::empty("op");
    let split: OperatorList<Vec<i32>> = store
        .list_state(&ListStateDescriptor::<Vec<i32>>::new("split"))
        .unwrap();
    split.update([vec![1], vec![2, 3]]);
    let broadcast = store.broadcast_state(&map("map")).unwrap();
    broadcast.put(1, 1).unwrap();
    let frozen = store.freeze().unwrap();
    let copy = frozen.clone();
    split.clear();
    split.add(vec![9]);
    broadcast.put(1, 2).unwrap();
    broadcast.put(2, 2).unwrap();
    assert_eq!(frozen, copy);
    let again = OperatorStateStore::restored("op", 0, 1, MAX, &frozen, Some(1));
    let split: OperatorList<Vec<i32>> = again
        .list_state(&ListStateDescriptor::<Vec<i32>>::new("split"))
        .unwrap();
    assert_eq!(split.get(), [vec![1], vec![2, 3]]);
    assert_eq!(
        again.broadcast_state(&map("map")).unwrap().entries(),
        [(1, 1)]
    );
}

#[test]
fn an_empty_snapshot_restores() {
    let store = OperatorStateStore::empty("op");
    let snapshot = store.freeze().unwrap();
    assert!(snapshot.is_empty());
    assert_eq!(OperatorSnapshot::of_state("op", snapshot), None);
    let again = restored(&store);
    assert!(again.registered().is_empty() && again.registered_broadcast().is_empty());
    // A list without elements is something, though.
    store.list_state(&list("none")).unwrap();
    assert_eq!(restored(&store).registered(), ["none"]);
}

#[test]
fn a_restored_state_nobody_asks_for_is_kept() {
    let store = OperatorStateStore::empty("op");
    store.list_state(&list("test1")).unwrap().add(1);
    store.list_state(&list("test2")).unwrap().update([2, 3]);
    store
        .broadcast_state(&map("test3"))
        .unwrap()
        .put(4, 5)
        .unwrap();
    let once = restored(&store);
    once.list_state(&list("test1")).unwrap().add(2);
    let twice = restored(&once);
    assert_eq!(twice.list_state(&list("test1")).unwrap().get(), [1, 2]);
    assert_eq!(twice.list_state(&list("test2")).unwrap().get(), [2, 3]);
    assert_eq!(
        twice.broadcast_state(&map("test3")).unwrap().entries(),
        [(4, 5)]
    );
}

/// Every worker restores the whole union. If each of them kept the whole of one that nobody asks for, it would grow with every restore.
#[test]
fn a_union_that_nobody_asks_for_does_not_grow() {
    let mut operators = Operators::new(3);
    for (worker, store) in operators.each() {
        store
            .union_list_state(&list("u"))
            .unwrap()
            .add_all(0..worker as i32 + 1);
    }
    for workers in [3, 2, 5, 5, 1] {
        operators = operators.rescaled(workers);
    }
    let store = operators.each().next().unwrap().1;
    assert_eq!(
        store.union_list_state(&list("u")).unwrap().get(),
        [0, 0, 1, 0, 1, 2]
    );
}

#[test]
fn a_union_list_is_whole_on_every_worker() {
    let operators = Operators::new(3);
    for (worker, store) in operators.each() {
        let own = [&[1, 2][..], &[3], &[]][worker];
        store
            .union_list_state(&list("u"))
            .unwrap()
            .update(own.iter().copied());
    }
    for workers in [1, 2, 3, 5] {
        let next = operators.rescaled(workers);
        for (_, store) in next.each() {
            assert_eq!(store.union_list_state(&list("u")).unwrap().get(), [1, 2, 3]);
        }
        // Whoever leaves it so has it as often as there are workers; whoever puts its own part in its place has it once.
        let all = next.rescaled(1);
        let (_, store) = all.each().next().unwrap();
        let union = store.union_list_state(&list("u")).unwrap();
        assert_eq!(union.len(), 3 * usize::from(workers));
        for (worker, store) in next.each() {
            let union = store.union_list_state(&list("u")).unwrap();
            let own = union
                .get()
                .into_iter()
                .skip(worker)
                .step_by(usize::from(workers));
            union.update(own.collect::<Vec<_>>());
        }
        let all = next.rescaled(1);
        let (_, store) = all.each().next().unwrap();
        assert_eq!(store.union_list_state(&list("u")).unwrap().len(), 3);
    }
}

/// Flink seeks in one file for each element of each subtask's copy of a union list, and its metadata grow with the square of the parallelism.
#[test]
fn a_union_list_is_stored_once() {
    let operators = Operators::new(1);
    let (_, store) = operators.each().next().unwrap();
    let long = ListStateDescriptor::<String>::new("u");
    let element = |i: i32| format!("{i:0>100}");
    store
        .union_list_state(&long)
        .unwrap()
        .update((0..1000).map(element));
    let one = operators.metadata_bytes();
    let many = operators.rescaled(100);
    for (_, store) in many.each() {
        assert_eq!(store.union_list_state(&long).unwrap().len(), 1000);
    }
    let hundred = many.metadata_bytes();
    assert!(
        one > 100_000 && hundred < one + 100 * 200,
        "{one} and {hundred} bytes"
    );
}

#[test]
fn all_modes_are_redistributed_together() {
    let mut rng = Rng::new(5);
    let mut operators = Operators::new(4);
    let (mut split, mut union) = (Vec::new(), Vec::new());
    for (worker, store) in operators.each() {
        let own: Vec<i32> = (0..rng.below(6) as i32)
            .map(|i| worker as i32 * 10 + i)
            .collect();
        split.extend(own.clone());
        store
            .list_state(&list("split"))
            .unwrap()
            .update(own.clone());
        union.extend(own.clone());
        store.union_list_state(&list("union")).unwrap().update(own);
        store
            .broadcast_state(&map("broadcast"))
            .unwrap()
            .put(1, 2)
            .unwrap();
        let mut raw = store.raw_output();
        raw.start_partition().unwrap();
        raw.put(&[worker as u8]).unwrap();
    }
    for workers in [3, 5, 4] {
        operators = operators.rescaled(workers);
        let mut seen = Vec::new();
        let mut partitions = Vec::new();
        for (_, store) in operators.each() {
            let own = store.list_state(&list("split")).unwrap().get();
            assert!(own.len().abs_diff(split.len() / usize::from(workers)) <= 1);
            seen.extend(own);
            let whole = store.union_list_state(&list("union")).unwrap();
            assert_eq!(whole.get(), union);
            // Only the first worker goes on with it.
            whole.clear();
            assert_eq!(
                store.broadcast_state(&map("broadcast")).unwrap().entries(),
                [(1, 2)]
            );
            let mut raw = store.raw_output();
            for input in store.raw_inputs() {
                partitions.push(input.bytes().to_vec());
                raw.start_partition().unwrap();
                raw.put(input.bytes()).unwrap();
            }
        }
        let (_, first) = operators.each().next().unwrap();
        first
            .union_list_state(&list("union"))
            .unwrap()
            .update(union.clone());
        assert_eq!(seen, split);
        assert_eq!(partitions, [[0], [1], [2], [3]]);
    }
}

/// Written by one version, read by another, written on by that, and read again: a list that is split, and a union.
#[test]
fn the_verdict_of_a_serializer_counts() {
    let of = |version, verdict| {
        let serializer = Versioned::new(version, verdict);
        ListStateDescriptor::with_serializer("list", serializer)
    };
    type Open = fn(
        &OperatorStateStore,
        &ListStateDescriptor<i64, Versioned>,
    ) -> Result<OperatorList<i64>, StateError>;
    let split: Open = |store, list| store.list_state(list);
    let union: Open = |store, list| store.union_list_state(list);
    for open in [split, union] {
        let store = OperatorStateStore::empty("op");
        open(&store, &of(1, Compatibility::AsIs))
            .unwrap()
            .update([5, 6]);
        let migrated = restored(&store);
        let list = open(&migrated, &of(2, Compatibility::AfterMigration)).unwrap();
        assert_eq!(list.get(), [5, 6]);
        list.add(7);
        // From now on it is written as the new one writes: all of it.
        let again = restored(&migrated);
        let list = open(&again, &of(2, Compatibility::AsIs)).unwrap();
        assert_eq!(list.get(), [5, 6, 7]);
        let back = open(&restored(&again), &of(1, Compatibility::AsIs));
        assert!(matches!(back.err(), Some(StateError::Corrupt(_))));
        let why = Compatibility::Incompatible("old is v1, new is v2".into());
        let refused = open(&restored(&store), &of(2, why));
        let Some(StateError::Incompatible(text)) = refused.err() else {
            panic!("it was not refused")
        };
        for part in ["`list`", "`op`", "operator state", "old is v1, new is v2"] {
            assert!(text.contains(part), "{text}");
        }
    }
}

#[test]
fn another_element_type_is_refused() {
    let store = OperatorStateStore::empty("op");
    store.list_state(&list("split")).unwrap().add(1);
    store.union_list_state(&list("union")).unwrap().add(1);
    let again = restored(&store);
    let text = ListStateDescriptor::<String>::new("split");
    let union = ListStateDescriptor::<String>::new("union");
    let errors = [
        again.list_state(&text).err(),
        again.union_list_state(&union).err(),
    ];
    for error in errors {
        let Some(StateError::Incompatible(text)) = error else {
            panic!("{error:?}")
        };
        for part in ["operator state", "`i32`", "`str`", "`op`"] {
            assert!(text.contains(part), "{text}");
        }
    }
}

#[test]
fn a_worker_that_reported_nothing_takes_part() {
    let operators = Operators::new(3);
    for (worker, store) in operators.each().filter(|(worker, _)| *worker != 1) {
        store
            .list_state(&list("s"))
            .unwrap()
            .update([worker as i32, 7]);
    }
    let sizes: Vec<usize> = operators
        .rescaled(3)
        .each()
        .map(|(_, store)| store.list_state(&list("s")).unwrap().len())
        .collect();
    assert_eq!(sizes, [2, 1, 1]);
    let nothing = OperatorStateSnapshot::default();
    assert!(nothing.is_empty());
}

mod accounts {
    //! A type of elements, as it was and as it became.
    use serde::{Deserialize, Serialize};

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub struct Account {
        pub owner: String,
        pub cents: u64,
    }

    /// One field more and one less, in other places.
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(rename = "Account")]
    pub struct Changed {
        #[serde(default)]
        pub blocked: bool,
        pub owner: String,
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(rename = "Account")]
    pub struct Swapped {
        pub cents: u64,
        pub owner: String,
    }

    pub fn first() -> Vec<Account> {
        let account = |owner: &str, cents| Account {
            owner: owner.into(),
            cents,
        };
        vec![account("foo", 1456), account("bar", 478)]
    }
}

/// Opens a split and a union list of self-describing elements.
fn described<T>(store: &OperatorStateStore) -> [OperatorList<T>; 2]
where
    T: serde::Serialize + serde::de::DeserializeOwned + 'static,
{
    let descriptor =
        |name: &str| ListStateDescriptor::<T, _>::with_serializer(name, Tagged::default());
    [
        store.list_state(&descriptor("split")).unwrap(),
        store.union_list_state(&descriptor("union")).unwrap(),
    ]
}

#[test]
fn elements_with_added_and_removed_fields_are_read() {
    let store = OperatorStateStore::empty("op");
    for list in described::<accounts::Account>(&store) {
        list.update(accounts::first());
    }
    let changed = restored(&store);
    for list in described::<accounts::Changed>(&changed) {
        let owners: Vec<(String, bool)> = list
            .get()
            .into_iter()
            .map(|a| (a.owner, a.blocked))
            .collect();
        assert_eq!(owners, [("foo".into(), false), ("bar".into(), false)]);
        list.add(accounts::Changed {
            blocked: true,
            owner: "new".into(),
        });
    }
    // What the new form wrote is read by it again.
    for list in described::<accounts::Changed>(&restored(&changed)) {
        assert_eq!(list.len(), 3);
        assert!(list.with(|all| all[2].blocked && all[2].owner == "new"));
    }
}

#[test]
fn elements_may_change_the_places_of_their_fields() {
    let store = OperatorStateStore::empty("op");
    for list in described::<accounts::Account>(&store) {
        list.update(accounts::first());
    }
    let swapped = restored(&store);
    for list in described::<accounts::Swapped>(&swapped) {
        let pairs: Vec<(String, u64)> =
            list.get().into_iter().map(|a| (a.owner, a.cents)).collect();
        assert_eq!(pairs, [("foo".into(), 1456), ("bar".into(), 478)]);
    }
    for list in described::<accounts::Account>(&restored(&swapped)) {
        assert_eq!(list.get(), accounts::first());
    }
}
