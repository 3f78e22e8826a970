//! Jobs that live long: random operations on all kinds of state with checkpoints, crashes back to the last one, other parallelism, other
//! backends and other places for snapshots, compared with the model of `random`. `AQUIFER_MODEL_SEED=n` runs one seed.
use aquifer_state::SnapshotStorage;
use aquifer_testkit::Rng;

use super::random::{Clock, Model, Times, act, compare, fire, open};
use crate::cases::{Case, conformance};
use crate::world::{Saved, Worker, World, checkpoint_all};

conformance!(
    random_jobs_agree_with_a_model,
    random_jobs_with_a_ttl_agree_with_a_model
);

fn random_jobs_agree_with_a_model(world: &World) {
    seeds(world, &[11, 12], false);
}

fn random_jobs_with_a_ttl_agree_with_a_model(world: &World) {
    seeds(world, &[21, 22], true);
}

fn seeds(world: &World, seeds: &[u64], ttl: bool) {
    let case = (world.kind.get(), world.storage.get());
    let one = std::env::var("AQUIFER_MODEL_SEED").ok();
    let one: Option<u64> = one.map(|seed| seed.parse().expect("a number"));
    for seed in one.as_ref().map_or(seeds, std::slice::from_ref) {
        world.kind.set(case.0);
        world.storage.set(case.1);
        world.at(0);
        run(world, *seed, ttl);
    }
}

/// Long, with many seeds.
#[test]
#[ignore = "takes minutes"]
fn many_random_jobs_agree_with_a_model() {
    for case in [Case::FORST, Case::HASHMAP_FILES_ASYNC] {
        for ttl in [false, true] {
            let all: Vec<u64> = (1000..1100).collect();
            seeds(&World::of(case, true), &all, ttl);
        }
    }
}

/// A checkpoint, and what the model was then.
#[derive(Clone, Default)]
struct Kept {
    saved: Saved,
    model: Model,
    watermark: i64,
}

fn run(world: &World, seed: u64, ttl: bool) {
    let mut rng = Rng::new(seed);
    let begun = (world.kind.get(), world.storage.get());
    let files = SnapshotStorage::FileSystem {
        inline_bytes_max: 700,
        asynchronous: true,
    };
    // Where a job may go on. It comes back to where it began.
    let cases = [
        begun,
        begun,
        (aquifer_state::BackendKind::Forst, files),
        (aquifer_state::BackendKind::Hashmap, files),
    ];
    let mut states = open(world.workers(1, &Saved::default()), ttl);
    let (mut model, mut times) = (Model::new(), Times::default());
    let mut kept: Vec<Kept> = vec![Kept::default()];
    let says = format!("seed {seed}, ttl {ttl}");
    let mut checkpoint = 0;
    for step in 0..1500u32 {
        act(
            (world, &states),
            (&mut model, &mut times),
            &mut rng,
            step,
            (ttl, &says),
        );
        match rng.below(1000) {
            0..=14 => {
                checkpoint += 1;
                let workers: Vec<Worker> = states.iter().map(|s| s.worker.clone()).collect();
                kept.push(Kept {
                    saved: checkpoint_all(&workers, checkpoint),
                    model: model.clone(),
                    watermark: times.watermark,
                });
            }
            // Back to a checkpoint, most often the last one.
            15..=24 => {
                states.clear();
                if rng.chance(200) && kept.len() > 1 {
                    kept.pop();
                }
                let back = kept.last().cloned().unwrap_or_default();
                (model, times.watermark) = (back.model, back.watermark);
                let (kind, storage) = cases[rng.below(cases.len() as u64) as usize];
                world.kind.set(kind);
                world.storage.set(storage);
                states = open(world.workers(1 + rng.below(8) as u16, &back.saved), ttl);
                compare(&states, &mut model, times.now, ttl, &says);
            }
            _ => {}
        }
    }
    compare(&states, &mut model, times.now, ttl, &says);
    for clock in [Clock::Event, Clock::Processing] {
        fire(&states, &mut model, clock, i64::MAX, &says);
    }
}
