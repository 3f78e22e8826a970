//! What a program says of the life of its states, and what a model knows of a part of them.
//!
//! Something that has expired may be there or not: nobody says when it is removed. Such a part is *doubtful*. Reads do not show it, or, where
//! the program allows it, may show it once. If the job goes on with a longer TTL or none, it may show again; the model then believes what
//! the first read says.
use std::fmt::Debug;
use std::time::Duration;

use aquifer_state::{StateVisibility, TtlConfig, UpdateType};
use aquifer_testkit::Rng;

/// The TTL of all states of a program.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ttl {
    pub ms: i64,
    /// Reading is a new life.
    pub on_read: bool,
    /// Reads may show what has expired, once.
    pub shown: bool,
    pub event_time: bool,
    pub cleanup: Cleanup,
}

/// Who removes what has expired.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cleanup {
    Default,
    EveryRecord,
    FullSnapshot,
    Off,
}

impl Ttl {
    /// Written state lives as long as this.
    pub const PLAIN: Self = Self {
        ms: 100,
        on_read: false,
        shown: false,
        event_time: false,
        cleanup: Cleanup::Default,
    };

    pub fn random(rng: &mut Rng, event_time: bool) -> Self {
        let cleanups = [
            Cleanup::Default,
            Cleanup::EveryRecord,
            Cleanup::FullSnapshot,
            Cleanup::Off,
        ];
        Self {
            ms: [40, 100, 101, 350, i64::MAX][rng.below(5) as usize],
            on_read: rng.chance(400),
            shown: rng.chance(300),
            event_time,
            cleanup: cleanups[rng.below(4) as usize],
        }
    }

    pub fn config(self) -> TtlConfig {
        let mut config = TtlConfig::new(Duration::from_millis(self.ms as u64));
        if self.on_read {
            config = config.update(UpdateType::OnReadAndWrite);
        }
        if self.shown {
            config = config.visibility(StateVisibility::ReturnExpiredIfNotCleanedUp);
        }
        if self.event_time {
            config = config.event_time();
        }
        match self.cleanup {
            Cleanup::Default => config,
            Cleanup::EveryRecord => config.cleanup_incrementally(3, true),
            Cleanup::FullSnapshot => config.cleanup_full_snapshot(),
            Cleanup::Off => config.disable_cleanup_in_background(),
        }
    }
}

/// The present, as states with a TTL see it.
#[derive(Clone, Copy, Debug)]
pub struct Present {
    pub ttl: Option<Ttl>,
    pub now: i64,
    /// The time of what is written.
    pub stamp: i64,
}

/// One part of a state: a value, an element, an entry.
#[derive(Clone, Debug)]
pub struct Part<T> {
    pub value: T,
    pub time: i64,
    /// It has expired at some time, under some TTL.
    pub doubtful: bool,
}

impl Present {
    pub fn part<T>(&self, value: T) -> Part<T> {
        Part {
            value,
            time: self.stamp,
            doubtful: false,
        }
    }

    pub fn is_live<T>(&self, part: &Part<T>) -> bool {
        let Some(ttl) = self.ttl else {
            return true;
        };
        let end = part.time.checked_add(ttl.ms);
        end.is_none_or(|end| self.now < end)
    }

    /// A part is read: `seen` says whether it was shown. Says whether it is still there, for all that is known.
    pub fn read<T: Debug>(&self, part: &mut Part<T>, seen: bool, says: &str) -> bool {
        let live = self.is_live(part);
        match (live, part.doubtful) {
            (true, false) => assert!(seen, "{part:?} is not shown at {self:?}, {says}"),
            // It has been removed for good.
            (true, true) if !seen => return false,
            (true, true) => part.doubtful = false,
            (false, _) if seen => {
                let allowed = self.ttl.is_some_and(|ttl| ttl.shown);
                assert!(allowed, "{part:?} is shown at {self:?}, {says}");
                return false;
            }
            (false, _) => return true,
        }
        if self.ttl.is_some_and(|ttl| ttl.on_read) {
            part.time = part.time.max(self.now);
        }
        true
    }

    /// Time has gone on.
    pub fn pass<T>(&self, part: &mut Part<T>) {
        part.doubtful |= !self.is_live(part);
    }
}
