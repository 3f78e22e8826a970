//! S2, S3, S4 and S6: what lies on the object store is what checkpoints name, and they hold what they held.
use std::collections::BTreeMap;
use std::sync::Arc;

use aquifer_store::{BlockCache, KeyGroupRange, Lookup, ScanLookup, ScanRows, Store};
use aquifer_testkit::FaultKind;
use bytes::Bytes;
use object_store::path::Path;

use super::super::commits::{self, Metadata};
use super::super::executor::SimExecutor;
use super::super::model::{Now, Rows, Seen, Sight, compare};
use super::super::op::{GROUPS, KEYS, TABLES};
use super::process::{id, open};
use super::{Failure, Simulation, fail};

/// More rows than a group of a table has.
const ALL_ROWS: usize = KEYS as usize * 2;

impl Simulation<'_> {
    /// The checkpoints that are complete, by their names.
    pub(super) fn complete_ids(&self) -> Vec<u64> {
        let paths = self.truth.paths();
        paths.iter().filter_map(checkpoint_id).collect()
    }

    pub(super) fn complete(&self) -> Result<Vec<Metadata>, Failure> {
        let mut all = Vec::new();
        for id in self.complete_ids() {
            if self.discarded.contains(&id) {
                continue;
            }
            let body = self
                .truth
                .body(&commits::metadata_path(id))
                .unwrap_or_default();
            match Metadata::decode(&body) {
                Some(metadata) => all.push(metadata),
                None => return fail("S2", format!("checkpoint {id} is damaged")),
            }
        }
        Ok(all)
    }

    /// S4: nothing was deleted that a complete checkpoint names.
    pub(super) fn check_deletions(&mut self) -> Result<(), Failure> {
        let deleted = self.truth.take_deleted();
        if deleted.is_empty() {
            return Ok(());
        }
        // Also when the process died before it knew.
        self.discarded
            .extend(deleted.iter().filter_map(checkpoint_id));
        for metadata in self.complete()? {
            let named = metadata.files();
            if let Some(path) = deleted.iter().find(|path| named.contains(path.as_ref())) {
                return fail(
                    "S4",
                    format!(
                        "{path} was deleted, but checkpoint {} names it",
                        metadata.id
                    ),
                );
            }
        }
        Ok(())
    }

    /// S3: every complete checkpoint can be opened by anybody and holds what it held.
    pub(super) fn check_retained(&mut self) -> Result<(), Failure> {
        for metadata in self.complete()? {
            let Some(cut) = self.cuts.get(&metadata.encode()) else {
                return fail("S2", format!("nobody wrote checkpoint {}", metadata.id));
            };
            let executor = SimExecutor::new(self.case.shape.threads, false);
            let store = self.open_elsewhere(&executor, &metadata)?;
            for (at, expected) in &everything(cut, self.clock.now()) {
                let compared = match all_rows(&executor, &store, at.0, at.1) {
                    Ok(found) => compare_all(&found, expected),
                    Err(error) => Err(error.to_string()),
                };
                if let Err(why) = compared {
                    return fail(
                        "S3",
                        format!(
                            "checkpoint {}, table {} group {}: {why}",
                            metadata.id, at.0, at.1
                        ),
                    );
                }
            }
        }
        Ok(())
    }

    /// A store of a bystander: no faults, no cache.
    fn open_elsewhere(
        &self,
        executor: &Arc<SimExecutor>,
        metadata: &Metadata,
    ) -> Result<Store, Failure> {
        let cache = BlockCache::new(self.case.shape.cache_bytes);
        let env = self.environment(
            executor,
            Arc::new(self.truth.clone()),
            &cache,
            "bystander".into(),
        );
        let lists = metadata
            .lists
            .iter()
            .map(|(_, list)| (list.clone(), KeyGroupRange::ALL))
            .collect();
        open(env, self.case, lists).or_else(|error| {
            fail(
                "S3",
                format!("checkpoint {} does not open: {error}", metadata.id),
            )
        })
    }

    /// S6: a file is damaged. Who reads it gets the right answer or an error.
    pub(super) fn damage(&mut self, kind: u8, pick: u32, at: u32) -> Result<(), Failure> {
        let Some(metadata) = self.complete()?.pop() else {
            return Ok(());
        };
        let files: Vec<String> = metadata.files().into_iter().collect();
        let Some(file) = files.get(pick as usize % files.len().max(1)) else {
            return Ok(());
        };
        let path = Path::from(file.as_str());
        let Some(good) = self.truth.body(&path) else {
            return fail("S4", format!("{path} is named by a checkpoint and is gone"));
        };
        let others: Vec<Path> = self
            .truth
            .paths()
            .into_iter()
            .filter(|other| *other != path && other.as_ref().ends_with(".sst"))
            .collect();
        let other = others
            .get(at as usize % others.len().max(1))
            .and_then(|other| self.truth.body(other));
        let place = at as usize % good.len().max(1);
        let mut bad = good.to_vec();
        let kind = match (kind % 5, other) {
            (0, _) => {
                bad[place] ^= 1 << (pick % 8);
                FaultKind::FlippedBit
            }
            (1, _) => {
                bad.truncate(place);
                FaultKind::Truncated
            }
            (2, _) => {
                let end = (place + 1 + pick as usize % 600).min(bad.len());
                bad[place..end].fill(0);
                FaultKind::Zeroed
            }
            (3, Some(other)) => {
                bad = other.to_vec();
                FaultKind::Exchanged
            }
            (_, Some(other)) => {
                bad = other.iter().copied().chain(bad).take(good.len()).collect();
                FaultKind::OldContent
            }
            _ => return Ok(()),
        };
        self.history.lock().count(kind);
        self.truth.replace(&path, Bytes::from(bad));
        let checked = self.read_damaged(&metadata);
        self.truth.replace(&path, good);
        checked
    }

    fn read_damaged(&self, metadata: &Metadata) -> Result<(), Failure> {
        let Some(cut) = self.cuts.get(&metadata.encode()) else {
            return Ok(());
        };
        let executor = SimExecutor::new(self.case.shape.threads, false);
        let store = self.open_elsewhere(&executor, metadata)?;
        for (at, expected) in &everything(cut, self.clock.now()) {
            for (key, value, sight) in expected.iter().step_by(7) {
                let found = match store.get(id(at.0), at.1, key) {
                    Ok(Lookup::Found(value)) => Ok(Some(value.to_vec())),
                    Ok(Lookup::Absent) => Ok(None),
                    Ok(Lookup::Cold(read)) => executor
                        .wait(store.fetch(vec![read]))
                        .map(|mut v| v.pop().flatten().map(|v| v.to_vec())),
                    Err(error) => Err(error),
                };
                let Ok(found) = found else { continue };
                let absent = found.is_none() && *sight == Sight::Either;
                if !absent && found.as_ref() != Some(value) {
                    let key = key.escape_ascii();
                    return fail(
                        "S6",
                        format!("a read of a damaged file for {key}: {found:?}"),
                    );
                }
            }
            if let Ok(found) = all_rows(&executor, &store, at.0, at.1)
                && let Err(why) = compare_all(&found, expected)
            {
                return fail("S6", format!("a scan of a damaged file: {why}"));
            }
        }
        Ok(())
    }
}

