//! Map state: many values per key and namespace, under user keys, in their order. Row: `key ‖ namespace ‖ user key -> value`.
//!
//! Iteration loads pieces of [`ENTRIES_PER_PIECE`] entries. Entries that are written or removed while an iteration is under way may or may
//! not be seen by it; every other entry is seen exactly once. An iteration that has ended stays ended.

mod cursor;
mod sync;

use std::cell::RefCell;
use std::marker::PhantomData;
use std::rc::Rc;

use self::cursor::{Cursor, Entry};
pub use self::sync::{SyncMapIter, SyncMapState};
use crate::StateError;
use crate::access::{StateAccess, Waiting};
use crate::heap::typed::{HeapMaps, Timed};
use crate::ordered::{OrderedKey, decode_ordered};
use crate::serializer::{Postcard, Serializer};
use crate::state::namespace::Scope;
use crate::state::pieces;
use crate::state::place::{HeapPlace, Place, RowTable};
use crate::state::ttl::Life;
use crate::state::{StateFuture, StateStream, StateValue};

/// Entries that an iteration loads at once, as in Flink.
pub const ENTRIES_PER_PIECE: usize = 128;

/// A map per key and namespace. Clones share the namespace that was set.
pub struct MapState<UK, UV, S = Postcard<UV>, N = ()> {
    pub(crate) place: Place<HeapMaps<UV, S>>,
    pub(crate) scope: Scope<N>,
    access: StateAccess,
    serializer: S,
    /// The encoded key of a row, or of an entry on the heap.
    scratch: Rc<RefCell<Vec<u8>>>,
    entry: PhantomData<fn() -> (UK, UV)>,
}

impl<UK, UV, S: Clone, N> Clone for MapState<UK, UV, S, N> {
    fn clone(&self) -> Self {
        Self {
            place: self.place.clone(),
            scope: self.scope.clone(),
            access: self.access.clone(),
            serializer: self.serializer.clone(),
            scratch: Rc::clone(&self.scratch),
            entry: PhantomData,
        }
    }
}

