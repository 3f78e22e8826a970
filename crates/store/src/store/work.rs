//! Background work of a [`Store`]: what is under way, and how results become the next version.
//!
//! Flushes are installed in the order they were started, whatever the order in which they end. Several compactions may be under way;
//! each is installed when it is done. While a checkpoint's flush is under way no compaction is started, unless L0 is crowded, so that
//! checkpoints do not set off a burst of work on every worker at once.
use std::collections::BTreeSet;
use std::sync::Arc;

use super::Store;
use super::table::Table;
use crate::background::{self, Done, Slip};
use crate::compaction::job::{self, Terms};
use crate::compaction::picker::{Action, CompactionJob, Reason, Surroundings, pick};
use crate::compaction::remote::RemoteCompaction;
use crate::compaction::remote::worker::offer;
use crate::compaction::task::CompactionTask;
use crate::error::{Error, ErrorKind, Result};
use crate::executor::{COMPACTION, FLUSH};
use crate::expiry::ExpiryClock;
use crate::flush::{Frozen, flush};
use crate::memtable::Memtable;
use crate::options::{TableId, TableOptions};
use crate::planted::{self, Bug};
use crate::sst::new_file::NewFile;
use crate::version::VersionFile;

/// Compactions that may fail one after the other before the store gives up.
const COMPACTION_FAILURES_MAX: u32 = 5;
/// Runs in L0, as a multiple of those that start a compaction, at which compactions start even during a checkpoint.
const CROWDED_FACTOR: usize = 3;

/// How often a tree in which nothing changes is looked at for rows that have expired.
const LOOK_EVERY_MS: i64 = 60_000;

/// Why memtables are flushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FlushKind {
    /// They are full.
    Size,
    /// They are full, and hold what comes after a barrier whose checkpoint has not been asked for yet.
    Ahead,
    /// A checkpoint was asked for.
    Checkpoint,
}

/// A flush that is not installed.
pub(super) struct Flush {
    pub(super) number: u64,
    pub(super) bytes: usize,
    pub(super) kind: FlushKind,
    pub(super) result: Option<Result<Vec<NewFile>>>,
}

/// A compaction that is under way.
pub(super) struct Compaction {
    number: u64,
    job: CompactionJob,
    /// Other processes were asked to do it.
    elsewhere: bool,
}

impl Store {
    /// Gathers what is frozen and not yet on its way, and writes it in the background.
    pub(super) fn start_flush(&mut self, kind: FlushKind) {
        let number = self.flushes_started;
        let mut sources = Vec::new();
        let mut bytes = 0;
        for (id, table) in self.tables.iter_mut().enumerate() {
            let Some(table) = table else { continue };
            for frozen in table
                .frozen
                .iter_mut()
                .filter(|frozen| frozen.flush.is_none())
            {
                frozen.flush = Some(number);
                bytes += frozen.memtable.bytes();
                sources.push(Frozen {
                    table: TableId(id as u16),
                    rules: table.rules.clone(),
                    memtable: frozen.memtable.clone(),
                });
            }
        }
        if sources.is_empty() && kind != FlushKind::Checkpoint {
            return;
        }
        self.flushes_started += 1;
        let result = sources.is_empty().then(|| Ok(Vec::new()));
        self.flushes.push_back(Flush {
            number,
            bytes,
            kind,
            result,
        });
        if !sources.is_empty() {
            background::run(
                &self.context,
                &self.report,
                FLUSH,
                move |context| flush(context, &sources),
                move |result| Done::Flush { number, result },
            );
        } else {
            (self.context.env.waker)();
        }
    }

    /// Takes one report of a background task.
    pub(super) fn accept(&mut self, done: Done) -> Result<()> {
        match done {
            Done::Flush { number, result } => {
                if let Some(flush) = self.flushes.iter_mut().find(|flush| flush.number == number) {
                    flush.result = Some(result);
                }
                Ok(())
            }
            Done::Compaction { number, result } => {
                let Some(at) = self.compactions.iter().position(|c| c.number == number) else {
                    return Ok(());
                };
                let job = self.compactions.swap_remove(at).job;
                match result {
                    Ok(outputs) => {
                        let outputs = outputs.into_iter().map(|output| output.warm(&self.context));
                        let outputs: Vec<_> = outputs
                            .filter_map(|file| VersionFile::whole(file, job.output_level))
                            .collect();
                        self.compaction_bytes_written += outputs
                            .iter()
                            .map(|output| output.file.size_bytes)
                            .sum::<u64>();
                        if job.reason == Reason::Age {
                            self.note_ageless(&job, &outputs);
                        }
                        self.install_compaction(&job, outputs);
                        Ok(())
                    }
                    Err(error) => self.compaction_failed(error),
                }
            }
        }
    }

