//! The index of a file: where each data block lies and up to which key it goes.
//!
//! The index is cut into *partitions* of about [`PARTITION_BYTES`], and a *directory* says of each partition where it lies and
//! up to which key it goes. Both are [`IndexBlock`]s: a list of places with separators, where a separator is at or above the
//! last key of its place and below the first key of the next.
//!
//! In a file: offset at which the first gap starts (varint), prefix of all separators (varint length and bytes), number of
//! places (varint), then per place the rest of the separator (varint length and bytes), the gap before it (varint; value
//! blocks lie there) and its length (varint).
//!
//! In memory the first eight bytes of each rest lie side by side as numbers, so that a search compares numbers in a row of
//! memory and looks at a whole separator only where numbers are equal. Beside each place is a [`Slot`] that leads to its block
//! while that is in the memory cache.
use super::slot::Slot;
use crate::encoding::{Reader, put_bytes, put_varint};
use crate::error::Result;
use crate::key::shared_prefix;
use crate::sst::seal::{Name, damaged};

/// Size at which a partition is closed.
pub(crate) const PARTITION_BYTES: usize = 4 << 10;

/// A piece of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) offset: u64,
    pub(crate) bytes: u32,
}

impl Place {
    pub(crate) fn end(self) -> u64 {
        self.offset.saturating_add(u64::from(self.bytes))
    }
}

/// The shortest string at or above `last` and below `next` that keeps a prefix of `next`; `last` itself if none is shorter.
pub(crate) fn separator<'a>(last: &'a [u8], next: &'a [u8]) -> &'a [u8] {
    let shared = shared_prefix(last, next);
    // `next` cut right after the first byte that differs is above `last`; it must not be `next` itself.
    match next.get(..shared + 1) {
        Some(short) if short.len() < next.len() && short.len() < last.len() => short,
        _ => last,
    }
}

/// Collects the entries of one index block.
#[derive(Default)]
pub(crate) struct IndexBuilder {
    separators: Vec<u8>,
    entries: Vec<(usize, Place)>,
    /// Bytes all separators share at their start.
    shared: usize,
}

impl IndexBuilder {
    /// Adds a place; separators and places must ascend.
    pub(crate) fn add(&mut self, separator: &[u8], place: Place) {
        let first = self.entries.first().map_or(0, |(end, _)| *end);
        let first = self.separators.get(..first).unwrap_or_default();
        self.shared = if self.entries.is_empty() {
            separator.len()
        } else {
            shared_prefix(first.get(..self.shared).unwrap_or_default(), separator)
        };
        self.separators.extend_from_slice(separator);
        self.entries.push((self.separators.len(), place));
    }

    /// An upper estimate of the bytes so far.
    pub(crate) fn bytes(&self) -> usize {
        self.separators.len() - self.shared * self.entries.len() + 6 * self.entries.len()
    }

    /// Where the last place ends.
    pub(crate) fn end(&self) -> u64 {
        self.entries.last().map_or(0, |(_, place)| place.end())
    }

    /// The separator that was added last.
    pub(crate) fn last(&self) -> &[u8] {
        let start = match self.entries.as_slice() {
            [.., (start, _), _] => *start,
            _ => 0,
        };
        self.separators.get(start..).unwrap_or_default()
    }

    /// Appends the block and starts anew.
    pub(crate) fn finish(&mut self, start: u64, out: &mut Vec<u8>) {
        let prefix = self.separators.get(..self.shared).unwrap_or_default();
        put_varint(out, start);
        put_bytes(out, prefix);
        put_varint(out, self.entries.len() as u64);
        let (mut from, mut offset) = (0, start);
        for &(end, place) in &self.entries {
            let rest = self.separators.get(from + self.shared..end);
            put_bytes(out, rest.unwrap_or_default());
            put_varint(out, place.offset - offset);
            put_varint(out, u64::from(place.bytes));
            (from, offset) = (end, place.end());
        }
        self.separators.clear();
        self.entries.clear();
    }
}

/// A partition or a directory that has been read.
#[derive(Debug, Default)]
pub(crate) struct IndexBlock {
    prefix: Box<[u8]>,
    /// The first eight bytes of each rest as a big-endian number, filled up with zeroes.
    heads: Box<[u64]>,
    entries: Box<[Entry]>,
    rests: Box<[u8]>,
}

/// Two of them are a cache line.
#[derive(Debug)]
struct Entry {
    offset: u64,
    bytes: u32,
    /// End of the separator's rest.
    end: u32,
    slot: Slot,
}

