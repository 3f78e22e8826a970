//! A directory of the local disk that is there for as long as somebody holds it.
//!
//! Its name has the process in it, and a locked file in it says that it is in use; what a process that was killed has left is removed by
//! the next one that comes by. Nothing in it is needed by a checkpoint.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::disk;
use crate::StateError;

/// The key that names the directories.
const KEY: &str = "state.backend.rocksdb.localdir";
/// What names of our directories begin with.
const PREFIX: &str = "aquifer-rocksdb-";
/// The file in it that is locked.
const LOCK: &str = "lock";
/// Names that are tried.
const NAMES_MAX: u64 = 10_000;

/// See the module.
#[derive(Debug)]
pub(super) struct LocalDirectory {
    path: PathBuf,
    /// Held for as long as the directory is.
    _lock: File,
    named: AtomicU64,
}

impl LocalDirectory {
    /// Makes one below the candidate whose turn it is, or below the next that works. `owner` tells people whose it is.
    pub(super) fn create(
        candidates: &[PathBuf],
        turn: usize,
        owner: &str,
    ) -> Result<Arc<Self>, StateError> {
        let default = [std::env::temp_dir()];
        let candidates = if candidates.is_empty() {
            &default[..]
        } else {
            candidates
        };
        let mut failures = Vec::new();
        let count = candidates.len();
        for base in candidates.iter().cycle().skip(turn % count).take(count) {
            match Self::below(base, owner) {
                Ok(directory) => return Ok(Arc::new(directory)),
                Err(error) => {
                    tracing::warn!(directory = %base.display(), %error, "a local directory of RocksDB cannot be used");
                    failures.push(format!("`{}`: {error}", base.display()));
                }
            }
        }
        Err(StateError::Usage(format!(
            "no local directory for RocksDB could be made ({KEY}): {}",
            failures.join("; ")
        )))
    }

    fn below(base: &Path, owner: &str) -> io::Result<Self> {
        fs::create_dir_all(base)?;
        remove_abandoned(base);
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
        let owner: String = owner.chars().map(plain).collect();
        let process = std::process::id();
        for number in 0..NAMES_MAX {
            let path = base.join(format!("{PREFIX}{process}-{owner}-{number}"));
            match fs::create_dir(&path) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(error),
            }
            let lock = OpenOptions::new()
                .write(true)
                .create_new(true)
                .open(path.join(LOCK))?;
            // Whoever cleans up may have been faster, and somebody else may have made the directory again.
            if is_taken(&lock, &path)? {
                return Ok(Self {
                    path,
                    _lock: lock,
                    named: AtomicU64::new(0),
                });
            }
        }
        Err(io::Error::other("there are too many directories in it"))
    }

    /// Where it is.
    #[cfg(test)]
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A path in it that was never handed out before. Nothing is there.
    pub(super) fn fresh(&self, what: &str) -> PathBuf {
        let number = self.named.fetch_add(1, Ordering::Relaxed);
        self.path.join(format!("{what}-{number:06}"))
    }

    /// A new directory in it.
    pub(super) fn fresh_directory(&self, what: &str) -> Result<PathBuf, StateError> {
        let path = self.fresh(what);
        fs::create_dir(&path).map_err(|error| disk("create", &path, error))?;
        Ok(path)
    }
}

impl Drop for LocalDirectory {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::warn!(directory = %self.path.display(), %error, "a local directory of RocksDB could not be removed");
        }
    }
}

