//! One cached file: which of its chunks are there, and how often it is asked.
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use super::CacheKey;
use super::sidecar::{CHUNK_BYTES, chunks};

/// A chunk is not there.
pub(super) const ABSENT: u8 = 0;
/// Someone is writing it.
pub(super) const FILLING: u8 = 1;
/// It was there when the process began, and nobody has looked whether it is whole.
pub(super) const UNCHECKED: u8 = 2;
/// It is there.
pub(super) const PRESENT: u8 = 3;

#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) state: AtomicU8,
    /// Times it was asked for while it was not there.
    pub(super) misses: AtomicU32,
    pub(super) checksum: AtomicU64,
}

/// A file of the cache.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: CacheKey,
    pub(super) chunks: Box<[Chunk]>,
    /// The lowest rank is evicted first.
    pub(super) rank: AtomicU64,
    /// Reads since the rank was last raised.
    pub(super) reads: AtomicU32,
    /// Bytes of its chunks that are there or on their way.
    pub(super) bytes: AtomicU64,
}

impl Entry {
    /// A file of which nothing is there; `None` if it is larger than a file can be.
    pub(super) fn new(key: CacheKey, rank: u64) -> Option<Self> {
        let chunks = 0..chunks(key.size_bytes)?;
        Some(Self {
            key,
            chunks: chunks
                .map(|_| Chunk {
                    state: AtomicU8::new(ABSENT),
                    misses: AtomicU32::new(0),
                    checksum: AtomicU64::new(0),
                })
                .collect(),
            rank: AtomicU64::new(rank),
            reads: AtomicU32::new(0),
            bytes: AtomicU64::new(0),
        })
    }

    /// Marks a chunk that lies on the disk already.
    pub(super) fn set(&self, chunk: u64, state: u8, checksum: u64) {
        if let Some(slot) = self.chunk(chunk) {
            slot.checksum.store(checksum, Ordering::Relaxed);
            slot.state.store(state, Ordering::Release);
            self.bytes
                .fetch_add(self.chunk_bytes(chunk), Ordering::Relaxed);
        }
    }

    pub(super) fn chunk(&self, chunk: u64) -> Option<&Chunk> {
        self.chunks.get(usize::try_from(chunk).ok()?)
    }

    /// Where a chunk lies in the file.
    pub(super) fn place(&self, chunk: u64) -> std::ops::Range<u64> {
        let start = (chunk * CHUNK_BYTES).min(self.key.size_bytes);
        start..(start + CHUNK_BYTES).min(self.key.size_bytes)
    }

    pub(super) fn chunk_bytes(&self, chunk: u64) -> u64 {
        let place = self.place(chunk);
        place.end - place.start
    }

    pub(super) fn data_path(&self, root: &Path) -> PathBuf {
        root.join(format!("{:016x}.chunks", self.key.id))
    }

    pub(super) fn sidecar_path(&self, root: &Path) -> PathBuf {
        root.join(format!("{:016x}.map", self.key.id))
    }
}

/// The chunks that a range of a file touches.
pub(super) fn touched(range: &std::ops::Range<u64>) -> std::ops::Range<u64> {
    range.start / CHUNK_BYTES..range.end.div_ceil(CHUNK_BYTES)
}
