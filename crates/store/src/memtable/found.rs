//! A row of a memtable as readers hold it: where it lies, read part by part.
use super::arena::{Arena, Place};
use super::layout::{Head, Kind, said};
use crate::row::SourceRow;

/// A row that was found, for reading what a reader wants of it and no more: what is in hand is small enough for registers.
#[derive(Clone, Copy)]
pub(crate) struct FoundRow<'a> {
    arena: &'a Arena,
    row: &'a [u8],
}

impl<'a> FoundRow<'a> {
    /// The row at a place.
    #[inline]
    pub(super) fn at(arena: &'a Arena, place: Place) -> Self {
        let row = arena.at(place);
        Self { arena, row }
    }

    #[inline]
    pub(crate) fn group(self) -> u16 {
        Head::read(self.row).group
    }

    #[inline]
    pub(crate) fn key(self) -> &'a [u8] {
        Head::read(self.row).key(self.row)
    }

    /// The row's value and its time, if it holds a value.
    #[inline]
    pub(crate) fn value(self) -> Option<(&'a [u8], Option<i64>)> {
        let head = Head::read(self.row);
        (head.kind() == Kind::Value).then(|| {
            let time_ms = head.times(self.row).map(|(_, last)| last);
            (head.value(self.arena, self.row), time_ms)
        })
    }

    #[inline]
    pub(crate) fn is_tombstone(self) -> bool {
        Head::read(self.row).kind() == Kind::Tombstone
    }

    /// All that the row says.
    #[inline]
    pub(crate) fn said(self) -> SourceRow<'a> {
        said(self.arena, self.row)
    }
}
