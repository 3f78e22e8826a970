//! The ordered companion of a memtable: places of rows in key order, for tables that are scanned often.
//!
//! A B+ tree of height two: leaves of at most [`LEAF_ROWS_MAX`] rows, and over them a list of the last row of each. Both hold
//! the first bytes of each key ([`Prefix`]) side by side, which decide most comparisons; the others look into the arena.
//! Rows are only ever added (a delete is a row too).
use std::cmp::Ordering;

use super::arena::Place;

const LEAF_ROWS_MAX: usize = 256;

/// The first sixteen bytes of group and key, filled up with zeroes; orders like the key, except that it may tie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Prefix(u128);

impl Prefix {
    #[inline]
    pub(super) fn new(group: u16, key: &[u8]) -> Self {
        let mut bytes = [0; 16];
        bytes[..2].copy_from_slice(&group.to_be_bytes());
        match key.first_chunk::<14>() {
            Some(start) => bytes[2..].copy_from_slice(start),
            None => bytes[2..2 + key.len()].copy_from_slice(key),
        }
        Self(u128::from_be_bytes(bytes))
    }
}

#[derive(Default)]
struct Leaf {
    prefixes: Vec<Prefix>,
    places: Vec<Place>,
}

impl Leaf {
    fn with_room() -> Box<Self> {
        Box::new(Self {
            prefixes: Vec::with_capacity(LEAF_ROWS_MAX),
            places: Vec::with_capacity(LEAF_ROWS_MAX),
        })
    }

    fn len(&self) -> usize {
        self.places.len()
    }

    fn insert(&mut self, at: usize, prefix: Prefix, place: Place) {
        self.prefixes.insert(at, prefix);
        self.places.insert(at, place);
    }
}

#[derive(Default)]
pub(super) struct OrderedIndex {
    #[allow(
        clippy::vec_box,
        reason = "a leaf that is split moves all behind it: pointers are a sixth of that"
    )]
    leaves: Vec<Box<Leaf>>,
    /// The prefix of the last row of each leaf.
    lasts: Vec<Prefix>,
}

impl OrderedIndex {
    pub(super) fn bytes(&self) -> usize {
        const ROW_BYTES: usize = size_of::<Prefix>() + size_of::<Place>();
        const LEAF_BYTES: usize = size_of::<Leaf>() + size_of::<Prefix>() + 8;
        let rows = match self.leaves.as_slice() {
            // The first leaf grows as it is filled.
            [only] => only.places.capacity(),
            leaves => leaves.len() * LEAF_ROWS_MAX,
        };
        rows * ROW_BYTES + self.leaves.len() * LEAF_BYTES
    }

    /// Adds a row that is not there yet. `compare(p)` orders the row at `p` relative to the new one.
    pub(super) fn insert(
        &mut self,
        prefix: Prefix,
        place: Place,
        compare: impl Fn(Place) -> Ordering,
    ) {
        let (leaf, at) = self.lower_bound(prefix, &compare);
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
            self.leaves.push(Box::default());
            self.lasts.push(prefix);
        }
        let full = &mut self.leaves[leaf];
        if full.len() < LEAF_ROWS_MAX {
            full.insert(at, prefix, place);
            self.note_last(leaf);
            return;
        }
        let keep = if at == LEAF_ROWS_MAX {
            LEAF_ROWS_MAX
        } else {
            LEAF_ROWS_MAX / 2
        };
        let mut right = Leaf::with_room();
        right.prefixes.extend_from_slice(&full.prefixes[keep..]);
        right.places.extend_from_slice(&full.places[keep..]);
        full.prefixes.truncate(keep);
        full.places.truncate(keep);
        if at < keep || (at == keep && keep < LEAF_ROWS_MAX) {
            full.insert(at, prefix, place);
        } else {
            right.insert(at - keep, prefix, place);
        }
        self.leaves.insert(leaf + 1, right);
        self.lasts.insert(leaf + 1, prefix);
        self.note_last(leaf);
        self.note_last(leaf + 1);
    }

    fn note_last(&mut self, leaf: usize) {
        if let Some(&last) = self.leaves[leaf].prefixes.last() {
            self.lasts[leaf] = last;
        }
    }

    /// Says that the row at `from` lies at `to` now. `compare(p)` orders the row at `p` relative to it.
    pub(super) fn moved(&mut self, prefix: Prefix, to: Place, compare: impl Fn(Place) -> Ordering) {
        let (leaf, at) = self.lower_bound(prefix, compare);
        if let Some(place) = self.leaves.get_mut(leaf).and_then(|l| l.places.get_mut(at)) {
            *place = to;
        }
    }

    /// Leaf and position of the first row that is not ordered before the sought one, by prefix and then by `compare`.
    pub(super) fn lower_bound(
        &self,
        prefix: Prefix,
        compare: impl Fn(Place) -> Ordering,
    ) -> (usize, usize) {
        // Prefixes decide first, all in one piece of memory; only where they tie, rows are looked at.
        let mut leaf = self.lasts.partition_point(|last| *last < prefix);
        if self.lasts.get(leaf) == Some(&prefix)
            && self.leaves[leaf]
                .places
                .last()
                .is_some_and(|&place| compare(place) == Ordering::Less)
        {
            let ties = self.lasts[leaf..].partition_point(|last| *last == prefix);
            leaf += self.leaves[leaf..leaf + ties].partition_point(|tied| {
                tied.places
                    .last()
                    .is_some_and(|&place| compare(place) == Ordering::Less)
            });
        }
        let Some(found) = self.leaves.get(leaf) else {
            return (leaf, 0);
        };
        let low = found.prefixes.partition_point(|p| *p < prefix);
        let ties = found.prefixes[low..].partition_point(|p| *p == prefix);
        let at = found.places[low..low + ties]
            .partition_point(|&place| compare(place) == Ordering::Less);
        (leaf, low + at)
    }

    /// The place at a position that `lower_bound` gave; moves the position on.
    #[inline]
    pub(super) fn next(&self, (leaf, at): &mut (usize, usize)) -> Option<Place> {
        loop {
            let rows = self.leaves.get(*leaf)?;
            if let Some(place) = rows.places.get(*at) {
                *at += 1;
                return Some(*place);
            }
            (*leaf, *at) = (*leaf + 1, 0);
        }
    }

    /// All places in order.
    pub(super) fn places(&self) -> Vec<Place> {
        let leaves = self.leaves.iter();
        leaves.flat_map(|leaf| &leaf.places).copied().collect()
    }
}
