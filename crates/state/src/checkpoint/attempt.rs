//! Beginning an attempt: claim a number, then take the next checkpoint id away from every older attempt.

use bytes::Bytes;

use super::conditional;
use super::storage::{CLAIMS_MAX, CheckpointStorage, CommitOutcome, Lineage, retry};
use super::{CheckpointMetadata, names};
use crate::StateError;

/// Times that an older attempt may commit faster than we fence it.
const FENCES_MAX: usize = 100;

impl CheckpointStorage {
    /// Claims the next attempt and fences older ones: commits a copy of the latest checkpoint under the next id and the new attempt's
    /// number (again when an older attempt was faster). Returns the attempt and the checkpoint to restore; the attempt's first own
    /// checkpoint has the id after it, or 1.
    ///
    /// * With no checkpoint yet it only claims the number; should an older attempt still commit checkpoint 1, this one's first commit
    ///   is [`Lost`](CommitOutcome::Lost).
    /// * If the returned checkpoint is `finished`, the job is done: nothing was claimed or fenced, and the attempt is the one that
    ///   finished it. Its committables, if any, must still be committed (they may have been already).
    pub async fn begin_attempt(&self) -> Result<(u64, Option<CheckpointMetadata>), StateError> {
        self.begin_attempt_from(None).await
    }

    /// Like [`begin_attempt`](Self::begin_attempt), but a run without checkpoints begins with a foreign one (as
    /// [`adopted`](super::ForeignCheckpoint::adopt)): a copy of it becomes checkpoint 1, so that from then on a restart finds it here.
    pub async fn begin_attempt_from(
        &self,
        foreign: Option<CheckpointMetadata>,
    ) -> Result<(u64, Option<CheckpointMetadata>), StateError> {
        let mut latest = self.latest().await?;
        if let Some(finished) = latest.take_if(|latest| latest.finished) {
            return Ok((finished.attempt, Some(finished)));
        }
        let mut attempt = self.claim_attempt(latest.as_ref()).await?;
        if latest.is_none() {
            // An older attempt may have committed its first checkpoint meanwhile.
            latest = self.latest().await?;
        }
        for _ in 0..FENCES_MAX {
            let Some(newest) = latest else {
                if let Some(foreign) = &foreign {
                    let first = CheckpointMetadata {
                        checkpoint_id: 1,
                        attempt,
                        ..foreign.clone()
                    };
                    // The first name is never freed: who creates it is in front.
                    if self.create_checkpoint(&first).await? == CommitOutcome::Committed {
                        self.enter(Lineage::restored(attempt, &first));
                        return Ok((attempt, Some(first)));
                    }
                    latest = self.latest().await?;
                    continue;
                }
                self.enter(Lineage {
                    attempt: Some(attempt),
                    sealed_through: 1,
                    oldest: Some(1),
                    ..Lineage::default()
                });
                return Ok((attempt, None));
            };
            if newest.finished {
                return Ok((newest.attempt, Some(newest)));
            }
            if newest.attempt >= attempt {
                attempt = self.claim_attempt(Some(&newest)).await?;
            }
            let fence = CheckpointMetadata {
                checkpoint_id: newest.checkpoint_id + 1,
                attempt,
                ..newest
            };
            let created = self.create_checkpoint(&fence).await?;
            if created == CommitOutcome::Committed && self.is_in_front(&fence).await? {
                self.enter(Lineage::restored(attempt, &fence));
                return Ok((attempt, Some(fence)));
            }
            latest = self.latest().await?;
        }
        Err(retry(format!(
            "older attempts of `{}` committed faster than they could be fenced {FENCES_MAX} times",
            self.run
        )))
    }

    /// Whether our copy really stands before every other coordinator. While we were slow, one that is alive may have committed the id of
    /// our copy, gone on, and discarded it: then the name was free again and the copy fences nobody.
    ///
    /// Checkpoints are discarded in order: as long as the one that was copied is complete, the name after it was never freed.
    async fn is_in_front(&self, fence: &CheckpointMetadata) -> Result<bool, StateError> {
        let id = fence.checkpoint_id;
        let newest = self
            .latest()
            .await?
            .map_or(0, |latest| latest.checkpoint_id);
        let source_is_complete = self.is_complete(id - 1).await?;
        if newest > id && !source_is_complete {
            // Nobody needs the copy. Its name stays taken, as it was if the copy was good after all and has been followed since.
            self.discard_one(id, true).await?;
        }
        if newest == id && !source_is_complete {
            return Err(retry(format!(
                "checkpoint {} of `{}` disappeared while it was restored, although no newer one is listed",
                id - 1,
                self.run
            )));
        }
        Ok(newest == id)
    }

    fn enter(&self, lineage: Lineage) {
        *self.lineage() = lineage;
    }

    async fn claim_attempt(&self, latest: Option<&CheckpointMetadata>) -> Result<u64, StateError> {
        let directory = self.run.clone().join("attempts");
        let listed = conditional::entries(&*self.objects, &directory).await?;
        let claimed = listed
            .iter()
            .filter_map(|path| names::number(path, ""))
            .max()
            .unwrap_or(0);
        let newest = claimed.max(latest.map_or(0, |latest| latest.attempt));
        for number in (newest + 1..).take(CLAIMS_MAX) {
            let claim = directory.clone().join(names::attempt(number));
            let body = Bytes::from_static(b"an attempt\n");
            if conditional::claim(&*self.objects, &claim, body, self.conditional).await? {
                return Ok(number);
            }
        }
        Err(retry(format!(
            "no number of a new attempt could be claimed below `{directory}`"
        )))
    }
}
