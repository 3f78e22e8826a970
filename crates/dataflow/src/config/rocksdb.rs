//! The keys of the `rocksdb` backend: Flink's names, types and units.
//!
//! They are known in every build, so that a configuration is checked alike with and without the backend. Keys of Flink's about metrics, about
//! manual compactions and about a factory class in Java mean nothing here. What a key decides is on the field of [`RocksdbOptions`] that
//! it sets.

use std::path::PathBuf;
use std::time::Duration;

use aquifer_state::{
    MemoryBudget, RocksdbCompactionStyle, RocksdbLog, RocksdbLogLevel, RocksdbOptions,
    RocksdbShared,
};
use aquifer_store::Compression;

use super::option::AnyOption;
use super::options::{
    self, bounded, compression, enumerated, level_base, memory_budget, options, ratio, share,
    sized, target_file_size, threads,
};
use super::value::{self, MemorySize};
use super::{ConfigError, ConfigOption, Configuration};

/// Memory for state of the process, where it is managed and nobody says how much there is. In Flink it is a share of the process.
const MANAGED_BYTES_DEFAULT: u64 = 512 << 20;
/// Transfers where the number is left to the process.
const TRANSFERS_DEFAULT: usize = 4;

/// Sets of options that Flink's people have tried. A key that is given outweighs them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Predefined {
    /// RocksDB's and Flink's defaults.
    Default,
    /// For disks that turn.
    SpinningDisk,
    /// For disks that turn, with more memory.
    SpinningDiskHighMemory,
    /// For flash.
    FlashSsd,
}

