//! A cache of files on the local disk, in front of the object store.
//!
//! Each file of the store has a sparse file here, *filled by chunks* of 1 MiB and *evicted whole*. A chunk is fetched when it
//! was asked for often enough, or at once when a request covers most of it; new files are written through. A small file
//! beside each says what it is and holds a checksum per chunk, so the cache is good after a restart, and what was torn by a
//! crash is noticed and dropped. One [`FileCache`] serves all stores of a process, under one quota.
//!
//! What always holds: the cache holds at most its limit and leaves the reserve free, as far as *it* takes the room; files of
//! other jobs in the same directory count but are not touched; no file is evicted while someone reads from it. What can go
//! wrong: any error of the disk switches the cache off, with one warning. That never fails a read: the object store has
//! everything.
mod entry;
mod room;
mod sidecar;
mod space;
mod stats;
mod write_through;

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

use self::entry::{ABSENT, Entry, FILLING, PRESENT, UNCHECKED, touched};
use self::room::Room;
use self::stats::Counters;
use crate::error::{Error, Result};
use crate::io::handles::{Handles, read_at, write_all_at};

pub(crate) use self::sidecar::CHUNK_BYTES;
pub use self::space::{DiskSpace, LocalDisk};
pub use self::stats::FileCacheStats;
pub(crate) use self::write_through::WriteThrough;

/// Files kept open for reading.
const HANDLES_MAX: usize = 256;
/// Processes of one job that may share a directory.
const PROCESSES_MAX: u32 = 256;

/// Options of a file cache.
#[derive(Clone, Debug)]
pub struct FileCacheOptions {
    /// Where cached files lie; other jobs may use it too.
    pub directory: PathBuf,
    /// Names the subdirectory of this job. A job that finds what it left behind goes on with it.
    pub job: String,
    /// Most bytes that all files in `directory` may take; 0: as many as `reserve_bytes` leaves.
    pub size_limit_bytes: u64,
    /// Bytes of the disk that stay free; 0: none.
    pub reserve_bytes: u64,
    /// Reads of a chunk that is not there before it is fetched whole, and reads of a file before it counts as young again;
    /// 6 is Flink's default.
    pub access_before_promote: u32,
}

/// Names the content of one file of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CacheKey {
    pub(crate) id: u64,
    pub(crate) size_bytes: u64,
    pub(crate) checksum: u64,
}

/// What to do about a range that is not in the cache.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Miss {
    /// Fetch this range instead, and fill its chunks with it.
    pub(crate) whole: Option<Range<u64>>,
    /// Fetch these chunks some time.
    pub(crate) promote: Vec<u64>,
}

/// A cache of files on the local disk, shared by all stores of a process.
pub struct FileCache {
    options: FileCacheOptions,
    root: PathBuf,
    disk: Arc<dyn DiskSpace>,
    handles: Handles,
    room: Mutex<Room>,
    /// Held by whoever makes room, so that no more is evicted than needed.
    making_room: Mutex<()>,
    off: AtomicBool,
    counters: Counters,
    /// Says that the directory is taken as long as the process lives.
    _lock: File,
}

impl std::fmt::Debug for FileCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileCache")
            .field("root", &self.root)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

