//! The program of a random job: states of all kinds and timers, on one worker.
use aquifer_state::serializer::Postcard;
use aquifer_state::{
    AggregateFunction, AggregatingState, AggregatingStateDescriptor, FoldingState,
    FoldingStateDescriptor, KeyedStateStore, ListState, ListStateDescriptor, MapState,
    MapStateDescriptor, ReducingState, ReducingStateDescriptor, TimerService, ValueState,
    ValueStateDescriptor,
};

use super::expiry::Ttl;
use crate::cases::{all, ask};
use crate::world::Worker;

/// In order, so that a lost or doubled input shows.
pub struct Inputs;

impl AggregateFunction for Inputs {
    type In = u32;
    type Acc = Vec<u32>;
    type Out = Vec<u32>;
    fn create(&self) -> Vec<u32> {
        vec![]
    }
    fn add(&self, value: u32, acc: &mut Vec<u32>) {
        acc.push(value);
    }
    fn result(&self, acc: &Vec<u32>) -> Vec<u32> {
        acc.clone()
    }
    fn merge(&self, mut a: Vec<u32>, b: Vec<u32>) -> Vec<u32> {
        a.extend(b);
        a
    }
}

/// Depends on the order of its arguments.
pub fn reduce(a: u64, b: u64) -> u64 {
    a.wrapping_mul(31).wrapping_add(b)
}

pub fn fold(text: &mut String, value: u32) {
    text.push_str(&format!("{value},"));
}

type Reduce = fn(u64, u64) -> u64;
type Fold = fn(&mut String, u32);

/// What a timer waits for.
#[derive(Clone, Copy, Debug)]
pub enum Clock {
    Event,
    Processing,
}

/// Keyed states of one worker.
pub struct States {
    pub worker: Worker,
    pub store: KeyedStateStore<u64>,
    pub value: ValueState<u32, Postcard<u32>, u64>,
    pub list: ListState<u32, Postcard<u32>, u64>,
    pub map: MapState<u8, Option<u32>, Postcard<Option<u32>>, u64>,
    pub sum: ReducingState<u64, Reduce, Postcard<u64>, u64>,
    pub inputs: AggregatingState<Inputs, Postcard<Vec<u32>>, u64>,
    pub text: FoldingState<u32, String, Fold, Postcard<String>, u64>,
    events: TimerService,
    processing: TimerService,
}

/// Everything of one key and namespace, as reads show it.
#[derive(Debug, PartialEq)]
pub struct Read {
    pub value: Option<u32>,
    pub list: Vec<u32>,
    pub map: Vec<(u8, Option<u32>)>,
    pub sum: Option<u64>,
    pub inputs: Option<Vec<u32>>,
    pub text: Option<String>,
}

impl States {
    pub fn open(worker: Worker, ttl: Option<Ttl>) -> Self {
        let store = worker.store::<u64>("op");
        macro_rules! declared {
            ($descriptor:expr) => {{
                let descriptor = $descriptor.namespace::<u64>();
                match ttl {
                    Some(ttl) => descriptor.ttl(ttl.config()),
                    None => descriptor,
                }
            }};
        }
        let function: Reduce = reduce;
        let value = declared!(ValueStateDescriptor::<u32>::new("value"));
        let list = declared!(ListStateDescriptor::<u32>::new("list").chunk_bytes_max(40));
        let map = declared!(MapStateDescriptor::<u8, Option<u32>>::new("map"));
        let sum = declared!(ReducingStateDescriptor::<u64, _>::new("sum", function));
        let inputs = declared!(AggregatingStateDescriptor::<Inputs>::new("inputs", Inputs));
        let function: Fold = fold;
        let text =
            FoldingStateDescriptor::<u32, String, _>::new("text", || "start:".into(), function);
        let text = declared!(text);
        Self {
            text: store.folding_state(&text).unwrap(),
            events: store.timer_service("t").unwrap(),
            processing: store.processing_timers("t").unwrap(),
            value: store.value_state(&value).unwrap(),
            list: store.list_state(&list).unwrap(),
            map: store.map_state(&map).unwrap(),
            sum: store.reducing_state(&sum).unwrap(),
            inputs: store.aggregating_state(&inputs).unwrap(),
            store,
            worker,
        }
    }

    pub fn at(&self, key: u64, namespace: u64) {
        self.store.set_current_key(&key);
        self.value.set_namespace(&namespace);
        self.list.set_namespace(&namespace);
        self.map.set_namespace(&namespace);
        self.sum.set_namespace(&namespace);
        self.inputs.set_namespace(&namespace);
        self.text.set_namespace(&namespace);
    }

    /// Registers or removes a timer of the current key.
    pub fn timer(&self, clock: Clock, at_ms: i64, namespace: u64, register: bool) {
        let timers = self.timers(clock);
        let namespace = namespace.to_be_bytes();
        let current = self.store.current_key();
        let done = current.with(|group, key| match register {
            true => timers.register(at_ms, group, key, &namespace),
            false => timers.delete(at_ms, group, key, &namespace),
        });
        done.unwrap().unwrap();
    }

    pub fn timers(&self, clock: Clock) -> &TimerService {
        match clock {
            Clock::Event => &self.events,
            Clock::Processing => &self.processing,
        }
    }

    /// Everything of the current key and namespace.
    pub fn read(&self) -> Read {
        let Self {
            worker,
            value,
            list,
            map,
            sum,
            inputs,
            text,
            ..
        } = self;
        Read {
            value: ask!(worker, value.get()),
            list: all!(worker, list.get()),
            map: all!(worker, map.entries()),
            sum: ask!(worker, sum.get()),
            inputs: ask!(worker, inputs.get()),
            text: ask!(worker, text.get()),
        }
    }

    /// Whether list and map are empty, and what the map has under one user key: what a read of everything has shown goes before.
    pub fn look(&self, user_key: u8) -> (bool, bool, Option<Option<u32>>, bool) {
        let Self {
            worker, list, map, ..
        } = self;
        (
            ask!(worker, list.is_empty()),
            ask!(worker, map.is_empty()),
            ask!(worker, map.get(&user_key)),
            ask!(worker, map.contains(&user_key)),
        )
    }
}
