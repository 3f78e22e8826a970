//! Runs a case: operations against stores and model, processes that die and come back, and the checks.
//!
//! The checks have the names of `docs/reliability.md`: S1 reads equal the model; S2 what was acknowledged is there after a
//! crash, and the state is that of exactly one checkpoint; S3 every retained checkpoint restores; S4 nothing that a checkpoint
//! names is deleted, and nothing is left over; S6 damage is noticed or harmless; S11 without faults there is progress.
mod apply;
mod checks;
mod end;
mod process;
mod reads;
mod recover;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use aquifer_store::BlockCache;
use aquifer_testkit::{FaultKind, History, Truth};
use parking_lot::Mutex;

use super::case::Case;
use super::disk::Disk;
use super::model::Rows;
use super::op::Op;
use process::{Process, SimClock};

/// Processes that may fail to recover, one after the other.
const RECOVERIES_MAX: usize = 300;

/// A check that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub check: &'static str,
    pub message: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.check, self.message)
    }
}

/// Why an operation did not go on.
enum Stop {
    /// The attempt must end, as the store or the coordinator says.
    Attempt(String),
    Failure(Failure),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

fn fail<T, E: From<Failure>>(check: &'static str, message: String) -> Result<T, E> {
    Err(Failure { check, message }.into())
}

/// What a run that held up did.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub ops: u64,
    pub requests: u64,
    /// Requests of each attempt that recovered, from the first on.
    pub requests_by_attempt: BTreeMap<u64, u64>,
    pub attempts: u64,
    pub commits: u64,
    pub history: History,
}

pub struct Simulation<'c> {
    case: &'c Case,
    truth: Truth,
    history: Arc<Mutex<History>>,
    clock: Arc<SimClock>,
    attempts: u64,
    requests: u64,
    requests_by_attempt: BTreeMap<u64, u64>,
    ops: u64,
    commits: u64,
    workers: u8,
    cache: Arc<BlockCache>,
    disk: Option<Disk>,
    process: Option<Process>,
    /// What checkpoints hold, by the bytes of their metadata.
    cuts: BTreeMap<Vec<u8>, Rows>,
    /// The newest checkpoint that was acknowledged.
    acknowledged: u64,
    /// Checkpoints that are no more, even if a late put brings their names back.
    discarded: BTreeSet<u64>,
    calm: bool,
}

impl<'c> Simulation<'c> {
    pub fn new(case: &'c Case) -> Self {
        Self {
            case,
            truth: Truth::new(),
            history: Arc::default(),
            clock: Arc::default(),
            attempts: 0,
            requests: 0,
            requests_by_attempt: BTreeMap::new(),
            ops: 0,
            commits: 0,
            workers: case.shape.workers,
            cache: BlockCache::new(case.shape.cache_bytes),
            disk: case.shape.disk.then(Disk::new),
            process: None,
            cuts: BTreeMap::new(),
            acknowledged: 0,
            discarded: BTreeSet::new(),
            calm: false,
        }
    }

    /// The record so far, also after a failure.
    pub fn history(&self) -> Arc<Mutex<History>> {
        self.history.clone()
    }

    pub fn run(&mut self) -> Result<Outcome, Failure> {
        for (number, op) in self.case.ops.iter().enumerate() {
            self.history.lock().add(format_args!("-- {number}: {op:?}"));
            self.ops += 1;
            self.step(op)?;
        }
        self.end()?;
        Ok(Outcome {
            ops: self.ops,
            requests: self.requests,
            requests_by_attempt: self.requests_by_attempt.clone(),
            attempts: self.attempts,
            commits: self.commits,
            history: self.history.lock().clone(),
        })
    }

    fn step(&mut self, op: &Op) -> Result<(), Failure> {
        self.alive()?;
        let done = self.apply(op);
        self.check_deletions()?;
        match done {
            Ok(()) => {}
            Err(Stop::Failure(failure)) => return Err(failure),
            Err(Stop::Attempt(why)) => {
                if !self.faults_are_possible() {
                    return fail("S11", format!("without a fault the attempt ended: {why}"));
                }
                self.history
                    .lock()
                    .add(format_args!("the attempt ends: {why}"));
                self.kill();
            }
        }
        if self.process.as_ref().is_some_and(|p| p.objects.is_dead()) {
            self.kill();
        }
        Ok(())
    }

    fn faults_are_possible(&self) -> bool {
        let dead = self.process.as_ref().is_some_and(|p| p.objects.is_dead());
        dead || (!self.calm && !self.case.storm.per_mille.is_empty())
    }

    /// The process ends without notice.
    fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            let requests = process.objects.requests();
            self.requests += requests;
            self.requests_by_attempt.insert(process.attempt, requests);
        }
    }

    /// Makes sure that there is a process that has recovered.
    fn alive(&mut self) -> Result<(), Failure> {
        let mut failed = 0;
        while self.process.is_none() {
            match self.recover() {
                // It died while it swept, which is the last thing that a recovery does.
                Ok(process) if process.objects.is_dead() => drop(process),
                Ok(process) => {
                    if self.calm {
                        process.objects.crash_at(None);
                    }
                    self.process = Some(process);
                }
                Err(Stop::Failure(failure)) => return Err(failure),
                Err(Stop::Attempt(why)) => {
                    failed += 1;
                    // Each of them has made some requests; without this a storm would never end.
                    self.requests += 10;
                    self.history.lock().count(FaultKind::CrashInRecovery);
                    let planned = self.case.crashes.iter().any(|(at, _)| *at == self.attempts);
                    if failed > RECOVERIES_MAX || (self.calm && !planned) {
                        return fail("S11", format!("it does not recover: {why}"));
                    }
                }
            }
            self.check_deletions()?;
        }
        Ok(())
    }

    fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("a process")
    }
}
