//! The checkpoints of one run: finding and reading them, and the commit.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aquifer_store::objects::{self, Mount, Mounted};
use aquifer_store::{Error, ErrorKind};
use bytes::Bytes;
use futures_util::future::try_join_all;
use object_store::ObjectStore;
use object_store::path::Path;

use super::conditional::{self, Creation, OBJECT_BYTES_MAX};
use super::{CheckpointMetadata, MountPoint, names};
use crate::StateError;

/// What replaces the metadata of a discarded checkpoint whose name must stay taken. Shorter than any metadata.
pub(super) const TOMBSTONE: &[u8] = b"discarded\n";
/// Numbers beyond the highest listed one that are looked up, because a listing may be old.
pub(super) const PROBED_AHEAD: u64 = 4;
/// Listings tried while what they show disappears.
const LISTINGS_MAX: usize = 16;
/// Names looked up at the same time.
const LOOKUPS_MAX: u64 = 16;
/// Claims of a number that may be lost to others before it is an error.
pub(super) const CLAIMS_MAX: usize = 1000;

/// How a commit ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitOutcome {
    /// The checkpoint is complete.
    Committed,
    /// Another attempt has taken this checkpoint id: this one is a zombie and must end.
    Lost,
}

/// A run of a job below `execution.checkpointing.dir`: `<dir>/<job>/run-000001/{shared/, chk-000001/_metadata}`.
///
/// Clones share what they know of the attempt in progress. See the module for what always holds.
#[derive(Clone, Debug)]
pub struct CheckpointStorage {
    /// The object store that holds the run.
    pub objects: Arc<dyn ObjectStore>,
    /// `<job>/run-000001` below the root of `objects`.
    pub run: Path,
    /// False when the user accepted a store that ignores create-if-absent.
    pub(super) conditional: bool,
    pub(super) lineage: Arc<Mutex<Lineage>>,
    /// `objects`, if other stores are reached through it.
    pub mounted: Option<Arc<Mounted>>,
}

/// What this process knows about the attempt that it runs.
#[derive(Clone, Debug, Default)]
pub(super) struct Lineage {
    /// The attempt that was begun or that commits.
    pub attempt: Option<u64>,
    /// The newest checkpoint that the attempt restored or committed; 0 when it began without one.
    pub newest: u64,
    /// Names up to this id are never freed: a replaced coordinator may still try to take one of them.
    pub sealed_through: u64,
    /// Files of the checkpoint that the attempt was restored from: reads may be under way even when a newer checkpoint has replaced it.
    pub restored_files: BTreeSet<String>,
    /// Files outside of the run that belong to it all the same and may still be there.
    pub claimed: BTreeSet<String>,
    /// Another attempt has taken over.
    pub lost: bool,
    /// The oldest checkpoint that may not have been discarded; `None` until it is known.
    pub oldest: Option<u64>,
}

impl Lineage {
    /// An attempt that has just written its fence, a copy of the checkpoint that it restores.
    pub fn restored(attempt: u64, fence: &CheckpointMetadata) -> Self {
        Self {
            attempt: Some(attempt),
            newest: fence.checkpoint_id,
            sealed_through: fence.checkpoint_id,
            restored_files: fence.files().into_iter().collect(),
            claimed: fence.origin.claimed_files.iter().cloned().collect(),
            ..Self::default()
        }
    }
}

impl CheckpointStorage {
    /// The run at a path, on a store that honours create-if-absent.
    pub fn new(objects: Arc<dyn ObjectStore>, run: Path) -> Self {
        Self {
            objects,
            run,
            conditional: true,
            lineage: Arc::default(),
            mounted: None,
        }
    }

    /// Has this handle reach files in other stores too, which are opened with `settings`. `root` is the URI of the run's own store.
    pub fn mount(
        &mut self,
        root: &str,
        mounts: &[MountPoint],
        settings: &BTreeMap<String, String>,
    ) -> Result<(), StateError> {
        let mut opened = Vec::with_capacity(mounts.len());
        for mount in mounts {
            let (objects, _) = objects::open(&mount.uri, settings)?;
            opened.push(Mount {
                name: mount.name.clone(),
                objects,
                local_root: objects::root_of(&mount.uri)?.1,
            });
        }
        self.mount_all(root, opened)
    }

    /// Like [`mount`](Self::mount), with stores that are open.
    pub fn mount_all(&mut self, root: &str, mounts: Vec<Mount>) -> Result<(), StateError> {
        let (_, local_root) = objects::root_of(root)?;
        let mounted = Mounted::new(Arc::clone(&self.objects), local_root, mounts);
        self.objects = mounted.clone();
        self.mounted = Some(mounted);
        Ok(())
    }

