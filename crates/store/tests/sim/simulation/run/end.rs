//! S11 and S4: when the faults have ended, everything comes right.
use std::collections::BTreeSet;

use super::super::commits;
use super::super::op::{self, GROUPS, KEYS, TABLES};
use super::{Failure, Simulation, Stop, fail};

impl Simulation<'_> {
    /// S11 and S4: the faults end, and everything comes right.
    pub(super) fn end(&mut self) -> Result<(), Failure> {
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
