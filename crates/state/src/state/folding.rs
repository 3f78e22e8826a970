//! Folding state: one value per key and namespace that starts from an initial value and takes in others. Aggregating state in other words.

use std::marker::PhantomData;

use crate::StateError;
use crate::ordered::OrderedKey;
use crate::serializer::{Postcard, Serializer};
use crate::state::aggregating::{AggregateFunction, AggregatingState, SyncAggregatingState};
use crate::state::{StateFuture, StateValue};

/// A fold as an aggregation: the accumulator is the output. Two folded values cannot be merged in general, so folding state has no
/// `merge_namespaces`.
pub struct Folding<T, Acc, F> {
    initial: Box<dyn Fn() -> Acc>,
    fold: F,
    value: PhantomData<fn(T)>,
}

impl<T, Acc, F> Folding<T, Acc, F> {
    pub(crate) fn new(initial: impl Fn() -> Acc + 'static, fold: F) -> Self {
        Self {
            initial: Box::new(initial),
            fold,
            value: PhantomData,
        }
    }
}

impl<T, Acc, F> AggregateFunction for Folding<T, Acc, F>
where
    T: 'static,
    Acc: StateValue,
    F: Fn(&mut Acc, T) + 'static,
{
    type In = T;
    type Acc = Acc;
    type Out = Acc;

    fn create(&self) -> Acc {
        (self.initial)()
    }

    fn add(&self, value: T, acc: &mut Acc) {
        (self.fold)(acc, value);
    }

    fn result(&self, acc: &Acc) -> Acc {
        acc.clone()
    }

    /// Not reached: folding state has no `merge_namespaces`.
    fn merge(&self, a: Acc, _b: Acc) -> Acc {
        a
    }
}

/// One folded value per key and namespace. Clones share the namespace that was set.
pub struct FoldingState<T, Acc, F, S = Postcard<Acc>, N = ()>
where
    T: 'static,
    Acc: StateValue,
    F: Fn(&mut Acc, T) + 'static,
{
    pub(crate) inner: AggregatingState<Folding<T, Acc, F>, S, N>,
}

impl<T, Acc, F, S: Clone, N> Clone for FoldingState<T, Acc, F, S, N>
where
    T: 'static,
    Acc: StateValue,
    F: Fn(&mut Acc, T) + 'static,
{
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
        }
    }
}

impl<T, Acc, F, S, N> FoldingState<T, Acc, F, S, N>
where
    T: 'static,
    Acc: StateValue,
    F: Fn(&mut Acc, T) + 'static,
    S: Serializer<Acc> + Send,
    N: OrderedKey + 'static,
{
    /// The blocking methods (state API V1).
    pub fn sync(&self) -> SyncFoldingState<'_, T, Acc, F, S, N> {
        SyncFoldingState {
            inner: self.inner.sync(),
        }
    }

    /// The namespace that following calls act on, of this handle and its clones.
    pub fn set_namespace(&self, namespace: &N) {
        self.inner.set_namespace(namespace);
    }

    /// A handle on the same state with a namespace of its own.
    #[must_use]
    pub fn detached(&self) -> Self {
        Self {
            inner: self.inner.detached(),
        }
    }

    /// The folded value of the current key; `None` if nothing was added.
    pub fn get(&self) -> StateFuture<Option<Acc>> {
        self.inner.get()
    }

    /// Folds a value in, into a new initial value if it is the first. It has happened when the future is ready.
    pub fn add(&self, value: T) -> StateFuture<()> {
        self.inner.add(value)
    }

    /// Removes the folded value of the current key.
    pub fn clear(&self) -> Result<(), StateError> {
        self.inner.clear()
    }
}

/// The blocking methods of a folding state (state API V1).
pub struct SyncFoldingState<'a, T, Acc, F, S = Postcard<Acc>, N = ()>
where
    T: 'static,
    Acc: StateValue,
    F: Fn(&mut Acc, T) + 'static,
{
    inner: SyncAggregatingState<'a, Folding<T, Acc, F>, S, N>,
}

impl<T, Acc, F, S, N> SyncFoldingState<'_, T, Acc, F, S, N>
where
    T: 'static,
    Acc: StateValue,
    F: Fn(&mut Acc, T) + 'static,
    S: Serializer<Acc> + Send,
    N: OrderedKey + 'static,
{
    /// The folded value of the current key; `None` if nothing was added.
    pub fn get(&self) -> Result<Option<Acc>, StateError> {
        self.inner.get()
    }

    /// Folds a value in.
    pub fn add(&self, value: T) -> Result<(), StateError> {
        self.inner.add(value)
    }

    /// Removes the folded value of the current key.
    pub fn clear(&self) -> Result<(), StateError> {
        self.inner.clear()
    }
}
