//! What one file says of a key, as far as memory reaches: filter, then index, then block, then a value that lies aside.
//!
//! Nothing here waits. What is missing is named, so that the caller can have it loaded and ask again.
use std::ops::{Deref, Range};
use std::sync::Arc;

use bytes::Bytes;

use super::block::{Aside, BlockValue, DataBlock};
use super::file::SstFile;
use super::index::{IndexBlock, Place};
use super::part::{Part, PartKind, PartPlace};
use super::slot::SlotAt;
use crate::read::Blocks;
use crate::row::RowKind;

/// A value, held with the block it lies in.
#[derive(Clone, Debug)]
pub(crate) enum StoredValue {
    InBlock(Arc<DataBlock>, Range<usize>),
    Aside(Bytes),
}

impl StoredValue {
    /// The value as shared bytes; nothing is copied.
    pub(crate) fn to_bytes(&self) -> Bytes {
        match self {
            Self::InBlock(block, range) => block.data().slice(range.clone()),
            Self::Aside(bytes) => bytes.clone(),
        }
    }
}

impl Deref for StoredValue {
    type Target = [u8];
    #[inline]
    fn deref(&self) -> &[u8] {
        match self {
            Self::InBlock(block, range) => block.data().get(range.clone()).unwrap_or_default(),
            Self::Aside(bytes) => bytes,
        }
    }
}

/// A row of a file.
#[derive(Clone, Debug)]
pub(crate) struct FileRow {
    pub(crate) kind: RowKind,
    pub(crate) time_ms: Option<i64>,
    /// Empty for a tombstone.
    pub(crate) value: StoredValue,
}

/// Parts that are missing, wanted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Missing([Option<PartPlace>; 2]);

impl Missing {
    pub(crate) fn parts(&self) -> impl Iterator<Item = PartPlace> {
        self.0.into_iter().flatten()
    }

    /// The filter has spoken: what is missing most likely holds the key, and older files need not be asked yet.
    pub(crate) fn decides(&self) -> bool {
        matches!(
            self.0[0].map(|part| part.kind),
            Some(PartKind::Block | PartKind::Value)
        )
    }
}

impl From<PartPlace> for Missing {
    fn from(part: PartPlace) -> Self {
        Self([Some(part), None])
    }
}

/// The place of a data block, and how to find the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockAt {
    partition: usize,
    entry: usize,
    pub(crate) place: Place,
}

/// The only data block that may hold a key, and the short way to it if its index is pinned.
#[derive(Clone, Copy)]
pub(crate) struct Located<'a> {
    pub(crate) place: Place,
    pub(crate) slot: Option<SlotAt<'a>>,
}

/// A partition of the index, however it is held.
enum Partition<'a> {
    Pinned(&'a IndexBlock),
    Paged(Arc<IndexBlock>),
}

impl Deref for Partition<'_> {
    type Target = IndexBlock;
    #[inline]
    fn deref(&self) -> &IndexBlock {
        match self {
            Self::Pinned(block) => block,
            Self::Paged(block) => block,
        }
    }
}

impl SstFile {
    /// False only if nothing with this hash is in the file.
    #[inline]
    pub(crate) fn may_contain(&self, hash: u64, blocks: &impl Blocks) -> Result<bool, PartPlace> {
        match self.filter.get() {
            Some((filter, _)) => Ok(filter.may_contain(hash)),
            None => self.page_may_contain(hash, blocks),
        }
    }

    /// Has the cache line fetched that [`Self::may_contain`] will ask for.
    #[inline]
    pub(crate) fn touch_filter(&self, hash: u64) -> u64 {
        self.filter
            .get()
            .map_or(0, |(filter, _)| filter.touch(hash))
    }

    #[cold]
    fn page_may_contain(&self, hash: u64, blocks: &impl Blocks) -> Result<bool, PartPlace> {
        if self.filter_shape.is_empty() {
            return Ok(true);
        }
        let page = self.filter_shape.page_of(hash);
        let offset = self.data_bytes() + self.filter_shape.page_range(page).start;
        match blocks.part(self, offset) {
            Some(Part::Filter(page)) => Ok(page.may_contain(hash)),
            _ => Err(self.filter_part(hash)),
        }
    }

