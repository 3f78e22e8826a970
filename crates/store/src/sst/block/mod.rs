//! Data blocks: sorted rows that are each addressable by themselves.
//!
//! All keys of a block share its *prefix*, which is stored once; each row stores the rest of its key whole. A row is
//! `header ‖ [time] ‖ length of the key's rest ‖ rest ‖ value`, where the header is `value length · 16 + 8 if the value lies aside + 4 if there is
//! a time + 0 for a tombstone, 1 for a value, 2 for operands` as a varint, and the time is the zigzag of its distance from the block's
//! base time. After the rows come
//!
//! * a *hash index*: buckets of a tag (one byte of the key's hash) and the offset of a row, probed one after the other from the
//!   place the hash says, so that a point read finds its row in about one step;
//! * the offset of each row, so that a search can halve;
//! * the prefix, and a footer of [`FOOTER_BYTES`].
//!
//! A value that lies aside is in a sealed piece of its own in the same file; its row holds where: offset, sealed length and
//! plain length as varints.
//!
//! What always holds: readers of a decoded block never panic, whatever it holds. That rows ascend and that the hash index finds every row is
//! what builders make sure of; [`DataBlock::check`] verifies it.
mod builder;
mod cursor;
#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::OnceLock;

use bytes::Bytes;

pub(crate) use self::builder::BlockBuilder;
pub(crate) use self::cursor::BlockCursor;
use super::index::{Place, head};
use super::seal::{Name, damaged, unseal};
use super::slot::LedToBy;
use crate::encoding::{Reader, varint};
use crate::error::Result;
use crate::row::RowKind;

/// Prefix length (u32), rows (u32), buckets (u32), base time (i64), flags (u8).
const FOOTER_BYTES: usize = 21;
/// Flag: offsets take four bytes instead of two.
const WIDE: u8 = 1;
const KIND_MASK: u64 = 3;
const HAS_TIME: u64 = 4;
const ASIDE: u64 = 8;
const VALUE_LEN_SHIFT: u32 = 4;
/// Of so many rows one is known by its head.
const HEAD_ROWS: usize = 16;
/// Prefixes up to this length are kept beside the block's frame, where a point read looks anyway.
const SHORT_PREFIX_BYTES: usize = 32;

/// A decoded block.
#[derive(Debug)]
pub(crate) struct DataBlock {
    data: Bytes,
    /// End of the rows, start of the buckets.
    rows_end: u32,
    buckets: u32,
    offsets_at: u32,
    rows: u32,
    prefix_at: u32,
    prefix_len: u32,
    base_time_ms: i64,
    wide: bool,
    short_prefix: [u8; SHORT_PREFIX_BYTES],
    /// The start of every [`HEAD_ROWS`]th row's rest, side by side; made when the block is first searched in order.
    heads: OnceLock<Box<[u64]>>,
    pub(super) slot: LedToBy,
}

/// A value that lies in a sealed piece of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Aside {
    pub(crate) place: Place,
    pub(crate) plain_bytes: u32,
}

/// Where a row's value is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BlockValue {
    /// A range of [`DataBlock::data`].
    Inline(Range<usize>),
    Aside(Aside),
}

/// What a block holds of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BlockRow {
    pub(crate) kind: RowKind,
    pub(crate) time_ms: Option<i64>,
    pub(crate) value: BlockValue,
}

/// One row as it lies in the block.
struct RawRow {
    header: u64,
    time: u64,
    rest: Range<usize>,
    value_end: usize,
}

/// The row at an offset; `None` where there is no row.
#[inline]
fn raw_row(rows: &[u8], at: usize) -> Option<RawRow> {
    let (header, len) = varint(rows.get(at..)?)?;
    let mut at = at + len;
    let mut time = 0;
    if header & HAS_TIME != 0 {
        let (value, len) = varint(rows.get(at..)?)?;
        time = value;
        at += len;
    }
    let (rest, len) = varint(rows.get(at..)?)?;
    let start = at + len;
    let end = start.checked_add(usize::try_from(rest).ok()?)?;
    let value_end = end.checked_add(usize::try_from(header >> VALUE_LEN_SHIFT).ok()?)?;
    (value_end <= rows.len()).then_some(RawRow {
        header,
        time,
        rest: start..end,
        value_end,
    })
}

impl DataBlock {
    /// Decodes a sealed block that lies at `offset` and checks its frame.
    pub(crate) fn decode(what: Name<'_>, sealed: &[u8], seed: u64, offset: u64) -> Result<Self> {
        Self::from_plain(what, unseal(what, sealed, seed, offset)?.into())
    }

