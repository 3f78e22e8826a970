//! The merge of memtables and runs of files, newest first, into rows of the answer.
use std::cmp::Ordering;

use super::memory::MemoryRows;
use super::output::Output;
use super::run::FileRun;
use super::{ScanRows, Window};
use crate::error::Result;
use crate::key::KEY_HEADER_BYTES;
use crate::merge::Merging;
use crate::read::{Blocks, Needs};
use crate::row::{Content, RowKind, RowRef};
use crate::rules::Rules;
use crate::version::Version;

/// Runs that are begun together when a scan comes to the first of them: waiting for one after the other would take longer than to read some
/// for nothing.
const BEGUN_TOGETHER_MIN: usize = 2;

/// A scan under way.
pub(super) struct Merge<'a> {
    window: &'a Window,
    memory: &'a MemoryRows,
    memory_at: usize,
    runs: Vec<FileRun<'a>>,
    /// Runs that begin after the start of the window and have not been looked at, the first of them last: a scan that ends before they
    /// begin reads nothing of them.
    ahead: Vec<usize>,
    /// So many of them are begun together: the more, the further the scan has come.
    begun_together: usize,
    /// Runs that stand at the key in hand.
    at_key: Vec<usize>,
    merging: Merging,
    output: Output,
}

impl<'a> Merge<'a> {
    pub(super) fn new(version: &'a Version, window: &'a Window, memory: &'a MemoryRows) -> Self {
        let (lower, upper) = (window.lower.as_slice(), window.upper.as_deref());
        let [newest, ..] = &version.levels;
        let newest = newest
            .chunks(1)
            .filter(|one| one.iter().all(|file| file.overlaps(lower, upper)));
        let levels =
            (1..version.levels.len()).map(|level| version.overlapping(level, lower, upper));
        let runs: Vec<FileRun<'_>> = newest
            .chain(levels)
            .filter(|files| files.iter().any(|file| window.reads(file)))
            .map(|files| FileRun::new(files, window))
            .collect();
        if let Some(hash) = window.prefix_hash {
            // All at once, as gets do it.
            let lines = runs.iter().map(|run| run.touch_filter(hash));
            std::hint::black_box(lines.fold(0, |all, line| all ^ line));
        }
        let mut ahead: Vec<usize> = (0..runs.len()).filter(|&i| runs[i].is_ahead()).collect();
        ahead.sort_unstable_by(|&a, &b| runs[b].begins_at().cmp(runs[a].begins_at()));
        Self {
            window,
            memory,
            memory_at: 0,
            runs,
            ahead,
            begun_together: BEGUN_TOGETHER_MIN,
            at_key: Vec::new(),
            merging: Merging::default(),
            output: Output::with_room(window.rows_max),
        }
    }

    /// The rows so far; `done` says that there are no more.
    pub(super) fn finish(self, done: bool) -> ScanRows {
        self.output.finish(done)
    }

    /// Goes on as far as `blocks` reach. `None`: what is missing is in `needs`.
    pub(super) fn run(&mut self, blocks: &impl Blocks, needs: &mut Needs) -> Result<Option<bool>> {
        loop {
            if self.output.is_full(self.window.rows_max) {
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
            if let Some(only) = self.only_run()
                && self.put_out_run(only)
            {
                continue;
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
            if let Some(&next) = self.ahead.last()
                && least.is_none_or(|key| self.runs[next].begins_at() <= key)
            {
                let first = self.ahead.len().saturating_sub(self.begun_together);
                for run in self.ahead.drain(first..) {
                    self.runs[run].begin();
                }
                self.begun_together *= 2;
                continue;
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

impl Merge<'_> {
    /// The run whose rows are all that is left and depend on nothing newer, if there is one: as in most small scans.
    fn only_run(&self) -> Option<usize> {
        let memory_is_done = self.memory.key(self.memory_at).is_none();
        if !memory_is_done || !self.memory.ranges.is_empty() || !self.ahead.is_empty() {
            return None;
        }
        let mut standing = (0..self.runs.len()).filter(|&i| self.runs[i].key().is_some());
        let only = standing.next().filter(|_| standing.next().is_none())?;
        let newer = self.runs.get(..only)?;
        newer.iter().all(|run| !run.is_ranged()).then_some(only)
    }

    /// Puts out rows of a run one after the other, as long as they are in its block. Returns whether there was any.
    fn put_out_run(&mut self, only: usize) -> bool {
        let (window, output) = (self.window, &mut self.output);
        let Some(run) = self.runs.get_mut(only) else {
            return false;
        };
        let mut any = false;
        while !output.is_full(window.rows_max)
            && let Some(key) = run.key()
            && let Some(row) = run.settled_row()
        {
            match row.kind {
                RowKind::Tombstone => {}
                RowKind::Value => {
                    if !window.rules.hides(row.time_ms, window.now_ms) {
                        output.push(user_key(key), row.value, row.time_ms);
                    }
                }
                RowKind::Operands => break,
            }
            run.advance(window);
            any = true;
        }
        any
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
                output.push(user_key(key), newest.value, newest.time_ms);
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
                output.push(user_key(key), &value, time_ms);
            }
        }
    }
    Ok(())
}

fn user_key(whole: &[u8]) -> &[u8] {
    whole.get(KEY_HEADER_BYTES..).unwrap_or_default()
}
