//! Savepoints: written from the checkpoints of any backend, read by any.
pub mod files;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aquifer_state::checkpoint::{
    CheckpointKind, CheckpointMetadata, ForeignCheckpoint, OperatorSnapshot, Origin,
    SavepointFormat,
};
use aquifer_state::operator::OperatorStateStore;
use aquifer_state::rows::row_source;
use aquifer_state::serializer::Postcard;
use aquifer_state::{
    AggregateFunction, AggregatingState, AggregatingStateDescriptor, BackendKind, KeyedStateStore,
    ListState, ListStateDescriptor, MapState, MapStateDescriptor, ReducingState,
    ReducingStateDescriptor, StateError, StateVisibility, TimerService, TtlConfig, ValueState,
    ValueStateDescriptor,
};
use aquifer_store::KeyGroupRange;
use aquifer_testkit::{FaultPlan, RequestKind};
use bytes::Bytes;
use object_store::ObjectStoreExt;
use object_store::path::Path;

use self::files::{ROOT, delete_below, environment, found, objects_below, relocate};
use crate::cases::{Case, all, ask, conformance};
use crate::world::{MAX_PARALLELISM, Saved, Worker, World, checkpoint_all};

conformance!(
    a_savepoint_holds_everything,
    a_native_savepoint_stands_alone,
    a_savepoint_can_be_moved,
    what_has_expired_is_left_out,
    event_time_goes_on_where_it_was,
    chunks_that_have_expired_stay_gone,
    lists_are_numbered_anew,
    a_crash_leaves_no_readable_half,
);

/// Backends and places of snapshots that savepoints go between.
const CASES: &[Case] = &[
    Case::HASHMAP_MEMORY_ASYNC,
    Case::HASHMAP_FILES_ASYNC,
    Case::HASHMAP_FILES_SYNC,
    Case::FORST,
    #[cfg(feature = "rocksdb")]
    Case::ROCKSDB_FULL,
    #[cfg(feature = "rocksdb")]
    Case::ROCKSDB_INCREMENTAL,
];

/// The metadata of a checkpoint of two workers.
fn metadata(world: &World, saved: &Saved) -> CheckpointMetadata {
    let operators = OperatorStateStore::empty("op");
    let list = ListStateDescriptor::<u32>::new("offsets");
    operators.list_state(&list).unwrap().update([1, 2, 3]);
    let rules = MapStateDescriptor::<u32, u32>::new("rules");
    operators
        .broadcast_state(&rules)
        .unwrap()
        .put(4, 5)
        .unwrap();
    let report = OperatorSnapshot::of_state("op", operators.freeze().unwrap());
    CheckpointMetadata {
        checkpoint_id: 9,
        job_name: "job".into(),
        attempt: 1,
        created_unix_ms: 0,
        parallelism: 2,
        max_parallelism: MAX_PARALLELISM,
        plan: String::new(),
        finished: false,
        kind: CheckpointKind::Checkpoint,
        backend: world.kind.get(),
        tables: saved.tables.clone(),
        keyed: saved.keyed.clone(),
        operators: report.into_iter().collect(),
        origin: Origin::default(),
    }
}

fn try_savepoint(
    world: &World,
    saved: &Saved,
    format: SavepointFormat,
    name: &str,
) -> Result<CheckpointMetadata, StateError> {
    files::try_write(world, &metadata(world, saved), format, name)
}

/// What a job restores from a savepoint.
fn read(world: &World, directory: &str) -> Saved {
    keyed_part(files::read(world, directory))
}

fn keyed_part(metadata: CheckpointMetadata) -> Saved {
    Saved {
        tables: metadata.tables,
        keyed: metadata.keyed,
    }
}

fn savepoint(world: &World, saved: &Saved, format: SavepointFormat, name: &str) -> Saved {
    let read = keyed_part(files::written(world, &metadata(world, saved), format, name));
    assert_eq!(read.tables, saved.tables);
    read
}

#[derive(Clone)]
struct Sum;

impl AggregateFunction for Sum {
    type In = i64;
    type Acc = (u32, i64);
    type Out = i64;

    fn create(&self) -> Self::Acc {
        (0, 0)
    }

