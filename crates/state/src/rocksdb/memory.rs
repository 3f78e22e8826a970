//! Memory that all databases of a process share: a block cache, and a manager that counts their memtables in it.
//!
//! What always holds: memtables and cached blocks together stay about within the budget, however many databases there are. It is a soft
//! bound: a memtable that is being written and blocks that are pinned by a read are never thrown out.

use ::rocksdb::{Cache, WriteBufferManager};

use super::options::MemoryBudget;

/// A memtable takes its memory in pieces of at most this size.
const ARENA_BLOCK_BYTES_MAX: usize = 1 << 20;
/// And at least this one.
const ARENA_BLOCK_BYTES_MIN: usize = 16 << 10;
/// Pieces that fit into the share of the memtables: each table that is written to takes one, so they must be many.
const ARENA_BLOCKS: usize = 128;

/// See the module.
pub(super) struct Pools {
    pub(super) cache: Cache,
    pub(super) write_buffers: WriteBufferManager,
    pub(super) arena_block_bytes: usize,
}

impl Pools {
    pub(super) fn new(budget: MemoryBudget) -> Self {
        let cache = Cache::new_lru_cache(budget.cache_bytes);
        let write_buffers = WriteBufferManager::new_write_buffer_manager_with_cache(
            budget.write_buffer_bytes,
            false,
            cache.clone(),
        );
        let piece = budget.write_buffer_bytes / ARENA_BLOCKS;
        Self {
            cache,
            write_buffers,
            arena_block_bytes: piece.clamp(ARENA_BLOCK_BYTES_MIN, ARENA_BLOCK_BYTES_MAX) & !4095,
        }
    }

    /// Bytes of memtables, and of everything.
    pub(super) fn usage(&self) -> (usize, usize) {
        (self.write_buffers.get_usage(), self.cache.get_usage())
    }
}
