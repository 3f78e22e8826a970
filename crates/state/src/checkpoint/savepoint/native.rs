//! A savepoint in the form of its backend: the files of a checkpoint, copied.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aquifer_store::objects::Mounted;
use futures_util::{StreamExt, TryStreamExt, stream};

use super::{Progress, SavepointLocation, SavepointSource};
use crate::StateError;
use crate::checkpoint::CheckpointMetadata;
use crate::checkpoint::copying::Copier;
use crate::checkpoint::foreign::parsed;

/// Copies that are under way together.
const COPIES_MAX: usize = 8;

/// Copies all files, and has the metadata name the copies.
pub(super) async fn write(
    source: SavepointSource<'_>,
    to: &SavepointLocation,
    metadata: &mut CheckpointMetadata,
    progress: Progress,
) -> Result<(), StateError> {
    let mut files = BTreeMap::new();
    metadata.for_each_path(&mut |path, size| {
        files.insert(path.to_owned(), size);
    });
    let mut copies = BTreeMap::new();
    let mut work = Vec::new();
    for (number, (name, size)) in files.into_iter().enumerate() {
        let from = parsed(&name)?;
        // Names are unique in a run, but files of several runs may be named.
        let copy = format!("{number:06}-{}", from.filename().unwrap_or_default());
        let to = to.directory.clone().join("data").join(copy);
        copies.insert(name, to.to_string());
        work.push((from, to, size));
    }
    let copier = Copier {
        from: Arc::clone(&source.storage.objects),
        to: Arc::clone(&to.objects),
        purpose: "copy into the savepoint",
    };
    let copied = AtomicU64::new(0);
    let (copier, copied, progress) = (&copier, &copied, &progress);
    stream::iter(work)
        .map(|(from, path, size)| async move {
            let same_store = source.root == to.root && Mounted::mount_of(&from).is_none();
            copier.copy(&from, &path, size, same_store).await?;
            progress(copied.fetch_add(1, Ordering::Relaxed) + 1);
            Ok::<_, StateError>(())
        })
        .buffer_unordered(COPIES_MAX)
        .try_collect::<Vec<()>>()
        .await?;
    metadata.map_paths(&mut |path| {
        let copy: Option<&String> = copies.get(path);
        Ok(copy.map_or_else(|| path.to_owned(), String::clone))
    })
}