    fn add(&self, value: i64, acc: &mut Self::Acc) {
        *acc = (acc.0 + 1, acc.1 + value);
    }

    fn result(&self, acc: &Self::Acc) -> i64 {
        acc.1 * 100 + i64::from(acc.0)
    }

    fn merge(&self, a: Self::Acc, b: Self::Acc) -> Self::Acc {
        (a.0 + b.0, a.1 + b.1)
    }
}

type Fold = fn(i64, i64) -> i64;

/// A program with a state of every kind.
struct Program {
    store: KeyedStateStore<String>,
    value: ValueState<u64>,
    list: ListState<String>,
    map: MapState<String, Option<u32>>,
    fold: ReducingState<i64, Fold>,
    sum: AggregatingState<Sum>,
    windows: ValueState<u64, Postcard<u64>, i64>,
    brief: ValueState<u64>,
    brief_list: ListState<u64>,
    event: TimerService,
    processing: TimerService,
}

fn ttl() -> TtlConfig {
    TtlConfig::new(Duration::from_millis(100))
}

impl Program {
    fn open(worker: &Worker) -> Self {
        let store = worker.store::<String>("op");
        let fold: Fold = |a, b| a.wrapping_mul(31).wrapping_add(b);
        let brief = ValueStateDescriptor::new("brief").ttl(ttl());
        let brief_list = ListStateDescriptor::new("brief list").ttl(ttl());
        Self {
            value: store
                .value_state(&ValueStateDescriptor::new("value"))
                .unwrap(),
            list: store
                .list_state(&ListStateDescriptor::new("list").chunk_bytes_max(64))
                .unwrap(),
            map: store.map_state(&MapStateDescriptor::new("map")).unwrap(),
            fold: store
                .reducing_state(&ReducingStateDescriptor::new("fold", fold))
                .unwrap(),
            sum: store
                .aggregating_state(&AggregatingStateDescriptor::new("sum", Sum))
                .unwrap(),
            windows: store
                .value_state(&ValueStateDescriptor::<u64>::new("windows").namespace::<i64>())
                .unwrap(),
            brief: store.value_state(&brief).unwrap(),
            brief_list: store.list_state(&brief_list).unwrap(),
            event: store.timer_service("t").unwrap(),
            processing: store.processing_timers("t").unwrap(),
            store,
        }
    }
}

const KEYS: u64 = 60;

fn key(i: u64) -> String {
    format!("key {i}")
}

fn elements(i: u64) -> Vec<String> {
    (0..i % 7).map(|j| format!("element {j} of {i}")).collect()
}

fn entries(i: u64) -> Vec<(String, Option<u32>)> {
    let entry = |j: u64| {
        (
            format!("user key {j}"),
            j.is_multiple_of(2).then_some(i as u32),
        )
    };
    (0..i % 4).map(entry).collect()
}

/// Everything that [`check`] expects; the clock stands at 0 and then at 50.
fn fill(world: &World, workers: &[Worker]) {
    let programs: Vec<(&Worker, Program)> = workers.iter().map(|w| (w, Program::open(w))).collect();
    let each_key = |now_ms: i64, write: &dyn Fn(&Worker, &Program, u64)| {
        world.at(now_ms);
        for (worker, program) in &programs {
            for i in (0..KEYS).filter(|i| worker.owns(&key(*i))) {
                program.store.set_current_key(&key(i));
                write(worker, program, i);
            }
        }
    };
    each_key(0, &|worker, program, i| {
        program.value.put(i).unwrap();
        for element in elements(i) {
            program.list.add(&element).unwrap();
        }
        for (user_key, value) in entries(i) {
            program.map.put(&user_key, &value).unwrap();
        }
        for j in 0..3 {
            let (fold, sum) = (&program.fold, &program.sum);
            ask!(worker, fold.add((i + j) as i64));
            ask!(worker, sum.add((i + j) as i64));
        }
        for namespace in [0, i as i64 % 3] {
            program.windows.set_namespace(&namespace);
            program.windows.put(i * 10 + namespace as u64).unwrap();
        }
        program.brief.put(i).unwrap();
        program.brief_list.add(&0).unwrap();
        let current = program.store.current_key();
        let registered = current.with(|group, key| {
            program.event.register(i as i64, group, key, b"").unwrap();
            let at = 1000 + i as i64;
            program.processing.register(at, group, key, b"n").unwrap();
        });
        registered.unwrap();
        // What was removed does not come back.
        let gone = format!("gone {i}");
        if worker.owns(&gone) {
            program.store.set_current_key(&gone);
            program.value.put(1).unwrap();
            program.value.clear().unwrap();
        }
    });
    each_key(50, &|_, program, i| {
        program.brief_list.add(&50).unwrap();
        if i % 2 == 1 {
            program.brief.put(i).unwrap();
        }
    });
    world.at(60);
}

