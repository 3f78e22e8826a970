//! What only the `rocksdb` backend does: files that are named again, local copies that go away, one budget for many databases, and
//! checkpoints whose files are damaged or gone.
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path as FilePath;
use std::sync::Arc;

use aquifer_state::checkpoint::{CheckpointMetadata, CheckpointStorage, FileOwnership};
use aquifer_state::{
    BackendKind, BackendSetup, DbFile, KeyedSnapshot, MemoryBudget, RocksdbCompactionStyle,
    RocksdbOptions, RocksdbShared, SharedBackend, StateDescription, StateError, open,
};
use aquifer_store::{
    BlockCache, Environment, KeyGroupRange, Merge, StoreOptions, TableId, TableOptions,
};
use aquifer_testkit::{Fault, FaultPlan, RequestKind, Rng};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use crate::cases::Case;
use crate::world::{Saved, Worker, World, checkpoint_all, local_directory};

/// A world in which snapshots are RocksDB's files, with local directories of its own.
fn incremental() -> (World, tempfile::TempDir) {
    let home = tempfile::tempdir_in(local_directory()).unwrap();
    let mut world = World::of(Case::ROCKSDB_INCREMENTAL, false);
    world.rocksdb.local_directories = vec![home.path().to_owned()];
    (world, home)
}

fn register(worker: &Worker, operator: &str, state: &str) -> TableId {
    let options = TableOptions {
        ordered: true,
        merge: Merge::Append,
        ..TableOptions::default()
    };
    let state = StateDescription::raw(operator, state, options, "raw");
    worker.backend.borrow_mut().register(&state).unwrap()
}

/// Writes keys of all key groups of the worker.
fn write(worker: &Worker, table: TableId, keys: std::ops::Range<u32>, value: &[u8]) {
    for key in keys {
        let group = (key % 16) as u16;
        if worker.range.start <= group && group <= worker.range.end {
            let key = key.to_be_bytes();
            worker.access.put(table, group, &key, value).unwrap();
        }
    }
}

fn read(worker: &Worker, table: TableId, key: u32) -> Option<Vec<u8>> {
    let access = &worker.access;
    let found = access.get_blocking(table, (key % 16) as u16, &key.to_be_bytes());
    found.unwrap().map(|value| value.to_vec())
}

fn expect(worker: &Worker, table: TableId, keys: std::ops::Range<u32>, value: Option<&[u8]>) {
    for key in keys {
        if (u32::from(worker.range.start)..=u32::from(worker.range.end)).contains(&(key % 16)) {
            assert_eq!(read(worker, table, key).as_deref(), value, "key {key}");
        }
    }
}

fn ended(worker: &Worker, id: u64, complete: bool) {
    let mut backend = worker.backend.borrow_mut();
    backend.checkpoint_ended(id, complete).unwrap();
}

/// A checkpoint that is completed.
fn completed(worker: &Worker, id: u64) -> Saved {
    let saved = worker.checkpoint(id);
    ended(worker, id, true);
    saved
}

fn paths(saved: &Saved) -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    for (_, part) in &saved.keyed {
        part.for_each_path(&mut |path, _| assert!(paths.insert(path.to_owned()), "{path} twice"));
    }
    paths
}

/// The SSTs of the only database.
fn tables_of(saved: &Saved) -> BTreeMap<String, DbFile> {
    let [(_, part)] = &saved.keyed[..] else {
        panic!("one worker");
    };
    let files = part.databases.iter().flat_map(|database| &database.files);
    files
        .filter(|file| file.shared)
        .map(|file| (file.name.clone(), file.clone()))
        .collect()
}

fn uploaded(worker: &Worker) -> u64 {
    worker.backend.borrow().stats().bytes_uploaded
}

fn delete(world: &World, path: &str) {
    let path = Path::from(path);
    world
        .runtime
        .block_on(async { world.objects.delete(&path).await })
        .unwrap();
}