options! {
    INCREMENTAL: bool = "execution.checkpointing.incremental" | "state.backend.incremental", false, value::boolean,
        "A checkpoint of rocksdb uploads only files that the last one does not have, and only rocksdb restores it fast. Checkpoints of forst always are, those of hashmap never.";
    LOCAL_DIRS: Vec<PathBuf> = "state.backend.rocksdb.localdir", Vec::new(), local_directories,
        "Local directories for databases, a list or separated by commas, colons or semicolons, which workers take in turn; by default the system's directory for temporary files.";
    MANAGED_MEMORY: bool = "state.backend.rocksdb.memory.managed", true, value::boolean,
        "All databases of the process share taskmanager.memory.managed.size, or 512 mb where that is not given; false: each has caches and memtables of its own.";
    FIXED_PER_SLOT: Option<MemorySize> = "state.backend.rocksdb.memory.fixed-per-slot", None, memory_budget,
        "Memory for state per worker; overrides memory.managed.";
    FIXED_PER_TM: Option<MemorySize> = "state.backend.rocksdb.memory.fixed-per-tm", None, memory_budget,
        "Memory for state of all workers of the process, if neither memory.managed nor memory.fixed-per-slot decides.";
    WRITE_BUFFER_RATIO: f64 = "state.backend.rocksdb.memory.write-buffer-ratio", 0.5, ratio,
        "The share of memtables in such a budget.";
    HIGH_PRIORITY: f64 = "state.backend.rocksdb.memory.high-prio-pool-ratio", 0.1, share,
        "The share of indexes and filters in the cache. It is checked, and is RocksDB's own (0.5) all the same.";
    PARTITIONED: bool = "state.backend.rocksdb.memory.partitioned-index-filters", false, value::boolean,
        "Indexes and filters are in partitions that are loaded and evicted one by one; only with a budget.";
    PREDEFINED: Predefined = "state.backend.rocksdb.predefined-options", Predefined::Default, predefined,
        "DEFAULT, SPINNING_DISK_OPTIMIZED, SPINNING_DISK_OPTIMIZED_HIGH_MEM or FLASH_SSD_OPTIMIZED; keys that are given outweigh it.";
    BACKGROUND_JOBS: usize = "state.backend.rocksdb.thread.num", 2, threads,
        "Flushes and compactions at the same time, of all databases of the process together.";
    OPEN_FILES: Option<u32> = "state.backend.rocksdb.files.open", None, open_files,
        "Files of a database that are open at most; -1 is no limit.";
    WRITE_BUFFER: MemorySize = "state.backend.rocksdb.writebuffer.size", MemorySize(64 << 20), write_buffer,
        "Bytes of a memtable; there is one for each state of an operator.";
    WRITE_BUFFERS: usize = "state.backend.rocksdb.writebuffer.count", 2, threads,
        "Memtables of a state at most, those that wait to be written among them.";
    WRITE_BUFFERS_TO_MERGE: usize = "state.backend.rocksdb.writebuffer.number-to-merge", 1, threads,
        "Memtables that are written together.";
    WRITE_BATCH: MemorySize = "state.backend.rocksdb.write-batch-size", MemorySize(2 << 20), value::memory_size,
        "Bytes that a restore writes at once.";
    BLOCK_SIZE: MemorySize = "state.backend.rocksdb.block.blocksize", MemorySize(4 << 10), block_size,
        "Uncompressed bytes of a data block.";
    METADATA_BLOCK: MemorySize = "state.backend.rocksdb.block.metadata-blocksize", MemorySize(4 << 10), block_size,
        "Bytes of a partition of an index.";
    BLOCK_CACHE: MemorySize = "state.backend.rocksdb.block.cache-size", MemorySize(8 << 20), value::memory_size,
        "The cache of a database, if there is no budget.";
    BLOOM_FILTER: bool = "state.backend.rocksdb.use-bloom-filter", false, value::boolean,
        "Whether new files have filters.";
    BLOOM_BITS: f64 = "state.backend.rocksdb.bloom-filter.bits-per-key", 10.0, bloom_bits,
        "Bits per key of the filters.";
    BLOOM_BLOCK_BASED: bool = "state.backend.rocksdb.bloom-filter.block-based-mode", false, value::boolean,
        "RocksDB has no filters per block any more; so this is only checked.";
    COMPACTION_STYLE: RocksdbCompactionStyle = "state.backend.rocksdb.compaction.style", RocksdbCompactionStyle::Level, compaction_style,
        "LEVEL, UNIVERSAL or NONE (FIFO would drop state).";
    LEVEL_BASE: MemorySize = "state.backend.rocksdb.compaction.level.max-size-level-base", MemorySize(256 << 20), level_base,
        "Bytes of the first level below level 0.";
    TARGET_FILE_SIZE: MemorySize = "state.backend.rocksdb.compaction.level.target-file-size-base", MemorySize(64 << 20), target_file_size,
        "Size of the files that compaction writes.";
    DYNAMIC_LEVELS: bool = "state.backend.rocksdb.compaction.level.use-dynamic-size", true, value::boolean,
        "The deepest level decides the sizes of the others, which wastes less space. Flink's default is false.";
    COMPRESSION: Vec<Compression> = "state.backend.rocksdb.compression.per.level", Vec::new(), compression,
        "Compression of new files by level: NO_COMPRESSION or LZ4_COMPRESSION (others are taken as LZ4). By default LZ4 everywhere; Flink's is SNAPPY.";
    TRANSFERS: Option<usize> = "state.backend.rocksdb.checkpoint.transfer.thread.num", None, transfers,
        "Files of a worker that are uploaded or downloaded at the same time; 4 unless it is given or negative.";
    OVERLAP_FRACTION: f64 = "state.backend.rocksdb.restore-overlap-fraction-threshold", 0.0, share,
        "A database is gone on with after a change of the parallelism only if so large a part of it is wanted; otherwise its rows are copied.";
    DELETE_FILES_IN_RANGE: bool = "state.backend.rocksdb.rescaling.use-delete-files-in-range", false, value::boolean,
        "Files without a wanted key are dropped whole after a change of the parallelism.";
    INGEST: bool = "state.backend.rocksdb.use-ingest-db-restore-mode", false, value::boolean,
        "Databases are not put together file by file here, but row by row; so this is only checked.";
    COMPACT_AFTER_RESCALE: bool = "state.backend.rocksdb.incremental-restore-async-compact-after-rescale", false, value::boolean,
        "What a restore has cut off falls out in later compactions; so this is only checked.";
    QUERY_TIME_AFTER: u64 = "state.backend.rocksdb.compaction.filter.query-time-after-num-entries", 1000, entries,
        "Rows after which a compaction asks the clock again what has expired.";
    PERIODIC_COMPACTION: Duration = "state.backend.rocksdb.compaction.filter.periodic-compaction-time", Duration::from_secs(30 * 24 * 3600), value::duration,
        "Files of states with a TTL that are older than this are rewritten, so that expired rows do not stay where nothing else happens; 0 switches it off.";
    TIMER_FACTORY: () = "state.backend.rocksdb.timer-service.factory", (), timer_factory,
        "ROCKSDB or HEAP; timers are rows with their bounds in memory, so this is only checked.";
    TIMER_CACHE: usize = "state.backend.rocksdb.timer-service.cache-size", 128, threads_or_more,
        "Timers are found through their bounds, not through a cache; so this is only checked.";
    LOG_DIR: Option<PathBuf> = "state.backend.rocksdb.log.dir", None, log_directory,
        "An absolute local directory where RocksDB writes its log; by default beside the files of each database, with which it goes.";
    LOG_LEVEL: RocksdbLogLevel = "state.backend.rocksdb.log.level", RocksdbLogLevel::Info, log_level,
        "DEBUG_LEVEL, INFO_LEVEL, WARN_LEVEL, ERROR_LEVEL, FATAL_LEVEL or HEADER_LEVEL.";
    LOG_FILES: usize = "state.backend.rocksdb.log.file-num", 4, threads,
        "Log files that are kept.";
    LOG_FILE_SIZE: MemorySize = "state.backend.rocksdb.log.max-file-size", MemorySize(25 << 20), value::memory_size,
        "Size at which a new log file is begun; 0: never.";
}

