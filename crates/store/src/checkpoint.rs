//! The files of one worker at one checkpoint, and how they are written down. `docs/format/checkpoint-files.md` has the
//! byte diagram.
//!
//! The list is part of the checkpoint's metadata, which carries the checksum; this codec only makes sure that hostile
//! bytes lead to an error.
use bytes::Bytes;

use crate::encoding::{Reader, put_bytes, put_varint};
use crate::error::{Error, Result};
use crate::options::KeyGroupRange;

const FORMAT_VERSION: u8 = 2;
/// Fewest bytes one file can take, for checking the count.
const FILE_BYTES_MIN: usize = 33;
/// Flag of a file: some rows have times.
const HAS_TIMES: u8 = 1;

/// One immutable SST file as a version or a checkpoint names it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileRef {
    /// Full path on the object store.
    pub path: String,
    /// Length of the whole file.
    pub size_bytes: u64,
    /// Level of the tree; 0 holds the newest files.
    pub level: u8,
    /// First key in the file, of a row or a range tombstone, whatever the clip.
    pub smallest: Bytes,
    /// A key above all rows and range tombstones of the file, whatever the clip.
    pub upper: Bytes,
    /// Only rows of these key groups count.
    pub clip: KeyGroupRange,
    /// Rows in the file, tombstones included, whatever the clip.
    pub entries: u64,
    /// Rows that are tombstones.
    pub tombstones: u64,
    /// Rows, tombstones not included, that have no time.
    pub untimed: u64,
    /// Oldest and newest time of rows, in milliseconds since the Unix epoch, if any has one.
    pub times_ms: Option<(i64, i64)>,
    /// Range tombstones in the file.
    pub range_tombstones: u32,
    /// Bytes of the filter, which lies before the index.
    pub filter_bytes: u32,
    /// Bytes of the index, which lies before the end.
    pub index_bytes: u32,
    /// Bytes of directory, range tombstones, properties and footer, which end the file.
    pub end_bytes: u32,
    /// Seed of every checksum in the file.
    pub seed: u64,
    /// Identity of the content: the checksum of the file's end, which contains the checksum of the data.
    pub checksum: u64,
}

/// The files of one worker at one checkpoint: L0 newest first, then the deeper levels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checkpoint {
    /// L0 newest first, then the deeper levels in key order.
    pub files: Vec<FileRef>,
    /// Which parts of the files were asked for most, in a form of the file cache's own. May be empty.
    pub warm: Bytes,
}

impl Checkpoint {
    /// Appends the list to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(FORMAT_VERSION);
        put_varint(out, self.files.len() as u64);
        for file in &self.files {
            encode_file(file, out);
        }
        put_bytes(out, &self.warm);
    }

    /// Decodes what `encode` wrote; never panics, never allocates an unchecked length.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new("the checkpoint's file list", bytes);
        let version = reader.u8("format version")?;
        if version != FORMAT_VERSION {
            return Err(Error::corrupt(format!(
                "the checkpoint's file list has format version {version}, but this program reads version {FORMAT_VERSION}"
            )));
        }
        let count = reader.count(FILE_BYTES_MIN, "file count")?;
        let mut files = Vec::with_capacity(count);
        for _ in 0..count {
            files.push(decode_file(&mut reader)?);
        }
        let warm = Bytes::copy_from_slice(reader.bytes("warm parts")?);
        reader.finish()?;
        Ok(Self { files, warm })
    }
}

fn encode_file(file: &FileRef, out: &mut Vec<u8>) {
    put_bytes(out, file.path.as_bytes());
    put_varint(out, file.size_bytes);
    out.push(file.level);
    put_bytes(out, &file.smallest);
    put_bytes(out, &file.upper);
    out.extend_from_slice(&file.clip.start.to_le_bytes());
    out.extend_from_slice(&file.clip.end.to_le_bytes());
    put_varint(out, file.entries);
    put_varint(out, file.tombstones);
    put_varint(out, file.untimed);
    match file.times_ms {
        None => out.push(0),
        Some((oldest, newest)) => {
            out.push(HAS_TIMES);
            out.extend_from_slice(&oldest.to_le_bytes());
            out.extend_from_slice(&newest.to_le_bytes());
        }
    }
    put_varint(out, u64::from(file.range_tombstones));
    put_varint(out, u64::from(file.filter_bytes));
    put_varint(out, u64::from(file.index_bytes));
    put_varint(out, u64::from(file.end_bytes));
    out.extend_from_slice(&file.seed.to_le_bytes());
    out.extend_from_slice(&file.checksum.to_le_bytes());
}

