//! A job goes on with another number of workers: each key with all it holds on exactly one of them.
use aquifer_state::{BackendKind, ValueState, ValueStateDescriptor};
use aquifer_testkit::{RequestKind, Rng};

use super::model::Ttl;
use super::model::job::{Job, Kept, Program};
use super::model::states::States;
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

fn every_parallelism_restores_every_other(world: &World) {
    let program = |workers| Program::of(workers, Some(Ttl::PLAIN));
    for from in 1..=8u16 {
        let mut rng = Rng::new(u64::from(from));
        let mut job = Job::new(world, program(from), "rescaled");
        job.live(world, &mut rng, 0..300);
        let (kept, now) = (job.checkpoint(1), job.now);
        drop(job);
        for to in 1..=8u16 {
            let says = format!("{from} to {to}");
            let mut job = Job::restored(world, &kept, program(to), now, &says);
            if to != from % 8 + 1 {
                job.fire_soon();
                continue;
            }
            // And on, and back.
            job.live(world, &mut rng, 300..400);
            let (kept, now) = (job.checkpoint(2), job.now);
            drop(job);
            let mut job = Job::restored(world, &kept, program(from), now, &says);
            job.fire_all();
        }
    }
}

fn many_rescales_in_a_row(world: &World) {
    let mut rng = Rng::new(5);
    let program = |workers| Program::of(workers, Some(Ttl::PLAIN));
    let mut job = Job::new(world, program(1), "in a row");
    let mut step = 0;
    for (id, parallelism) in (1..).zip([8, 3, 5, 1, 7, 2, 8, 1]) {
        job.live(world, &mut rng, step..step + 200);
        step += 200;
        let (kept, now) = (job.checkpoint(id), job.now);
        drop(job);
        job = Job::restored(world, &kept, program(parallelism), now, "in a row");
    }
    job.fire_all();
}

/// On `forst` files are opened by whoever has a part of their keys: nothing is read, copied or written before somebody asks.
#[test]
fn a_restore_reads_and_copies_nothing() {
    let world = World::forst(true);
    assert_eq!(world.kind.get(), BackendKind::Forst);
    let program = |workers| Program::of(workers, Some(Ttl::PLAIN));
    for from in [1, 2, 3, 8] {
        let mut rng = Rng::new(u64::from(from));
        let mut job = Job::new(&world, program(from), "copied");
        job.live(&world, &mut rng, 0..400);
        let known = job.checkpoint(1);
        let mut saved = Saved::default();
        for worker in job.workers() {
            // Nothing of theirs is under way when requests are counted.
            let part = worker.settled(2);
            saved.tables = part.tables;
            saved.keyed.extend(part.keyed);
        }
        let kept = Kept { saved, ..known };
        let now = job.now;
        drop(job);
        for to in [1, 2, 3, 8] {
            world.objects.take_counts();
            let workers = world.workers(to, &kept.saved);
            let states: Vec<States> = workers
                .into_iter()
                .map(|worker| States::open(worker, Some(Ttl::PLAIN)))
                .collect();
            let counts = world.objects.take_counts();
            // Files that compactions before have replaced may still be on their way out.
            let asked = counts.total() - counts.requests(RequestKind::Delete);
            assert_eq!(asked, 0, "{from} to {to}: {counts:?}");
            drop(states);
            let opened = Job::restored(&world, &kept, program(to), now, "opened");
            let counts = world.objects.take_counts();
            assert!(counts.requests(RequestKind::Get) > 0);
            opened.workers().iter().for_each(Worker::quiet);
        }
    }
}
