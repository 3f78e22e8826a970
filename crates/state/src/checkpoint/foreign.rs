//! Going on from a checkpoint of another run, or from a savepoint: finding it by URI, and making it the first checkpoint of one's own run.
//!
//! The other run may lie in another store. Its files stay where they are and are named through a mount
//! (`aquifer_store::objects::Mounted`), whose URI the metadata carries, so that a restart finds them again. Nothing is copied here.
//!
//! What always holds: only files that the foreign checkpoint's run (or the savepoint) owns are claimed. Others that it names, because it began with
//! them itself under `NO_CLAIM`, stay whose they were.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use aquifer_store::objects::{self, Mounted};
use aquifer_store::{Error, ErrorKind};
use object_store::ObjectStore;
use object_store::path::Path;
use xxhash_rust::xxh3::xxh3_64;

use super::metadata::{MountPoint, Origin};
use super::storage::{TOMBSTONE, at};
use super::{
    CheckpointKind, CheckpointMetadata, CheckpointStorage, SavepointSource, conditional, names,
};
use crate::StateError;

/// Runs, checkpoints or other directories that are looked at or named at most.
const LOOKED_AT_MAX: usize = 20;

/// Who owns a foreign checkpoint after a job went on from it (`execution.state-recovery.claim-mode`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClaimMode {
    /// Whoever owned it before. Nothing of it is ever deleted, and the first checkpoint of the new run depends on none of its files.
    #[default]
    NoClaim,
    /// The new run: its files are used as long as they are needed and then deleted. Files that it names and does not own are treated as
    /// under `NoClaim`.
    Claim,
}

/// A checkpoint that was found by URI.
#[derive(Debug)]
pub struct ForeignCheckpoint {
    /// The run that it belongs to.
    pub storage: CheckpointStorage,
    /// What it holds; paths are those of the other run's store.
    pub metadata: CheckpointMetadata,
    /// The root of the other run's store, as a URI.
    pub root: String,
    /// Its `_metadata`.
    path: Path,
    /// The directory of the files that it owns: the run's `shared/`, or a savepoint's own.
    owned: Path,
}

impl ForeignCheckpoint {
    /// Finds a checkpoint or a savepoint: `uri` names its directory (`…/chk-000017`, `…/savepoint-…`, or wherever a savepoint was copied to),
    /// its `_metadata`, a run (`…/run-000001`) or a job; of the last two the newest checkpoint is meant. `settings` are the keys of the
    /// object store.
    pub async fn open(uri: &str, settings: &BTreeMap<String, String>) -> Result<Self, StateError> {
        let located = Located::parse(uri)?;
        if located.run.is_none()
            && let Some(savepoint) = Self::open_savepoint(uri, &located.job_uri(), settings).await?
        {
            return Ok(savepoint);
        }
        let (root, local) = objects::root_of(&located.directory)?;
        // Opening a local directory would create it.
        if local.is_some_and(|directory| !directory.is_dir()) {
            return Err(missing(uri, "there is no such directory"));
        }
        let (objects, base) = objects::open(&located.directory, settings)?;
        let job = base.join(located.job.as_str());
        let run = match located.run {
            Some(run) => run,
            None => {
                let listed = conditional::directories(&*objects, &job).await?;
                let newest = listed
                    .iter()
                    .filter_map(|path| names::number(path, "run-"))
                    .max();
                newest.ok_or_else(|| missing(uri, &no_run_among(&listed)))?
            }
        };
        let mut storage = CheckpointStorage::new(objects, job.join(names::run(run)));
        let metadata = match located.checkpoint {
            Some(id) => match storage.read(id).await {
                Err(StateError::Store(Error {
                    kind: ErrorKind::Missing,
                    message,
                    ..
                })) => {
                    // Of a run that has none left, the listing is an error; this one says more.
                    let there = storage.completed().await.unwrap_or_default();
                    let there = there.into_iter().map(names::checkpoint);
                    return Err(missing(
                        uri,
                        &format!("{message}; {}", there_are(there.collect())),
                    ));
                }
                read => read?,
            },
            None => storage
                .latest()
                .await?
                .ok_or_else(|| missing(uri, "the run has no complete checkpoint"))?,
        };
        // Its own files may lie elsewhere in turn.
        storage.mount(&root, &metadata.origin.mounts, settings)?;
        Ok(Self {
            path: storage.metadata_path(metadata.checkpoint_id),
            owned: storage.shared(),
            storage,
            metadata,
            root,
        })
    }

    /// The savepoint in a directory, if there is one.
    async fn open_savepoint(
        uri: &str,
        directory: &str,
        settings: &BTreeMap<String, String>,
    ) -> Result<Option<Self>, StateError> {
        let (root, local) = objects::root_of(directory)?;
        if local.is_some_and(|directory| !directory.is_dir()) {
            return Ok(None);
        }
        let (objects, directory) = objects::open(directory, settings)?;
        match Self::savepoint_in(objects, &root, directory).await {
            Err(StateError::Store(Error {
                kind: ErrorKind::Missing,
                ..
            })) => Err(missing(uri, "it has been discarded")),
            found => found,
        }
    }

