//! What a store is told when it is opened: names, limits, and the outside world it works in.
//!
//! Nothing here does I/O. The clock, the runtime, the object store and the names of new files all come in through
//! [`Environment`], so that a simulation can replace each of them.
mod codec;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use object_store::ObjectStore;
use xxhash_rust::xxh3::xxh3_64;

use crate::executor::Executor;
use crate::file_cache::{FileCache, FileCacheStats};
use crate::fold::Folds;
use crate::io::{IoOptions, IoStats};
use crate::{BackgroundPool, BackgroundThreads, BlockCache, RateLimiter, RemoteCompaction};

/// Names one table (one state of one operator) inside a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableId(pub u16);

/// A contiguous range of key groups; both ends are included, as in Flink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct KeyGroupRange {
    /// First key group of the range.
    pub start: u16,
    /// Last key group of the range.
    pub end: u16,
}

impl KeyGroupRange {
    /// Every key group there can be.
    pub const ALL: Self = Self {
        start: 0,
        end: u16::MAX,
    };

    /// Whether `group` lies in the range.
    pub fn contains(self, group: u16) -> bool {
        self.start <= group && group <= self.end
    }

    /// The key groups both ranges have, if any.
    pub fn intersection(self, other: Self) -> Option<Self> {
        let both = Self {
            start: self.start.max(other.start),
            end: self.end.min(other.end),
        };
        (both.start <= both.end).then_some(both)
    }
}

/// Options of one table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableOptions {
    /// Keep an ordered companion of the memtable, because the table is scanned often (map state, timers, windows).
    /// Without it, each scan looks at all rows of the active memtable.
    pub ordered: bool,
    /// What `Store::merge` does with its operands.
    pub merge: Merge,
    /// Rows that were written with a time are dropped by compactions and hidden from reads when they are older than this
    /// many milliseconds: when time + TTL is now or earlier. A sum that is later than the latest time there is never comes.
    /// `None`: rows never expire, whatever times they carry.
    pub ttl_ms: Option<u64>,
    /// In a table with a TTL, a row or operand without a time, or with an earlier one, counts as written at this time: when the TTL
    /// was switched on over rows that were there. `None`: what has no time never expires.
    pub untimed_as_ms: Option<i64>,
    /// Times of rows are event times: what has expired is decided by the largest time that [`Store::advance_event_time`] was
    /// given, instead of the environment's clock. Before the first one, nothing has. Times of operands may lie ahead of it, so they end
    /// nothing: an operand on a row that has expired joins it, unless a compaction has dropped the row. Operands should have their own times.
    ///
    /// [`Store::advance_event_time`]: crate::Store::advance_event_time
    pub event_time: bool,
    /// Reads return rows that have expired as long as no compaction has dropped them.
    pub show_expired: bool,
    /// Who removes rows that have expired.
    pub cleanup: ExpiryCleanup,
    /// The shape of the part of each key that scans are asked by. Files then have a filter over that part too. Empty: no
    /// such filter.
    pub prefix: Vec<KeyPart>,
}

/// Who removes rows of a table that have expired, besides those who read or delete them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpiryCleanup {
    /// Compactions drop them. Otherwise compactions keep them like any other row.
    pub in_compactions: bool,
    /// Rows after which a compaction asks the clock again. `None`: as the backend is configured. The store asks once per compaction.
    pub query_time_after_rows: Option<u64>,
    /// Files whose rows are older, in milliseconds, are rewritten even if nothing else asks for it; 0: never. `None`: as the backend is
    /// configured.
    pub periodic_ms: Option<u64>,
    /// Snapshots that hold all rows leave them out. The store's own checkpoints name files and do not.
    pub in_full_snapshots: bool,
}

impl Default for ExpiryCleanup {
    /// Compactions do it, as the backend is configured.
    fn default() -> Self {
        Self {
            in_compactions: true,
            query_time_after_rows: None,
            periodic_ms: None,
            in_full_snapshots: false,
        }
    }
}

