//! Memory that rows of a memtable lie in.
//!
//! Chunks grow from 4 KiB to 1 MiB, so that a small table costs little and a large one no copying. A place is 32 bits wide:
//! a chunk and an offset in units of eight bytes. Areas that rows have outgrown are kept by size and used again. Values too
//! long for a chunk lie in vectors of their own.
const CHUNK_BYTES_MIN: usize = 4 << 10;
const CHUNK_BYTES_MAX: usize = 1 << 20;
/// Bits of a place that say where in its chunk.
const OFFSET_BITS: u32 = 17;
/// Every area starts at a multiple of this.
pub(super) const UNIT_BYTES: usize = 8;
const CHUNKS_MAX: usize = 1 << (u32::BITS - OFFSET_BITS);
/// Sizes of areas that are kept for use: powers of two from one unit to this many units.
const FREE_CLASSES: usize = 15;

/// Where an area lies in an [`Arena`]. Never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(pub(super) u32);

#[derive(Default)]
pub(super) struct Arena {
    chunks: Vec<Box<[u8]>>,
    /// Bytes of the last chunk that are given away.
    used: usize,
    bytes: usize,
    /// Areas to be used again, by the power of two of units that they have at least.
    free: [Vec<Place>; FREE_CLASSES],
    long: Vec<Vec<u8>>,
}

impl Arena {
    /// Bytes of memory held.
    #[inline]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// An area of `len` bytes, zeroed if it is new; `None` if places of 32 bits reach no further (at some 32 GiB).
    #[inline]
    pub(super) fn allocate(&mut self, len: usize) -> Option<Place> {
        let len = len.next_multiple_of(UNIT_BYTES);
        let fits = self
            .chunks
            .last()
            .is_some_and(|chunk| chunk.len() - self.used >= len);
        if !fits {
            self.grow(len)?;
        }
        let offset = self.used;
        self.used += len;
        let chunk = (self.chunks.len() - 1) as u32;
        Some(Place((chunk << OFFSET_BITS) | (offset / UNIT_BYTES) as u32))
    }

    #[cold]
    fn grow(&mut self, len: usize) -> Option<()> {
        if self.chunks.len() == CHUNKS_MAX || len > CHUNK_BYTES_MAX - UNIT_BYTES {
            return None;
        }
        let grown = self.chunks.last().map_or(0, |chunk| chunk.len() * 2);
        let fitting = (len + UNIT_BYTES).next_power_of_two();
        let capacity = grown.max(fitting).clamp(CHUNK_BYTES_MIN, CHUNK_BYTES_MAX);
        self.chunks.push(vec![0; capacity].into_boxed_slice());
        self.bytes += capacity;
        // The very first unit stays unused, so that no place is zero.
        self.used = if self.chunks.len() == 1 {
            UNIT_BYTES
        } else {
            0
        };
        Some(())
    }

    /// Like [`Self::allocate`], for an area that will be outgrown or has been: takes one that was released, if there is one
    /// of this size. Returns the area's size too, which is a power of two.
    pub(super) fn allocate_roomy(&mut self, len: usize) -> Option<(Place, usize)> {
        let units = len.div_ceil(UNIT_BYTES).max(1).next_power_of_two();
        let size = units * UNIT_BYTES;
        let class = units.trailing_zeros() as usize;
        let place = match self.free.get_mut(class).and_then(Vec::pop) {
            Some(place) => place,
            None => self.allocate(size)?,
        };
        Some((place, size))
    }

    /// Gives an area of `len` bytes back.
    pub(super) fn release(&mut self, place: Place, len: usize) {
        if let Some(class) = (len / UNIT_BYTES).checked_ilog2()
            && let Some(free) = self.free.get_mut(class as usize)
        {
            free.push(place);
        }
    }

