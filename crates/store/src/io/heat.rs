//! Which parts of files are read most: a counter per chunk of 1 MiB, old counts fading.
//!
//! Reads that memory answers are not counted; what stays in memory was read once. The hottest chunks go with each checkpoint,
//! so that a process that restores it can fetch them before they are asked for.
use std::cmp::Reverse;

use hashbrown::HashMap;
use parking_lot::Mutex;

use crate::encoding::{Reader, put_varint};
use crate::error::{Error, Result};
use crate::file_cache::CHUNK_BYTES;
use crate::sst::file::FileId;

/// After so many reads all counts are halved.
const HALF_LIFE_READS: u32 = 1 << 16;
/// Chunks of a file that are counted; a file has fewer.
const CHUNKS_MAX: u64 = 1 << 20;
const VERSION: u8 = 1;

#[derive(Debug, Default)]
pub(crate) struct Heat(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    files: HashMap<FileId, Vec<u32>>,
    reads: u32,
}

impl Heat {
    /// Counts a read of a range.
    pub(crate) fn read(&self, file: FileId, range: &std::ops::Range<u64>) {
        let chunks = range.start / CHUNK_BYTES..range.end.div_ceil(CHUNK_BYTES).min(CHUNKS_MAX);
        let mut counts = self.0.lock();
        let file = counts.files.entry(file).or_default();
        if (file.len() as u64) < chunks.end {
            file.resize(chunks.end as usize, 0);
        }
        let touched = file.get_mut(chunks.start.min(chunks.end) as usize..chunks.end as usize);
        for count in touched.unwrap_or_default() {
            *count = count.saturating_add(1);
        }
        counts.reads += 1;
        if counts.reads >= HALF_LIFE_READS {
            counts.reads = 0;
            counts
                .files
                .values_mut()
                .for_each(|file| file.iter_mut().for_each(|count| *count /= 2));
            counts
                .files
                .retain(|_, file| file.iter().any(|count| *count > 0));
        }
    }

    pub(crate) fn forget(&self, file: FileId) {
        self.0.lock().files.remove(&file);
    }

    /// The hottest chunks of some files, hottest first: the file's place in the list and the chunk's number.
    pub(crate) fn hottest(
        &self,
        files: impl Iterator<Item = FileId>,
        most: usize,
    ) -> Vec<WarmChunk> {
        let counts = self.0.lock();
        let mut chunks = Vec::new();
        for (place, id) in files.enumerate() {
            let counted = counts.files.get(&id).into_iter().flatten().enumerate();
            chunks.extend(
                counted
                    .filter(|(_, count)| **count > 0)
                    .map(|(chunk, count)| (*count, place as u32, chunk as u32)),
            );
        }
        drop(counts);
        let rank = |&(count, file, chunk): &(u32, u32, u32)| (Reverse(count), file, chunk);
        if chunks.len() > most {
            chunks.select_nth_unstable_by_key(most, rank);
            chunks.truncate(most);
        }
        chunks.sort_unstable_by_key(rank);
        let warm = |(_, file, chunk)| WarmChunk { file, chunk };
        chunks.into_iter().map(warm).collect()
    }
}

/// A chunk that should be fetched before it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WarmChunk {
    /// The file's place in the checkpoint's list.
    pub(crate) file: u32,
    pub(crate) chunk: u32,
}

/// Writes a list of chunks down.
pub(crate) fn encode(chunks: &[WarmChunk]) -> Vec<u8> {
    if chunks.is_empty() {
        return Vec::new();
    }
    let mut out = vec![VERSION];
    put_varint(&mut out, chunks.len() as u64);
    for chunk in chunks {
        put_varint(&mut out, u64::from(chunk.file));
        put_varint(&mut out, u64::from(chunk.chunk));
    }
    out
}

/// Reads what [`encode`] wrote.
pub(crate) fn decode(bytes: &[u8]) -> Result<Vec<WarmChunk>> {
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let mut reader = Reader::new("the checkpoint's list of warm chunks", bytes);
    let version = reader.u8("format version")?;
    if version != VERSION {
        return Err(Error::corrupt(format!(
            "the checkpoint's list of warm chunks has format version {version}, expected {VERSION}"
        )));
    }
    let count = reader.count(2, "chunk count")?;
    let mut chunks = Vec::with_capacity(count);
    let small = |number: u64| {
        let large =
            |_| Error::corrupt("a number in the checkpoint's list of warm chunks is too large");
        u32::try_from(number).map_err(large)
    };
    for _ in 0..count {
        chunks.push(WarmChunk {
            file: small(reader.varint("file")?)?,
            chunk: small(reader.varint("chunk")?)?,
        });
    }
    reader.finish()?;
    Ok(chunks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hottest_come_first_and_heat_fades() {
        let heat = Heat::default();
        let at = |mib: u64| mib * CHUNK_BYTES..mib * CHUNK_BYTES + 10;
        let (a, b) = (FileId(1), FileId(2));
        for _ in 0..200 {
            heat.read(a, &at(5));
        }
        heat.read(a, &(2 * CHUNK_BYTES - 1..2 * CHUNK_BYTES + 1));
        heat.read(a, &at(2));
        let warm = |file, chunk| WarmChunk { file, chunk };
        let hottest = heat.hottest([b, a].into_iter(), 10);
        assert_eq!(hottest, [warm(1, 5), warm(1, 2), warm(1, 1)]);
        let two = heat.hottest([b, a].into_iter(), 2);
        assert_eq!(two, [warm(1, 5), warm(1, 2)]);
        for _ in 0..10 * HALF_LIFE_READS {
            heat.read(b, &at(0));
        }
        assert_eq!(heat.hottest([a, b].into_iter(), 10), [warm(1, 0)]);
        heat.forget(b);
        assert_eq!(heat.hottest([a, b].into_iter(), 10), []);
        heat.read(a, &(u64::MAX - 9..u64::MAX));
    }

    #[test]
    fn lists_come_back_and_hostile_ones_are_errors() {
        let list: Vec<WarmChunk> = (0..300)
            .map(|i| WarmChunk {
                file: i % 7,
                chunk: i * 1_000,
            })
            .collect();
        let bytes = encode(&list);
        assert_eq!(decode(&bytes).unwrap(), list);
        assert_eq!(decode(&encode(&[])).unwrap(), []);
        for len in 1..bytes.len() {
            assert!(decode(&bytes[..len]).is_err(), "cut at {len}");
        }
        let mut huge = vec![VERSION];
        put_varint(&mut huge, u64::MAX);
        assert!(decode(&huge).is_err());
    }
}
