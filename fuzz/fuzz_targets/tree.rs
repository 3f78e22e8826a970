//! Operations against the whole store in the simulated world, beside a model: four bytes are one operation.
#![no_main]

#[path = "../../crates/store/tests/sim/simulation/mod.rs"]
#[allow(dead_code, reason = "tests use more of it")]
mod simulation;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let case = simulation::case::Case::from_bytes(data);
    if let Err(failure) = simulation::shrink::check(&case) {
        panic!("{case}: {failure}");
    }
});