    /// The savepoint in a directory of a store that is open, if there is one; `root` is the URI of the store's root.
    pub async fn savepoint_in(
        objects: Arc<dyn ObjectStore>,
        root: &str,
        directory: Path,
    ) -> Result<Option<Self>, StateError> {
        let path = directory.clone().join("_metadata");
        let Some(body) = conditional::read(&*objects, &path).await? else {
            return Ok(None);
        };
        if body == TOMBSTONE {
            return Err(missing(directory.as_ref(), "it has been discarded"));
        }
        let decoded = CheckpointMetadata::decode(&body);
        let mut metadata = decoded.map_err(|error| at(&path, error))?;
        metadata
            .resolve(&directory)
            .map_err(|error| at(&path, error))?;
        let mut storage = CheckpointStorage::new(objects, directory.clone());
        storage.mount_all(root, Vec::new())?;
        Ok(Some(Self {
            storage,
            metadata,
            root: root.to_owned(),
            path,
            owned: directory,
        }))
    }

    /// The newest checkpoint of the same job that holds state, of this run or an earlier one, as a URI; `None` if there is none, or if this
    /// is a savepoint. What cannot be read is passed over.
    pub async fn newest_with_state(&self) -> Result<Option<String>, StateError> {
        let mut parts: Vec<_> = self.path.parts().collect();
        // Below the job: the run, the checkpoint, its `_metadata`.
        let Some(job_parts) = parts.len().checked_sub(3) else {
            return Ok(None);
        };
        parts.truncate(job_parts);
        let job: Path = parts.into_iter().collect();
        let objects = &self.storage.objects;
        let listed = conditional::directories(&**objects, &job).await?;
        let mut runs: Vec<u64> = listed
            .iter()
            .filter_map(|path| names::number(path, "run-"))
            .collect();
        runs.sort_unstable();
        for run in runs.into_iter().rev().take(LOOKED_AT_MAX) {
            let run = job.clone().join(names::run(run));
            let storage = CheckpointStorage::new(Arc::clone(objects), run.clone());
            let completed = storage.completed().await.unwrap_or_default();
            for id in completed.into_iter().rev().take(LOOKED_AT_MAX) {
                if storage.read(id).await.is_ok_and(|read| read.has_state()) {
                    let root = self.root.trim_end_matches('/');
                    return Ok(Some(format!("{root}/{run}/{}", names::checkpoint(id))));
                }
            }
        }
        Ok(None)
    }

    /// What a savepoint can be written from.
    pub fn source(&self) -> SavepointSource<'_> {
        SavepointSource {
            metadata: &self.metadata,
            storage: &self.storage,
            root: &self.root,
        }
    }

    /// The checkpoint as the first one of a run in the store at `own_root`: the same state, with paths as that store knows them.
    pub fn adopt(self, own_root: &str, mode: ClaimMode) -> Result<CheckpointMetadata, StateError> {
        let Self {
            mut metadata,
            root,
            path,
            owned,
            ..
        } = self;
        let of_others: BTreeSet<String> = metadata.files_of_others(&owned).into_iter().collect();
        metadata.kind = CheckpointKind::Checkpoint;
        let known = metadata.origin.mounts.iter();
        let known: BTreeMap<&str, &str> = known
            .map(|mount| (mount.name.as_str(), mount.uri.as_str()))
            .collect();
        let mut mounts = BTreeMap::new();
        let mut here = |path: &Path| {
            let (uri, inner) = match Mounted::mount_of(path) {
                None => (root.as_str(), path.clone()),
                Some(name) => {
                    let uri = known.get(name.as_str()).ok_or_else(|| unmounted(path))?;
                    (*uri, path.parts().skip(2).collect())
                }
            };
            if uri == own_root {
                return Ok(inner);
            }
            let name = mount_name(uri);
            let outer = Mounted::path_in(&name, &inner);
            mounts.insert(name, uri.to_owned());
            Ok::<_, StateError>(outer)
        };
        let mut claimed = Vec::new();
        if mode == ClaimMode::Claim {
            for earlier in &metadata.origin.claimed {
                claimed.push(here(&parsed(earlier)?)?.to_string());
            }
            claimed.push(here(&path)?.to_string());
        }
        let mut claimed_files = BTreeSet::new();
        for (_, snapshot) in &mut metadata.keyed {
            snapshot.map_paths(&mut |name| {
                let path = here(&parsed(name)?)?.to_string();
                if mode == ClaimMode::Claim && !of_others.contains(name) {
                    claimed_files.insert(path.clone());
                }
                Ok(path)
            })?;
        }
        metadata.origin = Origin {
            mounts: mounts
                .into_iter()
                .map(|(name, uri)| MountPoint { name, uri })
                .collect(),
            claimed,
            claimed_files: claimed_files.into_iter().collect(),
        };
        Ok(metadata)
    }
}

/// A path that metadata names.
pub(super) fn parsed(name: &str) -> Result<Path, StateError> {
    Path::parse(name).map_err(|error| {
        StateError::Corrupt(format!("`{name}` is not the path of a file: {error}"))
    })
}

