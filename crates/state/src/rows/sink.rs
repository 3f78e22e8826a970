//! Writes rows into SSTs.
//!
//! A private store takes the rows in the order in which files hold them, key group by key group, and a checkpoint of it is the result.
//! So no two of its files overlap, and whoever restores them finds one sorted run that needs no compaction.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use aquifer_store::{Checkpoint, Environment, Store, StoreOptions, TableId, TableOptions};

use super::{RowRefs, RowSink};
use crate::StateError;

/// What a sink has written.
#[derive(Debug)]
pub struct WrittenRows {
    /// The files, in key order.
    pub files: Checkpoint,
    /// Bytes of them.
    pub bytes_uploaded: u64,
}

/// See the module.
pub struct SstRowSink {
    store: Store,
    progress: Arc<Progress>,
    cancelled: Arc<AtomicBool>,
    tables: BTreeSet<TableId>,
    /// Key group and table of the last row.
    last: Option<(u16, TableId)>,
}

impl SstRowSink {
    /// A sink that names its files by `file_prefix`, which nobody else uses or has used, in the environment's directory. Once `cancelled`
    /// is set, it ends with an error.
    pub fn new(
        environment: &Environment,
        mut options: StoreOptions,
        file_prefix: String,
        cancelled: Arc<AtomicBool>,
    ) -> Result<Self, StateError> {
        // Compactions would only rewrite what is in order already.
        options.l0_files_max = usize::MAX;
        let progress = Arc::new(Progress::default());
        let notify = Arc::clone(&progress);
        let mut private = environment.clone();
        private.file_prefix = file_prefix;
        private.waker = Arc::new(move || notify.wake());
        Ok(Self {
            store: Store::open(private, options, Vec::new())?,
            progress,
            cancelled,
            tables: BTreeSet::new(),
            last: None,
        })
    }

    /// Goes on to another table or key group.
    fn move_on(&mut self, to: (u16, TableId)) -> Result<(), StateError> {
        if let Some(last) = self.last.filter(|last| to < *last) {
            return Err(StateError::Usage(format!(
                "a row of key group {} and table {} came after rows of key group {} and table {}",
                to.0, to.1.0, last.0, last.1.0
            )));
        }
        self.check_cancelled()?;
        if self.last.is_none_or(|(group, _)| group != to.0) {
            // Lets finished flushes go, so that their memory is free again. No checkpoint has been asked for yet.
            self.store.poll()?;
        }
        if self.tables.insert(to.1) {
            // Nothing is scanned here: no ordered companion.
            self.store.create_table(to.1, TableOptions::default())?;
        }
        self.last = Some(to);
        Ok(())
    }

    /// An error once the sink was cancelled.
    pub(crate) fn check_cancelled(&self) -> Result<(), StateError> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(StateError::Usage("the snapshot was cancelled".into()));
        }
        Ok(())
    }

    /// Waits until everything is written.
    pub fn finish(mut self) -> Result<WrittenRows, StateError> {
        self.check_cancelled()?;
        for table in &self.tables {
            self.store.freeze(*table)?;
        }
        self.store.checkpoint()?;
        let mut files = loop {
            match self.store.poll()? {
                Some(files) => break files,
                None => self.progress.wait(),
            }
            self.check_cancelled()?;
        };
        form_a_level(&mut files);
        Ok(WrittenRows {
            files,
            bytes_uploaded: self.store.stats().bytes_uploaded,
        })
    }
}

impl RowSink for SstRowSink {
    fn put(&mut self, row: RowRefs<'_>) -> Result<(), StateError> {
        let place = (row.group, row.table);
        if self.last != Some(place) {
            self.move_on(place)?;
        }
        let (table, group) = (row.table, row.group);
        match row.time_ms {
            None => self.store.put(table, group, row.key, row.value)?,
            Some(time_ms) => self
                .store
                .put_at(table, group, row.key, row.value, time_ms)?,
        }
        Ok(())
    }
}

/// The private store's waker.
#[derive(Default)]
struct Progress {
    woken: Mutex<bool>,
    condvar: Condvar,
}

impl Progress {
    fn wake(&self) {
        *self.woken.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.condvar.notify_all();
    }

    fn wait(&self) {
        let mut woken = self.woken.lock().unwrap_or_else(PoisonError::into_inner);
        while !*woken {
            woken = self
                .condvar
                .wait(woken)
                .unwrap_or_else(PoisonError::into_inner);
        }
        *woken = false;
    }
}

/// Puts files that do not overlap into level 1, in key order, where a store expects them so.
fn form_a_level(checkpoint: &mut Checkpoint) {
    let mut sorted: Vec<_> = checkpoint.files.iter().collect();
    sorted.sort_by(|a, b| a.smallest.cmp(&b.smallest));
    if sorted.is_sorted_by(|before, after| before.upper <= after.smallest) {
        checkpoint.files = sorted.into_iter().cloned().collect();
        for file in &mut checkpoint.files {
            file.level = 1;
        }
    }
}
