//! Savepoints: checkpoints rewritten into a directory of their own, for the user (`docs/format/savepoint.md`).
//!
//! ```text
//! <directory>/savepoint-<job>-<number>/
//!     _metadata         written last, by create-if-absent: before it is there, there is no savepoint
//!     state/…           canonical: one sorted run of SSTs that every backend reads
//!     data/…            native: the files of the backend that took the checkpoint, copied
//! ```
//! What always holds: every path in the metadata begins with `./`, so the directory can be copied elsewhere as it is; a savepoint shares no
//! file with the checkpoint it was made from; a canonical one holds nothing but live rows, whichever backend wrote them. What can go
//! wrong: a request fails, and then what was written so far is removed if it can be (`Retry` and friends), or the name is taken
//! (`Usage`).

mod canonical;
mod lists;
mod location;
mod native;

use std::sync::Arc;

use aquifer_store::Environment;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;

pub use self::location::SavepointLocation;
use super::conditional::{self, Creation, OBJECT_BYTES_MAX};
use super::metadata::RELATIVE;
use super::{CheckpointKind, CheckpointMetadata, CheckpointStorage, Origin};
use crate::StateError;

/// In which form a savepoint holds the state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SavepointFormat {
    /// Every backend restores it: sorted rows without anything that has expired or was removed. All state is read and written.
    #[default]
    Canonical,
    /// Files as the backend keeps them; they are only copied.
    Native,
}

/// The checkpoint that a savepoint is made from.
#[derive(Clone, Copy, Debug)]
pub struct SavepointSource<'a> {
    /// What it holds; paths are those of the run's store.
    pub metadata: &'a CheckpointMetadata,
    /// The run that it belongs to, through which its files are reached.
    pub storage: &'a CheckpointStorage,
    /// The root of the run's store, as a URI: files that lie in the savepoint's store are copied by the store.
    pub root: &'a str,
}

/// Told how many rows (canonical) or files (native) have been written.
pub type Progress = Arc<dyn Fn(u64) + Send + Sync>;

/// Rewrites a checkpoint into a savepoint. The checkpoint must stay complete meanwhile (`FileOwnership::pin`).
///
/// Of the environment count runtime (with worker threads of its own), clock, folds and block cache; where files are comes from `source` and
/// `to`. Dropping the future stops the work.
pub async fn write_savepoint(
    source: SavepointSource<'_>,
    to: &SavepointLocation,
    format: SavepointFormat,
    environment: &Environment,
    progress: Progress,
) -> Result<CheckpointMetadata, StateError> {
    let path = to.metadata_path();
    if conditional::size(&*to.objects, &path).await?.is_some() {
        return Err(taken(to));
    }
    let written = write(source, to, format, environment, progress).await;
    if written.is_err() {
        // Without metadata nobody reads it. What cannot be removed now is in nobody's way.
        if let Err(error) = remove(to).await {
            tracing::warn!(directory = %to.uri(), %error, "what was written of a failed savepoint was not removed");
        }
    }
    let metadata = written?;
    let body = Bytes::from(metadata.encode());
    if body.len() as u64 > OBJECT_BYTES_MAX {
        return Err(StateError::Usage(format!(
            "the metadata of savepoint {} has {} bytes, expected at most {OBJECT_BYTES_MAX}",
            to.uri(),
            body.len()
        )));
    }
    let conditional = source.storage.conditional;
    match conditional::create(&*to.objects, &path, &body, conditional).await? {
        Creation::Ours => Ok(metadata),
        Creation::Taken => Err(taken(to)),
    }
}

async fn write(
    source: SavepointSource<'_>,
    to: &SavepointLocation,
    format: SavepointFormat,
    environment: &Environment,
    progress: Progress,
) -> Result<CheckpointMetadata, StateError> {
    let mut metadata = CheckpointMetadata {
        origin: Origin::default(),
        ..source.metadata.clone()
    };
    match format {
        SavepointFormat::Canonical => {
            metadata.kind = CheckpointKind::CanonicalSavepoint;
            metadata.keyed = canonical::write(source, to, environment, progress).await?;
        }
        SavepointFormat::Native => {
            metadata.kind = CheckpointKind::NativeSavepoint;
            native::write(source, to, &mut metadata, progress).await?;
        }
    }
    metadata.map_paths(&mut |path| {
        let inner = Path::from(path);
        let inner = inner.prefix_match(&to.directory);
        let inner: Option<Path> = inner.map(Iterator::collect);
        match inner {
            Some(inner) => Ok(format!("{RELATIVE}{inner}")),
            None => Err(StateError::Corrupt(format!(
                "`{path}` does not lie in the savepoint {}",
                to.uri()
            ))),
        }
    })?;
    Ok(metadata)
}

fn taken(to: &SavepointLocation) -> StateError {
    StateError::Usage(format!(
        "there is a savepoint at {} already: it is not overwritten",
        to.uri()
    ))
}

/// Removes what lies in the directory of a savepoint that was not finished.
async fn remove(to: &SavepointLocation) -> object_store::Result<()> {
    let listing = to.objects.list(Some(&to.directory));
    let found: Vec<Path> = listing.map_ok(|meta| meta.location).try_collect().await?;
    let locations = stream::iter(found.into_iter().map(Ok)).boxed();
    let deleted = to.objects.delete_stream(locations);
    deleted.map_ok(drop).try_collect().await
}

#[cfg(test)]
mod tests;
