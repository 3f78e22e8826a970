//! What a [`Store`] does when its memtables are full or its background work is behind.
//!
//! A full memtable is frozen and flushed. While a barrier is on its way, a file must not mix what is before it with what is after it:
//! then what is before the barrier is flushed as one file and what is after as another, which stays *ahead* of the checkpoint. So memory
//! is bounded at all times. Writes are looked at when they have filled another step of the memtable, never one by one.
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use super::Store;
use super::work::FlushKind;
use crate::compaction::picker::l0_depth;
use crate::error::Result;
use crate::planted::{self, Bug};
use crate::throttle::{Backlog, delay};

/// Delayed writes are looked at once per so many bytes, or a 64th of a memtable if that is less.
const STEP_BYTES_MAX: usize = 1 << 20;

impl Store {
    /// Called when the active memtables have grown to the point where somebody has to look.
    pub(super) fn make_room(&mut self) -> Result<()> {
        if self.active_bytes > self.context.options.memtable_bytes_max {
            self.flush_full_memtables();
        }
        self.drain_reports()?;
        self.install_done()?;
        while self.flush_backlog_bytes() > self.limits.flush_bytes_hard {
            self.context.env.executor.before_wait();
            match self.done.recv() {
                Ok(done) => self.accept(done)?,
                Err(_) => break,
            }
            self.install_done()?;
        }
        self.slow_down()
    }

    fn flush_full_memtables(&mut self) {
        if self.barrier {
            // What the barrier has not passed yet is before it, like what was frozen by it.
            for table in self.tables.iter_mut().flatten() {
                if !table.passed {
                    table.freeze();
                }
            }
            self.start_flush(FlushKind::Size);
        }
        for table in self.tables.iter_mut().flatten() {
            table.freeze();
        }
        self.start_flush(match self.barrier && !planted::is(Bug::BarrierIgnored) {
            true => FlushKind::Ahead,
            false => FlushKind::Size,
        });
        self.active_bytes = 0;
    }

    /// Delays the writer as much as the backlog asks for, and says when to look again.
    fn slow_down(&mut self) -> Result<()> {
        let memtable_bytes_max = self.context.options.memtable_bytes_max;
        let step = (memtable_bytes_max / 64).clamp(1, STEP_BYTES_MAX);
        let wait = delay(self.backlog(), &self.limits, step as u64);
        if wait.is_zero() {
            self.look_at_bytes = memtable_bytes_max;
            return Ok(());
        }
        self.look_at_bytes = memtable_bytes_max.min(self.active_bytes.saturating_add(step));
        self.write_delayed_total += wait;
        self.wait_for_reports(wait)
    }

    pub(super) fn backlog(&self) -> Backlog {
        Backlog {
            l0_runs: self.l0_runs,
            l0_shrinks: !self.compactions.is_empty(),
            flush_bytes: self.flush_backlog_bytes(),
        }
    }

    pub(super) fn flush_backlog_bytes(&self) -> u64 {
        self.flushes.iter().map(|flush| flush.bytes as u64).sum()
    }

    /// Lets time pass, and takes what comes in meanwhile.
    fn wait_for_reports(&mut self, wait: Duration) -> Result<()> {
        self.context.env.executor.before_wait();
        if self.context.env.executor.skips_pauses() {
            self.drain_reports()?;
            return self.install_done();
        }
        // The delay is a hint to the writer and decides nothing, so that it need not come from the environment's clock.
        #[allow(clippy::disallowed_methods)]
        let until = Instant::now() + wait;
        loop {
            #[allow(clippy::disallowed_methods)]
            let left = until.saturating_duration_since(Instant::now());
            match self.done.recv_timeout(left) {
                Ok(done) => {
                    self.accept(done)?;
                    self.install_done()?;
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
    }

    pub(super) fn drain_reports(&mut self) -> Result<()> {
        while let Ok(done) = self.done.try_recv() {
            self.accept(done)?;
        }
        Ok(())
    }

    /// To be called whenever the version changes.
    pub(super) fn count_l0_runs(&mut self) {
        self.l0_runs = l0_depth(&self.version.levels[0]);
    }
}
