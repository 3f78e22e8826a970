//! An object store in memory that remembers everything: every version of every object, every upload, puts that are still on
//! their way.
//!
//! It is what simulated processes share and what outlives their crashes. It answers at once and never fails by itself;
//! [`crate::Stormy`] stands between it and a process. Because old versions are kept, listings can be shown as they were, and a
//! checker can ask who deleted what. Tests look at it, damage it and heal it directly.
mod listing;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};
use object_store::path::Path;
use object_store::{
    CopyMode, CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult,
    MultipartUpload, ObjectMeta, ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, Result, UploadPart,
};
use parking_lot::Mutex;

pub use listing::ListView;

/// The state of a simulated object store. Clones are the same store.
#[derive(Clone, Default)]
pub struct Truth {
    state: Arc<Mutex<State>>,
}

#[derive(Clone, Default)]
struct State {
    /// Counts changes; each version carries the value at which it was made.
    clock: u64,
    objects: BTreeMap<Path, Vec<Version>>,
    uploads: BTreeMap<u64, Upload>,
    uploads_started: u64,
    delayed: Vec<Delayed>,
    deleted: Vec<Path>,
}

/// One version of an object; without a body, its deletion.
#[derive(Clone)]
struct Version {
    at: u64,
    body: Option<Bytes>,
}

#[derive(Clone)]
struct Upload {
    path: Path,
    parts: BTreeMap<usize, Bytes>,
}

#[derive(Clone)]
struct Delayed {
    ticks_left: u64,
    path: Path,
    body: Bytes,
    create: bool,
}

impl State {
    fn newest(&self, path: &Path) -> Option<&Version> {
        self.objects.get(path)?.last()
    }

    fn body(&self, path: &Path) -> Option<&Bytes> {
        self.newest(path)?.body.as_ref()
    }

    fn change(&mut self, path: &Path, body: Option<Bytes>) -> u64 {
        self.clock += 1;
        let at = self.clock;
        let versions = self.objects.entry(path.clone()).or_default();
        versions.push(Version { at, body });
        at
    }

    fn put(&mut self, path: &Path, body: Bytes, create: bool) -> Result<u64> {
        if create && self.body(path).is_some() {
            return Err(Error::AlreadyExists {
                path: path.to_string(),
                source: "412: the object exists".into(),
            });
        }
        Ok(self.change(path, Some(body)))
    }
}

