//! Rows of a key range in order: a merge of memtables and files, newest first, tombstones hidden.
//!
//! What the memtables hold of the range is copied when the scan starts, but no more of it than the answer can need. So a
//! scan that has to wait for the object store still gives the rows of the moment it was asked.
use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::fetch::Fetched;
use super::{Blocks, Needs};
use crate::TableId;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::key::{self, KEY_HEADER_BYTES};
use crate::memtable::Memtable;
use crate::memtable::ranges::RangeSet;
use crate::merge::Merging;
use crate::row::{Content, RowKind, RowRef, SourceRow};
use crate::rules::Rules;
use crate::sst::block::{BlockCursor, DataBlock};
use crate::sst::file::SstFile;
use crate::sst::lookup::BlockAt;
use crate::sst::part::PartPlace;
use crate::version::{Version, VersionFile};

/// Blocks that are asked for together when a scan runs into a cold one.
const READ_AHEAD_BLOCKS_MIN: usize = 4;
/// The more blocks a scan has run into, the more are asked for together, up to this.
const READ_AHEAD_BLOCKS_MAX: usize = 32;

/// Rows of a scan in key order. `Bytes` are cheap slices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScanRows {
    /// Keys without group and table, and values.
    pub rows: Vec<(Bytes, Bytes)>,
    /// False when `rows` stopped at the asked number and more may follow.
    pub done: bool,
}

/// The answer of a synchronous scan.
#[derive(Debug)]
pub enum ScanLookup {
    /// All of it was in memory.
    Rows(ScanRows),
    /// Memory cannot answer; `Store::fetch_scan` finishes the scan.
    Cold(ColdScan),
}

/// The rest of a scan that memory could not answer.
pub struct ColdScan {
    pub(crate) version: Arc<Version>,
    pub(crate) window: Window,
    pub(crate) memory: MemoryRows,
}

impl std::fmt::Debug for ColdScan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ColdScan")
            .field("lower", &self.window.lower)
            .field("upper", &self.window.upper)
            .finish_non_exhaustive()
    }
}

/// What a scan asks for, as whole keys; `upper` is excluded.
#[derive(Clone)]
pub(crate) struct Window {
    pub(crate) lower: Vec<u8>,
    pub(crate) upper: Option<Vec<u8>>,
    pub(crate) rows_max: usize,
    pub(crate) rules: Arc<Rules>,
    pub(crate) now_ms: i64,
    /// The hash of the prefix that all rows have, if the table's files have such hashes in their filters.
    pub(crate) prefix_hash: Option<u64>,
}

impl Window {
    fn is_below_upper(&self, key: &[u8]) -> bool {
        self.upper.as_deref().is_none_or(|upper| key < upper)
    }
}

/// Rows copied from the memtables in key order, tombstones included.
#[derive(Default)]
pub(crate) struct MemoryRows {
    bytes: Vec<u8>,
    rows: Vec<MemoryRow>,
    /// What they delete in files.
    ranges: RangeSet,
}

struct MemoryRow {
    key: Range<usize>,
    kind: RowKind,
    time_ms: Option<i64>,
    value: Range<usize>,
}

