//! Map state: many values per key, under user keys, in their order.
//!
//! Iteration loads pieces of [`ENTRIES_PER_PIECE`] entries. Entries that are written or removed while an iteration is under way may or may
//! not be seen by it; every other entry is seen exactly once.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::marker::PhantomData;
use std::rc::Rc;

use aquifer_store::TableId;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, LocalBoxStream};

use crate::StateError;
use crate::access::{Hot, ScanRange, StateAccess, Waiting, ready};
use crate::ordered::{OrderedKey, decode_ordered};
use crate::serializer::{Postcard, Serializer};
use crate::state::{CurrentKey, StateFuture};

/// Entries that an iteration loads at once, as in Flink.
pub const ENTRIES_PER_PIECE: usize = 128;

/// Entries, keys or values of a map state as they are loaded.
pub type StateStream<T> = LocalBoxStream<'static, Result<T, StateError>>;

/// A map per key. Row: `key ‖ user key -> value`.
pub struct MapState<UK, UV, S = Postcard<UV>> {
    access: StateAccess,
    table: TableId,
    current: CurrentKey,
    serializer: S,
    scratch: Rc<RefCell<Scratch>>,
    entry: PhantomData<fn() -> (UK, UV)>,
}

#[derive(Default)]
struct Scratch {
    row_key: Vec<u8>,
    value: Vec<u8>,
}

impl<UK, UV, S: Clone> Clone for MapState<UK, UV, S> {
    fn clone(&self) -> Self {
        Self {
            access: self.access.clone(),
            table: self.table,
            current: self.current.clone(),
            serializer: self.serializer.clone(),
            scratch: Rc::clone(&self.scratch),
            entry: PhantomData,
        }
    }
}

impl<UK: OrderedKey + 'static, UV: 'static, S: Serializer<UV>> MapState<UK, UV, S> {
    /// A handle on a registered table, which must be ordered.
    pub fn new(access: StateAccess, table: TableId, current: CurrentKey, serializer: S) -> Self {
        Self {
            access,
            table,
            current,
            serializer,
            scratch: Rc::default(),
            entry: PhantomData,
        }
    }

