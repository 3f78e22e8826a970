//! Counting entries without decoding values.

use std::collections::BTreeMap;
use std::sync::Arc;

use aquifer_store::KeyGroupRange;

use super::entries::Entries;
use super::{ReadableTable, StateReader};
use crate::StateError;

/// How many entries a state has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StateCounts {
    /// Rows as a scan shows them: values, elements, entries of maps, timers.
    pub rows: u64,
    /// Pairs of key and namespace. Timers are ordered by time, so that of them each counts that is not like the one before. Means nothing for
    /// tables that do not tell their keys ([`ReadableTable::tells_keys`]).
    pub keys: u64,
    /// Rows of each key group that has some.
    pub groups: BTreeMap<u16, u64>,
}

impl StateReader {
    /// Counts the entries of a table in these key groups. Reads all of them; `progress` is told how many rows there are so far, now and then,
    /// and says whether to go on.
    pub fn count(
        &self,
        table: &ReadableTable,
        part: KeyGroupRange,
        progress: &mut dyn FnMut(u64) -> bool,
    ) -> Result<StateCounts, StateError> {
        const TOLD_EVERY_ROWS: u64 = 4096;
        let mut entries = Entries::open(Arc::clone(&self.shared), table, part, None)?;
        let mut counts = StateCounts::default();
        while let Some((group, is_new_key)) =
            entries.next(|_, entry| Ok((entry.group, entry.is_new_key)))?
        {
            counts.rows += 1;
            counts.keys += u64::from(is_new_key);
            if let Some(group) = group {
                *counts.groups.entry(group).or_default() += 1;
            }
            if counts.rows.is_multiple_of(TOLD_EVERY_ROWS) && !progress(counts.rows) {
                break;
            }
        }
        Ok(counts)
    }
}
