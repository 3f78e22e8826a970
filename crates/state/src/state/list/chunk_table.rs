//! Lists as chunks of a raw table: appending, replacing, removing, loading and merging them.

mod merge;
mod settle;

use std::cell::{Cell, RefCell};

use bytes::Bytes;

use super::FrameWriter;
use super::times::NotedTimes;
use crate::StateError;
use crate::access::{Hot, Keys, ScanRange, Values, Waiting};
use crate::backend::ListChunk;
use crate::state::chunks::CHUNK_BYTES_TARGET;
use crate::state::place::RowTable;
use crate::state::ttl::Ttl;

/// As long as so few chunks can hold something, lists are read and removed by point. Beyond, their rows are looked for.
const POINTS_MAX: u64 = 8;
/// Chunks that a scan loads at once.
pub(super) const CHUNKS_PER_PIECE: usize = 4;
/// Parts of a TTL after which its table begins a new chunk. The chunks of one TTL, the one that is just expiring and the present one
/// are few enough to be read by point.
const CHUNKS_PER_TTL: u64 = 6;

/// See the module.
pub(crate) struct ChunkTable {
    rows: RowTable,
    /// Bytes of a row in memory at which the table begins another chunk.
    chunk_bytes_max: usize,
    /// With a TTL: milliseconds after which the table begins another chunk, and when it last did.
    roll_after_ms: Option<u64>,
    rolled_at_ms: Cell<Option<i64>>,
    times: NotedTimes,
    scratch: RefCell<Scratch>,
}

#[derive(Default)]
struct Scratch {
    frames: Vec<u8>,
    /// Where a row of these frames ends and the next one begins.
    cuts: Vec<usize>,
    row_key: Vec<u8>,
}

impl Scratch {
    /// Begins anew.
    fn writer(&mut self, row_bytes_max: usize, time_ms: Option<i64>) -> FrameWriter<'_> {
        self.frames.clear();
        self.cuts.clear();
        FrameWriter {
            frames: &mut self.frames,
            cuts: &mut self.cuts,
            row_start: 0,
            row_bytes_max,
            time_ms,
        }
    }
}

/// A chunk that was loaded.
pub(super) struct Loaded {
    number: u64,
    frames: Bytes,
}

/// Some chunks of a list.
pub(super) struct Piece {
    pub(super) chunks: Vec<Loaded>,
    /// The key from which on there are more.
    pub(super) more: Option<Vec<u8>>,
}

impl ChunkTable {
    /// Lists in a registered table. `ttl_ms` is the TTL, if there is one.
    pub(crate) fn new(rows: RowTable, chunk_bytes_max: Option<usize>, ttl_ms: Option<u64>) -> Self {
        let times = NotedTimes::new(ttl_ms, rows.table);
        Self {
            rows,
            chunk_bytes_max: chunk_bytes_max.unwrap_or(CHUNK_BYTES_TARGET).max(1),
            roll_after_ms: ttl_ms.map(|ttl_ms| ttl_ms.div_ceil(CHUNKS_PER_TTL).max(1)),
            rolled_at_ms: Cell::default(),
            times,
            scratch: RefCell::default(),
        }
    }

    /// The table.
    pub(crate) fn rows(&self) -> &RowTable {
        &self.rows
    }