    /// The blocking methods (state API V1).
    pub fn sync(&self) -> SyncMapState<'_, UK, UV, S> {
        SyncMapState { map: self }
    }

    /// The value under a user key.
    pub fn get(&self, user_key: &UK) -> StateFuture<Option<UV>> {
        let serializer = self.serializer.clone();
        self.read(user_key, self.access.waiting_mode(), move |value| {
            value.map(|value| serializer.deserialize(value)).transpose()
        })
    }

    /// Whether there is a value under a user key.
    pub fn contains(&self, user_key: &UK) -> StateFuture<bool> {
        self.read(user_key, self.access.waiting_mode(), |value| {
            Ok(value.is_some())
        })
    }

    /// Sets the value under a user key.
    pub fn put(&self, user_key: &UK, value: &UV) -> Result<(), StateError> {
        let mut scratch = self.scratch.borrow_mut();
        let Scratch {
            row_key,
            value: bytes,
        } = &mut *scratch;
        bytes.clear();
        self.serializer.serialize(value, bytes)?;
        let group = self.row_key(user_key, row_key)?;
        self.access.put(self.table, group, row_key, bytes)
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
        let mut scratch = self.scratch.borrow_mut();
        let group = self.row_key(user_key, &mut scratch.row_key)?;
        self.access.delete(self.table, group, &scratch.row_key)
    }

    /// All entries, in the order of the user keys.
    pub fn entries(&self) -> StateStream<(UK, UV)> {
        let serializer = self.serializer.clone();
        self.stream(move |prefix, (key, value)| {
            Ok((user_key(prefix, &key)?, serializer.deserialize(&value)?))
        })
    }

    /// All user keys, in order.
    pub fn keys(&self) -> StateStream<UK> {
        self.stream(|prefix, (key, _)| user_key(prefix, &key))
    }

    /// All values, in the order of the user keys.
    pub fn values(&self) -> StateStream<UV> {
        let serializer = self.serializer.clone();
        self.stream(move |_, (_, value)| serializer.deserialize(&value))
    }

    /// True if the current key has no entry.
    pub fn is_empty(&self) -> StateFuture<bool> {
        let cursor = self.cursor(self.access.waiting_mode());
        StateFuture::waiting(async move { Ok(cursor?.piece(1).await?.is_empty()) })
    }

    /// Removes every entry of the current key; entries that are put while it is under way may stay.
    pub fn clear(&self) -> StateFuture<()> {
        let cursor = self.cursor(self.access.waiting_mode());
        StateFuture::waiting(async move { cursor?.delete_all().await })
    }

    fn read<R: 'static>(
        &self,
        user_key: &UK,
        waiting: Waiting,
        mut decode: impl FnMut(Option<&[u8]>) -> Result<R, StateError> + 'static,
    ) -> StateFuture<R> {
        let mut decode = move |value: Option<&[u8]>, _: Option<i64>| decode(value);
        let mut scratch = self.scratch.borrow_mut();
        let row_key = &mut scratch.row_key;
        let looked_up = self.row_key(user_key, row_key).and_then(|group| {
            Ok((
                group,
                self.access
                    .look_up(self.table, group, row_key, &mut decode)?,
            ))
        });
        match looked_up {
            Ok((_, Hot::Answer(answer))) => StateFuture::ready(answer),
            Err(error) => StateFuture::ready(Err(error)),
            Ok((group, Hot::Cold(planned))) => {
                let (access, table, key) = (self.access.clone(), self.table, row_key.clone());
                StateFuture::waiting(async move {
                    access
                        .finish(table, group, &key, planned, waiting, decode)
                        .await?
                })
            }
        }
    }

    /// Writes `key ‖ user key` to `out` and returns the key group.
    fn row_key(&self, user_key: &UK, out: &mut Vec<u8>) -> Result<u16, StateError> {
        out.clear();
        let group = self.current.with(|group, key| {
            out.extend_from_slice(key);
            group
        })?;
        user_key.encode_ordered(out);
        Ok(group)
    }

    fn cursor(&self, waiting: Waiting) -> Result<Cursor, StateError> {
        let (group, prefix) = self.current.with(|group, key| (group, key.to_vec()))?;
        Ok(Cursor {
            access: self.access.clone(),
            table: self.table,
            group,
            from: prefix.clone(),
            prefix,
            waiting,
            loaded: VecDeque::new(),
            done: false,
        })
    }

    fn stream<T: 'static>(
        &self,
        decode: impl Fn(&[u8], (Bytes, Bytes)) -> Result<T, StateError> + 'static,
    ) -> StateStream<T> {
        let cursor = self.cursor(self.access.waiting_mode());
        stream::try_unfold((cursor, decode), |(cursor, decode)| async move {
            let mut cursor = cursor?;
            let Some(row) = cursor.next().await? else {
                return Ok(None);
            };
            let item = decode(&cursor.prefix, row)?;
            Ok(Some((item, (Ok(cursor), decode))))
        })
        .boxed_local()
    }
}

/// The blocking methods of a map state (state API V1).
pub struct SyncMapState<'a, UK, UV, S = Postcard<UV>> {
    map: &'a MapState<UK, UV, S>,
}

impl<'a, UK: OrderedKey + 'static, UV: 'static, S: Serializer<UV>> SyncMapState<'a, UK, UV, S> {
    /// The value under a user key.
    pub fn get(&self, user_key: &UK) -> Result<Option<UV>, StateError> {
        let serializer = self.map.serializer.clone();
        ready(self.map.read(user_key, Waiting::Blocking, move |value| {
            value.map(|value| serializer.deserialize(value)).transpose()
        }))
    }

    /// Whether there is a value under a user key.
    pub fn contains(&self, user_key: &UK) -> Result<bool, StateError> {
        ready(
            self.map
                .read(user_key, Waiting::Blocking, |value| Ok(value.is_some())),
        )
    }

    /// Sets the value under a user key.
    pub fn put(&self, user_key: &UK, value: &UV) -> Result<(), StateError> {
        self.map.put(user_key, value)
    }

