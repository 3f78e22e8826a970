//! Every configuration key that means something in this build.
//!
//! A key of Flink's keeps Flink's name, type and units. Where a default is not Flink's, its sentence says so.

use std::time::Duration;

use aquifer_state::checkpoint::ClaimMode;
use aquifer_state::{BackendKind, SnapshotStorage, StorageKind};
use aquifer_store::{Compression, Hedge};

use super::keys::nearest_of;
use super::option::AnyOption;
use super::value::{self, MemorySize};
use super::{ConfigError, ConfigOption};

/// `state.backend.forst.primary-dir`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PrimaryDir {
    /// Beside the checkpoints.
    CheckpointDir,
    /// In `state.backend.forst.local-dir`.
    LocalDir,
    /// Here.
    At(String),
}

/// Whether the last checkpoint of a job stays when the job ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retention {
    /// `NO_EXTERNALIZED_CHECKPOINTS`: checkpoints go when the job has finished.
    None,
    /// `DELETE_ON_CANCELLATION`: as above; there is no cancellation here other than ending the process, which always keeps them.
    DeleteOnCancellation,
    /// `RETAIN_ON_CANCELLATION`: the last checkpoint stays.
    RetainOnCancellation,
}

macro_rules! options {
    ($($(#[$doc:meta])* $name:ident: $type:ty = $key:literal $(| $old:literal)*, $default:expr, $parse:expr, $text:literal;)*) => {
        $(
            #[doc = $text]
            pub static $name: ConfigOption<$type> = ConfigOption {
                key: $key,
                deprecated: &[$($old),*],
                default: $default,
                doc: $text,
                parse: $parse,
            };
        )*
        /// All of them, in the order of this file.
        pub(super) static ALL: &[&dyn AnyOption] = &[$(&$name),*];
    };
}

pub(super) use options;

options! {
    CHECKPOINT_DIR: Option<String> = "execution.checkpointing.dir" | "state.checkpoints.dir" | "state.backend.fs.checkpointdir",
        None, some_text,
        "Where checkpoints and state files go: a directory, or a URI such as s3://bucket/path; by default a directory of the user's data directory.";
    CHECKPOINT_INTERVAL: Option<Duration> = "execution.checkpointing.interval", None, checkpoint_interval,
        "Time between two checkpoints; without it there is only the checkpoint at the end of a bounded job.";
    CHECKPOINT_MIN_PAUSE: Duration = "execution.checkpointing.min-pause", Duration::ZERO, value::duration,
        "At least this long between the end of a checkpoint and the start of the next.";
    CHECKPOINT_TIMEOUT: Duration = "execution.checkpointing.timeout", Duration::from_secs(600), checkpoint_timeout,
        "A checkpoint that takes longer than this fails the job.";
    CHECKPOINT_MODE: () = "execution.checkpointing.mode", (), checkpoint_mode,
        "EXACTLY_ONCE or AT_LEAST_ONCE; both get exactly-once, for nothing would be gained by less.";
    NUM_RETAINED: usize = "execution.checkpointing.num-retained" | "state.checkpoints.num-retained", 1, num_retained,
        "How many completed checkpoints are kept.";
    RETENTION: Retention = "execution.checkpointing.externalized-checkpoint-retention", Retention::None, retention,
        "Whether the last checkpoint of a finished job is kept (RETAIN_ON_CANCELLATION).";
    RESTORE_PATH: Option<String> = "execution.state-recovery.path" | "execution.savepoint.path", None, some_text,
        "A savepoint, or a checkpoint of another run, to begin with (a savepoint-…, chk-… or run-… directory, or a job's); not used when --resume finds a checkpoint of the job itself.";
    CLAIM_MODE: ClaimMode = "execution.state-recovery.claim-mode" | "execution.savepoint-restore-mode", ClaimMode::NoClaim, claim_mode,
        "NO_CLAIM: that checkpoint stays its owner's, and the first checkpoint stands alone; CLAIM: its files are used and deleted when they are no longer needed.";
    IGNORE_UNCLAIMED: bool = "execution.state-recovery.ignore-unclaimed-state" | "execution.savepoint.ignore-unclaimed-state", false, value::boolean,
        "Go on from a checkpoint that has state of operators which the job does not have.";
    SAVEPOINT_DIR: Option<String> = "execution.checkpointing.savepoint-dir" | "state.savepoints.dir", None, some_text,
        "Where savepoints of a running job go: a directory or a URI, in which each gets a directory of its own.";
    ALLOW_UNSAFE_COMMITS: bool = "execution.checkpointing.allow-unsafe-commits", false, value::boolean,
        "Ours: accept an object store that ignores create-if-absent; two writers could then both commit.";
    STATE_BACKEND: BackendKind = "state.backend.type" | "state.backend", BackendKind::Forst, state_backend,
        "Where working state lives: forst (on the object store, with memory as a cache), hashmap (in memory) or rocksdb (on the local disk). Flink's default is hashmap. The old names jobmanager and filesystem mean hashmap with that storage.";
    CHECKPOINT_STORAGE: Option<StorageKind> = "execution.checkpointing.storage" | "state.checkpoint-storage", None, storage,
        "Where snapshots go: filesystem (files in the checkpoint directory) or, only with hashmap, jobmanager (within the metadata, which bounds them). By default filesystem if there is a checkpoint directory.";
    MEMORY_STATE_MAX: MemorySize = "execution.checkpointing.max-memory-state-size", MemorySize(SnapshotStorage::STATE_BYTES_MAX), positive_size,
        "Ours: with storage jobmanager, one state of one worker may be so large; a larger one fails the checkpoint.";
    FRAME_SIZE: MemorySize = "pekko.framesize" | "akka.framesize", MemorySize(SnapshotStorage::TOTAL_BYTES_MAX), positive_size,
        "With storage jobmanager, all states of one worker may be so large together.";
    INLINE_THRESHOLD: MemorySize = "execution.checkpointing.data-inline-threshold" | "state.storage.fs.memory-threshold" | "state.backend.fs.memory-threshold",
        MemorySize(SnapshotStorage::INLINE_BYTES_MAX), inline_threshold,
        "With storage filesystem, a worker's snapshot of hashmap that is smaller goes into the metadata instead of a file of its own; at most 1 mb.";
    SNAPSHOT_ASYNC: bool = "state.backend.async", true, value::boolean,
        "Whether snapshots of hashmap are written in the background; otherwise the worker waits. Flink has dropped the key, and always does the former.";
    SNAPSHOT_BUFFER: i64 = "execution.checkpointing.write-buffer-size" | "state.storage.fs.write-buffer-size" | "state.backend.fs.write-buffer-size", 4096, write_buffer_bytes,
        "Bytes of the buffer before a checkpoint's stream; files are written in parts of several mb here, so this is only checked.";
    PARALLELISM: u16 = "parallelism.default", 1, parallelism,
        "Number of workers.";
    MAX_PARALLELISM: Option<u16> = "pipeline.max-parallelism", None, max_parallelism,
        "Number of key groups, the upper bound of the parallelism for the life of the job; -1 derives it from the parallelism.";
    JOB_NAME: Option<String> = "pipeline.name", None, some_text,
        "The job's name, by which --resume finds its checkpoints.";
    RUNTIME_MODE: () = "execution.runtime-mode", (), runtime_mode,
        "STREAMING or AUTOMATIC; every job runs as a streaming job.";
    ASYNC_STATE: bool = "table.exec.async-state.enabled", true, value::boolean,
        "SQL operators overlap reads of cold state. Flink's default is false; here a hot read is synchronous in any case.";
    ASYNC_TOTAL_BUFFER: usize = "execution.async-state.total-buffer-size", 6000, buffer_size,
        "Records in flight in one asynchronous operator at most. Timers and work that records start may go beyond it.";
    ASYNC_ACTIVE_BUFFER: usize = "execution.async-state.active-buffer-size", 1000, buffer_size,
        "Cold reads that an asynchronous operator gathers at most before it sends them together. It sends fewer as soon as it has nothing else to do.";
    ASYNC_ACTIVE_TIMEOUT: Duration = "execution.async-state.active-buffer-timeout", Duration::from_millis(1000), value::duration,
        "How long a busy operator gathers cold reads at most; an idle one never waits.";
    MINI_BATCH_ENABLED: bool = "table.exec.mini-batch.enabled", false, value::boolean,
        "Emit one change per key and batch instead of one per row.";
    MINI_BATCH_LATENCY: Duration = "table.exec.mini-batch.allow-latency", Duration::ZERO, value::duration,
        "How long rows may be gathered; must be above zero when mini-batch is enabled.";
    MINI_BATCH_SIZE: i64 = "table.exec.mini-batch.size", -1, value::integer,
        "How many rows may be gathered; must be above zero when mini-batch is enabled.";
    STATE_TTL: () = "table.exec.state.ttl", (), state_ttl,
        "How long idle state is kept; only 0 (for ever) in this build.";
    TIME_ZONE: () = "table.local-time-zone", (), time_zone,
        "The session's time zone; only UTC in this build.";
    BLOCK_SIZE: MemorySize = "state.backend.forst.block.blocksize", MemorySize(8 << 10), block_size,
        "Uncompressed bytes of a data block. Flink's default is 4 kb.";
    BLOCK_CACHE: MemorySize = "state.backend.forst.block.cache-size", MemorySize(256 << 20), value::memory_size,
        "Memory for blocks of state files, shared by all workers of the process. Flink's default is 8 mb per operator.";
    WRITE_BUFFER: MemorySize = "state.backend.forst.writebuffer.size", MemorySize(64 << 20), write_buffer,
        "Changed state that a worker holds in memory before it writes a file between checkpoints.";
    BLOOM_BITS: u32 = "state.backend.forst.bloom-filter.bits-per-key", 10, bloom_bits,
        "Bits per key of the filters of state files.";
    BLOOM_FILTER: bool = "state.backend.forst.use-bloom-filter", true, value::boolean,
        "Whether new state files have filters. Flink's default is false.";
    TARGET_FILE_SIZE: MemorySize = "state.backend.forst.compaction.level.target-file-size-base", MemorySize(64 << 20), target_file_size,
        "Size of the files that compaction writes.";
    REMOTE_COMPACTION: bool = "state.backend.forst.compaction.remote.enabled", false, value::boolean,
        "Ours: leave large compactions to processes of `aquifer compactor`; workers do what nobody takes.";
    REMOTE_COMPACTION_WAIT: Duration = "state.backend.forst.compaction.remote.claim-timeout", Duration::from_secs(10), value::duration,
        "Ours: a compaction that no compactor has taken after this is done by the worker.";
    REMOTE_COMPACTION_LEASE: Duration = "state.backend.forst.compaction.remote.lease", Duration::from_secs(30), lease,
        "Ours: a compactor that has shown no life for this long has lost its compaction.";
    REMOTE_COMPACTION_SIZE: MemorySize = "state.backend.forst.compaction.remote.min-size", MemorySize(64 << 20), value::memory_size,
        "Ours: compactions that read less are done by the worker.";
    PRIMARY_DIR: PrimaryDir = "state.backend.forst.primary-dir", PrimaryDir::CheckpointDir, primary_dir,
        "Where workers keep state files: checkpoint-dir (a checkpoint then copies nothing), local-dir, or a directory or URI; from elsewhere new files are copied at each checkpoint.";
    LOCAL_DIR: Option<String> = "state.backend.forst.local-dir", None, some_text,
        "The local directory that primary-dir = local-dir means and below which the file cache lies; by default a directory of the user's data directory.";
    ENFORCE_LOCAL: bool = "state.backend.forst.sync.enforce-local", true, value::boolean,
        "With asynchronous state switched off and checkpoints on a remote store, behave as if primary-dir were local-dir, so that blocking reads of new state stay local.";
    COMPRESSION: Vec<Compression> = "state.backend.forst.compression.per.level", Vec::new(), compression,
        "Compression of new files by level, from level 0 on; the last holds for all deeper ones: NO_COMPRESSION, LZ4_COMPRESSION or ZSTD_COMPRESSION (others are taken as the nearest of these). By default LZ4 everywhere; Flink's is SNAPPY.";
    VALUE_ASIDE: MemorySize = "state.backend.forst.value-aside-size", MemorySize(4 << 10), value::memory_size,
        "Ours: values longer than this lie beside the blocks of their file, so that compactions copy them unopened.";
    METADATA_BLOCK: MemorySize = "state.backend.forst.block.metadata-blocksize", MemorySize(4 << 10), value::memory_size,
        "Size of index partitions and filter pages; fixed at 4 kb here, so this is only checked.";
    PARTITIONED: bool = "state.backend.forst.memory.partitioned-index-filters", true, value::boolean,
        "Indexes and filters are always in pages, and whole in memory as long as there is room; so this is only checked.";
    HIGH_PRIORITY: f64 = "state.backend.forst.memory.high-prio-pool-ratio", 0.1, share,
        "Indexes and filters may always take half of the block cache before blocks do; so this is only checked.";
    INLINE_COORDINATOR: bool = "state.backend.forst.executor.inline-coordinator", false, value::boolean,
        "Cold reads are always gathered on the worker's thread. True: it also plans them and sends their first requests, if the store is remote; false: other threads do.";
    WRITE_BUFFERS: usize = "state.backend.forst.writebuffer.count", 2, threads,
        "Writes slow down when one and a quarter write buffers wait to be written and stop at two and a quarter; so this is only checked.";
    LEVEL_BASE: MemorySize = "state.backend.forst.compaction.level.max-size-level-base", MemorySize(256 << 20), level_base,
        "Bytes of the first level below level 0; each deeper one holds ten times as many.";
    DYNAMIC_LEVELS: bool = "state.backend.forst.compaction.level.use-dynamic-size", true, value::boolean,
        "The deepest level decides the sizes of the others, so that few levels are in use and little space is wasted. Flink's default is false.";
    COMPACTION_STYLE: () = "state.backend.forst.compaction.style", (), compaction_style,
        "Only LEVEL.";
    PERIODIC_COMPACTION: Duration = "state.backend.forst.compaction.filter.periodic-compaction-time", Duration::from_secs(30 * 24 * 3600), value::duration,
        "Files whose rows are older than this are rewritten if their tables have a TTL, so that expired rows do not stay where nothing else happens; 0 switches it off.";
    COMPACTION_RATE: MemorySize = "state.backend.forst.compaction.rate-limit", MemorySize(0), value::memory_size,
        "Ours: bytes a second that compactions of the process write at most; 0 is no limit.";
    BACKGROUND_THREADS: usize = "state.backend.forst.thread.num", 2, threads,
        "Threads of the process that compact, and as many that write memtables (see inline-write). In Flink they are per operator.";
    READ_IO_PARALLELISM: usize = "state.backend.forst.executor.read-io-parallelism", 3, threads,
        "Threads of a worker that read and decode cold blocks of local files at the same time. Requests to a remote store are not bound to threads.";
    INLINE_WRITE: bool = "state.backend.forst.executor.inline-write", true, value::boolean,
        "Writes to memtables always happen on the worker's thread. True: files are built from memtables by thread.num threads; false: by write-io-parallelism threads.";
    WRITE_IO_PARALLELISM: usize = "state.backend.forst.executor.write-io-parallelism", 1, threads,
        "With inline-write = false: threads of the process that build files from memtables.";
    CACHE_DIR: Option<String> = "state.backend.forst.cache.dir", None, some_text,
        "Where files of a remote store are kept on the local disk; by default the directory cache in local-dir.";
    CACHE_LIMIT: MemorySize = "state.backend.forst.cache.size-based-limit", MemorySize(0), value::memory_size,
        "Bytes that the file cache of the process takes at most; 0 is no limit of its own. In Flink the limit is per operator.";
    CACHE_RESERVE: MemorySize = "state.backend.forst.cache.reserve-size", MemorySize(256 << 20), value::memory_size,
        "Bytes of the disk that the file cache leaves free. With both limits 0 there is no file cache.";
    CACHE_PROMOTE: u32 = "state.backend.forst.cache.lru.access-before-promote", 6, small_count,
        "Reads of a piece (1 MiB) that is not in the file cache before it is fetched whole, and reads of a file before it counts as young again.";
    CACHE_WARM_RATE: MemorySize = "state.backend.forst.cache.warm-up-rate", MemorySize(32 << 20), value::memory_size,
        "Ours: bytes a second that are fetched into the file cache after a restore, of what was read most before; 0 switches it off.";
    REQUEST_TIMEOUT: Duration = "state.backend.forst.io.request-timeout", Duration::from_secs(30), request_timeout,
        "Ours: a request to the object store that is not answered for so long is given up and made again; its outcome counts as unknown.";
    HEDGED_READS: Hedge = "state.backend.forst.io.hedged-reads", Hedge::Off, hedged_reads,
        "Ours: off, auto, or a duration after which a read that has no answer is asked a second time; the first answer counts. auto waits as long as 99 of 100 recent reads took.";
    MANAGED_MEMORY: bool = "state.backend.forst.memory.managed", true, value::boolean,
        "Divide taskmanager.memory.managed.size, if that is given, over memtables and block cache.";
    MANAGED_SIZE: Option<MemorySize> = "taskmanager.memory.managed.size", None, memory_budget,
        "Memory for state of all workers of the process; without it writebuffer.size and block.cache-size hold.";
    FIXED_PER_SLOT: Option<MemorySize> = "state.backend.forst.memory.fixed-per-slot", None, memory_budget,
        "Memory for state per worker; overrides memory.managed.";
    FIXED_PER_TM: Option<MemorySize> = "state.backend.forst.memory.fixed-per-tm", None, memory_budget,
        "Memory for state of all workers of the process, if neither memory.managed nor memory.fixed-per-slot decides.";
    WRITE_BUFFER_RATIO: f64 = "state.backend.forst.memory.write-buffer-ratio", 0.5, ratio,
        "Of such a budget this share, times two thirds, goes to memtables and the rest to the block cache, as in Flink.";
    S3_ENDPOINT: Option<String> = "s3.endpoint", None, some_text,
        "URL of an S3 service other than AWS; also AWS_ENDPOINT_URL of the environment.";
    S3_ACCESS_KEY: Option<String> = "s3.access-key" | "s3.access.key", None, some_text,
        "Access key of S3; better given as AWS_ACCESS_KEY_ID of the environment.";
    S3_SECRET_KEY: Option<String> = "s3.secret-key" | "s3.secret.key", None, some_text,
        "Secret key of S3; better given as AWS_SECRET_ACCESS_KEY of the environment.";
    S3_REGION: Option<String> = "s3.region" | "s3.endpoint.region", None, some_text,
        "Region of S3; also AWS_REGION of the environment.";
    S3_PATH_STYLE: Option<bool> = "s3.path.style.access" | "s3.path-style-access", None, |text| value::boolean(text).map(Some),
        "Address buckets as paths of the endpoint; the default is true with an endpoint and false without.";
}

/// Every option, with those of `rocksdb`.
pub(super) fn all() -> impl Iterator<Item = &'static dyn AnyOption> {
    ALL.iter().chain(super::rocksdb::ALL).copied()
}

/// Key and meaning of every option, for help texts.
pub fn described() -> impl Iterator<Item = (&'static str, &'static str)> {
    all().map(|option| (option.key(), option.doc()))
}

/// Flink's rule for a budget: what memtables may take of the cache, and what is for indexes and filters, must leave some of it to data.
pub(super) fn check_shares(writes: (&str, f64), high: (&str, f64)) -> Result<(), ConfigError> {
    let of_cache = 2.0 * writes.1 / (3.0 - writes.1);
    if of_cache + high.1 < 1.0 {
        return Ok(());
    }
    Err(ConfigError::new(format!(
        "{}: '{}' is {of_cache:.2} of the cache, expected less than 1 together with {} = {}",
        writes.0, writes.1, high.0, high.1
    )))
}

pub(super) fn some_text(text: &str) -> Result<Option<String>, String> {
    match text.trim() {
        "" => Err("a text that is not empty".to_owned()),
        text => Ok(Some(text.to_owned())),
    }
}

fn checkpoint_interval(text: &str) -> Result<Option<Duration>, String> {
    let interval = value::duration(text)?;
    if interval < Duration::from_millis(10) {
        return Err("at least 10 ms".to_owned());
    }
    Ok(Some(interval))
}

fn checkpoint_timeout(text: &str) -> Result<Duration, String> {
    let timeout = value::duration(text)?;
    if timeout < Duration::from_millis(10) {
        return Err("at least 10 ms".to_owned());
    }
    Ok(timeout)
}

fn lease(text: &str) -> Result<Duration, String> {
    let lease = value::duration(text)?;
    if lease < Duration::from_millis(100) || lease > Duration::from_secs(3600) {
        return Err("from 100 ms to 1 h".to_owned());
    }
    Ok(lease)
}

fn checkpoint_mode(text: &str) -> Result<(), String> {
    match enumerated(text).as_str() {
        "exactly_once" | "at_least_once" => Ok(()),
        _ => Err("EXACTLY_ONCE or AT_LEAST_ONCE".to_owned()),
    }
}

fn num_retained(text: &str) -> Result<usize, String> {
    bounded(text, 1, 10_000).map(|n| n as usize)
}

fn retention(text: &str) -> Result<Retention, String> {
    match enumerated(text).as_str() {
        "no_externalized_checkpoints" => Ok(Retention::None),
        "delete_on_cancellation" => Ok(Retention::DeleteOnCancellation),
        "retain_on_cancellation" => Ok(Retention::RetainOnCancellation),
        _ => Err(
            "NO_EXTERNALIZED_CHECKPOINTS, DELETE_ON_CANCELLATION or RETAIN_ON_CANCELLATION"
                .to_owned(),
        ),
    }
}

fn claim_mode(text: &str) -> Result<ClaimMode, String> {
    match enumerated(text).as_str() {
        "no_claim" => Ok(ClaimMode::NoClaim),
        "claim" => Ok(ClaimMode::Claim),
        "legacy" => Err("NO_CLAIM or CLAIM (LEGACY was removed from Flink 2.0)".to_owned()),
        _ => Err("NO_CLAIM or CLAIM".to_owned()),
    }
}

fn state_backend(text: &str) -> Result<BackendKind, String> {
    const NAMES: [&str; 5] = ["hashmap", "rocksdb", "forst", "jobmanager", "filesystem"];
    text.parse().map_err(|_| {
        let expected = "hashmap, rocksdb or forst (or an old name, jobmanager or filesystem)";
        match nearest_of(&NAMES, &enumerated(text)) {
            Some(known) => format!("{expected}; did you mean {known}?"),
            None => expected.to_owned(),
        }
    })
}

fn storage(text: &str) -> Result<Option<StorageKind>, String> {
    match text.parse() {
        Ok(kind) => Ok(Some(kind)),
        Err(_) => Err("jobmanager or filesystem".to_owned()),
    }
}

fn inline_threshold(text: &str) -> Result<MemorySize, String> {
    let most = MemorySize(SnapshotStorage::INLINE_BYTES_LIMIT);
    sized(text, MemorySize(0), most, "of at most 1 mb")
}

fn positive_size(text: &str) -> Result<MemorySize, String> {
    sized(
        text,
        MemorySize(1),
        MemorySize(1 << 40),
        "from 1 byte to 1 tb",
    )
}

fn write_buffer_bytes(text: &str) -> Result<i64, String> {
    bounded(text, 1, i64::from(i32::MAX))
}

fn parallelism(text: &str) -> Result<u16, String> {
    // The largest number of key groups, hence of workers.
    bounded(text, 1, 32_768).map(|n| n as u16)
}

fn max_parallelism(text: &str) -> Result<Option<u16>, String> {
    match value::integer(text) {
        Ok(-1) => Ok(None),
        Ok(n @ 1..=32_768) => Ok(Some(n as u16)),
        _ => Err("a whole number from 1 to 32768, or -1".to_owned()),
    }
}

fn runtime_mode(text: &str) -> Result<(), String> {
    match enumerated(text).as_str() {
        "streaming" | "automatic" => Ok(()),
        "batch" => Err("STREAMING (this build has no batch mode)".to_owned()),
        _ => Err("STREAMING".to_owned()),
    }
}

fn buffer_size(text: &str) -> Result<usize, String> {
    bounded(text, 1, 10_000_000).map(|n| n as usize)
}

fn state_ttl(text: &str) -> Result<(), String> {
    match value::duration(text)? {
        Duration::ZERO => Ok(()),
        _ => Err("0 (this build keeps state for ever)".to_owned()),
    }
}

fn time_zone(text: &str) -> Result<(), String> {
    match text.trim().to_ascii_lowercase().as_str() {
        "default" | "utc" | "z" | "etc/utc" | "gmt" | "gmt+00:00" | "utc+00:00" | "+00:00" => {
            Ok(())
        }
        _ => Err("UTC (this build has no other session time zone)".to_owned()),
    }
}

fn block_size(text: &str) -> Result<MemorySize, String> {
    sized(
        text,
        MemorySize(256),
        MemorySize(16 << 20),
        "from 256 bytes to 16 mb",
    )
}

fn write_buffer(text: &str) -> Result<MemorySize, String> {
    sized(
        text,
        MemorySize(64 << 10),
        MemorySize(64 << 30),
        "from 64 kb to 64 gb",
    )
}

pub(super) fn target_file_size(text: &str) -> Result<MemorySize, String> {
    sized(
        text,
        MemorySize(64 << 10),
        MemorySize(64 << 30),
        "from 64 kb to 64 gb",
    )
}

fn small_count(text: &str) -> Result<u32, String> {
    bounded(text, 1, 1_000_000).map(|n| n as u32)
}

fn request_timeout(text: &str) -> Result<Duration, String> {
    match value::duration(text)? {
        timeout if timeout >= Duration::from_millis(100) => Ok(timeout),
        _ => Err("at least 100 ms".to_owned()),
    }
}

fn hedged_reads(text: &str) -> Result<Hedge, String> {
    match enumerated(text).as_str() {
        "off" | "false" => Ok(Hedge::Off),
        "auto" | "true" => Ok(Hedge::AfterSlowest(Duration::from_millis(5))),
        _ => match value::duration(text) {
            Ok(after) if !after.is_zero() => Ok(Hedge::After(after)),
            _ => Err("off, auto, or a duration such as '50 ms'".to_owned()),
        },
    }
}

pub(super) fn compression(text: &str) -> Result<Vec<Compression>, String> {
    const EXPECTED: &str =
        "a list such as 'NO_COMPRESSION;LZ4_COMPRESSION;ZSTD_COMPRESSION', separated by semicolons";
    let one = |item: &String| match enumerated(item).as_str() {
        "no_compression" | "disable_compression_option" => Ok(Compression::None),
        "snappy_compression" | "lz4_compression" | "lz4hc_compression" | "xpress_compression" => {
            Ok(Compression::Lz4)
        }
        "zstd_compression" | "zlib_compression" | "bzlib2_compression" => Ok(Compression::Zstd),
        _ => Err(EXPECTED.to_owned()),
    };
    match value::list(text)? {
        items if items.is_empty() => Err(EXPECTED.to_owned()),
        items => items.iter().map(one).collect(),
    }
}

pub(super) fn share(text: &str) -> Result<f64, String> {
    match text.trim().parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("a number from 0 to 1".to_owned()),
    }
}

