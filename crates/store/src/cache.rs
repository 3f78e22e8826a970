//! The memory cache that all stores of a process share: data blocks and values, and the metadata of files.
//!
//! Metadata (filters and indexes) has priority. It is *pinned* in the handles of files while all metadata takes at most half of
//! the capacity; where that does not suffice, pages of filters and partitions of indexes lie in a pool of their own, in which only other metadata
//! evicts them, and which takes at most what pins leave of that half, but always an eighth of the whole. Data has what metadata leaves, so that the whole never exceeds the
//! capacity, except for the ends of files, which are small and always kept.
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use quick_cache::sync::Cache;
use quick_cache::{Lifecycle, OptionsBuilder, Weighter};

use crate::sst::file::{FileId, SstFile};
use crate::sst::part::Part;

const SHARD_BYTES_MIN: u64 = 8 << 20;
const SHARDS_MAX: u64 = 16;
/// Bookkeeping of one entry.
const ENTRY_BYTES: u64 = 96;
/// Metadata takes at most one part in so many,
const METADATA_SHARE: u64 = 2;
/// and its pages may always take one part in so many.
const PAGES_SHARE: u64 = 8;
/// The room for data is set anew when metadata has grown or shrunk by one part in so many of the capacity.
const RESIZE_SHARE: u64 = 256;

/// A part: its file, and the offset at which it lies there.
type Key = (FileId, u64);
type Pool = Cache<Key, Part, ByBytes, MixHash, TellBlocks>;

#[derive(Clone)]
struct ByBytes;

impl Weighter<Key, Part> for ByBytes {
    fn weight(&self, _: &Key, part: &Part) -> u64 {
        ENTRY_BYTES + part.bytes() as u64
    }
}

/// Tells blocks that they are evicted; drops what is evicted after the lock has been given back.
#[derive(Clone)]
struct TellBlocks;

impl Lifecycle<Key, Part> for TellBlocks {
    /// Mostly one part goes when one comes.
    type RequestState = (Option<Part>, Vec<Part>);

    fn on_evict(&self, (first, others): &mut Self::RequestState, _: Key, part: Part) {
        if let Part::Block(block) = &part {
            block.evicted();
        }
        if let Some(before) = first.replace(part) {
            others.push(before);
        }
    }
}

/// File ids are hashes already; mixing the offset in is enough.
#[derive(Clone, Copy, Default)]
struct MixHash;

impl BuildHasher for MixHash {
    type Hasher = Mixer;
    #[inline]
    fn build_hasher(&self) -> Mixer {
        Mixer(0)
    }
}

struct Mixer(u64);

impl Hasher for Mixer {
    #[inline]
    fn write_u64(&mut self, value: u64) {
        let mixed = u128::from(self.0 ^ value) * 0x9e37_79b9_7f4a_7c15;
        self.0 = (mixed as u64) ^ ((mixed >> 64) as u64);
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }
}

/// Memory cache of decoded blocks, filters and indexes, shared by all stores of a process.
pub struct BlockCache {
    data: Pool,
    /// Pages of filters and partitions of indexes.
    pages: Pool,
    capacity_bytes: u64,
    pinned_bytes: AtomicU64,
    /// Metadata bytes for which `data` was last sized.
    sized_for: Mutex<u64>,
}

impl std::fmt::Debug for BlockCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlockCache")
            .field("capacity_bytes", &self.capacity_bytes)
            .field("used_bytes", &self.used_bytes())
            .finish_non_exhaustive()
    }
}

fn pool(capacity_bytes: u64, item_bytes: u64) -> Pool {
    let shards = (capacity_bytes / SHARD_BYTES_MIN).clamp(1, SHARDS_MAX);
    let options = OptionsBuilder::new()
        .estimated_items_capacity((capacity_bytes / item_bytes).max(16) as usize)
        .weight_capacity(capacity_bytes)
        .shards(shards as usize)
        .build();
    match options {
        Ok(options) => Cache::with_options(options, ByBytes, MixHash, TellBlocks),
        // Every required option is given above; should that ever change, a cache with default shards serves as well.
        Err(_) => Cache::with(16, capacity_bytes, ByBytes, MixHash, TellBlocks),
    }
}

impl BlockCache {
    /// A cache that holds at most `capacity_bytes`.
    pub fn new(capacity_bytes: u64) -> Arc<Self> {
        Arc::new(Self {
            data: pool(capacity_bytes, 8 << 10),
            pages: pool(capacity_bytes / METADATA_SHARE, 8 << 10),
            capacity_bytes,
            pinned_bytes: AtomicU64::new(0),
            sized_for: Mutex::new(0),
        })
    }

    /// Bytes it may hold.
    pub fn capacity_bytes(&self) -> u64 {
        self.capacity_bytes
    }

    /// Bytes it holds, pinned ones included.
    pub fn used_bytes(&self) -> u64 {
        self.data.weight() + self.metadata_bytes()
    }

