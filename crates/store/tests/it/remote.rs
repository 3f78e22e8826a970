//! Compactions that other processes do: a worker and compactors on one object store, each with its own view of it, so that one of
//! them can crash, stall or see another root.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use aquifer_store::{
    Compactor, CompactorOptions, Folds, RateLimiter, RemoteCompaction, StoreOptions, StoreStats,
    TableId, TableOptions,
};
use aquifer_testkit::{FaultPlan, FaultyObjects, RequestKind, Rng};
use object_store::ObjectStore;
use object_store::path::Path;
use object_store::prefix::PrefixStore;

use crate::harness::{ALL, SORTED, Worker, World, small};

/// The directory of the harness's stores is `job/shared`.
const QUEUE: &str = "job/compactions";

/// A worker that soon does itself what nobody claims, or whoever claimed it shows no life.
fn hasty() -> RemoteCompaction {
    RemoteCompaction {
        claim_wait: Duration::from_millis(400),
        lease: Duration::from_millis(300),
        poll: Duration::from_millis(10),
        patience: Duration::from_secs(20),
        bytes_min: 0,
        ..RemoteCompaction::new(Path::from(QUEUE))
    }
}

/// A worker that leaves to compactors what it can, however slow they are.
fn patient() -> RemoteCompaction {
    RemoteCompaction {
        claim_wait: Duration::from_secs(120),
        lease: Duration::from_secs(60),
        patience: Duration::from_secs(240),
        ..hasty()
    }
}

fn options() -> StoreOptions {
    StoreOptions {
        l0_files_max: 2,
        ..small()
    }
}

fn compactor(world: &World, objects: Arc<dyn ObjectStore>, base: &str, id: &str) -> Arc<Compactor> {
    let start = tokio::time::Instant::now();
    let options = CompactorOptions {
        base: Path::from(base),
        id: id.to_string(),
        threads: 2,
        poll: Duration::from_millis(10),
        once: false,
        clock: Arc::new(move || start.elapsed().as_millis() as i64),
        rate: RateLimiter::unlimited(),
        folds: Folds::default(),
    };
    Compactor::new(objects, world.runtime.handle().clone(), options)
}

/// A compactor at work; it ends when this is dropped.
struct Running(Arc<Compactor>, tokio::task::JoinHandle<()>);

fn start(world: &World, objects: Arc<dyn ObjectStore>, base: &str, id: &str) -> Running {
    let compactor = compactor(world, objects, base, id);
    let work = world.runtime.spawn({
        let compactor = compactor.clone();
        async move {
            // A crashed one cannot even list.
            let _ = compactor.run().await;
        }
    });
    Running(compactor, work)
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.stop();
        self.1.abort();
    }
}

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

/// Random changes with checkpoints in between, until the worker's figures are what is waited for. Compactions run beside the changes;
/// now and then all come to their end, so that rounds bring that nearer however slow compactions are.
fn churn(worker: &mut Worker, model: &mut Model, seed: u64, enough: impl Fn(&StoreStats) -> bool) {
    let mut random = Rng::new(seed);
    for round in 0..200 {
        for _ in 0..60 {
            let key = format!("{:04}", random.below(600)).into_bytes();
            if random.chance(250) {
                worker.delete(SORTED, 3, &key);
                model.remove(&key);
            } else {
                let value = random.next_u64().to_le_bytes().repeat(4);
                worker.put(SORTED, 3, &key, &value);
                model.insert(key, value);
            }
        }
        worker.checkpoint();
        if round % 4 == 3 {
            worker.settle();
        }
        if enough(&worker.store.stats()) {
            return;
        }
    }
    panic!("it has not come about: {:?}", worker.store.stats());
}

/// So many more compactions than there have been.
fn more_compactions(worker: &Worker, more: u64) -> impl Fn(&StoreStats) -> bool + use<> {
    let enough = worker.store.stats().compactions + more;
    move |stats| stats.compactions >= enough
}

fn finish(world: &World, worker: &mut Worker, model: &Model) {
    worker.settle();
    assert_eq!(worker.rows(SORTED, 3), *model);
    let last = worker.checkpoint();
    let again = world.open(options(), vec![(last, ALL)]);
    assert_eq!(again.rows(SORTED, 3), *model);
}

