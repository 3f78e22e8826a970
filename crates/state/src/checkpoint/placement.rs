//! Bringing files into the checkpoint: what a checkpoint names lies below its run's `shared/`, wherever the workers write.
//!
//! Workers name their files by where they work with them: in a primary directory elsewhere, or in a foreign checkpoint that was
//! restored with `NO_CLAIM`. Before the checkpoint is committed each such file is copied once, by the store itself where both places
//! are in one store, and the metadata names the copy. Claimed files stay where they are: they belong to the run.
//!
//! What always holds: a committed checkpoint names no file that the run does not own; a copy has a name of its own attempt that is
//! never used again, so one that was not finished is an orphan that the sweep finds.

use std::collections::{BTreeMap, BTreeSet};

use aquifer_store::objects::{Mounted, request_error};
use bytes::BytesMut;
use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{Error as ObjectError, MultipartUpload, ObjectStore, ObjectStoreExt};

use super::foreign::parsed;
use super::{CheckpointMetadata, CheckpointStorage, names};
use crate::StateError;

/// Copies that are under way together.
const COPIES_MAX: usize = 8;
/// Bytes of a part when the bytes must be carried.
const PART_BYTES: usize = 8 << 20;
/// The largest object that every store copies with one request.
const COPIED_AT_ONCE_MAX: u64 = 4 << 30;
/// Tries of a copy.
const TRIES_MAX: usize = 4;

/// The copies that an attempt has made.
#[derive(Debug, Default)]
pub struct Placement {
    copies: BTreeMap<String, String>,
    named: u64,
}

impl CheckpointStorage {
    /// Copies what the metadata names outside of the run, and has it name the copies. Returns the copies that are new, as pairs of old and
    /// new path. Calls must not overlap.
    pub async fn place(
        &self,
        metadata: &mut CheckpointMetadata,
        placement: &mut Placement,
    ) -> Result<Vec<(Path, Path)>, StateError> {
        let shared = self.shared();
        let claimed = self.lineage().claimed.clone();
        let mut outside = BTreeMap::new();
        let mut named = BTreeMap::new();
        metadata.for_each_path(&mut |name, size_bytes| {
            named.insert(name, size_bytes);
        });
        for (name, size_bytes) in named {
            let path = parsed(name)?;
            if !path.prefix_matches(&shared) && !claimed.contains(name) {
                outside.insert(name.to_owned(), (path, size_bytes));
            }
        }
        metadata.origin.claimed_files = claimed.into_iter().collect();
        placement
            .copies
            .retain(|from, _| outside.contains_key(from));
        let mut new = Vec::new();
        for (name, (from, size)) in outside {
            if !placement.copies.contains_key(&name) {
                let copy = format!(
                    "{}-c-{:08}.sst",
                    names::attempt(metadata.attempt),
                    placement.named
                );
                placement.named += 1;
                new.push((name, from, shared.clone().join(copy), size));
            }
        }
        let copied: Vec<(String, Path, Path)> = stream::iter(new)
            .map(|(name, from, to, size)| async move {
                copy(&*self.objects, &from, &to, size).await?;
                Ok::<_, StateError>((name, from, to))
            })
            .buffer_unordered(COPIES_MAX)
            .try_collect()
            .await?;
        for (name, _, to) in &copied {
            placement.copies.insert(name.clone(), to.to_string());
        }
        metadata.map_paths(&mut |name| {
            let copy = placement.copies.get(name);
            Ok(copy.map_or_else(|| name.to_owned(), String::clone))
        })?;
        let mounted = |path: &str| Mounted::mount_of(&Path::from(path));
        let mut used = BTreeSet::new();
        metadata.for_each_path(&mut |name, _| used.extend(mounted(name)));
        let origin = &mut metadata.origin;
        if origin.claimed_files.is_empty() {
            origin.claimed = None;
        }
        let claimed = origin.claimed.iter().chain(&origin.claimed_files);
        used.extend(claimed.filter_map(|path| mounted(path)));
        origin.mounts.retain(|mount| used.contains(&mount.name));
        Ok(copied.into_iter().map(|(_, from, to)| (from, to)).collect())
    }
}

/// Makes `to` the same as `from`, which has `size` bytes.
async fn copy(
    objects: &dyn ObjectStore,
    from: &Path,
    to: &Path,
    size: u64,
) -> Result<(), StateError> {
    let mut tries = 1;
    let mut by_the_store = size <= COPIED_AT_ONCE_MAX;
    loop {
        let copied = if by_the_store {
            objects.copy(from, to).await
        } else {
            carry(objects, from, to, size).await
        };
        match copied {
            Ok(()) => return Ok(()),
            Err(ObjectError::NotSupported { .. } | ObjectError::NotImplemented { .. })
                if by_the_store =>
            {
                by_the_store = false;
            }
            Err(error @ ObjectError::NotFound { .. }) => {
                return Err(request_error("copy into the checkpoint", from, error).into());
            }
            Err(error) if tries < TRIES_MAX => {
                tracing::debug!(%from, %error, "copying again");
                tries += 1;
                // What the store cannot do by itself may still be carried.
                by_the_store &= tries < TRIES_MAX;
            }
            Err(error) => return Err(request_error("copy into the checkpoint", from, error).into()),
        }
    }
}

/// Reads the one and writes the other, a part at a time.
async fn carry(
    objects: &dyn ObjectStore,
    from: &Path,
    to: &Path,
    size: u64,
) -> object_store::Result<()> {
    let found = objects.get(from).await?;
    if found.meta.size != size {
        return Err(other(format!(
            "`{from}` has {} bytes, expected {size}",
            found.meta.size
        )));
    }
    let mut stream = found.into_stream();
    if size <= PART_BYTES as u64 {
        let mut whole = BytesMut::with_capacity(size as usize);
        while let Some(bytes) = stream.try_next().await? {
            whole.extend_from_slice(&bytes);
        }
        if whole.len() as u64 != size {
            return Err(cut(from, whole.len() as u64, size));
        }
        return objects.put(to, whole.freeze().into()).await.map(drop);
    }
    let mut upload = objects.put_multipart(to).await?;
    let parts = async {
        let (mut part, mut carried) = (BytesMut::new(), 0);
        while let Some(bytes) = stream.try_next().await? {
            carried += bytes.len() as u64;
            part.extend_from_slice(&bytes);
            while part.len() >= PART_BYTES {
                let full = part.split_to(PART_BYTES);
                upload.put_part(full.freeze().into()).await?;
            }
        }
        if carried != size {
            return Err(cut(from, carried, size));
        }
        if !part.is_empty() {
            upload.put_part(part.freeze().into()).await?;
        }
        upload.complete().await.map(drop)
    };
    let carried = parts.await;
    if carried.is_err() {
        abort(upload.as_mut(), to).await;
    }
    carried
}

async fn abort(upload: &mut dyn MultipartUpload, to: &Path) {
    if let Err(error) = upload.abort().await {
        tracing::warn!(%to, %error, "could not abort an upload");
    }
}

fn cut(from: &Path, came: u64, size: u64) -> ObjectError {
    other(format!(
        "`{from}` ended after {came} bytes, expected {size}"
    ))
}

fn other(what: String) -> ObjectError {
    ObjectError::Generic {
        store: "checkpoint",
        source: what.into(),
    }
}
