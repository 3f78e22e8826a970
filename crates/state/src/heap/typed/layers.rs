//! One key group of a typed table: an active layer over frozen ones.
//!
//! Freezing moves the active layer below, in time that does not depend on the number of entries; a snapshot shares the frozen layers and
//! nothing in them changes any more. What is written meanwhile goes into a new active layer: a value in the place of the frozen one, of a
//! list or map only what is new ([`Part`]), so that nothing below is copied. What is removed is remembered as removed as
//! long as something below would show through. When the snapshot is done, layers are folded into one by moving the smaller into the larger,
//! a bounded number of entries at a time: between two steps every key has its right value, so reads, writes and barriers may come in between.
//!
//! Always holds: a layer has a key among its entries, among the removed ones, or neither; the oldest layer has no removed keys, and its parts
//! stand for themselves. While a layer is being folded into the oldest, what it removes may be gone from there already.
//!
//! Freezing allocates nothing either, once a group has been folded: a barrier comes when much was freed just before, and glibc looks through
//! ten thousand freed blocks at each allocation of a size that it has none of. With an allocation per key group that was a tenth of a second.

use std::sync::Arc;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::entry::{Expired, Growing, Part};
use super::key::{Key, Wanted};
use super::layer::{Layer, forget, holds};
use super::merge::{Fold, FoldAt};
use crate::heap::fold::GroupFolded;
use crate::heap::frozen_groups::FrozenGroups;

/// Parts of an entry that are found without an allocation.
const PARTS_INLINE: usize = 5;

/// The newest part of an entry in frozen layers (oldest first), unless the layer above them has it among its `removed` keys.
fn below<'a, E>(
    removed: &HashTable<Key>,
    frozen: &'a [Arc<Layer<E>>],
    key: Wanted<'_>,
) -> Option<&'a E> {
    if frozen.is_empty() || holds(removed, key) {
        return None;
    }
    for layer in frozen.iter().rev() {
        if let Some(found) = layer.get(key) {
            return Some(found);
        }
        if layer.has_removed(key) {
            return None;
        }
    }
    None
}

/// The parts of an entry that count, newest first; of an entry that is not there, none.
pub(crate) struct Parts<'a, E> {
    first: [Option<&'a E>; PARTS_INLINE],
    /// Only if snapshots that were given up hold on to their layers for long, or barriers come faster than layers are folded.
    more: Vec<&'a E>,
}

impl<'a, E> Parts<'a, E> {
    fn new() -> Self {
        Self {
            first: [None; PARTS_INLINE],
            more: Vec::new(),
        }
    }

    fn push(&mut self, part: &'a E) {
        match self.first.iter_mut().find(|place| place.is_none()) {
            Some(place) => *place = Some(part),
            None => self.more.push(part),
        }
    }

    pub(super) fn newest_first(&self) -> impl DoubleEndedIterator<Item = &'a E> + use<'a, '_, E> {
        let first = self.first.iter().filter_map(|part| *part);
        first.chain(self.more.iter().copied())
    }

    pub(super) fn oldest_first(&self) -> impl Iterator<Item = &'a E> + use<'a, '_, E> {
        self.newest_first().rev()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first.first().is_none_or(Option::is_none)
    }
}

/// The parts that count in a list of layers, given newest first.
pub(super) fn parts_in<'a, E: Part>(
    layers: impl Iterator<Item = &'a Layer<E>>,
    key: Wanted<'_>,
) -> Parts<'a, E> {
    let mut parts = Parts::new();
    for layer in layers {
        if let Some(part) = layer.get(key) {
            parts.push(part);
            if part.stands_alone() {
                break;
            }
        } else if layer.has_removed(key) {
            break;
        }
    }
    parts
}

/// See the module.
pub(super) struct Group<E> {
    active: Layer<E>,
    /// Oldest first; never changed while it is shared.
    frozen: Vec<Arc<Layer<E>>>,
    /// Where an active layer goes when it is frozen.
    spare: Option<Arc<Layer<E>>>,
    fold_at: FoldAt,
}

