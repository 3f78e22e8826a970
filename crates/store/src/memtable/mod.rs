//! The newest rows of one table, in memory.
//!
//! A memtable holds one value per key and is updated in place: there are no sequence numbers, because the checkpoint is
//! the commit and a single writer orders everything. Rows lie in an [`Arena`]; a hash index finds them; tables that are
//! scanned often keep an [`OrderedIndex`] too, others are sorted when somebody asks. A delete leaves a tombstone, which
//! hides older values in files. A frozen memtable is an `Arc<Memtable>` that nobody can change.
//!
//! A row in the arena: `group u16 ‖ key length u32 ‖ value chunk u32 ‖ value offset u32 ‖ value capacity u32 ‖ value
//! length u32 (all ones: tombstone) ‖ key ‖ value`. A value that outgrows its place moves, the row itself never does.
mod arena;
mod ordered;
#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::sync::OnceLock;

use hashbrown::HashTable;

use self::arena::{Arena, Place};
use self::ordered::{OrderedIndex, Prefix};

const ROW_HEADER_BYTES: usize = 22;
const TOMBSTONE: u32 = u32::MAX;

/// Longest key or value a memtable takes; offsets inside a chunk are 32 bits wide.
pub(crate) const ROW_PART_BYTES_MAX: usize = 1 << 30;

/// A row of a memtable: the value is `None` for a tombstone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row<'a> {
    pub(crate) group: u16,
    pub(crate) key: &'a [u8],
    pub(crate) value: Option<&'a [u8]>,
}

#[derive(Clone, Copy)]
struct Slot {
    hash: u64,
    place: Place,
}

#[derive(Clone, Copy)]
struct RowHeader {
    group: u16,
    key_len: u32,
    value: Place,
    value_capacity: u32,
    value_len: u32,
}

impl RowHeader {
    #[inline]
    fn encode(self) -> [u8; ROW_HEADER_BYTES] {
        let mut out = [0; ROW_HEADER_BYTES];
        out[0..2].copy_from_slice(&self.group.to_le_bytes());
        out[2..6].copy_from_slice(&self.key_len.to_le_bytes());
        out[6..10].copy_from_slice(&self.value.chunk.to_le_bytes());
        out[10..14].copy_from_slice(&self.value.offset.to_le_bytes());
        out[14..18].copy_from_slice(&self.value_capacity.to_le_bytes());
        out[18..22].copy_from_slice(&self.value_len.to_le_bytes());
        out
    }

    #[inline]
    fn decode(bytes: &[u8]) -> Self {
        let word = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        Self {
            group: u16::from_le_bytes([bytes[0], bytes[1]]),
            key_len: word(2),
            value: Place {
                chunk: word(6),
                offset: word(10),
            },
            value_capacity: word(14),
            value_len: word(18),
        }
    }
}

/// The rows of one table since it was last frozen.
#[derive(Default)]
pub(crate) struct Memtable {
    arena: Arena,
    index: HashTable<Slot>,
    ordered: Option<OrderedIndex>,
    /// Places in key order, made once when a frozen memtable without a companion is flushed or scanned.
    sorted: OnceLock<Vec<Place>>,
}