#[test]
fn only_files_of_completed_checkpoints_are_named_again() {
    let (world, _home) = incremental();
    let worker = world.worker();
    let table = register(&worker, "op", "s");
    let mut step = 0u32;
    let mut next = |id| {
        // Far apart, so that no compaction has a reason to merge them.
        write(&worker, table, step * 1000..step * 1000 + 10, &[7; 100]);
        step += 1;
        worker.checkpoint(id)
    };
    let first = next(1);
    // Nobody has said what became of it.
    let second = next(2);
    assert!(paths(&first).is_disjoint(&paths(&second)));
    ended(&worker, 2, true);
    let third = next(3);
    let known = tables_of(&second);
    let again = tables_of(&third);
    assert!(again.len() > known.len() || again.len() == 1);
    for (name, file) in &again {
        match known.get(name) {
            Some(known) => assert_eq!(file, known),
            None => assert!(!paths(&second).contains(&file.path)),
        }
    }
    assert!(known.keys().all(|name| again.contains_key(name)));
    // What was given up is uploaded again, under another name.
    ended(&worker, 3, false);
    let fourth = next(4);
    let given_up: BTreeSet<_> = paths(&third).difference(&paths(&second)).cloned().collect();
    assert!(!given_up.is_empty());
    assert!(paths(&fourth).is_disjoint(&given_up));
    for path in &given_up {
        delete(&world, path);
    }
    let worker = world.restore(&fourth);
    let table = register(&worker, "op", "s");
    for step in 0..4 {
        expect(
            &worker,
            table,
            step * 1000..step * 1000 + 10,
            Some(&[7; 100]),
        );
    }
}

/// Names are never used for other bytes, files that no retained checkpoint names are deleted, and each retained one restores.
#[test]
fn files_of_subsumed_checkpoints_go_and_shared_ones_stay() {
    let (world, _home) = incremental();
    let mut rng = Rng::new(3);
    let mut worker = world.worker();
    let mut ownership = FileOwnership::new(2);
    let mut model: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
    let mut retained: Vec<(Saved, BTreeMap<u32, Vec<u8>>)> = Vec::new();
    let mut known: BTreeMap<String, DbFile> = BTreeMap::new();
    let mut shared_with_the_last = 0;
    for id in 1..60u64 {
        let table = register(&worker, "op", "s");
        for _ in 0..30 {
            let key = rng.below(3000) as u32;
            let value = vec![rng.below(256) as u8; 80];
            write(&worker, table, key..key + 1, &value);
            model.insert(key, value);
        }
        let saved = worker.checkpoint(id);
        if rng.chance(150) {
            ended(&worker, id, false);
            continue;
        }
        ended(&worker, id, true);
        for (_, part) in &saved.keyed {
            for file in part.databases.iter().flat_map(|database| &database.files) {
                let before = known.insert(file.path.clone(), file.clone());
                assert!(before.is_none_or(|before| before == *file), "{file:?}");
            }
        }
        if let Some((last, _)) = retained.last() {
            shared_with_the_last += paths(last).intersection(&paths(&saved)).count();
        }
        let (_, gone) = ownership.complete(id, paths(&saved).into_iter().collect());
        for path in gone {
            delete(&world, &path);
        }
        retained.push((saved, model.clone()));
        if retained.len() > 2 {
            retained.remove(0);
        }
        if id % 10 == 0 {
            // A crash, after which either of the retained checkpoints is there.
            for (saved, model) in &retained {
                worker = world.restore(saved);
                let table = register(&worker, "op", "s");
                for (key, value) in model {
                    assert_eq!(
                        read(&worker, table, *key).as_ref(),
                        Some(value),
                        "key {key}"
                    );
                }
                assert_eq!(worker.rows("s").len(), model.len());
            }
        }
    }
    assert!(shared_with_the_last > 40, "{shared_with_the_last}");
}

