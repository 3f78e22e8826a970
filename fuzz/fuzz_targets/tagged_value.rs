//! Fuzzes one reader of state.
#![no_main]

#[path = "../../crates/state/tests/it/hostile/targets.rs"]
#[allow(dead_code, reason = "each target is one of its functions")]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::tagged_value(data));
