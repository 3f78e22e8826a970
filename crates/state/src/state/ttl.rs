//! TTL at the handle: what a read finds, and the time a write carries. One place for all kinds and all backends.

use std::cell::Cell;
use std::rc::Rc;

use crate::access::StateAccess;
use crate::heap::typed::HeapTable;
use crate::ttl::{Incremental, StateVisibility, TtlConfig, TtlRule, TtlTime, UpdateType};

/// The clocks of one operator's states. Event time is its watermark.
pub(crate) struct Clocks {
    access: StateAccess,
    /// The largest processing time that was written: a clock that is set back must not shorten lives.
    largest_ms: Cell<i64>,
    watermark_ms: Cell<Option<i64>>,
    /// The first watermark that came: what was written before counts as written then.
    first_watermark_ms: Cell<Option<i64>>,
    /// Event time of the record in hand, if it has one.
    record_ms: Cell<Option<i64>>,
}

impl Clocks {
    pub(crate) fn new(access: StateAccess) -> Self {
        Self {
            access,
            largest_ms: Cell::new(i64::MIN),
            watermark_ms: Cell::new(None),
            first_watermark_ms: Cell::new(None),
            record_ms: Cell::new(None),
        }
    }

    /// The watermark goes on; it never goes back. Returns it if it is the first of this run.
    pub(crate) fn advance_event_time(&self, watermark_ms: i64) -> Option<i64> {
        self.restored_event_time(Some(watermark_ms));
        if self.first_watermark_ms.get().is_some() {
            return None;
        }
        self.first_watermark_ms.set(self.watermark_ms.get());
        self.watermark_ms.get()
    }

    /// The newest watermark of this run, if one has come.
    pub(crate) fn newest_watermark_ms(&self) -> Option<i64> {
        self.first_watermark_ms.get().and(self.watermark_ms.get())
    }

    /// What a restored table knows of the watermark.
    pub(crate) fn restored_event_time(&self, watermark_ms: Option<i64>) {
        self.watermark_ms
            .set(self.watermark_ms.get().max(watermark_ms));
    }

    pub(crate) fn set_record_time(&self, time_ms: Option<i64>) {
        self.record_ms.set(time_ms);
    }

    /// The worker's clock.
    pub(crate) fn processing_ms(&self) -> i64 {
        self.access.clock_ms()
    }
}

/// The TTL of one state.
pub(crate) struct Ttl {
    rule: TtlRule,
    on_read: bool,
    show_expired: bool,
    time: TtlTime,
    incremental: Option<Incremental>,
    clocks: Rc<Clocks>,
}

/// What a read finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// It counts.
    Live,
    /// It counts, and reading gives it this time.
    Extended(i64),
    /// It has expired.
    Expired,
}

impl Ttl {
    pub(crate) fn new(config: &TtlConfig, rule: TtlRule, clocks: Rc<Clocks>) -> Self {
        Self {
            rule,
            on_read: config.update == UpdateType::OnReadAndWrite,
            show_expired: config.visibility == StateVisibility::ReturnExpiredIfNotCleanedUp,
            time: config.time,
            incremental: config.cleanup.incremental,
            clocks,
        }
    }

    /// The present, if there is one: before the first watermark there is no event time.
    pub(crate) fn now_ms(&self) -> Option<i64> {
        match self.time {
            TtlTime::Processing => Some(self.clocks.processing_ms()),
            TtlTime::Event => self.clocks.watermark_ms.get(),
        }
    }

    /// The present, once it is known when what has no time counts as written.
    pub(crate) fn begun_ms(&self) -> Option<i64> {
        let has_begun = match self.time {
            TtlTime::Processing => true,
            TtlTime::Event => (self.rule.untimed_as_ms)
                .or(self.clocks.first_watermark_ms.get())
                .is_some(),
        };
        self.now_ms().filter(|_| has_begun)
    }

    /// The time of what is written now.
    pub(crate) fn stamp_ms(&self) -> Option<i64> {
        match self.time {
            TtlTime::Processing => {
                let now = self
                    .clocks
                    .processing_ms()
                    .max(self.clocks.largest_ms.get());
                self.clocks.largest_ms.set(now);
                Some(now)
            }
            TtlTime::Event => {
                let watermark = self.clocks.watermark_ms.get()?;
                Some(watermark.max(self.clocks.record_ms.get().unwrap_or(i64::MIN)))
            }
        }
    }

    /// Whether something of this time has expired at `now_ms`.
    pub(crate) fn expired(&self, time_ms: Option<i64>, now_ms: Option<i64>) -> bool {
        now_ms.is_some_and(|now_ms| self.rule.expired(self.effective(time_ms), now_ms))
    }

    /// What to do with something of this time that is read now.
    pub(crate) fn judge(&self, time_ms: Option<i64>) -> Life {
        self.judge_at(time_ms, self.now_ms())
    }

    /// What to do with something of this time that is read at `now_ms`: whoever judges many things asks the clock once.
    pub(crate) fn judge_at(&self, time_ms: Option<i64>, now_ms: Option<i64>) -> Life {
        let Some(now_ms) = now_ms else {
            return Life::Live;
        };
        if self.rule.expired(self.effective(time_ms), now_ms) {
            Life::Expired
        } else if self.on_read && time_ms.is_none_or(|time_ms| time_ms < now_ms) {
            Life::Extended(now_ms)
        } else {
            Life::Live
        }
    }

    /// Whether reads return what has expired, once.
    pub(crate) fn shows_expired(&self) -> bool {
        self.show_expired
    }

    /// An access of a heap table: a few of its entries are looked at.
    pub(crate) fn clean(&self, table: &mut dyn HeapTable) {
        if let (Some(incremental), Some(now_ms)) = (self.incremental, self.now_ms()) {
            table.expire_some(incremental.entries, now_ms);
        }
    }

    /// Whether every record is an access.
    pub(crate) fn cleans_every_record(&self) -> bool {
        self.incremental.is_some_and(|i| i.every_record)
    }

    /// What was written before the first watermark has no time, and counts as written at that watermark.
    fn effective(&self, time_ms: Option<i64>) -> Option<i64> {
        match self.time {
            TtlTime::Processing => time_ms,
            // A checkpoint may know of an earlier first watermark than that of this run.
            TtlTime::Event if self.rule.untimed_as_ms.is_some() => time_ms,
            // Older times are from before a pause of the TTL, and do not count.
            TtlTime::Event => time_ms.max(self.clocks.first_watermark_ms.get()),
        }
    }
}
