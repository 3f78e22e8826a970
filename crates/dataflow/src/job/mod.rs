//! Running a job: find the run and its newest checkpoint, restore, execute on all workers, and clean up.
//!
//! Everything that can go wrong ends the attempt on every worker and comes back as one [`JobError`]; what the newest complete
//! checkpoint holds is never touched by a failure.

mod begin;
mod options;
mod run_id;
mod savepoints;
mod unclaimed;
mod workers;

pub use options::{JobCounters, JobObserver, JobOptions, JobReport, RestoreFrom};
pub(crate) use savepoints::Wake;
pub use savepoints::{REQUESTS_MAX, SavepointAnswer, SavepointRequest, SavepointRequests};

use std::sync::Arc;
use std::sync::atomic::Ordering;

use aquifer_state::checkpoint::CheckpointMetadata;
use aquifer_state::key_group;
use aquifer_store::BackgroundPool;

use crate::JobError;
use crate::control::{Custody, Savepoints, StorageTask};
use crate::graph::Env;
use crate::worker::Attempt;
use begin::Begin;
use workers::Workers;

/// Builds the graph of a job on one worker.
pub type Build = Arc<dyn Fn(&mut Env<'_>) -> Result<(), JobError> + Send + Sync>;

/// Runs a job to its end (or until it fails), restoring first if asked.
pub fn run(options: JobOptions, build: Build) -> Result<JobReport, JobError> {
    if options.parallelism == 0 {
        return Err(JobError::usage(
            "parallelism.default: expected a number from 1, found 0",
        ));
    }
    let started_ms = (options.now_ms)();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name("aquifer-io")
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| {
            JobError::failed(format!("the I/O runtime could not be started: {error}"))
        })?;
    let handle = runtime.handle().clone();
    let begun = handle.block_on(Begin::new(&options));
    let ended = begun.and_then(|begin| begin.run(&options, &handle, build));
    if let Some(requests) = &options.savepoints {
        requests.end(match &ended {
            Ok(_) => "the job has ended",
            Err(_) => "the job has failed",
        });
    }
    let mut report = ended?;
    report.elapsed_ms = u64::try_from((options.now_ms)() - started_ms).unwrap_or(0);
    Ok(report)
}

impl Begin {
    fn run(
        self,
        options: &JobOptions,
        handle: &tokio::runtime::Handle,
        build: Build,
    ) -> Result<JobReport, JobError> {
        let Self {
            storage,
            run_id,
            attempt,
            restored,
            ownership,
            primary,
            foreign,
        } = self;
        let max_parallelism = max_parallelism(options, restored.as_ref())?;
        if let Some(restored) = &restored {
            let nothing_left = restored
                .operators
                .iter()
                .all(|operator| operator.committables.is_empty());
            if restored.finished && nothing_left {
                return Ok(already_finished(restored));
            }
            begin::check_plan(options, restored, restored.checkpoint_id)?;
            if !restored.finished {
                options.observer.restored(
                    foreign.unwrap_or(restored.checkpoint_id),
                    restored.parallelism,
                    options.parallelism,
                );
            }
        } else if options.resume {
            options
                .observer
                .note("no checkpoint was complete yet: the job starts from the beginning");
        }

        let claimed = restored.as_ref().map(|r| r.origin.claimed.clone());
        let storage_task = StorageTask::new(
            storage.clone(),
            attempt,
            handle.clone(),
            Arc::clone(&options.observer),
            Custody::new(ownership, primary.clone()),
            claimed.unwrap_or_default(),
            savepoints(options)?,
        );
        let counters = Arc::clone(&options.counters);
        let shared = Arc::new(Attempt::new(restored.as_ref(), counters));
        let pool = BackgroundPool::new(options.background, handle.clone());
        let workers = Workers {
            pool: Arc::clone(&pool),
            options: options.clone(),
            handle: handle.clone(),
            storage: storage.clone(),
            storage_task: Arc::clone(&storage_task),
            run_id,
            attempt_number: attempt,
            max_parallelism,
            restored,
            primary: primary.clone(),
            attempt: Arc::clone(&shared),
        };
        let done = workers
            .restored
            .as_ref()
            .filter(|restored| restored.finished)
            .map(already_finished);
        let ended = workers.execute(build);
        // Savepoints that were begun are finished, whatever became of the job.
        handle.block_on(storage_task.settle());
        // What was under way for stores that are gone may still write files; only then can be cleaned up.
        pool.settle();
        ended?;
        if let Some(primary) = &primary
            && let Err(error) = handle.block_on(storage.sweep_primary(primary, u64::MAX))
        {
            options.observer.note(&format!(
                "files in the primary directory are no longer needed but were not removed: {error}"
            ));
        }
        // A job that was stopped has not finished: its newest checkpoint stays, so that it can be resumed as well.
        let stopped_at = storage_task.stopped_at();
        if !options.retain_when_finished && stopped_at.is_none() {
            handle.block_on(storage.delete_run_keep_marker())?;
        }
        if let Some(done) = done {
            return Ok(done);
        }

        let (checkpoints, newest) = storage_task.all_completed();
        let stats = shared.backend_stats.lock();
        Ok(JobReport {
            rows_in: options.counters.rows_in.load(Ordering::Relaxed),
            rows_out: options.counters.rows_out.load(Ordering::Relaxed),
            checkpoints,
            state_bytes: newest.map_or(0, |newest| newest.state_bytes),
            cache_hits: stats.values().map(|s| s.cache_hits).sum(),
            cache_misses: stats.values().map(|s| s.cache_misses).sum(),
            elapsed_ms: 0,
            already_finished: false,
            stopped_at,
        })
    }
}

/// What the attempt needs for savepoints, if they can be asked for.
fn savepoints(options: &JobOptions) -> Result<Option<Savepoints>, JobError> {
    let Some(requests) = &options.savepoints else {
        return Ok(None);
    };
    let (root, _) = aquifer_store::objects::root_of(&options.checkpoint_dir)?;
    Ok(Some(Savepoints {
        requests: Arc::clone(requests),
        directory: options.savepoint_dir.clone(),
        root,
        settings: options.object_store.clone(),
        temporary_directories: options.rocksdb.local_directories.clone(),
        now_ms: Arc::clone(&options.now_ms),
        accepted: Default::default(),
        stopped_at: Default::default(),
    }))
}

/// The report of a job that had nothing left to do.
fn already_finished(restored: &CheckpointMetadata) -> JobReport {
    JobReport {
        already_finished: true,
        state_bytes: restored.state_bytes(),
        ..JobReport::default()
    }
}

/// The number of key groups: fixed once there is state.
fn max_parallelism(
    options: &JobOptions,
    restored: Option<&CheckpointMetadata>,
) -> Result<u16, JobError> {
    let max = match (restored, options.max_parallelism) {
        (Some(restored), Some(wanted)) if wanted != restored.max_parallelism => {
            return Err(JobError::usage(format!(
                "pipeline.max-parallelism is {wanted}, but checkpoint {} was taken with {}: it cannot change once there is state",
                restored.checkpoint_id, restored.max_parallelism
            )));
        }
        (Some(restored), _) => restored.max_parallelism,
        (None, Some(wanted)) => wanted,
        (None, None) => key_group::default_max_parallelism(options.parallelism),
    };
    if options.parallelism > max {
        return Err(JobError::usage(format!(
            "Maximum parallelism must not be smaller than parallelism: parallelism.default is {}, the maximum is {max}",
            options.parallelism
        )));
    }
    Ok(max)
}
