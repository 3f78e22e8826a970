//! Background work of a [`Store`]: what is under way, and how results become the next version.
//!
//! Flushes are installed in the order they were started, whatever the order in which they end.
use std::sync::Arc;

use super::Store;
use crate::background::{self, Done};
use crate::compaction::job;
use crate::compaction::picker::{CompactionJob, pick};
use crate::error::{Error, ErrorKind, Result};
use crate::flush::{Frozen, flush};
use crate::options::TableId;
use crate::sst::writer::NewFile;
use crate::version::VersionFile;

/// Compactions that may fail one after the other before the store gives up.
const COMPACTION_FAILURES_MAX: u32 = 5;

/// A flush that is not installed.
pub(super) struct Flush {
    pub(super) number: u64,
    pub(super) bytes: usize,
    pub(super) checkpoint: bool,
    pub(super) result: Option<Result<Option<NewFile>>>,
}

impl Store {
    /// Gathers what is frozen and not yet on its way, and writes it in the background.
    pub(super) fn start_flush(&mut self, checkpoint: bool) {
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
                    memtable: frozen.memtable.clone(),
                });
            }
        }
        if sources.is_empty() && !checkpoint {
            return;
        }
        self.flushes_started += 1;
        let result = sources.is_empty().then_some(Ok(None));
        self.flushes.push_back(Flush {
            number,
            bytes,
            checkpoint,
            result,
        });
        if !sources.is_empty() {
            background::run(
                &self.context,
                &self.report,
                "flush",
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
            Done::Compaction { result } => {
                let Some(job) = self.compaction.take() else {
                    return Ok(());
                };
                match result {
                    Ok(outputs) => {
                        let outputs = outputs.into_iter().map(|output| output.warm(&self.context));
                        let outputs = outputs
                            .filter_map(|file| VersionFile::whole(file, job.output_level))
                            .collect();
                        self.install_compaction(&job, outputs);
                        Ok(())
                    }
                    Err(error) => self.compaction_failed(error),
                }
            }
        }
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

    /// Installs finished flushes from the oldest on, then looks whether a compaction is due.
    pub(super) fn install_done(&mut self) -> Result<()> {
        self.check_failed()?;
        let mut installed = false;
        while let Some(flush) = self.flushes.pop_front_if(|flush| flush.result.is_some()) {
            match flush.result {
                Some(Ok(file)) => {
                    installed = true;
                    self.install_flush(flush.number, flush.checkpoint, file);
                }
                Some(Err(error)) => {
                    self.failed = Some(error.clone());
                    return Err(error);
                }
                None => {}
            }
        }
        if installed || self.compaction_failures == 0 {
            self.start_compaction();
        }
        Ok(())
    }

    fn install_flush(&mut self, number: u64, checkpoint: bool, file: Option<NewFile>) {
        if let Some(file) = file {
            let file = file.warm(&self.context);
            self.version = Arc::new(self.version.with_flushed(file));
            self.installs += 1;
            self.flushes_installed += 1;
        }
        for table in self.tables.iter_mut().flatten() {
            table.frozen.retain(|frozen| frozen.flush != Some(number));
        }
        if checkpoint {
            self.version.files().for_each(|file| file.file.name());
            self.checkpoints.push_back(self.version.describe());
        }
    }

    fn start_compaction(&mut self) {
        while self.compaction.is_none() && self.failed.is_none() && self.tidy_at != self.installs {
            let Some(picked) = pick(&self.version, &self.compaction_options) else {
                self.tidy_at = self.installs;
                return;
            };
            if picked.trivial_move {
                let level = picked.output_level;
                let moved = picked.inputs().into_iter();
                let moved = moved
                    .filter_map(|f| VersionFile::new(f.file.clone(), level, f.clip))
                    .collect();
                self.install_compaction(&picked, moved);
                continue;
            }
            let work = picked.clone();
            self.compaction = Some(picked);
            background::run(
                &self.context,
                &self.report,
                "compaction",
                move |context| job::run(context, &work),
                |result| Done::Compaction { result },
            );
        }
    }

    fn install_compaction(&mut self, job: &CompactionJob, outputs: Vec<Arc<VersionFile>>) {
        self.version = Arc::new(self.version.with_compacted(&job.inputs(), outputs));
        self.installs += 1;
        self.compactions_installed += 1;
        self.compaction_failures = 0;
        if !job.trivial_move {
            job.inputs().iter().for_each(|input| input.file.retire());
        }
    }
}
