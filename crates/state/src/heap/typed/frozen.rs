//! A typed table as it was when the barrier passed it, and how its entries become rows: on another thread, in key order.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::FrozenTable;
use super::entry::HeapEntry;
use super::layer::Layer;
use super::layers::{Parts, each_sorted};
use super::table::{RowShape, no_such_group};
use crate::StateError;
use crate::heap::frozen_groups::FrozenGroups;
use crate::rows::{RowRefs, RowSink};
use crate::ttl::TtlRule;

/// What has expired at one moment.
pub(super) struct Dead(Option<(TtlRule, i64)>);

impl Dead {
    pub(super) fn new(ttl: Option<TtlRule>, now_ms: Option<i64>) -> Self {
        Self(ttl.zip(now_ms))
    }

    pub(super) fn expired(&self, time_ms: Option<i64>) -> bool {
        self.0
            .is_some_and(|(ttl, now_ms)| ttl.expired(time_ms, now_ms))
    }
}

/// What the last snapshot that was written to its end has seen of a table: nobody else knows how large its values are.
#[derive(Default)]
pub(super) struct Measured {
    entries: AtomicU64,
    bytes: AtomicU64,
}

impl Measured {
    /// Bytes of so many entries, if they are like those of the last snapshot.
    pub(super) fn bytes_of(&self, entries: usize) -> Option<u64> {
        let measured = self.entries.load(Ordering::Relaxed);
        let bytes = u128::from(self.bytes.load(Ordering::Relaxed));
        let bytes = (bytes * entries as u128).checked_div(u128::from(measured))?;
        Some(u64::try_from(bytes).unwrap_or(u64::MAX))
    }
}

/// See the module.
pub(super) struct Frozen<E, S> {
    pub(super) shape: RowShape,
    pub(super) serializer: S,
    pub(super) groups: FrozenGroups<Layer<E>>,
    pub(super) measured: Arc<Measured>,
    /// Entries and bytes that were written so far.
    pub(super) written: Cell<(u64, u64)>,
}

impl<E: HeapEntry<S>, S: Clone + Send + 'static> FrozenTable for Frozen<E, S> {
    fn write(
        &self,
        group: u16,
        now_ms: Option<i64>,
        sink: &mut dyn RowSink,
    ) -> Result<u64, StateError> {
        let range = self.shape.range;
        let layers = self
            .groups
            .get(usize::from(group.wrapping_sub(range.start)))
            .ok_or_else(|| no_such_group(range, group))?;
        let newest_first: Vec<&Layer<E>> = layers.iter().rev().map(Arc::as_ref).collect();
        let dead = Dead::new(self.shape.ttl, now_ms);
        let mut writer = RowWriter::new(&self.shape, &self.serializer, group, &dead, sink);
        each_sorted(&newest_first, |key, parts| writer.entry(key, parts))?;
        let chunks = writer.chunks;
        let (entries, bytes) = self.written.get();
        let (entries, bytes) = (entries + writer.entries, bytes + writer.bytes);
        self.written.set((entries, bytes));
        if group == range.end {
            self.measured.entries.store(entries, Ordering::Relaxed);
            self.measured.bytes.store(bytes, Ordering::Relaxed);
        }
        Ok(chunks)
    }
}

/// Writes the entries of one key group as rows.
pub(super) struct RowWriter<'a, S> {
    shape: &'a RowShape,
    serializer: &'a S,
    group: u16,
    dead: &'a Dead,
    sink: &'a mut dyn RowSink,
    row_key: Vec<u8>,
    value: Vec<u8>,
    entries: u64,
    /// Of keys and values.
    bytes: u64,
    /// The first list chunk number that no row has.
    chunks: u64,
}

impl<'a, S> RowWriter<'a, S> {
    pub(super) fn new(
        shape: &'a RowShape,
        serializer: &'a S,
        group: u16,
        dead: &'a Dead,
        sink: &'a mut dyn RowSink,
    ) -> Self {
        Self {
            shape,
            serializer,
            group,
            dead,
            sink,
            row_key: Vec::new(),
            value: Vec::new(),
            entries: 0,
            bytes: 0,
            chunks: 0,
        }
    }

    /// Writes one entry, whose key follows those before.
    pub(super) fn entry<E: HeapEntry<S>>(
        &mut self,
        key: &[u8],
        parts: &Parts<'_, E>,
    ) -> Result<(), StateError> {
        let (group, table) = (self.group, self.shape.table);
        let (row_key, sink, bytes) = (&mut self.row_key, &mut *self.sink, &mut self.bytes);
        let chunks = E::write(
            parts,
            self.serializer,
            &mut self.value,
            &|time_ms| self.dead.expired(time_ms),
            &mut |suffix, value, time_ms| {
                row_key.clear();
                row_key.extend_from_slice(key);
                row_key.extend_from_slice(suffix);
                *bytes += (row_key.len() + value.len()) as u64;
                sink.put(RowRefs {
                    group,
                    table,
                    key: row_key,
                    value,
                    time_ms,
                })
            },
        )?;
        self.entries += 1;
        self.chunks = self.chunks.max(chunks);
        Ok(())
    }
}
