//! Reads a sorted run of files from front to back for a compaction, a piece ahead of the merge.
//!
//! Pieces are ranges of about [`PIECE_BYTES`]; the next one is requested while the current one is worked on. Blocks that
//! are in the cache are taken from there, and the rows in them count as hot. The cache is not filled from here. Values that
//! lie aside are handed on under their seal, unless they are in the cache.
use std::cell::OnceCell;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use tokio::task::JoinHandle;

use crate::context::Context;
use crate::error::{Error, Result};
use crate::io::ReadClass;
use crate::row::{RowKind, RowRef, Seal};
use crate::sst::block::{Aside, BlockCursor, DataBlock};
use crate::sst::file::SstFile;
use crate::sst::index::{IndexBlock, Place};
use crate::sst::part::Part;
use crate::sst::reader::{load_index, read_checked};
use crate::sst::seal::checked;
use crate::version::VersionFile;

const PIECE_BYTES: u64 = 2 << 20;

/// A block in hand.
#[derive(Clone)]
struct Block {
    rows: Arc<DataBlock>,
    /// It was in the cache.
    hot: bool,
    /// What lies around it in the file, from an offset on: the values of its rows that lie aside.
    around: Option<(u64, Bytes)>,
}

type Loading = JoinHandle<Result<VecDeque<Block>>>;

/// Stands at one row of a run, or at its end.
pub(crate) struct RunInput {
    context: Arc<Context>,
    files: VecDeque<Arc<VersionFile>>,
    open: Option<OpenFile>,
    blocks: VecDeque<Block>,
    block: Option<Block>,
    cursor: BlockCursor,
    /// The value of the row at hand, if it lies aside.
    aside: Option<AsideValue>,
}

struct AsideValue {
    bytes: Bytes,
    seal: Option<Seal>,
    /// The value with its seal broken, once somebody has asked for it.
    plain: OnceCell<Bytes>,
}

struct OpenFile {
    file: Arc<VersionFile>,
    index: Arc<[IndexBlock]>,
    /// Partition and entry of the next block.
    next: (usize, usize),
    /// Where the block before it ends.
    end: u64,
    loading: Option<Loading>,
}

impl RunInput {
    /// Opens a run and stands at its first row that counts.
    pub(crate) fn new(context: &Arc<Context>, files: Vec<Arc<VersionFile>>) -> Result<Self> {
        let mut this = Self {
            context: context.clone(),
            files: files.into(),
            open: None,
            blocks: VecDeque::new(),
            block: None,
            cursor: BlockCursor::default(),
            aside: None,
        };
        this.advance()?;
        Ok(this)
    }

    /// The key at hand; `None` at the end.
    #[inline]
    pub(crate) fn key(&self) -> Option<&[u8]> {
        self.block.as_ref().map(|_| self.cursor.key())
    }

