//! Everything at once, at random, against a model: states, timers, checkpoints, crashes, other parallelism, the other backend.
use std::collections::{BTreeMap, BTreeSet};

use aquifer_state::{
    KeyedStateStore, MapState, MapStateDescriptor, TimerService, ValueState, ValueStateDescriptor,
};
use aquifer_testkit::Rng;

use crate::cases::conformance;
use crate::world::{Saved, Worker, World, checkpoint_all};

conformance!(random_jobs_agree_with_a_model);

#[derive(Clone, Default)]
struct Model {
    values: BTreeMap<i32, i64>,
    maps: BTreeMap<i32, BTreeMap<String, u32>>,
    timers: BTreeSet<(i64, i32)>,
}

struct Operator {
    worker: Worker,
    store: KeyedStateStore<i32>,
    value: ValueState<i64>,
    map: MapState<String, u32>,
    timers: TimerService,
}

impl Operator {
    fn new(worker: Worker) -> Self {
        let store = worker.store::<i32>("op");
        Self {
            value: store
                .value_state(&ValueStateDescriptor::new("value"))
                .unwrap(),
            map: store.map_state(&MapStateDescriptor::new("map")).unwrap(),
            timers: store.timer_service("timers").unwrap(),
            store,
            worker,
        }
    }

    fn register(&self, timestamp: i64) {
        let current = self.store.current_key();
        current
            .with(|group, key| self.timers.register(timestamp, group, key, b""))
            .unwrap()
            .unwrap();
    }
}

fn random_jobs_agree_with_a_model(world: &World) {
    for seed in 0..3 {
        run(world, seed);
    }
}

fn run(world: &World, seed: u64) {
    let mut rng = Rng::new(seed);
    let mut model = Model::default();
    let mut operators: Vec<Operator> = world
        .workers(1, &Saved::default())
        .into_iter()
        .map(Operator::new)
        .collect();
    let mut saved = (Saved::default(), Model::default(), 0);
    let mut watermark = 0i64;
    let mut checkpoint = 0;
    for step in 0..2500 {
        let key = rng.below(80) as i32 - 40;
        let operator = operators.iter().find(|o| o.worker.owns(&key)).unwrap();
        operator.store.set_current_key(&key);
        let user_key = format!("u{}", rng.below(12));
        match rng.below(40) {
            0..=7 => {
                let old = operator.worker.value(&operator.value);
                assert_eq!(
                    old,
                    model.values.get(&key).copied(),
                    "seed {seed} step {step}"
                );
                let new = old.unwrap_or(0) + rng.below(1000) as i64 - 500;
                operator.value.put(new).unwrap();
                model.values.insert(key, new);
            }
            8..=9 => {
                operator.value.clear().unwrap();
                model.values.remove(&key);
            }
            10..=17 => {
                let value = rng.below(1 << 32) as u32;
                operator.map.put(&user_key, &value).unwrap();
                model.maps.entry(key).or_default().insert(user_key, value);
            }
            18..=20 => {
                operator.map.remove(&user_key).unwrap();
                if let Some(map) = model.maps.get_mut(&key) {
                    map.remove(&user_key);
                }
            }
            21..=24 => {
                let expected = model.maps.get(&key).and_then(|map| map.get(&user_key));
                assert_eq!(
                    operator.worker.map_get(&operator.map, &user_key).as_ref(),
                    expected,
                    "seed {seed} step {step}"
                );
            }
            25..=26 => {
                let expected: Vec<_> = model
                    .maps
                    .get(&key)
                    .into_iter()
                    .flatten()
                    .map(|(k, v)| (k.clone(), *v))
                    .collect();
                assert_eq!(
                    operator.worker.map_entries(&operator.map),
                    expected,
                    "seed {seed} step {step}"
                );
            }
            27 => {
                operator.worker.map_clear(&operator.map);
                model.maps.remove(&key);
            }
            28..=31 => {
                let timestamp = watermark + rng.below(100) as i64;
                operator.register(timestamp);
                model.timers.insert((timestamp, key));
            }
            32..=33 => {
                watermark += rng.below(30) as i64;
                let mut fired = 0;
                for operator in &operators {
                    let times: Vec<i64> = operator
                        .worker
                        .fire(&operator.timers, watermark)
                        .iter()
                        .map(|t| t.0)
                        .collect();
                    assert!(times.is_sorted(), "seed {seed} step {step}");
                    fired += times.len();
                }
                let later = model.timers.split_off(&(watermark + 1, i32::MIN));
                assert_eq!(fired, model.timers.len(), "seed {seed} step {step}");
                model.timers = later;
            }
            34..=36 => {
                for operator in &operators {
                    assert!(
                        operator
                            .worker
                            .backend
                            .borrow_mut()
                            .poll()
                            .unwrap()
                            .is_none()
                    );
                }
            }
            37..=38 if rng.chance(300) => {
                checkpoint += 1;
                let workers: Vec<Worker> = operators.iter().map(|o| o.worker.clone()).collect();
                saved = (
                    checkpoint_all(&workers, checkpoint),
                    model.clone(),
                    watermark,
                );
            }
            39 if rng.chance(200) => {
                // Crash: back to the last checkpoint, perhaps with other workers on the other backend.
                operators.clear();
                if rng.chance(500) {
                    world.kind.set(crate::cases::after(world.kind.get()));
                }
                model = saved.1.clone();
                watermark = saved.2;
                let parallelism = 1 + rng.below(3) as u16;
                operators = world
                    .workers(parallelism, &saved.0)
                    .into_iter()
                    .map(Operator::new)
                    .collect();
            }
            _ => {}
        }
    }
}