/// The number of the checkpoint whose metadata lies at a path.
fn checkpoint_id(path: &Path) -> Option<u64> {
    let number = path.as_ref().strip_prefix("job/chk-")?;
    number.strip_suffix("/_metadata")?.parse().ok()
}

/// What a checkpoint shows now, by table and group, empty ones too.
fn everything(rows: &Rows, now: Now) -> BTreeMap<(u8, u16), Seen> {
    let mut all = BTreeMap::new();
    for table in 0..TABLES {
        for group in 0..GROUPS {
            let seen = rows.scan(table, group, b"", b"", None, now);
            all.insert((table, group), seen);
        }
    }
    all
}

fn all_rows(
    executor: &SimExecutor,
    store: &Store,
    table: u8,
    group: u16,
) -> Result<ScanRows, aquifer_store::Error> {
    match store.scan(id(table), group, b"", b"", None, ALL_ROWS)? {
        ScanLookup::Rows(rows) => Ok(rows),
        ScanLookup::Cold(scan) => executor.wait(store.fetch_scan(scan)),
    }
}

fn compare_all(found: &ScanRows, expected: &Seen) -> Result<(), String> {
    let rows: Vec<(&[u8], &[u8])> = found.rows.iter().map(|(k, v)| (&k[..], &v[..])).collect();
    compare(&rows, expected, ALL_ROWS, found.done)
}
