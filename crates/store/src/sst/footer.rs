//! The last bytes of a file, which say where the rest is.
//!
//! The *tail* of a file is filter, index and footer; a reader that knows its length from the checkpoint loads it with
//! one request. The footer ends with the checksum of the whole tail and carries the checksum of the data before it, so
//! the tail's checksum, which checkpoints record, identifies the content of the file.
use xxhash_rust::xxh3::xxh3_64;

use crate::encoding::Reader;
use crate::error::{Error, Result};

/// Length of the footer.
pub(crate) const FOOTER_BYTES: usize = 64;
/// The format this code writes, and the newest it reads.
pub(crate) const FORMAT_VERSION: u32 = 1;
const MAGIC: &[u8; 8] = b"AQIFRSST";

/// What the footer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Footer {
    /// Bytes of all data blocks; the tail starts there.
    pub(crate) data_bytes: u64,
    /// Rows, tombstones included.
    pub(crate) entries: u64,
    /// xxh3 of the data.
    pub(crate) data_checksum: u64,
    pub(crate) filter_bytes: u32,
    pub(crate) index_bytes: u32,
    pub(crate) blocks: u32,
}

impl Footer {
    /// Appends the footer to `tail`, which holds filter and index; returns the checksum of the whole tail.
    pub(crate) fn append(&self, tail: &mut Vec<u8>) -> u64 {
        tail.extend_from_slice(&self.data_bytes.to_le_bytes());
        tail.extend_from_slice(&self.entries.to_le_bytes());
        tail.extend_from_slice(&self.data_checksum.to_le_bytes());
        tail.extend_from_slice(&self.filter_bytes.to_le_bytes());
        tail.extend_from_slice(&self.index_bytes.to_le_bytes());
        tail.extend_from_slice(&self.blocks.to_le_bytes());
        tail.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        tail.extend_from_slice(&[0; 8]);
        let checksum = xxh3_64(tail);
        tail.extend_from_slice(&checksum.to_le_bytes());
        tail.extend_from_slice(MAGIC);
        checksum
    }

    /// Decodes the footer of a whole tail; checks the tail's checksum and that its parts fill it exactly.
    /// Returns the footer and the tail's checksum.
    pub(crate) fn decode(what: &str, tail: &[u8]) -> Result<(Self, u64)> {
        let start = tail.len().checked_sub(FOOTER_BYTES).ok_or_else(|| {
            Error::corrupt(format!(
                "{what} is damaged: its tail has {} bytes, fewer than a footer",
                tail.len()
            ))
        })?;
        let (parts, footer) = tail.split_at(start);
        let mut reader = Reader::new(what, footer);
        let this = Self {
            data_bytes: reader.u64("data length")?,
            entries: reader.u64("entry count")?,
            data_checksum: reader.u64("data checksum")?,
            filter_bytes: reader.u32("filter length")?,
            index_bytes: reader.u32("index length")?,
            blocks: reader.u32("block count")?,
        };
        let version = reader.u32("format version")?;
        reader.u64("reserved bytes")?;
        let expected = reader.u64("checksum")?;
        if reader.take(MAGIC.len(), "magic")? != MAGIC {
            return Err(Error::corrupt(format!(
                "{what} is not an SST file: it does not end with the magic bytes"
            )));
        }
        if version != FORMAT_VERSION {
            return Err(Error::corrupt(format!(
                "{what} has format version {version}, but this program reads version {FORMAT_VERSION}"
            )));
        }
        let found = xxh3_64(&tail[..tail.len() - 16]);
        if found != expected {
            return Err(Error::corrupt(format!(
                "{what} is damaged: the checksum of its tail is {found:016x}, but {expected:016x} was written"
            )));
        }
        let described = u64::from(this.filter_bytes) + u64::from(this.index_bytes);
        if described != parts.len() as u64 {
            return Err(Error::corrupt(format!(
                "{what} is damaged: filter and index should take {described} bytes, but {} precede the footer",
                parts.len()
            )));
        }
        Ok((this, expected))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comes_back_and_notices_every_flipped_bit() {
        let footer = Footer {
            data_bytes: 9,
            entries: 3,
            data_checksum: 77,
            filter_bytes: 4,
            index_bytes: 2,
            blocks: 1,
        };
        let mut tail = b"filtix".to_vec();
        let checksum = footer.append(&mut tail);
        assert_eq!(tail.len(), 6 + FOOTER_BYTES);
        assert_eq!(Footer::decode("t", &tail).unwrap(), (footer, checksum));
        for bit in 0..tail.len() * 8 {
            let mut bad = tail.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Footer::decode("t", &bad).is_err(), "bit {bit}");
        }
        for len in 0..tail.len() {
            assert!(Footer::decode("t", &tail[..len]).is_err());
        }
    }
}
