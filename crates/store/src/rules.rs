//! What the options of a table mean to those who merge and read its rows.
//!
//! A compaction may meet rows of a table that nobody has described to it, or whose fold it does not know: then operands are
//! kept as they are, and nothing expires.
use std::sync::Arc;

use crate::TableId;
use crate::fold::{Fold, Folds};
use crate::options::{ExpiryCleanup, KeyPart, Merge, TableOptions};

/// How operands of a table become a value.
#[derive(Clone)]
pub(crate) enum MergeRule {
    Append,
    Fold(Arc<dyn Fold>),
    /// There are no operands, or nobody here knows their fold.
    Unknown,
}

/// What the options of one table mean.
#[derive(Clone)]
pub(crate) struct Rules {
    pub(crate) merge: MergeRule,
    /// The table takes operands, known or not.
    pub(crate) merges: bool,
    pub(crate) ttl_ms: Option<u64>,
    pub(crate) show_expired: bool,
    /// When rows without a time or with an earlier one count as written.
    pub(crate) untimed_as_ms: Option<i64>,
    /// Rows expire by the table's event time, not by the clock.
    pub(crate) event_time: bool,
    pub(crate) cleanup: ExpiryCleanup,
    pub(crate) prefix: Vec<KeyPart>,
    /// Identity of the prefix's shape: files say which shape their filters were made with.
    pub(crate) prefix_shape: u64,
}

impl Rules {
    /// Of a table that nobody has described.
    pub(crate) const UNKNOWN: Self = Self {
        merge: MergeRule::Unknown,
        merges: true,
        ttl_ms: None,
        show_expired: true,
        untimed_as_ms: None,
        event_time: false,
        cleanup: ExpiryCleanup {
            in_compactions: true,
            query_time_after_rows: None,
            periodic_ms: None,
            in_full_snapshots: false,
        },
        prefix: Vec::new(),
        prefix_shape: 0,
    };

    pub(crate) fn new(options: &TableOptions, folds: &Folds) -> Self {
        let merge = match &options.merge {
            Merge::None => MergeRule::Unknown,
            Merge::Append => MergeRule::Append,
            Merge::Fold(name) => folds.get(name).map_or(MergeRule::Unknown, MergeRule::Fold),
        };
        Self {
            merge,
            merges: options.merge != Merge::None,
            ttl_ms: options.ttl_ms,
            show_expired: options.show_expired,
            untimed_as_ms: options.untimed_as_ms,
            event_time: options.event_time,
            cleanup: options.cleanup,
            prefix: options.prefix.clone(),
            prefix_shape: options.prefix_shape(),
        }
    }

    /// Whether a row of this time has expired at `now_ms`. A row whose time and TTL add up to more than there is never does, not even
    /// at the end of time.
    #[inline]
    pub(crate) fn expired(&self, time_ms: Option<i64>, now_ms: i64) -> bool {
        let Some(ttl_ms) = self.ttl_ms else {
            return false;
        };
        self.counted(time_ms)
            .and_then(|time| time.checked_add_unsigned(ttl_ms))
            .is_some_and(|end| end <= now_ms)
    }

    /// Whether compactions drop rows of the table once they have expired.
    #[inline]
    pub(crate) fn drops_expired(&self) -> bool {
        self.ttl_ms.is_some() && self.cleanup.in_compactions
    }

    /// When a row of this time counts as written. Of two rows, that of the newest known time is the newest of both, so rows that are
    /// merged need to know nothing of this.
    #[inline]
    pub(crate) fn counted(&self, time_ms: Option<i64>) -> Option<i64> {
        time_ms.max(self.untimed_as_ms)
    }

    /// Whether reads at `now_ms` pass over a row of this time.
    #[inline]
    pub(crate) fn hides(&self, time_ms: Option<i64>, now_ms: i64) -> bool {
        !self.show_expired && self.expired(time_ms, now_ms)
    }

    /// Whether a row of this time had expired when an operand of that time came to it. The time of an operand is the present only where
    /// the clock counts: an event may lie any time ahead of its table's event time, so it ends nothing.
    #[inline]
    pub(crate) fn ended(&self, time_ms: Option<i64>, operand_ms: Option<i64>) -> bool {
        !self.event_time
            && (self.counted(operand_ms)).is_some_and(|then| self.expired(time_ms, then))
    }
}

/// The rules of many tables, by id. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct TableRules(Arc<Vec<Option<Arc<Rules>>>>);

