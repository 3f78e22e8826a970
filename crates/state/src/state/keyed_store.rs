//! Where an operator gets its states from.

mod migrate;
mod register;
mod sync;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::rc::Rc;

use aquifer_store::{Merge, TableId};

use self::register::{Opened, Wanted};
pub use self::sync::SyncKeyedStateStore;
use crate::StateError;
use crate::access::{StateAccess, Waiting};
use crate::heap::typed::{HeapEntry, HeapTable, HeapTableOf};
use crate::key_group::{KeyHash, assign_to_key_group};
use crate::ordered::OrderedKey;
use crate::serializer::{Serializer, SerializerSnapshot, StateKind};
use crate::state::enumerate;
use crate::state::list::{ChunkTable, ListPlace, NotedTimes};
use crate::state::namespace::Scope;
use crate::state::place::{Place, RowTable};
use crate::state::single::Single;
use crate::state::ttl::{Clocks, Ttl};
use crate::state::{
    AggregateFunction, AggregatingState, AggregatingStateDescriptor, CurrentKey, FoldingState,
    FoldingStateDescriptor, KeyedHandle, ListState, ListStateDescriptor, MapState,
    MapStateDescriptor, ReduceFunction, ReducingState, ReducingStateDescriptor, StateFuture,
    StateStream, StateValue, ValueState, ValueStateDescriptor,
};
use crate::timers::{TimeDomain, TimerService};

/// The keyed state of one operator, with keys of type `K`.
///
/// States are asked for before the first record and in the same order on every worker.
pub struct KeyedStateStore<K> {
    access: StateAccess,
    operator: String,
    current: CurrentKey,
    clocks: Rc<Clocks>,
    tables: RefCell<Vec<TableId>>,
    /// Tables whose TTL counts in event time.
    event_time: RefCell<Vec<TableId>>,
    /// Heap tables that every record cleans a little.
    cleaned: RefCell<Vec<Cleaned>>,
    /// By table number: asked for again they are the same, because their bounds are in memory.
    timers: RefCell<BTreeMap<TableId, TimerService>>,
    scratch: RefCell<Vec<u8>>,
    key: PhantomData<fn(K)>,
}

/// A heap table with its TTL.
type Cleaned = (Rc<RefCell<dyn HeapTable>>, Rc<Ttl>);

