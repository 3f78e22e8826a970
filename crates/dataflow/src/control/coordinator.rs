//! The checkpoint coordinator as a pure state machine: events in, effects out, no clock and no I/O of its own.
//!
//! What always holds: one checkpoint is open at a time; ids only grow; a checkpoint is announced only after its metadata was
//! written under an id nobody else had taken; and the next one is triggered only after that announcement.

use std::collections::{BTreeMap, BTreeSet};

use aquifer_state::checkpoint::{CheckpointMetadata, CommitOutcome, OperatorSnapshot};
use aquifer_state::{KeyedSnapshot, StateDescription};
use aquifer_store::{KeyGroupRange, TableId};

use crate::JobError;

/// One worker's part of a checkpoint.
#[derive(Clone, Debug)]
pub(crate) struct Acknowledgement {
    pub worker: usize,
    pub checkpoint_id: u64,
    pub range: KeyGroupRange,
    pub keyed: KeyedSnapshot,
    pub tables: Vec<(StateDescription, TableId)>,
    pub operators: Vec<OperatorSnapshot>,
}

/// What happens to the coordinator.
#[derive(Debug)]
pub(crate) enum Event {
    /// Time has passed.
    Tick,
    /// A worker's part is durable.
    Acknowledged(Acknowledgement),
    /// All sources of a worker have reached their end.
    SourcesFinished(usize),
    /// The metadata was written, or somebody else had taken the id, or the object store failed.
    Written(u64, Result<CommitOutcome, String>),
    /// A savepoint is wanted: the ticket of the request, and whether the job is to end with it.
    SavepointWanted(u64, bool),
    /// The savepoints of a checkpoint were written, or one with which the job was to end was not.
    SavepointsWritten(u64, Result<(), String>),
}

/// What the coordinator wants done.
#[derive(Debug)]
pub(crate) enum Effect {
    /// Tell all sources to end this checkpoint's epoch.
    Trigger(u64),
    /// The same, and sources are to read nothing after it.
    TriggerAndStop(u64),
    /// Write this under its id if nobody has.
    Write(Box<CheckpointMetadata>),
    /// Tell everyone that the checkpoint is complete.
    Announce(Completed),
    /// Rewrite this checkpoint, which was just announced, for the requests with these tickets.
    WriteSavepoints(u64, Vec<u64>),
    /// The job was to stop with a savepoint that could not be written, for this reason: sources read on.
    GoOn(String),
    /// Everything is done and committed: let the job end.
    Finish,
    /// End the attempt.
    Fail(JobError),
}

/// A complete checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Completed {
    pub checkpoint_id: u64,
    pub duration_ms: u64,
    pub state_bytes: u64,
    pub files: Vec<String>,
}

/// When checkpoints are taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    /// Between triggers; `None` = only the last one.
    pub interval_ms: Option<u64>,
    /// Between the end of one and the trigger of the next.
    pub min_pause_ms: u64,
    /// A checkpoint that takes longer fails the attempt.
    pub timeout_ms: u64,
}

struct Open {
    id: u64,
    started_ms: i64,
    last: bool,
    writing: bool,
    parts: BTreeMap<usize, Acknowledgement>,
    completed: Option<Completed>,
    savepoints: Wanted,
}

/// Requests for savepoints.
#[derive(Debug, Default)]
struct Wanted {
    tickets: Vec<u64>,
    /// The job is to end with one of them.
    stop: bool,
}

/// The coordinator of one attempt.
pub(crate) struct Coordinator {
    schedule: Schedule,
    /// Everything of the metadata that does not change within an attempt.
    template: CheckpointMetadata,
    workers: usize,
    next_id: u64,
    triggered_ms: i64,
    completed_ms: i64,
    open: Option<Open>,
    /// What the next checkpoint is wanted for.
    wanted: Wanted,
    /// The job ends when the savepoints of this checkpoint are written.
    stopping: Option<u64>,
    finished: BTreeSet<usize>,
    done: bool,
}

impl Coordinator {
    /// A coordinator whose first checkpoint has id `first_id`; `template` holds job, attempt, plan and parallelism.
    pub fn new(
        schedule: Schedule,
        template: CheckpointMetadata,
        first_id: u64,
        now_ms: i64,
    ) -> Self {
        let workers = usize::from(template.parallelism);
        Self {
            schedule,
            template,
            workers,
            next_id: first_id,
            triggered_ms: now_ms,
            completed_ms: now_ms,
            open: None,
            wanted: Wanted::default(),
            stopping: None,
            finished: BTreeSet::new(),
            done: false,
        }
    }

