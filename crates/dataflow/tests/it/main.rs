//! Whole jobs on real workers: barriers, recovery, rescaling, and the pitfalls of timely.

mod async_state;
mod fixtures;
mod functions;
mod operator_state;
mod pitfalls;
mod places;
mod recovery;
mod savepoints;
mod script;
mod storages;
mod ttl;
mod watermarks;
