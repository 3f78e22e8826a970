//! Keyed and operator state for stream processing.
//!
//! A streaming operator remembers things per key: a count, the rows of a window, the last position of a car. This crate keeps them. It gives
//! operators typed *states*, keeps the bytes in a *backend*, takes *snapshots* without stopping, and lets a job go on with another
//! number of workers or on another backend.
//!
//! ```
//! use std::sync::Arc;
//!
//! use aquifer_state::access::StateAccess;
//! use aquifer_state::key_group::range_of;
//! use aquifer_state::{
//!     BackendKind, KeyedStateStore, MapStateDescriptor, StateError, ValueStateDescriptor, open_backend,
//! };
//! use aquifer_store::{BlockCache, Environment, StoreOptions};
//!
//! # fn main() -> Result<(), StateError> {
//! let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
//! let environment = Environment::new(
//!     Arc::new(object_store::memory::InMemory::new()),
//!     "job/shared".into(),
//!     runtime.handle().clone(),
//!     BlockCache::new(64 << 20),
//!     "000001-w0",
//! );
//! let (worker, max_parallelism, parallelism) = (0, 128, 1);
//! let range = range_of(worker, max_parallelism, parallelism);
//! let backend =
//!     open_backend(BackendKind::Hashmap, environment, StoreOptions::default(), range, vec![], vec![])?;
//! let access = StateAccess::new(backend, runtime.handle().clone(), range, max_parallelism, true);
//!
//! // What an operator does when it opens:
//! let states = KeyedStateStore::<String>::new(access.clone(), "7-auctions");
//! let bids = states.value_state(&ValueStateDescriptor::<u64>::new("bids"))?;
//! let prices = states.map_state(&MapStateDescriptor::<i64, u64>::new("prices"))?;
//!
//! // What it does for each record; its runner sets the current key and overlaps many of these futures:
//! let process = async |time: i64, price: u64| {
//!     let count = bids.get().await?.unwrap_or(0);
//!     bids.put(count + 1)?;
//!     prices.put(&time, &price)
//! };
//! states.set_current_key(&"auction-1".to_string());
//! access.run(process(20, 700))?;
//! access.run(process(10, 650))?;
//!
//! // The synchronous API over the same state:
//! assert_eq!(bids.value()?, Some(2));
//! assert_eq!(prices.sync().entries().collect::<Result<Vec<_>, _>>()?, [(10, 650), (20, 700)]);
//! # Ok(())
//! # }
//! ```
//!
//! # States
//! * [`ValueState`]: one value per key. [`ListState`]: elements in order, as many as there are, added without reading.
//!   [`MapState`]: a map per key, iterated in the order of its user keys, loaded in pieces of 128. [`ReducingState`],
//!   [`AggregatingState`], [`FoldingState`]: values are added, their sum is kept.
//! * All of them have namespaces, a [`TtlConfig`], enumeration of their keys; lists and sums merge namespaces.
//! * [`TimerService`]: event-time and processing-time timers, rows of the store like everything else.
//! * Methods that read return a future that is ready at once when memory can answer, and have a blocking twin
//!   (`value`, [`MapState::sync`]). Methods that write never wait.
//! * Operators that work on bytes and batches (SQL) use [`access::StateAccess`] directly: `multi_get`, `put`, `scan`, `prefetch`.
//!
//! # Hot is synchronous, cold is asynchronous
//! A read first asks memory. If memory cannot answer, the read is gathered with the others of the same schedule, and
//! [`access::StateAccess::issue`] sends them as one grouped request. When the answer comes it is used only if nothing newer
//! can exist; see [`access`] for the argument.
//!
//! # Backends
//! | `state.backend.type` | working state | snapshot | restore |
//! |---|---|---|---|
//! | `forst` | LSM tree on the object store, memory and cache in front | what has changed | opens a list of files, reads nothing |
//! | `hashmap` | heap | all of it, by a background thread, from frozen layers | reads all rows of its key groups |
//! | `rocksdb` (feature `rocksdb`) | RocksDB on the local disk | files that the last one does not have, or all rows | downloads its own files, reads the rows of others |
//!
//! Each restores what the others have written, so a job may change its backend, its parallelism, or both when it is restored. A program that asks for a
//! state in another layout than the checkpoint has (key type, user key type, serializer, kind) is refused with an error that names both.
//! States that a program does not have any more stay in its checkpoints.
//!
//! A snapshot's rows can be read by whoever needs them, without its backend: [`rows`].
//!
//! # Keys
//! A key's [key group](key_group) is Flink's, computed from Java's hash code. Keys and user keys are [encoded in order](ordered); values go
//! through a [serializer], postcard for serde types.
//!
//! # Checkpoints
//! [`checkpoint`] holds the metadata of a job's checkpoints, where they lie, and who owns their files.

pub mod access;
mod backend;
mod blocking;
pub mod checkpoint;
pub mod controller;
pub mod dynamic;
mod encoding;
mod error;
mod forst;
mod heap;
pub mod key_group;
pub mod operator;
pub mod ordered;
pub mod reader;
mod registry;
mod rocksdb;
pub mod rows;
pub mod serializer;
mod state;
pub mod timers;
mod ttl;

pub use self::backend::{
    BackendKind, BackendSetup, BackendStats, ClosedChunks, DbFile, DbSnapshot, InlineFile,
    KeyedSnapshot, KeyedStateBackend, ListChunk, ListTimes, RocksdbOptions, Row, SharedBackend,
    SnapshotStorage, StateDescription, StorageKind, TableMoment, TakeRow, choose, open,
    open_backend,
};
pub use self::error::StateError;
pub use self::heap::typed::HeapStates;
pub use self::rocksdb::{
    MemoryBudget, RocksdbCompactionStyle, RocksdbLog, RocksdbLogLevel, RocksdbShared,
};
pub use self::state::{
    AggregateFunction, AggregatingState, AggregatingStateDescriptor, CurrentKey, Folding,
    FoldingState, FoldingStateDescriptor, KeyedHandle, KeyedStateStore, ListState,
    ListStateDescriptor, MapState, MapStateDescriptor, ReduceFunction, ReducingState,
    ReducingStateDescriptor, StateFuture, StateStream, StateValue, SyncAggregatingState,
    SyncFoldingState, SyncKeyedStateStore, SyncListIter, SyncListState, SyncMapIter, SyncMapState,
    SyncReducingState, SyncValueState, ValueState, ValueStateDescriptor,
};
pub use self::timers::{TimeDomain, Timer, TimerService};
pub use self::ttl::{
    Cleanup, InCompaction, Incremental, StateVisibility, TtlConfig, TtlTime, UpdateType,
};
