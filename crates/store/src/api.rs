//! INTERFACE STUB, to be replaced by the implementation with these names and signatures.
use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use object_store::ObjectStore;

/// Names one table (one state of one operator) inside a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableId(pub u16);

/// A contiguous range of key groups; both ends are included, as in Flink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeyGroupRange {
    pub start: u16,
    pub end: u16,
}

/// Options of one table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableOptions {
    /// Keep an ordered companion of the memtable, because the table is scanned often (map state, timers, windows).
    pub ordered: bool,
}

/// Options of one store (one per worker).
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Uncompressed bytes of a data block; 8 KiB.
    pub block_bytes: usize,
    /// Memtable bytes of all tables together that start a flush between checkpoints; 64 MiB.
    pub memtable_bytes_max: usize,
    /// L0 files that start a compaction; 4.
    pub l0_files_max: usize,
    /// Size at which a compaction output is closed; 64 MiB.
    pub file_bytes_target: u64,
    /// Bits per key of the filter; 10. 0 switches filters off.
    pub filter_bits_per_key: u32,
}

/// What a store needs from outside.
#[derive(Clone)]
pub struct Environment {
    pub objects: Arc<dyn ObjectStore>,
    /// Where new SST files are written, e.g. `<job>/shared`. FileRef.name is relative to `objects`' root (a full object path).
    pub directory: object_store::path::Path,
    /// Runs uploads, fetches, flushes and compactions.
    pub runtime: tokio::runtime::Handle,
    /// Shared by all stores of the process.
    pub block_cache: Arc<BlockCache>,
    /// Unique per writer, e.g. `000007-w2` (attempt, worker): file names are `<prefix>-<counter>.sst` and never reused.
    pub file_prefix: String,
    /// Called (from any thread) when background work finished and `Store::poll` has something to do.
    pub waker: Arc<dyn Fn() + Send + Sync>,
}

/// Memory cache of decoded blocks, filters and indexes, shared by all stores of a process.
pub struct BlockCache;
impl BlockCache {
    pub fn new(_capacity_bytes: u64) -> Arc<Self> { todo!() }
}

/// One immutable SST file as a version or a checkpoint names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRef {
    pub path: String,
    pub size_bytes: u64,
    pub level: u8,
    pub smallest: Bytes,
    pub largest: Bytes,
    pub clip: KeyGroupRange,
    pub entries: u64,
    /// Bytes at the end of the file that hold filter, index and footer, so that a cold file is opened with one read.
    pub tail_bytes: u32,
    /// xxh3 of the file's footer or whole content: identity of the content.
    pub checksum: u64,
}

/// The files of one worker at one checkpoint: L0 newest first, then the deeper levels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checkpoint {
    pub files: Vec<FileRef>,
}
impl Checkpoint {
    pub fn encode(&self, _out: &mut Vec<u8>) { todo!() }
    /// Decodes what `encode` wrote; never panics, never allocates an unchecked length.
    pub fn decode(_bytes: &[u8]) -> Result<Self, Error> { todo!() }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The object store did not answer as it should; the same call may succeed later.
    Retry,
    /// The call's arguments are wrong.
    Usage,
    /// Bytes that were read are not what was written.
    Corrupt,
    /// A file that should exist does not.
    Missing,
}
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    pub kind: ErrorKind,
    pub message: String,
    #[source]
    pub source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

/// The answer of a synchronous read.
pub enum Lookup<'a> {
    Found(Value<'a>),
    Absent,
    /// Memory cannot answer; `Store::fetch` finishes the read.
    Cold(ColdRead),
}
/// A value borrowed from the memtable or from a cached block.
pub struct Value<'a>(&'a [u8]);
impl Deref for Value<'_> {
    type Target = [u8];
    fn deref(&self) -> &[u8] { self.0 }
}
impl<'a> From<&'a [u8]> for Value<'a> {
    fn from(bytes: &'a [u8]) -> Self { Value(bytes) }
}
/// The rest of a read that memory could not answer: it holds the version it was planned on.
pub struct ColdRead;
/// The rest of a scan that memory could not answer.
pub struct ColdScan;

/// Rows of a scan in key order. `Bytes` are cheap slices.
pub struct ScanRows {
    pub rows: Vec<(Bytes, Bytes)>,
    /// False when `rows` stopped at the asked number and more may follow.
    pub done: bool,
}
pub enum ScanLookup {
    Rows(ScanRows),
    Cold(ColdScan),
}

#[derive(Clone, Debug, Default)]
pub struct StoreStats {
    pub memtable_bytes: u64,
    pub files: u64,
    pub file_bytes: u64,
    pub l0_files: u64,
    pub flushes: u64,
    pub compactions: u64,
    pub bytes_uploaded: u64,
    pub block_cache_hits: u64,
    pub block_cache_misses: u64,
    pub cold_reads: u64,
}

/// One worker's LSM tree: single writer, used from one thread.
pub struct Store;
#[allow(unused_variables)]
impl Store {
    /// Opens an empty store, or the union of checkpoints, each clipped to a range. Reads nothing from the object store.
    pub fn open(env: Environment, options: StoreOptions, restored: Vec<(Checkpoint, KeyGroupRange)>) -> Result<Self, Error> { todo!() }
    pub fn create_table(&mut self, table: TableId, options: TableOptions) -> Result<(), Error> { todo!() }
    pub fn get(&self, table: TableId, group: u16, key: &[u8]) -> Result<Lookup<'_>, Error> { todo!() }
    pub fn put(&mut self, table: TableId, group: u16, key: &[u8], value: &[u8]) -> Result<(), Error> { todo!() }
    pub fn delete(&mut self, table: TableId, group: u16, key: &[u8]) -> Result<(), Error> { todo!() }
    /// Looks up many keys; each file and block is visited once. `answer(i, lookup)` is called once per key, in any order.
    pub fn multi_get(&self, table: TableId, keys: &[(u16, &[u8])], answer: &mut dyn FnMut(usize, Lookup<'_>)) -> Result<(), Error> { todo!() }
    /// Finishes cold reads: all misses are issued together, neighbours coalesced; answers come in the order of `reads`.
    pub fn fetch(&self, reads: Vec<ColdRead>) -> BoxFuture<'static, Result<Vec<Option<Bytes>>, Error>> { todo!() }
    /// Up to `rows_max` rows of `table` and `group` whose key starts with `prefix` and is >= `from` (and < `until`), in key order. Keys come back without group and table.
    pub fn scan(&self, table: TableId, group: u16, prefix: &[u8], from: &[u8], until: Option<&[u8]>, rows_max: usize) -> Result<ScanLookup, Error> { todo!() }
    /// Finishes a cold scan; the rows are those of the moment `scan` was called.
    pub fn fetch_scan(&self, scan: ColdScan) -> BoxFuture<'static, Result<ScanRows, Error>> { todo!() }
    /// Counts installed flushes and compactions: a fetched value is still the newest if this has not moved and the memtables hold nothing for the key.
    pub fn installs(&self) -> u64 { todo!() }
    /// The barrier has passed this table: what it holds now belongs to the checkpoint in progress. O(1).
    pub fn freeze(&mut self, table: TableId) -> Result<(), Error> { todo!() }
    /// All tables are frozen: flush what was frozen into one SST and upload it in the background.
    pub fn checkpoint(&mut self) -> Result<(), Error> { todo!() }
    /// Drives background work: installs finished flushes and compactions, starts new ones; returns the checkpoint asked for once all its files are durable.
    pub fn poll(&mut self) -> Result<Option<Checkpoint>, Error> { todo!() }
    pub fn stats(&self) -> StoreStats { todo!() }
}