/// At 60 everything is there; at 110 what was written at 0 with a TTL has expired.
fn check(world: &World, workers: &[Worker], now_ms: i64) {
    world.at(now_ms);
    let mut seen = 0;
    for worker in workers {
        let program = Program::open(worker);
        let Program {
            store,
            value,
            list,
            map,
            fold,
            sum,
            windows,
            brief,
            brief_list,
            ..
        } = &program;
        for i in (0..KEYS).filter(|i| worker.owns(&key(*i))) {
            seen += 1;
            store.set_current_key(&key(i));
            let name = world.name();
            assert_eq!(ask!(worker, value.get()), Some(i), "{name}");
            assert_eq!(all!(worker, list.get()), elements(i), "{name}");
            assert_eq!(all!(worker, map.entries()), entries(i), "{name}");
            let n = i as i64;
            assert_eq!(
                ask!(worker, fold.get()),
                Some((n * 31 + n + 1) * 31 + n + 2)
            );
            assert_eq!(ask!(worker, sum.get()), Some((3 * n + 3) * 100 + 3));
            for namespace in 0..3 {
                windows.set_namespace(&namespace);
                let there = namespace == 0 || namespace == n % 3;
                let expected = there.then_some(i * 10 + namespace as u64);
                assert_eq!(ask!(worker, windows.get()), expected, "{name}");
            }
            let alive = now_ms < 100 || i % 2 == 1;
            assert_eq!(ask!(worker, brief.get()), alive.then_some(i), "{name}");
            let expected = if now_ms < 100 { vec![0, 50] } else { vec![50] };
            assert_eq!(all!(worker, brief_list.get()), expected, "{name}");
            let gone = format!("gone {i}");
            if worker.owns(&gone) {
                store.set_current_key(&gone);
                assert_eq!(ask!(worker, value.get()), None, "{name}");
            }
        }
    }
    assert_eq!(seen, KEYS);
}

/// All timers fire once, each where its key is.
fn check_timers(world: &World, workers: &[Worker]) {
    let (mut event, mut processing) = (Vec::new(), Vec::new());
    for worker in workers {
        let program = Program::open(worker);
        for (timers, fired) in [
            (&program.event, &mut event),
            (&program.processing, &mut processing),
        ] {
            assert!(worker.fire(timers, -1).is_empty());
            fired.extend(worker.fire(timers, 5000).into_iter().map(|timer| timer.0));
            assert!(worker.fire(timers, 6000).is_empty());
        }
    }
    event.sort_unstable();
    processing.sort_unstable();
    let n = KEYS as i64;
    assert_eq!(event, (0..n).collect::<Vec<_>>(), "{}", world.name());
    assert_eq!(processing, (1000..1000 + n).collect::<Vec<_>>());
}

/// A checkpoint of two workers with everything in it.
fn filled(world: &World) -> Saved {
    let workers = world.workers(2, &Saved::default());
    fill(world, &workers);
    let saved = checkpoint_all(&workers, 1);
    // Requests are counted afterwards.
    workers.iter().for_each(Worker::quiet);
    saved
}

fn become_case(world: &World, case: Case) {
    world.kind.set(case.kind);
    world.storage.set(case.storage);
}

