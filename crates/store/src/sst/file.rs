//! The handle of a file that versions and readers share: what is in memory of it, and who may delete it.
//!
//! Filter and index are asked on every read. They are *pinned* in the handle, each in one piece, while all pinned bytes take
//! no more than the cache allows; then a read needs no cache look-up for them. What does not fit is *paged*: pages of the
//! filter and partitions of the index lie in the cache one by one. A file that this store has just written is pinned if
//! there is room; a restored one is paged until a quarter of its pages have been asked for.
//!
//! A file this store made is deleted by the store only if no checkpoint ever named it: it was born and compacted away
//! between two checkpoints. The deletion waits until the last reader has let go. Everything else belongs to the job.
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use object_store::path::Path;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::filter::{Filter, FilterShape};
use super::footer::{FOOTER_BYTES, FileEnd};
use super::index::{IndexBlock, Place};
use super::part::{Part, PartKind, PartPlace};
use super::properties::Tally;
use super::ranges::RangeTombstones;
use crate::cache::{BlockCache, Pin};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::planted::{self, Bug};
use crate::{FileRef, TableId};

/// The end of a distant file is read together with all index partitions if both take no more than this.
const END_WITH_INDEX_BYTES_MAX: u64 = 256 << 10;
/// A filter up to this size is read as a whole.
const FILTER_WHOLE_BYTES_MAX: u64 = 64 << 10;
/// A restored file is pinned when one part in so many of its pages has been asked for.
const PIN_SHARE: u32 = 4;

/// Identity of a file's content: a hash of its seed and checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct FileId(pub(crate) u64);

static NO_RANGES: RangeTombstones = RangeTombstones::new();

/// One immutable file. Dereferences to what checkpoints say of it; of that, the level has no meaning here, and the clip is the one
/// it was made or restored with.
pub(crate) struct SstFile {
    pub(super) filter: OnceLock<(Filter, Pin)>,
    pub(super) end: OnceLock<(FileEnd, Pin)>,
    pub(super) index: OnceLock<(Arc<[IndexBlock]>, Pin)>,
    id: FileId,
    pub(crate) filter_shape: FilterShape,
    data_bytes: u64,
    about: FileRef,
    path: Path,
    context: Arc<Context>,
    /// Filter pages and index partitions that were loaded one by one.
    pages_loaded: AtomicU32,
    pinning: AtomicBool,
    /// This store made the file and no checkpoint has named it yet.
    unnamed: AtomicBool,
    obsolete: AtomicBool,
}

impl Deref for SstFile {
    type Target = FileRef;
    #[inline]
    fn deref(&self) -> &FileRef {
        &self.about
    }
}

impl SstFile {
    /// The handle of a file that a checkpoint names.
    pub(crate) fn restored(context: &Arc<Context>, file: &FileRef) -> Result<Arc<Self>> {
        let path = check(file)?;
        Ok(Arc::new(Self::new(context, path, file.clone(), false)))
    }

    /// The handle of a file that another process wrote for this store.
    pub(crate) fn adopted(context: &Arc<Context>, file: &FileRef) -> Result<Arc<Self>> {
        let path = check(file)?;
        Ok(Arc::new(Self::new(context, path, file.clone(), true)))
    }

    /// The handle of a file that this store has just written.
    pub(crate) fn written(context: &Arc<Context>, path: Path, file: FileRef) -> Arc<Self> {
        Arc::new(Self::new(context, path, file, true))
    }

    fn new(context: &Arc<Context>, path: Path, about: FileRef, unnamed: bool) -> Self {
        let rest = [about.filter_bytes, about.index_bytes, about.end_bytes];
        let rest: u64 = rest.into_iter().map(u64::from).sum();
        let id = FileId(xxh3_64_with_seed(&about.checksum.to_le_bytes(), about.seed));
        Self {
            filter: OnceLock::new(),
            end: OnceLock::new(),
            index: OnceLock::new(),
            id,
            filter_shape: FilterShape::new(about.filter_bytes).unwrap_or_default(),
            data_bytes: about.size_bytes.saturating_sub(rest),
            about,
            path,
            context: context.clone(),
            pages_loaded: AtomicU32::new(0),
            pinning: AtomicBool::new(false),
            unnamed: AtomicBool::new(unnamed),
            obsolete: AtomicBool::new(false),
        }
    }