    /// One step.
    pub fn step(&mut self, event: Event, now_ms: i64) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.done {
            return effects;
        }
        match event {
            Event::Tick => {}
            Event::SourcesFinished(worker) => {
                self.finished.insert(worker);
            }
            Event::Acknowledged(part) => self.acknowledged(part, now_ms, &mut effects),
            Event::Written(id, outcome) => self.written(id, outcome, now_ms, &mut effects),
            Event::SavepointWanted(ticket, stop) => {
                self.wanted.tickets.push(ticket);
                self.wanted.stop |= stop;
            }
            Event::SavepointsWritten(id, outcome) => {
                self.savepoints_written(id, outcome, &mut effects);
            }
        }
        self.check_timeout(now_ms, &mut effects);
        self.maybe_trigger(now_ms, &mut effects);
        effects
    }

    /// Milliseconds after which a tick may have something to do; `None` = only events matter.
    pub fn next_tick_ms(&self, now_ms: i64) -> Option<u64> {
        let due = match &self.open {
            Some(open) => open
                .started_ms
                .saturating_add_unsigned(self.schedule.timeout_ms),
            None if self.stopping.is_some() => return None,
            None => self.due()?,
        };
        Some(
            u64::try_from(due.saturating_sub(now_ms))
                .unwrap_or(0)
                .max(1),
        )
    }

    /// When the next periodic checkpoint may start.
    fn due(&self) -> Option<i64> {
        let interval = self
            .triggered_ms
            .saturating_add_unsigned(self.schedule.interval_ms?);
        Some(
            interval.max(
                self.completed_ms
                    .saturating_add_unsigned(self.schedule.min_pause_ms),
            ),
        )
    }

    fn maybe_trigger(&mut self, now_ms: i64, effects: &mut Vec<Effect>) {
        if self.open.is_some() || self.done || self.stopping.is_some() {
            return;
        }
        let last = self.finished.len() == self.workers;
        // A savepoint waits for no interval and no pause.
        let wanted = !self.wanted.tickets.is_empty();
        if !last && !wanted && self.due().is_none_or(|due| now_ms < due) {
            return;
        }
        // A finished job leaves nothing to go on with: requests that come too late are answered when the job has ended.
        let savepoints = match last {
            true => Wanted::default(),
            false => std::mem::take(&mut self.wanted),
        };
        let stop = savepoints.stop;
        let id = self.next_id;
        self.next_id += 1;
        self.triggered_ms = now_ms;
        self.open = Some(Open {
            id,
            started_ms: now_ms,
            last,
            writing: false,
            parts: BTreeMap::new(),
            completed: None,
            savepoints,
        });
        effects.push(match stop {
            true => Effect::TriggerAndStop(id),
            false => Effect::Trigger(id),
        });
    }

    fn savepoints_written(
        &mut self,
        id: u64,
        outcome: Result<(), String>,
        effects: &mut Vec<Effect>,
    ) {
        if self.stopping != Some(id) {
            return;
        }
        effects.push(match outcome {
            Ok(()) => {
                self.done = true;
                Effect::Finish
            }
            // Whoever asked is told, and may ask again. Nothing has ended but the reading of sources.
            Err(error) => {
                self.stopping = None;
                Effect::GoOn(error)
            }
        });
    }

    fn check_timeout(&mut self, now_ms: i64, effects: &mut Vec<Effect>) {
        let timeout_ms = self.schedule.timeout_ms;
        let Some(open) = &self.open else { return };
        if now_ms > open.started_ms.saturating_add_unsigned(timeout_ms) {
            let missing: Vec<_> = (0..self.workers)
                .filter(|w| !open.parts.contains_key(w))
                .collect();
            effects.push(Effect::Fail(JobError::failed(format!(
                "checkpoint {} was not complete after {timeout_ms} ms (execution.checkpointing.timeout); workers that had not \
                 answered: {missing:?}",
                open.id
            ))));
            self.done = true;
        }
    }

    fn acknowledged(&mut self, part: Acknowledgement, now_ms: i64, effects: &mut Vec<Effect>) {
        let Some(open) = self
            .open
            .as_mut()
            .filter(|open| open.id == part.checkpoint_id && !open.writing)
        else {
            return;
        };
        open.parts.insert(part.worker, part);
        if open.parts.len() < self.workers {
            return;
        }
        open.writing = true;
        let mut metadata = self.template.clone();
        metadata.checkpoint_id = open.id;
        metadata.created_unix_ms = u64::try_from(now_ms).unwrap_or(0);
        metadata.finished = open.last;
        let mut operators: BTreeMap<String, OperatorSnapshot> = BTreeMap::new();
        for part in std::mem::take(&mut open.parts).into_values() {
            if metadata.tables.is_empty() {
                metadata.tables = part.tables;
            } else if let Err(why) = merge_tables(&mut metadata.tables, part.tables) {
                self.done = true;
                effects.push(Effect::Fail(JobError::failed(format!(
                    "checkpoint {} cannot be written: {why}",
                    metadata.checkpoint_id
                ))));
                return;
            }
            metadata.keyed.push((part.range, part.keyed));
            for one in part.operators {
                let pooled =
                    operators
                        .entry(one.operator.clone())
                        .or_insert_with(|| OperatorSnapshot {
                            operator: one.operator.clone(),
                            ..OperatorSnapshot::default()
                        });
                pooled.pool(one);
            }
        }
        metadata.operators = operators.into_values().collect();
        open.completed = Some(Completed {
            checkpoint_id: open.id,
            duration_ms: 0,
            state_bytes: metadata.state_bytes(),
            files: metadata.files(),
        });
        effects.push(Effect::Write(Box::new(metadata)));
    }

    fn written(
        &mut self,
        id: u64,
        outcome: Result<CommitOutcome, String>,
        now_ms: i64,
        effects: &mut Vec<Effect>,
    ) {
        let Some(open) = self.open.take_if(|open| open.id == id && open.writing) else {
            return;
        };
        match outcome {
            Ok(CommitOutcome::Committed) => {
                self.completed_ms = now_ms;
                if let Some(mut completed) = open.completed {
                    completed.duration_ms = u64::try_from(now_ms - open.started_ms).unwrap_or(0);
                    effects.push(Effect::Announce(completed));
                }
                let savepoints = open.savepoints;
                if !savepoints.tickets.is_empty() {
                    self.stopping = savepoints.stop.then_some(id);
                    effects.push(Effect::WriteSavepoints(id, savepoints.tickets));
                }
                if open.last {
                    self.done = true;
                    effects.push(Effect::Finish);
                }
            }
            Ok(CommitOutcome::Lost) => {
                self.done = true;
                effects.push(Effect::Fail(JobError::failed(format!(
                    "checkpoint {id} was committed by another attempt of this job: attempt {} ends, so that only one writes",
                    self.template.attempt
                ))));
            }
            Err(error) => {
                self.done = true;
                effects.push(Effect::Fail(JobError::failed(format!(
                    "checkpoint {id} could not be committed: {error}"
                ))));
            }
        }
    }
}

