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
//! * A file that a retained checkpoint names is not deleted; files that this run did not write are never deleted.
//!
//! What can go wrong: the object store does not answer (`Retry`; the attempt ends and the next one finds out what was committed),
//! metadata is damaged (`Corrupt`, never a panic), or the coordinator has been replaced ([`CommitOutcome::Lost`]).

mod attempt;
mod codec;
mod conditional;
mod metadata;
mod names;
mod ownership;
mod removal;
mod storage;

pub use metadata::{CheckpointMetadata, OperatorSnapshot};
pub use ownership::FileOwnership;
pub use storage::{CheckpointStorage, CommitOutcome};

#[cfg(test)]
mod tests;