    /// Where state files go.
    pub fn shared(&self) -> Path {
        self.run.clone().join("shared")
    }

    /// The start of the names of all state files that a worker writes in an attempt; the sweep of orphans reads the attempt from it.
    pub fn file_prefix(attempt: u64, worker: usize) -> String {
        format!("{}-w{worker}", names::attempt(attempt))
    }

    /// The newest complete checkpoint. `None` means that none was ever committed in this run.
    pub async fn latest(&self) -> Result<Option<CheckpointMetadata>, StateError> {
        let mut highest_before = None;
        for _ in 0..LISTINGS_MAX {
            let listed = self.listed().await?;
            if let Some(newest) = self
                .newest_after(listed.last().copied().unwrap_or(0))
                .await?
            {
                return Ok(Some(newest));
            }
            let mut older = None;
            for id in listed.iter().rev() {
                older = self.read_if_complete(*id).await?;
                if older.is_some() {
                    break;
                }
            }
            // What is listed but gone may have been discarded while we looked, and then something newer is listed by now. An empty
            // directory that a crash has left behind is listed in the same way again.
            let highest = listed.last().copied();
            let is_highest = older.as_ref().map(|older| older.checkpoint_id) == highest;
            if older.is_some() && (is_highest || highest_before == highest) {
                return Ok(older);
            }
            highest_before = highest;
            // The first name is never freed, so this answer does not depend on the listing.
            if older.is_none()
                && conditional::size(&*self.objects, &self.metadata_path(1))
                    .await?
                    .is_none()
            {
                return Ok(None);
            }
        }
        Err(retry(format!(
            "`{}` has had checkpoints, but its listing shows none that stays complete: the listing is old, files were removed, or \
             another process commits very fast",
            self.run
        )))
    }

    /// The newest complete checkpoint above an id, found by asking for the next ids, because a listing may be old.
    async fn newest_after(&self, id: u64) -> Result<Option<CheckpointMetadata>, StateError> {
        let mut highest = id;
        let mut newest = None;
        loop {
            let ahead = highest + 1..=highest + PROBED_AHEAD;
            let found = try_join_all(ahead.map(|id| self.read_if_complete(id))).await?;
            let Some(found) = found.into_iter().flatten().last() else {
                return Ok(newest);
            };
            highest = found.checkpoint_id;
            newest = Some(found);
        }
    }

