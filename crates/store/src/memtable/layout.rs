//! How a row lies in the arena, and what is read from there.
//!
//! ```text
//! key length u16 ‖ group u16 ‖ value length u32 ‖ value room u32 ‖ flags u8 ‖ 3 bytes of nothing
//! [time of the first operand i64 ‖ time i64]   if the row has room for times
//! key
//! value, or the number u32 of a long value
//! ```
//! All of it lies side by side: a reader who finds the row's first cache line mostly has the next one on its way.
use std::cmp::Ordering;

use super::arena::{Arena, Place};
use crate::row::{Content, List, Operands, SourceRow};

pub(super) const HEAD_BYTES: usize = 16;
pub(super) const TIMES_BYTES: usize = 16;

/// What a row holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Tombstone,
    Value,
    /// One operand.
    One,
    /// Operands, each a varint length and bytes.
    Many,
}

/// The flags: two bits of kind, then these.
const TIMES: u8 = 4;
const TIMED: u8 = 8;
const LONG: u8 = 16;

#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub(super) key_len: u16,
    pub(super) group: u16,
    pub(super) value_len: u32,
    /// Bytes that the value may take where it is.
    pub(super) room: u32,
    flags: u8,
}

impl Head {
    #[inline]
    pub(super) fn new(group: u16, key: &[u8], room: u32, times: bool, long: bool) -> Self {
        Self {
            // Keys were checked to be short enough.
            key_len: key.len() as u16,
            group,
            value_len: 0,
            room,
            flags: if times { TIMES } else { 0 } | if long { LONG } else { 0 },
        }
    }

    /// The head of the same row where it has other room.
    pub(super) fn moved(self, room: u32, times: bool, long: bool) -> Self {
        let kept = self.flags & !(TIMES | LONG);
        Self {
            room,
            flags: kept | if times { TIMES } else { 0 } | if long { LONG } else { 0 },
            ..self
        }
    }

    #[inline]
    pub(super) fn read(row: &[u8]) -> Self {
        let [k0, k1, g0, g1, v0, v1, v2, v3, r0, r1, r2, r3, flags, ..] =
            *row.first_chunk::<HEAD_BYTES>().unwrap_or(&[0; HEAD_BYTES]);
        Self {
            key_len: u16::from_le_bytes([k0, k1]),
            group: u16::from_le_bytes([g0, g1]),
            value_len: u32::from_le_bytes([v0, v1, v2, v3]),
            room: u32::from_le_bytes([r0, r1, r2, r3]),
            flags,
        }
    }

    #[inline]
    pub(super) fn write(self, row: &mut [u8]) {
        let first = u32::from(self.key_len) | (u32::from(self.group) << 16);
        let mut head = [0; HEAD_BYTES];
        head[0..4].copy_from_slice(&first.to_le_bytes());
        head[4..8].copy_from_slice(&self.value_len.to_le_bytes());
        head[8..12].copy_from_slice(&self.room.to_le_bytes());
        head[12] = self.flags;
        row[..HEAD_BYTES].copy_from_slice(&head);
    }

    #[inline]
    pub(super) fn kind(self) -> Kind {
        match self.flags & 3 {
            0 => Kind::Tombstone,
            1 => Kind::Value,
            2 => Kind::One,
            _ => Kind::Many,
        }
    }

    #[inline]
    pub(super) fn set_kind(&mut self, kind: Kind) {
        self.flags = (self.flags & !3) | kind as u8;
    }

    #[inline]
    pub(super) fn has_times(self) -> bool {
        self.flags & TIMES != 0
    }

    #[inline]
    pub(super) fn is_long(self) -> bool {
        self.flags & LONG != 0
    }

    /// Where the key starts.
    #[inline]
    pub(super) fn key_at(self) -> usize {
        HEAD_BYTES + if self.has_times() { TIMES_BYTES } else { 0 }
    }

    /// Where the value starts.
    #[inline]
    pub(super) fn value_at(self) -> usize {
        self.key_at() + usize::from(self.key_len)
    }

    /// Bytes of the whole row.
    pub(super) fn row_bytes(self) -> usize {
        self.value_at() + self.room as usize
    }

