//! The life of a process begins: it finds the newest checkpoint, fences earlier processes, opens its stores and sweeps.
use std::collections::VecDeque;
use std::sync::Arc;

use aquifer_store::{BlockCache, Environment};
use aquifer_testkit::{Storm, Stormy};
use object_store::ObjectStore;

use super::super::commits::{self, Commits, Metadata};
use super::super::disk::Disk;
use super::super::executor::SimExecutor;
use super::super::model::{Rows, ranges};
use super::super::op::GROUPS;
use super::process::{Process, Worker, open};
use super::{Simulation, Stop, fail};

impl Simulation<'_> {
    pub(super) fn storm(&self) -> Storm {
        if self.calm {
            return Storm::none();
        }
        let mut storm = self.case.storm.clone();
        storm.seed ^= self.attempts << 32;
        storm.ends_at = storm.ends_at.saturating_sub(self.requests);
        storm
    }

    pub(super) fn environment(
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
    pub(super) fn recover(&mut self) -> Result<Process, Stop> {
        self.attempts += 1;
        let attempt = self.attempts;
        let executor = SimExecutor::new(self.case.shape.threads, self.case.shape.disk);
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
        let file_cache = self.disk.as_ref().and_then(Disk::open);
        let mut workers = Vec::new();
        for (i, range) in ranges(self.workers, GROUPS).into_iter().enumerate() {
            let prefix = commits::file_prefix(attempt, i);
            let mut env =
                self.environment(&executor, Arc::new(objects.clone()), &self.cache, prefix);
            env.file_cache = file_cache.clone();
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
}