impl Configuration {
    /// The options of `rocksdb`, for so many workers of a process.
    pub(super) fn rocksdb_options(&self, workers: u16) -> Result<RocksdbOptions, ConfigError> {
        let bytes = |size: MemorySize| usize::try_from(size.0).unwrap_or(usize::MAX);
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let mut to = RocksdbOptions {
            local_directories: self.get(&LOCAL_DIRS),
            incremental: self.get(&INCREMENTAL),
            shared: RocksdbShared::new(self.rocksdb_budget(workers)?),
            write_batch_bytes: bytes(self.get(&WRITE_BATCH)),
            metadata_block_bytes: bytes(self.get(&METADATA_BLOCK)),
            partitioned_index_filters: self.get(&PARTITIONED),
            compaction_style: self.get(&COMPACTION_STYLE),
            transfers: self.get(&TRANSFERS).unwrap_or(TRANSFERS_DEFAULT),
            overlap_fraction_min: self.get(&OVERLAP_FRACTION),
            delete_files_in_range: self.get(&DELETE_FILES_IN_RANGE),
            query_time_after_entries: self.get(&QUERY_TIME_AFTER),
            periodic_compaction_seconds: self.get(&PERIODIC_COMPACTION).as_secs(),
            log: RocksdbLog {
                directory: self.get(&LOG_DIR),
                level: self.get(&LOG_LEVEL),
                files: self.get(&LOG_FILES),
                file_bytes_max: bytes(self.get(&LOG_FILE_SIZE)),
            },
            ..predefined_options(self.get(&PREDEFINED))
        };
        // Those that a predefined set may have decided.
        self.given(&WRITE_BUFFER, |size| to.write_buffer_bytes = bytes(size));
        self.given(&WRITE_BUFFERS, |n| to.write_buffers = number(n));
        self.given(&WRITE_BUFFERS_TO_MERGE, |n| {
            to.write_buffers_to_merge = number(n);
        });
        self.given(&BLOCK_SIZE, |size| to.block_bytes = bytes(size));
        self.given(&BLOCK_CACHE, |size| to.block_cache_bytes = bytes(size));
        self.given(&BACKGROUND_JOBS, |n| to.background_jobs = number(n));
        self.given(&OPEN_FILES, |n| to.open_files_max = n);
        self.given(&LEVEL_BASE, |size| to.level_bytes_base = size.0);
        self.given(&TARGET_FILE_SIZE, |size| to.file_bytes_target = size.0);
        self.given(&DYNAMIC_LEVELS, |dynamic| to.dynamic_levels = dynamic);
        self.given(&COMPRESSION, |levels| to.compression = levels);
        let bits = self.get(&BLOOM_BITS);
        self.given(&BLOOM_FILTER, |on| {
            to.bloom_bits_per_key = on.then_some(bits);
        });
        if to.bloom_bits_per_key.is_some() {
            to.bloom_bits_per_key = Some(bits);
        }
        Ok(to)
    }

