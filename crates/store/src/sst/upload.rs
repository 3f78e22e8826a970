//! Carries the bytes of a new file to the object store while they are being made.
//!
//! The producer runs on a blocking thread and sends parts of equal size through a short queue. A file of one part is
//! put at once; longer ones are multipart uploads, a few parts at a time. Without [`Part::End`] nothing becomes visible.
use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt};
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStoreExt};
use tokio::sync::mpsc;

use crate::error::{Error, Result};
use crate::io::Files;

/// Bytes of every part but the last.
pub(crate) const PART_BYTES: usize = 8 << 20;
/// Parts that wait for the uploader.
pub(crate) const QUEUE_PARTS: usize = 2;
const PARTS_IN_FLIGHT_MAX: usize = 4;

pub(crate) enum Part {
    Data(Bytes),
    End,
}

/// Uploads what comes through `parts`; done when the object is durable.
pub(crate) async fn upload(
    files: &Files,
    path: &Path,
    mut parts: mpsc::Receiver<Part>,
) -> Result<()> {
    let objects = files.objects();
    let failed = |error| Error::object("write", path.as_ref(), error);
    let Some(Part::Data(first)) = parts.recv().await else {
        return Err(abandoned(path));
    };
    let second = match parts.recv().await {
        Some(Part::End) => {
            objects.put(path, first.into()).await.map_err(failed)?;
            return Ok(());
        }
        Some(Part::Data(second)) => second,
        None => return Err(abandoned(path)),
    };
    let mut upload = objects.put_multipart(path).await.map_err(failed)?;
    let result = send_parts(upload.as_mut(), path, [first, second], &mut parts).await;
    if result.is_err()
        && let Err(error) = upload.abort().await
    {
        tracing::warn!(%path, %error, "could not abort an upload");
    }
    result
}

async fn send_parts(
    upload: &mut dyn MultipartUpload,
    path: &Path,
    first: [Bytes; 2],
    parts: &mut mpsc::Receiver<Part>,
) -> Result<()> {
    let failed = |error| Error::object("write", path.as_ref(), error);
    let mut in_flight: FuturesUnordered<_> = first
        .into_iter()
        .map(|part| upload.put_part(part.into()))
        .collect();
    loop {
        while in_flight.len() >= PARTS_IN_FLIGHT_MAX {
            if let Some(done) = in_flight.next().await {
                done.map_err(failed)?;
            }
        }
        match parts.recv().await {
            Some(Part::Data(part)) => in_flight.push(upload.put_part(part.into())),
            Some(Part::End) => break,
            None => return Err(abandoned(path)),
        }
    }
    while let Some(done) = in_flight.next().await {
        done.map_err(failed)?;
    }
    upload.complete().await.map_err(failed)?;
    Ok(())
}

fn abandoned(path: &Path) -> Error {
    Error::retry(format!(
        "the upload of {path} was given up, because its writer stopped"
    ))
}
