//! Rows of a key range in order: a merge of memtables and files, newest first, tombstones hidden.
//!
//! What the memtables hold of the range is copied when the scan starts, but no more of it than the answer can need. So a
//! scan that has to wait for the object store still gives the rows of the moment it was asked.
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::fetch::Fetched;
use super::{Blocks, Needs};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::key::KEY_HEADER_BYTES;
use crate::memtable::{Memtable, RowIter};
use crate::row::RowKind;
use crate::sst::block::{BlockCursor, DataBlock};
use crate::version::{Version, VersionFile};

/// Blocks that are asked for together when a scan runs into a cold one.
const READ_AHEAD_BLOCKS: usize = 4;

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
            .field("window", &self.window)
            .finish_non_exhaustive()
    }
}

/// What a scan asks for, as whole keys; `upper` is excluded.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    pub(crate) lower: Vec<u8>,
    pub(crate) upper: Option<Vec<u8>>,
    pub(crate) rows_max: usize,
}

impl Window {
    fn is_below_upper(&self, key: &[u8]) -> bool {
        self.upper.as_deref().is_none_or(|upper| key < upper)
    }
}

/// Rows copied from the memtables, tombstones included, in key order.
#[derive(Default)]
pub(crate) struct MemoryRows {
    bytes: Vec<u8>,
    rows: Vec<(Range<usize>, Option<Range<usize>>)>,
}

impl MemoryRows {
    /// Merges memtables (newest first) over the window; stops when the values alone fill the answer.
    pub(crate) fn capture<'a>(
        memtables: impl Iterator<Item = &'a Memtable>,
        group: u16,
        window: &Window,
    ) -> Self {
        let user_lower = window.lower.get(KEY_HEADER_BYTES..).unwrap_or_default();
        let header = window.lower.get(..KEY_HEADER_BYTES).unwrap_or_default();
        let mut sources: Vec<std::iter::Peekable<RowIter<'_>>> = memtables
            .map(|m| m.rows_from(group, user_lower).peekable())
            .collect();
        let mut this = Self::default();
        let mut values = 0;
        while values < window.rows_max {
            let mut least: Option<(usize, &[u8])> = None;
            for (i, source) in sources.iter_mut().enumerate() {
                if let Some(row) = source.peek()
                    && least.is_none_or(|(_, key)| row.key < key)
                {
                    least = Some((i, row.key));
                }
            }
            let Some((newest, key)) = least else { break };
            let Some(row) = sources[newest].next() else {
                break;
            };
            for older in &mut sources[newest + 1..] {
                older.next_if(|row| row.key == key);
            }
            let start = this.bytes.len();
            this.bytes.extend_from_slice(header);
            this.bytes.extend_from_slice(key);
            let end = this.bytes.len();
            if !window.is_below_upper(&this.bytes[start..]) {
                this.bytes.truncate(start);
                break;
            }
            let value = row.value.map(|value| {
                this.bytes.extend_from_slice(value);
                values += 1;
                end..this.bytes.len()
            });
            this.rows.push((start..end, value));
        }
        this
    }

    fn key(&self, i: usize) -> Option<&[u8]> {
        self.bytes.get(self.rows.get(i)?.0.clone())
    }

    fn value(&self, i: usize) -> Option<&[u8]> {
        self.bytes.get(self.rows.get(i)?.1.clone()?)
    }
}

/// A sorted run of files: one file of L0, or a whole deeper level.
struct FileRun<'a> {
    files: &'a [Arc<VersionFile>],
    at: Place,
    cursor: BlockCursor,
}

enum Place {
    /// Before the first row of the window in the first of `files`.
    Start,
    /// At the start of a block that is yet to be read.
    Block(usize),
    Row(usize, Arc<DataBlock>),
    End,
}

impl<'a> FileRun<'a> {
    fn new(files: &'a [Arc<VersionFile>]) -> Self {
        Self {
            files,
            at: Place::Start,
            cursor: BlockCursor::default(),
        }
    }

