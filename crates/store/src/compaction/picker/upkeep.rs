//! Jobs that only save space: files that can go as they are, and files of which most is waste.
use std::sync::Arc;

use super::{Action, CompactionJob, Reason, Tree};
use crate::key;
use crate::version::VersionFile;

impl Tree<'_> {
    /// Files of which nothing can be seen any more. They are taken out without being read.
    pub(super) fn invisible(&self) -> Option<CompactionJob> {
        None
    }

    /// A file of which more than half is waste. Only while nothing else is going on: there is no hurry.
    pub(super) fn upkeep(&self) -> Option<CompactionJob> {
        if !self.around.leisure || !self.around.running.is_empty() {
            return None;
        }
        let levels = self.version.levels.iter().enumerate();
        levels
            .flat_map(|(level, files)| {
                let ahead = if level == 0 { self.around.ahead } else { 0 };
                files.iter().skip(ahead).map(move |file| (level, file))
            })
            .find_map(|(level, file)| self.rewritten(level, file))
    }

    fn rewritten(&self, level: usize, file: &Arc<VersionFile>) -> Option<CompactionJob> {
        if is_mostly_clipped(file) {
            return Some(self.in_place(level, file, Reason::Clip));
        }
        None
    }

    /// Writes a file anew where it is, without what need not be kept.
    fn in_place(&self, level: usize, file: &Arc<VersionFile>, reason: Reason) -> CompactionJob {
        CompactionJob {
            runs: vec![vec![file.clone()]],
            output_level: level as u8,
            drop_tombstones: self.nothing_older(std::iter::once(file), level),
            action: Action::Merge,
            reason,
            file_bytes_target: match level {
                0 => u64::MAX,
                _ => self.options.file_bytes_target,
            },
        }
    }
}

/// Whether the clip leaves less than half of the key groups between the file's first and last key.
fn is_mostly_clipped(file: &VersionFile) -> bool {
    let start = key::group(&file.file.smallest).unwrap_or(0);
    let end = key::last_group_below(&file.file.upper);
    let all = u32::from(end.saturating_sub(start)) + 1;
    let seen = u32::from(
        end.min(file.clip.end)
            .saturating_sub(start.max(file.clip.start)),
    ) + 1;
    seen * 2 < all
}
