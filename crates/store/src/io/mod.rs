//! Every byte of a file that comes in or goes out passes here.
//!
//! [`Files`] decides where a read is answered: from a local directory when the files of the store are local files, and
//! otherwise from the object store ([`remote`]), with the patience that [`IoOptions`] say. It bounds the requests that are
//! under way and the threads that read from disk, and counts what it does.
//!
//! What always holds: an answer has exactly the bytes that were asked for, or it is an error. Whether they are the right
//! bytes is for the caller to check. What can go wrong: a file that is not there is `Missing`, refused access is `Usage`,
//! everything else is `Retry` and was tried a few times.
mod flight;
mod handles;
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
use crate::options::{Environment, StoreOptions};
use flight::Flights;
use local::LocalFiles;
use meter::Meter;
use remote::Remote;

pub use meter::IoStats;
pub use policy::{Hedge, IoOptions, Prices};

pub(crate) use flight::{Arrived, Waiting, arrival};
pub(crate) use handles::HandleId;
pub(crate) use upload::{PART_BYTES, Part, QUEUE_PARTS};

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
    remote: Remote,
    local: Option<Arc<LocalFiles>>,
    read_threads: Arc<Semaphore>,
    meter: Arc<Meter>,
    prices: Prices,
    pub(crate) flights: Flights,
}

impl Files {
    pub(crate) fn new(env: &Environment, options: &StoreOptions) -> Self {
        let meter = Arc::new(Meter::default());
        let local = env.local_root.clone();
        let local = local.map(|root| Arc::new(LocalFiles::new(root, meter.clone())));
        Self {
            remote: Remote::new(
                env.objects.clone(),
                options.io.clone(),
                env.random.clone(),
                !env.executor.skips_pauses(),
                meter.clone(),
            ),
            local,
            read_threads: Arc::new(Semaphore::new(options.read_io_parallelism.max(1))),
            meter,
            prices: options.io.prices,
            flights: Flights::default(),
        }
    }

    /// What was asked of the object store and of the local disk.
    pub(crate) fn stats(&self) -> IoStats {
        self.meter.stats(&self.prices)
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
            return self.remote.get(path, range).await;
        };
        if class == ReadClass::Fetch {
            return read_local(local, path, id, range);
        }
        let (local, path) = (local.clone(), path.clone());
        match tokio::task::spawn_blocking(move || read_local(&local, &path, id, range)).await {
            Ok(answer) => answer,
            Err(error) => Err(Error::retry(format!("a read was stopped: {error}"))),
        }
    }

    /// Forgets what is open of a file that will not be read again.
    pub(crate) fn forget(&self, id: HandleId) {
        if let Some(local) = &self.local {
            local.forget(id);
        }
    }

    /// Deletes a file; that there is none is as good.
    pub(crate) async fn delete(&self, path: &Path) -> Result<()> {
        self.remote.delete(path).await
    }
}

fn read_local(local: &LocalFiles, path: &Path, id: HandleId, range: Range<u64>) -> Result<Bytes> {
    match local.read(path, id, range.clone()) {
        Err(error) if error.kind == ErrorKind::Retry => {
            tracing::warn!(%error, "reading again");
            local.read(path, id, range)
        }
        answer => answer,
    }
}
