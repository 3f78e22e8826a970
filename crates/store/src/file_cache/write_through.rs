//! A new file on its way to the object store, kept here as well.
//!
//! Its content has no name before it is finished; until then it is a part file, which a restart removes.
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use xxhash_rust::xxh3::xxh3_64;

use super::entry::{Entry, PRESENT};
use super::sidecar::{self, CHUNK_BYTES};
use super::{CacheKey, FileCache};
use crate::io::handles::write_all_at;

static PARTS: AtomicU64 = AtomicU64::new(0);

/// A file that is being written. Dropped unfinished, it leaves nothing.
pub(crate) struct WriteThrough {
    cache: Arc<FileCache>,
    path: PathBuf,
    file: File,
    bytes: u64,
    /// There was no room for all of it, or the disk has failed.
    incomplete: bool,
    adopted: bool,
}

impl WriteThrough {
    /// Begins a file; `None` if the cache is off.
    pub(crate) fn begin(cache: &Arc<FileCache>, name: &str) -> Option<Self> {
        if cache.is_off() {
            return None;
        }
        let number = PARTS.fetch_add(1, Ordering::Relaxed);
        let path = cache
            .root
            .join(format!("{:016x}-{number}.part", xxh3_64(name.as_bytes())));
        match File::create_new(&path) {
            Ok(file) => Some(Self {
                cache: cache.clone(),
                path,
                file,
                bytes: 0,
                incomplete: false,
                adopted: false,
            }),
            Err(error) => {
                cache.switch_off(&error);
                None
            }
        }
    }

    /// Adds the next bytes. Blocks on the disk.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        if self.incomplete || self.cache.is_off() {
            self.incomplete = true;
            return;
        }
        match self.try_push(bytes) {
            Ok(true) => {}
            Ok(false) => self.incomplete = true,
            Err(error) => {
                self.cache.switch_off(&error);
                self.incomplete = true;
            }
        }
    }

    fn try_push(&mut self, bytes: &[u8]) -> io::Result<bool> {
        let length = bytes.len() as u64;
        if !self.cache.make_room(length)? {
            return Ok(false);
        }
        self.cache.room.lock().take_unnamed(length);
        let at = self.bytes;
        self.bytes += length;
        write_all_at(&self.file, bytes, at)?;
        Ok(true)
    }

    /// The file is durable, and this is its name. Blocks on the disk.
    pub(crate) fn adopt(mut self, key: &CacheKey) {
        if self.incomplete || self.bytes != key.size_bytes {
            return;
        }
        if let Err(error) = self.try_adopt(key) {
            self.cache.switch_off(&error);
        }
    }

    fn try_adopt(&mut self, key: &CacheKey) -> io::Result<()> {
        let Some(entry) = Entry::new(*key, 0) else {
            return Ok(());
        };
        // The bytes are in the page cache still; reading them again spares the writer from cutting them into chunks.
        let file = File::open(&self.path)?;
        let mut map = sidecar::header(key).to_vec();
        for chunk in 0..entry.chunks.len() as u64 {
            let place = entry.place(chunk);
            let length = (place.end - place.start).min(CHUNK_BYTES) as usize;
            let bytes = crate::io::handles::read_at(&file, place.start, length)?;
            let checksum = sidecar::chunk_checksum(key, chunk, &bytes);
            map.extend_from_slice(&checksum.to_le_bytes());
            entry.set(chunk, PRESENT, checksum);
        }
        let root = &self.cache.root;
        let (data_path, sidecar_path) = (entry.data_path(root), entry.sidecar_path(root));
        std::fs::rename(&self.path, &data_path)?;
        if let Err(error) = std::fs::write(sidecar_path, map) {
            // A restart would remove it too, but the disk may need the room now.
            let _ = std::fs::remove_file(data_path);
            return Err(error);
        }
        self.adopted = self.cache.room.lock().adopt(entry);
        Ok(())
    }
}

impl Drop for WriteThrough {
    fn drop(&mut self) {
        if !self.adopted {
            self.cache.room.lock().give_back_unnamed(self.bytes);
            match std::fs::remove_file(&self.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    self.cache.switch_off(&error);
                }
                _ => {}
            }
        }
    }
}
