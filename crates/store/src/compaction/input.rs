//! Reads a sorted run of files from front to back for a compaction, a piece ahead of the merge.
//!
//! Pieces are ranges of about [`PIECE_BYTES`]; the next one is requested while the current one is worked on. Blocks that
//! are in the cache are taken from there, and the rows in them count as hot. The cache is not filled from here.
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use tokio::task::JoinHandle;

use crate::context::Context;
use crate::error::{Error, Result};
use crate::io::ReadClass;
use crate::row::RowRef;
use crate::sst::block::{BlockCursor, DataBlock};
use crate::sst::file::{FileMeta, SstFile};
use crate::sst::reader::{load_blocks, load_meta};
use crate::version::VersionFile;

const PIECE_BYTES: u64 = 2 << 20;

/// A block and whether it was in the cache.
type Block = (Arc<DataBlock>, bool);
type Loading = JoinHandle<Result<VecDeque<Block>>>;

/// Stands at one row of a run, or at its end.
pub(crate) struct RunInput {
    context: Arc<Context>,
    files: VecDeque<Arc<VersionFile>>,
    open: Option<OpenFile>,
    blocks: VecDeque<Block>,
    block: Option<Block>,
    cursor: BlockCursor,
}

struct OpenFile {
    file: Arc<VersionFile>,
    meta: Arc<FileMeta>,
    next_block: usize,
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
        };
        this.advance()?;
        Ok(this)
    }

    /// The key at hand; `None` at the end.
    pub(crate) fn key(&self) -> Option<&[u8]> {
        self.block.as_ref().map(|_| self.cursor.key())
    }

    /// The row at hand; `None` at the end.
    pub(crate) fn row(&self) -> Option<RowRef<'_>> {
        self.cursor.row(&self.block.as_ref()?.0)
    }

    pub(crate) fn is_hot(&self) -> bool {
        self.block.as_ref().is_some_and(|(_, hot)| *hot)
    }

    pub(crate) fn advance(&mut self) -> Result<()> {
        loop {
            if let Some((block, _)) = &self.block
                && self.cursor.advance(block)
            {
                match &self.open {
                    Some(open) if self.cursor.key() >= open.file.upper.as_ref() => {
                        self.blocks.clear();
                        self.open = None;
                    }
                    Some(open) if self.cursor.key() < open.file.lower.as_ref() => continue,
                    _ => return Ok(()),
                }
            }
            self.cursor.reset();
            self.block = self.next_block()?;
            if self.block.is_none() {
                return Ok(());
            }
        }
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
        let meta = context.block_on(load_meta_once(context, &file.file))??;
        let next_block = meta.index.find(&file.lower).unwrap_or(meta.index.len());
        let mut this = Self {
            file,
            meta,
            next_block,
            loading: None,
        };
        this.loading = this.start_loading(context);
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

    fn start_loading(&mut self, context: &Arc<Context>) -> Option<Loading> {
        let mut piece: Vec<(u32, Range<u64>)> = Vec::new();
        while let Some(place) = self.meta.index.range(self.next_block) {
            let start = piece.first().map_or(place.start, |(_, first)| first.start);
            if !piece.is_empty() && place.end - start > PIECE_BYTES {
                break;
            }
            piece.push((self.next_block as u32, place));
            self.next_block += 1;
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

impl Drop for OpenFile {
    fn drop(&mut self) {
        if let Some(loading) = &self.loading {
            loading.abort();
        }
    }
}

/// Index and filter, from memory if they are there.
async fn load_meta_once(context: &Context, file: &SstFile) -> Result<Arc<FileMeta>> {
    match file.shared_meta() {
        Some(meta) => Ok(meta),
        None => load_meta(context, file, ReadClass::Background).await,
    }
}

async fn load_piece(
    context: &Context,
    file: &SstFile,
    piece: Vec<(u32, Range<u64>)>,
) -> Result<VecDeque<Block>> {
    let mut blocks: Vec<Option<Block>> = piece
        .iter()
        .map(|(number, _)| {
            Some((
                context.env.block_cache.peek_block(file.id(), *number)?,
                true,
            ))
        })
        .collect();
    // One request covers what is missing from the first to the last; what lies between is not asked for twice.
    let first = blocks.iter().position(Option::is_none);
    let last = blocks.iter().rposition(Option::is_none);
    if let (Some(first), Some(last)) = (first, last) {
        let missing = piece.get(first..=last).unwrap_or_default();
        let loaded = load_blocks(context, file, missing, ReadClass::Background).await?;
        for (slot, (_, block)) in blocks.iter_mut().skip(first).zip(loaded) {
            slot.get_or_insert((block, false));
        }
    }
    Ok(blocks.into_iter().flatten().collect())
}