impl MemoryRows {
    /// Merges memtables (newest first) over the window; stops when the values alone fill the answer.
    pub(crate) fn capture<'a>(
        memtables: impl Iterator<Item = &'a Memtable>,
        group: u16,
        window: &Window,
    ) -> Result<Self> {
        let header = window.lower.get(..KEY_HEADER_BYTES).unwrap_or_default();
        let from = window.lower.get(KEY_HEADER_BYTES..).unwrap_or_default();
        let until = window.upper.as_deref();
        let until = until.filter(|upper| upper.starts_with(header));
        let until = until.and_then(|upper| upper.get(KEY_HEADER_BYTES..));
        let mut this = Self::default();
        let mut sources = Vec::new();
        for memtable in memtables {
            let ranges = memtable.ranges();
            for (start, end) in ranges.overlapping(&window.lower, window.upper.as_deref()) {
                this.ranges.add(start, end);
            }
            let rows = memtable.rows_from(group, from, until).peekable();
            sources.push((rows, ranges));
        }
        let mut values = 0;
        let mut merging = Merging::default();
        let mut whole = header.to_vec();
        let mut at_key: Vec<SourceRow<'_>> = Vec::new();
        while values < window.rows_max {
            let heads = sources.iter_mut().map(|(rows, _)| rows.peek());
            let Some(key) = heads.flatten().map(|row| row.key).min() else {
                break;
            };
            whole.truncate(KEY_HEADER_BYTES);
            whole.extend_from_slice(key);
            if !window.is_below_upper(&whole) {
                break;
            }
            // What the memtables say of the key, newest first, down to what hides everything older.
            at_key.clear();
            let mut open = true;
            for (rows, ranges) in &mut sources {
                if let Some(row) = rows.next_if(|row| row.key == key)
                    && open
                {
                    open = matches!(row.said.content, Content::Operands(_));
                    at_key.push(row.said);
                }
                open &= ranges.is_empty() || ranges.covering(&whole).is_none();
            }
            let Some(newest) = at_key.first() else {
                continue;
            };
            let row = match newest.content {
                Content::Tombstone => RowRef::plain(None),
                Content::Value(value) => RowRef::new(RowKind::Value, newest.time_ms, value),
                Content::Operands(_) => {
                    merging.start(open);
                    for row in at_key.iter().rev() {
                        merging.add(row, &window.rules);
                    }
                    merging.row().unwrap_or(RowRef::plain(None))
                }
            };
            let is_shown =
                row.kind != RowKind::Tombstone && !window.rules.hides(row.time_ms, window.now_ms);
            values += usize::from(is_shown);
            this.push(&whole, row);
        }
        Ok(this)
    }

    fn push(&mut self, whole: &[u8], row: RowRef<'_>) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(whole);
        let end = self.bytes.len();
        self.bytes.extend_from_slice(row.value);
        self.rows.push(MemoryRow {
            key: start..end,
            kind: row.kind,
            time_ms: row.time_ms,
            value: end..self.bytes.len(),
        });
    }

    fn key(&self, i: usize) -> Option<&[u8]> {
        self.bytes.get(self.rows.get(i)?.key.clone())
    }

    fn row(&self, i: usize) -> Option<RowRef<'_>> {
        let row = self.rows.get(i)?;
        let value = self.bytes.get(row.value.clone())?;
        Some(RowRef::new(row.kind, row.time_ms, value))
    }
}

/// A sorted run of files: one file of L0, or a whole deeper level.
struct FileRun<'a> {
    all: &'a [Arc<VersionFile>],
    /// Those that are not behind.
    files: &'a [Arc<VersionFile>],
    /// Rows below this are not wanted any more.
    from: Option<&'a [u8]>,
    /// Some of the files have range tombstones.
    ranged: bool,
    at: At,
    cursor: BlockCursor,
    /// The value of the row at the cursor, if it lies aside.
    aside: Option<Bytes>,
    read_ahead: usize,
}

enum At {
    /// Before the first row of the window in the first of `files`.
    Start,
    /// After the last row of a block.
    After(BlockAt),
    Row(BlockAt, Arc<DataBlock>),
    End,
}

impl<'a> FileRun<'a> {
    fn new(files: &'a [Arc<VersionFile>]) -> Self {
        Self {
            all: files,
            files,
            from: None,
            ranged: files.iter().any(|file| file.file.range_tombstones > 0),
            at: At::Start,
            cursor: BlockCursor::default(),
            aside: None,
            read_ahead: READ_AHEAD_BLOCKS_MIN,
        }
    }