/// How the operands of `Store::merge` become a value. The order of operands is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Merge {
    /// The table takes no operands.
    #[default]
    None,
    /// The value is its operands one after the other.
    Append,
    /// A fold that was registered under this name.
    Fold(String),
}

/// One part of a key, as far as its length is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyPart {
    /// As many bytes.
    Fixed(u16),
    /// Ends with `00 01`; a zero byte within is `00 ff`.
    Terminated,
    /// A byte that says whether the parts follow: 0 if not.
    Optional(Vec<KeyPart>),
}

/// How blocks of a file are compressed. A block that does not shrink is stored as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// Fast to make and to read.
    #[default]
    Lz4,
    /// Smaller and slower. Without the crate's feature `zstd`, lz4 is written instead, and such blocks cannot be read.
    Zstd,
}

impl Compression {
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Lz4 => 1,
            Self::Zstd => 2,
        }
    }

    pub(crate) fn from_code(code: u8) -> Option<Self> {
        [Self::None, Self::Lz4, Self::Zstd]
            .into_iter()
            .find(|known| known.code() == code)
    }
}

/// Options of one store (one per worker).
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Uncompressed bytes of a data block; 8 KiB.
    pub block_bytes: usize,
    /// Memtable bytes of all tables together that start a flush between checkpoints; 64 MiB.
    pub memtable_bytes_max: usize,
    /// Memtables that have become files stay in memory, so that reads find there what was written last, as long as all memtables
    /// together take at most so many times `memtable_bytes_max` more than the one that is written to; 1. They are given back before
    /// any write is delayed. 0: none stays.
    pub retained_memtables_max: usize,
    /// Memtable bytes that are worth a part of a flush with a thread and a file of its own; 12 MiB.
    pub flush_part_bytes_min: usize,
    /// Bytes of a compaction's inputs that are worth a part of it with a thread of its own; 16 MiB.
    pub compaction_part_bytes_min: u64,
    /// L0 files that start a compaction; 4.
    pub l0_files_max: usize,
    /// Size at which a compaction output is closed; 64 MiB.
    pub file_bytes_target: u64,
    /// Bytes of the first level below L0; each deeper one holds ten times as many. 256 MiB.
    pub level_bytes_base: u64,
    /// The size of the deepest level decides how many levels there are, so that few are in use and little space is wasted. Otherwise
    /// levels are filled from L1 on. True.
    pub dynamic_levels: bool,
    /// Files whose oldest row with a time is older than this are rewritten when the tables have a TTL, so that expired rows do not
    /// stay for ever in places where nothing happens; 30 days. `None`: never for their age.
    pub periodic_compaction_ms: Option<u64>,
    /// Bits per key of the filter; 10. 0 switches filters off.
    pub filter_bits_per_key: u32,
    /// Compression of files by level, from level 0 on; the last one holds for all deeper levels. lz4 everywhere.
    pub compression: Vec<Compression>,
    /// Values longer than this lie aside of the rows, so that compactions copy them without looking inside, and rows near
    /// them are read without them; 4 KiB, half a block. A cold read of such a value takes one more round trip.
    pub value_aside_bytes: usize,
    /// Threads that may wait for the local disk on behalf of reads at the same time; 3. A fetch takes one, and more of
    /// them while they are free and it has enough to read.
    pub read_io_parallelism: usize,
    /// Cold reads of a remote store are planned, and their first requests sent, by the thread that polls for their answer first, which
    /// is the worker's: one hop to another thread less, for time of the worker. Otherwise by the runtime's threads. Off.
    pub plan_inline: bool,
    /// Bytes in a second that are fetched into the file cache after a restore, of what was read most before; 32 MiB. 0
    /// switches that off.
    pub warm_bytes_per_second: u64,
    /// Patience with the object store.
    pub io: IoOptions,
}

