//! Jobs that live long, beside a model: random operations on all kinds of state, timers and operator state, with checkpoints, crashes back to the
//! last one, savepoints that are moved, other parallelism, other backends and places for snapshots, the other API, and another TTL.
//! `AQUIFER_MODEL_SEED=n` runs one seed instead of those of the tests, on any backend.
mod entry;
mod expiry;
pub mod job;
mod operators;
pub mod states;

use aquifer_state::checkpoint::{CheckpointKind, CheckpointMetadata, Origin, SavepointFormat};
use aquifer_state::{BackendKind, SnapshotStorage};
use aquifer_testkit::Rng;

pub use self::expiry::Ttl;
use self::job::{Api, Job, Kept, Program};
use super::savepoints::files;
use crate::cases::{BACKENDS, Case, conformance};
use crate::world::{MAX_PARALLELISM, Saved, World};

conformance!(
    random_jobs_agree_with_a_model,
    random_jobs_with_a_ttl_agree_with_a_model
);

const STEPS: u32 = 1200;

fn random_jobs_agree_with_a_model(world: &World) {
    seeds(world, &[11], Expiry::None);
}

fn random_jobs_with_a_ttl_agree_with_a_model(world: &World) {
    seeds(world, &[21], Expiry::Processing);
    seeds(world, &[31], Expiry::Event);
}

/// Whether states of a job may expire, and by which time.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Expiry {
    None,
    Processing,
    Event,
}

fn seeds(world: &World, seeds: &[u64], expiry: Expiry) {
    let case = (world.kind.get(), world.storage.get());
    let one = std::env::var("AQUIFER_MODEL_SEED").ok();
    let one: Option<u64> = one.map(|seed| seed.parse().expect("a number"));
    for seed in one.as_ref().map_or(seeds, std::slice::from_ref) {
        world.kind.set(case.0);
        world.storage.set(case.1);
        run(world, *seed, expiry, one.is_some());
    }
}

/// A hundred seeds on every backend. The first seed is `AQUIFER_MODEL_FROM`, if that is given.
#[test]
#[ignore = "takes minutes: cargo test -p aquifer-state --features rocksdb --test it -- --ignored many_random_jobs"]
fn many_random_jobs_agree_with_a_model() {
    let from = std::env::var("AQUIFER_MODEL_FROM").ok();
    let from: u64 = from.map_or(1000, |seed| seed.parse().expect("a number"));
    let cases = [
        Case::FORST,
        Case::HASHMAP_FILES_ASYNC,
        Case::HASHMAP_MEMORY_SYNC,
        #[cfg(feature = "rocksdb")]
        Case::ROCKSDB_FULL,
        #[cfg(feature = "rocksdb")]
        Case::ROCKSDB_INCREMENTAL,
    ];
    let mut failed = Vec::new();
    for seed in from..from + 100 {
        for case in cases {
            for expiry in [Expiry::None, Expiry::Processing, Expiry::Event] {
                let world = || World::of(case, seed.is_multiple_of(2));
                let run = || run(&world(), seed, expiry, true);
                if std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err() {
                    failed.push(format!("seed {seed}, {expiry:?}, {case:?}"));
                }
            }
        }
    }
    assert!(failed.is_empty(), "these failed: {failed:#?}");
}

/// Where a job may go on: mostly where it began. To RocksDB only where it began there or is told to: opening databases costs most of a run.
fn places(world: &World, everywhere: bool) -> Vec<(BackendKind, SnapshotStorage)> {
    let files = SnapshotStorage::FileSystem {
        inline_bytes_max: 700,
        asynchronous: true,
    };
    let begun = (world.kind.get(), world.storage.get());
    let mut places = vec![begun; BACKENDS.len()];
    let all = BACKENDS
        .iter()
        .filter(|kind| everywhere || **kind != BackendKind::Rocksdb);
    places.extend(all.map(|kind| (*kind, files)));
    places
}