impl FileCache {
    /// Opens the cache of a job, with what an earlier process of it has left.
    pub fn open(options: FileCacheOptions, disk: Arc<dyn DiskSpace>) -> Result<Arc<Self>> {
        if options.size_limit_bytes == 0 && options.reserve_bytes == 0 {
            return Err(Error::usage(
                "a file cache needs a limit: of its size, or of the disk space that it leaves free",
            ));
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if options.job.is_empty() || options.job.len() > 128 || !options.job.chars().all(plain) {
            return Err(Error::usage(format!(
                "`{}` cannot name the directory of a job's file cache: expected up to 128 letters, digits, dashes and underscores",
                options.job
            )));
        }
        let directory = std::path::absolute(&options.directory);
        let directory = directory.map_err(|error| unusable(&options.directory, &error))?;
        let (root, lock) = claim(&directory, &options.job)
            .map_err(|error| unusable(&options.directory, &error))?;
        let room = Room::restore(&root).map_err(|error| unusable(&root, &error))?;
        let this = Self {
            handles: Handles::new(HANDLES_MAX),
            room: Mutex::new(room),
            making_room: Mutex::new(()),
            off: AtomicBool::new(false),
            counters: Counters::default(),
            options: FileCacheOptions {
                directory,
                ..options
            },
            root,
            disk,
            _lock: lock,
        };
        // The limits may have been lowered since.
        if let Err(error) = this.make_room(0) {
            this.switch_off(&error);
        }
        Ok(Arc::new(this))
    }

    /// Whether an error of the disk has switched the cache off.
    pub fn is_off(&self) -> bool {
        self.off.load(Ordering::Relaxed)
    }

    fn switch_off(&self, error: &io::Error) {
        if !self.off.swap(true, Ordering::Relaxed) {
            tracing::warn!(directory = %self.root.display(), %error, "the file cache is switched off, because its disk fails");
        }
    }

    /// Whether a range can be read from here.
    pub(crate) fn holds(&self, key: &CacheKey, range: &Range<u64>) -> bool {
        if self.is_off() {
            return false;
        }
        let Some(entry) = self.room.lock().find(key) else {
            return false;
        };
        touched(range).all(|chunk| {
            let state = entry.chunk(chunk);
            state.is_some_and(|c| c.state.load(Ordering::Acquire) >= UNCHECKED)
        })
    }

    /// Reads a range, if all of it is here. Blocks on the disk.
    pub(crate) fn read(&self, key: &CacheKey, range: &Range<u64>) -> Option<Bytes> {
        if self.is_off() {
            return None;
        }
        let entry = self.room.lock().find(key)?;
        match self.read_entry(&entry, range) {
            Ok(Some(bytes)) => {
                self.counters.hit(bytes.len() as u64);
                if entry.reads.fetch_add(1, Ordering::Relaxed) + 1
                    >= self.options.access_before_promote
                {
                    self.room.lock().make_young(&entry);
                }
                Some(bytes.into())
            }
            Ok(None) => None,
            // Somebody has removed the file, or emptied it.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof
                ) =>
            {
                self.remove(key);
                None
            }
            Err(error) => {
                self.switch_off(&error);
                None
            }
        }
    }

    fn read_entry(&self, entry: &Entry, range: &Range<u64>) -> io::Result<Option<Vec<u8>>> {
        for chunk in touched(range) {
            let Some(slot) = entry.chunk(chunk) else {
                return Ok(None);
            };
            match slot.state.load(Ordering::Acquire) {
                PRESENT => {}
                UNCHECKED if self.check(entry, chunk)? => {}
                _ => return Ok(None),
            }
        }
        let file = self.handle(entry)?;
        let length = usize::try_from(range.end.saturating_sub(range.start));
        let length = length.map_err(|_| io::ErrorKind::FileTooLarge)?;
        read_at(&file, range.start, length).map(Some)
    }

    fn handle(&self, entry: &Entry) -> io::Result<Arc<File>> {
        self.handles
            .get(entry.key.id, || Ok(entry.data_path(&self.root)))
    }

    /// Whether a chunk that an earlier process left is whole; drops it if not.
    fn check(&self, entry: &Entry, chunk: u64) -> io::Result<bool> {
        let (Some(slot), place) = (entry.chunk(chunk), entry.place(chunk)) else {
            return Ok(false);
        };
        let bytes = read_at(
            &*self.handle(entry)?,
            place.start,
            (place.end - place.start) as usize,
        )?;
        let found = sidecar::chunk_checksum(&entry.key, chunk, &bytes);
        if found == slot.checksum.load(Ordering::Relaxed) {
            let _ = slot.state.compare_exchange(
                UNCHECKED,
                PRESENT,
                Ordering::AcqRel,
                Ordering::Relaxed,
            );
            return Ok(true);
        }
        tracing::debug!(file = %format_args!("{:016x}", entry.key.id), chunk, "a chunk of the file cache is torn and dropped");
        self.drop_chunk(entry, chunk, UNCHECKED)?;
        Ok(false)
    }

    fn drop_chunk(&self, entry: &Entry, chunk: u64, state: u8) -> io::Result<()> {
        let Some(slot) = entry.chunk(chunk) else {
            return Ok(());
        };
        let dropped =
            slot.state
                .compare_exchange(state, ABSENT, Ordering::AcqRel, Ordering::Relaxed);
        if dropped.is_err() {
            return Ok(());
        }
        self.room.lock().give_back(entry, entry.chunk_bytes(chunk));
        let sidecar = OpenOptions::new()
            .write(true)
            .open(entry.sidecar_path(&self.root))?;
        write_all_at(&sidecar, &0u64.to_le_bytes(), sidecar::place(chunk))
    }

    /// What was read of a range from here was not what had been written: its chunks are dropped.
    pub(crate) fn distrust(&self, key: &CacheKey, range: &Range<u64>) {
        let Some(entry) = self.room.lock().find(key) else {
            return;
        };
        for chunk in touched(range) {
            if let Err(error) = self.drop_chunk(&entry, chunk, PRESENT) {
                self.switch_off(&error);
            }
        }
    }

