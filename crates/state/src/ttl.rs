//! Time to live: how long a state is kept after it was written or read.
//!
//! A time belongs to a *row*, never to the value in it, and what it means is decided by the options of the table at the moment of a read. So a
//! TTL can be switched on, switched off or changed between two runs of a job, and nothing is rewritten. Rows that are older than the moment
//! at which a TTL was switched on over them count from that moment (`untimed_as_ms`). Only if a TTL begins to count in event time instead of
//! processing time, or the other way round, are all rows rewritten, without the times that mean nothing any more, and count from that moment.
//!
//! A row has expired when `time + ttl <= now`: the end is inclusive, and an end that no clock can reach never comes.

use std::time::Duration;

use aquifer_store::ExpiryCleanup;

use crate::StateError;

/// How long entries of a state live, and when they are removed.
///
/// ```
/// use std::time::Duration;
/// use aquifer_state::{StateVisibility, TtlConfig, UpdateType};
///
/// let ttl = TtlConfig::new(Duration::from_secs(3600))
///     .update(UpdateType::OnReadAndWrite)
///     .visibility(StateVisibility::ReturnExpiredIfNotCleanedUp);
/// assert_eq!(ttl.ttl.as_millis(), 3_600_000);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TtlConfig {
    /// At least one millisecond.
    pub ttl: Duration,
    /// What gives an entry a new life.
    pub update: UpdateType,
    /// Whether reads may return what has expired.
    pub visibility: StateVisibility,
    /// Which clock counts.
    pub time: TtlTime,
    /// Who removes what has expired, besides reads.
    pub cleanup: Cleanup,
}

/// What gives an entry a new life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpdateType {
    /// Nothing expires; entries carry no time.
    Disabled,
    /// Writing it.
    OnCreateAndWrite,
    /// Writing or reading it.
    OnReadAndWrite,
}

/// Whether reads may return what has expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateVisibility {
    /// Expired entries are not there.
    NeverReturnExpired,
    /// An expired entry that has not been removed yet may be returned, once: reading it removes it. Asking whether a state is empty does not.
    ReturnExpiredIfNotCleanedUp,
}

/// Which clock counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TtlTime {
    /// The worker's clock.
    Processing,
    /// The operator's watermark.
    Event,
}

/// Who removes what has expired, besides reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cleanup {
    /// Full snapshots leave it out: those of `hashmap`, and of `rocksdb` where checkpoints are not incremental. (Canonical savepoints
    /// always do; what is incremental names files as they are.)
    pub full_snapshot: bool,
    /// On the heap, every access looks at a few entries.
    pub incremental: Option<Incremental>,
    /// On LSM backends, compactions drop it. `None`: they keep it.
    pub compaction: Option<InCompaction>,
}

/// Clean-up of the heap while it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Incremental {
    /// Entries that one access looks at; at least 1.
    pub entries: usize,
    /// Also when a key becomes current, i.e. for every record.
    pub every_record: bool,
}

/// Clean-up in compactions. What is not said here is as the backend is configured (`state.backend.*.compaction.filter.*`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InCompaction {
    /// Entries after which a compaction asks the clock again; `forst` asks once per compaction.
    pub query_time_after_entries: Option<u64>,
    /// Files older than this are rewritten even if nothing else asks for it; zero: never.
    pub periodic: Option<Duration>,
}

impl Default for Cleanup {
    /// In the background, as Flink does it.
    fn default() -> Self {
        Self {
            full_snapshot: false,
            incremental: Some(Incremental {
                entries: 5,
                every_record: false,
            }),
            compaction: Some(InCompaction::default()),
        }
    }
}

impl Cleanup {
    /// What a table must know of it.
    pub(crate) fn of_table(self) -> ExpiryCleanup {
        let millis = |age: Duration| u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        let compaction = self.compaction.unwrap_or_default();
        ExpiryCleanup {
            in_compactions: self.compaction.is_some(),
            query_time_after_rows: compaction.query_time_after_entries,
            periodic_ms: compaction.periodic.map(millis),
            in_full_snapshots: self.full_snapshot,
        }
    }
}

impl TtlConfig {
    /// Entries live this long after they were written, are not seen any more then, and are removed in the background.
    pub fn new(ttl: Duration) -> Self {
        Self {
            ttl,
            update: UpdateType::OnCreateAndWrite,
            visibility: StateVisibility::NeverReturnExpired,
            time: TtlTime::Processing,
            cleanup: Cleanup::default(),
        }
    }

    /// Says what gives an entry a new life.
    #[must_use]
    pub fn update(mut self, update: UpdateType) -> Self {
        self.update = update;
        self
    }

    /// Says whether expired entries may be returned.
    #[must_use]
    pub fn visibility(mut self, visibility: StateVisibility) -> Self {
        self.visibility = visibility;
        self
    }

    /// Counts in the operator's watermark instead of the clock.
    #[must_use]
    pub fn event_time(mut self) -> Self {
        self.time = TtlTime::Event;
        self
    }

    /// Full snapshots leave out what has expired; see [`Cleanup::full_snapshot`].
    #[must_use]
    pub fn cleanup_full_snapshot(mut self) -> Self {
        self.cleanup.full_snapshot = true;
        self
    }

    /// On the heap, every access looks at `entries` entries; with `every_record`, every record does.
    #[must_use]
    pub fn cleanup_incrementally(mut self, entries: usize, every_record: bool) -> Self {
        self.cleanup.incremental = Some(Incremental {
            entries,
            every_record,
        });
        self
    }

    /// On LSM backends, compactions drop what has expired, and ask what time it is after every `query_time_after_entries` entries. (Flink's
    /// `cleanupInRocksdbCompactFilter`.)
    #[must_use]
    pub fn cleanup_in_compactions(mut self, query_time_after_entries: u64) -> Self {
        let compaction = self.cleanup.compaction.get_or_insert_default();
        compaction.query_time_after_entries = Some(query_time_after_entries);
        self
    }

