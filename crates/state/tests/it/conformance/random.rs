//! Random operations on all kinds of state, compared with a model: with namespaces and merging, with a TTL and without, with restarts on other
//! numbers of workers and on the other backend. `model` and `rescale` use what is here.
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use aquifer_state::serializer::Postcard;
use aquifer_state::{
    AggregateFunction, AggregatingState, AggregatingStateDescriptor, FoldingState,
    FoldingStateDescriptor, KeyedStateStore, ListState, ListStateDescriptor, MapState,
    MapStateDescriptor, ReducingState, ReducingStateDescriptor, TimerService, TtlConfig,
    ValueState, ValueStateDescriptor,
};
use aquifer_testkit::Rng;

use crate::cases::{all, ask, conformance};
use crate::world::{Saved, Worker, World, checkpoint_all};

conformance!(
    random_operations_agree_with_a_model,
    random_operations_with_a_ttl_agree_with_a_model
);

pub const KEYS: u64 = 12;
pub const NAMESPACES: u64 = 3;
const TTL_MS: i64 = 100;

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
fn reduce(a: u64, b: u64) -> u64 {
    a.wrapping_mul(31).wrapping_add(b)
}

pub type Reduce = fn(u64, u64) -> u64;
pub type Fold = fn(&mut String, u32);

fn fold(text: &mut String, value: u32) {
    text.push_str(&format!("{value},"));
}

pub struct States {
    pub worker: Worker,
    pub store: KeyedStateStore<u64>,
    value: ValueState<u32, Postcard<u32>, u64>,
    list: ListState<u32, Postcard<u32>, u64>,
    map: MapState<u8, Option<u32>, Postcard<Option<u32>>, u64>,
    sum: ReducingState<u64, Reduce, Postcard<u64>, u64>,
    inputs: AggregatingState<Inputs, Postcard<Vec<u32>>, u64>,
    text: FoldingState<u32, String, Fold, Postcard<String>, u64>,
    events: TimerService,
    processing: TimerService,
}

