//! The name of a run among all runs of all jobs, for files that sinks write beside those of other runs.
//!
//! The number of a run is unique only below one checkpoint directory: another directory, or the same one after it was emptied, starts
//! from 1 again, and a sink that took the number for a name would overwrite what an earlier run has committed. So every run gets a token
//! when it is created, kept beside its claim, and a resumed run finds it there.

use aquifer_state::StateError;
use aquifer_state::checkpoint::CheckpointStorage;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use xxhash_rust::xxh3::xxh3_64;

use crate::JobError;

/// Longest token that is believed.
const TOKEN_BYTES_MAX: u64 = 64;

/// The id of a run: the same for all attempts of it.
pub(super) async fn of(
    storage: &CheckpointStorage,
    checkpoint_dir: &str,
    now_ms: i64,
) -> Result<String, JobError> {
    let path = storage.run.clone().join("_token");
    // Looked for first: a store that ignores create-if-absent would give a resumed run another token.
    if let Some(token) = read(storage, &path).await? {
        return Ok(token);
    }
    let seed = format!("{checkpoint_dir} {} {now_ms}", storage.run);
    let token = format!("{:016x}", xxh3_64(seed.as_bytes()));
    let create = PutOptions {
        mode: PutMode::Create,
        ..PutOptions::default()
    };
    match storage
        .objects
        .put_opts(&path, token.clone().into(), create)
        .await
    {
        Ok(_) => Ok(token),
        Err(object_store::Error::AlreadyExists { .. }) => read(storage, &path)
            .await?
            .ok_or_else(|| unusable(&path, "it was there a moment ago")),
        Err(error) => Err(unusable(&path, &error.to_string())),
    }
}

async fn read(
    storage: &CheckpointStorage,
    path: &object_store::path::Path,
) -> Result<Option<String>, JobError> {
    let found = match storage.objects.get(path).await {
        Ok(found) => found,
        Err(object_store::Error::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(unusable(path, &error.to_string())),
    };
    if found.meta.size > TOKEN_BYTES_MAX {
        return Err(unusable(
            path,
            &format!(
                "expected at most {TOKEN_BYTES_MAX} bytes, found {}",
                found.meta.size
            ),
        ));
    }
    let bytes = found
        .bytes()
        .await
        .map_err(|error| unusable(path, &error.to_string()))?;
    let token = std::str::from_utf8(&bytes).unwrap_or_default();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        let error = StateError::Corrupt(format!(
            "`{path}`: expected a hexadecimal number, found {bytes:?}"
        ));
        return Err(error.into());
    }
    Ok(Some(token.to_owned()))
}

fn unusable(path: &object_store::path::Path, problem: &str) -> JobError {
    JobError::failed(format!(
        "the token of the run, `{path}`, cannot be used: {problem}"
    ))
}