    /// The same, and files whose entries are older than `age` are rewritten for it; never if it is zero.
    #[must_use]
    pub fn cleanup_in_periodic_compactions(mut self, age: Duration) -> Self {
        let compaction = self.cleanup.compaction.get_or_insert_default();
        compaction.periodic = Some(age);
        self
    }

    /// Nothing is removed but by reads, and by full snapshots if they were told to.
    #[must_use]
    pub fn disable_cleanup_in_background(mut self) -> Self {
        self.cleanup.incremental = None;
        self.cleanup.compaction = None;
        self
    }

    /// The TTL in milliseconds; `None` if nothing expires. Refuses configurations that mean nothing.
    pub(crate) fn ttl_ms(&self, state: &str) -> Result<Option<u64>, StateError> {
        let millis = u64::try_from(self.ttl.as_millis()).unwrap_or(u64::MAX);
        if millis == 0 {
            return Err(StateError::Usage(format!(
                "the TTL of state `{state}` is {:?}, expected a positive number of milliseconds",
                self.ttl
            )));
        }
        if let Some(Incremental { entries: 0, .. }) = self.cleanup.incremental {
            return Err(StateError::Usage(format!(
                "the incremental clean-up of state `{state}` looks at 0 entries, expected a positive number"
            )));
        }
        Ok((self.update != UpdateType::Disabled).then_some(millis))
    }
}

/// When entries of one table expire. What handles, heap tables and their snapshots share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TtlRule {
    pub(crate) ttl_ms: u64,
    /// Entries that are older, or have no time, count as written then.
    pub(crate) untimed_as_ms: Option<i64>,
}

impl TtlRule {
    /// Whether an entry of this time has expired at `now_ms`.
    pub(crate) fn expired(self, time_ms: Option<i64>, now_ms: i64) -> bool {
        // `None` is smaller than every time.
        let written = time_ms.max(self.untimed_as_ms);
        let end = written.and_then(|written| written.checked_add_unsigned(self.ttl_ms));
        end.is_some_and(|end| end <= now_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_inclusive_and_never_overflows() {
        const MAX: i64 = i64::MAX;
        let rule = |ttl_ms| TtlRule {
            ttl_ms,
            untimed_as_ms: None,
        };
        for (written, ttl_ms, now, expired) in [
            (0, 100, 99, false),
            (0, 100, 100, true),
            (-5, 100, 94, false),
            (-5, 100, 95, true),
            (10, MAX as u64, MAX - 1, false),
            // The end lies past the end of time: it never comes.
            (10, MAX as u64, MAX, false),
            (-5, MAX as u64, MAX - 6, false),
            (-5, MAX as u64, MAX - 5, true),
            (MAX, 1, MAX, false),
            (i64::MIN, MAX as u64, -2, false),
            (i64::MIN, MAX as u64, -1, true),
            (0, u64::MAX, MAX, false),
        ] {
            assert_eq!(
                rule(ttl_ms).expired(Some(written), now),
                expired,
                "written {written}, ttl {ttl_ms}, now {now}"
            );
        }
        assert!(!rule(1).expired(None, MAX));
    }

    #[test]
    fn what_is_older_than_the_switching_on_counts_from_there() {
        let rule = TtlRule {
            ttl_ms: 100,
            untimed_as_ms: Some(500),
        };
        for time in [None, Some(0), Some(499)] {
            assert!(!rule.expired(time, 599), "{time:?}");
            assert!(rule.expired(time, 600), "{time:?}");
        }
        assert!(!rule.expired(Some(550), 649));
        assert!(rule.expired(Some(550), 650));
    }

    #[test]
    fn tables_know_what_compactions_and_full_snapshots_do() {
        let of = |ttl: TtlConfig| ttl.cleanup.of_table();
        let hour = TtlConfig::new(Duration::from_secs(3600));
        assert_eq!(of(hour.clone()), ExpiryCleanup::default());
        let off = hour.clone().disable_cleanup_in_background();
        assert!(!of(off.clone()).in_compactions);
        let own = off.cleanup_in_compactions(7).cleanup_full_snapshot();
        let own = own.cleanup_in_periodic_compactions(Duration::from_millis(1500));
        assert_eq!(
            of(own.clone()),
            ExpiryCleanup {
                in_compactions: true,
                query_time_after_rows: Some(7),
                periodic_ms: Some(1500),
                in_full_snapshots: true,
            }
        );
        let longest = own.cleanup_in_periodic_compactions(Duration::MAX);
        assert_eq!(of(longest).periodic_ms, Some(u64::MAX));
    }

    #[test]
    fn configurations_that_mean_nothing_are_refused() {
        let none = TtlConfig::new(Duration::ZERO).ttl_ms("s").unwrap_err();
        assert!(none.to_string().contains("positive"), "{none}");
        assert!(
            TtlConfig::new(Duration::from_micros(999))
                .ttl_ms("s")
                .is_err()
        );
        let hour = TtlConfig::new(Duration::from_secs(3600));
        assert!(
            hour.clone()
                .cleanup_incrementally(0, false)
                .ttl_ms("s")
                .is_err()
        );
        assert_eq!(hour.ttl_ms("s").unwrap(), Some(3_600_000));
        assert_eq!(
            TtlConfig::new(Duration::MAX).ttl_ms("s").unwrap(),
            Some(u64::MAX)
        );
        let off = hour.clone().update(UpdateType::Disabled);
        assert_eq!(off.ttl_ms("s").unwrap(), None);
        assert_ne!(hour, off);
    }
}