fn a_savepoint_holds_everything(world: &World) {
    let saved = filled(world);
    for (format, name) in [
        (SavepointFormat::Canonical, "c"),
        (SavepointFormat::Native, "n"),
    ] {
        let restored = savepoint(world, &saved, format, name);
        let workers = world.workers(3, &restored);
        check(world, &workers, 60);
        check(world, &workers, 110);
        check_timers(world, &workers);
    }
    let found = found(world, "savepoints/c").unwrap().metadata;
    assert_eq!(found.kind, CheckpointKind::CanonicalSavepoint);
    assert_eq!(found.operators, metadata(world, &saved).operators);
    assert_eq!(found.keyed.len(), 1);
    // A name is used once.
    let again = try_savepoint(world, &saved, SavepointFormat::Canonical, "c");
    assert!(matches!(again, Err(StateError::Usage(text)) if text.contains("already")));
}

/// Flink cannot take a canonical savepoint with the ForSt backend at all, and one with timers in the state fails.
#[test]
fn every_backend_restores_every_others_savepoint() {
    for (i, from) in CASES.iter().enumerate() {
        let world = World::of(*from, i % 2 == 0);
        let saved = filled(&world);
        let restored = savepoint(&world, &saved, SavepointFormat::Canonical, "s");
        for to in CASES {
            become_case(&world, *to);
            let workers = world.workers(3, &restored);
            check(&world, &workers, 60);
            // And on to the next: what a backend restored it hands on.
            let further = checkpoint_all(&workers, 2);
            check(&world, &world.workers(1, &further), 60);
            check(&world, &workers, 110);
            check_timers(&world, &workers);
        }
    }
}

#[test]
fn a_savepoint_is_the_same_whoever_wrote_it() {
    let mut first: Option<(Case, BTreeMap<String, Bytes>, Saved)> = None;
    for case in CASES {
        let world = World::of(*case, true);
        let saved = filled(&world);
        let mut read = savepoint(&world, &saved, SavepointFormat::Canonical, "s");
        read.tables.clear();
        let mut objects = objects_below(&world, "savepoints/s");
        // It says who wrote it.
        objects.remove("savepoints/s/_metadata");
        assert!(!objects.is_empty());
        match &first {
            None => first = Some((*case, objects, read)),
            Some((by, expected, saved)) => {
                assert_eq!(&read.keyed, &saved.keyed, "{by:?} and {case:?}");
                assert!(&objects == expected, "files of {by:?} and {case:?} differ");
            }
        }
    }
}

fn a_native_savepoint_stands_alone(world: &World) {
    let saved = filled(world);
    let restored = savepoint(world, &saved, SavepointFormat::Native, "n");
    delete_below(world, "job");
    let workers = world.workers(2, &restored);
    check(world, &workers, 60);
    check_timers(world, &workers);
}

/// A savepoint that forgot the watermark was noticed by no job that is told one before its first record. Until then nothing that had expired
/// may show again, and what is written counts as written at the watermark of the savepoint: without it, it would have expired when the
/// next one comes.
fn event_time_goes_on_where_it_was(world: &World) {
    const WATERMARK_MS: i64 = 1000;
    type Opened = (KeyedStateStore<u64>, ValueState<u64>, ListState<u64>);
    let open = |worker: &Worker| -> Opened {
        let store = worker.store::<u64>("op");
        let ttl = ttl().event_time();
        let value = ValueStateDescriptor::new("value").ttl(ttl.clone());
        let value = store.value_state(&value).unwrap();
        let list = ListStateDescriptor::new("list").ttl(ttl);
        let list = store.list_state(&list).unwrap();
        (store, value, list)
    };
    let write = |(store, value, list): &Opened, key: u64| {
        store.set_current_key(&key);
        value.put(key).unwrap();
        list.add(&key).unwrap();
    };
    let (early, late, new) = (0..KEYS, KEYS..2 * KEYS, 2 * KEYS..3 * KEYS);
    let opened = world.workers(2, &Saved::default());
    for (worker, store) in opened.iter().map(|worker| (worker, open(worker))) {
        for (now_ms, keys) in [(0, early.clone()), (WATERMARK_MS, late.clone())] {
            store.0.advance_event_time(now_ms).unwrap();
            keys.filter(|key| worker.owns(key))
                .for_each(|key| write(&store, key));
        }
    }
    let saved = checkpoint_all(&opened, 1);
    let canonical = savepoint(world, &saved, SavepointFormat::Canonical, "c");
    let native = savepoint(world, &saved, SavepointFormat::Native, "n");
    for (what, restored) in [
        ("checkpoint", &saved),
        ("canonical savepoint", &canonical),
        ("native savepoint", &native),
    ] {
        let says = |at: &str| format!("{what}, {at}, {}", world.name());
        // Another parallelism, and then a checkpoint of what was restored, that nobody told any watermark either.
        let first = world.workers(3, restored);
        first.iter().for_each(|worker| drop(open(worker)));
        let workers = world.workers(2, &checkpoint_all(&first, 2));
        let mut seen = 0;
        for (worker, opened) in workers.iter().map(|worker| (worker, open(worker))) {
            let (store, value, list) = &opened;
            let there = |key: u64, expected: bool, at: &str| {
                store.set_current_key(&key);
                let expected = expected.then_some(key);
                assert_eq!(ask!(worker, value.get()), expected, "{}", says(at));
                let elements: Vec<u64> = expected.into_iter().collect();
                assert_eq!(all!(worker, list.get()), elements, "{}", says(at));
            };
            let own = |keys: std::ops::Range<u64>| keys.filter(|key| worker.owns(key));
            for key in own(early.clone()) {
                there(key, false, "before the first watermark");
                seen += 1;
            }
            own(late.clone()).for_each(|key| there(key, true, "before the first watermark"));
            own(new.clone()).for_each(|key| write(&opened, key));
            store.advance_event_time(WATERMARK_MS + 99).unwrap();
            for key in own(late.start..new.end) {
                there(key, true, "after 99 ms");
            }
        }
        assert_eq!(seen, KEYS);
    }
}