    pub(crate) fn from_plain(what: Name<'_>, data: Bytes) -> Result<Self> {
        let wrong = || damaged(what, "its frame does not fit its length");
        let rest = data.len().checked_sub(FOOTER_BYTES).ok_or_else(wrong)?;
        let mut footer = Reader::new("block footer", data.get(rest..).unwrap_or_default());
        let prefix_len = footer.u32("prefix length")?;
        let rows = footer.u32("rows")?;
        let buckets = footer.u32("buckets")?;
        let base_time_ms = footer.u64("base time")? as i64;
        let flags = footer.u8("flags")?;
        let wide = flags & WIDE != 0;
        let offset_bytes = if wide { 4 } else { 2 };
        // The whole is below 4 GiB because its length is 32 bits wide in the file.
        let up_to = |end: usize, count: u32, each: usize| {
            end.checked_sub((count as usize).checked_mul(each)?)
        };
        let prefix_at = up_to(rest, prefix_len, 1).ok_or_else(wrong)?;
        let offsets_at = up_to(prefix_at, rows, offset_bytes).ok_or_else(wrong)?;
        let rows_end = up_to(offsets_at, buckets, 1 + offset_bytes).ok_or_else(wrong)?;
        if flags & !WIDE != 0 || (rows > 0 && buckets == 0) || data.len() > u32::MAX as usize {
            return Err(wrong());
        }
        let mut short_prefix = [0; SHORT_PREFIX_BYTES];
        let prefix = data.get(prefix_at..rest).unwrap_or_default();
        if let Some(short) = short_prefix.get_mut(..prefix.len()) {
            short.copy_from_slice(prefix);
        }
        Ok(Self {
            rows_end: rows_end as u32,
            buckets,
            offsets_at: offsets_at as u32,
            rows,
            prefix_at: prefix_at as u32,
            prefix_len,
            base_time_ms,
            wide,
            short_prefix,
            heads: OnceLock::new(),
            slot: LedToBy::default(),
            data,
        })
    }

    pub(crate) fn data(&self) -> &Bytes {
        &self.data
    }

    /// The memory cache does not hold the block any more.
    pub(crate) fn evicted(&self) {
        self.slot.clear();
    }

    /// Number of rows.
    pub(crate) fn rows(&self) -> usize {
        self.rows as usize
    }

    /// Bytes of memory held, heads included whether they have been made or not: whoever counts asks once.
    pub(crate) fn bytes(&self) -> usize {
        self.data.len() + self.rows() / HEAD_ROWS * size_of::<u64>() + size_of::<Self>()
    }

    /// What all keys start with.
    #[inline]
    fn prefix(&self) -> &[u8] {
        let len = self.prefix_len as usize;
        match self.short_prefix.get(..len) {
            Some(short) => short,
            None => {
                let start = self.prefix_at as usize;
                self.data.get(start..start + len).unwrap_or_default()
            }
        }
    }

    #[inline]
    fn row_bytes(&self) -> &[u8] {
        self.data.get(..self.rows_end as usize).unwrap_or_default()
    }

    /// Tag and offset in a bucket; `None` if it is empty.
    #[inline]
    fn bucket(&self, i: usize) -> Option<(u8, usize)> {
        let start = self.rows_end as usize;
        if self.wide {
            let at = start + 5 * i;
            let [tag, a, b, c, d] = *self.data.get(at..)?.first_chunk()?;
            let offset = u32::from_le_bytes([a, b, c, d]);
            (offset != u32::MAX).then_some((tag, offset as usize))
        } else {
            let at = start + 3 * i;
            let [tag, a, b] = *self.data.get(at..)?.first_chunk()?;
            let offset = u16::from_le_bytes([a, b]);
            (offset != u16::MAX).then_some((tag, usize::from(offset)))
        }
    }

    /// Where row `i` starts.
    #[inline]
    fn offset(&self, i: usize) -> Option<usize> {
        let start = self.offsets_at as usize;
        if i >= self.rows as usize {
            None
        } else if self.wide {
            let bytes = self.data.get(start + 4 * i..)?.first_chunk()?;
            Some(u32::from_le_bytes(*bytes) as usize)
        } else {
            let bytes = self.data.get(start + 2 * i..)?.first_chunk()?;
            Some(usize::from(u16::from_le_bytes(*bytes)))
        }
    }

    /// Finds the row of exactly `key`, whose hash is `hash`, without allocating.
    #[inline]
    pub(crate) fn get(&self, hash: u64, key: &[u8]) -> Option<BlockRow> {
        let rest = key.strip_prefix(self.prefix())?;
        let rows = self.row_bytes();
        let (tag, mut at) = home(hash, self.buckets);
        for _ in 0..self.buckets {
            let (found, offset) = self.bucket(at)?;
            if found == tag
                && let Some(row) = raw_row(rows, offset)
                && rows.get(row.rest.clone()) == Some(rest)
            {
                return self.row(&row);
            }
            at += 1;
            if at == self.buckets as usize {
                at = 0;
            }
        }
        None
    }

    /// Reads from the bucket where a search for a hash begins, so that its cache line is there when the search comes.
    #[inline]
    pub(crate) fn touch_bucket(&self, hash: u64) -> u8 {
        let (_, at) = home(hash, self.buckets);
        let at = self.rows_end as usize + at * if self.wide { 5 } else { 3 };
        self.data.get(at).copied().unwrap_or_default()
    }

