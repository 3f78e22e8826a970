//! What every kind of state does, on every backend and through both APIs.

mod aggregating;
mod broadcast;
mod defects;
mod enumeration;
mod evolution;
mod list;
mod map;
mod model;
mod namespaces;
mod operator_state;
mod page;
mod raw_state;
mod reading;
mod reducing;
mod rescale;
mod savepoints;
mod serializers;
mod snapshots;
mod storage;
mod timers;
mod ttl;
mod value;
mod versioned;
