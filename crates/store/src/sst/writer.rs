//! Makes a file from rows in ascending key order, as a stream: at no time is the whole file in memory.
//!
//! Runs on a blocking thread; a task on the runtime uploads what it produces. Blocks that readers are likely to ask for
//! are handed out with the finished file, so that it is not cold when it is installed.
use std::sync::Arc;

use bytes::Bytes;
use object_store::path::Path;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use xxhash_rust::xxh3::Xxh3;

use super::block::{BlockBuilder, DataBlock, seal};
use super::file::{FileMeta, SstFile, delete};
use super::footer::Footer;
use super::{filter, index};
use crate::FileRef;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::io::{PART_BYTES, Part, QUEUE_PARTS};
use crate::key;
use crate::options::KeyGroupRange;
use crate::row::RowRef;

/// A file that is durable, with what of it should be in memory.
pub(crate) struct NewFile {
    pub(crate) file: Arc<SstFile>,
    blocks: Vec<(u32, Arc<DataBlock>)>,
}

impl NewFile {
    /// A file that another process wrote for this store.
    pub(crate) fn adopted(file: Arc<SstFile>) -> Self {
        Self {
            file,
            blocks: Vec::new(),
        }
    }

    /// Bytes of the blocks that are kept for the cache.
    pub(crate) fn kept_bytes(&self) -> usize {
        self.blocks.iter().map(|(_, block)| block.bytes()).sum()
    }

    /// Puts the kept blocks into the cache and returns the file.
    pub(crate) fn warm(self, context: &Context) -> Arc<SstFile> {
        for (number, block) in self.blocks {
            context
                .env
                .block_cache
                .insert_block(self.file.id(), number, block);
        }
        self.file
    }
}

pub(crate) struct SstWriter {
    context: Arc<Context>,
    path: Path,
    parts: mpsc::Sender<Part>,
    uploaded: JoinHandle<Result<()>>,
    block: BlockBuilder,
    /// Rows of the current block that came from memory.
    hot_rows: usize,
    block_rows: usize,
    index: Vec<u8>,
    /// The last key and sealed length of a block whose separator is not known yet.
    open_entry: Option<(Vec<u8>, usize)>,
    blocks: u32,
    hashes: Vec<u64>,
    part: Vec<u8>,
    data_bytes: u64,
    data_checksum: Xxh3,
    entries: u64,
    smallest: Option<Bytes>,
    kept: Vec<(u32, Arc<DataBlock>)>,
    /// Bytes of blocks that may still be kept.
    keep_bytes: usize,
    durable: bool,
}

impl SstWriter {
    /// Starts a file; `keep_bytes` bounds the blocks that are kept for the cache.
    pub(crate) fn new(context: &Arc<Context>, keep_bytes: usize) -> Self {
        let path = context.new_path();
        let (parts, queue) = mpsc::channel(QUEUE_PARTS);
        let uploaded = context.env.runtime.spawn({
            let (context, path) = (context.clone(), path.clone());
            async move { context.files.upload(&path, queue).await }
        });
        Self {
            context: context.clone(),
            path,
            parts,
            uploaded,
            block: BlockBuilder::default(),
            hot_rows: 0,
            block_rows: 0,
            index: Vec::new(),
            open_entry: None,
            blocks: 0,
            hashes: Vec::new(),
            part: Vec::new(),
            data_bytes: 0,
            data_checksum: Xxh3::new(),
            entries: 0,
            smallest: None,
            kept: Vec::new(),
            keep_bytes,
            durable: false,
        }
    }

