//! Loads parts of a file.
//!
//! Every part is checked before it is handed on. An answer that fails its check is asked for again: networks flip bits and
//! cut bodies. What still fails then is reported.
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::block::DataBlock;
use super::file::SstFile;
use super::filter::Filter;
use super::footer::FileEnd;
use super::index::{IndexBlock, Place};
use super::part::{Part, PartKind, PartPlace};
use super::seal::{checked, unseal};
use crate::context::Context;
use crate::error::{Error, ErrorKind, Result};
use crate::io::ReadClass;

/// Answers that did not pass their check, after which a read is given up.
const DAMAGES_MAX: u32 = 1;

/// Parts of a file with the offsets they lie at.
pub(crate) type LoadedParts = Vec<(u64, Part)>;

/// Loads parts that lie in one piece of the file, in ascending order, with gaps allowed. What is pinned stays with the file;
/// the rest goes into the cache and is returned.
pub(crate) async fn load_parts(
    context: &Arc<Context>,
    file: &Arc<SstFile>,
    parts: &[PartPlace],
    class: ReadClass,
) -> Result<LoadedParts> {
    let Some(range) = whole_range(parts) else {
        return Ok(Vec::new());
    };
    let base = range.start;
    for part in parts {
        if part.kind == PartKind::Value && part.place.end() > file.data_bytes() {
            return Err(Error::corrupt(format!(
                "{} is damaged: a row says that its value ends at offset {}, but the data ends at {}",
                file.path(),
                part.place.end(),
                file.data_bytes()
            )));
        }
    }
    let check = |bytes: Bytes| decode_all(file, parts, base, &bytes);
    let loaded = read_checked(context, file, range, class, check).await?;
    keep(context, file, parts, &loaded);
    Ok(loaded)
}

/// Like [`load_parts`], if it takes no waiting; `None` if it would, or if anything is wrong, which a patient reader will find out.
/// `scratch` is overwritten.
pub(crate) fn load_parts_at_once(
    context: &Arc<Context>,
    file: &Arc<SstFile>,
    parts: &[PartPlace],
    scratch: &mut Vec<u8>,
) -> Option<LoadedParts> {
    let range = whole_range(parts)?;
    let bytes = context.files.read_at_once(file, &range, scratch)?;
    let loaded = decode_all(file, parts, range.start, bytes).ok()?;
    keep(context, file, parts, &loaded);
    Some(loaded)
}

/// From the start of the first part to the end of the last; `None` without parts.
fn whole_range(parts: &[PartPlace]) -> Option<Range<u64>> {
    // The end of a file may contain partitions that are asked for too, so the last part need not end last.
    let end = parts.iter().map(|part| part.place.end()).max()?;
    Some(parts.first()?.place.offset..end)
}

fn decode_all(file: &SstFile, parts: &[PartPlace], base: u64, bytes: &[u8]) -> Result<LoadedParts> {
    let mut loaded = Vec::with_capacity(parts.len());
    for part in parts {
        let piece = slice(bytes, base, part.place);
        decode(file, *part, piece, &mut loaded)?;
    }
    Ok(loaded)
}

/// Puts parts that were loaded into the cache.
fn keep(context: &Arc<Context>, file: &Arc<SstFile>, parts: &[PartPlace], loaded: &LoadedParts) {
    for (offset, part) in loaded {
        context.env.block_cache.insert(file, *offset, part.clone());
    }
    let paged = |part: &&PartPlace| matches!(part.kind, PartKind::FilterPage | PartKind::Partition);
    let paged = parts.iter().filter(paged).count() as u32;
    if paged > 0 && file.should_pin(paged) {
        pin_in_background(context, file);
    }
}

fn slice(bytes: &[u8], base: u64, place: Place) -> &[u8] {
    let range = (place.offset - base) as usize..(place.end() - base) as usize;
    bytes.get(range).unwrap_or_default()
}

fn decode(file: &SstFile, part: PartPlace, piece: &[u8], loaded: &mut LoadedParts) -> Result<()> {
    let offset = part.place.offset;
    let seed = file.seed;
    let what = || name(file, part);
    match part.kind {
        PartKind::Block => {
            let block = DataBlock::decode(&what, piece, seed, offset)?;
            loaded.push((offset, Part::Block(Arc::new(block))));
        }
        PartKind::Value => {
            let value = unseal(&what, piece, seed, offset)?;
            loaded.push((offset, Part::Value(value.into())));
        }
        PartKind::FilterPage => {
            let page = file.filter_shape.decode_page(&what, piece, seed, offset)?;
            loaded.push((offset, Part::Filter(Arc::new(page))));
        }
        PartKind::Filter => {
            let filter = decode_filter(file, piece)?;
            loaded.extend(file.keep_filter(filter));
        }
        PartKind::Partition => {
            let partition = decode_partition(file, part.place, piece)?;
            loaded.push((offset, Part::Partition(Arc::new(partition))));
        }
        PartKind::End => {
            let before = piece.len() - (file.end_bytes as usize).min(piece.len());
            let (index, end) = piece.split_at(before);
            let end = decode_end(file, end)?;
            let partitions = if index.is_empty() {
                Vec::new()
            } else {
                decode_partitions(file, &end, index)?
            };
            file.keep_end(end);
            if !partitions.is_empty() || file.index_bytes == 0 {
                loaded.extend(file.keep_index(partitions));
            }
        }
    }
    Ok(())
}

