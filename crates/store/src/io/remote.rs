//! Requests to the object store: bounded, timed, counted, and made again when that may help.
//!
//! A read that fails is made again after a pause of random length, as long as the budget of repeats lasts. A read that is
//! slow may be asked a second time; the first answer counts. A write that fails may have been done all the same, so its
//! outcome is *unknown*: it is made again with the same bytes under the same name, which nobody else uses, and in the end
//! the object is looked for.
use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{Either, select};
use object_store::path::Path;
use object_store::{
    Error as ObjectError, MultipartUpload, ObjectStore, ObjectStoreExt, UploadPart,
};
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};

use super::meter::{Event, Meter, Request};
use super::policy::{Budget, Hedge, IoOptions, Latencies};
use crate::error::{Error, ErrorKind, Result};
use crate::objects::request_error;
use crate::options::Random;

/// Requests under way at once.
const IN_FLIGHT_MAX: usize = 1024;

pub(crate) struct Remote {
    objects: Arc<dyn ObjectStore>,
    options: IoOptions,
    random: Random,
    /// False in a simulation, where time is not real.
    pauses: bool,
    in_flight: Semaphore,
    budget: Mutex<Budget>,
    latencies: Mutex<Latencies>,
    /// The first request; time is counted from there.
    began: Mutex<Option<Instant>>,
    meter: Arc<Meter>,
}

impl Remote {
    pub(super) fn new(
        objects: Arc<dyn ObjectStore>,
        options: IoOptions,
        random: Random,
        pauses: bool,
        meter: Arc<Meter>,
    ) -> Self {
        Self {
            budget: Mutex::new(Budget::new(&options)),
            latencies: Mutex::default(),
            began: Mutex::default(),
            in_flight: Semaphore::new(IN_FLIGHT_MAX),
            objects,
            options,
            random,
            pauses,
            meter,
        }
    }

