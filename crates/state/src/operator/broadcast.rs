//! A map that is the same on every worker, because every worker sees the same broadcast elements.

use std::any::Any;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;

use super::restored::Decoder;
use super::store::Registered;
use super::{NamedList, Redistribution};
use crate::StateError;
use crate::ordered::{OrderedKey, decode_ordered};
use crate::serializer::{Serializer, SerializerSnapshot};

/// Writes the bytes by which a map knows a key.
type EncodeKey<K> = Rc<dyn Fn(&K, &mut Vec<u8>) -> Result<(), StateError>>;

/// Entries by the bytes of their keys.
type Entries<K, V> = BTreeMap<Vec<u8>, (K, V)>;

/// A broadcast map: in memory, copied at a barrier, iterated in the order of the keys' bytes. Clones are the same map.
///
/// Nothing here keeps the copies of different workers alike: change it only by what all of them see.
pub struct BroadcastState<K, V> {
    entries: Rc<RefCell<Entries<K, V>>>,
    encode: EncodeKey<K>,
}

impl<K, V> Clone for BroadcastState<K, V> {
    fn clone(&self) -> Self {
        Self {
            entries: Rc::clone(&self.entries),
            encode: Rc::clone(&self.encode),
        }
    }
}

impl<K, V> BroadcastState<K, V> {
    fn bytes_of(&self, key: &K) -> Result<Vec<u8>, StateError> {
        let mut bytes = Vec::new();
        (self.encode)(key, &mut bytes)?;
        Ok(bytes)
    }

    /// Sets the value of a key.
    pub fn put(&self, key: K, value: V) -> Result<(), StateError> {
        let bytes = self.bytes_of(&key)?;
        self.entries.borrow_mut().insert(bytes, (key, value));
        Ok(())
    }

    /// Sets the values of keys.
    pub fn put_all(&self, entries: impl IntoIterator<Item = (K, V)>) -> Result<(), StateError> {
        for (key, value) in entries {
            self.put(key, value)?;
        }
        Ok(())
    }

    /// Removes a key; says whether it was there.
    pub fn remove(&self, key: &K) -> Result<bool, StateError> {
        let bytes = self.bytes_of(key)?;
        Ok(self.entries.borrow_mut().remove(&bytes).is_some())
    }

    /// Removes everything.
    pub fn clear(&self) {
        self.entries.borrow_mut().clear();
    }

    /// Whether a key is there.
    pub fn contains(&self, key: &K) -> Result<bool, StateError> {
        let bytes = self.bytes_of(key)?;
        Ok(self.entries.borrow().contains_key(&bytes))
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.entries.borrow().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.borrow().is_empty()
    }

    /// Shows every entry in turn; the map must not be changed meanwhile.
    pub fn for_each(&self, mut see: impl FnMut(&K, &V)) {
        let entries = self.entries.borrow();
        entries.values().for_each(|(key, value)| see(key, value));
    }

    /// The same map for those who may only look: the side of a broadcast that is not broadcast.
    pub fn read_only(&self) -> ReadOnlyBroadcastState<K, V> {
        ReadOnlyBroadcastState(self.clone())
    }
}

impl<K, V: Clone> BroadcastState<K, V> {
    /// The value of a key.
    pub fn get(&self, key: &K) -> Result<Option<V>, StateError> {
        let bytes = self.bytes_of(key)?;
        let entries = self.entries.borrow();
        Ok(entries.get(&bytes).map(|(_, value)| value.clone()))
    }
}

impl<K: Clone, V: Clone> BroadcastState<K, V> {
    /// A copy of all entries.
    pub fn entries(&self) -> Vec<(K, V)> {
        self.entries.borrow().values().cloned().collect()
    }
}

/// A broadcast map that cannot be changed through this handle.
pub struct ReadOnlyBroadcastState<K, V>(BroadcastState<K, V>);

impl<K, V> Clone for ReadOnlyBroadcastState<K, V> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K, V> ReadOnlyBroadcastState<K, V> {
    /// See [`BroadcastState::contains`].
    pub fn contains(&self, key: &K) -> Result<bool, StateError> {
        self.0.contains(key)
    }

    /// See [`BroadcastState::len`].
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// See [`BroadcastState::is_empty`].
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// See [`BroadcastState::for_each`].
    pub fn for_each(&self, see: impl FnMut(&K, &V)) {
        self.0.for_each(see);
    }
}

