//! Compactions drop what has expired.
//!
//! Whether a row has expired is decided by the options of its table at the moment of the compaction: the worker writes them where
//! compactions see them. A table may have compactions keep what has expired. Operands that are not yet part of a value stay until a compaction has joined them.

use std::ffi::CStr;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ::rocksdb::CompactionDecision;
use ::rocksdb::compaction_filter::CompactionFilter;
use ::rocksdb::compaction_filter_factory::{CompactionFilterContext, CompactionFilterFactory};
use aquifer_store::{Clock, TableOptions};

use super::row;
use crate::ttl::TtlRule;

/// No event time is known. None can be as early.
const NO_TIME: i64 = i64::MIN;

/// When rows of a table expire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) ttl: TtlRule,
    pub(super) event_time: bool,
}

impl Rule {
    /// None if they never do.
    pub(super) fn of(options: &TableOptions) -> Option<Self> {
        let ttl_ms = options.ttl_ms?;
        Some(Self {
            ttl: TtlRule {
                ttl_ms,
                untimed_as_ms: options.untimed_as_ms,
            },
            event_time: options.event_time,
        })
    }
}

/// What compactions of a table drop, and how eagerly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dropping {
    rule: Rule,
    /// Rows after which the clock is asked again, if the table says so.
    ask_after: Option<u64>,
    /// After how long files are rewritten, if the table says so.
    periodic_ms: Option<u64>,
}

impl Dropping {
    /// None if compactions keep every row.
    pub(super) fn of(options: &TableOptions) -> Option<Self> {
        let rule = Rule::of(options).filter(|_| options.cleanup.in_compactions)?;
        Some(Self {
            rule,
            ask_after: options.cleanup.query_time_after_rows,
            periodic_ms: options.cleanup.periodic_ms,
        })
    }

    /// After how long files are rewritten, in seconds; `configured` if the table does not say. 0: never.
    pub(super) fn periodic_seconds(&self, configured: u64) -> u64 {
        self.periodic_ms
            .map_or(configured, |own_ms| own_ms.div_ceil(1000))
    }
}

/// What compactions of one table know.
#[derive(Debug)]
pub(super) struct Expiry {
    dropping: Mutex<Option<Dropping>>,
    event_time_ms: AtomicI64,
}

impl Expiry {
    /// Nothing expires until somebody says so: the program has not registered the table yet.
    pub(super) fn unknown() -> Arc<Self> {
        Arc::new(Self {
            dropping: Mutex::new(None),
            event_time_ms: AtomicI64::new(NO_TIME),
        })
    }

    pub(super) fn set(&self, dropping: Option<Dropping>) {
        *(self.dropping.lock()).unwrap_or_else(PoisonError::into_inner) = dropping;
    }

    pub(super) fn advance(&self, event_time_ms: i64) {
        self.event_time_ms
            .fetch_max(event_time_ms, Ordering::Relaxed);
    }

    fn dropping(&self) -> Option<Dropping> {
        *(self.dropping.lock()).unwrap_or_else(PoisonError::into_inner)
    }

    /// What counts as the present for a rule; None if that is not known.
    fn now_ms(&self, rule: Rule, clock: &Clock) -> Option<i64> {
        match rule.event_time {
            false => Some(clock()),
            true => Some(self.event_time_ms.load(Ordering::Relaxed)).filter(|now| *now != NO_TIME),
        }
    }
}

/// Makes a filter for each compaction of one table.
pub(super) struct ExpiryFilters {
    pub(super) expiry: Arc<Expiry>,
    pub(super) clock: Clock,
    /// Rows after which the clock is asked again, where the table does not say.
    pub(super) ask_after: u64,
}

impl CompactionFilterFactory for ExpiryFilters {
    type Filter = ExpiryFilter;

    fn create(&mut self, _context: CompactionFilterContext) -> ExpiryFilter {
        let dropping = self.expiry.dropping();
        let own = dropping.and_then(|dropping| dropping.ask_after);
        ExpiryFilter {
            rule: dropping.map(|dropping| dropping.rule),
            expiry: Arc::clone(&self.expiry),
            clock: Arc::clone(&self.clock),
            ask_after: own.unwrap_or(self.ask_after).max(1),
            now_ms: None,
            left: 0,
        }
    }

    fn name(&self) -> &CStr {
        c"aquifer-expiry"
    }
}

/// The filter of one compaction.
pub(super) struct ExpiryFilter {
    rule: Option<Rule>,
    expiry: Arc<Expiry>,
    clock: Clock,
    ask_after: u64,
    now_ms: Option<i64>,
    /// Rows before the clock is asked again.
    left: u64,
}

