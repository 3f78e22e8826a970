//! Compactions that another process does: `aquifer compactor` takes jobs that workers leave on the object store.
//!
//! A worker writes a [task](super::task) to `<directory>/<writer>-<number>/job` and watches that directory. Compactors find it, and
//! everything between the two is said with objects that are *created if absent and never changed*, because that is the one conditional
//! write all object stores have:
//!
//! | object | created by | says |
//! |---|---|---|
//! | `job` | the worker | what is to be done |
//! | `claim-<k>` | a compactor | I do it; `k` is one more than the claim it follows, so of several only one succeeds |
//! | `beat-<k>-<m>` | the holder of claim `k` | I am still alive |
//! | `result` | a compactor, or the worker | it is done and these are the files; or the worker has taken the job back. The first one counts |
//!
//! A claim whose holder shows no new beat for a *lease* has expired, and the next one may be made. Who watches measures that with its
//! own clock, from one look to the next, so clocks need not agree. If no compactor comes, or the last one has died, the worker takes
//! the job back and does it itself: with no compactor anywhere, compactions are late by the time the worker waits for a claim.
//!
//! What always holds, whatever crashes, stalls or comes back from the dead: outputs have names that nobody else uses (they hold the
//! number of the claim); nobody deletes a file but its own outputs, and those only if no result can name them; only the worker
//! changes its tree, in its own thread, once per job. So a compactor that was given up does no harm: it loses the race for `result`, or
//! the worker is gone and nobody looks. What it leaves are files named like those of the worker's attempt, which the sweep after the
//! next recovery removes, and a directory here, which goes the same way.
//!
//! Listings may be old: a claim or a result that was overlooked is met when the same name is to be created.
//!
//! Both sides are pure state machines ([`offer`], [`claim`]); [`board`] does the requests; [`worker`] and [`compactor`] join them.
pub(crate) mod board;
pub(crate) mod claim;
pub(crate) mod compactor;
pub(crate) mod message;
pub(crate) mod offer;
mod outputs;
#[cfg(test)]
mod tests;
pub(crate) mod worker;

use std::time::Duration;

use object_store::path::Path;

/// How a store leaves compactions to other processes.
#[derive(Clone, Debug)]
pub struct RemoteCompaction {
    /// Where jobs are left, e.g. `<run>/compactions`. Compactors look into directories of the name `compactions`.
    pub directory: Path,
    /// A job that nobody has claimed after this is done by the worker; 10 s.
    pub claim_wait: Duration,
    /// A claim without a sign of life for this long has expired; 30 s.
    pub lease: Duration,
    /// How often the worker looks; 1 s.
    pub poll: Duration,
    /// A job that is not done after this is done by the worker, however lively its claim is; 1 h.
    pub patience: Duration,
    /// Jobs that read less are not worth the round trips; 64 MiB.
    pub bytes_min: u64,
    /// Jobs of one store that may be with compactors at the same time; 4.
    pub jobs_max: usize,
}

impl RemoteCompaction {
    /// The last part of the directories that compactors look into.
    pub const DIRECTORY: &'static str = "compactions";

    /// Jobs are left in `directory`, everything else as it usually is.
    pub fn new(directory: Path) -> Self {
        Self {
            directory,
            claim_wait: Duration::from_secs(10),
            lease: Duration::from_secs(30),
            poll: Duration::from_secs(1),
            patience: Duration::from_secs(3600),
            bytes_min: 64 << 20,
            jobs_max: 4,
        }
    }
}