    /// Makes the run stand at a row whose value is in memory, or at its end; notes what is missing for that and returns false.
    fn settle(&mut self, blocks: &impl Blocks, window: &Window, needs: &mut Needs) -> bool {
        loop {
            let files = self.files;
            let Some(file) = files.first() else {
                self.at = At::End;
                return true;
            };
            let lower = self.from.unwrap_or(&window.lower).max(file.lower.as_ref());
            if matches!(self.at, At::Start)
                && (lower >= file.upper.as_ref() || !may_hold_prefix(file, blocks, window, needs))
            {
                self.leave_file();
                continue;
            }
            let next = match &self.at {
                At::End => return true,
                At::Row(..) => return self.settle_value(&file.file, blocks, needs),
                At::Start => file.file.seek(lower, blocks),
                At::After(at) => file.file.block_after(*at, blocks),
            };
            let at = match next {
                Ok(Some(at)) => at,
                Ok(None) => {
                    self.leave_file();
                    continue;
                }
                Err(part) => {
                    needs.part(&file.file, part);
                    return false;
                }
            };
            let Some(block) = blocks.block(&file.file, at.place) else {
                // The block in hand is asked for without a second look: another thread may have brought it in just now, and a
                // scan that stops must say what for.
                needs.part(&file.file, PartPlace::block(at.place));
                let mut ahead = at;
                let read_ahead = self.read_ahead;
                self.read_ahead = (2 * read_ahead).min(READ_AHEAD_BLOCKS_MAX);
                for _ in 1..read_ahead {
                    let Ok(Some(next)) = file.file.block_after(ahead, blocks) else {
                        break;
                    };
                    if blocks.block(&file.file, next.place).is_none() {
                        needs.part(&file.file, PartPlace::block(next.place));
                    }
                    ahead = next;
                }
                return false;
            };
            self.cursor.reset();
            let found = match self.at {
                At::Start => self.cursor.seek(&block, lower),
                _ => self.cursor.advance(&block),
            };
            self.at = if found {
                At::Row(at, block)
            } else {
                At::After(at)
            };
            self.aside = None;
            self.check_end(window);
        }
    }

    /// Brings the value of the row at the cursor into hand, if it lies aside.
    fn settle_value(
        &mut self,
        file: &Arc<SstFile>,
        blocks: &impl Blocks,
        needs: &mut Needs,
    ) -> bool {
        if self.aside.is_none()
            && let Some(aside) = self.cursor.aside()
        {
            self.aside = blocks.value(file, aside.place);
            if self.aside.is_none() {
                needs.missing(file, file.value_part(aside));
                return false;
            }
        }
        true
    }

    fn leave_file(&mut self) {
        self.files = self.files.get(1..).unwrap_or_default();
        self.at = At::Start;
    }

    /// Leaves the file when the row is past what counts of it.
    fn check_end(&mut self, window: &Window) {
        let (At::Row(..), Some(file)) = (&self.at, self.files.first()) else {
            return;
        };
        if !window.is_below_upper(self.cursor.key()) {
            self.at = At::End;
        } else if self.cursor.key() >= file.upper.as_ref() {
            self.leave_file();
        }
    }

    fn key(&self) -> Option<&[u8]> {
        matches!(self.at, At::Row(..)).then(|| self.cursor.key())
    }

    fn row(&self) -> Option<RowRef<'_>> {
        let At::Row(_, block) = &self.at else {
            return None;
        };
        let row = self.cursor.row(block)?;
        let value = self.aside.as_deref().unwrap_or(row.value);
        Some(RowRef { value, ..row })
    }

    /// Up to where the run's range tombstones hide older rows from a key on.
    fn hides_older(&self, key: &[u8]) -> HidesOlder<'a> {
        let at = self.all.partition_point(|file| file.upper.as_ref() <= key);
        match self.all.get(at).filter(|_| self.ranged) {
            Some(file) => file.hides_older(key).map_err(|part| (file, part)),
            None => Ok(None),
        }
    }

    /// Moves to the first row that is not below `key`.
    fn skip_to(&mut self, key: &'a [u8], window: &Window) {
        let At::Row(_, block) = &self.at else { return };
        self.aside = None;
        self.from = Some(key);
        if self.cursor.seek(block, key) {
            self.check_end(window);
        } else {
            // Not in this block: the index knows where.
            self.at = At::Start;
        }
    }

    fn advance(&mut self, window: &Window) {
        if let At::Row(at, block) = &self.at {
            self.aside = None;
            if !self.cursor.advance(block) {
                self.at = At::After(*at);
            }
            self.check_end(window);
        }
    }
}

