//! Options of the `rocksdb` backend: plain data, which is there in a build without RocksDB, too.
//!
//! Defaults are Flink's, except where a field says otherwise.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use aquifer_store::Compression;

/// Options of the `rocksdb` backend (`state.backend.rocksdb.*`).
#[derive(Clone, Debug, PartialEq)]
pub struct RocksdbOptions {
    /// `localdir`: where databases lie while the job runs; workers take turns. Empty: the system's directory for temporary files.
    pub local_directories: Vec<PathBuf>,
    /// `execution.checkpointing.incremental`: a checkpoint uploads only files that the last completed one does not have.
    pub incremental: bool,
    /// What the workers of a process share: memory, and whose turn it is. Clones share it.
    pub shared: RocksdbShared,
    /// `writebuffer.size`: bytes of a memtable.
    pub write_buffer_bytes: usize,
    /// `writebuffer.count`: memtables of a table at most.
    pub write_buffers: u32,
    /// `writebuffer.number-to-merge`: memtables that are written together.
    pub write_buffers_to_merge: u32,
    /// `write-batch-size`: bytes that a restore writes at once.
    pub write_batch_bytes: usize,
    /// `block.blocksize`: bytes of a data block.
    pub block_bytes: usize,
    /// `block.metadata-blocksize`: bytes of a block of a partitioned index.
    pub metadata_block_bytes: usize,
    /// `block.cache-size`: of each database, if there is no budget.
    pub block_cache_bytes: usize,
    /// `memory.partitioned-index-filters`.
    pub partitioned_index_filters: bool,
    /// `bloom-filter.bits-per-key`, if `use-bloom-filter`.
    pub bloom_bits_per_key: Option<f64>,
    /// `compaction.style`.
    pub compaction_style: RocksdbCompactionStyle,
    /// `compaction.level.max-size-level-base`.
    pub level_bytes_base: u64,
    /// `compaction.level.target-file-size-base`.
    pub file_bytes_target: u64,
    /// `compaction.level.use-dynamic-size`. Flink's default is false; RocksDB's own is true, because it wastes less space.
    pub dynamic_levels: bool,
    /// `compression.per.level`, the last for all deeper levels. Flink's default is Snappy, which is not built in.
    pub compression: Vec<Compression>,
    /// `thread.num`: flushes and compactions at the same time. RocksDB's threads are the process's: the most that any of its databases asks
    /// for counts, for all of them together.
    pub background_jobs: u32,
    /// `files.open`: files of a database that are open at most.
    pub open_files_max: Option<u32>,
    /// `checkpoint.transfer.thread.num`: files that are uploaded or downloaded at the same time.
    pub transfers: usize,
    /// `restore-overlap-fraction-threshold`: a restored database becomes the new one only if so large a part of it is wanted.
    pub overlap_fraction_min: f64,
    /// `rescaling.use-delete-files-in-range`: files without a wanted key are dropped whole at a restore.
    pub delete_files_in_range: bool,
    /// `compaction.filter.query-time-after-num-entries`: rows after which a compaction asks the clock again.
    pub query_time_after_entries: u64,
    /// `compaction.filter.periodic-compaction-time`, in seconds: files of tables with a TTL that are older are rewritten; 0: never.
    pub periodic_compaction_seconds: u64,
    /// `log.*`.
    pub log: RocksdbLog,
}

/// `state.backend.rocksdb.log.*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RocksdbLog {
    /// `log.dir`; by default beside the files of the database.
    pub directory: Option<PathBuf>,
    /// `log.level`.
    pub level: RocksdbLogLevel,
    /// `log.file-num`.
    pub files: usize,
    /// `log.max-file-size`; 0: one file.
    pub file_bytes_max: usize,
}

/// What RocksDB writes into its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RocksdbLogLevel {
    /// Everything.
    Debug,
    /// What happens.
    Info,
    /// What might be wrong.
    Warn,
    /// What is wrong.
    Error,
    /// What it dies of.
    Fatal,
    /// Headers only.
    Header,
}

/// How RocksDB merges files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RocksdbCompactionStyle {
    /// Levels, each ten times as large as the one before.
    Level,
    /// Sorted runs of like size.
    Universal,
    /// Not at all.
    None,
}

