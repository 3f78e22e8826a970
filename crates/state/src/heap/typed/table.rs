//! One typed table: a hash map per key group, its frozen copy, and its clean-up.

use std::hash::BuildHasherDefault;

use aquifer_store::{KeyGroupRange, TableId};
use hashbrown::HashMap;
use xxhash_rust::xxh3::Xxh3Default;

use super::{FrozenTable, HeapEntry, HeapTable};
use crate::StateError;
use crate::backend::check_group;
use crate::rows::{RowRefs, RowSink};
use crate::ttl::TtlRule;

/// Key groups that one clean-up begins, however few entries they have.
const GROUPS_PER_CLEANUP: usize = 32;

/// Entries of one key group, by encoded `key ‖ namespace`.
type Group<E> = HashMap<Box<[u8]>, E, BuildHasherDefault<Xxh3Default>>;

/// An entry that was taken out, with its key.
type Taken<E> = (Box<[u8]>, E);

/// What a table has to know to turn rows into entries and back.
#[derive(Clone)]
pub(crate) struct RowShape {
    pub(crate) table: TableId,
    pub(crate) range: KeyGroupRange,
    /// When entries expire.
    pub(crate) ttl: Option<TtlRule>,
    /// Full snapshots leave out what has expired.
    pub(crate) full_snapshot_drops: bool,
    /// How many bytes of a row's key are key and namespace.
    pub(crate) prefix_len: fn(&[u8]) -> Result<usize, StateError>,
}

/// See the module.
pub(crate) struct HeapTableOf<E, S> {
    shape: RowShape,
    serializer: S,
    groups: Vec<Group<E>>,
    written: bool,
    sweep: Sweep,
}

/// Where the clean-up is: the keys of one key group that it has still to look at.
#[derive(Default)]
struct Sweep {
    group: usize,
    keys: Vec<Box<[u8]>>,
}

impl<E: HeapEntry<S>, S: Clone + Send + 'static> HeapTableOf<E, S> {
    /// An empty table.
    pub(crate) fn new(shape: RowShape, serializer: S) -> Self {
        let groups = (shape.range.start..=shape.range.end)
            .map(|_| Group::default())
            .collect();
        Self {
            shape,
            serializer,
            groups,
            written: false,
            sweep: Sweep::default(),
        }
    }

    /// Takes in a row of a restored snapshot; rows of one key come in order.
    pub(crate) fn load(
        &mut self,
        group: u16,
        row_key: &[u8],
        value: &[u8],
        time_ms: Option<i64>,
    ) -> Result<(), StateError> {
        let at = (self.shape.prefix_len)(row_key)?;
        let (key, suffix) = row_key.split_at_checked(at).ok_or_else(|| {
            StateError::Corrupt(format!(
                "a row of table {} has a key of {} bytes, expected at least {at}",
                self.shape.table.0,
                row_key.len()
            ))
        })?;
        let entries = group_mut(&mut self.groups, self.shape.range, group)?;
        match entries.get_mut(key) {
            Some(entry) => entry.load(suffix, value, time_ms, &self.serializer),
            None => {
                let entry = E::loaded(suffix, value, time_ms, &self.serializer)?;
                entries.insert(key.into(), entry);
                Ok(())
            }
        }
    }

    /// The entry of a key.
    pub(crate) fn get(&self, group: u16, key: &[u8]) -> Result<Option<&E>, StateError> {
        Ok(self.group(group)?.get(key))
    }

    /// The entry of a key, to be changed.
    pub(crate) fn get_mut(&mut self, group: u16, key: &[u8]) -> Result<Option<&mut E>, StateError> {
        self.written = true;
        Ok(group_mut(&mut self.groups, self.shape.range, group)?.get_mut(key))
    }

    /// Sets the entry of a key.
    pub(crate) fn put(&mut self, group: u16, key: &[u8], entry: E) -> Result<(), StateError> {
        self.written = true;
        let entries = group_mut(&mut self.groups, self.shape.range, group)?;
        match entries.get_mut(key) {
            Some(known) => *known = entry,
            None => drop(entries.insert(key.into(), entry)),
        }
        Ok(())
    }

    /// Takes the entry of a key out.
    pub(crate) fn remove(
        &mut self,
        group: u16,
        key: &[u8],
    ) -> Result<Option<Taken<E>>, StateError> {
        self.written = true;
        Ok(group_mut(&mut self.groups, self.shape.range, group)?.remove_entry(key))
    }

    /// Puts an entry back that `remove` has taken out.
    pub(crate) fn put_back(
        &mut self,
        group: u16,
        key: Box<[u8]>,
        entry: E,
    ) -> Result<(), StateError> {
        self.written = true;
        group_mut(&mut self.groups, self.shape.range, group)?.insert(key, entry);
        Ok(())
    }

    fn group(&self, group: u16) -> Result<&Group<E>, StateError> {
        check_group(self.shape.range, group)?;
        self.groups
            .get(usize::from(group - self.shape.range.start))
            .ok_or_else(|| no_such_group(group))
    }
}