    /// The ids of all complete checkpoints, oldest first.
    pub async fn completed(&self) -> Result<Vec<u64>, StateError> {
        let Some(newest) = self.latest().await? else {
            return Ok(Vec::new());
        };
        let mut complete = vec![newest.checkpoint_id];
        let mut below = newest.checkpoint_id;
        // Ids have no gaps and checkpoints are discarded oldest first: below one that is gone there is nothing.
        'all: while below > 1 {
            let chunk = below.saturating_sub(LOOKUPS_MAX).max(1)..below;
            let found = try_join_all(chunk.clone().map(|id| self.is_complete(id))).await?;
            for (id, is_complete) in chunk
                .clone()
                .zip(found)
                .collect::<Vec<_>>()
                .into_iter()
                .rev()
            {
                if !is_complete {
                    break 'all;
                }
                complete.push(id);
            }
            below = chunk.start;
        }
        complete.reverse();
        let mut lineage = self.lineage();
        if lineage.oldest.is_none() {
            lineage.oldest = complete.first().copied();
        }
        drop(lineage);
        Ok(complete)
    }

    /// A complete checkpoint; a `Missing` error when it was never committed or has been discarded.
    pub async fn read(&self, checkpoint_id: u64) -> Result<CheckpointMetadata, StateError> {
        match self.read_if_complete(checkpoint_id).await? {
            Some(metadata) => Ok(metadata),
            None => {
                let message = format!(
                    "checkpoint {checkpoint_id} of `{}` does not exist or has been discarded",
                    self.run
                );
                Err(StateError::Store(Error {
                    kind: ErrorKind::Missing,
                    message,
                    source: None,
                }))
            }
        }
    }

    /// Creates `chk-<id>/_metadata` unless it exists: the commit. The outcome of a put that failed or timed out is found by reading
    /// back; an error means that it could not be found out, and the attempt must end (the next one sees what was committed).
    ///
    /// The id must be the next after the newest checkpoint that this attempt restored or committed: without gaps, a coordinator that
    /// was replaced meets the name that its successor took.
    pub async fn commit(&self, metadata: &CheckpointMetadata) -> Result<CommitOutcome, StateError> {
        let (id, attempt) = (metadata.checkpoint_id, metadata.attempt);
        let lineage = self.lineage().clone();
        let known = lineage.attempt.is_some_and(|known| known >= attempt);
        if known && (lineage.lost || lineage.attempt != Some(attempt)) {
            return Ok(CommitOutcome::Lost);
        }
        let in_order = if known {
            id == lineage.newest + 1 || id == lineage.newest && id > 0
        } else {
            id == 1
                || id > 1
                    && conditional::size(&*self.objects, &self.metadata_path(id - 1))
                        .await?
                        .is_some()
        };
        if !in_order {
            return Err(StateError::Usage(format!(
                "checkpoint {id} of `{}` cannot be committed: the ids of a run have no gaps, and the newest checkpoint of attempt \
                 {attempt} is {}",
                self.run,
                if known {
                    lineage.newest.to_string()
                } else {
                    "another".to_owned()
                }
            )));
        }
        let outcome = self.create_checkpoint(metadata).await?;
        let mut lineage = self.lineage();
        if lineage.attempt.is_none_or(|known| known < attempt) {
            *lineage = Lineage {
                sealed_through: id,
                ..Lineage::default()
            };
        }
        if lineage.attempt.is_none_or(|known| known == attempt) {
            lineage.attempt = Some(attempt);
            match outcome {
                CommitOutcome::Committed => lineage.newest = id,
                CommitOutcome::Lost => lineage.lost = true,
            }
        }
        Ok(outcome)
    }

    pub(super) async fn create_checkpoint(
        &self,
        metadata: &CheckpointMetadata,
    ) -> Result<CommitOutcome, StateError> {
        let path = self.metadata_path(metadata.checkpoint_id);
        let body = Bytes::from(metadata.encode());
        if body.len() as u64 > OBJECT_BYTES_MAX {
            return Err(StateError::Usage(format!(
                "the metadata of checkpoint {} has {} bytes, expected at most {OBJECT_BYTES_MAX}",
                metadata.checkpoint_id,
                body.len()
            )));
        }
        match conditional::create(&*self.objects, &path, &body, self.conditional).await? {
            Creation::Ours => Ok(CommitOutcome::Committed),
            Creation::Taken => Ok(CommitOutcome::Lost),
        }
    }

    pub(super) fn metadata_path(&self, checkpoint_id: u64) -> Path {
        self.run
            .clone()
            .join(names::checkpoint(checkpoint_id))
            .join("_metadata")
    }

    pub(super) fn lineage(&self) -> MutexGuard<'_, Lineage> {
        // Nothing can be half done under this lock.
        self.lineage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a checkpoint is complete and not discarded.
    pub(super) async fn is_complete(&self, id: u64) -> Result<bool, Error> {
        let size = conditional::size(&*self.objects, &self.metadata_path(id)).await?;
        Ok(size.is_some_and(|size| size != TOMBSTONE.len() as u64))
    }

    /// `None` when the checkpoint was never committed or has been discarded.
    pub(super) async fn read_if_complete(
        &self,
        id: u64,
    ) -> Result<Option<CheckpointMetadata>, StateError> {
        let path = self.metadata_path(id);
        let Some(body) = conditional::read(&*self.objects, &path).await? else {
            return Ok(None);
        };
        if body == TOMBSTONE {
            return Ok(None);
        }
        let decoded = CheckpointMetadata::decode(&body);
        let metadata = decoded.map_err(|error| at(&path, error))?;
        if metadata.checkpoint_id != id {
            return Err(StateError::Corrupt(format!(
                "`{path}` holds the metadata of checkpoint {}",
                metadata.checkpoint_id
            )));
        }
        Ok(Some(metadata))
    }

    /// The ids that a listing shows, ascending; complete or not.
    async fn listed(&self) -> Result<Vec<u64>, StateError> {
        let listed = conditional::directories(&*self.objects, &self.run).await?;
        let mut ids: Vec<u64> = listed
            .iter()
            .filter_map(|path| names::number(path, "chk-"))
            .collect();
        ids.sort_unstable();
        Ok(ids)
    }
}

pub(super) fn retry(message: String) -> StateError {
    StateError::Store(Error {
        kind: ErrorKind::Retry,
        message,
        source: None,
    })
}

/// Names the object that an error of its content is about.
pub(super) fn at(path: &Path, error: StateError) -> StateError {
    match error {
        StateError::Corrupt(what) => StateError::Corrupt(format!("`{path}`: {what}")),
        StateError::Incompatible(what) => StateError::Incompatible(format!("`{path}`: {what}")),
        StateError::Store(error) => StateError::Store(Error {
            message: format!("`{path}`: {}", error.message),
            ..error
        }),
        other => other,
    }
}
