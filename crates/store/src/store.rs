//! The store: one worker's tree, with a single writer on one thread.
//!
//! Writes go to the active memtable of their table. A freeze moves a table's memtable to the frozen list; a checkpoint
//! turns everything frozen into one file, in the background. Results are installed by [`Store::poll`] in the order the
//! flushes were started, so every version is a prefix of the writer's history, and a checkpoint is exactly the version
//! right after its own flush. Between the first freeze of a barrier and [`Store::checkpoint`] no flush is started for
//! size, so that no file mixes epochs.
//!
//! A store whose flush has failed for good reports that error from then on: its memory can no longer become durable, and
//! the job must go back to its last checkpoint.
use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::Checkpoint;
use crate::background::{self, Done};
use crate::compaction::job;
use crate::compaction::picker::{CompactionJob, CompactionOptions, pick};
use crate::context::Context;
use crate::error::{Error, ErrorKind, Result};
use crate::flush::{Frozen, flush};
use crate::key::{self, KeyBuffer};
use crate::memtable::{Memtable, ROW_PART_BYTES_MAX};
use crate::options::{Environment, KeyGroupRange, StoreOptions, StoreStats, TableId, TableOptions};
use crate::read::fetch::{fetch, on_runtime};
use crate::read::get::{Search, search};
use crate::read::multi_get::PendingKeys;
use crate::read::scan::{ColdScan, MemoryRows, ScanLookup, ScanRows, Window, fetch_scan, scan};
use crate::read::{Cached, ColdRead, Lookup, Value};
use crate::sst::writer::NewFile;
use crate::version::{Version, VersionFile};

/// L0 files, as a multiple of those that start a compaction, at which writes wait for it.
const L0_STALL_FACTOR: usize = 5;
/// A stalled write goes on after this, whatever the compaction does.
const STALL_MAX: Duration = Duration::from_secs(10);
/// Compactions that may fail one after the other before the store gives up.
const COMPACTION_FAILURES_MAX: u32 = 5;

struct Table {
    options: TableOptions,
    active: Memtable,
    /// Not installed yet; oldest first.
    frozen: Vec<FrozenTable>,
    /// The barrier in progress has passed this table.
    passed: bool,
}

struct FrozenTable {
    memtable: Arc<Memtable>,
    /// The flush that writes it; `None` until one is started.
    flush: Option<u64>,
}

struct Flush {
    number: u64,
    bytes: usize,
    checkpoint: bool,
    result: Option<Result<Option<NewFile>>>,
}