    /// Bytes of the file so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.data_bytes + self.block.bytes() as u64
    }

    /// Adds a row; keys must ascend. `hash` is [`key::hash`] of the key; `hot` says that the row was in memory before.
    pub(crate) fn add(&mut self, key: &[u8], hash: u64, row: RowRef<'_>, hot: bool) -> Result<()> {
        if let Some((last, sealed_len)) = self.open_entry.take() {
            index::put_entry(&mut self.index, index::separator(&last, key), sealed_len);
        }
        if self.smallest.is_none() {
            self.smallest = Some(Bytes::copy_from_slice(key));
        }
        self.hashes.push(hash);
        self.block.add(key, row);
        self.entries += 1;
        self.block_rows += 1;
        self.hot_rows += usize::from(hot);
        if self.block.bytes() >= self.context.options.block_bytes {
            self.finish_block()?;
        }
        Ok(())
    }

    fn finish_block(&mut self) -> Result<()> {
        let last_key = self.block.last_key().to_vec();
        let plain = self.block.finish();
        let start = self.part.len();
        seal(&plain, &mut self.part);
        let sealed = self.part.get(start..).unwrap_or_default();
        self.data_checksum.update(sealed);
        let sealed_len = sealed.len();
        self.data_bytes += sealed_len as u64;
        self.open_entry = Some((last_key, sealed_len));
        if self.hot_rows * 2 > self.block_rows && plain.len() <= self.keep_bytes {
            self.keep_bytes -= plain.len();
            let what = || format!("block {} of {}", self.blocks, self.path);
            self.kept.push((
                self.blocks,
                Arc::new(DataBlock::from_plain(&what, plain.into())?),
            ));
        }
        (self.hot_rows, self.block_rows) = (0, 0);
        self.blocks += 1;
        self.send_full_parts()
    }

    fn send_full_parts(&mut self) -> Result<()> {
        while self.part.len() >= PART_BYTES {
            let rest = self.part.split_off(PART_BYTES);
            let part = std::mem::replace(&mut self.part, rest);
            self.send(Part::Data(part.into()))?;
        }
        Ok(())
    }

    fn send(&mut self, part: Part) -> Result<()> {
        if self.context.block_on(self.parts.send(part))?.is_ok() {
            return Ok(());
        }
        // The uploader only stops early when it has failed; its error says why.
        self.wait()?;
        Err(Error::retry(format!(
            "the upload of {} ended too early",
            self.path
        )))
    }

    fn wait(&mut self) -> Result<()> {
        match self.context.block_on(&mut self.uploaded)? {
            Ok(result) => result,
            // The runtime is shutting down.
            Err(error) => {
                self.context.stop();
                Err(Error::retry(format!(
                    "the upload of {} was stopped: {error}",
                    self.path
                )))
            }
        }
    }

    /// Ends the file and waits until it is durable. `None` if it has no rows: then nothing was written.
    pub(crate) fn finish(mut self) -> Result<Option<NewFile>> {
        let Some(smallest) = self.smallest.take() else {
            return Ok(None);
        };
        if !self.block.is_empty() {
            self.finish_block()?;
        }
        let Some((largest, sealed_len)) = self.open_entry.take() else {
            return Ok(None);
        };
        index::put_entry(&mut self.index, &largest, sealed_len);

        let mut tail = filter::build(&self.hashes, self.context.options.filter_bits_per_key);
        let footer = Footer {
            data_bytes: self.data_bytes,
            entries: self.entries,
            data_checksum: self.data_checksum.digest(),
            filter_bytes: tail.len() as u32,
            index_bytes: self.index.len() as u32,
            blocks: self.blocks,
        };
        tail.extend_from_slice(&self.index);
        let checksum = footer.append(&mut tail);
        let tail = Bytes::from(tail);
        let size_bytes = self.data_bytes + tail.len() as u64;
        let clip = KeyGroupRange {
            start: key::group(&smallest).unwrap_or(0),
            end: key::group(&largest).unwrap_or(u16::MAX),
        };
        let described = FileRef {
            path: self.path.to_string(),
            size_bytes,
            level: 0,
            smallest,
            largest: largest.into(),
            clip,
            entries: self.entries,
            tail_bytes: tail.len() as u32,
            checksum,
        };
        // The same check that readers make: a file that cannot be read back is not handed out.
        let (meta, _, _) = FileMeta::decode(&described.path, &tail, size_bytes)?;
        self.part.extend_from_slice(&tail);
        self.send_full_parts()?;
        let last = std::mem::take(&mut self.part);
        if !last.is_empty() {
            self.send(Part::Data(last.into()))?;
        }
        self.send(Part::End)?;
        self.wait()?;
        self.context
            .bytes_uploaded
            .fetch_add(size_bytes, std::sync::atomic::Ordering::Relaxed);
        self.durable = true;
        let file = SstFile::written(&self.context, self.path.clone(), &described);
        file.keep_meta(Arc::new(meta));
        self.context.files.adopt(&file);
        Ok(Some(NewFile {
            file,
            blocks: std::mem::take(&mut self.kept),
        }))
    }
}

impl Drop for SstWriter {
    /// A file that was given up may have been written all the same, if only the answer was lost.
    fn drop(&mut self) {
        if !self.durable && self.entries > 0 {
            delete(&self.context, self.path.clone());
        }
    }
}
