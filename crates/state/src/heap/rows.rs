//! The rows of one key group in one layer: a hash table for point access, a B-tree for tables that are scanned.
//!
//! A layer may hold tombstones, which hide rows of older layers. A row of the hash table is one allocation, `key ‖ value`; a value of the
//! same length is overwritten in place.

use std::collections::BTreeMap;
use std::ops::Bound;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use xxhash_rust::xxh3::xxh3_64;

/// What one layer says about a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slot<'a> {
    /// The value.
    Live(&'a [u8]),
    /// Deleted: older layers do not count.
    Deleted,
}

impl<'a> Slot<'a> {
    /// The value of a live slot.
    pub(crate) fn value(self) -> Option<&'a [u8]> {
        match self {
            Self::Live(value) => Some(value),
            Self::Deleted => None,
        }
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

    /// Forgets every tombstone: right only in the oldest layer.
    pub(crate) fn remove_tombstones(&mut self) {
        match self {
            Self::Hashed(rows) => rows.remove_tombstones(),
            Self::Ordered(rows) => rows.remove_tombstones(),
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

    /// Everything, in the order that is cheapest.
    pub(crate) fn iter(&self) -> Box<dyn Iterator<Item = (&[u8], Slot<'_>)> + '_> {
        match self {
            Self::Hashed(rows) => Box::new(rows.table.iter().map(HashedRow::parts)),
            Self::Ordered(rows) => Box::new(rows.iter_from(&[])),
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
    /// Key, then value.
    bytes: Box<[u8]>,
    key_len: u32,
    live: bool,
}

impl HashedRow {
    fn new(key: &[u8], slot: Slot<'_>) -> Self {
        let value = slot.value().unwrap_or_default();
        let mut bytes = Vec::with_capacity(key.len() + value.len());
        bytes.extend_from_slice(key);
        bytes.extend_from_slice(value);
        Self {
            bytes: bytes.into_boxed_slice(),
            key_len: key.len() as u32,
            live: slot != Slot::Deleted,
        }
    }

    fn key(&self) -> &[u8] {
        &self.bytes[..self.key_len as usize]
    }

    fn slot(&self) -> Slot<'_> {
        if self.live {
            Slot::Live(&self.bytes[self.key_len as usize..])
        } else {
            Slot::Deleted
        }
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
                    Slot::Live(value) if row.live && row.bytes.len() == key.len() + value.len() => {
                        row.bytes[key.len()..].copy_from_slice(value);
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

    fn remove_tombstones(&mut self) {
        if self.tombstones == 0 {
            return;
        }
        let bytes = &mut self.bytes;
        self.table.retain(|row| {
            if !row.live {
                *bytes -= row.bytes.len() as u64;
            }
            row.live
        });
        self.tombstones = 0;
    }
}

/// A B-tree of rows.
#[derive(Default)]
pub(crate) struct OrderedRows {
    /// `None` is a tombstone.
    tree: BTreeMap<Box<[u8]>, Option<Box<[u8]>>>,
    tombstones: usize,
    bytes: u64,
}

fn slot_of(value: &Option<Box<[u8]>>) -> Slot<'_> {
    match value {
        Some(value) => Slot::Live(value),
        None => Slot::Deleted,
    }
}

fn value_bytes(value: &Option<Box<[u8]>>) -> u64 {
    value.as_ref().map_or(0, |value| value.len() as u64)
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
                    (Some(old), Slot::Live(value)) if old.len() == value.len() => {
                        old.copy_from_slice(value);
                    }
                    (_, slot) => *old = slot.value().map(Box::from),
                }
                self.bytes += value_bytes(old);
            }
            None => {
                self.tombstones += usize::from(slot == Slot::Deleted);
                let value: Option<Box<[u8]>> = slot.value().map(Box::from);
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

    fn remove_tombstones(&mut self) {
        if self.tombstones == 0 {
            return;
        }
        let bytes = &mut self.bytes;
        self.tree.retain(|key, value| {
            if value.is_none() {
                *bytes -= key.len() as u64;
            }
            value.is_some()
        });
        self.tombstones = 0;
    }

    fn iter_from<'a>(&'a self, start: &[u8]) -> impl Iterator<Item = (&'a [u8], Slot<'a>)> + 'a {
        self.tree
            .range::<[u8], _>((Bound::Included(start), Bound::Unbounded))
            .map(|(key, value)| (key.as_ref(), slot_of(value)))
    }
}
