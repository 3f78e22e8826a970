//! A job with random states, and the model beside it: what it does, what it keeps, and how it goes on.
use aquifer_state::checkpoint::OperatorSnapshot;
use aquifer_testkit::Rng;

use super::entry::{Entry, Model};
use super::expiry::{Present, Ttl};
use super::operators::{Known, OperatorStates};
use super::states::{Clock, States};
use crate::cases::{all, ask};
use crate::world::{Saved, Worker, World};

pub const KEYS: u64 = 12;
pub const NAMESPACES: u64 = 3;

/// Which methods a job calls.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Api {
    /// Those of the world.
    Same,
    Synchronous,
    Asynchronous,
    /// Of either, by turns.
    Both,
}

/// What a job is begun with, or goes on with.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    pub workers: u16,
    pub ttl: Option<Ttl>,
    pub api: Api,
    /// Whether it asks for the union of its operator.
    pub has_union: bool,
}

impl Program {
    pub fn of(workers: u16, ttl: Option<Ttl>) -> Self {
        Self {
            workers,
            ttl,
            api: Api::Same,
            has_union: true,
        }
    }
}

/// A checkpoint, and what was known then.
#[derive(Clone)]
pub struct Kept {
    pub saved: Saved,
    pub operators: Option<OperatorSnapshot>,
    pub known: Known,
    pub model: Model,
    pub watermark: i64,
    pub workers: u16,
    pub ttl: Option<Ttl>,
}

/// A snapshot that is being written.
struct UnderWay {
    id: u64,
    kept: Kept,
}

/// See the module. Its world is handed to the methods that need it.
pub struct Job {
    states: Vec<States>,
    operators: OperatorStates,
    model: Model,
    program: Program,
    pub now: i64,
    watermark: i64,
    under_way: Option<UnderWay>,
    says: String,
}

impl Kept {
    /// A savepoint is written of it, which leaves out what has expired by now.
    pub fn pass(&mut self, now: i64) {
        let by_event = self.ttl.is_some_and(|ttl| ttl.event_time);
        let now = if by_event { self.watermark } else { now };
        let present = Present {
            ttl: self.ttl,
            now,
            stamp: now,
        };
        self.model
            .values_mut()
            .for_each(|entry| entry.pass(&present));
    }
}

impl Job {
    pub fn new(world: &World, program: Program, says: &str) -> Self {
        let operators = OperatorStates::new(program.workers);
        let (_, known) = operators.snapshot();
        let nothing = Kept {
            saved: Saved::default(),
            operators: None,
            known,
            model: Model::new(),
            watermark: 0,
            workers: program.workers,
            ttl: program.ttl,
        };
        Self::restored(world, &nothing, program, 0, says)
    }

    /// Goes on from a checkpoint, at a time that is not before that of the checkpoint.
    pub fn restored(world: &World, kept: &Kept, program: Program, now: i64, says: &str) -> Self {
        world.at(now);
        let before = world.asynchronous.get();
        match program.api {
            Api::Same => {}
            Api::Synchronous => world.asynchronous.set(false),
            Api::Asynchronous | Api::Both => world.asynchronous.set(true),
        }
        let says = format!("{says}, {}, {program:?}", world.name());
        let workers = world.workers(program.workers, &kept.saved);
        world.asynchronous.set(before);
        let workers = workers.into_iter();
        let states: Vec<States> = workers
            .map(|worker| States::open(worker, program.ttl))
            .collect();
        let operators = OperatorStates::restored(
            (kept.operators.as_ref(), &kept.known),
            program.workers,
            program.has_union,
            &says,
        );
        let mut job = Self {
            states,
            operators,
            model: kept.model.clone(),
            program,
            now,
            watermark: kept.watermark,
            under_way: None,
            says,
        };
        // States whose TTL goes on know the watermark without being told.
        let by_event = |ttl: Option<Ttl>| ttl.is_some_and(|ttl| ttl.event_time);
        let is_known = by_event(kept.ttl) && !kept.saved.tables.is_empty();
        if !(is_known && by_event(program.ttl)) {
            job.advance_event_time();
        }
        if kept.ttl.is_none() && program.ttl.is_some() {
            let now = job.present(None).now;
            job.model
                .values_mut()
                .for_each(|entry| entry.count_from(now));
        }
        // What had expired may have come back.
        job.compare();
        job
    }

