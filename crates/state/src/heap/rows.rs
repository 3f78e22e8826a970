//! The rows of one key group in one layer: a hash table for point access, a B-tree for tables that are scanned.
//!
//! A layer may hold tombstones, which hide rows of older layers. A row of the hash table is one allocation, `key ‖ value`, and eight
//! bytes of time behind it if it was written with one; a value of the same length is overwritten in place.

use std::collections::BTreeMap;
use std::ops::Bound;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use xxhash_rust::xxh3::xxh3_64;

use super::fold::drain_some;

/// Buckets of a hash table that a clean-up looks at for each row that it was asked to look at.
const BUCKETS_PER_ROW: usize = 16;

/// What one layer says about a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slot<'a> {
    /// The value, and when it was written if its writer said so.
    Live(&'a [u8], Option<i64>),
    /// Deleted: older layers do not count.
    Deleted,
}

impl<'a> Slot<'a> {
    /// Value and time of a live slot.
    pub(crate) fn live(self) -> Option<(&'a [u8], Option<i64>)> {
        match self {
            Self::Live(value, time_ms) => Some((value, time_ms)),
            Self::Deleted => None,
        }
    }
}

/// Bytes of a time behind a value.
const TIME_BYTES: usize = size_of::<i64>();

/// A value, with its time behind it if it is `timed`.
fn joined(before: &[u8], value: &[u8], time_ms: Option<i64>) -> Box<[u8]> {
    let time_bytes = time_ms.map_or(0, |_| TIME_BYTES);
    let mut bytes = Vec::with_capacity(before.len() + value.len() + time_bytes);
    bytes.extend_from_slice(before);
    bytes.extend_from_slice(value);
    if let Some(time_ms) = time_ms {
        bytes.extend_from_slice(&time_ms.to_le_bytes());
    }
    bytes.into_boxed_slice()
}

fn parted(bytes: &[u8], timed: bool) -> Slot<'_> {
    match bytes.split_last_chunk::<TIME_BYTES>() {
        Some((value, time)) if timed => Slot::Live(value, Some(i64::from_le_bytes(*time))),
        _ => Slot::Live(bytes, None),
    }
}

/// Overwrites value and time, which must have the same lengths.
fn overwrite(bytes: &mut [u8], value: &[u8], time_ms: Option<i64>) {
    let (old, time) = bytes.split_at_mut(value.len());
    old.copy_from_slice(value);
    if let Some(time_ms) = time_ms {
        time.copy_from_slice(&time_ms.to_le_bytes());
    }
}

/// How far a clean-up has come in a layer.
#[derive(Debug, Default)]
pub(crate) struct SweptTo {
    /// Of a hash table: the next bucket.
    bucket: usize,
    /// Of a B-tree: the last key; none at the start.
    key: Option<Box<[u8]>>,
}

impl SweptTo {
    /// True at the start, and after the end.
    pub(crate) fn is_start(&self) -> bool {
        self.bucket == 0 && self.key.is_none()
    }
}

/// Rows of one key group in one layer.
pub(crate) enum Rows {
    /// Point access only; a scan sorts.
    Hashed(HashedRows),
    /// In key order.
    Ordered(OrderedRows),
}

impl Rows {
    pub(crate) fn new(ordered: bool) -> Self {
        if ordered {
            Self::Ordered(OrderedRows::default())
        } else {
            Self::Hashed(HashedRows::default())
        }
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<Slot<'_>> {
        match self {
            Self::Hashed(rows) => rows.get(key),
            Self::Ordered(rows) => rows.get(key),
        }
    }

    pub(crate) fn set(&mut self, key: &[u8], slot: Slot<'_>) {
        match self {
            Self::Hashed(rows) => rows.set(key, slot),
            Self::Ordered(rows) => rows.set(key, slot),
        }
    }

    /// Forgets the key in this layer.
    pub(crate) fn remove(&mut self, key: &[u8]) {
        match self {
            Self::Hashed(rows) => rows.remove(key),
            Self::Ordered(rows) => rows.remove(key),
        }
    }