impl TableRules {
    pub(crate) fn set(&mut self, table: TableId, rules: Arc<Rules>) {
        let all = Arc::make_mut(&mut self.0);
        let at = usize::from(table.0);
        if all.len() <= at {
            all.resize_with(at + 1, || None);
        }
        all[at] = Some(rules);
    }

    /// The tables whose rows compactions drop once they have expired.
    pub(crate) fn dropping_expired(&self) -> impl Iterator<Item = (TableId, &Rules)> {
        let all = self.0.iter().enumerate();
        all.filter_map(|(id, rules)| Some((TableId(id as u16), rules.as_deref()?)))
            .filter(|(_, rules)| rules.drops_expired())
    }

    pub(crate) fn of(&self, table: TableId) -> &Rules {
        match self.0.get(usize::from(table.0)) {
            Some(Some(rules)) => rules,
            _ => {
                static UNKNOWN: Rules = Rules::UNKNOWN;
                &UNKNOWN
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_ttl_never_ends_and_the_shortest_is_over_at_once() {
        let rules = |ttl_ms| Rules {
            ttl_ms,
            ..Rules::UNKNOWN
        };
        assert!(!rules(Some(u64::MAX)).expired(Some(0), i64::MAX - 1));
        assert!(!rules(Some(u64::MAX)).expired(Some(i64::MAX), i64::MAX - 1));
        assert!(rules(Some(0)).expired(Some(5), 5));
        assert!(!rules(Some(10)).expired(Some(5), 14));
        assert!(rules(Some(10)).expired(Some(5), 15));
        assert!(!rules(Some(10)).expired(None, i64::MAX));
        assert!(!rules(None).expired(Some(i64::MIN), i64::MAX));
    }

    /// A bounded input ends with the largest time there is. With a sum that stopped there, every row of a table with a long TTL
    /// had expired at that moment.
    #[test]
    fn the_end_of_time_ends_only_what_is_over_by_then() {
        let rules = |ttl_ms| Rules {
            ttl_ms: Some(ttl_ms),
            ..Rules::UNKNOWN
        };
        assert!(!rules(u64::MAX).expired(Some(0), i64::MAX));
        assert!(!rules(u64::MAX).expired(Some(i64::MAX), i64::MAX));
        assert!(!rules(1).expired(Some(i64::MAX), i64::MAX));
        assert!(!rules(11).expired(Some(i64::MAX - 10), i64::MAX));
        assert!(rules(10).expired(Some(i64::MAX - 10), i64::MAX));
        assert!(rules(1_000).expired(Some(1_700_000_000_000), i64::MAX));
        assert!(rules(u64::MAX).expired(Some(i64::MIN), i64::MAX));
        assert!(!rules(1).expired(Some(i64::MIN), i64::MIN));
    }

    #[test]
    fn rows_without_a_time_or_an_earlier_one_count_as_written_when_the_table_says() {
        let rules = Rules {
            ttl_ms: Some(10),
            untimed_as_ms: Some(100),
            ..Rules::UNKNOWN
        };
        assert!(!rules.expired(None, 109));
        assert!(rules.expired(None, 110));
        assert!(!rules.expired(Some(101), 110), "its own time counts");
        assert!(rules.expired(Some(101), 111));
        assert!(!rules.expired(Some(95), 109), "from before the TTL");
        assert!(rules.expired(Some(95), 110));
        let never = Rules {
            untimed_as_ms: None,
            ..rules
        };
        assert!(!never.expired(None, i64::MAX));
        assert!(never.expired(Some(95), 105));
        let off = Rules {
            ttl_ms: None,
            untimed_as_ms: Some(100),
            ..never
        };
        assert!(!off.expired(None, i64::MAX));
    }

    #[test]
    fn tables_that_nobody_described_keep_everything() {
        let mut tables = TableRules::default();
        let options = TableOptions {
            ttl_ms: Some(1),
            merge: Merge::Fold("never registered".into()),
            ..Default::default()
        };
        let rules = Rules::new(&options, &Folds::default());
        assert!(matches!(rules.merge, MergeRule::Unknown));
        tables.set(TableId(3), rules.into());
        assert_eq!(tables.of(TableId(3)).ttl_ms, Some(1));
        for other in [0, 4] {
            assert_eq!(tables.of(TableId(other)).ttl_ms, None);
        }
    }
}