/// FLINK-37367: files of a restored checkpoint are not inherited, and everything is uploaded again.
#[test]
fn restored_files_are_named_again_not_uploaded() {
    let (mut world, _home) = incremental();
    let worker = world.worker();
    let table = register(&worker, "op", "s");
    let mut rng = Rng::new(5);
    for key in 0..20_000 {
        let value: Vec<u8> = (0..100).map(|_| rng.below(256) as u8).collect();
        write(&worker, table, key..key + 1, &value);
    }
    worker.quiet();
    let first = completed(&worker, 1);
    let size = uploaded(&worker);
    assert!(size > 2_000_000, "{size}");
    drop(worker);
    // A compaction that a database begins when it is opened would upload what it has made.
    world.rocksdb.compaction_style = RocksdbCompactionStyle::None;
    let worker = world.restore(&first);
    let table = register(&worker, "op", "s");
    // Nothing was written, so nothing is uploaded.
    let second = completed(&worker, 2);
    assert_eq!((uploaded(&worker), paths(&second)), (0, paths(&first)));
    write(&worker, table, 5..6, b"new");
    let third = completed(&worker, 3);
    // The row that was flushed, and the manifest.
    assert!(
        uploaded(&worker) < size / 20,
        "{} of {size}",
        uploaded(&worker)
    );
    let kept = tables_of(&first);
    let again = tables_of(&third);
    assert_eq!(again.len(), kept.len() + 1);
    assert!(
        kept.iter()
            .all(|(name, file)| again.get(name) == Some(file))
    );
    // What the first alone names may go.
    for path in paths(&first).difference(&paths(&third)) {
        delete(&world, path);
    }
    let worker = world.restore(&third);
    let table = register(&worker, "op", "s");
    assert_eq!(read(&worker, table, 5).as_deref(), Some(&b"new"[..]));
    assert!(read(&worker, table, 19_999).is_some());
}

#[test]
fn operators_that_rest_cost_nothing() {
    let (world, _home) = incremental();
    let worker = world.worker();
    let tables: Vec<TableId> = (0..6)
        .map(|operator| register(&worker, &format!("op-{operator}"), "s"))
        .collect();
    for table in &tables {
        write(&worker, *table, 0..100, &[1; 50]);
    }
    let first = completed(&worker, 1);
    assert_eq!(first.keyed[0].1.databases.len(), 6);
    world.objects.take_counts();
    write(&worker, tables[3], 0..1, b"x");
    let second = completed(&worker, 2);
    let counts = world.objects.take_counts();
    // Its manifest, a flushed file, and perhaps what a compaction has made of it.
    assert!(
        (2..=4).contains(&counts.requests(RequestKind::Put)),
        "{counts:?}"
    );
    assert_eq!(counts.total(), counts.requests(RequestKind::Put));
    for (before, after) in first.keyed[0]
        .1
        .databases
        .iter()
        .zip(&second.keyed[0].1.databases)
    {
        assert_eq!(before.files == after.files, before.operator != "op-3");
    }
}

/// One worker, three, two: what of a database is not wanted does not come back.
#[test]
fn databases_are_cut_and_joined_when_the_parallelism_changes() {
    for delete_files_in_range in [false, true] {
        let (mut world, _home) = incremental();
        world.rocksdb.delete_files_in_range = delete_files_in_range;
        let operators = ["a", "b"];
        let mut saved = Saved::default();
        let mut expected = 0u32;
        for (round, parallelism) in [1, 3, 2, 1, 5].into_iter().enumerate() {
            let workers = world.workers(parallelism, &saved);
            for operator in operators {
                let mut rows = 0;
                for worker in &workers {
                    let table = register(worker, operator, operator);
                    for before in 0..round as u32 {
                        let keys = before * 1000..before * 1000 + 300;
                        expect(worker, table, keys, Some(&[before as u8; 40]));
                    }
                    rows += worker.rows(operator).len();
                }
                assert_eq!(rows as u32, expected, "round {round}");
            }
            let round = round as u32;
            for worker in &workers {
                for operator in operators {
                    let table = register(worker, operator, operator);
                    let keys = round * 1000..round * 1000 + 300;
                    write(worker, table, keys, &[round as u8; 40]);
                }
            }
            expected += 300;
            saved = checkpoint_all(&workers, u64::from(round) + 1);
            for (range, part) in &saved.keyed {
                assert_eq!(part.databases.len(), 2);
                assert!(
                    part.databases
                        .iter()
                        .all(|database| database.range == *range)
                );
            }
        }
    }
}

