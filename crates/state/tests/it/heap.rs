//! What only the heap backend has: barriers that copy nothing, layers that are folded, snapshots that block or are given up, and rows that
//! wait for their state.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use aquifer_state::{
    ListStateDescriptor, MapStateDescriptor, StateDescription, StateError, ValueStateDescriptor,
};
use aquifer_store::TableOptions;
use aquifer_testkit::RequestKind;
use futures_util::FutureExt;

use crate::backends::table;
use crate::cases::{Case, conformance};
use crate::world::World;

conformance!(raw_rows_expire_as_their_table_says);

/// Holds uploads back until it is opened.
pub struct Gate {
    open: Arc<AtomicBool>,
}

impl Gate {
    /// Every put and part of these objects waits.
    pub fn before(world: &World) -> Self {
        let open = Arc::new(AtomicBool::new(false));
        let is_open = Arc::clone(&open);
        world.objects.set_hook(Some(Arc::new(move |kind| {
            let writes = !matches!(
                kind,
                RequestKind::Get | RequestKind::Head | RequestKind::List
            );
            let is_open = Arc::clone(&is_open);
            async move {
                while writes && !is_open.load(Ordering::SeqCst) {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
            .boxed()
        })));
        Self { open }
    }

    pub fn is_open(&self) -> bool {
        self.open.load(Ordering::SeqCst)
    }

    pub fn open(&self) {
        self.open.store(true, Ordering::SeqCst);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.open();
    }
}

/// Says where and how often it was serialized and cloned.
#[derive(serde::Deserialize)]
struct Watched(u32);

static CLONED: AtomicUsize = AtomicUsize::new(0);
static SERIALIZED: AtomicUsize = AtomicUsize::new(0);
thread_local! {
    static SERIALIZED_HERE: Cell<usize> = const { Cell::new(0) };
}

impl Clone for Watched {
    fn clone(&self) -> Self {
        CLONED.fetch_add(1, Ordering::SeqCst);
        Self(self.0)
    }
}

impl serde::Serialize for Watched {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        SERIALIZED.fetch_add(1, Ordering::SeqCst);
        SERIALIZED_HERE.set(SERIALIZED_HERE.get() + 1);
        serializer.serialize_newtype_struct("Watched", &self.0)
    }
}

/// Counted, not timed: a barrier, and everything up to the next record, touches no entry, whether there are ten or many.
#[test]
fn a_barrier_copies_nothing_and_serializes_elsewhere() {
    for (case, keys) in [
        (Case::HASHMAP_FILES_ASYNC, 10),
        (Case::HASHMAP_FILES_ASYNC, 5000),
        (Case::HASHMAP_MEMORY_ASYNC, 5000),
        (Case::HASHMAP_FILES_SYNC, 5000),
    ] {
        let world = World::of(case, false);
        let worker = world.worker();
        let store = worker.store::<u32>("op");
        let values = store
            .value_state(&ValueStateDescriptor::<Watched>::new("values"))
            .unwrap();
        let lists = store
            .list_state(&ListStateDescriptor::<Watched>::new("lists"))
            .unwrap();
        let maps = store
            .map_state(&MapStateDescriptor::<u32, Watched>::new("maps"))
            .unwrap();
        let write = |value: u32| {
            for key in 0..keys {
                store.set_current_key(&key);
                values.put(Watched(value)).unwrap();
                lists.add(&Watched(value)).unwrap();
                maps.put(&value, &Watched(value)).unwrap();
            }
        };
        write(1);
        let cloned = CLONED.load(Ordering::SeqCst);
        worker.begin(1);
        assert_eq!(CLONED.load(Ordering::SeqCst), cloned, "{}", world.name());
        write(2);
        // Adding and putting clone what they are given, once; nothing that was there before.
        let given = 2 * keys as usize;
        assert_eq!(CLONED.load(Ordering::SeqCst), cloned + given);
        worker.finished(1).unwrap();
        while worker.backend.borrow_mut().poll().unwrap().is_some() {}
        assert_eq!(CLONED.load(Ordering::SeqCst), cloned + given);
        assert_eq!(SERIALIZED_HERE.get(), 0, "not on the operator's thread");
        store.set_current_key(&7);
        let both: Vec<u32> = lists.sync().get().map(|e| e.unwrap().0).collect();
        assert_eq!(both, [1, 2]);
    }
    assert!(SERIALIZED.load(Ordering::SeqCst) > 0);
}

#[test]
fn a_synchronous_snapshot_is_written_when_the_call_returns() {
    let world = World::of(Case::HASHMAP_FILES_SYNC, true);
    let worker = world.worker();
    let rows = table(&worker, "s", false);
    for i in 0..2000u32 {
        let key = i.to_be_bytes();
        worker
            .access
            .put(rows, (i % 16) as u16, &key, &[7; 20])
            .unwrap();
    }
    worker.begin(1);
    let written = world.objects.counts();
    assert!(written.bytes_written > 40_000, "{written:?}");
    let polled = worker.backend.borrow_mut().poll().unwrap();
    let (id, snapshot) = polled.expect("it is there at the first poll");
    assert_eq!(id, 1);
    let files = snapshot.files.files.iter();
    assert_eq!(
        files.map(|file| file.size_bytes).sum::<u64>(),
        written.bytes_written
    );
    assert_eq!(
        world.objects.counts(),
        written,
        "nothing runs in the background"
    );
}

#[test]
fn a_snapshot_that_is_given_up_is_not_handed_out_and_its_layers_are_folded() {
    let world = World::of(Case::HASHMAP_FILES_ASYNC, true);
    let worker = world.worker();
    let store = worker.store::<u32>("op");
    let values = store
        .value_state(&ValueStateDescriptor::<u64>::new("values"))
        .unwrap();
    let rows = table(&worker, "rows", false);
    let write = |value: u64| {
        for key in 0..2000u32 {
            store.set_current_key(&key);
            values.put(value).unwrap();
            let key = key.to_be_bytes();
            worker
                .access
                .put(rows, u16::from(key[3]) % 16, &key, &value.to_be_bytes())
                .unwrap();
        }
    };
    write(1);
    let once = worker.backend.borrow().stats().state_bytes;
    let gate = Gate::before(&world);
    worker.begin(1);
    write(2);
    let layered = worker.backend.borrow().stats().state_bytes;
    assert!(layered > once * 3 / 2, "{once}, {layered}");
    worker
        .backend
        .borrow_mut()
        .checkpoint_ended(1, false)
        .unwrap();
    // The next one may begin while the one given up hangs at the object store.
    worker.begin(2);
    write(3);
    gate.open();
    let saved = worker.finish(2);
    world.until("all layers are folded", || {
        assert!(worker.backend.borrow_mut().poll().unwrap().is_none());
        // Now that a snapshot has measured them, entries count as their rows.
        worker.backend.borrow().stats().state_bytes <= once * 5 / 4
    });
    saved.keyed[0].1.for_each_path(&mut |path, _| {
        assert!(
            path.contains("-h000002-"),
            "a file of another snapshot: {path}"
        );
    });
    let restored = world.restore(&saved);
    let again = restored.store::<u32>("op");
    let values = again
        .value_state(&ValueStateDescriptor::<u64>::new("values"))
        .unwrap();
    table(&restored, "rows", false);
    for key in [0, 999, 1999] {
        again.set_current_key(&key);
        assert_eq!(values.value().unwrap(), Some(2));
    }
    assert_eq!(restored.rows("rows").len(), 2000);
    assert!(restored.rows("rows").iter().all(|(_, value)| value[7] == 2));
}

#[test]
fn snapshots_that_were_given_up_and_hang_are_bounded() {
    let world = World::of(Case::HASHMAP_FILES_ASYNC, true);
    let worker = world.worker();
    let rows = table(&worker, "rows", false);
    let gate = Gate::before(&world);
    let put = |i: u64| worker.access.put(rows, 0, &i.to_be_bytes(), b"v").unwrap();
    let mut id = 0;
    let error = loop {
        id += 1;
        assert!(id < 10_000);
        put(id);
        worker.backend.borrow_mut().freeze(rows).unwrap();
        if let Err(error) = worker.backend.borrow_mut().snapshot(id) {
            break error;
        }
        // One that is given up before it writes anything ends at once; one that waits for its upload does not. The first uploads keep all
        // threads that write: of others it cannot be seen how far they have come, and some are given up too early.
        worker.rest();
        worker
            .backend
            .borrow_mut()
            .checkpoint_ended(id, false)
            .unwrap();
    };
    assert!(error.to_string().contains("4 snapshots"), "{error}");
    gate.open();
    world.until("another one may begin", || {
        worker.backend.borrow_mut().snapshot(id).is_ok()
    });
    let saved = worker.finish(id);
    let restored = world.restore(&saved);
    table(&restored, "rows", false);
    assert_eq!(restored.rows("rows").len(), id as usize);
}

/// Refuses to be written when it is 13.
#[derive(Clone, serde::Deserialize)]
struct Picky(u32);

impl serde::Serialize for Picky {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            13 => Err(serde::ser::Error::custom("thirteen is not written")),
            value => serializer.serialize_newtype_struct("Picky", &value),
        }
    }
}