fn decode_file(reader: &mut Reader<'_>) -> Result<FileRef> {
    let path = reader.bytes("path")?;
    let path = std::str::from_utf8(path)
        .map_err(|_| {
            Error::corrupt(format!(
                "a path at offset {} of the checkpoint's file list is not text",
                reader.position()
            ))
        })?
        .to_string();
    let size_bytes = reader.varint("size")?;
    let level = reader.u8("level")?;
    let smallest = Bytes::copy_from_slice(reader.bytes("smallest key")?);
    let upper = Bytes::copy_from_slice(reader.bytes("upper bound")?);
    let clip = KeyGroupRange {
        start: reader.u16("clip start")?,
        end: reader.u16("clip end")?,
    };
    if clip.start > clip.end {
        return Err(Error::corrupt(format!(
            "the clip of {path} runs from key group {} to {}, which is backwards",
            clip.start, clip.end
        )));
    }
    let entries = reader.varint("row count")?;
    let tombstones = reader.varint("tombstone count")?;
    let untimed = reader.varint("count of rows without time")?;
    let times_ms = match reader.u8("flags")? {
        0 => None,
        HAS_TIMES => Some((
            reader.u64("oldest time")? as i64,
            reader.u64("newest time")? as i64,
        )),
        flags => {
            return Err(Error::corrupt(format!(
                "the entry of {path} has flags {flags}, which this program does not know"
            )));
        }
    };
    let mut short = |field: &str| {
        let value = reader.varint(field)?;
        u32::try_from(value).map_err(|_| {
            Error::corrupt(format!(
                "the {field} of {path} is {value}, more than there can be"
            ))
        })
    };
    Ok(FileRef {
        size_bytes,
        level,
        smallest,
        upper,
        clip,
        entries,
        tombstones,
        untimed,
        times_ms,
        range_tombstones: short("range tombstone count")?,
        filter_bytes: short("filter length")?,
        index_bytes: short("index length")?,
        end_bytes: short("end length")?,
        seed: reader.u64("seed")?,
        checksum: reader.u64("checksum")?,
        path,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(files: u64) -> Checkpoint {
        let file = |i: u64| FileRef {
            path: format!("job/shared/{i}.sst"),
            size_bytes: i * 1_000_003,
            level: (i % 3) as u8,
            smallest: Bytes::from(vec![0, i as u8, 0, 1]),
            upper: Bytes::from(vec![9; 4 + i as usize]),
            clip: KeyGroupRange {
                start: i as u16,
                end: 128,
            },
            entries: i << 40,
            tombstones: i,
            untimed: i * 3,
            times_ms: i.is_multiple_of(2).then_some((-(i as i64), i64::MAX)),
            range_tombstones: i as u32,
            filter_bytes: 1_000 * i as u32,
            index_bytes: 70_000,
            end_bytes: 1_000 + i as u32,
            seed: i << 50,
            checksum: i.wrapping_mul(0x9e37_79b9_7f4a_7c15),
        };
        Checkpoint {
            files: (0..files).map(file).collect(),
            warm: Bytes::from(vec![3; files as usize]),
        }
    }

    #[test]
    fn comes_back() {
        for files in [0, 1, 7] {
            let mut bytes = Vec::new();
            sample(files).encode(&mut bytes);
            assert_eq!(Checkpoint::decode(&bytes).unwrap(), sample(files));
        }
        let mut least = Vec::new();
        encode_file(&FileRef::default(), &mut least);
        assert_eq!(least.len(), FILE_BYTES_MIN);
    }

    #[test]
    fn hostile_bytes_are_errors_or_lists_but_never_panics() {
        let mut good = Vec::new();
        sample(7).encode(&mut good);
        for len in 0..good.len() {
            assert!(Checkpoint::decode(&good[..len]).is_err(), "cut at {len}");
        }
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            // The metadata around the list has the checksum; here only panics and allocations count.
            let _ = Checkpoint::decode(&bad).map(|list| assert!(list.files.len() <= good.len()));
        }
        good.push(0);
        assert!(Checkpoint::decode(&good).is_err(), "bytes after the end");
        let mut huge = vec![FORMAT_VERSION];
        put_varint(&mut huge, u64::MAX);
        assert!(Checkpoint::decode(&huge).is_err());
    }
}