/// The name under which the store at `uri` is mounted: the same everywhere.
fn mount_name(uri: &str) -> String {
    format!("{:016x}", xxh3_64(uri.as_bytes()))
}

fn unmounted(path: &Path) -> StateError {
    StateError::Corrupt(format!(
        "`{path}` lies in a store that the checkpoint's metadata does not name"
    ))
}

/// Why no run was found among the directories of what should be a job.
fn no_run_among(directories: &[Path]) -> String {
    let names = directories.iter().filter_map(Path::filename);
    let names: Vec<String> = names.map(str::to_owned).collect();
    let none = "neither chk-… nor run-… is named or found there";
    match names.is_empty() {
        true => format!("{none}, and no other directory either"),
        false => format!("{none}; {}", there_are(names)),
    }
}

/// What there is to choose from.
fn there_are(names: Vec<String>) -> String {
    let shown = names.iter().take(LOOKED_AT_MAX);
    let shown: Vec<String> = shown.map(|name| format!("`{name}`")).collect();
    match names.len().checked_sub(shown.len()) {
        _ if names.is_empty() => "there is none".to_owned(),
        Some(more @ 1..) => format!("there are {} and {more} more", shown.join(", ")),
        _ => format!("there is {}", shown.join(", ")),
    }
}

fn missing(uri: &str, why: &str) -> StateError {
    StateError::Store(Error {
        kind: ErrorKind::Missing,
        message: format!("no checkpoint was found at {uri}: {why}"),
        source: None,
    })
}

/// The parts of a checkpoint's URI.
#[derive(Debug, PartialEq, Eq)]
struct Located {
    /// The checkpoint directory, which holds jobs.
    directory: String,
    job: String,
    run: Option<u64>,
    checkpoint: Option<u64>,
}

impl Located {
    /// The URI of the job's directory.
    fn job_uri(&self) -> String {
        match self.directory.as_str() {
            whole if whole.ends_with('/') => format!("{whole}{}", self.job),
            directory => format!("{directory}/{}", self.job),
        }
    }

    fn parse(uri: &str) -> Result<Self, StateError> {
        let wrong = || {
            StateError::Usage(format!(
                "`{uri}` does not name a checkpoint: expected …/<job>/run-<number>/chk-<number>, a run or a job below a checkpoint directory"
            ))
        };
        let is_uri = uri.contains("://")
            || uri
                .get(..5)
                .is_some_and(|s| s.eq_ignore_ascii_case("file:"));
        let absolute = if is_uri {
            uri.to_owned()
        } else {
            let path = std::path::absolute(uri).map_err(|_| wrong())?;
            path.to_str().ok_or_else(wrong)?.to_owned()
        };
        let mut rest = absolute.trim_end_matches('/');
        rest = rest.strip_suffix("/_metadata").unwrap_or(rest);
        let mut take = |prefix: &str| {
            let (before, last) = rest.rsplit_once('/')?;
            let number = names::number(&Path::from(last), prefix)?;
            rest = before;
            Some(number)
        };
        let checkpoint = take("chk-");
        let run = take("run-");
        if checkpoint.is_some() && run.is_none() {
            return Err(wrong());
        }
        let (directory, job) = rest.rsplit_once('/').ok_or_else(wrong)?;
        if job.is_empty() {
            return Err(wrong());
        }
        let directory = match directory {
            "" => "/".to_owned(),
            bare if bare.ends_with('/') || bare.ends_with(':') => format!("{bare}/"),
            directory => directory.to_owned(),
        };
        Ok(Self {
            directory,
            job: job.to_owned(),
            run,
            checkpoint,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_checkpoints_name_is_understood() {
        let located = |directory: &str, run, checkpoint| Located {
            directory: directory.into(),
            job: "job".into(),
            run,
            checkpoint,
        };
        for (uri, expected) in [
            (
                "/tmp/c/job/run-000002/chk-000017",
                located("/tmp/c", Some(2), Some(17)),
            ),
            (
                "/tmp/c/job/run-000002/chk-000017/_metadata",
                located("/tmp/c", Some(2), Some(17)),
            ),
            (
                "file:///tmp/c/job/run-000002/",
                located("file:///tmp/c", Some(2), None),
            ),
            ("file:///c/job", located("file:///c", None, None)),
            ("/job/run-000001", located("/", Some(1), None)),
            (
                "s3://bucket/job/run-000001",
                located("s3://bucket", Some(1), None),
            ),
            (
                "s3://bucket/a/b/job",
                located("s3://bucket/a/b", None, None),
            ),
            (
                "memory://x/job/run-1000000/chk-000001",
                located("memory://x", Some(1_000_000), Some(1)),
            ),
        ] {
            assert_eq!(Located::parse(uri).unwrap(), expected, "{uri}");
        }
        for uri in ["", "/", "/c/job/chk-000001", "s3://"] {
            assert!(Located::parse(uri).is_err(), "{uri}");
        }
    }
}
