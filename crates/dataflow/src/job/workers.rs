//! One attempt on all workers of this process.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use aquifer_state::access::StateAccess;
use aquifer_state::checkpoint::{CheckpointKind, CheckpointMetadata, CheckpointStorage};
use aquifer_state::controller::ControllerOptions;
use aquifer_state::{BackendKind, BackendSetup, KeyedSnapshot, key_group};
use aquifer_store::{
    BackgroundPool, BlockCache, Environment, FileCache, FileCacheOptions, KeyGroupRange, LocalDisk,
    RateLimiter, RemoteCompaction,
};
use object_store::path::Path;
use timely::scheduling::SyncActivator;
use timely::worker::Worker;

use super::{Build, JobOptions, unclaimed};
use crate::JobError;
use crate::connector::ConnectorContext;
use crate::control::{self, CoordinatorSetup, Schedule, StorageTask};
use crate::graph::Env;
use crate::time::Time;
use crate::worker::{Attempt, Barriers, Control, Shared, WorkerContext};

/// Batches that a source may be ahead of the slowest sink.
const WINDOW_TICKS: usize = 16;
/// Rows a source puts in a batch.
const BATCH_ROWS: usize = 4096;
/// How long a worker sleeps at most before it looks whether another one has failed.
const PARK_MAX: Duration = Duration::from_millis(50);

/// What the workers of one attempt are made from.
pub(super) struct Workers {
    pub options: JobOptions,
    pub handle: tokio::runtime::Handle,
    pub storage: CheckpointStorage,
    pub storage_task: Arc<StorageTask>,
    /// Names this run among all runs of all jobs.
    pub run_id: String,
    pub attempt_number: u64,
    pub max_parallelism: u16,
    pub restored: Option<CheckpointMetadata>,
    /// Where workers keep their files, if not beside the checkpoints.
    pub primary: Option<Path>,
    pub attempt: Arc<Attempt>,
    /// Threads that write and merge files, for all workers.
    pub pool: Arc<BackgroundPool>,
}

/// What the stores of all workers share.
struct Process {
    cache: Arc<BlockCache>,
    rate: Arc<RateLimiter>,
    file_cache: Option<Arc<FileCache>>,
}

/// Wakes a worker's reporter; filled when the control dataflow is built.
type ReporterWake = Arc<OnceLock<SyncActivator>>;