    /// Bytes of filters and indexes it holds.
    pub fn metadata_bytes(&self) -> u64 {
        self.pages.weight() + self.pinned_bytes.load(Ordering::Relaxed)
    }

    /// A data block or a value.
    #[inline]
    pub(crate) fn data(&self, file: FileId, offset: u64) -> Option<Part> {
        self.data.get(&(file, offset))
    }

    /// A page of a filter or a partition of an index.
    #[inline]
    pub(crate) fn page(&self, file: FileId, offset: u64) -> Option<Part> {
        self.pages.get(&(file, offset))
    }

    /// Like [`Self::data`], but does not count as a use.
    pub(crate) fn peek_data(&self, file: FileId, offset: u64) -> Option<Part> {
        self.data.peek(&(file, offset))
    }

    pub(crate) fn insert(&self, file: &SstFile, offset: u64, part: Part) {
        self.insert_part(file.id(), offset, part);
    }

    fn insert_part(&self, file: FileId, offset: u64, part: Part) {
        match part {
            Part::Block(_) | Part::Value(_) => self.data.insert((file, offset), part),
            Part::Filter(_) | Part::Partition(_) => {
                self.pages.insert((file, offset), part);
                self.resize();
            }
        }
    }

    /// Drops what is cached of a file that will not be read again.
    pub(crate) fn forget(&self, file: FileId, blocks: impl Iterator<Item = u64>) {
        for offset in blocks {
            self.data.remove(&(file, offset));
        }
    }

    fn pins_max(&self) -> u64 {
        self.capacity_bytes / METADATA_SHARE
    }

    /// Whether so many bytes could be pinned now.
    pub(crate) fn could_pin(&self, bytes: u64) -> bool {
        let pinned = self.pinned_bytes.load(Ordering::Relaxed);
        pinned.saturating_add(bytes) <= self.pins_max()
    }

    /// Sets memory aside for pinned metadata; `None` if there is no room.
    pub(crate) fn pin(self: &Arc<Self>, bytes: u64) -> Option<Pin> {
        let limit = self.pins_max();
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

    /// Sets memory aside for what must be kept.
    pub(crate) fn pin_at_any_rate(self: &Arc<Self>, bytes: u64) -> Pin {
        self.pinned_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.resize();
        Pin {
            cache: self.clone(),
            bytes,
        }
    }

    /// Gives data the room that metadata leaves.
    fn resize(&self) {
        let used = self.metadata_bytes();
        let mut sized_for = self.sized_for.lock();
        if used.abs_diff(*sized_for) < self.capacity_bytes / RESIZE_SHARE && *sized_for >= used {
            return;
        }
        let pinned = self.pinned_bytes.load(Ordering::Relaxed);
        let pages = self.pins_max().saturating_sub(pinned);
        self.pages
            .set_capacity(pages.max(self.capacity_bytes / PAGES_SHARE));
        // Some room ahead, so that this does not happen for every page.
        let used = self.metadata_bytes() + self.capacity_bytes / RESIZE_SHARE / 2;
        *sized_for = used;
        self.data
            .set_capacity(self.capacity_bytes.saturating_sub(used));
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
    use crate::sst::index::IndexBlock;

    fn value(bytes: usize) -> Part {
        Part::Value(vec![0; bytes].into())
    }

    #[test]
    fn never_holds_more_than_its_capacity() {
        let cache = BlockCache::new(1 << 20);
        for offset in 0..100_000 {
            cache.insert_part(FileId(1), offset, value(4));
            if offset % 3 == 0 {
                let page = Part::Partition(Arc::new(IndexBlock::default()));
                cache.insert_part(FileId(1), offset, page);
            }
            assert!(cache.used_bytes() <= 1 << 20);
        }
        assert!(
            cache.used_bytes() > 3 << 18,
            "it is used: {}",
            cache.used_bytes()
        );
        let pages = cache.metadata_bytes();
        cache.forget(FileId(1), 0..100_000);
        assert_eq!(cache.used_bytes(), pages);
    }

    #[test]
    fn data_does_not_drive_metadata_out() {
        let cache = BlockCache::new(1 << 20);
        let page = || Part::Partition(Arc::new(IndexBlock::default()));
        for offset in 0..100 {
            cache.insert_part(FileId(9), offset, page());
        }
        for offset in 0..10_000 {
            cache.insert_part(FileId(1), offset, value(1_000));
        }
        assert!((0..100).all(|offset| cache.page(FileId(9), offset).is_some()));
        let pin = cache.pin(1 << 19).unwrap();
        assert!(cache.used_bytes() <= 1 << 20);
        assert!(!cache.could_pin(1));
        assert!((0..100).all(|offset| cache.page(FileId(9), offset).is_some()));
        drop(pin);
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
        let must = cache.pin_at_any_rate(2_000);
        assert_eq!(cache.used_bytes(), 2_000);
        drop(must);
    }
}
