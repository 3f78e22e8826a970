//! Rewriting a state when it is opened: one whose serializer cannot read the bytes as they are, or whose rows have times of another kind than its
//! TTL counts in now.
//!
//! Every row is rewritten, also those that have expired: another TTL, or none, may show them again. Rows are read, migrated and written in
//! pieces of bounded size, so memory does not grow with the state. They keep their keys, and their times if those still mean something. What the
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
    /// What the checkpoint says of its values, if their bytes change.
    pub(super) old: Option<&'a SerializerSnapshot>,
    /// Rows lose their times, which are not of the kind that counts now.
    pub(super) forgets_times: bool,
}

impl Migration<'_> {
    /// Rewrites every row; blocks.
    pub(super) fn run<V, S: Serializer<V>>(&self, serializer: &S) -> Result<(), StateError> {
        let (state, operator) = (self.state, self.operator);
        let old = self.old.map(SerializerSnapshot::describe);
        let new = old.is_some().then(|| serializer.snapshot().describe());
        let forgets_times = self.forgets_times;
        info!(
            state,
            operator, old, new, forgets_times, "rewriting a state for its new type or TTL"
        );
        let mut rows = 0u64;
        let mut row = Vec::new();
        self.access.show_expired(self.table, true)?;
        let rewritten = each_row(self.access, self.table, |group, key, bytes, time_ms| {
            row.clear();
            self.rewrite::<V, S>(serializer, bytes, &mut row)
                .map_err(|error| error.about(&format!("key group {group}")))?;
            rows += 1;
            let time_ms = time_ms.filter(|_| !forgets_times);
            self.access.put_at(self.table, group, key, &row, time_ms)
        });
        self.access.show_expired(self.table, false)?;
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
            return self.rewrite_value::<V, S>(serializer, bytes, row);
        }
        let mut frames = Frames::new(bytes);
        let mut element = Vec::new();
        while let Some(frame) = frames.next()? {
            element.clear();
            self.rewrite_value::<V, S>(serializer, frame.bytes, &mut element)?;
            let time_ms = frame.time_ms.filter(|_| !self.forgets_times);
            push_frame(row, time_ms, &element);
        }
        Ok(())
    }

    fn rewrite_value<V, S: Serializer<V>>(
        &self,
        serializer: &S,
        bytes: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), StateError> {
        match self.old {
            Some(old) => serializer.serialize(&serializer.migrate(old, bytes)?, out),
            None => {
                out.extend_from_slice(bytes);
                Ok(())
            }
        }
    }

    fn named(&self, error: StateError, rows: u64) -> StateError {
        let (state, operator) = (self.state, self.operator);
        let named = |why: String| {
            format!(
                "state `{state}` of operator `{operator}` cannot be rewritten for its new type or TTL, after {rows} rows: {why}"
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
