//! The faults of a run: which kinds there are, how often each strikes, and when they end.
//!
//! The names O1 … K4 are those of the fault list in `docs/reliability.md`. A seed switches on a random subset with random rates,
//! because "everything, a little" hides what one fault does alone, and it ends after a random number of requests, after which a
//! healthy system must make progress.
use std::fmt;

use crate::Rng;

macro_rules! kinds {
    ($($name:ident $code:literal $text:literal,)*) => {
        /// One way in which the world goes wrong.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum FaultKind {
            $(#[doc = $text] $name,)*
        }

        impl FaultKind {
            /// All kinds.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The name in the fault list, and what happens.
            pub fn describe(self) -> (&'static str, &'static str) {
                match self {
                    $(Self::$name => ($code, $text),)*
                }
            }
        }
    };
}

kinds! {
    NotApplied "O1" "a request fails and was not applied",
    Applied "O2" "a request is applied and reported as failed",
    LandsLater "O3" "a put is reported as failed and lands later, after newer decisions",
    Throttled "O4" "503 for a burst of requests",
    Conflict "O5" "409 on a conditional put; nothing landed",
    AlreadyThere "O6" "412 on a conditional put that was applied (the client had repeated it)",
    Denied "O7" "403 for a burst of requests: credentials have expired",
    Slow "O8" "a request takes up to a minute",
    CutBody "O9" "the connection is reset within the body of a read",
    WrongLength "O10" "a read answers with fewer bytes than it says",
    CrashInUpload "U1" "the process dies between two parts of an upload",
    CompleteUnclear "U2" "an upload is completed and reported as failed",
    PartTwice "U3" "a part of an upload arrives twice, the second time late",
    Hangs "U4" "a request does not end for an hour",
    StaleList "L1" "a listing misses fresh objects",
    GhostList "L2" "a listing shows deleted objects",
    PagedList "L3" "a listing is taken in pages while objects change",
    UnorderedList "L4" "a listing is not in order",
    FlippedOnTheWire "D0" "one bit of an answer is flipped on its way",
    FlippedBit "D1" "one bit of a stored object is flipped",
    Truncated "D2" "a stored object is cut",
    Exchanged "D3" "a stored object holds the content of another",
    Zeroed "D4" "a part of a stored object is zeroes",
    OldContent "D5" "a stored object holds what an older object of its kind holds",
    CrashBefore "C1a" "the process dies before a request is applied",
    CrashAfter "C1b" "the process dies after a request was applied",
    CrashInRecovery "C2" "the process dies again while it recovers",
    CrashBeforeCommit "C3" "the process dies between the upload of a checkpoint and its commit",
    DiskFull "K1" "the disk of the file cache is full",
    TornCacheFile "K2" "a file of the cache is torn, or belongs to another job",
    DiskError "K3" "the disk of the file cache does not read or write",
    ClockJump "K4" "the clock jumps, stops or goes back",
}

/// Kinds that strike requests, with their rates.
const OF_REQUESTS: [FaultKind; 18] = [
    FaultKind::NotApplied,
    FaultKind::Applied,
    FaultKind::LandsLater,
    FaultKind::Throttled,
    FaultKind::Conflict,
    FaultKind::AlreadyThere,
    FaultKind::Denied,
    FaultKind::Slow,
    FaultKind::CutBody,
    FaultKind::WrongLength,
    FaultKind::CompleteUnclear,
    FaultKind::PartTwice,
    FaultKind::Hangs,
    FaultKind::StaleList,
    FaultKind::GhostList,
    FaultKind::PagedList,
    FaultKind::UnorderedList,
    FaultKind::FlippedOnTheWire,
];

/// Requests of one burst (O4, O7).
const BURST_REQUESTS_MAX: u64 = 12;

/// The faults that requests of a run meet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Storm {
    /// Decides which requests are struck.
    pub seed: u64,
    /// Kinds that are switched on, with requests in a thousand that each strikes.
    pub per_mille: Vec<(FaultKind, u32)>,
    /// From this request on there are no faults.
    pub ends_at: u64,
}

