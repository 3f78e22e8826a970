//! Reading: memtables first, then files from new to old; what memory cannot answer is described, then fetched.
//!
//! The same search runs twice: synchronously over what is in memory ([`Cached`]), and, when that is not enough, inside a
//! fetch over memory and what the fetch has loaded ([`load::Fetched`]). Both see the version the read was planned on.
pub(crate) mod answer;
pub(crate) mod fetch;
pub(crate) mod get;
pub(crate) mod load;
pub(crate) mod multi_get;
pub(crate) mod scan;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;
use xxhash_rust::xxh3::Xxh3;

use crate::cache::BlockCache;
use crate::merge::HeldOperands;
use crate::rules::Rules;
use crate::sst::block::DataBlock;
use crate::sst::file::{FileId, SstFile};
use crate::sst::index::Place;
use crate::sst::lookup::{Located, Missing, StoredValue};
use crate::sst::part::{Part, PartPlace};
use crate::sst::slot::UNSEEN_READS;
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

/// Takes a value where it lies, and when its row was written, if its writer said so; `None`: the key has no value.
pub type SeeValue<'a> = &'a mut dyn FnMut(Option<&[u8]>, Option<i64>);

/// A value borrowed from the memtable, held with the cached block it lies in, or made of operands.
pub struct Value<'a> {
    bytes: Repr<'a>,
    time_ms: Option<i64>,
}

enum Repr<'a> {
    Borrowed(&'a [u8]),
    Stored(StoredValue),
    Owned(Bytes),
}

impl<'a> Value<'a> {
    /// A value that lies somewhere, written at a time if one is known.
    #[inline]
    pub fn with_time(bytes: &'a [u8], time_ms: Option<i64>) -> Self {
        Self {
            bytes: Repr::Borrowed(bytes),
            time_ms,
        }
    }

    #[inline]
    pub(crate) fn stored(value: StoredValue, time_ms: Option<i64>) -> Self {
        Self {
            bytes: Repr::Stored(value),
            time_ms,
        }
    }

    /// A value that is held by the answer itself, written at a time if one is known.
    #[inline]
    pub fn owned(bytes: Bytes, time_ms: Option<i64>) -> Self {
        Self {
            bytes: Repr::Owned(bytes),
            time_ms,
        }
    }

    /// When the row was written, in milliseconds since the Unix epoch, if its writer said so; of several operands, the newest.
    pub fn time_ms(&self) -> Option<i64> {
        self.time_ms
    }

    /// The value as shared bytes: a slice of the cached block if it lies in one, a copy if it lies in a memtable.
    pub fn to_bytes(&self) -> Bytes {
        match &self.bytes {
            Repr::Borrowed(bytes) => Bytes::copy_from_slice(bytes),
            Repr::Stored(value) => value.to_bytes(),
            Repr::Owned(bytes) => bytes.clone(),
        }
    }
}

impl Deref for Value<'_> {
    type Target = [u8];
    #[inline]
    fn deref(&self) -> &[u8] {
        match &self.bytes {
            Repr::Borrowed(bytes) => bytes,
            Repr::Stored(value) => value,
            Repr::Owned(bytes) => bytes,
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
        Self::with_time(bytes, None)
    }
}

/// The rest of a read that memory could not answer: it holds the version it was planned on, and the operands that the
/// memtables had for its key at that moment; other than that, they knew nothing of it.
pub struct ColdRead {
    pub(crate) version: Arc<Version>,
    /// Files of the flushes from this one on know nothing of the key.
    pub(crate) before: u64,
    pub(crate) key: Box<[u8]>,
    pub(crate) hash: u64,
    pub(crate) rules: Arc<Rules>,
    pub(crate) now_ms: i64,
    /// Newest first.
    pub(crate) operands: Box<[HeldOperands]>,
    pub(crate) installs: u64,
}

/// What a cold read was planned on. While later look-ups of the same key are cold and planned on the same, the value that
/// was fetched is still the newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    installs: u64,
    operands: u64,
}

impl ColdRead {
    /// What the read was planned on.
    pub fn moment(&self) -> Moment {
        let mut operands = Xxh3::new();
        for held in &self.operands {
            operands.update(&held.time_ms.unwrap_or(i64::MIN).to_le_bytes());
            operands.update(&(held.bytes.len() as u64).to_le_bytes());
            operands.update(&held.bytes);
        }
        Moment {
            installs: self.installs,
            operands: operands.digest(),
        }
    }
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
    /// The part that lies at an offset of a file.
    fn part(&self, file: &SstFile, offset: u64) -> Option<Part>;

    /// The data block at a place.
    #[inline]
    fn block(&self, file: &SstFile, place: Place) -> Option<Arc<DataBlock>> {
        match self.part(file, place.offset)? {
            Part::Block(block) => Some(block),
            _ => None,
        }
    }

    /// The data block that a search has come to.
    #[inline]
    fn located(&self, file: &SstFile, located: Located<'_>) -> Option<Arc<DataBlock>> {
        self.block(file, located.place)
    }

    /// The value that lies aside at a place.
    fn value(&self, file: &SstFile, place: Place) -> Option<Bytes> {
        match self.part(file, place.offset)? {
            Part::Value(value) => Some(value),
            _ => None,
        }
    }
}

/// What is in memory; counts the blocks it finds.
pub(crate) struct Cached<'c> {
    pub(crate) cache: &'c BlockCache,
    pub(crate) hits: &'c Cell<u64>,
}

impl Blocks for Cached<'_> {
    #[inline]
    fn part(&self, file: &SstFile, offset: u64) -> Option<Part> {
        if offset >= file.data_bytes() {
            return self.cache.page(file.id(), offset);
        }
        let part = self.cache.data(file.id(), offset)?;
        self.hits.set(self.hits.get() + 1);
        Some(part)
    }

    #[inline]
    fn located(&self, file: &SstFile, located: Located<'_>) -> Option<Arc<DataBlock>> {
        let Some(slot) = located.slot else {
            return self.block(file, located.place);
        };
        if let Some(block) = slot.get() {
            let hits = self.hits.get() + 1;
            self.hits.set(hits);
            if hits.is_multiple_of(UNSEEN_READS) {
                self.cache.data(file.id(), located.place.offset);
            }
            return Some(block);
        }
        let block = self.block(file, located.place)?;
        slot.fill(&block);
        Some(block)
    }
}

/// Parts of files that a search wants and memory does not have. Asking twice is asking once.
#[derive(Default)]
pub(crate) struct Needs(pub(crate) BTreeMap<FileId, NeededParts>);

/// Parts of one file, by where they lie.
pub(crate) struct NeededParts {
    pub(crate) file: Arc<SstFile>,
    pub(crate) parts: BTreeMap<u64, PartPlace>,
}

impl Needs {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn part(&mut self, file: &Arc<SstFile>, part: PartPlace) {
        let needed = self.0.entry(file.id()).or_insert_with(|| NeededParts {
            file: file.clone(),
            parts: BTreeMap::new(),
        });
        needed.parts.insert(part.place.offset, part);
    }

    pub(crate) fn missing(&mut self, file: &Arc<SstFile>, missing: Missing) {
        missing.parts().for_each(|part| self.part(file, part));
    }
}
