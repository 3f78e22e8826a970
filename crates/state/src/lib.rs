//! Keyed and operator state for stream processing.

pub mod access;
mod backend;
mod blocking;
pub mod checkpoint;
mod error;
mod forst;
mod heap;
pub mod key_group;
pub mod ordered;
mod registry;
pub mod serializer;
mod state;
pub mod timers;

pub use self::backend::{
    BackendKind, BackendStats, KeyedSnapshot, KeyedStateBackend, SharedBackend, StateDescription,
    open_backend,
};
pub use self::error::StateError;
pub use self::state::{
    CurrentKey, KeyedStateStore, MapState, MapStateDescriptor, StateFuture, StateStream,
    SyncMapState, ValueState, ValueStateDescriptor,
};
pub use self::timers::{Timer, TimerService};