/// Every option that chooses how a database is restored comes to the same rows.
#[test]
fn a_base_that_is_not_worth_it_is_copied() {
    let (mut world, home) = incremental();
    let worker = world.worker();
    let table = register(&worker, "op", "s");
    write(&worker, table, 0..500, b"v");
    let saved = worker.checkpoint(1);
    drop(worker);
    world.rocksdb.overlap_fraction_min = 0.9;
    let workers = world.workers(4, &saved);
    for worker in &workers {
        let table = register(worker, "op", "s");
        expect(worker, table, 0..500, Some(b"v"));
        let rows = worker.rows("s").len();
        assert!((100..150).contains(&rows), "{rows}");
    }
    drop(workers);
    assert_eq!(entries(home.path()), 0);
}

fn entries(path: &FilePath) -> usize {
    std::fs::read_dir(path).unwrap().count()
}

/// Everything below a directory, but what RocksDB itself has in its databases.
fn copies(path: &FilePath) -> usize {
    let workers = std::fs::read_dir(path).unwrap();
    let inner = workers.flat_map(|worker| std::fs::read_dir(worker.unwrap().path()).unwrap());
    inner
        .filter(|entry| {
            let name = entry.as_ref().unwrap().file_name();
            !name.to_string_lossy().starts_with("db-") && name != "lock"
        })
        .count()
}

/// FLINK-40685: local copies leak after they are handed over.
#[test]
fn local_checkpoints_are_removed_when_uploaded() {
    for incremental_too in [true, false] {
        let (mut world, home) = incremental();
        world.rocksdb.incremental = incremental_too;
        let worker = world.worker();
        let table = register(&worker, "op", "s");
        for id in 1..=300u64 {
            let key = id as u32 % 40;
            write(&worker, table, key..key + 20, &id.to_be_bytes());
            worker.checkpoint(id);
            ended(&worker, id, id % 7 != 0);
            assert_eq!(copies(home.path()), 0, "after checkpoint {id}");
        }
        assert_eq!(entries(home.path()), 1);
        drop((worker, table));
        assert_eq!(entries(home.path()), 0);
    }
}

#[test]
fn a_full_checkpoint_after_incremental_ones() {
    let (mut world, _home) = incremental();
    let worker = world.worker();
    let table = register(&worker, "op", "s");
    write(&worker, table, 0..200, b"first");
    completed(&worker, 1);
    write(&worker, table, 100..200, b"second");
    let saved = completed(&worker, 2);
    drop(worker);
    world.rocksdb.incremental = false;
    let worker = world.restore(&saved);
    let table = register(&worker, "op", "s");
    let full = completed(&worker, 3);
    let part = &full.keyed[0].1;
    assert!(part.databases.is_empty() && !part.files.files.is_empty());
    // It stands alone.
    for path in paths(&saved) {
        delete(&world, &path);
    }
    write(&worker, table, 0..1, b"third");
    let again = completed(&worker, 4);
    assert!(paths(&again).is_disjoint(&paths(&full)));
    world.rocksdb.incremental = true;
    let worker = world.restore(&again);
    let table = register(&worker, "op", "s");
    expect(&worker, table, 0..1, Some(b"third"));
    expect(&worker, table, 1..100, Some(b"first"));
    expect(&worker, table, 100..200, Some(b"second"));
    assert!(!completed(&worker, 5).keyed[0].1.databases.is_empty());
}

/// Changes after a barrier must not get into its snapshot, wherever RocksDB moves them meanwhile.
#[test]
fn writes_go_on_while_files_are_uploaded() {
    let (world, _home) = incremental();
    let worker = world.worker();
    let table = register(&worker, "op", "s");
    write(&worker, table, 0..2000, &[1; 60]);
    worker.backend.borrow_mut().freeze(table).unwrap();
    worker.backend.borrow_mut().snapshot(1).unwrap();
    for round in 2..8 {
        write(&worker, table, 0..2000, &[round; 60]);
        let mut backend = worker.backend.borrow_mut();
        backend.delete_prefix(table, 3, b"").unwrap();
    }
    let saved = worker.finish(1);
    expect(&worker, table, 4..5, Some(&[7; 60]));
    expect(&worker, table, 3..4, None);
    let worker = world.restore(&saved);
    let table = register(&worker, "op", "s");
    expect(&worker, table, 0..2000, Some(&[1; 60]));
}

