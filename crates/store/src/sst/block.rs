//! Data blocks: sorted rows, prefix-compressed between restart points.
//!
//! Uncompressed: rows, then the offset of each restart point (u32), then their number (u32). A row is
//! `shared ‖ unshared ‖ kind` as varints, then the time if there is one (varint of its zigzag), the unshared end of the key
//! and the value. The kind is `value length · 8 + 4 if there is a time + 0 for a tombstone, 1 for a value, 2 for operands`. Every [`RESTART_ROWS`]-th row shares nothing, so that a search can start there.
//!
//! On the object store a block is its payload (lz4 if that is smaller) followed by [`TRAILER_BYTES`]: compression (u8),
//! uncompressed length (u32), xxh3 of all before it (u64). A block is checked once, when it is decoded; readers of a
//! decoded block still never panic, whatever it holds.
use std::cmp::Ordering;
use std::ops::Range;

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

use crate::encoding::{put_varint, varint};
use crate::error::{Error, Result};
use crate::key::shared_prefix;
use crate::row::{RowKind, RowRef};

/// Rows from one restart point to the next.
const RESTART_ROWS: usize = 16;
/// Compression, uncompressed length, checksum.
pub(crate) const TRAILER_BYTES: usize = 1 + 4 + 8;
/// Bit of a row's kind that says that it has a time.
const HAS_TIME: u64 = 4;
const STORED: u8 = 0;
const LZ4: u8 = 1;
/// No lz4 stream grows by more than this when it is decoded.
const LZ4_RATIO_MAX: usize = 256;

/// Collects the rows of one block. Keys must come in ascending order.
#[derive(Default)]
pub(crate) struct BlockBuilder {
    out: Vec<u8>,
    restarts: Vec<u32>,
    rows: usize,
    last_key: Vec<u8>,
}