    /// Makes the run stand at a row or at its end; notes what is missing for that and returns false.
    fn settle(&mut self, blocks: &impl Blocks, window: &Window, needs: &mut Needs) -> bool {
        loop {
            let number = match &self.at {
                Place::Row(..) | Place::End => return true,
                Place::Start => None,
                Place::Block(number) => Some(*number),
            };
            let files = self.files;
            let Some(file) = files.first() else {
                self.at = Place::End;
                return true;
            };
            let Some(meta) = blocks.meta(&file.file) else {
                needs.meta(&file.file);
                return false;
            };
            let lower = window.lower.as_slice().max(file.lower.as_ref());
            let number = match number.or_else(|| meta.index.find(lower)) {
                Some(number) if number < meta.index.len() => number,
                _ => {
                    self.files = self.files.get(1..).unwrap_or_default();
                    self.at = Place::Start;
                    continue;
                }
            };
            let Some(block) = blocks.block(&file.file, number as u32) else {
                for ahead in number..number + READ_AHEAD_BLOCKS {
                    // The block in hand is asked for without a second look: another thread may have brought it in just now, and a
                    // scan that stops must say what for.
                    if let Some(place) = meta.index.range(ahead)
                        && (ahead == number || blocks.block(&file.file, ahead as u32).is_none())
                    {
                        needs.block(&file.file, ahead as u32, place);
                    }
                }
                return false;
            };
            self.cursor.reset();
            let found = match self.at {
                Place::Start => self.cursor.seek(&block, lower),
                _ => self.cursor.advance(&block),
            };
            self.at = if found {
                Place::Row(number, block)
            } else {
                Place::Block(number + 1)
            };
            self.check_end(window);
        }
    }

    /// Leaves the file when the row is past what counts of it.
    fn check_end(&mut self, window: &Window) {
        let (Place::Row(..), Some(file)) = (&self.at, self.files.first()) else {
            return;
        };
        if !window.is_below_upper(self.cursor.key()) {
            self.at = Place::End;
        } else if self.cursor.key() >= file.upper.as_ref() {
            self.files = self.files.get(1..).unwrap_or_default();
            self.at = Place::Start;
        }
    }

    fn key(&self) -> Option<&[u8]> {
        matches!(self.at, Place::Row(..)).then(|| self.cursor.key())
    }

    fn value(&self) -> Option<&[u8]> {
        match &self.at {
            Place::Row(_, block) => {
                let row = self.cursor.row(block)?;
                (row.kind != RowKind::Tombstone).then_some(row.value)
            }
            _ => None,
        }
    }

    fn advance(&mut self, window: &Window) {
        if let Place::Row(number, block) = &self.at {
            if !self.cursor.advance(block) {
                self.at = Place::Block(number + 1);
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

/// A scan under way.
struct Merge<'a> {
    window: &'a Window,
    memory: &'a MemoryRows,
    memory_at: usize,
    runs: Vec<FileRun<'a>>,
    /// Runs that stand at the key in hand.
    at_key: Vec<usize>,
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
            output: Output::default(),
        }
    }

    /// Goes on as far as `blocks` reach. `None`: what is missing is in `needs`.
    fn run(&mut self, blocks: &impl Blocks, needs: &mut Needs) -> Option<bool> {
        loop {
            if self.output.rows.len() >= self.window.rows_max {
                return Some(false);
            }
            // All runs first: what they miss is loaded together.
            let mut settled = true;
            for run in &mut self.runs {
                settled &= run.settle(blocks, self.window, needs);
            }
            if !settled {
                return None;
            }
            let memory = self.memory;
            let memory_key = memory.key(self.memory_at);
            let mut least: Option<(usize, &[u8])> = None;
            for (i, run) in self.runs.iter().enumerate() {
                if let Some(key) = run.key()
                    && least.is_none_or(|(_, other)| key < other)
                {
                    least = Some((i, key));
                }
            }
            let (key, from_memory, newest) = match (memory_key, least) {
                (None, None) => return Some(true),
                (Some(key), None) => (key, true, 0),
                (Some(ours), Some((_, key))) if ours <= key => (ours, true, 0),
                (_, Some((i, key))) => (key, false, i),
            };
            let value = if from_memory {
                memory.value(self.memory_at)
            } else {
                self.runs[newest].value()
            };
            if let Some(value) = value {
                self.output.push(key, value);
            }
            // Which runs stand at this key is found before any moves: the key may lie in the buffer of one of them.
            self.at_key.clear();
            let standing = self
                .runs
                .iter()
                .enumerate()
                .filter(|(_, run)| run.key() == Some(key));
            self.at_key.extend(standing.map(|(i, _)| i));
            if from_memory {
                self.memory_at += 1;
            }
            for &i in &self.at_key {
                self.runs[i].advance(self.window);
            }
        }
    }
}

/// Scans what is in memory; `None` if that is not enough.
pub(crate) fn scan(
    version: &Version,
    window: &Window,
    memory: &MemoryRows,
    blocks: &impl Blocks,
) -> Option<ScanRows> {
    let mut merge = Merge::new(version, window, memory);
    let done = merge.run(blocks, &mut Needs::default())?;
    Some(merge.output.finish(done))
}

/// Finishes a scan that was cold.
pub(crate) async fn fetch_scan(context: Arc<Context>, scan: ColdScan) -> Result<ScanRows> {
    let mut fetched = Fetched::new(context);
    let mut merge = Merge::new(&scan.version, &scan.window, &scan.memory);
    loop {
        let mut needs = Needs::default();
        if let Some(done) = merge.run(&fetched, &mut needs) {
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