/// Once all of a chunk has expired nobody looks for it any more, also when the TTL is off later. Its row is still in the files, and a savepoint, or
/// another backend, brought it back.
fn chunks_that_have_expired_stay_gone(world: &World) {
    const EXPIRED_MS: i64 = 1000;
    let plain = || ListStateDescriptor::<u32>::new("list").chunk_bytes_max(64);
    let (plain, brief) = (plain(), plain().ttl(ttl().disable_cleanup_in_background()));
    let opened = |worker: &Worker, descriptor: &ListStateDescriptor<u32>| {
        let store = worker.store::<u64>("op");
        let list = store.list_state(descriptor).unwrap();
        store.set_current_key(&1);
        list
    };
    world.at(0);
    let worker = world.worker();
    let list = opened(&worker, &brief);
    for element in 0..100 {
        list.add(&element).unwrap();
    }
    world.at(EXPIRED_MS);
    // It begins another chunk.
    list.add(&100).unwrap();
    assert_eq!(all!(worker, list.get()), [100]);
    let worker = world.restore(&worker.checkpoint(1));
    let list = opened(&worker, &plain);
    assert_eq!(all!(worker, list.get()), [100], "{}", world.name());
    let saved = worker.checkpoint(2);
    let canonical = savepoint(world, &saved, SavepointFormat::Canonical, "c");
    let from = world.name();
    for to in CASES {
        become_case(world, *to);
        for (what, saved) in [("checkpoint", &saved), ("savepoint", &canonical)] {
            let worker = world.restore(saved);
            let list = opened(&worker, &plain);
            let says = format!("{what} of {from} in {}", world.name());
            assert_eq!(all!(worker, list.get()), [100], "{says}");
        }
    }
}

fn a_savepoint_can_be_moved(world: &World) {
    let saved = filled(world);
    for format in [SavepointFormat::Canonical, SavepointFormat::Native] {
        savepoint(world, &saved, format, "here");
        relocate(world, "savepoints/here", "else/where/renamed");
        let workers = world.workers(2, &read(world, "else/where/renamed"));
        check(world, &workers, 110);
        drop(workers);
        delete_below(world, "else");
    }
}

