//! The rows of a memtable in key order.
use std::cmp::Ordering;

use super::arena::{Arena, Place};
use super::layout::{Head, compare, first_lines};
use super::ordered::{OrderedIndex, Prefix};
use super::{FoundRow, Memtable};
use crate::row::SourceRow;

/// Rows whose cache lines are fetched together.
const ROWS_AHEAD: usize = 16;

/// A row of a memtable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row<'a> {
    pub(crate) group: u16,
    pub(crate) key: &'a [u8],
    pub(crate) said: SourceRow<'a>,
}

impl Memtable {
    /// The rows of a group in key order, from a key on; rows at or above `until` may be left out.
    ///
    /// An active memtable without companion is sorted for each call; a frozen one once.
    pub(crate) fn rows_from(&self, group: u16, from: &[u8], until: Option<&[u8]>) -> RowIter<'_> {
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
            let mut rows: Vec<(&[u8], Place)> = Vec::new();
            for place in self.index.places() {
                let row = arena.at(place);
                let head = Head::read(row);
                let key = head.key(row);
                if head.group == group && key >= from && until.is_none_or(|until| key < until) {
                    rows.push((key, place));
                }
            }
            rows.sort_unstable_by(|a, b| a.0.cmp(b.0));
            Position::Rows(rows.into_iter())
        };
        RowIter { arena, group, at }
    }

    /// Whether `rows_from` need not sort first.
    pub(crate) fn is_sorted(&self) -> bool {
        self.ordered.is_some() || self.sorted.get().is_some()
    }

    /// Sorts a frozen memtable, so that `sorted_row` and `rows_from` are cheap. Safe to call from any thread.
    pub(crate) fn sort(&self) {
        self.sorted.get_or_init(|| {
            let arena = &self.arena;
            if let Some(ordered) = &self.ordered {
                return ordered.places();
            }
            // The index has the rows in the order of their hashes. Visited in the order of their places, they come one after
            // the other.
            let mut places: Vec<u32> = self.index.places().map(|place| place.0).collect();
            places.sort_unstable();
            let mut all: Vec<(Prefix, Place)> = (places.into_iter().map(Place))
                .map(|place| {
                    let row = arena.at(place);
                    let head = Head::read(row);
                    (Prefix::new(head.group, head.key(row)), place)
                })
                .collect();
            all.sort_unstable_by(|(prefix_a, a), (prefix_b, b)| {
                prefix_a.cmp(prefix_b).then_with(|| {
                    let row = arena.at(*b);
                    let head = Head::read(row);
                    compare(arena, *a, head.group, head.key(row))
                })
            });
            all.into_iter().map(|(_, place)| place).collect()
        });
    }

    /// The `i`-th row in order of a memtable that has been sorted; `None` past its end. Meant to be asked in ascending order:
    /// now and then it has a look at the rows that follow, all at once, so that their cache lines are fetched together.
    #[inline]
    pub(crate) fn sorted_row(&self, i: usize) -> Option<Row<'_>> {
        let places = self.sorted.get()?;
        let place = *places.get(i)?;
        if i.is_multiple_of(ROWS_AHEAD) {
            let ahead = places.iter().skip(i).take(ROWS_AHEAD);
            let lines = ahead.map(|&place| first_lines(self.arena.at(place)));
            std::hint::black_box(lines.fold(0, |all, line| all ^ line));
        }
        Some(row_of(FoundRow::at(&self.arena, place)))
    }
}

enum Position<'a> {
    Ordered(&'a OrderedIndex, (usize, usize)),
    Sorted(&'a [Place], usize),
    Rows(std::vec::IntoIter<(&'a [u8], Place)>),
}

/// Rows of one key group in key order.
pub(crate) struct RowIter<'a> {
    arena: &'a Arena,
    group: u16,
    at: Position<'a>,
}

impl<'a> Iterator for RowIter<'a> {
    type Item = Row<'a>;

    #[inline]
    fn next(&mut self) -> Option<Row<'a>> {
        self.next_found().map(row_of)
    }
}

impl<'a> RowIter<'a> {
    /// The next row, for asking it for no more than is wanted.
    #[inline]
    pub(crate) fn next_found(&mut self) -> Option<FoundRow<'a>> {
        let place = match &mut self.at {
            Position::Ordered(index, at) => index.next(at)?,
            Position::Sorted(places, at) => {
                let place = *places.get(*at)?;
                *at += 1;
                place
            }
            Position::Rows(rows) => rows.next()?.1,
        };
        Some(FoundRow::at(self.arena, place)).filter(|row| row.group() == self.group)
    }
}

#[inline]
fn row_of(found: FoundRow<'_>) -> Row<'_> {
    Row {
        group: found.group(),
        key: found.key(),
        said: found.said(),
    }
}
