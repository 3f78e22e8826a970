//! Aggregating state: one accumulator per key and namespace, to which inputs are added, and from which an output is made.
//!
//! Adding reads, accumulates and writes with nothing in between, so two additions that overlap both count.

use std::rc::Rc;

use crate::StateError;
use crate::access::{Waiting, ready};
use crate::ordered::OrderedKey;
use crate::serializer::{Postcard, Serializer};
use crate::state::single::Single;
use crate::state::{StateFuture, StateValue};

/// Accumulates inputs.
pub trait AggregateFunction: 'static {
    /// What is added.
    type In: 'static;
    /// What is kept.
    type Acc: StateValue;
    /// What is read.
    type Out: 'static;

    /// An accumulator that has seen nothing.
    fn create(&self) -> Self::Acc;

    /// Adds an input.
    fn add(&self, value: Self::In, acc: &mut Self::Acc);

    /// What an accumulator says.
    fn result(&self, acc: &Self::Acc) -> Self::Out;

    /// An accumulator that has seen what both have seen, `a` first.
    fn merge(&self, a: Self::Acc, b: Self::Acc) -> Self::Acc;
}

/// One accumulator per key and namespace. Clones share the namespace that was set.
pub struct AggregatingState<
    A: AggregateFunction,
    S = Postcard<<A as AggregateFunction>::Acc>,
    N = (),
> {
    pub(crate) single: Single<A::Acc, S, N>,
    function: Rc<A>,
}

impl<A: AggregateFunction, S: Clone, N> Clone for AggregatingState<A, S, N> {
    fn clone(&self) -> Self {
        Self {
            single: self.single.clone(),
            function: Rc::clone(&self.function),
        }
    }
}

impl<A, S, N> AggregatingState<A, S, N>
where
    A: AggregateFunction,
    S: Serializer<A::Acc> + Send,
    N: OrderedKey + 'static,
{
    pub(crate) fn new(single: Single<A::Acc, S, N>, function: Rc<A>) -> Self {
        Self { single, function }
    }

    /// The blocking methods (state API V1).
    pub fn sync(&self) -> SyncAggregatingState<'_, A, S, N> {
        SyncAggregatingState { state: self }
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

    /// What the accumulator of the current key says, if there is one.
    #[inline]
    pub fn get(&self) -> StateFuture<Option<A::Out>> {
        self.get_waiting(self.single.waiting())
    }

    /// Adds an input. It has happened when the future is ready: at once if memory could answer.
    pub fn add(&self, value: A::In) -> StateFuture<()> {
        self.add_waiting(value, self.single.waiting())
    }

    /// Removes the accumulator of the current key.
    pub fn clear(&self) -> Result<(), StateError> {
        self.single.clear()
    }

    /// Merges what the current key has in `target` and in the `sources` into one accumulator in `target`, and empties the sources.
    pub fn merge_namespaces(&self, target: &N, sources: &[N]) -> StateFuture<()> {
        self.merge_waiting(target, sources, self.single.waiting())
    }

    fn get_waiting(&self, waiting: Waiting) -> StateFuture<Option<A::Out>> {
        let function = Rc::clone(&self.function);
        let acc = self.single.get(waiting);
        acc.map(move |acc| acc.map(|acc| function.result(&acc)))
    }

    fn add_waiting(&self, value: A::In, waiting: Waiting) -> StateFuture<()> {
        let function = Rc::clone(&self.function);
        self.single.modify(waiting, move |old| {
            let mut acc = old.unwrap_or_else(|| function.create());
            function.add(value, &mut acc);
            acc
        })
    }

    fn merge_waiting(&self, target: &N, sources: &[N], waiting: Waiting) -> StateFuture<()> {
        let function = Rc::clone(&self.function);
        let combine = move |a, b| function.merge(a, b);
        self.single
            .merge_namespaces(target, sources, waiting, combine)
    }
}

/// The blocking methods of an aggregating state (state API V1).
pub struct SyncAggregatingState<
    'a,
    A: AggregateFunction,
    S = Postcard<<A as AggregateFunction>::Acc>,
    N = (),
> {
    state: &'a AggregatingState<A, S, N>,
}

impl<A, S, N> SyncAggregatingState<'_, A, S, N>
where
    A: AggregateFunction,
    S: Serializer<A::Acc> + Send,
    N: OrderedKey + 'static,
{
    /// What the accumulator of the current key says, if there is one.
    pub fn get(&self) -> Result<Option<A::Out>, StateError> {
        ready(self.state.get_waiting(Waiting::Blocking))
    }

    /// Adds an input.
    pub fn add(&self, value: A::In) -> Result<(), StateError> {
        ready(self.state.add_waiting(value, Waiting::Blocking))
    }

    /// Removes the accumulator of the current key.
    pub fn clear(&self) -> Result<(), StateError> {
        self.state.clear()
    }

    /// See [`AggregatingState::merge_namespaces`].
    pub fn merge_namespaces(&self, target: &N, sources: &[N]) -> Result<(), StateError> {
        ready(self.state.merge_waiting(target, sources, Waiting::Blocking))
    }
}
