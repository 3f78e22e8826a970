//! Snapshots and the work that goes on beside them: what is held back, dropped, failing; and who restores what under which name.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use aquifer_state::{
    BackendKind, KeyedSnapshot, KeyedStateStore, ListState, ListStateDescriptor, MapState,
    MapStateDescriptor, SnapshotStorage, StateError, TtlConfig, ValueState, ValueStateDescriptor,
};
use aquifer_testkit::{FaultPlan, Rng};
use object_store::ObjectStoreExt;
use object_store::path::Path;

use crate::backends::table;
use crate::cases::conformance;
use crate::heap::Gate;
use crate::world::{MAX_PARALLELISM, Saved, Worker, World};

conformance!(
    state_is_used_while_a_snapshot_is_written,
    a_dropped_worker_stops_its_snapshot,
    a_snapshot_that_fails_leaves_the_worker_usable,
    the_barrier_waits_for_no_upload,
    freezing_writes_nothing,
    either_api_reads_what_the_other_wrote,
    states_may_be_asked_for_in_another_order_after_a_restore,
    state_follows_the_id_of_its_operator,
    a_snapshot_costs_what_has_changed,
    a_confirmed_base_is_needed,
    what_is_said_of_tables_stays_in_order,
);

/// One operator with one state of each layout.
struct Operator {
    worker: Worker,
    store: KeyedStateStore<u32>,
    value: ValueState<u64>,
    list: ListState<u64>,
    map: MapState<u32, u64>,
}

/// What it holds, by key.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
struct Model {
    values: BTreeMap<u32, u64>,
    lists: BTreeMap<u32, Vec<u64>>,
    maps: BTreeMap<u32, BTreeMap<u32, u64>>,
}

impl Operator {
    fn new(worker: Worker) -> Self {
        let store = worker.store::<u32>("op");
        Self {
            value: store
                .value_state(&ValueStateDescriptor::new("value"))
                .unwrap(),
            list: store.list_state(&ListStateDescriptor::new("list")).unwrap(),
            map: store.map_state(&MapStateDescriptor::new("map")).unwrap(),
            store,
            worker,
        }
    }

    fn list_of(&self) -> Vec<u64> {
        if self.worker.is_v2() {
            self.worker.collect(self.list.get())
        } else {
            self.list.sync().get().collect::<Result<_, _>>().unwrap()
        }
    }

    /// One random read or write of one key.
    fn step(&self, model: &mut Model, keys: u32, rng: &mut Rng) {
        let key = rng.below(u64::from(keys)) as u32;
        self.store.set_current_key(&key);
        let value = rng.below(1 << 40);
        let user_key = rng.below(6) as u32;
        match rng.below(12) {
            0..=2 => {
                self.value.put(value).unwrap();
                model.values.insert(key, value);
            }
            3 => {
                self.value.clear().unwrap();
                model.values.remove(&key);
            }
            4..=5 => {
                self.list.add(&value).unwrap();
                model.lists.entry(key).or_default().push(value);
            }
            6 if value.is_multiple_of(4) => {
                self.list.update(&[value, 1]).unwrap();
                model.lists.insert(key, vec![value, 1]);
            }
            7..=8 => {
                self.map.put(&user_key, &value).unwrap();
                model.maps.entry(key).or_default().insert(user_key, value);
            }
            9 => {
                self.map.remove(&user_key).unwrap();
                if let Some(map) = model.maps.get_mut(&key) {
                    map.remove(&user_key);
                }
            }
            10 if value.is_multiple_of(8) => {
                self.worker.map_clear(&self.map);
                model.maps.remove(&key);
            }
            _ => self.check_key(model, key),
        }
    }

    fn check_key(&self, model: &Model, key: u32) {
        self.store.set_current_key(&key);
        let worker = &self.worker;
        assert_eq!(worker.value(&self.value), model.values.get(&key).copied());
        let list = model.lists.get(&key).cloned().unwrap_or_default();
        assert_eq!(self.list_of(), list);
        let map = model.maps.get(&key).cloned().unwrap_or_default();
        let entries: Vec<(u32, u64)> = map.into_iter().collect();
        assert_eq!(worker.map_entries(&self.map), entries);
    }

    fn check(&self, model: &Model, keys: u32) {
        (0..keys).for_each(|key| self.check_key(model, key));
    }
}

/// Memtables of `forst` that hold a whole test: a store that is ahead of its uploads makes its caller wait.
fn roomy(world: &World) -> World {
    let mut roomy = World::like(world);
    roomy.options.memtable_bytes_max = 8 << 20;
    roomy
}