impl BlockBuilder {
    pub(crate) fn add(&mut self, key: &[u8], row: RowRef<'_>) {
        let shared = if self.rows.is_multiple_of(RESTART_ROWS) {
            self.restarts.push(self.out.len() as u32);
            0
        } else {
            shared_prefix(&self.last_key, key)
        };
        put_varint(&mut self.out, shared as u64);
        put_varint(&mut self.out, (key.len() - shared) as u64);
        let kind = match row.kind {
            RowKind::Tombstone => 0,
            RowKind::Value => 1,
            RowKind::Operands => 2,
        };
        let time = u64::from(row.time_ms.is_some()) * HAS_TIME;
        put_varint(&mut self.out, ((row.value.len() as u64) << 3) | time | kind);
        if let Some(time_ms) = row.time_ms {
            put_varint(&mut self.out, ((time_ms << 1) ^ (time_ms >> 63)) as u64);
        }
        self.out.extend_from_slice(&key[shared..]);
        self.out.extend_from_slice(row.value);
        self.last_key.truncate(shared);
        self.last_key.extend_from_slice(&key[shared..]);
        self.rows += 1;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Uncompressed bytes so far.
    pub(crate) fn bytes(&self) -> usize {
        self.out.len() + 4 * self.restarts.len() + 4
    }

    pub(crate) fn last_key(&self) -> &[u8] {
        &self.last_key
    }

    /// Ends the block; returns its uncompressed bytes and starts anew.
    pub(crate) fn finish(&mut self) -> Vec<u8> {
        for restart in &self.restarts {
            self.out.extend_from_slice(&restart.to_le_bytes());
        }
        self.out
            .extend_from_slice(&(self.restarts.len() as u32).to_le_bytes());
        self.restarts.clear();
        self.rows = 0;
        self.last_key.clear();
        std::mem::take(&mut self.out)
    }
}

/// Appends a block as it lies on the object store.
pub(crate) fn seal(plain: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    let most = lz4_flex::block::get_maximum_output_size(plain.len());
    out.resize(start + most, 0);
    let compressed = lz4_flex::block::compress_into(plain, &mut out[start..]).unwrap_or(usize::MAX);
    if compressed < plain.len() - plain.len() / 16 {
        out.truncate(start + compressed);
        out.push(LZ4);
    } else {
        out.truncate(start);
        out.extend_from_slice(plain);
        out.push(STORED);
    }
    out.extend_from_slice(&(plain.len() as u32).to_le_bytes());
    let checksum = xxh3_64(&out[start..]);
    out.extend_from_slice(&checksum.to_le_bytes());
}

/// Takes a sealed block apart. `what` names it in errors.
fn unseal(what: &dyn Fn() -> String, sealed: &[u8]) -> Result<Vec<u8>> {
    let damaged = |why: String| Error::corrupt(format!("{} is damaged: {why}", what()));
    let split = sealed
        .len()
        .checked_sub(8)
        .and_then(|at| sealed.split_at_checked(at));
    let Some((checked, checksum)) = split.filter(|(c, _)| c.len() >= TRAILER_BYTES - 8) else {
        return Err(damaged(format!(
            "it has {} bytes, fewer than a trailer",
            sealed.len()
        )));
    };
    let expected = u64::from_le_bytes(checksum.try_into().unwrap_or_default());
    let found = xxh3_64(checked);
    if expected != found {
        return Err(damaged(format!(
            "its checksum is {found:016x}, but {expected:016x} was written"
        )));
    }
    let (payload, tail) = checked.split_at(checked.len() - 5);
    let compression = tail.first().copied().unwrap_or(u8::MAX);
    let plain_len = u32::from_le_bytes(tail[1..].try_into().unwrap_or_default()) as usize;
    match compression {
        STORED if plain_len == payload.len() => Ok(payload.to_vec()),
        LZ4 if plain_len <= payload.len().saturating_mul(LZ4_RATIO_MAX) => {
            let mut plain = vec![0; plain_len];
            match lz4_flex::block::decompress_into(payload, &mut plain) {
                Ok(len) if len == plain_len => Ok(plain),
                Ok(len) => Err(damaged(format!(
                    "it decompressed to {len} bytes, not {plain_len}"
                ))),
                Err(error) => Err(damaged(format!("it does not decompress: {error}"))),
            }
        }
        _ => Err(damaged(format!(
            "compression {compression} with {} payload bytes cannot make {plain_len} bytes",
            payload.len()
        ))),
    }
}

/// A decoded block.
#[derive(Debug)]
pub(crate) struct DataBlock {
    data: Bytes,
    /// End of the rows, start of the restart array.
    rows_end: usize,
    restarts: usize,
}

/// What a search in a block found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BlockRow {
    pub(crate) kind: RowKind,
    pub(crate) time_ms: Option<i64>,
    /// The value, as a range of [`DataBlock::data`].
    pub(crate) value: Range<usize>,
}

/// The row at an offset; `None` at the end, and where there is no row.
#[inline]
fn raw_row(rows: &[u8], at: usize) -> Option<RawRow> {
    let rest = rows.get(at..)?;
    let (shared, a) = varint(rest)?;
    let (unshared, b) = varint(rest.get(a..)?)?;
    let (kind, c) = varint(rest.get(a + b..)?)?;
    let mut start = at + a + b + c;
    let mut time_ms = None;
    if kind & HAS_TIME != 0 {
        let (zigzag, len) = varint(rows.get(start..)?)?;
        time_ms = Some((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64));
        start += len;
    }
    let end = start.checked_add(usize::try_from(unshared).ok()?)?;
    let next = end.checked_add(usize::try_from(kind >> 3).ok()?)?;
    if next > rows.len() {
        return None;
    }
    let row = BlockRow {
        kind: match kind & 3 {
            0 => RowKind::Tombstone,
            1 => RowKind::Value,
            2 => RowKind::Operands,
            _ => return None,
        },
        time_ms,
        value: end..next,
    };
    Some(RawRow {
        shared: usize::try_from(shared).ok()?,
        suffix: start..end,
        row,
        next,
    })
}

/// One row as it lies in the block.
struct RawRow {
    shared: usize,
    suffix: Range<usize>,
    row: BlockRow,
    next: usize,
}

impl DataBlock {
    /// Decodes a sealed block and checks its frame.
    pub(crate) fn decode(what: &dyn Fn() -> String, sealed: &[u8]) -> Result<Self> {
        Self::from_plain(what, unseal(what, sealed)?.into())
    }

