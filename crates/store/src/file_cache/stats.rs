//! Counters of a file cache.
use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Debug, Default)]
pub(super) struct Counters {
    hits: AtomicU64,
    bytes_read: AtomicU64,
    misses: AtomicU64,
    evicted: AtomicU64,
    refilled: AtomicU64,
}

/// What a file cache has done and holds. In brackets, Flink's names of the metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileCacheStats {
    /// Reads that were answered from here (`fileCache.hit`).
    pub hits: u64,
    /// Bytes of those.
    pub bytes_read: u64,
    /// Reads that had to go to the object store (`fileCache.miss`).
    pub misses: u64,
    /// Files that had to make room (`fileCache.lru.evict`).
    pub evicted: u64,
    /// Chunks that were fetched from the object store to be kept here (`fileCache.lru.loadback`).
    pub refilled: u64,
    /// Files of which something is here.
    pub files: u64,
    /// Bytes that they take (`fileCache.usedBytes`).
    pub used_bytes: u64,
    /// Bytes that may still be taken under the limits (`fileCache.remainingBytes`).
    pub remaining_bytes: u64,
}

impl Counters {
    pub(super) fn hit(&self, bytes: u64) {
        self.hits.fetch_add(1, Ordering::Relaxed);
        self.bytes_read.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn miss(&self) {
        self.misses.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn evicted(&self) {
        self.evicted.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn refilled(&self) {
        self.refilled.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn stats(
        &self,
        files: u64,
        used_bytes: u64,
        remaining_bytes: u64,
    ) -> FileCacheStats {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        FileCacheStats {
            hits: load(&self.hits),
            bytes_read: load(&self.bytes_read),
            misses: load(&self.misses),
            evicted: load(&self.evicted),
            refilled: load(&self.refilled),
            files,
            used_bytes,
            remaining_bytes,
        }
    }
}
