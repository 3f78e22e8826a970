//! How much room there is on the disk.
use std::io;
use std::path::Path;

/// Asks how many bytes are free where a directory lies.
pub trait DiskSpace: Send + Sync {
    /// Free bytes on the disk of `directory`.
    fn free_bytes(&self, directory: &Path) -> io::Result<u64>;
}

/// The disks of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct LocalDisk;

impl DiskSpace for LocalDisk {
    #[cfg(unix)]
    fn free_bytes(&self, directory: &Path) -> io::Result<u64> {
        let disk = rustix::fs::statvfs(directory)?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    #[cfg(not(unix))]
    fn free_bytes(&self, _: &Path) -> io::Result<u64> {
        Err(io::Error::from(io::ErrorKind::Unsupported))
    }
}

/// Bytes that a file takes on the disk; holes do not count.
#[cfg(unix)]
fn taken_bytes(file: &std::fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::blocks(file).saturating_mul(512)
}

#[cfg(not(unix))]
fn taken_bytes(file: &std::fs::Metadata) -> u64 {
    file.len()
}

/// Bytes that the files in the subdirectories of `directory` take, all but those of `ours`. What cannot be looked at, because
/// its owner is just removing it, counts nothing.
pub(super) fn taken_by_others(directory: &Path, ours: &Path) -> u64 {
    let entries = |directory: &Path| {
        let entries = std::fs::read_dir(directory).into_iter().flatten();
        entries.flatten().map(|entry| entry.path())
    };
    entries(directory)
        .filter(|path| path != ours)
        .flat_map(|path| entries(&path).collect::<Vec<_>>())
        .filter_map(|path| std::fs::symlink_metadata(path).ok())
        .filter(|file| file.is_file())
        .map(|file| taken_bytes(&file))
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_count_and_we_do_not() {
        let dir = tempfile::tempdir().unwrap();
        for job in ["a", "b", "c"] {
            std::fs::create_dir(dir.path().join(job)).unwrap();
            std::fs::write(dir.path().join(job).join("x"), vec![1; 1 << 20]).unwrap();
        }
        let taken = taken_by_others(dir.path(), &dir.path().join("b"));
        assert!((2 << 20..3 << 20).contains(&taken), "{taken}");
        assert!(LocalDisk.free_bytes(dir.path()).unwrap() > 0);
        assert!(LocalDisk.free_bytes(&dir.path().join("none")).is_err());
    }
}