impl<UK, UV, S, N> MapState<UK, UV, S, N>
where
    UK: OrderedKey + 'static,
    UV: StateValue,
    S: Serializer<UV> + Send,
    N: OrderedKey + 'static,
{
    pub(crate) fn new(
        access: StateAccess,
        place: Place<HeapMaps<UV, S>>,
        scope: Scope<N>,
        serializer: S,
    ) -> Self {
        Self {
            place,
            scope,
            access,
            serializer,
            scratch: Rc::default(),
            entry: PhantomData,
        }
    }

    /// The blocking methods (state API V1).
    pub fn sync(&self) -> SyncMapState<'_, UK, UV, S, N> {
        SyncMapState::new(self)
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

    /// The value under a user key.
    #[inline]
    pub fn get(&self, user_key: &UK) -> StateFuture<Option<UV>> {
        self.get_waiting(user_key, self.access.waiting_mode())
    }

    /// Whether there is a value under a user key.
    pub fn contains(&self, user_key: &UK) -> StateFuture<bool> {
        self.contains_waiting(user_key, self.access.waiting_mode())
    }

    /// Sets the value under a user key.
    pub fn put(&self, user_key: &UK, value: &UV) -> Result<(), StateError> {
        self.with_user_key(user_key, |group, prefix, key| {
            self.put_entry(group, prefix, key, value)
        })?
    }

    /// Sets many values.
    pub fn put_all<'a>(
        &self,
        entries: impl IntoIterator<Item = (&'a UK, &'a UV)>,
    ) -> Result<(), StateError> {
        entries
            .into_iter()
            .try_for_each(|(user_key, value)| self.put(user_key, value))
    }

    /// Removes the value under a user key, whether there is one or not.
    pub fn remove(&self, user_key: &UK) -> Result<(), StateError> {
        self.with_user_key(user_key, |group, prefix, key| {
            self.remove_entry(group, prefix, key)
        })?
    }

    /// All entries, in the order of the user keys.
    pub fn entries(&self) -> StateStream<(UK, UV)> {
        let serializer = self.serializer.clone();
        self.stream(move |entry| {
            let (key, value) = entry.decode(&serializer)?;
            Ok((decode_ordered(key.user_key())?, value))
        })
    }

    /// All user keys, in order.
    pub fn keys(&self) -> StateStream<UK> {
        self.stream(|entry| decode_ordered(entry.user_key()))
    }

    /// All values, in the order of the user keys.
    pub fn values(&self) -> StateStream<UV> {
        let serializer = self.serializer.clone();
        self.stream(move |entry| Ok(entry.decode(&serializer)?.1))
    }

    /// True if the current key has no entry.
    pub fn is_empty(&self) -> StateFuture<bool> {
        self.is_empty_waiting(self.access.waiting_mode())
    }

    fn is_empty_waiting(&self, waiting: Waiting) -> StateFuture<bool> {
        if let Place::Heap(heap) = &self.place {
            let empty = self
                .scope
                .with(|group, prefix| cursor::heap_is_empty(heap, group, prefix));
            return StateFuture::ready(empty.and_then(|empty| empty));
        }
        if let Place::Rows(rows) = &self.place
            && rows.ttl.is_none()
        {
            match self.is_empty_now(rows) {
                Ok(Some(empty)) => return StateFuture::ready(Ok(empty)),
                Ok(None) => {}
                Err(error) => return StateFuture::ready(Err(error)),
            }
        }
        match self.cursor(waiting) {
            Ok(cursor) => StateFuture::started(cursor.has_none()),
            Err(error) => StateFuture::ready(Err(error)),
        }
    }

    /// Removes every entry of the current key. Reads nothing.
    pub fn clear(&self) -> Result<(), StateError> {
        self.scope.with(|group, prefix| match &self.place {
            Place::Rows(rows) => rows.access.delete_prefix(rows.table, group, prefix),
            Place::Heap(heap) => heap.with(|table, _| table.remove(group, prefix).map(drop)),
        })?
    }

    #[inline]
    fn get_waiting(&self, user_key: &UK, waiting: Waiting) -> StateFuture<Option<UV>> {
        let answer = self.with_user_key(user_key, |group, prefix, key| match &self.place {
            Place::Rows(rows) => rows.read(group, key, waiting, &self.serializer, S::deserialize),
            Place::Heap(heap) => StateFuture::ready(heap_get(heap, group, prefix, key, UV::clone)),
        });
        answer.unwrap_or_else(|error| StateFuture::ready(Err(error)))
    }

    fn contains_waiting(&self, user_key: &UK, waiting: Waiting) -> StateFuture<bool> {
        let answer = self.with_user_key(user_key, |group, prefix, key| match &self.place {
            Place::Rows(rows) => rows.read(group, key, waiting, &(), |(), _| Ok(())),
            Place::Heap(heap) => StateFuture::ready(heap_get(heap, group, prefix, key, |_| ())),
        });
        let answer = answer.unwrap_or_else(|error| StateFuture::ready(Err(error)));
        answer.map(|found| found.is_some())
    }

    /// Shows key group, `key ‖ namespace`, and what finds the entry: the whole key of its row, or on the heap its encoded user key.
    #[inline]
    fn with_user_key<R>(
        &self,
        user_key: &UK,
        access: impl FnOnce(u16, &[u8], &[u8]) -> R,
    ) -> Result<R, StateError> {
        // Taken, not borrowed: serializers may use other states.
        let mut key = self.scratch.take();
        key.clear();
        let answer = self.scope.with(|group, prefix| {
            if let Place::Rows(_) = &self.place {
                key.extend_from_slice(prefix);
            }
            user_key.encode_ordered(&mut key);
            access(group, prefix, &key)
        });
        self.scratch.replace(key);
        answer
    }

    fn put_entry(
        &self,
        group: u16,
        prefix: &[u8],
        key: &[u8],
        value: &UV,
    ) -> Result<(), StateError> {
        match &self.place {
            Place::Rows(rows) => {
                rows.put_with(group, key, |out| self.serializer.serialize(value, out))
            }
            Place::Heap(heap) => {
                let value = Timed::new(value.clone(), heap.stamp_ms());
                heap.with(|table, _| table.put_entry(group, prefix, key, value))
            }
        }
    }

    fn remove_entry(&self, group: u16, prefix: &[u8], key: &[u8]) -> Result<(), StateError> {
        match &self.place {
            Place::Rows(rows) => rows.delete(group, key),
            Place::Heap(heap) => heap.with(|table, _| table.remove_entry(group, prefix, key)),
        }
    }

    fn cursor(&self, waiting: Waiting) -> Result<Cursor<UV, S>, StateError> {
        let (group, prefix) = self.scope.with(|group, prefix| (group, prefix.to_vec()))?;
        Ok(Cursor::new(self.place.clone(), group, prefix, waiting))
    }

    fn stream<T: 'static>(
        &self,
        decode: impl Fn(Entry<UV>) -> Result<T, StateError> + 'static,
    ) -> StateStream<T> {
        let cursor = self.cursor(self.access.waiting_mode());
        let place = self.place.clone();
        let group = cursor.as_ref().map_or(0, |cursor| cursor.at().0);
        pieces::stream(cursor, move |entry| {
            decode(entry).map_err(|error| named(&place, group, error))
        })
    }

    /// Whether there is an entry, as far as memory knows at once.
    fn is_empty_now(&self, rows: &RowTable) -> Result<Option<bool>, StateError> {
        self.scope.with(|group, prefix| {
            let holds = rows.access.holds_any(rows.table, group, prefix)?;
            Ok(holds.map(|holds| !holds))
        })?
    }
}

/// An error of an entry with the state that it is about. On the heap no entry is decoded.
#[cold]
fn named<H>(place: &Place<H>, group: u16, error: StateError) -> StateError {
    match place {
        Place::Rows(rows) => rows.named(group, error),
        Place::Heap(_) => error,
    }
}

fn heap_get<UV: StateValue, S: Serializer<UV> + Send, R>(
    heap: &HeapPlace<HeapMaps<UV, S>>,
    group: u16,
    prefix: &[u8],
    key: &[u8],
    copy: impl FnOnce(&UV) -> R,
) -> Result<Option<R>, StateError> {
    let Some(ttl) = heap.ttl.as_deref() else {
        let table = heap.table.borrow();
        let found = table.entry(group, prefix, key)?;
        return Ok(found.map(|found| copy(&found.value)));
    };
    heap.with(|table, _| {
        let Some(found) = table.entry(group, prefix, key)? else {
            return Ok(None);
        };
        let life = ttl.judge(found.time());
        let answer = match life {
            Life::Expired if !ttl.shows_expired() => None,
            _ => Some(copy(&found.value)),
        };
        match life {
            Life::Live => {}
            Life::Extended(now_ms) => table.set_entry_time(group, prefix, key, now_ms)?,
            Life::Expired => table.remove_entry(group, prefix, key)?,
        }
        Ok(answer)
    })
}
