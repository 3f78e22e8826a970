//! The blocking methods of map state (state API V1).

use super::MapState;
use super::cursor::{Cursor, Entry, EntryKey};
use crate::StateError;
use crate::access::Waiting;
use crate::ordered::{OrderedKey, decode_ordered};
use crate::serializer::{Postcard, Serializer};
use crate::state::StateValue;
use crate::state::pieces::Pieces;

/// The blocking methods of a map state (state API V1).
pub struct SyncMapState<'a, UK, UV, S = Postcard<UV>, N = ()> {
    map: &'a MapState<UK, UV, S, N>,
}

impl<'a, UK, UV, S, N> SyncMapState<'a, UK, UV, S, N>
where
    UK: OrderedKey + 'static,
    UV: StateValue,
    S: Serializer<UV> + Send,
    N: OrderedKey + 'static,
{
    pub(super) fn new(map: &'a MapState<UK, UV, S, N>) -> Self {
        Self { map }
    }

    /// The value under a user key.
    pub fn get(&self, user_key: &UK) -> Result<Option<UV>, StateError> {
        self.map.get_waiting(user_key, Waiting::Blocking).now()
    }

    /// Whether there is a value under a user key.
    pub fn contains(&self, user_key: &UK) -> Result<bool, StateError> {
        self.map.contains_waiting(user_key, Waiting::Blocking).now()
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
    pub fn entries(&self) -> SyncMapIter<'a, UK, UV, S, N, (UK, UV)> {
        self.iterate(|entry, serializer| {
            let (key, value) = entry.decode(serializer)?;
            let user_key = decode_ordered(key.user_key())?;
            Ok((key, (user_key, value)))
        })
    }

    /// All user keys, in order.
    pub fn keys(&self) -> SyncMapIter<'a, UK, UV, S, N, UK> {
        self.iterate(|entry, _| {
            let user_key = decode_ordered(entry.user_key())?;
            Ok((entry.key, user_key))
        })
    }

    /// All values, in the order of the user keys.
    pub fn values(&self) -> SyncMapIter<'a, UK, UV, S, N, UV> {
        self.iterate(|entry, serializer| entry.decode(serializer))
    }

    /// True if the current key has no entry.
    pub fn is_empty(&self) -> Result<bool, StateError> {
        self.map.is_empty_waiting(Waiting::Blocking).now()
    }

    /// Removes every entry of the current key.
    pub fn clear(&self) -> Result<(), StateError> {
        self.map.clear()
    }

    fn iterate<T>(&self, decode: Decode<UV, S, T>) -> SyncMapIter<'a, UK, UV, S, N, T> {
        let (cursor, failed) = match self.map.cursor(Waiting::Blocking) {
            Ok(cursor) => (Some(cursor), None),
            Err(error) => (None, Some(error)),
        };
        SyncMapIter {
            map: self.map,
            cursor,
            failed,
            decode,
            last: None,
        }
    }
}

/// Makes an item of an entry.
type Decode<UV, S, T> = fn(Entry<UV>, &S) -> Result<(EntryKey, T), StateError>;

/// Entries, user keys or values of a map. The entry that was returned last can be removed or changed, whichever key is current.
pub struct SyncMapIter<'a, UK, UV, S, N, T> {
    map: &'a MapState<UK, UV, S, N>,
    cursor: Option<Cursor<UV, S>>,
    failed: Option<StateError>,
    decode: Decode<UV, S, T>,
    last: Option<EntryKey>,
}

impl<UK, UV, S, N, T> SyncMapIter<'_, UK, UV, S, N, T>
where
    UK: OrderedKey + 'static,
    UV: StateValue,
    S: Serializer<UV> + Send,
    N: OrderedKey + 'static,
{
    /// Removes the entry that was returned last.
    pub fn remove(&mut self) -> Result<(), StateError> {
        self.with_last("removed", |map, group, prefix, key| {
            map.remove_entry(group, prefix, key)
        })
    }

    /// Sets the value of the entry that was returned last.
    pub fn set_value(&mut self, value: &UV) -> Result<(), StateError> {
        self.with_last("changed", |map, group, prefix, key| {
            map.put_entry(group, prefix, key, value)
        })
    }

    fn with_last(
        &self,
        what: &str,
        act: impl FnOnce(&MapState<UK, UV, S, N>, u16, &[u8], &[u8]) -> Result<(), StateError>,
    ) -> Result<(), StateError> {
        let (Some(cursor), Some(key)) = (&self.cursor, &self.last) else {
            return Err(StateError::Usage(format!(
                "an entry of a map was to be {what} before the iteration had returned one"
            )));
        };
        let (group, prefix) = cursor.at();
        act(self.map, group, prefix, key.as_slice())
    }
}

impl<UK, UV, S, N, T> Iterator for SyncMapIter<'_, UK, UV, S, N, T>
where
    UV: StateValue,
    S: Serializer<UV> + Send,
{
    type Item = Result<T, StateError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(error) = self.failed.take() {
            return Some(Err(error));
        }
        let cursor = self.cursor.as_mut()?;
        let next = match cursor.next_blocking() {
            // The cursor is done for good; the last entry can still be removed.
            Ok(None) => return None,
            Ok(Some(entry)) => {
                let group = cursor.at().0;
                let decoded = (self.decode)(entry, &self.map.serializer);
                decoded.map_err(|error| super::named(&self.map.place, group, error))
            }
            Err(error) => {
                self.cursor = None;
                Err(error)
            }
        };
        Some(next.map(|(key, item)| {
            self.last = Some(key);
            item
        }))
    }
}
