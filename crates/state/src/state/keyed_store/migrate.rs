//! Rewriting a state whose serializer cannot read the bytes as they are, when it is opened.
//!
//! Rows are read, migrated and written in pieces of bounded size, so memory does not grow with the state. They keep their keys and times. What the
//! checkpoint says of the state changes only with the next checkpoint, which holds all rewritten rows: a job that dies before it starts over
//! from the old rows. After an error some rows are new and some are old, so the attempt must end, and it does.

use aquifer_store::TableId;
use tracing::info;

use crate::StateError;
use crate::access::StateAccess;
use crate::serializer::{Serializer, SerializerSnapshot, StateKind};
use crate::state::chunks::{Frames, push_frame};

/// Rows of the first piece: how large rows are is not known yet.
const FIRST_PIECE_ROWS: usize = 64;
/// Rows of a piece at most.
const PIECE_ROWS_MAX: usize = 4096;
/// Bytes that a piece should have, if its rows are like those before.
const PIECE_BYTES_TARGET: usize = 16 << 20;

/// Shows every row of a table, in order; blocks.
fn each_row(
    access: &StateAccess,
    table: TableId,
    mut each: impl FnMut(u16, &[u8], &[u8], Option<i64>) -> Result<(), StateError>,
) -> Result<(), StateError> {
    let range = access.key_groups();
    let mut piece_rows = FIRST_PIECE_ROWS;
    for group in range.start..=range.end {
        let mut from = Vec::new();
        loop {
            let piece = access.scan_blocking(table, group, &[], &from, None, piece_rows)?;
            let mut times = piece.times.iter();
            let mut bytes = 0;
            for (key, value) in &piece.rows {
                bytes += key.len() + value.len();
                each(group, key, value, times.next().copied().flatten())?;
            }
            match piece.rows.last() {
                Some((last, _)) if !piece.done => {
                    from.clear();
                    from.extend_from_slice(last);
                    from.push(0);
                    let row_bytes = bytes / piece.rows.len() + 1;
                    piece_rows = (PIECE_BYTES_TARGET / row_bytes).clamp(1, PIECE_ROWS_MAX);
                }
                _ => break,
            }
        }
    }
    Ok(())
}

/// A state that is rewritten.
pub(super) struct Migration<'a> {
    pub(super) access: &'a StateAccess,
    pub(super) operator: &'a str,
    pub(super) state: &'a str,
    pub(super) table: TableId,
    pub(super) kind: StateKind,
    /// What the checkpoint says of its values.
    pub(super) old: &'a SerializerSnapshot,
}

impl Migration<'_> {
    /// Rewrites every value; blocks.
    pub(super) fn run<V, S: Serializer<V>>(&self, serializer: &S) -> Result<(), StateError> {
        let (state, operator) = (self.state, self.operator);
        let (old, new) = (self.old.describe(), serializer.snapshot().describe());
        info!(
            state,
            operator, old, new, "rewriting a state for its new type"
        );
        let mut rows = 0u64;
        let mut row = Vec::new();
        let rewritten = each_row(self.access, self.table, |group, key, bytes, time_ms| {
            row.clear();
            self.rewrite::<V, S>(serializer, bytes, &mut row)?;
            rows += 1;
            self.access.put_at(self.table, group, key, &row, time_ms)
        });
        match rewritten {
            Ok(()) => {
                info!(state, operator, rows, "the state is rewritten");
                Ok(())
            }
            Err(error) => Err(self.named(error, rows)),
        }
    }

    /// Appends the new value of a row.
    fn rewrite<V, S: Serializer<V>>(
        &self,
        serializer: &S,
        bytes: &[u8],
        row: &mut Vec<u8>,
    ) -> Result<(), StateError> {
        if self.kind != StateKind::List {
            return serializer.serialize(&serializer.migrate(self.old, bytes)?, row);
        }
        let mut frames = Frames::new(bytes);
        let mut element = Vec::new();
        while let Some(frame) = frames.next()? {
            element.clear();
            serializer.serialize(&serializer.migrate(self.old, frame.bytes)?, &mut element)?;
            push_frame(row, frame.time_ms, &element);
        }
        Ok(())
    }

    fn named(&self, error: StateError, rows: u64) -> StateError {
        let (state, operator) = (self.state, self.operator);
        let named = |why: String| {
            format!(
                "state `{state}` of operator `{operator}` cannot be rewritten for its new type, after {rows} rows: {why}"
            )
        };
        match error {
            StateError::Usage(why) => StateError::Usage(named(why)),
            StateError::Incompatible(why) => StateError::Incompatible(named(why)),
            StateError::User(why) => StateError::User(named(why)),
            StateError::Corrupt(why) => StateError::Corrupt(named(why)),
            other => other,
        }
    }
}
