//! A raw table: rows of bytes, one group of layers per key group, and the time to live of its rows.
//!
//! A row that has expired is not shown (unless the table shows such rows), and is removed while the table is written to: every write looks at
//! a few rows, one key group after the other. Rows of states that typed handles will take over wait here; of those nothing expires
//! until the handle knows how.

use aquifer_store::{KeyGroupRange, ScanRows, TableOptions};

use super::group::Group;
use super::rows::SweptTo;
use crate::StateError;
use crate::backend::check_group;
use crate::ttl::TtlRule;

/// Rows that one write looks at in a table with a TTL.
const ROWS_PER_CLEANUP: usize = 2;
/// Key groups that one clean-up goes on to at most, however few rows they have.
const GROUPS_PER_CLEANUP: usize = 4;

/// See the module.
pub(super) struct RawTable {
    pub(super) groups: Vec<Group>,
    range: KeyGroupRange,
    ordered: bool,
    ttl: Option<RawTtl>,
    sweep: (usize, SweptTo),
}

/// When rows of a table expire.
#[derive(Clone, Copy)]
pub(super) struct RawTtl {
    rule: TtlRule,
    /// Reads show rows that have expired and were not removed yet.
    shows_expired: bool,
    /// Time is the table's event time, not the clock.
    pub(super) by_event_time: bool,
}

impl RawTtl {
    /// As the options of a table say; none if nothing expires.
    pub(super) fn of(options: &TableOptions) -> Option<Self> {
        Some(Self {
            rule: TtlRule {
                ttl_ms: options.ttl_ms?,
                untimed_as_ms: options.untimed_as_ms,
            },
            shows_expired: options.show_expired,
            by_event_time: options.event_time,
        })
    }

    /// Whether a row of this time is hidden at `now_ms`. Before there is a time nothing is.
    pub(super) fn hides(self, time_ms: Option<i64>, now_ms: Option<i64>) -> bool {
        !self.shows_expired && self.expired(time_ms, now_ms)
    }

    /// Whether a row of this time has expired at `now_ms`.
    pub(super) fn expired(self, time_ms: Option<i64>, now_ms: Option<i64>) -> bool {
        now_ms.is_some_and(|now_ms| self.rule.expired(time_ms, now_ms))
    }
}

impl RawTable {
    pub(super) fn new(range: KeyGroupRange, ordered: bool) -> Self {
        let groups = (range.start..=range.end)
            .map(|_| Group::new(ordered))
            .collect();
        Self {
            groups,
            range,
            ordered,
            ttl: None,
            sweep: (0, SweptTo::default()),
        }
    }

    /// A new version of the program may scan what it did not scan before, or the other way round.
    pub(super) fn reorder(&mut self, ordered: bool) {
        if self.ordered != ordered {
            self.ordered = ordered;
            for group in &mut self.groups {
                *group = group.reordered(ordered);
            }
        }
    }

    pub(super) fn set_ttl(&mut self, ttl: Option<RawTtl>) {
        self.ttl = ttl;
    }

    pub(super) fn ttl(&self) -> Option<RawTtl> {
        self.ttl
    }

    #[inline]
    pub(super) fn group(&self, group: u16) -> Result<&Group, StateError> {
        match self
            .groups
            .get(usize::from(group.wrapping_sub(self.range.start)))
        {
            Some(found) => Ok(found),
            None => Err(not_ours(self.range, group)),
        }
    }

    #[inline]
    pub(super) fn group_mut(&mut self, group: u16) -> Result<&mut Group, StateError> {
        match self
            .groups
            .get_mut(usize::from(group.wrapping_sub(self.range.start)))
        {
            Some(found) => Ok(found),
            None => Err(not_ours(self.range, group)),
        }
    }

    /// See [`Group::scan`]; without rows that are hidden at `now_ms`.
    pub(super) fn scan(
        &self,
        group: u16,
        (prefix, from, until): (&[u8], &[u8], Option<&[u8]>),
        rows_max: usize,
        now_ms: Option<i64>,
    ) -> Result<ScanRows, StateError> {
        let hidden = |time_ms| self.ttl.is_some_and(|ttl| ttl.hides(time_ms, now_ms));
        Ok(self
            .group(group)?
            .scan(prefix, from, until, rows_max, &hidden))
    }

    /// Looks at a few rows and removes those that have expired.
    pub(super) fn clean(&mut self, now_ms: Option<i64>) {
        let Some(ttl) = self.ttl.filter(|_| now_ms.is_some()) else {
            return;
        };
        let (at, swept) = &mut self.sweep;
        let mut left = ROWS_PER_CLEANUP;
        for _ in 0..GROUPS_PER_CLEANUP {
            let Some(group) = self.groups.get_mut(*at) else {
                *at = 0;
                continue;
            };
            let looked_at = group.expire_some(swept, left, &|time_ms| ttl.expired(time_ms, now_ms));
            left -= looked_at.min(left);
            if swept.is_start() {
                *at += 1;
            }
            if left == 0 {
                break;
            }
        }
    }
}

#[cold]
fn not_ours(range: KeyGroupRange, group: u16) -> StateError {
    match check_group(range, group) {
        Err(error) => error,
        Ok(()) => StateError::Usage(format!(
            "key group {group} is not among those of a heap table"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(ordered: bool, options: &TableOptions) -> RawTable {
        let mut table = RawTable::new(KeyGroupRange { start: 3, end: 5 }, ordered);
        table.set_ttl(RawTtl::of(options));
        table
    }

    fn rows(table: &RawTable) -> usize {
        let count = |group| {
            let all = (&b""[..], &b""[..], None);
            table.scan(group, all, usize::MAX, None).unwrap().rows.len()
        };
        (3..=5).map(count).sum()
    }

    #[test]
    fn expired_rows_are_hidden_and_go_while_others_are_written() {
        for ordered in [false, true] {
            let mut table = table(
                ordered,
                &TableOptions {
                    ttl_ms: Some(100),
                    ..TableOptions::default()
                },
            );
            for i in 0..600u16 {
                let time = if i < 500 { 0 } else { 50 };
                let group = table.group_mut(3 + i % 3).unwrap();
                group.put(&i.to_be_bytes(), b"v", Some(time));
            }
            let hidden = table.scan(3, (b"", b"", None), 1000, Some(100)).unwrap();
            assert_eq!(hidden.rows.len(), 33, "those of 500 and later");
            assert_eq!(rows(&table), 600, "nothing was removed by reading");
            for _ in 0..600 {
                table.clean(Some(100));
            }
            assert_eq!(rows(&table), 100);
            assert_eq!(
                table.groups.iter().map(Group::bytes).sum::<u64>(),
                100 * (2 + 1 + 8)
            );
            table.clean(None);
            assert!(
                !table.ttl().unwrap().hides(Some(0), None),
                "there is no time yet"
            );
        }
    }

    #[test]
    fn a_table_may_show_what_has_expired_and_other_groups_are_refused() {
        let mut table = table(
            false,
            &TableOptions {
                ttl_ms: Some(100),
                show_expired: true,
                ..TableOptions::default()
            },
        );
        table.group_mut(3).unwrap().put(b"k", b"v", Some(0));
        let shown = table.scan(3, (b"", b"", None), 10, Some(1000)).unwrap();
        assert_eq!(shown.rows.len(), 1);
        for group in [0, 2, 6, u16::MAX] {
            let refused = table.group(group).map(|_| ()).unwrap_err();
            assert!(refused.to_string().contains("3..=5"), "{refused}");
            assert!(table.group_mut(group).is_err());
        }
    }
}
