//! The end of a file, which says where the rest is.
//!
//! The *end* of a file is directory, range tombstones, properties and footer; the checkpoint records its length, so that a
//! reader loads it with one request. The footer closes with the checksum of the whole end and carries the checksum of the
//! data, so the checksum that checkpoints record identifies the content of the file.
use crate::encoding::Reader;
use crate::error::{Error, Result};
use crate::sst::index::IndexBlock;
use crate::sst::properties::Properties;
use crate::sst::ranges::RangeTombstones;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Length of the footer.
pub(crate) const FOOTER_BYTES: usize = 96;
/// The format this code writes and reads.
pub(crate) const FORMAT_VERSION: u32 = 2;
pub(crate) const MAGIC: &[u8; 8] = b"AQIFRSST";
/// Checksum and magic.
const CLOSING_BYTES: usize = 16;

/// What the footer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Footer {
    /// Every checksum in the file is seeded with this plus the offset of what it closes.
    pub(crate) seed: u64,
    /// Bytes of all data and value blocks; the filter follows.
    pub(crate) data_bytes: u64,
    /// Rows, tombstones included.
    pub(crate) entries: u64,
    /// xxh3 of the data.
    pub(crate) data_checksum: u64,
    pub(crate) filter_bytes: u32,
    /// Bytes of all index partitions.
    pub(crate) index_bytes: u32,
    pub(crate) directory_bytes: u32,
    pub(crate) ranges_bytes: u32,
    pub(crate) properties_bytes: u32,
    /// Number of data blocks.
    pub(crate) blocks: u32,
}

impl Footer {
    /// Appends the footer to `end`, which holds what precedes it; returns the checksum.
    pub(crate) fn append(&self, end: &mut Vec<u8>) -> u64 {
        for long in [self.seed, self.data_bytes, self.entries, self.data_checksum] {
            end.extend_from_slice(&long.to_le_bytes());
        }
        for short in [
            self.filter_bytes,
            self.index_bytes,
            self.directory_bytes,
            self.ranges_bytes,
            self.properties_bytes,
            self.blocks,
            FORMAT_VERSION,
        ] {
            end.extend_from_slice(&short.to_le_bytes());
        }
        end.extend_from_slice(&[0; 20]);
        let checksum = xxh3_64_with_seed(end, self.seed);
        end.extend_from_slice(&checksum.to_le_bytes());
        end.extend_from_slice(MAGIC);
        checksum
    }

    /// Decodes the footer at the end of `end`; returns it with the checksum, which was checked over all of `end`.
    fn decode(what: &str, end: &[u8]) -> Result<(Self, u64)> {
        let Some((covered, closing)) = end
            .len()
            .checked_sub(CLOSING_BYTES)
            .filter(|_| end.len() >= FOOTER_BYTES)
            .and_then(|at| end.split_at_checked(at))
        else {
            return Err(Error::corrupt(format!(
                "{what} is damaged: its end has {} bytes, fewer than a footer",
                end.len()
            )));
        };
        let mut closing = Reader::new(what, closing);
        let expected = closing.u64("checksum")?;
        if closing.take(MAGIC.len(), "magic")? != MAGIC {
            return Err(Error::corrupt(format!(
                "{what} is not an SST file: it does not end with the magic bytes"
            )));
        }
        let start = end.len() - FOOTER_BYTES;
        let mut reader = Reader::new(what, covered.get(start..).unwrap_or_default());
        let this = Self {
            seed: reader.u64("seed")?,
            data_bytes: reader.u64("data length")?,
            entries: reader.u64("row count")?,
            data_checksum: reader.u64("data checksum")?,
            filter_bytes: reader.u32("filter length")?,
            index_bytes: reader.u32("index length")?,
            directory_bytes: reader.u32("directory length")?,
            ranges_bytes: reader.u32("range tombstone length")?,
            properties_bytes: reader.u32("properties length")?,
            blocks: reader.u32("block count")?,
        };
        let version = reader.u32("format version")?;
        if version != FORMAT_VERSION {
            return Err(Error::corrupt(format!(
                "{what} has format version {version}, but this program reads version {FORMAT_VERSION}"
            )));
        }
        let found = xxh3_64_with_seed(covered, this.seed);
        if found != expected {
            return Err(Error::corrupt(format!(
                "{what} is damaged: the checksum of its end is {found:016x}, but {expected:016x} was written"
            )));
        }
        Ok((this, expected))
    }
}

