//! Scans that memtables answer alone: no file has a row of the table that is not in them.
//!
//! Small scans are most often like this (the few entries of a map that was written lately), so nothing is copied but the rows of the
//! answer, and nothing is made for files.
use super::ScanRows;
use super::output::Output;
use crate::error::Result;
use crate::key::{self, KEY_HEADER_BYTES};
use crate::memtable::{FoundRow, Memtable, RowIter};
use crate::merge::Merging;
use crate::options::TableId;
use crate::row::{Content, SourceRow};
use crate::rules::Rules;

/// What is asked for, in user keys. `until` is excluded.
pub(crate) struct Asked<'a> {
    pub(crate) table: TableId,
    pub(crate) group: u16,
    pub(crate) prefix: &'a [u8],
    pub(crate) from: &'a [u8],
    pub(crate) until: Option<&'a [u8]>,
    pub(crate) rows_max: usize,
    pub(crate) rules: &'a Rules,
    pub(crate) now_ms: i64,
}

impl Asked<'_> {
    fn is_within(&self, key: &[u8]) -> bool {
        key.starts_with(self.prefix) && self.until.is_none_or(|until| key < until)
    }
}

/// A memtable that has rows of what is asked for, or range tombstones.
struct Source<'a> {
    memtable: &'a Memtable,
    head: Option<FoundRow<'a>>,
    rest: RowIter<'a>,
}

impl<'a> Source<'a> {
    fn advance(&mut self, asked: &Asked<'_>) {
        let next = self.rest.next_found();
        self.head = next.filter(|row| asked.is_within(row.key()));
    }

    fn hides_older(&self, whole: &[u8]) -> bool {
        let ranges = self.memtable.ranges();
        !ranges.is_empty() && ranges.covering(whole).is_some()
    }
}

/// Scans memtables (newest first), over nothing.
pub(crate) fn scan_alone<'a>(
    memtables: impl Iterator<Item = &'a Memtable>,
    asked: &Asked<'_>,
) -> Result<ScanRows> {
    let from = asked.from.max(asked.prefix);
    let mut sources: Vec<Source<'a>> = Vec::new();
    let mut ranged = false;
    for memtable in memtables.filter(|memtable| !memtable.is_empty()) {
        // Where an iterator has to sort, it sorts what is asked for and not all.
        let end = match memtable.is_sorted() || asked.until.is_some() {
            true => None,
            false => key::successor(asked.prefix),
        };
        let mut source = Source {
            memtable,
            head: None,
            rest: memtable.rows_from(asked.group, from, end.as_deref().or(asked.until)),
        };
        source.advance(asked);
        let has_ranges = !memtable.ranges().is_empty();
        if source.head.is_some() || has_ranges {
            ranged |= has_ranges;
            sources.push(source);
        }
    }
    let mut output = Output::with_room(asked.rows_max);
    match sources.as_mut_slice() {
        [] => {}
        [only] => scan_one(only, asked, &mut output)?,
        several => scan_several(several, ranged, asked, &mut output)?,
    }
    let done = !output.is_full(asked.rows_max);
    Ok(output.finish(done))
}

/// Its range tombstones say nothing of its own rows.
fn scan_one(source: &mut Source<'_>, asked: &Asked<'_>, output: &mut Output) -> Result<()> {
    let mut merging = None;
    while !output.is_full(asked.rows_max)
        && let Some(row) = source.head
    {
        match row.value() {
            Some((value, time_ms)) => put_out(row.key(), value, time_ms, asked, output),
            None => {
                let said = row.said();
                if matches!(said.content, Content::Operands(_)) {
                    let merging = merging.get_or_insert_with(Merging::default);
                    fold_out(row.key(), &[said], merging, asked, output)?;
                }
            }
        }
        source.advance(asked);
    }
    Ok(())
}

fn scan_several(
    sources: &mut [Source<'_>],
    ranged: bool,
    asked: &Asked<'_>,
    output: &mut Output,
) -> Result<()> {
    let mut merging = None;
    let mut whole = key::header(asked.group, asked.table).to_vec();
    let mut chain: Vec<SourceRow<'_>> = Vec::new();
    while !output.is_full(asked.rows_max) {
        let heads = sources.iter().filter_map(|source| source.head);
        let Some(key) = heads.map(FoundRow::key).min() else {
            break;
        };
        if ranged {
            whole.truncate(KEY_HEADER_BYTES);
            whole.extend_from_slice(key);
        }
        // What they say of the key, newest first, down to what hides everything older.
        chain.clear();
        let mut open = true;
        for source in sources.iter_mut() {
            if let Some(row) = source.head
                && row.key() == key
            {
                if open {
                    let said = row.said();
                    open = matches!(said.content, Content::Operands(_));
                    chain.push(said);
                }
                source.advance(asked);
            }
            open &= !(ranged && source.hides_older(&whole));
        }
        match chain.as_slice() {
            [] => {}
            [newest, ..] => match newest.content {
                Content::Tombstone => {}
                Content::Value(value) => put_out(key, value, newest.time_ms, asked, output),
                Content::Operands(_) => {
                    let merging = merging.get_or_insert_with(Merging::default);
                    fold_out(key, &chain, merging, asked, output)?;
                }
            },
        }
    }
    Ok(())
}

#[inline]
fn put_out(key: &[u8], value: &[u8], time_ms: Option<i64>, asked: &Asked<'_>, output: &mut Output) {
    if !asked.rules.hides(time_ms, asked.now_ms) {
        output.push(key, value, time_ms);
    }
}

/// Puts out what a chain of operands, newest first, makes of what is below it, which is the last of the chain or nothing.
fn fold_out(
    key: &[u8],
    chain: &[SourceRow<'_>],
    merging: &mut Merging,
    asked: &Asked<'_>,
    output: &mut Output,
) -> Result<()> {
    merging.start(false);
    for row in chain.iter().rev() {
        merging.add(row, asked.rules);
    }
    if let Some((value, time_ms)) = merging.take_value()? {
        put_out(key, &value, time_ms, asked, output);
    }
    Ok(())
}
