//! A compactor's side of one job, without I/O: claim it, work, show life, commit.
//!
//! Outputs are discarded only while no result can name them: once a commit has been sent and its answer is unclear, or the directory has
//! vanished after it, the worker may have adopted them, and they are left for the sweep.
use super::offer::{Creation, Stillness, View};

#[derive(Clone, Debug)]
pub(crate) enum Event {
    Looked {
        now_ms: i64,
        view: View,
    },
    LookFailed,
    Claimed(Creation),
    /// The work is done; `ok` says whether there are outputs (of a failure only the reason is committed).
    Finished,
    Committed(Creation),
    /// Whether the result that is there is the one that was sent; `None` if that is not known.
    Read {
        ours: Option<bool>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Nothing to do here at present.
    Wait,
    Claim(u32),
    /// Starts the work under this claim.
    Start(u32),
    Beat(u32, u64),
    Commit(u32),
    ReadResult,
    /// Ends the work if it goes on, deletes its outputs, and leaves the job.
    Discard,
    /// Leaves the job; outputs, if any, are adopted or must be assumed to be.
    Leave {
        adopted: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Watching,
    Claiming(u32),
    Working { claim: u32, beat: u64 },
    Committing(u32),
    Over,
}

/// The state of one job that a compactor has seen.
#[derive(Debug)]
pub(crate) struct Claim {
    lease_ms: u64,
    stillness: Stillness,
    state: State,
}

impl Claim {
    /// A job that was seen for the first time.
    pub(crate) fn new(lease_ms: u64, now_ms: i64) -> Self {
        Self {
            lease_ms,
            stillness: Stillness::new(now_ms),
            state: State::Watching,
        }
    }

    pub(crate) fn step(&mut self, event: Event) -> Effect {
        match (self.state, event) {
            (State::Over, _) => Effect::Wait,
            (State::Watching, Event::Looked { now_ms, view }) => self.watch(now_ms, &view),
            (State::Claiming(claim), Event::Claimed(creation)) => match creation {
                Creation::Ours => {
                    self.state = State::Working { claim, beat: 0 };
                    Effect::Start(claim)
                }
                // If it is ours after all it shows no life, and expires.
                Creation::Taken | Creation::Unclear => {
                    self.state = State::Watching;
                    Effect::Wait
                }
            },
            (State::Working { claim, beat }, Event::Looked { view, .. }) => {
                // Nobody waits for the outputs any more, or somebody else makes them.
                if !view.job || view.result || view.claim > claim {
                    return self.over(Effect::Discard);
                }
                self.state = State::Working {
                    claim,
                    beat: beat + 1,
                };
                Effect::Beat(claim, beat + 1)
            }
            (State::Working { claim, beat }, Event::LookFailed) => {
                self.state = State::Working {
                    claim,
                    beat: beat + 1,
                };
                Effect::Beat(claim, beat + 1)
            }
            (State::Working { claim, .. }, Event::Finished) => {
                self.state = State::Committing(claim);
                Effect::Commit(claim)
            }
            (State::Committing(_), Event::Committed(creation)) => match creation {
                Creation::Ours => self.over(Effect::Leave { adopted: true }),
                Creation::Taken => Effect::ReadResult,
                Creation::Unclear => self.over(Effect::Leave { adopted: false }),
            },
            (State::Committing(_), Event::Read { ours }) => match ours {
                Some(true) => self.over(Effect::Leave { adopted: true }),
                Some(false) => self.over(Effect::Discard),
                None => self.over(Effect::Leave { adopted: false }),
            },
            (_, _) => Effect::Wait,
        }
    }

    fn watch(&mut self, now_ms: i64, view: &View) -> Effect {
        if !view.job || view.result {
            return self.over(Effect::Leave { adopted: false });
        }
        let still_ms = self.stillness.after(view, now_ms);
        let claim = self.stillness.claim();
        if claim > 0 && still_ms < self.lease_ms {
            return Effect::Wait;
        }
        self.state = State::Claiming(claim + 1);
        Effect::Claim(claim + 1)
    }

    fn over(&mut self, last: Effect) -> Effect {
        self.state = State::Over;
        last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looked(now_ms: i64, claim: u32, beat: u64) -> Event {
        Event::Looked {
            now_ms,
            view: View {
                job: true,
                claim,
                beat,
                result: false,
            },
        }
    }

    fn over(now_ms: i64, claim: u32) -> Event {
        Event::Looked {
            now_ms,
            view: View {
                job: true,
                claim,
                beat: 0,
                result: true,
            },
        }
    }

    fn working() -> Claim {
        let mut job = Claim::new(1_000, 0);
        assert_eq!(job.step(looked(0, 0, 0)), Effect::Claim(1));
        assert_eq!(job.step(Event::Claimed(Creation::Ours)), Effect::Start(1));
        job
    }

    #[test]
    fn a_free_job_is_claimed_done_and_committed() {
        let mut job = working();
        assert_eq!(job.step(looked(300, 1, 0)), Effect::Beat(1, 1));
        assert_eq!(job.step(looked(600, 1, 1)), Effect::Beat(1, 2));
        assert_eq!(job.step(Event::LookFailed), Effect::Beat(1, 3));
        assert_eq!(job.step(Event::Finished), Effect::Commit(1));
        assert_eq!(
            job.step(Event::Committed(Creation::Ours)),
            Effect::Leave { adopted: true }
        );
        assert_eq!(job.step(looked(900, 1, 2)), Effect::Wait);
    }

    #[test]
    fn a_live_claim_is_respected_and_a_dead_one_followed() {
        let mut job = Claim::new(1_000, 0);
        assert_eq!(job.step(looked(0, 1, 0)), Effect::Wait);
        assert_eq!(job.step(looked(900, 1, 1)), Effect::Wait);
        assert_eq!(job.step(looked(1_899, 1, 1)), Effect::Wait);
        assert_eq!(job.step(looked(1_900, 1, 1)), Effect::Claim(2));
        assert_eq!(job.step(Event::Claimed(Creation::Taken)), Effect::Wait);
        // The one who was faster lives.
        assert_eq!(job.step(looked(2_000, 2, 1)), Effect::Wait);
        assert_eq!(job.step(looked(3_000, 2, 1)), Effect::Claim(3));
    }

    #[test]
    fn who_was_overtaken_throws_its_work_away() {
        let mut job = working();
        assert_eq!(job.step(looked(5_000, 2, 0)), Effect::Discard);
        assert_eq!(job.step(Event::Finished), Effect::Wait);
        let mut job = working();
        assert_eq!(job.step(over(5_000, 1)), Effect::Discard);
    }

    #[test]
    fn outputs_that_may_have_been_adopted_are_kept() {
        for (creation, read, last) in [
            (Creation::Unclear, None, Effect::Leave { adopted: false }),
            (
                Creation::Taken,
                Some(None),
                Effect::Leave { adopted: false },
            ),
            (
                Creation::Taken,
                Some(Some(true)),
                Effect::Leave { adopted: true },
            ),
            (Creation::Taken, Some(Some(false)), Effect::Discard),
        ] {
            let mut job = working();
            job.step(Event::Finished);
            let mut effect = job.step(Event::Committed(creation));
            if let Some(ours) = read {
                assert_eq!(effect, Effect::ReadResult);
                // The worker has removed the directory meanwhile: that says nothing about who was adopted.
                assert_eq!(job.step(over(1, 1)), Effect::Wait);
                effect = job.step(Event::Read { ours });
            }
            assert_eq!(effect, last);
        }
    }

    #[test]
    fn a_job_that_is_over_is_left() {
        let mut job = Claim::new(1_000, 0);
        assert_eq!(job.step(over(0, 3)), Effect::Leave { adopted: false });
        assert_eq!(job.step(looked(9_000, 3, 0)), Effect::Wait);
    }
}
