//! The coordinator's hands: writes metadata, and removes subsumed checkpoints and the files that go with them, on the runtime.
//!
//! A file that cannot be deleted is told of and left to the sweep of the next recovery; it never fails the job.

use std::sync::Arc;

use aquifer_state::checkpoint::{
    CheckpointMetadata, CheckpointStorage, CommitOutcome, FileOwnership,
};
use parking_lot::Mutex;

use super::coordinator::Completed;
use crate::job::JobObserver;

type Outcomes = Vec<(u64, Result<CommitOutcome, String>)>;
type Wake = Box<dyn Fn() + Send + Sync>;

/// Writes and deletes for the coordinator.
pub(crate) struct StorageTask {
    storage: CheckpointStorage,
    attempt: u64,
    runtime: tokio::runtime::Handle,
    observer: Arc<dyn JobObserver>,
    outcomes: Mutex<Outcomes>,
    wake: Mutex<Option<Wake>>,
    ownership: Mutex<FileOwnership>,
    /// How many were completed in this attempt, and the newest.
    completed: Mutex<(u64, Option<Completed>)>,
    deletions: Mutex<Vec<tokio::task::JoinHandle<()>>>,
}

impl StorageTask {
    /// For attempt number `attempt`; `ownership` knows the checkpoints that exist.
    pub fn new(
        storage: CheckpointStorage,
        attempt: u64,
        runtime: tokio::runtime::Handle,
        observer: Arc<dyn JobObserver>,
        ownership: FileOwnership,
    ) -> Arc<Self> {
        Arc::new(Self {
            storage,
            attempt,
            runtime,
            observer,
            outcomes: Mutex::default(),
            wake: Mutex::default(),
            ownership: Mutex::new(ownership),
            completed: Mutex::default(),
            deletions: Mutex::default(),
        })
    }

    /// Called when an outcome is there.
    pub fn wake_with(&self, wake: Wake) {
        *self.wake.lock() = Some(wake);
    }

    /// Starts writing a checkpoint's metadata.
    pub fn write(self: &Arc<Self>, metadata: Box<CheckpointMetadata>) {
        let task = Arc::clone(self);
        self.runtime.spawn(async move {
            let outcome = task
                .storage
                .commit(&metadata)
                .await
                .map_err(|error| error.to_string());
            task.outcomes.lock().push((metadata.checkpoint_id, outcome));
            if let Some(wake) = task.wake.lock().as_ref() {
                wake();
            }
        });
    }

    /// What has been written since the last call.
    pub fn outcomes(&self) -> Outcomes {
        std::mem::take(&mut *self.outcomes.lock())
    }

    /// A checkpoint is complete: older ones and their files may go.
    pub fn completed(self: &Arc<Self>, completed: Completed) {
        self.observer.checkpoint(
            completed.checkpoint_id,
            completed.duration_ms,
            completed.state_bytes,
        );
        let (discarded, files) = self
            .ownership
            .lock()
            .complete(completed.checkpoint_id, completed.files.clone());
        let first = {
            let mut newest = self.completed.lock();
            *newest = (newest.0 + 1, Some(completed));
            newest.0 == 1
        };
        if discarded.is_empty() && files.is_empty() && !first {
            return;
        }
        let task = Arc::clone(self);
        let deletion = self.runtime.spawn(async move {
            for checkpoint_id in discarded {
                if let Err(error) = task.storage.discard(checkpoint_id).await {
                    task.observer.note(&format!("checkpoint {checkpoint_id} is no longer needed but was not removed: {error}"));
                }
            }
            if let Err(error) = task.storage.delete_files(&files).await {
                task.observer.note(&format!("some state files are no longer needed but were not removed: {error}"));
            }
            if first {
                task.sweep().await;
            }
        });
        let mut deletions = self.deletions.lock();
        deletions.retain(|deletion| !deletion.is_finished());
        deletions.push(deletion);
    }

    /// Removes what earlier attempts left behind. Done once the attempt's first checkpoint is complete: by then every older attempt is
    /// fenced, and the job did not have to wait for it.
    async fn sweep(&self) {
        match self.storage.sweep_orphans(self.attempt).await {
            Ok(swept) => tracing::debug!(swept, "removed state files that no checkpoint names"),
            Err(error) => self.observer.note(&format!(
                "state files that earlier attempts left were not removed: {error}"
            )),
        }
    }

    /// How many checkpoints were completed in this attempt, and the newest.
    pub fn all_completed(&self) -> (u64, Option<Completed>) {
        self.completed.lock().clone()
    }

    /// Waits until everything that was to be deleted is.
    pub async fn settle(&self) {
        let deletions = std::mem::take(&mut *self.deletions.lock());
        for deletion in deletions {
            // A deletion that panicked has nothing more to tell than the sweep will find.
            let _ = deletion.await;
        }
    }
}
