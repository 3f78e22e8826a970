//! Listings, fresh or as stores that are not strongly consistent show them.
use std::collections::BTreeSet;

use chrono::DateTime;
use object_store::path::Path;
use object_store::{ListResult, ObjectMeta};

use super::{State, Version};
use crate::Rng;

/// How a listing is taken. The default is fresh, ordered and in one piece.
#[derive(Clone, Debug, Default)]
pub struct ListView {
    /// Objects made within so many changes are not shown yet.
    pub misses_newest: u64,
    /// Objects deleted within so many changes are still shown.
    pub shows_deleted: u64,
    /// Shows the objects in an order of chance.
    pub shuffled: Option<u64>,
    /// Objects per page; each page is taken when it is asked for. 0: one page.
    pub page: usize,
}

impl ListView {
    fn shown(&self, versions: &[Version], clock: u64) -> Option<(u64, usize)> {
        let newest = versions.last()?;
        let fresh = clock.saturating_sub(newest.at);
        let before = || {
            let older = versions.iter().rev().nth(1)?;
            Some((older.at, older.body.as_ref()?.len()))
        };
        match &newest.body {
            Some(_) if fresh < self.misses_newest => before(),
            Some(body) => Some((newest.at, body.len())),
            None if fresh < self.shows_deleted => before(),
            None => None,
        }
    }
}

pub(super) fn meta(path: &Path, at: u64, len: usize) -> ObjectMeta {
    ObjectMeta {
        location: path.clone(),
        last_modified: DateTime::from_timestamp_millis(at as i64).unwrap_or_default(),
        size: len as u64,
        e_tag: Some(format!("\"{at}\"")),
        version: None,
    }
}

/// The objects below `prefix`, from the first after `after` on; at most a page of them.
pub(super) fn list(
    state: &State,
    prefix: Option<&Path>,
    view: &ListView,
    after: Option<&Path>,
) -> Vec<ObjectMeta> {
    let below = |path: &Path| match prefix {
        Some(prefix) => path.prefix_matches(prefix) && path != prefix,
        None => true,
    };
    let found = state.objects.iter();
    let found = found.filter(|(path, _)| below(path) && after.is_none_or(|after| *path > after));
    let found = found.filter_map(|(path, versions)| {
        let (at, len) = view.shown(versions, state.clock)?;
        Some(meta(path, at, len))
    });
    let limit = if view.page == 0 {
        usize::MAX
    } else {
        view.page
    };
    let mut found: Vec<ObjectMeta> = found.take(limit).collect();
    if let Some(seed) = view.shuffled {
        let mut random = Rng::new(seed);
        for i in (1..found.len()).rev() {
            found.swap(i, random.below(i as u64 + 1) as usize);
        }
    }
    found
}

/// The objects directly below `prefix`, and the directories there.
pub(super) fn with_delimiter(found: Vec<ObjectMeta>, prefix: Option<&Path>) -> ListResult {
    let root = Path::default();
    let prefix = prefix.unwrap_or(&root);
    let mut directories = BTreeSet::new();
    let mut objects = Vec::new();
    for object in found {
        let Some(mut parts) = object.location.prefix_match(prefix) else {
            continue;
        };
        let Some(first) = parts.next() else { continue };
        if parts.next().is_some() {
            let directory = prefix.clone().join(first);
            directories.insert(directory);
        } else {
            drop(parts);
            objects.push(object);
        }
    }
    ListResult {
        common_prefixes: directories.into_iter().collect(),
        objects,
        extensions: Default::default(),
    }
}