    /// The times of the first operand and of the row.
    #[inline]
    pub(super) fn times(self, row: &[u8]) -> Option<(i64, i64)> {
        if self.flags & TIMED == 0 {
            return None;
        }
        let word = |at: usize| row.get(at..at + 8).and_then(|w| w.try_into().ok());
        let word = |at| i64::from_le_bytes(word(at).unwrap_or_default());
        Some((word(HEAD_BYTES), word(HEAD_BYTES + 8)))
    }

    /// Sets the times, for which the row must have room unless there are none.
    #[inline]
    pub(super) fn set_times(&mut self, row: &mut [u8], times: Option<(i64, i64)>) {
        self.flags &= !TIMED;
        if let Some((first, last)) = times {
            self.flags |= TIMED;
            row[HEAD_BYTES..HEAD_BYTES + 8].copy_from_slice(&first.to_le_bytes());
            row[HEAD_BYTES + 8..HEAD_BYTES + 16].copy_from_slice(&last.to_le_bytes());
        }
    }

    #[inline]
    pub(super) fn key(self, row: &[u8]) -> &[u8] {
        row.get(self.key_at()..self.value_at()).unwrap_or_default()
    }

    /// The number of a long value.
    #[inline]
    pub(super) fn long(self, row: &[u8]) -> u32 {
        let at = self.value_at();
        let word = row.get(at..at + 4).and_then(|w| w.try_into().ok());
        u32::from_le_bytes(word.unwrap_or_default())
    }

    #[inline]
    pub(super) fn value<'a>(self, arena: &'a Arena, row: &'a [u8]) -> &'a [u8] {
        if self.is_long() {
            return arena.long(self.long(row));
        }
        let at = self.value_at();
        row.get(at..at + self.value_len as usize)
            .unwrap_or_default()
    }
}

/// A byte of each of a row's first cache lines: enough for having them fetched.
#[inline]
pub(super) fn first_lines(row: &[u8]) -> u8 {
    let line = |number: usize| row.get(64 * number).copied().unwrap_or_default();
    line(0) ^ line(1) ^ line(2)
}

/// Whether the row at a place has this key.
#[inline]
pub(super) fn row_is(arena: &Arena, place: Place, group: u16, key: &[u8]) -> bool {
    let row = arena.at(place);
    // Whoever looks for a row wants its value: its cache line is fetched while that of the head is still on its way.
    std::hint::black_box(row.get(64).copied());
    let head = Head::read(row);
    usize::from(head.key_len) == key.len() && head.group == group && same(head.key(row), key)
}

/// Whether two keys of the same length are the same: short ones, as most are, as two numbers and not by a call.
#[inline]
fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() == b.len()
        && a.len() <= 16
        && let (Some(a_first), Some(b_first)) = (a.first_chunk::<8>(), b.first_chunk::<8>())
        && let (Some(a_last), Some(b_last)) = (a.last_chunk::<8>(), b.last_chunk::<8>())
    {
        return (a_first == b_first) & (a_last == b_last);
    }
    a == b
}

/// Orders the row at a place relative to a key.
pub(super) fn compare(arena: &Arena, place: Place, group: u16, key: &[u8]) -> Ordering {
    let row = arena.at(place);
    let head = Head::read(row);
    (head.group.cmp(&group)).then_with(|| head.key(row).cmp(key))
}

/// What a row says.
pub(super) fn said<'a>(arena: &'a Arena, row: &'a [u8]) -> SourceRow<'a> {
    let head = Head::read(row);
    let times = head.times(row);
    let operands = |list| {
        Content::Operands(Operands {
            rooted: false,
            base: None,
            first_ms: times.map(|(first, _)| first),
            list,
        })
    };
    let content = match head.kind() {
        Kind::Tombstone => Content::Tombstone,
        Kind::Value => Content::Value(head.value(arena, row)),
        Kind::One => operands(List::One(head.value(arena, row))),
        Kind::Many => operands(List::Many(head.value(arena, row))),
    };
    SourceRow {
        time_ms: times.map(|(_, last)| last),
        content,
    }
}
