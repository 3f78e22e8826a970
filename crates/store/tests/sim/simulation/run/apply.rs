//! What operations do, and how checkpoints are made and committed.
use aquifer_store::{BlockCache, Checkpoint, KeyGroupRange};
use aquifer_testkit::{Crash, FaultKind, Rng};
use object_store::path::Path;

use super::super::commits::Metadata;
use super::super::op::{self, GROUPS, KEYS, Op};
use super::process::ended;
use super::{Simulation, Stop, fail};

const IN_FLIGHT_MAX: usize = 3;

impl Simulation<'_> {
    pub(super) fn apply(&mut self, op: &Op) -> Result<(), Stop> {
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
            Op::Disk { kind, pick, at } => {
                let struck = self
                    .disk
                    .as_ref()
                    .and_then(|disk| disk.strike(kind, pick, at));
                if let Some(kind) = struck {
                    self.history.lock().count(kind);
                }
                Ok(())
            }
            Op::Damage { kind, pick, at } => Ok(self.damage(kind, pick, at)?),
        }
    }

    pub(super) fn checkpoint(&mut self) -> Result<(), Stop> {
        // Reads that were planned before the last barrier must be done: files they need may go.
        self.finish_reads()?;
        let process = self.process();
        if process.in_flight.len() >= IN_FLIGHT_MAX {
            return self.poll();
        }
        process.start_checkpoint()
    }

    pub(super) fn poll(&mut self) -> Result<(), Stop> {
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

    pub(super) fn settle(&mut self) -> Result<(), Stop> {
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
}

/// A key of chance.
pub(super) fn place(random: &mut Rng) -> (u16, Vec<u8>) {
    let group = random.below(u64::from(GROUPS)) as u16;
    (group, op::key(random.below(u64::from(KEYS)) as u16))
}
