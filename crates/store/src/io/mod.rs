//! Every byte of a file that comes in or goes out passes here.
//!
//! [`Files`] decides where a read is answered: from a local directory when the files of the store are local files, and
//! otherwise from the object store. It bounds the requests that are under way and the threads that read from disk.
//!
//! What always holds: an answer has exactly the bytes that were asked for, or it is an error. Whether they are the right
//! bytes is for the caller to check. What can go wrong: a file that is not there is `Missing`, everything else is `Retry`
//! and may pass.
mod flight;
mod handles;
mod local;

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{Error, Result};
use local::LocalFiles;

use flight::Flights;
pub(crate) use flight::{Arrived, Waiting, arrival};
pub(crate) use handles::HandleId;

/// Requests to the object store under way at once.
const REQUESTS_IN_FLIGHT_MAX: usize = 1024;

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
    objects: Arc<dyn ObjectStore>,
    local: Option<Arc<LocalFiles>>,
    in_flight: Semaphore,
    read_threads: Arc<Semaphore>,
    pub(crate) flights: Flights,
}

impl Files {
    pub(crate) fn new(
        objects: Arc<dyn ObjectStore>,
        local_root: Option<PathBuf>,
        read_io_parallelism: usize,
    ) -> Self {
        Self {
            objects,
            local: local_root.map(|root| Arc::new(LocalFiles::new(root))),
            in_flight: Semaphore::new(REQUESTS_IN_FLIGHT_MAX),
            read_threads: Arc::new(Semaphore::new(read_io_parallelism.max(1))),
            flights: Flights::default(),
        }
    }

    /// The object store beneath, for uploads.
    pub(crate) fn objects(&self) -> &Arc<dyn ObjectStore> {
        &self.objects
    }

    /// Whether every read is answered by the local disk, so that a fetch had better run on a read thread as a whole.
    pub(crate) fn are_local(&self) -> bool {
        self.local.is_some()
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

    /// Reads a piece of a file; exactly as many bytes come as were asked for.
    pub(crate) async fn read(
        &self,
        path: &Path,
        id: HandleId,
        range: Range<u64>,
        class: ReadClass,
    ) -> Result<Bytes> {
        let Some(local) = &self.local else {
            return self.read_remote(path, range).await;
        };
        if class == ReadClass::Fetch {
            return local.read(path, id, range);
        }
        let (local, path) = (local.clone(), path.clone());
        match tokio::task::spawn_blocking(move || local.read(&path, id, range)).await {
            Ok(answer) => answer,
            Err(error) => Err(Error::retry(format!("a read was stopped: {error}"))),
        }
    }

    async fn read_remote(&self, path: &Path, range: Range<u64>) -> Result<Bytes> {
        // The semaphore is never closed.
        let _permit = self.in_flight.acquire().await.ok();
        let bytes = self
            .objects
            .get_range(path, range.clone())
            .await
            .map_err(|error| Error::object("read", path.as_ref(), error))?;
        if bytes.len() as u64 != range.end.saturating_sub(range.start) {
            return Err(Error::corrupt(format!(
                "{path} is damaged: bytes {}..{} were asked for, but {} came",
                range.start,
                range.end,
                bytes.len()
            )));
        }
        Ok(bytes)
    }

    /// Forgets what is open of a file that will not be read again.
    pub(crate) fn forget(&self, id: HandleId) {
        if let Some(local) = &self.local {
            local.forget(id);
        }
    }

    /// Deletes a file; that there is none is as good.
    pub(crate) async fn delete(&self, path: &Path) -> Result<()> {
        let _permit = self.in_flight.acquire().await.ok();
        match self.objects.delete(path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(Error::object("delete", path.as_ref(), error)),
        }
    }
}
