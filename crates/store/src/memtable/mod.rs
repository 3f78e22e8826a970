//! The newest rows of one table, in memory.
//!
//! A memtable holds one row per key and is updated in place: there are no sequence numbers, because the checkpoint is the
//! commit and a single writer orders everything. Rows lie in an [`Arena`]; a [`HashIndex`] finds them; tables that are
//! scanned often keep an [`OrderedIndex`] too, others are sorted when somebody asks. A delete leaves a tombstone, which
//! hides older values in files; a delete by prefix a range tombstone, and tombstones of the memtable's own rows under it.
//! Operands fold into the row at once where the memtable knows what they meet, and wait in a row of operands where not.
//! A frozen memtable is an `Arc<Memtable>` that nobody can change; one that stays in memory although it has become a file may take up
//! what newer ones hold.
//!
//! A row that outgrows its place moves to one with twice the room, so that a list grows at a cost in proportion to what is
//! appended.
mod arena;
mod found;
mod index;
mod iterate;
mod layout;
mod merge;
mod ordered;
pub(crate) mod ranges;
mod retain;
#[cfg(test)]
mod tests;

use std::sync::OnceLock;

use self::arena::{Arena, Place};
pub(crate) use self::found::FoundRow;
use self::index::HashIndex;
pub(crate) use self::iterate::{Row, RowIter};
use self::layout::{HEAD_BYTES, Head, Kind, TIMES_BYTES, compare, first_lines, row_is};
use self::ordered::{OrderedIndex, Prefix};
use self::ranges::RangeSet;
use crate::error::{Error, Result};
use crate::key::{self, KEY_HEADER_BYTES};

/// Longer values lie in vectors of their own, which grow without leaving holes in the arena.
const LONG_VALUE_BYTES: usize = 4 << 10;
/// Values that have grown do so already when they are longer than this.
const GROWN_VALUE_BYTES: usize = 256;
/// Memtables of fewer bytes are looked into without looking ahead.
const LOOK_AHEAD_BYTES_MIN: usize = 1 << 20;
const LONG_NUMBER_BYTES: u32 = 4;

/// The rows of one table since it was last frozen.
pub(crate) struct Memtable {
    arena: Arena,
    index: HashIndex,
    ordered: Option<OrderedIndex>,
    ranges: RangeSet,
    /// The least time of any row.
    oldest_ms: i64,
    /// Some row may be operands on what older sources hold.
    has_operands: bool,
    scratch: Vec<u8>,
    /// Places in key order, made once when a frozen memtable without a companion is flushed or scanned.
    sorted: OnceLock<Vec<Place>>,
}

/// A row that was found, for changing it.
#[derive(Clone, Copy)]
struct Found {
    slot: usize,
    place: Place,
}

impl Memtable {
    pub(crate) fn new(ordered: bool) -> Self {
        Self {
            arena: Arena::default(),
            index: HashIndex::default(),
            ordered: ordered.then(OrderedIndex::default),
            ranges: RangeSet::default(),
            oldest_ms: i64::MAX,
            has_operands: false,
            scratch: Vec::new(),
            sorted: OnceLock::new(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.index.len() == 0 && self.ranges.is_empty()
    }

    pub(crate) fn rows(&self) -> usize {
        self.index.len()
    }

    /// Bytes of memory held, what rows have outgrown included.
    #[inline]
    pub(crate) fn bytes(&self) -> usize {
        self.arena.bytes()
            + self.index.bytes()
            + self.ranges.bytes()
            + self.ordered.as_ref().map_or(0, OrderedIndex::bytes)
    }

    /// The least time of any row that was ever written to it; `i64::MAX` if none had a time.
    pub(crate) fn oldest_ms(&self) -> i64 {
        self.oldest_ms
    }

    /// What the memtable says of a key, if anything.
    #[cfg(test)]
    pub(crate) fn get(
        &self,
        hash: u64,
        group: u16,
        key: &[u8],
    ) -> Option<crate::row::SourceRow<'_>> {
        self.row(hash, group, key).map(FoundRow::said)
    }

    /// The row of a key, if there is one.
    #[inline]
    pub(crate) fn row(&self, hash: u64, group: u16, key: &[u8]) -> Option<FoundRow<'_>> {
        // Most keys are in one memtable, and the others have few rows or none.
        if self.index.len() == 0 {
            return None;
        }
        let arena = &self.arena;
        let (_, place) = self
            .index
            .find(hash, |place| row_is(arena, place, group, key))?;
        Some(FoundRow::at(arena, place))
    }

    /// Has a look at what looking up a hash will need first.
    #[inline]
    pub(crate) fn touch(&self, hash: u64) -> u64 {
        self.index.touch(hash)
    }

    /// Fetches the cache lines that looking up some hashes will need, together instead of one after the other.
    pub(crate) fn look_ahead(&self, hashes: &[u64]) {
        // What is small is in a cache anyway.
        if self.bytes() > LOOK_AHEAD_BYTES_MIN {
            self.index
                .look_ahead(hashes, |place| first_lines(self.arena.at(place)));
        }
    }

