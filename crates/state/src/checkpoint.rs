//! INTERFACE STUB. Checkpoints of a job: their metadata, where they lie, who owns their files.
use std::sync::Arc;

use aquifer_store::{KeyGroupRange, TableId};
use object_store::ObjectStore;

use crate::{KeyedSnapshot, StateDescription, StateError};

/// State of one operator that is not keyed: one entry per worker that reported.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OperatorSnapshot {
    pub operator: String,
    /// List elements (split states of a source, …): pooled and split evenly on restore.
    pub elements: Vec<Vec<u8>>,
    /// What a two-phase sink has prepared: committed once the checkpoint is complete, and again (idempotently) on restore.
    pub committables: Vec<Vec<u8>>,
}

/// Everything a job needs to go on from a checkpoint: the content of `_metadata`.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckpointMetadata {
    pub checkpoint_id: u64,
    pub job_name: String,
    pub attempt: u64,
    pub created_unix_ms: u64,
    pub parallelism: u16,
    pub max_parallelism: u16,
    /// Identifies the job graph (operator ids and what they compute).
    pub plan: String,
    /// True for the checkpoint that a finished job leaves behind.
    pub finished: bool,
    pub tables: Vec<(StateDescription, TableId)>,
    pub keyed: Vec<(KeyGroupRange, KeyedSnapshot)>,
    pub operators: Vec<OperatorSnapshot>,
}
impl CheckpointMetadata {
    pub fn encode(&self) -> Vec<u8> { todo!() }
    pub fn decode(_bytes: &[u8]) -> Result<Self, StateError> { todo!() }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitOutcome {
    Committed,
    /// Another attempt has taken this checkpoint id: this one is a zombie and must end.
    Lost,
}

/// A run of a job below `execution.checkpointing.dir`: `<dir>/<job>/run-000001/{shared/, chk-000001/_metadata}`.
#[derive(Clone)]
pub struct CheckpointStorage {
    pub objects: Arc<dyn ObjectStore>,
    /// `<job>/run-000001` below the root of `objects`.
    pub run: object_store::path::Path,
}
#[allow(unused_variables)]
impl CheckpointStorage {
    /// Probes once that the store honours create-if-absent (else a clear error naming the override key), then claims a new run.
    pub async fn create_run(objects: Arc<dyn ObjectStore>, base: &object_store::path::Path, job_name: &str, allow_unsafe_commits: bool) -> Result<Self, StateError> { todo!() }
    /// The newest run of the job, if there is one.
    pub async fn find_run(objects: Arc<dyn ObjectStore>, base: &object_store::path::Path, job_name: &str, allow_unsafe_commits: bool) -> Result<Option<Self>, StateError> { todo!() }
    /// Where SST files go.
    pub fn shared(&self) -> object_store::path::Path { todo!() }
    /// The newest complete checkpoint (LIST is only a hint; ids are then probed upwards).
    pub async fn latest(&self) -> Result<Option<CheckpointMetadata>, StateError> { todo!() }
    /// All complete checkpoints, oldest first.
    pub async fn completed(&self) -> Result<Vec<u64>, StateError> { todo!() }
    pub async fn read(&self, checkpoint_id: u64) -> Result<CheckpointMetadata, StateError> { todo!() }
    /// Create-if-absent of `chk-<id>/_metadata`: the commit. A timed-out put is resolved by reading back.
    pub async fn commit(&self, metadata: &CheckpointMetadata) -> Result<CommitOutcome, StateError> { todo!() }
    /// Claims the next attempt and fences older ones: commits a copy of the latest checkpoint under the next id and the new attempt number
    /// (retrying when a zombie was faster). With no checkpoint yet it only claims the attempt number. Returns the attempt and the checkpoint to restore.
    pub async fn begin_attempt(&self) -> Result<(u64, Option<CheckpointMetadata>), StateError> { todo!() }
    /// Deletes a subsumed checkpoint's metadata.
    pub async fn discard(&self, checkpoint_id: u64) -> Result<(), StateError> { todo!() }
    pub async fn delete_files(&self, paths: &[String]) -> Result<(), StateError> { todo!() }
    /// After recovery: deletes SST files below `shared/` that no complete checkpoint names and that were not written by `attempt`. Returns how many.
    pub async fn sweep_orphans(&self, attempt: u64) -> Result<usize, StateError> { todo!() }
}

/// Who may delete which file: a pure state machine, no I/O.
#[derive(Debug, Default)]
pub struct FileOwnership;
#[allow(unused_variables)]
impl FileOwnership {
    pub fn new(retained_max: usize) -> Self { todo!() }
    /// Start from the checkpoints that exist (after a restore).
    pub fn restore(&mut self, checkpoint_id: u64, files: Vec<String>) { todo!() }
    /// A checkpoint is complete. Returns what may go now: checkpoints to discard, and files to delete. Files are only returned one checkpoint after
    /// the last checkpoint that names them was subsumed, because reads planned before the newest barrier may still be under way.
    pub fn complete(&mut self, checkpoint_id: u64, files: Vec<String>) -> (Vec<u64>, Vec<String>) { todo!() }
}