    /// What lies at a place and after it.
    #[inline]
    pub(super) fn at(&self, place: Place) -> &[u8] {
        let offset = (place.0 & ((1 << OFFSET_BITS) - 1)) as usize * UNIT_BYTES;
        &self.chunks[(place.0 >> OFFSET_BITS) as usize][offset..]
    }

    #[inline]
    pub(super) fn at_mut(&mut self, place: Place) -> &mut [u8] {
        let offset = (place.0 & ((1 << OFFSET_BITS) - 1)) as usize * UNIT_BYTES;
        &mut self.chunks[(place.0 >> OFFSET_BITS) as usize][offset..]
    }

    /// Copies `len` bytes that start `from.1` bytes into one area to `to.1` bytes into another.
    pub(super) fn copy(&mut self, from: (Place, usize), to: (Place, usize), len: usize) {
        let (source, start) = self.position(from);
        let (target, at) = self.position(to);
        if source == target {
            self.chunks[source].copy_within(start..start + len, at);
        } else if let Ok([source, target]) = self.chunks.get_disjoint_mut([source, target]) {
            target[at..at + len].copy_from_slice(&source[start..start + len]);
        }
    }

    /// Adds bytes of an area to a long value, which gets room for `room` in all.
    pub(super) fn copy_to_long(
        &mut self,
        from: (Place, usize),
        len: usize,
        number: u32,
        room: usize,
    ) {
        let (chunk, start) = self.position(from);
        let value = &mut self.long[number as usize];
        let before = value.capacity();
        value.reserve(room);
        value.extend_from_slice(&self.chunks[chunk][start..start + len]);
        self.bytes = self.bytes - before + value.capacity();
    }

    /// The chunk of a byte of an area, and where in it.
    #[inline]
    fn position(&self, (place, at): (Place, usize)) -> (usize, usize) {
        let offset = (place.0 & ((1 << OFFSET_BITS) - 1)) as usize * UNIT_BYTES;
        ((place.0 >> OFFSET_BITS) as usize, offset + at)
    }

    /// A long value by its number.
    pub(super) fn long(&self, number: u32) -> &[u8] {
        &self.long[number as usize]
    }

    /// Changes a long value.
    pub(super) fn change_long(&mut self, number: u32, change: impl FnOnce(&mut Vec<u8>)) {
        let value = &mut self.long[number as usize];
        let before = value.capacity();
        change(value);
        self.bytes = self.bytes - before + value.capacity();
    }

    /// Makes room for a long value; returns its number.
    pub(super) fn add_long(&mut self) -> u32 {
        self.long.push(Vec::new());
        self.bytes += size_of::<Vec<u8>>();
        (self.long.len() - 1) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_do_not_overlap_and_are_used_again() {
        let mut arena = Arena::default();
        let mut areas = Vec::new();
        for i in 0..20_000usize {
            let len = 1 + i * 37 % 700;
            let place = if i % 3 == 0 {
                arena.allocate_roomy(len).unwrap().0
            } else {
                arena.allocate(len).unwrap()
            };
            assert_ne!(place.0, 0);
            arena.at_mut(place)[..len].fill(i as u8);
            areas.push((place, len, i as u8));
        }
        for &(place, len, byte) in &areas {
            assert!(arena.at(place)[..len].iter().all(|&b| b == byte));
        }
        let before = arena.bytes();
        for &(place, len, _) in &areas {
            arena.release(place, len);
        }
        for _ in 0..1_000 {
            arena.allocate_roomy(256).unwrap();
        }
        assert_eq!(arena.bytes(), before);
    }

    #[test]
    fn small_tables_take_little() {
        let mut arena = Arena::default();
        arena.allocate(100).unwrap();
        assert_eq!(arena.bytes(), CHUNK_BYTES_MIN);
        assert!(
            arena.allocate(CHUNK_BYTES_MAX).is_none(),
            "too long for a chunk"
        );
        arena.allocate(100_000).unwrap();
        assert!(arena.bytes() <= CHUNK_BYTES_MIN + (128 << 10));
    }
}