pub(super) fn level_base(text: &str) -> Result<MemorySize, String> {
    sized(
        text,
        MemorySize(64 << 10),
        MemorySize(1 << 40),
        "from 64 kb to 1 tb",
    )
}

pub(super) fn memory_budget(text: &str) -> Result<Option<MemorySize>, String> {
    sized(
        text,
        MemorySize(1 << 20),
        MemorySize(1 << 50),
        "from 1 mb to 1024 tb",
    )
    .map(Some)
}

fn compaction_style(text: &str) -> Result<(), String> {
    match enumerated(text).as_str() {
        "level" => Ok(()),
        _ => Err("LEVEL (there is no other style here)".to_owned()),
    }
}

pub(super) fn threads(text: &str) -> Result<usize, String> {
    bounded(text, 1, 1_024).map(|n| n as usize)
}

pub(super) fn ratio(text: &str) -> Result<f64, String> {
    match text.trim().parse::<f64>() {
        Ok(ratio) if ratio > 0.0 && ratio < 1.0 => Ok(ratio),
        _ => Err("a number between 0 and 1".to_owned()),
    }
}

fn bloom_bits(text: &str) -> Result<u32, String> {
    match text.trim().parse::<f64>() {
        // Rounded: the filter has whole bits per key.
        Ok(bits) if (0.0..=64.0).contains(&bits) => Ok(bits.round() as u32),
        _ => Err("a number from 0 to 64".to_owned()),
    }
}

fn primary_dir(text: &str) -> Result<PrimaryDir, String> {
    match text.trim() {
        "" => Err("checkpoint-dir, local-dir, or a directory or URI".to_owned()),
        "checkpoint-dir" => Ok(PrimaryDir::CheckpointDir),
        "local-dir" => Ok(PrimaryDir::LocalDir),
        uri => Ok(PrimaryDir::At(uri.to_owned())),
    }
}

/// The form in which names of enums are compared: lower case, `-` as `_`.
pub(super) fn enumerated(text: &str) -> String {
    text.trim().to_ascii_lowercase().replace('-', "_")
}

pub(super) fn bounded(text: &str, min: i64, max: i64) -> Result<i64, String> {
    match value::integer(text) {
        Ok(n) if (min..=max).contains(&n) => Ok(n),
        _ => Err(format!("a whole number from {min} to {max}")),
    }
}

pub(super) fn sized(
    text: &str,
    min: MemorySize,
    max: MemorySize,
    range: &str,
) -> Result<MemorySize, String> {
    let size = value::memory_size(text)?;
    if size < min || size > max {
        return Err(format!("a size {range}"));
    }
    Ok(size)
}
