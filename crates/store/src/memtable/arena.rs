//! Memory that rows of a memtable are appended to and never move in.
//!
//! Chunks grow from 4 KiB to 1 MiB, so that a small table costs little and a large one no copying. A place is a
//! chunk number and an offset; places handed out stay valid for the arena's life.
const CHUNK_BYTES_MIN: usize = 4 << 10;
const CHUNK_BYTES_MAX: usize = 1 << 20;

/// Where something lies in an [`Arena`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) chunk: u32,
    pub(super) offset: u32,
}

#[derive(Default)]
pub(super) struct Arena {
    chunks: Vec<Vec<u8>>,
    bytes: usize,
}

impl Arena {
    /// Bytes of memory held.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Appends the parts one after the other, then zeroes up to `len`, all in one piece.
    pub(super) fn append(&mut self, parts: &[&[u8]], len: usize) -> Place {
        let fits = self
            .chunks
            .last()
            .is_some_and(|c| c.capacity() - c.len() >= len);
        if !fits {
            let grown = self
                .chunks
                .last()
                .map_or(CHUNK_BYTES_MIN, |c| c.capacity() * 2);
            let capacity = grown.clamp(CHUNK_BYTES_MIN, CHUNK_BYTES_MAX).max(len);
            self.chunks.push(Vec::with_capacity(capacity));
            self.bytes += capacity;
        }
        let index = self.chunks.len() - 1;
        let chunk = &mut self.chunks[index];
        let offset = chunk.len();
        for part in parts {
            chunk.extend_from_slice(part);
        }
        chunk.resize(offset + len, 0);
        Place {
            chunk: index as u32,
            offset: offset as u32,
        }
    }

    #[inline]
    pub(super) fn get(&self, place: Place, len: usize) -> &[u8] {
        let start = place.offset as usize;
        &self.chunks[place.chunk as usize][start..start + len]
    }

    #[inline]
    pub(super) fn get_mut(&mut self, place: Place, len: usize) -> &mut [u8] {
        let start = place.offset as usize;
        &mut self.chunks[place.chunk as usize][start..start + len]
    }
}
