//! Fuzzes one decoder of the store.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| aquifer_store::fuzz::target("row").unwrap()(data));
