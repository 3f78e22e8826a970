//! State kinds, as typed handles over a backend.
//!
//! A handle acts on the **current key**: the operator's executor sets it before it polls a record's future, and every method reads it when
//! it is *called*, so a future that is awaited later still belongs to its record. The same holds for the handle's **namespace**, for states that
//! have namespaces: `set_namespace` holds for all clones of a handle, `detached` gives one with a namespace of its own.
//!
//! Reading is offered twice over the same state: as a future or stream (V2), which is ready at once when memory can answer, and blocking
//! (V1, `sync()`). Writing is the same in both: it never waits. A read that has to wait returns the newest value at the moment it completes.
//!
//! | kind | holds per key and namespace | rows |
//! |---|---|---|
//! | [`ValueState`] | a value | `key ‖ namespace -> value` |
//! | [`ListState`] | elements in order | `key ‖ namespace ‖ chunk u64 BE -> frames` |
//! | [`MapState`] | values by user key | `key ‖ namespace ‖ user key -> value` |
//! | [`ReducingState`] | the sum of what was added | as value |
//! | [`AggregatingState`], [`FoldingState`] | an accumulator | as value |
//!
//! Key, namespace and user key end by themselves (`crate::ordered`); the namespace `()` has no bytes. A row carries the time it was written or
//! kept alive if its state has a TTL. Every backend and every snapshot has these rows; the heap keeps typed values in their place.
//!
//! What Flink writes with `StateFuture::thenApply`, `thenCompose`, `thenCombine` and the like is `await`, `futures::join!` and `if` here.

mod aggregating;
pub(crate) mod chunks;
mod current_key;
mod descriptor;
mod enumerate;
mod folding;
mod future;
mod keyed_store;
mod list;
mod map;
mod namespace;
mod pieces;
mod place;
mod reducing;
mod single;
mod stream;
mod ttl;
mod value;

pub use self::aggregating::{AggregateFunction, AggregatingState, SyncAggregatingState};
pub use self::current_key::CurrentKey;
pub use self::descriptor::{
    AggregatingStateDescriptor, FoldingStateDescriptor, ListStateDescriptor, MapStateDescriptor,
    ReducingStateDescriptor, ValueStateDescriptor,
};
pub use self::enumerate::KeyedHandle;
pub use self::folding::{Folding, FoldingState, SyncFoldingState};
pub use self::future::StateFuture;
pub use self::keyed_store::{KeyedStateStore, SyncKeyedStateStore};
pub use self::list::{ListState, SyncListIter, SyncListState};
pub use self::map::{MapState, SyncMapIter, SyncMapState};
pub use self::reducing::{ReduceFunction, ReducingState, SyncReducingState};
pub use self::stream::StateStream;
pub use self::value::{SyncValueState, ValueState};

/// What a value of a state must be. `Clone`: a heap backend hands out copies. `Send` and `Sync`: its snapshots are written elsewhere.
pub trait StateValue: Clone + Send + Sync + 'static {}

impl<T: Clone + Send + Sync + 'static> StateValue for T {}