/// The end of a file that has been read.
#[derive(Debug)]
pub(crate) struct FileEnd {
    pub(crate) footer: Footer,
    pub(crate) checksum: u64,
    /// Where the index partitions lie, as places in the file.
    pub(crate) directory: IndexBlock,
    pub(crate) ranges: RangeTombstones,
    pub(crate) properties: Properties,
}

impl FileEnd {
    /// Decodes the end of a file of `size_bytes`.
    pub(crate) fn decode(what: &str, end: &[u8], size_bytes: u64) -> Result<Self> {
        let (footer, checksum) = Footer::decode(what, end)?;
        let mut reader = Reader::new(what, end);
        let directory = reader.take(footer.directory_bytes as usize, "directory")?;
        let ranges = reader.take(footer.ranges_bytes as usize, "range tombstones")?;
        let properties = reader.take(footer.properties_bytes as usize, "properties")?;
        let index_start = footer
            .data_bytes
            .saturating_add(u64::from(footer.filter_bytes));
        let index_end = index_start.saturating_add(u64::from(footer.index_bytes));
        if reader.remaining() != FOOTER_BYTES
            || index_end.checked_add(end.len() as u64) != Some(size_bytes)
        {
            return Err(Error::corrupt(format!(
                "{what} is damaged: its parts do not make a file of {size_bytes} bytes"
            )));
        }
        let name = |part: &'static str| move || format!("the {part} of {what}");
        Ok(Self {
            footer,
            checksum,
            directory: IndexBlock::decode(&name("directory"), directory, index_start..index_end)?,
            ranges: RangeTombstones::decode(&name("list of range tombstones"), ranges)?,
            properties: Properties::decode(&name("list of properties"), properties)?,
        })
    }

    /// Bytes of memory held.
    pub(crate) fn bytes(&self) -> usize {
        let tallies = self.properties.tables.len() + self.properties.groups.len();
        self.directory.bytes() + self.ranges.bytes() + 48 * tallies + size_of::<Self>()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::sst::index::{IndexBuilder, Place};

    #[test]
    fn comes_back_and_notices_every_flipped_bit() {
        let mut end = Vec::new();
        let mut directory = IndexBuilder::default();
        directory.add(
            b"key",
            Place {
                offset: 13,
                bytes: 2,
            },
        );
        directory.finish(13, &mut end);
        let directory_bytes = end.len();
        let range = (Bytes::from_static(b"a"), Bytes::from_static(b"b"));
        RangeTombstones::union([range]).encode(&mut end);
        let ranges_bytes = end.len() - directory_bytes;
        Properties::default().encode(&mut end);
        let footer = Footer {
            seed: 99,
            data_bytes: 9,
            entries: 3,
            data_checksum: 77,
            filter_bytes: 4,
            index_bytes: 2,
            directory_bytes: directory_bytes as u32,
            ranges_bytes: ranges_bytes as u32,
            properties_bytes: 3,
            blocks: 1,
        };
        let before = end.len();
        let checksum = footer.append(&mut end);
        assert_eq!(end.len(), before + FOOTER_BYTES);
        let size = 15 + end.len() as u64;
        let decoded = FileEnd::decode("t", &end, size).unwrap();
        assert_eq!((decoded.footer, decoded.checksum), (footer, checksum));
        assert!(decoded.ranges.covers(b"a"));
        assert!(FileEnd::decode("t", &end, size + 1).is_err());
        for bit in 0..end.len() * 8 {
            let mut bad = end.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(FileEnd::decode("t", &bad, size).is_err(), "bit {bit}");
        }
        for len in 0..end.len() {
            assert!(FileEnd::decode("t", &end[..len], size).is_err());
        }
    }
}
