//! The store: one worker's tree, with a single writer on one thread.
//!
//! Writes go to the active memtable of their table. A freeze moves a table's memtable to the frozen list; a checkpoint
//! turns everything frozen into one file, in the background. Results are installed by [`Store::poll`] in the order the
//! flushes were started, so every version is a prefix of the writer's history, and a checkpoint is exactly the version
//! right after its own flush. Between the first freeze of a barrier and [`Store::checkpoint`] a flush for size writes what is before
//! the barrier and what is after it as files of their own; the latter are *ahead*: reads see them, the checkpoint and compactions do
//! not, until the checkpoint is made. So no file mixes epochs, and memory is bounded throughout.
//!
//! Memtables that have become files stay in memory while there is room, in front of those files (see `retained`).
//!
//! A store whose flush has failed for good reports that error from then on: its memory can no longer become durable, and
//! the job must go back to its last checkpoint.
mod existence;
mod pressure;
mod reads;
mod retained;
mod table;
mod work;
mod writes;

use std::cell::Cell;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use self::retained::Retained;
use self::table::Table;
use self::work::{Compaction, Flush};
use crate::Checkpoint;
use crate::background::Done;
use crate::compaction::picker::{CompactionOptions, l0_depth};
use crate::compaction::remote::worker::Compactors;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::expiry;
use crate::memtable::Memtable;
use crate::options::{
    Environment, KeyGroupRange, Merge, StoreOptions, StoreStats, TableId, TableOptions,
};
use crate::rules::Rules;
use crate::sst::file::FileId;
use crate::throttle::{Limits, delay};
use crate::version::Version;

/// One worker's LSM tree: single writer, used from one thread.
pub struct Store {
    context: Arc<Context>,
    /// By table id.
    tables: Vec<Option<Table>>,
    version: Arc<Version>,
    installs: u64,
    /// Bytes of all active memtables.
    active_bytes: usize,
    /// The value of `active_bytes` at which a write stops to look what is going on.
    look_at_bytes: usize,
    /// Bytes of memtables that have become files and stay in memory.
    retained_bytes: usize,
    limits: Limits,
    write_delayed_total: Duration,
    l0_runs: usize,
    /// So many of the newest files in L0 are flushed already but belong to the checkpoint after the one in progress.
    ahead: usize,
    /// Some table has a TTL.
    expires: bool,
    /// When the tree was last looked at although it had not changed.
    looked_ms: i64,
    /// Files that cannot be made younger.
    ageless: BTreeSet<FileId>,
    barrier: bool,
    /// Flushes that are not installed; oldest first.
    flushes: VecDeque<Flush>,
    flushes_started: u64,
    checkpoints: VecDeque<Checkpoint>,
    compactions: Vec<Compaction>,
    compactions_started: u64,
    compactors: Arc<Compactors>,
    compaction_options: CompactionOptions,
    compaction_failures: u32,
    /// The value of `installs` at which there was nothing to compact.
    tidy_at: u64,
    failed: Option<Error>,
    done: Receiver<Done>,
    report: Sender<Done>,
    flushes_installed: u64,
    compactions_installed: u64,
    compaction_bytes_written: u64,
    files_dropped: u64,
    hits: Cell<u64>,
    cold_reads: Cell<u64>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("directory", &self.context.env.directory)
            .field("installs", &self.installs)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// Opens an empty store, or the union of checkpoints, each clipped to a range. Reads nothing from the object store.
    pub fn open(
        env: Environment,
        options: StoreOptions,
        restored: Vec<(Checkpoint, KeyGroupRange)>,
    ) -> Result<Self> {
        if options.block_bytes == 0 || options.memtable_bytes_max == 0 {
            return Err(Error::usage(
                "the sizes of blocks and memtables must be above 0",
            ));
        }
        let compaction_options = CompactionOptions::from(&options);
        let context = Context::new(env, options);
        let version = Arc::new(Version::restore(&context, &restored)?);
        let (report, done) = channel();
        let limits = Limits::new(
            context.options.l0_files_max,
            context.options.memtable_bytes_max,
        );
        Ok(Self {
            look_at_bytes: context.options.memtable_bytes_max,
            l0_runs: l0_depth(&version.levels[0]),
            context,
            tables: Vec::new(),
            version,
            installs: 0,
            active_bytes: 0,
            retained_bytes: 0,
            limits,
            write_delayed_total: Duration::ZERO,
            ahead: 0,
            expires: false,
            looked_ms: i64::MIN,
            ageless: BTreeSet::new(),
            barrier: false,
            flushes: VecDeque::new(),
            // 0 is what files have that no flush has written.
            flushes_started: 1,
            checkpoints: VecDeque::new(),
            compactions: Vec::new(),
            compactions_started: 0,
            compactors: Arc::default(),
            compaction_options,
            compaction_failures: 0,
            tidy_at: u64::MAX,
            failed: None,
            done,
            report,
            flushes_installed: 0,
            compactions_installed: 0,
            compaction_bytes_written: 0,
            files_dropped: 0,
            hits: Cell::new(0),
            cold_reads: Cell::new(0),
        })
    }

