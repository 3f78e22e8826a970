//! Reading: memtables first, then files from new to old; what memory cannot answer is described, then fetched.
//!
//! The same search runs twice: synchronously over what is in memory ([`Cached`]), and, when that is not enough, inside a
//! fetch over memory and what the fetch has loaded ([`fetch::Fetched`]). Both see the version the read was planned on.
pub(crate) mod fetch;
pub(crate) mod get;
pub(crate) mod multi_get;
pub(crate) mod scan;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::{Deref, Range};
use std::sync::Arc;

use bytes::Bytes;

use crate::cache::BlockCache;
use crate::sst::block::DataBlock;
use crate::sst::file::{FileId, MetaRef, SstFile};
use crate::version::Version;

/// The answer of a synchronous read.
#[derive(Debug)]
pub enum Lookup<'a> {
    /// The key's value.
    Found(Value<'a>),
    /// The key has no value.
    Absent,
    /// Memory cannot answer; `Store::fetch` finishes the read.
    Cold(ColdRead),
}

/// A value borrowed from the memtable, or held with the cached block it lies in.
pub struct Value<'a>(Repr<'a>);

enum Repr<'a> {
    Borrowed(&'a [u8]),
    Block(Arc<DataBlock>, Range<usize>),
}

impl<'a> Value<'a> {
    pub(crate) fn in_block(block: Arc<DataBlock>, range: Range<usize>) -> Self {
        Self(Repr::Block(block, range))
    }

    /// The value as shared bytes: a slice of the cached block if it lies in one, a copy if not.
    pub fn to_bytes(&self) -> Bytes {
        match &self.0 {
            Repr::Borrowed(bytes) => Bytes::copy_from_slice(bytes),
            Repr::Block(block, range) => block.data().slice(range.clone()),
        }
    }
}

impl Deref for Value<'_> {
    type Target = [u8];
    #[inline]
    fn deref(&self) -> &[u8] {
        match &self.0 {
            Repr::Borrowed(bytes) => bytes,
            Repr::Block(block, range) => block.data().get(range.clone()).unwrap_or_default(),
        }
    }
}

impl std::fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Value").field(&&**self).finish()
    }
}

impl<'a> From<&'a [u8]> for Value<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self(Repr::Borrowed(bytes))
    }
}

/// The rest of a read that memory could not answer: it holds the version it was planned on. The memtables knew nothing
/// of its key at that moment.
pub struct ColdRead {
    pub(crate) version: Arc<Version>,
    pub(crate) key: Box<[u8]>,
    pub(crate) hash: u64,
}

impl std::fmt::Debug for ColdRead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ColdRead")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

/// Where a search finds parts of files.
pub(crate) trait Blocks {
    fn meta<'a>(&self, file: &'a SstFile) -> Option<MetaRef<'a>>;
    fn block(&self, file: &SstFile, number: u32) -> Option<Arc<DataBlock>>;
}

/// What is in memory; counts the blocks it finds.
pub(crate) struct Cached<'c> {
    pub(crate) cache: &'c BlockCache,
    pub(crate) hits: &'c Cell<u64>,
}

impl Blocks for Cached<'_> {
    #[inline]
    fn meta<'a>(&self, file: &'a SstFile) -> Option<MetaRef<'a>> {
        file.meta()
    }

    #[inline]
    fn block(&self, file: &SstFile, number: u32) -> Option<Arc<DataBlock>> {
        let block = self.cache.block(file.id(), number)?;
        self.hits.set(self.hits.get() + 1);
        Some(block)
    }
}

/// Parts of files that a search wants and memory does not have. Asking twice is asking once.
#[derive(Default)]
pub(crate) struct Needs {
    pub(crate) metas: BTreeMap<FileId, Arc<SstFile>>,
    pub(crate) blocks: BTreeMap<FileId, NeededBlocks>,
}

/// Blocks of one file, with their places in it.
pub(crate) struct NeededBlocks {
    pub(crate) file: Arc<SstFile>,
    pub(crate) places: BTreeMap<u32, Range<u64>>,
}

impl Needs {
    pub(crate) fn is_empty(&self) -> bool {
        self.metas.is_empty() && self.blocks.is_empty()
    }

    pub(crate) fn meta(&mut self, file: &Arc<SstFile>) {
        self.metas.entry(file.id()).or_insert_with(|| file.clone());
    }

    pub(crate) fn block(&mut self, file: &Arc<SstFile>, number: u32, place: Range<u64>) {
        let needed = self.blocks.entry(file.id());
        let needed = needed.or_insert_with(|| NeededBlocks {
            file: file.clone(),
            places: BTreeMap::new(),
        });
        needed.places.insert(number, place);
    }
}
