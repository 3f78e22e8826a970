//! What every kind of state does, on every backend and through both APIs.

mod aggregating;
mod enumeration;
mod list;
mod map;
mod namespaces;
mod random;
mod reading;
mod reducing;
mod snapshots;
mod storage;
mod timers;
mod ttl;
mod value;