impl Default for RocksdbOptions {
    fn default() -> Self {
        Self {
            local_directories: Vec::new(),
            incremental: false,
            shared: RocksdbShared::default(),
            write_buffer_bytes: 64 << 20,
            write_buffers: 2,
            write_buffers_to_merge: 1,
            write_batch_bytes: 2 << 20,
            block_bytes: 4 << 10,
            metadata_block_bytes: 4 << 10,
            block_cache_bytes: 8 << 20,
            partitioned_index_filters: false,
            bloom_bits_per_key: None,
            compaction_style: RocksdbCompactionStyle::Level,
            level_bytes_base: 256 << 20,
            file_bytes_target: 64 << 20,
            dynamic_levels: true,
            compression: vec![Compression::Lz4],
            background_jobs: 2,
            open_files_max: None,
            transfers: 4,
            overlap_fraction_min: 0.0,
            delete_files_in_range: false,
            query_time_after_entries: 1000,
            periodic_compaction_seconds: 30 * 24 * 3600,
            log: RocksdbLog {
                directory: None,
                level: RocksdbLogLevel::Info,
                files: 4,
                file_bytes_max: 25 << 20,
            },
        }
    }
}

/// How a budget is divided, by Flink's formulas.
///
/// Memtables may come to one and a half times of what their manager was told before it makes them smaller, so it is told two thirds of
/// their share; the cache gets all of the budget but the part by which they may exceed it, for the memtables are counted in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryBudget {
    /// The capacity of the cache, in which memtables are counted.
    pub cache_bytes: usize,
    /// What all memtables together may take, softly.
    pub write_buffer_bytes: usize,
}

impl MemoryBudget {
    /// Divides `total_bytes`; `write_buffer_ratio` (0 to 1) is the share of the memtables.
    pub fn new(total_bytes: u64, write_buffer_ratio: f64) -> Self {
        let (total, ratio) = (total_bytes as f64, write_buffer_ratio.clamp(0.0, 1.0));
        Self {
            cache_bytes: ((3.0 - ratio) * total / 3.0) as usize,
            write_buffer_bytes: (2.0 * total * ratio / 3.0) as usize,
        }
    }
}

/// What the databases of all workers of a process share. Clones are the same.
#[derive(Clone, Default)]
pub struct RocksdbShared {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    budget: Option<MemoryBudget>,
    /// Directories handed out so far.
    turn: AtomicUsize,
    #[cfg(feature = "rocksdb")]
    pools: std::sync::OnceLock<super::memory::Pools>,
}

impl RocksdbShared {
    /// Memory for all databases together; without a budget each has a cache and memtables of its own.
    pub fn new(budget: Option<MemoryBudget>) -> Self {
        Self {
            inner: Arc::new(Inner {
                budget,
                ..Inner::default()
            }),
        }
    }

    /// The budget, if there is one.
    pub fn budget(&self) -> Option<MemoryBudget> {
        self.inner.budget
    }

    /// Bytes of the memtables and bytes of the cache that are in use, the former included in the latter; None without a budget or before
    /// the first database.
    pub fn usage(&self) -> Option<(usize, usize)> {
        #[cfg(feature = "rocksdb")]
        return self.inner.pools.get().map(super::memory::Pools::usage);
        #[cfg(not(feature = "rocksdb"))]
        None
    }

    /// Whose turn it is, counted from 0.
    #[cfg(feature = "rocksdb")]
    pub(super) fn next_turn(&self) -> usize {
        let turn = &self.inner.turn;
        turn.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
    }

    /// The memory, made when it is first asked for.
    #[cfg(feature = "rocksdb")]
    pub(super) fn pools(&self) -> Option<&super::memory::Pools> {
        let budget = self.inner.budget?;
        let make = || super::memory::Pools::new(budget);
        Some(self.inner.pools.get_or_init(make))
    }
}

impl fmt::Debug for RocksdbShared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RocksdbShared")
            .field("budget", &self.inner.budget)
            .field("turn", &self.inner.turn)
            .finish_non_exhaustive()
    }
}

/// Equal if they divide memory alike.
impl PartialEq for RocksdbShared {
    fn eq(&self, other: &Self) -> bool {
        self.budget() == other.budget()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Flink's own numbers.
    #[test]
    fn a_budget_is_divided_as_in_flink() {
        let divided = |total, ratio| {
            let budget = MemoryBudget::new(total, ratio);
            (budget.cache_bytes, budget.write_buffer_bytes)
        };
        assert_eq!(divided(100, 0.4), (86, 26));
        assert_eq!(divided(512 << 20, 0.5), (447_392_426, 178_956_970));
        assert_eq!(divided(300, 0.0), (300, 0));
        assert_eq!(divided(300, 1.0), (200, 200));
        assert_eq!(divided(300, 7.0), divided(300, 1.0));
    }

    #[test]
    fn clones_take_turns() {
        let options = RocksdbOptions::default();
        assert_eq!(options, options.clone());
        assert_eq!(options.shared.usage(), None);
        #[cfg(feature = "rocksdb")]
        {
            let other = options.clone();
            let turns = [&options, &other, &options].map(|o| o.shared.next_turn());
            assert_eq!(turns, [0, 1, 2]);
        }
    }
}
