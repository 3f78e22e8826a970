//! The coordinator's hands: writes metadata, and removes subsumed checkpoints and the files that go with them, on the runtime.
//!
//! A file that cannot be deleted is told of and left to the sweep of the next recovery; it never fails the job.

use std::sync::Arc;

use aquifer_state::StateError;
use aquifer_state::checkpoint::{
    CheckpointMetadata, CheckpointStorage, CommitOutcome, FileOwnership, Placement,
};
use object_store::path::Path;
use parking_lot::Mutex;

use super::coordinator::{Completed, Event};
use super::savepoint::Savepoints;
use crate::job::{JobObserver, Wake};

/// The files of a run, wherever they lie.
pub(crate) struct Custody {
    /// What checkpoints name.
    named: FileOwnership,
    /// What workers keep in a primary directory elsewhere: needed as long as a worker names it.
    primary: Option<(Path, FileOwnership)>,
    /// The checkpoint that was written last, and the files that it names, which may be copies of those that the workers name.
    written: Option<(u64, Vec<String>)>,
}

impl Custody {
    /// `named` knows the checkpoints that exist.
    pub fn new(named: FileOwnership, primary: Option<Path>) -> Self {
        Self {
            named,
            primary: primary.map(|directory| (directory, FileOwnership::new(1))),
            written: None,
        }
    }

    /// What may go now that a checkpoint is complete.
    fn complete(&mut self, completed: &Completed) -> Gone {
        let id = completed.checkpoint_id;
        let written = self.written.take().filter(|(written, _)| *written == id);
        let named = written.map_or_else(|| completed.files.clone(), |(_, files)| files);
        let (checkpoints, files) = self.named.complete(id, named);
        let primary = self.primary.as_mut().map(|(directory, live)| {
            let here = |file: &&String| Path::from(file.as_str()).prefix_matches(directory);
            let files = completed.files.iter().filter(here).cloned().collect();
            (directory.clone(), live.complete(id, files).1)
        });
        Gone {
            checkpoints,
            files,
            primary: primary.filter(|(_, files)| !files.is_empty()),
        }
    }
}

/// What nobody needs any more.
struct Gone {
    /// Oldest first; to be discarded before the files are deleted.
    checkpoints: Vec<u64>,
    files: Vec<String>,
    primary: Option<(Path, Vec<String>)>,
}

/// Writes and deletes for the coordinator.
pub(crate) struct StorageTask {
    storage: CheckpointStorage,
    attempt: u64,
    runtime: tokio::runtime::Handle,
    observer: Arc<dyn JobObserver>,
    /// What the coordinator has not been told yet.
    events: Mutex<Vec<Event>>,
    wake: Mutex<Option<Wake>>,
    custody: Mutex<Custody>,
    /// The `_metadata` of the foreign checkpoints that the run has claimed, until they are marked as discarded. No file is deleted before.
    claimed: tokio::sync::Mutex<Vec<String>>,
    /// Taken out while a checkpoint is written; one is at a time.
    placement: Mutex<Placement>,
    /// How many were completed in this attempt, and the newest.
    completed: Mutex<(u64, Option<Completed>)>,
    /// Deletions and savepoints that are under way.
    background: Mutex<Vec<tokio::task::JoinHandle<()>>>,
    savepoints: Option<Savepoints>,
    /// Savepoints are written one after the other.
    turn: tokio::sync::Mutex<()>,
}

impl StorageTask {
    /// For attempt number `attempt`.
    pub fn new(
        storage: CheckpointStorage,
        attempt: u64,
        runtime: tokio::runtime::Handle,
        observer: Arc<dyn JobObserver>,
        custody: Custody,
        claimed: Vec<String>,
        savepoints: Option<Savepoints>,
    ) -> Arc<Self> {
        Arc::new(Self {
            storage,
            attempt,
            runtime,
            observer,
            events: Mutex::default(),
            wake: Mutex::default(),
            custody: Mutex::new(custody),
            claimed: tokio::sync::Mutex::new(claimed),
            placement: Mutex::default(),
            completed: Mutex::default(),
            background: Mutex::default(),
            savepoints,
            turn: tokio::sync::Mutex::default(),
        })
    }

    /// Called when there are events.
    pub fn wake_with(&self, wake: Wake) {
        if let Some(savepoints) = &self.savepoints {
            savepoints.requests.begin(Arc::clone(&wake));
        }
        *self.wake.lock() = Some(wake);
    }

    fn tell(&self, event: Event) {
        self.events.lock().push(event);
        let wake = self.wake.lock().clone();
        if let Some(wake) = wake {
            wake();
        }
    }

    /// Tells the user.
    pub fn note(&self, message: &str) {
        self.observer.note(message);
    }

    /// Starts writing a checkpoint's metadata, once all its files lie where checkpoints keep them.
    pub fn write(self: &Arc<Self>, mut metadata: Box<CheckpointMetadata>) {
        let task = Arc::clone(self);
        self.runtime.spawn(async move {
            let mut placement = std::mem::take(&mut *task.placement.lock());
            let outcome = task.place_and_commit(&mut metadata, &mut placement).await;
            *task.placement.lock() = placement;
            let outcome = outcome.map_err(|error| error.to_string());
            task.tell(Event::Written(metadata.checkpoint_id, outcome));
        });
    }

