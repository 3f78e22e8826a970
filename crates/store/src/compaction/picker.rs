//! What to compact next: a pure function of the version and the options.
//!
//! Leveled: when L0 has too many files, all of them are merged with what they overlap in L1; when a deeper level is too
//! large, one of its files is merged into the next. A file that overlaps nothing below, and of which nothing is clipped
//! away, just moves down.
use std::sync::Arc;

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
        let upper_runs = newest.iter().map(|file| vec![file.clone()]).collect();
        return Some(job(version, options, upper_runs, 1));
    }
    let mut limit = options.l1_bytes_max;
    // The deepest level has no limit.
    for level in 1..LEVELS - 1 {
        let files = version.levels.get(level)?;
        let bytes: u64 = files.iter().map(|file| file.file.size_bytes).sum();
        if bytes > limit {
            let file = cheapest(version, level)?;
            return Some(job(version, options, vec![vec![file]], level + 1));
        }
        limit = limit.saturating_mul(LEVEL_GROWTH);
    }
    None
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
    let lower = runs
        .iter()
        .flatten()
        .map(|file| file.lower.clone())
        .min()
        .unwrap_or_default();
    let upper = runs
        .iter()
        .flatten()
        .map(|file| file.upper.clone())
        .max()
        .unwrap_or_default();
    let below = version.overlapping(output_level, &lower, Some(&upper));
    // Small files are rewritten even if they overlap nothing, or they would pile up.
    let trivial_move = below.is_empty()
        && runs.len() == 1
        && runs.iter().flatten().all(|file| {
            !file.is_clipped() && file.file.size_bytes >= options.file_bytes_target / 2
        });
    let drop_tombstones = (output_level + 1..LEVELS)
        .all(|level| version.overlapping(level, &lower, Some(&upper)).is_empty());
    if !below.is_empty() {
        runs.push(below.to_vec());
    }
    CompactionJob {
        runs,
        output_level: output_level as u8,
        drop_tombstones,
        trivial_move,
        file_bytes_target: options.file_bytes_target,
    }
}
