//! Bytes that nobody wrote: every decoder, a hundred thousand times, and damaged files read through the store.
//!
//! Mutations start from valid inputs: flipped bits, cuts, zeroes, numbers at their limits, pieces put elsewhere or repeated.
//! Decoders behind a checksum are given bytes with the right one. Nothing may panic; the store may answer only what is right.
use std::panic::{AssertUnwindSafe, catch_unwind};

use aquifer_store::fuzz::{TARGETS, samples, target};
use aquifer_testkit::Rng;

use crate::simulation::case::Case;
use crate::simulation::op::Op;
use crate::simulation::shrink::check;

const MUTATIONS: u64 = 100_000;

/// One to four changes.
fn mutate(bytes: &mut Vec<u8>, random: &mut Rng) {
    for _ in 0..=random.below(4) {
        let len = bytes.len() as u64;
        let at = random.below(len.max(1)) as usize;
        match random.below(8) {
            0..3 if len > 0 => bytes[at] ^= 1 << random.below(8),
            3 => bytes.truncate(at),
            4 if len > 0 => {
                let end = (at + 1 + random.below(8) as usize).min(bytes.len());
                bytes[at..end].fill(if random.chance(500) { 0 } else { 0xff });
            }
            5 => {
                let limits = [
                    0u64,
                    1,
                    0x7f,
                    0x80,
                    0xffff,
                    u64::from(u32::MAX),
                    u64::MAX >> 1,
                    u64::MAX,
                ];
                let number = limits[random.below(limits.len() as u64) as usize].to_le_bytes();
                let width = [1, 2, 4, 8][random.below(4) as usize];
                for (place, byte) in bytes.iter_mut().skip(at).zip(&number[..width]) {
                    *place = *byte;
                }
            }
            6 => {
                let end = (at + random.below(40) as usize).min(bytes.len());
                let piece = bytes[at.min(end)..end].to_vec();
                let to = random.below(len + 1) as usize;
                bytes.splice(to..to, piece);
            }
            _ => bytes.push(random.below(256) as u8),
        }
    }
}

fn run(name: &str, bytes: &[u8]) {
    let target = target(name).expect("a target");
    let survived = catch_unwind(AssertUnwindSafe(|| target(bytes)));
    assert!(
        survived.is_ok(),
        "{name} does not survive {} bytes: {}",
        bytes.len(),
        bytes.escape_ascii()
    );
}

#[test]
fn no_decoder_panics() {
    let samples = samples();
    for (name, _) in TARGETS {
        let valid = samples.iter().filter(|(known, _)| known == name);
        let known = valid.inspect(|(_, bytes)| run(name, bytes)).count();
        assert!(
            known > 0 || *name == "file-end" || *name == "warm-chunks",
            "{name} has no sample"
        );
    }
    let mut random = Rng::new(11);
    for round in 0..MUTATIONS {
        let (name, mut bytes) = if round % 8 == 0 {
            let (name, _) = random.pick(TARGETS).expect("targets");
            let noise = (0..random.below(300)).map(|_| random.below(256) as u8);
            (*name, noise.collect())
        } else {
            random.pick(&samples).expect("samples").clone()
        };
        mutate(&mut bytes, &mut random);
        run(name, &bytes);
    }
}

/// The fuzz target `tree`: operations made of any bytes.
#[test]
fn any_bytes_are_operations_that_the_store_survives() {
    let mut random = Rng::new(13);
    for _ in 0..20 {
        let bytes: Vec<u8> = (0..400).map(|_| random.below(256) as u8).collect();
        let case = Case::from_bytes(&bytes);
        if let Err(failure) = check(&case) {
            panic!("{case}: {failure}");
        }
    }
}

/// Whole files, damaged at rest and read by a stranger: see `Op::Damage`.
#[test]
fn damaged_files_give_no_wrong_answers() {
    let mut random = Rng::new(12);
    for seed in 0..8 {
        let mut case = Case::from_seed(50_000 + seed);
        case.storm = Default::default();
        case.ops.retain(|op| {
            !matches!(
                op,
                Op::Damage { .. } | Op::CrashAt { .. } | Op::Restart { .. }
            )
        });
        case.ops.truncate(60);
        case.ops.extend((0..3).flat_map(|i| {
            [
                Op::Burst {
                    table: (seed % 5) as u8,
                    seed: i,
                    count: 150,
                },
                Op::Checkpoint,
                Op::Settle,
            ]
        }));
        case.ops.extend((0..40).map(|_| Op::Damage {
            kind: random.below(5) as u8,
            pick: random.next_u64() as u32,
            at: random.next_u64() as u32,
        }));
        if let Err(failure) = check(&case) {
            panic!("{case}: {failure}");
        }
    }
}
