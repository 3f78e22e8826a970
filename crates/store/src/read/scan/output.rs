//! Rows of an answer, gathered in one piece of memory.
use bytes::Bytes;

use super::{SCAN_BYTES_MAX, ScanRows};

/// Rows of a usual answer, and bytes of each.
const ROWS_USUAL: usize = 16;
const ROW_BYTES_USUAL: usize = 32;

/// The rows put out so far, in one allocation.
pub(super) struct Output {
    bytes: Vec<u8>,
    /// Where each key starts, where it ends and its value starts, and where that ends.
    rows: Vec<(usize, usize, usize)>,
    /// Empty until a row has a time.
    times: Vec<Option<i64>>,
}

impl Output {
    /// An empty one with room for the usual answer of at most so many rows.
    pub(super) fn with_room(rows_max: usize) -> Self {
        let rows = rows_max.min(ROWS_USUAL);
        Self {
            bytes: Vec::with_capacity(rows * ROW_BYTES_USUAL),
            rows: Vec::with_capacity(rows),
            times: Vec::new(),
        }
    }

    /// Whether an answer of so many rows at most ends here.
    #[inline]
    pub(super) fn is_full(&self, rows_max: usize) -> bool {
        self.rows.len() >= rows_max || self.bytes.len() >= SCAN_BYTES_MAX
    }

    /// Adds a row, by its key without group and table.
    #[inline]
    pub(super) fn push(&mut self, key: &[u8], value: &[u8], time_ms: Option<i64>) {
        if time_ms.is_some() || !self.times.is_empty() {
            self.times.resize(self.rows.len(), None);
            self.times.push(time_ms);
        }
        let start = self.bytes.len();
        self.bytes.extend_from_slice(key);
        let middle = self.bytes.len();
        self.bytes.extend_from_slice(value);
        self.rows.push((start, middle, self.bytes.len()));
    }

    pub(super) fn finish(self, done: bool) -> ScanRows {
        if self.rows.is_empty() {
            return ScanRows {
                done,
                ..ScanRows::default()
            };
        }
        let bytes = Bytes::from(self.bytes);
        let slice = |(start, middle, end)| (bytes.slice(start..middle), bytes.slice(middle..end));
        ScanRows {
            rows: self.rows.into_iter().map(slice).collect(),
            times: self.times,
            done,
        }
    }
}
