//! Rows of a key range in order: a merge of memtables and files, newest first, tombstones hidden.
//!
//! What the memtables hold of the range is copied when the scan starts, but no more of it than the answer can need. So a
//! scan that has to wait for the object store still gives the rows of the moment it was asked. Scans that memtables can answer alone
//! do without that.
mod alone;
mod memory;
mod merge;
mod output;
mod run;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;

use super::load::Fetched;
use super::{Blocks, Needs};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::rules::Rules;
use crate::version::{Version, VersionFile};
use merge::Merge;

pub(crate) use alone::{Asked, scan_alone};
pub(crate) use memory::MemoryRows;

/// Bytes of keys and values at which the answer of a scan ends, however many rows were asked for: the row that comes to them is its last.
pub const SCAN_BYTES_MAX: usize = 8 << 20;

/// Rows of a scan in key order. `Bytes` are cheap slices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScanRows {
    /// Keys without group and table, and values.
    pub rows: Vec<(Bytes, Bytes)>,
    /// When each of the rows was written, in milliseconds since the Unix epoch, if its writer said so; of several operands, the
    /// newest. Empty if none of the rows has a time.
    pub times: Vec<Option<i64>>,
    /// False when `rows` stopped at the asked number, or at [`SCAN_BYTES_MAX`], and more may follow.
    pub done: bool,
}

impl ScanRows {
    /// When the row at a place in `rows` was written, if that is known.
    pub fn time_ms(&self, at: usize) -> Option<i64> {
        self.times.get(at).copied().flatten()
    }
}

/// The answer of a synchronous scan.
#[derive(Debug)]
pub enum ScanLookup {
    /// All of it was in memory.
    Rows(ScanRows),
    /// Memory cannot answer; `Store::fetch_scan` finishes the scan.
    Cold(ColdScan),
}

/// The rest of a scan that memory could not answer.
pub struct ColdScan {
    pub(crate) version: Arc<Version>,
    pub(crate) window: Window,
    pub(crate) memory: MemoryRows,
}

impl std::fmt::Debug for ColdScan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ColdScan")
            .field("lower", &self.window.lower)
            .field("upper", &self.window.upper)
            .finish_non_exhaustive()
    }
}

/// What a scan asks for, as whole keys; `upper` is excluded.
#[derive(Clone)]
pub(crate) struct Window {
    pub(crate) lower: Vec<u8>,
    pub(crate) upper: Option<Vec<u8>>,
    pub(crate) rows_max: usize,
    pub(crate) rules: Arc<Rules>,
    pub(crate) now_ms: i64,
    /// The hash of the prefix that all rows have, if the table's files have such hashes in their filters.
    pub(crate) prefix_hash: Option<u64>,
    /// What files of the flushes from this one on hold is in the memory rows.
    pub(crate) before: u64,
}

impl Window {
    /// Whether a file may have rows that are not in the memory rows.
    fn reads(&self, file: &VersionFile) -> bool {
        file.flush < self.before
    }

    fn is_below_upper(&self, key: &[u8]) -> bool {
        self.upper.as_deref().is_none_or(|upper| key < upper)
    }
}

/// Scans what is in memory; `None` if that is not enough.
pub(crate) fn scan(
    version: &Version,
    window: &Window,
    memory: &MemoryRows,
    blocks: &impl Blocks,
) -> Result<Option<ScanRows>> {
    let mut merge = Merge::new(version, window, memory);
    let done = merge.run(blocks, &mut Needs::default())?;
    Ok(done.map(|done| merge.finish(done)))
}

/// Finishes a scan that was cold.
pub(crate) async fn fetch_scan(context: Arc<Context>, scan: ColdScan) -> Result<ScanRows> {
    let mut fetched = Fetched::new(context);
    let mut merge = Merge::new(&scan.version, &scan.window, &scan.memory);
    loop {
        let mut needs = Needs::default();
        if let Some(done) = merge.run(&fetched, &mut needs)? {
            return Ok(merge.finish(done));
        }
        if needs.is_empty() {
            return Err(Error::corrupt(
                "a scan stopped although nothing was missing",
            ));
        }
        fetched.load(needs).await?;
    }
}
