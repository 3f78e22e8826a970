//! One table of a [`super::Store`]: its active memtable and those that are frozen but not installed.
use std::sync::Arc;

use crate::key::{KEY_HEADER_BYTES, KeyBuffer};
use crate::memtable::Memtable;
use crate::options::TableOptions;
use crate::row::{Content, SourceRow};
use crate::rules::Rules;

pub(super) struct Table {
    pub(super) options: TableOptions,
    pub(super) rules: Arc<Rules>,
    /// The largest event time it was told, which decides what has expired if it goes by event time.
    pub(super) event_ms: i64,
    pub(super) active: Memtable,
    /// Not installed yet; oldest first.
    pub(super) frozen: Vec<FrozenTable>,
    /// The barrier in progress has passed this table.
    pub(super) passed: bool,
}

pub(super) struct FrozenTable {
    pub(super) memtable: Arc<Memtable>,
    /// The flush that writes it; `None` until one is started.
    pub(super) flush: Option<u64>,
}

/// What memtables know of a key, below the operands they hold.
pub(super) enum Seen<'a> {
    Value(&'a [u8], Option<i64>),
    /// Deleted.
    Gone,
    /// Files decide.
    Unknown,
}

impl Table {
    /// What the memtables know of a key; operands upon that are pushed to `operands`, newest first.
    #[inline]
    pub(super) fn look<'a>(
        &'a self,
        hash: u64,
        header: [u8; KEY_HEADER_BYTES],
        key: &[u8],
        operands: &mut Vec<SourceRow<'a>>,
    ) -> Seen<'a> {
        let seen = look_into(&self.active, hash, header, key, operands);
        if !matches!(seen, Seen::Unknown) || self.frozen.is_empty() {
            return seen;
        }
        for frozen in self.frozen.iter().rev() {
            let seen = look_into(&frozen.memtable, hash, header, key, operands);
            if !matches!(seen, Seen::Unknown) {
                return seen;
            }
        }
        Seen::Unknown
    }

    /// Prepares all memtables for looking up some hashes.
    pub(super) fn look_ahead(&self, hashes: &[u64]) {
        self.newest_first()
            .for_each(|memtable| memtable.look_ahead(hashes));
    }

    pub(super) fn newest_first(&self) -> impl Iterator<Item = &Memtable> {
        std::iter::once(&self.active)
            .chain(self.frozen.iter().rev().map(|frozen| &*frozen.memtable))
    }

    pub(super) fn freeze(&mut self) {
        if !self.active.is_empty() {
            let full = std::mem::replace(&mut self.active, Memtable::new(self.options.ordered));
            self.frozen.push(FrozenTable {
                memtable: Arc::new(full),
                flush: None,
            });
        }
    }
}

#[inline]
fn look_into<'a>(
    memtable: &'a Memtable,
    hash: u64,
    header: [u8; KEY_HEADER_BYTES],
    key: &[u8],
    operands: &mut Vec<SourceRow<'a>>,
) -> Seen<'a> {
    let group = u16::from_be_bytes([header[0], header[1]]);
    if let Some(row) = memtable.get(hash, group, key) {
        match row.content {
            Content::Value(value) => return Seen::Value(value, row.time_ms),
            Content::Tombstone => return Seen::Gone,
            Content::Operands(_) => operands.push(row),
        }
    }
    let ranges = memtable.ranges();
    if !ranges.is_empty()
        && ranges
            .covering(KeyBuffer::new(header, key).as_slice())
            .is_some()
    {
        return Seen::Gone;
    }
    Seen::Unknown
}