    /// Calls `set` with a value that somebody has given.
    fn given<T: Clone + Sync>(&self, option: &ConfigOption<T>, set: impl FnOnce(T)) {
        if self.text(option.key).is_some() {
            set(self.get(option));
        }
    }

    /// How much memory all databases of the process share, and how it is divided.
    fn rocksdb_budget(&self, workers: u16) -> Result<Option<MemoryBudget>, ConfigError> {
        let (writes, high) = (self.get(&WRITE_BUFFER_RATIO), self.get(&HIGH_PRIORITY));
        options::check_shares((WRITE_BUFFER_RATIO.key, writes), (HIGH_PRIORITY.key, high))?;
        let each = self.get(&FIXED_PER_SLOT).map(|each| each.0);
        let total = match (each, self.get(&MANAGED_MEMORY)) {
            (Some(each), _) => Some(each.saturating_mul(u64::from(workers.max(1)))),
            (None, true) => {
                let managed = self.get(&options::MANAGED_SIZE).map(|size| size.0);
                Some(managed.unwrap_or(MANAGED_BYTES_DEFAULT))
            }
            (None, false) => self.get(&FIXED_PER_TM).map(|size| size.0),
        };
        Ok(total.map(|total| MemoryBudget::new(total, writes)))
    }
}

/// What Flink's sets say.
fn predefined_options(set: Predefined) -> RocksdbOptions {
    let defaults = RocksdbOptions::default();
    match set {
        Predefined::Default => defaults,
        Predefined::SpinningDisk | Predefined::FlashSsd => RocksdbOptions {
            background_jobs: 4,
            ..defaults
        },
        Predefined::SpinningDiskHighMemory => RocksdbOptions {
            background_jobs: 4,
            block_cache_bytes: 256 << 20,
            block_bytes: 128 << 10,
            file_bytes_target: 256 << 20,
            level_bytes_base: 1 << 30,
            write_buffers: 4,
            write_buffers_to_merge: 3,
            bloom_bits_per_key: Some(BLOOM_BITS.default),
            ..defaults
        },
    }
}

fn local_directories(text: &str) -> Result<Vec<PathBuf>, String> {
    const EXPECTED: &str = "absolute local directories, separated by commas, colons or semicolons";
    // A colon in `file:///x` or `file:/x` separates nothing.
    let text = text.replace("file://", "").replace("file:", "");
    let one = |item: &str| {
        let path = PathBuf::from(item);
        let remote = item.starts_with("//");
        (path.is_absolute() && !remote).then_some(path)
    };
    // A list in a file comes joined by semicolons.
    let items = text.split([',', ':', ';']).map(str::trim);
    items
        .map(|item| one(item).ok_or_else(|| EXPECTED.to_owned()))
        .collect()
}

