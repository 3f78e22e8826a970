//! Reads a whole file and checks everything that can be checked: checksums, order, bounds, counts, and that searches by hash
//! and filter find every row.
//!
//! Damage does not end a scrub: all of it is reported, by where it lies. Only a file that cannot be read at all is an error.
#![allow(dead_code, reason = "for the command that verifies checkpoints")]
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use xxhash_rust::xxh3::Xxh3;

use super::block::{BlockCursor, DataBlock};
use super::file::SstFile;
use super::filter::Filter;
use super::footer::FileEnd;
use super::index::{IndexBlock, Place};
use super::reader::{decode_end, decode_filter, decode_partition, read_checked};
use super::seal::unseal;
use crate::context::Context;
use crate::error::{Error, ErrorKind, Result};
use crate::io::ReadClass;
use crate::key;
use crate::row::{RowKind, RowRef};

/// Bytes read at once.
const PIECE_BYTES: u64 = 4 << 20;

/// Something that is not as it should be.
#[derive(Clone, Debug)]
pub(crate) struct Damage {
    /// Where it lies in the file.
    pub(crate) offset: u64,
    pub(crate) error: Error,
}

/// Checks a file; `read` is told of every byte that was read. Returns what is wrong, and the end of the file if that is readable.
pub(crate) async fn scrub(
    context: &Context,
    file: &Arc<SstFile>,
    read: &mut (dyn FnMut(u64) + Send),
) -> Result<(Vec<Damage>, Option<FileEnd>)> {
    let mut scrub = Scrub {
        file,
        damages: Vec::new(),
        filter: None,
        last_key: None,
        counts: Counts::default(),
    };
    let end_part = file.end_part().place;
    let end_start = file.size_bytes - u64::from(file.end_bytes);
    let bytes = whole(context, file, end_start..file.size_bytes).await?;
    read(bytes.len() as u64);
    let Some(end) = scrub.note(end_part.offset, decode_end(file, &bytes)) else {
        return Ok((scrub.damages, None));
    };
    let filter_start = file.data_bytes();
    let bytes = whole(context, file, filter_start..file.index_start()).await?;
    read(bytes.len() as u64);
    scrub.filter = scrub.note(filter_start, decode_filter(file, &bytes));
    let index_start = file.index_start();
    let bytes = whole(context, file, index_start..end_start).await?;
    read(bytes.len() as u64);
    let mut places = Vec::new();
    let mut all_places = true;
    for place in end.directory.places() {
        let piece = slice(&bytes, index_start, place);
        match scrub.note(place.offset, decode_partition(file, place, piece)) {
            Some(partition) => scrub.take_places(&partition, &mut places),
            None => all_places = false,
        }
    }
    if all_places && places.len() != end.footer.blocks as usize {
        let why = format!(
            "{} blocks, but {} were written",
            places.len(),
            end.footer.blocks
        );
        scrub.damage(index_start, &format!("its index describes {why}"));
    }
    scrub.data(context, &places, &end, read).await?;
    if all_places && scrub.damages.is_empty() {
        scrub.check_counts(&end);
    }
    Ok((scrub.damages, Some(end)))
}

/// Reads a range whatever is in it.
async fn whole(context: &Context, file: &SstFile, range: Range<u64>) -> Result<Bytes> {
    if range.is_empty() {
        return Ok(Bytes::new());
    }
    read_checked(context, file, range, ReadClass::Background, Ok).await
}

fn slice(bytes: &Bytes, base: u64, place: Place) -> &[u8] {
    let start = place.offset.saturating_sub(base) as usize;
    bytes
        .get(start..start.saturating_add(place.bytes as usize))
        .unwrap_or_default()
}

#[derive(Default)]
struct Counts {
    rows: u64,
    tombstones: u64,
    untimed: u64,
    times_ms: Option<(i64, i64)>,
}

impl Counts {
    fn add(&mut self, row: &RowRef<'_>) {
        self.rows += 1;
        self.tombstones += u64::from(row.kind == RowKind::Tombstone);
        self.untimed += u64::from(row.kind != RowKind::Tombstone && row.time_ms.is_none());
        if let Some(time) = row.time_ms {
            let first = row.oldest_ms().unwrap_or(time);
            let (oldest, newest) = self.times_ms.unwrap_or((first, time));
            self.times_ms = Some((oldest.min(first), newest.max(time)));
        }
    }
}

struct Scrub<'a> {
    file: &'a SstFile,
    damages: Vec<Damage>,
    filter: Option<Filter>,
    last_key: Option<Vec<u8>>,
    counts: Counts,
}