impl Entry {
    #[inline]
    fn place(&self) -> Place {
        Place {
            offset: self.offset,
            bytes: self.bytes,
        }
    }
}

impl IndexBlock {
    /// Decodes a block whose places must lie in `within`.
    pub(crate) fn decode(
        what: Name<'_>,
        bytes: &[u8],
        within: std::ops::Range<u64>,
    ) -> Result<Self> {
        let whole = what();
        let mut reader = Reader::new(&whole, bytes);
        let mut offset = reader.varint("offset")?;
        let prefix = reader.bytes("prefix")?;
        // A separator, a gap and a length take a byte each at least.
        let count = reader.count(3, "number of entries")?;
        let mut heads = Vec::with_capacity(count);
        let mut entries: Vec<Entry> = Vec::with_capacity(count);
        let mut rests = Vec::with_capacity(reader.remaining());
        if offset < within.start {
            return Err(damaged(what, "it starts before what it describes"));
        }
        for i in 0..count {
            let rest = reader.bytes("separator")?;
            let before = entries.last().map_or(0, |entry| entry.end as usize);
            let earlier = match entries.len().checked_sub(2).and_then(|i| entries.get(i)) {
                Some(entry) => entry.end as usize,
                None => 0,
            };
            if i > 0 && rests.get(earlier..before).unwrap_or_default() >= rest {
                return Err(damaged(what, &format!("separator {i} is out of order")));
            }
            rests.extend_from_slice(rest);
            heads.push(head(rest));
            offset = offset.saturating_add(reader.varint("gap")?);
            let len = reader.varint("length")?;
            let place = Place {
                offset,
                bytes: u32::try_from(len).unwrap_or(u32::MAX),
            };
            offset = offset.saturating_add(len);
            if offset > within.end || u64::from(place.bytes) != len {
                return Err(damaged(
                    what,
                    &format!(
                        "entry {i} ends at {offset}, but the part it describes at {}",
                        within.end
                    ),
                ));
            }
            entries.push(Entry {
                offset: place.offset,
                bytes: place.bytes,
                end: rests.len() as u32,
                slot: Slot::default(),
            });
        }
        reader.finish()?;
        Ok(Self {
            prefix: prefix.into(),
            heads: heads.into(),
            entries: entries.into(),
            rests: rests.into(),
        })
    }

    /// Bytes of memory held.
    pub(crate) fn bytes(&self) -> usize {
        self.prefix.len()
            + size_of_val(&*self.heads)
            + size_of_val(&*self.entries)
            + self.rests.len()
            + size_of::<Self>()
    }

    /// Number of places.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// All places in order.
    pub(crate) fn places(&self) -> impl Iterator<Item = Place> {
        self.entries.iter().map(Entry::place)
    }

    #[inline]
    pub(crate) fn place(&self, i: usize) -> Option<Place> {
        self.entries.get(i).map(Entry::place)
    }

    /// The slot of a place.
    #[inline]
    pub(crate) fn slot(&self, i: usize) -> Option<&Slot> {
        self.entries.get(i).map(|entry| &entry.slot)
    }

    fn rest(&self, i: usize) -> &[u8] {
        let start = match i.checked_sub(1).and_then(|before| self.entries.get(before)) {
            Some(entry) => entry.end as usize,
            None => 0,
        };
        let end = self
            .entries
            .get(i)
            .map_or(start, |entry| entry.end as usize);
        self.rests.get(start..end).unwrap_or_default()
    }

    /// The separator of a place.
    pub(crate) fn separator(&self, i: usize) -> Vec<u8> {
        [&self.prefix, self.rest(i)].concat()
    }

    /// The only place that may hold `key`, or the first that holds keys above it; the number of places if it is past the
    /// last.
    #[inline]
    pub(crate) fn find(&self, key: &[u8]) -> usize {
        let rest = match key.strip_prefix(&*self.prefix) {
            Some(rest) => rest,
            None if key < &*self.prefix => return 0,
            None => return self.heads.len(),
        };
        let sought = head(rest);
        let mut at = lower_bound(&self.heads, sought);
        while self.heads.get(at) == Some(&sought) && self.rest(at) < rest {
            at += 1;
        }
        at
    }
}

/// The first eight bytes as a number that orders like them, except that it may tie.
#[inline]
pub(super) fn head(rest: &[u8]) -> u64 {
    match rest.first_chunk::<8>() {
        Some(bytes) => u64::from_be_bytes(*bytes),
        None => {
            let mut bytes = [0; 8];
            for (to, from) in bytes.iter_mut().zip(rest) {
                *to = *from;
            }
            u64::from_be_bytes(bytes)
        }
    }
}

