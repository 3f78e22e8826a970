//! The scrub of one file: every checksum, every row, and whether all parts tell the same story.
//!
//! A part that is damaged is reported with its place, and the scrub goes on behind it, so that one flipped bit does not hide the next.
//! What counts all parts together (row counts, the properties, the checksum of the data) is compared only if every block could be read;
//! otherwise it would repeat what was said.
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use xxhash_rust::xxh3::Xxh3;

use super::Damage;
use crate::FileRef;
use crate::context::Context;
use crate::error::{ErrorKind, Result};
use crate::io::ReadClass;
use crate::key;
use crate::objects::request_error;
use crate::sst::block::{BlockCursor, DataBlock};
use crate::sst::file::SstFile;
use crate::sst::filter::{Filter, FilterShape};
use crate::sst::footer::FileEnd;
use crate::sst::index::{IndexBlock, Place};
use crate::sst::properties::Counter;
use crate::sst::reader::{decode_end, decode_partition, read_checked};
use crate::sst::seal::unseal;

/// Data read with one request, unless a single block and its values are larger.
const PIECE_BYTES: u64 = 4 << 20;
/// Damages told of one file; a file with more is lost as a whole.
const DAMAGES_MAX: usize = 64;

/// See [`super::Inspector::verify`].
pub(crate) async fn verify(
    context: &Arc<Context>,
    file: &FileRef,
    advance: &(dyn Fn(u64) + Sync),
) -> Result<Vec<Damage>> {
    let mut scrub = Scrub {
        path: file.path.clone(),
        damages: Vec::new(),
        untold: 0,
    };
    let handle = match SstFile::restored(context, file) {
        Ok(handle) => handle,
        Err(error) => {
            scrub.found(None, error.message);
            return Ok(scrub.finish());
        }
    };
    if !exists(context, file, &mut scrub).await? {
        return Ok(scrub.finish());
    }
    let mut reading = Reading {
        context,
        file: &handle,
        advance,
        scrub: &mut scrub,
    };
    reading.whole().await?;
    Ok(scrub.finish())
}

/// Whether the file is there and has the length that it should have; only then is it known where its parts lie.
async fn exists(context: &Context, file: &FileRef, scrub: &mut Scrub) -> Result<bool> {
    let path = Path::from(file.path.as_str());
    match context.env.objects.head(&path).await {
        Ok(found) if found.size == file.size_bytes => Ok(true),
        Ok(found) => {
            let (path, expected) = (&file.path, file.size_bytes);
            let what = format!("{path} has {} bytes, expected {expected}", found.size);
            scrub.found(Some(found.size.min(expected)), what);
            Ok(false)
        }
        Err(object_store::Error::NotFound { .. }) => {
            scrub.found(None, format!("there is no such file as {}", file.path));
            Ok(false)
        }
        Err(error) => Err(request_error("read", &path, error)),
    }
}

/// What was found so far.
struct Scrub {
    path: String,
    damages: Vec<Damage>,
    untold: usize,
}

impl Scrub {
    fn found(&mut self, offset: Option<u64>, what: String) {
        if self.damages.len() < DAMAGES_MAX {
            self.damages.push(Damage {
                path: self.path.clone(),
                offset,
                what,
            });
        } else {
            self.untold += 1;
        }
    }

    fn finish(mut self) -> Vec<Damage> {
        if self.untold > 0 {
            let what = format!("and {} more damages", self.untold);
            self.damages.push(Damage {
                path: self.path,
                offset: None,
                what,
            });
        }
        self.damages
    }
}

/// The scrub under way.
struct Reading<'a> {
    context: &'a Arc<Context>,
    file: &'a Arc<SstFile>,
    advance: &'a (dyn Fn(u64) + Sync),
    scrub: &'a mut Scrub,
}

/// What all rows together amount to.
#[derive(Default)]
struct Rows {
    counter: Counter,
    entries: u64,
    tombstones: u64,
    untimed: u64,
    times_ms: Option<(i64, i64)>,
    first: Option<Vec<u8>>,
    last: Option<Vec<u8>>,
    not_in_filter: u64,
}

