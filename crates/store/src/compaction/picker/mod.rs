//! What to compact next: a pure function of the version, of what is being compacted already, and of the options.
//!
//! Picks are made in this order:
//!
//! 1. Files that can go without being read: all their rows have expired, or a newer range tombstone covers them ([`upkeep`]).
//! 2. L0 ([`l0`]). As long as its files are small beside the level below, neighbours of similar age and size are merged within L0,
//!    so that frequent checkpoints do not rewrite that level each time; when they weigh enough, or are too many, all of L0 goes down.
//! 3. A deeper level that is larger than its target ([`levels`]) hands its cheapest file down. A file that overlaps nothing below,
//!    and of which nothing is clipped away, just moves.
//! 4. If nothing else is going on: files of which most is waste, through clips, tombstones or age ([`upkeep`]).
//!
//! Several compactions may run at once. What always holds: no file is the input of two, the outputs of two never overlap in one
//! level, and whatever is older than a job's inputs stays older than its outputs. So tombstones may be dropped on the word of the
//! version at the time of the pick: data only ever moves down, and what is on its way is still seen in its old place.
mod l0;
mod levels;
#[cfg(test)]
mod tests;
mod upkeep;

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

pub(crate) use self::l0::depth as l0_depth;
use self::levels::Targets;
use crate::expiry::ExpiryClock;
use crate::options::StoreOptions;
use crate::rules::TableRules;
use crate::sst::file::FileId;
use crate::version::{LEVELS, Version, VersionFile};

/// When levels are too full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CompactionOptions {
    /// Sorted runs in L0 that start a compaction.
    pub(crate) l0_files_max: usize,
    /// Size at which an output file is closed.
    pub(crate) file_bytes_target: u64,
    /// Bytes of the first level below L0 at most; each deeper level holds ten times as many.
    pub(crate) level_bytes_base: u64,
    /// The deepest level decides the sizes of the others.
    pub(crate) dynamic_levels: bool,
    /// Age at which files with expired rows are rewritten.
    pub(crate) periodic_ms: Option<u64>,
}

impl From<&StoreOptions> for CompactionOptions {
    fn from(options: &StoreOptions) -> Self {
        Self {
            l0_files_max: options.l0_files_max.max(1),
            file_bytes_target: options.file_bytes_target.max(1),
            level_bytes_base: options.level_bytes_base.max(1),
            dynamic_levels: options.dynamic_levels,
            periodic_ms: options.periodic_compaction_ms,
        }
    }
}

/// What is done with the inputs of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// They are merged into new files.
    Merge,
    /// They are put into the output level as they are.
    Move,
    /// They are taken out, and nothing takes their place.
    Drop,
}

/// Why a job was picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Too many runs in L0.
    L0,
    /// A level is larger than its target.
    LevelFull,
    /// Nothing in the files can be seen any more.
    Nothing,
    /// Most of a file is hidden by its clip.
    Clip,
    /// Most of a file are tombstones.
    Tombstones,
    /// Another process has picked it.
    Remote,
    /// Most of a file has expired, or it is old and some of it has.
    Age,
}

/// Files to be merged into one level.
#[derive(Clone)]
pub(crate) struct CompactionJob {
    /// Sorted runs, newest first; the files of a run are in key order.
    pub(crate) runs: Vec<Vec<Arc<VersionFile>>>,
    pub(crate) output_level: u8,
    /// Nothing older than the inputs can hold a key of theirs, so tombstones have nothing left to hide.
    pub(crate) drop_tombstones: bool,
    pub(crate) action: Action,
    pub(crate) reason: Reason,
    pub(crate) file_bytes_target: u64,
}

impl CompactionJob {
    pub(crate) fn inputs(&self) -> Vec<Arc<VersionFile>> {
        self.runs.concat()
    }

    /// Bytes of all inputs, whatever their clips hide.
    pub(crate) fn input_bytes(&self) -> u64 {
        self.runs.iter().map(|run| bytes(run)).sum()
    }
}

/// What else a pick depends on.
#[derive(Default)]
pub(crate) struct Surroundings<'a> {
    /// Jobs under way.
    pub(crate) running: Vec<&'a CompactionJob>,
    /// So many of the newest files in L0 belong to the next checkpoint and must not be merged with older ones yet.
    pub(crate) ahead: usize,
    /// By which now rows expire.
    pub(crate) clock: ExpiryClock,
    /// What the tables' options mean.
    pub(crate) rules: TableRules,
    /// Files that did not become younger when they were rewritten for their age.
    pub(crate) ageless: BTreeSet<FileId>,
    /// Whether there is time for jobs that only save space.
    pub(crate) leisure: bool,
}

