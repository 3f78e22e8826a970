//! The range tombstones of a memtable: ranges of whole keys of which nothing older counts.
//!
//! Ranges that touch are one, so the set is sorted and free of overlaps, and a key lies in at most one of them.
use std::collections::BTreeMap;
use std::ops::Bound;

/// Bookkeeping of one range.
const RANGE_BYTES: usize = 64;

#[derive(Default)]
pub(crate) struct RangeSet {
    /// The end of each range by its start; starts are included, ends are not.
    ends: BTreeMap<Box<[u8]>, Box<[u8]>>,
    bytes: usize,
}

impl RangeSet {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes of memory held.
    #[inline]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds `start..end`.
    pub(crate) fn add(&mut self, start: &[u8], end: &[u8]) {
        let (mut start, mut end): (Box<[u8]>, Box<[u8]>) = (start.into(), end.into());
        if start >= end {
            return;
        }
        loop {
            // The last range that starts at or before our end: the only one left that may touch ours.
            let upto = (Bound::Unbounded, Bound::Included(&*end));
            let Some((known, upper)) = self.ends.range::<[u8], _>(upto).next_back() else {
                break;
            };
            if **upper < *start {
                break;
            }
            let known = known.clone();
            if let Some(upper) = self.ends.remove(&known) {
                self.bytes -= RANGE_BYTES + known.len() + upper.len();
                start = start.min(known);
                end = end.max(upper);
            }
        }
        self.bytes += RANGE_BYTES + start.len() + end.len();
        self.ends.insert(start, end);
    }

    /// The end of the range that a key lies in.
    pub(crate) fn covering(&self, key: &[u8]) -> Option<&[u8]> {
        let upto = (Bound::Unbounded, Bound::Included(key));
        let (_, end) = self.ends.range::<[u8], _>(upto).next_back()?;
        (key < &**end).then_some(end)
    }

    /// Ranges that share keys with `lower..upper` (`None`: no upper end), in order.
    pub(crate) fn overlapping<'a>(
        &'a self,
        lower: &'a [u8],
        upper: Option<&'a [u8]>,
    ) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let upto = (Bound::Unbounded, Bound::Included(lower));
        let before = self.ends.range::<[u8], _>(upto).next_back();
        let before = before.filter(|(_, end)| lower < &***end);
        let end = upper.map_or(Bound::Unbounded, Bound::Excluded);
        let within = match upper.is_some_and(|upper| upper <= lower) {
            true => None,
            false => Some(self.ends.range::<[u8], _>((Bound::Excluded(lower), end))),
        };
        let all = before.into_iter().chain(within.into_iter().flatten());
        all.map(|(start, end)| (&**start, &**end))
    }

    /// All ranges in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.ends.iter().map(|(start, end)| (&**start, &**end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_cover_what_was_added_and_nothing_else() {
        let mut random = 7u64;
        let mut below = |n: u64| {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1);
            (random >> 33) % n
        };
        for _ in 0..200 {
            let mut set = RangeSet::default();
            let mut model = [false; 64];
            for _ in 0..below(12) {
                let start = below(64) as u8;
                let end = start.saturating_add(below(10) as u8).min(63);
                set.add(&[start], &[end]);
                model[usize::from(start)..usize::from(end)].fill(true);
                for (key, &covered) in model.iter().enumerate() {
                    assert_eq!(set.covering(&[key as u8]).is_some(), covered);
                }
            }
            let ranges: Vec<_> = set.iter().collect();
            assert!(ranges.windows(2).all(|pair| pair[0].1 < pair[1].0));
            let (lower, upper) = ([below(64) as u8], [below(64) as u8]);
            let found: Vec<_> = set.overlapping(&lower, Some(&upper)).collect();
            let expected: Vec<_> = (ranges.iter().copied())
                .filter(|(start, end)| lower < upper && *start < &upper[..] && &lower[..] < *end)
                .collect();
            if lower < upper {
                assert_eq!(found, expected);
            }
            let bytes: usize = ranges.iter().map(|_| RANGE_BYTES + 2).sum();
            assert_eq!((set.bytes(), set.is_empty()), (bytes, ranges.is_empty()));
        }
    }
}