    /// Sets many values.
    pub fn put_all<'e>(
        &self,
        entries: impl IntoIterator<Item = (&'e UK, &'e UV)>,
    ) -> Result<(), StateError>
    where
        UK: 'e,
        UV: 'e,
    {
        self.map.put_all(entries)
    }

    /// Removes the value under a user key, whether there is one or not.
    pub fn remove(&self, user_key: &UK) -> Result<(), StateError> {
        self.map.remove(user_key)
    }

    /// All entries, in the order of the user keys.
    pub fn entries(
        &self,
    ) -> impl Iterator<Item = Result<(UK, UV), StateError>> + use<'a, UK, UV, S> {
        let serializer = self.map.serializer.clone();
        self.iterate(move |prefix, (key, value)| {
            Ok((user_key(prefix, &key)?, serializer.deserialize(&value)?))
        })
    }

    /// All user keys, in order.
    pub fn keys(&self) -> impl Iterator<Item = Result<UK, StateError>> + use<'a, UK, UV, S> {
        self.iterate(|prefix, (key, _)| user_key(prefix, &key))
    }

    /// All values, in the order of the user keys.
    pub fn values(&self) -> impl Iterator<Item = Result<UV, StateError>> + use<'a, UK, UV, S> {
        let serializer = self.map.serializer.clone();
        self.iterate(move |_, (_, value)| serializer.deserialize(&value))
    }

    /// True if the current key has no entry.
    pub fn is_empty(&self) -> Result<bool, StateError> {
        Ok(ready(self.map.cursor(Waiting::Blocking)?.piece(1))?.is_empty())
    }

    /// Removes every entry of the current key.
    pub fn clear(&self) -> Result<(), StateError> {
        ready(self.map.cursor(Waiting::Blocking)?.delete_all())
    }

    fn iterate<T, D>(
        &self,
        decode: D,
    ) -> impl Iterator<Item = Result<T, StateError>> + use<'a, T, D, UK, UV, S>
    where
        D: Fn(&[u8], (Bytes, Bytes)) -> Result<T, StateError>,
    {
        let mut cursor = Some(self.map.cursor(Waiting::Blocking));
        std::iter::from_fn(move || {
            let mut open = match cursor.take()? {
                Ok(open) => open,
                Err(error) => return Some(Err(error)),
            };
            match ready(open.next()) {
                Ok(None) => None,
                Err(error) => Some(Err(error)),
                Ok(Some(row)) => {
                    let item = decode(&open.prefix, row);
                    cursor = Some(Ok(open));
                    Some(item)
                }
            }
        })
    }
}

fn user_key<UK: OrderedKey>(prefix: &[u8], row_key: &[u8]) -> Result<UK, StateError> {
    match row_key.strip_prefix(prefix) {
        Some(user_key) => decode_ordered(user_key),
        None => Err(StateError::Corrupt(
            "a scan of map state returned a row of another key".into(),
        )),
    }
}

/// Walks the rows of one key.
struct Cursor {
    access: StateAccess,
    table: TableId,
    group: u16,
    prefix: Vec<u8>,
    /// Where the next piece starts.
    from: Vec<u8>,
    waiting: Waiting,
    loaded: VecDeque<(Bytes, Bytes)>,
    done: bool,
}

impl Cursor {
    async fn next(&mut self) -> Result<Option<(Bytes, Bytes)>, StateError> {
        if self.loaded.is_empty() && !self.done {
            let piece = self.piece(ENTRIES_PER_PIECE).await?;
            self.loaded.extend(piece);
        }
        Ok(self.loaded.pop_front())
    }

    async fn delete_all(mut self) -> Result<(), StateError> {
        while !self.done {
            for (key, _) in self.piece(ENTRIES_PER_PIECE).await? {
                self.access.delete(self.table, self.group, &key)?;
            }
        }
        Ok(())
    }

    /// Loads the next rows and moves past them.
    async fn piece(&mut self, rows_max: usize) -> Result<Vec<(Bytes, Bytes)>, StateError> {
        let range = ScanRange {
            group: self.group,
            prefix: &self.prefix,
            from: &self.from,
            until: None,
            rows_max,
        };
        let mut pieces = self
            .access
            .scan_many(self.table, &[range], self.waiting)
            .await?;
        let Some(piece) = pieces.pop() else {
            return Ok(Vec::new());
        };
        self.done = piece.done;
        if let Some((key, _)) = piece.rows.last() {
            self.from.clear();
            self.from.extend_from_slice(key);
            self.from.push(0);
        }
        Ok(piece.rows)
    }
}