/// How many of the ascending numbers are below `sought`; the number of steps depends on their number only.
#[inline]
fn lower_bound(heads: &[u64], sought: u64) -> usize {
    let mut base = 0;
    let mut len = heads.len();
    while len > 1 {
        let half = len / 2;
        let below = heads.get(base + half - 1).is_some_and(|&h| h < sought);
        base += if below { half } else { 0 };
        len -= half;
    }
    base + usize::from(heads.get(base).is_some_and(|&h| h < sought))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> String {
        "the index".into()
    }

    #[test]
    fn separators_part_the_blocks() {
        for (last, next) in [
            ("abc", "abd"),
            ("a", "b"),
            ("abcdef", "b"),
            ("abcdef", "abczz"),
            ("ab", "abc"),
        ] {
            let between = separator(last.as_bytes(), next.as_bytes());
            assert!(
                between >= last.as_bytes() && between < next.as_bytes(),
                "{last} {next}"
            );
            assert!(between.len() <= last.len());
        }
        assert_eq!(separator(b"abcdef", b"abczz"), b"abcz");
    }

    fn built(separators: &[Vec<u8>]) -> (Vec<u8>, Vec<Place>) {
        let mut builder = IndexBuilder::default();
        let mut places = Vec::new();
        let mut offset = 100;
        for (i, separator) in separators.iter().enumerate() {
            let place = Place {
                offset: offset + (i as u64 % 3) * 50,
                bytes: 10 + i as u32,
            };
            offset = place.end();
            builder.add(separator, place);
            assert_eq!(builder.last(), separator);
            places.push(place);
        }
        let mut out = Vec::new();
        builder.finish(100, &mut out);
        assert_eq!(builder.last(), b"");
        (out, places)
    }

    /// Against a linear search, over separators with and without a common prefix, with ties in their first eight bytes.
    #[test]
    fn finds_the_block_of_every_key() {
        let mut state = 3u64;
        let mut random = |below: u64| {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (state >> 33) % below
        };
        for round in 0..300 {
            let prefix = b"prefix"[..random(7) as usize].to_vec();
            let make = |random: &mut dyn FnMut(u64) -> u64| {
                let mut key = prefix.clone();
                for _ in 0..random(14) {
                    key.push(if random(2) == 0 {
                        0
                    } else {
                        b'a' + random(2) as u8
                    });
                }
                key
            };
            let count = if round % 10 == 0 { 500 } else { random(9) };
            let mut separators: Vec<Vec<u8>> = (0..count).map(|_| make(&mut random)).collect();
            separators.sort();
            separators.dedup();
            let (bytes, places) = built(&separators);
            let block = IndexBlock::decode(&name, &bytes, 100..1 << 40).unwrap();
            assert_eq!(block.len(), separators.len());
            for (i, place) in places.iter().enumerate() {
                assert_eq!(block.place(i), Some(*place));
                assert_eq!(block.separator(i), separators[i]);
            }
            for _ in 0..200 {
                let mut key = make(&mut random);
                if random(4) == 0 {
                    key = b"zz"[..random(3) as usize].to_vec();
                }
                let expected = separators.iter().position(|s| *s >= key);
                assert_eq!(
                    block.find(&key),
                    expected.unwrap_or(separators.len()),
                    "{key:?}"
                );
            }
            assert_eq!(block.place(separators.len()), None);
        }
    }

    #[test]
    fn damaged_indexes_are_refused() {
        let (good, _) = built(&[b"b".to_vec(), b"d".to_vec()]);
        assert!(IndexBlock::decode(&name, &good, 100..171).is_ok());
        assert!(
            IndexBlock::decode(&name, &good, 100..170).is_err(),
            "past the end"
        );
        assert!(
            IndexBlock::decode(&name, &good, 101..171).is_err(),
            "before the start"
        );
        for len in 0..good.len() {
            assert!(IndexBlock::decode(&name, &good[..len], 100..171).is_err());
        }
        let (bad, _) = built(&[b"d".to_vec(), b"b".to_vec()]);
        assert!(
            IndexBlock::decode(&name, &bad, 100..171).is_err(),
            "out of order"
        );
        let mut huge = vec![100, 0];
        put_varint(&mut huge, u64::MAX);
        assert!(IndexBlock::decode(&name, &huge, 100..171).is_err());
    }
}
