//! What a [`Store`] does when its memtables are full or its background work is behind.
//!
//! A full memtable is frozen and flushed. While a barrier is on its way, a file must not mix what is before it with what is after it:
//! then what is before the barrier is flushed as one file and what is after as another, which stays *ahead* of the checkpoint. So memory
//! is bounded at all times. Writes are looked at when they have filled another step of the memtable, never one by one.
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use super::Store;
use super::table::Table;
use super::work::FlushKind;
use crate::compaction::picker::l0_depth;
use crate::error::Result;
use crate::memtable::Memtable;
use crate::options::TableId;
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
        self.release_retained();
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
            self.look_again_at(memtable_bytes_max);
            return Ok(());
        }
        self.look_again_at(self.active_bytes.saturating_add(step));
        self.write_delayed_total += wait;
        self.wait_for_reports(wait)
    }

    /// Lets writes go on until the active memtables have so many bytes, or memory for them has to be taken from what is retained.
    fn look_again_at(&mut self, bytes: usize) {
        self.look_at_bytes = bytes.min(self.context.options.memtable_bytes_max);
        if self.retained_bytes > 0 {
            let room = self.room_beside_memtables();
            let left = room.saturating_sub(self.retained_bytes);
            self.look_at_bytes = self
                .look_at_bytes
                .min(self.active_bytes.saturating_add(left));
        }
    }

    /// Bytes that memtables which have become files may have.
    fn room_beside_memtables(&self) -> usize {
        let options = &self.context.options;
        let all = options
            .memtable_bytes_max
            .saturating_mul(options.retained_memtables_max.saturating_add(1));
        let memtables = self.tables.iter().flatten().flat_map(Table::newest_first);
        all.saturating_sub(memtables.map(Memtable::bytes).sum())
    }

    /// The memtables that a flush has made files of stay in memory, as far as there is room.
    pub(super) fn retain_flushed(&mut self, flush: u64) {
        let wanted = self.context.options.retained_memtables_max > 0;
        for (id, table) in self.tables.iter_mut().enumerate() {
            let Some(table) = table else { continue };
            let written = table
                .frozen
                .extract_if(.., |frozen| frozen.flush == Some(flush));
            let written: Vec<_> = written.map(|frozen| frozen.memtable).collect();
            if !wanted {
                table.retained.release(flush);
            } else if !written.is_empty() {
                self.retained_bytes -= table.retained.bytes();
                table.retained.keep(TableId(id as u16), flush, written);
                self.retained_bytes += table.retained.bytes();
            }
        }
        self.release_retained();
        self.look_again_at(self.look_at_bytes);
        self.note_flushed_files();
    }

    /// Gives back what is retained until all memtables together are small enough, the oldest first.
    fn release_retained(&mut self) {
        if self.retained_bytes == 0 {
            return;
        }
        let room = self.room_beside_memtables();
        let mut released = false;
        while self.retained_bytes > room {
            let tables = self.tables.iter().flatten();
            let Some(oldest) = tables.filter_map(|table| table.retained.oldest()).min() else {
                break;
            };
            for table in self.tables.iter_mut().flatten() {
                self.retained_bytes -= table.retained.bytes();
                table.retained.release(oldest);
                self.retained_bytes += table.retained.bytes();
            }
            released = true;
        }
        if released {
            self.note_flushed_files();
        }
    }

    /// To be called whenever the version or what is retained changes.
    pub(super) fn note_flushed_files(&mut self) {
        let mut flushes: Vec<u64> = self.version.files().map(|file| file.flush).collect();
        flushes.sort_unstable();
        flushes.dedup();
        for table in self.tables.iter_mut().flatten() {
            match table.joins_expired() {
                // As if there were files that no flush has written.
                true => table.retained.note_files(&[0]),
                false => table.retained.note_files(&flushes),
            }
        }
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
