//! The store beside a `BTreeMap`, under random operations, restarts and rescales.
use std::collections::BTreeMap;

use aquifer_store::{Checkpoint, KeyGroupRange, StoreOptions, TableId};
use aquifer_testkit::{FaultPlan, Rng};

use crate::harness::{POINTS, SORTED, Worker, World, small};

const GROUPS: u64 = 12;

type Rows = BTreeMap<(TableId, u16, Vec<u8>), Vec<u8>>;

/// Several workers that share the key groups, and what they should hold.
struct Job<'w> {
    world: &'w mut World,
    random: Rng,
    workers: Vec<(KeyGroupRange, Worker)>,
    model: Rows,
    /// The last completed checkpoint and what it should hold.
    last: (Vec<Checkpoint>, Rows),
}

/// Files so small that all levels come into play.
fn options() -> StoreOptions {
    StoreOptions {
        memtable_bytes_max: 16 << 10,
        file_bytes_target: 1 << 10,
        ..small()
    }
}

fn ranges(parallelism: u64) -> Vec<KeyGroupRange> {
    let bound = |i: u64| (i * GROUPS / parallelism) as u16;
    (0..parallelism)
        .map(|i| KeyGroupRange {
            start: bound(i),
            end: bound(i + 1) - 1,
        })
        .collect()
}

impl Job<'_> {
    fn worker(&mut self, group: u16) -> &mut Worker {
        let found = self
            .workers
            .iter_mut()
            .find(|(range, _)| range.contains(group));
        &mut found.unwrap().1
    }

    fn key(&mut self) -> (TableId, u16, Vec<u8>) {
        let table = if self.random.chance(500) {
            POINTS
        } else {
            SORTED
        };
        let group = self.random.below(GROUPS) as u16;
        let map = self.random.below(6);
        let entry = self.random.below(120);
        (table, group, format!("map{map}/{entry}").into_bytes())
    }

    fn write(&mut self) {
        let (table, group, key) = self.key();
        if self.random.chance(300) {
            self.worker(group).delete(table, group, &key);
            self.model.remove(&(table, group, key));
        } else {
            let value = vec![self.random.below(256) as u8; self.random.below(60) as usize];
            self.worker(group).put(table, group, &key, &value);
            self.model.insert((table, group, key), value);
        }
    }

    fn check_get(&mut self) {
        let at = self.key();
        let found = self.worker(at.1).get(at.0, at.1, &at.2);
        assert_eq!(found.as_ref(), self.model.get(&at), "{at:?}");
    }

    fn check_multi_get(&mut self) {
        let i = self.random.below(self.workers.len() as u64) as usize;
        let range = self.workers[i].0;
        let keys: Vec<(TableId, u16, Vec<u8>)> = (0..200)
            .map(|_| self.key())
            .filter(|(table, group, _)| *table == SORTED && range.contains(*group))
            .collect();
        let asked: Vec<(u16, &[u8])> = keys
            .iter()
            .map(|(_, group, key)| (*group, key.as_slice()))
            .collect();
        let answers = self.workers[i].1.multi_get(SORTED, &asked);
        for (key, answer) in keys.iter().zip(answers) {
            assert_eq!(answer.as_ref(), self.model.get(key), "{key:?}");
        }
    }

    fn check_scan(&mut self) {
        let (table, group, from) = self.key();
        let prefix = match self.random.below(3) {
            0 => Vec::new(),
            _ => format!("map{}/", self.random.below(6)).into_bytes(),
        };
        let from = if self.random.chance(300) {
            from
        } else {
            Vec::new()
        };
        let until = self.random.chance(300).then(|| self.key().2);
        let rows_max = 1 + self.random.below(40) as usize;
        let found =
            self.worker(group)
                .scan(table, group, &prefix, &from, until.as_deref(), rows_max);
        let expected: Vec<(Vec<u8>, Vec<u8>)> = self
            .model
            .range((table, group, from.clone())..)
            .take_while(|((t, g, _), _)| (*t, *g) == (table, group))
            .filter(|((_, _, key), _)| {
                key.starts_with(&prefix) && until.as_ref().is_none_or(|until| key < until)
            })
            .map(|((_, _, key), value)| (key.clone(), value.clone()))
            .collect();
        let rows: Vec<(Vec<u8>, Vec<u8>)> = found
            .rows
            .iter()
            .map(|(k, v)| (k.to_vec(), v.to_vec()))
            .collect();
        assert_eq!(rows, expected[..expected.len().min(rows_max)]);
        assert!(!found.done || rows.len() == expected.len());
        assert!(
            found.done || rows.len() == rows_max,
            "a scan that is not done has all it was asked for"
        );
    }

    fn checkpoint(&mut self) {
        for (_, worker) in &mut self.workers {
            worker.start_checkpoint();
        }
        let then = self.model.clone();
        // Nothing is installed before somebody polls: here reads merge active and frozen memtables and files.
        for _ in 0..self.random.below(200) {
            match self.random.below(20) {
                0 => self.check_multi_get(),
                1..4 => self.check_scan(),
                4..6 => self.check_get(),
                _ => self.write(),
            }
        }
        let files = self
            .workers
            .iter_mut()
            .map(|(_, worker)| worker.wait())
            .collect();
        self.last = (files, then);
    }

    fn restart(&mut self) {
        self.workers.clear();
        if self.random.chance(500) {
            self.world.forget_cache();
        }
        let (checkpoints, model) = self.last.clone();
        self.model = model;
        // The lists go through their codec, as they would through the metadata.
        let checkpoints: Vec<Checkpoint> = checkpoints
            .iter()
            .map(|checkpoint| {
                let mut bytes = Vec::new();
                checkpoint.encode(&mut bytes);
                Checkpoint::decode(&bytes).unwrap()
            })
            .collect();
        let parallelism = 1 + self.random.below(4);
        for range in ranges(parallelism) {
            let restored = checkpoints
                .iter()
                .map(|checkpoint| (checkpoint.clone(), range))
                .collect();
            self.workers
                .push((range, self.world.open(options(), restored)));
        }
    }

    fn check_all(&mut self) {
        for group in 0..GROUPS as u16 {
            for table in [POINTS, SORTED] {
                let expected: BTreeMap<Vec<u8>, Vec<u8>> = self
                    .model
                    .range((table, group, Vec::new())..)
                    .take_while(|((t, g, _), _)| (*t, *g) == (table, group))
                    .map(|((_, _, key), value)| (key.clone(), value.clone()))
                    .collect();
                assert_eq!(self.worker(group).rows(table, group), expected);
            }
        }
    }
}