fn asynchronous(world: &World) -> bool {
    world.kind.get() != BackendKind::Hashmap || world.storage.get().is_asynchronous()
}

fn state_is_used_while_a_snapshot_is_written(world: &World) {
    const KEYS: u32 = 300;
    let world = &roomy(world);
    let operator = Operator::new(world.worker());
    let (mut model, mut rng) = (Model::default(), Rng::new(11));
    for _ in 0..3000 {
        operator.step(&mut model, KEYS, &mut rng);
    }
    let gate = asynchronous(world).then(|| Gate::before(world));
    operator.worker.begin(1);
    let at_barrier = model.clone();
    for _ in 0..3000 {
        operator.step(&mut model, KEYS, &mut rng);
    }
    operator.check(&model, KEYS);
    drop(gate);
    let saved = operator.worker.finish(1);
    // While layers are folded, and after.
    for _ in 0..1000 {
        operator.step(&mut model, KEYS, &mut rng);
        assert!(
            operator
                .worker
                .backend
                .borrow_mut()
                .poll()
                .unwrap()
                .is_none()
        );
    }
    operator.check(&model, KEYS);
    Operator::new(world.restore(&saved)).check(&at_barrier, KEYS);
    let saved = operator.worker.checkpoint(2);
    Operator::new(world.restore(&saved)).check(&model, KEYS);
}

fn a_dropped_worker_stops_its_snapshot(world: &World) {
    const KEYS: u32 = 200;
    let world = &roomy(world);
    let operator = Operator::new(world.worker());
    let (mut model, mut rng) = (Model::default(), Rng::new(12));
    for _ in 0..2000 {
        operator.step(&mut model, KEYS, &mut rng);
    }
    let saved = operator.worker.checkpoint(1);
    let kept = model.clone();
    for _ in 0..500 {
        operator.step(&mut model, KEYS, &mut rng);
    }
    // Before the first byte, where there is a background; after the last; and dropped right away.
    let gate = asynchronous(world).then(|| Gate::before(world));
    operator.worker.begin(2);
    drop(operator);
    drop(gate);
    let operator = Operator::new(world.restore(&saved));
    operator.check(&kept, KEYS);
    operator.worker.begin(2);
    drop(operator);
    let operator = Operator::new(world.restore(&saved));
    operator.check(&kept, KEYS);
    let again = operator.worker.checkpoint(2);
    Operator::new(world.restore(&again)).check(&kept, KEYS);
    // No task waits for ever: a runtime can end only when its blocking threads have.
    drop(operator);
    let metrics = world.runtime.metrics();
    world.until("no task is left", || metrics.num_alive_tasks() == 0);
}

fn a_snapshot_that_fails_leaves_the_worker_usable(world: &World) {
    // A store that cannot write gives up for good: its attempt ends. What is in memory only cannot fail to be written.
    let in_files = matches!(world.storage.get(), SnapshotStorage::FileSystem { .. });
    if world.kind.get() != BackendKind::Hashmap || !in_files {
        return;
    }
    const KEYS: u32 = 200;
    let mut world = World::like(world);
    world.options.io.retries_max = 0;
    let operator = Operator::new(world.worker());
    let (mut model, mut rng) = (Model::default(), Rng::new(13));
    for _ in 0..2000 {
        operator.step(&mut model, KEYS, &mut rng);
    }
    world.objects.set_plan(FaultPlan {
        error_not_applied_per_mille: 1000,
        ..FaultPlan::default()
    });
    operator.worker.begin(1);
    let error = operator.worker.finished(1).unwrap_err();
    assert!(matches!(error, StateError::Store(_)), "{error:?}");
    assert!(error.to_string().contains("checkpoint 1 failed"), "{error}");
    for _ in 0..1000 {
        operator.step(&mut model, KEYS, &mut rng);
    }
    operator.check(&model, KEYS);
    world.objects.set_plan(FaultPlan::default());
    let saved = operator.worker.checkpoint(2);
    saved.keyed[0].1.for_each_path(&mut |path, _| {
        assert!(
            path.contains("-h000002-"),
            "a file of the snapshot that failed: {path}"
        );
    });
    Operator::new(world.restore(&saved)).check(&model, KEYS);
}