impl States {
    pub fn open(worker: Worker, ttl: bool) -> Self {
        let store = worker.store::<u64>("op");
        macro_rules! declared {
            ($descriptor:expr) => {{
                let descriptor = $descriptor.namespace::<u64>();
                if ttl {
                    descriptor.ttl(TtlConfig::new(Duration::from_millis(TTL_MS as u64)))
                } else {
                    descriptor
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
    fn timer(&self, clock: Clock, at_ms: i64, namespace: u64, register: bool) {
        let timers = self.timers(clock);
        let namespace = namespace.to_be_bytes();
        let current = self.store.current_key();
        let done = current.with(|group, key| match register {
            true => timers.register(at_ms, group, key, &namespace),
            false => timers.delete(at_ms, group, key, &namespace),
        });
        done.unwrap().unwrap();
    }

    fn timers(&self, clock: Clock) -> &TimerService {
        match clock {
            Clock::Event => &self.events,
            Clock::Processing => &self.processing,
        }
    }

    /// Everything of one key and namespace, in the shape of the model without times.
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
        let entries = all!(worker, map.entries());
        assert_eq!(ask!(worker, map.is_empty()), entries.is_empty());
        for (key, value) in &entries {
            assert_eq!(ask!(worker, map.get(key)), Some(*value));
        }
        Read {
            value: ask!(worker, value.get()),
            list: all!(worker, list.get()),
            map: entries,
            sum: ask!(worker, sum.get()),
            inputs: ask!(worker, inputs.get()),
            text: ask!(worker, text.get()),
        }
    }
}

/// What a timer waits for.
#[derive(Clone, Copy, Debug)]
pub enum Clock {
    Event,
    Processing,
}

#[derive(Debug, PartialEq)]
pub struct Read {
    value: Option<u32>,
    list: Vec<u32>,
    map: Vec<(u8, Option<u32>)>,
    sum: Option<u64>,
    inputs: Option<Vec<u32>>,
    text: Option<String>,
}

/// One key and namespace; every part with the time it was written.
#[derive(Clone, Default)]
pub struct Entry {
    value: Option<(i64, u32)>,
    list: Vec<(i64, u32)>,
    map: BTreeMap<u8, (i64, Option<u32>)>,
    sum: Option<(i64, u64)>,
    inputs: Option<(i64, Vec<u32>)>,
    text: Option<(i64, String)>,
    events: BTreeSet<i64>,
    processing: BTreeSet<i64>,
}

impl Entry {
    fn timers(&mut self, clock: Clock) -> &mut BTreeSet<i64> {
        match clock {
            Clock::Event => &mut self.events,
            Clock::Processing => &mut self.processing,
        }
    }

    fn expire(&mut self, now: i64) {
        let live = |time: i64| time + TTL_MS > now;
        self.value = self.value.filter(|(time, _)| live(*time));
        self.list.retain(|(time, _)| live(*time));
        self.map.retain(|_, (time, _)| live(*time));
        self.sum = self.sum.filter(|(time, _)| live(*time));
        self.inputs = self.inputs.take().filter(|(time, _)| live(*time));
        self.text = self.text.take().filter(|(time, _)| live(*time));
    }

    pub fn read(&self) -> Read {
        Read {
            value: self.value.map(|(_, value)| value),
            list: self.list.iter().map(|(_, element)| *element).collect(),
            map: self
                .map
                .iter()
                .map(|(key, (_, value))| (*key, *value))
                .collect(),
            sum: self.sum.map(|(_, sum)| sum),
            inputs: self.inputs.clone().map(|(_, inputs)| inputs),
            text: self.text.clone().map(|(_, text)| text),
        }
    }
}

pub type Model = BTreeMap<(u64, u64), Entry>;

fn random_operations_agree_with_a_model(world: &World) {
    run(world, 1, false);
}

fn random_operations_with_a_ttl_agree_with_a_model(world: &World) {
    run(world, 2, true);
}

/// The workers, from a checkpoint.
pub fn open(workers: Vec<Worker>, ttl: bool) -> Vec<States> {
    let workers = workers.into_iter();
    workers.map(|worker| States::open(worker, ttl)).collect()
}

/// How late it is.
#[derive(Clone, Copy, Default)]
pub struct Times {
    pub now: i64,
    pub watermark: i64,
}

/// Does one random thing to the state and to the model.
pub fn act(
    (world, states): (&World, &[States]),
    (model, times): (&mut Model, &mut Times),
    rng: &mut Rng,
    n: u32,
    (ttl, says): (bool, &str),
) {
    let key = rng.below(KEYS);
    let namespace = rng.below(NAMESPACES);
    let own = owner(states, key);
    let says = || format!("{says}, step {n}, {}", world.name());
    let now = &mut times.now;
    own.at(key, namespace);
    if ttl {
        model.values_mut().for_each(|entry| entry.expire(*now));
    }
    let entry = model.entry((key, namespace)).or_default();
    let worker = &own.worker;
    let user_key = rng.below(20) as u8;
    match rng.below(44) {
        0..=4 => {
            own.value.put(n).unwrap();
            entry.value = Some((*now, n));
        }
        5 => {
            own.value.clear().unwrap();
            entry.value = None;
        }
        6..=9 => {
            own.list.add(&n).unwrap();
            entry.list.push((*now, n));
        }
        10 => {
            own.list.add_all(&[n, n + 1, n + 2]).unwrap();
            entry.list.extend([(*now, n), (*now, n + 1), (*now, n + 2)]);
        }
        11 => {
            let some: Vec<u32> = (0..rng.below(30) as u32).collect();
            own.list.update(&some).unwrap();
            entry.list = some.into_iter().map(|element| (*now, element)).collect();
        }
        12 => {
            own.list.clear().unwrap();
            entry.list.clear();
        }
        13..=17 => {
            let value = (!n.is_multiple_of(3)).then_some(n);
            own.map.put(&user_key, &value).unwrap();
            entry.map.insert(user_key, (*now, value));
        }
        18..=19 => {
            own.map.remove(&user_key).unwrap();
            entry.map.remove(&user_key);
        }
        20 => {
            own.map.clear().unwrap();
            entry.map.clear();
        }
        21..=24 => {
            let sum = &own.sum;
            ask!(worker, sum.add(u64::from(n)));
            let old = entry.sum.map(|(_, old)| reduce(old, u64::from(n)));
            entry.sum = Some((*now, old.unwrap_or(u64::from(n))));
        }
        25..=27 => {
            let inputs = &own.inputs;
            ask!(worker, inputs.add(n));
            let (_, mut all) = entry.inputs.take().unwrap_or_default();
            all.push(n);
            entry.inputs = Some((*now, all));
        }
        28 => {
            own.sum.clear().unwrap();
            own.inputs.clear().unwrap();
            (entry.sum, entry.inputs) = (None, None);
        }
        29..=30 => merge(own, model, rng, key, namespace, *now),
        31 => enumerate(states, model, &says()),
        32..=33 => {
            let read = own.read();
            assert_eq!(read, entry.read(), "{}", says());
        }
        34..=36 => {
            *now += rng.below(25) as i64;
            world.at(*now);
        }
        37..=38 => drop(worker.backend.borrow_mut().poll().unwrap()),
        39 => {
            let text = &own.text;
            ask!(worker, text.add(n));
            let (_, mut all) = entry.text.take().unwrap_or((0, "start:".into()));
            fold(&mut all, n);
            entry.text = Some((*now, all));
        }
        40..=41 => {
            let clock = match rng.chance(500) {
                true => Clock::Event,
                false => Clock::Processing,
            };
            let at_ms = times.watermark + rng.below(60) as i64;
            let register = rng.chance(800);
            own.timer(clock, at_ms, namespace, register);
            match register {
                true => entry.timers(clock).insert(at_ms),
                false => entry.timers(clock).remove(&at_ms),
            };
        }
        42 => {
            times.watermark += rng.below(20) as i64;
            for clock in [Clock::Event, Clock::Processing] {
                fire(states, model, clock, times.watermark, &says());
            }
        }
        _ => {}
    }
}

/// The worker that owns a key.
pub fn owner(states: &[States], key: u64) -> &States {
    let mut owners = states.iter().filter(|states| states.worker.owns(&key));
    let owner = owners.next().unwrap();
    assert!(owners.next().is_none(), "two workers own key {key}");
    owner
}

/// Fires all timers up to a time: those of the model, each once, on every worker in order.
pub fn fire(states: &[States], model: &mut Model, clock: Clock, up_to: i64, says: &str) {
    let mut fired = Vec::new();
    for states in states {
        let own = states.worker.fire(states.timers(clock), up_to);
        assert!(own.iter().map(|timer| timer.0).is_sorted(), "{says}");
        fired.extend(own);
    }
    let mut expected = Vec::new();
    for ((key, namespace), entry) in model.iter_mut() {
        let timers = entry.timers(clock);
        let later = timers.split_off(&up_to.saturating_add(1));
        for time in std::mem::replace(timers, later) {
            let key = aquifer_state::ordered::encode_ordered(key);
            expected.push((time, key, namespace.to_be_bytes().to_vec()));
        }
    }
    fired.sort_unstable();
    expected.sort_unstable();
    assert_eq!(fired, expected, "{clock:?}, {says}");
}

/// Every state of every key is that of the model.
pub fn compare(states: &[States], model: &mut Model, now: i64, ttl: bool, says: &str) {
    if ttl {
        model.values_mut().for_each(|entry| entry.expire(now));
    }
    for ((key, namespace), entry) in &*model {
        let own = owner(states, *key);
        own.at(*key, *namespace);
        assert_eq!(own.read(), entry.read(), "key {key}, {namespace}, {says}");
    }
    enumerate(states, model, says);
}

fn run(world: &World, seed: u64, ttl: bool) {
    let mut rng = Rng::new(seed);
    let mut states = open(world.workers(2, &Saved::default()), ttl);
    let mut model = Model::new();
    let mut times = Times::default();
    let says = format!("seed {seed}");
    for step in 0..2500u32 {
        act(
            (world, &states),
            (&mut model, &mut times),
            &mut rng,
            step,
            (ttl, &says),
        );
        if step.is_multiple_of(4) && rng.below(40) == 0 {
            let workers: Vec<Worker> = states.iter().map(|s| s.worker.clone()).collect();
            let saved = checkpoint_all(&workers, u64::from(step) + 1);
            drop((states, workers));
            if rng.chance(500) {
                world.kind.set(crate::cases::after(world.kind.get()));
            }
            states = open(world.workers(1 + rng.below(4) as u16, &saved), ttl);
        }
    }
    compare(&states, &mut model, times.now, ttl, &world.name());
}

/// Merges random namespaces of a key into one.
fn merge(own: &States, model: &mut Model, rng: &mut Rng, key: u64, target: u64, now: i64) {
    let sources: Vec<u64> = (0..rng.below(4)).map(|_| rng.below(NAMESPACES)).collect();
    let States {
        worker,
        list,
        sum,
        inputs,
        ..
    } = own;
    ask!(worker, list.merge_namespaces(&target, &sources));
    ask!(worker, sum.merge_namespaces(&target, &sources));
    ask!(worker, inputs.merge_namespaces(&target, &sources));
    let mut merged = model.remove(&(key, target)).unwrap_or_default();
    for source in sources.into_iter().filter(|source| *source != target) {
        let entry = model.entry((key, source)).or_default();
        merged.list.append(&mut entry.list);
        if let Some((_, sum)) = entry.sum.take() {
            let all = merged.sum.map(|(_, old)| reduce(old, sum));
            merged.sum = Some((now, all.unwrap_or(sum)));
        }
        if let Some((_, more)) = entry.inputs.take() {
            let (_, mut all) = merged.inputs.take().unwrap_or_default();
            all.extend(more);
            merged.inputs = Some((now, all));
        }
    }
    model.insert((key, target), merged);
}

/// The keys and namespaces of every state are those of the model.
pub fn enumerate(states: &[States], model: &Model, says: &str) {
    macro_rules! listed {
        ($state:ident, $holds:expr) => {
            let mut listed: Vec<(u64, u64)> = Vec::new();
            for States {
                worker,
                store,
                $state,
                ..
            } in states
            {
                listed.extend(all!(worker, store.keys_and_namespaces($state)));
            }
            listed.sort_unstable();
            let expected = model.iter().filter(|(_, entry)| $holds(*entry));
            let expected: Vec<(u64, u64)> = expected.map(|(at, _)| *at).collect();
            assert_eq!(listed, expected, "{}, {says}", stringify!($state));
        };
    }
    listed!(value, |entry: &Entry| entry.value.is_some());
    listed!(list, |entry: &Entry| !entry.list.is_empty());
    listed!(map, |entry: &Entry| !entry.map.is_empty());
    listed!(sum, |entry: &Entry| entry.sum.is_some());
    listed!(inputs, |entry: &Entry| entry.inputs.is_some());
    listed!(text, |entry: &Entry| entry.text.is_some());
}
