//! Every byte of a file that comes in or goes out passes here.
//!
//! [`Files`] decides where a read is answered: from a local directory when the files of the store are local files, and
//! otherwise from the file cache or the object store ([`remote`]), with the patience that [`IoOptions`] say. It bounds the requests that are
//! under way and the threads that read from disk, and counts what it does.
//!
//! What always holds: an answer has exactly the bytes that were asked for, or it is an error. Whether they are the right
//! bytes is for the caller to check. What can go wrong: a file that is not there is `Missing`, refused access is `Usage`,
//! everything else is `Retry` and was tried a few times.
mod cached;
mod flight;
pub(crate) mod handles;
pub(crate) mod heat;
mod local;
mod meter;
mod policy;
mod remote;
mod upload;

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use object_store::path::Path;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{Error, ErrorKind, Result};
use crate::file_cache::{CacheKey, FileCacheStats};
use crate::options::{Environment, LocalPaths, StoreOptions};
use crate::sst::file::SstFile;
use cached::Cached;
use flight::Flights;
use heat::Heat;
use local::LocalFiles;
use meter::Meter;
use remote::Remote;

pub use meter::IoStats;
pub use policy::{Hedge, IoOptions, Prices};

pub(crate) use flight::{Arrived, Waiting, arrival};
pub(crate) use handles::HandleId;
pub(crate) use heat::decode as decode_warm;
pub(crate) use upload::{Part, QUEUE_PARTS};

/// Chunks whose heat a checkpoint records.
const WARM_CHUNKS_MAX: usize = 4096;

/// Why bytes are read, which decides on which thread that may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadClass {
    /// For a read that someone waits for, on a read thread: it may block on the local disk.
    Fetch,
    /// For a compaction, on a thread of the runtime: waiting for the local disk happens elsewhere.
    Background,
}

/// The files of a store, wherever they are.
pub(crate) struct Files {
    remote: Arc<Remote>,
    local: Option<Arc<LocalFiles>>,
    cached: Option<Cached>,
    heat: Heat,
    read_threads: Arc<Semaphore>,
    meter: Arc<Meter>,
    prices: Prices,
    warm_bytes_per_second: u64,
    pub(crate) flights: Flights,
}

impl Files {
    pub(crate) fn new(env: &Environment, options: &StoreOptions) -> Self {
        let meter = Arc::new(Meter::default());
        let below_root = || env.local_root.clone().map(LocalPaths::below);
        let local = env.local_paths.clone().or_else(below_root);
        let local = local.map(|paths| Arc::new(LocalFiles::new(paths, meter.clone())));
        let remote = Arc::new(Remote::new(
            env.objects.clone(),
            options.io.clone(),
            env.random.clone(),
            !env.executor.skips_pauses(),
            meter.clone(),
        ));
        // Files that are local need no copies.
        let all_local = local.as_ref().is_some_and(|local| local.all());
        let cache = env.file_cache.clone().filter(|_| !all_local);
        Self {
            cached: cache.map(|cache| Cached::new(cache, remote.clone(), env.runtime.clone())),
            remote,
            local,
            heat: Heat::default(),
            read_threads: Arc::new(Semaphore::new(options.read_io_parallelism.max(1))),
            meter,
            prices: options.io.prices,
            warm_bytes_per_second: options.warm_bytes_per_second,
            flights: Flights::default(),
        }
    }

    /// What was asked of the object store and of the local disk.
    pub(crate) fn stats(&self) -> IoStats {
        self.meter.stats(&self.prices)
    }

    /// What the file cache has done and holds, if there is one; it serves other stores too.
    pub(crate) fn cache_stats(&self) -> Option<FileCacheStats> {
        self.cached.as_ref().map(|cached| cached.cache.stats())
    }

    /// Whether every read is answered by the local disk, so that a fetch had better run on a read thread as a whole.
    pub(crate) fn are_local(&self) -> bool {
        self.local.as_ref().is_some_and(|local| local.all())
    }

    /// The local disk, if it has the file.
    fn local(&self, file: &SstFile) -> Option<&Arc<LocalFiles>> {
        let local = self.local.as_ref()?;
        local.has(file.path(), file.id().0).then_some(local)
    }

    /// Whether a file that is uploaded to this path needs no copy here.
    fn is_local_path(&self, path: &Path) -> bool {
        self.local.as_ref().is_some_and(|local| local.finds(path))
    }

    /// Waits until one more thread may read from disk.
    pub(crate) async fn read_thread(&self) -> Option<OwnedSemaphorePermit> {
        self.read_threads.clone().acquire_owned().await.ok()
    }

    /// Takes as many further read threads as are free, at most `most`.
    pub(crate) fn free_read_threads(&self, most: usize) -> Vec<OwnedSemaphorePermit> {
        (0..most)
            .map_while(|_| self.read_threads.clone().try_acquire_owned().ok())
            .collect()
    }

