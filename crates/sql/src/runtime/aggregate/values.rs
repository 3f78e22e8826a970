//! The distinct values of groups with how often each is there: an ordered state table `state key ‖ value → count`.
//!
//! It serves DISTINCT (a value counts when its number leaves or reaches zero) and MIN and MAX of values that can be taken back (the extreme is
//! the first entry). Only the values that a batch touches are read and written, so a group may have far more values than memory holds.
//! A retraction may come before its value; then the count is below zero for a while, and such an entry is not there for readers.

use aquifer_dataflow::JobError;
use aquifer_state::access::{Keys, StateAccess, Values};
use aquifer_store::TableId;
use arrow::array::{Array, ArrayRef, BooleanArray};
use hashbrown::HashTable;

use super::codec::{read_signed, write_signed};
use super::fold::KeyFold;
use crate::runtime::row_key::{self, KeyEncoder};

/// No pair: the row is filtered out or its value is null.
const NONE: u32 = u32::MAX;

/// Entries per piece of a scan.
const SCAN_ROWS: usize = 64;

/// Entries per piece where all are deleted.
const DELETE_ROWS: usize = 1024;

/// The (group, value) pairs of one batch.
pub struct ValuePairs {
    /// State key of each pair.
    pub keys: Keys,
    /// Where the value begins in the pair's key.
    value_starts: Vec<u32>,
    of_row: Vec<u32>,
}

impl ValuePairs {
    /// Collects the pairs of the rows that `filter` lets through. `inverted` files values in descending order.
    pub fn new(
        fold: &KeyFold,
        input: &ArrayRef,
        filter: Option<&BooleanArray>,
        inverted: bool,
    ) -> Result<Self, JobError> {
        let rows = input.len();
        let encoder = KeyEncoder::new([input])?;
        let mut pairs = Self {
            keys: Keys::default(),
            value_starts: Vec::new(),
            of_row: Vec::with_capacity(rows),
        };
        let mut hashes: Vec<u64> = Vec::new();
        let mut table: HashTable<u32> = HashTable::with_capacity(rows);
        let mut scratch = Vec::with_capacity(64);
        for row in 0..rows {
            let group = fold.group_of_row[row];
            if group == NONE || input.is_null(row) || !filter.is_none_or(|f| passes(f, row)) {
                pairs.of_row.push(NONE);
                continue;
            }
            let (key_group, key) = fold.keys.get(group as usize);
            scratch.clear();
            scratch.extend_from_slice(key);
            let start = scratch.len();
            encoder.encode(row, &mut scratch);
            if inverted {
                scratch[start..].iter_mut().for_each(|byte| *byte = !*byte);
            }
            let hash = row_key::hash(&scratch);
            let found = table.find(hash, |pair| pairs.keys.get(*pair as usize).1 == scratch);
            let pair = found.copied().unwrap_or_else(|| {
                let pair = pairs.value_starts.len() as u32;
                pairs.keys.push(key_group, &scratch);
                pairs.value_starts.push(start as u32);
                hashes.push(hash);
                table.insert_unique(hash, pair, |pair| hashes[*pair as usize]);
                pair
            });
            pairs.of_row.push(pair);
        }
        Ok(pairs)
    }

    /// The encoded value of a row that has a pair.
    pub fn value(&self, row: usize) -> Option<&[u8]> {
        let pair = self.pair(row)?;
        let start = self.value_starts[pair] as usize;
        self.keys.get(pair).1.get(start..)
    }

    fn pair(&self, row: usize) -> Option<usize> {
        let pair = self.of_row[row];
        (pair != NONE).then_some(pair as usize)
    }
}

/// Whether a filter column lets a row through: only true does.
pub fn passes(filter: &BooleanArray, row: usize) -> bool {
    filter.is_valid(row) && filter.value(row)
}

/// The counts of a batch's pairs: read at once, changed in memory, written back at once.
pub struct ValueCounts<'a> {
    table: TableId,
    pairs: &'a ValuePairs,
    counts: Vec<i64>,
    changed: Vec<bool>,
    /// Changed pairs that are not written yet.
    unwritten: Vec<u32>,
}