    /// Appends the elements that `write` writes; none if it fails.
    pub(super) fn append(
        &self,
        group: u16,
        prefix: &[u8],
        write: impl FnOnce(&mut FrameWriter<'_>) -> Result<(), StateError>,
    ) -> Result<(), StateError> {
        self.written(group, write, |scratch, stamp_ms| {
            self.merge_frames(group, prefix, scratch, stamp_ms)
        })
    }

    /// Puts the elements that `write` writes in the place of the list; if it fails, the list stays.
    pub(super) fn replace(
        &self,
        group: u16,
        prefix: &[u8],
        write: impl FnOnce(&mut FrameWriter<'_>) -> Result<(), StateError>,
    ) -> Result<(), StateError> {
        self.written(group, write, |scratch, stamp_ms| {
            let single = scratch.frames.len() <= self.chunk_bytes_max;
            let chunk = self.chunk(stamp_ms)?;
            if single && !scratch.frames.is_empty() && chunk.number == 0 {
                // The list is one row.
                row_key(&mut scratch.row_key, prefix, chunk.number);
                self.note(chunk.number, stamp_ms)?;
                let frames = &scratch.frames;
                return self.put_row(group, &scratch.row_key, frames, stamp_ms);
            }
            self.clear(group, prefix)?;
            self.merge_frames(group, prefix, scratch, stamp_ms)
        })
    }

    /// Removes a list: also what has expired of it, which with another TTL would show again.
    pub(super) fn clear(&self, group: u16, prefix: &[u8]) -> Result<(), StateError> {
        let chunk = self.present_chunk(false)?;
        if chunk.number >= POINTS_MAX {
            let access = &self.rows.access;
            return access.delete_prefix(self.rows.table, group, prefix);
        }
        let mut key = Vec::with_capacity(prefix.len() + 8);
        for number in 0..=chunk.number {
            row_key(&mut key, prefix, number);
            self.rows.delete(group, &key)?;
        }
        Ok(())
    }

    /// Loads all chunks of lists, if there can be but a few; `None`: they have to be scanned for. The answer is of one moment, and nothing
    /// waits after it.
    pub(super) async fn load_points<'a>(
        &self,
        lists: impl Iterator<Item = (u16, &'a [u8])>,
        waiting: Waiting,
    ) -> Result<Option<Vec<Vec<Loaded>>>, StateError> {
        let chunk = self.readable_chunks()?;
        let count = (chunk.number - chunk.oldest.min(chunk.number)).saturating_add(1);
        if count > POINTS_MAX {
            return Ok(None);
        }
        let mut keys = Keys::default();
        let mut key = Vec::new();
        for (group, prefix) in lists {
            for number in chunk.oldest..=chunk.number {
                row_key(&mut key, prefix, number);
                keys.push(group, &key);
            }
        }
        let mut values = Values::default();
        let access = &self.rows.access;
        access
            .read_many(self.rows.table, &keys, &mut values, waiting)
            .await?;
        let mut loaded = Vec::new();
        for (i, value) in (0u64..).zip(values.iter()) {
            if i % count == 0 {
                loaded.push(Vec::new());
            }
            if let (Some(value), Some(list)) = (value, loaded.last_mut()) {
                list.push(Loaded {
                    number: chunk.oldest + i % count,
                    frames: Bytes::copy_from_slice(value),
                });
            }
        }
        Ok(Some(loaded))
    }

    /// Loads all chunks of a list, if there can be but a few and memory has them; `None`: they have to be waited or scanned for.
    pub(super) fn load_points_now(
        &self,
        group: u16,
        prefix: &[u8],
    ) -> Result<Option<Vec<Loaded>>, StateError> {
        let chunk = self.readable_chunks()?;
        let oldest = chunk.oldest.min(chunk.number);
        if chunk.number - oldest >= POINTS_MAX {
            return Ok(None);
        }
        let mut loaded = Vec::new();
        let key = &mut self.scratch.borrow_mut().row_key;
        for number in oldest..=chunk.number {
            row_key(key, prefix, number);
            let access = &self.rows.access;
            let mut copy = |row: Option<&[u8]>, _| row.map(Bytes::copy_from_slice);
            match access.look_up(self.rows.table, group, key, &mut copy)? {
                Hot::Answer(None) => {}
                Hot::Answer(Some(frames)) => loaded.push(Loaded { number, frames }),
                Hot::Cold(_) => return Ok(None),
            }
        }
        Ok(Some(loaded))
    }

    /// Where the rows of a list begin that count.
    pub(super) fn first_key(&self, prefix: &[u8]) -> Result<Vec<u8>, StateError> {
        let mut key = Vec::new();
        row_key(&mut key, prefix, self.readable_chunks()?.oldest);
        Ok(key)
    }

    /// The next chunks of a list, from a row's key on.
    pub(super) async fn load_piece(
        &self,
        group: u16,
        prefix: &[u8],
        from: &[u8],
        waiting: Waiting,
    ) -> Result<Piece, StateError> {
        let range = ScanRange {
            group,
            prefix,
            from,
            until: None,
            rows_max: CHUNKS_PER_PIECE,
        };
        let access = &self.rows.access;
        let mut pieces = access.scan_many(self.rows.table, &[range], waiting).await?;
        let Some(piece) = pieces.pop() else {
            return Ok(Piece {
                chunks: Vec::new(),
                more: None,
            });
        };
        let more = match piece.rows.last() {
            Some((last, _)) if !piece.done => Some(after(last)),
            _ => None,
        };
        let rows = piece.rows.into_iter();
        let chunks = rows.map(|(key, frames)| Loaded {
            number: chunk_number(&key),
            frames,
        });
        Ok(Piece {
            chunks: chunks.collect(),
            more,
        })
    }

    /// Runs `write`, then hands what it has written to `store`.
    fn written(
        &self,
        group: u16,
        write: impl FnOnce(&mut FrameWriter<'_>) -> Result<(), StateError>,
        store: impl FnOnce(&mut Scratch, Option<i64>) -> Result<(), StateError>,
    ) -> Result<(), StateError> {
        // Taken, not borrowed: a serializer may use another state.
        let mut scratch = self.scratch.take();
        let stamp_ms = self.rows.ttl.as_deref().and_then(Ttl::stamp_ms);
        let outcome = write(&mut scratch.writer(self.chunk_bytes_max, stamp_ms))
            .map_err(|error| self.rows.named(group, error))
            .and_then(|()| store(&mut scratch, stamp_ms));
        self.scratch.replace(scratch);
        outcome
    }

    /// Appends frames to a list, none of them later than `stamp_ms`, in rows of about the chunk size.
    fn merge_frames(
        &self,
        group: u16,
        prefix: &[u8],
        scratch: &mut Scratch,
        stamp_ms: Option<i64>,
    ) -> Result<(), StateError> {
        let mut start = 0;
        for end in scratch.cuts.iter().copied().chain([scratch.frames.len()]) {
            if start == end {
                continue;
            }
            let chunk = self.chunk(stamp_ms)?;
            row_key(&mut scratch.row_key, prefix, chunk.number);
            self.note(chunk.number, stamp_ms)?;
            let frames = scratch.frames.get(start..end).unwrap_or_default();
            let access = &self.rows.access;
            let held = access.merge(self.rows.table, group, &scratch.row_key, frames, stamp_ms)?;
            if held > self.chunk_bytes_max {
                self.present_chunk(true)?;
            }
            start = end;
        }
        Ok(())
    }

    fn put_row(
        &self,
        group: u16,
        key: &[u8],
        frames: &[u8],
        time_ms: Option<i64>,
    ) -> Result<(), StateError> {
        let access = &self.rows.access;
        match &self.rows.ttl {
            None => access.put(self.rows.table, group, key, frames),
            Some(_) => access.put_at(self.rows.table, group, key, frames, time_ms),
        }
    }

    /// The chunk to append to at this time.
    fn chunk(&self, stamp_ms: Option<i64>) -> Result<ListChunk, StateError> {
        let mut roll = false;
        if let (Some(after_ms), Some(now_ms)) = (self.roll_after_ms, stamp_ms) {
            match self.rolled_at_ms.get() {
                None => self.rolled_at_ms.set(Some(now_ms)),
                Some(rolled_at_ms) if rolled_at_ms.saturating_add_unsigned(after_ms) <= now_ms => {
                    self.rolled_at_ms.set(Some(now_ms));
                    roll = true;
                }
                Some(_) => {}
            }
        }
        self.present_chunk(roll)
    }

    /// The chunks that can hold something.
    fn readable_chunks(&self) -> Result<ListChunk, StateError> {
        let chunk = self.present_chunk(false)?;
        let Some(ttl) = self
            .rows
            .ttl
            .as_deref()
            .filter(|_| chunk.oldest < chunk.number)
        else {
            return Ok(chunk);
        };
        self.times.now(&self.rows.access, ttl.begun_ms())?;
        self.present_chunk(false)
    }

    fn note(&self, chunk: u64, time_ms: Option<i64>) -> Result<(), StateError> {
        self.times.written(&self.rows.access, chunk, time_ms)
    }

    fn present_chunk(&self, roll: bool) -> Result<ListChunk, StateError> {
        self.rows.access.list_chunk(self.rows.table, roll)
    }
}

fn row_key(out: &mut Vec<u8>, prefix: &[u8], chunk: u64) {
    out.clear();
    out.extend_from_slice(prefix);
    out.extend_from_slice(&chunk.to_be_bytes());
}

/// The chunk of a row.
fn chunk_number(key: &[u8]) -> u64 {
    key.last_chunk()
        .map_or(0, |number| u64::from_be_bytes(*number))
}

/// The first key after `key`.
fn after(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}
