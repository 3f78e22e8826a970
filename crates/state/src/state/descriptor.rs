//! Names and types of states, as users declare them.

use std::marker::PhantomData;

use crate::ordered::OrderedKey;
use crate::serializer::{Postcard, Serializer};

/// Declares a value state: at most one `V` per key.
pub struct ValueStateDescriptor<V, S = Postcard<V>> {
    name: String,
    serializer: S,
    value: PhantomData<fn() -> V>,
}

impl<V, S: Default> ValueStateDescriptor<V, S> {
    /// A state of this name, unique within its operator.
    pub fn new(name: impl Into<String>) -> Self {
        Self::with_serializer(name, S::default())
    }
}

impl<V, S> ValueStateDescriptor<V, S> {
    /// A state with another serializer than serde's.
    pub fn with_serializer(name: impl Into<String>, serializer: S) -> Self {
        Self {
            name: name.into(),
            serializer,
            value: PhantomData,
        }
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Turns values into bytes.
    pub fn serializer(&self) -> &S {
        &self.serializer
    }
}

impl<V, S: Serializer<V>> ValueStateDescriptor<V, S> {
    /// What the checkpoint says about this state, for keys of this type.
    pub fn layout(&self, key: &str) -> String {
        format!("value-1 key={key} value={}", self.serializer.layout())
    }
}

/// Declares a map state: any number of `UV` per key, one per user key `UK`, iterated in the order of the user keys.
pub struct MapStateDescriptor<UK, UV, S = Postcard<UV>> {
    name: String,
    serializer: S,
    entry: PhantomData<fn() -> (UK, UV)>,
}

impl<UK, UV, S: Default> MapStateDescriptor<UK, UV, S> {
    /// A state of this name, unique within its operator.
    pub fn new(name: impl Into<String>) -> Self {
        Self::with_serializer(name, S::default())
    }
}

impl<UK, UV, S> MapStateDescriptor<UK, UV, S> {
    /// A state with another serializer of values than serde's.
    pub fn with_serializer(name: impl Into<String>, serializer: S) -> Self {
        Self {
            name: name.into(),
            serializer,
            entry: PhantomData,
        }
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Turns values into bytes.
    pub fn serializer(&self) -> &S {
        &self.serializer
    }
}

impl<UK: OrderedKey, UV, S: Serializer<UV>> MapStateDescriptor<UK, UV, S> {
    /// What the checkpoint says about this state, for keys of this type.
    pub fn layout(&self, key: &str) -> String {
        format!(
            "map-1 key={key} user-key={} value={}",
            UK::type_name(),
            self.serializer.layout()
        )
    }
}