#[test]
fn a_value_that_cannot_be_serialized_fails_the_checkpoint_and_not_the_operator() {
    for case in [
        Case::HASHMAP_MEMORY_ASYNC,
        Case::HASHMAP_MEMORY_SYNC,
        Case::HASHMAP_FILES_ASYNC,
        Case::HASHMAP_FILES_SYNC,
    ] {
        let world = World::of(case, true);
        let worker = world.worker();
        let store = worker.store::<u32>("op");
        let state = store
            .value_state(&ValueStateDescriptor::<Picky>::new("picky"))
            .unwrap();
        for key in 0..100 {
            store.set_current_key(&key);
            state.put(Picky(key)).unwrap();
        }
        worker.begin(1);
        let error = worker.finished(1).unwrap_err();
        for part in [
            "checkpoint 1 failed",
            "`picky`",
            "`op`",
            "cannot be serialized",
        ] {
            assert!(error.to_string().contains(part), "{error}");
        }
        store.set_current_key(&13);
        assert_eq!(state.value().unwrap().map(|picky| picky.0), Some(13));
        state.put(Picky(14)).unwrap();
        let saved = worker.checkpoint(2);
        let restored = world.restore(&saved);
        let store = restored.store::<u32>("op");
        let state = store
            .value_state(&ValueStateDescriptor::<Picky>::new("picky"))
            .unwrap();
        for key in 0..100 {
            store.set_current_key(&key);
            let expected = if key == 13 { 14 } else { key };
            assert_eq!(state.value().unwrap().map(|picky| picky.0), Some(expected));
        }
    }
}