impl Storm {
    /// No faults at all.
    pub fn none() -> Self {
        Self::default()
    }

    /// The faults of a seed: one in five has none, the others a random subset.
    pub fn from_seed(seed: u64) -> Self {
        let mut random = Rng::new(seed ^ 0x5707_2001);
        let mut storm = Self {
            seed,
            per_mille: Vec::new(),
            ends_at: 20 + random.below(1 << (4 + random.clone().below(9))),
        };
        if random.chance(200) {
            return Self::none();
        }
        let enabled = 50 + random.below(500) as u32;
        for kind in OF_REQUESTS {
            if random.chance(enabled) {
                let rates = [2, 5, 10, 20, 40, 100];
                let rate = rates[random.below(rates.len() as u64) as usize];
                storm.per_mille.push((kind, rate));
            }
        }
        storm
    }

    fn rate(&self, kind: FaultKind) -> u32 {
        let found = self.per_mille.iter().find(|(known, _)| *known == kind);
        found.map_or(0, |(_, rate)| *rate)
    }
}

impl fmt::Display for Storm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.per_mille.is_empty() {
            return f.write_str("no faults");
        }
        write!(f, "until request {}:", self.ends_at)?;
        for (kind, rate) in &self.per_mille {
            write!(f, " {} {rate}‰", kind.describe().0)?;
        }
        Ok(())
    }
}

/// What happens at the N-th request of a process, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crash {
    /// The request.
    pub at: u64,
    /// Whether it is applied before the process dies.
    pub applied: bool,
}

/// The dice of a storm while it lasts.
#[derive(Debug)]
pub(crate) struct Dice {
    pub storm: Storm,
    random: Rng,
    number: u64,
    burst: Option<(FaultKind, u64)>,
}

impl Dice {
    pub fn new(storm: Storm) -> Self {
        Self {
            random: Rng::new(storm.seed),
            storm,
            number: 0,
            burst: None,
        }
    }

    /// A request begins.
    pub fn count(&mut self) {
        self.number += 1;
    }

    /// Whether and how one of `kinds` strikes the request.
    pub fn roll(&mut self, kinds: &[FaultKind]) -> Option<FaultKind> {
        if self.number > self.storm.ends_at {
            return None;
        }
        if let Some((kind, left)) = self.burst {
            self.burst = (left > 1).then_some((kind, left - 1));
            return Some(kind);
        }
        for &kind in kinds {
            if self.random.chance(self.storm.rate(kind)) {
                if matches!(kind, FaultKind::Throttled | FaultKind::Denied) {
                    let more = self.random.below(BURST_REQUESTS_MAX);
                    self.burst = (more > 0).then_some((kind, more));
                }
                return Some(kind);
            }
        }
        None
    }

    /// A number of chance for the fault that struck.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.random.below(bound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_differ_and_repeat() {
        let storms: Vec<Storm> = (0..300).map(Storm::from_seed).collect();
        assert!(
            (0..300)
                .zip(&storms)
                .all(|(seed, s)| Storm::from_seed(seed) == *s)
        );
        let calm = storms.iter().filter(|s| s.per_mille.is_empty()).count();
        assert!((30..120).contains(&calm), "{calm} of 300 are calm");
        for kind in OF_REQUESTS {
            let with = storms.iter().filter(|s| s.rate(kind) > 0).count();
            assert!((30..200).contains(&with), "{kind:?} is in {with} of 300");
        }
    }

    #[test]
    fn storms_end_and_bursts_last() {
        let mut dice = Dice::new(Storm {
            seed: 1,
            per_mille: vec![(FaultKind::Throttled, 100)],
            ends_at: 1000,
        });
        let mut longest = 0;
        let mut run = 0;
        for number in 0..3000 {
            dice.count();
            let struck = dice.roll(&[FaultKind::Throttled]).is_some();
            assert!(!struck || number < 1000);
            run = if struck { run + 1 } else { 0 };
            longest = longest.max(run);
        }
        assert!(longest >= 6, "{longest}");
    }
}
