//! Bytes of state that nobody wrote: what reads them, some tens of thousands of times. Coverage finds more: see `fuzz/`, whose targets these are.
//!
//! Mutations start from valid inputs: flipped bits, cuts, zeroes, numbers at their limits, pieces put elsewhere or repeated.
use std::panic::{AssertUnwindSafe, catch_unwind};

use aquifer_testkit::Rng;

#[cfg(feature = "arrow")]
mod arrow_row;
mod targets;

/// A name and a reader of bytes.
type Target = (&'static str, fn(&[u8]));

const TARGETS: &[Target] = &[
    ("tagged_value", targets::tagged_value),
    ("serializer_snapshot", targets::serializer_snapshot),
    ("dynamic_value", targets::dynamic_value),
    #[cfg(feature = "arrow")]
    ("arrow_row", arrow_row::arrow_row),
];

/// Mutations of each test run; `AQUIFER_HOSTILE_MUTATIONS` is another number.
const MUTATIONS: u64 = 30_000;

/// One to four changes.
fn mutate(bytes: &mut Vec<u8>, rng: &mut Rng) {
    for _ in 0..=rng.below(4) {
        let len = bytes.len();
        let at = rng.below(len.max(1) as u64) as usize;
        let end = (at + 1 + rng.below(12) as usize).min(len);
        match rng.below(8) {
            0..3 if len > 0 => bytes[at] ^= 1 << rng.below(8),
            3 => bytes.truncate(at),
            4 if len > 0 => bytes[at..end].fill(if rng.chance(500) { 0 } else { 0xff }),
            5 => {
                let limits = [0, 1, 0x7f, 0x80, 0xffff, u64::from(u32::MAX), u64::MAX];
                let number = limits[rng.below(limits.len() as u64) as usize].to_le_bytes();
                let width = [1, 2, 4, 8][rng.below(4) as usize];
                for (place, byte) in bytes.iter_mut().skip(at).zip(&number[..width]) {
                    *place = *byte;
                }
            }
            6 if len > 0 => {
                let piece = bytes[at..end].to_vec();
                let to = rng.below(len as u64 + 1) as usize;
                bytes.splice(to..to, piece);
            }
            _ => bytes.push(rng.below(256) as u8),
        }
    }
}

fn run(name: &str, bytes: &[u8]) {
    let (_, target) = TARGETS.iter().find(|(known, _)| *known == name).unwrap();
    let survived = catch_unwind(AssertUnwindSafe(|| target(bytes)));
    assert!(
        survived.is_ok(),
        "{name} does not survive {} bytes: {}",
        bytes.len(),
        bytes.escape_ascii()
    );
}

#[test]
fn no_reader_of_state_panics() {
    let samples = targets::samples();
    #[cfg(feature = "arrow")]
    let samples = [samples, arrow_row::samples()].concat();
    for (name, _) in TARGETS {
        let own = samples.iter().filter(|(known, _)| known == name);
        assert!(own.inspect(|(_, bytes)| run(name, bytes)).count() > 0);
    }
    let mutations = std::env::var("AQUIFER_HOSTILE_MUTATIONS").ok();
    let mutations = mutations.map_or(MUTATIONS, |number| number.parse().expect("a number"));
    let mut rng = Rng::new(17);
    for round in 0..mutations {
        let (name, mut bytes) = if round.is_multiple_of(8) {
            let (name, _) = rng.pick(TARGETS).unwrap();
            let noise = (0..rng.below(200)).map(|_| rng.below(256) as u8);
            (*name, noise.collect())
        } else {
            rng.pick(&samples).unwrap().clone()
        };
        mutate(&mut bytes, &mut rng);
        run(name, &bytes);
    }
}
