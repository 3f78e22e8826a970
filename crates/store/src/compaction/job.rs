//! Does a compaction: merges sorted runs into new files of one level.
//!
//! The content is kept exactly: of every key the newest row, with operands folded into what they meet, without rows outside
//! of the clips or expired, and without tombstones where nothing below could come to light. Nothing is installed here; a failed job leaves the version as it was, and
//! removes the files it had finished.
use std::cmp::Ordering;
use std::sync::Arc;

use super::input::RunInput;
use super::pace::Pace;
use super::picker::CompactionJob;
use super::split::split;
use crate::TableId;
use crate::context::Context;
use crate::error::Result;
use crate::executor::COMPACTION;
use crate::expiry::ExpiryClock;
use crate::io::ReadClass;
use crate::key;
use crate::merge::Merging;
use crate::planted::{self, Bug};
use crate::row::{RowKind, RowRef, is_rooted};
use crate::rules::{Rules, TableRules};
use crate::sst::new_file::NewFile;
use crate::sst::ranges::RangeTombstones;
use crate::sst::reader::load_parts;
use crate::sst::writer::SstWriter;
use crate::teamwork::in_parts;
use crate::version::VersionFile;

/// What a compaction may take for granted.
pub(crate) struct Terms {
    pub(crate) rules: TableRules,
    /// Rows that have expired by now are dropped.
    pub(crate) clock: ExpiryClock,
    /// Operands that are not among the inputs, but newer, were written at this time or later. Rows of tables with operands are
    /// dropped only if they had expired by then: until then the operands may have kept them alive. The least over all tables, so that
    /// one that lags behind in event time lets the others keep rows for longer than they had to, but none is dropped too early.
    pub(crate) operands_since_ms: i64,
}

impl Terms {
    fn dropped_if_expired_by(&self, table: TableId, rules: &Rules) -> i64 {
        if !rules.drops_expired() {
            return i64::MIN;
        }
        let now_ms = self.clock.of(table, rules);
        match rules.merges {
            true => now_ms.min(self.operands_since_ms),
            false => now_ms,
        }
    }
}

/// Runs on a background thread, with the help of others if the job is large.
pub(crate) fn run(
    context: &Arc<Context>,
    job: &CompactionJob,
    terms: &Arc<Terms>,
) -> Result<Vec<NewFile>> {
    let parts = split(context, job);
    let terms = terms.clone();
    let made = in_parts(
        context,
        COMPACTION,
        parts.len(),
        move |context, number| match parts.get(number) {
            Some(part) => run_part(context, part, &terms),
            None => Ok(Vec::new()),
        },
    );
    NewFile::all_or_none(made)
}

fn run_part(context: &Arc<Context>, job: &CompactionJob, terms: &Terms) -> Result<Vec<NewFile>> {
    let mut outputs = Vec::new();
    let result = merge(context, job, terms, &mut outputs);
    if result.is_err() {
        outputs.iter().for_each(|output| output.file.retire());
    }
    result.map(|()| outputs)
}

fn merge(
    context: &Arc<Context>,
    job: &CompactionJob,
    terms: &Terms,
    outputs: &mut Vec<NewFile>,
) -> Result<()> {
    let mut runs = Vec::with_capacity(job.runs.len());
    let mut ranges = Vec::with_capacity(job.runs.len());
    for files in &job.runs {
        ranges.push(ranges_of(context, files)?);
        runs.push(RunInput::new(context, files.clone())?);
    }
    let mut outputs = Outputs::new(context, job, terms, &ranges, outputs);
    let mut at_key = Vec::with_capacity(runs.len());
    let mut merging = Merging::default();
    let mut pace = Pace::new(context);
    while let Some(key) = stand_at_least(&runs, &mut at_key) {
        let table = key::table(key).unwrap_or(TableId(u16::MAX));
        let rules = terms.rules.of(table);
        // What a range tombstone of a newer run covers does not count.
        let hidden_from = (ranges.iter())
            .position(|ranges| !ranges.is_empty() && ranges.covers(key))
            .map_or(runs.len(), |by| {
                by + 1 + usize::from(planted::is(Bug::RangeSparesNext))
            });
        let counting = at_key.partition_point(|&i| i < hidden_from);
        let is_open = !job.drop_tombstones && hidden_from == runs.len();
        let at_key_counting = at_key.get(..counting).unwrap_or_default();
        let expired_by = terms.dropped_if_expired_by(table, rules);
        if let Some(row) = merge_rows(
            &runs,
            at_key_counting,
            is_open,
            expired_by,
            rules,
            &mut merging,
        )? && (is_open && !planted::is(Bug::TombstonesDropped) || row.kind != RowKind::Tombstone)
        {
            let hot = at_key.first().is_some_and(|&newest| runs[newest].is_hot());
            outputs.add(key, row, hot)?;
        }
        for &i in &at_key {
            runs[i].advance()?;
        }
        pace.written(outputs.bytes())?;
        outputs.close_if_full()?;
    }
    outputs.finish()
}

/// The range tombstones of a run that count.
fn ranges_of(context: &Arc<Context>, files: &[Arc<VersionFile>]) -> Result<RangeTombstones> {
    let mut all = Vec::new();
    for file in files.iter().filter(|f| f.file.range_tombstones > 0) {
        if file.file.range_tombstones().is_none() {
            let end = [file.file.end_part()];
            let load = load_parts(context, &file.file, &end, ReadClass::Background);
            context.block_on(load)??;
        }
        all.extend(
            file.range_tombstones()
                .iter()
                .flat_map(|r| r.iter().cloned()),
        );
    }
    Ok(RangeTombstones::union(all))
}