fn messages(world: &World) -> Vec<String> {
    let files = world.files().into_iter();
    files.filter(|file| file.starts_with(QUEUE)).collect()
}

#[test]
fn a_compactor_does_the_work_and_nothing_is_left_behind() {
    let world = World::new(4 << 20);
    let _compactor = start(&world, world.bucket.clone(), "", "c1");
    let mut worker = world.open_with(options(), vec![], |env| {
        env.remote_compaction = Some(patient());
    });
    let mut model = Model::new();
    // The others are files that just moved.
    churn(&mut worker, &mut model, 1, |stats| {
        stats.compactions >= 6 && stats.compactions_elsewhere >= 3
    });
    finish(&world, &mut worker, &model);
    world.until(|world| messages(world).is_empty());
}

/// The compactor's clock has nothing to do with it, nor has the worker's: of two tables that go by event time, each takes its own along.
#[test]
fn a_compactor_goes_by_the_tables_event_times() {
    let world = World::new(4 << 20);
    let _compactor = start(&world, world.bucket.clone(), "", "c1");
    let mut worker = world.open_with(options(), vec![], |env| {
        env.clock = Arc::new(|| 1 << 40);
        env.remote_compaction = Some(patient());
    });
    let tables = [TableId(5), TableId(6)];
    for table in tables {
        let options = TableOptions {
            ttl_ms: Some(100),
            event_time: true,
            ..TableOptions::default()
        };
        worker.store.create_table(table, options).unwrap();
        for i in 0..400u32 {
            let put = worker
                .store
                .put_at(table, 3, &i.to_be_bytes(), &[7; 40], 500);
            put.unwrap();
        }
    }
    worker.store.advance_event_time(tables[0], 599).unwrap();
    worker.store.advance_event_time(tables[1], 600).unwrap();
    let mut model = Model::new();
    for seed in 0..4 {
        for table in tables {
            // Something of each table in every file, so that no file is left alone.
            for key in [0, u32::MAX] {
                let put = worker
                    .store
                    .put_at(table, 3, &key.to_be_bytes(), b"new", 700);
                put.unwrap();
            }
            worker.store.freeze(table).unwrap();
        }
        let enough = more_compactions(&worker, 2);
        churn(&mut worker, &mut model, 60 + seed, |stats| {
            enough(stats) && stats.compactions_elsewhere > seed
        });
    }
    finish(&world, &mut worker, &model);
    assert_eq!(worker.rows(tables[0], 3).len(), 401);
    assert_eq!(worker.rows(tables[1], 3).len(), 2);
    // Whoever does not know of a TTL sees what the compactions have left.
    for table in tables {
        worker.store.freeze(table).unwrap();
    }
    let files = worker.checkpoint();
    let mut reader = world.open(options(), vec![(files, ALL)]);
    for table in tables {
        let known = reader.store.create_table(table, TableOptions::default());
        known.unwrap();
    }
    assert_eq!(reader.rows(tables[0], 3).len(), 401);
    let left = reader.rows(tables[1], 3).len();
    assert!(left < 100, "{left} rows are left of 2");
}

#[test]
fn a_compactor_may_see_the_files_under_another_root() {
    let world = World::new(4 << 20);
    let inside = PrefixStore::new(world.bucket.clone(), "job");
    let _compactor = start(&world, Arc::new(inside), "", "c1");
    let mut worker = world.open_with(options(), vec![], |env| {
        env.remote_compaction = Some(patient());
    });
    let mut model = Model::new();
    churn(&mut worker, &mut model, 2, |stats| {
        stats.compactions_elsewhere >= 3
    });
    finish(&world, &mut worker, &model);
}

#[test]
fn without_compactors_the_worker_does_it_and_stops_asking() {
    let world = World::new(4 << 20);
    let mut worker = world.open_with(options(), vec![], |env| {
        env.remote_compaction = Some(hasty());
    });
    let mut model = Model::new();
    let enough = more_compactions(&worker, 4);
    churn(&mut worker, &mut model, 3, enough);
    finish(&world, &mut worker, &model);
    let stats = worker.store.stats();
    assert_eq!(stats.compactions_elsewhere, 0);
    let before = world.objects.take_counts().requests(RequestKind::List);
    assert!(before > 0, "it has asked");
    let enough = more_compactions(&worker, 3);
    churn(&mut worker, &mut model, 4, enough);
    let after = world.objects.take_counts().requests(RequestKind::List);
    assert_eq!(after, 0, "and asks no more for a while");
    world.until(|world| messages(world).is_empty());
}

