//! Savepoints: checkpoints rewritten into a directory of their own, for the user (`docs/format/savepoint.md`).
//!
//! ```text
//! <directory>/savepoint-<job>-<number>/
//!     _writing          there while it is written: the name is taken
//!     _metadata         written last, by create-if-absent: before it is there, there is no savepoint
//!     state/…           canonical: one sorted run of SSTs that every backend reads
//!     data/…            native: the files of the backend that took the checkpoint, copied
//! ```
//! What always holds: every path in the metadata begins with `./`, so the directory can be copied elsewhere as it is; a savepoint shares no
//! file with the checkpoint it was made from; a canonical one holds nothing but live rows, whichever backend wrote them; nothing in the
//! directory is overwritten or removed that another writer put there. What can go wrong: a request fails, and then the files written so far
//! are removed if they can be (`Retry` and friends), or the name is taken (`Usage`).

mod canonical;
mod lists;
mod location;
mod native;
mod reservation;

use std::sync::Arc;

use aquifer_store::Environment;
use bytes::Bytes;
use object_store::path::Path;

pub use self::location::SavepointLocation;
use self::reservation::{Reservation, taken};
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
    let conditional = source.storage.conditional;
    let reservation = Reservation::take(to, conditional).await?;
    let written = write(source, to, format, environment, progress).await;
    let written = written.and_then(|metadata| Ok((encoded(&metadata, to)?, metadata)));
    let (body, metadata) = match written {
        Ok(written) => written,
        Err(error) => {
            let files = match format {
                SavepointFormat::Canonical => canonical::files_below(to).await,
                SavepointFormat::Native => native::copies(source, to).into_values().collect(),
            };
            reservation.undo(files).await;
            return Err(error);
        }
    };
    // An error says that nobody knows whether the savepoint is there: then all stays as it is.
    match conditional::create(&*to.objects, &to.metadata_path(), &body, conditional).await? {
        Creation::Ours => {
            reservation.release().await;
            Ok(metadata)
        }
        // Only where the store ignores create-if-absent. The files may be the other's by now.
        Creation::Taken => Err(taken(to)),
    }
}

fn encoded(metadata: &CheckpointMetadata, to: &SavepointLocation) -> Result<Bytes, StateError> {
    let body = Bytes::from(metadata.encode());
    if body.len() as u64 > OBJECT_BYTES_MAX {
        return Err(StateError::Usage(format!(
            "the metadata of savepoint {} has {} bytes, expected at most {OBJECT_BYTES_MAX}",
            to.uri(),
            body.len()
        )));
    }
    Ok(body)
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

#[cfg(test)]
mod tests;
