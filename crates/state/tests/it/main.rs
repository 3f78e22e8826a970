//! The state layer from outside: one conformance suite for every backend and both APIs.
//!
//! `conformance!` runs each test on `hashmap` and on `forst`, asynchronously and synchronously; `forst` runs with memtables, blocks and
//! caches so small that flushes, compactions and cold reads happen all the time.

mod backends;
mod cases;
mod concurrency;
mod conformance;
mod heap;
mod hostile;
mod model;
mod naming;
mod operators;
#[cfg(feature = "rocksdb")]
mod rocksdb;
mod rows;
mod snapshots;
mod unused_tables;
mod world;