    #[inline]
    pub(crate) fn id(&self) -> FileId {
        self.id
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn cache(&self) -> &Arc<BlockCache> {
        &self.context.env.block_cache
    }

    /// Bytes of data and value blocks, which come first in the file.
    #[inline]
    pub(crate) fn data_bytes(&self) -> u64 {
        self.data_bytes
    }

    pub(crate) fn index_start(&self) -> u64 {
        self.end_start() - u64::from(self.about.index_bytes)
    }

    pub(crate) fn end_start(&self) -> u64 {
        self.about.size_bytes - u64::from(self.about.end_bytes)
    }

    /// The range tombstones; `None` if they are not in memory: then [`Self::end_part`] is missing.
    #[inline]
    pub(crate) fn range_tombstones(&self) -> Option<&RangeTombstones> {
        match self.about.range_tombstones {
            0 => Some(&NO_RANGES),
            _ => self.end.get().map(|(end, _)| &end.ranges),
        }
    }

    /// Whether the filter is known to have the prefixes of a table's rows, in this shape.
    pub(crate) fn has_prefixes(&self, table: TableId, shape: u64) -> bool {
        let end = self.end.get();
        end.is_some_and(|(end, _)| end.properties.has_prefixes(table.0, shape))
    }

    /// The tables that have rows in the file, with how many; `None` if that is not in memory.
    pub(crate) fn tables(&self) -> Option<&[(u16, Tally)]> {
        Some(&self.end.get()?.0.properties.tables)
    }

    /// What to read to have the end of the file in memory.
    pub(crate) fn end_part(&self) -> PartPlace {
        let end = u64::from(self.about.end_bytes);
        let with_index = end + u64::from(self.about.index_bytes);
        // Another read of a local file costs less than partitions that nobody asks for.
        let together = with_index <= END_WITH_INDEX_BYTES_MAX && !self.context.files.are_local();
        let bytes = if together { with_index } else { end };
        PartPlace {
            place: Place {
                offset: self.about.size_bytes - bytes,
                bytes: bytes as u32,
            },
            kind: PartKind::End,
        }
    }

    /// What to read to have the filter's word on a hash.
    pub(super) fn filter_part(&self, hash: u64) -> PartPlace {
        if u64::from(self.about.filter_bytes) <= FILTER_WHOLE_BYTES_MAX {
            return self.whole_filter_part();
        }
        let range = self
            .filter_shape
            .page_range(self.filter_shape.page_of(hash));
        PartPlace {
            place: Place {
                offset: self.data_bytes() + range.start,
                bytes: (range.end - range.start) as u32,
            },
            kind: PartKind::FilterPage,
        }
    }

    pub(super) fn whole_filter_part(&self) -> PartPlace {
        PartPlace {
            place: Place {
                offset: self.data_bytes(),
                bytes: self.about.filter_bytes,
            },
            kind: PartKind::Filter,
        }
    }

    /// Keeps the end in the handle.
    pub(super) fn keep_end(&self, end: FileEnd) {
        if self.end.get().is_none() {
            // There is no reading without it, so it is kept even when pinned bytes are many. It is small.
            let pin = self.cache().pin_at_any_rate(end.bytes() as u64);
            drop(self.end.set((end, pin)));
        }
    }

    /// Pins the filter if there is room; if not, returns it in pages.
    pub(super) fn keep_filter(&self, filter: Filter) -> Vec<(u64, Part)> {
        if self.filter.get().is_some() || self.filter_shape.is_empty() {
            return Vec::new();
        }
        if let Some(pin) = self.cache().pin(filter.bytes() as u64) {
            drop(self.filter.set((filter, pin)));
            return Vec::new();
        }
        let place = |page| self.data_bytes() + self.filter_shape.page_range(page).start;
        let pages = (0..).zip(filter.pages());
        let pages = pages.map(|(page, lines)| (place(page), Part::Filter(Arc::new(lines))));
        pages.collect()
    }

    /// Pins the index if there is room; if not, returns it in partitions.
    pub(super) fn keep_index(&self, partitions: Vec<IndexBlock>) -> Vec<(u64, Part)> {
        let bytes: usize = partitions.iter().map(IndexBlock::bytes).sum();
        if self.index.get().is_some() {
            return Vec::new();
        }
        if let Some(pin) = self.cache().pin(bytes as u64) {
            drop(self.index.set((partitions.into(), pin)));
            return Vec::new();
        }
        let Some((end, _)) = self.end.get() else {
            return Vec::new();
        };
        let parts = partitions
            .into_iter()
            .enumerate()
            .filter_map(|(i, partition)| {
                let place = end.directory.place(i)?;
                Some((place.offset, Part::Partition(Arc::new(partition))))
            });
        parts.collect()
    }

    /// Pins all partitions if there is room.
    pub(super) fn pin_index(&self, index: Arc<[IndexBlock]>) {
        let bytes: usize = index.iter().map(IndexBlock::bytes).sum();
        if self.index.get().is_none()
            && let Some(pin) = self.cache().pin(bytes as u64)
        {
            drop(self.index.set((index, pin)));
        }
    }

    /// Counts parts that were loaded one by one; true, once, if it is time to load the rest and pin it.
    pub(super) fn should_pin(&self, loaded: u32) -> bool {
        let (Some((end, _)), pages) = (self.end.get(), self.filter_shape.pages()) else {
            return false;
        };
        let all = pages.saturating_add(end.directory.len() as u32);
        let asked = self.pages_loaded.fetch_add(loaded, Ordering::Relaxed) + loaded;
        // Decoded, an index takes about twice its bytes in the file.
        let bytes = u64::from(self.about.filter_bytes) + 2 * u64::from(self.about.index_bytes);
        asked.saturating_mul(PIN_SHARE) >= all
            && (self.filter.get().is_none() || self.index.get().is_none())
            && self.cache().could_pin(bytes)
            && !self.pinning.swap(true, Ordering::Relaxed)
    }

    pub(super) fn pinning_failed(&self) {
        self.pages_loaded.store(0, Ordering::Relaxed);
        self.pinning.store(false, Ordering::Relaxed);
    }

    /// A checkpoint that is handed out names the file: from now on it belongs to the job.
    pub(crate) fn name(&self) {
        if !planted::is(Bug::NamedFilesDeleted) {
            self.unnamed.store(false, Ordering::Release);
        }
    }

    /// The newest version does not contain the file any more.
    pub(crate) fn retire(&self) {
        self.obsolete.store(true, Ordering::Release);
    }
}

/// Checks what somebody says of a file; returns its path.
fn check(file: &FileRef) -> Result<Path> {
    let path = Path::parse(&file.path)
        .map_err(|error| wrong(file, &format!("its path is not one: {error}")))?;
    let end = u64::from(file.end_bytes);
    let rest = end + u64::from(file.filter_bytes) + u64::from(file.index_bytes);
    if rest > file.size_bytes || end < FOOTER_BYTES as u64 {
        let why = format!(
            "a filter of {}, an index of {} and an end of {end} bytes in a file of {} bytes",
            file.filter_bytes, file.index_bytes, file.size_bytes
        );
        return Err(wrong(file, &why));
    }
    if file.smallest >= file.upper {
        let why = "its first key and its upper bound are not in order";
        return Err(wrong(file, why));
    }
    if FilterShape::new(file.filter_bytes).is_none() {
        let why = format!("no filter has {} bytes", file.filter_bytes);
        return Err(wrong(file, &why));
    }
    Ok(path)
}

fn wrong(file: &FileRef, why: &str) -> Error {
    Error::corrupt(format!(
        "the checkpoint's entry for {} is damaged: {why}",
        file.path
    ))
}

impl Drop for SstFile {
    fn drop(&mut self) {
        if !*self.obsolete.get_mut() {
            return;
        }
        // What is cached of a file without a pinned index is not known one by one: nobody asks for it, so it is evicted.
        if let Some((index, _)) = self.index.get() {
            let blocks = index.iter().flat_map(IndexBlock::places);
            self.cache()
                .forget(self.id, blocks.map(|place| place.offset));
        }
        let unnamed = *self.unnamed.get_mut() && !planted::is(Bug::RetiredFilesStay);
        self.context.files.forget(self, unnamed);
        if unnamed {
            delete(&self.context, self.path.clone());
        }
    }
}

/// Deletes a file in the background. A failure leaves an orphan, which the sweep after a recovery removes.
pub(crate) fn delete(context: &Arc<Context>, path: Path) {
    let shared = context.clone();
    context.env.runtime.spawn(async move {
        if let Err(error) = shared.files.delete(&path).await {
            tracing::warn!(%path, %error, "could not delete a file that nothing names");
        }
    });
}