impl<K, V: Clone> ReadOnlyBroadcastState<K, V> {
    /// See [`BroadcastState::get`].
    pub fn get(&self, key: &K) -> Result<Option<V>, StateError> {
        self.0.get(key)
    }
}

impl<K: Clone, V: Clone> ReadOnlyBroadcastState<K, V> {
    /// See [`BroadcastState::entries`].
    pub fn entries(&self) -> Vec<(K, V)> {
        self.0.entries()
    }
}

/// Serializes keys that have an order of their own in that order.
pub(super) struct Ordered<K>(PhantomData<fn() -> K>);

impl<K> Default for Ordered<K> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<K> Clone for Ordered<K> {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl<K: OrderedKey + 'static> Serializer<K> for Ordered<K> {
    fn serialize(&self, key: &K, out: &mut Vec<u8>) -> Result<(), StateError> {
        key.encode_ordered(out);
        Ok(())
    }

    fn deserialize(&self, bytes: &[u8]) -> Result<K, StateError> {
        decode_ordered(bytes)
    }

    fn layout(&self) -> String {
        K::type_name()
    }
}

/// A map that was asked for.
pub(super) struct RegisteredBroadcast<K, V, S> {
    name: String,
    key: SerializerSnapshot,
    serializer: S,
    map: BroadcastState<K, V>,
}

impl<K: 'static, V: 'static, S: Serializer<V>> RegisteredBroadcast<K, V, S> {
    pub(super) fn open<KS: Serializer<K>>(
        operator: &str,
        name: &str,
        keys: KS,
        values: S,
        old: Option<&NamedList>,
    ) -> Result<Self, StateError> {
        let (mut keys, mut values) = (keys, values);
        let mut restored = Vec::new();
        if let Some(old) = old {
            let what = |part: &str| {
                format!("a {part} of broadcast state `{name}` of operator `{operator}`")
            };
            let damaged = || {
                StateError::Corrupt(format!(
                    "broadcast state `{name}` of operator `{operator}` is damaged: expected keys and values in turns, found {} parts",
                    old.elements.len()
                ))
            };
            let old_key = old.key.as_ref().ok_or_else(damaged)?;
            let key_decoder = Decoder::new(keys, old_key, || what("key"))?;
            let value_decoder = Decoder::new(values, &old.value, || what("value"))?;
            for entry in old.elements.chunks(2) {
                let [key, value] = entry else {
                    return Err(damaged());
                };
                let key = key_decoder.read(key);
                let key = key.map_err(|error| error.about(&what("key")))?;
                let value = value_decoder.read(value);
                let value = value.map_err(|error| error.about(&what("value")))?;
                restored.push((key, value));
            }
            keys = key_decoder.into_serializer();
            values = value_decoder.into_serializer();
        }
        let key = keys.snapshot();
        for snapshot in [&key, &values.snapshot()] {
            snapshot.check_size().map_err(|error| {
                error.about(&format!(
                    "broadcast state `{name}` of operator `{operator}`"
                ))
            })?;
        }
        let map = BroadcastState {
            entries: Rc::default(),
            encode: Rc::new(move |key, out| keys.serialize(key, out)),
        };
        map.put_all(restored)?;
        Ok(Self {
            name: name.to_owned(),
            key,
            serializer: values,
            map,
        })
    }
}

impl<K: 'static, V: 'static, S: Serializer<V>> Registered for RegisteredBroadcast<K, V, S> {
    fn mode(&self) -> Redistribution {
        Redistribution::Broadcast
    }

    fn handle(&self) -> Box<dyn Any> {
        Box::new(self.map.clone())
    }

    fn freeze(&self) -> Result<NamedList, StateError> {
        let entries = self.map.entries.borrow();
        let mut frozen = Vec::with_capacity(entries.len() * 2);
        for (key, (_, value)) in entries.iter() {
            let mut bytes = Vec::new();
            let written = self.serializer.serialize(value, &mut bytes);
            written.map_err(|error| error.about(&format!("broadcast state `{}`", self.name)))?;
            frozen.push(Bytes::copy_from_slice(key));
            frozen.push(Bytes::from(bytes));
        }
        Ok(NamedList {
            name: self.name.clone(),
            mode: Redistribution::Broadcast,
            value: self.serializer.snapshot(),
            key: Some(self.key.clone()),
            elements: Arc::new(frozen),
        })
    }
}
