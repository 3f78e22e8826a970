//! Lower bounds of the first timestamp per key group: what memory holds of timers.
//!
//! What always holds: no timer of a key group is before the group's bound, and a group without a bound has no timer. A bound may be too low:
//! after a timer was deleted, and where nobody knows what a checkpoint holds. Then one look at the group's first rows puts it right.
//!
//! A checkpoint keeps the bounds beside the timers, so that nothing need be read after a restore before a timer is due:
//!
//! ```text
//! first group u16 │ last group u16 │ for each group with timers, ascending: group u16, bound i64      (little-endian)
//! ```
//! What can go wrong: bytes of another length or order are `Corrupt`. Bounds of groups that belong to other workers now are passed over.

use std::cell::{Cell, RefCell};

use aquifer_store::KeyGroupRange;

use crate::StateError;
use crate::encoding::{Reader, put_u16, put_u64};

/// A group and its bound.
const ENTRY_BYTES: usize = 2 + 8;

/// Lower bounds of the first timestamp per key group; `None` where nothing is registered.
pub(super) struct Bounds {
    range: KeyGroupRange,
    groups: RefCell<Vec<Option<i64>>>,
    /// At most the smallest of `groups`.
    lowest: Cell<Option<i64>>,
}

/// Key groups that may hold due timers, each with its bound, ascending.
pub(super) struct Candidates {
    pub groups: Vec<(u16, i64)>,
    /// No other group has a timer before this.
    pub others_from: i64,
}

impl Bounds {
    /// Bounds of which nothing is known.
    pub fn unknown(range: KeyGroupRange) -> Self {
        let groups = (range.start..=range.end).map(|_| Some(i64::MIN)).collect();
        Self {
            range,
            groups: RefCell::new(groups),
            lowest: Cell::new(Some(i64::MIN)),
        }
    }

    pub fn range(&self) -> KeyGroupRange {
        self.range
    }

    /// No timer is before this; `None`: there is none.
    pub fn first(&self) -> Option<i64> {
        self.lowest.get()?;
        let lowest = self.groups.borrow().iter().flatten().min().copied();
        self.lowest.set(lowest);
        lowest
    }

    /// A timer was registered.
    pub fn lower(&self, group: u16, timestamp: i64) {
        let index = self.index(group);
        if let Some(bound) = self.groups.borrow_mut().get_mut(index) {
            *bound = Some(bound.map_or(timestamp, |bound| bound.min(timestamp)));
            let lowest = self.lowest.get();
            self.lowest
                .set(Some(lowest.map_or(timestamp, |low| low.min(timestamp))));
        }
    }

    /// Somebody has looked.
    pub fn set(&self, group: u16, bound: Option<i64>) {
        let index = self.index(group);
        if let Some(slot) = self.groups.borrow_mut().get_mut(index) {
            *slot = bound;
        }
    }

    /// Whether no bound has moved.
    pub fn are_still(&self, bounds: &[(u16, i64)]) -> bool {
        let groups = self.groups.borrow();
        bounds
            .iter()
            .all(|(group, bound)| groups.get(self.index(*group)) == Some(&Some(*bound)))
    }

    /// Key groups that may hold a timer at or before `time`: those with the smallest bounds, if there are more than `groups_max`.
    pub fn candidates(&self, time: i64, groups_max: usize) -> Candidates {
        let mut found = Candidates {
            groups: Vec::new(),
            others_from: i64::MAX,
        };
        if self.lowest.get().is_none_or(|lowest| lowest > time) {
            return found;
        }
        let groups = self.groups.borrow();
        self.lowest.set(groups.iter().flatten().min().copied());
        let bounds = (self.range.start..=self.range.end).zip(groups.iter());
        found.groups = bounds
            .filter_map(|(group, bound)| Some((group, (*bound)?)))
            .filter(|(_, bound)| *bound <= time)
            .collect();
        if found.groups.len() > groups_max {
            let by_bound = |(_, bound): &(u16, i64)| *bound;
            let (_, next, _) = found
                .groups
                .select_nth_unstable_by_key(groups_max, by_bound);
            found.others_from = next.1;
            found.groups.truncate(groups_max);
            found.groups.sort_unstable();
        }
        found
    }

