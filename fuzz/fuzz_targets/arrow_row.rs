//! Fuzzes rows of Arrow tables and what checkpoints say of their schemas.
#![no_main]

#[path = "../../crates/state/tests/it/hostile/arrow_row.rs"]
#[allow(dead_code, reason = "samples are for mutation tests")]
mod arrow_row;

libfuzzer_sys::fuzz_target!(|data: &[u8]| arrow_row::arrow_row(data));