/// What a part is called in errors.
fn name(file: &SstFile, part: PartPlace) -> String {
    let kind = match part.kind {
        PartKind::Block => "block",
        PartKind::Value => "value block",
        PartKind::Filter => "filter",
        PartKind::FilterPage => "filter page",
        PartKind::Partition => "index partition",
        PartKind::End => "end",
    };
    format!(
        "the {kind} at offset {} of {}",
        part.place.offset,
        file.path()
    )
}

pub(crate) fn decode_end(file: &SstFile, end: &[u8]) -> Result<FileEnd> {
    let path = file.path().as_ref();
    let end = FileEnd::decode(path, end, file.size_bytes)?;
    let footer = &end.footer;
    if end.checksum != file.checksum
        || footer.seed != file.seed
        || footer.entries != file.entries
        || footer.filter_bytes != file.filter_bytes
        || footer.index_bytes != file.index_bytes
        || end.ranges.len() as u64 != u64::from(file.range_tombstones)
    {
        return Err(Error::corrupt(format!(
            "{path} is not the file the checkpoint names: its checksum is {:016x}, expected {:016x}",
            end.checksum, file.checksum
        )));
    }
    Ok(end)
}

pub(crate) fn decode_partition(file: &SstFile, place: Place, piece: &[u8]) -> Result<IndexBlock> {
    let kind = PartKind::Partition;
    let what = || name(file, PartPlace { place, kind });
    let bytes = checked(&what, piece, file.seed, place.offset)?;
    IndexBlock::decode(&what, bytes, 0..file.data_bytes())
}

fn decode_partitions(file: &SstFile, end: &FileEnd, index: &[u8]) -> Result<Vec<IndexBlock>> {
    let base = file.index_start();
    let partition = |place: Place| {
        let range = (place.offset - base) as usize..(place.end() - base) as usize;
        decode_partition(file, place, index.get(range).unwrap_or_default())
    };
    end.directory.places().map(partition).collect()
}

/// Filter, index and end of a file.
pub(super) struct Metadata {
    filter: Filter,
    index: Vec<IndexBlock>,
    end: FileEnd,
}

/// Decodes everything that follows the data.
pub(super) fn decode_tail(file: &SstFile, tail: &[u8]) -> Result<Metadata> {
    let whole = file.whole_filter_part();
    let (filter, rest) = tail.split_at(tail.len().min(whole.place.bytes as usize));
    let before = rest.len() - rest.len().min(file.end_bytes as usize);
    let (index, end) = rest.split_at(before);
    let end = decode_end(file, end)?;
    Ok(Metadata {
        filter: decode_filter(file, filter)?,
        index: decode_partitions(file, &end, index)?,
        end,
    })
}

/// Decodes the whole filter.
pub(super) fn decode_filter(file: &SstFile, bytes: &[u8]) -> Result<Filter> {
    let whole = file.whole_filter_part();
    let what = || name(file, whole);
    file.filter_shape
        .decode(&what, bytes, file.seed, whole.place.offset)
}

/// Keeps metadata with the file; returns what is not pinned.
pub(super) fn keep_tail(file: &SstFile, metadata: Metadata) -> LoadedParts {
    file.keep_end(metadata.end);
    let mut parts = file.keep_filter(metadata.filter);
    parts.extend(file.keep_index(metadata.index));
    parts
}

/// Loads the whole filter and index of a file that is asked often, and pins both. Nobody waits for it.
fn pin_in_background(context: &Arc<Context>, file: &Arc<SstFile>) {
    let (context, file) = (context.clone(), file.clone());
    context.env.runtime.clone().spawn(async move {
        let class = ReadClass::Background;
        let filter = [file.whole_filter_part()];
        let result = async {
            if !file.filter_shape.is_empty() && file.filter.get().is_none() {
                load_parts(&context, &file, &filter, class).await?;
            }
            let index = load_index(&context, &file, class).await?;
            file.pin_index(index);
            Ok::<(), Error>(())
        };
        if let Err(error) = result.await {
            tracing::debug!(%error, "a filter and an index stay paged");
            file.pinning_failed();
        }
    });
}

/// All partitions of the index, from memory if they are pinned. The end of the file is in memory afterwards.
pub(crate) async fn load_index(
    context: &Arc<Context>,
    file: &Arc<SstFile>,
    class: ReadClass,
) -> Result<Arc<[IndexBlock]>> {
    if let Some((index, _)) = file.index.get() {
        return Ok(index.clone());
    }
    let range = file.index_start()..file.size_bytes;
    let (end, partitions) = read_checked(context, file, range, class, |bytes| {
        let before = bytes.len() - (file.end_bytes as usize).min(bytes.len());
        let (index, end) = bytes.split_at(before);
        let end = decode_end(file, end)?;
        let partitions = decode_partitions(file, &end, index)?;
        Ok((end, partitions))
    })
    .await?;
    file.keep_end(end);
    Ok(partitions.into())
}

/// Reads a piece of a file and makes of it what `check` does, which may refuse it.
pub(crate) async fn read_checked<T>(
    context: &Context,
    file: &SstFile,
    range: Range<u64>,
    class: ReadClass,
    check: impl Fn(Bytes) -> Result<T>,
) -> Result<T> {
    let mut damages = 0;
    loop {
        let files = &context.files;
        let bytes = files.read(file, range.clone(), class);
        match bytes.await.and_then(&check) {
            // If the bytes were damaged on their way, they will come whole the next time.
            Err(error) if error.kind == ErrorKind::Corrupt && damages < DAMAGES_MAX => {
                tracing::warn!(%error, "reading again");
                files.distrust(file, &range);
                damages += 1;
            }
            answer => return answer,
        }
    }
}