fn the_barrier_waits_for_no_upload(world: &World) {
    if !asynchronous(world) {
        return;
    }
    const KEYS: u32 = 100;
    let world = &roomy(world);
    let operator = Operator::new(world.worker());
    let (mut model, mut rng) = (Model::default(), Rng::new(14));
    for _ in 0..1000 {
        operator.step(&mut model, KEYS, &mut rng);
    }
    let gate = Gate::before(world);
    operator.worker.begin(1);
    for _ in 0..1000 {
        operator.step(&mut model, KEYS, &mut rng);
    }
    assert!(!gate.is_open());
    gate.open();
    operator.worker.finish(1);
    operator.check(&model, KEYS);
}

/// Flink's ForSt flushes its memtable while the barrier passes.
fn freezing_writes_nothing(world: &World) {
    let world = &roomy(world);
    let operator = Operator::new(world.worker());
    let (mut model, mut rng) = (Model::default(), Rng::new(15));
    for _ in 0..2000 {
        operator.step(&mut model, 200, &mut rng);
    }
    let before = world.objects.counts();
    let tables = operator.worker.backend.borrow().tables();
    for (_, table) in tables {
        operator.worker.backend.borrow_mut().freeze(table).unwrap();
    }
    assert_eq!(world.objects.counts(), before, "{}", world.name());
    operator.worker.backend.borrow_mut().snapshot(1).unwrap();
    operator.worker.finish(1);
}

fn either_api_reads_what_the_other_wrote(world: &World) {
    const KEYS: u32 = 100;
    let (mut model, mut rng) = (Model::default(), Rng::new(16));
    let mut saved = Saved::default();
    let world = World::like(world);
    for _ in 0..4 {
        let operator = Operator::new(world.restore(&saved));
        operator.check(&model, KEYS);
        for _ in 0..600 {
            operator.step(&mut model, KEYS, &mut rng);
        }
        saved = operator.worker.checkpoint(1);
        world.asynchronous.set(!world.asynchronous.get());
    }
    Operator::new(world.restore(&saved)).check(&model, KEYS);
}

fn value_of(store: &KeyedStateStore<u32>, name: &str) -> ValueState<u64> {
    store.value_state(&ValueStateDescriptor::new(name)).unwrap()
}

fn states_may_be_asked_for_in_another_order_after_a_restore(world: &World) {
    let worker = world.worker();
    let store = worker.store::<u32>("op");
    for (at, name) in ["a", "b", "c"].into_iter().enumerate() {
        let state = value_of(&store, name);
        for key in 0..50 {
            store.set_current_key(&key);
            state.put(u64::from(key) * 10 + at as u64).unwrap();
        }
    }
    let saved = worker.checkpoint(1);
    let worker = world.restore(&saved);
    let store = worker.store::<u32>("op");
    let (c, new, a) = (
        value_of(&store, "c"),
        value_of(&store, "new"),
        value_of(&store, "a"),
    );
    for key in 0..50 {
        store.set_current_key(&key);
        assert_eq!(worker.value(&c), Some(u64::from(key) * 10 + 2));
        assert_eq!(worker.value(&new), None);
        assert_eq!(worker.value(&a), Some(u64::from(key) * 10));
        new.put(7).unwrap();
    }
    let saved = worker.checkpoint(2);
    let worker = world.restore(&saved);
    let store = worker.store::<u32>("op");
    let (new, b) = (value_of(&store, "new"), value_of(&store, "b"));
    for key in 0..50 {
        store.set_current_key(&key);
        assert_eq!(worker.value(&new), Some(7));
        assert_eq!(worker.value(&b), Some(u64::from(key) * 10 + 1));
    }
}

fn state_follows_the_id_of_its_operator(world: &World) {
    let worker = world.worker();
    let put = |worker: &Worker, operator: &str, value: u64| {
        let store = worker.store::<u32>(operator);
        let state = value_of(&store, "same name");
        store.set_current_key(&1);
        state.put(value).unwrap();
    };
    put(&worker, "x", 1);
    put(&worker, "y", 2);
    let saved = worker.checkpoint(1);
    let worker = world.restore(&saved);
    for (operator, expected) in [("y", Some(2)), ("z", None), ("x", Some(1))] {
        let store = worker.store::<u32>(operator);
        let state = value_of(&store, "same name");
        store.set_current_key(&1);
        assert_eq!(worker.value(&state), expected, "{operator}");
    }
}

