//! Reducing state: one value per key and namespace, to which values are added.
//!
//! Adding reads, reduces and writes with nothing in between, so two additions that overlap both count. The first value is stored as it is.

use std::rc::Rc;

use crate::StateError;
use crate::access::{Waiting, ready};
use crate::ordered::OrderedKey;
use crate::serializer::{Postcard, Serializer};
use crate::state::single::Single;
use crate::state::{StateFuture, StateValue};

/// Makes one value of two. Closures `Fn(V, V) -> V` do.
pub trait ReduceFunction<V>: 'static {
    /// `old` was there before `new`.
    fn reduce(&self, old: V, new: V) -> V;
}

impl<V, F: Fn(V, V) -> V + 'static> ReduceFunction<V> for F {
    fn reduce(&self, old: V, new: V) -> V {
        self(old, new)
    }
}

/// One value per key and namespace, to which values are added. Clones share the namespace that was set.
pub struct ReducingState<V, R, S = Postcard<V>, N = ()> {
    pub(crate) single: Single<V, S, N>,
    function: Rc<R>,
}

impl<V, R, S: Clone, N> Clone for ReducingState<V, R, S, N> {
    fn clone(&self) -> Self {
        Self {
            single: self.single.clone(),
            function: Rc::clone(&self.function),
        }
    }
}

impl<V, R, S, N> ReducingState<V, R, S, N>
where
    V: StateValue,
    R: ReduceFunction<V>,
    S: Serializer<V> + Send,
    N: OrderedKey + 'static,
{
    pub(crate) fn new(single: Single<V, S, N>, function: Rc<R>) -> Self {
        Self { single, function }
    }

    /// The blocking methods (state API V1).
    pub fn sync(&self) -> SyncReducingState<'_, V, R, S, N> {
        SyncReducingState { state: self }
    }

    /// The namespace that following calls act on, of this handle and its clones.
    pub fn set_namespace(&self, namespace: &N) {
        self.single.scope.set(namespace);
    }

    /// A handle on the same state with a namespace of its own.
    #[must_use]
    pub fn detached(&self) -> Self {
        Self {
            single: self.single.detached(),
            function: Rc::clone(&self.function),
        }
    }

    /// What the values that were added to the current key have become.
    #[inline]
    pub fn get(&self) -> StateFuture<Option<V>> {
        self.single.get(self.single.waiting())
    }

    /// Adds a value. It has happened when the future is ready: at once if memory could answer.
    pub fn add(&self, value: V) -> StateFuture<()> {
        self.add_waiting(value, self.single.waiting())
    }

    /// Removes the value of the current key.
    pub fn clear(&self) -> Result<(), StateError> {
        self.single.clear()
    }

    /// Reduces what the current key has in `target` and in the `sources` to one value in `target`, and empties the sources.
    pub fn merge_namespaces(&self, target: &N, sources: &[N]) -> StateFuture<()> {
        self.merge_waiting(target, sources, self.single.waiting())
    }

    fn add_waiting(&self, value: V, waiting: Waiting) -> StateFuture<()> {
        let function = Rc::clone(&self.function);
        self.single.modify(waiting, move |old| match old {
            Some(old) => function.reduce(old, value),
            None => value,
        })
    }

    fn merge_waiting(&self, target: &N, sources: &[N], waiting: Waiting) -> StateFuture<()> {
        let function = Rc::clone(&self.function);
        let combine = move |old, new| function.reduce(old, new);
        self.single
            .merge_namespaces(target, sources, waiting, combine)
    }
}

/// The blocking methods of a reducing state (state API V1).
pub struct SyncReducingState<'a, V, R, S = Postcard<V>, N = ()> {
    state: &'a ReducingState<V, R, S, N>,
}

impl<V, R, S, N> SyncReducingState<'_, V, R, S, N>
where
    V: StateValue,
    R: ReduceFunction<V>,
    S: Serializer<V> + Send,
    N: OrderedKey + 'static,
{
    /// What the values that were added to the current key have become.
    pub fn get(&self) -> Result<Option<V>, StateError> {
        ready(self.state.single.get(Waiting::Blocking))
    }

    /// Adds a value.
    pub fn add(&self, value: V) -> Result<(), StateError> {
        ready(self.state.add_waiting(value, Waiting::Blocking))
    }

    /// Removes the value of the current key.
    pub fn clear(&self) -> Result<(), StateError> {
        self.state.clear()
    }

    /// See [`ReducingState::merge_namespaces`].
    pub fn merge_namespaces(&self, target: &N, sources: &[N]) -> Result<(), StateError> {
        ready(self.state.merge_waiting(target, sources, Waiting::Blocking))
    }
}