    /// Counts a range that is not here, and says what to fetch.
    pub(crate) fn miss(&self, key: &CacheKey, range: &Range<u64>) -> Miss {
        self.counters.miss();
        let mut miss = Miss::default();
        if self.is_off() || range.is_empty() {
            return miss;
        }
        let Some(entry) = self.room.lock().find_or_add(key) else {
            return miss;
        };
        let covered = |chunk| {
            let place = entry.place(chunk);
            let start = place.start.max(range.start);
            place.end.min(range.end).saturating_sub(start) * 2 >= place.end - place.start
        };
        if touched(range).all(covered) {
            let start = entry.place(touched(range).start).start;
            let end = entry.place(touched(range).end.saturating_sub(1)).end;
            miss.whole = Some(start..end.max(range.end));
            return miss;
        }
        for chunk in touched(range) {
            if let Some(slot) = entry.chunk(chunk)
                && slot.state.load(Ordering::Relaxed) == ABSENT
                && slot.misses.fetch_add(1, Ordering::Relaxed) + 1
                    >= self.options.access_before_promote
            {
                miss.promote.push(chunk);
            }
        }
        miss
    }

    /// Whether a chunk is neither here nor on its way.
    pub(crate) fn lacks(&self, key: &CacheKey, chunk: u64) -> bool {
        if self.is_off() {
            return false;
        }
        let entry = self.room.lock().find(key);
        entry.is_none_or(|entry| {
            let slot = entry.chunk(chunk);
            slot.is_some_and(|slot| slot.state.load(Ordering::Relaxed) == ABSENT)
        })
    }

    /// Where a chunk of a file lies; empty if there is no such chunk.
    pub(crate) fn chunk_place(key: &CacheKey, chunk: u64) -> Range<u64> {
        let start = chunk.saturating_mul(CHUNK_BYTES).min(key.size_bytes);
        start..start.saturating_add(CHUNK_BYTES).min(key.size_bytes)
    }

    /// Puts whole chunks into the cache, which start at `offset`. Blocks on the disk.
    pub(crate) fn fill(&self, key: &CacheKey, offset: u64, bytes: &Bytes) {
        if self.is_off() {
            return;
        }
        let Some(entry) = self.room.lock().find_or_add(key) else {
            return;
        };
        let mut rest = bytes.as_ref();
        for chunk in offset / CHUNK_BYTES.. {
            let place = entry.place(chunk);
            let Some((first, others)) = rest.split_at_checked((place.end - place.start) as usize)
            else {
                return;
            };
            if first.is_empty() {
                return;
            }
            rest = others;
            if let Err(error) = self.fill_chunk(&entry, chunk, first) {
                self.switch_off(&error);
                return;
            }
        }
    }

    fn fill_chunk(&self, entry: &Arc<Entry>, chunk: u64, bytes: &[u8]) -> io::Result<()> {
        let Some(slot) = entry.chunk(chunk) else {
            return Ok(());
        };
        let begun =
            slot.state
                .compare_exchange(ABSENT, FILLING, Ordering::AcqRel, Ordering::Relaxed);
        if begun.is_err() {
            return Ok(());
        }
        let filled = self.write_chunk(entry, chunk, bytes);
        match &filled {
            Ok(Some(checksum)) => {
                slot.checksum.store(*checksum, Ordering::Relaxed);
                slot.misses.store(0, Ordering::Relaxed);
                slot.state.store(PRESENT, Ordering::Release);
                self.counters.refilled();
            }
            _ => slot.state.store(ABSENT, Ordering::Release),
        }
        filled.map(|_| ())
    }

    /// `None` if there is no room.
    fn write_chunk(&self, entry: &Arc<Entry>, chunk: u64, bytes: &[u8]) -> io::Result<Option<u64>> {
        let length = bytes.len() as u64;
        if !self.make_room(length)? {
            return Ok(None);
        }
        // Taken before it is written, so that the limit holds at any moment.
        if !self.room.lock().take(entry, length) {
            return Ok(None);
        }
        let checksum = sidecar::chunk_checksum(&entry.key, chunk, bytes);
        let write = || {
            let open = |path| {
                OpenOptions::new()
                    .create(true)
                    .truncate(false)
                    .write(true)
                    .open(path)
            };
            let data = open(entry.data_path(&self.root))?;
            write_all_at(&data, bytes, entry.place(chunk).start)?;
            let map = open(entry.sidecar_path(&self.root))?;
            let map_bytes = sidecar::place(entry.chunks.len() as u64);
            if map.metadata()?.len() != map_bytes {
                write_all_at(&map, &sidecar::header(&entry.key), 0)?;
                map.set_len(map_bytes)?;
            }
            write_all_at(&map, &checksum.to_le_bytes(), sidecar::place(chunk))
        };
        match write() {
            Ok(()) => Ok(Some(checksum)),
            Err(error) => {
                self.room.lock().give_back(entry, length);
                Err(error)
            }
        }
    }

