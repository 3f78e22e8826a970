//! The worker's side of a remote compaction, without I/O: what to do next after what was seen.
//!
//! Whatever happens, an offer ends with exactly one of [`Effect::Adopt`] and [`Effect::RunHere`]. Running the job here is right at any
//! time, even when a compactor has finished it: the worker alone decides which files it installs, and the others become orphans. So every
//! doubt ends there.
use crate::FileRef;

use super::message::Outcome;

/// How a create-if-absent ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Creation {
    Ours,
    /// The name was there already, with something else.
    Taken,
    /// Nobody knows: the store did not answer, or not clearly.
    Unclear,
}

/// What a look into a job's directory shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct View {
    /// The job itself is there.
    pub(crate) job: bool,
    /// The newest claim; 0 is none.
    pub(crate) claim: u32,
    /// Its newest beat; 0 is none.
    pub(crate) beat: u64,
    pub(crate) result: bool,
}

/// Remembers since when nothing has moved, by the watcher's own clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stillness {
    seen: (u32, u64),
    since_ms: i64,
}

impl Stillness {
    pub(crate) fn new(now_ms: i64) -> Self {
        Self {
            seen: (0, 0),
            since_ms: now_ms,
        }
    }

    /// For how long there has been no new claim and no new beat.
    pub(crate) fn after(&mut self, view: &View, now_ms: i64) -> u64 {
        // An old listing shows less than was seen before; that is no news.
        let seen = (view.claim, view.beat).max(self.seen);
        if seen != self.seen {
            *self = Self {
                seen,
                since_ms: now_ms,
            };
        }
        u64::try_from(now_ms.saturating_sub(self.since_ms)).unwrap_or(0)
    }

    pub(crate) fn claim(&self) -> u32 {
        self.seen.0
    }
}

/// How long the worker waits for what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    pub(crate) claim_wait_ms: u64,
    pub(crate) lease_ms: u64,
    pub(crate) whole_ms: u64,
}

#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// The job was put.
    Posted(Creation),
    Looked {
        now_ms: i64,
        view: View,
    },
    /// The directory could not be listed.
    LookFailed {
        now_ms: i64,
    },
    /// `result` was created to take the job back.
    TookBack(Creation),
    /// The result that is there; `None` if it could not be read.
    Read(Option<Outcome>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    Post,
    /// After a while.
    Look,
    TakeBack,
    ReadResult,
    /// The end: a compactor has written these files.
    Adopt(Vec<FileRef>),
    /// The end: nobody has done it, and nobody's outputs will be used.
    RunHere(Why),
}

/// Why a worker does a job itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    NotPosted,
    Nobody,
    Died,
    TooLong,
    Unreadable,
    /// What a compactor wrote is not what was asked for.
    Refused,
    /// The store is closed; nobody does it.
    Closed,
    Failed(String),
}

/// The state of one offered job.
#[derive(Debug)]
pub(crate) struct Offer {
    patience: Patience,
    posted_ms: i64,
    stillness: Stillness,
    why: Why,
}

impl Offer {
    /// A job that is to be offered at this time.
    pub(crate) fn new(patience: Patience, now_ms: i64) -> (Self, Effect) {
        let offer = Self {
            patience,
            posted_ms: now_ms,
            stillness: Stillness::new(now_ms),
            why: Why::Nobody,
        };
        (offer, Effect::Post)
    }

    pub(crate) fn step(&mut self, event: Event) -> Effect {
        match event {
            // Names are never used twice: one that is taken was taken by the same put, sent again.
            Event::Posted(Creation::Ours | Creation::Taken) => Effect::Look,
            Event::Posted(Creation::Unclear) => Effect::RunHere(Why::NotPosted),
            Event::Looked { now_ms, view } => self.look(now_ms, Some(view)),
            Event::LookFailed { now_ms } => self.look(now_ms, None),
            Event::TookBack(Creation::Taken) => Effect::ReadResult,
            Event::TookBack(Creation::Ours | Creation::Unclear) => {
                Effect::RunHere(self.why.clone())
            }
            Event::Read(Some(Outcome::Done(files))) => Effect::Adopt(files),
            Event::Read(Some(Outcome::Failed(why))) => Effect::RunHere(Why::Failed(why)),
            Event::Read(Some(Outcome::TakenBack)) => Effect::RunHere(self.why.clone()),
            Event::Read(None) => Effect::RunHere(Why::Unreadable),
        }
    }