impl ExpiryFilter {
    fn drops(&mut self, stored: &[u8]) -> bool {
        let Some(rule) = self.rule else {
            return false;
        };
        if self.left == 0 {
            self.left = self.ask_after;
            self.now_ms = self.expiry.now_ms(rule, &self.clock);
        }
        self.left -= 1;
        // What is damaged is for reads to tell.
        let (Some(now_ms), Some((_, time_ms))) = (self.now_ms, row::parsed(stored)) else {
            return false;
        };
        rule.ttl.expired(time_ms, now_ms)
    }
}

impl CompactionFilter for ExpiryFilter {
    fn filter(&mut self, _level: u32, _key: &[u8], value: &[u8]) -> CompactionDecision {
        match self.drops(value) {
            true => CompactionDecision::Remove,
            false => CompactionDecision::Keep,
        }
    }

    fn name(&self) -> &CStr {
        c"aquifer-expiry"
    }
}

#[cfg(test)]
mod tests {
    use aquifer_store::ExpiryCleanup;

    use super::*;

    fn filter(expiry: &Arc<Expiry>, clock: &Arc<AtomicI64>, ask_after: u64) -> ExpiryFilter {
        let (expiry, clock) = (Arc::clone(expiry), Arc::clone(clock));
        let mut filters = ExpiryFilters {
            expiry,
            clock: Arc::new(move || clock.load(Ordering::Relaxed)),
            ask_after,
        };
        filters.create(CompactionFilterContext {
            is_full_compaction: false,
            is_manual_compaction: false,
        })
    }

    fn stored(time_ms: Option<i64>) -> Vec<u8> {
        let mut out = Vec::new();
        row::value_into(b"v", time_ms, &mut out);
        out
    }

    fn options(event_time: bool) -> TableOptions {
        TableOptions {
            ttl_ms: Some(100),
            untimed_as_ms: Some(50),
            event_time,
            ..TableOptions::default()
        }
    }

    #[test]
    fn the_clock_is_asked_once_for_so_many_rows() {
        let (expiry, clock) = (Expiry::unknown(), Arc::new(AtomicI64::new(1_000)));
        assert!(!filter(&expiry, &clock, 1).drops(&stored(Some(0))));
        expiry.set(Dropping::of(&options(false)));
        let mut filter = filter(&expiry, &clock, 2);
        assert!(filter.drops(&stored(Some(900))));
        clock.store(2_000, Ordering::Relaxed);
        assert!(!filter.drops(&stored(Some(901))), "the old time counts yet");
        assert!(filter.drops(&stored(Some(901))));
        assert!(filter.drops(&stored(None)));
        assert!(!filter.drops(b""), "damage stays");
    }

    #[test]
    fn event_time_decides_where_it_is_asked_for() {
        let (expiry, clock) = (Expiry::unknown(), Arc::new(AtomicI64::new(i64::MAX)));
        expiry.set(Dropping::of(&options(true)));
        assert!(!filter(&expiry, &clock, 1).drops(&stored(Some(0))));
        expiry.advance(160);
        expiry.advance(20);
        assert!(filter(&expiry, &clock, 1).drops(&stored(Some(60))));
        assert!(!filter(&expiry, &clock, 1).drops(&stored(Some(61))));
        assert!(filter(&expiry, &clock, 1).drops(&stored(None)));
        expiry.set(None);
        assert!(!filter(&expiry, &clock, 1).drops(&stored(Some(60))));
    }

    #[test]
    fn a_table_says_how_its_rows_are_dropped() {
        let cleaned = |cleanup: ExpiryCleanup| TableOptions {
            cleanup,
            ..options(false)
        };
        let kept = cleaned(ExpiryCleanup {
            in_compactions: false,
            periodic_ms: Some(1),
            ..ExpiryCleanup::default()
        });
        assert!(Rule::of(&kept).is_some());
        assert_eq!(Dropping::of(&kept), None);
        let plain = Dropping::of(&options(false)).unwrap();
        assert_eq!(plain.periodic_seconds(77), 77);
        let own = cleaned(ExpiryCleanup {
            query_time_after_rows: Some(3),
            periodic_ms: Some(1001),
            ..ExpiryCleanup::default()
        });
        let own = Dropping::of(&own).unwrap();
        assert_eq!(own.periodic_seconds(77), 2);
        let (expiry, clock) = (Expiry::unknown(), Arc::new(AtomicI64::new(0)));
        expiry.set(Some(own));
        let mut filter = filter(&expiry, &clock, 1);
        assert!(!filter.drops(&stored(Some(900))));
        clock.store(1_000, Ordering::Relaxed);
        let dropped: Vec<bool> = (0..3).map(|_| filter.drops(&stored(Some(900)))).collect();
        assert_eq!(dropped, [false, false, true]);
    }
}
