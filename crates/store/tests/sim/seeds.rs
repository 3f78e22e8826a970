//! Many seeds, the same seed twice, and the replay of one.
use std::collections::BTreeMap;

use aquifer_testkit::FaultKind;

use crate::simulation::case::Case;
use crate::simulation::shrink::{check, check_recorded, report, shrink};

/// Runs of a case while it is made small.
const SHRINK_RUNS_MAX: usize = 600;

#[derive(Default)]
struct Sums {
    ops: u64,
    requests: u64,
    attempts: u64,
    commits: u64,
    faults: BTreeMap<FaultKind, u64>,
}

fn run(seed: u64, sums: &mut Sums) {
    let case = Case::from_seed(seed);
    match check(&case) {
        Ok(outcome) => {
            for (kind, count) in outcome.history.faults() {
                *sums.faults.entry(*kind).or_default() += count;
            }
            sums.ops += outcome.ops;
            sums.requests += outcome.requests;
            sums.attempts += outcome.attempts;
            sums.commits += outcome.commits;
        }
        Err(failure) => {
            let (small, small_failure) = shrink(&case, &failure, SHRINK_RUNS_MAX);
            panic!("{}", report(&case, &failure, &small, &small_failure));
        }
    }
}

fn seeds(from: u64, count: u64) {
    let mut sums = Sums::default();
    for seed in from..from + count {
        run(seed, &mut sums);
    }
    println!(
        "{count} seeds, {} operations, {} requests, {} attempts, {} checkpoints, faults: {:?}",
        sums.ops, sums.requests, sums.attempts, sums.commits, sums.faults
    );
    assert!(
        sums.ops > count * 40 && sums.commits > count && sums.faults.len() > 15,
        "the simulation does something"
    );
}

#[test]
fn seeds_0_to_249() {
    seeds(0, 250);
}

#[test]
fn seeds_250_to_499() {
    seeds(250, 250);
}

/// S12: what a seed does is decided by the seed.
#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 1000..1020 {
        let mut case = Case::from_seed(seed);
        // The cache's reads and writes run on threads.
        case.shape.disk = false;
        let (a, b) = (check_recorded(&case).1, check_recorded(&case).1);
        if a.hash() != b.hash() {
            let (a, b): (Vec<_>, Vec<_>) = (a.lines().collect(), b.lines().collect());
            let at = a.iter().zip(&b).position(|(a, b)| a != b);
            let at = at.unwrap_or(a.len().min(b.len()));
            panic!("seed {seed} differs: {:?} and {:?}", a.get(at), b.get(at));
        }
    }
}

/// `AQUIFER_SIM_SEED=7 cargo test -p aquifer-store --test sim replay -- --nocapture`
#[test]
fn replay() {
    let Some(seed) = std::env::var("AQUIFER_SIM_SEED")
        .ok()
        .and_then(|s| s.parse().ok())
    else {
        return;
    };
    let case = Case::from_seed(seed);
    let (result, history) = check_recorded(&case);
    for line in history.lines() {
        println!("{line}");
    }
    println!("{case}");
    if let Err(failure) = result {
        let (small, small_failure) = shrink(&case, &failure, SHRINK_RUNS_MAX);
        panic!("{}", report(&case, &failure, &small, &small_failure));
    }
}
