//! The content of `_metadata`: everything a job needs to go on from a checkpoint.

use std::collections::BTreeMap;

use aquifer_store::{KeyGroupRange, TableId};

use super::codec;
use crate::{KeyedSnapshot, StateDescription, StateError};

/// State of one operator that is not keyed: one entry per worker that reported.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OperatorSnapshot {
    /// Stable identity of the operator across restarts.
    pub operator: String,
    /// List elements (split states of a source, …): pooled and split evenly on restore.
    pub elements: Vec<Vec<u8>>,
    /// What a two-phase sink has prepared: committed once the checkpoint is complete, and again (idempotently) on restore.
    pub committables: Vec<Vec<u8>>,
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
    /// The `_metadata` of the foreign checkpoint, if its files were claimed: then they belong to this run, wherever they lie.
    pub claimed: Option<String>,
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

    /// Bytes of all state files; a file that several workers share counts once.
    pub fn state_bytes(&self) -> u64 {
        self.sizes().into_values().fold(0, u64::saturating_add)
    }

    fn sizes(&self) -> BTreeMap<&str, u64> {
        let files = self
            .keyed
            .iter()
            .flat_map(|(_, snapshot)| &snapshot.files.files);
        files
            .map(|file| (file.path.as_str(), file.size_bytes))
            .collect()
    }
}