/// The files that a job writes, one after the other.
struct Outputs<'a> {
    context: &'a Arc<Context>,
    job: &'a CompactionJob,
    terms: &'a Terms,
    /// Range tombstones that older files still need.
    ranges: RangeTombstones,
    writer: Option<SstWriter>,
    /// First key that the file being written may hold.
    start: Vec<u8>,
    last_key: Vec<u8>,
    keep_bytes: usize,
    finished_bytes: u64,
    done: &'a mut Vec<NewFile>,
}

impl<'a> Outputs<'a> {
    fn new(
        context: &'a Arc<Context>,
        job: &'a CompactionJob,
        terms: &'a Terms,
        ranges: &[RangeTombstones],
        done: &'a mut Vec<NewFile>,
    ) -> Self {
        let ranges = match job.drop_tombstones {
            true => RangeTombstones::new(),
            false => RangeTombstones::union(ranges.iter().flat_map(|r| r.iter().cloned())),
        };
        let capacity = context.env.block_cache.capacity_bytes();
        Self {
            context,
            job,
            terms,
            ranges,
            writer: None,
            start: Vec::new(),
            last_key: Vec::new(),
            keep_bytes: usize::try_from(capacity / 2).unwrap_or(usize::MAX),
            finished_bytes: 0,
            done,
        }
    }

    fn writer(&mut self) -> &mut SstWriter {
        self.writer.get_or_insert_with(|| {
            SstWriter::new(self.context, self.keep_bytes)
                .at_level(self.job.output_level)
                .with_tables(self.terms.rules.clone())
        })
    }

    fn add(&mut self, key: &[u8], row: RowRef<'_>, hot: bool) -> Result<()> {
        self.last_key.clear();
        self.last_key.extend_from_slice(key);
        let hash = key::hash(key).unwrap_or_default();
        self.writer().add(key, hash, row, hot)
    }

    fn bytes(&self) -> u64 {
        self.finished_bytes + self.writer.as_ref().map_or(0, SstWriter::bytes)
    }

    fn close_if_full(&mut self) -> Result<()> {
        let full = |writer: &mut SstWriter| writer.bytes() >= self.job.file_bytes_target;
        let Some(writer) = self.writer.take_if(full) else {
            return Ok(());
        };
        // The next file starts with the least key above the last row: range tombstones are cut there.
        self.last_key.push(0);
        let end = std::mem::take(&mut self.last_key);
        let ranges = self.ranges.clip(&self.start, Some(&end));
        self.start = end;
        self.close(writer, &ranges)
    }

    fn finish(mut self) -> Result<()> {
        let ranges = self.ranges.clip(&self.start, None);
        if !ranges.is_empty() {
            self.writer();
        }
        match self.writer.take() {
            Some(writer) => self.close(writer, &ranges),
            None => Ok(()),
        }
    }

    fn close(&mut self, mut writer: SstWriter, ranges: &RangeTombstones) -> Result<()> {
        for (start, end) in ranges.iter() {
            writer.add_range_tombstone(start.clone(), end.clone());
        }
        self.finished_bytes += writer.bytes();
        if let Some(output) = writer.finish()? {
            self.keep_bytes = self.keep_bytes.saturating_sub(output.kept_bytes());
            self.done.push(output);
        }
        Ok(())
    }
}

/// The least key that any run stands at; `at_key` gets all runs that do, newest first.
fn stand_at_least<'a>(runs: &'a [RunInput], at_key: &mut Vec<usize>) -> Option<&'a [u8]> {
    at_key.clear();
    let mut least: Option<&[u8]> = None;
    for (i, run) in runs.iter().enumerate() {
        let Some(key) = run.key() else { continue };
        match least.map_or(Ordering::Less, |other| key.cmp(other)) {
            Ordering::Less => {
                least = Some(key);
                at_key.clear();
                at_key.push(i);
            }
            Ordering::Equal => at_key.push(i),
            Ordering::Greater => {}
        }
    }
    least
}

/// What is kept of one key's rows; `is_open` if there may be older ones elsewhere. What has expired by `expired_by` is not.
fn merge_rows<'a>(
    runs: &'a [RunInput],
    at_key: &[usize],
    is_open: bool,
    mut expired_by: i64,
    rules: &Rules,
    merging: &'a mut Merging,
) -> Result<Option<RowRef<'a>>> {
    let mut rows = at_key.iter().map(|&i| &runs[i]);
    let newest = match planted::is(Bug::OlderRowWins) {
        true => rows.next_back(),
        false => rows.next(),
    };
    let Some(newest) = newest.and_then(RunInput::row) else {
        return Ok(None);
    };
    let adds_to_older = |row: &RowRef<'_>| row.kind == RowKind::Operands && !is_rooted(row.value);
    if planted::is(Bug::DroppedEarly) {
        expired_by = expired_by.saturating_add(5000);
    }
    let kept = match newest.kind {
        RowKind::Tombstone => newest,
        RowKind::Value if rules.expired(newest.time_ms, expired_by) => RowRef::plain(None),
        RowKind::Value => newest,
        RowKind::Operands => {
            let mut chain = vec![newest];
            while chain.last().is_some_and(adds_to_older)
                && let Some(older) = rows.next()
            {
                chain.extend(older.open_row()?);
            }
            merging.start(is_open);
            for row in chain.iter().rev() {
                merging.add(&row.open()?, rules);
            }
            merging.expire(rules, expired_by);
            return Ok(merging.row());
        }
    };
    Ok(Some(kept))
}