    /// Reads from the row that a search for a hash will most likely find.
    #[inline]
    pub(crate) fn touch_row(&self, hash: u64) -> u8 {
        let (tag, home) = home(hash, self.buckets);
        let probed = (home..self.buckets as usize).map_while(|at| self.bucket(at));
        let row = probed.take(4).find(|(found, _)| *found == tag);
        let at = row.map_or(0, |(_, offset)| offset);
        self.data.get(at).copied().unwrap_or_default()
    }

    #[inline]
    fn row(&self, raw: &RawRow) -> Option<BlockRow> {
        let kind = match raw.header & KIND_MASK {
            0 => RowKind::Tombstone,
            1 => RowKind::Value,
            2 => RowKind::Operands,
            _ => return None,
        };
        let time_ms = (raw.header & HAS_TIME != 0).then(|| {
            let distance = (raw.time >> 1) as i64 ^ -((raw.time & 1) as i64);
            self.base_time_ms.wrapping_add(distance)
        });
        let range = raw.rest.end..raw.value_end;
        let value = if raw.header & ASIDE == 0 {
            BlockValue::Inline(range)
        } else {
            BlockValue::Aside(aside(self.data.get(range)?)?)
        };
        Some(BlockRow {
            kind,
            time_ms,
            value,
        })
    }

    /// The first row whose key is not below `key`; the number of rows if there is none.
    fn lower_bound(&self, key: &[u8]) -> usize {
        let prefix = self.prefix();
        let Some(rest) = key.strip_prefix(prefix) else {
            return if key < prefix { 0 } else { self.rows() };
        };
        let rows = self.row_bytes();
        let (mut low, mut high) = self.rows_near(rest);
        while low < high {
            let middle = low + (high - low) / 2;
            let row = self.offset(middle).and_then(|at| raw_row(rows, at));
            let order = row
                .and_then(|row| rows.get(row.rest))
                .map_or(Ordering::Greater, |other| other.cmp(rest));
            match order {
                Ordering::Less => low = middle + 1,
                Ordering::Equal => return middle,
                Ordering::Greater => high = middle,
            }
        }
        low
    }

    /// Where the first row lies that is not below a rest: all before the range are below, and one at its end is not.
    ///
    /// Rows far apart are far apart in memory, too, so halving alone waits for as many cache lines as it takes steps.
    fn rows_near(&self, rest: &[u8]) -> (usize, usize) {
        if self.rows() < 2 * HEAD_ROWS {
            return (0, self.rows());
        }
        let heads = self.heads.get_or_init(|| self.make_heads());
        let sought = head(rest);
        let below = heads.partition_point(|&head| head < sought);
        let ties = heads.iter().skip(below);
        let ties = ties.take_while(|&&head| head == sought).count();
        let low = match below.checked_sub(1) {
            Some(last_below) => last_below * HEAD_ROWS + 1,
            None => 0,
        };
        let high = (below + ties) * HEAD_ROWS;
        (low, high.min(self.rows()))
    }

    /// Heads of rows 0, [`HEAD_ROWS`] and so on.
    #[cold]
    fn make_heads(&self) -> Box<[u64]> {
        let rows = self.row_bytes();
        let head_of = |i| {
            let row = self.offset(i).and_then(|at| raw_row(rows, at));
            row.and_then(|row| rows.get(row.rest))
                .map_or(u64::MAX, head)
        };
        (0..self.rows()).step_by(HEAD_ROWS).map(head_of).collect()
    }

    /// Checks that rows ascend and that a search by hash finds each. `hash` makes the hash of a key.
    pub(crate) fn check(&self, what: Name<'_>, hash: impl Fn(&[u8]) -> u64) -> Result<()> {
        let mut cursor = BlockCursor::default();
        let mut last: Option<Vec<u8>> = None;
        let mut rows = 0;
        while cursor.advance(self) {
            let key = cursor.key();
            if last.as_deref().is_some_and(|last| last >= key) {
                return Err(damaged(what, &format!("row {rows} is out of order")));
            }
            if self.get(hash(key), key).as_ref() != cursor.block_row() {
                return Err(damaged(
                    what,
                    &format!("its hash index does not find row {rows}"),
                ));
            }
            last = Some(key.to_vec());
            rows += 1;
        }
        if rows != self.rows() {
            return Err(damaged(
                what,
                &format!("it should have {} rows, but {rows} can be read", self.rows),
            ));
        }
        Ok(())
    }
}

/// The tag of a hash and the bucket from which it is probed.
#[inline]
fn home(hash: u64, buckets: u32) -> (u8, usize) {
    // The upper half of the hash picks a line of the filter; the lower half is as good as new here.
    let low = u64::from(hash as u32);
    (hash as u8, ((low * u64::from(buckets)) >> 32) as usize)
}

/// Decodes where a value lies.
fn aside(reference: &[u8]) -> Option<Aside> {
    let (offset, a) = varint(reference)?;
    let (sealed, b) = varint(reference.get(a..)?)?;
    let (plain, c) = varint(reference.get(a + b..)?)?;
    (a + b + c == reference.len()).then_some(Aside {
        place: Place {
            offset,
            bytes: u32::try_from(sealed).ok()?,
        },
        plain_bytes: u32::try_from(plain).ok()?,
    })
}
