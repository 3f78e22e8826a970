//! Deleting: discarded checkpoints, files that nobody needs, orphans of earlier attempts, and the run of a finished job.
//!
//! What always holds: only paths below the run's `shared/` are deleted as state files; deleting what is already gone is no error;
//! a checkpoint's name that a replaced coordinator might still try to take is not freed but marked as discarded.

use std::collections::BTreeSet;

use aquifer_store::RemoteCompaction;
use aquifer_store::objects::request_error;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{Error as ObjectError, ObjectStoreExt};

use super::storage::{CheckpointStorage, CommitOutcome, TOMBSTONE, retry};
use super::{CheckpointMetadata, Origin, conditional, names};
use crate::StateError;

impl CheckpointStorage {
    /// Deletes the metadata of a subsumed checkpoint, and of every older one that is still there: attempts rely on checkpoints being
    /// discarded in order, even when one of them fails or calls overtake each other. To be called before the files are deleted.
    pub async fn discard(&self, checkpoint_id: u64) -> Result<(), StateError> {
        let (ids, sealed_through) = {
            let mut lineage = self.lineage();
            if checkpoint_id == lineage.newest {
                return Err(StateError::Usage(format!(
                    "checkpoint {checkpoint_id} of `{}` cannot be discarded: it is the newest",
                    self.run
                )));
            }
            let oldest = *lineage.oldest.get_or_insert(checkpoint_id);
            // Who has not begun an attempt does not know which names are safe to free.
            (
                oldest..=checkpoint_id,
                lineage.attempt.map_or(u64::MAX, |_| lineage.sealed_through),
            )
        };
        for id in ids {
            self.discard_one(id, id <= sealed_through).await?;
            let mut lineage = self.lineage();
            lineage.oldest = lineage.oldest.max(Some(id + 1));
        }
        Ok(())
    }

    /// Ends the completeness of a checkpoint; a sealed name stays taken.
    pub(super) async fn discard_one(&self, id: u64, sealed: bool) -> Result<(), StateError> {
        let path = self.metadata_path(id);
        if sealed {
            let tombstone = Bytes::from_static(TOMBSTONE);
            return Ok(conditional::overwrite(&*self.objects, &path, tombstone).await?);
        }
        match self.objects.delete(&path).await {
            Ok(()) | Err(ObjectError::NotFound { .. }) => Ok(()),
            Err(error) => Err(request_error("delete", &path, error).into()),
        }
    }

    /// Deletes state files of this run. Files that are gone are fine; a path that is neither below the run's `shared/` nor claimed is an
    /// error, and then nothing is deleted. All others are tried even when one fails.
    pub async fn delete_files(&self, paths: &[String]) -> Result<(), StateError> {
        self.delete_below(&self.shared(), paths).await
    }

    /// Deletes files of a primary directory, as [`delete_files`](Self::delete_files) does.
    pub async fn delete_primary_files(
        &self,
        directory: &Path,
        paths: &[String],
    ) -> Result<(), StateError> {
        self.delete_below(directory, paths).await
    }

    async fn delete_below(&self, directory: &Path, paths: &[String]) -> Result<(), StateError> {
        let claimed = self.lineage().claimed.clone();
        let own = |text: &String| {
            let path = Path::parse(text).ok().filter(|path| {
                path.prefix_matches(directory) && path != directory || claimed.contains(text)
            });
            path.ok_or_else(|| {
                StateError::Usage(format!(
                    "`{text}` is not a state file below `{directory}` and is not deleted"
                ))
            })
        };
        let locations: Vec<Path> = paths.iter().map(own).collect::<Result<_, _>>()?;
        self.delete_all(locations).await?;
        let mut lineage = self.lineage();
        lineage.claimed.retain(|path| !paths.contains(path));
        Ok(())
    }

    /// Marks a foreign checkpoint whose files this run has claimed as discarded, before the first of them is deleted: nobody may go on from
    /// it any more. Can be repeated.
    pub async fn discard_claimed(&self, metadata: &str) -> Result<(), StateError> {
        let path = Path::parse(metadata).map_err(|error| {
            StateError::Corrupt(format!(
                "`{metadata}` is not the path of a checkpoint: {error}"
            ))
        })?;
        let tombstone = Bytes::from_static(TOMBSTONE);
        Ok(conditional::overwrite(&*self.objects, &path, tombstone).await?)
    }

    /// Deletes what earlier attempts than `attempt` left in a primary directory: restored checkpoints name copies, so nobody needs it.
    /// `u64::MAX` deletes everything, after the job has ended. Returns how many.
    pub async fn sweep_primary(&self, directory: &Path, attempt: u64) -> Result<usize, StateError> {
        let of_earlier = |path: &Path| names::attempt_of_file(path).is_some_and(|by| by < attempt);
        let mut paths = self.list_below(directory).await?;
        paths.retain(of_earlier);
        let count = paths.len();
        self.delete_all(paths).await?;
        Ok(count)
    }

    /// Where compactions are left to other processes.
    fn compactions(&self) -> Path {
        self.run.clone().join(RemoteCompaction::DIRECTORY)
    }

