//! Compactions drop what has expired.
//!
//! Whether a row has expired is decided by the options of its table at the moment of the compaction: the worker writes them where
//! compactions see them. Operands that are not yet part of a value stay until a compaction has joined them.

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

/// What compactions of one table know.
#[derive(Debug)]
pub(super) struct Expiry {
    rule: Mutex<Option<Rule>>,
    event_time_ms: AtomicI64,
}

impl Expiry {
    /// Nothing expires until somebody says so: the program has not registered the table yet.
    pub(super) fn unknown() -> Arc<Self> {
        Arc::new(Self {
            rule: Mutex::new(None),
            event_time_ms: AtomicI64::new(NO_TIME),
        })
    }

    pub(super) fn set(&self, rule: Option<Rule>) {
        *self.rule.lock().unwrap_or_else(PoisonError::into_inner) = rule;
    }

    pub(super) fn advance(&self, event_time_ms: i64) {
        self.event_time_ms
            .fetch_max(event_time_ms, Ordering::Relaxed);
    }

    fn rule(&self) -> Option<Rule> {
        *self.rule.lock().unwrap_or_else(PoisonError::into_inner)
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
    /// Rows after which the clock is asked again.
    pub(super) ask_after: u64,
}

impl CompactionFilterFactory for ExpiryFilters {
    type Filter = ExpiryFilter;

    fn create(&mut self, _context: CompactionFilterContext) -> ExpiryFilter {
        ExpiryFilter {
            rule: self.expiry.rule(),
            expiry: Arc::clone(&self.expiry),
            clock: Arc::clone(&self.clock),
            ask_after: self.ask_after.max(1),
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
    use super::*;

    fn filter(expiry: &Arc<Expiry>, clock: &Arc<AtomicI64>, ask_after: u64) -> ExpiryFilter {
        let clock = Arc::clone(clock);
        ExpiryFilter {
            rule: expiry.rule(),
            expiry: Arc::clone(expiry),
            clock: Arc::new(move || clock.load(Ordering::Relaxed)),
            ask_after,
            now_ms: None,
            left: 0,
        }
    }

    fn stored(time_ms: Option<i64>) -> Vec<u8> {
        let mut out = Vec::new();
        row::value_into(b"v", time_ms, &mut out);
        out
    }

    fn rule(event_time: bool) -> Option<Rule> {
        Rule::of(&TableOptions {
            ttl_ms: Some(100),
            untimed_as_ms: Some(50),
            event_time,
            ..TableOptions::default()
        })
    }

    #[test]
    fn the_clock_is_asked_once_for_so_many_rows() {
        let (expiry, clock) = (Expiry::unknown(), Arc::new(AtomicI64::new(1_000)));
        assert!(!filter(&expiry, &clock, 1).drops(&stored(Some(0))));
        expiry.set(rule(false));
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
        expiry.set(rule(true));
        assert!(!filter(&expiry, &clock, 1).drops(&stored(Some(0))));
        expiry.advance(160);
        expiry.advance(20);
        assert!(filter(&expiry, &clock, 1).drops(&stored(Some(60))));
        assert!(!filter(&expiry, &clock, 1).drops(&stored(Some(61))));
        assert!(filter(&expiry, &clock, 1).drops(&stored(None)));
        expiry.set(None);
        assert!(!filter(&expiry, &clock, 1).drops(&stored(Some(60))));
    }
}