    /// Ranges of whole keys that are deleted in older sources.
    #[inline]
    pub(crate) fn ranges(&self) -> &RangeSet {
        &self.ranges
    }

    #[inline]
    fn find(&self, hash: u64, group: u16, key: &[u8]) -> Option<Found> {
        let arena = &self.arena;
        let (slot, place) = self
            .index
            .find(hash, |place| row_is(arena, place, group, key))?;
        Some(Found { slot, place })
    }

    /// Puts a value, or a tombstone for `None`. Key and value have the lengths that the store allows.
    #[inline]
    pub(crate) fn put(
        &mut self,
        hash: u64,
        group: u16,
        key: &[u8],
        value: Option<&[u8]>,
        time_ms: Option<i64>,
    ) -> Result<()> {
        let (kind, times, bytes) = match value {
            Some(bytes) => (Kind::Value, time_ms.map(|time| (time, time)), bytes),
            None => (Kind::Tombstone, None, &[][..]),
        };
        match self.find(hash, group, key) {
            Some(found) => self.set(found, kind, times, bytes),
            None => self.insert(hash, group, key, kind, times, bytes),
        }
    }

    /// Adds a row for a key that has none.
    fn insert(
        &mut self,
        hash: u64,
        group: u16,
        key: &[u8],
        kind: Kind,
        times: Option<(i64, i64)>,
        value: &[u8],
    ) -> Result<()> {
        let long = value.len() > LONG_VALUE_BYTES;
        let room = if long {
            LONG_NUMBER_BYTES
        } else {
            value.len() as u32
        };
        let head = Head::new(group, key, room, times.is_some(), long);
        let place = self.arena.allocate(head.row_bytes()).ok_or_else(full)?;
        self.fill(place, head, key, kind, times, value);
        self.index.insert(hash, place);
        if let Some(ordered) = &mut self.ordered {
            let arena = &self.arena;
            ordered.insert(Prefix::new(group, key), place, |p| {
                compare(arena, p, group, key)
            });
        }
        Ok(())
    }

    /// Writes a whole row into a new area.
    #[inline]
    fn fill(
        &mut self,
        place: Place,
        mut head: Head,
        key: &[u8],
        kind: Kind,
        times: Option<(i64, i64)>,
        value: &[u8],
    ) {
        if let Some((first, _)) = times {
            self.oldest_ms = self.oldest_ms.min(first);
        }
        let number = if head.is_long() {
            let number = self.arena.add_long();
            self.arena
                .change_long(number, |long| long.extend_from_slice(value));
            Some(number.to_le_bytes())
        } else {
            None
        };
        let row = self.arena.at_mut(place);
        let at = head.value_at();
        row[head.key_at()..at].copy_from_slice(key);
        match &number {
            Some(number) => row[at..at + number.len()].copy_from_slice(number),
            None => row[at..at + value.len()].copy_from_slice(value),
        }
        head.value_len = value.len() as u32;
        head.set_kind(kind);
        head.set_times(row, times);
        head.write(row);
    }

    /// Gives a row another content.
    fn set(
        &mut self,
        mut found: Found,
        kind: Kind,
        times: Option<(i64, i64)>,
        value: &[u8],
    ) -> Result<()> {
        let head = Head::read(self.arena.at(found.place));
        let fits = head.is_long() || value.len() <= head.room as usize;
        if !fits || (times.is_some() && !head.has_times()) {
            found = self.make_room(found, value.len(), times.is_some(), false)?;
        }
        let row = self.arena.at_mut(found.place);
        let mut head = Head::read(row);
        if let Some((first, _)) = times {
            self.oldest_ms = self.oldest_ms.min(first);
        }
        head.set_kind(kind);
        head.set_times(row, times);
        head.value_len = value.len() as u32;
        head.write(row);
        if head.is_long() {
            let number = head.long(row);
            self.arena.change_long(number, |long| {
                long.clear();
                if kind == Kind::Tombstone {
                    long.shrink_to_fit();
                }
                long.extend_from_slice(value);
            });
        } else {
            let at = head.value_at();
            row[at..at + value.len()].copy_from_slice(value);
        }
        Ok(())
    }

    /// Adds bytes to the end of a row's content, and returns how many it has now.
    fn extend(
        &mut self,
        mut found: Found,
        kind: Kind,
        times: Option<(i64, i64)>,
        parts: &[&[u8]],
    ) -> Result<usize> {
        let added: usize = parts.iter().map(|part| part.len()).sum();
        let head = Head::read(self.arena.at(found.place));
        let len = head.value_len as usize + added;
        if len > VALUE_BYTES_MAX {
            return Err(too_long(len));
        }
        let fits = head.is_long() || len <= head.room as usize;
        if !fits || (times.is_some() && !head.has_times()) {
            found = self.make_room(found, len, times.is_some(), true)?;
        }
        let row = self.arena.at_mut(found.place);
        let mut head = Head::read(row);
        if let Some((first, _)) = times {
            self.oldest_ms = self.oldest_ms.min(first);
        }
        let mut at = head.value_at() + head.value_len as usize;
        head.set_kind(kind);
        head.set_times(row, times);
        head.value_len = len as u32;
        head.write(row);
        if head.is_long() {
            let number = head.long(row);
            self.arena.change_long(number, |long| {
                parts.iter().for_each(|part| long.extend_from_slice(part));
            });
        } else {
            for part in parts {
                row[at..at + part.len()].copy_from_slice(part);
                at += part.len();
            }
        }
        Ok(len)
    }

