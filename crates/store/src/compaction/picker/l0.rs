//! L0: which of its files form sorted runs, which runs to merge with each other, and when to hand them all down.
//!
//! Files of L0 lie newest first and may overlap. The files that one flush built side by side do not overlap and count as one run:
//! a read looks into at most one of them. So runs are counted by *depth*: a file lies one deeper than the deepest newer file it
//! overlaps. The runs down to some depth are always newer than everything below them wherever they overlap it, so they can be merged
//! without anything older coming in between.
use std::sync::Arc;

use super::{Action, CompactionJob, Reason, Tree, bytes, span};
use crate::version::VersionFile;

/// L0 goes down when it has this many times the runs that start a compaction, however light they are,
const CROWDED_FACTOR: usize = 3;
/// or this many times the files, in however few runs,
const FILES_FACTOR: usize = 4;
/// or when it weighs at least one part in so many of what it overlaps below.
const SHARE: u64 = 4;

type Run = Vec<Arc<VersionFile>>;

/// How many sorted runs there are: the most files a read may have to look into.
pub(crate) fn depth(newest_first: &[Arc<VersionFile>]) -> usize {
    depths(newest_first).into_iter().max().map_or(0, |d| d + 1)
}

fn depths(newest_first: &[Arc<VersionFile>]) -> Vec<usize> {
    let mut depths: Vec<usize> = Vec::with_capacity(newest_first.len());
    for (i, file) in newest_first.iter().enumerate() {
        let above = newest_first.iter().zip(&depths).take(i);
        let deepest = above
            .filter(|(newer, _)| newer.overlaps(&file.lower, Some(&file.upper)))
            .map(|(_, depth)| depth + 1)
            .max();
        depths.push(deepest.unwrap_or(0));
    }
    depths
}

/// The sorted runs, newest first, each in key order.
fn runs(newest_first: &[Arc<VersionFile>]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (file, depth) in newest_first.iter().zip(depths(newest_first)) {
        if runs.len() <= depth {
            runs.resize_with(depth + 1, Vec::new);
        }
        runs[depth].push(file.clone());
    }
    for run in &mut runs {
        run.sort_by(|a, b| a.lower.cmp(&b.lower));
    }
    runs
}

/// The newest runs, up to the first that outweighs those before it.
fn similar_in_age_and_size(runs: &[Run]) -> &[Run] {
    let mut sum = 0u64;
    let similar = runs.iter().take_while(|run| {
        let size = bytes(run);
        let similar = sum == 0 || size <= sum + sum / 2;
        sum += size;
        similar
    });
    let len = similar.count();
    runs.get(..len).unwrap_or_default()
}

impl Tree<'_> {
    pub(super) fn l0_job(&self) -> Option<CompactionJob> {
        let newest = self.newest();
        // What is newer than a compaction under way can be merged beside it; what is older must wait for it.
        let busy = newest.iter().position(|file| self.is_busy(file));
        let free = newest.get(..busy.unwrap_or(newest.len()))?;
        if free.len() < self.options.l0_files_max {
            return None;
        }
        let runs = runs(free);
        // What comes in the order of keys lies in one run, and would stay in L0 for ever.
        let many = free.len() >= self.options.l0_files_max.saturating_mul(FILES_FACTOR);
        if runs.len() < self.options.l0_files_max && !many {
            return None;
        }
        if busy.is_none()
            && let Some(job) = self.all_of_l0(&runs, many)
        {
            return Some(job);
        }
        let similar = similar_in_age_and_size(&runs);
        (similar.len() >= self.options.l0_files_max.max(2)).then(|| self.within_l0(similar))
    }

    /// All runs into the level below, if they weigh enough or are too many.
    fn all_of_l0(&self, runs: &[Run], many: bool) -> Option<CompactionJob> {
        let job = self.merge_down(runs.to_vec(), self.targets.base, Reason::L0);
        let dragged = job.runs.get(runs.len()).map_or(0, |dragged| bytes(dragged));
        let weight: u64 = runs.iter().map(|run| bytes(run)).sum();
        let crowded = runs.len() >= self.options.l0_files_max.saturating_mul(CROWDED_FACTOR);
        let due = crowded || many || weight.saturating_mul(SHARE) >= dragged;
        (due && self.is_free(&job)).then_some(job)
    }

    /// Merges the newest runs into one that takes their place.
    fn within_l0(&self, runs: &[Run]) -> CompactionJob {
        CompactionJob {
            drop_tombstones: self.nothing_older(runs.iter().flatten(), 0),
            runs: runs.to_vec(),
            output_level: 0,
            action: Action::Merge,
            reason: Reason::L0,
            // One file: every further one is looked at by every read.
            file_bytes_target: u64::MAX,
        }
    }

    /// Whether nothing outside of `files`, which lie in `level`, is older and overlaps them. What lies behind the newest of them in L0
    /// counts as older, which only keeps a tombstone longer than need be.
    pub(super) fn nothing_older<'f>(
        &self,
        files: impl Iterator<Item = &'f Arc<VersionFile>> + Clone,
        level: usize,
    ) -> bool {
        let (lower, upper) = span(files.clone());
        let mine = |other: &Arc<VersionFile>| files.clone().any(|file| Arc::ptr_eq(file, other));
        let in_l0 = level == 0
            && (self.newest().iter())
                .skip_while(|other| !mine(other))
                .any(|other| !mine(other) && other.overlaps(&lower, Some(&upper)));
        !in_l0 && self.is_bottom(level, &lower, &upper)
    }
}
