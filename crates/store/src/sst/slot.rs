//! The short way to a block that is in the memory cache.
//!
//! Each entry of a pinned index has a slot. It leads to the block of the entry as long as the cache holds it, so that a read that
//! has found the entry needs no look-up in the cache. A slot does not keep its block: when the cache lets go of a block, it empties
//! the slot, and should a slot be filled after that, it leads nowhere.
//!
//! What the cache loses is the sight of such reads, by which it chooses what to evict; so one in [`UNSEEN_READS`] is shown to it.
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::block::DataBlock;
use super::index::IndexBlock;

/// Reads through slots of which the cache sees one.
pub(crate) const UNSEEN_READS: u64 = 16;

/// Leads to a block while the memory cache holds it.
#[derive(Debug, Default)]
pub(crate) struct Slot(Mutex<Weak<DataBlock>>);

impl Slot {
    /// The block, if the cache holds it.
    #[inline]
    pub(crate) fn get(&self) -> Option<Arc<DataBlock>> {
        self.0.lock().upgrade()
    }

    fn set(&self, block: Weak<DataBlock>) {
        *self.0.lock() = block;
    }
}

/// Where the slot of a block is.
#[derive(Debug)]
struct SlotPlace {
    index: Weak<[IndexBlock]>,
    partition: u32,
    entry: u32,
}

/// The slot that leads to a block, if there is one.
#[derive(Debug, Default)]
pub(crate) struct LedToBy(Mutex<Option<SlotPlace>>);

impl LedToBy {
    /// False if another slot leads to the block.
    fn take_over(&self, place: SlotPlace) -> bool {
        let mut held = self.0.lock();
        let free = (held.as_ref()).is_none_or(|held| held.index.strong_count() == 0);
        if free {
            *held = Some(place);
        }
        free
    }

    /// Empties the slot that leads to the block.
    pub(crate) fn clear(&self) {
        if let Some(place) = self.0.lock().take()
            && let Some(index) = place.index.upgrade()
            && let Some(slot) = slot(&index, place.partition, place.entry)
        {
            slot.set(Weak::new());
        }
    }
}

fn slot(index: &[IndexBlock], partition: u32, entry: u32) -> Option<&Slot> {
    index.get(partition as usize)?.slot(entry as usize)
}

/// A slot that a search has come to.
#[derive(Clone, Copy)]
pub(crate) struct SlotAt<'a> {
    pub(crate) index: &'a Arc<[IndexBlock]>,
    pub(crate) partition: u32,
    pub(crate) entry: u32,
}

impl SlotAt<'_> {
    /// The block, if the cache holds it.
    #[inline]
    pub(crate) fn get(self) -> Option<Arc<DataBlock>> {
        slot(self.index, self.partition, self.entry)?.get()
    }

    /// Lets the slot lead to a block that was found in the cache.
    pub(crate) fn fill(self, block: &Arc<DataBlock>) {
        let place = SlotPlace {
            index: Arc::downgrade(self.index),
            partition: self.partition,
            entry: self.entry,
        };
        // Several stores may have the file open; one of them at a time has the block in its slot.
        if block.slot.take_over(place)
            && let Some(slot) = slot(self.index, self.partition, self.entry)
        {
            slot.set(Arc::downgrade(block));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding::put_varint;
    use crate::sst::block::BlockBuilder;

    fn index() -> Arc<[IndexBlock]> {
        // Start, no prefix, one place: separator "m" at the start, of 20 bytes.
        let mut bytes = vec![0, 0, 1];
        bytes.extend_from_slice(&[1, b'm', 0]);
        put_varint(&mut bytes, 20);
        Arc::new([IndexBlock::decode(&|| "the index".into(), &bytes, 0..20).unwrap()])
    }

    fn block() -> Arc<DataBlock> {
        let mut plain = Vec::new();
        BlockBuilder::default().finish(&mut plain);
        let block = DataBlock::from_plain(&|| "the block".into(), plain.into());
        Arc::new(block.unwrap())
    }

    fn at(index: &Arc<[IndexBlock]>) -> SlotAt<'_> {
        SlotAt {
            index,
            partition: 0,
            entry: 0,
        }
    }

    #[test]
    fn a_slot_leads_to_its_block_until_that_is_evicted() {
        let (index, block) = (index(), block());
        assert!(at(&index).get().is_none());
        at(&index).fill(&block);
        assert!(Arc::ptr_eq(&at(&index).get().unwrap(), &block));
        block.evicted();
        assert!(at(&index).get().is_none());
        at(&index).fill(&block);
        let weak = Arc::downgrade(&block);
        drop(block);
        assert!(weak.upgrade().is_none(), "a slot keeps no block");
        assert!(at(&index).get().is_none());
    }

    #[test]
    fn one_slot_leads_to_a_block_and_the_next_takes_over_from_a_closed_store() {
        let (first, second, block) = (index(), index(), block());
        at(&first).fill(&block);
        at(&second).fill(&block);
        assert!(at(&second).get().is_none());
        drop(first);
        at(&second).fill(&block);
        assert!(at(&second).get().is_some());
    }
}
