//! Rows of a table with their values decoded, in pieces.

use std::sync::Arc;

use aquifer_store::KeyGroupRange;

use super::Shared;
use super::entries::{Content, Entries};
use super::tables::ReadableTable;
use crate::StateError;
use crate::dynamic::DynamicValue;

/// Bytes of values, before they are decoded, after which a piece ends.
const PIECE_BYTES: usize = 1 << 20;

/// One entry of a state.
#[derive(Clone, Debug, PartialEq)]
pub struct StateRow {
    /// Of its key; none if the table has no keys.
    pub key_group: Option<u16>,
    /// Its key. If nothing says where the key ends, the bytes of key, namespace and user key in one.
    pub key: DynamicValue,
    /// Its namespace, if the state has namespaces and one can be told from the key.
    pub namespace: Option<DynamicValue>,
    /// Its key in a map.
    pub user_key: Option<DynamicValue>,
    /// Its value, element or accumulator; of a timer, its time.
    pub value: DynamicValue,
    /// Its place in a list, among the elements that are shown.
    pub index: Option<u64>,
    /// When it was written, if that is known.
    pub written_ms: Option<i64>,
    /// When it expires or has expired, if it does.
    pub expires_ms: Option<i64>,
}

/// Hands out the rows of a table. It blocks, and stays on the thread that made it.
pub struct StateRows {
    entries: Entries,
    done: bool,
}

impl StateRows {
    pub(super) fn open(
        shared: Arc<Shared>,
        table: &ReadableTable,
        part: KeyGroupRange,
        only_key: Option<&DynamicValue>,
    ) -> Result<Self, StateError> {
        Ok(Self {
            entries: Entries::open(shared, table, part, only_key)?,
            done: false,
        })
    }

    /// The next rows: `rows_max` at most, fewer if they are large; `None` after the last. After an error there are no more.
    pub fn next_piece(&mut self, rows_max: usize) -> Result<Option<Vec<StateRow>>, StateError> {
        let mut rows = Vec::new();
        let mut bytes = 0usize;
        while !self.done && rows.len() < rows_max.max(1) && bytes < PIECE_BYTES {
            let next = self.entries.next(|table, entry| {
                let value = match entry.value {
                    Content::Time(time_ms) => DynamicValue::Int(time_ms),
                    Content::Bytes(value) => {
                        bytes += value.len();
                        table.value.decode(value)?
                    }
                };
                Ok(StateRow {
                    key_group: entry.group,
                    key: entry.head.key.clone(),
                    namespace: entry.head.namespace.clone(),
                    user_key: entry.user_key,
                    value,
                    index: entry.index,
                    written_ms: entry.written_ms,
                    expires_ms: entry.expires_ms,
                })
            });
            match next {
                Ok(Some(row)) => rows.push(row),
                Ok(None) => self.done = true,
                Err(error) => {
                    self.done = true;
                    return Err(error);
                }
            }
        }
        Ok((!rows.is_empty()).then_some(rows))
    }

    /// Bytes of rows that are held beside what was handed out.
    pub fn held_bytes(&self) -> usize {
        self.entries.held_bytes()
    }
}
