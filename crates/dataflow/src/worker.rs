//! What the operators of one worker share: its state, its part of the checkpoint in progress, what the coordinator has told it,
//! and how it fails.
//!
//! Everything here lives on the worker's thread except [`Attempt`], which all workers of the process share.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use aquifer_state::access::StateAccess;
use aquifer_state::checkpoint::{CheckpointMetadata, OperatorSnapshot};
use aquifer_state::operator::{OperatorStateSnapshot, OperatorStateStore};
use parking_lot::Mutex;
use timely::scheduling::Activator;

use crate::JobError;
use crate::connector::ConnectorContext;
use crate::job::JobCounters;

/// What all workers of this process share during one attempt.
pub(crate) struct Attempt {
    failed: AtomicBool,
    error: Mutex<Option<JobError>>,
    /// The largest tick of any source: sources follow it, so that the slowest does not look like a stalled one.
    pub tick: AtomicU64,
    /// Rows read and written.
    pub counters: Arc<JobCounters>,
    /// List elements of restored operators, by operator id.
    pub restored: BTreeMap<String, OperatorSnapshot>,
    /// Split lists that were made once for all workers, by operator id.
    pub splits: Mutex<BTreeMap<String, Arc<Vec<Vec<u8>>>>>,
    /// Sinks whose restored committables were committed and whose leftovers were removed.
    pub recovered_sinks: Mutex<BTreeSet<String>>,
    /// Keyed state of every worker, as last looked at.
    pub backend_stats: Mutex<BTreeMap<usize, aquifer_state::BackendStats>>,
    /// The checkpoint that was restored, and how many workers there were then.
    before: Option<(u64, u16)>,
    /// What each worker restores of an operator's named states, by operator id.
    shares: Mutex<BTreeMap<String, Arc<Vec<OperatorStateSnapshot>>>>,
}

impl Attempt {
    /// An attempt that goes on from a checkpoint, if there is one.
    pub fn new(restored: Option<&CheckpointMetadata>, counters: Arc<JobCounters>) -> Self {
        let before = restored.map(|r| (r.checkpoint_id, r.parallelism));
        let restored = restored.map(|r| r.operators.clone()).unwrap_or_default();
        Self {
            before,
            shares: Mutex::new(BTreeMap::new()),
            failed: AtomicBool::new(false),
            error: Mutex::new(None),
            tick: AtomicU64::new(1),
            counters,
            restored: restored
                .into_iter()
                .map(|o| (o.operator.clone(), o))
                .collect(),
            splits: Mutex::new(BTreeMap::new()),
            recovered_sinks: Mutex::new(BTreeSet::new()),
            backend_stats: Mutex::new(BTreeMap::new()),
        }
    }

    /// Ends the attempt everywhere; the first error is kept.
    pub fn fail(&self, error: JobError) {
        self.error.lock().get_or_insert(error);
        self.failed.store(true, Ordering::Release);
    }

    /// Whether some worker has failed.
    pub fn failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// The error that ended the attempt.
    pub fn take_error(&self) -> Option<JobError> {
        self.error.lock().take()
    }
}

/// One worker's part of a checkpoint, once every operator has reported.
#[derive(Debug)]
pub(crate) struct WorkerReport {
    /// The checkpoint's id.
    pub epoch: u64,
    /// State of operators that is not keyed.
    pub operators: Vec<OperatorSnapshot>,
}

/// Gathers what the worker's operators report at a barrier.
#[derive(Default)]
pub(crate) struct Barriers {
    /// Operators that must report, by index.
    participants: usize,
    open: BTreeMap<u64, (usize, Vec<OperatorSnapshot>)>,
    /// Complete, waiting for the keyed state to be durable.
    pub complete: VecDeque<WorkerReport>,
}

impl Barriers {
    /// One more operator that reports at every barrier.
    pub fn join(&mut self) {
        self.participants += 1;
    }

    /// An operator's report for an epoch.
    pub fn report(&mut self, epoch: u64, snapshot: Option<OperatorSnapshot>) {
        let (count, operators) = self.open.entry(epoch).or_default();
        *count += 1;
        operators.extend(snapshot);
        debug_assert!(
            *count <= self.participants,
            "an operator reported epoch {epoch} twice"
        );
        if *count == self.participants
            && let Some((_, operators)) = self.open.remove(&epoch)
        {
            self.complete.push_back(WorkerReport { epoch, operators });
        }
    }
}

