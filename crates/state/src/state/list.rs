//! List state: any number of elements per key and namespace, in the order in which they were added.
//!
//! In a raw table a list is chunks: rows `key ‖ namespace ‖ chunk number -> frames` (see [`crate::state::chunks`]). Writing never reads: adding
//! appends to the row of the table's present chunk number, replacing and removing delete the rows of all numbers there can be. The number moves
//! on when a row has become large, when much has been appended to the table, and, with a TTL, with the time, so that old chunks expire whole.
//! No chunk is larger than 256 MiB, so a list may be longer than any value.

mod chunk_table;
mod cursor;
mod sync;
mod times;

use std::marker::PhantomData;
use std::rc::Rc;

pub(crate) use self::chunk_table::ChunkTable;
use self::cursor::Cursor;
pub use self::sync::{SyncListIter, SyncListState};
pub(crate) use self::times::NotedTimes;
use crate::StateError;
use crate::access::{StateAccess, Waiting};
use crate::heap::typed::{HeapLists, Timed};
use crate::ordered::OrderedKey;
use crate::serializer::{Postcard, Serializer};
use crate::state::chunks::{Frame, push_frame, write_frame};
use crate::state::namespace::Scope;
use crate::state::pieces;
use crate::state::place::HeapPlace;
use crate::state::single::merged_keys;
use crate::state::{StateFuture, StateStream, StateValue};

/// A list per key and namespace. Clones share the namespace that was set.
pub struct ListState<V, S = Postcard<V>, N = ()> {
    pub(crate) place: ListPlace<V, S>,
    pub(crate) scope: Scope<N>,
    access: StateAccess,
    serializer: S,
    value: PhantomData<fn() -> V>,
}

/// Where lists are.
pub(crate) enum ListPlace<V, S> {
    Rows(Rc<ChunkTable>),
    /// Chunks are numbered when a snapshot is written; their times are noted as they come.
    Heap(HeapPlace<HeapLists<V, S>>, NotedTimes),
}

impl<V, S> Clone for ListPlace<V, S> {
    fn clone(&self) -> Self {
        match self {
            Self::Rows(chunks) => Self::Rows(Rc::clone(chunks)),
            Self::Heap(heap, times) => Self::Heap(heap.clone(), times.clone()),
        }
    }
}

impl<V, S: Clone, N> Clone for ListState<V, S, N> {
    fn clone(&self) -> Self {
        Self {
            place: self.place.clone(),
            scope: self.scope.clone(),
            access: self.access.clone(),
            serializer: self.serializer.clone(),
            value: PhantomData,
        }
    }
}

