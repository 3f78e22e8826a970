//! From a configuration to how a job is run.

use std::sync::Arc;
use std::time::Duration;

use aquifer_state::{BackendKind, SnapshotStorage, StorageKind, choose};
use aquifer_store::{BackgroundThreads, FileCacheOptions};

use super::options::{self, PrimaryDir, Retention};
use super::value::MemorySize;
use super::{ConfigError, Configuration};
use crate::job::{JobCounters, JobObserver, JobOptions, RestoreFrom};

/// What a job needs beside its configuration; given by the front door.
#[derive(Clone)]
pub struct JobSurroundings {
    /// The job's name: `pipeline.name`, or what the front door calls it.
    pub name: String,
    /// The checkpoint directory when `execution.checkpointing.dir` is not set; without either a job cannot be run.
    pub default_checkpoint_dir: Option<String>,
    /// `state.backend.forst.local-dir` when it is not set.
    pub default_local_dir: Option<String>,
    /// Go on from the newest checkpoint of the newest run of this job name.
    pub resume: bool,
    /// Identifies what the job computes.
    pub plan: String,
    /// Milliseconds since 1970.
    pub now_ms: Arc<dyn Fn() -> i64 + Send + Sync>,
    /// Counted up while the job runs.
    pub counters: Arc<JobCounters>,
    /// Told about progress.
    pub observer: Arc<dyn JobObserver>,
}

/// `table.exec.mini-batch.*` when it is enabled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MiniBatch {
    /// Rows may be gathered this long.
    pub allow_latency: Duration,
    /// This many rows may be gathered.
    pub size: usize,
}

/// Memtables that a worker may have at once while flushes are behind: one that is written to, and those of
/// `Store`'s hard limit.
const MEMTABLES_IN_MEMORY: f64 = 3.25;
/// However small the budget is, a memtable must be worth a file.
const MEMTABLE_BYTES_MIN: usize = 64 << 10;

/// Memory for state.
struct Memory {
    /// One memtable of one worker.
    memtable: u64,
    /// The block cache of the process.
    block_cache: u64,
}

impl Configuration {
    /// How a job with this configuration is run, or what in it does not fit together.
    pub fn job_options(&self, surroundings: JobSurroundings) -> Result<JobOptions, ConfigError> {
        self.mini_batch()?;
        let parallelism = self.get(&options::PARALLELISM);
        let max_parallelism = self.get(&options::MAX_PARALLELISM);
        if let Some(max) = max_parallelism.filter(|max| *max < parallelism) {
            return Err(ConfigError::new(format!(
                "{}: expected at most {} = {max}, found '{parallelism}'",
                options::PARALLELISM.key,
                options::MAX_PARALLELISM.key
            )));
        }
        let checkpoint_dir = self
            .get(&options::CHECKPOINT_DIR)
            .or(surroundings.default_checkpoint_dir);
        let (backend, storage) = self.backend_and_storage(checkpoint_dir.as_deref())?;
        let checkpoint_dir = match (checkpoint_dir, storage.kind()) {
            (Some(directory), _) => directory,
            // It ends with the process, as Flink's did.
            (None, StorageKind::JobManager) => "memory://aquifer".to_owned(),
            (None, StorageKind::FileSystem) => {
                return Err(ConfigError::new(format!(
                    "{}: expected a directory, because the system names no data directory for this user",
                    options::CHECKPOINT_DIR.key
                )));
            }
        };
        let local_dir = self
            .get(&options::LOCAL_DIR)
            .or(surroundings.default_local_dir);
        let primary_dir = self.primary_dir(backend, &checkpoint_dir, local_dir.as_deref())?;
        options::check_shares(
            (
                options::WRITE_BUFFER_RATIO.key,
                self.get(&options::WRITE_BUFFER_RATIO),
            ),
            (
                options::HIGH_PRIORITY.key,
                self.get(&options::HIGH_PRIORITY),
            ),
        )?;
        let memory = self.memory(parallelism);
        Ok(JobOptions {
            name: surroundings.name,
            parallelism,
            max_parallelism,
            checkpoint_dir,
            checkpoint_interval_ms: self.get(&options::CHECKPOINT_INTERVAL).map(whole_ms),
            checkpoint_min_pause_ms: whole_ms(self.get(&options::CHECKPOINT_MIN_PAUSE)),
            checkpoint_timeout_ms: whole_ms(self.get(&options::CHECKPOINT_TIMEOUT)),
            num_retained: self.get(&options::NUM_RETAINED),
            backend,
            storage,
            rocksdb: self.rocksdb_options(parallelism)?,
            async_state: self.get(&options::ASYNC_STATE),
            async_in_flight_max: self.get(&options::ASYNC_TOTAL_BUFFER),
            async_buffer_size: self.get(&options::ASYNC_ACTIVE_BUFFER),
            async_buffer_timeout_ms: whole_ms(self.get(&options::ASYNC_ACTIVE_TIMEOUT)),
            resume: surroundings.resume,
            restore: self.get(&options::RESTORE_PATH).map(|uri| RestoreFrom {
                uri,
                mode: self.get(&options::CLAIM_MODE),
            }),
            primary_dir,
            savepoints: None,
            savepoint_dir: self.get(&options::SAVEPOINT_DIR),
            ignore_unclaimed_state: self.get(&options::IGNORE_UNCLAIMED),
            allow_unsafe_commits: self.get(&options::ALLOW_UNSAFE_COMMITS),
            block_cache_bytes: memory.block_cache,
            file_cache: self.file_cache(backend, local_dir.as_deref()),
            background: self.background_threads(),
            compaction_bytes_per_second: self.get(&options::COMPACTION_RATE).0,
            retain_when_finished: self.get(&options::RETENTION) == Retention::RetainOnCancellation,
            remote_compaction: self.remote_compaction(),
            object_store: self.object_store_keys(),
            store: self.store_options(&memory),
            plan: surroundings.plan,
            now_ms: surroundings.now_ms,
            counters: surroundings.counters,
            observer: surroundings.observer,
        })
    }

