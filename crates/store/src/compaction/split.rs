//! Divides a large compaction into parts, each a range of keys, so that several threads can do it.
//!
//! The parts are jobs of the same kind over narrower files. Their outputs do not overlap and come in order, so all of them
//! together are what the whole job would have made. Cuts are made where files begin, which is known without reading anything.
use std::sync::Arc;

use bytes::Bytes;

use super::picker::CompactionJob;
use crate::context::Context;
use crate::version::VersionFile;

/// The parts of a job, in the order of their keys; the job itself if it is too small to be divided.
pub(crate) fn split(context: &Context, job: &CompactionJob) -> Vec<CompactionJob> {
    let bytes_min = context.options.compaction_part_bytes_min.max(1);
    let worth = usize::try_from(job.input_bytes() / bytes_min).unwrap_or(usize::MAX);
    let parts = worth.min(context.env.executor.threads().compaction);
    // Files of L0 may overlap, so one is better than two.
    if parts < 2 || job.output_level == 0 {
        return vec![job.clone()];
    }
    cut(job, &cuts(job, parts))
}

/// Keys that divide the job into at most so many parts of about the same weight; ascending.
pub(super) fn cuts(job: &CompactionJob, parts: usize) -> Vec<Bytes> {
    let files = || job.runs.iter().flatten();
    let mut starts: Vec<&Bytes> = files().map(|file| &file.lower).collect();
    starts.sort_unstable();
    starts.dedup();
    let total = job.input_bytes();
    // A file that begins before a cut and goes on behind it counts by half.
    let before = |cut: &Bytes| -> u64 {
        let halves = files().map(|file| match file.upper <= *cut {
            true => file.file.size_bytes,
            false if file.lower < *cut => file.file.size_bytes / 2,
            false => 0,
        });
        halves.sum()
    };
    let mut cuts: Vec<Bytes> = (1..parts as u64)
        .filter_map(|part| {
            let wanted = total / parts as u64 * part;
            let inner = starts.iter().skip(1);
            inner.min_by_key(|start| before(start).abs_diff(wanted))
        })
        .map(|&start| start.clone())
        .collect();
    cuts.sort_unstable();
    cuts.dedup();
    cuts
}

pub(super) fn cut(job: &CompactionJob, cuts: &[Bytes]) -> Vec<CompactionJob> {
    let part = |number: usize| {
        let from = number.checked_sub(1).and_then(|before| cuts.get(before));
        let until = cuts.get(number);
        let narrow = |run: &Vec<Arc<VersionFile>>| -> Vec<_> {
            let files = run.iter().filter_map(|file| file.narrowed(from, until));
            files.collect()
        };
        CompactionJob {
            runs: job.runs.iter().map(narrow).collect(),
            ..job.clone()
        }
    };
    (0..=cuts.len()).map(part).collect()
}