    /// The only block that may hold a key, if the filter does not rule it out.
    #[inline]
    pub(crate) fn locate(
        &self,
        hash: u64,
        key: &[u8],
        blocks: &impl Blocks,
    ) -> Result<Option<Located<'_>>, Missing> {
        match self.may_contain(hash, blocks) {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            // Without the end there is no going on after the filter: both are asked for at once.
            Err(filter) => {
                let end = self.end.get().is_none().then(|| self.end_part());
                return Err(Missing([Some(filter), end]));
            }
        }
        Ok(self.seek(key, blocks)?.map(|at| self.located(at)))
    }

    /// The short way to a block that a search has come to.
    #[inline]
    pub(crate) fn located(&self, at: BlockAt) -> Located<'_> {
        let slot = self.index.get().map(|(index, _)| SlotAt {
            index,
            partition: at.partition as u32,
            entry: at.entry as u32,
        });
        let place = at.place;
        Located { place, slot }
    }

    /// What the file says of a key; `None`: nothing.
    #[inline]
    pub(crate) fn look(
        &self,
        hash: u64,
        key: &[u8],
        blocks: &impl Blocks,
    ) -> Result<Option<FileRow>, Missing> {
        let Some(located) = self.locate(hash, key, blocks)? else {
            return Ok(None);
        };
        let Some(block) = blocks.located(self, located) else {
            return Err(PartPlace::block(located.place).into());
        };
        self.row_in(block, hash, key, blocks)
    }

    /// The row of a key in a block of this file.
    #[inline]
    pub(crate) fn row_in(
        &self,
        block: Arc<DataBlock>,
        hash: u64,
        key: &[u8],
        blocks: &impl Blocks,
    ) -> Result<Option<FileRow>, Missing> {
        let Some(row) = block.get(hash, key) else {
            return Ok(None);
        };
        let value = match row.value {
            BlockValue::Inline(range) => StoredValue::InBlock(block, range),
            BlockValue::Aside(aside) => match blocks.value(self, aside.place) {
                Some(bytes) => StoredValue::Aside(bytes),
                None => return Err(self.value_part(aside)),
            },
        };
        Ok(Some(FileRow {
            kind: row.kind,
            time_ms: row.time_ms,
            value,
        }))
    }

    /// What to read to have a value that lies aside.
    pub(crate) fn value_part(&self, aside: Aside) -> Missing {
        PartPlace::value(aside.place).into()
    }

    /// The first block that may hold keys at or above `key`.
    #[inline]
    pub(crate) fn seek(
        &self,
        key: &[u8],
        blocks: &impl Blocks,
    ) -> Result<Option<BlockAt>, PartPlace> {
        let Some((end, _)) = self.end.get() else {
            return Err(self.end_part());
        };
        let partition = end.directory.find(key);
        let Some(index) = self.partition(partition, blocks)? else {
            return Ok(None);
        };
        let entry = index.find(key);
        let Some(place) = index.place(entry) else {
            return Ok(None);
        };
        Ok(Some(BlockAt {
            partition,
            entry,
            place,
        }))
    }

    /// The block after another.
    pub(crate) fn block_after(
        &self,
        at: BlockAt,
        blocks: &impl Blocks,
    ) -> Result<Option<BlockAt>, PartPlace> {
        let (mut partition, mut entry) = (at.partition, at.entry + 1);
        while let Some(index) = self.partition(partition, blocks)? {
            if let Some(place) = index.place(entry) {
                return Ok(Some(BlockAt {
                    partition,
                    entry,
                    place,
                }));
            }
            (partition, entry) = (partition + 1, 0);
        }
        Ok(None)
    }

    fn partition<'a>(
        &'a self,
        number: usize,
        blocks: &impl Blocks,
    ) -> Result<Option<Partition<'a>>, PartPlace> {
        if let Some((index, _)) = self.index.get() {
            let block = index.get(number);
            return Ok(block.map(Partition::Pinned));
        }
        let Some((end, _)) = self.end.get() else {
            return Err(self.end_part());
        };
        let Some(place) = end.directory.place(number) else {
            return Ok(None);
        };
        match blocks.part(self, place.offset) {
            Some(Part::Partition(index)) => Ok(Some(Partition::Paged(index))),
            _ => Err(PartPlace {
                place,
                kind: PartKind::Partition,
            }),
        }
    }
}
