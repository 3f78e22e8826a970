//! Walks over the rows of a block.
use super::{Aside, BlockRow, BlockValue, DataBlock, raw_row};
use crate::row::RowRef;

/// Stands at a row, or before the first; the key is put together in a buffer that is used again.
#[derive(Default)]
pub(crate) struct BlockCursor {
    /// Number of the next row.
    next: usize,
    key: Vec<u8>,
    /// Bytes of `key` that are the block's prefix; `None` until a row of the block was read.
    prefix_len: Option<usize>,
    row: Option<BlockRow>,
}

impl BlockCursor {
    /// Moves to the first row at or above `from`; returns whether there is one.
    pub(crate) fn seek(&mut self, block: &DataBlock, from: &[u8]) -> bool {
        self.reset();
        self.next = block.lower_bound(from);
        self.advance(block)
    }

    /// Moves to the next row; returns whether there is one.
    #[inline]
    pub(crate) fn advance(&mut self, block: &DataBlock) -> bool {
        self.row = self.read_next(block);
        self.row.is_some()
    }

    #[inline]
    fn read_next(&mut self, block: &DataBlock) -> Option<BlockRow> {
        let rows = block.row_bytes();
        let raw = raw_row(rows, block.offset(self.next)?)?;
        let rest = rows.get(raw.rest.clone())?;
        let prefix_len = match self.prefix_len {
            Some(len) => len,
            None => {
                self.key.clear();
                self.key.extend_from_slice(block.prefix());
                *self.prefix_len.insert(self.key.len())
            }
        };
        self.key.truncate(prefix_len);
        self.key.extend_from_slice(rest);
        self.next += 1;
        block.row(&raw)
    }

    /// The key at the cursor.
    #[inline]
    pub(crate) fn key(&self) -> &[u8] {
        &self.key
    }

    /// The row at the cursor; `None` when it stands nowhere. A value that lies aside is left out: see [`Self::aside`].
    #[inline]
    pub(crate) fn row<'a>(&self, block: &'a DataBlock) -> Option<RowRef<'a>> {
        let row = self.row.as_ref()?;
        let value = match &row.value {
            BlockValue::Inline(range) => block.data.get(range.clone())?,
            BlockValue::Aside(_) => &[],
        };
        Some(RowRef::new(row.kind, row.time_ms, value))
    }

    /// Where the value of the row at the cursor lies, if it lies aside.
    #[inline]
    pub(crate) fn aside(&self) -> Option<Aside> {
        match self.row.as_ref()?.value {
            BlockValue::Inline(_) => None,
            BlockValue::Aside(aside) => Some(aside),
        }
    }

    pub(super) fn block_row(&self) -> Option<&BlockRow> {
        self.row.as_ref()
    }

    /// Stands before the first row of whatever block comes next.
    pub(crate) fn reset(&mut self) {
        self.next = 0;
        self.key.clear();
        self.prefix_len = None;
        self.row = None;
    }
}
