//! Jobs that only save space: files that can go as they are, and files of which most is waste.
//!
//! *Gone as they are* are files that nothing can be seen of: a newer range tombstone covers all of it, or all its rows have expired and
//! nothing older lies below that they hide. *Waste* is what a clip hides, what are tombstones, and what has expired; a file of which it
//! makes more than half is written anew. Expiry is judged from the oldest and newest time in a file, as if the others lay evenly between,
//! and by the table of the file that keeps its rows longest; the rewriting itself looks at every row.
use std::sync::Arc;

use super::{Action, CompactionJob, Reason, Tree};
use crate::TableId;
use crate::key;
use crate::version::VersionFile;

/// Tombstones alone make a file worth rewriting only if it has at least so many rows.
const ENTRIES_MIN: u64 = 256;

impl<'a> Tree<'a> {
    /// All files with their levels, without those that belong to the next checkpoint.
    fn placed(&self) -> impl Iterator<Item = (usize, &'a Arc<VersionFile>)> + use<'a> {
        let ahead = self.around.ahead;
        let version = self.version;
        version
            .levels
            .iter()
            .enumerate()
            .flat_map(move |(level, files)| {
                let skipped = if level == 0 { ahead } else { 0 };
                files.iter().skip(skipped).map(move |file| (level, file))
            })
    }

    /// Files of which nothing can be seen any more. They are taken out without being read.
    pub(super) fn invisible(&self) -> Option<CompactionJob> {
        let hiding: Vec<_> = self
            .placed()
            .filter(|(_, file)| file.file.range_tombstones > 0)
            .collect();
        let may_expire = self.around.rules.dropping_expired().next().is_some();
        if hiding.is_empty() && !may_expire {
            return None;
        }
        let gone: Vec<_> = self
            .placed()
            .filter(|(level, file)| {
                let file = *file;
                !self.is_busy(file)
                    && (self.is_covered(*level, file, &hiding)
                        || (may_expire
                            && self.has_expired(file)
                            && self.nothing_older(std::iter::once(file), *level)))
            })
            .map(|(_, file)| file.clone())
            .collect();
        (!gone.is_empty()).then(|| CompactionJob {
            runs: vec![gone],
            output_level: 0,
            drop_tombstones: false,
            action: Action::Drop,
            reason: Reason::Nothing,
            file_bytes_target: 0,
        })
    }

    /// Whether a range tombstone of a newer file covers everything of `file` that counts.
    fn is_covered(
        &self,
        level: usize,
        file: &Arc<VersionFile>,
        hiding: &[(usize, &Arc<VersionFile>)],
    ) -> bool {
        hiding.iter().any(|&(hiding_level, other)| {
            let newer = match (hiding_level, level) {
                // L0 lies newest first.
                (0, 0) => {
                    let place = |of: &Arc<VersionFile>| {
                        self.newest().iter().position(|file| Arc::ptr_eq(file, of))
                    };
                    place(other) < place(file)
                }
                (above, below) => above < below,
            };
            // Ranges count within the clip of their file only. Those that are not in memory are not worth a request.
            newer
                && other.lower <= file.lower
                && file.upper <= other.upper
                && (other.file.range_tombstones())
                    .and_then(|ranges| ranges.covering(&file.lower))
                    .is_some_and(|(_, end)| file.upper <= *end)
        })
    }

    /// Whether all rows have expired, as far as memory knows what is in the file. Rows of tables that take operands are not judged:
    /// newer operands may have kept them alive.
    fn has_expired(&self, file: &VersionFile) -> bool {
        let Some(tables) = file.file.tables() else {
            return false;
        };
        let newest = file.file.times_ms.map(|(_, newest)| newest);
        let has_untimed = file.file.untimed > 0;
        (newest.is_some() || has_untimed)
            && tables.iter().all(|(table, _)| {
                let table = TableId(*table);
                let rules = self.around.rules.of(table);
                let now_ms = self.around.clock.of(table, rules);
                !rules.merges
                    && rules.drops_expired()
                    && newest.is_none_or(|newest| rules.expired(Some(newest), now_ms))
                    && (!has_untimed || rules.expired(None, now_ms))
            })
    }

    /// A file of which more than half is waste. Only while nothing else is going on: there is no hurry.
    pub(super) fn upkeep(&self) -> Option<CompactionJob> {
        if !self.around.leisure || !self.around.running.is_empty() {
            return None;
        }
        self.placed()
            .find_map(|(level, file)| self.rewritten(level, file))
    }

    fn rewritten(&self, level: usize, file: &Arc<VersionFile>) -> Option<CompactionJob> {
        if is_mostly_clipped(file) {
            return Some(self.in_place(level, file, Reason::Clip));
        }
        let mostly_tombstones = file.file.entries >= ENTRIES_MIN
            && file.file.tombstones.saturating_mul(2) > file.file.entries;
        if mostly_tombstones {
            if self.nothing_older(std::iter::once(file), level) {
                return Some(self.in_place(level, file, Reason::Tombstones));
            }
            // Down to where they can meet what they hide. L0 goes down as a whole.
            if level > 0 {
                let run = vec![file.clone()];
                return Some(self.merge_down(vec![run], level + 1, Reason::Tombstones));
            }
        }
        self.is_old(file)
            .then(|| self.in_place(level, file, Reason::Age))
    }

    /// Whether more than half of the rows have probably expired, or some have and the oldest is very old.
    fn is_old(&self, file: &VersionFile) -> bool {
        if self.around.ageless.contains(&file.file.id()) {
            return false;
        }
        let Some(limits) = self.limits_of(file) else {
            return false;
        };
        let mut gone = u128::from(limits.untimed_gone);
        let mut very_old = false;
        if let (Some(cut), Some((oldest, newest))) = (limits.cut_ms, file.file.times_ms)
            && oldest <= cut
        {
            very_old = (limits.periodic_ms)
                .and_then(|period| oldest.checked_add_unsigned(period))
                .is_some_and(|end| end <= limits.now_ms);
            let all = newest.abs_diff(oldest).saturating_add(1);
            let expired = cut.min(newest).abs_diff(oldest).saturating_add(1);
            let timed = (file.file.entries)
                .saturating_sub(file.file.tombstones)
                .saturating_sub(file.file.untimed);
            gone += u128::from(timed) * u128::from(expired) / u128::from(all);
        }
        very_old || gone * 2 > u128::from(file.file.entries)
    }

    /// What has expired in a file, judged by the table with a TTL that keeps its rows longest, of those that have rows in it as far as
    /// that is known. `None` if nothing can expire.
    fn limits_of(&self, file: &VersionFile) -> Option<Limits> {
        let held = file.file.tables();
        let rows_of = |table: TableId| {
            let held = held?;
            let at = held.binary_search_by_key(&table.0, |(id, _)| *id).ok()?;
            held.get(at).map(|(_, rows)| rows)
        };
        let mut limits: Option<Limits> = None;
        for (table, rules) in self.around.rules.dropping_expired() {
            let rows = rows_of(table);
            let Some(ttl_ms) = rules.ttl_ms.filter(|_| held.is_none() || rows.is_some()) else {
                continue;
            };
            let now_ms = self.around.clock.of(table, rules);
            // Nothing counts as older than the table says.
            let cut_ms = now_ms.checked_sub_unsigned(ttl_ms);
            let cut_ms = cut_ms.filter(|cut| rules.untimed_as_ms.is_none_or(|least| least <= *cut));
            let limits = limits.get_or_insert(Limits {
                cut_ms,
                now_ms,
                periodic_ms: None,
                untimed_gone: 0,
            });
            limits.cut_ms = limits.cut_ms.min(cut_ms);
            limits.now_ms = limits.now_ms.min(now_ms);
            // The table that asks for it most often decides.
            let own = rules
                .cleanup
                .periodic_ms
                .map(|own| (own > 0).then_some(own));
            let periods = [own.unwrap_or(self.options.periodic_ms), limits.periodic_ms];
            limits.periodic_ms = periods.into_iter().flatten().min();
            if rules.expired(None, now_ms) {
                let rows = rows.map_or(0, |rows| rows.rows.saturating_sub(rows.tombstones));
                limits.untimed_gone = limits.untimed_gone.saturating_add(rows);
            }
        }
        limits.map(|limits| Limits {
            untimed_gone: limits.untimed_gone.min(file.file.untimed),
            ..limits
        })
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

/// What has expired in a file.
struct Limits {
    /// Rows of this time and older; `None` if there are none so old.
    cut_ms: Option<i64>,
    now_ms: i64,
    /// How old rows may become before their file is rewritten.
    periodic_ms: Option<u64>,
    /// Rows without a time that count as written so long ago, at most.
    untimed_gone: u64,
}

/// Whether the clip leaves less than half of the key groups between the file's first and last key.
fn is_mostly_clipped(file: &VersionFile) -> bool {
    let start = key::group(&file.file.smallest).unwrap_or(0);
    // The bound itself may already belong to the next group, which makes the file look a little larger.
    let end = key::group(&file.file.upper).unwrap_or(u16::MAX);
    let all = u32::from(end.saturating_sub(start)) + 1;
    let first = start.max(file.clip.start);
    let last = end.min(file.clip.end);
    let seen = u32::from(last.saturating_sub(first)) + 1;
    seen * 2 < all
}
