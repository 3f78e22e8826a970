//! A flush: the frozen memtables of all tables become one file, or a few side by side if they are large.
//!
//! Rows are merged in key order; of a key that several memtables of a table hold, the newest row counts, with its operands
//! folded into what they meet. Tombstones are kept, because older files may hold values they hide.
use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::sync::Arc;

use bytes::Bytes;

use crate::TableId;
use crate::context::Context;
use crate::error::Result;
use crate::key;
use crate::memtable::{Memtable, Row};
use crate::merge::Merging;
use crate::row::{Content, RowKind, RowRef};
use crate::rules::{Rules, TableRules};
use crate::sst::new_file::NewFile;
use crate::sst::ranges::RangeTombstones;
use crate::sst::writer::SstWriter;

/// A frozen memtable of a table. In a list, newer ones of the same table come later.
#[derive(Clone)]
pub(crate) struct Frozen {
    pub(crate) table: TableId,
    pub(crate) rules: Arc<Rules>,
    pub(crate) memtable: Arc<Memtable>,
}

impl Frozen {
    /// Whether a range tombstone of this memtable hides what older ones hold of a whole key.
    #[inline]
    fn hides_older(&self, whole: &[u8]) -> bool {
        let ranges = self.memtable.ranges();
        !ranges.is_empty() && ranges.covering(whole).is_some()
    }
}

/// The next row of a source, ordered by key and then newest first.
struct Head<'a> {
    table: TableId,
    row: Row<'a>,
    source: usize,
}

impl Head<'_> {
    fn rank(&self) -> (u16, TableId, &[u8], Reverse<usize>) {
        (
            self.row.group,
            self.table,
            self.row.key,
            Reverse(self.source),
        )
    }

    fn is_same_key(&self, other: &Self) -> bool {
        (self.row.group, self.table, self.row.key) == (other.row.group, other.table, other.row.key)
    }
}

impl PartialEq for Head<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.rank() == other.rank()
    }
}
impl Eq for Head<'_> {}
impl PartialOrd for Head<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Head<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.rank().cmp(&other.rank())
    }
}

/// A place in the order of keys.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Bound {
    group: u16,
    table: TableId,
    key: Vec<u8>,
}

impl Bound {
    fn at(table: TableId, row: &Row<'_>) -> Self {
        Self {
            group: row.group,
            table,
            key: row.key.to_vec(),
        }
    }

    fn whole(&self) -> Bytes {
        key::encode(self.group, self.table, &self.key).into()
    }

    fn is_above(&self, table: TableId, row: &Row<'_>) -> bool {
        (row.group, table, row.key) < (self.group, self.table, &self.key)
    }
}

/// A range of keys that becomes a file.
struct Part<'a> {
    from: Option<&'a Bound>,
    until: Option<&'a Bound>,
    /// How many parts there are.
    of: usize,
}

/// Walks over the rows of sorted memtables in key order; of equal keys, the newest comes first.
struct Heads<'a> {
    sources: &'a [Frozen],
    positions: Vec<usize>,
    heads: BinaryHeap<Reverse<Head<'a>>>,
}

impl<'a> Heads<'a> {
    fn new(sources: &'a [Frozen], from: Option<&Bound>) -> Self {
        let mut this = Self {
            sources,
            positions: vec![0; sources.len()],
            heads: BinaryHeap::with_capacity(sources.len()),
        };
        for (source, frozen) in sources.iter().enumerate() {
            let first = from.map_or(0, |from| first_not_below(frozen, from));
            if let Some(row) = frozen.memtable.sorted_row(first) {
                this.positions[source] = first + 1;
                this.heads.push(Reverse(Head {
                    table: frozen.table,
                    row,
                    source,
                }));
            }
        }
        this
    }

    fn next(&mut self) -> Option<Head<'a>> {
        let mut top = self.heads.peek_mut()?;
        let frozen = &self.sources[top.0.source];
        let position = &mut self.positions[top.0.source];
        // Replacing the top moves it once, where popping and pushing would move it twice.
        match frozen.memtable.sorted_row(*position) {
            Some(row) => {
                *position += 1;
                let next = Head {
                    table: frozen.table,
                    row,
                    source: top.0.source,
                };
                Some(std::mem::replace(&mut *top, Reverse(next)).0)
            }
            None => Some(std::collections::binary_heap::PeekMut::pop(top).0),
        }
    }

    fn next_if_same(&mut self, key: &Head<'_>) -> Option<Head<'a>> {
        match self.heads.peek() {
            Some(Reverse(head)) if head.is_same_key(key) => self.next(),
            _ => None,
        }
    }
}