    /// The file is not needed any more, unless the job goes back to an older checkpoint: it is evicted before others.
    pub(crate) fn demote(&self, key: &CacheKey) {
        let mut room = self.room.lock();
        if let Some(entry) = room.find(key) {
            room.make_old(&entry);
        }
    }

    /// The file is gone.
    pub(crate) fn remove(&self, key: &CacheKey) {
        let removed = self.room.lock().remove(key);
        if let Some(entry) = removed {
            self.unlink(&entry);
        }
    }

    fn unlink(&self, entry: &Entry) {
        self.handles.forget(entry.key.id);
        // The sidecar goes first: without it the rest counts as garbage.
        for path in [entry.sidecar_path(&self.root), entry.data_path(&self.root)] {
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => self.switch_off(&error),
                _ => {}
            }
        }
    }

    /// Evicts the oldest files until `bytes` more fit under both limits; false if that cannot be.
    fn make_room(&self, bytes: u64) -> io::Result<bool> {
        let _turn = self.making_room.lock();
        loop {
            let (limit, reserve) = (self.options.size_limit_bytes, self.options.reserve_bytes);
            let used = self.used_with_others();
            let over = limit > 0 && used.saturating_add(bytes) > limit;
            let short = reserve > 0
                && self.disk.free_bytes(&self.options.directory)? < reserve.saturating_add(bytes);
            if !over && !short {
                return Ok(true);
            }
            let Some(oldest) = self.room.lock().evict() else {
                return Ok(false);
            };
            self.counters.evicted();
            self.unlink(&oldest);
        }
    }

    fn used_with_others(&self) -> u64 {
        if let Some(known) = self.room.lock().used_with_others() {
            return known;
        }
        let others = space::taken_by_others(&self.options.directory, &self.root);
        self.room.lock().others_take(others)
    }

    /// What the cache has done and holds.
    pub fn stats(&self) -> FileCacheStats {
        let (used, files) = self.room.lock().used();
        let mut remaining = u64::MAX;
        if self.options.size_limit_bytes > 0 {
            let used = self.used_with_others();
            remaining = self.options.size_limit_bytes.saturating_sub(used);
        }
        if self.options.reserve_bytes > 0 {
            let free = self.disk.free_bytes(&self.options.directory).unwrap_or(0);
            remaining = remaining.min(free.saturating_sub(self.options.reserve_bytes));
        }
        let remaining = if self.is_off() { 0 } else { remaining };
        self.counters.stats(files, used, remaining)
    }
}

/// Takes the first directory of a job that no other process has: `job`, then `job.1` and so on.
fn claim(directory: &Path, job: &str) -> io::Result<(PathBuf, File)> {
    for process in 0..PROCESSES_MAX {
        let root = match process {
            0 => directory.join(job),
            _ => directory.join(format!("{job}.{process}")),
        };
        std::fs::create_dir_all(&root)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(root.join("lock"))?;
        match lock.try_lock() {
            Ok(()) => return Ok((root, lock)),
            Err(std::fs::TryLockError::WouldBlock) => {}
            Err(std::fs::TryLockError::Error(error)) => return Err(error),
        }
    }
    Err(io::Error::other(format!(
        "{PROCESSES_MAX} processes of the job have caches there already"
    )))
}

fn unusable(directory: &Path, error: &io::Error) -> Error {
    Error::usage(format!(
        "the directory `{}` cannot be used for a file cache: {error}",
        directory.display()
    ))
}

/// The chunks that a sidecar says are there; 0 if it is not one. For fuzzing.
pub(crate) fn decode_sidecar(bytes: &[u8]) -> usize {
    sidecar::decode(bytes).map_or(0, |(_, chunks)| chunks.len())
}

/// A sidecar of two chunks, for fuzzing.
pub(crate) fn sample_sidecar() -> Vec<u8> {
    let key = CacheKey {
        id: 7,
        size_bytes: CHUNK_BYTES + 1,
        checksum: 9,
    };
    let mut bytes = sidecar::header(&key).to_vec();
    bytes.extend([1; 16]);
    bytes
}

#[cfg(test)]
mod tests;