impl<V, S, N> ListState<V, S, N>
where
    V: StateValue,
    S: Serializer<V> + Send,
    N: OrderedKey + 'static,
{
    pub(crate) fn new(
        access: StateAccess,
        place: ListPlace<V, S>,
        scope: Scope<N>,
        serializer: S,
    ) -> Self {
        Self {
            place,
            scope,
            access,
            serializer,
            value: PhantomData,
        }
    }

    /// The blocking methods (state API V1).
    pub fn sync(&self) -> SyncListState<'_, V, S, N> {
        SyncListState::new(self)
    }

    /// The namespace that following calls act on, of this handle and its clones.
    pub fn set_namespace(&self, namespace: &N) {
        self.scope.set(namespace);
    }

    /// A handle on the same state with a namespace of its own.
    #[must_use]
    pub fn detached(&self) -> Self {
        Self {
            scope: self.scope.detached(),
            ..self.clone()
        }
    }

    /// The elements of the current key, oldest first; of a list that is not there, none.
    pub fn get(&self) -> StateStream<V> {
        match self.cursor(self.access.waiting_mode()) {
            Ok(Cursor::Heap(elements)) => StateStream::of(elements),
            Ok(Cursor::Rows(rows)) => pieces::stream(Ok(rows), Ok),
            Err(error) => StateStream::failed(error),
        }
    }

    /// True if the current key has no element.
    pub fn is_empty(&self) -> StateFuture<bool> {
        self.is_empty_waiting(self.access.waiting_mode())
    }

    fn is_empty_waiting(&self, waiting: Waiting) -> StateFuture<bool> {
        if let ListPlace::Heap(heap, times) = &self.place {
            let count = self.scope.with(|group, key| {
                times.written(&self.access, 0, heap.stamp_ms())?;
                cursor::heap_count(heap, group, key)
            });
            return StateFuture::ready(count.and_then(|count| Ok(count? == 0)));
        }
        match self.cursor(waiting) {
            Ok(Cursor::Heap(elements)) => StateFuture::ready(Ok(elements.is_empty())),
            Ok(Cursor::Rows(mut rows)) => match rows.has_none_now() {
                Ok(Some(empty)) => StateFuture::ready(Ok(empty)),
                Ok(None) => StateFuture::started(rows.has_none()),
                Err(error) => StateFuture::ready(Err(error)),
            },
            Err(error) => StateFuture::ready(Err(error)),
        }
    }

    /// Appends an element. Reads nothing.
    pub fn add(&self, value: &V) -> Result<(), StateError> {
        match &self.place {
            ListPlace::Rows(chunks) => self.scope.with(|group, prefix| {
                chunks.append(group, prefix, |frames| {
                    frames.push(|out| self.serializer.serialize(value, out))
                })
            })?,
            ListPlace::Heap(heap, times) => self.scope.with(|group, key| {
                times.written(&self.access, 0, heap.stamp_ms())?;
                let element = Timed::new(value.clone(), heap.stamp_ms());
                heap_extend(heap, group, key, [element])
            })?,
        }
    }

    /// Appends elements, all or none. Reads nothing.
    pub fn add_all<'a>(&self, values: impl IntoIterator<Item = &'a V>) -> Result<(), StateError> {
        match &self.place {
            ListPlace::Rows(chunks) => self.scope.with(|group, prefix| {
                chunks.append(group, prefix, |frames| {
                    values.into_iter().try_for_each(|value| {
                        frames.push(|out| self.serializer.serialize(value, out))
                    })
                })
            })?,
            ListPlace::Heap(heap, times) => self.scope.with(|group, key| {
                times.written(&self.access, 0, heap.stamp_ms())?;
                let elements = timed(heap, values);
                heap_extend(heap, group, key, elements)
            })?,
        }
    }

    /// Puts these elements in the place of those that are there; none is the same as `clear`. Reads nothing.
    pub fn update<'a>(&self, values: impl IntoIterator<Item = &'a V>) -> Result<(), StateError> {
        match &self.place {
            ListPlace::Rows(chunks) => self.scope.with(|group, prefix| {
                chunks.replace(group, prefix, |frames| {
                    values.into_iter().try_for_each(|value| {
                        frames.push(|out| self.serializer.serialize(value, out))
                    })
                })
            })?,
            ListPlace::Heap(heap, times) => self.scope.with(|group, key| {
                times.written(&self.access, 0, heap.stamp_ms())?;
                let elements = timed(heap, values);
                heap.with(|table, _| table.replace(group, key, elements))
            })?,
        }
    }

    /// Removes every element of the current key. Reads nothing.
    pub fn clear(&self) -> Result<(), StateError> {
        self.scope.with(|group, prefix| match &self.place {
            ListPlace::Rows(chunks) => chunks.clear(group, prefix),
            ListPlace::Heap(heap, _) => heap.with(|table, _| table.remove(group, prefix).map(drop)),
        })?
    }

    /// Appends what the current key has in the `sources`, in their order, to what it has in `target`, and empties the sources. Each element
    /// keeps its time.
    pub fn merge_namespaces(&self, target: &N, sources: &[N]) -> StateFuture<()> {
        self.merge_waiting(target, sources, self.access.waiting_mode())
    }

    fn merge_waiting(&self, target: &N, sources: &[N], waiting: Waiting) -> StateFuture<()> {
        let keys = match merged_keys(&self.scope, target, sources) {
            Ok(Some(keys)) => keys,
            Ok(None) => return StateFuture::ready(Ok(())),
            Err(error) => return StateFuture::ready(Err(error)),
        };
        match &self.place {
            ListPlace::Rows(chunks) => {
                let chunks = Rc::clone(chunks);
                StateFuture::started(async move { chunks.merge(&keys, waiting).await })
            }
            ListPlace::Heap(heap, _) => {
                let merge = || {
                    let (group, target) = keys.get(0);
                    let mut merged = Vec::new();
                    for (group, source) in keys.iter().skip(1) {
                        merged.extend(heap.with(|table, _| table.take(group, source))?);
                    }
                    if let Some(ttl) = heap.ttl.as_deref() {
                        let now_ms = ttl.now_ms();
                        merged.retain(|element| !ttl.expired(element.time(), now_ms));
                    }
                    heap_extend(heap, group, target, merged)
                };
                StateFuture::ready(merge())
            }
        }
    }

    fn cursor(&self, waiting: Waiting) -> Result<Cursor<V, S>, StateError> {
        self.scope.with(|group, prefix| match &self.place {
            ListPlace::Rows(chunks) => Ok(Cursor::rows(
                Rc::clone(chunks),
                group,
                prefix.to_vec(),
                waiting,
                self.serializer.clone(),
            )),
            ListPlace::Heap(heap, times) => {
                // Reading may keep elements alive.
                times.written(&self.access, 0, heap.stamp_ms())?;
                Cursor::heap(heap, group, prefix)
            }
        })?
    }
}

fn timed<'a, V: StateValue, S: Serializer<V> + Send>(
    heap: &HeapPlace<HeapLists<V, S>>,
    values: impl IntoIterator<Item = &'a V>,
) -> Vec<Timed<V>> {
    let stamp_ms = heap.stamp_ms();
    let values = values.into_iter();
    values
        .map(|value| Timed::new(value.clone(), stamp_ms))
        .collect()
}

fn heap_extend<V: StateValue, S: Serializer<V> + Send>(
    heap: &HeapPlace<HeapLists<V, S>>,
    group: u16,
    key: &[u8],
    elements: impl IntoIterator<Item = Timed<V>>,
) -> Result<(), StateError> {
    heap.with(|table, _| table.append(group, key, elements))
}

/// Elements on their way into chunks.
pub(crate) struct FrameWriter<'a> {
    frames: &'a mut Vec<u8>,
    /// Where a row ends and the next one begins.
    cuts: &'a mut Vec<usize>,
    row_start: usize,
    row_bytes_max: usize,
    time_ms: Option<i64>,
}

impl FrameWriter<'_> {
    /// Appends an element that `write` serializes.
    #[inline]
    fn push(
        &mut self,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), StateError>,
    ) -> Result<(), StateError> {
        write_frame(self.frames, self.time_ms, write)?;
        self.cut_full_row();
        Ok(())
    }

    /// Appends an element that was written before.
    fn push_frame(&mut self, frame: Frame<'_>) {
        push_frame(self.frames, frame.time_ms, frame.bytes);
        self.cut_full_row();
    }

    #[inline]
    fn cut_full_row(&mut self) {
        let end = self.frames.len();
        if end - self.row_start >= self.row_bytes_max {
            self.cuts.push(end);
            self.row_start = end;
        }
    }
}

#[cfg(test)]
mod tests;