    /// Reads a range; exactly as many bytes come as were asked for.
    pub(super) async fn get(&self, path: &Path, range: Range<u64>) -> Result<Bytes> {
        let get = || self.get_hedged(path, &range);
        let bytes = self.again("read", path, get).await?;
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

    /// The size of an object, if there is one.
    pub(super) async fn size(&self, path: &Path) -> Result<Option<u64>> {
        self.again("look for", path, || async {
            let head = self.once(Request::Head, 0, self.objects.head(path));
            match head.await {
                Ok(meta) => Ok(Some(meta.size)),
                Err(ObjectError::NotFound { .. }) => Ok(None),
                Err(error) => Err(error),
            }
        })
        .await
    }

    /// Deletes an object; that there is none is as good.
    pub(super) async fn delete(&self, path: &Path) -> Result<()> {
        self.again("delete", path, || async {
            match self
                .once(Request::Delete, 0, self.objects.delete(path))
                .await
            {
                Ok(()) | Err(ObjectError::NotFound { .. }) => Ok(()),
                Err(error) => Err(error),
            }
        })
        .await
    }

    /// Writes a whole object under a name that is never used for other bytes.
    pub(super) async fn put(&self, path: &Path, body: Bytes) -> Result<()> {
        let size = body.len() as u64;
        let put = || async {
            let put = self.objects.put(path, body.clone().into());
            self.once(Request::Put, size, put).await.map(|_| ())
        };
        match self.again("write", path, put).await {
            Err(error) if error.kind == ErrorKind::Retry => self.find_done(path, size, error).await,
            answer => answer,
        }
    }

    /// Begins an upload in parts.
    pub(super) async fn start_upload(&self, path: &Path) -> Result<Box<dyn MultipartUpload>> {
        self.again("write", path, || {
            self.once(Request::UploadStart, 0, self.objects.put_multipart(path))
        })
        .await
    }

    /// Sends a part. It is not made again here: the number of a part is taken when it is first tried.
    pub(super) async fn send_part(&self, path: &Path, bytes: u64, part: UploadPart) -> Result<()> {
        self.once(Request::UploadPart, bytes, part)
            .await
            .map_err(|error| request_error("write", path, error))
    }

    /// Ends an upload in parts; `size` is that of the whole object.
    pub(super) async fn complete_upload(
        &self,
        path: &Path,
        size: u64,
        upload: &mut dyn MultipartUpload,
    ) -> Result<()> {
        match self
            .once(Request::UploadComplete, 0, upload.complete())
            .await
        {
            Ok(_) => Ok(()),
            Err(error) => {
                let error = request_error("write", path, error);
                self.find_done(path, size, error).await
            }
        }
    }

    /// Gives an upload up; what fails here is left to the object store's own rules.
    pub(super) async fn abort_upload(&self, path: &Path, upload: &mut dyn MultipartUpload) {
        if let Err(error) = self.once(Request::UploadAbort, 0, upload.abort()).await {
            let error = request_error("give up the upload of", path, error);
            tracing::warn!(%error, "parts of it may be left behind");
        }
    }

    /// A write has failed with `error`, or only its answer was lost: objects appear whole or not at all, so one of the right
    /// size is the one.
    async fn find_done(&self, path: &Path, size: u64, error: Error) -> Result<()> {
        match self.size(path).await {
            Ok(Some(found)) if found == size => {
                tracing::debug!(%path, %error, "the write was done all the same");
                self.meter.event(Event::FoundDone);
                Ok(())
            }
            _ => Err(error),
        }
    }

    /// Makes a request until it succeeds, fails for good, or was made often enough.
    async fn again<T, F: Future<Output = object_store::Result<T>>>(
        &self,
        action: &str,
        path: &Path,
        request: impl Fn() -> F,
    ) -> Result<T> {
        let mut repeat = 0;
        loop {
            let error = match request().await {
                Ok(answer) => return Ok(answer),
                Err(error) => request_error(action, path, error),
            };
            if error.kind != ErrorKind::Retry || repeat >= self.options.retries_max {
                return Err(error);
            }
            if !self.take_token() {
                self.meter.event(Event::HeldBack);
                return Err(Error {
                    message: format!(
                        "{}; it is not tried again, because too many requests fail at the moment",
                        error.message
                    ),
                    ..error
                });
            }
            let pause = self.options.pause(repeat, (self.random)());
            tracing::debug!(%error, ?pause, "trying again after a pause");
            if self.pauses {
                sleep(pause).await;
            }
            self.meter.event(Event::Repeated);
            repeat += 1;
        }
    }

    fn take_token(&self) -> bool {
        let now = Instant::now();
        let began = *self.began.lock().get_or_insert(now);
        self.budget.lock().take(now.duration_since(began))
    }

    /// One request, within the limits of number and time.
    async fn once<T>(
        &self,
        kind: Request,
        body_bytes: u64,
        request: impl Future<Output = object_store::Result<T>>,
    ) -> object_store::Result<T> {
        // The semaphore is never closed.
        let _permit = self.in_flight.acquire().await.ok();
        self.meter.request(kind, body_bytes);
        let patience = self.options.timeout(body_bytes);
        match timeout(patience, request).await {
            Ok(answer) => answer,
            Err(_) => {
                self.meter.event(Event::TimedOut);
                Err(no_answer(patience))
            }
        }
    }

    async fn get_once(&self, path: &Path, range: &Range<u64>) -> object_store::Result<Bytes> {
        let began = Instant::now();
        let get = self.objects.get_range(path, range.clone());
        let bytes = self.once(Request::Get, 0, get).await?;
        self.meter.read(bytes.len() as u64);
        if self.options.hedge != Hedge::Off {
            self.latencies.lock().add(began.elapsed());
        }
        Ok(bytes)
    }

    async fn get_hedged(&self, path: &Path, range: &Range<u64>) -> object_store::Result<Bytes> {
        let Some(patience) = self.hedge_after() else {
            return self.get_once(path, range).await;
        };
        let first = pin!(self.get_once(path, range));
        let first = match select(first, pin!(sleep(patience))).await {
            Either::Left((answer, _)) => return answer,
            Either::Right(((), first)) => first,
        };
        // When everything is slow, second requests would only make it slower.
        if self.in_flight.available_permits() == 0 || !self.take_token() {
            return first.await;
        }
        self.meter.event(Event::Hedged);
        let second = pin!(self.get_once(path, range));
        match select(first, second).await {
            Either::Left((Ok(bytes), _)) => Ok(bytes),
            Either::Right((Ok(bytes), _)) => {
                self.meter.event(Event::HedgeWon);
                Ok(bytes)
            }
            Either::Left((Err(_), other)) => other.await,
            Either::Right((Err(_), other)) => other.await,
        }
    }

    fn hedge_after(&self) -> Option<Duration> {
        match self.options.hedge {
            Hedge::Off => None,
            Hedge::After(patience) => Some(patience),
            Hedge::AfterSlowest(least) => Some(self.latencies.lock().slowest()?.max(least)),
        }
    }
}

fn no_answer(patience: Duration) -> ObjectError {
    ObjectError::Generic {
        store: "object store",
        source: format!("no answer within {patience:?}").into(),
    }
}

#[cfg(test)]
mod tests;