/// Locks a directory by its open lock file; false if it is somebody else's. A lock that was had after the directory went counts for nothing:
/// names are used again, and the directory of that name may be one that is in use.
fn is_taken(lock: &File, directory: &Path) -> io::Result<bool> {
    match lock.try_lock() {
        Ok(()) => is_at(lock, &directory.join(LOCK)),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Whether an open file is the one at a path. Its number is not another's for as long as it is open.
#[cfg(unix)]
fn is_at(open: &File, path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let number = |file: fs::Metadata| (file.dev(), file.ino());
    match fs::metadata(path) {
        Ok(there) => Ok(number(there) == number(open.metadata()?)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// An open file cannot be removed, so what is at the path is the one.
#[cfg(not(unix))]
fn is_at(_open: &File, path: &Path) -> io::Result<bool> {
    path.try_exists()
}

/// Removes what processes that are gone have left. What cannot be removed stays.
fn remove_abandoned(base: &Path) {
    let Ok(entries) = fs::read_dir(base) else {
        return;
    };
    for entry in entries.flatten() {
        let ours = entry.file_name().to_string_lossy().starts_with(PREFIX);
        let path = entry.path();
        if !ours {
            continue;
        }
        // Without the file it is just being made.
        let Ok(lock) = OpenOptions::new().write(true).open(path.join(LOCK)) else {
            continue;
        };
        if is_taken(&lock, &path).is_ok_and(|taken| taken) {
            tracing::info!(directory = %path.display(), "removing a local directory of RocksDB that a process has left");
            if let Err(error) = fs::remove_dir_all(&path) {
                tracing::warn!(directory = %path.display(), %error, "it could not be removed");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(base: &Path) -> usize {
        fs::read_dir(base).unwrap().count()
    }

    #[test]
    fn directories_take_turns_and_leave_nothing() {
        let home = tempfile::tempdir().unwrap();
        let bases = [home.path().join("a"), home.path().join("b")];
        let made: Vec<_> = (0..4)
            .map(|turn| LocalDirectory::create(&bases, turn, "w/0").unwrap())
            .collect();
        assert!(made[0].path().starts_with(&bases[0]) && made[1].path().starts_with(&bases[1]));
        assert_ne!(made[0].path(), made[2].path());
        let inner = made[0].fresh_directory("db").unwrap();
        fs::write(inner.join("x"), b"x").unwrap();
        assert_ne!(made[0].fresh("db"), inner);
        assert_eq!((entries(&bases[0]), entries(&bases[1])), (2, 2));
        drop(made);
        assert_eq!((entries(&bases[0]), entries(&bases[1])), (0, 0));
    }

    #[test]
    fn what_cannot_be_written_is_named_or_passed_over() {
        let home = tempfile::tempdir().unwrap();
        let taken = home.path().join("file");
        fs::write(&taken, b"").unwrap();
        let error = LocalDirectory::create(std::slice::from_ref(&taken), 0, "w").unwrap_err();
        let text = error.to_string();
        assert!(text.contains(KEY) && text.contains("file"), "{text}");
        let other = home.path().join("other");
        let made = LocalDirectory::create(&[taken, other.clone()], 0, "w").unwrap();
        assert!(made.path().starts_with(&other));
    }

    #[test]
    fn what_a_dead_process_has_left_is_removed() {
        let home = tempfile::tempdir().unwrap();
        let left = home.path().join(format!("{PREFIX}1-w-0"));
        fs::create_dir(&left).unwrap();
        fs::write(left.join(LOCK), b"").unwrap();
        let begun = home.path().join(format!("{PREFIX}2-w-0"));
        fs::create_dir(&begun).unwrap();
        let strange = home.path().join("strange");
        fs::create_dir(&strange).unwrap();
        fs::write(strange.join(LOCK), b"").unwrap();
        let first = LocalDirectory::create(&[home.path().into()], 0, "w").unwrap();
        let second = LocalDirectory::create(&[home.path().into()], 0, "w").unwrap();
        assert!(!left.exists());
        assert!(begun.exists() && strange.exists());
        assert!(first.path().exists() && second.path().exists());
    }

    /// Somebody cleans up and has opened the lock file when the directory goes and one of the same name is made: what he locks then is a file
    /// that is nowhere any more, and he removed a directory that was in use.
    #[test]
    fn a_lock_of_what_is_gone_takes_nothing() {
        let home = tempfile::tempdir().unwrap();
        let made = || LocalDirectory::create(&[home.path().into()], 0, "w").unwrap();
        let open = |path: &Path| OpenOptions::new().write(true).open(path.join(LOCK));
        let first = made();
        let path = first.path().to_owned();
        let late = open(&path).unwrap();
        assert!(!is_taken(&late, &path).unwrap());
        drop(first);
        assert!(!is_taken(&late, &path).unwrap());
        let second = made();
        assert_eq!(second.path(), path);
        assert!(!is_taken(&late, &path).unwrap());
        // Nor does it keep anybody from what a process has left in this place.
        drop(second);
        fs::create_dir(&path).unwrap();
        fs::write(path.join(LOCK), b"").unwrap();
        assert!(is_taken(&open(&path).unwrap(), &path).unwrap());
        remove_abandoned(home.path());
        assert!(!path.exists());
    }
}
