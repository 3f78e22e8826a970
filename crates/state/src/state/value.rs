//! Value state: at most one value per key and namespace.

use std::rc::Rc;

use crate::StateError;
use crate::access::Waiting;
use crate::ordered::OrderedKey;
use crate::serializer::{Postcard, Serializer};
use crate::state::single::Single;
use crate::state::{StateFuture, StateValue};

/// Makes the value that stands for none.
pub(crate) type DefaultValue<V> = Rc<dyn Fn() -> V>;

/// One value per key and namespace. Clones share the namespace that was set.
pub struct ValueState<V, S = Postcard<V>, N = ()> {
    pub(crate) single: Single<V, S, N>,
    default: Option<DefaultValue<V>>,
}

impl<V, S: Clone, N> Clone for ValueState<V, S, N> {
    fn clone(&self) -> Self {
        Self {
            single: self.single.clone(),
            default: self.default.clone(),
        }
    }
}

impl<V, S, N> ValueState<V, S, N>
where
    V: StateValue,
    S: Serializer<V> + Send,
    N: OrderedKey + 'static,
{
    pub(crate) fn new(single: Single<V, S, N>, default: Option<DefaultValue<V>>) -> Self {
        Self { single, default }
    }

    /// The blocking methods (state API V1).
    pub fn sync(&self) -> SyncValueState<'_, V, S, N> {
        SyncValueState { state: self }
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
            default: self.default.clone(),
        }
    }

    /// The value of the current key; if there is none, the default, if the state has one.
    #[inline]
    pub fn get(&self) -> StateFuture<Option<V>> {
        self.read(self.single.waiting())
    }

    /// Like `get`, but blocks on a cold key (state API V1).
    #[inline]
    pub fn value(&self) -> Result<Option<V>, StateError> {
        self.read(Waiting::Blocking).now()
    }

    /// Sets the value of the current key.
    #[inline]
    pub fn put(&self, value: V) -> Result<(), StateError> {
        self.single.put_owned(value)
    }

    /// Sets the value of the current key.
    #[inline]
    pub fn update(&self, value: &V) -> Result<(), StateError> {
        self.single.put(value)
    }

    /// Sets the value of the current key, or removes it.
    pub fn set(&self, value: Option<V>) -> Result<(), StateError> {
        match value {
            Some(value) => self.put(value),
            None => self.clear(),
        }
    }

    /// Removes the value of the current key.
    pub fn clear(&self) -> Result<(), StateError> {
        self.single.clear()
    }

    #[inline]
    fn read(&self, waiting: Waiting) -> StateFuture<Option<V>> {
        let value = self.single.get(waiting);
        match &self.default {
            None => value,
            Some(default) => {
                let default = Rc::clone(default);
                value.map(move |value| Some(value.unwrap_or_else(|| default())))
            }
        }
    }
}

/// The blocking methods of a value state (state API V1).
pub struct SyncValueState<'a, V, S = Postcard<V>, N = ()> {
    state: &'a ValueState<V, S, N>,
}

impl<V, S, N> SyncValueState<'_, V, S, N>
where
    V: StateValue,
    S: Serializer<V> + Send,
    N: OrderedKey + 'static,
{
    /// The value of the current key; if there is none, the default, if the state has one.
    #[inline]
    pub fn get(&self) -> Result<Option<V>, StateError> {
        self.state.value()
    }

    /// Sets the value of the current key.
    pub fn put(&self, value: V) -> Result<(), StateError> {
        self.state.put(value)
    }

    /// Sets the value of the current key.
    pub fn update(&self, value: &V) -> Result<(), StateError> {
        self.state.update(value)
    }

    /// Sets the value of the current key, or removes it.
    pub fn set(&self, value: Option<V>) -> Result<(), StateError> {
        self.state.set(value)
    }

    /// Removes the value of the current key.
    pub fn clear(&self) -> Result<(), StateError> {
        self.state.clear()
    }
}
