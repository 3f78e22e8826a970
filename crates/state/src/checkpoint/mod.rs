//! Checkpoints of a job: what they contain, where they lie, who may delete which file.
//!
//! ```text
//! <checkpoint directory>/<job>/run-000001/            one run of the job, from its start to its end
//!     _run                                            claims the number of the run
//!     attempts/000002                                 claims an attempt: one incarnation of the run
//!     shared/000002-w0-17.sst                         state files, named by attempt and worker
//!     chk-000123/_metadata                            a complete checkpoint: writing this object is the commit
//! ```
//!
//! What always holds:
//! * Everything that is claimed or committed is created under a number that did not exist (create-if-absent), and the ids of a
//!   run's checkpoints have no gaps. A coordinator that has been replaced therefore always meets a name that is taken and loses
//!   (`docs/decisions/0001-fencing-with-create-if-absent.md`).
//! * `chk-000001/_metadata` exists from the first commit on, for ever. Whether a run has checkpoints is thus known without
//!   trusting a listing; listings are only hints.
//! * A file that a retained checkpoint names is not deleted; files that this run neither wrote nor claimed are never deleted.
//! * A run may begin with a foreign checkpoint ([`ForeignCheckpoint`]): a copy of its metadata becomes checkpoint 1, and all later ones
//!   name files of the run only, unless it has claimed the foreign ones ([`Placement`]).
//!
//! * A savepoint ([`write_savepoint`]) is a checkpoint that was rewritten into a directory of its own, for its user: all its paths are
//!   relative to that directory, so it can be copied elsewhere, and nothing here ever deletes it unless a run claims it.
//!
//! What can go wrong: the object store does not answer (`Retry`; the attempt ends and the next one finds out what was committed),
//! metadata is damaged (`Corrupt`, never a panic), or the coordinator has been replaced ([`CommitOutcome::Lost`]).
//!
//! ```
//! use std::sync::Arc;
//!
//! use aquifer_state::BackendKind;
//! use aquifer_state::checkpoint::{CheckpointMetadata, CheckpointStorage, CommitOutcome};
//! use object_store::{memory::InMemory, path::Path};
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let objects = Arc::new(InMemory::new());
//! let run = CheckpointStorage::create_run(objects.clone(), &Path::default(), "job", false).await?;
//! let (attempt, restored) = run.begin_attempt().await?;
//! assert_eq!((attempt, restored), (1, None));
//! let first = CheckpointMetadata {
//!     checkpoint_id: 1,
//!     job_name: "job".into(),
//!     attempt,
//!     created_unix_ms: 0,
//!     parallelism: 1,
//!     max_parallelism: 128,
//!     plan: "plan".into(),
//!     finished: false,
//!     kind: Default::default(),
//!     backend: BackendKind::Forst,
//!     tables: vec![],
//!     keyed: vec![],
//!     operators: vec![],
//!     origin: Default::default(),
//! };
//! assert_eq!(run.commit(&first).await?, CommitOutcome::Committed);
//!
//! // Another process takes over: it goes on from a copy, and the first one has lost.
//! let other = CheckpointStorage::find_run(objects, &Path::default(), "job", false).await?.unwrap();
//! let (attempt, restored) = other.begin_attempt().await?;
//! assert_eq!((attempt, restored.unwrap().checkpoint_id), (2, 2));
//! let second = CheckpointMetadata { checkpoint_id: 2, ..first };
//! assert_eq!(run.commit(&second).await?, CommitOutcome::Lost);
//! # Ok::<(), aquifer_state::StateError>(()) }).unwrap();
//! ```

mod attempt;
mod codec;
mod conditional;
mod copying;
mod foreign;
mod metadata;
mod names;
mod ownership;
mod placement;
mod removal;
mod runs;
mod savepoint;
mod storage;

pub use foreign::{ClaimMode, ForeignCheckpoint};
pub use metadata::{CheckpointKind, CheckpointMetadata, MountPoint, OperatorSnapshot, Origin};
pub use ownership::FileOwnership;
pub use placement::Placement;
pub use savepoint::{SavepointFormat, SavepointLocation, SavepointSource, write_savepoint};
pub use storage::{CheckpointStorage, CommitOutcome};

#[cfg(test)]
mod tests;
