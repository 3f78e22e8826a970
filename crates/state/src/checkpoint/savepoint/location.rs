//! Where a savepoint goes.

use std::collections::BTreeMap;
use std::sync::Arc;

use aquifer_store::objects;
use object_store::ObjectStore;
use object_store::path::Path;
use xxhash_rust::xxh3::xxh3_64;

use crate::StateError;
use crate::checkpoint::CheckpointMetadata;

/// The directory of a savepoint that is to be written, in an open store.
#[derive(Clone, Debug)]
pub struct SavepointLocation {
    pub(super) objects: Arc<dyn ObjectStore>,
    /// The root of the store, as a URI.
    pub(super) root: String,
    pub(super) directory: Path,
    uri: String,
}

impl SavepointLocation {
    /// The directory `name` below the directory at `uri` (`execution.checkpointing.savepoint-dir`). `settings` are the keys of the object store.
    pub fn below(
        uri: &str,
        settings: &BTreeMap<String, String>,
        name: &str,
    ) -> Result<Self, StateError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || !name.chars().all(plain) || name.starts_with('.') {
            return Err(StateError::Usage(format!(
                "`{}` is not the name of a savepoint: expected letters, digits, `-`, `_` and `.`",
                name.escape_default()
            )));
        }
        let absolute = if uri.contains("://") || uri.starts_with("file:") {
            uri.to_owned()
        } else {
            let path = std::path::absolute(uri).ok();
            let path = path.and_then(|path| path.to_str().map(str::to_owned));
            path.ok_or_else(|| {
                StateError::Usage(format!("`{uri}` is not a directory for savepoints"))
            })?
        };
        let (root, _) = objects::root_of(&absolute)?;
        let (objects, base) = objects::open(&absolute, settings)?;
        Ok(Self {
            objects,
            root,
            directory: base.join(name),
            uri: format!("{}/{name}", absolute.trim_end_matches('/')),
        })
    }

    /// A directory in a store that is open; `root` is the URI of the store's root.
    pub fn in_store(objects: Arc<dyn ObjectStore>, root: &str, directory: Path) -> Self {
        Self {
            objects,
            root: root.to_owned(),
            uri: format!("{}/{directory}", root.trim_end_matches('/')),
            directory,
        }
    }

    /// A name for a savepoint of this checkpoint, another one at every time: `savepoint-<6 digits of the job>-<12 digits>`.
    pub fn name(metadata: &CheckpointMetadata, now_ms: i64) -> String {
        let job = xxh3_64(metadata.job_name.as_bytes()) >> 40;
        let which = format!(
            "{} {} {} {} {now_ms}",
            metadata.job_name, metadata.attempt, metadata.checkpoint_id, metadata.created_unix_ms
        );
        let number = xxh3_64(which.as_bytes()) >> 16;
        format!("savepoint-{job:06x}-{number:012x}")
    }

    /// Where it is: what `execution.state-recovery.path` takes.
    pub fn uri(&self) -> &str {
        &self.uri
    }

    pub(super) fn metadata_path(&self) -> Path {
        self.directory.clone().join("_metadata")
    }
}
