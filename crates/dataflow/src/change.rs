//! Changelog batches: an Arrow batch with a row kind for each row.
//!
//! A batch without kinds is all inserts, which is what sources and append-only operators make; nothing is stored for it.

use std::sync::Arc;

use arrow::array::RecordBatch;

/// What a row of a changelog does to the result: Flink's `RowKind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RowKind {
    /// `+I`: a new row.
    Insert = 0,
    /// `-U`: the old content of a row that changes; a `+U` follows.
    UpdateBefore = 1,
    /// `+U`: the new content of a row that changed.
    UpdateAfter = 2,
    /// `-D`: the row goes.
    Delete = 3,
}

impl RowKind {
    /// The short form that Flink prints: `+I`, `-U`, `+U`, `-D`.
    pub fn short(self) -> &'static str {
        match self {
            RowKind::Insert => "+I",
            RowKind::UpdateBefore => "-U",
            RowKind::UpdateAfter => "+U",
            RowKind::Delete => "-D",
        }
    }

    /// True for `+I` and `+U`: the row adds to aggregates; otherwise it is taken back from them.
    pub fn adds(self) -> bool {
        matches!(self, RowKind::Insert | RowKind::UpdateAfter)
    }
}

/// Rows and what each does.
#[derive(Clone, Debug)]
pub struct ChangeBatch {
    /// The rows.
    pub rows: RecordBatch,
    /// One kind per row, or `None` when all are inserts.
    pub kinds: Option<Arc<[RowKind]>>,
}

impl ChangeBatch {
    /// All rows are inserts.
    pub fn inserts(rows: RecordBatch) -> Self {
        Self { rows, kinds: None }
    }

    /// Rows with their kinds.
    ///
    /// # Panics
    /// If there is not exactly one kind per row.
    pub fn new(rows: RecordBatch, kinds: Vec<RowKind>) -> Self {
        assert_eq!(rows.num_rows(), kinds.len(), "one kind per row");
        if kinds.iter().all(|k| *k == RowKind::Insert) {
            return Self::inserts(rows);
        }
        Self {
            rows,
            kinds: Some(kinds.into()),
        }
    }

    /// The kind of row `row`.
    pub fn kind(&self, row: usize) -> RowKind {
        self.kinds
            .as_ref()
            .map_or(RowKind::Insert, |kinds| kinds[row])
    }

    /// True when every row is an insert.
    pub fn insert_only(&self) -> bool {
        self.kinds.is_none()
    }
}
