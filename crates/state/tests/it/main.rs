//! The state layer from outside: one conformance suite for every backend and both APIs.
//!
//! `conformance!` runs each test on `hashmap` and on `forst`, asynchronously and synchronously; `forst` runs with memtables, blocks and
//! caches so small that flushes, compactions and cold reads happen all the time.

mod backends;
mod concurrency;
mod maps;
mod model;
mod rows;
mod snapshots;
mod timers;
mod unused_tables;
mod values;
mod world;

/// Runs a test function, `fn(&World)`, in every case.
macro_rules! conformance {
    ($($test:ident),* $(,)?) => {
        mod hashmap_async { $(#[test] fn $test() { super::$test(&crate::world::World::hashmap(true)); })* }
        mod hashmap_sync { $(#[test] fn $test() { super::$test(&crate::world::World::hashmap(false)); })* }
        mod forst_async { $(#[test] fn $test() { super::$test(&crate::world::World::forst(true)); })* }
        mod forst_sync { $(#[test] fn $test() { super::$test(&crate::world::World::forst(false)); })* }
    };
}
use conformance;
