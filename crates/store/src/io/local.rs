//! Files of the store that are files of the local disk: read where they lie, without the object store's client.
//!
//! Where a file lies is said by [`LocalPaths`], once, when it is opened: its content is known by a name of its own and never changes,
//! so a handle stays good when the file is moved. Reads are positioned, so threads share one handle.
use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use object_store::path::Path;

use super::handles::{HandleId, Handles, read_at, read_at_once};
use super::meter::Meter;
use crate::error::{Error, ErrorKind, Result};
use crate::options::LocalPaths;

const HANDLES_MAX: usize = 512;
/// Longest piece that is worth copying on the thread of the caller.
const AT_ONCE_BYTES_MAX: usize = 256 << 10;

pub(crate) struct LocalFiles {
    paths: LocalPaths,
    handles: Handles,
    meter: Arc<Meter>,
}

impl LocalFiles {
    pub(crate) fn new(paths: LocalPaths, meter: Arc<Meter>) -> Self {
        Self {
            paths,
            meter,
            handles: Handles::new(HANDLES_MAX),
        }
    }

    /// Whether all files are local.
    pub(crate) fn all(&self) -> bool {
        self.paths.all
    }

    /// Whether a path leads to the local disk.
    pub(crate) fn finds(&self, path: &Path) -> bool {
        self.paths.all || (self.paths.locate)(path).is_some()
    }

    /// Whether a file is local.
    pub(crate) fn has(&self, path: &Path, id: HandleId) -> bool {
        self.paths.all || self.handles.has(id) || (self.paths.locate)(path).is_some()
    }

    /// Blocks until the bytes are there.
    pub(crate) fn read(&self, path: &Path, id: HandleId, range: Range<u64>) -> Result<Bytes> {
        let length = range.end.saturating_sub(range.start);
        let read = || {
            let locate = || (self.paths.locate)(path).ok_or(io::ErrorKind::NotFound.into());
            let file = self.handles.get(id, locate)?;
            let length = usize::try_from(length).map_err(|_| io::ErrorKind::FileTooLarge)?;
            read_at(&file, range.start, length)
        };
        match read() {
            Ok(bytes) => {
                self.meter.local_read(length);
                Ok(bytes.into())
            }
            Err(error) => {
                self.handles.forget(id);
                Err(failed(path, &range, error))
            }
        }
    }

    /// Reads into `scratch` what is in the system's memory; `None` if that is not all, or the file cannot be opened without waiting.
    pub(crate) fn read_at_once<'b>(
        &self,
        path: &Path,
        id: HandleId,
        range: &Range<u64>,
        scratch: &'b mut Vec<u8>,
    ) -> Option<&'b [u8]> {
        let length = usize::try_from(range.end.checked_sub(range.start)?).ok()?;
        if length > AT_ONCE_BYTES_MAX {
            return None;
        }
        let file = self.handles.get_at_once(id, || (self.paths.locate)(path))?;
        if scratch.len() < length {
            scratch.resize(length, 0);
        }
        let bytes = scratch.get_mut(..length)?;
        if !read_at_once(&file, bytes, range.start) {
            return None;
        }
        self.meter.local_read(length as u64);
        Some(bytes)
    }

    pub(crate) fn forget(&self, id: HandleId) {
        self.handles.forget(id);
    }
}

fn failed(path: &Path, range: &Range<u64>, error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::NotFound => Error {
            kind: ErrorKind::Missing,
            message: format!("could not read {path}: there is no such file"),
            source: Some(Arc::new(error)),
        },
        io::ErrorKind::UnexpectedEof => Error::corrupt(format!(
            "{path} is damaged: it ends before byte {}, which was asked for",
            range.end
        )),
        _ => Error {
            kind: ErrorKind::Retry,
            message: format!("could not read {path}: {error}"),
            source: Some(Arc::new(error)),
        },
    }
}

#[cfg(test)]
mod tests {
    use object_store::ObjectStoreExt;
    use object_store::local::LocalFileSystem;

    use super::*;

    #[tokio::test]
    async fn finds_what_the_object_store_wrote_and_says_what_is_wrong() {
        let dir = tempfile::tempdir().unwrap();
        let objects = LocalFileSystem::new_with_prefix(dir.path()).unwrap();
        let local = LocalFiles::new(LocalPaths::below(dir.path().into()), Arc::default());
        for (id, name) in ["a/b.sst", "a b/c+d/%25 e/ä.sst", "job#1/x"]
            .into_iter()
            .enumerate()
        {
            let path = Path::from(name);
            objects.put(&path, "0123456789".into()).await.unwrap();
            let mut scratch = Vec::new();
            let none = local.read_at_once(&Path::from("none"), 9, &(3..7), &mut scratch);
            assert_eq!(none, None);
            let bytes = local.read(&path, id as u64, 3..7).unwrap();
            assert_eq!(&bytes[..], b"3456", "{path}");
            if let Some(bytes) = local.read_at_once(&path, id as u64, &(4..8), &mut scratch) {
                assert_eq!(bytes, b"4567", "{path}");
            }
            let past_the_end = local.read_at_once(&path, id as u64, &(8..12), &mut scratch);
            assert_eq!(past_the_end, None);
        }
        let path = Path::from("a/b.sst");
        let error = local.read(&path, 0, 3..11).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Corrupt);
        let error = local.read(&"a/none".into(), 7, 0..1).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Missing);
        let error = local.read(&"a".into(), 8, 0..1).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Retry);
    }
}
