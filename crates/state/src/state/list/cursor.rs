//! Walks the elements of one list, a few chunks at a time.

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::rc::Rc;

use bytes::Bytes;

use super::chunk_table::{ChunkTable, Loaded};
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
pub(super) enum Cursor<V, S> {
    /// What a list on the heap held when it was asked for.
    Heap(Vec<V>),
    /// The rows of a list.
    Rows(RowsCursor<V, S>),
}

/// Walks the chunks of one list and decodes their elements.
pub(super) struct RowsCursor<V, S> {
    chunks: Rc<ChunkTable>,
    group: u16,
    prefix: Vec<u8>,
    waiting: Waiting,
    /// Reading an element that has expired and is shown removes it.
    uses_up: bool,
    next: Next,
    /// The frames of the present chunk.
    chunk: Bytes,
    /// Where the next of them starts.
    at: usize,
    /// Those of the chunks after it that are loaded. Most lists have one chunk.
    loaded: VecDeque<Bytes>,
    serializer: S,
    element: PhantomData<fn() -> V>,
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
        chunks: Rc<ChunkTable>,
        group: u16,
        prefix: Vec<u8>,
        waiting: Waiting,
        serializer: S,
    ) -> Self {
        Self::Rows(RowsCursor {
            chunks,
            group,
            prefix,
            waiting,
            uses_up: true,
            next: Next::First,
            chunk: Bytes::new(),
            at: 0,
            loaded: VecDeque::new(),
            serializer,
            element: PhantomData,
        })
    }

    pub(super) fn heap(
        heap: &HeapPlace<HeapLists<V, S>>,
        group: u16,
        key: &[u8],
    ) -> Result<Self, StateError> {
        let mut elements = Vec::new();
        heap.with(|table, ttl| {
            elements.reserve_exact(table.count(group, key)?);
            settle(table, ttl, group, key, |element| {
                elements.push(element.value.clone());
            })
        })?;
        Ok(Self::Heap(elements))
    }
}

impl<V: StateValue, S: Serializer<V> + Send> RowsCursor<V, S> {
    /// Whether there is no element at all, if memory knows.
    pub(super) fn has_none_now(&mut self) -> Result<Option<bool>, StateError> {
        self.uses_up = false;
        Ok(self.load_now()?.then(|| !self.has_loaded()))
    }

    /// Whether there is no element at all.
    pub(super) async fn has_none(mut self) -> Result<bool, StateError> {
        self.uses_up = false;
        while !self.has_loaded() && !self.is_done() {
            self.load().await?;
        }
        Ok(!self.has_loaded())
    }
}

impl<V: StateValue, S: Serializer<V> + Send> Pieces for RowsCursor<V, S> {
    type Item = V;

    /// Decodes the next element of the present chunk.
    #[inline]
    fn pop(&mut self) -> Result<Option<V>, StateError> {
        if !self.has_loaded() {
            return Ok(None);
        }
        let mut frames = Frames::from(&self.chunk, self.at);
        let element = next_element(&mut frames, &self.serializer);
        self.at = frames.at();
        element.map_err(|error| self.chunks.rows().named(self.group, error))
    }

    /// As `pop`, with the place in the chunk noted once.
    #[inline]
    fn pop_some(
        &mut self,
        count_max: usize,
        mut take: impl FnMut(V) -> Result<(), StateError>,
    ) -> (usize, Result<(), StateError>) {
        let mut count = 0;
        while count < count_max && self.has_loaded() {
            let mut frames = Frames::from(&self.chunk, self.at);
            let outcome = loop {
                if count == count_max {
                    break Ok(());
                }
                match next_element(&mut frames, &self.serializer) {
                    Ok(Some(element)) => match take(element) {
                        Ok(()) => count += 1,
                        Err(error) => break Err(error),
                    },
                    Ok(None) => break Ok(()),
                    Err(error) => break Err(self.chunks.rows().named(self.group, error)),
                }
            };
            self.at = frames.at();
            if outcome.is_err() {
                return (count, outcome);
            }
        }
        (count, Ok(()))
    }

    fn is_done(&self) -> bool {
        matches!(self.next, Next::Done)
    }

    fn load_now(&mut self) -> Result<bool, StateError> {
        if !matches!(self.next, Next::First) {
            return Ok(false);
        }
        let Some(chunks) = self.chunks.load_points_now(self.group, &self.prefix)? else {
            return Ok(false);
        };
        self.take(chunks, Next::Done)?;
        Ok(true)
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
                let piece = self
                    .chunks
                    .load_piece(self.group, &self.prefix, from, self.waiting)
                    .await?;
                (piece.chunks, piece.more.map_or(Next::Done, Next::Scan))
            }
        };
        self.take(pieces, next)
    }
}

#[inline]
fn next_element<V, S: Serializer<V>>(
    frames: &mut Frames<'_>,
    serializer: &S,
) -> Result<Option<V>, StateError> {
    match frames.next()? {
        Some(frame) => serializer.deserialize(frame.bytes).map(Some),
        None => Ok(None),
    }
}

impl<V, S> RowsCursor<V, S> {
    /// Whether there is an element in hand.
    #[inline]
    fn has_loaded(&mut self) -> bool {
        self.at < self.chunk.len() || self.begin_next()
    }

    /// Goes on to the next chunk that is loaded and has elements; false if there is none.
    fn begin_next(&mut self) -> bool {
        while let Some(chunk) = self.loaded.pop_front() {
            if !chunk.is_empty() {
                (self.chunk, self.at) = (chunk, 0);
                return true;
            }
        }
        false
    }

    /// Takes chunks in that were loaded. Nothing is in hand.
    fn take(&mut self, chunks: Vec<Loaded>, next: Next) -> Result<(), StateError> {
        self.next = next;
        for chunk in chunks {
            let frames = self
                .chunks
                .settle(self.group, &self.prefix, chunk, self.uses_up)?;
            match self.has_loaded() {
                true => self.loaded.push_back(frames),
                false => (self.chunk, self.at) = (frames, 0),
            }
        }
        Ok(())
    }
}

/// How many elements a list on the heap shows. Those that are shown once more are not used up by it.
pub(super) fn heap_count<V: StateValue, S: Serializer<V> + Send>(
    heap: &HeapPlace<HeapLists<V, S>>,
    group: u16,
    key: &[u8],
) -> Result<usize, StateError> {
    let mut count = 0;
    if heap.ttl.as_deref().is_none_or(Ttl::shows_expired) {
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
    let (mut changes, now_ms) = (false, ttl.now_ms());
    table.for_each(group, key, |element| {
        let life = ttl.judge_at(element.time(), now_ms);
        changes |= life != Life::Live;
        if life != Life::Expired || ttl.shows_expired() {
            see(element);
        }
    })?;
    if !changes {
        return Ok(());
    }
    table.retain(group, key, |element| {
        match ttl.judge_at(element.time(), now_ms) {
            Life::Live => {}
            Life::Extended(now_ms) => element.time_ms = now_ms,
            Life::Expired => return false,
        }
        true
    })
}