/// Of backends that write what has changed.
fn a_snapshot_costs_what_has_changed(world: &World) {
    if world.kind.get() != BackendKind::Forst {
        return;
    }
    let world = &mut roomy(world);
    // Compactions rewrite what has not changed: their cost is not that of a snapshot.
    world.options.l0_files_max = usize::MAX;
    let worker = world.worker();
    let rows = table(&worker, "rows", false);
    let mut rng = Rng::new(17);
    let mut put = |key: u32, version: u8| {
        let mut value: Vec<u8> = (0..200).map(|_| rng.below(256) as u8).collect();
        value[0] = version;
        let access = &worker.access;
        let group = (key % u32::from(MAX_PARALLELISM)) as u16;
        access.put(rows, group, &key.to_be_bytes(), &value).unwrap();
    };
    (0..5000).for_each(|key| put(key, 0));
    let begun = world.objects.take_counts().bytes_written;
    let mut saved = vec![worker.checkpoint(1)];
    let first = begun + world.objects.take_counts().bytes_written;
    assert!(first > 1_000_000, "{first}");
    for version in 1..=30u8 {
        (0..10).for_each(|key| put(key, version));
        saved.push(worker.checkpoint(u64::from(version) + 1));
        let bytes = world.objects.take_counts().bytes_written;
        assert!(bytes * 20 < first, "{bytes} of {first} bytes");
    }
    for (version, saved) in saved.iter().enumerate().skip(28) {
        let worker = world.restore(saved);
        let rows = table(&worker, "rows", false);
        for (key, expected) in [(3u32, version as u8), (4000, 0)] {
            let group = (key % u32::from(MAX_PARALLELISM)) as u16;
            let value = worker.access.get_blocking(rows, group, &key.to_be_bytes());
            assert_eq!(value.unwrap().unwrap()[0], expected);
        }
    }
}

/// A checkpoint that the job has not completed may be deleted: nothing that comes later stands on what only it has named.
fn a_confirmed_base_is_needed(world: &World) {
    let operator = Operator::new(world.worker());
    let (mut model, mut rng) = (Model::default(), Rng::new(18));
    let mut saved = Vec::new();
    for id in 1..=4 {
        for _ in 0..400 {
            operator.step(&mut model, 100, &mut rng);
        }
        saved.push(operator.worker.checkpoint(id));
        let mut backend = operator.worker.backend.borrow_mut();
        match id {
            1 => backend.checkpoint_ended(1, true).unwrap(),
            // Of the second nobody hears again, the third is given up.
            2 => {}
            _ => backend.checkpoint_ended(id, false).unwrap(),
        }
    }
    let paths = |saved: &Saved| -> BTreeSet<String> {
        let mut paths = BTreeSet::new();
        saved.keyed[0].1.for_each_path(&mut |path, _| {
            paths.insert(path.to_owned());
        });
        paths
    };
    let kept = paths(&saved[3]);
    for unconfirmed in &saved[1..3] {
        for path in paths(unconfirmed).difference(&kept) {
            let path = Path::from(path.as_str());
            world.runtime.block_on(world.objects.delete(&path)).unwrap();
        }
    }
    drop(operator);
    Operator::new(world.restore(&saved[3])).check(&model, 100);
}

/// The heap told of a list of several chunks behind the event time of a later table. The metadata was written, the checkpoint was complete, and nobody
/// could read it.
fn what_is_said_of_tables_stays_in_order(world: &World) {
    const ELEMENTS: usize = 15;
    let open = |worker: &Worker| {
        let store = worker.store::<u32>("op");
        let long = ListStateDescriptor::<String>::new("long");
        let timed = ValueStateDescriptor::<u64>::new("timed")
            .ttl(TtlConfig::new(Duration::from_secs(1)).event_time());
        let (long, timed) = (store.list_state(&long), store.value_state(&timed));
        (store, long.unwrap(), timed.unwrap())
    };
    let worker = world.worker();
    let (store, long, timed) = open(&worker);
    store.advance_event_time(1000).unwrap();
    store.set_current_key(&1);
    timed.put(7).unwrap();
    for _ in 0..ELEMENTS {
        long.add(&"x".repeat(100_000)).unwrap();
    }
    let mut saved = worker.checkpoint(1);
    for (_, part) in &mut saved.keyed {
        let mut bytes = Vec::new();
        part.encode(&mut bytes);
        let read =
            KeyedSnapshot::decode(&bytes).unwrap_or_else(|e| panic!("{}: {e}", world.name()));
        assert!(read == *part);
        *part = read;
    }
    let worker = world.restore(&saved);
    let (store, long, timed) = open(&worker);
    store.set_current_key(&1);
    assert_eq!(worker.collect(long.get()).len(), ELEMENTS);
    assert_eq!(worker.value(&timed), Some(7));
}
