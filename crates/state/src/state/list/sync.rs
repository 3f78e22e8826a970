//! The blocking methods of list state (state API V1).

use std::marker::PhantomData;

use super::ListState;
use super::cursor::{Cursor, RowsCursor};
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
        let at = match self.list.cursor(Waiting::Blocking) {
            Ok(Cursor::Heap(elements)) => At::Heap(elements.into_iter()),
            Ok(Cursor::Rows(rows)) => At::Rows(rows),
            Err(error) => At::Failed(error),
        };
        SyncListIter {
            at,
            list: PhantomData,
        }
    }

    /// True if the current key has no element.
    pub fn is_empty(&self) -> Result<bool, StateError> {
        ready(self.list.is_empty_waiting(Waiting::Blocking))
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

/// The elements of a list. Ends after an error.
pub struct SyncListIter<'a, V, S = Postcard<V>> {
    at: At<V, S>,
    list: PhantomData<&'a V>,
}

enum At<V, S> {
    Heap(std::vec::IntoIter<V>),
    Rows(RowsCursor<V, S>),
    Failed(StateError),
    Done,
}

impl<V: StateValue, S: Serializer<V> + Send> Iterator for SyncListIter<'_, V, S> {
    type Item = Result<V, StateError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let next = match &mut self.at {
            At::Heap(elements) => return elements.next().map(Ok),
            At::Rows(rows) => rows.next_blocking().transpose(),
            At::Failed(_) => match std::mem::replace(&mut self.at, At::Done) {
                At::Failed(error) => Some(Err(error)),
                _ => None,
            },
            At::Done => None,
        };
        if !matches!(next, Some(Ok(_))) {
            self.at = At::Done;
        }
        next
    }
}
