//! The blocking methods of an operator's states (state API V1).

use super::KeyedStateStore;
use crate::StateError;
use crate::access::{Waiting, ready};
use crate::key_group::KeyHash;
use crate::ordered::OrderedKey;
use crate::state::{KeyedHandle, enumerate};

/// The blocking methods of an operator's states (state API V1).
pub struct SyncKeyedStateStore<'a, K> {
    store: &'a KeyedStateStore<K>,
}

impl<'a, K: OrderedKey + KeyHash + 'static> SyncKeyedStateStore<'a, K> {
    pub(super) fn new(store: &'a KeyedStateStore<K>) -> Self {
        Self { store }
    }

    /// See [`KeyedStateStore::keys`].
    pub fn keys<H: KeyedHandle>(
        &self,
        state: &H,
        namespace: &H::Namespace,
    ) -> impl Iterator<Item = Result<K, StateError>> + use<K, H> {
        enumerate::keys_blocking(self.store.walk(state, Waiting::Blocking), namespace)
    }

    /// See [`KeyedStateStore::keys_and_namespaces`].
    pub fn keys_and_namespaces<H: KeyedHandle>(
        &self,
        state: &H,
    ) -> impl Iterator<Item = Result<(K, H::Namespace), StateError>> + use<K, H> {
        enumerate::keys_and_namespaces_blocking(self.store.walk(state, Waiting::Blocking))
    }

    /// See [`KeyedStateStore::entry_count`].
    pub fn entry_count<H: KeyedHandle>(&self, state: &H) -> Result<u64, StateError> {
        ready(enumerate::count(self.store.walk(state, Waiting::Blocking)))
    }

    /// See [`KeyedStateStore::apply_to_all_keys`].
    pub fn apply_to_all_keys<H: KeyedHandle>(
        &self,
        state: &H,
        namespace: &H::Namespace,
        mut act: impl FnMut(&K, &H) -> Result<(), StateError>,
    ) -> Result<(), StateError> {
        let walk = self.store.walk(state, Waiting::Blocking);
        let current = &self.store.current;
        ready(enumerate::apply_to_all_keys(
            walk,
            current,
            state,
            namespace,
            async |key: &K, state: &H| act(key, state),
        ))
    }
}
