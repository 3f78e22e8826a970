//! The ordered companion of a memtable: places of rows in key order, for tables that are scanned often.
//!
//! A B+ tree of height two: a list of leaves, each a sorted list of at most [`LEAF_ROWS_MAX`] places. It holds no keys;
//! comparisons look into the arena. Rows are only ever added (a delete is a row too).
use std::cmp::Ordering;

use super::arena::Place;

const LEAF_ROWS_MAX: usize = 256;

#[derive(Default)]
pub(super) struct OrderedIndex {
    leaves: Vec<Vec<Place>>,
}

impl OrderedIndex {
    pub(super) fn bytes(&self) -> usize {
        self.leaves.len() * (LEAF_ROWS_MAX * size_of::<Place>() + size_of::<Vec<Place>>())
    }

    /// Adds a row that is not there yet. `compare(p)` orders the row at `p` relative to the new one.
    pub(super) fn insert(&mut self, place: Place, compare: impl Fn(Place) -> Ordering) {
        let (leaf, at) = self.lower_bound(&compare);
        // A row before a leaf's first may as well end the leaf before: keys that only grow fill their leaves.
        let (leaf, at) = match (at, leaf.checked_sub(1)) {
            (0, Some(before))
                if leaf == self.leaves.len() || self.leaves[before].len() < LEAF_ROWS_MAX =>
            {
                (before, self.leaves[before].len())
            }
            _ => (leaf, at),
        };
        if leaf == self.leaves.len() {
            self.leaves.push(Vec::with_capacity(LEAF_ROWS_MAX));
        }
        if self.leaves[leaf].len() < LEAF_ROWS_MAX {
            self.leaves[leaf].insert(at, place);
            return;
        }
        let keep = if at == LEAF_ROWS_MAX {
            LEAF_ROWS_MAX
        } else {
            LEAF_ROWS_MAX / 2
        };
        let mut right = Vec::with_capacity(LEAF_ROWS_MAX);
        right.extend_from_slice(&self.leaves[leaf][keep..]);
        self.leaves[leaf].truncate(keep);
        if at < keep || (at == keep && keep < LEAF_ROWS_MAX) {
            self.leaves[leaf].insert(at, place);
        } else {
            right.insert(at - keep, place);
        }
        self.leaves.insert(leaf + 1, right);
    }

    /// Leaf and position of the first row that `compare` does not order before the sought one.
    pub(super) fn lower_bound(&self, compare: impl Fn(Place) -> Ordering) -> (usize, usize) {
        let leaf = self
            .leaves
            .partition_point(|l| l.last().is_some_and(|&p| compare(p) == Ordering::Less));
        let at = self
            .leaves
            .get(leaf)
            .map_or(0, |l| l.partition_point(|&p| compare(p) == Ordering::Less));
        (leaf, at)
    }

    /// The place at a position that `lower_bound` gave; moves the position on.
    pub(super) fn next(&self, (leaf, at): &mut (usize, usize)) -> Option<Place> {
        loop {
            let places = self.leaves.get(*leaf)?;
            if let Some(&place) = places.get(*at) {
                *at += 1;
                return Some(place);
            }
            (*leaf, *at) = (*leaf + 1, 0);
        }
    }

    /// All places in order.
    pub(super) fn places(&self) -> Vec<Place> {
        self.leaves.concat()
    }
}
