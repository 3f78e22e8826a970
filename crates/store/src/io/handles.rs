//! A bounded number of files of the local disk that are kept open for reading.
//!
//! Opening a file takes longer than reading a block of it. The least used handle is closed when there are too many; who
//! is reading from it keeps it open until done.
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use quick_cache::sync::Cache;

/// Names an open file; the same number always means the same content.
pub(crate) type HandleId = u64;

pub(crate) struct Handles {
    open: Cache<HandleId, Arc<File>>,
}

impl Handles {
    /// Keeps at most about `most` files open.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            open: Cache::new(most),
        }
    }

    /// The open file `id`, opened at `path` if it is not.
    pub(crate) fn get(
        &self,
        id: HandleId,
        path: impl FnOnce() -> io::Result<std::path::PathBuf>,
    ) -> io::Result<Arc<File>> {
        if let Some(file) = self.open.get(&id) {
            return Ok(file);
        }
        let file = Arc::new(open(&path()?)?);
        self.open.insert(id, file.clone());
        Ok(file)
    }

    /// The open file `id`, opened at `path` if it is not and that takes no waiting.
    pub(crate) fn get_at_once(
        &self,
        id: HandleId,
        path: impl FnOnce() -> Option<std::path::PathBuf>,
    ) -> Option<Arc<File>> {
        if let Some(file) = self.open.get(&id) {
            return Some(file);
        }
        let file = Arc::new(open_at_once(&path()?)?);
        self.open.insert(id, file.clone());
        Some(file)
    }

    /// Whether the file is open.
    pub(crate) fn has(&self, id: HandleId) -> bool {
        self.open.peek(&id).is_some()
    }

    pub(crate) fn forget(&self, id: HandleId) {
        self.open.remove(&id);
    }
}

fn open(path: &Path) -> io::Result<File> {
    let file = File::open(path)?;
    if file.metadata()?.is_dir() {
        return Err(io::Error::from(io::ErrorKind::IsADirectory));
    }
    Ok(file)
}

/// Opens a file if the system knows where it lies without asking the disk.
#[cfg(target_os = "linux")]
fn open_at_once(path: &Path) -> Option<File> {
    use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = openat2(CWD, path, flags, Mode::empty(), ResolveFlags::CACHED).ok()?;
    let file = File::from(file);
    file.metadata().ok()?.is_file().then_some(file)
}

#[cfg(not(target_os = "linux"))]
fn open_at_once(_: &Path) -> Option<File> {
    None
}

/// Reads `length` bytes from `offset` on.
pub(crate) fn read_at(file: &File, offset: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    read_exact_at(file, &mut bytes, offset)?;
    Ok(bytes)
}

/// Fills `bytes` from `offset` on if the system has all of it in memory. If not, or where systems do not say so: false.
#[cfg(target_os = "linux")]
pub(crate) fn read_at_once(file: &File, bytes: &mut [u8], offset: u64) -> bool {
    use rustix::io::{ReadWriteFlags, preadv2};
    let length = bytes.len();
    let into = &mut [io::IoSliceMut::new(bytes)];
    preadv2(file, into, offset, ReadWriteFlags::NOWAIT).is_ok_and(|read| read == length)
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn read_at_once(_: &File, _: &mut [u8], _: u64) -> bool {
    false
}

/// Writes all of `bytes` from `offset` on.
#[cfg(unix)]
pub(crate) fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

/// Writes all of `bytes` from `offset` on.
#[cfg(windows)]
pub(crate) fn write_all_at(file: &File, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match std::os::windows::fs::FileExt::seek_write(file, bytes, offset) {
            Ok(0) => return Err(io::Error::from(io::ErrorKind::WriteZero)),
            Ok(written) => {
                bytes = bytes.get(written..).unwrap_or_default();
                offset += written as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(unix)]
fn read_exact_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, offset)
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut bytes: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, bytes, offset) {
            Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
            Ok(read) => {
                bytes = bytes.get_mut(read..).unwrap_or_default();
                offset += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_files_stay_open_and_each_answers_for_itself() {
        let dir = tempfile::tempdir().unwrap();
        let handles = Handles::new(4);
        let path = |i: u8| dir.path().join(format!("{i}"));
        for i in 0..50 {
            std::fs::write(path(i), [i; 16]).unwrap();
        }
        for i in (0..50).chain(0..50) {
            let file = handles.get(u64::from(i), || Ok(path(i))).unwrap();
            assert_eq!(read_at(&file, 4, 3).unwrap(), [i; 3]);
            assert!(handles.open.len() <= 4, "{} are open", handles.open.len());
        }
        let file = handles.get(0, || Ok(path(0))).unwrap();
        let error = read_at(&file, 10, 7).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        handles.forget(0);
        std::fs::remove_file(path(0)).unwrap();
        let error = handles.get(0, || Ok(path(0))).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        let error = handles.get(99, || Ok(dir.path().into())).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::IsADirectory);
    }
}