    async fn place_and_commit(
        &self,
        metadata: &mut CheckpointMetadata,
        placement: &mut Placement,
    ) -> Result<CommitOutcome, StateError> {
        let copies = self.storage.place(metadata, placement).await?;
        let outcome = self.storage.commit(metadata).await?;
        let mut custody = self.custody.lock();
        custody.written = Some((metadata.checkpoint_id, metadata.files()));
        if outcome == CommitOutcome::Committed
            && let Some(mounted) = &self.storage.mounted
        {
            // Workers go on with their own files, but let go of those that belong to others.
            let primary = custody.primary.as_ref().map(|(directory, _)| directory);
            let foreign = |from: &Path| primary.is_none_or(|dir| !from.prefix_matches(dir));
            mounted.moved(copies.into_iter().filter(|(from, _)| foreign(from)));
        }
        Ok(outcome)
    }

    /// What has happened since the last call.
    pub fn events(&self) -> Vec<Event> {
        let mut events = std::mem::take(&mut *self.events.lock());
        let new = self.savepoints.iter().flat_map(Savepoints::new_requests);
        events.extend(new.map(|(ticket, stop)| Event::SavepointWanted(ticket, stop)));
        events
    }

    /// Starts rewriting a complete checkpoint into the savepoints that were asked for. It is kept until they are written.
    pub fn write_savepoints(self: &Arc<Self>, checkpoint_id: u64, tickets: Vec<u64>) {
        self.custody.lock().named.pin(checkpoint_id);
        let task = Arc::clone(self);
        let writing = self.runtime.spawn(async move {
            let turn = task.turn.lock().await;
            let outcome = match &task.savepoints {
                Some(savepoints) => {
                    let (storage, runtime) = (&task.storage, &task.runtime);
                    savepoints
                        .write(storage, runtime, checkpoint_id, &tickets)
                        .await
                }
                None => Ok(()),
            };
            drop(turn);
            task.custody.lock().named.unpin(checkpoint_id);
            task.tell(Event::SavepointsWritten(checkpoint_id, outcome));
        });
        self.keep(writing);
    }

    /// Where the savepoint is with which the job has ended.
    pub fn stopped_at(&self) -> Option<String> {
        self.savepoints.as_ref()?.stopped_at.lock().clone()
    }

    fn keep(&self, work: tokio::task::JoinHandle<()>) {
        let mut background = self.background.lock();
        background.retain(|work| !work.is_finished());
        background.push(work);
    }

    /// A checkpoint is complete: older ones and their files may go.
    pub fn completed(self: &Arc<Self>, completed: Completed) {
        self.observer.checkpoint(
            completed.checkpoint_id,
            completed.duration_ms,
            completed.state_bytes,
        );
        let gone = self.custody.lock().complete(&completed);
        let first = {
            let mut newest = self.completed.lock();
            *newest = (newest.0 + 1, Some(completed));
            newest.0 == 1
        };
        let nothing_goes =
            gone.checkpoints.is_empty() && gone.files.is_empty() && gone.primary.is_none();
        if nothing_goes && !first {
            return;
        }
        let task = Arc::clone(self);
        let deletion = self.runtime.spawn(async move {
            let marked = task.mark_claimed().await;
            task.remove(gone, marked).await;
            if first && marked {
                task.sweep().await;
            }
        });
        self.keep(deletion);
    }

    /// Marks the foreign checkpoints that were claimed as discarded, for nobody may go on from them once files of them are deleted. False if
    /// that has failed: it is tried again with the next checkpoint.
    async fn mark_claimed(&self) -> bool {
        let mut claimed = self.claimed.lock().await;
        let mut unmarked = Vec::new();
        for metadata in claimed.drain(..) {
            if let Err(error) = self.storage.discard_claimed(&metadata).await {
                self.observer.note(&format!(
                    "`{metadata}` was claimed but could not be marked as discarded: {error}"
                ));
                unmarked.push(metadata);
            }
        }
        *claimed = unmarked;
        claimed.is_empty()
    }

    /// Removes what nobody needs. State files are left to a later sweep unless what was claimed is marked.
    async fn remove(&self, gone: Gone, marked: bool) {
        for checkpoint_id in gone.checkpoints {
            if let Err(error) = self.storage.discard(checkpoint_id).await {
                self.observer.note(&format!(
                    "checkpoint {checkpoint_id} is no longer needed but was not removed: {error}"
                ));
            }
        }
        let mut deleted = Ok(());
        if marked {
            deleted = self.storage.delete_files(&gone.files).await;
        }
        if let Some((directory, files)) = gone.primary {
            let too = self.storage.delete_primary_files(&directory, &files).await;
            deleted = deleted.and(too);
        }
        if let Err(error) = deleted {
            self.observer.note(&format!(
                "some state files are no longer needed but were not removed: {error}"
            ));
        }
    }

    /// Removes what earlier attempts left behind. Done once the attempt's first checkpoint is complete: by then every older attempt is
    /// fenced, and the job did not have to wait for it.
    async fn sweep(&self) {
        let primary = self
            .custody
            .lock()
            .primary
            .as_ref()
            .map(|(at, _)| at.clone());
        let mut swept = self.storage.sweep_orphans(self.attempt).await;
        if let Some(primary) = primary {
            let there = self.storage.sweep_primary(&primary, self.attempt).await;
            swept = swept.and_then(|here| Ok(here + there?));
        }
        match swept {
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

    /// Waits until everything that was to be deleted is, and savepoints that were begun are written.
    pub async fn settle(&self) {
        let background = std::mem::take(&mut *self.background.lock());
        for work in background {
            // A deletion that panicked has nothing more to tell than the sweep will find.
            let _ = work.await;
        }
    }
}
