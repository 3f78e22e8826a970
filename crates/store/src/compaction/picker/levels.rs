//! How large each level may be, and what a level that is too large hands down.
//!
//! With *dynamic* sizes the deepest level is whatever it is, each level above may hold a tenth of the one below, and levels that would
//! be smaller than a tenth of the base size are not used at all: L0 goes right into the *base level*. So a tree of a few hundred
//! megabytes is L0 and one level, nothing is rewritten on its way through empty levels, and at most about a tenth of the space is taken by
//! rows that newer ones hide. With *static* sizes levels are filled from L1 on.
use super::{CompactionJob, CompactionOptions, Reason, Tree, bytes};
use crate::version::{LEVELS, Version};

const GROWTH: u64 = 10;

/// What levels are allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Targets {
    /// The level that L0 goes down to.
    pub(super) base: usize,
    /// Bytes by level; the deepest has no limit, and levels above the base are not used.
    pub(super) bytes: [u64; LEVELS],
}

impl Targets {
    pub(super) fn of(version: &Version, options: &CompactionOptions) -> Self {
        let mut sizes = [0u64; LEVELS];
        for (size, files) in sizes.iter_mut().zip(&version.levels) {
            *size = bytes(files);
        }
        match options.dynamic_levels {
            true => Self::dynamic(&sizes, options.level_bytes_base),
            false => Self::fixed(1, options.level_bytes_base),
        }
    }

    fn fixed(base: usize, base_bytes: u64) -> Self {
        let mut limits = [u64::MAX; LEVELS];
        let mut limit = base_bytes;
        for allowed in &mut limits[base..LEVELS - 1] {
            *allowed = limit;
            limit = limit.saturating_mul(GROWTH);
        }
        Self {
            base,
            bytes: limits,
        }
    }

    fn dynamic(sizes: &[u64; LEVELS], base_bytes: u64) -> Self {
        let deepest = LEVELS - 1;
        let Some(first) = (1..LEVELS).find(|&level| sizes[level] > 0) else {
            return Self::fixed(deepest, base_bytes);
        };
        // What the first level in use may hold, going up from the largest at the bottom.
        let mut allowed = sizes[1..].iter().copied().max().unwrap_or(0);
        for _ in first..deepest {
            allowed /= GROWTH;
        }
        let mut base = first;
        while base > 1 && allowed > base_bytes {
            base -= 1;
            allowed /= GROWTH;
        }
        let mut targets = Self::fixed(base, base_bytes);
        // No level may be smaller than the first: it would hand down all the time.
        for level in base..deepest {
            targets.bytes[level] = allowed.max(base_bytes);
            allowed = allowed.saturating_mul(GROWTH);
        }
        targets
    }
}

impl Tree<'_> {
    /// One file of the level that is fullest beside its target.
    pub(super) fn level_job(&self) -> Option<CompactionJob> {
        let mut full: Vec<(u64, usize)> = Vec::new();
        for (level, files) in self.version.levels.iter().enumerate().skip(1) {
            let target = self.targets.bytes[level];
            // What is on its way down already is not counted.
            let left = files.iter().filter(|file| !self.is_busy(file));
            let size: u64 = left.map(|file| file.file.size_bytes).sum();
            if level < LEVELS - 1 && size > target {
                let score = u128::from(size) * 1000 / u128::from(target.max(1));
                full.push((u64::try_from(score).unwrap_or(u64::MAX), level));
            }
        }
        full.sort_unstable_by(|a, b| b.cmp(a));
        full.into_iter()
            .find_map(|(_, level)| self.hand_down(level))
    }

    /// The file that drags the fewest bytes of the next level along, for its size.
    fn hand_down(&self, level: usize) -> Option<CompactionJob> {
        let mut candidates: Vec<_> = self.version.levels[level]
            .iter()
            .filter(|file| !self.is_busy(file))
            .map(|file| {
                let below = (self.version).overlapping(level + 1, &file.lower, Some(&file.upper));
                let cost = bytes(below).saturating_mul(1000) / file.file.size_bytes.max(1);
                (cost, file)
            })
            .collect();
        candidates.sort_by_key(|(cost, _)| *cost);
        candidates.into_iter().find_map(|(_, file)| {
            let job = self.merge_down(vec![vec![file.clone()]], level + 1, Reason::LevelFull);
            self.is_free(&job).then_some(job)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn dynamic(sizes: [u64; LEVELS]) -> Targets {
        Targets::dynamic(&sizes.map(|mib| mib * MIB), 256 * MIB)
    }

    #[test]
    fn static_levels_grow_tenfold_and_the_last_is_free() {
        let targets = Targets::fixed(1, 5);
        assert_eq!(targets.bytes[1..4], [5, 50, 500]);
        assert_eq!(targets.bytes[LEVELS - 1], u64::MAX);
    }

    #[test]
    fn a_small_tree_uses_the_deepest_level_alone() {
        assert_eq!(dynamic([0; LEVELS]).base, 6);
        assert_eq!(dynamic([0, 0, 0, 0, 0, 0, 200]).base, 6);
        assert_eq!(dynamic([900, 0, 0, 0, 0, 0, 256]).base, 6);
    }

    #[test]
    fn levels_come_into_use_one_by_one() {
        let targets = dynamic([0, 0, 0, 0, 0, 0, 600]);
        assert_eq!((targets.base, targets.bytes[5]), (5, 256 * MIB));
        let targets = dynamic([0, 0, 0, 0, 0, 256, 5_000]);
        assert_eq!((targets.base, targets.bytes[5]), (4, 500 * MIB));
        assert_eq!(targets.bytes[4], 256 * MIB);
        let targets = dynamic([0, 0, 0, 0, 100, 400, 40_000]);
        assert_eq!(targets.base, 3);
        assert_eq!(targets.bytes[4..6], [400 * MIB, 4_000 * MIB]);
    }

    #[test]
    fn a_level_that_holds_files_is_never_above_the_base() {
        for first in 1..LEVELS {
            let mut sizes = [0; LEVELS];
            sizes[first] = 3;
            sizes[6] = sizes[6].max(1);
            assert!(dynamic(sizes).base <= first);
        }
    }
}