#[test]
fn many_databases_share_one_budget() {
    const BUDGET: usize = 32 << 20;
    let (mut world, _home) = incremental();
    let shared = RocksdbShared::new(Some(MemoryBudget::new(BUDGET as u64, 0.5)));
    world.rocksdb = RocksdbOptions {
        local_directories: world.rocksdb.local_directories.clone(),
        shared: shared.clone(),
        ..RocksdbOptions::default()
    };
    let workers = world.workers(4, &Saved::default());
    let mut tables = Vec::new();
    for worker in &workers {
        for operator in 0..5 {
            let operator = format!("op-{operator}");
            tables.push((worker, register(worker, &operator, "a")));
            tables.push((worker, register(worker, &operator, "b")));
        }
    }
    let mut largest = 0;
    let mut rng = Rng::new(8);
    let mut written = 0;
    for round in 0..40u32 {
        for (worker, table) in &tables {
            let group = worker.range.start;
            for key in 0..25u32 {
                let value: Vec<u8> = (0..2000).map(|_| rng.below(256) as u8).collect();
                let key = (round * 100 + key).to_be_bytes();
                worker.access.put(*table, group, &key, &value).unwrap();
                written += value.len();
            }
            let old = (round / 2 * 100).to_be_bytes();
            let access = &worker.access;
            assert!(access.get_blocking(*table, group, &old).unwrap().is_some());
            // The budget is a soft one: memtables that wait for a thread that writes them exceed it.
            worker.quiet();
            let (memtables, all) = shared.usage().unwrap();
            assert!(memtables <= all + (1 << 20), "{memtables} of {all}");
            largest = largest.max(all);
        }
    }
    assert!(written > 2 * BUDGET, "{written}");
    assert!(largest > BUDGET / 3, "{largest}: it is used");
    assert!(largest <= BUDGET + BUDGET / 10, "{largest} of {BUDGET}");
}

/// A worker that dies while it uploads leaves files that nobody names. Their names say which attempt wrote them.
#[test]
fn an_upload_that_was_cut_off_leaves_orphans_that_the_sweep_finds() {
    let (world, _home) = incremental();
    let run = world.runtime.block_on(async {
        let objects: Arc<dyn ObjectStore> = Arc::new(world.objects.clone());
        let run = CheckpointStorage::create_run(objects, &Path::default(), "job", false).await;
        let run = run.unwrap();
        run.begin_attempt().await.unwrap();
        run
    });
    let backend_of = |attempt, restored: Vec<(KeyedSnapshot, KeyGroupRange)>, tables| {
        let environment = Environment::new(
            Arc::new(world.objects.clone()),
            run.shared(),
            world.runtime.handle().clone(),
            BlockCache::new(1 << 20),
            CheckpointStorage::file_prefix(attempt, 0),
        );
        open(BackendSetup {
            rocksdb: world.rocksdb.clone(),
            restored,
            tables,
            ..BackendSetup::new(
                BackendKind::Rocksdb,
                environment,
                StoreOptions::default(),
                KeyGroupRange::ALL,
                128,
            )
        })
        .unwrap()
    };
    let described = StateDescription::raw("op", "s", TableOptions::default(), "raw");
    let snapshot = |backend: &SharedBackend, id| {
        backend.borrow_mut().snapshot(id).unwrap();
        loop {
            match backend.borrow_mut().poll() {
                Ok(Some((_, snapshot))) => return Ok(snapshot),
                Ok(None) => {}
                Err(error) => return Err(error),
            }
            world.runtime.block_on(tokio::task::yield_now());
        }
    };
    let backend = backend_of(1, vec![], vec![]);
    let table = backend.borrow_mut().register(&described).unwrap();
    let put = |backend: &SharedBackend, key: &[u8]| {
        backend.borrow_mut().put(table, 3, key, &[1; 100]).unwrap();
    };
    put(&backend, b"a");
    let part = snapshot(&backend, 1).unwrap();
    let metadata = CheckpointMetadata {
        checkpoint_id: 1,
        job_name: "job".into(),
        attempt: 1,
        created_unix_ms: 0,
        parallelism: 1,
        max_parallelism: 128,
        plan: String::new(),
        finished: false,
        kind: Default::default(),
        backend: BackendKind::Rocksdb,
        tables: backend.borrow().tables(),
        keyed: vec![(KeyGroupRange { start: 0, end: 127 }, part)],
        operators: vec![],
        origin: Default::default(),
    };
    world.runtime.block_on(run.commit(&metadata)).unwrap();
    backend.borrow_mut().checkpoint_ended(1, true).unwrap();
    put(&backend, b"b");
    // Of its two uploads the process lives through one.
    world.objects.set_plan(FaultPlan {
        crash_at: Some(1),
        ..FaultPlan::default()
    });
    assert!(snapshot(&backend, 2).is_err());
    drop(backend);
    world.objects.set_plan(FaultPlan::default());
    let restored = world.runtime.block_on(async {
        let objects: Arc<dyn ObjectStore> = Arc::new(world.objects.clone());
        let next = CheckpointStorage::find_run(objects, &Path::default(), "job", false).await;
        let next = next.unwrap().unwrap();
        let (attempt, restored) = next.begin_attempt().await.unwrap();
        let orphans = next.sweep_orphans(attempt).await.unwrap();
        assert_eq!(orphans, 1);
        restored.unwrap()
    });
    let keyed = restored.keyed.into_iter();
    let parts = keyed.map(|(range, part)| (part, range)).collect();
    let backend = backend_of(2, parts, restored.tables);
    assert_eq!(backend.borrow_mut().register(&described).unwrap(), table);
    let backend = backend.borrow();
    let found = |key: &[u8]| {
        let found = backend.get(table, 3, key).unwrap();
        matches!(found, aquifer_store::Lookup::Found(_))
    };
    assert!(found(b"a") && !found(b"b"));
}

