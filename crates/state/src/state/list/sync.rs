//! The blocking methods of list state (state API V1).

use std::marker::PhantomData;

use super::ListState;
use super::cursor::Cursor;
use crate::StateError;
use crate::access::{Waiting, ready};
use crate::ordered::OrderedKey;
use crate::serializer::{Postcard, Serializer};
use crate::state::StateValue;
use crate::state::pieces::Pieces;

/// The blocking methods of a list state (state API V1).
pub struct SyncListState<'a, V, S = Postcard<V>, N = ()> {
    list: &'a ListState<V, S, N>,
}

impl<'a, V, S, N> SyncListState<'a, V, S, N>
where
    V: StateValue,
    S: Serializer<V> + Send,
    N: OrderedKey + 'static,
{
    pub(super) fn new(list: &'a ListState<V, S, N>) -> Self {
        Self { list }
    }

    /// The elements of the current key, oldest first; of a list that is not there, none.
    pub fn get(&self) -> SyncListIter<'a, V, S> {
        let (cursor, failed) = match self.list.cursor(Waiting::Blocking) {
            Ok(cursor) => (Some(cursor), None),
            Err(error) => (None, Some(error)),
        };
        SyncListIter {
            cursor,
            failed,
            list: PhantomData,
        }
    }

    /// True if the current key has no element.
    pub fn is_empty(&self) -> Result<bool, StateError> {
        ready(self.list.cursor(Waiting::Blocking)?.has_none())
    }

    /// Appends an element.
    pub fn add(&self, value: &V) -> Result<(), StateError> {
        self.list.add(value)
    }

    /// Appends elements, all or none.
    pub fn add_all<'e>(&self, values: impl IntoIterator<Item = &'e V>) -> Result<(), StateError> {
        self.list.add_all(values)
    }

    /// Puts these elements in the place of those that are there; none is the same as `clear`.
    pub fn update<'e>(&self, values: impl IntoIterator<Item = &'e V>) -> Result<(), StateError> {
        self.list.update(values)
    }

    /// Removes every element of the current key.
    pub fn clear(&self) -> Result<(), StateError> {
        self.list.clear()
    }

    /// See [`ListState::merge_namespaces`].
    pub fn merge_namespaces(&self, target: &N, sources: &[N]) -> Result<(), StateError> {
        ready(self.list.merge_waiting(target, sources, Waiting::Blocking))
    }
}

/// The elements of a list.
pub struct SyncListIter<'a, V, S = Postcard<V>> {
    cursor: Option<Cursor<V, S>>,
    failed: Option<StateError>,
    list: PhantomData<&'a V>,
}

impl<V: StateValue, S: Serializer<V> + Send> Iterator for SyncListIter<'_, V, S> {
    type Item = Result<V, StateError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(error) = self.failed.take() {
            return Some(Err(error));
        }
        let next = ready(self.cursor.as_mut()?.next()).transpose();
        if !matches!(next, Some(Ok(_))) {
            self.cursor = None;
        }
        next
    }
}
