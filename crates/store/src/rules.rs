//! What the options of a table mean to those who merge and read its rows.
//!
//! A compaction may meet rows of a table that nobody has described to it, or whose fold it does not know: then operands are
//! kept as they are, and nothing expires.
use std::sync::Arc;

use crate::TableId;
use crate::fold::{Fold, Folds};
use crate::options::{KeyPart, Merge, TableOptions};

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
            prefix: options.prefix.clone(),
            prefix_shape: options.prefix_shape(),
        }
    }

    /// Whether a row of this time has expired at `now_ms`.
    #[inline]
    pub(crate) fn expired(&self, time_ms: Option<i64>, now_ms: i64) -> bool {
        match (self.ttl_ms, time_ms) {
            (Some(ttl), Some(time)) => time.saturating_add_unsigned(ttl) <= now_ms,
            _ => false,
        }
    }

    /// Whether reads at `now_ms` pass over a row of this time.
    #[inline]
    pub(crate) fn hides(&self, time_ms: Option<i64>, now_ms: i64) -> bool {
        !self.show_expired && self.expired(time_ms, now_ms)
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
