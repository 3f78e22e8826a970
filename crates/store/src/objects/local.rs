//! A local directory as an object store.
//!
//! Every write is synced, file and directory entry, before it is reported done: a checkpoint must survive a power cut, and the
//! `_metadata` that commits it must not be durable before the files it names. Directories that become empty are removed.

use std::path::Path;
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::local::LocalFileSystem;

use super::error::usage;
use crate::Error;

pub(super) fn open(directory: &Path) -> Result<Arc<dyn ObjectStore>, Error> {
    let wrong = |what: &str, why: String| {
        usage(format!(
            "the directory `{}` cannot be {what}: {why}",
            directory.display()
        ))
    };
    std::fs::create_dir_all(directory).map_err(|e| wrong("created", e.to_string()))?;
    let objects = LocalFileSystem::new_with_prefix(directory)
        .map_err(|e| wrong("opened", e.to_string()))?
        .with_automatic_cleanup(true)
        .with_fsync(true);
    Ok(Arc::new(objects))
}
