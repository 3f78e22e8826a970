//! The simulation finds bugs: each of those in `planted.rs` within so many seeds.
//!
//! `cargo test -p aquifer-store --features planted-bugs --test sim planted -- --nocapture` prints the table that
//! `docs/reliability.md` shows.
use aquifer_store::planted::{Bug, plant};

use crate::simulation::case::Case;
use crate::simulation::shrink::check;

/// Seeds within which every planted bug must be found.
const SEEDS_MAX: u64 = 500;
/// Where these seeds begin; those that tests run without bugs lie below.
const FIRST: u64 = 10_000;

#[test]
fn every_planted_bug_is_found() {
    let mut missed = Vec::new();
    for &bug in Bug::ALL {
        plant(Some(bug));
        let found = (FIRST..FIRST + SEEDS_MAX).find_map(|seed| {
            let failure = check(&Case::from_seed(seed)).err()?;
            Some((seed - FIRST + 1, failure))
        });
        plant(None);
        match found {
            Some((seeds, failure)) => {
                println!("| {} | {seeds} | {} |", bug.describe(), failure.check);
            }
            None => missed.push(bug),
        }
    }
    assert!(
        missed.is_empty(),
        "not found within {SEEDS_MAX} seeds: {missed:?}"
    );
}
