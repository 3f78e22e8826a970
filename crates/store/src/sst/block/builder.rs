//! Makes data blocks. Rows are gathered first, because only the last key says what prefix all of them share.
use super::{ASIDE, Aside, HAS_TIME, VALUE_LEN_SHIFT, WIDE, home};
use crate::encoding::put_varint;
use crate::key::shared_prefix;
use crate::row::{RowKind, RowRef};

/// Collects the rows of one block. Keys must come in ascending order.
#[derive(Default)]
pub(crate) struct BlockBuilder {
    /// Keys and values one after the other.
    gathered: Vec<u8>,
    rows: Vec<Gathered>,
    /// Bytes all keys so far share at their start.
    shared: usize,
    base_time_ms: Option<i64>,
    /// The last key of the block that was finished last.
    last_key: Vec<u8>,
    /// Scratch: places of rows in the block, and its buckets.
    offsets: Vec<u32>,
    buckets: Vec<(u8, u32)>,
}

struct Gathered {
    /// Only the lower half of the hash is used in blocks.
    hash: u32,
    key_len: u32,
    value_len: u32,
    flags: u8,
    time_ms: i64,
}

const EMPTY: (u8, u32) = (0, u32::MAX);
/// What a row takes beside key and value: header, length, offset, one and a half buckets.
const ROW_FRAME_BYTES: usize = 10;

impl BlockBuilder {
    /// Adds a row; `aside` says where its value is if it is not in the row.
    #[inline]
    pub(crate) fn add(&mut self, key: &[u8], hash: u64, row: &RowRef<'_>, aside: Option<Aside>) {
        let kind = match row.kind {
            RowKind::Tombstone => 0,
            RowKind::Value => 1,
            RowKind::Operands => 2,
        };
        let mut flags = kind;
        if let Some(time_ms) = row.time_ms {
            flags |= HAS_TIME as u8;
            self.base_time_ms.get_or_insert(time_ms);
        }
        self.shared = match self.rows.first() {
            None => key.len(),
            Some(first) => {
                let first = first.key_len as usize;
                let first = self.gathered.get(..self.shared.min(first));
                shared_prefix(first.unwrap_or_default(), key)
            }
        };
        self.gathered.extend_from_slice(key);
        let value_start = self.gathered.len();
        match aside {
            None => self.gathered.extend_from_slice(row.value),
            Some(aside) => {
                flags |= ASIDE as u8;
                put_varint(&mut self.gathered, aside.place.offset);
                put_varint(&mut self.gathered, u64::from(aside.place.bytes));
                put_varint(&mut self.gathered, u64::from(aside.plain_bytes));
            }
        }
        self.rows.push(Gathered {
            hash: hash as u32,
            key_len: key.len() as u32,
            value_len: (self.gathered.len() - value_start) as u32,
            flags,
            time_ms: row.time_ms.unwrap_or_default(),
        });
    }

    /// The last key that was added before the last [`Self::finish`].
    pub(crate) fn last_key(&self) -> &[u8] {
        &self.last_key
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Plain bytes so far, about.
    #[inline]
    pub(crate) fn bytes(&self) -> usize {
        let rows = self.rows.len();
        self.gathered.len() + rows * ROW_FRAME_BYTES - self.shared * rows.saturating_sub(1)
    }

    /// Puts the plain block into `out`, in place of what that holds, and starts anew.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) {
        out.clear();
        self.offsets.clear();
        let base_time_ms = self.base_time_ms.unwrap_or_default();
        let prefix = self.gathered.get(..self.shared).unwrap_or_default();
        let mut at = 0;
        for row in &self.rows {
            self.offsets.push(out.len() as u32);
            let header = (u64::from(row.value_len) << VALUE_LEN_SHIFT) | u64::from(row.flags);
            put_varint(out, header);
            if header & HAS_TIME != 0 {
                let distance = row.time_ms.wrapping_sub(base_time_ms);
                put_varint(out, ((distance << 1) ^ (distance >> 63)) as u64);
            }
            let rest = row.key_len as usize - prefix.len();
            put_varint(out, rest as u64);
            let start = at + prefix.len();
            at += row.key_len as usize + row.value_len as usize;
            out.extend_from_slice(self.gathered.get(start..at).unwrap_or_default());
        }
        let wide = out.len() >= usize::from(u16::MAX);
        // A third of the buckets stays empty, so that probing ends soon.
        let buckets = (self.rows.len() + self.rows.len() / 2 + 1) as u32;
        self.buckets.clear();
        self.buckets.resize(buckets as usize, EMPTY);
        for (row, &offset) in self.rows.iter().zip(&self.offsets) {
            let (tag, mut at) = home(u64::from(row.hash), buckets);
            while self.buckets.get(at).is_some_and(|bucket| *bucket != EMPTY) {
                at = if at + 1 == buckets as usize {
                    0
                } else {
                    at + 1
                };
            }
            if let Some(bucket) = self.buckets.get_mut(at) {
                *bucket = (tag, offset);
            }
        }
        for &(tag, offset) in &self.buckets {
            out.push(tag);
            put_offset(out, offset, wide);
        }
        for &offset in &self.offsets {
            put_offset(out, offset, wide);
        }
        out.extend_from_slice(prefix);
        out.extend_from_slice(&(prefix.len() as u32).to_le_bytes());
        out.extend_from_slice(&(self.rows.len() as u32).to_le_bytes());
        out.extend_from_slice(&buckets.to_le_bytes());
        out.extend_from_slice(&base_time_ms.to_le_bytes());
        out.push(if wide { WIDE } else { 0 });
        if let Some(last) = self.rows.last() {
            let start = self.gathered.len() - (last.key_len + last.value_len) as usize;
            let key = self.gathered.get(start..start + last.key_len as usize);
            self.last_key.clear();
            self.last_key.extend_from_slice(key.unwrap_or_default());
        }
        self.gathered.clear();
        self.rows.clear();
        self.base_time_ms = None;
    }
}

/// An empty bucket's offset is all ones in either width.
#[inline]
fn put_offset(out: &mut Vec<u8>, offset: u32, wide: bool) {
    if wide {
        out.extend_from_slice(&offset.to_le_bytes());
    } else {
        out.extend_from_slice(&(offset as u16).to_le_bytes());
    }
}