/// The position of the first row at or above a place.
fn first_not_below(frozen: &Frozen, from: &Bound) -> usize {
    let (mut low, mut high) = (0, frozen.memtable.rows());
    while low < high {
        let middle = low + (high - low) / 2;
        let row = frozen.memtable.sorted_row(middle);
        match row.is_some_and(|row| from.is_above(frozen.table, &row)) {
            true => low = middle + 1,
            false => high = middle,
        }
    }
    low
}

/// Writes the files. Runs on a background thread. No file if there is nothing to write.
pub(crate) fn flush(context: &Arc<Context>, sources: &[Frozen]) -> Result<Vec<NewFile>> {
    sources.iter().for_each(|frozen| frozen.memtable.sort());
    parts::build(context, sources)
}

fn write_part(
    context: &Arc<Context>,
    sources: &[Frozen],
    part: &Part<'_>,
) -> Result<Option<NewFile>> {
    // What was just written is likely to be read again; but it may take a quarter of the cache at most.
    let keep_bytes = usize::try_from(context.env.block_cache.capacity_bytes() / 4)
        .unwrap_or(usize::MAX)
        / part.of.max(1);
    let mut tables = TableRules::default();
    for frozen in sources {
        tables.set(frozen.table, frozen.rules.clone());
    }
    let mut writer = SstWriter::new(context, keep_bytes).with_tables(tables);
    let mut heads = Heads::new(sources, part.from);
    let mut whole = Vec::new();
    let mut merging = Merging::default();
    let mut same = Vec::new();
    while let Some(head) = heads.next() {
        if (part.until).is_some_and(|until| !until.is_above(head.table, &head.row)) {
            break;
        }
        let header = key::header(head.row.group, head.table);
        whole.clear();
        whole.extend_from_slice(&header);
        whole.extend_from_slice(head.row.key);
        same.clear();
        while let Some(older) = heads.next_if_same(&head) {
            same.push(older);
        }
        let hides_older = |head: &Head<'_>| sources[head.source].hides_older(&whole);
        let newer = sources.get(head.source + 1..).unwrap_or_default();
        if newer.iter().any(|newer| newer.hides_older(&whole)) {
            continue;
        }
        let row = match head.row.said.content {
            // The range that the file will have says so too.
            Content::Tombstone if hides_older(&head) => continue,
            Content::Tombstone => RowRef::plain(None),
            Content::Value(value) => RowRef::new(RowKind::Value, head.row.said.time_ms, value),
            Content::Operands(_) => {
                let rules = &sources[head.source].rules;
                let mut below = 0;
                let mut open = !hides_older(&head);
                while open && let Some(older) = same.get(below) {
                    below += 1;
                    open = matches!(older.row.said.content, Content::Operands(_))
                        && !hides_older(older);
                }
                merging.start(open);
                for older in same[..below].iter().rev() {
                    merging.add(&older.row.said, rules);
                }
                merging.add(&head.row.said, rules);
                match merging.row() {
                    Some(row) => row,
                    None => continue,
                }
            }
        };
        let hash = key::hash_parts(header, head.row.key);
        writer.add(&whole, hash, row, true)?;
    }
    let ranges = sources.iter().flat_map(|frozen| {
        let owned = |(start, end)| (Bytes::copy_from_slice(start), Bytes::copy_from_slice(end));
        frozen.memtable.ranges().iter().map(owned)
    });
    let (from, until) = (part.from.map(Bound::whole), part.until.map(Bound::whole));
    for (start, end) in RangeTombstones::union(ranges).iter() {
        let start = from.as_ref().map_or(start, |from| from.max(start));
        let end = until.as_ref().map_or(end, |until| until.min(end));
        if start < end {
            writer.add_range_tombstone(start.clone(), end.clone());
        }
    }
    writer.finish()
}

mod parts;
#[cfg(test)]
mod tests;