    pub(crate) fn from_plain(what: &dyn Fn() -> String, data: Bytes) -> Result<Self> {
        let damaged = || {
            Error::corrupt(format!(
                "{} is damaged: its restart points lie outside of it",
                what()
            ))
        };
        let count_at = data.len().checked_sub(4).ok_or_else(damaged)?;
        let restarts = read_u32(&data, count_at).ok_or_else(damaged)?;
        let rows_end = restarts
            .checked_mul(4)
            .and_then(|n| count_at.checked_sub(n))
            .ok_or_else(damaged)?;
        if restarts == 0 && rows_end != 0 {
            return Err(damaged());
        }
        Ok(Self {
            data,
            rows_end,
            restarts,
        })
    }

    pub(crate) fn data(&self) -> &Bytes {
        &self.data
    }

    /// Bytes of memory held.
    pub(crate) fn bytes(&self) -> usize {
        self.data.len() + size_of::<Self>()
    }

    #[inline]
    fn restart(&self, i: usize) -> usize {
        read_u32(&self.data, self.rows_end + 4 * i)
            .unwrap_or(self.rows_end)
            .min(self.rows_end)
    }

    /// The rows, without the restart array.
    #[inline]
    fn rows(&self) -> &[u8] {
        self.data.get(..self.rows_end).unwrap_or_default()
    }

    /// Index of the last restart point whose key is not above `key` (0 if all are).
    fn restart_before(&self, key: &[u8]) -> usize {
        let rows = self.rows();
        let (mut low, mut high) = (0, self.restarts);
        while low < high {
            let middle = low + (high - low) / 2;
            let above = match raw_row(rows, self.restart(middle)) {
                Some(row) => rows.get(row.suffix).is_none_or(|k| k > key),
                None => true,
            };
            if above {
                high = middle
            } else {
                low = middle + 1
            }
        }
        low.saturating_sub(1)
    }

    /// Finds the row of exactly `key`, without allocating.
    pub(crate) fn get(&self, key: &[u8]) -> Option<BlockRow> {
        if self.restarts == 0 {
            return None;
        }
        let mut at = self.restart(self.restart_before(key));
        // How many bytes of `key` the row before shares; it is known to sort below `key`.
        let mut matched = 0;
        let rows = self.rows();
        while let Some(row) = raw_row(rows, at) {
            if row.shared <= matched {
                let suffix = rows.get(row.suffix)?;
                let rest = key.get(row.shared..)?;
                let common = shared_prefix(suffix, rest);
                match suffix.get(common).cmp(&rest.get(common)) {
                    Ordering::Equal => return Some(row.row),
                    Ordering::Greater => return None,
                    Ordering::Less => matched = row.shared + common,
                }
            }
            at = row.next;
        }
        None
    }
}

fn read_u32(bytes: &[u8], at: usize) -> Option<usize> {
    let word = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(word.try_into().ok()?) as usize)
}

/// Walks over the rows of a block; the key is put together in a buffer that is used again.
#[derive(Default)]
pub(crate) struct BlockCursor {
    next: usize,
    key: Vec<u8>,
    row: Option<BlockRow>,
}

impl BlockCursor {
    /// Moves to the first row at or above `from`; returns whether there is one.
    pub(crate) fn seek(&mut self, block: &DataBlock, from: &[u8]) -> bool {
        self.key.clear();
        self.row = None;
        if block.restarts == 0 {
            return false;
        }
        self.next = block.restart(block.restart_before(from));
        while self.advance(block) {
            if self.key.as_slice() >= from {
                return true;
            }
        }
        false
    }

    /// Moves to the next row; returns whether there is one.
    pub(crate) fn advance(&mut self, block: &DataBlock) -> bool {
        self.row = None;
        let Some(row) = raw_row(block.rows(), self.next) else {
            return false;
        };
        let Some(suffix) = block.data.get(row.suffix) else {
            return false;
        };
        if row.shared > self.key.len() {
            return false;
        }
        self.key.truncate(row.shared);
        self.key.extend_from_slice(suffix);
        self.next = row.next;
        self.row = Some(row.row);
        true
    }

    pub(crate) fn key(&self) -> &[u8] {
        &self.key
    }