/// What has expired is not written, also where it could still be seen, and elements of lists go one by one.
fn what_has_expired_is_left_out(world: &World) {
    let open = |worker: &Worker| {
        let store = worker.store::<String>("op");
        let shown = ttl().visibility(StateVisibility::ReturnExpiredIfNotCleanedUp);
        let value = store
            .value_state(&ValueStateDescriptor::<u64>::new("v").ttl(shown))
            .unwrap();
        let list = store
            .list_state(&ListStateDescriptor::<u64>::new("l").ttl(ttl()))
            .unwrap();
        store.set_current_key(&"k".to_owned());
        (value, list)
    };
    let worker = world.worker();
    let (value, list) = open(&worker);
    world.at(0);
    value.put(1).unwrap();
    list.add(&1).unwrap();
    world.at(1);
    list.add(&2).unwrap();
    world.at(100);
    let saved = worker.checkpoint(1);
    let restored = savepoint(world, &saved, SavepointFormat::Canonical, "s");
    // The clock is set back, so that only what is not there any more is not seen.
    world.at(50);
    let worker = world.restore(&restored);
    let (value, list) = open(&worker);
    assert_eq!(ask!(worker, value.get()), None, "{}", world.name());
    assert_eq!(all!(worker, list.get()), [2], "{}", world.name());
}

fn lists_are_numbered_anew(world: &World) {
    let open = |worker: &Worker| {
        let store = worker.store::<String>("op");
        let descriptor = ListStateDescriptor::<Vec<u8>>::new("list").chunk_bytes_max(64);
        let list = store.list_state(&descriptor).unwrap();
        store.set_current_key(&"k".to_owned());
        (store, list)
    };
    let worker = world.worker();
    let (store, list) = open(&worker);
    // Many small chunks of one list, and then a list that is larger than a chunk.
    for i in 0..40u8 {
        list.add(&vec![i; 30]).unwrap();
    }
    store.set_current_key(&"large".to_owned());
    let large: Vec<Vec<u8>> = (0..5).map(|i| vec![i; 600_000]).collect();
    list.add_all(&large).unwrap();
    let saved = worker.checkpoint(1);
    let restored = savepoint(world, &saved, SavepointFormat::Canonical, "s");
    let worker = world.restore(&restored);
    let (store, list) = open(&worker);
    let small: Vec<Vec<u8>> = (0..40u8).map(|i| vec![i; 30]).collect();
    assert_eq!(all!(worker, list.get()), small);
    list.add(&vec![99]).unwrap();
    let mut more = small.clone();
    more.push(vec![99]);
    assert_eq!(all!(worker, list.get()), more, "{}", world.name());
    store.set_current_key(&"large".to_owned());
    assert_eq!(all!(worker, list.get()), large, "{}", world.name());
    let (files, tables) = (&restored.keyed[0].1.files, &restored.keyed[0].1.tables);
    let rows: u64 = files.files.iter().map(|file| file.entries).sum();
    assert_eq!(rows, 1 + 5, "one chunk and five");
    assert_eq!(tables[0].list_chunk, 4);
}

fn a_crash_leaves_no_readable_half(world: &World) {
    let saved = filled(world);
    for format in [SavepointFormat::Canonical, SavepointFormat::Native] {
        let mut crash_at = 0;
        loop {
            let name = format!("{format:?}-{crash_at}");
            world.objects.set_plan(FaultPlan {
                crash_at: Some(crash_at),
                ..FaultPlan::default()
            });
            let written = try_savepoint(world, &saved, format, &name);
            world.objects.set_plan(FaultPlan::default());
            let found = found(world, &format!("savepoints/{name}"));
            match (&written, &found) {
                (Ok(_), Some(_)) => break,
                (Err(_), None) => {}
                // The metadata was written, and the answer to it was cut off.
                (Err(_), Some(_)) => {
                    check(
                        world,
                        &world.workers(2, &read(world, &format!("savepoints/{name}"))),
                        60,
                    );
                }
                (Ok(_), None) => panic!("{name} was reported and is not there"),
            }
            crash_at += 1;
            assert!(crash_at < 200, "it never ends");
        }
        assert!(crash_at >= 2, "{crash_at} requests cannot be all");
    }
}

/// Flink copies and reads all state when a canonical savepoint is restored.
#[test]
fn forst_restores_a_canonical_savepoint_without_reading_it() {
    for case in CASES {
        let world = World::of(*case, true);
        let saved = filled(&world);
        let restored = savepoint(&world, &saved, SavepointFormat::Canonical, "s");
        become_case(&world, Case::FORST);
        world.objects.take_counts();
        let workers = world.workers(3, &restored);
        let counts = world.objects.take_counts();
        assert_eq!(
            (counts.requests(RequestKind::Get), counts.bytes_written),
            (0, 0),
            "{case:?}"
        );
        check(&world, &workers, 60);
    }
}

