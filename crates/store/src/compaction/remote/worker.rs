//! Joins the worker's state machine to the object store: offers a job, watches it, adopts the result or says that it is to be done here.
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use super::RemoteCompaction;
use super::board::{Board, Name};
use super::message::{JobMessage, Outcome, ResultMessage};
use super::offer::{Creation, Effect, Event, Offer, Patience, Why};
use super::outputs::adopt;
use crate::compaction::picker::CompactionJob;
use crate::compaction::task::CompactionTask;
use crate::context::Context;
use crate::error::Result;
use crate::sst::new_file::NewFile;

/// Waits for a claim that were in vain, times this, are how long nothing more is offered.
const REST_FACTOR: i64 = 30;

/// What a store has learnt of its compactors.
#[derive(Debug, Default)]
pub(crate) struct Compactors {
    /// Nobody is there; nothing is offered before this time.
    rest_until_ms: AtomicI64,
    /// Jobs whose results were adopted.
    adopted: AtomicU64,
}

impl Compactors {
    pub(crate) fn are_resting(&self, now_ms: i64) -> bool {
        now_ms < self.rest_until_ms.load(Ordering::Relaxed)
    }

    pub(crate) fn adopted(&self) -> u64 {
        self.adopted.load(Ordering::Relaxed)
    }
}

/// Offers a job until it is done elsewhere, or says why it is to be done here. Holds the job's files meanwhile.
pub(crate) async fn offer(
    context: &Arc<Context>,
    remote: &RemoteCompaction,
    compactors: &Compactors,
    job: &CompactionJob,
    task: CompactionTask,
    number: u64,
) -> std::result::Result<Vec<NewFile>, Why> {
    let directory = format!("{}-{number:08}", context.env.file_prefix);
    let board = Board {
        objects: context.env.objects.clone(),
        directory: remote.directory.clone().join(directory),
    };
    let prefix = task.file_prefix.clone();
    let lease_ms = remote.lease.as_millis() as u64;
    let message = JobMessage {
        place: board.directory.to_string(),
        lease_ms,
        task,
    };
    let patience = Patience {
        claim_wait_ms: remote.claim_wait.as_millis() as u64,
        lease_ms,
        whole_ms: remote.patience.as_millis() as u64,
    };
    // Time is counted in polls: no clock that somebody may set, and none at all in a simulation.
    let poll_ms = remote.poll.as_millis().max(1) as i64;
    let mut now_ms = 0;
    let (mut offer, mut effect) = Offer::new(patience, now_ms);
    let mut claim = 0;
    let ended = loop {
        let event = match effect {
            Effect::Post => Event::Posted(board.create(Name::Job, message.encode()).await),
            Effect::Look => {
                tokio::time::sleep(remote.poll).await;
                now_ms += poll_ms;
                if context.is_stopped() {
                    break Err(Why::Closed);
                }
                match board.look().await {
                    Ok(view) => Event::Looked { now_ms, view },
                    Err(error) => {
                        tracing::debug!(%error, "could not look after a compaction elsewhere");
                        Event::LookFailed { now_ms }
                    }
                }
            }
            Effect::TakeBack => Event::TookBack(take_back(context, &board).await),
            Effect::ReadResult => match read(&board).await {
                Ok(Some(result)) => {
                    claim = result.claim;
                    Event::Read(Some(result.outcome))
                }
                Ok(None) => Event::Read(None),
                Err(error) => {
                    tracing::warn!(%error, "the result of a compaction elsewhere cannot be read");
                    Event::Read(None)
                }
            },
            Effect::Adopt(files) => match adopt(context, job, &prefix, claim, files).await {
                Ok(files) => break Ok(files),
                Err(error) => {
                    tracing::warn!(%error, "a compaction that was done elsewhere is done again here");
                    break Err(Why::Refused);
                }
            },
            Effect::RunHere(why) => {
                tracing::info!(?why, directory = %board.directory, "a compaction that was left to others is done here");
                break Err(why);
            }
        };
        effect = offer.step(event);
    };
    board.remove().await;
    match &ended {
        Ok(_) => drop(compactors.adopted.fetch_add(1, Ordering::Relaxed)),
        Err(Why::Nobody) => {
            let rest_ms = (remote.claim_wait.as_millis() as i64).saturating_mul(REST_FACTOR);
            let until = (context.env.clock)().saturating_add(rest_ms);
            compactors.rest_until_ms.store(until, Ordering::Relaxed);
        }
        Err(_) => {}
    }
    ended
}

async fn take_back(context: &Context, board: &Board) -> Creation {
    let result = ResultMessage {
        by: context.env.file_prefix.clone(),
        claim: 0,
        outcome: Outcome::TakenBack,
    };
    board.create(Name::Result, result.encode()).await
}

async fn read(board: &Board) -> Result<Option<ResultMessage>> {
    match board.read(Name::Result).await? {
        Some(bytes) => ResultMessage::decode(&bytes).map(Some),
        None => Ok(None),
    }
}
