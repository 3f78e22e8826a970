//! Range tombstones of a file: which keys it hides in older sources, without naming them one by one.
//!
//! A range `[start, end)` is over whole keys. The ranges of a file ascend, do not overlap and do not touch. They never hide
//! rows of the same file.
//!
//! In a file: number (varint), then start and end of each (varint length and bytes).
use bytes::Bytes;

use crate::encoding::{Reader, put_bytes, put_varint};
use crate::error::Result;
use crate::sst::seal::{Name, damaged};

/// Ranges of keys, ascending and apart from each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RangeTombstones {
    ranges: Vec<(Bytes, Bytes)>,
}

impl RangeTombstones {
    /// No ranges.
    pub(crate) const fn new() -> Self {
        Self { ranges: Vec::new() }
    }

    /// The union of ranges in any order; empty ones are left out.
    pub(crate) fn union(ranges: impl IntoIterator<Item = (Bytes, Bytes)>) -> Self {
        let mut all: Vec<_> = ranges
            .into_iter()
            .filter(|(start, end)| start < end)
            .collect();
        all.sort_unstable();
        let mut this = Self::default();
        for (start, end) in all {
            this.push(start, end);
        }
        this
    }

    /// Adds a range that starts at or after the last one's start.
    pub(crate) fn push(&mut self, start: Bytes, end: Bytes) {
        match self.ranges.last_mut() {
            Some((_, last)) if *last >= start => {
                if *last < end {
                    *last = end;
                }
            }
            _ => self.ranges.push((start, end)),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Bytes of memory held.
    pub(crate) fn bytes(&self) -> usize {
        let keys = |(start, end): &(Bytes, Bytes)| start.len() + end.len();
        self.ranges.iter().map(keys).sum::<usize>()
            + self.ranges.capacity() * size_of::<(Bytes, Bytes)>()
    }

    /// Starts and ends, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &(Bytes, Bytes)> {
        self.ranges.iter()
    }

    /// Whether a key lies in a range.
    #[inline]
    pub(crate) fn covers(&self, key: &[u8]) -> bool {
        self.covering(key).is_some()
    }

    /// The range a key lies in.
    pub(crate) fn covering(&self, key: &[u8]) -> Option<&(Bytes, Bytes)> {
        let after = self
            .ranges
            .partition_point(|(start, _)| start.as_ref() <= key);
        let range = self.ranges.get(after.checked_sub(1)?)?;
        (key < range.1.as_ref()).then_some(range)
    }

    /// Whether every key in `lower..upper` lies in one range.
    pub(crate) fn covers_all(&self, lower: &[u8], upper: &[u8]) -> bool {
        self.covering(lower)
            .is_some_and(|(_, end)| upper <= end.as_ref())
    }

    /// What lies in `lower..upper` (`None`: no upper end).
    pub(crate) fn clip(&self, lower: &[u8], upper: Option<&[u8]>) -> Self {
        let cut = |(start, end): &(Bytes, Bytes)| {
            let start = if start.as_ref() < lower {
                Bytes::copy_from_slice(lower)
            } else {
                start.clone()
            };
            let end = match upper {
                Some(upper) if upper < end.as_ref() => Bytes::copy_from_slice(upper),
                _ => end.clone(),
            };
            (start < end).then_some((start, end))
        };
        Self {
            ranges: self.ranges.iter().filter_map(cut).collect(),
        }
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.ranges.len() as u64);
        for (start, end) in &self.ranges {
            put_bytes(out, start);
            put_bytes(out, end);
        }
    }

    pub(crate) fn decode(what: Name<'_>, bytes: &[u8]) -> Result<Self> {
        let whole = what();
        let mut reader = Reader::new(&whole, bytes);
        let count = reader.count(3, "number of ranges")?;
        let mut ranges: Vec<(Bytes, Bytes)> = Vec::with_capacity(count);
        for i in 0..count {
            let start = Bytes::copy_from_slice(reader.bytes("start of a range")?);
            let end = Bytes::copy_from_slice(reader.bytes("end of a range")?);
            if start >= end || ranges.last().is_some_and(|(_, last)| *last >= start) {
                return Err(damaged(what, &format!("range {i} is out of order")));
            }
            ranges.push((start, end));
        }
        reader.finish()?;
        Ok(Self { ranges })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> String {
        "ranges".into()
    }

    fn ranges(of: &[(u8, u8)]) -> RangeTombstones {
        RangeTombstones::union(of.iter().map(|&(a, b)| (vec![a].into(), vec![b].into())))
    }

    /// Against a bit per key.
    #[test]
    fn unions_and_clips_cover_what_they_should() {
        let mut state = 9u64;
        let mut random = |below: u64| {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (state >> 33) % below
        };
        for _ in 0..500 {
            let of: Vec<(u8, u8)> = (0..random(8))
                .map(|_| (random(60) as u8, random(60) as u8))
                .collect();
            let union = ranges(&of);
            let (lower, upper) = (random(60) as u8, random(60) as u8);
            let clipped = union.clip(&[lower], Some(&[upper]));
            for key in 0..60u8 {
                let expected = of.iter().any(|&(a, b)| a <= key && key < b);
                assert_eq!(union.covers(&[key]), expected, "{of:?} {key}");
                let inside = lower <= key && key < upper;
                assert_eq!(clipped.covers(&[key]), expected && inside);
            }
            assert_eq!(union.clip(b"", None), union);
            let all = (lower..upper).all(|k| union.covers(&[k]));
            if lower < upper {
                assert_eq!(union.covers_all(&[lower], &[upper]), all);
            }
            let mut out = Vec::new();
            union.encode(&mut out);
            assert_eq!(RangeTombstones::decode(&name, &out).unwrap(), union);
        }
    }

    #[test]
    fn damaged_lists_are_refused() {
        let mut good = Vec::new();
        ranges(&[(1, 4), (6, 9)]).encode(&mut good);
        for len in 0..good.len() {
            assert!(RangeTombstones::decode(&name, &good[..len]).is_err());
        }
        let backwards = [1, 1, 7, 1, 3];
        assert!(RangeTombstones::decode(&name, &backwards).is_err());
        let touching = [2, 1, 1, 1, 3, 1, 3, 1, 5];
        assert!(RangeTombstones::decode(&name, &touching).is_err());
        assert!(RangeTombstones::decode(&name, &[0xff, 0xff, 0xff, 0x7f]).is_err());
    }
}