/// What the coordinator has told this worker.
#[derive(Default)]
pub(crate) struct Control {
    /// The epoch that sources should be in.
    pub epoch: Cell<u64>,
    /// The newest complete checkpoint of this attempt.
    pub committed: Cell<u64>,
    /// The last checkpoint is complete: sources let go.
    pub finish: Cell<bool>,
    /// The job stops with this checkpoint: sources read nothing after it, and no timer in processing time fires.
    pub stop_after: Cell<Option<u64>>,
    /// Woken when any of the above changes.
    listeners: RefCell<Vec<Activator>>,
}

impl Control {
    /// Wakes this operator when the coordinator says something.
    pub fn listen(&self, activator: Activator) {
        self.listeners.borrow_mut().push(activator);
    }

    /// Whether the job stops before this epoch: nothing of it is read.
    pub fn stopping(&self, epoch: u64) -> bool {
        self.stop_after.get().is_some_and(|last| epoch > last)
    }

    /// Wakes all listeners.
    pub fn notify(&self) {
        for listener in self.listeners.borrow().iter() {
            listener.activate();
        }
    }
}

/// What the operators of one worker share.
pub(crate) struct WorkerContext {
    pub index: usize,
    pub peers: usize,
    pub max_parallelism: u16,
    pub first_epoch: u64,
    pub attempt: Arc<Attempt>,
    pub state: StateAccess,
    pub control: Control,
    pub barriers: RefCell<Barriers>,
    /// Sources of this worker that have not reached their end.
    pub open_sources: Cell<usize>,
    /// Wakes the operator that sends reports to the coordinator.
    pub reporter: RefCell<Option<Activator>>,
    pub probe: timely::dataflow::operators::probe::Handle<crate::time::Time>,
    pub connector: ConnectorContext,
    /// Ticks that a source may be ahead of the slowest sink.
    pub window_ticks: usize,
    /// Rows a source puts in a batch.
    pub batch_rows: usize,
    /// `execution.async-state.*`: bounds of one asynchronous operator.
    pub async_state: aquifer_state::controller::ControllerOptions,
    /// Ids of the operators in the graph.
    pub operators: RefCell<BTreeSet<String>>,
}

impl WorkerContext {
    /// Notes that the graph has an operator.
    pub fn has_operator(&self, uid: &str) {
        self.operators.borrow_mut().insert(uid.to_owned());
    }

    /// The named lists, broadcast maps and raw streams of an operator on this worker, as they are restored.
    pub fn operator_state(&self, uid: &str) -> Result<OperatorStateStore, JobError> {
        let small = |n: usize| u16::try_from(n).unwrap_or(u16::MAX);
        let (worker, workers) = (small(self.index), small(self.peers));
        let nothing = OperatorStateSnapshot::default();
        let shares = match (self.attempt.restored.get(uid), self.attempt.before) {
            (Some(snapshot), Some((_, before))) if !snapshot.states.is_empty() => {
                let mut shares = self.attempt.shares.lock();
                let known = shares.get(uid).cloned();
                Some(match known {
                    Some(known) => known,
                    None => {
                        let max = self.max_parallelism;
                        let dealt = Arc::new(snapshot.redistributed(before, workers, max)?);
                        shares.insert(uid.to_owned(), Arc::clone(&dealt));
                        dealt
                    }
                })
            }
            _ => None,
        };
        let share = shares.as_ref().and_then(|shares| shares.get(self.index));
        Ok(OperatorStateStore::restored(
            uid,
            worker,
            workers,
            self.max_parallelism,
            share.unwrap_or(&nothing),
            self.attempt.before.map(|(id, _)| id),
        ))
    }

    /// An operator's report at a barrier.
    pub fn report(&self, epoch: u64, snapshot: Option<OperatorSnapshot>) {
        self.barriers.borrow_mut().report(epoch, snapshot);
        self.wake_reporter();
    }

    /// Has the reporter look at barriers, sources and the store.
    pub fn wake_reporter(&self) {
        if let Some(reporter) = self.reporter.borrow().as_ref() {
            reporter.activate();
        }
    }

    /// Runs a piece of an operator; an error ends the attempt.
    pub fn guard<R>(&self, operator: &str, result: Result<R, JobError>) -> Option<R> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                tracing::debug!(operator, error = %error, "operator failed");
                self.attempt.fail(error);
                None
            }
        }
    }
}

/// The context, shared by the operators of the worker.
pub(crate) type Shared = Rc<WorkerContext>;