#[test]
fn of_two_compactors_one_gets_each_job() {
    let world = World::new(4 << 20);
    let first = start(&world, world.bucket.clone(), "job", "c1");
    let second = start(&world, world.bucket.clone(), QUEUE, "c2");
    let mut worker = world.open_with(options(), vec![], |env| {
        env.remote_compaction = Some(patient());
    });
    let mut model = Model::new();
    let enough = more_compactions(&worker, 8);
    churn(&mut worker, &mut model, 5, enough);
    finish(&world, &mut worker, &model);
    let elsewhere = worker.store.stats().compactions_elsewhere;
    world.until(|_| {
        let done = |running: &Running| running.0.progress().done.load(Ordering::SeqCst);
        done(&first) + done(&second) == elsewhere
    });
}

/// Wherever a compactor dies, the worker ends up with the right rows, by another compactor's hand or its own.
#[test]
fn a_compactor_that_crashes_at_any_request_does_no_harm() {
    for crash_at in 0..24 {
        let world = World::new(4 << 20);
        let plan = FaultPlan {
            crash_at: Some(crash_at),
            ..FaultPlan::default()
        };
        let dying = FaultyObjects::with_plan(world.bucket.clone(), plan);
        let _dying = start(&world, Arc::new(dying), "job", "dying");
        let mut worker = world.open_with(options(), vec![], |env| {
            env.remote_compaction = Some(RemoteCompaction {
                claim_wait: Duration::from_millis(150),
                lease: Duration::from_millis(100),
                ..hasty()
            });
        });
        let mut model = Model::new();
        let enough = more_compactions(&worker, 2);
        churn(&mut worker, &mut model, 100 + crash_at, enough);
        finish(&world, &mut worker, &model);
    }
}

/// A compactor stands still while the worker gives it up, and then goes on as if nothing had happened.
#[test]
fn a_zombie_changes_nothing_and_cleans_up_after_itself() {
    let world = World::new(4 << 20);
    let slow = FaultyObjects::new(world.bucket.clone());
    let frozen = Arc::new(AtomicBool::new(false));
    // The put before which it freezes, counted from now.
    let freezes_at = Arc::new(AtomicI64::new(i64::MAX));
    slow.set_hook(Some(Arc::new({
        let (frozen, freezes_at) = (frozen.clone(), freezes_at.clone());
        move |kind| {
            let frozen = frozen.clone();
            if kind == RequestKind::Put && freezes_at.fetch_sub(1, Ordering::SeqCst) == 1 {
                frozen.store(true, Ordering::SeqCst);
            }
            Box::pin(async move {
                while frozen.load(Ordering::SeqCst) {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            })
        }
    })));
    let zombie = start(&world, Arc::new(slow.clone()), "job", "zombie");
    let mut model = Model::new();
    let mut worker = world.open_with(options(), vec![], |env| {
        // So fast that the worker asks again, however often nobody came.
        let now_ms = AtomicI64::new(0);
        env.clock = Arc::new(move || now_ms.fetch_add(60_000, Ordering::SeqCst));
        env.remote_compaction = Some(RemoteCompaction {
            lease: Duration::from_millis(100),
            ..hasty()
        });
    });
    for round in 0..8 {
        freezes_at.store(round + 1, Ordering::SeqCst);
        let enough = more_compactions(&worker, 3);
        churn(&mut worker, &mut model, 40 + round as u64, |stats| {
            frozen.load(Ordering::SeqCst) && enough(stats)
        });
        finish(&world, &mut worker, &model);
        freezes_at.store(i64::MAX, Ordering::SeqCst);
        frozen.store(false, Ordering::SeqCst);
        finish(&world, &mut worker, &model);
    }
    // Some of its work came too late.
    world.until(|_| zombie.0.progress().lost.load(Ordering::SeqCst) > 0);
    // What it wrote in vain is gone, or would be swept as a file that no checkpoint names.
    let last = worker.checkpoint();
    let named: Vec<&str> = last.files.iter().map(|file| file.path.as_str()).collect();
    for name in &named {
        assert!(
            world.files().iter().any(|file| file == name),
            "{name} is there"
        );
    }
}
