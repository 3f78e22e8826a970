//! Leaves out chunks of lists of which everything has expired once: nobody looks for them any more, whatever the TTL is now.
//!
//! Their rows may be in the files for long. Whoever moves rows into a place that numbers chunks anew, or knows nothing of numbers, would bring
//! them back.

use std::collections::BTreeMap;

use aquifer_store::TableId;

use super::{RowRefs, RowSource};
use crate::{KeyedSnapshot, StateError};

/// The rows of a snapshot but for those of chunks that do not count.
struct Counted {
    rows: Box<dyn RowSource>,
    /// By table of lists the first chunk that counts.
    oldest: BTreeMap<TableId, u64>,
}

/// The same rows without those of chunks that do not count in `snapshot`.
pub(crate) fn counted(rows: Box<dyn RowSource>, snapshot: &KeyedSnapshot) -> Box<dyn RowSource> {
    let some_gone = snapshot.tables.iter().filter(|said| said.list_oldest > 0);
    let oldest: BTreeMap<TableId, u64> = some_gone
        .map(|said| (said.table, said.list_oldest))
        .collect();
    match oldest.is_empty() {
        true => rows,
        false => Box::new(Counted { rows, oldest }),
    }
}

/// The chunk of a row of a list.
fn chunk(key: &[u8]) -> Option<u64> {
    key.last_chunk().map(|number| u64::from_be_bytes(*number))
}

impl RowSource for Counted {
    fn next(
        &mut self,
        rows_max: usize,
        each: &mut dyn FnMut(RowRefs<'_>) -> Result<(), StateError>,
    ) -> Result<bool, StateError> {
        let oldest = &self.oldest;
        self.rows.next(rows_max, &mut |row| {
            let first = oldest.get(&row.table);
            let is_gone = first
                .zip(chunk(row.key))
                .is_some_and(|(first, chunk)| chunk < *first);
            match is_gone {
                true => Ok(()),
                false => each(row),
            }
        })
    }

    fn seek(&mut self, group: u16, table: TableId, key: &[u8]) -> Result<(), StateError> {
        self.rows.seek(group, table, key)
    }
}