    /// Whether reading a range would wait for the local disk and for nothing else.
    pub(crate) fn is_here(&self, file: &SstFile, range: &Range<u64>) -> bool {
        let cached = self.cached.as_ref();
        self.local(file).is_some()
            || cached.is_some_and(|cached| cached.cache.holds(&key(file), range))
    }

    /// Reads a piece of a file; exactly as many bytes come as were asked for.
    pub(crate) async fn read(
        &self,
        file: &SstFile,
        range: Range<u64>,
        class: ReadClass,
    ) -> Result<Bytes> {
        if let Some(local) = self.local(file) {
            return read_local(local, file, range, class).await;
        }
        let Some(cached) = &self.cached else {
            return self.remote.get(file.path(), range).await;
        };
        if class == ReadClass::Fetch {
            self.heat.read(file.id(), &range);
        }
        cached.read(file.path(), key(file), range, class).await
    }

    /// Reads a piece of a file into `scratch` if that takes no waiting: the system has the bytes in memory.
    pub(crate) fn read_at_once<'b>(
        &self,
        file: &SstFile,
        range: &Range<u64>,
        scratch: &'b mut Vec<u8>,
    ) -> Option<&'b [u8]> {
        self.local
            .as_ref()?
            .read_at_once(file.path(), file.id().0, range, scratch)
    }

    /// A range that was read did not pass its check: if it came from the file cache, the next read asks the object store.
    pub(crate) fn distrust(&self, file: &SstFile, range: &Range<u64>) {
        if let Some(cached) = &self.cached {
            cached.cache.distrust(&key(file), range);
        }
    }

    /// A file that was uploaded under its path is finished.
    pub(crate) fn adopt(&self, file: &SstFile) {
        if let Some(cached) = &self.cached {
            cached.adopt(file.path(), key(file));
            self.heat.read(file.id(), &(0..file.size_bytes));
        }
    }

    /// A file is not part of the tree any more. If it is `gone`, no checkpoint needs it either.
    pub(crate) fn forget(&self, file: &SstFile, gone: bool) {
        if let Some(local) = &self.local {
            local.forget(file.id().0);
        }
        self.heat.forget(file.id());
        match &self.cached {
            Some(cached) if gone => cached.remove(key(file)),
            Some(cached) => cached.cache.demote(&key(file)),
            None => {}
        }
    }

    /// The chunks that are read most, for a checkpoint that lists these files; none without a file cache.
    pub(crate) fn hottest<'a>(&self, files: impl Iterator<Item = &'a SstFile>) -> Bytes {
        heat::encode(&self.heat.hottest(files.map(SstFile::id), WARM_CHUNKS_MAX)).into()
    }

    /// Fetches chunks in the background, hottest first, while the store is open. Nothing happens without a file cache.
    pub(crate) fn warm<'a>(&self, chunks: impl Iterator<Item = (&'a SstFile, u32)>) {
        let Some(cached) = &self.cached else { return };
        let chunks = chunks.map(|(file, chunk)| (file.path().clone(), key(file), chunk.into()));
        let chunks: Vec<_> = chunks.take(WARM_CHUNKS_MAX).collect();
        if self.warm_bytes_per_second > 0 && !chunks.is_empty() {
            cached.warm(chunks, self.warm_bytes_per_second);
        }
    }

    /// Deletes a file; that there is none is as good.
    pub(crate) async fn delete(&self, path: &Path) -> Result<()> {
        if let Some(cached) = &self.cached {
            cached.give_up(path);
        }
        self.remote.delete(path).await
    }
}

fn key(file: &SstFile) -> CacheKey {
    CacheKey {
        id: file.id().0,
        size_bytes: file.size_bytes,
        checksum: file.checksum,
    }
}

async fn read_local(
    local: &Arc<LocalFiles>,
    file: &SstFile,
    range: Range<u64>,
    class: ReadClass,
) -> Result<Bytes> {
    let id = file.id().0;
    if class == ReadClass::Fetch {
        return read_local_now(local, file.path(), id, range);
    }
    let (local, path) = (local.clone(), file.path().clone());
    match tokio::task::spawn_blocking(move || read_local_now(&local, &path, id, range)).await {
        Ok(answer) => answer,
        Err(error) => Err(Error::retry(format!("a read was stopped: {error}"))),
    }
}

fn read_local_now(
    local: &LocalFiles,
    path: &Path,
    id: HandleId,
    range: Range<u64>,
) -> Result<Bytes> {
    match local.read(path, id, range.clone()) {
        Err(error) if error.kind == ErrorKind::Retry => {
            tracing::warn!(%error, "reading again");
            local.read(path, id, range)
        }
        answer => answer,
    }
}