impl StoreOptions {
    /// How files of a level are compressed.
    pub(crate) fn compression_of(&self, level: u8) -> Compression {
        let own = self.compression.get(usize::from(level));
        own.or(self.compression.last()).copied().unwrap_or_default()
    }
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            block_bytes: 8 << 10,
            memtable_bytes_max: 64 << 20,
            retained_memtables_max: 1,
            flush_part_bytes_min: 12 << 20,
            compaction_part_bytes_min: 16 << 20,
            l0_files_max: 4,
            file_bytes_target: 64 << 20,
            level_bytes_base: 256 << 20,
            dynamic_levels: true,
            periodic_compaction_ms: Some(30 * 24 * 3_600_000),
            filter_bits_per_key: 10,
            compression: vec![Compression::Lz4],
            value_aside_bytes: 4 << 10,
            read_io_parallelism: 3,
            plan_inline: false,
            warm_bytes_per_second: 32 << 20,
            io: IoOptions::default(),
        }
    }
}

/// What a store needs from outside.
#[derive(Clone)]
pub struct Environment {
    /// Where files live.
    pub objects: Arc<dyn ObjectStore>,
    /// The local directory that `objects` is a view of, if it is one: an object's path is its file's path below. Files
    /// are then read where they lie, which costs a fraction of asking `objects`.
    pub local_root: Option<PathBuf>,
    /// Which files are local, where `objects` is put together from several stores ([`crate::objects::Mounted`]). Then `local_root`
    /// does not count.
    pub local_paths: Option<LocalPaths>,
    /// Keeps files of `objects` on the local disk; shared by all stores of the process. Not used for files that are local.
    pub file_cache: Option<Arc<FileCache>>,
    /// Where copies of files that are needed for a while may lie on the local disk: the first that works. None: the system's directory for
    /// temporary files. The store itself makes no such copies.
    pub temporary_directories: Vec<PathBuf>,
    /// Where new SST files are written, e.g. `<job>/shared`. `FileRef.path` is relative to `objects`' root (a full
    /// object path), so files of other directories can be restored too.
    pub directory: object_store::path::Path,
    /// Runs uploads, fetches, flushes and compactions. Its timer must be enabled. Stores must not be used on this
    /// runtime's own core threads: a store that is ahead of its uploads blocks its caller until one is done.
    pub runtime: tokio::runtime::Handle,
    /// Shared by all stores of the process.
    pub block_cache: Arc<BlockCache>,
    /// Leaves large compactions to other processes (`aquifer compactor`); not unless it is set.
    pub remote_compaction: Option<RemoteCompaction>,
    /// How many bytes a second compactions may write, all stores of the process together; no limit unless it is set.
    pub compaction_rate: Arc<RateLimiter>,
    /// Unique per writer, e.g. `000007-w2` (attempt, worker): file names are `<prefix>-<counter>.sst` and never reused.
    pub file_prefix: String,
    /// Called (from any thread) when background work finished and `Store::poll` has something to do.
    pub waker: Arc<dyn Fn() + Send + Sync>,
    /// Runs flushes and compactions. A process sets one [`BackgroundPool`] for all its stores; unless it is set, each environment
    /// has a pool of its own.
    pub executor: Arc<dyn Executor>,
    /// Milliseconds since the Unix epoch; decides which rows have expired. Stands still unless it is set.
    pub clock: Clock,
    /// What tables with [`Merge::Fold`] name.
    pub folds: Folds,
    /// Chance, which spreads the pauses before failed requests are made again. Follows from `file_prefix` unless it is set.
    pub random: Random,
}

/// Which objects are files of the local disk.
#[derive(Clone)]
pub struct LocalPaths {
    /// The file of an object, if it is local. Asked when the file is opened for reading.
    pub locate: Locate,
    /// All are.
    pub all: bool,
}

