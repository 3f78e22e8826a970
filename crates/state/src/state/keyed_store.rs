//! Where an operator gets its states from.

use std::cell::RefCell;
use std::marker::PhantomData;

use aquifer_store::{TableId, TableOptions};

use crate::access::StateAccess;
use crate::key_group::{KeyHash, assign_to_key_group};
use crate::ordered::OrderedKey;
use crate::serializer::Serializer;
use crate::state::{CurrentKey, MapState, MapStateDescriptor, ValueState, ValueStateDescriptor};
use crate::timers::TimerService;
use crate::{StateDescription, StateError};

/// The keyed state of one operator, with keys of type `K`.
///
/// States are asked for before the first record and in the same order on every worker.
pub struct KeyedStateStore<K> {
    access: StateAccess,
    operator: String,
    current: CurrentKey,
    tables: RefCell<Vec<TableId>>,
    scratch: RefCell<Vec<u8>>,
    key: PhantomData<fn(K)>,
}

impl<K: OrderedKey + KeyHash> KeyedStateStore<K> {
    /// The states of the operator with this stable id.
    pub fn new(access: StateAccess, operator: impl Into<String>) -> Self {
        Self {
            access,
            operator: operator.into(),
            current: CurrentKey::new(),
            tables: RefCell::default(),
            scratch: RefCell::default(),
            key: PhantomData,
        }
    }

    /// A value state (Flink's `getState`).
    pub fn value_state<V: 'static, S: Serializer<V>>(
        &self,
        descriptor: &ValueStateDescriptor<V, S>,
    ) -> Result<ValueState<V, S>, StateError> {
        let layout = descriptor.layout(&K::type_name());
        let table = self.register(descriptor.name(), layout, false)?;
        Ok(ValueState::new(
            self.access.clone(),
            table,
            self.current.clone(),
            descriptor.serializer().clone(),
        ))
    }

    /// A map state (Flink's `getMapState`).
    pub fn map_state<UK: OrderedKey + 'static, UV: 'static, S: Serializer<UV>>(
        &self,
        descriptor: &MapStateDescriptor<UK, UV, S>,
    ) -> Result<MapState<UK, UV, S>, StateError> {
        let layout = descriptor.layout(&K::type_name());
        let table = self.register(descriptor.name(), layout, true)?;
        Ok(MapState::new(
            self.access.clone(),
            table,
            self.current.clone(),
            descriptor.serializer().clone(),
        ))
    }

    /// Event-time timers of this name (Flink's `InternalTimerService`).
    pub fn timer_service(&self, name: &str) -> Result<TimerService, StateError> {
        let layout = TimerService::layout(&K::type_name());
        let table = self.register(&TimerService::state_name(name), layout, true)?;
        Ok(TimerService::new(self.access.clone(), table))
    }

    /// Makes `key` the current key of all states of this operator.
    pub fn set_current_key(&self, key: &K) {
        let mut bytes = self.scratch.borrow_mut();
        bytes.clear();
        key.encode_ordered(&mut bytes);
        let group = assign_to_key_group(key.hash_code(), self.access.max_parallelism());
        self.current.set(group, &bytes);
    }

    /// The cell that all states of this operator look at: for executors that keep keys encoded.
    pub fn current_key(&self) -> &CurrentKey {
        &self.current
    }

    /// The tables of this operator's states: what its barrier freezes.
    pub fn tables(&self) -> Vec<TableId> {
        self.tables.borrow().clone()
    }

    fn register(&self, state: &str, layout: String, ordered: bool) -> Result<TableId, StateError> {
        let table = self
            .access
            .backend()
            .borrow_mut()
            .register(&StateDescription::raw(
                &*self.operator,
                state,
                TableOptions {
                    ordered,
                    ..TableOptions::default()
                },
                layout,
            ))?;
        let mut tables = self.tables.borrow_mut();
        if !tables.contains(&table) {
            tables.push(table);
        }
        Ok(table)
    }
}
