//! The ordered companion of a memtable: places of rows in key order, for tables that are scanned often.
//!
//! A B+ tree of height two: a list of leaves, each a sorted list of at most [`LEAF_ROWS_MAX`] rows. It holds the first
//! bytes of each key ([`Prefix`]), which decide most comparisons; the others look into the arena. Rows are only ever added
//! (a delete is a row too).
use std::cmp::Ordering;

use super::arena::Place;

const LEAF_ROWS_MAX: usize = 128;

/// The first sixteen bytes of group and key, filled up with zeroes; orders like the key, except that it may tie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Prefix([u64; 2]);

impl Prefix {
    #[inline]
    pub(super) fn new(group: u16, key: &[u8]) -> Self {
        let mut bytes = [0; 16];
        bytes[..2].copy_from_slice(&group.to_be_bytes());
        let len = key.len().min(14);
        bytes[2..2 + len].copy_from_slice(&key[..len]);
        let [high, low] =
            [&bytes[..8], &bytes[8..]].map(|half| half.try_into().unwrap_or_default());
        Self([u64::from_be_bytes(high), u64::from_be_bytes(low)])
    }
}

#[derive(Clone, Copy)]
struct Row {
    prefix: Prefix,
    place: Place,
}

#[derive(Default)]
pub(super) struct OrderedIndex {
    leaves: Vec<Vec<Row>>,
}

impl OrderedIndex {
    pub(super) fn bytes(&self) -> usize {
        self.leaves.len() * (LEAF_ROWS_MAX * size_of::<Row>() + size_of::<Vec<Row>>())
    }

    /// Adds a row that is not there yet. `compare(p)` orders the row at `p` relative to the new one.
    pub(super) fn insert(
        &mut self,
        prefix: Prefix,
        place: Place,
        compare: impl Fn(Place) -> Ordering,
    ) {
        let (leaf, at) = self.lower_bound(prefix, &compare);
        let row = Row { prefix, place };
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
            self.leaves[leaf].insert(at, row);
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
            self.leaves[leaf].insert(at, row);
        } else {
            right.insert(at - keep, row);
        }
        self.leaves.insert(leaf + 1, right);
    }

    /// Leaf and position of the first row that is not ordered before the sought one, by prefix and then by `compare`.
    pub(super) fn lower_bound(
        &self,
        prefix: Prefix,
        compare: impl Fn(Place) -> Ordering,
    ) -> (usize, usize) {
        let before = |row: &Row| match row.prefix.cmp(&prefix) {
            Ordering::Equal => compare(row.place) == Ordering::Less,
            order => order == Ordering::Less,
        };
        let leaf = self
            .leaves
            .partition_point(|leaf| leaf.last().is_some_and(before));
        let at = self
            .leaves
            .get(leaf)
            .map_or(0, |leaf| leaf.partition_point(before));
        (leaf, at)
    }

    /// The place at a position that `lower_bound` gave; moves the position on.
    pub(super) fn next(&self, (leaf, at): &mut (usize, usize)) -> Option<Place> {
        loop {
            let rows = self.leaves.get(*leaf)?;
            if let Some(row) = rows.get(*at) {
                *at += 1;
                return Some(row.place);
            }
            (*leaf, *at) = (*leaf + 1, 0);
        }
    }

    /// All places in order.
    pub(super) fn places(&self) -> Vec<Place> {
        self.leaves.iter().flatten().map(|row| row.place).collect()
    }
}