#[test]
fn rows_wait_for_their_state_and_are_not_held_twice() {
    let world = World::of(Case::HASHMAP_FILES_ASYNC, true);
    let worker = world.worker();
    let describe = |name: &str| ValueStateDescriptor::<u64>::new(name);
    let store = worker.store::<u32>("op");
    let (first, second) = (
        store.value_state(&describe("first")).unwrap(),
        store.value_state(&describe("second")).unwrap(),
    );
    for key in 0..3000 {
        store.set_current_key(&key);
        first.put(u64::from(key)).unwrap();
        second.put(u64::from(key) + 1).unwrap();
    }
    let saved = worker.checkpoint(1);

    let restored = world.restore(&saved);
    let bytes = || restored.backend.borrow().stats().state_bytes;
    let waiting = bytes();
    assert!(waiting > 2 * 3000 * 5, "{waiting}");
    let store = restored.store::<u32>("op");
    let first = store.value_state(&describe("first")).unwrap();
    // One entry is 20 bytes here and was 6 as a row; kept twice it would be more.
    assert!(bytes() < waiting / 2 + 3000 * 21, "{waiting}, {}", bytes());
    // The program never asks for the second one: it stays as it is, through one more checkpoint.
    store.set_current_key(&17);
    assert_eq!(first.value().unwrap(), Some(17));
    first.put(0).unwrap();
    let again = restored.checkpoint(2);
    let restored = world.restore(&again);
    let store = restored.store::<u32>("op");
    let second = store.value_state(&describe("second")).unwrap();
    let first = store.value_state(&describe("first")).unwrap();
    for key in 0..3000 {
        store.set_current_key(&key);
        assert_eq!(second.value().unwrap(), Some(u64::from(key) + 1));
        let expected = if key == 17 { 0 } else { u64::from(key) };
        assert_eq!(first.value().unwrap(), Some(expected));
    }
}

#[test]
fn a_state_may_be_asked_for_while_a_snapshot_of_its_rows_is_written() {
    let world = World::of(Case::HASHMAP_FILES_ASYNC, true);
    let worker = world.worker();
    let describe = ListStateDescriptor::<u64>::new("list");
    let store = worker.store::<u32>("op");
    let list = store.list_state(&describe).unwrap();
    for key in 0..300u32 {
        store.set_current_key(&key);
        list.add_all(&[1, 2]).unwrap();
    }
    let saved = worker.checkpoint(1);

    let restored = world.restore(&saved);
    let gate = Gate::before(&world);
    restored.begin(2);
    let store = restored.store::<u32>("op");
    let list = store.list_state(&describe).unwrap();
    for key in 0..300u32 {
        store.set_current_key(&key);
        list.add(&3).unwrap();
    }
    gate.open();
    let second = restored.finish(2);
    let third = restored.checkpoint(3);
    for (saved, expected) in [(second, &[1, 2][..]), (third, &[1, 2, 3])] {
        let restored = world.restore(&saved);
        let store = restored.store::<u32>("op");
        let list = store.list_state(&describe).unwrap();
        store.set_current_key(&42);
        assert_eq!(restored.collect(list.get()), expected);
    }
}

