//! One layer of a key group: its entries, and what it removes of the layers below.

use hashbrown::HashTable;
use hashbrown::hash_table::{Entry, OccupiedEntry};

use super::key::{Key, Wanted};

/// Entries of one key group as of one barrier.
pub(super) struct Layer<E> {
    pub(super) entries: HashTable<(Key, E)>,
    /// Keys of older layers that do not count any more.
    pub(super) removed: HashTable<Key>,
}

impl<E> Default for Layer<E> {
    fn default() -> Self {
        Self {
            entries: HashTable::new(),
            removed: HashTable::new(),
        }
    }
}

impl<E> Layer<E> {
    #[inline]
    pub(super) fn get(&self, key: Wanted<'_>) -> Option<&E> {
        let found = self.entries.find(key.hash, |(known, _)| key.is(known));
        found.map(|(_, entry)| entry)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, key: Wanted<'_>) -> Option<&mut E> {
        let found = self.entries.find_mut(key.hash, |(known, _)| key.is(known));
        found.map(|(_, entry)| entry)
    }

    pub(super) fn has_removed(&self, key: Wanted<'_>) -> bool {
        holds(&self.removed, key)
    }

    pub(super) fn take(&mut self, key: Wanted<'_>) -> Option<E> {
        let found = self
            .entries
            .find_entry(key.hash, |(known, _)| key.is(known));
        found.ok().map(|found| found.remove().0.1)
    }

    pub(super) fn find_entry(&mut self, key: Wanted<'_>) -> Option<OccupiedEntry<'_, (Key, E)>> {
        let found = self
            .entries
            .find_entry(key.hash, |(known, _)| key.is(known));
        found.ok()
    }

    /// Adds an entry whose key is not there.
    pub(super) fn insert_hashed(&mut self, hash: u64, key: Key, entry: E) {
        self.entries
            .insert_unique(hash, (key, entry), |(known, _)| known.hash());
    }

    pub(super) fn remember_removed(&mut self, key: Key) {
        let hash = key.hash();
        let same = |known: &Key| known.as_slice() == key.as_slice();
        if let Entry::Vacant(vacant) = self.removed.entry(hash, same, Key::hash) {
            vacant.insert(key);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.removed.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Its entries, in no order.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&Key, &E)> {
        self.entries.iter().map(|(key, entry)| (key, entry))
    }
}

pub(super) fn holds(removed: &HashTable<Key>, key: Wanted<'_>) -> bool {
    !removed.is_empty() && removed.find(key.hash, |known| key.is(known)).is_some()
}

#[inline]
pub(super) fn forget(removed: &mut HashTable<Key>, key: Wanted<'_>) {
    if !removed.is_empty()
        && let Ok(found) = removed.find_entry(key.hash, |known| key.is(known))
    {
        found.remove();
    }
}