#[test]
fn failed_requests_are_made_again() {
    let (world, _home) = incremental();
    let worker = world.worker();
    let table = register(&worker, "op", "s");
    write(&worker, table, 0..100, b"v");
    for fault in [
        Fault::ErrorNotApplied,
        Fault::ErrorApplied,
        Fault::Throttled,
    ] {
        world.objects.fail_next(RequestKind::Put, fault);
    }
    let saved = worker.checkpoint(1);
    for _ in 0..3 {
        world
            .objects
            .fail_next(RequestKind::Get, Fault::ErrorNotApplied);
    }
    let worker = world.restore(&saved);
    let table = register(&worker, "op", "s");
    expect(&worker, table, 0..100, Some(b"v"));
}

/// After a snapshot that failed the backend goes on, and the next one has everything.
#[test]
fn a_failed_snapshot_is_an_error_and_the_next_one_is_whole() {
    let (world, home) = incremental();
    let worker = world.worker();
    let table = register(&worker, "op", "s");
    write(&worker, table, 0..100, b"v");
    for _ in 0..8 {
        world
            .objects
            .fail_next(RequestKind::Put, Fault::ErrorNotApplied);
    }
    worker.backend.borrow_mut().freeze(table).unwrap();
    worker.backend.borrow_mut().snapshot(1).unwrap();
    let error = loop {
        match worker.backend.borrow_mut().poll() {
            Ok(None) => {}
            Ok(Some(_)) => panic!("every put has failed"),
            Err(error) => break error,
        }
        world.runtime.block_on(tokio::task::yield_now());
    };
    assert!(error.to_string().contains("upload"), "{error}");
    assert_eq!(copies(home.path()), 0);
    world.objects.set_plan(FaultPlan::default());
    let saved = worker.checkpoint(2);
    let worker = world.restore(&saved);
    let table = register(&worker, "op", "s");
    expect(&worker, table, 0..100, Some(b"v"));
}

