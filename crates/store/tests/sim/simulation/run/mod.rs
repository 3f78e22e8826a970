//! Runs a case: operations against stores and model, processes that die and come back, and the checks.
//!
//! The checks have the names of `docs/reliability.md`: S1 reads equal the model; S2 what was acknowledged is there after a
//! crash, and the state is that of exactly one checkpoint; S3 every retained checkpoint restores; S4 nothing that a checkpoint
//! names is deleted, and nothing is left over; S6 damage is noticed or harmless; S11 without faults there is progress.
mod checks;
mod process;
mod reads;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::Arc;

use aquifer_store::{BlockCache, Checkpoint, Environment, KeyGroupRange};
use aquifer_testkit::{Crash, FaultKind, History, Rng, Storm, Stormy, Truth};
use object_store::ObjectStore;
use object_store::path::Path;
use parking_lot::Mutex;

use super::case::Case;
use super::commits::{self, Commits, Metadata};
use super::executor::SimExecutor;
use super::model::{Rows, ranges};
use super::op::{self, GROUPS, KEYS, Op, TABLES};
use process::{Process, SimClock, Worker, ended, open};

/// Processes that may fail to recover, one after the other.
const RECOVERIES_MAX: usize = 300;
const IN_FLIGHT_MAX: usize = 3;

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

    fn storm(&self) -> Storm {
        if self.calm {
            return Storm::none();
        }
        let mut storm = self.case.storm.clone();
        storm.seed ^= self.attempts << 32;
        storm.ends_at = storm.ends_at.saturating_sub(self.requests);
        storm
    }

    fn environment(
        &self,
        executor: &Arc<SimExecutor>,
        objects: Arc<dyn ObjectStore>,
        cache: &Arc<BlockCache>,
        prefix: String,
    ) -> Environment {
        let mut env = Environment::new(
            objects,
            commits::shared(),
            executor.runtime.handle().clone(),
            cache.clone(),
            prefix,
        );
        env.executor = executor.clone();
        let clock = self.clock.clone();
        env.clock = Arc::new(move || clock.now().ms);
        env
    }

    /// A new process finds the newest checkpoint, fences earlier ones, opens the stores and sweeps.
    fn recover(&mut self) -> Result<Process, Stop> {
        self.attempts += 1;
        let attempt = self.attempts;
        let executor = SimExecutor::new(self.case.shape.threads);
        let objects = Stormy::new(self.truth.clone(), self.storm(), self.history.clone());
        let crash = self.case.crashes.iter().find(|(at, _)| *at == attempt);
        objects.crash_at(crash.map(|(_, crash)| *crash));
        let gave_up = |_| Stop::Attempt("the coordinator gave up".into());
        // Finding names does not depend on listings in the state layer; here they are simply known.
        let ids = self.complete_ids();
        let mut commits = Commits::new(self.case.shape.retained);
        let found = executor.wait(commits.recover(&objects, &ids));
        let found = found.map_err(gave_up)?;
        if commits.newest < self.acknowledged {
            return fail(
                "S2",
                format!(
                    "checkpoint {} was acknowledged, but {} is the newest after a crash",
                    self.acknowledged, commits.newest
                ),
            );
        }
        let restored = match &found {
            Some(metadata) => match self.cuts.get(&metadata.encode()) {
                Some(cut) => cut.clone(),
                None => return fail("S2", "a checkpoint that nobody wrote".into()),
            },
            None => Rows::default(),
        };
        let fence = Metadata {
            id: commits.newest + 1,
            attempt,
            lists: found.map(|metadata| metadata.lists).unwrap_or_default(),
        };
        self.cuts.insert(fence.encode(), restored.clone());
        let fenced = executor.wait(commits.commit(&objects, &fence));
        if !fenced.map_err(gave_up)? {
            return Err(Stop::Attempt("another process was faster".into()));
        }
        self.acknowledged = fence.id;
        let mut workers = Vec::new();
        for (i, range) in ranges(self.workers, GROUPS).into_iter().enumerate() {
            let prefix = commits::file_prefix(attempt, i);
            let env = self.environment(&executor, Arc::new(objects.clone()), &self.cache, prefix);
            let lists = fence
                .lists
                .iter()
                .map(|(_, list)| (list.clone(), range))
                .collect();
            let store = match open(env, self.case, lists) {
                Ok(store) => store,
                Err(error) => return fail("S3", format!("a checkpoint does not open: {error}")),
            };
            workers.push(Worker {
                range,
                store,
                complete: VecDeque::new(),
            });
        }
        executor.wait(commits.clean(&objects));
        self.discarded.extend(commits.discarded.drain(..));
        // A sweep that fails is left to the next attempt.
        let _ = executor.wait(commits.sweep(&objects, attempt));
        Ok(Process {
            attempt,
            executor,
            objects,
            workers,
            commits,
            clock: self.clock.clone(),
            live: restored,
            frozen: Default::default(),
            cut: Rows::default(),
            in_flight: VecDeque::new(),
            planned: Vec::new(),
        })
    }

    fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("a process")
    }

    fn apply(&mut self, op: &Op) -> Result<(), Stop> {
        match *op {
            Op::Put {
                table,
                group,
                key,
                tag,
                len,
            } => {
                let value = op::value(table, tag, len);
                self.process().put(table, group, op::key(key), value)
            }
            Op::Merge {
                table,
                group,
                key,
                tag,
                len,
            } => {
                let operand = op::value(table, tag, len);
                self.process().merge(table, group, op::key(key), operand)
            }
            Op::Clock { ms } => {
                self.clock.pass(i64::from(ms));
                if ms < 0 {
                    self.history.lock().count(FaultKind::ClockJump);
                }
                Ok(())
            }
            Op::Delete { table, group, key } => self.process().delete(table, group, op::key(key)),
            Op::DeletePrefix { table, group, map } => {
                let prefix = map.map(op::map_prefix).unwrap_or_default();
                self.process().delete_prefix(table, group, &prefix)
            }
            Op::Burst { table, seed, count } => {
                let mut random = Rng::new(u64::from(seed));
                for _ in 0..count {
                    let (group, key) = place(&mut random);
                    let (tag, len) = (random.next_u64() as u32, random.below(90) as u16);
                    let value = op::value(table, tag, len);
                    match random.below(8) {
                        0 => self.process().delete(table, group, key)?,
                        1..5 if op::merges(table) => {
                            self.process().merge(table, group, key, value)?;
                        }
                        _ => self.process().put(table, group, key, value)?,
                    }
                }
                Ok(())
            }
            Op::Get { table, group, key } => self.get(table, group, &op::key(key)),
            Op::MultiGet { table, seed, count } => self.multi_get(table, seed, count, false),
            Op::PlanReads { table, seed, count } => self.multi_get(table, seed, count, true),
            Op::FinishReads => self.finish_reads(),
            Op::Scan {
                table,
                group,
                map,
                from,
                until,
                rows_max,
            } => {
                let prefix = map.map(op::map_prefix).unwrap_or_default();
                let from = from.map(op::key).unwrap_or_default();
                let until = until.map(op::key);
                self.scan(
                    table,
                    group,
                    &prefix,
                    &from,
                    until.as_deref(),
                    usize::from(rows_max),
                )
            }
            Op::Freeze { table } => self.process().freeze(table),
            Op::Checkpoint => self.checkpoint(),
            Op::Poll => self.poll(),
            Op::RunJob { which } => {
                self.process().executor.run(usize::from(which));
                Ok(())
            }
            Op::Settle => self.settle(),
            Op::Restart {
                workers,
                forget_cache,
            } => {
                self.kill();
                self.workers = workers.clamp(1, GROUPS as u8);
                if forget_cache {
                    self.cache = BlockCache::new(self.case.shape.cache_bytes);
                }
                Ok(())
            }
            Op::CrashAt { requests, applied } => {
                let process = self.process();
                let at = process.objects.requests() + u64::from(requests);
                process.objects.crash_at(Some(Crash { at, applied }));
                Ok(())
            }
            Op::CheckRetained => Ok(self.check_retained()?),
            Op::Damage { kind, pick, at } => Ok(self.damage(kind, pick, at)?),
        }
    }

    fn checkpoint(&mut self) -> Result<(), Stop> {
        // Reads that were planned before the last barrier must be done: files they need may go.
        self.finish_reads()?;
        let process = self.process();
        if process.in_flight.len() >= IN_FLIGHT_MAX {
            return self.poll();
        }
        process.start_checkpoint()
    }

    fn poll(&mut self) -> Result<(), Stop> {
        if self.process().in_flight.len() > 1 {
            // Of several checkpoints, the later ones may delete what reads planned before the first still need.
            self.finish_reads()?;
        }
        let process = self.process.as_mut().expect("a process");
        for worker in &mut process.workers {
            while let Some(checkpoint) = worker.store.poll().map_err(ended)? {
                worker.complete.push_back(checkpoint);
            }
        }
        while process
            .workers
            .iter()
            .all(|worker| !worker.complete.is_empty())
        {
            let lists: Vec<(KeyGroupRange, Checkpoint)> = process
                .workers
                .iter_mut()
                .filter_map(|worker| Some((worker.range, worker.complete.pop_front()?)))
                .collect();
            let Some(cut) = process.in_flight.pop_front() else {
                return fail("S2", "a checkpoint that nobody asked for".into());
            };
            let metadata = Metadata {
                id: process.commits.newest + 1,
                attempt: process.attempt,
                lists,
            };
            for file in metadata.lists.iter().flat_map(|(_, list)| &list.files) {
                let body = self.truth.body(&Path::from(file.path.as_str()));
                if body.as_ref().map(|body| body.len() as u64) != Some(file.size_bytes) {
                    return fail(
                        "S2",
                        format!(
                            "{} is handed out with {} bytes, but the object store has {:?}",
                            file.path,
                            file.size_bytes,
                            body.map(|body| body.len())
                        ),
                    );
                }
            }
            self.cuts.insert(metadata.encode(), cut);
            let committed = process
                .executor
                .wait(process.commits.commit(&process.objects, &metadata));
            match committed {
                Ok(true) => {
                    self.acknowledged = metadata.id;
                    self.commits += 1;
                    process
                        .executor
                        .wait(process.commits.clean(&process.objects));
                    self.discarded.extend(process.commits.discarded.drain(..));
                }
                Ok(false) => {
                    return Err(Stop::Attempt(
                        "another process has taken the checkpoint".into(),
                    ));
                }
                Err(_) => {
                    self.history.lock().count(FaultKind::CrashBeforeCommit);
                    return Err(Stop::Attempt("the coordinator gave up".into()));
                }
            }
        }
        Ok(())
    }

    fn settle(&mut self) -> Result<(), Stop> {
        loop {
            let process = self.process();
            let ran = process.executor.run(0);
            process.executor.drain();
            self.poll()?;
            if !ran && self.process().executor.waiting() == 0 {
                return Ok(());
            }
        }
    }

    /// S11 and S4: the faults end, and everything comes right.
    fn end(&mut self) -> Result<(), Failure> {
        self.history.lock().add(format_args!("-- the faults end"));
        self.kill();
        self.calm = true;
        self.alive()?;
        let calm = |stop| match stop {
            Stop::Failure(failure) => failure,
            Stop::Attempt(why) => Failure {
                check: "S11",
                message: format!("the attempt ended: {why}"),
            },
        };
        for key in 0..20 {
            let value = op::value(op::POINTS, u32::from(key), 20);
            self.process()
                .put(op::POINTS, key % GROUPS, op::key(key), value)
                .map_err(calm)?;
        }
        let before = self.commits;
        self.checkpoint().map_err(calm)?;
        for _ in 0..10 {
            self.process().executor.run(0);
            self.poll().map_err(calm)?;
        }
        if self.commits == before {
            return fail(
                "S11",
                "a checkpoint is not complete after ten rounds".into(),
            );
        }
        self.settle().map_err(calm)?;
        let allowed = 16 * self.case.shape.l0_files as u64;
        for worker in &self.process().workers {
            let stats = worker.store.stats();
            if stats.l0_runs > allowed {
                return fail(
                    "S11",
                    format!("{} runs stay in L0, allowed are {allowed}", stats.l0_runs),
                );
            }
        }
        for table in 0..TABLES {
            for group in 0..GROUPS {
                self.scan(table, group, b"", b"", None, usize::from(KEYS) * 2)
                    .map_err(calm)?;
            }
        }
        // What this attempt has made and nothing names, it has deleted itself.
        for _ in 0..3 {
            self.checkpoint().map_err(calm)?;
            self.settle().map_err(calm)?;
        }
        let (attempt, kept) = {
            let process = self.process();
            (process.attempt, process.commits.kept())
        };
        let own = format!("{}/{attempt:06}-", commits::shared());
        if let Some(path) = (self.truth.paths().iter())
            .find(|path| path.as_ref().starts_with(&own) && !kept.contains(path.as_ref()))
        {
            return fail("S4", format!("{path} is named by nothing and stays"));
        }
        self.truth.land_all();
        self.check_retained()?;
        // The next attempt sweeps what this one and those before it have left.
        self.kill();
        self.alive()?;
        self.check_deletions()?;
        let mut named = BTreeSet::new();
        for metadata in self.complete()? {
            named.extend(metadata.files());
        }
        let left =
            self.truth.paths().into_iter().find(|path| {
                path.prefix_matches(&commits::shared()) && !named.contains(path.as_ref())
            });
        if let Some(path) = left {
            return fail("S4", format!("{path} is left over: no checkpoint names it"));
        }
        self.check_retained()?;
        self.kill();
        Ok(())
    }
}

fn place(random: &mut Rng) -> (u16, Vec<u8>) {
    let group = random.below(u64::from(GROUPS)) as u16;
    (group, op::key(random.below(u64::from(KEYS)) as u16))
}
