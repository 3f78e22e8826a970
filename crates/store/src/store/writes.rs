//! The writes of a [`Store`], and the points in the stream at which memtables are frozen.
use super::work::FlushKind;
use super::{Store, unknown};
use crate::error::{Error, Result};
use crate::key;
use crate::memtable::ROW_PART_BYTES_MAX;
use crate::options::TableId;

impl Store {
    /// Sets the value of a key. Takes longer when background work is behind, and waits while more than two memtables' worth of
    /// flushes is under way.
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
        if self.active_bytes > self.look_at_bytes {
            self.make_room()?;
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
        self.start_flush(FlushKind::Checkpoint);
        self.install_done()
    }
}
