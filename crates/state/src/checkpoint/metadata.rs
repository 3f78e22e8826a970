//! The content of `_metadata`: everything a job needs to go on from a checkpoint.

use std::collections::{BTreeMap, BTreeSet};

use aquifer_store::{KeyGroupRange, TableId};
use object_store::path::Path;

use super::codec;
use crate::operator::{OperatorStateSnapshot, redistribute};
use crate::{BackendKind, KeyedSnapshot, StateDescription, StateError};

/// How a path begins that is relative to the directory in which the metadata lies: all paths of savepoints do, so that the directory can be
/// copied elsewhere.
pub(super) const RELATIVE: &str = "./";

/// Who asked for the state to be kept, and in which form it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CheckpointKind {
    /// Taken by the job for itself.
    #[default]
    Checkpoint,
    /// Asked for by the user, in the form of the backend.
    NativeSavepoint,
    /// Asked for by the user, in the form that every backend reads.
    CanonicalSavepoint,
}

/// State of one operator that is not keyed: one entry per worker that reported.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OperatorSnapshot {
    /// Stable identity of the operator across restarts.
    pub operator: String,
    /// List elements (split states of a source, …): pooled and split evenly on restore.
    pub elements: Vec<Vec<u8>>,
    /// What a two-phase sink has prepared: committed once the checkpoint is complete, and again (idempotently) on restore.
    pub committables: Vec<Vec<u8>>,
    /// Named lists, broadcast maps and raw streams: one entry per worker that has any, in the order of the workers.
    pub states: Vec<OperatorStateSnapshot>,
}

impl OperatorSnapshot {
    /// One worker's report of an operator with nothing but named states; `None` if there are none.
    pub fn of_state(operator: &str, state: OperatorStateSnapshot) -> Option<Self> {
        (!state.is_empty()).then(|| Self {
            operator: operator.to_owned(),
            states: vec![state],
            ..Self::default()
        })
    }

    /// Adds another worker's report of the same operator.
    pub fn pool(&mut self, other: Self) {
        self.elements.extend(other.elements);
        self.committables.extend(other.committables);
        self.states.extend(other.states);
    }

    /// What each of so many workers restores of the named states.
    pub fn redistributed(
        &self,
        parallelism_before: u16,
        parallelism: u16,
        max_parallelism: u16,
    ) -> Result<Vec<OperatorStateSnapshot>, StateError> {
        redistribute(
            &self.states,
            parallelism_before,
            parallelism,
            max_parallelism,
        )
    }
}

/// Another store in which some of a checkpoint's files lie: their paths begin with the mount (`aquifer_store::objects::Mounted`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountPoint {
    /// One part of those paths.
    pub name: String,
    /// The root of the store.
    pub uri: String,
}

/// Where the state of a run came from, if it began with a foreign checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// Stores that hold files of this checkpoint beside the run's own.
    pub mounts: Vec<MountPoint>,
    /// The `_metadata` of the foreign checkpoint, if it was claimed, after those that its own run had claimed: the files that they owned
    /// belong to this run, wherever they lie.
    pub claimed: Vec<String>,
    /// The claimed files that may still be there, whether this checkpoint names them or not.
    pub claimed_files: Vec<String>,
}

/// Everything a job needs to go on from a checkpoint: the content of `_metadata`.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckpointMetadata {
    /// The checkpoint's number in its run; the first is 1 and there are no gaps.
    pub checkpoint_id: u64,
    /// The job's name as the user gave it.
    pub job_name: String,
    /// The attempt that committed it.
    pub attempt: u64,
    /// When the state was taken; a copy made at recovery keeps it.
    pub created_unix_ms: u64,
    /// Workers of the job when the state was taken.
    pub parallelism: u16,
    /// Key groups of the job.
    pub max_parallelism: u16,
    /// Identifies the job graph (operator ids and what they compute).
    pub plan: String,
    /// True for the checkpoint that a finished job leaves behind.
    pub finished: bool,
    /// Checkpoint or savepoint.
    pub kind: CheckpointKind,
    /// The backend that wrote the keyed state.
    pub backend: BackendKind,
    /// The tables in the keyed state's files.
    pub tables: Vec<(StateDescription, TableId)>,
    /// Keyed state: which key groups of which files.
    pub keyed: Vec<(KeyGroupRange, KeyedSnapshot)>,
    /// State that is not keyed.
    pub operators: Vec<OperatorSnapshot>,
    /// Where the state came from.
    pub origin: Origin,
}

