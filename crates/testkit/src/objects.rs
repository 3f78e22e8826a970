//! The object store that fails on request. It holds nothing itself: what was applied is in the store underneath, which a test
//! looks at directly, or wraps anew to play a restarted process.
//!
//! Faults hit whole requests. A multipart upload that fails is never visible; bodies and listings are passed on as they are.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    Result, UploadPart,
};
use parking_lot::Mutex;

use crate::plan::Faults;
use crate::{Counts, Fault, FaultPlan, RequestKind};

/// Awaited before each request, e.g. a sleep on a test's clock: latency, or a gate that holds a put back until a rival has won.
pub type Hook = Arc<dyn Fn(RequestKind) -> BoxFuture<'static, ()> + Send + Sync>;

/// Wraps an object store and makes requests fail. Clones share plan and counters.
#[derive(Clone)]
pub struct FaultyObjects {
    inner: Arc<dyn ObjectStore>,
    shared: Arc<Shared>,
}

struct Shared {
    faults: Mutex<Faults>,
    counts: Mutex<Counts>,
    hook: Mutex<Option<Hook>>,
}

impl FaultyObjects {
    /// Wraps a store; nothing fails until a plan or a script says so.
    pub fn new(inner: Arc<dyn ObjectStore>) -> Self {
        Self::with_plan(inner, FaultPlan::default())
    }

    /// Wraps a store that fails as the plan says.
    pub fn with_plan(inner: Arc<dyn ObjectStore>, plan: FaultPlan) -> Self {
        let shared = Shared {
            faults: Mutex::new(Faults::new(plan)),
            counts: Mutex::default(),
            hook: Mutex::default(),
        };
        Self {
            inner,
            shared: Arc::new(shared),
        }
    }

    /// Replaces the plan; numbering of requests (for `crash_at`) starts again.
    pub fn set_plan(&self, plan: FaultPlan) {
        *self.shared.faults.lock() = Faults::new(plan);
    }

    /// The next request of this kind that has no fault asked for yet gets this one.
    pub fn fail_next(&self, kind: RequestKind, fault: Fault) {
        self.shared.faults.lock().scripted.push_back((kind, fault));
    }

    /// Sets what is awaited before each request.
    pub fn set_hook(&self, hook: Option<Hook>) {
        *self.shared.hook.lock() = hook;
    }

    /// The requests so far.
    pub fn counts(&self) -> Counts {
        self.shared.counts.lock().clone()
    }

    /// Sets all counters to zero and returns what they were.
    pub fn take_counts(&self) -> Counts {
        std::mem::take(&mut self.shared.counts.lock())
    }
}

impl Shared {
    /// Counts the request, waits for the hook and asks the plan. `Ok(true)` means: do it, then report [`lost_answer`].
    async fn before(&self, kind: RequestKind, bytes_written: usize) -> Result<bool> {
        {
            let mut counts = self.counts.lock();
            counts.add(kind);
            counts.bytes_written += bytes_written as u64;
        }
        let hook = self.hook.lock().clone();
        if let Some(hook) = hook {
            hook(kind).await;
        }
        let fault = self.faults.lock().decide(kind);
        match fault {
            None => Ok(false),
            Some(Fault::ErrorApplied) => Ok(true),
            Some(Fault::ErrorNotApplied) => Err(failure("injected: the request was not applied")),
            Some(Fault::Throttled) => Err(failure("injected: 503 slow down")),
            Some(Fault::Crashed) => Err(failure("injected: the process has crashed")),
        }
    }

    /// The whole of a request: the plan, the request, and perhaps the loss of its answer.
    async fn run<T>(
        &self,
        kind: RequestKind,
        bytes_written: usize,
        request: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let answer_lost = self.before(kind, bytes_written).await?;
        let answer = request.await?;
        if answer_lost {
            Err(failure("injected: the answer was lost"))
        } else {
            Ok(answer)
        }
    }
}

fn failure(what: &'static str) -> Error {
    Error::Generic {
        store: "FaultyObjects",
        source: what.into(),
    }
}

impl fmt::Debug for FaultyObjects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyObjects")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for FaultyObjects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultyObjects({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for FaultyObjects {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        mut options: PutOptions,
    ) -> Result<PutResult> {
        if options.mode == PutMode::Create && self.shared.faults.lock().plan.ignore_create_if_absent
        {
            options.mode = PutMode::Overwrite;
        }
        let bytes = payload.content_length();
        let request = self.inner.put_opts(location, payload, options);
        self.shared.run(RequestKind::Put, bytes, request).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let request = self.inner.put_multipart_opts(location, options);
        let inner = self
            .shared
            .run(RequestKind::MultipartStart, 0, request)
            .await?;
        Ok(Box::new(FaultyUpload {
            inner,
            shared: self.shared.clone(),
        }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let kind = if options.head {
            RequestKind::Head
        } else {
            RequestKind::Get
        };
        let answer = self
            .shared
            .run(kind, 0, self.inner.get_opts(location, options))
            .await?;
        if kind == RequestKind::Get {
            self.shared.counts.lock().bytes_read += answer.range.end - answer.range.start;
        }
        Ok(answer)
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let this = self.clone();
        locations
            .then(move |location| {
                let this = this.clone();
                async move {
                    let location = location?;
                    let request = this.inner.delete(&location);
                    this.shared.run(RequestKind::Delete, 0, request).await?;
                    Ok(location)
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let this = self.clone();
        let prefix = prefix.cloned();
        let listing = async move {
            let start = async { Ok(this.inner.list(prefix.as_ref())) };
            this.shared.run(RequestKind::List, 0, start).await
        };
        stream::once(listing).try_flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.shared
            .run(RequestKind::List, 0, self.inner.list_with_delimiter(prefix))
            .await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.shared
            .run(
                RequestKind::Copy,
                0,
                self.inner.copy_opts(from, to, options),
            )
            .await
    }
}

struct FaultyUpload {
    inner: Box<dyn MultipartUpload>,
    shared: Arc<Shared>,
}

impl fmt::Debug for FaultyUpload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyUpload")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl MultipartUpload for FaultyUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let bytes = data.content_length();
        let part = self.inner.put_part(data);
        let shared = self.shared.clone();
        Box::pin(async move { shared.run(RequestKind::MultipartPart, bytes, part).await })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let Self { inner, shared } = self;
        shared
            .run(RequestKind::MultipartComplete, 0, inner.complete())
            .await
    }

    async fn abort(&mut self) -> Result<()> {
        self.inner.abort().await
    }
}

#[cfg(test)]
mod tests;
