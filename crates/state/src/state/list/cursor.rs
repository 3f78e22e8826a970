//! Walks the elements of one list, a few chunks at a time.

use std::collections::VecDeque;

use bytes::Bytes;

use super::chunk_table::{ChunkTable, after};
use crate::StateError;
use crate::access::Waiting;
use crate::heap::typed::{HeapLists, Timed};
use crate::serializer::Serializer;
use crate::state::StateValue;
use crate::state::chunks::Frames;
use crate::state::pieces::Pieces;
use crate::state::place::HeapPlace;
use crate::state::ttl::{Life, Ttl};

/// See the module.
pub(super) struct Cursor<V, S> {
    source: Source<V>,
    serializer: S,
}

enum Source<V> {
    /// What the list held when it was asked for.
    Heap(std::vec::IntoIter<V>),
    Rows(Rows),
}

struct Rows {
    chunks: ChunkTable,
    group: u16,
    prefix: Vec<u8>,
    waiting: Waiting,
    next: Next,
    loaded: VecDeque<Bytes>,
    /// Where the next frame starts in the first of `loaded`.
    at: usize,
}

/// How the next chunks are loaded.
enum Next {
    /// Nothing was loaded yet.
    First,
    /// The rows from this key on.
    Scan(Vec<u8>),
    /// There are no more.
    Done,
}

impl<V: StateValue, S: Serializer<V> + Send> Cursor<V, S> {
    pub(super) fn rows(
        chunks: ChunkTable,
        group: u16,
        prefix: Vec<u8>,
        waiting: Waiting,
        serializer: S,
    ) -> Self {
        Self {
            source: Source::Rows(Rows {
                chunks,
                group,
                prefix,
                waiting,
                next: Next::First,
                loaded: VecDeque::new(),
                at: 0,
            }),
            serializer,
        }
    }

    pub(super) fn heap(
        heap: &HeapPlace<HeapLists<V, S>>,
        group: u16,
        key: &[u8],
        serializer: S,
    ) -> Result<Self, StateError> {
        let mut elements = Vec::new();
        heap.with(|table, ttl| {
            settle(table, ttl, group, key, |element| {
                elements.push(element.value.clone());
            })
        })?;
        Ok(Self {
            source: Source::Heap(elements.into_iter()),
            serializer,
        })
    }

    /// Whether there is no element at all.
    pub(super) async fn has_none(mut self) -> Result<bool, StateError> {
        match &mut self.source {
            Source::Heap(elements) => Ok(elements.len() == 0),
            Source::Rows(rows) => {
                while !rows.has_loaded() && !rows.is_done() {
                    rows.load().await?;
                }
                Ok(!rows.has_loaded())
            }
        }
    }
}

impl<V: StateValue, S: Serializer<V> + Send> Pieces for Cursor<V, S> {
    type Item = V;

    #[inline]
    fn pop(&mut self) -> Result<Option<V>, StateError> {
        match &mut self.source {
            Source::Heap(elements) => Ok(elements.next()),
            Source::Rows(rows) => rows.element(|bytes| self.serializer.deserialize(bytes)),
        }
    }

    fn is_done(&self) -> bool {
        match &self.source {
            Source::Heap(_) => true,
            Source::Rows(rows) => rows.is_done(),
        }
    }

    fn load_now(&mut self) -> Result<bool, StateError> {
        Ok(false)
    }

    async fn load(&mut self) -> Result<(), StateError> {
        match &mut self.source {
            Source::Heap(_) => Ok(()),
            Source::Rows(rows) => rows.load().await,
        }
    }
}

/// How many elements a list on the heap shows.
pub(super) fn heap_count<V: StateValue, S: Serializer<V> + Send>(
    heap: &HeapPlace<HeapLists<V, S>>,
    group: u16,
    key: &[u8],
) -> Result<usize, StateError> {
    let mut count = 0;
    if heap.ttl.is_none() {
        return heap.table.borrow().count(group, key);
    }
    heap.with(|table, ttl| settle(table, ttl, group, key, |_| count += 1))?;
    Ok(count)
}

/// Shows the elements that a read may see, gives those that it keeps alive their new time, and drops those that have expired.
fn settle<V: StateValue, S: Serializer<V> + Send>(
    table: &mut HeapLists<V, S>,
    ttl: Option<&Ttl>,
    group: u16,
    key: &[u8],
    mut see: impl FnMut(&Timed<V>),
) -> Result<(), StateError> {
    let Some(ttl) = ttl else {
        return table.for_each(group, key, see);
    };
    let mut changes = false;
    table.for_each(group, key, |element| {
        let life = ttl.judge(element.time());
        changes |= life != Life::Live;
        if life != Life::Expired || ttl.shows_expired() {
            see(element);
        }
    })?;
    if !changes {
        return Ok(());
    }
    table.retain(group, key, |element| match ttl.judge(element.time()) {
        Life::Live => true,
        Life::Extended(now_ms) => {
            element.time_ms = now_ms;
            true
        }
        Life::Expired => false,
    })
}

impl Rows {
    fn is_done(&self) -> bool {
        matches!(self.next, Next::Done)
    }

    /// Whether there is an element in hand.
    fn has_loaded(&mut self) -> bool {
        while let Some(first) = self.loaded.front() {
            if self.at < first.len() {
                return true;
            }
            self.loaded.pop_front();
            self.at = 0;
        }
        false
    }

    /// Loads the next chunks.
    async fn load(&mut self) -> Result<(), StateError> {
        let (pieces, next) = match &self.next {
            Next::Done => return Ok(()),
            Next::First => {
                let list = std::iter::once((self.group, &self.prefix[..]));
                match self.chunks.load_points(list, self.waiting).await? {
                    Some(lists) => (lists.into_iter().flatten().collect(), Next::Done),
                    None => (Vec::new(), Next::Scan(self.chunks.first_key(&self.prefix)?)),
                }
            }
            Next::Scan(from) => {
                let (piece, more) = self
                    .chunks
                    .load_piece(self.group, &self.prefix, from, self.waiting)
                    .await?;
                let next = match piece.last() {
                    Some(last) if more => {
                        let mut from = Vec::new();
                        after(&mut from, &last.key);
                        Next::Scan(from)
                    }
                    _ => Next::Done,
                };
                (piece, next)
            }
        };
        self.next = next;
        for chunk in pieces {
            let frames = self.chunks.settle(self.group, chunk)?;
            self.loaded.push_back(frames);
        }
        Ok(())
    }

    /// Decodes the next element of the first chunk.
    fn element<V>(
        &mut self,
        decode: impl FnOnce(&[u8]) -> Result<V, StateError>,
    ) -> Result<Option<V>, StateError> {
        if !self.has_loaded() {
            return Ok(None);
        }
        let Some(chunk) = self.loaded.front() else {
            return Ok(None);
        };
        let mut frames = Frames::from(chunk, self.at);
        let Some(frame) = frames.next()? else {
            return Ok(None);
        };
        self.at = frames.at();
        decode(frame.bytes).map(Some)
    }
}
