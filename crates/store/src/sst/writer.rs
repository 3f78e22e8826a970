//! Makes a file from rows in ascending key order, as a stream: at no time is the whole file in memory.
//!
//! Runs on a blocking thread; a task on the runtime uploads what it produces. Blocks that readers are likely to ask for
//! are handed out with the finished file, so that it is not cold when it is installed.
use std::sync::Arc;

use bytes::Bytes;
use object_store::path::Path;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::block::{Aside, BlockBuilder, DataBlock};
use super::file::{SstFile, delete};
use super::filter;
use super::footer::Footer;
use super::index::{IndexBuilder, PARTITION_BYTES, Place, separator};
use super::new_file::NewFile;
use super::part::Part;
use super::properties::Counter;
use super::ranges::RangeTombstones;
use super::reader::{decode_tail, keep_tail};
use super::seal::{Sealer, put_checksum, reseal};
use crate::FileRef;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::io::{Part as UploadPart, QUEUE_PARTS};
use crate::key::{self, KEY_HEADER_BYTES};
use crate::options::{Compression, KeyGroupRange, KeyPart, TableId};
use crate::planted::{self, Bug};
use crate::row::{RowKind, RowRef};
use crate::rules::TableRules;

pub(crate) struct SstWriter {
    context: Arc<Context>,
    path: Path,
    seed: u64,
    parts: mpsc::Sender<UploadPart>,
    uploaded: JoinHandle<Result<()>>,
    compression: Compression,
    tables: TableRules,
    sealer: Sealer,
    block: BlockBuilder,
    /// The plain block that was finished last.
    plain: Vec<u8>,
    /// Rows of the current block that came from memory.
    hot_rows: usize,
    block_rows: usize,
    index: IndexBuilder,
    /// Index partitions one after the other, without their checksums: where they will lie is known only at the end.
    partitions: Vec<u8>,
    /// End of each partition in `partitions`, and its last separator.
    partition_ends: Vec<(usize, Vec<u8>)>,
    /// Where the data starts that the partition being built describes.
    partition_start: u64,
    /// A block whose separator is not known yet.
    open_entry: Option<Place>,
    blocks: u32,
    hashes: Vec<u64>,
    /// Group and table of the last row, and what scans of that table are asked by.
    header: Option<[u8; KEY_HEADER_BYTES]>,
    prefix_shape: Vec<KeyPart>,
    last_prefix_hash: Option<u64>,
    /// Bytes that wait to be sent.
    part: Vec<u8>,
    data_bytes: u64,
    data_checksum: Xxh3,
    counter: Counter,
    entries: u64,
    tombstones: u64,
    untimed: u64,
    times_ms: Option<(i64, i64)>,
    smallest: Option<Bytes>,
    ranges: RangeTombstones,
    kept: Vec<(u64, Part)>,
    /// Bytes of parts that may still be kept.
    keep_bytes: usize,
    durable: bool,
}

impl SstWriter {
    /// Starts a file; `keep_bytes` bounds the parts that are kept for the cache.
    pub(crate) fn new(context: &Arc<Context>, keep_bytes: usize) -> Self {
        let path = context.new_path();
        let (parts, queue) = mpsc::channel(QUEUE_PARTS);
        let uploaded = context.env.runtime.spawn({
            let (context, path) = (context.clone(), path.clone());
            async move { context.files.upload(&path, queue).await }
        });
        Self {
            context: context.clone(),
            seed: xxh3_64(path.as_ref().as_bytes()),
            path,
            parts,
            uploaded,
            compression: context.options.compression_of(0),
            tables: TableRules::default(),
            sealer: Sealer::default(),
            block: BlockBuilder::default(),
            plain: Vec::new(),
            hot_rows: 0,
            block_rows: 0,
            index: IndexBuilder::default(),
            partitions: Vec::new(),
            partition_ends: Vec::new(),
            partition_start: 0,
            open_entry: None,
            blocks: 0,
            hashes: Vec::new(),
            header: None,
            prefix_shape: Vec::new(),
            last_prefix_hash: None,
            part: Vec::new(),
            data_bytes: 0,
            data_checksum: Xxh3::new(),
            counter: Counter::default(),
            entries: 0,
            tombstones: 0,
            untimed: 0,
            times_ms: None,
            smallest: None,
            ranges: RangeTombstones::new(),
            kept: Vec::new(),
            keep_bytes,
            durable: false,
        }
    }

