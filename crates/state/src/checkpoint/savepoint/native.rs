//! A savepoint in the form of its backend: the files of a checkpoint, copied.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aquifer_store::objects::Mounted;
use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;

use super::{Progress, SavepointLocation, SavepointSource};
use crate::StateError;
use crate::checkpoint::CheckpointMetadata;
use crate::checkpoint::copying::Copier;
use crate::checkpoint::foreign::parsed;

/// Copies that are under way together.
const COPIES_MAX: usize = 8;

/// By the path of each file where its copy goes.
pub(super) fn copies(
    source: SavepointSource<'_>,
    to: &SavepointLocation,
) -> BTreeMap<String, Path> {
    let data = to.directory.clone().join("data");
    let files = source.metadata.files().into_iter().enumerate();
    files
        .map(|(number, name)| {
            // Names are unique in a run, but files of several runs may be named.
            let last = name.rsplit('/').next().unwrap_or_default();
            let copy = data.clone().join(format!("{number:06}-{last}"));
            (name, copy)
        })
        .collect()
}

/// Copies all files, and has the metadata name the copies.
pub(super) async fn write(
    source: SavepointSource<'_>,
    to: &SavepointLocation,
    metadata: &mut CheckpointMetadata,
    progress: Progress,
) -> Result<(), StateError> {
    let copies = copies(source, to);
    let mut work = BTreeMap::new();
    metadata.for_each_path(&mut |name, size| {
        if let Some(copy) = copies.get(name) {
            work.insert(copy.clone(), (name.to_owned(), size));
        }
    });
    let copier = Copier {
        from: Arc::clone(&source.storage.objects),
        to: Arc::clone(&to.objects),
        purpose: "copy into the savepoint",
    };
    let copied = AtomicU64::new(0);
    let (copier, copied, progress) = (&copier, &copied, &progress);
    stream::iter(work)
        .map(|(path, (from, size))| async move {
            let from = parsed(&from)?;
            let same_store = source.root == to.root && Mounted::mount_of(&from).is_none();
            copier.copy(&from, &path, size, same_store).await?;
            progress(copied.fetch_add(1, Ordering::Relaxed) + 1);
            Ok::<_, StateError>(())
        })
        .buffer_unordered(COPIES_MAX)
        .try_collect::<Vec<()>>()
        .await?;
    metadata.map_paths(&mut |path| {
        let copy = copies.get(path);
        Ok(copy.map_or_else(|| path.to_owned(), Path::to_string))
    })
}