impl<K: OrderedKey + KeyHash + 'static> KeyedStateStore<K> {
    /// The states of the operator with this stable id.
    pub fn new(access: StateAccess, operator: impl Into<String>) -> Self {
        Self {
            clocks: Rc::new(Clocks::new(access.clone())),
            access,
            operator: operator.into(),
            current: CurrentKey::new(),
            tables: RefCell::default(),
            event_time: RefCell::default(),
            cleaned: RefCell::default(),
            timers: RefCell::default(),
            scratch: RefCell::default(),
            key: PhantomData,
        }
    }

    /// The blocking methods (state API V1).
    pub fn sync(&self) -> SyncKeyedStateStore<'_, K> {
        SyncKeyedStateStore::new(self)
    }

    /// A value state (Flink's `getState`).
    pub fn value_state<V, S, N>(
        &self,
        descriptor: &ValueStateDescriptor<V, S, N>,
    ) -> Result<ValueState<V, S, N>, StateError>
    where
        V: StateValue,
        S: Serializer<V> + Send,
        N: OrderedKey + 'static,
    {
        let wanted = Wanted {
            common: &descriptor.common,
            kind: StateKind::Value,
            layout: descriptor.layout(&K::type_name()),
            user_key: None,
            ordered: descriptor.common.enumerable,
            merge: Merge::None,
        };
        let opened = self.open::<V, S, N>(&wanted, descriptor.serializer())?;
        // A default would make an expired value look like one that is there.
        let default = match opened.ttl {
            Some(_) => None,
            None => descriptor.default.clone(),
        };
        Ok(ValueState::new(self.single(opened)?, default))
    }

    /// A list state (Flink's `getListState`).
    pub fn list_state<V, S, N>(
        &self,
        descriptor: &ListStateDescriptor<V, S, N>,
    ) -> Result<ListState<V, S, N>, StateError>
    where
        V: StateValue,
        S: Serializer<V> + Send,
        N: OrderedKey + 'static,
    {
        let wanted = Wanted {
            common: &descriptor.common,
            kind: StateKind::List,
            layout: descriptor.layout(&K::type_name()),
            user_key: None,
            ordered: true,
            merge: Merge::Append,
        };
        let opened = self.open::<V, S, N>(&wanted, descriptor.serializer())?;
        let ttl_ms = opened.rule.map(|rule| rule.ttl_ms);
        let serializer = opened.serializer.clone();
        let table = opened.table;
        let place = match self.place(opened)? {
            Place::Heap(heap) => ListPlace::Heap(heap, NotedTimes::new(ttl_ms, table)),
            Place::Rows(rows) => {
                let chunks = ChunkTable::new(rows, descriptor.chunk_bytes_max, ttl_ms);
                ListPlace::Rows(Rc::new(chunks))
            }
        };
        Ok(ListState::new(
            self.access.clone(),
            place,
            Scope::new(self.current.clone()),
            serializer,
        ))
    }

    /// A map state (Flink's `getMapState`).
    pub fn map_state<UK, UV, S, N>(
        &self,
        descriptor: &MapStateDescriptor<UK, UV, S, N>,
    ) -> Result<MapState<UK, UV, S, N>, StateError>
    where
        UK: OrderedKey + 'static,
        UV: StateValue,
        S: Serializer<UV> + Send,
        N: OrderedKey + 'static,
    {
        let wanted = Wanted {
            common: &descriptor.common,
            kind: StateKind::Map,
            layout: descriptor.layout(&K::type_name()),
            user_key: Some(SerializerSnapshot::opaque(UK::type_name())),
            ordered: true,
            merge: Merge::None,
        };
        let opened = self.open::<UV, S, N>(&wanted, descriptor.serializer())?;
        let serializer = opened.serializer.clone();
        Ok(MapState::new(
            self.access.clone(),
            self.place(opened)?,
            Scope::new(self.current.clone()),
            serializer,
        ))
    }

    /// A reducing state (Flink's `getReducingState`).
    pub fn reducing_state<V, R, S, N>(
        &self,
        descriptor: &ReducingStateDescriptor<V, R, S, N>,
    ) -> Result<ReducingState<V, R, S, N>, StateError>
    where
        V: StateValue,
        R: ReduceFunction<V>,
        S: Serializer<V> + Send,
        N: OrderedKey + 'static,
    {
        let wanted = Wanted {
            common: &descriptor.common,
            kind: StateKind::Reducing,
            layout: descriptor.layout(&K::type_name()),
            user_key: None,
            ordered: descriptor.common.enumerable,
            merge: Merge::None,
        };
        let opened = self.open::<V, S, N>(&wanted, descriptor.serializer())?;
        let function = Rc::clone(&descriptor.function);
        Ok(ReducingState::new(self.single(opened)?, function))
    }

    /// An aggregating state (Flink's `getAggregatingState`).
    pub fn aggregating_state<A, S, N>(
        &self,
        descriptor: &AggregatingStateDescriptor<A, S, N>,
    ) -> Result<AggregatingState<A, S, N>, StateError>
    where
        A: AggregateFunction,
        S: Serializer<A::Acc> + Send,
        N: OrderedKey + 'static,
    {
        let wanted = Wanted {
            common: &descriptor.common,
            kind: StateKind::Aggregating,
            layout: descriptor.layout(&K::type_name()),
            user_key: None,
            ordered: descriptor.common.enumerable,
            merge: Merge::None,
        };
        let opened = self.open::<A::Acc, S, N>(&wanted, descriptor.serializer())?;
        let function = Rc::clone(&descriptor.function);
        Ok(AggregatingState::new(self.single(opened)?, function))
    }

    /// A folding state.
    pub fn folding_state<T, Acc, F, S, N>(
        &self,
        descriptor: &FoldingStateDescriptor<T, Acc, F, S, N>,
    ) -> Result<FoldingState<T, Acc, F, S, N>, StateError>
    where
        T: 'static,
        Acc: StateValue,
        F: Fn(&mut Acc, T) + 'static,
        S: Serializer<Acc> + Send,
        N: OrderedKey + 'static,
    {
        let wanted = Wanted {
            common: &descriptor.common,
            kind: StateKind::Aggregating,
            layout: descriptor.layout(&K::type_name()),
            user_key: None,
            ordered: descriptor.common.enumerable,
            merge: Merge::None,
        };
        let opened = self.open::<Acc, S, N>(&wanted, descriptor.serializer())?;
        let function = Rc::clone(&descriptor.function);
        let inner = AggregatingState::new(self.single(opened)?, function);
        Ok(FoldingState { inner })
    }

    /// Event-time timers of this name (Flink's `InternalTimerService`). Asked for again it is the same service.
    pub fn timer_service(&self, name: &str) -> Result<TimerService, StateError> {
        self.timers(TimeDomain::Event, name)
    }

    /// Processing-time timers of this name. Asked for again it is the same service.
    pub fn processing_timers(&self, name: &str) -> Result<TimerService, StateError> {
        self.timers(TimeDomain::Processing, name)
    }

    /// Makes `key` the current key of all states of this operator.
    pub fn set_current_key(&self, key: &K) {
        let mut bytes = self.scratch.borrow_mut();
        bytes.clear();
        key.encode_ordered(&mut bytes);
        let group = assign_to_key_group(key.hash_code(), self.access.max_parallelism());
        self.current.set(group, &bytes);
        self.record_begins();
    }

    /// The cell that all states of this operator look at: for executors that keep keys encoded.
    pub fn current_key(&self) -> &CurrentKey {
        &self.current
    }

    /// A record begins: heap tables whose TTL says so are cleaned a little. `set_current_key` calls it; executors that keep keys encoded do.
    pub fn record_begins(&self) {
        for (table, ttl) in self.cleaned.borrow().iter() {
            ttl.clean(&mut *table.borrow_mut());
        }
    }

    /// Event time of the record in hand, if it has one: the time of what is written to states with a TTL in event time is at least this.
    pub fn set_record_time(&self, time_ms: Option<i64>) {
        self.clocks.set_record_time(time_ms);
    }

    /// The operator's watermark has come to this: what TTLs in event time count in.
    pub fn advance_event_time(&self, watermark_ms: i64) -> Result<(), StateError> {
        let first_ms = self.clocks.advance_event_time(watermark_ms);
        for table in self.event_time.borrow().iter() {
            if let Some(first_ms) = first_ms {
                self.access.count_untimed_as(*table, first_ms)?;
            }
            self.access.advance_event_time(*table, watermark_ms)?;
        }
        Ok(())
    }

    /// Whether some state has a TTL in event time: then the time of each record matters.
    pub fn uses_event_time(&self) -> bool {
        !self.event_time.borrow().is_empty()
    }

    /// The worker's clock, in milliseconds: what processing-time timers and TTLs count in.
    pub fn processing_time_ms(&self) -> i64 {
        self.clocks.processing_ms()
    }

    /// The keys for which a state holds something in this namespace, among the worker's key groups, key group by key group.
    pub fn keys<H: KeyedHandle>(&self, state: &H, namespace: &H::Namespace) -> StateStream<K> {
        enumerate::keys(self.walk(state, self.access.waiting_mode()), namespace)
    }

    /// The pairs of key and namespace for which a state holds something, among the worker's key groups.
    pub fn keys_and_namespaces<H: KeyedHandle>(&self, state: &H) -> StateStream<(K, H::Namespace)> {
        enumerate::keys_and_namespaces(self.walk(state, self.access.waiting_mode()))
    }

    /// How many pairs of key and namespace hold something of a state, exactly: all of them are looked at.
    pub fn entry_count<H: KeyedHandle>(&self, state: &H) -> StateFuture<u64> {
        enumerate::count(self.walk(state, self.access.waiting_mode()))
    }

    /// Calls `act` for each key that holds something of a state in this namespace: as the current key, with the handle set to the namespace. It
    /// may write and clear; keys that it adds may or may not be met. Current key and namespace are as before afterwards.
    pub async fn apply_to_all_keys<H: KeyedHandle>(
        &self,
        state: &H,
        namespace: &H::Namespace,
        act: impl AsyncFnMut(&K, &H) -> Result<(), StateError>,
    ) -> Result<(), StateError> {
        let walk = self.walk(state, self.access.waiting_mode());
        enumerate::apply_to_all_keys(walk, &self.current, state, namespace, act).await
    }

    /// The tables of this operator's states: what its barrier freezes.
    pub fn tables(&self) -> Vec<TableId> {
        self.tables.borrow().clone()
    }

    fn walk<H: KeyedHandle>(
        &self,
        state: &H,
        waiting: Waiting,
    ) -> enumerate::Keys<K, H::Namespace> {
        enumerate::Keys::new(state, self.access.key_groups(), waiting)
    }

    fn single<V, S, N>(&self, opened: Opened<S>) -> Result<Single<V, S, N>, StateError>
    where
        V: StateValue,
        S: Serializer<V> + Send,
        N: OrderedKey + 'static,
    {
        let serializer = opened.serializer.clone();
        Ok(Single::new(
            self.access.clone(),
            self.place(opened)?,
            Scope::new(self.current.clone()),
            serializer,
        ))
    }

    /// Where the rows of a registered state are.
    fn place<E, S>(&self, opened: Opened<S>) -> Result<Place<HeapTableOf<E, S>>, StateError>
    where
        E: HeapEntry<S>,
        S: Clone + Send + 'static,
    {
        let heap = self.access.backend().borrow().heap();
        let Some(heap) = heap else {
            return Ok(Place::Rows(RowTable::new(
                self.access.clone(),
                opened.table,
                opened.ttl,
            )));
        };
        self.heap_place(&heap, opened).map(Place::Heap)
    }
}