/// One worker's LSM tree: single writer, used from one thread.
pub struct Store {
    context: Arc<Context>,
    /// By table id.
    tables: Vec<Option<Table>>,
    version: Arc<Version>,
    installs: u64,
    /// Bytes of all active memtables.
    active_bytes: usize,
    barrier: bool,
    /// Flushes that are not installed; oldest first.
    flushes: VecDeque<Flush>,
    flushes_started: u64,
    checkpoints: VecDeque<Checkpoint>,
    compaction: Option<CompactionJob>,
    compaction_options: CompactionOptions,
    compaction_failures: u32,
    failed: Option<Error>,
    done: Receiver<Done>,
    report: Sender<Done>,
    flushes_installed: u64,
    compactions_installed: u64,
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
        let mut this = Self {
            context,
            tables: Vec::new(),
            version,
            installs: 0,
            active_bytes: 0,
            barrier: false,
            flushes: VecDeque::new(),
            flushes_started: 0,
            checkpoints: VecDeque::new(),
            compaction: None,
            compaction_options,
            compaction_failures: 0,
            failed: None,
            done,
            report,
            flushes_installed: 0,
            compactions_installed: 0,
            hits: Cell::new(0),
            cold_reads: Cell::new(0),
        };
        this.start_compaction();
        Ok(this)
    }

    /// Makes a table known. Creating it again with the same options is fine; rows of a restored table are found again
    /// under its id.
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
                let active = Memtable::new(options.ordered);
                *slot = Some(Table {
                    options,
                    active,
                    frozen: Vec::new(),
                    passed: false,
                });
                Ok(())
            }
        }
    }

    #[inline]
    fn table(&self, table: TableId) -> Result<&Table> {
        match self.tables.get(usize::from(table.0)) {
            Some(Some(found)) => Ok(found),
            _ => Err(unknown(table)),
        }
    }

    #[inline]
    fn cached(&self) -> Cached<'_> {
        Cached {
            cache: &self.context.env.block_cache,
            hits: &self.hits,
        }
    }

    fn count_cold(&self) {
        self.cold_reads.set(self.cold_reads.get() + 1);
    }

    /// Looks a key up in memory.
    #[inline]
    pub fn get(&self, table: TableId, group: u16, key: &[u8]) -> Result<Lookup<'_>> {
        let header = key::header(group, table);
        let hash = key::hash_parts(header, key);
        match self.table(table)?.get(hash, group, key) {
            Some(Some(value)) => return Ok(Lookup::Found(value.into())),
            Some(None) => return Ok(Lookup::Absent),
            None if self.version.is_empty() => return Ok(Lookup::Absent),
            None => {}
        }
        let whole = KeyBuffer::new(header, key);
        Ok(
            match search(&self.version, hash, whole.as_slice(), &self.cached()) {
                Search::Found(block, range) => Lookup::Found(Value::in_block(block, range)),
                Search::Absent => Lookup::Absent,
                Search::Cold => {
                    self.count_cold();
                    Lookup::Cold(ColdRead {
                        version: self.version.clone(),
                        key: whole.as_slice().into(),
                        hash,
                    })
                }
            },
        )
    }

    /// Looks up many keys; each file and block is visited once. `answer(i, lookup)` is called once per key, in any order.
    pub fn multi_get(
        &self,
        table: TableId,
        keys: &[(u16, &[u8])],
        answer: &mut dyn FnMut(usize, Lookup<'_>),
    ) -> Result<()> {
        let memtables = self.table(table)?;
        let mut pending = PendingKeys::default();
        for (i, &(group, key)) in keys.iter().enumerate() {
            let header = key::header(group, table);
            let hash = key::hash_parts(header, key);
            match memtables.get(hash, group, key) {
                Some(Some(value)) => answer(i, Lookup::Found(value.into())),
                Some(None) => answer(i, Lookup::Absent),
                None => pending.push(i, hash, &header, key),
            }
        }
        if !pending.is_empty() {
            pending.answer(&self.version, &self.cached(), &mut |i, lookup| {
                if matches!(lookup, Lookup::Cold(_)) {
                    self.count_cold();
                }
                answer(i, lookup);
            });
        }
        Ok(())
    }

    /// Finishes cold reads: all misses are issued together, neighbours coalesced; answers come in the order of `reads`.
    /// The work runs on the environment's runtime; any executor may poll the future.
    pub fn fetch(&self, reads: Vec<ColdRead>) -> BoxFuture<'static, Result<Vec<Option<Bytes>>>> {
        on_runtime(&self.context, fetch(self.context.clone(), reads))
    }

    /// Up to `rows_max` rows of `table` and `group` whose key starts with `prefix` and is >= `from` (and < `until`), in
    /// key order. Keys come back without group and table.
    pub fn scan(
        &self,
        table: TableId,
        group: u16,
        prefix: &[u8],
        from: &[u8],
        until: Option<&[u8]>,
        rows_max: usize,
    ) -> Result<ScanLookup> {
        let memtables = self.table(table)?;
        let whole_prefix = key::encode(group, table, prefix);
        let lower = whole_prefix.clone().max(key::encode(group, table, from));
        let mut upper = key::successor(&whole_prefix);
        if let Some(until) = until {
            let until = key::encode(group, table, until);
            upper = Some(upper.map_or(until.clone(), |upper| upper.min(until)));
        }
        let window = Window {
            lower,
            upper,
            rows_max,
        };
        if window
            .upper
            .as_ref()
            .is_some_and(|upper| *upper <= window.lower)
        {
            return Ok(ScanLookup::Rows(ScanRows {
                rows: Vec::new(),
                done: true,
            }));
        }
        let memory = MemoryRows::capture(memtables.newest_first(), group, &window);
        match scan(&self.version, &window, &memory, &self.cached()) {
            Some(rows) => Ok(ScanLookup::Rows(rows)),
            None => {
                self.count_cold();
                Ok(ScanLookup::Cold(ColdScan {
                    version: self.version.clone(),
                    window,
                    memory,
                }))
            }
        }
    }

    /// Finishes a cold scan; the rows are those of the moment `scan` was called.
    pub fn fetch_scan(&self, scan: ColdScan) -> BoxFuture<'static, Result<ScanRows>> {
        on_runtime(&self.context, fetch_scan(self.context.clone(), scan))
    }

    /// Counts installed flushes and compactions: a fetched value is still the newest if this has not moved and the
    /// memtables hold nothing for the key.
    pub fn installs(&self) -> u64 {
        self.installs
    }

    /// Sets the value of a key. Blocks while more than two memtables' worth of flushes is under way, and for a while when
    /// L0 is far too full.
    #[inline]
    pub fn put(&mut self, table: TableId, group: u16, key: &[u8], value: &[u8]) -> Result<()> {
        self.write(table, group, key, Some(value))
    }

    /// Removes a key.
    #[inline]
    pub fn delete(&mut self, table: TableId, group: u16, key: &[u8]) -> Result<()> {
        self.write(table, group, key, None)
    }

    #[inline]
    fn write(
        &mut self,
        table: TableId,
        group: u16,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<()> {
        let value_len = value.map_or(0, <[u8]>::len);
        if key.len() > ROW_PART_BYTES_MAX || value_len > ROW_PART_BYTES_MAX {
            return Err(Error::usage(format!(
                "a row of table {} has a key of {} and a value of {value_len} bytes, but {ROW_PART_BYTES_MAX} is the most for either",
                table.0,
                key.len()
            )));
        }
        let Some(Some(found)) = self.tables.get_mut(usize::from(table.0)) else {
            return Err(unknown(table));
        };
        let hash = key::hash_parts(key::header(group, table), key);
        let before = found.active.bytes();
        found.active.put(hash, group, key, value);
        self.active_bytes += found.active.bytes() - before;
        if self.active_bytes > self.context.options.memtable_bytes_max && !self.barrier {
            self.make_room()?;
        }
        Ok(())
    }

    /// Flushes everything because the memtables are full, and waits where background work cannot keep up.
    fn make_room(&mut self) -> Result<()> {
        for table in self.tables.iter_mut().flatten() {
            table.freeze();
        }
        self.active_bytes = 0;
        self.start_flush(false);
        self.install_done()?;
        let bytes_max = self.context.options.memtable_bytes_max.saturating_mul(2);
        while self.flushes.iter().map(|flush| flush.bytes).sum::<usize>() > bytes_max {
            match self.done.recv() {
                Ok(done) => self.accept(done)?,
                Err(_) => break,
            }
            self.install_done()?;
        }
        let l0_stall = self
            .context
            .options
            .l0_files_max
            .max(1)
            .saturating_mul(L0_STALL_FACTOR);
        while self.compaction.is_some() && self.version.levels[0].len() > l0_stall {
            match self.done.recv_timeout(STALL_MAX) {
                Ok(done) => self.accept(done)?,
                Err(_) => {
                    tracing::warn!(
                        "writes waited {STALL_MAX:?} for a compaction and go on without it"
                    );
                    break;
                }
            }
            self.install_done()?;
        }
        Ok(())
    }

    /// The barrier has passed this table: what it holds now belongs to the checkpoint in progress. O(1).
    pub fn freeze(&mut self, table: TableId) -> Result<()> {
        let Some(Some(found)) = self.tables.get_mut(usize::from(table.0)) else {
            return Err(unknown(table));
        };
        if found.passed && !found.active.is_empty() {
            return Err(Error::usage(format!(
                "table {} was frozen twice in one barrier, with {} rows written in between",
                table.0,
                found.active.rows()
            )));
        }
        found.passed = true;
        self.barrier = true;
        self.active_bytes -= found.active.bytes();
        found.freeze();
        self.active_bytes += found.active.bytes();
        Ok(())
    }

    /// All tables are frozen: flush what was frozen into one SST and upload it in the background.
    pub fn checkpoint(&mut self) -> Result<()> {
        self.check_failed()?;
        let forgotten = self.tables.iter().enumerate().find_map(|(id, table)| {
            let table = table.as_ref()?;
            (!table.passed && !table.active.is_empty()).then_some((id, table.active.rows()))
        });
        if let Some((id, rows)) = forgotten {
            return Err(Error::usage(format!(
                "a checkpoint was asked for before table {id} was frozen, which has {rows} rows"
            )));
        }
        for table in self.tables.iter_mut().flatten() {
            table.passed = false;
        }
        self.barrier = false;
        self.start_flush(true);
        self.install_done()
    }

    /// Drives background work: installs finished flushes and compactions, starts new ones; returns the checkpoint asked
    /// for once all its files are durable.
    pub fn poll(&mut self) -> Result<Option<Checkpoint>> {
        while let Ok(done) = self.done.try_recv() {
            self.accept(done)?;
        }
        self.install_done()?;
        Ok(self.checkpoints.pop_front())
    }

    fn check_failed(&self) -> Result<()> {
        match &self.failed {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }

    /// Gathers what is frozen and not yet on its way, and writes it in the background.
    fn start_flush(&mut self, checkpoint: bool) {
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
    fn accept(&mut self, done: Done) -> Result<()> {
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
    fn install_done(&mut self) -> Result<()> {
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
        while self.compaction.is_none() && self.failed.is_none() {
            let Some(picked) = pick(&self.version, &self.compaction_options) else {
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

    /// What the store has done and holds.
    pub fn stats(&self) -> StoreStats {
        let relaxed = std::sync::atomic::Ordering::Relaxed;
        let memtables = self.tables.iter().flatten().flat_map(Table::newest_first);
        StoreStats {
            memtable_bytes: memtables.map(|memtable| memtable.bytes() as u64).sum(),
            files: self.version.files().count() as u64,
            file_bytes: self.version.files().map(|file| file.file.size_bytes).sum(),
            l0_files: self.version.levels[0].len() as u64,
            flushes: self.flushes_installed,
            compactions: self.compactions_installed,
            bytes_uploaded: self.context.bytes_uploaded.load(relaxed),
            block_cache_hits: self.hits.get(),
            block_cache_misses: self.context.blocks_loaded.load(relaxed),
            cold_reads: self.cold_reads.get(),
        }
    }
}

impl Table {
    /// What the memtables know of a key, newest first.
    #[inline]
    fn get(&self, hash: u64, group: u16, key: &[u8]) -> Option<Option<&[u8]>> {
        if let Some(row) = self.active.get(hash, group, key) {
            return Some(row);
        }
        self.frozen
            .iter()
            .rev()
            .find_map(|frozen| frozen.memtable.get(hash, group, key))
    }

    fn newest_first(&self) -> impl Iterator<Item = &Memtable> {
        std::iter::once(&self.active)
            .chain(self.frozen.iter().rev().map(|frozen| &*frozen.memtable))
    }

    fn freeze(&mut self) {
        if !self.active.is_empty() {
            let full = std::mem::replace(&mut self.active, Memtable::new(self.options.ordered));
            self.frozen.push(FrozenTable {
                memtable: Arc::new(full),
                flush: None,
            });
        }
    }
}

fn unknown(table: TableId) -> Error {
    Error::usage(format!(
        "table {} does not exist: it must be created before it is used",
        table.0
    ))
}