/// Rows of key groups that came before the one that cannot be read are in the typed table that was given up.
#[test]
fn what_was_read_in_part_is_never_snapshotted() {
    let world = World::of(Case::HASHMAP_FILES_ASYNC, true);
    let describe = ValueStateDescriptor::<String>::new("text");
    let described: Vec<StateDescription> = {
        let worker = world.worker();
        worker.store::<u32>("op").value_state(&describe).unwrap();
        let tables = worker.backend.borrow().tables();
        tables
            .into_iter()
            .map(|(description, _)| description)
            .collect()
    };
    let worker = world.worker();
    let table = worker.backend.borrow_mut().register(&described[0]).unwrap();
    worker
        .access
        .put(table, 0, &[0, 0, 0, 1], b"\x01a")
        .unwrap();
    worker
        .access
        .put(table, 5, &[0, 0, 0, 2], b"\xff\xff")
        .unwrap();
    let refused = worker.store::<u32>("op").value_state(&describe);
    assert!(matches!(refused, Err(StateError::Corrupt(_))));
    let error = worker.backend.borrow_mut().freeze(table).unwrap_err();
    assert!(error.to_string().contains("cannot be kept"), "{error}");
}

#[test]
fn every_read_is_ready_at_once_also_while_a_snapshot_is_written() {
    let world = World::of(Case::HASHMAP_FILES_ASYNC, true);
    let worker = world.worker();
    let store = worker.store::<u32>("op");
    let values = store
        .value_state(&ValueStateDescriptor::<u64>::new("v").default_value(|| 5))
        .unwrap();
    let lists = store
        .list_state(&ListStateDescriptor::<u64>::new("l"))
        .unwrap();
    let maps = store
        .map_state(&MapStateDescriptor::<u32, u64>::new("m"))
        .unwrap();
    let check = || {
        for key in 0..20 {
            store.set_current_key(&key);
            assert!(values.get().is_ready());
            assert!(maps.get(&1).is_ready());
            assert!(maps.contains(&1).is_ready());
            assert!(maps.is_empty().is_ready());
            assert!(lists.is_empty().is_ready());
        }
    };
    check();
    for key in 0..10 {
        store.set_current_key(&key);
        values.put(1).unwrap();
        lists.add(&1).unwrap();
        maps.put(&1, &1).unwrap();
    }
    check();
    let gate = Gate::before(&world);
    worker.begin(1);
    check();
    gate.open();
    worker.finish(1);
}

fn raw_rows_expire_as_their_table_says(world: &World) {
    let worker = world.worker();
    let register = |state: &str, show_expired: bool, ordered: bool| {
        let options = TableOptions {
            ttl_ms: Some(100),
            show_expired,
            ordered,
            ..TableOptions::default()
        };
        let description = StateDescription::raw("op", state, options, "raw");
        worker.backend.borrow_mut().register(&description).unwrap()
    };
    let hidden = [
        register("hashed", false, false),
        register("ordered", false, true),
    ];
    let shown = register("shown", true, false);
    let access = &worker.access;
    for table in [hidden[0], hidden[1], shown] {
        access.put_at(table, 2, b"old", b"1", Some(0)).unwrap();
        access.put_at(table, 2, b"young", b"2", Some(50)).unwrap();
        access.put(table, 2, b"untimed", b"3").unwrap();
    }
    let keys = |table| -> Vec<Vec<u8>> {
        let rows = access
            .scan_blocking(table, 2, b"", b"", None, 10)
            .unwrap()
            .rows;
        rows.into_iter().map(|(key, _)| key.to_vec()).collect()
    };
    for (now, left) in [(99, 3), (100, 2), (149, 2), (150, 1)] {
        world.at(now);
        for table in hidden {
            assert_eq!(keys(table).len(), left, "{} at {now}", world.name());
            let old = access.get_blocking(table, 2, b"old").unwrap();
            assert_eq!(old.is_some(), now < 100, "{} at {now}", world.name());
            assert!(access.get_blocking(table, 2, b"untimed").unwrap().is_some());
        }
    }
    assert_eq!(keys(shown).len(), 3, "{}", world.name());
}

#[test]
fn expired_raw_rows_go_while_their_table_is_written_to() {
    let world = World::of(Case::HASHMAP_FILES_ASYNC, true);
    let worker = world.worker();
    let options = TableOptions {
        ttl_ms: Some(100),
        ..TableOptions::default()
    };
    let description = StateDescription::raw("op", "rows", options, "raw");
    let rows = worker.backend.borrow_mut().register(&description).unwrap();
    let put = |i: u32, time_ms| {
        let key = i.to_be_bytes();
        let group = (i % 16) as u16;
        worker
            .access
            .put_at(rows, group, &key, b"v", Some(time_ms))
            .unwrap();
    };
    (0..1000).for_each(|i| put(i, 0));
    let full = worker.backend.borrow().stats().state_bytes;
    world.at(200);
    (0..2000).for_each(|i| put(10_000 + i % 10, 200));
    let left = worker.backend.borrow().stats().state_bytes;
    assert!(left <= full / 100 * 2, "{full}, {left}");
}