impl Reading<'_> {
    async fn whole(&mut self) -> Result<()> {
        let file = self.file;
        let (data_end, index_start) = (file.data_bytes(), file.index_start());
        let end_start = file.end_start();
        let Some(end) = self.read(end_start..file.size_bytes).await? else {
            return Ok(());
        };
        let end = match decode_end(file, &end) {
            Ok(end) => end,
            Err(error) => {
                // Without it nobody knows where anything lies.
                self.scrub.found(Some(end_start), error.message);
                return Ok(());
            }
        };
        let filter = self.filter(data_end..index_start).await?;
        let places = self.index(&end, index_start..end_start).await?;
        if let Some(places) = places {
            self.data(&end, &places, filter.as_ref()).await?;
        }
        Ok(())
    }

    /// Bytes of the file; `None` if they are damaged beyond use, which is then told. An error if the store did not answer.
    async fn read(&mut self, range: Range<u64>) -> Result<Option<Bytes>> {
        let start = range.start;
        let length = range.end - range.start;
        if range.is_empty() {
            return Ok(Some(Bytes::new()));
        }
        let read = read_checked(self.context, self.file, range, ReadClass::Background, Ok);
        let answer = read.await;
        (self.advance)(length);
        match answer {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind == ErrorKind::Retry => Err(error),
            Err(error) => {
                self.scrub.found(Some(start), error.message);
                Ok(None)
            }
        }
    }

    /// The filter; `None` if it cannot be asked.
    async fn filter(&mut self, range: Range<u64>) -> Result<Option<Filter>> {
        let file = self.file;
        let shape = file.filter_shape;
        if shape.is_empty() {
            return Ok(None);
        }
        let Some(bytes) = self.read(range.clone()).await? else {
            return Ok(None);
        };
        let mut whole = true;
        for page in 0..shape.pages() {
            let place = shape.page_range(page);
            let offset = range.start + place.start;
            let what = || format!("filter page {page} of {}", file.path());
            let piece = bytes.get(place.start as usize..place.end as usize);
            let piece = piece.unwrap_or_default();
            if let Err(error) = shape.decode_page(&what, piece, file.seed, offset) {
                self.scrub.found(Some(offset), error.message);
                whole = false;
            }
        }
        Ok(match whole {
            true => self.decoded_filter(shape, &bytes, range.start),
            false => None,
        })
    }

    fn decoded_filter(&mut self, shape: FilterShape, bytes: &[u8], offset: u64) -> Option<Filter> {
        let what = || format!("the filter of {}", self.file.path());
        let filter = shape.decode(&what, bytes, self.file.seed, offset);
        filter
            .map_err(|error| self.scrub.found(Some(offset), error.message))
            .ok()
    }

    /// Where the blocks lie and up to which key each goes; `None` if not all of it can be known.
    async fn index(
        &mut self,
        end: &FileEnd,
        range: Range<u64>,
    ) -> Result<Option<Vec<(Place, Vec<u8>)>>> {
        let Some(bytes) = self.read(range.clone()).await? else {
            return Ok(None);
        };
        let mut places: Vec<(Place, Vec<u8>)> = Vec::new();
        let (mut at, mut whole) = (range.start, true);
        for (number, place) in end.directory.places().enumerate() {
            if place.offset != at {
                self.scrub.found(
                    Some(at),
                    format!(
                        "the directory of {} has partition {number} begin at offset {}, but the one before ends at {at}",
                        self.file.path(),
                        place.offset
                    ),
                );
                whole = false;
            }
            at = place.end();
            let start = place.offset.saturating_sub(range.start) as usize;
            let piece = bytes.get(start..start + place.bytes as usize);
            match decode_partition(self.file, place, piece.unwrap_or_default()) {
                Ok(partition) => {
                    self.partition(number, place, &end.directory, &partition, &mut places)
                }
                Err(error) => {
                    self.scrub.found(Some(place.offset), error.message);
                    whole = false;
                }
            }
        }
        if whole && at != range.end {
            self.scrub.found(
                Some(at),
                format!(
                    "the index of {} ends at offset {at}, expected {}",
                    self.file.path(),
                    range.end
                ),
            );
        }
        if whole && places.len() as u64 != u64::from(end.footer.blocks) {
            self.scrub.found(
                None,
                format!(
                    "{} has {} blocks in its index, but {} in its footer",
                    self.file.path(),
                    places.len(),
                    end.footer.blocks
                ),
            );
        }
        Ok(whole.then_some(places))
    }

    fn partition(
        &mut self,
        number: usize,
        place: Place,
        directory: &IndexBlock,
        partition: &IndexBlock,
        places: &mut Vec<(Place, Vec<u8>)>,
    ) {
        let path = self.file.path();
        let found = |scrub: &mut Scrub, what: String| {
            let what = format!("index partition {number} of {path} {what}");
            scrub.found(Some(place.offset), what);
        };
        let last = partition.len().checked_sub(1);
        if last.map(|last| partition.separator(last)) != Some(directory.separator(number)) {
            found(self.scrub, "does not end where the directory says".into());
        }
        for (i, block) in partition.places().enumerate() {
            let separator = partition.separator(i);
            if let Some((before, last)) = places.last()
                && (*last >= separator || before.end() > block.offset)
            {
                found(self.scrub, format!("has entry {i} out of order"));
            }
            places.push((block, separator));
        }
    }

    /// All rows, and whether they amount to what the rest of the file says.
    async fn data(
        &mut self,
        end: &FileEnd,
        places: &[(Place, Vec<u8>)],
        filter: Option<&Filter>,
    ) -> Result<()> {
        let data_end = self.file.data_bytes();
        let mut checksum = Xxh3::new();
        let mut rows = Rows::default();
        let mut whole = true;
        let mut at = 0;
        let mut next = 0;
        while next < places.len() {
            let piece_end = |(place, _): &&(Place, Vec<u8>)| place.end() <= at + PIECE_BYTES;
            let rest = places.get(next..).unwrap_or_default();
            let count = rest.iter().take_while(piece_end).count().max(1);
            let together = rest.get(..count).unwrap_or_default();
            let end = together.last().map_or(at, |(place, _)| place.end());
            let Some(bytes) = self.read(at..end.min(data_end)).await? else {
                return Ok(());
            };
            checksum.update(&bytes);
            for (i, (place, separator)) in together.iter().enumerate() {
                let before = match (next + i).checked_sub(1).and_then(|i| places.get(i)) {
                    Some((before, separator)) => (before.end(), Some(separator.as_slice())),
                    None => (0, None),
                };
                let piece = Piece {
                    bytes: &bytes,
                    base: at,
                    gap_start: before.0,
                    place: *place,
                    above: before.1,
                    separator,
                };
                whole &= self.block(&piece, filter, &mut rows);
            }
            (at, next) = (end, next + count);
        }
        if at < data_end {
            let Some(bytes) = self.read(at..data_end).await? else {
                return Ok(());
            };
            checksum.update(&bytes);
            self.scrub.found(
                Some(at),
                format!(
                    "{} has {} bytes of data that no block names",
                    self.file.path(),
                    data_end - at
                ),
            );
        }
        let found = checksum.digest();
        if whole && found != end.footer.data_checksum {
            self.scrub.found(
                None,
                format!(
                    "the checksum of the data of {} is {found:016x}, but {:016x} was written",
                    self.file.path(),
                    end.footer.data_checksum
                ),
            );
        }
        if whole {
            self.sums(end, rows);
        }
        Ok(())
    }

    /// One block with the values that lie aside before it; whether it could be read.
    fn block(&mut self, piece: &Piece<'_>, filter: Option<&Filter>, rows: &mut Rows) -> bool {
        let file = self.file;
        let offset = piece.place.offset;
        let what = || format!("the block at offset {offset} of {}", file.path());
        let sealed = piece.slice(piece.place);
        let block = DataBlock::decode(&what, sealed, file.seed, offset);
        let block = block.and_then(|block| {
            block.check(&what, |key| key::hash(key).unwrap_or_default())?;
            Ok(block)
        });
        let block = match block {
            Ok(block) => block,
            Err(error) => {
                self.scrub.found(Some(offset), error.message);
                return false;
            }
        };
        let mut cursor = BlockCursor::default();
        let mut values_end = piece.gap_start;
        let mut whole = true;
        while cursor.advance(&block) {
            let Some(mut row) = cursor.row(&block) else {
                break;
            };
            let plain;
            let mut value_bytes = row.value.len() as u64;
            if let Some(aside) = cursor.aside() {
                value_bytes = u64::from(aside.plain_bytes);
                let place = aside.place;
                if place.offset != values_end || place.end() > offset {
                    let why = format!(
                        "{} has a row whose value should lie at offset {}, but the next one lies at {values_end}",
                        what(),
                        place.offset
                    );
                    self.scrub.found(Some(offset), why);
                    whole = false;
                    continue;
                }
                values_end = place.end();
                let name = || {
                    format!(
                        "the value block at offset {} of {}",
                        place.offset,
                        file.path()
                    )
                };
                plain = match unseal(&name, piece.slice(place), file.seed, place.offset) {
                    Ok(plain) => plain,
                    Err(error) => {
                        self.scrub.found(Some(place.offset), error.message);
                        whole = false;
                        continue;
                    }
                };
                if plain.len() as u64 != value_bytes {
                    let why = format!(
                        "{} has {} bytes, expected {value_bytes}",
                        name(),
                        plain.len()
                    );
                    self.scrub.found(Some(place.offset), why);
                }
                row.value = &plain;
            }
            if let Err(error) = row.open() {
                let why = format!(
                    "{} has a row that cannot be read: {}",
                    what(),
                    error.message
                );
                self.scrub.found(Some(offset), why);
            }
            self.row(piece, cursor.key(), filter, rows);
            rows.counter.add(cursor.key(), &row, value_bytes);
            rows.add(&row);
        }
        if whole && values_end != offset {
            let why = format!("{} has bytes before it that none of its rows names", what());
            self.scrub.found(Some(values_end), why);
        }
        whole
    }

    fn row(&mut self, piece: &Piece<'_>, key: &[u8], filter: Option<&Filter>, rows: &mut Rows) {
        let file = self.file;
        let wrong = if rows.last.as_deref().is_some_and(|last| last >= key) {
            Some("is not above the one before it")
        } else if piece.above.is_some_and(|above| key <= above) || key > piece.separator {
            Some("does not belong into this block by the index")
        } else if key < file.smallest.as_ref() || key >= file.upper.as_ref() {
            Some("lies outside of the bounds that the checkpoint gives")
        } else {
            None
        };
        if let Some(wrong) = wrong {
            let why = format!(
                "the block at offset {} of {} has a key that {wrong}: {}",
                piece.place.offset,
                file.path(),
                key.escape_ascii()
            );
            self.scrub.found(Some(piece.place.offset), why);
        }
        if let (Some(filter), Some(hash)) = (filter, key::hash(key))
            && !filter.may_contain(hash)
        {
            rows.not_in_filter += 1;
        }
        rows.first.get_or_insert_with(|| key.to_vec());
        let last = rows.last.get_or_insert_default();
        last.clear();
        last.extend_from_slice(key);
    }

    /// Whether the rows are those that were counted when the file was written.
    fn sums(&mut self, end: &FileEnd, rows: Rows) {
        let file = self.file.clone();
        let path = file.path();
        let mut differs = |what: &str, found: String, expected: String| {
            if found != expected {
                let why = format!("{path} has {what} {found}, expected {expected}");
                self.scrub.found(None, why);
            }
        };
        differs(
            "a row count of",
            rows.entries.to_string(),
            file.entries.to_string(),
        );
        differs(
            "a count of tombstones of",
            rows.tombstones.to_string(),
            file.tombstones.to_string(),
        );
        differs(
            "a count of rows without time of",
            rows.untimed.to_string(),
            file.untimed.to_string(),
        );
        differs(
            "times",
            format!("{:?}", rows.times_ms),
            format!("{:?}", file.times_ms),
        );
        let first_range = end.ranges.iter().next().map(|(start, _)| start.to_vec());
        let smallest = rows.first.iter().chain(&first_range).min();
        differs(
            "a first key of",
            format!("{:?}", smallest.map(|key| key.escape_ascii().to_string())),
            format!("{:?}", Some(file.smallest.escape_ascii().to_string())),
        );
        differs(
            "keys that its filter does not know:",
            rows.not_in_filter.to_string(),
            "0".into(),
        );
        if let Some((_, last)) = end.ranges.iter().last() {
            let within = last <= &file.upper;
            differs(
                "a range tombstone within its bounds:",
                within.to_string(),
                "true".into(),
            );
        }
        let counted = rows.counter.finish();
        differs(
            "properties",
            format!("{counted:?}"),
            format!("{:?}", end.properties),
        );
    }
}

