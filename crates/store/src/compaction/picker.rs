//! What to compact next: a pure function of the version and the options.
//!
//! Files gather in L0. As long as they are small beside L1, neighbours of similar age and size are merged within L0, so
//! that frequent checkpoints do not rewrite L1 each time; when they weigh enough, or are too many, all of L0 is merged
//! with what it overlaps in L1. When a deeper level is too large, one of its files is merged into the next. A file that
//! overlaps nothing below, and of which nothing is clipped away, just moves down.
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;

use crate::options::StoreOptions;
use crate::version::{LEVELS, Version, VersionFile};

/// When levels are too full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CompactionOptions {
    /// Files in L0 that start a compaction.
    pub(crate) l0_files_max: usize,
    /// Size at which an output file is closed.
    pub(crate) file_bytes_target: u64,
    /// Bytes of L1; each deeper level holds ten times as many.
    pub(crate) l1_bytes_max: u64,
}

const LEVEL_GROWTH: u64 = 10;
/// L0 goes down when it has this many times the files that start a compaction, however light they are,
const L0_CROWDED_FACTOR: usize = 3;
/// or when it weighs at least one part in so many of what it overlaps in L1.
const L0_SHARE: u64 = 4;
const L1_FILES: u64 = 4;

impl From<&StoreOptions> for CompactionOptions {
    fn from(options: &StoreOptions) -> Self {
        Self {
            l0_files_max: options.l0_files_max.max(1),
            file_bytes_target: options.file_bytes_target.max(1),
            l1_bytes_max: options.file_bytes_target.max(1).saturating_mul(L1_FILES),
        }
    }
}

/// Files to be merged into one level.
#[derive(Clone)]
pub(crate) struct CompactionJob {
    /// Sorted runs, newest first.
    pub(crate) runs: Vec<Vec<Arc<VersionFile>>>,
    pub(crate) output_level: u8,
    /// Nothing below the output level can hold a key of the inputs, so tombstones have nothing left to hide.
    pub(crate) drop_tombstones: bool,
    /// The inputs need not be rewritten, only put into the output level.
    pub(crate) trivial_move: bool,
    pub(crate) file_bytes_target: u64,
}

impl CompactionJob {
    pub(crate) fn inputs(&self) -> Vec<Arc<VersionFile>> {
        self.runs.concat()
    }
}

/// The most pressing compaction, if any.
pub(crate) fn pick(version: &Version, options: &CompactionOptions) -> Option<CompactionJob> {
    let [newest, ..] = &version.levels;
    if newest.len() >= options.l0_files_max {
        let into_l1 = job(version, options, one_run_each(newest), 1);
        let dragged = into_l1
            .runs
            .get(newest.len())
            .map(Vec::as_slice)
            .unwrap_or_default();
        let crowded = newest.len() >= options.l0_files_max.saturating_mul(L0_CROWDED_FACTOR);
        if crowded || bytes(newest).saturating_mul(L0_SHARE) >= bytes(dragged) {
            return Some(into_l1);
        }
        let similar = similar_in_age_and_size(newest);
        if similar.len() >= options.l0_files_max.max(2) {
            return Some(within_l0(version, newest, similar));
        }
    }
    let mut limit = options.l1_bytes_max;
    // The deepest level has no limit.
    for level in 1..LEVELS - 1 {
        if bytes(version.levels.get(level)?) > limit {
            let file = cheapest(version, level)?;
            return Some(job(version, options, vec![vec![file]], level + 1));
        }
        limit = limit.saturating_mul(LEVEL_GROWTH);
    }
    None
}

fn bytes(files: &[Arc<VersionFile>]) -> u64 {
    files.iter().map(|file| file.file.size_bytes).sum()
}

fn one_run_each(files: &[Arc<VersionFile>]) -> Vec<Vec<Arc<VersionFile>>> {
    files.iter().map(|file| vec![file.clone()]).collect()
}

/// The newest files of L0, up to the first that outweighs those before it.
fn similar_in_age_and_size(newest: &[Arc<VersionFile>]) -> &[Arc<VersionFile>] {
    let mut sum = 0u64;
    let similar = newest.iter().take_while(|file| {
        let size = file.file.size_bytes;
        let similar = sum == 0 || size <= sum + sum / 2;
        sum += size;
        similar
    });
    let len = similar.count();
    newest.get(..len).unwrap_or_default()
}

/// Merges neighbours in L0 into one file that takes their place.
fn within_l0(
    version: &Version,
    newest: &[Arc<VersionFile>],
    neighbours: &[Arc<VersionFile>],
) -> CompactionJob {
    let (lower, upper) = span(neighbours.iter());
    let older = newest.get(neighbours.len()..).unwrap_or_default();
    let hides_older = older.iter().any(|file| file.overlaps(&lower, Some(&upper)));
    CompactionJob {
        runs: one_run_each(neighbours),
        output_level: 0,
        drop_tombstones: !hides_older && is_bottom(version, 0, &lower, &upper),
        trivial_move: false,
        // Files of L0 are never split: each would count as a run of its own.
        file_bytes_target: u64::MAX,
    }
}

/// First key of some files, and the first above all of theirs.
fn span<'a>(files: impl Iterator<Item = &'a Arc<VersionFile>> + Clone) -> (Bytes, Bytes) {
    let lower = files.clone().map(|file| file.lower.clone()).min();
    let upper = files.map(|file| file.upper.clone()).max();
    (lower.unwrap_or_default(), upper.unwrap_or_default())
}

/// Whether no level below `level` has a file in the range.
fn is_bottom(version: &Version, level: usize, lower: &[u8], upper: &[u8]) -> bool {
    (level + 1..LEVELS).all(|below| version.overlapping(below, lower, Some(upper)).is_empty())
}

/// The file of a level that drags the fewest bytes of the next level along, for its size.
fn cheapest(version: &Version, level: usize) -> Option<Arc<VersionFile>> {
    let cost = |file: &VersionFile| {
        let below = version.overlapping(level + 1, &file.lower, Some(&file.upper));
        let dragged: u64 = below.iter().map(|file| file.file.size_bytes).sum();
        dragged.saturating_mul(1000) / file.file.size_bytes.max(1)
    };
    version
        .levels
        .get(level)?
        .iter()
        .min_by_key(|file| cost(file))
        .cloned()
}

fn job(
    version: &Version,
    options: &CompactionOptions,
    mut runs: Vec<Vec<Arc<VersionFile>>>,
    output_level: usize,
) -> CompactionJob {
    let (lower, upper) = span(runs.iter().flatten());
    let below = version.overlapping(output_level, &lower, Some(&upper));
    // Small files are rewritten even if they overlap nothing, or they would pile up.
    let trivial_move = below.is_empty()
        && runs.len() == 1
        && runs.iter().flatten().all(|file| {
            !file.is_clipped() && file.file.size_bytes >= options.file_bytes_target / 2
        });
    if !below.is_empty() {
        runs.push(below.to_vec());
    }
    // The files of the output level may reach farther than those above, and their tombstones may hide what lies deeper.
    let (lower, upper) = span(runs.iter().flatten());
    let drop_tombstones = is_bottom(version, output_level, &lower, &upper);
    CompactionJob {
        runs,
        output_level: output_level as u8,
        drop_tombstones,
        trivial_move,
        file_bytes_target: options.file_bytes_target,
    }
}