fn log_directory(text: &str) -> Result<Option<PathBuf>, String> {
    let path = PathBuf::from(text.trim());
    match path.is_absolute() {
        true => Ok(Some(path)),
        false => Err("an absolute local directory".to_owned()),
    }
}

fn predefined(text: &str) -> Result<Predefined, String> {
    match enumerated(text).as_str() {
        "default" => Ok(Predefined::Default),
        "spinning_disk_optimized" => Ok(Predefined::SpinningDisk),
        "spinning_disk_optimized_high_mem" => Ok(Predefined::SpinningDiskHighMemory),
        "flash_ssd_optimized" => Ok(Predefined::FlashSsd),
        _ => Err(
            "DEFAULT, SPINNING_DISK_OPTIMIZED, SPINNING_DISK_OPTIMIZED_HIGH_MEM or FLASH_SSD_OPTIMIZED"
                .to_owned(),
        ),
    }
}

fn open_files(text: &str) -> Result<Option<u32>, String> {
    match value::integer(text) {
        Ok(-1) => Ok(None),
        Ok(n @ 1..=1_000_000_000) => Ok(Some(n as u32)),
        _ => Err("a whole number from 1 to 1000000000, or -1".to_owned()),
    }
}

fn transfers(text: &str) -> Result<Option<usize>, String> {
    match value::integer(text) {
        Ok(..=-1) => Ok(None),
        Ok(n @ 1..=1024) => Ok(Some(n as usize)),
        _ => Err("a whole number from 1 to 1024, or a negative one".to_owned()),
    }
}

fn write_buffer(text: &str) -> Result<MemorySize, String> {
    let (min, max) = (MemorySize(64 << 10), MemorySize(64 << 30));
    sized(text, min, max, "from 64 kb to 64 gb")
}

fn block_size(text: &str) -> Result<MemorySize, String> {
    let (min, max) = (MemorySize(256), MemorySize(16 << 20));
    sized(text, min, max, "from 256 bytes to 16 mb")
}

fn bloom_bits(text: &str) -> Result<f64, String> {
    match text.trim().parse::<f64>() {
        Ok(bits) if (0.0..=64.0).contains(&bits) => Ok(bits),
        _ => Err("a number from 0 to 64".to_owned()),
    }
}

fn compaction_style(text: &str) -> Result<RocksdbCompactionStyle, String> {
    match enumerated(text).as_str() {
        "level" => Ok(RocksdbCompactionStyle::Level),
        "universal" => Ok(RocksdbCompactionStyle::Universal),
        "none" => Ok(RocksdbCompactionStyle::None),
        _ => Err("LEVEL, UNIVERSAL or NONE".to_owned()),
    }
}

fn entries(text: &str) -> Result<u64, String> {
    // Flink takes 0 as: for every row.
    bounded(text, 0, i64::MAX).map(|n| n as u64)
}

fn threads_or_more(text: &str) -> Result<usize, String> {
    bounded(text, 1, 1_000_000_000).map(|n| n as usize)
}

fn timer_factory(text: &str) -> Result<(), String> {
    match enumerated(text).as_str() {
        "rocksdb" | "heap" => Ok(()),
        _ => Err("ROCKSDB or HEAP".to_owned()),
    }
}

fn log_level(text: &str) -> Result<RocksdbLogLevel, String> {
    match enumerated(text).as_str() {
        "debug_level" => Ok(RocksdbLogLevel::Debug),
        "info_level" => Ok(RocksdbLogLevel::Info),
        "warn_level" => Ok(RocksdbLogLevel::Warn),
        "error_level" => Ok(RocksdbLogLevel::Error),
        "fatal_level" => Ok(RocksdbLogLevel::Fatal),
        "header_level" => Ok(RocksdbLogLevel::Header),
        _ => Err(
            "DEBUG_LEVEL, INFO_LEVEL, WARN_LEVEL, ERROR_LEVEL, FATAL_LEVEL or HEADER_LEVEL"
                .to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests;
