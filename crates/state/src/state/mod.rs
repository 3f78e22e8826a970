//! State kinds, as typed handles over a backend.
//!
//! A handle acts on the **current key**: the operator's executor sets it before it polls a record's future, and every method reads it when
//! it is *called*, so a future that is awaited later still belongs to its record. Reading is offered twice over the same state: as a
//! future (V2), which is ready at once when memory can answer, and blocking (V1). Writing is the same in both: it never waits.
//! A read that has to wait returns the newest value at the moment it completes.

mod current_key;
mod descriptor;
mod future;
mod keyed_store;
mod map;
mod value;

pub use self::current_key::CurrentKey;
pub use self::descriptor::{MapStateDescriptor, ValueStateDescriptor};
pub use self::future::StateFuture;
pub use self::keyed_store::KeyedStateStore;
pub use self::map::{MapState, StateStream, SyncMapState};
pub use self::value::ValueState;
