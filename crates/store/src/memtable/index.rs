//! The hash index of a memtable: an open-addressing table of eight bytes per slot.
//!
//! A slot holds the upper half of a key's hash as a tag, and the place of its row; an empty one is zero, which no place is.
//! The tag's upper bits say where the search starts, and it goes on slot by slot; eight slots share a cache line, so most
//! searches touch one line of the index and the row. Growing doubles the table; tags alone say where everything goes, and
//! go there in order.
use super::arena::Place;

const SLOTS_MIN: usize = 16;

#[derive(Default)]
pub(super) struct HashIndex {
    /// A power of two of them, or none.
    slots: Box<[u64]>,
    /// By how many bits a tag is shifted to find its first slot.
    shift: u32,
    rows: usize,
}

#[inline]
fn tag(hash: u64) -> u32 {
    (hash >> 32) as u32
}

impl HashIndex {
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.rows
    }

    #[inline]
    pub(super) fn bytes(&self) -> usize {
        self.slots.len() * size_of::<u64>()
    }

    /// The slot and place of a row; `is_it` looks at a row whose tag is right.
    #[inline]
    pub(super) fn find(&self, hash: u64, is_it: impl Fn(Place) -> bool) -> Option<(usize, Place)> {
        let mask = self.slots.len().checked_sub(1)?;
        let tag = tag(hash);
        let mut at = (tag >> self.shift) as usize;
        // An empty slot always comes: the table is never full.
        loop {
            let slot = self.slots[at & mask];
            if slot == 0 {
                return None;
            }
            if (slot >> 32) as u32 == tag && is_it(Place(slot as u32)) {
                return Some((at & mask, Place(slot as u32)));
            }
            at += 1;
        }
    }

    /// Has a look at the slot where the search for a hash starts.
    #[inline]
    pub(super) fn touch(&self, hash: u64) -> u64 {
        let Some(mask) = self.slots.len().checked_sub(1) else {
            return 0;
        };
        let at = (tag(hash) >> self.shift) as usize & mask;
        self.slots.get(at).copied().unwrap_or_default()
    }

    /// Has a look at the slots where searches for some hashes start, all at once, so that their cache lines are fetched
    /// together; then the same with whatever the caller looks at in the rows that have the right tag.
    pub(super) fn look_ahead(&self, hashes: &[u64], look_at: impl Fn(Place) -> u8) {
        let Some(mask) = self.slots.len().checked_sub(1) else {
            return;
        };
        let home = |hash: u64| (tag(hash) >> self.shift) as usize & mask;
        let slots = hashes.iter().map(|&hash| self.slots[home(hash)]);
        std::hint::black_box(slots.fold(0, |all, slot| all ^ slot));
        let tagged = |&hash: &u64| {
            let near = (home(hash)..).map(|at| self.slots[at & mask]);
            let mut near = near.take_while(|&slot| slot != 0);
            near.find(|slot| (slot >> 32) as u32 == tag(hash))
        };
        let rows = hashes.iter().filter_map(tagged);
        let lines = rows.map(|slot| look_at(Place(slot as u32)));
        std::hint::black_box(lines.fold(0, |all, line| all ^ line));
    }

    /// Adds a row that is not there yet.
    #[inline]
    pub(super) fn insert(&mut self, hash: u64, place: Place) {
        if (self.rows + 1) * 10 > self.slots.len() * 7 {
            self.grow();
        }
        self.rows += 1;
        self.put((u64::from(tag(hash)) << 32) | u64::from(place.0));
    }

    #[inline]
    fn put(&mut self, slot: u64) {
        let mask = self.slots.len() - 1;
        let mut at = ((slot >> 32) as u32 >> self.shift) as usize;
        while self.slots[at & mask] != 0 {
            at += 1;
        }
        self.slots[at & mask] = slot;
    }

    #[cold]
    fn grow(&mut self) {
        let count = (self.slots.len() * 2).max(SLOTS_MIN);
        let old = std::mem::replace(&mut self.slots, vec![0; count].into_boxed_slice());
        self.shift = u32::BITS - count.trailing_zeros();
        for slot in old.iter().filter(|&&slot| slot != 0) {
            self.put(*slot);
        }
    }

    /// Says that a row has moved.
    pub(super) fn moved(&mut self, slot: usize, place: Place) {
        let slot = &mut self.slots[slot];
        *slot = (*slot >> 32 << 32) | u64::from(place.0);
    }

    /// Places of all rows, in no order.
    pub(super) fn places(&self) -> impl Iterator<Item = Place> {
        let used = self.slots.iter().filter(|&&slot| slot != 0);
        used.map(|&slot| Place(slot as u32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_found_again_however_badly_they_hash() {
        for spread in [1u64 << 33, 0x9e37_79b9_7f4a_7c15, 0] {
            let mut index = HashIndex::default();
            let count = if spread == 0 { 300 } else { 5_000 };
            for i in 1..=count {
                let hash = (i as u64).wrapping_mul(spread);
                assert!(index.find(hash, |p| p.0 == i).is_none());
                index.insert(hash, Place(i));
            }
            for i in 1..=count {
                let hash = (i as u64).wrapping_mul(spread);
                let (slot, place) = index.find(hash, |p| p.0 == i).unwrap();
                assert_eq!(place, Place(i));
                index.moved(slot, Place(i + 1_000_000));
                assert!(index.find(hash, |p| p.0 == i + 1_000_000).is_some());
            }
            assert_eq!(
                (index.len(), index.places().count()),
                (count as usize, count as usize)
            );
        }
    }
}