    /// Takes rows and tombstones out, in any order, until about so much work is done or nothing is left; returns how much was done. `at` is
    /// the bucket of a hash table to go on with.
    pub(crate) fn take_some(
        &mut self,
        at: &mut usize,
        work_max: usize,
        take: &mut dyn FnMut(&[u8], Slot<'_>),
    ) -> usize {
        match self {
            Self::Hashed(rows) => rows.take_some(at, work_max, take),
            Self::Ordered(rows) => rows.take_some(work_max, take),
        }
    }

    /// Keys that are known to be deleted.
    pub(crate) fn tombstones(&self) -> usize {
        match self {
            Self::Hashed(rows) => rows.tombstones,
            Self::Ordered(rows) => rows.tombstones,
        }
    }

    /// Looks at some rows from `at` on and removes those whose time has expired; `at` is reset at the end. Returns how many rows it has
    /// looked at. There must be no tombstones.
    pub(crate) fn expire_some(
        &mut self,
        at: &mut SweptTo,
        rows_max: usize,
        expired: &dyn Fn(Option<i64>) -> bool,
    ) -> usize {
        match self {
            Self::Hashed(rows) => rows.expire_some(at, rows_max, expired),
            Self::Ordered(rows) => rows.expire_some(at, rows_max, expired),
        }
    }

    /// Rows and tombstones.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Hashed(rows) => rows.table.len(),
            Self::Ordered(rows) => rows.tree.len(),
        }
    }

    /// Bytes of keys and values.
    pub(crate) fn bytes(&self) -> u64 {
        match self {
            Self::Hashed(rows) => rows.bytes,
            Self::Ordered(rows) => rows.bytes,
        }
    }

    /// In key order: the rows from `from` on that start with `prefix`, up to `until`.
    pub(crate) fn range<'a>(
        &'a self,
        prefix: &'a [u8],
        from: &'a [u8],
        until: Option<&'a [u8]>,
    ) -> Box<dyn Iterator<Item = (&'a [u8], Slot<'a>)> + 'a> {
        let start = if from > prefix { from } else { prefix };
        let within =
            move |key: &[u8]| key.starts_with(prefix) && until.is_none_or(|until| key < until);
        match self {
            Self::Ordered(rows) => Box::new(
                rows.iter_from(start)
                    .take_while(move |(key, _)| within(key)),
            ),
            Self::Hashed(rows) => {
                let mut found: Vec<_> = rows
                    .table
                    .iter()
                    .map(HashedRow::parts)
                    .filter(|(key, _)| *key >= start && within(key))
                    .collect();
                found.sort_unstable_by_key(|(key, _)| *key);
                Box::new(found.into_iter())
            }
        }
    }
}

/// A hash table of rows.
#[derive(Default)]
pub(crate) struct HashedRows {
    table: HashTable<HashedRow>,
    tombstones: usize,
    bytes: u64,
}

struct HashedRow {
    /// Key, then value, then its time if it is timed.
    bytes: Box<[u8]>,
    key_len: u32,
    live: bool,
    timed: bool,
}

impl HashedRow {
    fn new(key: &[u8], slot: Slot<'_>) -> Self {
        let (value, time_ms) = slot.live().unwrap_or_default();
        Self {
            bytes: joined(key, value, time_ms),
            key_len: key.len() as u32,
            live: slot != Slot::Deleted,
            timed: time_ms.is_some(),
        }
    }

    fn key(&self) -> &[u8] {
        &self.bytes[..self.key_len as usize]
    }

    fn slot(&self) -> Slot<'_> {
        if self.live {
            parted(&self.bytes[self.key_len as usize..], self.timed)
        } else {
            Slot::Deleted
        }
    }

    fn value_bytes(&self) -> usize {
        let time_bytes = if self.timed { TIME_BYTES } else { 0 };
        self.bytes.len() - self.key_len as usize - time_bytes
    }

    fn parts(&self) -> (&[u8], Slot<'_>) {
        (self.key(), self.slot())
    }
}

impl HashedRows {
    fn get(&self, key: &[u8]) -> Option<Slot<'_>> {
        self.table
            .find(xxh3_64(key), |row| row.key() == key)
            .map(HashedRow::slot)
    }

    fn set(&mut self, key: &[u8], slot: Slot<'_>) {
        let entry = self.table.entry(
            xxh3_64(key),
            |row| row.key() == key,
            |row| xxh3_64(row.key()),
        );
        match entry {
            Entry::Occupied(mut entry) => {
                let row = entry.get_mut();
                self.tombstones += usize::from(slot == Slot::Deleted);
                self.tombstones -= usize::from(!row.live);
                match slot {
                    Slot::Live(value, time_ms)
                        if row.live
                            && row.timed == time_ms.is_some()
                            && row.value_bytes() == value.len() =>
                    {
                        overwrite(&mut row.bytes[key.len()..], value, time_ms);
                    }
                    slot => {
                        self.bytes -= row.bytes.len() as u64;
                        *row = HashedRow::new(key, slot);
                        self.bytes += row.bytes.len() as u64;
                    }
                }
            }
            Entry::Vacant(entry) => {
                let row = HashedRow::new(key, slot);
                self.bytes += row.bytes.len() as u64;
                self.tombstones += usize::from(!row.live);
                entry.insert(row);
            }
        }
    }

    fn remove(&mut self, key: &[u8]) {
        if let Ok(entry) = self.table.find_entry(xxh3_64(key), |row| row.key() == key) {
            let (row, _) = entry.remove();
            self.bytes -= row.bytes.len() as u64;
            self.tombstones -= usize::from(!row.live);
        }
    }

    fn expire_some(
        &mut self,
        at: &mut SweptTo,
        rows_max: usize,
        expired: &dyn Fn(Option<i64>) -> bool,
    ) -> usize {
        let buckets = self.table.num_buckets();
        // A table may be mostly empty.
        let last = at
            .bucket
            .saturating_add(rows_max.saturating_mul(BUCKETS_PER_ROW))
            .min(buckets);
        let mut looked_at = 0;
        while at.bucket < last && looked_at < rows_max {
            if let Ok(row) = self.table.get_bucket_entry(at.bucket) {
                looked_at += 1;
                if row
                    .get()
                    .slot()
                    .live()
                    .is_some_and(|(_, time_ms)| expired(time_ms))
                {
                    let (row, _) = row.remove();
                    self.bytes -= row.bytes.len() as u64;
                }
            }
            at.bucket += 1;
        }
        if at.bucket >= buckets {
            at.bucket = 0;
        }
        looked_at
    }

    fn take_some(
        &mut self,
        at: &mut usize,
        work_max: usize,
        take: &mut dyn FnMut(&[u8], Slot<'_>),
    ) -> usize {
        let (bytes, tombstones) = (&mut self.bytes, &mut self.tombstones);
        drain_some(&mut self.table, at, work_max, |row| {
            *bytes -= row.bytes.len() as u64;
            *tombstones -= usize::from(!row.live);
            take(row.key(), row.slot());
        })
    }
}

