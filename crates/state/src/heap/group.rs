//! One key group of one table: an active layer over frozen ones.
//!
//! Freezing moves the active layer below, in time that does not depend on the number of rows; the snapshot shares the frozen layers and
//! the operator goes on writing to a new, empty one. A read asks the newest layer first. When the snapshot is done the layers are folded
//! back into one, which costs as much as was written meanwhile (the smaller of two layers is moved into the larger one).

use std::sync::Arc;

use aquifer_store::ScanRows;
use bytes::Bytes;

use super::live::LiveRows;
use super::rows::{Rows, Slot, SweptTo};
use crate::{StateError, TakeRow};

/// Layers that may pile up when checkpoints follow each other faster than layers are folded.
const LAYERS_MAX: usize = 4;

/// Frozen layers of a key group, oldest first: what a snapshot holds on to.
pub(crate) type FrozenLayers = Vec<Arc<Rows>>;

/// See the module.
pub(crate) struct Group {
    active: Rows,
    /// Oldest first; never changed, only shared, folded or dropped.
    frozen: FrozenLayers,
    ordered: bool,
}

impl Group {
    pub(crate) fn new(ordered: bool) -> Self {
        Self {
            active: Rows::new(ordered),
            frozen: Vec::new(),
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

    /// What the group holds now, to be read elsewhere while this group goes on.
    pub(crate) fn freeze(&mut self) -> FrozenLayers {
        if self.frozen.len() >= LAYERS_MAX {
            self.fold();
        }
        if self.active.len() > 0 {
            let layer = std::mem::replace(&mut self.active, Rows::new(self.ordered));
            self.frozen.push(Arc::new(layer));
        }
        self.frozen.clone()
    }

    /// True if nothing was written since the last freeze.
    pub(crate) fn is_unwritten(&self) -> bool {
        self.active.len() == 0
    }

    /// True if there are layers to fold.
    pub(crate) fn is_layered(&self) -> bool {
        !self.frozen.is_empty()
    }

    /// Folds the layers that no snapshot holds any more; returns how many rows were moved.
    pub(crate) fn fold(&mut self) -> usize {
        let mut moved = 0;
        while let Some(layer) = self.frozen.pop() {
            match Arc::try_unwrap(layer) {
                Ok(older) => moved += self.fold_into_active(older),
                Err(shared) => {
                    self.frozen.push(shared);
                    break;
                }
            }
        }
        moved
    }

    fn fold_into_active(&mut self, older: Rows) -> usize {
        let oldest = self.frozen.is_empty();
        let moved = self.active.len().min(older.len());
        if self.active.len() <= older.len() {
            let newer = std::mem::replace(&mut self.active, older);
            for (key, slot) in newer.iter() {
                match slot {
                    Slot::Deleted if oldest => self.active.remove(key),
                    slot => self.active.set(key, slot),
                }
            }
        } else {
            for (key, slot) in older.iter() {
                if self.active.get(key).is_none() {
                    self.active.set(key, slot);
                }
            }
        }
        if oldest {
            self.active.remove_tombstones();
        }
        moved
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
