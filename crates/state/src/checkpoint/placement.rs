//! Bringing files into the checkpoint: what a checkpoint names lies below its run's `shared/`, wherever the workers write.
//!
//! Workers name their files by where they work with them: in a primary directory elsewhere, or in a foreign checkpoint that was
//! restored with `NO_CLAIM`. Before the checkpoint is committed each such file is copied once, by the store itself where both places
//! are in one store, and the metadata names the copy. Claimed files stay where they are: they belong to the run.
//!
//! What always holds: a committed checkpoint names no file that the run does not own; a copy has a name of its own attempt that is
//! never used again, so one that was not finished is an orphan that the sweep finds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use aquifer_store::objects::Mounted;
use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;

use super::copying::Copier;
use super::foreign::parsed;
use super::{CheckpointMetadata, CheckpointStorage, names};
use crate::StateError;

/// Copies that are under way together.
const COPIES_MAX: usize = 8;
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
        let copier = Copier {
            from: Arc::clone(&self.objects),
            to: Arc::clone(&self.objects),
            purpose: "copy into the checkpoint",
        };
        let copier = &copier;
        let copied: Vec<(String, Path, Path)> = stream::iter(new)
            .map(|(name, from, to, size)| async move {
                copier.copy(&from, &to, size, true).await?;
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
            origin.claimed.clear();
        }
        let claimed = origin.claimed.iter().chain(&origin.claimed_files);
        used.extend(claimed.filter_map(|path| mounted(path)));
        origin.mounts.retain(|mount| used.contains(&mount.name));
        Ok(copied.into_iter().map(|(_, from, to)| (from, to)).collect())
    }
}
