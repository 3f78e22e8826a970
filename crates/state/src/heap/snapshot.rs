//! Writes frozen tables into files, in the background.
//!
//! A private store takes the rows in the order in which files hold them, key group by key group, and a checkpoint of it is the snapshot.
//! So no two of its files overlap, and whoever restores them finds one sorted run that needs no compaction.
//! File names carry the backend's prefix and the number of the snapshot, so that they are never reused.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use aquifer_store::{
    Checkpoint, Environment, KeyGroupRange, Store, StoreOptions, TableId, TableOptions,
};

use super::group::FrozenLayers;
use super::live::LiveRows;
use crate::StateError;

/// One table as it was when the barrier passed it.
pub(crate) struct FrozenTable {
    pub(crate) table: TableId,
    /// By key group, from the start of the worker's range.
    pub(crate) groups: Vec<FrozenLayers>,
}

/// What a finished job has written.
pub(crate) struct Written {
    pub(crate) checkpoint: Checkpoint,
    pub(crate) bytes_uploaded: u64,
}

/// A snapshot that is being written. Dropping it stops the writing.
pub(crate) struct SnapshotJob {
    pub(crate) checkpoint_id: u64,
    receiver: Receiver<Result<Written, StateError>>,
    cancelled: Arc<AtomicBool>,
}

impl SnapshotJob {
    /// Starts writing on the runtime's blocking threads and wakes the worker when it is done.
    pub(crate) fn start(
        checkpoint_id: u64,
        number: u64,
        tables: Vec<FrozenTable>,
        range: KeyGroupRange,
        environment: &Environment,
        options: &StoreOptions,
    ) -> Self {
        let (give, receiver) = mpsc::sync_channel(1);
        let cancelled = Arc::new(AtomicBool::new(false));
        let job = Self {
            checkpoint_id,
            receiver,
            cancelled: Arc::clone(&cancelled),
        };
        let waker = Arc::clone(&environment.waker);
        let progress = Arc::new(Progress::default());
        let notify = Arc::clone(&progress);
        let mut private = environment.clone();
        private.file_prefix = format!("{}-h{number:06}", environment.file_prefix);
        private.waker = Arc::new(move || notify.wake());
        let options = options.clone();
        environment.runtime.spawn_blocking(move || {
            // Dropped last, whatever happens: the worker hears of a thread that died as well.
            let _wake = WakeOnDrop(waker);
            let give = give;
            let written = write(&tables, range, private, options, &progress, &cancelled);
            // First let go of the layers, then tell: the worker folds them when it hears of the end.
            drop(tables);
            let _ = give.send(written);
        });
        job
    }

    /// The outcome, once there is one.
    pub(crate) fn result(&self) -> Option<Result<Written, StateError>> {
        match self.receiver.try_recv() {
            Ok(written) => Some(written),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Err(StateError::runtime_gone(&format!(
                "the snapshot for checkpoint {}",
                self.checkpoint_id
            )))),
        }
    }
}

impl Drop for SnapshotJob {
    fn drop(&mut self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }
}

struct WakeOnDrop(Arc<dyn Fn() + Send + Sync>);

impl Drop for WakeOnDrop {
    fn drop(&mut self) {
        (self.0)();
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

fn write(
    tables: &[FrozenTable],
    range: KeyGroupRange,
    environment: Environment,
    mut options: StoreOptions,
    progress: &Progress,
    cancelled: &AtomicBool,
) -> Result<Written, StateError> {
    // Compactions would only rewrite what is in order already.
    options.l0_files_max = usize::MAX;
    let mut store = Store::open(environment, options, Vec::new())?;
    for table in tables {
        // Nothing is scanned here: no ordered companion.
        store.create_table(table.table, TableOptions::default())?;
    }
    for (index, group) in (range.start..=range.end).enumerate() {
        for table in tables {
            let Some(layers) = table.groups.get(index) else {
                continue;
            };
            for (key, value) in LiveRows::all(layers.iter().rev().map(Arc::as_ref)) {
                store.put(table.table, group, key, value)?;
            }
            if cancelled.load(Ordering::Relaxed) {
                return Err(StateError::Usage("the snapshot was cancelled".into()));
            }
        }
        // Lets finished flushes go, so that their memory is free again. No checkpoint has been asked for yet.
        store.poll()?;
    }
    for table in tables {
        store.freeze(table.table)?;
    }
    store.checkpoint()?;
    let mut checkpoint = loop {
        match store.poll()? {
            Some(checkpoint) => break checkpoint,
            None => progress.wait(),
        }
        if cancelled.load(Ordering::Relaxed) {
            return Err(StateError::Usage("the snapshot was cancelled".into()));
        }
    };
    form_a_level(&mut checkpoint);
    Ok(Written {
        checkpoint,
        bytes_uploaded: store.stats().bytes_uploaded,
    })
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