/// The most pressing compaction that does not get in the way of those under way, if any.
pub(crate) fn pick(
    version: &Version,
    options: &CompactionOptions,
    around: &Surroundings<'_>,
) -> Option<CompactionJob> {
    let tree = Tree::new(version, options, around);
    tree.invisible()
        .or_else(|| tree.l0_job())
        .or_else(|| tree.level_job())
        .or_else(|| tree.upkeep())
}

/// A version as the picks see it.
struct Tree<'a> {
    version: &'a Version,
    options: &'a CompactionOptions,
    around: &'a Surroundings<'a>,
    targets: Targets,
    /// Addresses of the files that are being compacted.
    busy: BTreeSet<usize>,
}

impl<'a> Tree<'a> {
    fn new(
        version: &'a Version,
        options: &'a CompactionOptions,
        around: &'a Surroundings<'a>,
    ) -> Self {
        let inputs = around
            .running
            .iter()
            .flat_map(|job| job.runs.iter().flatten());
        Self {
            version,
            options,
            around,
            targets: Targets::of(version, options),
            busy: inputs.map(address).collect(),
        }
    }

    fn is_busy(&self, file: &Arc<VersionFile>) -> bool {
        self.busy.contains(&address(file))
    }

    /// L0 without what belongs to the next checkpoint.
    fn newest(&self) -> &'a [Arc<VersionFile>] {
        let [newest, ..] = &self.version.levels;
        newest.get(self.around.ahead..).unwrap_or_default()
    }

    /// Whether the job can run beside those under way.
    fn is_free(&self, job: &CompactionJob) -> bool {
        if job.runs.iter().flatten().any(|file| self.is_busy(file)) {
            return false;
        }
        let (lower, upper) = span(job.runs.iter().flatten());
        !self.around.running.iter().any(|other| {
            let (other_lower, other_upper) = span(other.runs.iter().flatten());
            other.output_level == job.output_level && lower < other_upper && other_lower < upper
        })
    }

    /// Whether no level below `level` has a file in the range.
    fn is_bottom(&self, level: usize, lower: &[u8], upper: &[u8]) -> bool {
        (level + 1..LEVELS).all(|below| {
            let files = self.version.overlapping(below, lower, Some(upper));
            files.is_empty()
        })
    }

    /// Merges runs of the levels above into `output_level`, with what they overlap there.
    fn merge_down(
        &self,
        mut runs: Vec<Vec<Arc<VersionFile>>>,
        output_level: usize,
        reason: Reason,
    ) -> CompactionJob {
        let (lower, upper) = span(runs.iter().flatten());
        let below = self.version.overlapping(output_level, &lower, Some(&upper));
        // Small files are rewritten even if they overlap nothing, or they would pile up.
        let just_moves = below.is_empty()
            && runs.len() == 1
            && runs.iter().flatten().all(|file| {
                !file.is_clipped() && file.file.size_bytes >= self.options.file_bytes_target / 2
            });
        if !below.is_empty() {
            runs.push(below.to_vec());
        }
        // The files of the output level may reach farther than those above, and their tombstones may hide what lies deeper.
        let (lower, upper) = span(runs.iter().flatten());
        CompactionJob {
            runs,
            output_level: output_level as u8,
            drop_tombstones: self.is_bottom(output_level, &lower, &upper),
            action: if just_moves {
                Action::Move
            } else {
                Action::Merge
            },
            reason,
            file_bytes_target: self.options.file_bytes_target,
        }
    }
}

fn address(file: &Arc<VersionFile>) -> usize {
    Arc::as_ptr(file).addr()
}

fn bytes(files: &[Arc<VersionFile>]) -> u64 {
    files.iter().map(|file| file.file.size_bytes).sum()
}

/// First key of some files, and the first above all of theirs.
fn span<'a>(files: impl Iterator<Item = &'a Arc<VersionFile>> + Clone) -> (Bytes, Bytes) {
    let lower = files.clone().map(|file| &file.lower).min();
    let upper = files.map(|file| &file.upper).max();
    (
        lower.cloned().unwrap_or_default(),
        upper.cloned().unwrap_or_default(),
    )
}