/// Adds what another worker knows of the tables. Both must mean the same by a number: rows have nothing else that tells their state.
///
/// Event time begins on one worker after the other. What has no time counts from the latest of these moments, so that nothing expires on a
/// worker earlier than that worker would have said.
fn merge_tables(
    known: &mut Vec<(StateDescription, TableId)>,
    other: Vec<(StateDescription, TableId)>,
) -> Result<(), String> {
    let mut missing = Vec::new();
    for (at, (other, id)) in other.into_iter().enumerate() {
        // Mostly they are the same, in the same order.
        let same_place = known.get(at).filter(|(_, known)| *known == id);
        let place = match same_place {
            Some(_) => Some(at),
            None => known.iter().position(|(_, known)| *known == id),
        };
        let Some((known, _)) = place.and_then(|place| known.get_mut(place)) else {
            missing.push((other, id));
            continue;
        };
        if (&known.operator, &known.state) != (&other.operator, &other.state) {
            return Err(format!(
                "table {} is state `{}` of operator `{}` on one worker and state `{}` of operator `{}` on another: every worker must ask for the same states in the same order",
                id.0, known.state, known.operator, other.state, other.operator
            ));
        }
        if known.options.event_time {
            let latest = known.schema.untimed_as_ms.max(other.schema.untimed_as_ms);
            known.schema.untimed_as_ms = latest;
            known.options.untimed_as_ms = latest;
        }
    }
    known.extend(missing);
    Ok(())
}

#[cfg(test)]
#[path = "coordinator_tests.rs"]
mod tests;