    /// Which backend, and where its snapshots go: from the names of today and of old.
    fn backend_and_storage(
        &self,
        checkpoint_dir: Option<&str>,
    ) -> Result<(BackendKind, SnapshotStorage), ConfigError> {
        let (backend, storage, _) = choose(
            self.text(options::STATE_BACKEND.key),
            self.text(options::CHECKPOINT_STORAGE.key),
            checkpoint_dir,
        )
        .map_err(|error| ConfigError::new(error.to_string()))?;
        let asynchronous = self.get(&options::SNAPSHOT_ASYNC);
        let storage = match storage {
            StorageKind::JobManager => SnapshotStorage::JobManager {
                state_bytes_max: self.get(&options::MEMORY_STATE_MAX).0,
                total_bytes_max: self.get(&options::FRAME_SIZE).0,
                asynchronous,
            },
            StorageKind::FileSystem => SnapshotStorage::FileSystem {
                inline_bytes_max: self.get(&options::INLINE_THRESHOLD).0,
                asynchronous,
            },
        };
        Ok((backend, storage))
    }

    /// `state.backend.forst.compaction.remote.*`, or `None` when it is off.
    fn remote_compaction(&self) -> Option<aquifer_store::RemoteCompaction> {
        self.get(&options::REMOTE_COMPACTION)
            .then(|| aquifer_store::RemoteCompaction {
                claim_wait: self.get(&options::REMOTE_COMPACTION_WAIT),
                lease: self.get(&options::REMOTE_COMPACTION_LEASE),
                bytes_min: self.get(&options::REMOTE_COMPACTION_SIZE).0,
                ..aquifer_store::RemoteCompaction::new(object_store::path::Path::default())
            })
    }

    /// `table.exec.mini-batch.*`, or `None` when it is off.
    pub fn mini_batch(&self) -> Result<Option<MiniBatch>, ConfigError> {
        if !self.get(&options::MINI_BATCH_ENABLED) {
            return Ok(None);
        }
        let allow_latency = self.get(&options::MINI_BATCH_LATENCY);
        if allow_latency.is_zero() {
            return Err(required(
                "a duration above zero",
                options::MINI_BATCH_LATENCY.key,
            ));
        }
        let size = self.get(&options::MINI_BATCH_SIZE);
        match usize::try_from(size) {
            Ok(size) if size > 0 => Ok(Some(MiniBatch {
                allow_latency,
                size,
            })),
            _ => Err(required(
                "a number above zero",
                options::MINI_BATCH_SIZE.key,
            )),
        }
    }

    /// Where workers keep their files, if not beside the checkpoints.
    fn primary_dir(
        &self,
        backend: BackendKind,
        checkpoint_dir: &str,
        local_dir: Option<&str>,
    ) -> Result<Option<String>, ConfigError> {
        let is_forst = backend == BackendKind::Forst;
        let below = |local_dir: &str| format!("{}/primary", local_dir.trim_end_matches('/'));
        match self.get(&options::PRIMARY_DIR) {
            _ if !is_forst => Ok(None),
            PrimaryDir::At(uri) => Ok(Some(uri)),
            PrimaryDir::LocalDir => match local_dir {
                Some(local_dir) => Ok(Some(below(local_dir))),
                None => Err(ConfigError::new(format!(
                    "{}: expected a directory, because {} is local-dir and the system names no data directory for this user",
                    options::LOCAL_DIR.key,
                    options::PRIMARY_DIR.key
                ))),
            },
            PrimaryDir::CheckpointDir => {
                let waits = !self.get(&options::ASYNC_STATE) && self.get(&options::ENFORCE_LOCAL);
                Ok(local_dir
                    .filter(|_| waits && is_remote(checkpoint_dir))
                    .map(below))
            }
        }
    }

