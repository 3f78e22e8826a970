//! Files between the local disk and the object store.
//!
//! Files are carried in parts, so that memory is bounded by parts times transfers; the disk is read and written on threads that may
//! block. What is downloaded has to have the length and the checksum that the checkpoint says.

use std::fs::{File, OpenOptions};
use std::future::Future;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aquifer_store::objects::request_error;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use object_store::path::Path;
use object_store::{Error as ObjectError, ObjectStore, ObjectStoreExt};
use tokio::runtime::Handle;
use xxhash_rust::xxh3::Xxh3;

use super::disk;
use crate::{DbFile, StateError};

/// Bytes of a part.
const PART_BYTES: u64 = 8 << 20;
/// Tries of a request.
const TRIES_MAX: usize = 4;

/// See the module.
#[derive(Clone)]
pub(super) struct Transfers {
    pub(super) objects: Arc<dyn ObjectStore>,
    pub(super) runtime: Handle,
    /// Set when nobody needs it any more.
    pub(super) cancelled: Arc<AtomicBool>,
}

impl Transfers {
    pub(super) fn new(objects: Arc<dyn ObjectStore>, runtime: Handle) -> Self {
        Self {
            objects,
            runtime,
            cancelled: Arc::default(),
        }
    }

    /// Runs all of these, so many at once, and returns their outcomes. One that fails stops the others soon; none is left behind.
    pub(super) async fn all<T>(
        &self,
        at_once: usize,
        transfers: impl Iterator<Item = impl Future<Output = Result<T, StateError>>>,
    ) -> Result<Vec<T>, StateError> {
        let outcomes: Vec<Result<T, StateError>> = stream::iter(transfers)
            .buffer_unordered(at_once.max(1))
            .inspect(|outcome| {
                if outcome.is_err() {
                    self.cancelled.store(true, Ordering::Relaxed);
                }
            })
            .collect()
            .await;
        // The first that failed did so for a reason of its own, the later ones because of it.
        outcomes.into_iter().collect()
    }

    fn check_cancelled(&self) -> Result<(), StateError> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(StateError::Usage(
                "the transfer of files was cancelled".into(),
            ));
        }
        Ok(())
    }

    /// Runs what may block.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, StateError> + Send + 'static,
    ) -> Result<T, StateError> {
        let done = self.runtime.spawn_blocking(work).await;
        done.map_err(|_| StateError::runtime_gone("a transfer of files"))?
    }

    /// Uploads a file that does not change. Returns its length and its checksum.
    pub(super) async fn upload(&self, file: PathBuf, to: &Path) -> Result<(u64, u64), StateError> {
        let source = file.clone();
        let length = move || {
            Ok(source
                .metadata()
                .map_err(|e| disk("look at", &source, e))?
                .len())
        };
        let length = self.blocking(length).await?;
        let mut tries = 1;
        loop {
            self.check_cancelled()?;
            match self.try_upload(&file, length, to).await {
                Ok(checksum) => return Ok((length, checksum)),
                Err(UploadError::Local(error)) => return Err(error),
                Err(UploadError::Remote(error)) if tries < TRIES_MAX => {
                    tracing::debug!(%to, %error, "uploading again");
                    tries += 1;
                }
                Err(UploadError::Remote(error)) => {
                    return Err(request_error("upload a file of RocksDB as", to, error).into());
                }
            }
        }
    }

    async fn try_upload(
        &self,
        file: &FilePath,
        length: u64,
        to: &Path,
    ) -> Result<u64, UploadError> {
        let mut hash = Xxh3::new();
        if length <= PART_BYTES {
            let whole = self.part(file, 0, length).await?;
            hash.update(&whole);
            self.objects.put(to, whole.into()).await?;
            return Ok(hash.digest());
        }
        let mut upload = self.objects.put_multipart(to).await?;
        let parts = async {
            let mut at = 0;
            while at < length {
                self.check_cancelled()?;
                let part = self.part(file, at, PART_BYTES.min(length - at)).await?;
                at += part.len() as u64;
                hash.update(&part);
                upload.put_part(part.into()).await?;
            }
            upload.complete().await?;
            Ok(hash.digest())
        };
        let outcome = parts.await;
        if outcome.is_err()
            && let Err(error) = upload.abort().await
        {
            tracing::warn!(%to, %error, "could not abort an upload");
        }
        outcome
    }

    /// Bytes of a file.
    async fn part(&self, file: &FilePath, from: u64, length: u64) -> Result<Bytes, StateError> {
        let file = file.to_owned();
        let read = move || {
            let read = || {
                let mut part = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
                let mut open = File::open(&file)?;
                open.seek(SeekFrom::Start(from))?;
                open.read_exact(&mut part)?;
                Ok(part)
            };
            read().map(Bytes::from).map_err(|e| disk("read", &file, e))
        };
        self.blocking(read).await
    }

    /// Downloads a file into a path at which nothing is.
    pub(super) async fn download(&self, file: &DbFile, into: PathBuf) -> Result<(), StateError> {
        let from = Path::parse(&file.path).map_err(|error| {
            StateError::Corrupt(format!("`{}` is not a path of a file: {error}", file.path))
        })?;
        let mut hash = Xxh3::new();
        let mut at = 0;
        while at < file.size_bytes || at == 0 {
            self.check_cancelled()?;
            let end = file.size_bytes.min(at.saturating_add(PART_BYTES));
            let part = self.range(&from, at, end).await?;
            if part.len() as u64 != end - at {
                return Err(StateError::Corrupt(format!(
                    "`{from}` has {} bytes from byte {at} on, expected {}",
                    part.len(),
                    end - at
                )));
            }
            hash.update(&part);
            let path = into.clone();
            let append = move || {
                let open = OpenOptions::new().create(true).append(true).open(&path);
                let written = open.and_then(|mut open| open.write_all(&part));
                written.map_err(|error| disk("write", &path, error))
            };
            self.blocking(append).await?;
            at = end;
            if end == 0 {
                break;
            }
        }
        let computed = hash.digest();
        if computed != file.checksum {
            return Err(StateError::Corrupt(format!(
                "`{from}` has the checksum {computed:016x}, expected {:016x}",
                file.checksum
            )));
        }
        Ok(())
    }

    async fn range(&self, from: &Path, start: u64, end: u64) -> Result<Bytes, StateError> {
        if start == end {
            return Ok(Bytes::new());
        }
        let mut tries = 1;
        loop {
            match self.objects.get_range(from, start..end).await {
                Ok(bytes) => return Ok(bytes),
                Err(error)
                    if tries < TRIES_MAX && !matches!(error, ObjectError::NotFound { .. }) =>
                {
                    tracing::debug!(%from, %error, "downloading again");
                    tries += 1;
                }
                Err(error) => {
                    return Err(
                        request_error("download a file of RocksDB from", from, error).into(),
                    );
                }
            }
        }
    }
}