    /// The row at hand; `None` at the end.
    #[inline]
    pub(crate) fn row(&self) -> Option<RowRef<'_>> {
        let row = self.cursor.row(&self.block.as_ref()?.rows)?;
        Some(match &self.aside {
            None => row,
            Some(aside) => RowRef {
                value: &aside.bytes,
                sealed: aside.seal,
                ..row
            },
        })
    }

    /// The row at hand with its value open, for those who look inside.
    pub(crate) fn open_row(&self) -> Result<Option<RowRef<'_>>> {
        let (Some(row), Some(aside)) = (self.row(), &self.aside) else {
            return Ok(self.row());
        };
        let value = match aside.plain.get() {
            Some(plain) => plain,
            None => {
                let what = || match &self.open {
                    Some(open) => format!("a value of {}", open.file.file.path()),
                    None => "a value".into(),
                };
                let plain = Bytes::from(row.plain_value(&what)?.into_owned());
                aside.plain.get_or_init(|| plain)
            }
        };
        Ok(Some(RowRef {
            value,
            sealed: None,
            ..row
        }))
    }

    /// Whether the row at hand was in memory before.
    pub(crate) fn is_hot(&self) -> bool {
        self.block.as_ref().is_some_and(|block| block.hot)
    }

    /// Moves to the next row that counts.
    pub(crate) fn advance(&mut self) -> Result<()> {
        self.aside = None;
        loop {
            if let Some(block) = &self.block
                && self.cursor.advance(&block.rows)
            {
                match &self.open {
                    Some(open) if self.cursor.key() >= open.file.upper.as_ref() => {
                        self.blocks.clear();
                        self.open = None;
                    }
                    Some(open) if self.cursor.key() < open.file.lower.as_ref() => continue,
                    _ => return self.take_aside(),
                }
            }
            self.cursor.reset();
            self.block = self.next_block()?;
            if self.block.is_none() {
                return Ok(());
            }
        }
    }

    /// Brings the value of the row at hand into hand, if it lies aside.
    #[inline]
    fn take_aside(&mut self) -> Result<()> {
        let Some(aside) = self.cursor.aside() else {
            return Ok(());
        };
        let (Some(open), Some(block)) = (&self.open, &self.block) else {
            return Ok(());
        };
        let (file, place) = (&open.file.file, aside.place);
        let cache = &self.context.env.block_cache;
        if let Some(Part::Value(value)) = cache.peek_data(file.id(), place.offset) {
            self.aside = Some(AsideValue {
                bytes: value,
                seal: None,
                plain: OnceCell::new(),
            });
            return Ok(());
        }
        let sealed = block.around.as_ref().and_then(|(base, bytes)| {
            let start = usize::try_from(place.offset.checked_sub(*base)?).ok()?;
            let end = start.checked_add(place.bytes as usize)?;
            (end <= bytes.len()).then(|| bytes.slice(start..end))
        });
        let Some(sealed) = sealed else {
            return Err(Error::corrupt(format!(
                "{} is damaged: a row says that its value lies at offset {}, which is not before its block",
                file.path(),
                place.offset
            )));
        };
        let seal = Seal {
            seed: file.seed,
            offset: place.offset,
            plain_bytes: aside.plain_bytes,
        };
        self.aside = Some(AsideValue {
            bytes: sealed,
            seal: Some(seal),
            plain: OnceCell::new(),
        });
        // Operands are always looked at.
        if self.row().is_some_and(|row| row.kind == RowKind::Operands)
            && let Some(row) = self.open_row()?
        {
            let bytes = Bytes::copy_from_slice(row.value);
            self.aside = Some(AsideValue {
                bytes,
                seal: None,
                plain: OnceCell::new(),
            });
        }
        Ok(())
    }

    fn next_block(&mut self) -> Result<Option<Block>> {
        loop {
            if let Some(block) = self.blocks.pop_front() {
                return Ok(Some(block));
            }
            if let Some(open) = &mut self.open {
                if let Some(blocks) = open.next_piece(&self.context)? {
                    self.blocks = blocks;
                    continue;
                }
                self.open = None;
            }
            let Some(file) = self.files.pop_front() else {
                return Ok(None);
            };
            self.open = Some(OpenFile::new(&self.context, file)?);
        }
    }
}

impl OpenFile {
    fn new(context: &Arc<Context>, file: Arc<VersionFile>) -> Result<Self> {
        let index = context.block_on(load_index(context, &file.file, ReadClass::Background))??;
        let partition = index.partition_point(|p| p.find(&file.lower) == p.len());
        let entry = index.get(partition).map_or(0, |p| p.find(&file.lower));
        let first = index.get(partition).and_then(|p| p.place(entry));
        let mut this = Self {
            // The gap before the first block that counts is read too: its rows' values lie there.
            end: end_before(&index, partition, entry),
            file,
            index,
            next: (partition, entry),
            loading: None,
        };
        if first.is_some() {
            this.loading = this.start_loading(context);
        }
        Ok(this)
    }

    /// The next piece that was requested; requests the one after it.
    fn next_piece(&mut self, context: &Arc<Context>) -> Result<Option<VecDeque<Block>>> {
        let Some(loading) = self.loading.take() else {
            return Ok(None);
        };
        let blocks = match context.block_on(loading)? {
            Ok(blocks) => blocks?,
            Err(error) => {
                return Err(Error::retry(format!(
                    "reading {} was stopped: {error}",
                    self.file.file.path()
                )));
            }
        };
        self.loading = self.start_loading(context);
        Ok(Some(blocks))
    }

    fn next_place(&mut self) -> Option<Place> {
        loop {
            let (partition, entry) = self.next;
            match self.index.get(partition)?.place(entry) {
                Some(place) => return Some(place),
                None => self.next = (partition + 1, 0),
            }
        }
    }

