//! A job goes on with another number of workers: each key with all it holds on exactly one of them.
use aquifer_state::{BackendKind, ValueState, ValueStateDescriptor};
use aquifer_testkit::{RequestKind, Rng};

use super::random::{Clock, Model, States, Times, act, compare, fire, open};
use crate::cases::{ask, conformance};
use crate::world::{Saved, Worker, World, checkpoint_all, owner};

conformance!(
    from_four_workers_to_two,
    from_two_workers_to_four,
    from_two_workers_to_two,
    uneven_ranges_grow_in_number,
    uneven_ranges_shrink_in_number,
    every_parallelism_restores_every_other,
    many_rescales_in_a_row,
);

type Pair = (ValueState<u32>, ValueState<u32>);

/// Two states of each of some keys: the first written before one checkpoint, the second before the next. Both are restored, over any
/// number of workers, as of their time.
fn over(world: &World, parallelisms: &[u16]) {
    let keys = 0..200u32;
    let open = |worker: &Worker| {
        let store = worker.store::<u32>("op");
        let state = |name: &str| store.value_state(&ValueStateDescriptor::new(name)).unwrap();
        let pair: Pair = (state("first"), state("second"));
        (store, pair)
    };
    let write = |workers: &[Worker], second: bool| {
        for worker in workers {
            let (store, (a, b)) = open(worker);
            for key in keys.clone().filter(|key| worker.owns(key)) {
                store.set_current_key(&key);
                match second {
                    false => a.put(key).unwrap(),
                    true => b.put(key * 2).unwrap(),
                }
            }
        }
    };
    let check = |workers: &[Worker], second: bool| {
        for key in keys.clone() {
            let worker = owner(workers, &key);
            let (store, (a, b)) = open(worker);
            store.set_current_key(&key);
            let read = (ask!(worker, a.get()), ask!(worker, b.get()));
            assert_eq!(
                read,
                (Some(key), second.then_some(key * 2)),
                "{}",
                world.name()
            );
        }
        for worker in workers {
            let (store, (a, _)) = open(worker);
            let other = keys.clone().find(|key| !worker.owns(key));
            if let Some(other) = other.filter(|_| workers.len() > 1) {
                store.set_current_key(&other);
                let refused = a.put(1).unwrap_err().to_string();
                assert!(refused.contains("key group"), "{refused}");
            }
        }
    };
    let mut workers = world.workers(parallelisms[0], &Saved::default());
    write(&workers, false);
    let mut first = checkpoint_all(&workers, 1);
    write(&workers, true);
    let mut both = checkpoint_all(&workers, 2);
    for parallelism in &parallelisms[1..] {
        let earlier = world.workers(*parallelism, &first);
        check(&earlier, false);
        first = checkpoint_all(&earlier, 3);
        workers = world.workers(*parallelism, &both);
        check(&workers, true);
        both = checkpoint_all(&workers, 3);
    }
}

fn from_four_workers_to_two(world: &World) {
    over(world, &[4, 2]);
}

fn from_two_workers_to_four(world: &World) {
    over(world, &[2, 4]);
}

fn from_two_workers_to_two(world: &World) {
    over(world, &[2, 2]);
}

fn uneven_ranges_grow_in_number(world: &World) {
    over(world, &[2, 3, 7]);
}

fn uneven_ranges_shrink_in_number(world: &World) {
    over(world, &[7, 3, 2]);
}

fn checkpoint_of(states: &[States], id: u64) -> Saved {
    let workers: Vec<Worker> = states.iter().map(|s| s.worker.clone()).collect();
    checkpoint_all(&workers, id)
}

/// Some random life of all kinds of state.
fn live(
    world: &World,
    states: &[States],
    model: &mut Model,
    times: &mut Times,
    rng: &mut Rng,
    steps: std::ops::Range<u32>,
) {
    for step in steps {
        act(
            (world, states),
            (model, times),
            rng,
            step,
            (true, "rescaled"),
        );
    }
}

fn every_parallelism_restores_every_other(world: &World) {
    for from in 1..=8u16 {
        let mut rng = Rng::new(u64::from(from));
        let (mut model, mut times) = (Model::new(), Times::default());
        world.at(0);
        let states = open(world.workers(from, &Saved::default()), true);
        live(world, &states, &mut model, &mut times, &mut rng, 0..300);
        let saved = checkpoint_of(&states, 1);
        drop(states);
        for to in 1..=8u16 {
            let says = format!("{from} to {to}, {}", world.name());
            let (mut model, mut times) = (model.clone(), times);
            world.at(times.now);
            let states = open(world.workers(to, &saved), true);
            compare(&states, &mut model, times.now, true, &says);
            if to != from % 8 + 1 {
                let time = times.watermark + 30;
                fire(&states, &mut model, Clock::Event, time, &says);
                continue;
            }
            // And on, and back.
            live(world, &states, &mut model, &mut times, &mut rng, 300..400);
            let saved = checkpoint_of(&states, 2);
            drop(states);
            let states = open(world.workers(from, &saved), true);
            compare(&states, &mut model, times.now, true, &says);
            for clock in [Clock::Event, Clock::Processing] {
                fire(&states, &mut model, clock, i64::MAX, &says);
            }
        }
    }
}

fn many_rescales_in_a_row(world: &World) {
    let mut rng = Rng::new(5);
    let (mut model, mut times) = (Model::new(), Times::default());
    let mut saved = Saved::default();
    let mut step = 0;
    for (id, parallelism) in (1..).zip([1, 8, 3, 5, 1, 7, 2, 8, 1]) {
        let states = open(world.workers(parallelism, &saved), true);
        compare(&states, &mut model, times.now, true, &world.name());
        live(
            world,
            &states,
            &mut model,
            &mut times,
            &mut rng,
            step..step + 200,
        );
        step += 200;
        saved = checkpoint_of(&states, id);
    }
    let states = open(world.workers(1, &saved), true);
    compare(&states, &mut model, times.now, true, &world.name());
    for clock in [Clock::Event, Clock::Processing] {
        fire(&states, &mut model, clock, i64::MAX, &world.name());
    }
}

/// On `forst` files are opened by whoever has a part of their keys: nothing is read, copied or written before somebody asks.
#[test]
fn a_restore_reads_and_copies_nothing() {
    let world = World::forst(true);
    assert_eq!(world.kind.get(), BackendKind::Forst);
    for from in [1, 2, 3, 8] {
        let mut rng = Rng::new(u64::from(from));
        let (mut model, mut times) = (Model::new(), Times::default());
        world.at(0);
        let states = open(world.workers(from, &Saved::default()), true);
        live(&world, &states, &mut model, &mut times, &mut rng, 0..400);
        let workers: Vec<Worker> = states.iter().map(|s| s.worker.clone()).collect();
        let mut saved = Saved::default();
        for worker in &workers {
            // Nothing of theirs is under way when requests are counted.
            let part = worker.settled(1);
            saved.tables = part.tables;
            saved.keyed.extend(part.keyed);
        }
        drop((states, workers));
        for to in [1, 2, 3, 8] {
            world.objects.take_counts();
            let states = open(world.workers(to, &saved), true);
            let counts = world.objects.take_counts();
            assert_eq!(counts.total(), 0, "{from} to {to}: {counts:?}");
            let mut model = model.clone();
            compare(&states, &mut model, times.now, true, "opened");
            let counts = world.objects.take_counts();
            assert!(counts.requests(RequestKind::Get) > 0);
        }
    }
}
