//! The object store with the file cache of the local disk in front of it.
//!
//! Only reads that someone waits for fill the cache: a compaction reads what is about to be deleted. Filling happens behind
//! the reader's back, a few chunks at a time; a fill that finds no free hand is left to a later read.
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use object_store::path::Path;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{Duration, sleep};

use super::ReadClass;
use super::remote::Remote;
use crate::error::Result;
use crate::file_cache::{CacheKey, FileCache, WriteThrough};

/// Chunks that are being fetched for the cache at once.
const FILLS_MAX: usize = 4;
/// Parts of a new file that wait for the local disk.
const PARTS_WAITING_MAX: usize = 2;

pub(super) struct Cached {
    pub(super) cache: Arc<FileCache>,
    remote: Arc<Remote>,
    runtime: Handle,
    fills: Arc<Semaphore>,
    /// Files that are uploaded and wait to be told their content's name.
    unnamed: Mutex<BTreeMap<Path, WriteThrough>>,
}

impl Cached {
    pub(super) fn new(cache: Arc<FileCache>, remote: Arc<Remote>, runtime: Handle) -> Self {
        Self {
            cache,
            remote,
            runtime,
            fills: Arc::new(Semaphore::new(FILLS_MAX)),
            unnamed: Mutex::default(),
        }
    }

    pub(super) async fn read(
        &self,
        path: &Path,
        key: CacheKey,
        range: Range<u64>,
        class: ReadClass,
    ) -> Result<Bytes> {
        if let Some(bytes) = self.read_here(key, &range, class).await {
            return Ok(bytes);
        }
        if class != ReadClass::Fetch {
            return self.remote.get(path, range).await;
        }
        let miss = self.cache.miss(&key, &range);
        let Some(whole) = miss.whole else {
            for chunk in miss.promote {
                self.fill_later(path, key, chunk);
            }
            return self.remote.get(path, range).await;
        };
        let bytes = self.remote.get(path, whole.clone()).await?;
        // The cache never asks for less than the range.
        let asked = (range.start - whole.start) as usize..(range.end - whole.start) as usize;
        let asked = bytes.slice(asked);
        let cache = self.cache.clone();
        self.runtime
            .spawn_blocking(move || cache.fill(&key, whole.start, &bytes));
        Ok(asked)
    }

    async fn read_here(
        &self,
        key: CacheKey,
        range: &Range<u64>,
        class: ReadClass,
    ) -> Option<Bytes> {
        if class == ReadClass::Fetch {
            return self.cache.read(&key, range);
        }
        if !self.cache.holds(&key, range) {
            return None;
        }
        let (cache, range) = (self.cache.clone(), range.clone());
        let read = self
            .runtime
            .spawn_blocking(move || cache.read(&key, &range));
        read.await.ok()?
    }

    /// Fetches a chunk in the background, if anyone is free to do it.
    fn fill_later(&self, path: &Path, key: CacheKey, chunk: u64) {
        let Ok(permit) = self.fills.clone().try_acquire_owned() else {
            return;
        };
        let (remote, cache, path) = (self.remote.clone(), self.cache.clone(), path.clone());
        self.runtime.spawn(async move {
            fill(&remote, &cache, &path, key, chunk).await;
            drop(permit);
        });
    }

    /// Fetches chunks one after the other, so many bytes in a second, until done or the cache is off.
    pub(super) fn warm(&self, chunks: Vec<(Path, CacheKey, u64)>, bytes_per_second: u64) {
        let (remote, cache) = (Arc::downgrade(&self.remote), self.cache.clone());
        self.runtime.spawn(async move {
            for (path, key, chunk) in chunks {
                // The store may be closed meanwhile.
                let Some(remote) = remote.upgrade() else {
                    return;
                };
                if cache.is_off() {
                    return;
                }
                if !cache.lacks(&key, chunk) {
                    continue;
                }
                fill(&remote, &cache, &path, key, chunk).await;
                drop(remote);
                let place = FileCache::chunk_place(&key, chunk);
                let seconds = (place.end - place.start) as f64 / bytes_per_second as f64;
                sleep(Duration::try_from_secs_f64(seconds).unwrap_or_default()).await;
            }
        });
    }

    /// Begins to keep a file that is being uploaded.
    pub(super) fn keep(&self, path: &Path) -> Keeping {
        let (parts, mut queue) = mpsc::channel::<Bytes>(PARTS_WAITING_MAX);
        let (cache, name) = (self.cache.clone(), path.to_string());
        let kept = self.runtime.spawn_blocking(move || {
            let mut file = WriteThrough::begin(&cache, &name)?;
            while let Some(part) = queue.blocking_recv() {
                file.push(&part);
            }
            Some(file)
        });
        Keeping { parts, kept }
    }

    /// The upload is done: what was kept waits for its name.
    pub(super) async fn kept(&self, path: &Path, keeping: Keeping) {
        drop(keeping.parts);
        if let Ok(Some(file)) = keeping.kept.await {
            self.unnamed.lock().insert(path.clone(), file);
        }
    }

    /// A file that was uploaded has this content.
    pub(super) fn adopt(&self, path: &Path, key: CacheKey) {
        let file = self.unnamed.lock().remove(path);
        if let Some(file) = file {
            self.runtime.spawn_blocking(move || file.adopt(&key));
        }
    }

    /// A file that was uploaded is not wanted.
    pub(super) fn give_up(&self, path: &Path) {
        let file = self.unnamed.lock().remove(path);
        if let Some(file) = file {
            self.runtime.spawn_blocking(move || drop(file));
        }
    }

    pub(super) fn remove(&self, key: CacheKey) {
        let cache = self.cache.clone();
        self.runtime.spawn_blocking(move || cache.remove(&key));
    }
}

async fn fill(remote: &Remote, cache: &Arc<FileCache>, path: &Path, key: CacheKey, chunk: u64) {
    let place = FileCache::chunk_place(&key, chunk);
    if place.is_empty() {
        return;
    }
    match remote.get(path, place.clone()).await {
        Ok(bytes) => {
            let cache = cache.clone();
            let filled = tokio::task::spawn_blocking(move || cache.fill(&key, place.start, &bytes));
            // Fails only when the runtime ends.
            let _ = filled.await;
        }
        Err(error) => tracing::debug!(%error, "a chunk is not fetched for the file cache"),
    }
}

/// A new file on its way into the cache.
pub(super) struct Keeping {
    parts: mpsc::Sender<Bytes>,
    kept: JoinHandle<Option<WriteThrough>>,
}

impl Keeping {
    pub(super) async fn push(&self, part: Bytes) {
        // The other end is gone if the cache is off.
        let _ = self.parts.send(part).await;
    }
}
