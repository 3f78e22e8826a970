//! INTERFACE STUB, to be replaced by the implementation with these names and signatures.
use std::cell::RefCell;
use std::rc::Rc;

use aquifer_store::{ColdRead, ColdScan, Lookup, ScanLookup, ScanRows, TableId, TableOptions};
use bytes::Bytes;
use futures_util::future::BoxFuture;

/// What state users get as an error. Kinds tell the caller what to do.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StateError {
    #[error(transparent)]
    Store(#[from] aquifer_store::Error),
    #[error("{0}")]
    Usage(String),
    #[error("{0}")]
    Incompatible(String),
    #[error("{0}")]
    Corrupt(String),
}

/// One state of one operator, as it is registered with a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateDescription {
    /// Stable identity of the operator across restarts, e.g. `3-group-aggregate`.
    pub operator: String,
    /// Name of the state, unique per operator, e.g. `accState`.
    pub state: String,
    pub options: TableOptions,
    /// Describes key and value layout; a restored table with another description is refused with an error that names both.
    pub layout: String,
}

/// One worker's part of a checkpoint's keyed state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyedSnapshot {
    pub files: aquifer_store::Checkpoint,
}

#[derive(Clone, Debug, Default)]
pub struct BackendStats {
    pub state_bytes: u64,
    pub cache_hits: u64,
    pub cache_misses: u64,
    pub cold_reads: u64,
    pub bytes_uploaded: u64,
    pub files: u64,
}

/// The keyed state of one worker: every operator on it shares one backend. Bytes in, bytes out; typed handles lie above.
pub trait KeyedStateBackend {
    /// Registers a state (idempotent) and says under which table it lives. Must happen before the first record.
    fn register(&mut self, description: &StateDescription) -> Result<TableId, StateError>;
    fn get(&self, table: TableId, group: u16, key: &[u8]) -> Result<Lookup<'_>, StateError>;
    fn multi_get(&self, table: TableId, keys: &[(u16, &[u8])], answer: &mut dyn FnMut(usize, Lookup<'_>)) -> Result<(), StateError>;
    fn put(&mut self, table: TableId, group: u16, key: &[u8], value: &[u8]) -> Result<(), StateError>;
    fn delete(&mut self, table: TableId, group: u16, key: &[u8]) -> Result<(), StateError>;
    /// See `aquifer_store::Store::scan`.
    fn scan(&self, table: TableId, group: u16, prefix: &[u8], from: &[u8], until: Option<&[u8]>, rows_max: usize) -> Result<ScanLookup, StateError>;
    fn fetch(&self, reads: Vec<ColdRead>) -> BoxFuture<'static, Result<Vec<Option<Bytes>>, StateError>>;
    fn fetch_scan(&self, scan: ColdScan) -> BoxFuture<'static, Result<ScanRows, StateError>>;
    /// See `aquifer_store::Store::installs`.
    fn installs(&self) -> u64;
    /// The barrier has passed the operator that owns this table.
    fn freeze(&mut self, table: TableId) -> Result<(), StateError>;
    /// Every table is frozen: make the snapshot durable in the background.
    fn snapshot(&mut self, checkpoint_id: u64) -> Result<(), StateError>;
    /// Drives background work; returns a finished snapshot.
    fn poll(&mut self) -> Result<Option<(u64, KeyedSnapshot)>, StateError>;
    /// The tables registered so far, to be written to the checkpoint's metadata.
    fn tables(&self) -> Vec<(StateDescription, TableId)>;
    fn stats(&self) -> BackendStats;
}

/// How operators of one worker share the backend.
pub type SharedBackend = Rc<RefCell<dyn KeyedStateBackend>>;

/// `state.backend.type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackendKind {
    Hashmap,
    Forst,
}

/// Opens one worker's backend, empty or from (tables, [(snapshot, clip)]) of a checkpoint. Both kinds write and read the same
/// files, so a job may change its backend on resume.
pub fn open_backend(
    _kind: BackendKind,
    _environment: aquifer_store::Environment,
    _options: aquifer_store::StoreOptions,
    _range: aquifer_store::KeyGroupRange,
    _tables: Vec<(StateDescription, TableId)>,
    _restored: Vec<(KeyedSnapshot, aquifer_store::KeyGroupRange)>,
) -> Result<SharedBackend, StateError> {
    todo!()
}
