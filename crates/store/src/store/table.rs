//! One table of a [`super::Store`]: its active memtable, those that are frozen but not installed, and those that stay in memory after that.
use std::sync::Arc;

use super::retained::Retained;
use crate::key::{KEY_HEADER_BYTES, KeyBuffer};
use crate::memtable::Memtable;
use crate::options::TableOptions;
use crate::row::{Content, SourceRow};
use crate::rules::Rules;
use crate::version::Version;

pub(super) struct Table {
    pub(super) options: TableOptions,
    pub(super) rules: Arc<Rules>,
    /// The largest event time it was told, which decides what has expired if it goes by event time.
    pub(super) event_ms: i64,
    pub(super) active: Memtable,
    /// Not installed yet; oldest first.
    pub(super) frozen: Vec<FrozenTable>,
    /// Installed, and still in memory.
    pub(super) retained: Retained,
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
    /// Files decide, but none of the flushes from this one on.
    Files(u64),
}

/// Takes no file out: no flush has this number.
const NO_FLUSH: u64 = u64::MAX;

impl Table {
    /// What the memtables know of a key; operands upon that are pushed to `operands`, newest first.
    #[inline(always)]
    pub(super) fn look<'a>(
        &'a self,
        hash: u64,
        header: [u8; KEY_HEADER_BYTES],
        key: &[u8],
        operands: &mut Vec<SourceRow<'a>>,
    ) -> Seen<'a> {
        if let Some(seen) = look_into(&self.active, hash, header, key, operands) {
            return seen;
        }
        for frozen in self.frozen.iter().rev() {
            if let Some(seen) = look_into(&frozen.memtable, hash, header, key, operands) {
                return seen;
            }
        }
        if self.retained.is_empty() {
            return Seen::Files(self.retained.since());
        }
        self.look_into_retained(hash, header, key)
    }

    #[inline]
    fn look_into_retained(
        &self,
        hash: u64,
        header: [u8; KEY_HEADER_BYTES],
        key: &[u8],
    ) -> Seen<'_> {
        if self.retained.are_several() {
            // What decides lies somewhere else in each of them: it is fetched at once, so that the key waits for one and not for one
            // after the other.
            let touched = self.retained.newest_first();
            std::hint::black_box(touched.fold(0, |all, memtable| all ^ memtable.touch(hash)));
        }
        let group = u16::from_be_bytes([header[0], header[1]]);
        for memtable in self.retained.newest_first() {
            if let Some(row) = memtable.row(hash, group, key) {
                if let Some((value, time_ms)) = row.value()
                    && !self.joins_expired()
                {
                    return Seen::Value(value, time_ms);
                }
                return self.judge_retained(row.said());
            }
            if is_hidden(memtable, header, key) {
                return Seen::Gone;
            }
        }
        Seen::Files(self.retained.since())
    }

    /// What a row of a retained memtable says that is more than a value.
    fn judge_retained<'a>(&self, row: SourceRow<'a>) -> Seen<'a> {
        match row.content {
            _ if self.joins_expired() && self.rules.expired(row.time_ms, self.event_ms) => {
                Seen::Files(NO_FLUSH)
            }
            Content::Value(value) => Seen::Value(value, row.time_ms),
            Content::Tombstone => Seen::Gone,
            // The files have them, too. Before ranges: those of a memtable that has taken up others may be older.
            Content::Operands(_) => Seen::Files(NO_FLUSH),
        }
    }

    /// Whether an operand joins a row that has expired as long as no compaction has dropped it: then only files know.
    pub(super) fn joins_expired(&self) -> bool {
        self.rules.merges && self.rules.event_time
    }

    /// Prepares all memtables for looking up some hashes.
    pub(super) fn look_ahead(&self, hashes: &[u64]) {
        self.newest_first()
            .chain(self.retained.newest_first())
            .for_each(|memtable| memtable.look_ahead(hashes));
    }

    /// What a scan reads: files that are not of the flushes from a number on, and memtables, newest first.
    pub(super) fn for_scan(&self) -> (u64, impl Iterator<Item = &Memtable>) {
        let (before, retained) = self.retained.for_scan();
        (before, self.newest_first().chain(retained))
    }

    /// Older sources than the active memtable may know keys of the table.
    pub(super) fn has_older(&self, version: &Version) -> bool {
        !(version.is_empty() && self.frozen.is_empty() && self.retained.is_empty())
    }

    /// Memtables with rows that are not in files, newest first.
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
) -> Option<Seen<'a>> {
    let group = u16::from_be_bytes([header[0], header[1]]);
    if let Some(row) = memtable.row(hash, group, key) {
        if let Some((value, time_ms)) = row.value() {
            return Some(Seen::Value(value, time_ms));
        }
        let said = row.said();
        match said.content {
            Content::Operands(_) => operands.push(said),
            Content::Value(_) | Content::Tombstone => return Some(Seen::Gone),
        }
    }
    is_hidden(memtable, header, key).then_some(Seen::Gone)
}

/// Whether a range tombstone of a memtable hides what older sources hold of a key.
#[inline]
fn is_hidden(memtable: &Memtable, header: [u8; KEY_HEADER_BYTES], key: &[u8]) -> bool {
    let ranges = memtable.ranges();
    !ranges.is_empty()
        && ranges
            .covering(KeyBuffer::new(header, key).as_slice())
            .is_some()
}
