//! One typed table: layered entries per key group, and what all kinds of state do with them.

use std::cell::Cell;
use std::sync::Arc;

use aquifer_store::{KeyGroupRange, TableId};

use super::cleanup::Sweep;
use super::entry::{Growing, HeapEntry, Part};
use super::frozen::{Dead, Frozen, Measured, RowWriter};
use super::key::Wanted;
use super::layers::{Group, Parts};
use super::{Folded, FrozenTable, HeapTable};
use crate::StateError;
use crate::backend::check_group;
use crate::heap::frozen_groups::FrozenGroups;
use crate::rows::RowSink;
use crate::ttl::TtlRule;

/// Entries of a key group that an estimate looks at.
const SAMPLED_PER_GROUP: usize = 8;

/// What a table has to know to turn rows into entries and back.
#[derive(Clone)]
pub(crate) struct RowShape {
    pub(crate) table: TableId,
    pub(crate) range: KeyGroupRange,
    /// When entries expire.
    pub(crate) ttl: Option<TtlRule>,
    /// How many bytes of a row's key are key and namespace.
    pub(crate) prefix_len: fn(&[u8]) -> Result<usize, StateError>,
}

/// See the module.
pub(crate) struct HeapTableOf<E, S> {
    shape: RowShape,
    serializer: S,
    /// By key group, from the start of the range.
    groups: Vec<Group<E>>,
    sweep: Sweep,
    measured: Arc<Measured>,
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
            sweep: Sweep::default(),
            measured: Arc::default(),
        }
    }

    /// Takes in a row of a restored snapshot; rows of one key come in order, and before anything else is done with the table.
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
        let key = Wanted::new(key);
        let entries = group_mut(&mut self.groups, self.shape.range, group)?;
        match entries.top_mut(key) {
            Some(entry) => entry.load(suffix, value, time_ms, &self.serializer),
            None => {
                let entry = E::loaded(suffix, value, time_ms, &self.serializer)?;
                entries.set(key, entry);
                Ok(())
            }
        }
    }
}

impl<E: Part, S> HeapTableOf<E, S> {
    /// The newest part of the entry of a key.
    #[inline]
    pub(super) fn newest(&self, group: u16, key: &[u8]) -> Result<Option<&E>, StateError> {
        Ok(self.group(group)?.newest(Wanted::new(key)))
    }

    /// The parts of the entry of a key that count.
    pub(super) fn parts(&self, group: u16, key: &[u8]) -> Result<Parts<'_, E>, StateError> {
        Ok(self.group(group)?.parts(Wanted::new(key)))
    }

    /// The part of an entry that may be changed, if there is one.
    #[inline]
    pub(super) fn top_mut(&mut self, group: u16, key: &[u8]) -> Result<Option<&mut E>, StateError> {
        let group = group_mut(&mut self.groups, self.shape.range, group)?;
        Ok(group.top_mut(Wanted::new(key)))
    }

    /// The part of an entry that may be changed, made if there is none.
    #[inline]
    pub(super) fn top_or_new(&mut self, group: u16, key: &[u8]) -> Result<&mut E, StateError>
    where
        E: Growing,
    {
        let group = group_mut(&mut self.groups, self.shape.range, group)?;
        Ok(group.top_or_new(Wanted::new(key)))
    }

    /// Sets the entry of a key.
    #[inline]
    pub(crate) fn put(&mut self, group: u16, key: &[u8], entry: E) -> Result<(), StateError> {
        group_mut(&mut self.groups, self.shape.range, group)?.set(Wanted::new(key), entry);
        Ok(())
    }

    /// Removes the entry of a key; hands out what was written of it since the last freeze.
    pub(crate) fn remove(&mut self, group: u16, key: &[u8]) -> Result<Option<E>, StateError> {
        let group = group_mut(&mut self.groups, self.shape.range, group)?;
        Ok(group.remove(Wanted::new(key)))
    }

    /// Entries of all layers; one that is in several counts as often.
    pub(super) fn len(&self) -> usize {
        self.groups.iter().map(Group::len).sum()
    }

    #[inline]
    fn group(&self, group: u16) -> Result<&Group<E>, StateError> {
        // A group before the range wraps around and is past the end.
        let at = group.wrapping_sub(self.shape.range.start);
        match self.groups.get(usize::from(at)) {
            Some(found) => Ok(found),
            None => Err(no_such_group(self.shape.range, group)),
        }
    }
}