    /// What a checkpoint keeps of them.
    pub fn encode(&self) -> Vec<u8> {
        let groups = self.groups.borrow();
        let mut out = Vec::with_capacity(4 + groups.iter().flatten().count() * ENTRY_BYTES);
        put_u16(&mut out, self.range.start);
        put_u16(&mut out, self.range.end);
        for (group, bound) in (self.range.start..=self.range.end).zip(groups.iter()) {
            if let Some(bound) = bound {
                put_u16(&mut out, group);
                put_u64(&mut out, bound.cast_unsigned());
            }
        }
        out
    }

    /// Takes over what an earlier worker has kept, as far as its key groups are this worker's.
    pub fn restore(&self, bytes: &[u8]) -> Result<(), StateError> {
        let mut reader = Reader::new("bounds of timers", bytes);
        let (start, end) = (reader.u16()?, reader.u16()?);
        if start > end {
            return Err(reader.wrong(&format!("key groups {start}..={end} end before they begin")));
        }
        let mut kept = Vec::with_capacity((bytes.len() / ENTRY_BYTES).min(1 << 16));
        let mut free_from = u32::from(start);
        while !reader.rest.is_empty() {
            let (group, bound) = (reader.u16()?, reader.i64()?);
            if u32::from(group) < free_from || group > end {
                return Err(reader.wrong(&format!(
                    "expected a key group of {free_from}..={end}, found {group}"
                )));
            }
            free_from = u32::from(group) + 1;
            kept.push((group, bound));
        }
        for group in start.max(self.range.start)..=end.min(self.range.end) {
            self.set(group, None);
        }
        // Those of other workers' key groups have no place here.
        kept.into_iter()
            .for_each(|(group, bound)| self.set(group, Some(bound)));
        self.lowest
            .set(self.groups.borrow().iter().flatten().min().copied());
        Ok(())
    }

    fn index(&self, group: u16) -> usize {
        usize::from(group.wrapping_sub(self.range.start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u16, end: u16) -> KeyGroupRange {
        KeyGroupRange { start, end }
    }

    #[test]
    fn bounds_are_restored_where_their_key_groups_go() {
        let (one, two) = (Bounds::unknown(range(0, 3)), Bounds::unknown(range(4, 9)));
        for (bounds, registered) in [(&one, &[(1, 50), (1, -7), (3, 9)][..]), (&two, &[(4, 2)])] {
            let range = bounds.range();
            (range.start..=range.end).for_each(|group| bounds.set(group, None));
            assert_eq!(bounds.first(), None);
            registered
                .iter()
                .for_each(|(group, timestamp)| bounds.lower(*group, *timestamp));
        }
        let part = Bounds::unknown(range(2, 6));
        part.restore(&one.encode()).unwrap();
        assert_eq!(part.first(), Some(i64::MIN), "4 to 6 are not known yet");
        part.restore(&two.encode()).unwrap();
        assert_eq!(part.candidates(100, 10).groups, [(3, 9), (4, 2)]);
        assert_eq!(part.first(), Some(2));
        let same = Bounds::unknown(range(0, 3));
        same.restore(&one.encode()).unwrap();
        assert_eq!(same.candidates(i64::MAX, 10).groups, [(1, -7), (3, 9)]);
        assert_eq!(same.encode(), one.encode());
    }

    #[test]
    fn hostile_bounds_are_refused() {
        let bounds = Bounds::unknown(range(0, 3));
        bounds.lower(1, 5);
        bounds.lower(2, 6);
        let good = bounds.encode();
        let mut swapped = good.clone();
        swapped[4..6].copy_from_slice(&3u16.to_le_bytes());
        let mut outside = good.clone();
        outside[2] = 1;
        let mut backwards = good.clone();
        backwards[0] = 9;
        for bytes in [
            &good[..3],
            &good[..good.len() - 1],
            &swapped,
            &outside,
            &backwards,
        ] {
            let restored = Bounds::unknown(range(0, 3)).restore(bytes);
            assert!(matches!(restored, Err(StateError::Corrupt(_))), "{bytes:?}");
        }
    }

    #[test]
    fn the_smallest_bounds_are_looked_at_first() {
        let bounds = Bounds::unknown(range(0, 9));
        (0..10).for_each(|group| bounds.set(group, Some(i64::from(100 - group * 10))));
        let found = bounds.candidates(80, 3);
        assert_eq!(found.groups, [(7, 30), (8, 20), (9, 10)]);
        assert_eq!(found.others_from, 40);
        let all = bounds.candidates(80, 8);
        assert_eq!((all.groups.len(), all.others_from), (8, i64::MAX));
    }
}
