//! The store from outside: with real runtimes, on stores in memory that count and fail.
mod cold;
mod compaction;
mod damage;
mod existence;
mod expiry;
mod file_cache;
mod harness;
mod inspect;
mod life;
mod local;
mod model;
mod remote;
mod retained;
mod rows;