    /// Moves a row to where its value may take `len` bytes and more, and where there is room for times, if asked for. Keeps
    /// the value only if asked to.
    #[cold]
    fn make_room(&mut self, found: Found, len: usize, times: bool, keep: bool) -> Result<Found> {
        let mut old = Head::read(self.arena.at(found.place));
        let (from, old_row_bytes, was_long) = (found.place, old.row_bytes(), old.is_long());
        let long = was_long || len > GROWN_VALUE_BYTES;
        let times = old.has_times() || times;
        if !keep && !was_long {
            old.value_len = 0;
        }
        let mut head = old.moved(LONG_NUMBER_BYTES, times, long);
        let place = if long {
            self.arena.allocate(head.row_bytes()).ok_or_else(full)?
        } else {
            // The next power of two leaves between nothing and as much again; what grew once is likely to grow again.
            let least = head.value_at() + len + len / 4;
            let (place, size) = self.arena.allocate_roomy(least).ok_or_else(full)?;
            head.room = (size - head.value_at()) as u32;
            place
        };
        if old.has_times() {
            self.arena
                .copy((from, HEAD_BYTES), (place, HEAD_BYTES), TIMES_BYTES);
        }
        let (key_len, value_len) = (usize::from(old.key_len), old.value_len as usize);
        self.arena
            .copy((from, old.key_at()), (place, head.key_at()), key_len);
        let (value, value_to) = ((from, old.value_at()), (place, head.value_at()));
        match (was_long, long) {
            (true, _) => self.arena.copy(value, value_to, LONG_NUMBER_BYTES as usize),
            (false, false) => self.arena.copy(value, value_to, value_len),
            (false, true) => {
                let number = self.arena.add_long();
                self.arena.copy_to_long(value, value_len, number, len);
                let at = head.value_at();
                self.arena.at_mut(place)[at..at + 4].copy_from_slice(&number.to_le_bytes());
            }
        }
        head.write(self.arena.at_mut(place));
        self.index.moved(found.slot, place);
        if let Some(ordered) = &mut self.ordered {
            // The old row still lies there, so comparisons find it.
            let arena = &self.arena;
            let (group, key) = (head.group, head.key(arena.at(place)));
            ordered.moved(Prefix::new(group, key), place, |p| {
                compare(arena, p, group, key)
            });
        }
        self.arena.release(from, old_row_bytes);
        Ok(Found { place, ..found })
    }

    /// Deletes every row whose user key starts with `prefix`, of one group and table. With `older`, older sources may hold
    /// such rows: then a range tombstone hides them.
    pub(crate) fn delete_prefix(
        &mut self,
        header: [u8; KEY_HEADER_BYTES],
        prefix: &[u8],
        older: bool,
    ) -> Result<()> {
        let group = u16::from_be_bytes([header[0], header[1]]);
        let mut under = Vec::new();
        let arena = &self.arena;
        if let Some(ordered) = &self.ordered {
            let order = |p| compare(arena, p, group, prefix);
            let mut at = ordered.lower_bound(Prefix::new(group, prefix), order);
            while let Some(place) = ordered.next(&mut at) {
                let row = arena.at(place);
                let head = Head::read(row);
                if head.group != group || !head.key(row).starts_with(prefix) {
                    break;
                }
                under.push(place);
            }
        } else {
            under.extend(self.index.places().filter(|&place| {
                let row = arena.at(place);
                let head = Head::read(row);
                head.group == group && head.key(row).starts_with(prefix)
            }));
        }
        for place in under {
            // A tombstone fits everywhere, so nothing moves.
            self.set(Found { slot: 0, place }, Kind::Tombstone, None, &[])?;
        }
        if older {
            let start = [&header, prefix].concat();
            let end =
                key::successor(&start).unwrap_or_else(|| vec![0xff; key::WHOLE_KEY_BYTES_MAX + 1]);
            self.ranges.add(&start, &end);
        }
        Ok(())
    }
}

/// Longest value there can be: 1 GiB.
pub(crate) const VALUE_BYTES_MAX: usize = 1 << 30;

pub(crate) fn too_long(len: usize) -> Error {
    Error::usage(format!(
        "a value would have {len} bytes, but {VALUE_BYTES_MAX} is the most a value can have"
    ))
}

#[cold]
fn full() -> Error {
    Error::usage(
        "a memtable holds as many rows as it can address, some 32 GiB: it must be frozen more often",
    )
}
