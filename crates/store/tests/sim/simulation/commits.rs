//! The coordinator of the simulated job: commits of checkpoints, which of them are retained, and who may delete which file.
//!
//! It does what the state layer does, in small: numbered names created only if absent, unclear outcomes found out by reading
//! back, a fence after each recovery, files deleted one checkpoint after the last that names them, a sweep of what earlier
//! attempts have left behind.
use std::collections::{BTreeMap, BTreeSet};

use aquifer_store::{Checkpoint, KeyGroupRange};
use futures_util::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};

const TRIES: usize = 5;

/// A request has failed for good: the attempt must end.
#[derive(Debug)]
pub struct GaveUp;

/// The lists of one checkpoint, as they are written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    pub id: u64,
    pub attempt: u64,
    pub lists: Vec<(KeyGroupRange, Checkpoint)>,
}

pub fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

impl Metadata {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&self.id.to_le_bytes());
        out.extend_from_slice(&self.attempt.to_le_bytes());
        for (range, list) in &self.lists {
            let mut bytes = Vec::new();
            list.encode(&mut bytes);
            out.extend_from_slice(&range.start.to_le_bytes());
            out.extend_from_slice(&range.end.to_le_bytes());
            out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
            out.extend_from_slice(&bytes);
        }
        out.extend_from_slice(&checksum(&out).to_le_bytes());
        out
    }

    /// `None` when the bytes are not what was written.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (body, sum) = bytes.split_last_chunk::<8>()?;
        if u64::from_le_bytes(*sum) != checksum(body) {
            return None;
        }
        let (id, mut rest) = body.split_first_chunk::<8>()?;
        let (attempt, tail) = rest.split_first_chunk::<8>()?;
        rest = tail;
        let mut lists = Vec::new();
        while !rest.is_empty() {
            let (head, tail) = rest.split_first_chunk::<8>()?;
            let [s0, s1, e0, e1, l0, l1, l2, l3] = *head;
            let len = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
            let (list, tail) = tail.split_at_checked(len)?;
            let range = KeyGroupRange {
                start: u16::from_le_bytes([s0, s1]),
                end: u16::from_le_bytes([e0, e1]),
            };
            lists.push((range, Checkpoint::decode(list).ok()?));
            rest = tail;
        }
        Some(Self {
            id: u64::from_le_bytes(*id),
            attempt: u64::from_le_bytes(*attempt),
            lists,
        })
    }

    pub fn files(&self) -> BTreeSet<String> {
        let files = self.lists.iter().flat_map(|(_, list)| &list.files);
        files.map(|file| file.path.clone()).collect()
    }
}

pub fn shared() -> Path {
    Path::from("job/shared")
}

pub fn metadata_path(id: u64) -> Path {
    Path::from(format!("job/chk-{id:06}/_metadata"))
}

pub fn file_prefix(attempt: u64, worker: usize) -> String {
    format!("{attempt:06}-w{worker}")
}

/// What the process of one attempt knows of the checkpoints.
#[derive(Debug, Default)]
pub struct Commits {
    pub newest: u64,
    retained_max: usize,
    retained: BTreeMap<u64, BTreeSet<String>>,
    leaving: BTreeSet<String>,
    /// Checkpoints that this process has discarded. A put of their metadata that was thought lost may still land.
    pub discarded: Vec<u64>,
}

impl Commits {
    pub fn new(retained_max: usize) -> Self {
        Self {
            retained_max,
            ..Self::default()
        }
    }

    /// Reads the checkpoints with these ids; what has gone meanwhile is left out.
    pub async fn recover(
        &mut self,
        objects: &dyn ObjectStore,
        ids: &[u64],
    ) -> Result<Option<Metadata>, GaveUp> {
        let mut newest = None;
        for &id in ids {
            let Some(body) = read(objects, &metadata_path(id)).await? else {
                continue;
            };
            let metadata = Metadata::decode(&body).ok_or(GaveUp)?;
            self.retained.insert(id, metadata.files());
            self.newest = id;
            newest = Some(metadata);
        }
        Ok(newest)
    }

    /// Files that a checkpoint names, or named until the last one.
    pub fn kept(&self) -> BTreeSet<String> {
        let named = self.retained.values().flatten();
        named.chain(&self.leaving).cloned().collect()
    }

    /// Creates the metadata of the next checkpoint. `false`: somebody else has taken the name.
    pub async fn commit(
        &mut self,
        objects: &dyn ObjectStore,
        metadata: &Metadata,
    ) -> Result<bool, GaveUp> {
        let path = metadata_path(metadata.id);
        let body = metadata.encode();
        for _ in 0..TRIES {
            let create = PutOptions::from(PutMode::Create);
            let put = objects.put_opts(&path, body.clone().into(), create).await;
            let ours = match put {
                Ok(_) => true,
                Err(_) => match read(objects, &path).await? {
                    Some(found) if found == body => true,
                    Some(_) => return Ok(false),
                    None => false,
                },
            };
            if ours {
                self.newest = metadata.id;
                self.retained.insert(metadata.id, metadata.files());
                return Ok(true);
            }
        }
        Err(GaveUp)
    }

    /// After a commit: discards the oldest checkpoints and deletes files that nothing has named since the one before.
    pub async fn clean(&mut self, objects: &dyn ObjectStore) {
        let mut gone = std::mem::take(&mut self.leaving);
        gone.retain(|file| !self.retained.values().any(|files| files.contains(file)));
        while self.retained.len() > self.retained_max {
            let Some((id, files)) = self.retained.pop_first() else {
                break;
            };
            // Files may only go when nobody can find the checkpoint any more.
            if !delete(objects, &metadata_path(id)).await {
                self.retained.insert(id, files);
                break;
            }
            self.discarded.push(id);
            let named = |file: &String| self.retained.values().any(|files| files.contains(file));
            self.leaving
                .extend(files.into_iter().filter(|file| !named(file)));
        }
        for file in gone {
            delete(objects, &Path::from(file)).await;
        }
    }

    /// Deletes what attempts before this one have left and no checkpoint names.
    pub async fn sweep(&self, objects: &dyn ObjectStore, attempt: u64) -> Result<(), GaveUp> {
        let listing = objects.list(Some(&shared())).map_ok(|meta| meta.location);
        let listed: Vec<Path> = listing.try_collect().await.map_err(|_| GaveUp)?;
        for path in listed {
            let name = path.filename().unwrap_or_default();
            let earlier = name.split('-').next().and_then(|n| n.parse::<u64>().ok());
            let named = self
                .retained
                .values()
                .any(|files| files.contains(path.as_ref()));
            if earlier.is_some_and(|earlier| earlier < attempt) && !named {
                delete(objects, &path).await;
            }
        }
        Ok(())
    }
}

/// Whether the object is certainly gone.
async fn delete(objects: &dyn ObjectStore, path: &Path) -> bool {
    for _ in 0..TRIES {
        match objects.delete(path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => return true,
            Err(_) => {}
        }
    }
    false
}

async fn read(objects: &dyn ObjectStore, path: &Path) -> Result<Option<Vec<u8>>, GaveUp> {
    for _ in 0..TRIES {
        let answer = match objects.get(path).await {
            Ok(answer) => answer.bytes().await,
            Err(error) => Err(error),
        };
        match answer {
            Ok(bytes) if Metadata::decode(&bytes).is_some() => return Ok(Some(bytes.to_vec())),
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            _ => {}
        }
    }
    Err(GaveUp)
}