    /// The cache on the local disk, which Flink has, too, unless both limits are 0.
    fn file_cache(
        &self,
        backend: BackendKind,
        local_dir: Option<&str>,
    ) -> Option<FileCacheOptions> {
        let is_forst = backend == BackendKind::Forst;
        let size_limit_bytes = self.get(&options::CACHE_LIMIT).0;
        let reserve_bytes = self.get(&options::CACHE_RESERVE).0;
        let below = |local_dir: &str| format!("{}/cache", local_dir.trim_end_matches('/'));
        let directory = self.get(&options::CACHE_DIR).or(local_dir.map(below))?;
        let wanted = is_forst && (size_limit_bytes > 0 || reserve_bytes > 0);
        wanted.then(|| FileCacheOptions {
            directory: directory.into(),
            job: String::new(),
            size_limit_bytes,
            reserve_bytes,
            access_before_promote: self.get(&options::CACHE_PROMOTE),
        })
    }

    /// Who builds files and who merges them.
    fn background_threads(&self) -> BackgroundThreads {
        let compaction = self.get(&options::BACKGROUND_THREADS);
        BackgroundThreads {
            flush: match self.get(&options::INLINE_WRITE) {
                true => compaction,
                false => self.get(&options::WRITE_IO_PARALLELISM),
            },
            compaction,
        }
    }

    /// How much memory state may take.
    fn memory(&self, workers: u16) -> Memory {
        let workers = u64::from(workers.max(1));
        let managed = self
            .get(&options::MANAGED_SIZE)
            .filter(|_| self.get(&options::MANAGED_MEMORY));
        let budget = match self.get(&options::FIXED_PER_SLOT) {
            Some(each) => Some(each.0.saturating_mul(workers)),
            None => managed
                .or(self.get(&options::FIXED_PER_TM))
                .map(|all| all.0),
        };
        let Some(budget) = budget else {
            return Memory {
                memtable: self.get(&options::WRITE_BUFFER).0,
                block_cache: self.get(&options::BLOCK_CACHE).0,
            };
        };
        let ratio = self.get(&options::WRITE_BUFFER_RATIO);
        let memtables = (budget as f64 * ratio * 2.0 / 3.0) as u64;
        Memory {
            memtable: ((memtables / workers) as f64 / MEMTABLES_IN_MEMORY) as u64,
            block_cache: budget - memtables,
        }
    }

    #[allow(
        clippy::needless_update,
        reason = "options without a key keep their defaults"
    )]
    fn store_options(&self, memory: &Memory) -> aquifer_store::StoreOptions {
        let bytes = |size: MemorySize| usize::try_from(size.0).unwrap_or(usize::MAX);
        let filters = self.get(&options::BLOOM_FILTER);
        let defaults = aquifer_store::StoreOptions::default();
        aquifer_store::StoreOptions {
            block_bytes: bytes(self.get(&options::BLOCK_SIZE)),
            memtable_bytes_max: bytes(MemorySize(memory.memtable)).max(MEMTABLE_BYTES_MIN),
            compression: match self.get(&options::COMPRESSION) {
                levels if levels.is_empty() => defaults.compression,
                levels => levels,
            },
            value_aside_bytes: bytes(self.get(&options::VALUE_ASIDE)),
            level_bytes_base: self.get(&options::LEVEL_BASE).0,
            dynamic_levels: self.get(&options::DYNAMIC_LEVELS),
            periodic_compaction_ms: match self.get(&options::PERIODIC_COMPACTION) {
                Duration::ZERO => None,
                age => Some(whole_ms(age)),
            },
            read_io_parallelism: self.get(&options::READ_IO_PARALLELISM),
            plan_inline: self.get(&options::INLINE_COORDINATOR),
            warm_bytes_per_second: self.get(&options::CACHE_WARM_RATE).0,
            io: aquifer_store::IoOptions {
                request_timeout: self.get(&options::REQUEST_TIMEOUT),
                hedge: self.get(&options::HEDGED_READS),
                ..Default::default()
            },
            l0_files_max: 4,
            file_bytes_target: self.get(&options::TARGET_FILE_SIZE).0,
            filter_bits_per_key: if filters {
                self.get(&options::BLOOM_BITS)
            } else {
                0
            },
            ..Default::default()
        }
    }
}

/// Whether a directory is reached over a network.
fn is_remote(uri: &str) -> bool {
    uri.contains("://")
        && !["file:", "memory:"]
            .iter()
            .any(|scheme| uri.starts_with(scheme))
}

fn required(expected: &str, key: &str) -> ConfigError {
    ConfigError::new(format!(
        "{key}: expected {expected}, because {} is true",
        options::MINI_BATCH_ENABLED.key
    ))
}

fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