impl Memtable {
    pub(crate) fn new(ordered: bool) -> Self {
        Self {
            ordered: ordered.then(OrderedIndex::default),
            ..Self::default()
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    pub(crate) fn rows(&self) -> usize {
        self.index.len()
    }

    /// Bytes of memory held, garbage of moved values included.
    #[inline]
    pub(crate) fn bytes(&self) -> usize {
        self.arena.bytes()
            + self.index.capacity() * (size_of::<Slot>() + 1)
            + self.ordered.as_ref().map_or(0, OrderedIndex::bytes)
    }

    /// The row of a key, if the memtable knows anything about it: `Some(None)` is a tombstone.
    #[inline]
    pub(crate) fn get(&self, hash: u64, group: u16, key: &[u8]) -> Option<Option<&[u8]>> {
        let slot = self.index.find(hash, |s| {
            s.hash == hash && row_is(&self.arena, s.place, group, key)
        })?;
        let header = header_at(&self.arena, slot.place);
        Some(value_of(&self.arena, header))
    }

    /// Puts a value, or a tombstone for `None`. Key and value are at most [`ROW_PART_BYTES_MAX`] long.
    pub(crate) fn put(&mut self, hash: u64, group: u16, key: &[u8], value: Option<&[u8]>) {
        let arena = &mut self.arena;
        let found = self
            .index
            .find(hash, |s| {
                s.hash == hash && row_is(arena, s.place, group, key)
            })
            .copied();
        if let Some(slot) = found {
            overwrite(arena, slot.place, value);
            return;
        }
        let bytes = value.unwrap_or_default();
        let len = ROW_HEADER_BYTES + key.len() + bytes.len();
        let header = RowHeader {
            group,
            key_len: key.len() as u32,
            value: Place {
                chunk: 0,
                offset: 0,
            },
            value_capacity: bytes.len() as u32,
            value_len: value.map_or(TOMBSTONE, |v| v.len() as u32),
        };
        let place = arena.append(&[&header.encode(), key, bytes], len);
        // The value follows the key; only now is it known where that is.
        let value_offset = place.offset + (ROW_HEADER_BYTES + key.len()) as u32;
        let header = RowHeader {
            value: Place {
                chunk: place.chunk,
                offset: value_offset,
            },
            ..header
        };
        arena
            .get_mut(place, ROW_HEADER_BYTES)
            .copy_from_slice(&header.encode());
        self.index
            .insert_unique(hash, Slot { hash, place }, |s| s.hash);
        if let Some(ordered) = &mut self.ordered {
            let arena = &self.arena;
            ordered.insert(Prefix::new(group, key), place, |p| {
                compare(arena, p, group, key)
            });
        }
    }

    /// The rows of a group in key order, from a key on.
    ///
    /// An active memtable without companion is sorted for each call; a frozen one once.
    pub(crate) fn rows_from(&self, group: u16, from: &[u8]) -> RowIter<'_> {
        let arena = &self.arena;
        let order = |p: Place| compare(arena, p, group, from);
        let at = if let Some(ordered) = &self.ordered {
            Position::Ordered(
                ordered,
                ordered.lower_bound(Prefix::new(group, from), order),
            )
        } else if let Some(sorted) = self.sorted.get() {
            Position::Sorted(
                sorted,
                sorted.partition_point(|&p| order(p) == Ordering::Less),
            )
        } else {
            let mut rows: Vec<Row<'_>> = (self.index.iter())
                .map(|s| row_at(arena, s.place))
                .filter(|r| r.group == group && r.key >= from)
                .collect();
            rows.sort_unstable_by(|a, b| a.key.cmp(b.key));
            Position::Rows(rows.into_iter())
        };
        RowIter { arena, group, at }
    }

    /// Sorts a frozen memtable, so that `sorted_row` and `rows_from` are cheap. Safe to call from any thread.
    pub(crate) fn sort(&self) {
        self.sorted.get_or_init(|| {
            let arena = &self.arena;
            if let Some(ordered) = &self.ordered {
                return ordered.places();
            }
            let mut all: Vec<(Prefix, Place)> = (self.index.iter())
                .map(|s| {
                    let row = row_at(arena, s.place);
                    (Prefix::new(row.group, row.key), s.place)
                })
                .collect();
            all.sort_unstable_by(|(prefix_a, a), (prefix_b, b)| {
                prefix_a.cmp(prefix_b).then_with(|| {
                    let row = row_at(arena, *b);
                    compare(arena, *a, row.group, row.key)
                })
            });
            all.into_iter().map(|(_, place)| place).collect()
        });
    }

    /// The `i`-th row in order of a memtable that has been sorted; `None` past its end.
    #[inline]
    pub(crate) fn sorted_row(&self, i: usize) -> Option<Row<'_>> {
        let place = *self.sorted.get()?.get(i)?;
        Some(row_at(&self.arena, place))
    }
}

enum Position<'a> {
    Ordered(&'a OrderedIndex, (usize, usize)),
    Sorted(&'a [Place], usize),
    Rows(std::vec::IntoIter<Row<'a>>),
}

/// Rows of one key group in key order.
pub(crate) struct RowIter<'a> {
    arena: &'a Arena,
    group: u16,
    at: Position<'a>,
}

impl<'a> Iterator for RowIter<'a> {
    type Item = Row<'a>;

    fn next(&mut self) -> Option<Row<'a>> {
        let place = match &mut self.at {
            Position::Ordered(index, at) => index.next(at)?,
            Position::Sorted(places, at) => {
                let place = *places.get(*at)?;
                *at += 1;
                place
            }
            Position::Rows(rows) => return rows.next(),
        };
        Some(row_at(self.arena, place)).filter(|row| row.group == self.group)
    }
}

#[inline]
fn header_at(arena: &Arena, place: Place) -> RowHeader {
    RowHeader::decode(arena.get(place, ROW_HEADER_BYTES))
}

#[inline]
fn key_at(arena: &Arena, place: Place, len: u32) -> &[u8] {
    arena.get(
        Place {
            offset: place.offset + ROW_HEADER_BYTES as u32,
            ..place
        },
        len as usize,
    )
}

#[inline]
fn value_of(arena: &Arena, header: RowHeader) -> Option<&[u8]> {
    (header.value_len != TOMBSTONE).then(|| arena.get(header.value, header.value_len as usize))
}

#[inline]
fn row_is(arena: &Arena, place: Place, group: u16, key: &[u8]) -> bool {
    let header = header_at(arena, place);
    header.group == group
        && header.key_len as usize == key.len()
        && key_at(arena, place, header.key_len) == key
}

fn row_at(arena: &Arena, place: Place) -> Row<'_> {
    let header = header_at(arena, place);
    Row {
        group: header.group,
        key: key_at(arena, place, header.key_len),
        value: value_of(arena, header),
    }
}

fn compare(arena: &Arena, place: Place, group: u16, key: &[u8]) -> Ordering {
    let header = header_at(arena, place);
    (header.group.cmp(&group)).then_with(|| key_at(arena, place, header.key_len).cmp(key))
}

fn overwrite(arena: &mut Arena, place: Place, value: Option<&[u8]>) {
    let mut header = header_at(arena, place);
    match value {
        None => header.value_len = TOMBSTONE,
        Some(bytes) if bytes.len() <= header.value_capacity as usize => {
            arena
                .get_mut(header.value, bytes.len())
                .copy_from_slice(bytes);
            header.value_len = bytes.len() as u32;
        }
        Some(bytes) => {
            // A value that grew once is likely to grow again: leave it a quarter of room.
            let capacity = bytes.len() + bytes.len() / 4;
            header.value = arena.append(&[bytes], capacity);
            header.value_capacity = capacity as u32;
            header.value_len = bytes.len() as u32;
        }
    }
    arena
        .get_mut(place, ROW_HEADER_BYTES)
        .copy_from_slice(&header.encode());
}
