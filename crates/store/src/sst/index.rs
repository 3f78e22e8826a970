//! The index of a file: where each data block lies and up to which key it goes.
//!
//! On the object store, per block: a separator (varint length and bytes: at or above the block's last key, below the
//! next block's first), then the block's sealed length (varint). Blocks follow each other from offset 0, so offsets
//! are sums of lengths.
use std::ops::Range;

use crate::encoding::{Reader, put_bytes, put_varint};
use crate::error::{Error, Result};
use crate::key::shared_prefix;

/// Appends one block's entry.
pub(crate) fn put_entry(out: &mut Vec<u8>, separator: &[u8], sealed_len: usize) {
    put_bytes(out, separator);
    put_varint(out, sealed_len as u64);
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

/// The index of a file that has been read.
#[derive(Debug, Default)]
pub(crate) struct Index {
    separators: Vec<u8>,
    /// End of each separator in `separators`.
    ends: Vec<u32>,
    /// Offset of each block in the file, and the end of the last.
    offsets: Vec<u64>,
}

impl Index {
    /// Decodes an index of `blocks` blocks that fill `data_bytes` exactly.
    pub(crate) fn decode(what: &str, bytes: &[u8], blocks: u32, data_bytes: u64) -> Result<Self> {
        let mut reader = Reader::new(what, bytes);
        let blocks = blocks as usize;
        if blocks > bytes.len() / 2 {
            return Err(Error::corrupt(format!(
                "the index of {what} is damaged: {} bytes cannot describe {blocks} blocks",
                bytes.len()
            )));
        }
        let mut index = Self {
            separators: Vec::with_capacity(bytes.len()),
            ends: Vec::with_capacity(blocks),
            offsets: Vec::with_capacity(blocks + 1),
        };
        let mut offset = 0u64;
        index.offsets.push(0);
        for i in 0..blocks {
            let separator = reader.bytes("separator")?;
            if i > 0 && index.separator(i - 1) >= separator {
                return Err(Error::corrupt(format!(
                    "the index of {what} is damaged: separator {i} is out of order"
                )));
            }
            index.separators.extend_from_slice(separator);
            index.ends.push(index.separators.len() as u32);
            offset = offset.saturating_add(reader.varint("block length")?);
            index.offsets.push(offset);
        }
        reader.finish()?;
        if offset != data_bytes {
            return Err(Error::corrupt(format!(
                "the index of {what} is damaged: its blocks end at {offset}, but the data at {data_bytes}"
            )));
        }
        Ok(index)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.separators.capacity() + 4 * self.ends.capacity() + 8 * self.offsets.capacity()
    }

    /// Number of blocks.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    #[inline]
    fn separator(&self, i: usize) -> &[u8] {
        let start = match i.checked_sub(1) {
            Some(before) => self.ends.get(before).copied().unwrap_or(0),
            None => 0,
        };
        let end = self.ends.get(i).copied().unwrap_or(start);
        self.separators
            .get(start as usize..end as usize)
            .unwrap_or_default()
    }

    /// The only block that may hold `key`, or the first that holds keys above it; `None` past the last.
    #[inline]
    pub(crate) fn find(&self, key: &[u8]) -> Option<usize> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if self.separator(middle) < key {
                low = middle + 1
            } else {
                high = middle
            }
        }
        (low < self.len()).then_some(low)
    }

    /// Where the block lies in the file, trailer included.
    pub(crate) fn range(&self, block: usize) -> Option<Range<u64>> {
        Some(*self.offsets.get(block)?..*self.offsets.get(block + 1)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn finds_the_block_of_a_key() {
        let mut bytes = Vec::new();
        for (separator, len) in [("b", 10), ("d", 20), ("f", 30)] {
            put_entry(&mut bytes, separator.as_bytes(), len);
        }
        let index = Index::decode("t", &bytes, 3, 60).unwrap();
        let found: Vec<_> = ["a", "b", "c", "d", "e", "f", "g"]
            .iter()
            .map(|k| index.find(k.as_bytes()))
            .collect();
        assert_eq!(
            found,
            [Some(0), Some(0), Some(1), Some(1), Some(2), Some(2), None]
        );
        assert_eq!(index.range(1), Some(10..30));
        assert_eq!(index.range(3), None);
    }

    #[test]
    fn damaged_indexes_are_refused() {
        let mut bytes = Vec::new();
        put_entry(&mut bytes, b"d", 10);
        put_entry(&mut bytes, b"b", 10);
        assert!(Index::decode("t", &bytes, 2, 20).is_err(), "out of order");
        assert!(
            Index::decode("t", &bytes[..4], 1, 11).is_err(),
            "blocks do not fill the data"
        );
        assert!(Index::decode("t", &bytes, 1, 10).is_err(), "bytes are left");
        assert!(
            Index::decode("t", &bytes, u32::MAX, 20).is_err(),
            "more blocks than bytes"
        );
    }
}
