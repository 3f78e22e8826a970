//! Maps on the heap: entries by encoded user key, in their order. Above a frozen layer a map holds only the entries that were put or removed
//! since.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use super::entry::{Expired, Growing, HeapEntry, Part, Timed};
use super::key::Key;
use super::layers::Parts;
use super::table::HeapTableOf;
use crate::serializer::Serializer;
use crate::state::StateValue;
use crate::{StateError, TakeRow};

/// Entries that one step of the clean-up looks at in one map.
const ENTRIES_PER_CLEANUP: usize = 1024;

/// Maps, one per key and namespace.
pub(crate) type HeapMaps<V, S> = HeapTableOf<HeapMap<V>, S>;

/// A map, or what was changed of the map below.
#[derive(Clone, Debug)]
pub(crate) struct HeapMap<V> {
    entries: BTreeMap<Key, Timed<V>>,
    /// What the map removes of the parts below; nothing if there are none.
    over: Option<Box<Removed>>,
}

/// User keys of the parts below that do not count any more, none of which has an entry. Rare, and so not in the map itself.
#[derive(Clone, Debug, Default)]
struct Removed {
    user_keys: BTreeSet<Key>,
}

impl<V> HeapMap<V> {
    fn put(&mut self, user_key: &[u8], value: Timed<V>) {
        match self.entries.get_mut(user_key) {
            Some(known) => *known = value,
            None => {
                if let Some(removed) = &mut self.over {
                    removed.user_keys.remove(user_key);
                }
                self.entries.insert(Key::new(user_key), value);
            }
        }
    }
}

impl<V: StateValue> Growing for HeapMap<V> {
    fn alone() -> Self {
        Self {
            entries: BTreeMap::new(),
            over: None,
        }
    }

    fn over() -> Self {
        Self {
            entries: BTreeMap::new(),
            over: Some(Box::default()),
        }
    }
}

impl<V: StateValue> Part for HeapMap<V> {
    fn stands_alone(&self) -> bool {
        self.over.is_none()
    }

    fn add_newer(&mut self, newer: Self) {
        for user_key in newer.over.into_iter().flat_map(|removed| removed.user_keys) {
            self.entries.remove(user_key.as_slice());
            if let Some(removed) = &mut self.over {
                removed.user_keys.insert(user_key);
            }
        }
        if self.over.is_none() && newer.entries.len() > self.entries.len() {
            let older = std::mem::replace(&mut self.entries, newer.entries);
            for (user_key, value) in older {
                self.entries.entry(user_key).or_insert(value);
            }
            return;
        }
        for (user_key, value) in newer.entries {
            if let Some(removed) = &mut self.over {
                removed.user_keys.remove(user_key.as_slice());
            }
            self.entries.insert(user_key, value);
        }
    }

    fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn keep_live(&mut self, expired: Expired<'_>, resume: &mut Option<Box<[u8]>>) -> bool {
        let from = resume.take();
        if from.is_none() && self.entries.len() <= ENTRIES_PER_CLEANUP {
            self.entries.retain(|_, value| !expired(value.time()));
            return !self.entries.is_empty();
        }
        let from = from.as_deref().map_or(Bound::Unbounded, Bound::Included);
        let mut rest = self.entries.range::<[u8], _>((from, Bound::Unbounded));
        let piece = rest.by_ref().take(ENTRIES_PER_CLEANUP);
        let old: Vec<Key> = piece
            .filter(|(_, value)| expired(value.time()))
            .map(|(user_key, _)| user_key.clone())
            .collect();
        *resume = rest.next().map(|(user_key, _)| user_key.as_slice().into());
        for user_key in old {
            self.entries.remove(user_key.as_slice());
        }
        !self.entries.is_empty()
    }

    fn has_live(parts: &Parts<'_, Self>, expired: Expired<'_>) -> bool {
        let mut live = false;
        walk(parts, &[], |_, value| {
            live = !expired(value.time());
            !live
        });
        live
    }

    fn may_be_live(parts: &Parts<'_, Self>, expired: Expired<'_>) -> bool {
        let (mut live, mut looked_at) = (false, 0);
        walk(parts, &[], |_, value| {
            looked_at += 1;
            live = looked_at > ENTRIES_PER_CLEANUP || !expired(value.time());
            !live
        });
        live
    }

    fn bytes(&self) -> u64 {
        let entry = size_of::<Key>() + size_of::<Timed<V>>();
        (size_of::<Self>() + self.entries.len() * entry) as u64
    }
}