    fn look(&mut self, now_ms: i64, view: Option<View>) -> Effect {
        let view = view.unwrap_or_default();
        if view.result {
            return Effect::ReadResult;
        }
        let still_ms = self.stillness.after(&view, now_ms);
        let all_ms = u64::try_from(now_ms.saturating_sub(self.posted_ms)).unwrap_or(0);
        let over = match self.stillness.claim() {
            0 if still_ms >= self.patience.claim_wait_ms => Some(Why::Nobody),
            // Another compactor gets the first chance to follow one that has died.
            1.. if still_ms >= self.patience.lease_ms.saturating_mul(2) => Some(Why::Died),
            _ if all_ms >= self.patience.whole_ms => Some(Why::TooLong),
            _ => None,
        };
        match over {
            Some(why) => {
                self.why = why;
                Effect::TakeBack
            }
            None => Effect::Look,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer() -> Offer {
        let patience = Patience {
            claim_wait_ms: 10_000,
            lease_ms: 30_000,
            whole_ms: 3_600_000,
        };
        let (mut offer, first) = Offer::new(patience, 1_000_000);
        assert_eq!(first, Effect::Post);
        assert_eq!(offer.step(Event::Posted(Creation::Ours)), Effect::Look);
        offer
    }

    fn looked(after_ms: i64, claim: u32, beat: u64) -> Event {
        Event::Looked {
            now_ms: 1_000_000 + after_ms,
            view: View {
                job: true,
                claim,
                beat,
                result: false,
            },
        }
    }

    #[test]
    fn a_job_that_nobody_claims_is_taken_back() {
        let mut offer = offer();
        assert_eq!(offer.step(looked(9_000, 0, 0)), Effect::Look);
        assert_eq!(offer.step(looked(10_000, 0, 0)), Effect::TakeBack);
        let end = offer.step(Event::TookBack(Creation::Ours));
        assert_eq!(end, Effect::RunHere(Why::Nobody));
    }

    #[test]
    fn a_claim_lives_as_long_as_it_beats() {
        let mut offer = offer();
        for beat in 0..50 {
            let event = looked(9_000 + beat * 50_000, 1, beat as u64);
            assert_eq!(offer.step(event), Effect::Look, "{beat}");
        }
        assert_eq!(
            offer.step(looked(9_000 + 49 * 50_000 + 60_000, 1, 49)),
            Effect::TakeBack
        );
        let end = offer.step(Event::TookBack(Creation::Unclear));
        assert_eq!(end, Effect::RunHere(Why::Died));
    }

    #[test]
    fn a_second_claim_counts_from_its_own_beginning() {
        let mut offer = offer();
        offer.step(looked(5_000, 1, 1));
        assert_eq!(offer.step(looked(60_000, 2, 0)), Effect::Look);
        assert_eq!(offer.step(looked(110_000, 2, 0)), Effect::Look);
        // An old listing is no news, either way.
        assert_eq!(offer.step(looked(119_000, 1, 1)), Effect::Look);
        assert_eq!(offer.step(looked(120_000, 2, 0)), Effect::TakeBack);
    }

    #[test]
    fn a_store_that_does_not_answer_is_not_waited_for() {
        let mut offer = offer();
        let failed = |after: i64| Event::LookFailed {
            now_ms: 1_000_000 + after,
        };
        assert_eq!(offer.step(failed(9_000)), Effect::Look);
        assert_eq!(offer.step(failed(10_001)), Effect::TakeBack);
    }

    #[test]
    fn of_a_race_for_the_result_the_first_counts() {
        let mut offer = offer();
        offer.step(looked(10_000, 0, 0));
        assert_eq!(
            offer.step(Event::TookBack(Creation::Taken)),
            Effect::ReadResult
        );
        let files = Vec::new();
        assert_eq!(
            offer.step(Event::Read(Some(Outcome::Done(files.clone())))),
            Effect::Adopt(files)
        );
    }

    #[test]
    fn every_doubt_ends_with_running_it_here() {
        let (mut offer, _) = Offer::new(offer().patience, 0);
        assert_eq!(
            offer.step(Event::Posted(Creation::Unclear)),
            Effect::RunHere(Why::NotPosted)
        );
        for (read, why) in [
            (None, Why::Unreadable),
            (Some(Outcome::Failed("x".into())), Why::Failed("x".into())),
            (Some(Outcome::TakenBack), Why::Nobody),
        ] {
            assert_eq!(offer.step(Event::Read(read)), Effect::RunHere(why));
        }
    }

    #[test]
    fn patience_ends_however_lively_the_claim() {
        let mut offer = offer();
        let mut beat = 0;
        let taken_back = (0..400).find(|i| {
            beat += 1;
            offer.step(looked(i * 20_000, 1, beat)) == Effect::TakeBack
        });
        assert_eq!(taken_back, Some(180));
    }
}
