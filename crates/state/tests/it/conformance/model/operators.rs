//! State beside the keyed one: a list that is split, a union and a broadcast map, with a model.
use std::collections::BTreeMap;

use aquifer_state::checkpoint::OperatorSnapshot;
use aquifer_state::operator::{BroadcastState, OperatorList, OperatorStateStore};
use aquifer_state::{ListStateDescriptor, MapStateDescriptor};
use aquifer_testkit::Rng;

use crate::operators::Operators;
use crate::world::MAX_PARALLELISM;

/// What the workers should hold.
#[derive(Clone, Debug)]
pub struct Known {
    /// By worker.
    split: Vec<Vec<u32>>,
    /// By worker; of a union that nobody asks for, the first has all.
    union: Vec<Vec<u32>>,
    broadcast: BTreeMap<u32, u32>,
}

/// Operator state of all workers of a job.
pub struct OperatorStates {
    workers: Operators,
    /// Whether this program has the union.
    has_union: bool,
    known: Known,
}

fn split(store: &OperatorStateStore) -> OperatorList<u32> {
    let descriptor = ListStateDescriptor::<u32>::new("split");
    store.list_state(&descriptor).unwrap()
}

fn union(store: &OperatorStateStore) -> OperatorList<u32> {
    let descriptor = ListStateDescriptor::<u32>::new("union");
    store.union_list_state(&descriptor).unwrap()
}

fn broadcast(store: &OperatorStateStore) -> BroadcastState<u32, u32> {
    let descriptor = MapStateDescriptor::<u32, u32>::new("broadcast");
    store.broadcast_state(&descriptor).unwrap()
}

impl OperatorStates {
    pub fn new(workers: u16) -> Self {
        let nothing = vec![Vec::new(); usize::from(workers)];
        Self {
            workers: Operators::of(MAX_PARALLELISM, workers),
            has_union: true,
            known: Known {
                split: nothing.clone(),
                union: nothing,
                broadcast: BTreeMap::new(),
            },
        }
    }

    /// A part of a checkpoint, and what is known of it.
    pub fn snapshot(&self) -> (Option<OperatorSnapshot>, Known) {
        (self.workers.pooled(), self.known.clone())
    }

    /// So many workers go on from a checkpoint of others.
    pub fn restored(
        (snapshot, known): (Option<&OperatorSnapshot>, &Known),
        workers: u16,
        has_union: bool,
        says: &str,
    ) -> Self {
        let before = known.split.len() as u16;
        let restored = Operators::restored(MAX_PARALLELISM, snapshot, before, workers);
        let mut states = Self {
            workers: restored,
            has_union,
            known: known.clone(),
        };
        states.take_over(says);
        states
    }

    /// What was dealt out is what there was.
    fn take_over(&mut self, says: &str) {
        let workers = self.workers.each().count();
        let own: Vec<Vec<u32>> = self
            .workers
            .each()
            .map(|(_, store)| split(store).get())
            .collect();
        let lens = own.iter().map(Vec::len);
        let (least, most) = (lens.clone().min(), lens.max());
        match workers == self.known.split.len() {
            // Then each goes on with its own.
            true => assert_eq!(own, self.known.split, "{says}"),
            false => assert!(most <= least.map(|least| least + 1), "{own:?}, {says}"),
        }
        assert_eq!(own.concat(), self.known.split.concat(), "{says}");
        self.known.split = own;
        let whole = self.known.union.concat();
        self.known.union = vec![Vec::new(); workers];
        match self.has_union {
            true => {
                for (worker, store) in self.workers.each() {
                    let union = union(store);
                    assert_eq!(union.get(), whole, "worker {worker}, {says}");
                    // Each goes on with its part.
                    let own: Vec<u32> = whole
                        .iter()
                        .copied()
                        .skip(worker)
                        .step_by(workers)
                        .collect();
                    union.update(own.iter().copied());
                    self.known.union[worker] = own;
                }
            }
            false => self.known.union[0] = whole,
        }
        self.compare(says);
    }

    /// Does one random thing.
    pub fn act(&mut self, rng: &mut Rng, n: u32) {
        let workers = self.known.split.len() as u64;
        let worker = rng.below(workers) as usize;
        let Some((_, store)) = self.workers.each().nth(worker) else {
            return;
        };
        let own = &mut self.known.split[worker];
        match rng.below(12) {
            0..=3 => {
                split(store).add(n);
                own.push(n);
            }
            4 => {
                *own = (0..rng.below(7) as u32).map(|i| n + i).collect();
                split(store).update(own.iter().copied());
            }
            5 => {
                split(store).clear();
                own.clear();
            }
            6..=7 if self.has_union => {
                union(store).add(n);
                self.known.union[worker].push(n);
            }
            8 if self.has_union => {
                union(store).clear();
                self.known.union[worker].clear();
            }
            9..=10 => {
                let key = rng.below(20) as u32;
                self.known.broadcast.insert(key, n);
                for (_, store) in self.workers.each() {
                    broadcast(store).put(key, n).unwrap();
                }
            }
            11 => {
                let key = rng.below(20) as u32;
                let known = self.known.broadcast.remove(&key).is_some();
                for (_, store) in self.workers.each() {
                    assert_eq!(broadcast(store).remove(&key).unwrap(), known);
                }
            }
            _ => {}
        }
    }

    /// Every worker holds what is known of it.
    pub fn compare(&self, says: &str) {
        let entries = self.known.broadcast.iter();
        let entries: Vec<(u32, u32)> = entries.map(|(key, value)| (*key, *value)).collect();
        for (worker, store) in self.workers.each() {
            assert_eq!(split(store).get(), self.known.split[worker], "{says}");
            assert_eq!(
                broadcast(store).entries(),
                entries,
                "worker {worker}, {says}"
            );
            if self.has_union {
                assert_eq!(union(store).get(), self.known.union[worker], "{says}");
            }
        }
    }
}
