//! The process dies at every single request of four workloads, before or after it is applied, and again while it recovers.
//!
//! A run without a crash says how many requests there are; then the same run is done once for each of them. After every crash the
//! state must be that of exactly one checkpoint, everything that was acknowledged must be there, and in the end nothing is lost,
//! left over or stuck.
use std::collections::BTreeMap;

use aquifer_testkit::{Crash, Storm};

use crate::simulation::case::{Case, Shape};
use crate::simulation::op::{EXPIRING, LISTS, Op, SUMS};
use crate::simulation::shrink::{check, report, shrink};

fn shape() -> Shape {
    Shape {
        workers: 1,
        retained: 1,
        cache_bytes: 64 << 10,
        block_bytes: 256,
        memtable_bytes: 64 << 10,
        memtables_retained: 1,
        l0_files: 2,
        file_bytes: 4 << 10,
        level_bytes: 8 << 10,
        dynamic_levels: true,
        filter_bits: 10,
        aside_bytes: 500,
        part_bytes: 2 << 10,
        compression: 1,
        hedge: false,
        threads: 2,
        disk: false,
    }
}

fn case(shape: Shape, ops: Vec<Op>) -> Case {
    Case {
        seed: 0,
        shape,
        storm: Storm::none(),
        crashes: Vec::new(),
        ops,
    }
}

fn burst(table: u8, seed: u32) -> Op {
    Op::Burst {
        table,
        seed,
        count: 60,
    }
}

fn run(case: &Case) -> BTreeMap<u64, u64> {
    match check(case) {
        Ok(outcome) => outcome.requests_by_attempt,
        Err(failure) => {
            let (small, small_failure) = shrink(case, &failure, 300);
            let crashes = &case.crashes;
            let report = report(case, &failure, &small, &small_failure);
            panic!("crashes at {crashes:?}: {report}");
        }
    }
}

/// Crashes at every request of the attempts before the last two, which end the run; returns how many runs that made.
fn sweep(case: &Case) -> u64 {
    let requests = run(case);
    let last = requests.keys().last().copied().unwrap_or(0);
    let mut runs = 0;
    for (&attempt, &requests) in requests.iter().filter(|(attempt, _)| **attempt <= last - 2) {
        assert!(requests > 3, "attempt {attempt} does something");
        for at in 0..requests {
            for applied in [false, true] {
                let mut crashing = case.clone();
                crashing.crashes = vec![(attempt, Crash { at, applied })];
                // Every seventh dies a second time, while it recovers.
                if (at + u64::from(applied)) % 7 == 0 {
                    let again = Crash {
                        at: at / 7 % 4,
                        applied: !applied,
                    };
                    crashing.crashes.push((attempt + 1, again));
                }
                run(&crashing);
                runs += 1;
            }
        }
    }
    runs
}

#[test]
fn while_writing_and_flushing() {
    let mut ops: Vec<Op> = (0..8).map(|i| burst((i % 5) as u8, i)).collect();
    ops.insert(3, Op::RunJob { which: 0 });
    ops.insert(6, Op::Poll);
    ops.push(Op::Settle);
    ops.push(Op::Checkpoint);
    ops.push(Op::Settle);
    let runs = sweep(&case(shape(), ops));
    assert!(runs > 30, "{runs}");
}

#[test]
fn while_compacting() {
    let mut ops = Vec::new();
    for round in 0..6 {
        ops.extend([burst(1, round), burst(LISTS, 100 + round)]);
        ops.extend([Op::Checkpoint, Op::RunJob { which: 0 }, Op::Poll]);
    }
    ops.push(Op::Settle);
    let runs = sweep(&case(shape(), ops));
    assert!(runs > 100, "{runs}");
}

#[test]
fn while_a_checkpoint_is_made_and_restored() {
    let reads = |seed| Op::MultiGet {
        table: SUMS,
        seed,
        count: 40,
    };
    let restart = Op::Restart {
        workers: 1,
        forget_cache: true,
    };
    let ops = vec![
        burst(SUMS, 1),
        burst(0, 2),
        Op::Freeze { table: 0 },
        burst(0, 3),
        Op::Checkpoint,
        burst(SUMS, 4),
        Op::Settle,
        restart.clone(),
        reads(5),
        burst(SUMS, 6),
        Op::Checkpoint,
        Op::Settle,
        restart,
        reads(7),
    ];
    let runs = sweep(&case(shape(), ops));
    assert!(runs > 30, "{runs}");
}

#[test]
fn while_a_job_is_rescaled() {
    let restart = |workers| Op::Restart {
        workers,
        forget_cache: true,
    };
    let mut ops = Vec::new();
    for (round, workers) in [(0, 3), (1, 1), (2, 2)] {
        ops.extend([
            burst(1, round),
            burst(EXPIRING, 10 + round),
            Op::Checkpoint,
            Op::Settle,
            burst(1, 20 + round),
            Op::Checkpoint,
            Op::Settle,
            restart(workers),
        ]);
    }
    let shape = Shape {
        workers: 2,
        retained: 2,
        ..shape()
    };
    let runs = sweep(&case(shape, ops));
    assert!(runs > 100, "{runs}");
}