impl CheckpointMetadata {
    /// Whether there is anything to read: what a finished job leaves behind holds nothing.
    pub fn has_state(&self) -> bool {
        !self.tables.is_empty() || !self.operators.is_empty()
    }

    /// The bytes of `_metadata`; see `docs/format/metadata.md`.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads what `encode` wrote. Any other bytes are an error: never a panic, never an allocation that the bytes do not back.
    pub fn decode(bytes: &[u8]) -> Result<Self, StateError> {
        codec::decode(bytes)
    }

    /// The paths of all state files, each once, in order.
    pub fn files(&self) -> Vec<String> {
        self.sizes().into_keys().map(str::to_owned).collect()
    }

    /// The files of these that are somebody else's: they neither lie below `directory`, where the owner of this metadata keeps its files, nor
    /// were claimed. There are some as long as a run that began under `NO_CLAIM` has no checkpoint of its own.
    pub fn files_of_others(&self, directory: &Path) -> Vec<String> {
        let claimed: BTreeSet<&String> = self.origin.claimed_files.iter().collect();
        let mut files = self.files();
        files.retain(|file| {
            let path = Path::parse(file).ok();
            let below = path.is_some_and(|path| path.prefix_matches(directory));
            !below && !claimed.contains(file)
        });
        files
    }

    /// Bytes of all state files, and of those that the metadata holds itself; a file that several workers share counts once.
    pub fn state_bytes(&self) -> u64 {
        let inline = self.keyed.iter().map(|(_, part)| part.inline_bytes());
        let sizes = self.sizes().into_values();
        sizes.chain(inline).fold(0, u64::saturating_add)
    }

    /// Calls `each` with path and length of every state file in a store; with one that is named twice, twice.
    pub fn for_each_path<'a>(&'a self, each: &mut dyn FnMut(&'a str, u64)) {
        for (_, part) in &self.keyed {
            part.for_each_path(each);
        }
    }

    /// Gives every state file in a store the path that `new` says.
    pub fn map_paths(
        &mut self,
        new: &mut dyn FnMut(&str) -> Result<String, StateError>,
    ) -> Result<(), StateError> {
        for (_, part) in &mut self.keyed {
            part.map_paths(new)?;
        }
        Ok(())
    }

    /// Gives the paths of a savepoint, which are relative to the directory of its metadata, their full form. Any other path is refused, and so
    /// are other stores: whoever claims the savepoint deletes its files.
    pub(super) fn resolve(&mut self, directory: &Path) -> Result<(), StateError> {
        if self.origin != Origin::default() {
            return Err(StateError::Corrupt(
                "a savepoint names other stores or claimed files, expected none".into(),
            ));
        }
        self.map_paths(&mut |path| {
            let inner = path.strip_prefix(RELATIVE).and_then(|relative| {
                let inner = Path::parse(relative).ok();
                inner.filter(|_| !relative.is_empty() && !relative.starts_with('/'))
            });
            let inner = inner.ok_or_else(|| {
                StateError::Corrupt(format!(
                    "`{path}` is not the path of a file below the metadata, expected `{RELATIVE}…`"
                ))
            })?;
            let full: Path = directory.parts().chain(inner.parts()).collect();
            Ok(full.to_string())
        })
    }

    fn sizes(&self) -> BTreeMap<&str, u64> {
        let mut sizes = BTreeMap::new();
        self.for_each_path(&mut |path, size_bytes| {
            sizes.insert(path, size_bytes);
        });
        sizes
    }
}
