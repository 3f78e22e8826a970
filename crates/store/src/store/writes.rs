//! The writes of a [`Store`], and the points in the stream at which memtables are frozen.
use super::work::FlushKind;
use super::{Store, unknown};
use crate::error::{Error, Result};
use crate::key::{self, KEY_BYTES_MAX, KeyBuffer};
use crate::memtable::VALUE_BYTES_MAX;
use crate::options::TableId;

impl Store {
    /// Sets the value of a key. Takes longer when background work is behind, and waits while more than two memtables' worth of
    /// flushes is under way.
    ///
    /// A key has at most 65,531 bytes and a value at most 1 GiB; longer ones are an error of kind [`ErrorKind::Usage`] and
    /// change nothing.
    ///
    /// [`ErrorKind::Usage`]: crate::ErrorKind::Usage
    #[inline]
    pub fn put(&mut self, table: TableId, group: u16, key: &[u8], value: &[u8]) -> Result<()> {
        self.write(table, group, key, Some(value), None)
    }

    /// Like [`Self::put`], for a value that was written at `time_ms` (milliseconds since the Unix epoch) and expires when that
    /// is as long ago as the table's TTL. One table may hold rows with and without times: each goes by its own time, and those without
    /// by [`TableOptions::untimed_as_ms`].
    ///
    /// [`TableOptions::untimed_as_ms`]: crate::TableOptions::untimed_as_ms
    #[inline]
    pub fn put_at(
        &mut self,
        table: TableId,
        group: u16,
        key: &[u8],
        value: &[u8],
        time_ms: i64,
    ) -> Result<()> {
        self.write(table, group, key, Some(value), Some(time_ms))
    }

    /// Removes a key.
    #[inline]
    pub fn delete(&mut self, table: TableId, group: u16, key: &[u8]) -> Result<()> {
        self.write(table, group, key, None, None)
    }

    #[inline]
    fn write(
        &mut self,
        table: TableId,
        group: u16,
        key: &[u8],
        value: Option<&[u8]>,
        time_ms: Option<i64>,
    ) -> Result<()> {
        check_lengths(table, key.len(), value.map_or(0, <[u8]>::len))?;
        let Some(Some(found)) = self.tables.get_mut(usize::from(table.0)) else {
            return Err(unknown(table));
        };
        let hash = key::hash_parts(key::header(group, table), key);
        let before = found.active.bytes();
        found.active.put(hash, group, key, value, time_ms)?;
        let after = found.active.bytes();
        self.grown(before, after)
    }

    /// Merges an operand into what a key holds, without reading it: see [`TableOptions::merge`]. The table must take operands.
    ///
    /// Returns how many bytes of value or operands the active memtable has of the key now, so that who appends can begin another key in
    /// time. What lies below the memtable is not counted: it is not looked at.
    ///
    /// [`TableOptions::merge`]: crate::TableOptions::merge
    #[inline]
    pub fn merge(
        &mut self,
        table: TableId,
        group: u16,
        key: &[u8],
        operand: &[u8],
    ) -> Result<usize> {
        self.write_operand(table, group, key, operand, None)
    }

    /// Like [`Self::merge`], for an operand that was written at `time_ms`: of all operands of a key and the value they merge
    /// into, the newest time counts. An operand that comes when what it meets has expired meets nothing.
    ///
    /// Values and operands without times count as written at [`TableOptions::untimed_as_ms`], and so do those with earlier times. If that
    /// is not set, those without times neither expire nor let anything expire until one with a time joins them, whose time then counts
    /// for all. Times of one key must not go back, counted like this, or what is met depends on how its rows were grouped into files.
    ///
    /// [`TableOptions::untimed_as_ms`]: crate::TableOptions::untimed_as_ms
    #[inline]
    pub fn merge_at(
        &mut self,
        table: TableId,
        group: u16,
        key: &[u8],
        operand: &[u8],
        time_ms: i64,
    ) -> Result<usize> {
        self.write_operand(table, group, key, operand, Some(time_ms))
    }

    fn write_operand(
        &mut self,
        table: TableId,
        group: u16,
        key: &[u8],
        operand: &[u8],
        time_ms: Option<i64>,
    ) -> Result<usize> {
        check_lengths(table, key.len(), operand.len())?;
        let Some(Some(found)) = self.tables.get_mut(usize::from(table.0)) else {
            return Err(unknown(table));
        };
        if !found.rules.merges {
            return Err(Error::usage(format!(
                "an operand was merged into table {}, which was created without a merge",
                table.0
            )));
        }
        let header = key::header(group, table);
        let hash = key::hash_parts(header, key);
        let ranges = found.active.ranges();
        let older = found.has_older(&self.version)
            && (ranges.is_empty()
                || ranges
                    .covering(KeyBuffer::new(header, key).as_slice())
                    .is_none());
        let before = found.active.bytes();
        let rules = &found.rules;
        let active = &mut found.active;
        let held = active.merge(hash, group, key, operand, time_ms, rules, older)?;
        let after = active.bytes();
        self.grown(before, after)?;
        Ok(held)
    }

    /// Removes every key of a group that starts with `prefix`, without reading any of them. Costs as much as the rows under the
    /// prefix that lie in the active memtable; of a table without an ordered companion, all its rows there are looked at.
    pub fn delete_prefix(&mut self, table: TableId, group: u16, prefix: &[u8]) -> Result<()> {
        check_lengths(table, prefix.len(), 0)?;
        let Some(Some(found)) = self.tables.get_mut(usize::from(table.0)) else {
            return Err(unknown(table));
        };
        let older = found.has_older(&self.version);
        let before = found.active.bytes();
        let header = key::header(group, table);
        found.active.delete_prefix(header, prefix, older)?;
        let after = found.active.bytes();
        self.grown(before, after)
    }

    /// Takes note of how an active memtable has changed its size.
    #[inline]
    fn grown(&mut self, before: usize, after: usize) -> Result<()> {
        self.active_bytes = self.active_bytes + after - before;
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
        let before = found.active.bytes();
        found.freeze();
        let frozen = before - found.active.bytes();
        self.active_bytes -= frozen;
        // What was frozen still takes memory, and the next look has to come as much earlier.
        if self.retained_bytes > 0 {
            self.look_at_bytes = self.look_at_bytes.saturating_sub(frozen);
        }
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

#[inline]
fn check_lengths(table: TableId, key_len: usize, value_len: usize) -> Result<()> {
    if key_len <= KEY_BYTES_MAX && value_len <= VALUE_BYTES_MAX {
        return Ok(());
    }
    Err(too_long(table, key_len, value_len))
}

#[cold]
fn too_long(table: TableId, key_len: usize, value_len: usize) -> Error {
    Error::usage(format!(
        "a row of table {} has a key of {key_len} and a value of {value_len} bytes, but a key has at most {KEY_BYTES_MAX} and a value at most {VALUE_BYTES_MAX}",
        table.0
    ))
}