    /// Makes a table known. Creating it again with the same options is fine; rows of a restored table are found again
    /// under its id. Tables are best created before anything is written: compactions keep operands of a table that they have
    /// not heard of, and do not know its TTL.
    pub fn create_table(&mut self, table: TableId, options: TableOptions) -> Result<()> {
        let at = usize::from(table.0);
        if self.tables.len() <= at {
            self.tables.resize_with(at + 1, || None);
        }
        match &mut self.tables[at] {
            Some(known) if known.options == options => Ok(()),
            Some(known) => Err(Error::usage(format!(
                "table {} exists with {:?}, but was asked for with {options:?}",
                table.0, known.options
            ))),
            slot => {
                if let Merge::Fold(name) = &options.merge
                    && self.context.env.folds.get(name).is_none()
                {
                    return Err(Error::usage(format!(
                        "table {} merges with the fold '{name}', but the environment knows only {:?}",
                        table.0, self.context.env.folds
                    )));
                }
                let rules = Arc::new(Rules::new(&options, &self.context.env.folds));
                self.context.describe_table(table, rules.clone());
                self.expires |= options.ttl_ms.is_some();
                let active = Memtable::new(options.ordered);
                *slot = Some(Table {
                    options,
                    rules,
                    event_ms: expiry::BEFORE_ALL,
                    active,
                    frozen: Vec::new(),
                    retained: Retained::new(),
                    passed: false,
                });
                self.note_flushed_files();
                Ok(())
            }
        }
    }

    /// Tells a table that was created with [`TableOptions::event_time`] how far its input has come, in milliseconds since the Unix epoch:
    /// rows whose time and TTL add up to that or less have expired for reads from now on, and for compactions that start from now on.
    /// A time that is not later than the latest so far changes nothing. Is not part of checkpoints: tell it again after a restore.
    pub fn advance_event_time(&mut self, table: TableId, now_ms: i64) -> Result<()> {
        let Some(Some(found)) = self.tables.get_mut(usize::from(table.0)) else {
            return Err(unknown(table));
        };
        if !found.rules.event_time {
            return Err(Error::usage(format!(
                "table {} was told an event time, but was created without one: its rows expire by the clock",
                table.0
            )));
        }
        found.event_ms = found.event_ms.max(now_ms);
        Ok(())
    }

    /// Rows without a time of a table with [`TableOptions::event_time`] count as written at `time_ms` from now on, as if the table had been
    /// created with [`TableOptions::untimed_as_ms`]: for rows that were written before event time began. Nothing changes if that is known.
    pub fn count_untimed_as(&mut self, table: TableId, time_ms: i64) -> Result<()> {
        let Some(Some(found)) = self.tables.get_mut(usize::from(table.0)) else {
            return Err(unknown(table));
        };
        if !found.rules.event_time || found.options.untimed_as_ms.is_some() {
            return Ok(());
        }
        found.options.untimed_as_ms = Some(time_ms);
        // Reads and compactions that are under way go on by the rules of when they began.
        found.rules = Arc::new(Rules::new(&found.options, &self.context.env.folds));
        self.context.describe_table(table, found.rules.clone());
        Ok(())
    }

    /// Whether reads of a table return rows that have expired, from now on and whatever [`TableOptions::show_expired`] says: for whoever has to
    /// see every row there is, for a while. Compactions still drop them.
    pub fn show_expired(&mut self, table: TableId, shows: bool) -> Result<()> {
        let Some(Some(found)) = self.tables.get_mut(usize::from(table.0)) else {
            return Err(unknown(table));
        };
        let mut rules = Rules::clone(&found.rules);
        rules.show_expired = shows;
        found.rules = Arc::new(rules);
        Ok(())
    }

    #[inline]
    fn table(&self, table: TableId) -> Result<&Table> {
        match self.tables.get(usize::from(table.0)) {
            Some(Some(found)) => Ok(found),
            _ => Err(unknown(table)),
        }
    }

    /// Counts installed flushes and compactions: a fetched value is still the newest if this has not moved and the
    /// memtables hold nothing for the key.
    pub fn installs(&self) -> u64 {
        self.installs
    }

    /// Drives background work: installs finished flushes and compactions, starts new ones; returns the checkpoint asked
    /// for once all its files are durable.
    pub fn poll(&mut self) -> Result<Option<Checkpoint>> {
        self.drain_reports()?;
        self.install_done()?;
        Ok(self.checkpoints.pop_front())
    }

    fn check_failed(&self) -> Result<()> {
        match &self.failed {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }

    /// What the store has done and holds.
    pub fn stats(&self) -> StoreStats {
        let relaxed = std::sync::atomic::Ordering::Relaxed;
        let memtables = self.tables.iter().flatten().flat_map(Table::newest_first);
        StoreStats {
            memtable_bytes: memtables.map(|memtable| memtable.bytes() as u64).sum(),
            retained_bytes: self.retained_bytes as u64,
            files: self.version.files().count() as u64,
            file_bytes: self.version.files().map(|file| file.file.size_bytes).sum(),
            l0_files: self.version.levels[0].len() as u64,
            l0_runs: self.l0_runs as u64,
            flushes: self.flushes_installed,
            compactions: self.compactions_installed,
            compactions_elsewhere: self.compactors.adopted(),
            compactions_running: self.compactions.len() as u64,
            compaction_bytes_written: self.compaction_bytes_written,
            files_dropped: self.files_dropped,
            write_delay_ns: nanoseconds(delay(self.backlog(), &self.limits, 1 << 20)),
            write_delayed_total_ns: nanoseconds(self.write_delayed_total),
            flush_backlog_bytes: self.flush_backlog_bytes(),
            bytes_uploaded: self.context.bytes_uploaded.load(relaxed),
            block_cache_hits: self.hits.get(),
            block_cache_misses: self.context.blocks_loaded.load(relaxed),
            cold_reads: self.cold_reads.get(),
            file_cache: self.context.files.cache_stats(),
            io: self.context.files.stats(),
            background_tasks: (self.flushes.len() + self.compactions.len()) as u64,
        }
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn unknown(table: TableId) -> Error {
    Error::usage(format!(
        "table {} does not exist: it must be created before it is used",
        table.0
    ))
}

impl Drop for Store {
    fn drop(&mut self) {
        self.context.stop();
    }
}
