//! The writes of a [`Store`], and the points in the stream at which memtables are frozen.
use std::time::Duration;

use super::{Store, unknown};
use crate::error::{Error, Result};
use crate::key;
use crate::memtable::ROW_PART_BYTES_MAX;
use crate::options::TableId;

/// L0 files, as a multiple of those that start a compaction, at which writes wait for it.
const L0_STALL_FACTOR: usize = 5;
/// A stalled write goes on after this, whatever the compaction does.
const STALL_MAX: Duration = Duration::from_secs(10);

impl Store {
    /// Sets the value of a key. Blocks while more than two memtables' worth of flushes is under way, and for a while when
    /// L0 is far too full.
    #[inline]
    pub fn put(&mut self, table: TableId, group: u16, key: &[u8], value: &[u8]) -> Result<()> {
        self.write(table, group, key, Some(value))
    }

    /// Removes a key.
    #[inline]
    pub fn delete(&mut self, table: TableId, group: u16, key: &[u8]) -> Result<()> {
        self.write(table, group, key, None)
    }

    #[inline]
    fn write(
        &mut self,
        table: TableId,
        group: u16,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<()> {
        let value_len = value.map_or(0, <[u8]>::len);
        if key.len() > ROW_PART_BYTES_MAX || value_len > ROW_PART_BYTES_MAX {
            return Err(Error::usage(format!(
                "a row of table {} has a key of {} and a value of {value_len} bytes, but {ROW_PART_BYTES_MAX} is the most for either",
                table.0,
                key.len()
            )));
        }
        let Some(Some(found)) = self.tables.get_mut(usize::from(table.0)) else {
            return Err(unknown(table));
        };
        let hash = key::hash_parts(key::header(group, table), key);
        let before = found.active.bytes();
        found.active.put(hash, group, key, value);
        self.active_bytes += found.active.bytes() - before;
        if self.active_bytes > self.context.options.memtable_bytes_max && !self.barrier {
            self.make_room()?;
        }
        Ok(())
    }

    /// Flushes everything because the memtables are full, and waits where background work cannot keep up.
    fn make_room(&mut self) -> Result<()> {
        for table in self.tables.iter_mut().flatten() {
            table.freeze();
        }
        self.active_bytes = 0;
        self.start_flush(false);
        self.install_done()?;
        let bytes_max = self.context.options.memtable_bytes_max.saturating_mul(2);
        while self.flushes.iter().map(|flush| flush.bytes).sum::<usize>() > bytes_max {
            self.context.env.executor.before_wait();
            match self.done.recv() {
                Ok(done) => self.accept(done)?,
                Err(_) => break,
            }
            self.install_done()?;
        }
        let l0_stall = self
            .context
            .options
            .l0_files_max
            .max(1)
            .saturating_mul(L0_STALL_FACTOR);
        while self.compaction.is_some() && self.version.levels[0].len() > l0_stall {
            self.context.env.executor.before_wait();
            match self.done.recv_timeout(STALL_MAX) {
                Ok(done) => self.accept(done)?,
                Err(_) => {
                    tracing::warn!(
                        "writes waited {STALL_MAX:?} for a compaction and go on without it"
                    );
                    break;
                }
            }
            self.install_done()?;
        }
        Ok(())
    }

    /// The barrier has passed this table: what it holds now belongs to the checkpoint in progress. O(1).
    pub fn freeze(&mut self, table: TableId) -> Result<()> {
        let Some(Some(found)) = self.tables.get_mut(usize::from(table.0)) else {
            return Err(unknown(table));
        };
        if found.passed && !found.active.is_empty() {
            return Err(Error::usage(format!(
                "table {} was frozen twice in one barrier, with {} rows written in between",
                table.0,
                found.active.rows()
            )));
        }
        found.passed = true;
        self.barrier = true;
        self.active_bytes -= found.active.bytes();
        found.freeze();
        self.active_bytes += found.active.bytes();
        Ok(())
    }

    /// All tables are frozen: flush what was frozen into one SST and upload it in the background.
    pub fn checkpoint(&mut self) -> Result<()> {
        self.check_failed()?;
        let forgotten = self.tables.iter().enumerate().find_map(|(id, table)| {
            let table = table.as_ref()?;
            (!table.passed && !table.active.is_empty()).then_some((id, table.active.rows()))
        });
        if let Some((id, rows)) = forgotten {
            return Err(Error::usage(format!(
                "a checkpoint was asked for before table {id} was frozen, which has {rows} rows"
            )));
        }
        for table in self.tables.iter_mut().flatten() {
            table.passed = false;
        }
        self.barrier = false;
        self.start_flush(true);
        self.install_done()
    }
}