#[inline]
fn group_mut<E>(
    groups: &mut [Group<E>],
    range: KeyGroupRange,
    group: u16,
) -> Result<&mut Group<E>, StateError> {
    match groups.get_mut(usize::from(group.wrapping_sub(range.start))) {
        Some(found) => Ok(found),
        None => Err(no_such_group(range, group)),
    }
}

#[cold]
pub(super) fn no_such_group(range: KeyGroupRange, group: u16) -> StateError {
    match check_group(range, group) {
        Err(error) => error,
        Ok(()) => StateError::Usage(format!(
            "key group {group} is not among those of a heap table"
        )),
    }
}

impl<E: HeapEntry<S>, S: Clone + Send + 'static> HeapTable for HeapTableOf<E, S> {
    fn freeze(&mut self) -> Box<dyn FrozenTable> {
        let layers = self.groups.iter().map(|group| group.layers_frozen() + 1);
        let mut groups = FrozenGroups::with_capacity(self.groups.len(), layers.sum());
        for group in &mut self.groups {
            group.freeze(&mut groups);
        }
        Box::new(Frozen {
            shape: self.shape.clone(),
            serializer: self.serializer.clone(),
            groups,
            measured: Arc::clone(&self.measured),
            written: Cell::default(),
        })
    }

    fn is_unwritten(&self) -> bool {
        self.groups.iter().all(Group::is_unwritten)
    }

    fn fold_some(&mut self, from: usize, entries_max: usize) -> Folded {
        let mut moved = 0;
        for (at, group) in self.groups.iter_mut().enumerate().skip(from) {
            let folded = group.fold(entries_max.saturating_sub(moved));
            moved += folded.work;
            if !folded.done {
                let next = Some(at);
                return Folded { moved, next };
            }
        }
        Folded { moved, next: None }
    }

    fn count_untimed_as(&mut self, time_ms: i64) {
        if let Some(ttl) = &mut self.shape.ttl {
            ttl.untimed_as_ms.get_or_insert(time_ms);
        }
    }

    fn expire_some(&mut self, entries_max: usize, now_ms: i64) -> usize {
        let Some(ttl) = self.shape.ttl else { return 0 };
        let expired = |time_ms: Option<i64>| ttl.expired(time_ms, now_ms);
        self.sweep.run(&mut self.groups, entries_max, &expired)
    }

    fn bytes(&self) -> u64 {
        let entries = self.len();
        if let Some(bytes) = self.measured.bytes_of(entries) {
            return bytes;
        }
        let (mut sampled, mut bytes) = (0u64, 0u64);
        for (key, entry) in self
            .groups
            .iter()
            .flat_map(|group| group.sample(SAMPLED_PER_GROUP))
        {
            sampled += 1;
            bytes += key.as_slice().len() as u64 + entry.bytes();
        }
        bytes
            .saturating_mul(entries as u64)
            .checked_div(sampled)
            .unwrap_or(0)
    }

    fn live_keys(&self, group: u16, now_ms: Option<i64>) -> Result<Vec<Box<[u8]>>, StateError> {
        let dead = Dead::new(self.shape.ttl, now_ms);
        let mut keys = Vec::new();
        self.group(group)?.each_sorted(|key, parts| {
            if E::has_live(parts, &|time_ms| dead.expired(time_ms)) {
                keys.push(key.into());
            }
            Ok::<_, StateError>(())
        })?;
        Ok(keys)
    }

    fn write_rows(&self, group: u16, sink: &mut dyn RowSink) -> Result<(), StateError> {
        let dead = Dead::new(None, None);
        let mut writer = RowWriter::new(&self.shape, &self.serializer, group, &dead, sink);
        self.group(group)?
            .each_sorted(|key, parts| writer.entry(key, parts))
    }
}
