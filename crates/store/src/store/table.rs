//! One table of a [`super::Store`]: its active memtable and those that are frozen but not installed.
use std::sync::Arc;

use crate::memtable::Memtable;
use crate::options::TableOptions;

pub(super) struct Table {
    pub(super) options: TableOptions,
    pub(super) active: Memtable,
    /// Not installed yet; oldest first.
    pub(super) frozen: Vec<FrozenTable>,
    /// The barrier in progress has passed this table.
    pub(super) passed: bool,
}

pub(super) struct FrozenTable {
    pub(super) memtable: Arc<Memtable>,
    /// The flush that writes it; `None` until one is started.
    pub(super) flush: Option<u64>,
}

impl Table {
    /// What the memtables know of a key, newest first.
    #[inline]
    pub(super) fn get(&self, hash: u64, group: u16, key: &[u8]) -> Option<Option<&[u8]>> {
        if let Some(row) = self.active.get(hash, group, key) {
            return Some(row);
        }
        self.frozen
            .iter()
            .rev()
            .find_map(|frozen| frozen.memtable.get(hash, group, key))
    }

    pub(super) fn newest_first(&self) -> impl Iterator<Item = &Memtable> {
        std::iter::once(&self.active)
            .chain(self.frozen.iter().rev().map(|frozen| &*frozen.memtable))
    }

    pub(super) fn freeze(&mut self) {
        if !self.active.is_empty() {
            let full = std::mem::replace(&mut self.active, Memtable::new(self.options.ordered));
            self.frozen.push(FrozenTable {
                memtable: Arc::new(full),
                flush: None,
            });
        }
    }
}