    /// Time as states see it; `record_ms` is that of the record in hand.
    fn present(&self, record_ms: Option<i64>) -> Present {
        let by_event = self.program.ttl.is_some_and(|ttl| ttl.event_time);
        let now = if by_event { self.watermark } else { self.now };
        let stamp = match (self.program.ttl, record_ms) {
            // It has no time.
            (None, _) => i64::MIN,
            (_, Some(record_ms)) if by_event => now.max(record_ms),
            _ => now,
        };
        Present {
            ttl: self.program.ttl,
            now,
            stamp,
        }
    }

    fn advance_event_time(&self) {
        for states in &self.states {
            states.store.advance_event_time(self.watermark).unwrap();
        }
    }

    /// What has expired until now is doubtful from now on.
    fn pass(&mut self) {
        let present = self.present(None);
        self.model
            .values_mut()
            .for_each(|entry| entry.pass(&present));
    }

    /// Does one random thing to the state and to the model.
    pub fn act(&mut self, world: &World, rng: &mut Rng, n: u32) {
        let (key, namespace) = (rng.below(KEYS), rng.below(NAMESPACES));
        let own = owner(&self.states, key);
        if self.program.api == Api::Both {
            own.worker.use_api(rng.chance(500));
        }
        let says = format!("step {n}, key {key}, namespace {namespace}, {}", self.says);
        let record_ms = rng
            .chance(300)
            .then(|| self.watermark + rng.below(60) as i64);
        own.store.set_record_time(record_ms);
        own.at(key, namespace);
        let present = self.present(record_ms);
        let mut entry = self.model.remove(&(key, namespace)).unwrap_or_default();
        let worker = &own.worker;
        let user_key = rng.below(20) as u8;
        // Elements of lists are never alike.
        let n = n * 64;
        match rng.below(50) {
            0..=4 => {
                own.value.put(n).unwrap();
                entry.value = Some(present.part(n));
            }
            5 => {
                own.value.clear().unwrap();
                entry.value = None;
            }
            6..=9 => {
                own.list.add(&n).unwrap();
                entry.list.push(present.part(n));
            }
            10 => {
                let some: Vec<u32> = (0..rng.below(4) as u32).map(|i| n + i).collect();
                own.list.add_all(&some).unwrap();
                entry.list.extend(some.into_iter().map(|n| present.part(n)));
            }
            11 => {
                let some: Vec<u32> = (0..rng.below(30) as u32).map(|i| n + i).collect();
                own.list.update(&some).unwrap();
                entry.list = some.into_iter().map(|n| present.part(n)).collect();
            }
            12 => {
                own.list.clear().unwrap();
                entry.list.clear();
            }
            13..=17 => {
                let value = (!n.is_multiple_of(3)).then_some(n);
                own.map.put(&user_key, &value).unwrap();
                entry.map.insert(user_key, present.part(value));
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
                entry.add_to_sum(u64::from(n), &present);
            }
            25..=27 => {
                let inputs = &own.inputs;
                ask!(worker, inputs.add(n));
                entry.add_input(n, &present);
            }
            28 => {
                own.sum.clear().unwrap();
                own.inputs.clear().unwrap();
                own.text.clear().unwrap();
                (entry.sum, entry.inputs, entry.text) = (None, None, None);
            }
            29..=30 => {
                let sources: Vec<u64> = (0..rng.below(4)).map(|_| rng.below(NAMESPACES)).collect();
                let model = &mut self.model;
                merge(own, model, &mut entry, (key, namespace), &sources, &present);
            }
            31..=33 => {
                let sum = &own.text;
                ask!(worker, sum.add(n));
                entry.add_to_text(n, &present);
            }
            34..=35 => read(own, &mut entry, user_key, &present, &says),
            36 => {
                let map = &own.map;
                let seen = ask!(worker, map.get(&user_key));
                entry.read_map(user_key, seen, &present, &says);
            }
            37 => {
                let value = &own.value;
                entry.read_value(ask!(worker, value.get()), &present, &says);
            }
            38..=39 => {
                let clock = match rng.chance(500) {
                    true => Clock::Event,
                    false => Clock::Processing,
                };
                let at_ms = self.watermark + rng.below(60) as i64;
                let register = rng.chance(800);
                own.timer(clock, at_ms, namespace, register);
                match register {
                    true => entry.timers(clock).insert(at_ms),
                    false => entry.timers(clock).remove(&at_ms),
                };
            }
            40 if self.under_way.is_none() => drop(worker.backend.borrow_mut().poll().unwrap()),
            41..=43 => self.operators.act(rng, n),
            _ => {}
        }
        own.store.set_record_time(None);
        self.model.insert((key, namespace), entry);
        match rng.below(50) {
            0 => self.enumerate(),
            1..=3 => {
                self.now += rng.below(25) as i64;
                world.at(self.now);
                self.pass();
            }
            4 => {
                self.watermark += rng.below(25) as i64;
                self.advance_event_time();
                self.pass();
                for clock in [Clock::Event, Clock::Processing] {
                    self.fire(clock, self.watermark);
                }
            }
            _ => {}
        }
    }