impl Truth {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// A store of its own with the same content, for trying the same thing many times.
    pub fn fork(&self) -> Self {
        let state = self.state.lock().clone();
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// The content of an object; `None` when there is none.
    pub fn body(&self, path: &Path) -> Option<Bytes> {
        self.state.lock().body(path).cloned()
    }

    /// The paths of all objects, ascending.
    pub fn paths(&self) -> Vec<Path> {
        let state = self.state.lock();
        let there = |path: &&Path| state.body(path).is_some();
        state.objects.keys().filter(there).cloned().collect()
    }

    /// How many times an object was written, deletions included.
    pub fn versions(&self, path: &Path) -> usize {
        self.state.lock().objects.get(path).map_or(0, Vec::len)
    }

    /// Content that an object had before, newest first.
    pub fn earlier_bodies(&self, path: &Path) -> Vec<Bytes> {
        let state = self.state.lock();
        let versions = state.objects.get(path).map(Vec::as_slice).unwrap_or(&[]);
        let older = versions.iter().rev().skip(1);
        older.filter_map(|version| version.body.clone()).collect()
    }

    /// Replaces the content of an object without a trace: rot, or its healing.
    pub fn replace(&self, path: &Path, body: Bytes) {
        let mut state = self.state.lock();
        if let Some(version) = state.objects.get_mut(path).and_then(|v| v.last_mut())
            && version.body.is_some()
        {
            version.body = Some(body);
        }
    }

    /// The objects that were deleted since this was last asked, in that order.
    pub fn take_deleted(&self) -> Vec<Path> {
        std::mem::take(&mut self.state.lock().deleted)
    }

    /// Paths of uploads that were neither completed nor aborted.
    pub fn open_uploads(&self) -> Vec<Path> {
        let state = self.state.lock();
        state.uploads.values().map(|u| u.path.clone()).collect()
    }

    /// Accepts a put that lands only after `ticks` calls of [`Self::tick`].
    pub fn put_later(&self, path: &Path, body: Bytes, create: bool, ticks: u64) {
        self.state.lock().delayed.push(Delayed {
            ticks_left: ticks,
            path: path.clone(),
            body,
            create,
        });
    }

    /// Some time has passed: puts that are due land. Returns how many did.
    pub fn tick(&self) -> usize {
        let mut state = self.state.lock();
        let mut due = Vec::new();
        state.delayed.retain_mut(|put| {
            put.ticks_left = put.ticks_left.saturating_sub(1);
            if put.ticks_left == 0 {
                due.push(put.clone());
            }
            put.ticks_left > 0
        });
        land(&mut state, due)
    }

    /// Every put that is on its way lands now. Returns how many there were.
    pub fn land_all(&self) -> usize {
        let mut state = self.state.lock();
        let due = std::mem::take(&mut state.delayed);
        land(&mut state, due)
    }

    /// What a listing shows that is taken in this way.
    pub fn list_as(&self, prefix: Option<&Path>, view: &ListView) -> Vec<ObjectMeta> {
        listing::list(&self.state.lock(), prefix, view, None)
    }

    pub(crate) fn list_page(
        &self,
        prefix: Option<&Path>,
        view: &ListView,
        after: Option<&Path>,
    ) -> Vec<ObjectMeta> {
        listing::list(&self.state.lock(), prefix, view, after)
    }

    pub(crate) fn list_with_delimiter_as(
        &self,
        prefix: Option<&Path>,
        view: &ListView,
    ) -> ListResult {
        listing::with_delimiter(self.list_as(prefix, view), prefix)
    }

    pub(crate) fn put_now(&self, path: &Path, body: Bytes, mode: &PutMode) -> Result<PutResult> {
        let create = match mode {
            PutMode::Overwrite => false,
            PutMode::Create => true,
            PutMode::Update(_) => {
                return Err(Error::NotSupported {
                    source: "a commit that not every store has: compare-and-swap".into(),
                });
            }
        };
        let at = self.state.lock().put(path, body, create)?;
        Ok(result(at))
    }

    pub(crate) fn delete_now(&self, path: &Path) {
        let mut state = self.state.lock();
        if state.body(path).is_some() {
            state.change(path, None);
            state.deleted.push(path.clone());
        }
    }

    pub(crate) fn read(&self, path: &Path, options: &GetOptions) -> Result<Answer> {
        let state = self.state.lock();
        let missing = || Error::NotFound {
            path: path.to_string(),
            source: "404".into(),
        };
        let version = state.newest(path).ok_or_else(missing)?;
        let body = version.body.clone().ok_or_else(missing)?;
        let meta = listing::meta(path, version.at, body.len());
        options.check_preconditions(&meta)?;
        let len = body.len() as u64;
        let range = match &options.range {
            None => 0..len,
            Some(range) => range.as_range(len).map_err(|error| Error::Generic {
                store: "Truth",
                source: Box::new(error),
            })?,
        };
        let body = body.slice(range.start as usize..range.end as usize);
        Ok(Answer { meta, range, body })
    }

    pub(crate) fn start_upload(&self, path: &Path) -> TruthUpload {
        let mut state = self.state.lock();
        state.uploads_started += 1;
        let id = state.uploads_started;
        let upload = Upload {
            path: path.clone(),
            parts: BTreeMap::new(),
        };
        state.uploads.insert(id, upload);
        TruthUpload {
            truth: self.clone(),
            id,
            parts: 0,
        }
    }
}

/// What a read found.
pub(crate) struct Answer {
    pub meta: ObjectMeta,
    pub range: Range<u64>,
    pub body: Bytes,
}

impl Answer {
    pub fn into_result(self, payload: BoxStream<'static, Result<Bytes>>) -> GetResult {
        GetResult {
            payload: GetResultPayload::Stream(payload),
            meta: self.meta,
            range: self.range,
            attributes: Default::default(),
            extensions: Default::default(),
        }
    }
}

fn land(state: &mut State, due: Vec<Delayed>) -> usize {
    let count = due.len();
    for put in due {
        // Nobody waits for the answer.
        let _ = state.put(&put.path, put.body, put.create);
    }
    count
}

fn result(at: u64) -> PutResult {
    PutResult {
        e_tag: Some(format!("\"{at}\"")),
        version: None,
        extensions: Default::default(),
    }
}

impl fmt::Debug for Truth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Truth")
            .field("objects", &self.paths().len())
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Truth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Truth")
    }
}

