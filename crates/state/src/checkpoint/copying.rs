//! Copying a file to where it is kept: by the store itself where it can, else by carrying the bytes, a part at a time.

use std::sync::Arc;

use aquifer_store::objects::request_error;
use bytes::BytesMut;
use futures_util::TryStreamExt;
use object_store::path::Path;
use object_store::{Error as ObjectError, MultipartUpload, ObjectStore, ObjectStoreExt};

use crate::StateError;

/// Bytes of a part when the bytes must be carried.
const PART_BYTES: usize = 8 << 20;
/// The largest object that every store copies with one request.
const COPIED_AT_ONCE_MAX: u64 = 4 << 30;
/// Tries of a copy.
const TRIES_MAX: usize = 4;

/// From which store to which files are copied.
#[derive(Clone, Debug)]
pub(super) struct Copier {
    pub from: Arc<dyn ObjectStore>,
    pub to: Arc<dyn ObjectStore>,
    /// What the copies are for, in an error.
    pub purpose: &'static str,
}

impl Copier {
    /// Makes `to` the same as `from`, which has `size` bytes. `same_store`: both paths are known to the store that is copied from, too, so
    /// that it may do it by itself.
    pub async fn copy(
        &self,
        from: &Path,
        to: &Path,
        size: u64,
        same_store: bool,
    ) -> Result<(), StateError> {
        let mut tries = 1;
        let mut by_the_store = same_store && size <= COPIED_AT_ONCE_MAX;
        loop {
            let copied = if by_the_store {
                self.from.copy(from, to).await
            } else {
                self.carry(from, to, size).await
            };
            match copied {
                Ok(()) => return Ok(()),
                Err(ObjectError::NotSupported { .. } | ObjectError::NotImplemented { .. })
                    if by_the_store =>
                {
                    by_the_store = false;
                }
                Err(error @ ObjectError::NotFound { .. }) => {
                    return Err(request_error(self.purpose, from, error).into());
                }
                Err(error) if tries < TRIES_MAX => {
                    tracing::debug!(%from, %error, "copying again");
                    tries += 1;
                    // What the store cannot do by itself may still be carried.
                    by_the_store &= tries < TRIES_MAX;
                }
                Err(error) => return Err(request_error(self.purpose, from, error).into()),
            }
        }
    }

    /// Reads the one and writes the other.
    async fn carry(&self, from: &Path, to: &Path, size: u64) -> object_store::Result<()> {
        let found = self.from.get(from).await?;
        if found.meta.size != size {
            return Err(other(format!(
                "`{from}` has {} bytes, expected {size}",
                found.meta.size
            )));
        }
        let mut stream = found.into_stream();
        if size <= PART_BYTES as u64 {
            let mut whole = BytesMut::with_capacity(size as usize);
            while let Some(bytes) = stream.try_next().await? {
                whole.extend_from_slice(&bytes);
            }
            if whole.len() as u64 != size {
                return Err(cut(from, whole.len() as u64, size));
            }
            return self.to.put(to, whole.freeze().into()).await.map(drop);
        }
        let mut upload = self.to.put_multipart(to).await?;
        let parts = async {
            let (mut part, mut carried) = (BytesMut::new(), 0);
            while let Some(bytes) = stream.try_next().await? {
                carried += bytes.len() as u64;
                part.extend_from_slice(&bytes);
                while part.len() >= PART_BYTES {
                    let full = part.split_to(PART_BYTES);
                    upload.put_part(full.freeze().into()).await?;
                }
            }
            if carried != size {
                return Err(cut(from, carried, size));
            }
            if !part.is_empty() {
                upload.put_part(part.freeze().into()).await?;
            }
            upload.complete().await.map(drop)
        };
        let carried = parts.await;
        if carried.is_err() {
            abort(upload.as_mut(), to).await;
        }
        carried
    }
}

async fn abort(upload: &mut dyn MultipartUpload, to: &Path) {
    if let Err(error) = upload.abort().await {
        tracing::warn!(%to, %error, "could not abort an upload");
    }
}

fn cut(from: &Path, came: u64, size: u64) -> ObjectError {
    other(format!(
        "`{from}` ended after {came} bytes, expected {size}"
    ))
}

fn other(what: String) -> ObjectError {
    ObjectError::Generic {
        store: "checkpoint",
        source: what.into(),
    }
}
