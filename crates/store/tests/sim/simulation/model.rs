//! What a job should hold: a sorted map of rows, and copies of it as they were at checkpoints.
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use aquifer_store::KeyGroupRange;

use super::op::{SUMS, TTL_MS};

/// Table, key group and key of a row.
pub type RowKey = (u8, u16, Vec<u8>);

/// A value, and when it was written if its table says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub value: Vec<u8>,
    pub time_ms: Option<i64>,
}

/// What a reader may find of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// The row.
    There,
    /// Nothing.
    Gone,
    /// It had expired at some time, but the clock went back: the row, or nothing if a compaction was faster.
    Either,
}

/// The clock as reads see it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    pub ms: i64,
    /// The latest it ever was.
    pub latest_ms: i64,
}

impl Now {
    pub fn sight(self, row: &Row) -> Sight {
        let expired = |now: i64| {
            row.time_ms
                .is_some_and(|time| time.saturating_add_unsigned(TTL_MS) <= now)
        };
        match (expired(self.ms), expired(self.latest_ms)) {
            (true, _) => Sight::Gone,
            (false, true) => Sight::Either,
            (false, false) => Sight::There,
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows(pub BTreeMap<RowKey, Row>);

/// Rows of a scan, with how certain each is.
pub type Seen = Vec<(Vec<u8>, Vec<u8>, Sight)>;

impl Rows {
    pub fn put(&mut self, table: u8, group: u16, key: Vec<u8>, row: Row) {
        self.0.insert((table, group, key), row);
    }

    /// Adds an operand to what is not [`Sight::Either`].
    pub fn merge(&mut self, table: u8, group: u16, key: Vec<u8>, operand: Row) {
        let time = operand.time_ms;
        match self.0.entry((table, group, key)) {
            Entry::Vacant(vacant) => drop(vacant.insert(operand)),
            Entry::Occupied(mut occupied) => {
                let row = occupied.get_mut();
                let expired = |before: i64| {
                    time.is_some_and(|time| before.saturating_add_unsigned(TTL_MS) <= time)
                };
                if row.time_ms.is_some_and(expired) {
                    *row = operand;
                    return;
                }
                row.time_ms = row.time_ms.max(time);
                if table == SUMS {
                    let number =
                        |bytes: &[u8]| <[u8; 8]>::try_from(bytes).map_or(0, i64::from_le_bytes);
                    let sum = number(&row.value).wrapping_add(number(&operand.value));
                    row.value = sum.to_le_bytes().to_vec();
                } else {
                    row.value.extend(operand.value);
                }
            }
        }
    }

    pub fn delete(&mut self, table: u8, group: u16, key: &[u8]) {
        self.0.remove(&(table, group, key.to_vec()));
    }

    pub fn delete_prefix(&mut self, table: u8, group: u16, prefix: &[u8]) {
        self.0
            .retain(|(t, g, key), _| (*t, *g) != (table, group) || !key.starts_with(prefix));
    }

    pub fn get(&self, table: u8, group: u16, key: &[u8]) -> Option<&Row> {
        self.0.get(&(table, group, key.to_vec()))
    }

    /// The rows of one table.
    pub fn table(&self, table: u8) -> Self {
        let rows = self
            .0
            .range((table, 0, Vec::new())..(table + 1, 0, Vec::new()));
        Self(rows.map(|(key, row)| (key.clone(), row.clone())).collect())
    }

    pub fn add(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// What a scan finds, without its limit.
    pub fn scan(
        &self,
        table: u8,
        group: u16,
        prefix: &[u8],
        from: &[u8],
        until: Option<&[u8]>,
        now: Now,
    ) -> Seen {
        let rows = self.0.range((table, group, from.to_vec())..);
        rows.take_while(|((t, g, _), _)| (*t, *g) == (table, group))
            .filter(|((_, _, key), _)| {
                key.starts_with(prefix) && until.is_none_or(|until| key.as_slice() < until)
            })
            .map(|((_, _, key), row)| (key.clone(), row.value.clone(), now.sight(row)))
            .filter(|(_, _, sight)| *sight != Sight::Gone)
            .collect()
    }
}

/// Whether a list of rows that was found is right: everything that is certain in order, nothing that is not there, at most
/// `rows_max`; a list that is not `done` is full, one that is `done` has everything.
pub fn compare(
    found: &[(&[u8], &[u8])],
    seen: &Seen,
    rows_max: usize,
    done: bool,
) -> Result<(), String> {
    let mut expected = seen.iter();
    for (at, (key, value)) in found.iter().enumerate() {
        loop {
            let Some((wanted, right, sight)) = expected.next() else {
                return Err(format!(
                    "row {at}, {}, should not be there",
                    key.escape_ascii()
                ));
            };
            if wanted == key && right == value {
                break;
            }
            if *sight == Sight::Either && wanted != key {
                continue;
            }
            return Err(format!(
                "row {at} is {} = {} bytes {}, expected {} = {} bytes {}",
                key.escape_ascii(),
                value.len(),
                value[..value.len().min(8)].escape_ascii(),
                wanted.escape_ascii(),
                right.len(),
                right[..right.len().min(8)].escape_ascii()
            ));
        }
    }
    let missing = expected.find(|(_, _, sight)| *sight == Sight::There);
    match missing {
        Some((key, _, _)) if done => Err(format!(
            "after {} rows it says that it is done, but {} follows",
            found.len(),
            key.escape_ascii()
        )),
        _ if !done && found.len() != rows_max => Err(format!(
            "it is not done, with {} of {rows_max} rows",
            found.len()
        )),
        _ if found.len() > rows_max => Err(format!("{} rows of {rows_max}", found.len())),
        _ => Ok(()),
    }
}

/// The key groups of each of so many workers.
pub fn ranges(workers: u8, groups: u16) -> Vec<KeyGroupRange> {
    let workers = u16::from(workers.max(1));
    let bound = |i: u16| i * groups / workers;
    (0..workers)
        .map(|i| KeyGroupRange {
            start: bound(i),
            end: bound(i + 1) - 1,
        })
        .collect()
}
