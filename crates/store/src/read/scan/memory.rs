//! What the memtables hold of a scan's window, copied when the scan starts, but no more of it than the answer can need.
use std::ops::Range;

use super::{SCAN_BYTES_MAX, Window};
use crate::error::Result;
use crate::key::KEY_HEADER_BYTES;
use crate::memtable::Memtable;
use crate::memtable::ranges::RangeSet;
use crate::merge::Merging;
use crate::row::{Content, RowKind, RowRef, SourceRow};
use crate::rules::MergeRule;

/// Bytes that a row of operands has at most besides its operands and what they add to.
const OPERANDS_HEADER_BYTES_MAX: usize = 32;

/// Bytes that a row's value has in the answer, at the least.
fn value_bytes_min(row: RowRef<'_>, rule: &MergeRule) -> usize {
    match (row.kind, rule) {
        (RowKind::Value, _) => row.value.len(),
        (RowKind::Operands, MergeRule::Append) => {
            row.value.len().saturating_sub(OPERANDS_HEADER_BYTES_MAX)
        }
        // A fold may make anything of them.
        (RowKind::Operands | RowKind::Tombstone, _) => 0,
    }
}

/// Rows copied from the memtables in key order, tombstones included.
#[derive(Default)]
pub(crate) struct MemoryRows {
    bytes: Vec<u8>,
    rows: Vec<MemoryRow>,
    /// What they delete in files.
    pub(super) ranges: RangeSet,
}

struct MemoryRow {
    key: Range<usize>,
    kind: RowKind,
    time_ms: Option<i64>,
    value: Range<usize>,
}

impl MemoryRows {
    /// Merges memtables (newest first) over the window; stops when the values alone fill the answer, by their number or their bytes.
    pub(crate) fn capture<'a>(
        memtables: impl Iterator<Item = &'a Memtable>,
        group: u16,
        window: &Window,
    ) -> Result<Self> {
        let header = window.lower.get(..KEY_HEADER_BYTES).unwrap_or_default();
        let from = window.lower.get(KEY_HEADER_BYTES..).unwrap_or_default();
        let until = window.upper.as_deref();
        let until = until.filter(|upper| upper.starts_with(header));
        let until = until.and_then(|upper| upper.get(KEY_HEADER_BYTES..));
        let mut this = Self::default();
        let mut sources = Vec::new();
        for memtable in memtables.filter(|memtable| !memtable.is_empty()) {
            let ranges = memtable.ranges();
            for (start, end) in ranges.overlapping(&window.lower, window.upper.as_deref()) {
                this.ranges.add(start, end);
            }
            let rows = memtable.rows_from(group, from, until).peekable();
            sources.push((rows, ranges));
        }
        if sources.is_empty() {
            return Ok(this);
        }
        let (mut values, mut value_bytes) = (0, 0);
        let mut merging = Merging::default();
        let mut whole = header.to_vec();
        let mut at_key: Vec<SourceRow<'_>> = Vec::new();
        while values < window.rows_max && value_bytes < SCAN_BYTES_MAX {
            let heads = sources.iter_mut().map(|(rows, _)| rows.peek());
            let Some(key) = heads.flatten().map(|row| row.key).min() else {
                break;
            };
            whole.truncate(KEY_HEADER_BYTES);
            whole.extend_from_slice(key);
            if !window.is_below_upper(&whole) {
                break;
            }
            // What the memtables say of the key, newest first, down to what hides everything older.
            at_key.clear();
            let mut open = true;
            for (rows, ranges) in &mut sources {
                if let Some(row) = rows.next_if(|row| row.key == key)
                    && open
                {
                    open = matches!(row.said.content, Content::Operands(_));
                    at_key.push(row.said);
                }
                open &= ranges.is_empty() || ranges.covering(&whole).is_none();
            }
            let Some(newest) = at_key.first() else {
                continue;
            };
            let row = match newest.content {
                Content::Tombstone => RowRef::plain(None),
                Content::Value(value) => RowRef::new(RowKind::Value, newest.time_ms, value),
                Content::Operands(_) => {
                    merging.start(open);
                    for row in at_key.iter().rev() {
                        merging.add(row, &window.rules);
                    }
                    merging.row().unwrap_or(RowRef::plain(None))
                }
            };
            let is_shown =
                row.kind != RowKind::Tombstone && !window.rules.hides(row.time_ms, window.now_ms);
            if is_shown {
                values += 1;
                value_bytes += key.len() + value_bytes_min(row, &window.rules.merge);
            }
            this.push(&whole, row);
        }
        Ok(this)
    }

    fn push(&mut self, whole: &[u8], row: RowRef<'_>) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(whole);
        let end = self.bytes.len();
        self.bytes.extend_from_slice(row.value);
        self.rows.push(MemoryRow {
            key: start..end,
            kind: row.kind,
            time_ms: row.time_ms,
            value: end..self.bytes.len(),
        });
    }

    pub(super) fn key(&self, i: usize) -> Option<&[u8]> {
        self.bytes.get(self.rows.get(i)?.key.clone())
    }

    pub(super) fn row(&self, i: usize) -> Option<RowRef<'_>> {
        let row = self.rows.get(i)?;
        let value = self.bytes.get(row.value.clone())?;
        Some(RowRef::new(row.kind, row.time_ms, value))
    }
}