/// A B-tree of rows.
#[derive(Default)]
pub(crate) struct OrderedRows {
    /// `None` is a tombstone.
    tree: BTreeMap<Box<[u8]>, Option<OrderedValue>>,
    tombstones: usize,
    bytes: u64,
}

struct OrderedValue {
    /// The value, then its time if it is timed.
    bytes: Box<[u8]>,
    timed: bool,
}

impl OrderedValue {
    fn new((value, time_ms): (&[u8], Option<i64>)) -> Self {
        Self {
            bytes: joined(&[], value, time_ms),
            timed: time_ms.is_some(),
        }
    }
}

fn slot_of(value: &Option<OrderedValue>) -> Slot<'_> {
    match value {
        Some(value) => parted(&value.bytes, value.timed),
        None => Slot::Deleted,
    }
}

fn value_bytes(value: &Option<OrderedValue>) -> u64 {
    value.as_ref().map_or(0, |value| value.bytes.len() as u64)
}

impl OrderedRows {
    fn get(&self, key: &[u8]) -> Option<Slot<'_>> {
        self.tree.get(key).map(slot_of)
    }

    fn set(&mut self, key: &[u8], slot: Slot<'_>) {
        match self.tree.get_mut(key) {
            Some(old) => {
                self.tombstones += usize::from(slot == Slot::Deleted);
                self.tombstones -= usize::from(old.is_none());
                self.bytes -= value_bytes(old);
                match (old.as_mut(), slot) {
                    (Some(old), Slot::Live(value, time_ms))
                        if old.timed == time_ms.is_some()
                            && old.bytes.len()
                                == value.len() + time_ms.map_or(0, |_| TIME_BYTES) =>
                    {
                        overwrite(&mut old.bytes, value, time_ms);
                    }
                    (_, slot) => *old = slot.live().map(OrderedValue::new),
                }
                self.bytes += value_bytes(old);
            }
            None => {
                self.tombstones += usize::from(slot == Slot::Deleted);
                let value = slot.live().map(OrderedValue::new);
                self.bytes += key.len() as u64 + value_bytes(&value);
                self.tree.insert(Box::from(key), value);
            }
        }
    }

    fn remove(&mut self, key: &[u8]) {
        if let Some(old) = self.tree.remove(key) {
            self.bytes -= key.len() as u64 + value_bytes(&old);
            self.tombstones -= usize::from(old.is_none());
        }
    }

    fn take_some(&mut self, work_max: usize, take: &mut dyn FnMut(&[u8], Slot<'_>)) -> usize {
        let mut taken = 0;
        while taken < work_max {
            let Some((key, value)) = self.tree.pop_first() else {
                break;
            };
            self.bytes -= key.len() as u64 + value_bytes(&value);
            self.tombstones -= usize::from(value.is_none());
            take(&key, slot_of(&value));
            taken += 1;
        }
        taken
    }

    fn expire_some(
        &mut self,
        at: &mut SweptTo,
        rows_max: usize,
        expired: &dyn Fn(Option<i64>) -> bool,
    ) -> usize {
        let start = match &at.key {
            Some(last) => Bound::Excluded(&last[..]),
            None => Bound::Unbounded,
        };
        let mut old: Vec<Box<[u8]>> = Vec::new();
        let (mut looked_at, mut last) = (0, None);
        for (key, value) in self
            .tree
            .range::<[u8], _>((start, Bound::Unbounded))
            .take(rows_max)
        {
            looked_at += 1;
            last = Some(key);
            if slot_of(value)
                .live()
                .is_some_and(|(_, time_ms)| expired(time_ms))
            {
                old.push(key.clone());
            }
        }
        at.key = last.filter(|_| looked_at == rows_max).cloned();
        for key in old {
            self.remove(&key);
        }
        looked_at
    }

    fn iter_from<'a>(&'a self, start: &[u8]) -> impl Iterator<Item = (&'a [u8], Slot<'a>)> + 'a {
        self.tree
            .range::<[u8], _>((Bound::Included(start), Bound::Unbounded))
            .map(|(key, value)| (key.as_ref(), slot_of(value)))
    }
}