    /// Outputs that are as old as their inputs would be rewritten for their age again and again.
    fn note_ageless(&mut self, job: &CompactionJob, outputs: &[Arc<VersionFile>]) {
        let oldest = |file: &Arc<VersionFile>| Some(file.file.times_ms?.0);
        let before = job.runs.iter().flatten().filter_map(oldest).min();
        let untimed = |files: &[Arc<VersionFile>]| -> u64 {
            (files.iter()).fold(0, |sum, file| sum.saturating_add(file.file.untimed))
        };
        let shed_untimed = untimed(outputs) < untimed(&job.inputs());
        let stuck = outputs
            .iter()
            .filter(|file| oldest(file) <= before && !shed_untimed);
        self.ageless.extend(stuck.map(|file| file.file.id()));
        // Files that are gone need not be remembered.
        let there: BTreeSet<_> = self.version.files().map(|file| file.file.id()).collect();
        let new: BTreeSet<_> = outputs.iter().map(|file| file.file.id()).collect();
        self.ageless
            .retain(|id| there.contains(id) || new.contains(id));
    }

    fn compaction_failed(&mut self, error: Error) -> Result<()> {
        self.compaction_failures += 1;
        if error.kind == ErrorKind::Retry && self.compaction_failures < COMPACTION_FAILURES_MAX {
            tracing::warn!(%error, "a compaction failed; it is tried again after the next flush");
            return Ok(());
        }
        self.failed = Some(error.clone());
        Err(error)
    }

    /// Installs finished flushes from the oldest on, then looks whether compactions are due.
    pub(super) fn install_done(&mut self) -> Result<()> {
        self.check_failed()?;
        let mut installed = false;
        while let Some(flush) = self.next_done() {
            match flush.result {
                Some(Ok(files)) => {
                    installed = true;
                    self.install_flush(flush.number, flush.kind, files);
                }
                Some(Err(error)) => {
                    self.failed = Some(error.clone());
                    return Err(error);
                }
                None => {}
            }
        }
        if installed || self.compaction_failures == 0 {
            self.start_compactions();
        }
        Ok(())
    }

    /// The oldest flush, if it is done.
    fn next_done(&mut self) -> Option<Flush> {
        let is_done = |flush: &Flush| flush.result.is_some();
        if planted::is(Bug::FlushOutOfOrder) {
            let at = self.flushes.iter().position(is_done)?;
            return self.flushes.remove(at);
        }
        self.flushes.pop_front_if(|flush| is_done(flush))
    }

    fn install_flush(&mut self, number: u64, kind: FlushKind, files: Vec<NewFile>) {
        let files: Vec<_> = (files.into_iter())
            .filter_map(|file| VersionFile::flushed(file.warm(&self.context), number))
            .collect();
        // What is before the barrier lies behind what has overtaken it.
        let behind = match kind {
            FlushKind::Ahead => {
                self.ahead += files.len();
                0
            }
            FlushKind::Size | FlushKind::Checkpoint => self.ahead,
        };
        if !files.is_empty() {
            self.version = Arc::new(self.version.with_flushed(files, behind));
            self.installs += 1;
            self.flushes_installed += 1;
            self.count_l0_runs();
        }
        self.retain_flushed(number);
        if kind == FlushKind::Checkpoint {
            let named = self.version.files_behind(self.ahead);
            named.for_each(|file| file.file.name());
            let mut checkpoint = self.version.describe(self.ahead);
            let files = self.version.files_behind(self.ahead);
            checkpoint.warm = self.context.files.hottest(files.map(|file| &*file.file));
            self.checkpoints.push_back(checkpoint);
            self.ahead = 0;
            self.tidy_at = u64::MAX;
        }
    }

    fn start_compactions(&mut self) {
        let threads = self.context.env.executor.threads().compaction.max(1);
        self.look_at_the_time();
        while self.compactions.iter().filter(|c| !c.elsewhere).count() < threads
            && self.failed.is_none()
            && self.tidy_at != self.installs
        {
            let crowded = self
                .compaction_options
                .l0_files_max
                .saturating_mul(CROWDED_FACTOR);
            let checkpoint = |flush: &Flush| flush.kind == FlushKind::Checkpoint;
            if self.l0_runs < crowded && self.flushes.iter().any(checkpoint) {
                return;
            }
            let Some(picked) = self.pick() else {
                self.tidy_at = self.installs;
                return;
            };
            match picked.action {
                Action::Merge => self.start_compaction(picked),
                Action::Move => {
                    let level = picked.output_level;
                    let moved = picked.inputs().into_iter();
                    let moved = moved.filter_map(|file| file.moved(level)).collect();
                    self.install_compaction(&picked, moved);
                }
                Action::Drop => {
                    self.files_dropped += picked.inputs().len() as u64;
                    self.install_compaction(&picked, Vec::new());
                }
            }
        }
    }

    /// Rows expire while nothing happens: every now and then the tree is looked at although it has not changed.
    fn look_at_the_time(&mut self) {
        if !self.expires || self.tidy_at != self.installs {
            return;
        }
        let now_ms = (self.context.env.clock)();
        if now_ms.saturating_sub(self.looked_ms) >= LOOK_EVERY_MS {
            self.looked_ms = now_ms;
            self.tidy_at = u64::MAX;
        }
    }