    fn start_loading(&mut self, context: &Arc<Context>) -> Option<Loading> {
        let mut piece: Vec<PieceBlock> = Vec::new();
        while let Some(place) = self.next_place() {
            let start = piece.first().map_or(self.end, |first| first.gap_start);
            if !piece.is_empty() && place.end() - start > PIECE_BYTES {
                break;
            }
            piece.push(PieceBlock {
                gap_start: self.end,
                place,
            });
            self.end = place.end();
            self.next.1 += 1;
        }
        if piece.is_empty() {
            return None;
        }
        let (context, file) = (context.clone(), self.file.file.clone());
        Some(
            context
                .env
                .runtime
                .clone()
                .spawn(async move { load_piece(&context, &file, piece).await }),
        )
    }
}

/// Where the block before an entry ends.
fn end_before(index: &[IndexBlock], partition: usize, entry: usize) -> u64 {
    let before = match entry.checked_sub(1) {
        Some(before) => index.get(partition).and_then(|p| p.place(before)),
        None => (partition
            .checked_sub(1)
            .and_then(|before| index.get(before)))
        .and_then(|p| p.place(p.len().checked_sub(1)?)),
    };
    before.map_or(0, Place::end)
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        if let Some(loading) = &self.loading {
            loading.abort();
        }
    }
}

/// A block that is to be read, and where the values before it start.
struct PieceBlock {
    gap_start: u64,
    place: Place,
}

async fn load_piece(
    context: &Context,
    file: &SstFile,
    piece: Vec<PieceBlock>,
) -> Result<VecDeque<Block>> {
    let cached = |block: &PieceBlock| match context
        .env
        .block_cache
        .peek_data(file.id(), block.place.offset)
    {
        Some(Part::Block(rows)) => Some(rows),
        _ => None,
    };
    let cached: Vec<Option<Arc<DataBlock>>> = piece.iter().map(cached).collect();
    // One request covers what is missing from the first to the last; what lies between is not asked for twice. Values that lie
    // aside are missing even if their block is not.
    let missing = |(block, cached): (&PieceBlock, &Option<Arc<DataBlock>>)| {
        cached.is_none() || block.gap_start < block.place.offset
    };
    let mut all = piece.iter().zip(&cached);
    let first = all.clone().position(missing);
    let last = all.rposition(missing);
    let range: Range<u64> = match (first.and_then(|i| piece.get(i)), last) {
        (Some(first), Some(last)) => {
            first.gap_start
                ..piece
                    .get(last)
                    .map_or(first.gap_start, |last| last.place.end())
        }
        _ => 0..0,
    };
    let decode = |bytes: Bytes| {
        piece
            .iter()
            .zip(&cached)
            .map(|(block, cached)| decode_block(file, block, cached.as_ref(), range.start, &bytes))
            .collect()
    };
    if range.is_empty() {
        return decode(Bytes::new());
    }
    read_checked(context, file, range.clone(), ReadClass::Background, decode).await
}

fn decode_block(
    file: &SstFile,
    block: &PieceBlock,
    cached: Option<&Arc<DataBlock>>,
    base: u64,
    bytes: &Bytes,
) -> Result<Block> {
    let rows = match cached {
        Some(rows) => rows.clone(),
        None => {
            let start = block.place.offset.saturating_sub(base) as usize;
            let sealed = bytes.get(start..start + block.place.bytes as usize);
            let what = || {
                format!(
                    "the block at offset {} of {}",
                    block.place.offset,
                    file.path()
                )
            };
            let sealed = sealed.unwrap_or_default();
            Arc::new(DataBlock::decode(
                &what,
                sealed,
                file.seed,
                block.place.offset,
            )?)
        }
    };
    let has_values = block.gap_start < block.place.offset;
    if has_values {
        check_values(file, &rows, base, bytes)?;
    }
    Ok(Block {
        rows,
        hot: cached.is_some(),
        around: has_values.then(|| (base, bytes.clone())),
    })
}

/// Checks the values that lie aside of a block's rows, which are copied under their seal later on: what is damaged is read again only
/// if it is noticed now.
fn check_values(file: &SstFile, rows: &DataBlock, base: u64, bytes: &Bytes) -> Result<()> {
    let mut cursor = BlockCursor::default();
    while cursor.advance(rows) {
        let Some(Aside { place, .. }) = cursor.aside() else {
            continue;
        };
        let start = place.offset.checked_sub(base).map(|start| start as usize);
        let value = start.and_then(|start| bytes.get(start..start + place.bytes as usize));
        if let Some(value) = value {
            let what = || format!("the value at offset {} of {}", place.offset, file.path());
            checked(&what, value, file.seed, place.offset)?;
        }
    }
    Ok(())
}
