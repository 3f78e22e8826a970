//! The local disk of the simulated machine: a real directory for the file cache, whose files rot, whose room ends and which stops
//! working when an operation says so.
//!
//! The cache reads and writes on threads of the runtime, so cases with a disk keep their checks but not the order of their
//! requests: they are left out where two runs are compared.
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use aquifer_store::{DiskSpace, FileCache, FileCacheOptions};
use aquifer_testkit::{FaultKind, Rng};
use tempfile::TempDir;

const PLENTY: u64 = 1 << 40;

pub struct Disk {
    directory: TempDir,
    space: Arc<Space>,
}

struct Space {
    free_bytes: AtomicU64,
    fails: AtomicBool,
}

impl DiskSpace for Space {
    fn free_bytes(&self, _: &Path) -> io::Result<u64> {
        if self.fails.load(Ordering::Relaxed) {
            return Err(io::Error::other("injected: the disk does not answer"));
        }
        Ok(self.free_bytes.load(Ordering::Relaxed))
    }
}

impl Disk {
    pub fn new() -> Self {
        Self {
            directory: tempfile::tempdir().expect("a directory"),
            space: Arc::new(Space {
                free_bytes: AtomicU64::new(PLENTY),
                fails: AtomicBool::new(false),
            }),
        }
    }

    /// The cache as a new process finds it; none if the disk does not even allow that.
    pub fn open(&self) -> Option<Arc<FileCache>> {
        let options = FileCacheOptions {
            directory: self.directory.path().to_owned(),
            job: "job".into(),
            size_limit_bytes: 4 << 20,
            reserve_bytes: 1 << 20,
            access_before_promote: 1,
        };
        FileCache::open(options, self.space.clone()).ok()
    }

    /// Something happens to the disk.
    pub fn strike(&self, kind: u8, pick: u32, at: u32) -> Option<FaultKind> {
        let mut random = Rng::new(u64::from(at));
        let mut files = Vec::new();
        gather(self.directory.path(), &mut files);
        files.sort();
        let file = files.get(pick as usize % files.len().max(1));
        match (kind % 7, file) {
            (0, _) => {
                self.space.free_bytes.store(0, Ordering::Relaxed);
                Some(FaultKind::DiskFull)
            }
            (1, _) => {
                self.space.free_bytes.store(PLENTY, Ordering::Relaxed);
                self.space.fails.store(false, Ordering::Relaxed);
                None
            }
            (2, _) => {
                self.space.fails.store(true, Ordering::Relaxed);
                Some(FaultKind::DiskError)
            }
            // Where a file was, there is something that cannot be read or written.
            (3, Some(file)) => {
                fs::remove_file(file).ok()?;
                fs::create_dir(file).ok()?;
                Some(FaultKind::DiskError)
            }
            (_, Some(file)) => {
                let mut bytes = fs::read(file).ok()?;
                if random.chance(300) || bytes.is_empty() {
                    bytes.truncate(random.below(bytes.len() as u64 + 1) as usize);
                } else {
                    // Small files are the sidecars; of the others only the start has content.
                    let reach = bytes.len().min(8 << 10) as u64;
                    for _ in 0..=random.below(3) {
                        bytes[random.below(reach) as usize] ^= 1 << random.below(8);
                    }
                }
                fs::write(file, bytes).ok()?;
                Some(FaultKind::TornCacheFile)
            }
            _ => None,
        }
    }
}

fn gather(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            gather(&path, files);
        } else {
            files.push(path);
        }
    }
}