fn group_mut<E>(
    groups: &mut [Group<E>],
    range: KeyGroupRange,
    group: u16,
) -> Result<&mut Group<E>, StateError> {
    check_group(range, group)?;
    groups
        .get_mut(usize::from(group - range.start))
        .ok_or_else(|| no_such_group(group))
}

fn no_such_group(group: u16) -> StateError {
    StateError::Usage(format!(
        "key group {group} is not among those of a heap table"
    ))
}

impl<E: HeapEntry<S>, S: Clone + Send + 'static> HeapTable for HeapTableOf<E, S> {
    fn freeze(&mut self) -> Box<dyn FrozenTable> {
        self.written = false;
        Box::new(Frozen {
            shape: self.shape.clone(),
            serializer: self.serializer.clone(),
            groups: self.groups.clone(),
        })
    }

    fn is_unwritten(&self) -> bool {
        !self.written
    }

    fn expire_some(&mut self, entries_max: usize, now_ms: i64) -> usize {
        let Some(ttl) = self.shape.ttl else { return 0 };
        let expired = |time_ms: Option<i64>| ttl.expired(time_ms, now_ms);
        let mut gone = 0;
        let mut groups_left = self.groups.len().min(GROUPS_PER_CLEANUP);
        for _ in 0..entries_max {
            while self.sweep.keys.is_empty() {
                if groups_left == 0 {
                    return gone;
                }
                groups_left -= 1;
                self.sweep.group = (self.sweep.group + 1) % self.groups.len();
                if let Some(group) = self.groups.get(self.sweep.group) {
                    self.sweep.keys.extend(group.keys().cloned());
                }
            }
            let Some(key) = self.sweep.keys.pop() else {
                break;
            };
            let Some(group) = self.groups.get_mut(self.sweep.group) else {
                break;
            };
            if let Some(entry) = group.get_mut(&key)
                && !entry.keep_live(&expired)
            {
                group.remove(&key);
                self.written = true;
                gone += 1;
            }
        }
        gone
    }

    fn bytes(&self) -> u64 {
        let entries = self.groups.iter().flatten();
        entries
            .map(|(key, entry)| key.len() as u64 + entry.bytes())
            .sum()
    }

    fn live_keys(&self, group: u16, now_ms: Option<i64>) -> Result<Vec<Box<[u8]>>, StateError> {
        let dead = Dead::new(self.shape.ttl, now_ms);
        let mut keys: Vec<Box<[u8]>> = self
            .group(group)?
            .iter()
            .filter(|(_, entry)| entry.has_live(&|time_ms| dead.expired(time_ms)))
            .map(|(key, _)| key.clone())
            .collect();
        keys.sort_unstable();
        Ok(keys)
    }

    fn write_rows(&self, group: u16, sink: &mut dyn RowSink) -> Result<(), StateError> {
        let dead = Dead::new(None, None);
        write(
            &self.shape,
            &self.serializer,
            self.group(group)?,
            group,
            &dead,
            sink,
        )?;
        Ok(())
    }
}

/// What has expired at one moment.
struct Dead(Option<(TtlRule, i64)>);

impl Dead {
    fn new(ttl: Option<TtlRule>, now_ms: Option<i64>) -> Self {
        Self(ttl.zip(now_ms))
    }

    fn expired(&self, time_ms: Option<i64>) -> bool {
        self.0
            .is_some_and(|(ttl, now_ms)| ttl.expired(time_ms, now_ms))
    }
}

struct Frozen<E, S> {
    shape: RowShape,
    serializer: S,
    groups: Vec<Group<E>>,
}

impl<E: HeapEntry<S>, S: Clone + Send + 'static> FrozenTable for Frozen<E, S> {
    fn write(
        &self,
        group: u16,
        now_ms: Option<i64>,
        sink: &mut dyn RowSink,
    ) -> Result<u64, StateError> {
        check_group(self.shape.range, group)?;
        let entries = self
            .groups
            .get(usize::from(group - self.shape.range.start))
            .ok_or_else(|| no_such_group(group))?;
        let dead = Dead::new(self.shape.ttl, now_ms);
        write(&self.shape, &self.serializer, entries, group, &dead, sink)
    }

    fn drops_expired(&self) -> bool {
        self.shape.full_snapshot_drops
    }
}

/// Writes the rows of a key group in order; returns the first list chunk number that none of them has.
fn write<E: HeapEntry<S>, S>(
    shape: &RowShape,
    serializer: &S,
    entries: &Group<E>,
    group: u16,
    dead: &Dead,
    sink: &mut dyn RowSink,
) -> Result<u64, StateError> {
    let mut sorted: Vec<_> = entries.iter().collect();
    sorted.sort_unstable_by_key(|(key, _)| *key);
    let mut row_key = Vec::new();
    let mut chunks = 0;
    for (key, entry) in sorted {
        let entry_chunks = entry.write(
            serializer,
            &|time_ms| dead.expired(time_ms),
            &mut |suffix, value, time_ms| {
                row_key.clear();
                row_key.extend_from_slice(key);
                row_key.extend_from_slice(suffix);
                sink.put(RowRefs {
                    group,
                    table: shape.table,
                    key: &row_key,
                    value,
                    time_ms,
                })
            },
        )?;
        chunks = chunks.max(entry_chunks);
    }
    Ok(chunks)
}