impl Scrub<'_> {
    fn note<T>(&mut self, offset: u64, result: Result<T>) -> Option<T> {
        result
            .map_err(|error| self.damages.push(Damage { offset, error }))
            .ok()
    }

    fn damage(&mut self, offset: u64, why: &str) {
        let message = format!("{} is damaged: {why}", self.file.path());
        let error = Error::corrupt(message);
        self.damages.push(Damage { offset, error });
    }

    fn take_places(&mut self, partition: &IndexBlock, places: &mut Vec<(Place, Vec<u8>)>) {
        for (i, place) in partition.places().enumerate() {
            let separator = partition.separator(i);
            if let Some((last, before)) = places.last()
                && (*before >= separator || last.end() > place.offset)
            {
                let why = format!(
                    "the index entry of the block at {} is out of order",
                    place.offset
                );
                self.damage(place.offset, &why);
                continue;
            }
            places.push((place, separator));
        }
    }

    /// Checks blocks and values, and the checksum over all of them.
    async fn data(
        &mut self,
        context: &Context,
        places: &[(Place, Vec<u8>)],
        end: &FileEnd,
        read: &mut (dyn FnMut(u64) + Send),
    ) -> Result<()> {
        let mut checksum = Xxh3::new();
        let (mut at, mut next) = (0, 0);
        let data_bytes = self.file.data_bytes();
        while at < data_bytes {
            // As many blocks as fit, with the values before each; at least one, and all that is left after the last.
            let first = next;
            let mut piece_end = at;
            while let Some((place, _)) = places.get(next)
                && (next == first || place.end() - at <= PIECE_BYTES)
            {
                piece_end = place.end();
                next += 1;
            }
            if first == next {
                piece_end = data_bytes;
            }
            let bytes = match whole(context, self.file, at..piece_end).await {
                Err(error) if error.kind == ErrorKind::Corrupt => {
                    self.damages.push(Damage { offset: at, error });
                    return Ok(());
                }
                bytes => bytes?,
            };
            read(bytes.len() as u64);
            checksum.update(&bytes);
            for (place, separator) in places.get(first..next).unwrap_or_default() {
                let sealed = slice(&bytes, at, *place);
                let what = || {
                    format!(
                        "the block at offset {} of {}",
                        place.offset,
                        self.file.path()
                    )
                };
                let block = DataBlock::decode(&what, sealed, self.file.seed, place.offset);
                let block = block.and_then(|block| {
                    block.check(&what, |key| key::hash(key).unwrap_or_default())?;
                    Ok(block)
                });
                if let Some(block) = self.note(place.offset, block) {
                    self.rows(&block, *place, separator, at, &bytes);
                }
            }
            at = piece_end;
        }
        if checksum.digest() != end.footer.data_checksum {
            self.damage(
                0,
                "the checksum over all of its data is not the one that was written",
            );
        }
        Ok(())
    }

    /// Checks the rows of a block; `base` and `around` are the bytes it was read with.
    fn rows(
        &mut self,
        block: &DataBlock,
        place: Place,
        separator: &[u8],
        base: u64,
        around: &Bytes,
    ) {
        let mut cursor = BlockCursor::default();
        let mut wrong = None;
        let file = self.file;
        while cursor.advance(block) {
            let key = cursor.key();
            let Some(mut row) = cursor.row(block) else {
                break;
            };
            let mut plain = Vec::new();
            if let Some(aside) = cursor.aside() {
                let offset = aside.place.offset;
                let what = || format!("the value at offset {offset} of {}", file.path());
                let sealed = slice(around, base, aside.place);
                match unseal(&what, sealed, file.seed, offset) {
                    Ok(value) => plain = value,
                    Err(error) => self.damages.push(Damage { offset, error }),
                }
                if plain.len() != aside.plain_bytes as usize {
                    wrong.get_or_insert("a value that lies aside has another length");
                }
                row.value = &plain;
            }
            self.counts.add(&row);
            if row.open().is_err() {
                wrong.get_or_insert("a list of operands is none");
            }
            if self.last_key.as_deref().is_some_and(|last| last >= key) {
                wrong.get_or_insert("a row is not above the last of the block before");
            }
            if key < file.smallest.as_ref() || key >= file.upper.as_ref() || key > separator {
                wrong.get_or_insert("a row is out of bounds");
            }
            let hash = key::hash(key);
            let filter = self.filter.as_ref();
            if hash.is_none_or(|hash| filter.is_some_and(|filter| !filter.may_contain(hash))) {
                wrong.get_or_insert("the filter denies a row");
            }
            self.last_key = Some(key.to_vec());
        }
        if let Some(why) = wrong {
            let why = format!("in the block at offset {}, {why}", place.offset);
            self.damage(place.offset, &why);
        }
    }

    /// Compares what was counted with what the file and the checkpoint say.
    fn check_counts(&mut self, end: &FileEnd) {
        let file = self.file;
        let tables = end.properties.tables.iter().map(|(_, tally)| tally.rows);
        let said = [
            (file.entries, file.tombstones, file.untimed, file.times_ms),
            (tables.sum(), file.tombstones, file.untimed, file.times_ms),
        ];
        let Counts {
            rows,
            tombstones,
            untimed,
            times_ms,
        } = self.counts;
        for said in said {
            if said != (rows, tombstones, untimed, times_ms) {
                let why = format!(
                    "it holds {rows} rows with {tombstones} tombstones and {untimed} rows without time, but {said:?} were written"
                );
                self.damage(0, &why);
                return;
            }
        }
    }
}
