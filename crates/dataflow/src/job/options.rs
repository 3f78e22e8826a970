//! How a job is to run, who watches it, and what it reports.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use aquifer_store::BackgroundThreads;

use super::SavepointRequests;

/// A checkpoint of another run to begin with (`execution.state-recovery.path`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreFrom {
    /// The checkpoint, the run or the job.
    pub uri: String,
    /// Who owns its files afterwards.
    pub mode: aquifer_state::checkpoint::ClaimMode,
}

/// How a job is to run; made from the configuration by the front door.
#[derive(Clone)]
pub struct JobOptions {
    /// `pipeline.name`.
    pub name: String,
    /// `parallelism.default`.
    pub parallelism: u16,
    /// `pipeline.max-parallelism`; `None` derives it as Flink does.
    pub max_parallelism: Option<u16>,
    /// `execution.checkpointing.dir` as a URI.
    pub checkpoint_dir: String,
    /// `execution.checkpointing.interval`; `None` = only the final checkpoint of a bounded job.
    pub checkpoint_interval_ms: Option<u64>,
    /// `execution.checkpointing.num-retained`.
    pub num_retained: usize,
    /// `state.backend.type`.
    pub backend: aquifer_state::BackendKind,
    /// `execution.checkpointing.storage` and its limits: where snapshots go.
    pub storage: aquifer_state::SnapshotStorage,
    /// `state.backend.rocksdb.*`.
    pub rocksdb: aquifer_state::RocksdbOptions,
    /// `table.exec.async-state.enabled`.
    pub async_state: bool,
    /// Go on from the newest checkpoint of the newest run of this job name.
    pub resume: bool,
    /// Begin with a checkpoint of another run, unless `resume` finds one of this job.
    pub restore: Option<RestoreFrom>,
    /// `state.backend.forst.primary-dir`: where workers keep their files, as a URI. They are copied into the checkpoint directory at
    /// checkpoints. `None`: they are written there in the first place.
    pub primary_dir: Option<String>,
    /// Accept an object store that ignores create-if-absent.
    pub allow_unsafe_commits: bool,
    /// Block cache of the process.
    pub block_cache_bytes: u64,
    /// Keep files of a remote store on the local disk; the name of the job in it is the run's. `None`: do not.
    pub file_cache: Option<aquifer_store::FileCacheOptions>,
    /// Threads of the process that write and merge files (`state.backend.forst.thread.num`).
    pub background: BackgroundThreads,
    /// Bytes a second that compactions of the process may write; 0 is no limit.
    pub compaction_bytes_per_second: u64,
    /// `state.backend.forst.compaction.remote.*`: large compactions are left to `aquifer compactor`. The directory is that of the run,
    /// whatever is said here.
    pub remote_compaction: Option<aquifer_store::RemoteCompaction>,
    /// By which savepoints are asked for while the job runs.
    pub savepoints: Option<Arc<SavepointRequests>>,
    /// `execution.checkpointing.savepoint-dir`: where savepoints go if the request does not say.
    pub savepoint_dir: Option<String>,
    /// `execution.state-recovery.ignore-unclaimed-state`: go on from a checkpoint that has state of operators which the job does not have.
    pub ignore_unclaimed_state: bool,
    /// Keep the last checkpoint of a finished job (`execution.checkpointing.externalized-checkpoint-retention: RETAIN_ON_CANCELLATION`).
    pub retain_when_finished: bool,
    /// Store options.
    pub store: aquifer_store::StoreOptions,
    /// Keys for the object store of `checkpoint_dir` (`s3.endpoint`, `s3.access-key`, …), as `aquifer_store::objects` takes them. Holds
    /// credentials: never print it.
    pub object_store: BTreeMap<String, String>,
    /// `execution.checkpointing.min-pause`: at least this long between the end of a checkpoint and the next trigger.
    pub checkpoint_min_pause_ms: u64,
    /// `execution.checkpointing.timeout`: a checkpoint that takes longer fails the job.
    pub checkpoint_timeout_ms: u64,
    /// `execution.async-state.total-buffer-size`: records in flight in one asynchronous operator at most.
    pub async_in_flight_max: usize,
    /// `execution.async-state.active-buffer-size`: cold reads that one such operator gathers at most before it sends them.
    pub async_buffer_size: usize,
    /// `execution.async-state.active-buffer-timeout`: and for how long at most while it is busy. One that is idle never waits.
    pub async_buffer_timeout_ms: u64,
    /// Milliseconds since 1970: the only clock a job may ask.
    pub now_ms: Arc<dyn Fn() -> i64 + Send + Sync>,
    /// Counted up by all workers while the job runs.
    pub counters: Arc<JobCounters>,
    /// Identifies what the job computes; a checkpoint of another plan is refused.
    pub plan: String,
    /// Told about progress (from any thread).
    pub observer: Arc<dyn JobObserver>,
}