#[async_trait]
impl ObjectStore for Truth {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        self.put_now(location, payload.into(), &options.mode)
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        _options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        Ok(Box::new(self.start_upload(location)))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let answer = self.read(location, &options)?;
        let body = answer.body.clone();
        Ok(answer.into_result(stream::once(async move { Ok(body) }).boxed()))
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let this = self.clone();
        locations
            .map(move |location| {
                let location = location?;
                this.delete_now(&location);
                Ok(location)
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let listed = self.list_as(prefix, &ListView::default());
        stream::iter(listed.into_iter().map(Ok)).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        Ok(self.list_with_delimiter_as(prefix, &ListView::default()))
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let body = self.read(from, &GetOptions::default())?.body;
        let mode = match options.mode {
            CopyMode::Create => PutMode::Create,
            CopyMode::Overwrite => PutMode::Overwrite,
        };
        self.put_now(to, body, &mode)?;
        Ok(())
    }
}

/// An upload that becomes visible when it is completed.
#[derive(Debug)]
pub(crate) struct TruthUpload {
    truth: Truth,
    id: u64,
    parts: usize,
}

impl TruthUpload {
    /// The number of the next part.
    pub fn next_part(&mut self) -> usize {
        self.parts += 1;
        self.parts - 1
    }

    pub fn truth(&self) -> Truth {
        self.truth.clone()
    }

    pub fn id(&self) -> u64 {
        self.id
    }

    pub fn complete_now(&self) -> Result<PutResult> {
        let mut state = self.truth.state.lock();
        let upload = state.uploads.get(&self.id).ok_or_else(no_upload)?;
        if upload.parts.len() < self.parts {
            return Err(Error::Generic {
                store: "Truth",
                source: "a part of the upload is missing".into(),
            });
        }
        let body: Vec<u8> = upload.parts.values().flatten().copied().collect();
        let path = upload.path.clone();
        state.uploads.remove(&self.id);
        let at = state.put(&path, body.into(), false)?;
        Ok(result(at))
    }

    pub fn abort_now(&self) {
        self.truth.state.lock().uploads.remove(&self.id);
    }
}

impl Truth {
    pub(crate) fn put_part_now(&self, id: u64, number: usize, body: Bytes) -> Result<()> {
        let mut state = self.state.lock();
        let upload = state.uploads.get_mut(&id).ok_or_else(no_upload)?;
        upload.parts.insert(number, body);
        Ok(())
    }
}

fn no_upload() -> Error {
    Error::Generic {
        store: "Truth",
        source: "404: there is no such upload".into(),
    }
}

#[async_trait]
impl MultipartUpload for TruthUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (truth, id, number) = (self.truth(), self.id, self.next_part());
        Box::pin(async move { truth.put_part_now(id, number, data.into()) })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.complete_now()
    }

    async fn abort(&mut self) -> Result<()> {
        self.abort_now();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