/// A block in the bytes that were read with it.
struct Piece<'a> {
    bytes: &'a Bytes,
    /// Where `bytes` begin in the file.
    base: u64,
    /// Where the values of the block's rows begin.
    gap_start: u64,
    place: Place,
    /// All keys are above this separator of the block before.
    above: Option<&'a [u8]>,
    /// No key is above this.
    separator: &'a [u8],
}

impl Piece<'_> {
    fn slice(&self, place: Place) -> &[u8] {
        let start = place.offset.checked_sub(self.base);
        let start = start.and_then(|start| usize::try_from(start).ok());
        let piece = start.and_then(|start| {
            let end = start.checked_add(place.bytes as usize)?;
            self.bytes.get(start..end)
        });
        piece.unwrap_or_default()
    }
}

impl Rows {
    fn add(&mut self, row: &crate::row::RowRef<'_>) {
        let is_tombstone = row.kind == crate::row::RowKind::Tombstone;
        self.entries += 1;
        self.tombstones += u64::from(is_tombstone);
        self.untimed += u64::from(!is_tombstone && row.time_ms.is_none());
        if let Some(time) = row.time_ms {
            let first = row.oldest_ms().unwrap_or(time);
            let (oldest, newest) = self.times_ms.unwrap_or((first, time));
            self.times_ms = Some((oldest.min(first), newest.max(time)));
        }
    }
}