/// The rows put out so far, in one allocation.
#[derive(Default)]
struct Output {
    bytes: Vec<u8>,
    rows: Vec<(usize, usize, usize)>,
}

impl Output {
    fn push(&mut self, key: &[u8], value: &[u8]) {
        let start = self.bytes.len();
        self.bytes
            .extend_from_slice(key.get(KEY_HEADER_BYTES..).unwrap_or_default());
        let middle = self.bytes.len();
        self.bytes.extend_from_slice(value);
        self.rows.push((start, middle, self.bytes.len()));
    }

    fn finish(self, done: bool) -> ScanRows {
        let bytes = Bytes::from(self.bytes);
        let slice = |(start, middle, end)| (bytes.slice(start..middle), bytes.slice(middle..end));
        ScanRows {
            rows: self.rows.into_iter().map(slice).collect(),
            done,
        }
    }
}

/// Up to where older rows are hidden, or what is missing to know.
type HidesOlder<'a> = std::result::Result<Option<&'a [u8]>, (&'a Arc<VersionFile>, PartPlace)>;

/// A scan under way.
struct Merge<'a> {
    window: &'a Window,
    memory: &'a MemoryRows,
    memory_at: usize,
    runs: Vec<FileRun<'a>>,
    /// Runs that stand at the key in hand.
    at_key: Vec<usize>,
    merging: Merging,
    output: Output,
}

impl<'a> Merge<'a> {
    fn new(version: &'a Version, window: &'a Window, memory: &'a MemoryRows) -> Self {
        let (lower, upper) = (window.lower.as_slice(), window.upper.as_deref());
        let [newest, ..] = &version.levels;
        let newest = newest
            .chunks(1)
            .filter(|one| one.iter().all(|file| file.overlaps(lower, upper)));
        let levels =
            (1..version.levels.len()).map(|level| version.overlapping(level, lower, upper));
        let runs = newest
            .chain(levels.filter(|files| !files.is_empty()))
            .map(FileRun::new)
            .collect();
        Self {
            window,
            memory,
            memory_at: 0,
            runs,
            at_key: Vec::new(),
            merging: Merging::default(),
            output: Output::default(),
        }
    }

    /// Goes on as far as `blocks` reach. `None`: what is missing is in `needs`.
    fn run(&mut self, blocks: &impl Blocks, needs: &mut Needs) -> Result<Option<bool>> {
        loop {
            if self.output.rows.len() >= self.window.rows_max {
                return Ok(Some(false));
            }
            // All runs first: what they miss is loaded together.
            let mut settled = true;
            for run in &mut self.runs {
                settled &= run.settle(blocks, self.window, needs);
            }
            if !settled {
                return Ok(None);
            }
            let memory = self.memory;
            let mut least = memory.key(self.memory_at);
            let mut from_memory = least.is_some();
            // Which runs stand at this key is found before any moves: the key may lie in the buffer of one of them.
            self.at_key.clear();
            for (i, run) in self.runs.iter().enumerate() {
                let Some(key) = run.key() else { continue };
                match least.map_or(Ordering::Less, |other| key.cmp(other)) {
                    Ordering::Less => {
                        least = Some(key);
                        from_memory = false;
                        self.at_key.clear();
                        self.at_key.push(i);
                    }
                    Ordering::Equal => self.at_key.push(i),
                    Ordering::Greater => {}
                }
            }
            let Some(key) = least else {
                return Ok(Some(true));
            };
            let in_memory = match from_memory {
                true => memory.row(self.memory_at),
                false => None,
            };
            // The newest source that hides what is older: runs from `hidden_from` on do not count up to `hidden_to`.
            let mut hidden_from = self.runs.len();
            let mut hidden_to = memory.ranges.covering(key);
            if hidden_to.is_some() {
                hidden_from = 0;
            }
            let oldest = self.at_key.last().copied().unwrap_or(0).min(hidden_from);
            for (i, run) in self.runs.iter().enumerate().take(oldest) {
                match run.hides_older(key) {
                    Ok(None) => {}
                    Ok(Some(end)) => {
                        (hidden_from, hidden_to) = (i + 1, Some(end));
                        break;
                    }
                    Err((file, part)) => {
                        needs.part(&file.file, part);
                        return Ok(None);
                    }
                }
            }
            let counting = self.at_key.partition_point(|&i| i < hidden_from);
            let in_files = self.at_key.get(..counting).unwrap_or_default();
            let rows = in_files.iter().filter_map(|&i| self.runs[i].row());
            let rules = &self.window.rules;
            put_out(
                key,
                in_memory.into_iter().chain(rows),
                rules,
                self.window.now_ms,
                &mut self.merging,
                &mut self.output,
            )?;
            if from_memory {
                self.memory_at += 1;
            }
            for &i in &self.at_key {
                match hidden_to.filter(|_| i >= hidden_from) {
                    Some(end) => self.runs[i].skip_to(end, self.window),
                    None => self.runs[i].advance(self.window),
                }
            }
        }
    }
}

