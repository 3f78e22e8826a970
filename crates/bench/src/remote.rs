//! An object store that is far away: every request waits before it is answered, and is counted.
//!
//! Requests wait side by side, as they would on a network; so elapsed time divided by the latency is the number of round trips that had
//! to follow each other. Listing counts as one request, deleting as one per object.
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt};
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};

/// What has been asked of a [`Remote`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub reads: u64,
    pub writes: u64,
    pub others: u64,
    pub bytes_read: u64,
    pub bytes_written: u64,
}

impl Counts {
    pub fn requests(&self) -> u64 {
        self.reads + self.writes + self.others
    }

    pub fn since(&self, before: Self) -> Self {
        Self {
            reads: self.reads - before.reads,
            writes: self.writes - before.writes,
            others: self.others - before.others,
            bytes_read: self.bytes_read - before.bytes_read,
            bytes_written: self.bytes_written - before.bytes_written,
        }
    }
}

#[derive(Debug, Default)]
struct Meter {
    latency_nanos: AtomicU64,
    reads: AtomicU64,
    writes: AtomicU64,
    others: AtomicU64,
    bytes_read: AtomicU64,
    bytes_written: AtomicU64,
}

impl Meter {
    /// Counts a request and waits for as long as it would be under way.
    async fn request(&self, kind: &AtomicU64) {
        kind.fetch_add(1, Ordering::Relaxed);
        let nanos = self.latency_nanos.load(Ordering::Relaxed);
        if nanos > 0 {
            tokio::time::sleep(Duration::from_nanos(nanos)).await;
        }
    }

    fn read(&self, bytes: u64) {
        self.bytes_read.fetch_add(bytes, Ordering::Relaxed);
    }

    fn wrote(&self, bytes: usize) {
        self.bytes_written
            .fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// An object store behind a latency. Clones share their counters.
#[derive(Clone, Debug)]
pub struct Remote {
    inner: Arc<dyn ObjectStore>,
    meter: Arc<Meter>,
}

impl Remote {
    pub fn new(inner: Arc<dyn ObjectStore>) -> Self {
        Self {
            inner,
            meter: Arc::default(),
        }
    }

    /// From now on every request takes this much longer.
    pub fn set_latency(&self, latency: Duration) {
        self.meter
            .latency_nanos
            .store(latency.as_nanos() as u64, Ordering::Relaxed);
    }

    pub fn counts(&self) -> Counts {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            reads: get(&self.meter.reads),
            writes: get(&self.meter.writes),
            others: get(&self.meter.others),
            bytes_read: get(&self.meter.bytes_read),
            bytes_written: get(&self.meter.bytes_written),
        }
    }
}

/// The files below a directory as an object store in memory, so that nothing but the latency costs time.
pub async fn in_memory(directory: &std::path::Path) -> crate::engine::Result<Arc<dyn ObjectStore>> {
    let files = LocalFileSystem::new_with_prefix(directory)?;
    let memory = InMemory::new();
    let mut listing = files.list(None);
    while let Some(entry) = listing.next().await {
        let path = entry?.location;
        let bytes = files.get(&path).await?.bytes().await?;
        memory.put(&path, bytes.into()).await?;
    }
    Ok(Arc::new(memory))
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Remote({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for Remote {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        self.meter.request(&self.meter.writes).await;
        self.meter.wrote(payload.content_length());
        self.inner.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.meter.request(&self.meter.writes).await;
        let inner = self.inner.put_multipart_opts(location, options).await?;
        Ok(Box::new(RemoteUpload {
            inner,
            meter: self.meter.clone(),
        }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.meter.request(&self.meter.reads).await;
        let head = options.head;
        let answer = self.inner.get_opts(location, options).await?;
        if !head {
            self.meter.read(answer.range.end - answer.range.start);
        }
        Ok(answer)
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        // Ranges of one call are asked for together, one request for each.
        self.meter
            .reads
            .fetch_add((ranges.len() as u64).saturating_sub(1), Ordering::Relaxed);
        self.meter.request(&self.meter.reads).await;
        let answer = self.inner.get_ranges(location, ranges).await?;
        self.meter
            .read(answer.iter().map(|part| part.len() as u64).sum());
        Ok(answer)
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let meter = self.meter.clone();
        let counted = locations.then(move |location| {
            let meter = meter.clone();
            async move {
                meter.request(&meter.others).await;
                location
            }
        });
        self.inner.delete_stream(counted.boxed())
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (meter, listing) = (self.meter.clone(), self.inner.list(prefix));
        async move {
            meter.request(&meter.others).await;
            listing
        }
        .flatten_stream()
        .boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.meter.request(&self.meter.others).await;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.meter.request(&self.meter.writes).await;
        self.inner.copy_opts(from, to, options).await
    }
}

#[derive(Debug)]
struct RemoteUpload {
    inner: Box<dyn MultipartUpload>,
    meter: Arc<Meter>,
}

#[async_trait]
impl MultipartUpload for RemoteUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let meter = self.meter.clone();
        meter.wrote(data.content_length());
        let part = self.inner.put_part(data);
        async move {
            meter.request(&meter.writes).await;
            part.await
        }
        .boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.meter.request(&self.meter.writes).await;
        self.inner.complete().await
    }

    async fn abort(&mut self) -> Result<()> {
        self.meter.request(&self.meter.others).await;
        self.inner.abort().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Stretch;

    #[test]
    fn requests_wait_side_by_side_and_are_counted() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let remote = Remote::new(Arc::new(InMemory::new()));
        runtime.block_on(async {
            remote.put(&"a".into(), vec![0; 100].into()).await.unwrap();
            remote.set_latency(Duration::from_millis(20));
            let stretch = Stretch::start();
            let path = Path::from("a");
            futures_util::future::join_all((0..10).map(|i| remote.get_range(&path, i..i + 10)))
                .await;
            let wall = stretch.wall();
            assert!(
                wall >= Duration::from_millis(20) && wall < Duration::from_millis(150),
                "{wall:?}"
            );
        });
        let expected = Counts {
            reads: 10,
            writes: 1,
            others: 0,
            bytes_read: 100,
            bytes_written: 100,
        };
        assert_eq!(remote.counts(), expected);
    }
}