impl JobOptions {
    /// A job of this name with one worker, on the `forst` backend, with checkpoints in memory and only the last one taken.
    pub fn new(name: &str, now_ms: Arc<dyn Fn() -> i64 + Send + Sync>) -> Self {
        Self {
            name: name.to_owned(),
            parallelism: 1,
            max_parallelism: None,
            checkpoint_dir: "memory://aquifer".to_owned(),
            checkpoint_interval_ms: None,
            num_retained: 1,
            backend: aquifer_state::BackendKind::Forst,
            storage: aquifer_state::SnapshotStorage::default(),
            rocksdb: aquifer_state::RocksdbOptions::default(),
            async_state: true,
            resume: false,
            restore: None,
            primary_dir: None,
            allow_unsafe_commits: false,
            block_cache_bytes: 64 << 20,
            file_cache: None,
            background: BackgroundThreads::default(),
            compaction_bytes_per_second: 0,
            savepoints: None,
            savepoint_dir: None,
            ignore_unclaimed_state: false,
            retain_when_finished: false,
            store: aquifer_store::StoreOptions::default(),
            object_store: BTreeMap::new(),
            checkpoint_min_pause_ms: 0,
            checkpoint_timeout_ms: 600_000,
            remote_compaction: None,
            async_in_flight_max: 6000,
            async_buffer_size: 1000,
            async_buffer_timeout_ms: 1000,
            now_ms,
            counters: Arc::default(),
            plan: String::new(),
            observer: Arc::new(Silent),
        }
    }
}

/// Shows nothing.
struct Silent;

impl JobObserver for Silent {}

/// Counters of a running job, shared by its workers and whoever shows them.
#[derive(Debug, Default)]
pub struct JobCounters {
    /// Rows that sources have read.
    pub rows_in: AtomicU64,
    /// Rows that sinks have taken.
    pub rows_out: AtomicU64,
    /// How full the asynchronous operators are.
    pub async_state: crate::process::AsyncStateGauges,
}

/// What the front door shows while a job runs.
pub trait JobObserver: Send + Sync {
    /// The job has been restored from a checkpoint.
    fn restored(&self, checkpoint_id: u64, workers_then: u16, workers_now: u16) {
        let _ = (checkpoint_id, workers_then, workers_now);
    }
    /// Something the user should know but that does not end the job.
    fn note(&self, message: &str) {
        let _ = message;
    }
    /// A checkpoint is complete.
    fn checkpoint(&self, checkpoint_id: u64, duration_ms: u64, state_bytes: u64) {
        let _ = (checkpoint_id, duration_ms, state_bytes);
    }
}

/// What a finished job did.
#[derive(Clone, Debug, Default)]
pub struct JobReport {
    /// Rows that sources read in this run.
    pub rows_in: u64,
    /// Rows that sinks took in this run.
    pub rows_out: u64,
    /// Checkpoints completed in this run.
    pub checkpoints: u64,
    /// Bytes of keyed state in the last checkpoint.
    pub state_bytes: u64,
    /// Block cache hits and misses, memtable hits excluded.
    pub cache_hits: u64,
    /// See `cache_hits`.
    pub cache_misses: u64,
    /// Wall time.
    pub elapsed_ms: u64,
    /// True when `resume` found the job already finished.
    pub already_finished: bool,
    /// Where the savepoint is with which the job was asked to stop.
    pub stopped_at: Option<String>,
}