/// False only if the filter of a file knows that no row has the prefix that is scanned. What the filter lacks is noted, but
/// nothing waits for it alone.
fn may_hold_prefix(
    file: &VersionFile,
    blocks: &impl Blocks,
    window: &Window,
    needs: &mut Needs,
) -> bool {
    let Some(hash) = window.prefix_hash else {
        return true;
    };
    let table = key::table(&window.lower).unwrap_or(TableId(u16::MAX));
    if !file.file.has_prefixes(table, window.rules.prefix_shape) {
        return true;
    }
    match file.file.may_contain(hash, blocks) {
        Ok(may) => may,
        Err(part) => {
            needs.part(&file.file, part);
            true
        }
    }
}

/// Puts out what the rows of a key, newest first, say together.
fn put_out<'a>(
    key: &[u8],
    mut rows: impl Iterator<Item = RowRef<'a>>,
    rules: &Rules,
    now_ms: i64,
    merging: &mut Merging,
    output: &mut Output,
) -> Result<()> {
    let Some(newest) = rows.next() else {
        return Ok(());
    };
    match newest.kind {
        RowKind::Tombstone => {}
        RowKind::Value => {
            if !rules.hides(newest.time_ms, now_ms) {
                output.push(key, newest.value);
            }
        }
        RowKind::Operands => {
            let mut chain = vec![newest.open()?];
            for row in rows {
                let row = row.open()?;
                let adds_to_older = matches!(row.content, Content::Operands(_));
                chain.push(row);
                if !adds_to_older {
                    break;
                }
            }
            merging.start(false);
            for row in chain.iter().rev() {
                merging.add(row, rules);
            }
            if let Some((value, time_ms)) = merging.take_value()?
                && !rules.hides(time_ms, now_ms)
            {
                output.push(key, &value);
            }
        }
    }
    Ok(())
}

/// Scans what is in memory; `None` if that is not enough.
pub(crate) fn scan(
    version: &Version,
    window: &Window,
    memory: &MemoryRows,
    blocks: &impl Blocks,
) -> Result<Option<ScanRows>> {
    let mut merge = Merge::new(version, window, memory);
    let done = merge.run(blocks, &mut Needs::default())?;
    Ok(done.map(|done| merge.output.finish(done)))
}

/// Finishes a scan that was cold.
pub(crate) async fn fetch_scan(context: Arc<Context>, scan: ColdScan) -> Result<ScanRows> {
    let mut fetched = Fetched::new(context);
    let mut merge = Merge::new(&scan.version, &scan.window, &scan.memory);
    loop {
        let mut needs = Needs::default();
        if let Some(done) = merge.run(&fetched, &mut needs)? {
            return Ok(merge.output.finish(done));
        }
        if needs.is_empty() {
            return Err(Error::corrupt(
                "a scan stopped although nothing was missing",
            ));
        }
        fetched.load(needs).await?;
    }
}

#[cfg(test)]
mod tests;
