//! The handle of a file that versions and readers share, and who may delete it.
//!
//! A file this store made is deleted by the store only if no checkpoint ever named it: it was born and compacted away
//! between two checkpoints. The deletion waits until the last reader has let go. Everything else belongs to the job.
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use object_store::path::Path;
use xxhash_rust::xxh3::xxh3_128;

use super::filter::Filter;
use super::footer::{FOOTER_BYTES, Footer};
use super::index::Index;
use crate::FileRef;
use crate::cache::{BlockCache, Pin};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::key::KEY_HEADER_BYTES;

/// Identity of a file's content: a hash of its path and checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct FileId(pub(crate) u128);

/// Index and filter of a file.
#[derive(Debug, Default)]
pub(crate) struct FileMeta {
    pub(crate) index: Index,
    pub(crate) filter: Filter,
}

impl FileMeta {
    pub(crate) fn bytes(&self) -> usize {
        self.index.bytes() + self.filter.bytes() + size_of::<Self>()
    }

    /// Decodes the tail of a file of `size_bytes`; returns it with the footer and the tail's checksum.
    pub(crate) fn decode(what: &str, tail: &Bytes, size_bytes: u64) -> Result<(Self, Footer, u64)> {
        let (footer, checksum) = Footer::decode(what, tail)?;
        if footer.data_bytes.checked_add(tail.len() as u64) != Some(size_bytes) {
            return Err(Error::corrupt(format!(
                "{what} is damaged: {} data bytes and a tail of {} do not make {size_bytes}",
                footer.data_bytes,
                tail.len()
            )));
        }
        // The footer made sure that both parts lie in the tail.
        let filter_end = footer.filter_bytes as usize;
        let index_end = filter_end + footer.index_bytes as usize;
        let filter = Filter::decode(
            what,
            Bytes::copy_from_slice(tail.get(..filter_end).unwrap_or_default()),
        )?;
        let index_bytes = tail.get(filter_end..index_end).unwrap_or_default();
        let index = Index::decode(what, index_bytes, footer.blocks, footer.data_bytes)?;
        Ok((Self { index, filter }, footer, checksum))
    }
}

/// Index and filter, however they are held.
pub(crate) enum MetaRef<'a> {
    Pinned(&'a FileMeta),
    Cached(Arc<FileMeta>),
}

impl Deref for MetaRef<'_> {
    type Target = FileMeta;
    #[inline]
    fn deref(&self) -> &FileMeta {
        match self {
            Self::Pinned(meta) => meta,
            Self::Cached(meta) => meta,
        }
    }
}

/// One immutable file.
pub(crate) struct SstFile {
    context: Arc<Context>,
    path: Path,
    id: FileId,
    pub(crate) size_bytes: u64,
    pub(crate) tail_bytes: u32,
    pub(crate) entries: u64,
    pub(crate) checksum: u64,
    pub(crate) smallest: Bytes,
    pub(crate) largest: Bytes,
    pinned: OnceLock<(Arc<FileMeta>, Pin)>,
    /// This store made the file and no checkpoint has named it yet.
    unnamed: AtomicBool,
    obsolete: AtomicBool,
}

impl SstFile {
    /// The handle of a file that a checkpoint names.
    pub(crate) fn restored(context: &Arc<Context>, file: &FileRef) -> Result<Arc<Self>> {
        let wrong = |why: String| {
            Error::corrupt(format!(
                "the checkpoint's entry for {} is damaged: {why}",
                file.path
            ))
        };
        let path = Path::parse(&file.path)
            .map_err(|error| wrong(format!("its path is not one: {error}")))?;
        if u64::from(file.tail_bytes) > file.size_bytes || (file.tail_bytes as usize) < FOOTER_BYTES
        {
            return Err(wrong(format!(
                "a tail of {} in a file of {} bytes",
                file.tail_bytes, file.size_bytes
            )));
        }
        if file.smallest.len() < KEY_HEADER_BYTES || file.largest < file.smallest {
            return Err(wrong(
                "its smallest and largest keys are not in order".into(),
            ));
        }
        Ok(Arc::new(Self::new(context, path, file, false)))
    }

    /// The handle of a file that this store has just written.
    pub(crate) fn written(context: &Arc<Context>, path: Path, file: &FileRef) -> Arc<Self> {
        Arc::new(Self::new(context, path, file, true))
    }

    fn new(context: &Arc<Context>, path: Path, file: &FileRef, unnamed: bool) -> Self {
        let mut identity = path.as_ref().as_bytes().to_vec();
        identity.extend_from_slice(&file.checksum.to_le_bytes());
        Self {
            context: context.clone(),
            path,
            id: FileId(xxh3_128(&identity)),
            size_bytes: file.size_bytes,
            tail_bytes: file.tail_bytes,
            entries: file.entries,
            checksum: file.checksum,
            smallest: file.smallest.clone(),
            largest: file.largest.clone(),
            pinned: OnceLock::new(),
            unnamed: AtomicBool::new(unnamed),
            obsolete: AtomicBool::new(false),
        }
    }

    pub(crate) fn id(&self) -> FileId {
        self.id
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn cache(&self) -> &Arc<BlockCache> {
        &self.context.env.block_cache
    }

    /// Index and filter, if they are in memory.
    #[inline]
    pub(crate) fn meta(&self) -> Option<MetaRef<'_>> {
        match self.pinned.get() {
            Some((meta, _)) => Some(MetaRef::Pinned(meta)),
            None => self.cache().meta(self.id).map(MetaRef::Cached),
        }
    }

    /// Like [`Self::meta`], for holders that outlive the borrow.
    pub(crate) fn shared_meta(&self) -> Option<Arc<FileMeta>> {
        match self.pinned.get() {
            Some((meta, _)) => Some(meta.clone()),
            None => self.cache().meta(self.id),
        }
    }

    /// Keeps index and filter in memory: pinned if there is room, cached if not.
    pub(crate) fn keep_meta(&self, meta: Arc<FileMeta>) {
        if self.pinned.get().is_some() {
            return;
        }
        match self.cache().pin(meta.bytes() as u64) {
            Some(pin) => drop(self.pinned.set((meta, pin))),
            None => self.cache().insert_meta(self.id, meta),
        }
    }

    /// A checkpoint that is handed out names the file: from now on it belongs to the job.
    pub(crate) fn name(&self) {
        self.unnamed.store(false, Ordering::Release);
    }

    /// The newest version does not contain the file any more.
    pub(crate) fn retire(&self) {
        self.obsolete.store(true, Ordering::Release);
    }
}

impl Drop for SstFile {
    fn drop(&mut self) {
        if !*self.obsolete.get_mut() {
            return;
        }
        let blocks = self.meta().map_or(0, |meta| meta.index.len() as u32);
        self.cache().forget(self.id, blocks);
        let unnamed = *self.unnamed.get_mut();
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