/// Why an upload did not work.
enum UploadError {
    /// Something here: another try would not help.
    Local(StateError),
    Remote(ObjectError),
}

impl From<StateError> for UploadError {
    fn from(error: StateError) -> Self {
        Self::Local(error)
    }
}

impl From<ObjectError> for UploadError {
    fn from(error: ObjectError) -> Self {
        Self::Remote(error)
    }
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;

    fn file(path: &str, size_bytes: u64, checksum: u64) -> DbFile {
        DbFile {
            name: "1.sst".into(),
            path: path.into(),
            size_bytes,
            checksum,
            shared: true,
        }
    }

    #[test]
    fn files_come_back_and_damage_is_noticed() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let home = tempfile::tempdir().unwrap();
        let objects = Arc::new(InMemory::new());
        let transfers = Transfers::new(objects.clone(), runtime.handle().clone());
        for (n, length) in [0, 1, PART_BYTES, PART_BYTES + 1, 2 * PART_BYTES + 77]
            .into_iter()
            .enumerate()
        {
            let bytes: Vec<u8> = (0..length).map(|i| (i % 251) as u8).collect();
            let source = home.path().join(format!("from-{n}"));
            std::fs::write(&source, &bytes).unwrap();
            let name = format!("s/{n}.sst");
            let to = Path::from(name.as_str());
            let into = |what: &str| home.path().join(format!("{what}-{n}"));
            runtime.block_on(async {
                let (size, checksum) = transfers.upload(source, &to).await.unwrap();
                assert_eq!(size, length);
                let good = file(&name, size, checksum);
                transfers.download(&good, into("to")).await.unwrap();
                assert!(std::fs::read(into("to")).unwrap() == bytes);
                for (what, wrong) in [
                    ("checksum", file(&name, size, checksum ^ 1)),
                    ("longer", file(&name, size + 1, checksum)),
                    ("gone", file("s/none.sst", size, checksum)),
                ] {
                    let found = transfers.download(&wrong, into(what)).await;
                    // Of a file without bytes nothing is asked for.
                    assert!(
                        found.is_err() || (what == "gone" && size == 0),
                        "{what} {size}"
                    );
                }
            });
        }
        transfers.cancelled.store(true, Ordering::Relaxed);
        let source = home.path().join("from-1");
        let stopped = runtime.block_on(transfers.upload(source, &Path::from("s/x")));
        assert!(stopped.is_err());
    }
}
