//! One key group of one table: an active layer over frozen ones.
//!
//! Freezing moves the active layer below, in time that does not depend on the number of rows; the snapshot shares the frozen layers and
//! the operator goes on writing to a new, empty one. A read asks the newest layer first. When the snapshot is done the layers are folded
//! back into one, which costs as much as was written meanwhile (the smaller of two layers is moved into the larger one), a bounded number of
//! rows at a time: between two steps every key has its right value.

use std::sync::Arc;

use aquifer_store::ScanRows;
use bytes::Bytes;

use super::fold::GroupFolded;
use super::frozen_groups::FrozenGroups;
use super::live::LiveRows;
use super::rows::{Rows, Slot, SweptTo};
use crate::{StateError, TakeRow};

/// See the module.
pub(crate) struct Group {
    active: Rows,
    /// Oldest first; never changed while it is shared.
    frozen: Vec<Arc<Rows>>,
    /// Where the active layer goes when it is frozen.
    spare: Option<Arc<Rows>>,
    /// The bucket at which folding goes on.
    fold_at: usize,
    ordered: bool,
}

impl Group {
    pub(crate) fn new(ordered: bool) -> Self {
        Self {
            active: Rows::new(ordered),
            frozen: Vec::new(),
            spare: None,
            fold_at: 0,
            ordered,
        }
    }

    /// Newest first.
    fn layers(&self) -> impl Iterator<Item = &Rows> {
        std::iter::once(&self.active).chain(self.frozen.iter().rev().map(Arc::as_ref))
    }

    /// The value, and when it was written if its writer said so.
    pub(crate) fn get(&self, key: &[u8]) -> Option<(&[u8], Option<i64>)> {
        self.layers()
            .find_map(|layer| layer.get(key))
            .and_then(Slot::live)
    }

    pub(crate) fn put(&mut self, key: &[u8], value: &[u8], time_ms: Option<i64>) {
        self.active.set(key, Slot::Live(value, time_ms));
    }

    pub(crate) fn delete(&mut self, key: &[u8]) {
        if self.frozen.is_empty() {
            self.active.remove(key);
        } else {
            self.active.set(key, Slot::Deleted);
        }
    }

    /// Bytes of all layers; rows that are being overwritten count once per layer.
    pub(crate) fn bytes(&self) -> u64 {
        self.layers().map(Rows::bytes).sum()
    }

    /// What the group holds now goes to `snapshot`, to be read elsewhere while this group goes on. Looks at no row.
    pub(crate) fn freeze(&mut self, snapshot: &mut FrozenGroups<Rows>) {
        if self.active.len() > 0 {
            let mut layer = self.spare.take().unwrap_or_else(|| self.empty());
            match Arc::get_mut(&mut layer) {
                Some(empty) => std::mem::swap(empty, &mut self.active),
                None => {
                    let active = std::mem::replace(&mut self.active, Rows::new(self.ordered));
                    layer = Arc::new(active);
                }
            }
            self.frozen.push(layer);
            self.fold_at = 0;
        }
        snapshot.push(&self.frozen);
    }

    fn empty(&self) -> Arc<Rows> {
        Arc::new(Rows::new(self.ordered))
    }

    /// How many layers lie below the active one.
    pub(crate) fn layers_frozen(&self) -> usize {
        self.frozen.len()
    }

    /// True if nothing was written since the last freeze.
    pub(crate) fn is_unwritten(&self) -> bool {
        self.active.len() == 0
    }

    #[cfg(test)]
    fn is_layered(&self) -> bool {
        !self.frozen.is_empty()
    }

    /// Folds the layers that no snapshot holds any more, until about so much work is done.
    pub(crate) fn fold(&mut self, work_max: usize) -> GroupFolded {
        let mut work = 0;
        loop {
            let oldest = self.frozen.len() == 1;
            let Some(older) = self.frozen.last_mut().and_then(Arc::get_mut) else {
                return GroupFolded { work, done: true };
            };
            if self.active.len() == 0 {
                std::mem::swap(&mut self.active, older);
            }
            let newer = &mut self.active;
            // Below the oldest layer nothing is to be hidden: its tombstones go, and only where rows are moved into it.
            let cleared = !oldest || newer.tombstones() == 0;
            if older.len() == 0 && cleared {
                *older = Rows::new(self.ordered);
                self.spare = self.frozen.pop();
                self.fold_at = 0;
                continue;
            }
            if work >= work_max {
                return GroupFolded { work, done: false };
            }
            let (at, work_max) = (&mut self.fold_at, work_max - work);
            work += if newer.len() <= older.len() || !cleared {
                newer.take_some(at, work_max, &mut |key, slot| match slot {
                    Slot::Deleted if oldest => older.remove(key),
                    slot => older.set(key, slot),
                })
            } else {
                older.take_some(at, work_max, &mut |key, slot| {
                    if newer.get(key).is_none() {
                        newer.set(key, slot);
                    }
                })
            };
        }
    }

    /// Live rows in key order, without those whose time is `hidden`; see `aquifer_store::Store::scan`.
    pub(crate) fn scan(
        &self,
        prefix: &[u8],
        from: &[u8],
        until: Option<&[u8]>,
        rows_max: usize,
        hidden: &dyn Fn(Option<i64>) -> bool,
    ) -> ScanRows {
        let live = LiveRows::range(self.layers(), prefix, from, until);
        let mut live = live.filter(|(_, _, time_ms)| !hidden(*time_ms));
        let mut bytes = Vec::new();
        // (end of key, end of value) in `bytes`.
        let mut ends: Vec<(usize, usize)> = Vec::new();
        let mut times: Vec<Option<i64>> = Vec::new();
        for (key, value, time_ms) in live.by_ref().take(rows_max) {
            // Most tables have none: then there is no list of them.
            if time_ms.is_some() || !times.is_empty() {
                times.resize(ends.len(), None);
                times.push(time_ms);
            }
            bytes.extend_from_slice(key);
            let key_end = bytes.len();
            bytes.extend_from_slice(value);
            ends.push((key_end, bytes.len()));
        }
        let done = live.next().is_none();
        let bytes = Bytes::from(bytes);
        let mut start = 0;
        let rows = ends
            .into_iter()
            .map(|(key_end, end)| {
                let row = (bytes.slice(start..key_end), bytes.slice(key_end..end));
                start = end;
                row
            })
            .collect();
        ScanRows { rows, times, done }
    }

    /// Hands out all rows in key order and lets go of them, unless one cannot be taken.
    pub(crate) fn drain(&mut self, each: TakeRow<'_>) -> Result<(), StateError> {
        for (key, value, time_ms) in LiveRows::all(self.layers()) {
            each(key, value, time_ms)?;
        }
        *self = Self::new(self.ordered);
        Ok(())
    }

    /// Looks at some rows and removes those whose time has expired. `at` is where it goes on, and is reset at the end. Returns how many rows
    /// it has looked at. While there are frozen layers nothing is looked at.
    pub(crate) fn expire_some(
        &mut self,
        at: &mut SweptTo,
        rows_max: usize,
        expired: &dyn Fn(Option<i64>) -> bool,
    ) -> usize {
        if !self.frozen.is_empty() {
            *at = SweptTo::default();
            return 0;
        }
        self.active.expire_some(at, rows_max, expired)
    }

    /// The same rows in another kind of table.
    pub(crate) fn reordered(&self, ordered: bool) -> Self {
        let mut group = Self::new(ordered);
        for (key, value, time_ms) in LiveRows::all(self.layers()) {
            group.put(key, value, time_ms);
        }
        group
    }
}

#[cfg(test)]
mod tests;