    /// After recovery: deletes state files that earlier attempts than `attempt` wrote and no complete checkpoint names, and the compactions
    /// that they left to others. Returns how many objects.
    ///
    /// While this attempt has neither restored nor committed a checkpoint, older ones are not fenced and may still commit what they have
    /// uploaded: then nothing is deleted, and the sweep is worth calling again after the first own checkpoint.
    pub async fn sweep_orphans(&self, attempt: u64) -> Result<usize, StateError> {
        let lineage = self.lineage().clone();
        if lineage.attempt != Some(attempt) {
            return Err(StateError::Usage(format!(
                "attempt {attempt} of `{}` cannot sweep orphans: it was not begun here or has been replaced",
                self.run
            )));
        }
        if lineage.newest == 0 {
            return Ok(0);
        }
        let of_earlier = |path: &Path| names::attempt_of_file(path).is_some_and(|by| by < attempt);
        let mut orphans: BTreeSet<Path> = self
            .list_shared()
            .await?
            .into_iter()
            .filter(of_earlier)
            .chain(lineage.claimed.iter().map(|path| Path::from(path.as_str())))
            .collect();
        let queue = self.compactions();
        let tasks = self.list_below(&queue).await?.into_iter();
        let tasks: Vec<Path> = tasks
            .filter(|path| names::attempt_of_task(&queue, path).is_some_and(|by| by < attempt))
            .collect();
        let abandoned = tasks.len();
        self.delete_all(tasks).await?;
        if orphans.is_empty() {
            return Ok(abandoned);
        }
        // Newer checkpoints name no other files of earlier attempts than the restored one does.
        let mut named = lineage.restored_files;
        let completed = self.completed().await?;
        if completed
            .last()
            .is_none_or(|newest| *newest < lineage.newest)
        {
            return Err(retry(format!(
                "the listing of `{}` is too old for a sweep",
                self.run
            )));
        }
        for id in &completed {
            // One that is gone by now was discarded by this attempt, which looks after its files itself.
            if let Some(metadata) = self.read_if_complete(*id).await? {
                named.extend(metadata.files());
            }
        }
        orphans.retain(|path| !named.contains(path.as_ref()));
        let count = orphans.len();
        self.delete_all(orphans.iter().cloned().collect()).await?;
        let mut lineage = self.lineage();
        lineage
            .claimed
            .retain(|path| !orphans.contains(&Path::from(path.as_str())));
        Ok(count + abandoned)
    }

    /// After a job finished, when its last checkpoint need not be kept: deletes all its files and checkpoints and leaves a finished
    /// checkpoint that names none, so that the job is not started again by mistake. Can be repeated when it was interrupted.
    ///
    /// Call it only when the last checkpoint's committables are committed: the marker has none.
    pub async fn delete_run_keep_marker(&self) -> Result<(), StateError> {
        let Some(last) = self.latest().await?.filter(|latest| latest.finished) else {
            return Err(StateError::Usage(format!(
                "`{}` is not removed: its newest checkpoint is not that of a finished job",
                self.run
            )));
        };
        let mut files: BTreeSet<Path> = last
            .files()
            .iter()
            .filter_map(|path| Path::parse(path).ok())
            .collect();
        let shared = self.shared();
        files.retain(|path| path.prefix_matches(&shared));
        // What the run has claimed is its own, too.
        let claimed = last.origin.claimed.clone();
        files.extend(
            last.origin
                .claimed_files
                .iter()
                .map(|path| Path::from(path.as_str())),
        );
        let bare = last.keyed.is_empty() && last.operators.is_empty();
        let marker = CheckpointMetadata {
            checkpoint_id: if bare {
                last.checkpoint_id
            } else {
                last.checkpoint_id + 1
            },
            tables: Vec::new(),
            keyed: Vec::new(),
            operators: Vec::new(),
            origin: Origin::default(),
            ..last
        };
        if !bare && self.create_checkpoint(&marker).await? == CommitOutcome::Lost {
            return Err(retry(format!(
                "another process has changed `{}` while it was removed",
                self.run
            )));
        }
        {
            let mut lineage = self.lineage();
            lineage.newest = marker.checkpoint_id;
        }
        for claimed in &claimed {
            self.discard_claimed(claimed).await?;
        }
        for id in self.completed().await? {
            if id != marker.checkpoint_id {
                self.discard(id).await?;
            }
        }
        files.extend(self.list_shared().await?);
        files.extend(self.list_below(&self.compactions()).await?);
        self.delete_all(files.into_iter().collect()).await
    }

    /// What a listing shows below `shared/`.
    async fn list_shared(&self) -> Result<Vec<Path>, StateError> {
        self.list_below(&self.shared()).await
    }

    async fn list_below(&self, directory: &Path) -> Result<Vec<Path>, StateError> {
        let listing = self
            .objects
            .list(Some(directory))
            .map_ok(|meta| meta.location);
        listing
            .try_collect()
            .await
            .map_err(|error| request_error("list", directory, error).into())
    }

    async fn delete_all(&self, paths: Vec<Path>) -> Result<(), StateError> {
        if paths.is_empty() {
            return Ok(());
        }
        let locations = stream::iter(paths.into_iter().map(Ok)).boxed();
        let mut answers = self.objects.delete_stream(locations);
        let mut first_error = None;
        while let Some(answer) = answers.next().await {
            match answer {
                Ok(_) | Err(ObjectError::NotFound { .. }) => {}
                Err(error) => {
                    first_error.get_or_insert(error);
                }
            }
        }
        match first_error {
            None => Ok(()),
            Some(error) => Err(request_error("delete files below", &self.shared(), error).into()),
        }
    }
}
