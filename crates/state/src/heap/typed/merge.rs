//! Folding one layer into another, a bounded number of entries at a time.
//!
//! Whichever has fewer entries is moved into the other. Each key is moved at once with all that is known of it, so that the two layers, one
//! over the other, say the same before and after. One entry is the least that is moved, however large it is. An entry of which nothing is left
//! goes, and its key counts as removed where something may lie below.

use super::entry::Part;
use super::key::Wanted;
use super::layer::{Layer, forget};
use crate::heap::fold::drain_some;

/// Where folding goes on in the layer that is emptied.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FoldAt {
    /// Bucket of the entries.
    entries: usize,
    /// Bucket of the removed keys.
    removed: usize,
}

/// A layer and the one below it.
pub(super) struct Fold<'a, E> {
    pub(super) newer: &'a mut Layer<E>,
    pub(super) older: &'a mut Layer<E>,
    /// Nothing is below the older layer.
    pub(super) oldest: bool,
    pub(super) at: &'a mut FoldAt,
}

impl<E: Part> Fold<'_, E> {
    /// Does about so much work; returns how much.
    pub(super) fn run(mut self, work_max: usize) -> usize {
        if self.newer.entries.len() <= self.older.entries.len() {
            let work = self.removed_into_older(work_max);
            return work + self.entries_into_older(work_max - work.min(work_max));
        }
        // What the newer layer removes has to be known as long as something else is below.
        let mut work = match self.oldest {
            true => self.removed_into_older(work_max),
            false => 0,
        };
        work += self.entries_into_newer(work_max - work.min(work_max));
        work + self.removed_into_newer(work_max - work.min(work_max))
    }

    fn removed_into_older(&mut self, work_max: usize) -> usize {
        let (older, oldest) = (&mut *self.older, self.oldest);
        let at = &mut self.at.removed;
        drain_some(&mut self.newer.removed, at, work_max, |key| {
            older.take(Wanted::new(key.as_slice()));
            if !oldest {
                older.remember_removed(key);
            }
        })
    }

    fn entries_into_older(&mut self, work_max: usize) -> usize {
        let (older, oldest) = (&mut *self.older, self.oldest);
        let at = &mut self.at.entries;
        drain_some(&mut self.newer.entries, at, work_max, |(key, above)| {
            let wanted = Wanted::new(key.as_slice());
            forget(&mut older.removed, wanted);
            let Some(mut found) = older.find_entry(wanted) else {
                return older.insert_hashed(wanted.hash, key, above);
            };
            let below = &mut found.get_mut().1;
            if above.stands_alone() {
                *below = above;
            } else {
                below.add_newer(above);
            }
            if below.stands_alone() && below.is_empty() {
                let (key, _) = found.remove().0;
                if !oldest {
                    older.remember_removed(key);
                }
            }
        })
    }

    fn entries_into_newer(&mut self, work_max: usize) -> usize {
        let (newer, oldest) = (&mut *self.newer, self.oldest);
        let at = &mut self.at.entries;
        drain_some(&mut self.older.entries, at, work_max, |(key, mut below)| {
            let wanted = Wanted::new(key.as_slice());
            if newer.has_removed(wanted) {
                return;
            }
            let Some(mut found) = newer.find_entry(wanted) else {
                return newer.insert_hashed(wanted.hash, key, below);
            };
            let above = &mut found.get_mut().1;
            if !above.stands_alone() {
                std::mem::swap(above, &mut below);
                above.add_newer(below);
            }
            if above.stands_alone() && above.is_empty() {
                let (key, _) = found.remove().0;
                if !oldest {
                    newer.remember_removed(key);
                }
            }
        })
    }

    fn removed_into_newer(&mut self, work_max: usize) -> usize {
        let newer = &mut *self.newer;
        let at = &mut self.at.removed;
        drain_some(&mut self.older.removed, at, work_max, |key| {
            if newer.get(Wanted::new(key.as_slice())).is_none() {
                newer.remember_removed(key);
            }
        })
    }
}