    /// By which now rows expire, at this moment.
    fn expiry_clock(&self) -> ExpiryClock {
        let tables = self.tables.iter().enumerate();
        let event_ms = tables.filter_map(|(id, table)| {
            let table = table.as_ref()?;
            (table.rules.event_time).then_some((TableId(id as u16), table.event_ms))
        });
        ExpiryClock::new((self.context.env.clock)(), event_ms)
    }

    fn pick(&self) -> Option<CompactionJob> {
        let around = Surroundings {
            running: self
                .compactions
                .iter()
                .map(|running| &running.job)
                .collect(),
            ahead: self.ahead,
            clock: self.expiry_clock(),
            rules: self.context.table_rules(),
            ageless: self.ageless.clone(),
            leisure: self.flushes_installed > 0,
        };
        pick(&self.version, &self.compaction_options, &around)
    }

    fn start_compaction(&mut self, job: CompactionJob) {
        let number = self.compactions_started;
        self.compactions_started += 1;
        tracing::debug!(number, reason = ?job.reason, level = job.output_level, bytes = job.input_bytes(), "compacting");
        let (work, terms) = (job.clone(), Arc::new(self.terms(&job)));
        let remote = self.remote_for(&job);
        let elsewhere = remote.is_some();
        let report = move |result| Done::Compaction { number, result };
        let mut slip = Slip::new(&self.context, &self.report, COMPACTION, report);
        match remote {
            None => background::run_with(slip, move |context| job::run(context, &work, &terms)),
            Some(remote) => {
                let prefix = format!("{}-c{number}", self.context.env.file_prefix);
                let tables = self.table_options();
                let task = CompactionTask::new(&self.context, &job, tables, &terms, prefix);
                let context = self.context.clone();
                let compactors = self.compactors.clone();
                self.context.env.runtime.spawn(async move {
                    match offer(&context, &remote, &compactors, &work, task, number).await {
                        Ok(files) => slip.send(Ok(files)),
                        Err(_) => background::run_with(slip, move |context| {
                            job::run(context, &work, &terms)
                        }),
                    }
                });
            }
        }
        self.compactions.push(Compaction {
            number,
            job,
            elsewhere,
        });
    }

    /// Whether other processes are asked to do the job.
    fn remote_for(&self, job: &CompactionJob) -> Option<RemoteCompaction> {
        let remote = self.context.env.remote_compaction.as_ref()?;
        if self.compactors.are_resting((self.context.env.clock)()) {
            return None;
        }
        let there = self.compactions.iter().filter(|c| c.elsewhere).count();
        let worth_it = job.input_bytes() >= remote.bytes_min && there < remote.jobs_max;
        worth_it.then(|| remote.clone())
    }

    fn table_options(&self) -> Vec<(TableId, TableOptions)> {
        let tables = self.tables.iter().enumerate();
        tables
            .filter_map(|(id, table)| Some((TableId(id as u16), table.as_ref()?.options.clone())))
            .collect()
    }

    /// What a compaction that starts now may take for granted.
    fn terms(&self, job: &CompactionJob) -> Terms {
        let rules = self.context.table_rules();
        let tables = self.tables.iter().flatten();
        let memtables = (tables.filter(|table| table.rules.merges)).flat_map(Table::newest_first);
        let in_memory = memtables.map(Memtable::oldest_ms).min();
        let may_hold_operands = |file: &VersionFile| {
            let tables = file.file.tables();
            tables.is_none_or(|held| held.iter().any(|(id, _)| rules.of(TableId(*id)).merges))
        };
        // Files of the levels above the deepest input, and beside it, may be newer.
        let deepest = job.runs.iter().flatten().map(|file| file.level).max();
        let newer = self.version.files().filter(|file| {
            deepest.is_some_and(|deepest| file.level <= deepest)
                && may_hold_operands(file)
                && !job
                    .runs
                    .iter()
                    .flatten()
                    .any(|input| Arc::ptr_eq(input, file))
        });
        let in_files = newer.filter_map(|file| Some(file.file.times_ms?.0)).min();
        let oldest = in_memory.into_iter().chain(in_files).min();
        Terms {
            clock: self.expiry_clock(),
            rules,
            operands_since_ms: oldest.unwrap_or(i64::MAX),
        }
    }

    fn install_compaction(&mut self, job: &CompactionJob, outputs: Vec<Arc<VersionFile>>) {
        self.version = Arc::new(self.version.with_compacted(&job.inputs(), outputs));
        self.installs += 1;
        self.compactions_installed += 1;
        self.compaction_failures = 0;
        self.count_l0_runs();
        self.note_flushed_files();
        if job.action != Action::Move {
            job.inputs().iter().for_each(|input| input.file.retire());
        }
    }
}
