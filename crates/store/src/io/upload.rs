//! Carries the bytes of a new file to the object store while they are being made.
//!
//! The producer runs on a blocking thread and sends parts of equal size through a short queue. A file of one part is
//! put at once; longer ones are multipart uploads, a few parts at a time. Without [`Part::End`] nothing becomes visible.
use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt};
use object_store::MultipartUpload;
use object_store::path::Path;
use tokio::sync::mpsc;

use super::Files;
use super::cached::Keeping;
use super::remote::Remote;
use crate::error::{Error, Result};
use crate::planted::{self, Bug};

/// Parts that wait for the uploader.
pub(crate) const QUEUE_PARTS: usize = 2;
const PARTS_IN_FLIGHT_MAX: usize = 4;

pub(crate) enum Part {
    Data(Bytes),
    End,
}

impl Files {
    /// Uploads what comes through `parts`; done when the object is durable. What is uploaded is kept in the file cache, where
    /// it waits for [`Files::adopt`].
    pub(crate) async fn upload(&self, path: &Path, parts: mpsc::Receiver<Part>) -> Result<()> {
        let cached = self.cached.as_ref().filter(|_| !self.is_local_path(path));
        let keeping = cached.map(|cached| cached.keep(path));
        upload(&self.remote, path, parts, keeping.as_ref()).await?;
        if let (Some(cached), Some(keeping)) = (cached, keeping) {
            cached.kept(path, keeping).await;
        }
        Ok(())
    }
}

async fn upload(
    remote: &Remote,
    path: &Path,
    mut parts: mpsc::Receiver<Part>,
    keeping: Option<&Keeping>,
) -> Result<()> {
    let Some(Part::Data(first)) = parts.recv().await else {
        return Err(abandoned(path));
    };
    if let Some(keeping) = keeping {
        keeping.push(first.clone()).await;
    }
    let second = match parts.recv().await {
        Some(Part::End) => {
            let put = remote.put(path, first).await;
            return if planted::is(Bug::PutErrorIgnored) {
                Ok(())
            } else {
                put
            };
        }
        Some(Part::Data(second)) => second,
        None => return Err(abandoned(path)),
    };
    let mut upload = remote.start_upload(path).await?;
    let first = [first, second];
    let result = send_parts(remote, upload.as_mut(), path, first, &mut parts, keeping).await;
    if result.is_err() {
        remote.abort_upload(path, upload.as_mut()).await;
    }
    result
}

async fn send_parts(
    remote: &Remote,
    upload: &mut dyn MultipartUpload,
    path: &Path,
    [first, second]: [Bytes; 2],
    parts: &mut mpsc::Receiver<Part>,
    keeping: Option<&Keeping>,
) -> Result<()> {
    let mut size = 0;
    let mut start = |part: Bytes| {
        let bytes = part.len() as u64;
        size += bytes;
        remote.send_part(path, bytes, upload.put_part(part.into()))
    };
    let mut in_flight = FuturesUnordered::new();
    in_flight.push(start(first));
    let mut next = second;
    loop {
        if let Some(keeping) = keeping {
            keeping.push(next.clone()).await;
        }
        in_flight.push(start(next));
        while in_flight.len() >= PARTS_IN_FLIGHT_MAX {
            if let Some(done) = in_flight.next().await {
                done?;
            }
        }
        match parts.recv().await {
            Some(Part::Data(part)) => next = part,
            Some(Part::End) => break,
            None => return Err(abandoned(path)),
        }
    }
    while let Some(done) = in_flight.next().await {
        done?;
    }
    remote.complete_upload(path, size, upload).await
}

fn abandoned(path: &Path) -> Error {
    Error::retry(format!(
        "the upload of {path} was given up, because its writer stopped"
    ))
}
