//! What every engine is asked to do, and how each is set up.
//!
//! One file per engine; calls are dispatched statically, so that no engine pays for the harness. Every engine works the way its authors
//! meant it to be embedded, without a log, with the same memory for blocks, the same memtable, the same compression.
pub mod aquifer;
#[cfg(feature = "cobble")]
pub mod cobble;
#[cfg(feature = "fjall")]
pub mod fjall;
#[cfg(feature = "rocksdb")]
pub mod rocksdb;
#[cfg(feature = "slatedb")]
pub mod slatedb;

use std::path::{Path, PathBuf};

use crate::data::Key;
use crate::growth::disk_bytes;

/// Whatever an engine says went wrong ends the run.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// The states of the job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// Value state: point reads and writes.
    Values,
    /// Map state: rows are scanned by prefix.
    Maps,
    /// List state: written by appending.
    Lists,
}

impl Table {
    pub const ALL: [Self; 3] = [Self::Values, Self::Maps, Self::Lists];

    /// A byte for engines that have one key space.
    pub fn byte(self) -> u8 {
        self as u8
    }

    /// A name for engines that have several.
    pub fn name(self) -> &'static str {
        match self {
            Self::Values => "values",
            Self::Maps => "maps",
            Self::Lists => "lists",
        }
    }
}

/// Where an engine works and what memory it has.
#[derive(Clone, Debug)]
pub struct Setup {
    /// An empty directory, or one that the same engine was closed in.
    pub directory: PathBuf,
    /// For blocks, indexes and filters.
    pub cache_bytes: u64,
    /// Of one memtable.
    pub memtable_bytes: usize,
    /// Of Aquifer's data blocks, if not its default: for trying.
    pub block_bytes: Option<usize>,
}

impl Setup {
    /// The memory that a store has unless a workload says otherwise.
    pub fn new(directory: PathBuf) -> Self {
        Self {
            directory,
            cache_bytes: 256 << 20,
            memtable_bytes: 64 << 20,
            block_bytes: std::env::var("AQUIFER_BENCH_BLOCK_BYTES")
                .ok()
                .and_then(|text| text.parse().ok()),
        }
    }
}

/// A store under test, used by one thread.
pub trait Engine: Sized {
    /// Opens what is in the directory.
    fn open(setup: &Setup) -> Result<Self>;
    fn put(&mut self, table: Table, key: &Key, value: &[u8]) -> Result<()>;
    fn get<R>(
        &mut self,
        table: Table,
        key: &Key,
        with: impl FnOnce(Option<&[u8]>) -> R,
    ) -> Result<R>;
    fn delete(&mut self, table: Table, key: &Key) -> Result<()>;
    /// Calls `with(i, value)` once for each key.
    fn multi_get(
        &mut self,
        table: Table,
        keys: &[Key],
        with: &mut impl FnMut(usize, Option<&[u8]>),
    ) -> Result<()>;
    /// Calls `with(key, value)` for each row whose key starts with `prefix`, in order, `rows_max` at most.
    fn scan(
        &mut self,
        table: Table,
        prefix: &Key,
        rows_max: usize,
        with: &mut impl FnMut(&[u8], &[u8]),
    ) -> Result<()>;
    /// Adds to the end of a list.
    fn append(&mut self, table: Table, key: &Key, operand: &[u8]) -> Result<()>;
    /// Turns memtables into files.
    fn flush(&mut self) -> Result<()>;
    /// Waits until nothing runs in the background.
    fn settle(&mut self) -> Result<()>;
    /// Reads everything once, so that what fits into memory is there.
    fn warm(&mut self) -> Result<()>;
    /// Bytes that what is stored takes on disk, without files that nothing but an older checkpoint needs.
    fn kept_bytes(&self, directory: &Path) -> Result<u64> {
        disk_bytes(directory)
    }
    /// Closes it so that it can be opened again with everything that was flushed.
    fn close(self) -> Result<()>;
}