impl<E> Default for Group<E> {
    fn default() -> Self {
        Self {
            active: Layer::default(),
            frozen: Vec::new(),
            spare: None,
            fold_at: FoldAt::default(),
        }
    }
}

/// What the clean-up has found where it looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Swept {
    /// No entry.
    Nothing,
    /// An entry that stays.
    Kept,
    /// An entry of which nothing was left.
    Removed,
    /// The group has no such place.
    End,
}

impl<E: Part> Group<E> {
    /// The newest part of an entry. Of a value it is all there is.
    #[inline]
    pub(super) fn newest(&self, key: Wanted<'_>) -> Option<&E> {
        match self.active.get(key) {
            None if !self.frozen.is_empty() => below(&self.active.removed, &self.frozen, key),
            found => found,
        }
    }

    fn layers(&self) -> impl Iterator<Item = &Layer<E>> {
        std::iter::once(&self.active).chain(self.frozen.iter().rev().map(Arc::as_ref))
    }

    /// The parts of an entry that count.
    pub(super) fn parts(&self, key: Wanted<'_>) -> Parts<'_, E> {
        parts_in(self.layers(), key)
    }

    /// The part of an entry that may be changed, if there is one.
    #[inline]
    pub(super) fn top_mut(&mut self, key: Wanted<'_>) -> Option<&mut E> {
        self.active.get_mut(key)
    }

    /// The part of an entry that may be changed, made if there is none: over what lies below, or, if there is nothing, standing alone.
    #[inline]
    pub(super) fn top_or_new(&mut self, key: Wanted<'_>) -> &mut E
    where
        E: Growing,
    {
        let entry = self.active.entries.entry(
            key.hash,
            |(known, _)| key.is(known),
            |(known, _)| known.hash(),
        );
        match entry {
            Entry::Occupied(found) => &mut found.into_mut().1,
            Entry::Vacant(vacant) => {
                let part = match below(&self.active.removed, &self.frozen, key) {
                    Some(_) => E::over(),
                    None => E::alone(),
                };
                forget(&mut self.active.removed, key);
                &mut vacant.insert((Key::new(key.bytes), part)).into_mut().1
            }
        }
    }

    /// Puts an entry that stands alone in the place of what is there.
    #[inline]
    pub(super) fn set(&mut self, key: Wanted<'_>, entry: E) {
        forget(&mut self.active.removed, key);
        match self.active.entries.entry(
            key.hash,
            |(known, _)| key.is(known),
            |(known, _)| known.hash(),
        ) {
            Entry::Occupied(mut found) => found.get_mut().1 = entry,
            Entry::Vacant(vacant) => {
                vacant.insert((Key::new(key.bytes), entry));
            }
        }
    }

    /// Removes an entry; hands out its active part, if it has one.
    pub(super) fn remove(&mut self, key: Wanted<'_>) -> Option<E> {
        let top = self.active.take(key);
        if below(&self.active.removed, &self.frozen, key).is_some() {
            self.active.remember_removed(Key::new(key.bytes));
        }
        top
    }

    /// Whether there is anything below the active layer.
    #[cfg(test)]
    pub(super) fn is_layered(&self) -> bool {
        !self.frozen.is_empty()
    }

    /// True if nothing was written since the last freeze.
    pub(super) fn is_unwritten(&self) -> bool {
        self.active.is_empty()
    }

    /// What the group holds now goes to `snapshot`, to be read elsewhere while this group goes on. Looks at no entry.
    pub(super) fn freeze(&mut self, snapshot: &mut FrozenGroups<Layer<E>>) {
        if !self.active.is_empty() {
            let mut layer = self.spare.take().unwrap_or_default();
            match Arc::get_mut(&mut layer) {
                Some(empty) => std::mem::swap(empty, &mut self.active),
                None => layer = Arc::new(std::mem::take(&mut self.active)),
            }
            self.frozen.push(layer);
            self.fold_at = FoldAt::default();
        }
        snapshot.push(&self.frozen);
    }

    /// Folds the layers that no snapshot holds any more, until about so much work is done.
    pub(super) fn fold(&mut self, work_max: usize) -> GroupFolded {
        let mut work = 0;
        loop {
            let oldest = self.frozen.len() == 1;
            let Some(older) = self.frozen.last_mut().and_then(Arc::get_mut) else {
                return GroupFolded { work, done: true };
            };
            if self.active.is_empty() {
                std::mem::swap(&mut self.active, older);
            }
            if older.is_empty() && (!oldest || self.active.removed.is_empty()) {
                // Its tables may be large.
                *older = Layer::default();
                self.spare = self.frozen.pop();
                self.fold_at = FoldAt::default();
                continue;
            }
            if work >= work_max {
                return GroupFolded { work, done: false };
            }
            let fold = Fold {
                newer: &mut self.active,
                older,
                oldest,
                at: &mut self.fold_at,
            };
            work += fold.run(work_max - work);
        }
    }

    /// Calls `each` with every key that has an entry, and the parts that count, in key order.
    pub(super) fn each_sorted<R>(
        &self,
        each: impl FnMut(&[u8], &Parts<'_, E>) -> Result<(), R>,
    ) -> Result<(), R> {
        let layers: Vec<&Layer<E>> = self.layers().collect();
        each_sorted(&layers, each)
    }

    /// Entries of all layers; one that is in several counts as often.
    pub(super) fn len(&self) -> usize {
        self.layers().map(Layer::len).sum()
    }

    /// How many layers lie below the active one.
    pub(super) fn layers_frozen(&self) -> usize {
        self.frozen.len()
    }

    /// Some entries, for estimates.
    pub(super) fn sample(&self, entries_max: usize) -> impl Iterator<Item = (&Key, &E)> {
        self.layers().flat_map(Layer::entries).take(entries_max)
    }

    /// Looks at the entry in a bucket of a layer (the active one is the last), and removes what has expired there. `resume` is where to go on
    /// in an entry of which not everything was looked at.
    pub(super) fn sweep(
        &mut self,
        layer: usize,
        bucket: usize,
        expired: Expired<'_>,
        resume: &mut Option<Box<[u8]>>,
    ) -> Swept {
        let buckets = match self.frozen.get(layer) {
            Some(frozen) => frozen.entries.num_buckets(),
            None if layer == self.frozen.len() => self.active.entries.num_buckets(),
            None => return Swept::End,
        };
        if bucket >= buckets {
            return Swept::End;
        }
        if self.frozen.is_empty() {
            let Ok(mut found) = self.active.entries.get_bucket_entry(bucket) else {
                return Swept::Nothing;
            };
            if found.get_mut().1.keep_live(expired, resume) {
                return Swept::Kept;
            }
            found.remove();
            return Swept::Removed;
        }
        // Frozen parts do not change: an entry goes when nothing of it counts any more.
        let entries = self
            .frozen
            .get(layer)
            .map_or(&self.active.entries, |frozen| &frozen.entries);
        let Some((key, _)) = entries.get_bucket(bucket) else {
            return Swept::Nothing;
        };
        let key = key.clone();
        let wanted = Wanted::new(key.as_slice());
        let parts = self.parts(wanted);
        if parts.is_empty() || E::may_be_live(&parts, expired) {
            return Swept::Kept;
        }
        self.remove(wanted);
        Swept::Removed
    }
}

/// Calls `each` with every key that has an entry in these layers (newest first), and the parts that count, in key order.
pub(super) fn each_sorted<E: Part, R>(
    layers: &[&Layer<E>],
    mut each: impl FnMut(&[u8], &Parts<'_, E>) -> Result<(), R>,
) -> Result<(), R> {
    let mut keys: Vec<(&[u8], &E)> = layers
        .iter()
        .flat_map(|layer| layer.entries())
        .map(|(key, entry)| (key.as_slice(), entry))
        .collect();
    // Stable: of one key the newest layer comes first.
    keys.sort_by_key(|(key, _)| *key);
    keys.dedup_by(|(later, _), (kept, _)| later == kept);
    for (key, newest) in keys {
        let parts = if let [_] = layers {
            let mut parts = Parts::new();
            parts.push(newest);
            parts
        } else {
            parts_in(layers.iter().copied(), Wanted::new(key))
        };
        if !parts.is_empty() {
            each(key, &parts)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