impl Workers {
    /// Runs the attempt to its end.
    pub fn execute(self, build: Build) -> Result<(), JobError> {
        let attempt = Arc::clone(&self.attempt);
        let cache = BlockCache::new(self.options.block_cache_bytes);
        let rate = RateLimiter::new(
            self.options.compaction_bytes_per_second,
            Arc::clone(&self.options.now_ms),
        );
        let process = Process {
            cache,
            rate,
            file_cache: self.file_cache(),
        };
        let config = timely::Config::process(usize::from(self.options.parallelism));
        let joined = catch_unwind(AssertUnwindSafe(|| {
            let guards = timely::execute(config, move |worker| {
                let _panics = FailOnPanic(Arc::clone(&self.attempt));
                if let Err(error) = self.work(worker, &process, &build) {
                    self.attempt.fail(error);
                }
                run_until_done(worker, &self.attempt);
            })?;
            guards
                .join()
                .into_iter()
                .collect::<Result<Vec<()>, String>>()
        }));
        if let Some(error) = attempt.take_error() {
            return Err(error);
        }
        match joined {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(message)) => Err(JobError::failed(format!(
                "a worker ended unexpectedly: {message}"
            ))),
            Err(_) => Err(JobError::failed("a worker ended unexpectedly")),
        }
    }

    /// The cache on the local disk, if there is to be one. One that cannot be opened is told of and done without.
    fn file_cache(&self) -> Option<Arc<FileCache>> {
        let options = self.options.file_cache.as_ref()?;
        let all_local = self.storage.mounted.as_ref()?.local_paths();
        if all_local.is_some_and(|paths| paths.all) {
            return None;
        }
        let options = FileCacheOptions {
            job: self.run_id.clone(),
            ..options.clone()
        };
        match FileCache::open(options, Arc::new(LocalDisk)) {
            Ok(cache) => Some(cache),
            Err(error) => {
                self.options
                    .observer
                    .note(&format!("the job goes on without a file cache: {error}"));
                None
            }
        }
    }

    /// Opens the worker's state and builds its two dataflows.
    fn work(&self, worker: &mut Worker, process: &Process, build: &Build) -> Result<(), JobError> {
        let wake = ReporterWake::default();
        let shared = self.context(worker, process, &wake)?;
        worker.dataflow_named::<Time, _, _>(&self.options.name, |scope| {
            build(&mut Env {
                scope,
                shared: Rc::clone(&shared),
            })
        })?;
        if let Some(restored) = &self.restored {
            unclaimed::check(&self.options, restored, &shared.operators.borrow())?;
        }
        if self
            .restored
            .as_ref()
            .is_some_and(|restored| restored.finished)
        {
            // Building the graph has committed what the last checkpoint had prepared; there is nothing to run.
            worker
                .installed_dataflows()
                .into_iter()
                .for_each(|dataflow| worker.drop_dataflow(dataflow));
            return Ok(());
        }
        let setup = CoordinatorSetup {
            schedule: Schedule {
                interval_ms: self.options.checkpoint_interval_ms,
                min_pause_ms: self.options.checkpoint_min_pause_ms,
                timeout_ms: self.options.checkpoint_timeout_ms,
            },
            template: self.template(),
            first_id: shared.first_epoch,
            storage: Arc::clone(&self.storage_task),
            now_ms: Arc::clone(&self.options.now_ms),
        };
        worker.dataflow_named::<u64, _, _>("control", |scope| {
            control::build(scope, &shared, setup, &wake)
        });
        Ok(())
    }

    /// What every checkpoint of this attempt has in common.
    fn template(&self) -> CheckpointMetadata {
        CheckpointMetadata {
            checkpoint_id: 0,
            job_name: self.options.name.clone(),
            attempt: self.attempt_number,
            created_unix_ms: 0,
            parallelism: self.options.parallelism,
            max_parallelism: self.max_parallelism,
            plan: self.options.plan.clone(),
            finished: false,
            kind: CheckpointKind::Checkpoint,
            backend: self.options.backend,
            tables: Vec::new(),
            keyed: Vec::new(),
            operators: Vec::new(),
            origin: self
                .restored
                .as_ref()
                .map(|restored| restored.origin.clone())
                .unwrap_or_default(),
        }
    }

    fn context(
        &self,
        worker: &Worker,
        process: &Process,
        wake: &ReporterWake,
    ) -> Result<Shared, JobError> {
        let (index, peers) = (worker.index(), worker.peers());
        let small = |n: usize| u16::try_from(n).unwrap_or(u16::MAX);
        let range = key_group::range_of(small(index), self.max_parallelism, small(peers));
        let wake = Arc::clone(wake);
        // The heap backend writes whole snapshots, which nobody reads while the job runs.
        let primary = self
            .primary
            .clone()
            .filter(|_| self.options.backend == BackendKind::Forst);
        let mut environment = Environment::new(
            Arc::clone(&self.storage.objects),
            primary.clone().unwrap_or_else(|| self.storage.shared()),
            self.handle.clone(),
            Arc::clone(&process.cache),
            CheckpointStorage::file_prefix(self.attempt_number, index),
        );
        environment.clock = Arc::clone(&self.options.now_ms);
        environment.local_paths = self
            .storage
            .mounted
            .as_ref()
            .and_then(|mounted| mounted.local_paths());
        environment.file_cache = process.file_cache.clone();
        environment.executor = Arc::clone(&self.pool) as _;
        environment.compaction_rate = Arc::clone(&process.rate);
        // A compactor sees the checkpoint directory's store and nothing else.
        let restored = self.restored.as_ref();
        let elsewhere = restored.is_some_and(|r| !r.origin.mounts.is_empty()) || primary.is_some();
        let remote = self.options.remote_compaction.clone();
        environment.remote_compaction = remote.filter(|_| !elsewhere).map(|remote| {
            let directory = self.storage.run.clone().join(RemoteCompaction::DIRECTORY);
            RemoteCompaction {
                directory,
                ..remote
            }
        });
        environment.waker = Arc::new(move || {
            if let Some(wake) = wake.get() {
                // Fails only when the worker is gone, and then there is nothing to wake.
                let _ = wake.activate();
            }
        });
        // Whoever makes options in code may combine them as they like.
        self.options
            .backend
            .check_storage(self.options.storage.kind())
            .map_err(|error| JobError::usage(error.to_string()))?;
        let backend = aquifer_state::open(BackendSetup {
            storage: self.options.storage,
            rocksdb: self.options.rocksdb.clone(),
            tables: restored.map(|r| r.tables.clone()).unwrap_or_default(),
            restored: restored
                .map(|r| clipped(&r.keyed, range))
                .unwrap_or_default(),
            ..BackendSetup::new(
                self.options.backend,
                environment,
                self.options.store.clone(),
                range,
                self.max_parallelism,
            )
        })?;
        let state = StateAccess::new(
            backend,
            self.handle.clone(),
            range,
            self.max_parallelism,
            self.options.async_state,
        );
        let first_epoch = restored.map_or(1, |r| r.checkpoint_id + 1);
        let control = Control::default();
        control.epoch.set(first_epoch);
        Ok(Rc::new(WorkerContext {
            index,
            peers,
            max_parallelism: self.max_parallelism,
            first_epoch,
            attempt: Arc::clone(&self.attempt),
            state,
            control,
            barriers: RefCell::new(Barriers::default()),
            open_sources: Cell::new(0),
            reporter: RefCell::new(None),
            probe: timely::dataflow::operators::probe::Handle::new(),
            connector: ConnectorContext {
                worker: index,
                workers: peers,
                attempt: self.attempt_number,
                run_id: self.run_id.clone(),
                // Each source and sink puts its own in.
                operator: String::new(),
                runtime: self.handle.clone(),
                waker: Arc::new(|| {}),
                now_ms: Arc::clone(&self.options.now_ms),
            },
            window_ticks: WINDOW_TICKS,
            batch_rows: BATCH_ROWS,
            async_state: ControllerOptions {
                in_flight_max: self.options.async_in_flight_max.max(1),
                batch_max: self.options.async_buffer_size,
                batch_timeout_ms: self.options.async_buffer_timeout_ms,
                ..ControllerOptions::default()
            },
            operators: RefCell::default(),
        }))
    }
}

/// The parts of a checkpoint that a worker's range touches, each with the piece of the range it covers.
fn clipped(
    keyed: &[(KeyGroupRange, KeyedSnapshot)],
    range: KeyGroupRange,
) -> Vec<(KeyedSnapshot, KeyGroupRange)> {
    let overlap = |other: &KeyGroupRange| {
        let (start, end) = (range.start.max(other.start), range.end.min(other.end));
        (start <= end).then_some(KeyGroupRange { start, end })
    };
    keyed
        .iter()
        .filter_map(|(other, snapshot)| Some((snapshot.clone(), overlap(other)?)))
        .collect()
}

/// Steps the worker until its dataflows are done or some worker has failed.
fn run_until_done(worker: &mut Worker, attempt: &Attempt) {
    while worker.has_dataflows() && !attempt.failed() {
        worker.step_or_park(Some(PARK_MAX));
    }
    for dataflow in worker.installed_dataflows() {
        worker.drop_dataflow(dataflow);
    }
}

/// Ends the attempt everywhere when a worker's thread panics: in one process the others would wait for it for ever.
struct FailOnPanic(Arc<Attempt>);

impl Drop for FailOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0
                .fail(JobError::failed("a worker panicked; the message is above"));
        }
    }
}
