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
use crate::TableId;
use crate::context::Context;
use crate::error::Result;
use crate::key;
use crate::merge::Merging;
use crate::row::{RowKind, RowRef, is_rooted};
use crate::rules::{Rules, TableRules};
use crate::sst::writer::{NewFile, SstWriter};

/// What a compaction may take for granted.
pub(crate) struct Terms {
    pub(crate) rules: TableRules,
    /// Rows that have expired by now are dropped.
    pub(crate) now_ms: i64,
    /// Operands that are not among the inputs, but newer, were written at this time or later. Rows of tables with operands are
    /// dropped only if they had expired by then: until then the operands may have kept them alive.
    pub(crate) operands_since_ms: i64,
}

impl Terms {
    fn dropped_if_expired_by(&self, rules: &Rules) -> i64 {
        match rules.merges {
            true => self.now_ms.min(self.operands_since_ms),
            false => self.now_ms,
        }
    }
}

/// Runs on a background thread.
pub(crate) fn run(
    context: &Arc<Context>,
    job: &CompactionJob,
    terms: &Terms,
) -> Result<Vec<NewFile>> {
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
    for files in &job.runs {
        runs.push(RunInput::new(context, files.clone())?);
    }
    let mut keep_bytes =
        usize::try_from(context.env.block_cache.capacity_bytes() / 2).unwrap_or(usize::MAX);
    let mut writer: Option<SstWriter> = None;
    let mut at_key = Vec::with_capacity(runs.len());
    let mut merging = Merging::default();
    let mut pace = Pace::new(context);
    let mut finished_bytes = 0;
    while let Some(key) = stand_at_least(&runs, &mut at_key) {
        let rules = terms.rules.of(key::table(key).unwrap_or(TableId(u16::MAX)));
        if let Some(row) = merge_rows(&runs, &at_key, job, terms, rules, &mut merging)? {
            let output = writer.get_or_insert_with(|| {
                SstWriter::new(context, keep_bytes)
                    .at_level(job.output_level)
                    .with_tables(terms.rules.clone())
            });
            let hash = key::hash(key).unwrap_or_default();
            let hot = at_key.first().is_some_and(|&newest| runs[newest].is_hot());
            output.add(key, hash, row, hot)?;
        }
        for &i in &at_key {
            runs[i].advance()?;
        }
        pace.written(finished_bytes + writer.as_ref().map_or(0, SstWriter::bytes))?;
        if let Some(full) = writer.take_if(|output| output.bytes() >= job.file_bytes_target) {
            finished_bytes += full.bytes();
            finish(full, &mut keep_bytes, outputs)?;
        }
    }
    if let Some(last) = writer {
        finish(last, &mut keep_bytes, outputs)?;
    }
    Ok(())
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

/// What is kept of one key's rows.
fn merge_rows<'a>(
    runs: &'a [RunInput],
    at_key: &[usize],
    job: &CompactionJob,
    terms: &Terms,
    rules: &Rules,
    merging: &'a mut Merging,
) -> Result<Option<RowRef<'a>>> {
    let mut rows = at_key.iter().map(|&i| &runs[i]);
    let Some(newest) = rows.next().and_then(RunInput::row) else {
        return Ok(None);
    };
    let adds_to_older = |row: &RowRef<'_>| row.kind == RowKind::Operands && !is_rooted(row.value);
    let expired_by = terms.dropped_if_expired_by(rules);
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
            merging.start(!job.drop_tombstones);
            for row in chain.iter().rev() {
                merging.add(&row.open()?, rules);
            }
            merging.expire(rules, expired_by);
            match merging.row() {
                Some(row) => row,
                None => return Ok(None),
            }
        }
    };
    let falls_out = kept.kind == RowKind::Tombstone && job.drop_tombstones;
    Ok((!falls_out).then_some(kept))
}

fn finish(writer: SstWriter, keep_bytes: &mut usize, outputs: &mut Vec<NewFile>) -> Result<()> {
    if let Some(output) = writer.finish()? {
        *keep_bytes = keep_bytes.saturating_sub(output.kept_bytes());
        outputs.push(output);
    }
    Ok(())
}