/// Returns how many reads were cold and how many compactions there were, of the workers that were there at the end.
fn run(seed: u64, cache_bytes: u64, steps: u64, faults: bool) -> (u64, u64) {
    let mut world = World::new(cache_bytes);
    let mut job = Job {
        world: &mut world,
        random: Rng::new(seed),
        workers: Vec::new(),
        model: Rows::new(),
        last: (Vec::new(), Rows::new()),
    };
    job.restart();
    for _ in 0..steps {
        match job.random.below(1000) {
            0..3 => {
                job.restart();
                job.check_all();
            }
            3..13 => job.checkpoint(),
            13..15 => {
                // Errors that pass, on the way there and on the way back.
                let plan = FaultPlan {
                    seed: job.random.next_u64(),
                    error_not_applied_per_mille: 20,
                    error_applied_per_mille: 10,
                    ..FaultPlan::default()
                };
                job.world
                    .objects
                    .set_plan(if faults { plan } else { FaultPlan::default() });
            }
            15..30 => job.check_multi_get(),
            30..80 => job.check_scan(),
            80..130 => job.check_get(),
            130..140 => {
                for (_, worker) in &mut job.workers {
                    worker.store.poll().unwrap();
                }
            }
            _ => job.write(),
        }
    }
    job.check_all();
    let stats = || job.workers.iter().map(|(_, worker)| worker.store.stats());
    (
        stats().map(|s| s.cold_reads).sum(),
        stats().map(|s| s.compactions).sum(),
    )
}

#[test]
fn like_a_sorted_map_with_a_roomy_cache() {
    let mut compactions = 0;
    for seed in 0..4 {
        compactions += run(seed, 8 << 20, 12_000, false).1;
    }
    assert!(compactions > 0);
}

#[test]
fn like_a_sorted_map_when_almost_nothing_is_in_memory() {
    for seed in 100..103 {
        assert!(run(seed, 2 << 10, 6_000, false).0 > 100);
    }
}

#[test]
fn like_a_sorted_map_on_an_object_store_that_fails_now_and_then() {
    for seed in 200..203 {
        run(seed, 16 << 10, 4_000, true);
    }
}