#[test]
fn a_key_group_is_found_without_reading_the_others() {
    let world = World::forst(true);
    let worker = world.worker();
    let store = worker.store::<String>("op");
    let value = store
        .value_state(&ValueStateDescriptor::<Vec<u8>>::new("v"))
        .unwrap();
    for i in 0..2000u64 {
        store.set_current_key(&key(i));
        // Not to be compressed.
        let noise = (0..60u64).flat_map(|j| {
            (i * 61 + j)
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .to_le_bytes()
        });
        value.put(noise.collect()).unwrap();
    }
    let saved = worker.checkpoint(1);
    // What compactions read is not counted.
    worker.quiet();
    let restored = savepoint(&world, &saved, SavepointFormat::Canonical, "s");
    let mut whole = 0;
    restored.keyed[0]
        .1
        .for_each_path(&mut |_, bytes| whole += bytes);
    world.objects.take_counts();
    let one = KeyGroupRange { start: 7, end: 7 };
    let environment = environment(&world);
    let mut rows = row_source(&restored.keyed[0].1, one, &restored.tables, &environment).unwrap();
    let mut count = 0;
    while rows
        .next(100, &mut |row| {
            assert_eq!(row.group, 7);
            count += 1;
            Ok(())
        })
        .unwrap()
    {}
    assert!(count > 50, "{count}");
    let read = world.objects.take_counts().bytes_read;
    assert!(
        whole > 800_000 && read < whole / 4,
        "{read} of {whole} bytes"
    );
}

#[test]
fn what_was_cut_or_changed_is_refused() {
    let world = World::of(Case::HASHMAP_FILES_ASYNC, true);
    let worker = world.worker();
    let store = worker.store::<String>("op");
    let value = store
        .value_state(&ValueStateDescriptor::<u64>::new("v"))
        .unwrap();
    for i in 0..40 {
        store.set_current_key(&key(i));
        value.put(i).unwrap();
    }
    let saved = worker.checkpoint(1);
    let restored = savepoint(&world, &saved, SavepointFormat::Canonical, "s");
    type Rows = Vec<(u16, Vec<u8>, Vec<u8>)>;
    let rows = |restored: &Saved| -> Result<Rows, StateError> {
        let mut all = Vec::new();
        let environment = environment(&world);
        let part = &restored.keyed[0];
        let mut rows = row_source(&part.1, part.0, &restored.tables, &environment)?;
        while rows.next(7, &mut |row| {
            all.push((row.group, row.key.to_vec(), row.value.to_vec()));
            Ok(())
        })? {}
        Ok(all)
    };
    let expected = rows(&restored).unwrap();
    assert_eq!(expected.len(), 40);
    let put = |path: &str, body: Bytes| {
        let path = Path::from(path);
        let put = world.objects.put(&path, body.into());
        world.runtime.block_on(put).unwrap();
    };
    let mut refused = 0;
    for (path, body) in objects_below(&world, "savepoints/s") {
        let spoilt = |at: usize| {
            let mut spoilt = body.to_vec();
            spoilt[at] ^= 0x41;
            Bytes::from(spoilt)
        };
        let flipped = (0..body.len()).step_by(7).map(spoilt);
        let cut = (0..body.len()).step_by(97).map(|at| body.slice(..at));
        for spoilt in flipped.chain(cut) {
            put(&path, spoilt);
            let objects = Arc::new(world.objects.clone());
            let directory = Path::from("savepoints/s");
            let opening = ForeignCheckpoint::savepoint_in(objects, ROOT, directory);
            let opened = world.runtime.block_on(opening);
            let read = opened.and_then(|found| {
                let metadata = found.expect("it is there").metadata;
                let (tables, keyed) = (metadata.tables, metadata.keyed);
                rows(&Saved { tables, keyed })
            });
            match read {
                Ok(read) => assert_eq!(read, expected, "{path}"),
                Err(_) => refused += 1,
            }
        }
        put(&path, body.clone());
    }
    assert!(refused > 100, "{refused}");
    assert_eq!(world.kind.get(), BackendKind::Hashmap);
}
