//! Writes frozen tables into files, in the background.
//!
//! The rows go into a [`SstRowSink`], key group by key group. File names carry the backend's prefix and the number of the snapshot, so that
//! they are never reused.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, TryRecvError};

use aquifer_store::{Environment, KeyGroupRange, StoreOptions, TableId};

use super::group::FrozenLayers;
use super::live::LiveRows;
use super::typed;
use crate::StateError;
use crate::rows::{RowRefs, RowSink, SstRowSink, WrittenRows};

/// One table as it was when the barrier passed it.
pub(crate) struct FrozenTable {
    pub(crate) table: TableId,
    /// By key group, from the start of the worker's range.
    pub(crate) groups: Vec<FrozenLayers>,
    /// Its entries, if typed handles keep them.
    pub(crate) typed: Option<Box<dyn typed::FrozenTable>>,
    /// Entries that have expired by then are left out.
    pub(crate) now_ms: Option<i64>,
}

/// Files, and the last chunk number of the lists of each table that has any.
type Written = (WrittenRows, Vec<(TableId, u64)>);

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
        let prefix = format!("{}-h{number:06}", environment.file_prefix);
        let (environment, options) = (environment.clone(), options.clone());
        let runtime = environment.runtime.clone();
        runtime.spawn_blocking(move || {
            // Dropped last, whatever happens: the worker hears of a thread that died as well.
            let _wake = WakeOnDrop(waker);
            let give = give;
            let sink = SstRowSink::new(&environment, options, prefix, cancelled);
            let written = sink.and_then(|sink| write(&tables, range, sink));
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

fn write(
    tables: &[FrozenTable],
    range: KeyGroupRange,
    mut sink: SstRowSink,
) -> Result<Written, StateError> {
    let mut chunks = vec![0; tables.len()];
    for (index, group) in (range.start..=range.end).enumerate() {
        for (table, chunks) in tables.iter().zip(&mut chunks) {
            if let Some(typed) = &table.typed {
                *chunks = typed.write(group, table.now_ms, &mut sink)?.max(*chunks);
                continue;
            }
            let Some(layers) = table.groups.get(index) else {
                continue;
            };
            for (key, value, time_ms) in LiveRows::all(layers.iter().rev().map(Arc::as_ref)) {
                sink.put(RowRefs {
                    group,
                    table: table.table,
                    key,
                    value,
                    time_ms,
                })?;
            }
        }
    }
    let ids = tables.iter().map(|table| table.table);
    let lists = ids.zip(chunks).filter(|(_, chunks)| *chunks > 0);
    let lists = lists.map(|(table, chunks)| (table, chunks - 1)).collect();
    Ok((sink.finish()?, lists))
}