    /// The row at the cursor; `None` when it stands nowhere.
    pub(crate) fn row<'a>(&self, block: &'a DataBlock) -> Option<RowRef<'a>> {
        let row = self.row.as_ref()?;
        let value = block.data.get(row.value.clone())?;
        Some(RowRef::new(row.kind, row.time_ms, value))
    }

    pub(crate) fn reset(&mut self) {
        self.next = 0;
        self.key.clear();
        self.row = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> String {
        "block".into()
    }

    type KeyAndRow = (Vec<u8>, RowKind, Option<i64>, Vec<u8>);

    /// Rows of every kind, with and without a time.
    fn rows() -> Vec<KeyAndRow> {
        (0..500u32)
            .map(|i| {
                let key = format!("key-{:05}-{}", i * 3, "x".repeat((i % 7) as usize)).into_bytes();
                let time_ms =
                    (i % 3 == 0).then_some(i64::from(i) * 1_000_000_007 - 250_000_000_000);
                match i % 11 {
                    0 => (key, RowKind::Tombstone, time_ms, Vec::new()),
                    1 | 2 => (key, RowKind::Operands, time_ms, vec![7; i as usize]),
                    _ => (
                        key,
                        RowKind::Value,
                        time_ms,
                        i.to_le_bytes().repeat((i % 5) as usize),
                    ),
                }
            })
            .collect()
    }

    fn sealed() -> Vec<u8> {
        let mut builder = BlockBuilder::default();
        for (key, kind, time_ms, value) in rows() {
            builder.add(&key, RowRef::new(kind, time_ms, &value));
        }
        let mut out = Vec::new();
        seal(&builder.finish(), &mut out);
        out
    }

    #[test]
    fn rows_come_back() {
        let block = DataBlock::decode(&name, &sealed()).unwrap();
        let mut cursor = BlockCursor::default();
        for (key, kind, time_ms, value) in rows() {
            let expected = RowRef::new(kind, time_ms, &value);
            let found = block.get(&key).expect("the row is there");
            let found = RowRef::new(found.kind, found.time_ms, &block.data()[found.value]);
            assert_eq!(found, expected);
            assert!(cursor.advance(&block));
            assert_eq!(
                (cursor.key(), cursor.row(&block)),
                (&key[..], Some(expected))
            );
            for absent in [[&key[..], b"a"].concat(), key[..key.len() - 1].to_vec()] {
                let known = rows().iter().any(|(k, ..)| *k == absent);
                assert_eq!(block.get(&absent).is_some(), known, "{absent:?}");
            }
        }
        assert!(!cursor.advance(&block));
    }

    #[test]
    fn seeks_stand_at_the_first_row_not_below() {
        let block = DataBlock::decode(&name, &sealed()).unwrap();
        let mut cursor = BlockCursor::default();
        for i in 0..1600u32 {
            let from = format!("key-{i:05}").into_bytes();
            let expected = rows().into_iter().map(|(k, ..)| k).find(|k| *k >= from);
            let found = cursor.seek(&block, &from).then(|| cursor.key().to_vec());
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let good = sealed();
        for byte in 0..good.len() {
            let mut bad = good.clone();
            bad[byte] ^= 1 << (byte % 8);
            assert!(DataBlock::decode(&name, &bad).is_err());
            assert!(DataBlock::decode(&name, &good[..byte]).is_err());
        }
    }

    #[test]
    fn nonsense_behind_a_right_checksum_does_not_panic() {
        let mut state = 7u64;
        for len in 0..2_000 {
            let plain: Vec<u8> = (0..len % 97)
                .map(|_| {
                    state = state
                        .wrapping_mul(6364136223846793005)
                        .wrapping_add(1442695040888963407);
                    ((state >> 33) % 20) as u8
                })
                .collect();
            let mut out = Vec::new();
            seal(&plain, &mut out);
            let Ok(block) = DataBlock::decode(&name, &out) else {
                continue;
            };
            block.get(b"some key");
            let mut cursor = BlockCursor::default();
            cursor.seek(&block, b"k");
            for _ in 0..200 {
                cursor.advance(&block);
            }
        }
    }
}
