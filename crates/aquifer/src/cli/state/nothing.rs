//! Checkpoints that hold no state at all: why that is, and where to look instead.

use std::collections::BTreeMap;

use aquifer::runner::RunError;
use aquifer_state::checkpoint::{CheckpointMetadata, ForeignCheckpoint};
use tokio::runtime::Runtime;

use super::unreadable;

/// Why the checkpoint that `location` names has no state.
pub fn why(
    location: &str,
    settings: &BTreeMap<String, String>,
    metadata: &CheckpointMetadata,
    runtime: &Runtime,
) -> Result<String, RunError> {
    let (id, job) = (metadata.checkpoint_id, &metadata.job_name);
    if !metadata.finished {
        return Ok(format!(
            "checkpoint {id} of job `{job}` holds no state: its operators keep none"
        ));
    }
    let newest = runtime.block_on(async {
        let opened = ForeignCheckpoint::open(location, settings).await?;
        opened.newest_with_state().await
    });
    let elsewhere = match newest.map_err(unreadable)? {
        Some(uri) => format!("the newest checkpoint of the job with state is {uri}"),
        None => "no other checkpoint of the job has any; savepoints lie where they were asked for, and with \
                 execution.checkpointing.externalized-checkpoint-retention: RETAIN_ON_CANCELLATION the last checkpoint of a finished job is kept"
            .to_owned(),
    };
    Ok(format!(
        "checkpoint {id} of job `{job}` holds no state: the job has finished, and this is what marks that; {elsewhere}"
    ))
}