/// The file that an object is, if it is local.
pub type Locate = Arc<dyn Fn(&object_store::path::Path) -> Option<PathBuf> + Send + Sync>;

impl LocalPaths {
    /// All objects are files below a directory.
    pub fn below(root: PathBuf) -> Self {
        let locate = move |path: &object_store::path::Path| {
            let mut file = root.clone();
            file.extend(path.parts().map(|part| part.as_ref().to_owned()));
            Some(file)
        };
        Self {
            locate: Arc::new(locate),
            all: true,
        }
    }
}

/// Any number, each time another.
pub type Random = Arc<dyn Fn() -> u64 + Send + Sync>;

/// Milliseconds since the Unix epoch, from whoever owns the clock.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

impl Environment {
    /// What every store needs; everything else starts switched off and is set on the fields.
    pub fn new(
        objects: Arc<dyn ObjectStore>,
        directory: object_store::path::Path,
        runtime: tokio::runtime::Handle,
        block_cache: Arc<BlockCache>,
        file_prefix: impl Into<String>,
    ) -> Self {
        let file_prefix = file_prefix.into();
        Self {
            random: spread(xxh3_64(file_prefix.as_bytes())),
            objects,
            local_root: None,
            local_paths: None,
            file_cache: None,
            temporary_directories: Vec::new(),
            directory,
            executor: BackgroundPool::new(BackgroundThreads::default(), runtime.clone()),
            runtime,
            block_cache,
            remote_compaction: None,
            compaction_rate: RateLimiter::unlimited(),
            file_prefix,
            waker: Arc::new(|| {}),
            clock: Arc::new(|| 0),
            folds: Folds::default(),
        }
    }
}

/// Numbers that look random and follow from a seed (SplitMix64).
fn spread(seed: u64) -> Random {
    let state = AtomicU64::new(seed);
    Arc::new(move || {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut mixed = state.fetch_add(STEP, Ordering::Relaxed);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    })
}

/// What a store has done and holds, for metrics.
#[derive(Clone, Debug, Default)]
pub struct StoreStats {
    /// Bytes in memtables that are not files yet, whether frozen or not.
    pub memtable_bytes: u64,
    /// Bytes in memtables that have become files and stay in memory as long as there is room.
    pub retained_bytes: u64,
    /// Files of the current version.
    pub files: u64,
    /// Bytes of those files on the object store.
    pub file_bytes: u64,
    /// Files in level 0, which every read may have to look into.
    pub l0_files: u64,
    /// Sorted runs in level 0; files of one flush that do not overlap are one run.
    pub l0_runs: u64,
    /// Flushes installed so far.
    pub flushes: u64,
    /// Compactions installed so far.
    pub compactions: u64,
    /// Those of them that other processes have done.
    pub compactions_elsewhere: u64,
    /// Compactions under way.
    pub compactions_running: u64,
    /// Bytes that compactions have written.
    pub compaction_bytes_written: u64,
    /// Files that compactions dropped without reading them.
    pub files_dropped: u64,
    /// By how much each MiB of writes is delayed at present because background work is behind, in nanoseconds.
    pub write_delay_ns: u64,
    /// How long writes have been delayed so far, in nanoseconds.
    pub write_delayed_total_ns: u64,
    /// Bytes of memtables that are frozen and not yet files.
    pub flush_backlog_bytes: u64,
    /// Bytes written to the object store.
    pub bytes_uploaded: u64,
    /// Blocks that were in memory when a read of this store asked for them.
    pub block_cache_hits: u64,
    /// Blocks that had to be loaded for a read of this store.
    pub block_cache_misses: u64,
    /// Reads and scans that memory could not answer.
    pub cold_reads: u64,
    /// What the file cache of the process has done and holds, if there is one.
    pub file_cache: Option<FileCacheStats>,
    /// Requests and bytes, and what they cost.
    pub io: IoStats,
    /// Flushes and compactions under way.
    pub background_tasks: u64,
}
