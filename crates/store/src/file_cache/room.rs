//! Which files are in the cache, how much they take, and which must go first.
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use hashbrown::HashMap;

use super::CacheKey;
use super::entry::{Entry, UNCHECKED};
use super::sidecar;

/// After so much was added, it is looked again how much others take.
const LOOK_AGAIN_BYTES: u64 = 64 << 20;
/// Largest sidecar that is read.
const SIDECAR_BYTES_MAX: u64 = sidecar::HEADER_BYTES as u64 + 8 * sidecar::CHUNKS_MAX;

#[derive(Debug, Default)]
pub(super) struct Room {
    files: HashMap<u64, Arc<Entry>>,
    used: u64,
    others: Option<u64>,
    added_since: u64,
    /// Ranks below it are taken; 0 is for files that should go first.
    next_rank: u64,
}

impl Room {
    /// What an earlier process has left. Everything that is not whole is removed.
    pub(super) fn restore(root: &Path) -> io::Result<Self> {
        let mut this = Self {
            next_rank: 1,
            ..Self::default()
        };
        let mut found: Vec<(SystemTime, Entry)> = Vec::new();
        let mut keep = vec![root.join("lock")];
        for file in fs::read_dir(root)? {
            let path = file?.path();
            if path.extension().is_some_and(|extension| extension == "map")
                && let Some((written, entry)) = restore_entry(root, &path)
            {
                keep.extend([entry.data_path(root), entry.sidecar_path(root)]);
                found.push((written, entry));
            }
        }
        keep.sort();
        for file in fs::read_dir(root)? {
            let path = file?.path();
            if keep.binary_search(&path).is_err() {
                fs::remove_file(path)?;
            }
        }
        found.sort_by_key(|(written, entry)| (*written, entry.key.id));
        for (_, entry) in found {
            entry.rank.store(this.next_rank, Ordering::Relaxed);
            this.next_rank += 1;
            this.used += entry.bytes.load(Ordering::Relaxed);
            this.files.insert(entry.key.id, Arc::new(entry));
        }
        Ok(this)
    }

    /// The file, if it is the same content.
    pub(super) fn find(&self, key: &CacheKey) -> Option<Arc<Entry>> {
        self.files
            .get(&key.id)
            .filter(|entry| entry.key == *key)
            .cloned()
    }

    /// The file; a new one of which nothing is there if need be. `None` if its name is taken by other content.
    pub(super) fn find_or_add(&mut self, key: &CacheKey) -> Option<Arc<Entry>> {
        if let Some(entry) = self.files.get(&key.id) {
            return (entry.key == *key).then(|| entry.clone());
        }
        let entry = Arc::new(Entry::new(*key, self.next_rank)?);
        self.next_rank += 1;
        self.files.insert(key.id, entry.clone());
        Some(entry)
    }

    /// Adds a file that lies on the disk already, all of it, whose bytes are counted.
    pub(super) fn adopt(&mut self, entry: Entry) -> bool {
        let free = !self.files.contains_key(&entry.key.id);
        if free {
            entry.rank.store(self.next_rank, Ordering::Relaxed);
            self.next_rank += 1;
            self.files.insert(entry.key.id, Arc::new(entry));
        }
        free
    }

    /// Counts bytes of a file that are about to be written; false if it was evicted meanwhile.
    pub(super) fn take(&mut self, entry: &Arc<Entry>, bytes: u64) -> bool {
        let here = self
            .files
            .get(&entry.key.id)
            .is_some_and(|known| Arc::ptr_eq(known, entry));
        if here {
            entry.bytes.fetch_add(bytes, Ordering::Relaxed);
            self.take_unnamed(bytes);
        }
        here
    }

    /// Counts bytes of a file that has no name yet.
    pub(super) fn take_unnamed(&mut self, bytes: u64) {
        self.used += bytes;
        self.added_since += bytes;
    }

    pub(super) fn give_back(&mut self, entry: &Entry, bytes: u64) {
        let here = self
            .files
            .get(&entry.key.id)
            .is_some_and(|known| std::ptr::eq(known.as_ref(), entry));
        if here {
            entry.bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.give_back_unnamed(bytes);
        }
    }

    pub(super) fn give_back_unnamed(&mut self, bytes: u64) {
        self.used = self.used.saturating_sub(bytes);
    }

    /// The file was read often enough to be the last to go.
    pub(super) fn make_young(&mut self, entry: &Entry) {
        entry.reads.store(0, Ordering::Relaxed);
        entry.rank.store(self.next_rank, Ordering::Relaxed);
        self.next_rank += 1;
    }

    pub(super) fn make_old(&mut self, entry: &Entry) {
        entry.rank.store(0, Ordering::Relaxed);
    }

    /// Takes the oldest file that nobody uses out of the cache.
    pub(super) fn evict(&mut self) -> Option<Arc<Entry>> {
        let idle = self
            .files
            .values()
            .filter(|entry| Arc::strong_count(entry) == 1);
        let oldest = idle.min_by_key(|entry| (entry.rank.load(Ordering::Relaxed), entry.key.id))?;
        let key = oldest.key;
        self.remove(&key)
    }

    pub(super) fn remove(&mut self, key: &CacheKey) -> Option<Arc<Entry>> {
        self.find(key)?;
        let entry = self.files.remove(&key.id)?;
        self.give_back_unnamed(entry.bytes.load(Ordering::Relaxed));
        Some(entry)
    }

    pub(super) fn used(&self) -> (u64, u64) {
        (self.used, self.files.len() as u64)
    }

    /// Bytes that we and others take; `None` if it is time to look what others take.
    pub(super) fn used_with_others(&self) -> Option<u64> {
        let others = self
            .others
            .filter(|_| self.added_since < LOOK_AGAIN_BYTES)?;
        Some(self.used.saturating_add(others))
    }

    pub(super) fn others_take(&mut self, bytes: u64) -> u64 {
        self.others = Some(bytes);
        self.added_since = 0;
        self.used.saturating_add(bytes)
    }
}

fn restore_entry(root: &Path, path: &Path) -> Option<(SystemTime, Entry)> {
    let about = fs::metadata(path).ok()?;
    if about.len() > SIDECAR_BYTES_MAX {
        return None;
    }
    let (key, checksums) = sidecar::decode(&fs::read(path).ok()?)?;
    let entry = Entry::new(key, 0)?;
    if entry.sidecar_path(root) != path {
        return None;
    }
    let length = fs::metadata(entry.data_path(root)).ok()?.len();
    for (chunk, checksum) in checksums.into_iter().enumerate() {
        let chunk = chunk as u64;
        if checksum != 0 && entry.place(chunk).end <= length {
            entry.set(chunk, UNCHECKED, checksum);
        }
    }
    let some = entry.bytes.load(Ordering::Relaxed) > 0;
    some.then_some((about.modified().ok()?, entry))
}