/// Shows the entries from a user key on, in order, until `each` says no.
fn walk<'a, V>(
    parts: &Parts<'a, HeapMap<V>>,
    from: &[u8],
    mut each: impl FnMut(&'a [u8], &'a Timed<V>) -> bool,
) {
    let range = || (Bound::Included(from), Bound::Unbounded);
    let mut newest_first = parts.newest_first();
    let (Some(newest), None) = (newest_first.next(), newest_first.next()) else {
        let mut layers: Vec<_> = parts
            .newest_first()
            .map(|part| {
                (
                    part.entries.range::<[u8], _>(range()).peekable(),
                    part.over.as_deref(),
                )
            })
            .collect();
        loop {
            let heads = layers.iter_mut().filter_map(|(rest, _)| rest.peek());
            let Some(user_key) = heads.map(|(user_key, _)| user_key.as_slice()).min() else {
                return;
            };
            let (mut found, mut hidden) = (None, false);
            for (rest, removed) in &mut layers {
                if let Some((_, value)) = rest.next_if(|(other, _)| other.as_slice() == user_key)
                    && !hidden
                {
                    found.get_or_insert(value);
                }
                hidden |= removed.is_some_and(|removed| removed.user_keys.contains(user_key));
            }
            if let Some(value) = found
                && !each(user_key, value)
            {
                return;
            }
        }
    };
    for (user_key, value) in newest.entries.range::<[u8], _>(range()) {
        if !each(user_key.as_slice(), value) {
            return;
        }
    }
}

impl<V: StateValue, S: Serializer<V>> HeapEntry<S> for HeapMap<V> {
    fn load(
        &mut self,
        suffix: &[u8],
        value: &[u8],
        time_ms: Option<i64>,
        serializer: &S,
    ) -> Result<(), StateError> {
        let value = Timed::new(serializer.deserialize(value)?, time_ms);
        self.entries.insert(Key::new(suffix), value);
        Ok(())
    }

    fn loaded(
        suffix: &[u8],
        value: &[u8],
        time_ms: Option<i64>,
        serializer: &S,
    ) -> Result<Self, StateError> {
        let mut map = Self::alone();
        map.load(suffix, value, time_ms, serializer)?;
        Ok(map)
    }

    fn write(
        parts: &Parts<'_, Self>,
        serializer: &S,
        scratch: &mut Vec<u8>,
        expired: Expired<'_>,
        row: TakeRow<'_>,
    ) -> Result<u64, StateError> {
        let mut outcome = Ok(());
        walk(parts, &[], |user_key, value| {
            if expired(value.time()) {
                return true;
            }
            scratch.clear();
            outcome = serializer
                .serialize(&value.value, scratch)
                .and_then(|()| row(user_key, scratch, value.time()));
            outcome.is_ok()
        });
        outcome.map(|()| 0)
    }
}

impl<V: StateValue, S: Serializer<V> + Send> HeapMaps<V, S> {
    /// The value under a user key.
    #[inline]
    pub(crate) fn entry(
        &self,
        group: u16,
        key: &[u8],
        user_key: &[u8],
    ) -> Result<Option<&Timed<V>>, StateError> {
        let Some(top) = self.newest(group, key)? else {
            return Ok(None);
        };
        match top.entries.get(user_key) {
            None if top.over.is_some() => self.entry_below(group, key, user_key),
            found => Ok(found),
        }
    }

    #[cold]
    fn entry_below(
        &self,
        group: u16,
        key: &[u8],
        user_key: &[u8],
    ) -> Result<Option<&Timed<V>>, StateError> {
        for part in self.parts(group, key)?.newest_first() {
            if let Some(found) = part.entries.get(user_key) {
                return Ok(Some(found));
            }
            if part
                .over
                .as_ref()
                .is_some_and(|removed| removed.user_keys.contains(user_key))
            {
                break;
            }
        }
        Ok(None)
    }

    /// Sets the value under a user key.
    #[inline]
    pub(crate) fn put_entry(
        &mut self,
        group: u16,
        key: &[u8],
        user_key: &[u8],
        value: Timed<V>,
    ) -> Result<(), StateError> {
        self.top_or_new(group, key)?.put(user_key, value);
        Ok(())
    }

    /// Gives the value under a user key another time.
    pub(crate) fn set_entry_time(
        &mut self,
        group: u16,
        key: &[u8],
        user_key: &[u8],
        time_ms: i64,
    ) -> Result<(), StateError> {
        let top = self.top_mut(group, key)?;
        if let Some(value) = top.and_then(|top| top.entries.get_mut(user_key)) {
            value.time_ms = time_ms;
        } else if let Some(frozen) = self.entry(group, key, user_key)? {
            let value = frozen.value.clone();
            self.put_entry(group, key, user_key, Timed { value, time_ms })?;
        }
        Ok(())
    }

    /// Removes the value under a user key, and the map with its last one.
    pub(crate) fn remove_entry(
        &mut self,
        group: u16,
        key: &[u8],
        user_key: &[u8],
    ) -> Result<(), StateError> {
        if self.entry(group, key, user_key)?.is_none() {
            return Ok(());
        }
        let top = self.top_or_new(group, key)?;
        top.entries.remove(user_key);
        match &mut top.over {
            Some(removed) => drop(removed.user_keys.insert(Key::new(user_key))),
            None if top.entries.is_empty() => drop(self.remove(group, key)?),
            None => {}
        }
        Ok(())
    }

    /// Shows the entries of a map from a user key on, in order, until `each` says no.
    pub(crate) fn walk(
        &self,
        group: u16,
        key: &[u8],
        from: &[u8],
        each: impl FnMut(&[u8], &Timed<V>) -> bool,
    ) -> Result<(), StateError> {
        walk(&self.parts(group, key)?, from, each);
        Ok(())
    }
}