/// What a checkpoint says is not believed: wrong bytes, lengths, names and families are errors that say what is wrong, in no case a panic,
/// and nothing stays on the disk.
#[test]
fn damaged_checkpoints_are_refused() {
    let (world, home) = incremental();
    let worker = world.worker();
    let table = register(&worker, "op", "s");
    write(&worker, table, 0..3000, &[9; 50]);
    let saved = worker.checkpoint(1);
    drop(worker);
    type Damage = fn(&mut KeyedSnapshot);
    let damages: [(&str, Damage); 9] = [
        ("a wrong checksum", |part| {
            part.databases[0].files[0].checksum ^= 1
        }),
        ("a wrong length", |part| {
            part.databases[0].files[0].size_bytes += 1
        }),
        ("a shorter length", |part| {
            part.databases[0].files[0].size_bytes -= 1
        }),
        ("a file that is gone", |part| {
            part.databases[0].files[0].path.push('x')
        }),
        ("no manifest", |part| {
            part.databases[0].files.retain(|file| file.shared);
        }),
        ("no SSTs", |part| {
            part.databases[0].files.retain(|file| !file.shared)
        }),
        ("no families", |part| part.databases[0].families.clear()),
        ("a family of no table", |part| {
            part.databases[0].families[0].0 = "a\0b".into();
        }),
        ("a file of another name", |part| {
            part.databases[0].files[0].name = "passwd".into();
        }),
    ];
    for (what, damage) in damages {
        let mut damaged = saved.clone();
        damage(&mut damaged.keyed[0].1);
        for kind in [BackendKind::Rocksdb, BackendKind::Hashmap] {
            world.kind.set(kind);
            let opened = world.try_restore(&damaged);
            let error = match opened {
                Err(error) => error,
                // Who reads rows of tables that the checkpoint does not know finds none.
                Ok(_) if what == "no families" && kind == BackendKind::Hashmap => continue,
                Ok(_) => panic!("{what} was not noticed by {kind:?}"),
            };
            let usage = matches!(error, StateError::Usage(_));
            assert!(!usage || what == "no families", "{what}: {error:?}");
            assert_eq!(entries(home.path()), 0, "{what}");
        }
    }
    world.kind.set(BackendKind::Rocksdb);
    let worker = world.restore(&saved);
    let table = register(&worker, "op", "s");
    expect(&worker, table, 0..3000, Some(&[9; 50]));
}

#[test]
fn a_local_directory_that_cannot_be_written_is_named() {
    let (mut world, home) = incremental();
    let taken = home.path().join("taken");
    std::fs::write(&taken, b"").unwrap();
    world.rocksdb.local_directories = vec![taken.clone()];
    let error = world.try_restore(&Saved::default()).err().unwrap();
    let text = error.to_string();
    assert!(
        text.contains("state.backend.rocksdb.localdir") && text.contains("taken"),
        "{text}"
    );
    // One that works is enough.
    let other = home.path().join("other");
    world.rocksdb.local_directories = vec![taken, other.clone()];
    let workers = world.workers(3, &Saved::default());
    assert_eq!(entries(&other), 3);
    drop(workers);
    assert_eq!(entries(&other), 0);
}

/// The directories of a process that was killed are gone, and so is everything in them.
#[test]
fn a_lost_local_directory_loses_nothing() {
    let (world, home) = incremental();
    let worker = world.worker();
    let table = register(&worker, "op", "s");
    write(&worker, table, 0..1000, b"kept");
    let saved = completed(&worker, 1);
    write(&worker, table, 0..1000, b"lost");
    for directory in std::fs::read_dir(home.path()).unwrap() {
        std::fs::remove_dir_all(directory.unwrap().path()).unwrap();
    }
    drop(worker);
    let worker = world.restore(&saved);
    let table = register(&worker, "op", "s");
    expect(&worker, table, 0..1000, Some(b"kept"));
}