    /// The level the file is for, which decides how it is compressed; 0 unless said.
    pub(crate) fn at_level(mut self, level: u8) -> Self {
        self.compression = self.context.options.compression_of(level);
        self
    }

    /// What the tables of the rows are like, which decides whether prefixes of their keys go into the filter.
    pub(crate) fn with_tables(mut self, tables: TableRules) -> Self {
        self.tables = tables;
        self
    }

    /// Bytes of the file so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.data_bytes + self.block.bytes() as u64
    }

    /// Adds a range tombstone over whole keys, which hides what older sources hold; starts must not descend. It may be given
    /// at any time before the end.
    pub(crate) fn add_range_tombstone(&mut self, start: Bytes, end: Bytes) {
        if start < end {
            self.ranges.push(start, end);
        }
    }

    /// Adds a row; keys must ascend. `hash` is [`key::hash`] of the key; `hot` says that the row was in memory before.
    pub(crate) fn add(&mut self, key: &[u8], hash: u64, row: RowRef<'_>, hot: bool) -> Result<()> {
        if let Some(place) = self.open_entry.take() {
            self.add_entry(key, place);
        }
        if self.smallest.is_none() {
            self.smallest = Some(Bytes::copy_from_slice(key));
        }
        if !(planted::is(Bug::FilterForgets) && hash.is_multiple_of(100)) {
            self.hashes.push(hash);
        }
        self.add_prefix(key);
        let value_bytes = row.value_bytes();
        self.counter.add(key, &row, value_bytes as u64);
        self.entries += 1;
        self.tombstones += u64::from(row.kind == RowKind::Tombstone);
        match row.time_ms {
            Some(time) => {
                let first = row.oldest_ms().unwrap_or(time);
                let (oldest, newest) = self.times_ms.unwrap_or((first, time));
                self.times_ms = Some((oldest.min(first), newest.max(time)));
            }
            None => self.untimed += u64::from(row.kind != RowKind::Tombstone),
        }
        let lies_aside =
            row.sealed.is_some() || value_bytes > self.context.options.value_aside_bytes;
        let aside = if lies_aside {
            Some(self.put_aside(&row, hot)?)
        } else {
            None
        };
        self.block.add(key, hash, &row, aside);
        self.block_rows += 1;
        self.hot_rows += usize::from(hot);
        if self.block.bytes() >= self.context.options.block_bytes {
            self.finish_block()?;
        }
        Ok(())
    }

    /// Adds what scans of the row's table are asked by to the filter.
    #[inline]
    fn add_prefix(&mut self, key: &[u8]) {
        let Some((header, user)) = key.split_first_chunk::<KEY_HEADER_BYTES>() else {
            return;
        };
        if self.header != Some(*header) {
            self.header = Some(*header);
            self.last_prefix_hash = None;
            let [_, _, t0, t1] = *header;
            let table = TableId(u16::from_be_bytes([t0, t1]));
            let rules = self.tables.of(table);
            self.prefix_shape.clone_from(&rules.prefix);
            if !rules.prefix.is_empty() {
                self.counter.note_prefixes(table.0, rules.prefix_shape);
            }
        }
        if self.prefix_shape.is_empty() {
            return;
        }
        let len = key::prefix_len(&self.prefix_shape, user);
        if let Some(prefix) = len.and_then(|len| user.get(..len)) {
            let hash = key::hash_prefix(*header, prefix);
            // Keys of one prefix lie side by side.
            if self.last_prefix_hash.replace(hash) != Some(hash) {
                self.hashes.push(hash);
            }
        }
    }

    /// Writes a value into a piece of its own.
    fn put_aside(&mut self, row: &RowRef<'_>, hot: bool) -> Result<Aside> {
        let (offset, start) = (self.data_bytes, self.part.len());
        match row.sealed {
            None => {
                self.sealer.seal(
                    row.value,
                    self.compression,
                    self.seed,
                    offset,
                    &mut self.part,
                );
                if hot && row.value.len() <= self.keep_bytes {
                    self.keep_bytes -= row.value.len();
                    let value = Part::Value(Bytes::copy_from_slice(row.value));
                    self.kept.push((offset, value));
                }
            }
            Some(seal) => {
                let what = || {
                    format!(
                        "the value at offset {} of an input of {}",
                        seal.offset, self.path
                    )
                };
                let (from, to) = ((seal.seed, seal.offset), (self.seed, offset));
                reseal(&what, row.value, from, to, &mut self.part)?;
            }
        }
        let place = self.wrote(start);
        self.send_full_parts()?;
        Ok(Aside {
            place,
            plain_bytes: row.value_bytes() as u32,
        })
    }

    /// Counts what was appended to the part from `start` on as data.
    fn wrote(&mut self, start: usize) -> Place {
        let sealed = self.part.get(start..).unwrap_or_default();
        self.data_checksum.update(sealed);
        let place = Place {
            offset: self.data_bytes,
            bytes: sealed.len() as u32,
        };
        self.data_bytes = place.end();
        place
    }

    /// Adds the last block to the index; `next` is the first key after it.
    fn add_entry(&mut self, next: &[u8], place: Place) {
        self.index
            .add(separator(self.block.last_key(), next), place);
        if self.index.bytes() >= PARTITION_BYTES {
            self.finish_partition();
        }
    }

    fn finish_partition(&mut self) {
        let last = self.index.last().to_vec();
        let end = self.index.end();
        self.index
            .finish(self.partition_start, &mut self.partitions);
        self.partition_start = end;
        self.partition_ends.push((self.partitions.len(), last));
    }

    fn finish_block(&mut self) -> Result<()> {
        self.block.finish(&mut self.plain);
        let (offset, start) = (self.data_bytes, self.part.len());
        self.sealer.seal(
            &self.plain,
            self.compression,
            self.seed,
            offset,
            &mut self.part,
        );
        self.open_entry = Some(self.wrote(start));
        if self.hot_rows * 2 > self.block_rows && self.plain.len() <= self.keep_bytes {
            self.keep_bytes -= self.plain.len();
            let what = || format!("block {} of {}", self.blocks, self.path);
            let plain = Bytes::copy_from_slice(&self.plain);
            let block = DataBlock::from_plain(&what, plain)?;
            self.kept.push((offset, Part::Block(Arc::new(block))));
        }
        (self.hot_rows, self.block_rows) = (0, 0);
        self.blocks += 1;
        self.send_full_parts()
    }

    fn send_full_parts(&mut self) -> Result<()> {
        let part_bytes = self.context.options.io.part_bytes.max(1);
        while self.part.len() >= part_bytes {
            let mut rest = Vec::with_capacity(part_bytes + part_bytes / 64);
            rest.extend_from_slice(self.part.get(part_bytes..).unwrap_or_default());
            let mut part = std::mem::replace(&mut self.part, rest);
            part.truncate(part_bytes);
            self.send(UploadPart::Data(part.into()))?;
        }
        Ok(())
    }

    fn send(&mut self, part: UploadPart) -> Result<()> {
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

    /// Ends the file and waits until it is durable. `None` if it has neither rows nor range tombstones: then nothing was
    /// written.
    pub(crate) fn finish(mut self) -> Result<Option<NewFile>> {
        if !self.block.is_empty() {
            self.finish_block()?;
        }
        let mut upper = self.last_upper();
        if let Some(place) = self.open_entry.take() {
            let last = self.block.last_key().to_vec();
            self.index.add(&last, place);
            self.finish_partition();
        }
        let mut smallest = self.smallest.take();
        if let Some((start, _)) = self.ranges.iter().next() {
            smallest = smallest.min(Some(start.clone())).or(Some(start.clone()));
        }
        upper = upper.max(self.ranges.iter().last().map(|(_, end)| end.clone()));
        let (Some(smallest), Some(upper)) = (smallest, upper) else {
            return Ok(None);
        };
        let tail = self.tail()?;
        let about = FileRef {
            path: self.path.to_string(),
            size_bytes: self.data_bytes + tail.bytes.len() as u64,
            level: 0,
            clip: KeyGroupRange {
                start: key::group(&smallest).unwrap_or(0),
                end: key::last_group_below(&upper),
            },
            smallest,
            upper,
            entries: self.entries,
            tombstones: self.tombstones,
            untimed: self.untimed,
            times_ms: self.times_ms,
            range_tombstones: self.ranges.len() as u32,
            filter_bytes: tail.filter_bytes,
            index_bytes: tail.index_bytes,
            end_bytes: tail.bytes.len() as u32 - tail.filter_bytes - tail.index_bytes,
            seed: self.seed,
            checksum: tail.checksum,
        };
        let size_bytes = about.size_bytes;
        let file = SstFile::written(&self.context, self.path.clone(), about);
        // The same checks that readers make: a file that cannot be read back is not handed out.
        let metadata = decode_tail(&file, &tail.bytes)?;
        self.part.extend_from_slice(&tail.bytes);
        self.send_full_parts()?;
        let last = std::mem::take(&mut self.part);
        if !last.is_empty() {
            self.send(UploadPart::Data(last.into()))?;
        }
        self.send(UploadPart::End)?;
        self.wait()?;
        self.context
            .bytes_uploaded
            .fetch_add(size_bytes, std::sync::atomic::Ordering::Relaxed);
        self.durable = true;
        self.context.files.adopt(&file);
        let mut parts = std::mem::take(&mut self.kept);
        parts.extend(keep_tail(&file, metadata));
        Ok(Some(NewFile { file, parts }))
    }

    /// The least key above the last row.
    fn last_upper(&self) -> Option<Bytes> {
        (self.entries > 0).then(|| [self.block.last_key(), &[0]].concat().into())
    }

    /// Filter, index and end.
    fn tail(&mut self) -> Result<Tail> {
        let mut out = Vec::new();
        let (seed, filter_start) = (self.seed, self.data_bytes);
        let bits = self.context.options.filter_bits_per_key;
        filter::build(&self.hashes, bits, seed, filter_start, &mut out);
        let filter_bytes = out.len();
        let index_start = filter_start + filter_bytes as u64;
        let mut directory = IndexBuilder::default();
        let mut from = 0;
        for (end, separator) in &self.partition_ends {
            let start = out.len();
            let offset = filter_start + start as u64;
            out.extend_from_slice(self.partitions.get(from..*end).unwrap_or_default());
            put_checksum(&mut out, start, seed, offset);
            let bytes = (out.len() - start) as u32;
            directory.add(separator, Place { offset, bytes });
            from = *end;
        }
        let index_bytes = out.len() - filter_bytes;
        let mut end = Vec::new();
        directory.finish(index_start, &mut end);
        let directory_bytes = end.len();
        self.ranges.encode(&mut end);
        let ranges_bytes = end.len() - directory_bytes;
        std::mem::take(&mut self.counter).finish().encode(&mut end);
        let properties_bytes = end.len() - directory_bytes - ranges_bytes;
        let too_long = || {
            let path = &self.path;
            Error::usage(format!(
                "{path} has too many rows: its index would take 4 GiB"
            ))
        };
        let short = |len: usize| u32::try_from(len).map_err(|_| too_long());
        let footer = Footer {
            seed,
            data_bytes: self.data_bytes,
            entries: self.entries,
            data_checksum: self.data_checksum.digest(),
            filter_bytes: short(filter_bytes)?,
            index_bytes: short(index_bytes)?,
            directory_bytes: short(directory_bytes)?,
            ranges_bytes: short(ranges_bytes)?,
            properties_bytes: short(properties_bytes)?,
            blocks: self.blocks,
        };
        let checksum = footer.append(&mut end);
        out.extend_from_slice(&end);
        short(out.len())?;
        Ok(Tail {
            bytes: out,
            filter_bytes: footer.filter_bytes,
            index_bytes: footer.index_bytes,
            checksum,
        })
    }
}

/// What follows the data.
struct Tail {
    bytes: Vec<u8>,
    filter_bytes: u32,
    index_bytes: u32,
    checksum: u64,
}

impl Drop for SstWriter {
    /// A file that was given up may have been written all the same, if only the answer was lost.
    fn drop(&mut self) {
        if !self.durable && (self.entries > 0 || !self.ranges.is_empty()) {
            delete(&self.context, self.path.clone());
        }
    }
}