impl<'a> ValueCounts<'a> {
    /// Reads the counts.
    pub async fn load(
        table: TableId,
        pairs: &'a ValuePairs,
        state: &StateAccess,
        values: &mut Values,
    ) -> Result<Self, JobError> {
        state.multi_get(table, &pairs.keys, values).await?;
        let counts = (0..pairs.keys.len())
            .map(|pair| values.get(pair).map_or(Ok(0), count))
            .collect::<Result<Vec<_>, _>>()?;
        let changed = vec![false; counts.len()];
        Ok(Self {
            table,
            pairs,
            counts,
            changed,
            unwritten: Vec::new(),
        })
    }

    /// The table that holds the counts.
    pub fn table(&self) -> TableId {
        self.table
    }

    /// The batch's pairs.
    pub fn pairs(&self) -> &'a ValuePairs {
        self.pairs
    }

    /// The count of a row's value before it is changed; `None` if the row has no pair.
    pub fn count(&self, row: usize) -> Option<i64> {
        self.pairs.pair(row).map(|pair| self.counts[pair])
    }

    /// Changes the count of a row's value by one and returns (before, after).
    pub fn change(&mut self, row: usize, sign: i8) -> (i64, i64) {
        let Some(pair) = self.pairs.pair(row) else {
            return (0, 0);
        };
        let before = self.counts[pair];
        let after = before.saturating_add(i64::from(sign));
        self.counts[pair] = after;
        if !self.changed[pair] {
            self.changed[pair] = true;
            self.unwritten.push(pair as u32);
        }
        (before, after)
    }

    /// Writes what changed since the last call.
    pub fn write(&mut self, state: &StateAccess) -> Result<(), JobError> {
        let mut bytes = Vec::with_capacity(10);
        for pair in self.unwritten.drain(..) {
            let pair = pair as usize;
            self.changed[pair] = false;
            let (key_group, key) = self.pairs.keys.get(pair);
            if self.counts[pair] == 0 {
                state.delete(self.table, key_group, key)?;
            } else {
                bytes.clear();
                write_signed(self.counts[pair], &mut bytes);
                state.put(self.table, key_group, key, &bytes)?;
            }
        }
        Ok(())
    }
}

fn count(bytes: &[u8]) -> Result<i64, JobError> {
    let mut rest = bytes;
    read_signed(&mut rest)
        .filter(|_| rest.is_empty())
        .ok_or_else(|| JobError::failed("the count of a distinct value in state is malformed"))
}

/// The first value of a group that is there, at or behind `from` (an encoded value, or nothing for the very first).
pub async fn first_value(
    table: TableId,
    state: &StateAccess,
    key_group: u16,
    key: &[u8],
    from: &[u8],
) -> Result<Option<Vec<u8>>, JobError> {
    let mut next = [key, from].concat();
    // The very next entry is nearly always the answer.
    let mut rows_max = 2;
    loop {
        let found = state
            .scan(table, key_group, key, &next, None, rows_max)
            .await?;
        for (entry, value) in &found.rows {
            if count(value)? > 0 {
                return Ok(entry.get(key.len()..).map(<[u8]>::to_vec));
            }
        }
        let Some((last, _)) = found.rows.last().filter(|_| !found.done) else {
            return Ok(None);
        };
        next.clear();
        next.extend_from_slice(last);
        next.push(0);
        rows_max = SCAN_ROWS;
    }
}

/// Deletes all values of the groups whose state keys begin with `prefix`.
pub async fn delete_values(
    table: TableId,
    state: &StateAccess,
    key_group: u16,
    prefix: &[u8],
) -> Result<(), JobError> {
    let mut from = prefix.to_vec();
    loop {
        let found = state
            .scan(table, key_group, prefix, &from, None, DELETE_ROWS)
            .await?;
        for (entry, _) in &found.rows {
            state.delete(table, key_group, entry)?;
        }
        let Some((last, _)) = found.rows.last().filter(|_| !found.done) else {
            return Ok(());
        };
        from.clear();
        from.extend_from_slice(last);
        from.push(0);
    }
}
