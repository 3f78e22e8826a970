//! Does a compaction: merges sorted runs into new files of one level.
//!
//! The content is kept exactly: of every key the newest row, without rows outside of the clips, and without tombstones
//! where nothing below could come to light. Nothing is installed here; a failed job leaves the version as it was, and
//! removes the files it had finished.
use std::sync::Arc;

use super::input::RunInput;
use super::pace::Pace;
use super::picker::CompactionJob;
use crate::context::Context;
use crate::error::Result;
use crate::key;
use crate::row::{RowKind, RowRef};
use crate::sst::writer::{NewFile, SstWriter};

/// Runs on a blocking thread.
pub(crate) fn run(context: &Arc<Context>, job: &CompactionJob) -> Result<Vec<NewFile>> {
    let mut outputs = Vec::new();
    let result = merge(context, job, &mut outputs);
    if result.is_err() {
        outputs.iter().for_each(|output| output.file.retire());
    }
    result.map(|()| outputs)
}

fn merge(context: &Arc<Context>, job: &CompactionJob, outputs: &mut Vec<NewFile>) -> Result<()> {
    let mut runs = Vec::with_capacity(job.runs.len());
    for files in &job.runs {
        runs.push(RunInput::new(context, files.clone())?);
    }
    let mut keep_bytes =
        usize::try_from(context.env.block_cache.capacity_bytes() / 2).unwrap_or(usize::MAX);
    let mut writer: Option<SstWriter> = None;
    let mut at_key = Vec::with_capacity(runs.len());
    let mut pace = Pace::new(context);
    let mut finished_bytes = 0;
    loop {
        let mut least: Option<(usize, &[u8])> = None;
        for (i, run) in runs.iter().enumerate() {
            if let Some(key) = run.key()
                && least.is_none_or(|(_, other)| key < other)
            {
                least = Some((i, key));
            }
        }
        let Some((newest, key)) = least else { break };
        let run = &runs[newest];
        let row = run.row().unwrap_or(RowRef::plain(None));
        if row.kind != RowKind::Tombstone || !job.drop_tombstones {
            let output = writer.get_or_insert_with(|| SstWriter::new(context, keep_bytes));
            let hash = key::hash(key).unwrap_or_default();
            output.add(key, hash, row, run.is_hot())?;
        }
        at_key.clear();
        at_key.extend(
            (runs.iter().enumerate())
                .filter(|(_, run)| run.key() == Some(key))
                .map(|(i, _)| i),
        );
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

fn finish(writer: SstWriter, keep_bytes: &mut usize, outputs: &mut Vec<NewFile>) -> Result<()> {
    if let Some(output) = writer.finish()? {
        *keep_bytes = keep_bytes.saturating_sub(output.kept_bytes());
        outputs.push(output);
    }
    Ok(())
}
