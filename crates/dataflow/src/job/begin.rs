//! Where an attempt begins: the run, the checkpoint that it goes on from, and where its files lie.

use std::sync::Arc;

use aquifer_state::StateError;
use aquifer_state::checkpoint::{
    CheckpointMetadata, CheckpointStorage, FileOwnership, ForeignCheckpoint,
};
use aquifer_store::objects::{self, Mount, Mounted};
use object_store::path::Path;

use super::{JobOptions, run_id};
use crate::JobError;

/// The name under which the primary directory's store is mounted.
const PRIMARY: &str = "primary";

/// Where an attempt begins.
pub(super) struct Begin {
    pub storage: CheckpointStorage,
    pub run_id: String,
    pub attempt: u64,
    pub restored: Option<CheckpointMetadata>,
    pub ownership: FileOwnership,
    /// Where workers keep their files, if not beside the checkpoints.
    pub primary: Option<Path>,
    /// The id that the restored checkpoint has where it came from, if it is another run's.
    pub foreign: Option<u64>,
}

impl Begin {
    pub async fn new(options: &JobOptions) -> Result<Self, JobError> {
        let settings = &options.object_store;
        let (root, _) = objects::root_of(&options.checkpoint_dir)?;
        let (store, base) = objects::open(&options.checkpoint_dir, settings)?;
        let allow_unsafe = options.allow_unsafe_commits;
        let mut found = None;
        if options.resume {
            let store = Arc::clone(&store);
            found = CheckpointStorage::find_run(store, &base, &options.name, allow_unsafe).await?;
            if found.is_none() && options.restore.is_none() {
                options.observer.note(&format!(
                    "there is no earlier run of job '{}' in {}: it starts from the beginning",
                    options.name, options.checkpoint_dir
                ));
            }
        }
        let foreign = match &found {
            Some(run) if run.latest().await?.is_some() => {
                if let Some(restore) = &options.restore {
                    options.observer.note(&format!(
                        "the job goes on from its own newest checkpoint, not from {}",
                        restore.uri
                    ));
                }
                None
            }
            _ => adopted(options, &root).await?,
        };
        let mut storage = match found {
            Some(storage) => storage,
            None => {
                CheckpointStorage::create_run(store, &base, &options.name, allow_unsafe).await?
            }
        };
        let run_id = run_id::of(&storage, &options.checkpoint_dir, (options.now_ms)()).await?;
        let foreign_id = foreign.as_ref().map(|foreign| foreign.checkpoint_id);
        let (attempt, restored) = storage.begin_attempt_from(foreign).await?;

        let mut ownership = FileOwnership::new(options.num_retained.max(1));
        for id in storage.completed().await? {
            let complete = storage.read(id).await?;
            ownership.exclude_foreign(complete.files_of_others(&storage.shared()));
            ownership.restore(id, complete.files());
        }

        let (primary, mut mounts) = primary(options, &root, &storage.run, &run_id)?;
        for mount in restored.iter().flat_map(|restored| &restored.origin.mounts) {
            mounts.push(mounted(&mount.name, &mount.uri, options)?);
        }
        storage.mount_all(&root, mounts)?;
        Ok(Self {
            storage,
            run_id,
            attempt,
            restored,
            ownership,
            primary,
            foreign: foreign_id,
        })
    }
}

/// The checkpoint of `execution.state-recovery.path` as the first one of a new run.
async fn adopted(options: &JobOptions, root: &str) -> Result<Option<CheckpointMetadata>, JobError> {
    let Some(restore) = &options.restore else {
        return Ok(None);
    };
    let opening = ForeignCheckpoint::open(&restore.uri, &options.object_store);
    let foreign = opening.await.map_err(|error| match error {
        StateError::Usage(message) => JobError::usage(message),
        error => error.into(),
    })?;
    let id = foreign.metadata.checkpoint_id;
    if foreign.metadata.finished {
        return Err(JobError::usage(format!(
            "checkpoint {id} of {} is what a finished job has left behind: there is nothing to go on with",
            restore.uri
        )));
    }
    check_plan(options, &foreign.metadata, id)?;
    Ok(Some(foreign.adopt(root, restore.mode)?))
}

/// Whether a checkpoint is of this job's graph.
pub(super) fn check_plan(
    options: &JobOptions,
    restored: &CheckpointMetadata,
    id: u64,
) -> Result<(), JobError> {
    if restored.plan == options.plan {
        return Ok(());
    }
    if options.ignore_unclaimed_state {
        // Each state is still compared when its operator asks for it.
        options.observer.note(&format!(
            "checkpoint {id} is of another job graph; the job goes on from it because execution.state-recovery.ignore-unclaimed-state is set"
        ));
        return Ok(());
    }
    Err(JobError::usage(format!(
        "job '{}' cannot go on from checkpoint {id}: the checkpoint is of another job graph\n  then: {}\n  now:  {}",
        options.name, restored.plan, options.plan
    )))
}

/// Where workers keep their files, and the store to be mounted for it.
fn primary(
    options: &JobOptions,
    root: &str,
    run: &Path,
    run_id: &str,
) -> Result<(Option<Path>, Vec<Mount>), JobError> {
    let Some(uri) = &options.primary_dir else {
        return Ok((None, Vec::new()));
    };
    let (primary_root, _) = objects::root_of(uri)?;
    let (_, base) = objects::open(uri, &options.object_store)?;
    // Job and run as in the checkpoint directory, and what tells runs of different checkpoint directories apart.
    let parts: Vec<_> = run.parts().collect();
    let mut below = base;
    for part in parts.iter().skip(parts.len().saturating_sub(2)) {
        below = below.join(part.clone());
    }
    let below = below.join(run_id);
    if primary_root == root {
        // The store copies files by itself.
        return Ok((Some(below), Vec::new()));
    }
    let mount = mounted(PRIMARY, &primary_root, options)?;
    Ok((Some(Mounted::path_in(PRIMARY, &below)), vec![mount]))
}

fn mounted(name: &str, uri: &str, options: &JobOptions) -> Result<Mount, JobError> {
    let (objects, _) = objects::open(uri, &options.object_store)?;
    Ok(Mount {
        name: name.to_owned(),
        objects,
        local_root: objects::root_of(uri)?.1,
    })
}
