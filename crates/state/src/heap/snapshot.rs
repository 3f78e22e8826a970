//! Writes frozen tables, in the background or while the operator waits.
//!
//! The rows go into a [`StorageSink`], key group by key group. File names carry the backend's prefix and the number of the snapshot, so that
//! they are never reused.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, TryRecvError};

use aquifer_store::{Environment, KeyGroupRange, StoreOptions, TableId};

use super::frozen_groups::FrozenGroups;
use super::live::LiveRows;
use super::raw::RawTtl;
use super::rows::Rows;
use super::storage::{SinkSetup, StorageSink, Stored};
use super::typed;
use crate::rows::{RowRefs, RowSink};
use crate::{SnapshotStorage, StateDescription, StateError};

/// One table as it was when the barrier passed it.
pub(super) struct FrozenTable {
    pub(super) table: TableId,
    pub(super) groups: FrozenGroups<Rows>,
    /// Its entries, if typed handles keep them.
    pub(super) typed: Option<Box<dyn typed::FrozenTable>>,
    /// When its rows expire, if no typed handle will take them over.
    pub(super) raw_ttl: Option<RawTtl>,
    /// Entries that have expired by then are left out.
    pub(super) now_ms: Option<i64>,
}

/// All that a snapshot is made of.
pub(super) struct Plan {
    pub(super) checkpoint_id: u64,
    /// Of the snapshots of this backend.
    pub(super) number: u64,
    pub(super) tables: Vec<FrozenTable>,
    pub(super) states: Vec<(StateDescription, TableId)>,
    pub(super) range: KeyGroupRange,
    pub(super) storage: SnapshotStorage,
    pub(super) options: StoreOptions,
}

/// What was written, and the last chunk number of the lists of each table that has any.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) stored: Stored,
    pub(super) lists: Vec<(TableId, u64)>,
}

/// A snapshot that is being written. Dropping it stops the writing.
pub(super) struct SnapshotJob {
    pub(super) checkpoint_id: u64,
    receiver: Receiver<Result<Written, StateError>>,
    /// The outcome of one that was waited for.
    outcome: Option<Result<Written, StateError>>,
    cancelled: Arc<AtomicBool>,
}

impl SnapshotJob {
    /// Starts writing on the runtime's blocking threads and wakes the worker when it is done. If the storage says so, waits until then.
    pub(super) fn start(plan: Plan, environment: &Environment) -> Self {
        let (give, receiver) = mpsc::sync_channel(1);
        let cancelled = Arc::new(AtomicBool::new(false));
        let (checkpoint_id, asynchronous) = (plan.checkpoint_id, plan.storage.is_asynchronous());
        let waker = Arc::clone(&environment.waker);
        let setup = SinkSetup {
            environment: environment.clone(),
            options: plan.options,
            file_prefix: format!("{}-h{:06}", environment.file_prefix, plan.number),
            storage: plan.storage,
            states: plan.states,
            cancelled: Arc::clone(&cancelled),
        };
        let (tables, range) = (plan.tables, plan.range);
        environment.runtime.spawn_blocking(move || {
            // Dropped last, whatever happens: the worker hears of a thread that died as well.
            let _wake = WakeOnDrop(waker);
            let give = give;
            let states = setup.states.clone();
            let sink = StorageSink::new(setup);
            let written = sink.and_then(|sink| write(&tables, &states, range, sink));
            // First let go of the layers, then tell: the worker folds them when it hears of the end.
            drop(tables);
            let _ = give.send(written);
        });
        let mut job = Self {
            checkpoint_id,
            receiver,
            outcome: None,
            cancelled,
        };
        if !asynchronous {
            let outcome = job.receiver.recv();
            job.outcome = Some(outcome.unwrap_or_else(|_| Err(job.cut_off())));
        }
        job
    }

    /// The outcome, once there is one.
    pub(super) fn result(&mut self) -> Option<Result<Written, StateError>> {
        let outcome = match self.outcome.take() {
            Some(outcome) => outcome,
            None => match self.receiver.try_recv() {
                Ok(outcome) => outcome,
                Err(TryRecvError::Empty) => return None,
                Err(TryRecvError::Disconnected) => Err(self.cut_off()),
            },
        };
        Some(outcome.map_err(|error| self.named(error)))
    }

    /// Asks the writing to stop. It ends soon, and with an error if it was not done.
    pub(super) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    fn cut_off(&self) -> StateError {
        StateError::runtime_gone(&format!(
            "the snapshot for checkpoint {}",
            self.checkpoint_id
        ))
    }

    /// The error, which says which checkpoint failed.
    fn named(&self, error: StateError) -> StateError {
        let because = |text: &str| format!("checkpoint {} failed: {text}", self.checkpoint_id);
        match error {
            StateError::Store(mut error) => {
                error.message = because(&error.message);
                StateError::Store(error)
            }
            StateError::Usage(text) => StateError::Usage(because(&text)),
            StateError::Corrupt(text) => StateError::Corrupt(because(&text)),
            error => error,
        }
    }
}

impl Drop for SnapshotJob {
    fn drop(&mut self) {
        self.cancel();
    }
}

struct WakeOnDrop(Arc<dyn Fn() + Send + Sync>);

impl Drop for WakeOnDrop {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// An error with the state that it came from.
fn of_state(
    states: &[(StateDescription, TableId)],
    table: TableId,
    group: u16,
    error: StateError,
) -> StateError {
    match states.iter().find(|(_, known)| *known == table) {
        Some((state, _)) => error.of_state(state, group),
        None => error,
    }
}

fn write(
    tables: &[FrozenTable],
    states: &[(StateDescription, TableId)],
    range: KeyGroupRange,
    mut sink: StorageSink,
) -> Result<Written, StateError> {
    let mut chunks = vec![0; tables.len()];
    for (index, group) in (range.start..=range.end).enumerate() {
        for (table, chunks) in tables.iter().zip(&mut chunks) {
            if let Some(typed) = &table.typed {
                let written = typed.write(group, table.now_ms, &mut sink);
                let written =
                    written.map_err(|error| of_state(states, table.table, group, error))?;
                *chunks = written.max(*chunks);
                continue;
            }
            let Some(layers) = table.groups.get(index) else {
                continue;
            };
            let rows = LiveRows::all(layers.iter().rev().map(Arc::as_ref));
            let expired = |time_ms| {
                table
                    .raw_ttl
                    .is_some_and(|ttl| ttl.expired(time_ms, table.now_ms))
            };
            for (key, value, time_ms) in rows.filter(|(_, _, time_ms)| !expired(*time_ms)) {
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
    Ok(Written {
        stored: sink.finish()?,
        lists,
    })
}