/// A checkpoint of a database to which nothing was written named the files of the one before, in which a state that the program has got since is
/// missing: nobody but a worker with the same key groups could open it.
#[test]
fn a_state_that_is_new_and_empty_is_in_the_next_checkpoint() {
    let (world, _home) = incremental();
    let worker = world.worker();
    let table = register(&worker, "op", "s");
    write(&worker, table, 0..100, b"v");
    let saved = completed(&worker, 1);
    drop(worker);
    let worker = world.restore(&saved);
    register(&worker, "op", "s");
    register(&worker, "op", "new");
    let second = completed(&worker, 2);
    // And to a database that was written to, whose checkpoint is complete.
    register(&worker, "op", "newer");
    let third = completed(&worker, 3);
    let last = completed(&worker, 4);
    assert_eq!(paths(&last), paths(&third), "nothing has changed");
    drop(worker);
    for saved in [second, third] {
        for kind in [BackendKind::Rocksdb, BackendKind::Forst] {
            world.kind.set(kind);
            let workers = world.workers(2, &saved);
            for worker in &workers {
                let table = register(worker, "op", "s");
                let new = register(worker, "op", "new");
                expect(worker, table, 0..100, Some(b"v"));
                expect(worker, new, 0..100, None);
            }
            world.kind.set(BackendKind::Rocksdb);
        }
    }
}

/// Whoever reads databases of a checkpoint asks table by table and key by key; with a download for each, a job of three operators with four
/// tables fetched every database four times.
#[test]
fn a_database_is_downloaded_once_by_whoever_reads_it() {
    let (world, home) = incremental();
    let worker = world.worker();
    let states = [("a", "x"), ("a", "y"), ("a", "z"), ("b", "x")];
    for (operator, state) in states {
        let table = register(&worker, operator, state);
        write(&worker, table, 0..40, b"v");
    }
    let saved = completed(&worker, 1);
    drop(worker);
    let files = paths(&saved).len();
    world.kind.set(BackendKind::Forst);
    world.objects.take_counts();
    let worker = world.restore(&saved);
    for (operator, state) in states {
        let table = register(&worker, operator, state);
        expect(&worker, table, 0..40, Some(b"v"));
        let operators: usize = if operator == "a" { 1 } else { 2 };
        assert_eq!(
            entries(home.path()),
            operators,
            "a directory for each database"
        );
    }
    let counts = world.objects.take_counts();
    assert_eq!(
        counts.requests(RequestKind::Get) as usize,
        files,
        "{counts:?}"
    );
    worker.checkpoint(2);
    assert_eq!(entries(home.path()), 0, "nobody reads them any more");
}

/// Compactions drop what has expired, lists as well, and keep what has not.
#[test]
fn compactions_drop_what_has_expired() {
    let (world, _home) = incremental();
    let worker = world.worker();
    let options = |state: &str, ttl_ms, merge| {
        let options = TableOptions {
            ttl_ms,
            merge,
            ..TableOptions::default()
        };
        let state = StateDescription::raw("op", state, options, "raw");
        worker.backend.borrow_mut().register(&state).unwrap()
    };
    let values = options("values", Some(100), Merge::None);
    let lists = options("lists", Some(100), Merge::Append);
    let forever = options("forever", None, Merge::None);
    let bytes = || worker.backend.borrow().stats().state_bytes;
    let mut rng = Rng::new(1);
    let access = &worker.access;
    let mut first = 0;
    // All rows of a round have expired in the next one. A new one has as many, with keys among the old ones: files that overlap no others
    // are moved down as they are. How far compactions have come is RocksDB's business.
    for round in 1..150u32 {
        let now_ms = i64::from(round) * 1000;
        world.at(now_ms);
        for key in 0..300u32 {
            let value: Vec<u8> = (0..200).map(|_| rng.below(256) as u8).collect();
            let key = [rng.next_u64().to_be_bytes(), u64::from(key).to_be_bytes()].concat();
            access
                .put_at(values, 3, &key, &value, Some(now_ms))
                .unwrap();
            access.merge(lists, 3, &key, &value, Some(now_ms)).unwrap();
        }
        access
            .put_at(forever, 3, &round.to_be_bytes(), b"v", Some(now_ms))
            .unwrap();
        worker.checkpoint(u64::from(round));
        worker.quiet();
        if round == 1 {
            first = bytes();
            assert!(first > 100_000, "{first}");
        }
        if round > 60 && bytes() < first * 10 {
            break;
        }
    }
    assert!(bytes() < first * 10, "{} after {first}", bytes());
    assert!(worker.rows("forever").len() > 60);
    assert_eq!(worker.rows("values").len(), 300);
    assert_eq!(worker.rows("lists").len(), 300);
}