    /// Steps of random life.
    pub fn live(&mut self, world: &World, rng: &mut Rng, steps: std::ops::Range<u32>) {
        for step in steps {
            self.act(world, rng, step);
        }
    }

    /// Fires all timers up to the watermark and some more.
    pub fn fire_soon(&mut self) {
        self.fire(Clock::Event, self.watermark + 30);
    }

    /// Fires all timers there are.
    pub fn fire_all(&mut self) {
        for clock in [Clock::Event, Clock::Processing] {
            self.fire(clock, i64::MAX);
        }
    }

    /// Fires all timers up to a time: those of the model, each once, on every worker in order.
    fn fire(&mut self, clock: Clock, up_to: i64) {
        let mut fired = Vec::new();
        for states in &self.states {
            let own = states.worker.fire(states.timers(clock), up_to);
            assert!(own.iter().map(|timer| timer.0).is_sorted(), "{}", self.says);
            fired.extend(own);
        }
        let mut expected = Vec::new();
        for ((key, namespace), entry) in self.model.iter_mut() {
            let timers = entry.timers(clock);
            let later = timers.split_off(&up_to.saturating_add(1));
            for time in std::mem::replace(timers, later) {
                let key = aquifer_state::ordered::encode_ordered(key);
                expected.push((time, key, namespace.to_be_bytes().to_vec()));
            }
        }
        fired.sort_unstable();
        expected.sort_unstable();
        assert_eq!(fired, expected, "{clock:?} up to {up_to}, {}", self.says);
    }

    /// Every state of every key is that of the model.
    pub fn compare(&mut self) {
        self.pass();
        let present = self.present(None);
        for ((key, namespace), entry) in self.model.iter_mut() {
            let own = owner(&self.states, *key);
            own.at(*key, *namespace);
            let says = format!("key {key}, namespace {namespace}, {}", self.says);
            read(own, entry, *key as u8, &present, &says);
        }
        self.operators.compare(&self.says);
        self.enumerate();
    }

