//! The runs of a job: each start without `--resume` claims a new one, and a resumed job goes on in the newest.

use std::sync::Arc;

use aquifer_store::objects::{CreateIfAbsent, create_if_absent};
use bytes::Bytes;
use futures_util::future::try_join_all;
use object_store::ObjectStore;
use object_store::path::Path;

use super::storage::{CLAIMS_MAX, CheckpointStorage, PROBED_AHEAD, retry};
use super::{conditional, names};
use crate::StateError;

impl CheckpointStorage {
    /// Probes that the store honours create-if-absent (else an error that names the key to override it), then claims a new run.
    pub async fn create_run(
        objects: Arc<dyn ObjectStore>,
        base: &Path,
        job_name: &str,
        allow_unsafe_commits: bool,
    ) -> Result<Self, StateError> {
        let conditional = trusted(&*objects, base, allow_unsafe_commits).await?;
        let directory = names::job_directory(base, job_name);
        let listed = conditional::directories(&*objects, &directory).await?;
        let newest = listed
            .iter()
            .filter_map(|path| names::number(path, "run-"))
            .max()
            .unwrap_or(0);
        for number in (newest + 1..).take(CLAIMS_MAX) {
            let run = directory.clone().join(names::run(number));
            let claim = run.clone().join("_run");
            if conditional::claim(&*objects, &claim, run_claim(job_name), conditional).await? {
                return Ok(Self {
                    conditional,
                    ..Self::new(objects, run)
                });
            }
        }
        Err(retry(format!(
            "no number of a new run of job `{job_name}` could be claimed below `{directory}`"
        )))
    }

    /// The newest run of the job, if there is one. Probes the store as [`create_run`](Self::create_run) does.
    pub async fn find_run(
        objects: Arc<dyn ObjectStore>,
        base: &Path,
        job_name: &str,
        allow_unsafe_commits: bool,
    ) -> Result<Option<Self>, StateError> {
        let directory = names::job_directory(base, job_name);
        let claim_of = |number| directory.clone().join(names::run(number)).join("_run");
        let listed = conditional::directories(&*objects, &directory).await?;
        let mut numbers: Vec<u64> = listed
            .iter()
            .filter_map(|path| names::number(path, "run-"))
            .collect();
        numbers.sort_unstable();
        let mut highest = numbers.last().copied().unwrap_or(0);
        loop {
            let ahead = highest + 1..=highest + PROBED_AHEAD;
            let found = try_join_all(ahead.clone().map(|number| {
                let (objects, claim) = (&objects, claim_of(number));
                async move { conditional::size(&**objects, &claim).await }
            }));
            let found = found.await?;
            let Some((number, _)) = ahead.zip(found).filter(|(_, size)| size.is_some()).last()
            else {
                break;
            };
            numbers.push(number);
            highest = number;
        }
        for number in numbers.into_iter().rev() {
            let Some(claim) = conditional::read(&*objects, &claim_of(number)).await? else {
                continue;
            };
            if claim != run_claim(job_name) {
                return Err(StateError::Corrupt(format!(
                    "`{}` does not belong to job `{job_name}`, although its directory is named so",
                    claim_of(number)
                )));
            }
            let conditional = trusted(&*objects, base, allow_unsafe_commits).await?;
            let run = directory.clone().join(names::run(number));
            return Ok(Some(Self {
                conditional,
                ..Self::new(objects, run)
            }));
        }
        Ok(None)
    }
}

fn run_claim(job_name: &str) -> Bytes {
    Bytes::from(format!("a run of job\n{job_name}\n"))
}

/// Probes the store; false means that it ignores create-if-absent and that the user accepts it.
async fn trusted(
    objects: &dyn ObjectStore,
    base: &Path,
    allow_unsafe_commits: bool,
) -> Result<bool, StateError> {
    match create_if_absent(objects, base).await? {
        CreateIfAbsent::Honoured => Ok(true),
        CreateIfAbsent::Ignored(error) if allow_unsafe_commits => {
            tracing::warn!(%error, "going on because unsafe commits are allowed");
            Ok(false)
        }
        CreateIfAbsent::Ignored(error) => Err(error.into()),
    }
}
