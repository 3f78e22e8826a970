//! The memory cache that all stores of a process share: data blocks, and the index and filter of each file.
//!
//! Index and filter are asked on every read, so they are *pinned* in the file's handle as long as all pinned bytes take
//! at most half of the capacity; what does not fit lies in the cache beside the blocks and may be evicted. Pinned bytes
//! shrink the room for blocks, so that the whole never exceeds the capacity.
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};

use crate::sst::block::DataBlock;
use crate::sst::file::{FileId, FileMeta};

const SHARD_BYTES_MIN: u64 = 8 << 20;
const SHARDS_MAX: u64 = 16;
/// Bookkeeping of one entry.
const ENTRY_BYTES: u64 = 96;
/// The block number under which index and filter of a file are cached.
const META: u32 = u32::MAX;

#[derive(Clone)]
enum Entry {
    Block(Arc<DataBlock>),
    Meta(Arc<FileMeta>),
}

#[derive(Clone)]
struct ByBytes;

impl Weighter<(FileId, u32), Entry> for ByBytes {
    fn weight(&self, _: &(FileId, u32), entry: &Entry) -> u64 {
        ENTRY_BYTES
            + match entry {
                Entry::Block(block) => block.bytes() as u64,
                Entry::Meta(meta) => meta.bytes() as u64,
            }
    }
}

/// Memory cache of decoded blocks, filters and indexes, shared by all stores of a process.
pub struct BlockCache {
    entries: Cache<(FileId, u32), Entry, ByBytes>,
    capacity_bytes: u64,
    pinned_bytes: AtomicU64,
}

impl std::fmt::Debug for BlockCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlockCache")
            .field("capacity_bytes", &self.capacity_bytes)
            .field("used_bytes", &self.used_bytes())
            .finish_non_exhaustive()
    }
}

impl BlockCache {
    /// A cache that holds at most `capacity_bytes`.
    pub fn new(capacity_bytes: u64) -> Arc<Self> {
        let shards = (capacity_bytes / SHARD_BYTES_MIN).clamp(1, SHARDS_MAX);
        let options = OptionsBuilder::new()
            .estimated_items_capacity((capacity_bytes / (8 << 10)).max(16) as usize)
            .weight_capacity(capacity_bytes)
            .shards(shards as usize)
            .build();
        let entries = match options {
            Ok(options) => Cache::with_options(
                options,
                ByBytes,
                DefaultHashBuilder::default(),
                DefaultLifecycle::default(),
            ),
            // Every required option is given above; should that ever change, a cache with default shards serves as well.
            Err(_) => Cache::with_weighter(16, capacity_bytes, ByBytes),
        };
        Arc::new(Self {
            entries,
            capacity_bytes,
            pinned_bytes: AtomicU64::new(0),
        })
    }

    /// Bytes it may hold.
    pub fn capacity_bytes(&self) -> u64 {
        self.capacity_bytes
    }

    /// Bytes it holds, pinned ones included.
    pub fn used_bytes(&self) -> u64 {
        self.entries.weight() + self.pinned_bytes.load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn block(&self, file: FileId, block: u32) -> Option<Arc<DataBlock>> {
        match self.entries.get(&(file, block))? {
            Entry::Block(block) => Some(block),
            Entry::Meta(_) => None,
        }
    }

    /// Like [`Self::block`], but does not count as a use.
    pub(crate) fn peek_block(&self, file: FileId, block: u32) -> Option<Arc<DataBlock>> {
        match self.entries.peek(&(file, block))? {
            Entry::Block(block) => Some(block),
            Entry::Meta(_) => None,
        }
    }

    pub(crate) fn insert_block(&self, file: FileId, number: u32, block: Arc<DataBlock>) {
        if number != META {
            self.entries.insert((file, number), Entry::Block(block));
        }
    }

    pub(crate) fn meta(&self, file: FileId) -> Option<Arc<FileMeta>> {
        match self.entries.get(&(file, META))? {
            Entry::Meta(meta) => Some(meta),
            Entry::Block(_) => None,
        }
    }

    pub(crate) fn insert_meta(&self, file: FileId, meta: Arc<FileMeta>) {
        self.entries.insert((file, META), Entry::Meta(meta));
    }

    /// Drops what is cached of a file that will not be read again.
    pub(crate) fn forget(&self, file: FileId, blocks: u32) {
        self.entries.remove(&(file, META));
        for block in 0..blocks {
            self.entries.remove(&(file, block));
        }
    }

    /// Sets memory aside for a pinned index and filter; `None` if half of the capacity is taken.
    pub(crate) fn pin(self: &Arc<Self>, bytes: u64) -> Option<Pin> {
        let limit = self.capacity_bytes / 2;
        self.pinned_bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| {
                now.checked_add(bytes).filter(|&then| then <= limit)
            })
            .ok()?;
        self.resize();
        Some(Pin {
            cache: self.clone(),
            bytes,
        })
    }

    fn resize(&self) {
        let pinned = self.pinned_bytes.load(Ordering::Relaxed);
        self.entries
            .set_capacity(self.capacity_bytes.saturating_sub(pinned));
    }
}

/// Pinned memory; given back when dropped.
pub(crate) struct Pin {
    cache: Arc<BlockCache>,
    bytes: u64,
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.cache
            .pinned_bytes
            .fetch_sub(self.bytes, Ordering::Relaxed);
        self.cache.resize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(bytes: usize) -> Arc<DataBlock> {
        let name = || "t".to_string();
        Arc::new(DataBlock::from_plain(&name, vec![0; bytes].into()).unwrap())
    }

    #[test]
    fn never_holds_more_than_its_capacity() {
        let cache = BlockCache::new(1 << 20);
        // An empty block is four zero bytes: no restart points.
        for number in 0..100_000 {
            cache.insert_block(FileId(1), number, block(4));
            assert!(cache.used_bytes() <= 1 << 20);
        }
        assert!(
            cache.used_bytes() > 1 << 18,
            "it is used: {}",
            cache.used_bytes()
        );
        cache.forget(FileId(1), 100_000);
        assert_eq!(cache.used_bytes(), 0);
    }

    #[test]
    fn pins_take_at_most_half_and_come_back() {
        let cache = BlockCache::new(1000);
        let first = cache.pin(400).unwrap();
        assert!(cache.pin(200).is_none());
        assert_eq!(cache.used_bytes(), 400);
        drop(first);
        assert_eq!(cache.used_bytes(), 0);
        assert!(cache.pin(500).is_some());
    }
}