    /// The keys and namespaces of every state are those of the model.
    fn enumerate(&self) {
        let present = self.present(None);
        // Of one kind also the keys of one namespace, which is one more walk.
        let turn = self.now.rem_euclid(6);
        macro_rules! listed {
            ($($at:literal $state:ident)*) => {$({
                let mut listed: Vec<(u64, u64)> = Vec::new();
                let mut first: Vec<u64> = Vec::new();
                for States { worker, store, $state, .. } in &self.states {
                    listed.extend(all!(worker, store.keys_and_namespaces($state)));
                    if turn == $at {
                        first.extend(all!(worker, store.keys($state, &0)));
                    }
                }
                listed.sort_unstable();
                first.sort_unstable();
                let holding = self.model.iter().filter(|(_, entry)| entry.holds(&present)[$at]);
                let expected: Vec<(u64, u64)> = holding.map(|(at, _)| *at).collect();
                assert_eq!(listed, expected, "{}, {}", stringify!($state), self.says);
                let expected = expected.into_iter().filter(|(_, namespace)| *namespace == 0);
                let expected = expected.map(|(key, _)| key);
                assert!(turn != $at || first.into_iter().eq(expected), "{}", self.says);
            })*};
        }
        listed!(0 value 1 list 2 map 3 sum 4 inputs 5 text);
    }

    /// Begins a checkpoint: what is known is as of now.
    pub fn begin(&mut self, id: u64) {
        for states in &self.states {
            states.worker.begin(id);
        }
        let (operators, known) = self.operators.snapshot();
        let kept = Kept {
            saved: Saved::default(),
            operators,
            known,
            model: self.model.clone(),
            watermark: self.watermark,
            workers: self.program.workers,
            ttl: self.program.ttl,
        };
        self.under_way = Some(UnderWay { id, kept });
    }

    /// The checkpoint that is being written, when it is.
    pub fn finish(&mut self) -> Option<Kept> {
        let UnderWay { id, mut kept } = self.under_way.take()?;
        for states in &self.states {
            let part = states.worker.finish(id);
            if kept.saved.tables.is_empty() {
                kept.saved.tables = part.tables.clone();
            }
            assert_eq!(
                kept.saved.tables, part.tables,
                "workers must number tables alike"
            );
            kept.saved.keyed.extend(part.keyed);
        }
        Some(kept)
    }

    pub fn checkpoint(&mut self, id: u64) -> Kept {
        self.begin(id);
        self.finish().unwrap()
    }

    /// The workers, in order.
    pub fn workers(&self) -> Vec<Worker> {
        self.states.iter().map(|own| own.worker.clone()).collect()
    }
}

/// Reads everything of the current key and namespace, all at once and then in other ways.
fn read(own: &States, entry: &mut Entry, user_key: u8, present: &Present, says: &str) {
    entry.read(&own.read(), present, says);
    let (list_is_empty, map_is_empty, found, contains) = own.look(user_key);
    let [_, list, map, ..] = entry.holds(present);
    let empty = (list_is_empty, map_is_empty);
    assert_eq!(empty, (!list, !map), "{entry:?} at {present:?}, {says}");
    let known = entry.map.get(&user_key);
    let known = known.filter(|part| present.is_live(part));
    assert_eq!(found, known.map(|part| part.value), "{user_key}, {says}");
    assert_eq!(contains, known.is_some(), "{user_key}, {says}");
}

/// Merges namespaces of a key into one, whose entry is in hand.
fn merge(
    own: &States,
    model: &mut Model,
    merged: &mut Entry,
    (key, target): (u64, u64),
    sources: &[u64],
    present: &Present,
) {
    let States {
        worker,
        list,
        sum,
        inputs,
        ..
    } = own;
    ask!(worker, list.merge_namespaces(&target, sources));
    ask!(worker, sum.merge_namespaces(&target, sources));
    ask!(worker, inputs.merge_namespaces(&target, sources));
    for source in sources.iter().filter(|source| **source != target) {
        let source = model.entry((key, *source)).or_default();
        merged.merge(source, present);
    }
}

/// The worker that owns a key.
fn owner(states: &[States], key: u64) -> &States {
    let mut owners = states.iter().filter(|states| states.worker.owns(&key));
    let owner = owners.next().unwrap();
    assert!(owners.next().is_none(), "two workers own key {key}");
    owner
}