fn run(world: &World, seed: u64, expiry: Expiry, everywhere: bool) {
    let mut rng = Rng::new(seed);
    let places = places(world, everywhere);
    let says = format!("seed {seed}, {expiry:?}");
    let by_event = expiry == Expiry::Event;
    let ttl = (expiry != Expiry::None).then(|| Ttl::random(&mut rng, by_event));
    let begun = Program::of(1, ttl);
    let mut job = Job::new(world, begun, &says);
    let mut kept: Vec<Kept> = vec![job.checkpoint(1)];
    let (mut program, mut id, mut under_way) = (begun, 1, false);
    for step in 0..STEPS {
        job.act(world, &mut rng, step);
        match rng.below(1000) {
            // The job works on while its snapshot is written.
            0..=9 if !under_way => {
                id += 1;
                job.begin(id);
                under_way = true;
            }
            10..=29 if under_way => {
                kept.extend(job.finish());
                under_way = false;
            }
            // Back to a checkpoint, most often the last one.
            30..=39 => {
                let now = job.now;
                drop(job);
                under_way = false;
                if rng.chance(200) && kept.len() > 1 {
                    kept.pop();
                }
                if let Some(last) = kept.last()
                    && rng.chance(400)
                {
                    // A world sees several jobs.
                    let name = format!("{seed}-{expiry:?}-{step}");
                    let mut moved = by_savepoint(world, last, &mut rng, &name);
                    moved.pass(now);
                    if rng.chance(300) {
                        // It needs nothing of what there was.
                        files::delete_below(world, "job");
                        kept.clear();
                    }
                    kept.push(moved);
                }
                let (kind, storage) = places[rng.below(places.len() as u64) as usize];
                world.kind.set(kind);
                world.storage.set(storage);
                program = next_program(program, &mut rng, expiry);
                let last = kept.last().expect("there is a checkpoint");
                job = Job::restored(world, last, program, now, &format!("{says}, step {step}"));
            }
            _ => {}
        }
    }
    job.compare();
    job.fire_all();
}

/// The program changes between two runs: its workers, its API, its TTL.
fn next_program(before: Program, rng: &mut Rng, expiry: Expiry) -> Program {
    let apis = [Api::Same, Api::Synchronous, Api::Asynchronous, Api::Both];
    let ttl = match expiry {
        Expiry::None => None,
        _ if rng.chance(600) => before.ttl,
        _ if rng.chance(250) => None,
        _ => Some(Ttl::random(rng, expiry == Expiry::Event)),
    };
    Program {
        workers: 1 + rng.below(8) as u16,
        ttl,
        api: apis[rng.below(4) as usize],
        has_union: rng.chance(700),
    }
}

/// The same as a savepoint, which may have been moved.
fn by_savepoint(world: &World, kept: &Kept, rng: &mut Rng, name: &str) -> Kept {
    let metadata = CheckpointMetadata {
        checkpoint_id: 9,
        job_name: "job".into(),
        attempt: 1,
        created_unix_ms: 0,
        parallelism: kept.workers,
        max_parallelism: MAX_PARALLELISM,
        plan: String::new(),
        finished: false,
        kind: CheckpointKind::Checkpoint,
        backend: world.kind.get(),
        tables: kept.saved.tables.clone(),
        keyed: kept.saved.keyed.clone(),
        operators: kept.operators.iter().cloned().collect(),
        origin: Origin::default(),
    };
    let format = match rng.chance(500) {
        true => SavepointFormat::Canonical,
        false => SavepointFormat::Native,
    };
    let mut read = files::written(world, &metadata, format, name);
    if rng.chance(500) {
        let (here, there) = (
            format!("savepoints/{name}"),
            format!("moved/{name}/renamed"),
        );
        files::relocate(world, &here, &there);
        read = files::read(world, &there);
    }
    Kept {
        saved: Saved {
            tables: read.tables,
            keyed: read.keyed,
        },
        operators: read.operators.first().cloned(),
        ..kept.clone()
    }
}
