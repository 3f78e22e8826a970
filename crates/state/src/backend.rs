//! What a state backend does: the keyed state of one worker, as bytes.
//!
//! Every operator of a worker shares one backend; typed handles lie above it (`crate::state`). A read answers at once when memory can
//! (`Lookup::Found` or `Absent`), and otherwise hands out the rest of the read (`Lookup::Cold`), which `fetch` finishes elsewhere.
//! A backend is used from its worker's thread only.

use std::cell::RefCell;
use std::rc::Rc;

use aquifer_store::{ColdRead, ColdScan, Lookup, ScanLookup, ScanRows, TableId, TableOptions};
use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::StateError;

/// One state of one operator, as it is registered with a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateDescription {
    /// Stable identity of the operator across restarts, e.g. `3-group-aggregate`.
    pub operator: String,
    /// Name of the state, unique per operator, e.g. `accState`.
    pub state: String,
    /// Options of the table that holds it.
    pub options: TableOptions,
    /// Describes key and value layout; a restored table with another description is refused with an error that names both.
    pub layout: String,
}

/// One worker's part of a checkpoint's keyed state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyedSnapshot {
    /// The files, and which key groups of each are meant.
    pub files: aquifer_store::Checkpoint,
}

/// What a backend can say about itself.
#[derive(Clone, Debug, Default)]
pub struct BackendStats {
    /// Bytes of state: in memory and, on `forst`, in files.
    pub state_bytes: u64,
    /// Blocks found in the memory cache.
    pub cache_hits: u64,
    /// Blocks that had to be read.
    pub cache_misses: u64,
    /// Reads that memory could not answer.
    pub cold_reads: u64,
    /// Bytes written to the object store.
    pub bytes_uploaded: u64,
    /// Files of the current version (`forst`) or of the last snapshot (`hashmap`).
    pub files: u64,
}

/// The keyed state of one worker: every operator on it shares one backend. Bytes in, bytes out; typed handles lie above.
pub trait KeyedStateBackend {
    /// Registers a state (idempotent) and says under which table it lives. Must happen before the first record, and in the same order
    /// on every worker, because the numbers of tables must agree.
    fn register(&mut self, description: &StateDescription) -> Result<TableId, StateError>;
    /// Reads one key.
    fn get(&self, table: TableId, group: u16, key: &[u8]) -> Result<Lookup<'_>, StateError>;
    /// Reads many keys; `answer(i, lookup)` is called once per key, in any order.
    fn multi_get(
        &self,
        table: TableId,
        keys: &[(u16, &[u8])],
        answer: &mut dyn FnMut(usize, Lookup<'_>),
    ) -> Result<(), StateError>;
    /// Writes one key.
    fn put(
        &mut self,
        table: TableId,
        group: u16,
        key: &[u8],
        value: &[u8],
    ) -> Result<(), StateError>;
    /// Removes one key, whether it is there or not.
    fn delete(&mut self, table: TableId, group: u16, key: &[u8]) -> Result<(), StateError>;
    /// See `aquifer_store::Store::scan`.
    fn scan(
        &self,
        table: TableId,
        group: u16,
        prefix: &[u8],
        from: &[u8],
        until: Option<&[u8]>,
        rows_max: usize,
    ) -> Result<ScanLookup, StateError>;
    /// Finishes cold reads, all in one grouped request; answers come in the order of `reads`.
    fn fetch(
        &self,
        reads: Vec<ColdRead>,
    ) -> BoxFuture<'static, Result<Vec<Option<Bytes>>, StateError>>;
    /// Finishes a cold scan.
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
    /// Figures for the user.
    fn stats(&self) -> BackendStats;
}

/// How operators of one worker share the backend.
pub type SharedBackend = Rc<RefCell<dyn KeyedStateBackend>>;

/// `state.backend.type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackendKind {
    /// Everything on the heap; a snapshot writes all of it.
    Hashmap,
    /// The LSM store on the object store; a snapshot writes what has changed.
    Forst,
}

impl std::str::FromStr for BackendKind {
    type Err = StateError;

    fn from_str(name: &str) -> Result<Self, StateError> {
        match name {
            "hashmap" => Ok(Self::Hashmap),
            "forst" => Ok(Self::Forst),
            other => Err(StateError::Usage(format!(
                "state.backend.type is `{other}`, expected `hashmap` or `forst`"
            ))),
        }
    }
}

/// Opens one worker's backend, empty or from (tables, [(snapshot, clip)]) of a checkpoint. Both kinds write and read the same
/// files, so a job may change its backend on resume.
///
/// `forst` reads nothing here. `hashmap` reads all rows of its range, which blocks until they are loaded. Either way `env.runtime` must
/// have worker threads of its own, because this thread waits for it.
pub fn open_backend(
    kind: BackendKind,
    environment: aquifer_store::Environment,
    options: aquifer_store::StoreOptions,
    range: aquifer_store::KeyGroupRange,
    tables: Vec<(StateDescription, TableId)>,
    restored: Vec<(KeyedSnapshot, aquifer_store::KeyGroupRange)>,
) -> Result<SharedBackend, StateError> {
    let registry = crate::registry::TableRegistry::new(tables)?;
    let restored = restored
        .into_iter()
        .map(|(snapshot, clip)| (snapshot.files, clip))
        .collect();
    Ok(match kind {
        BackendKind::Forst => Rc::new(RefCell::new(crate::forst::ForstBackend::open(
            environment,
            options,
            range,
            registry,
            restored,
        )?)),
        BackendKind::Hashmap => Rc::new(RefCell::new(crate::heap::HeapBackend::open(
            environment,
            options,
            range,
            registry,
            restored,
        )?)),
    })
}

/// Reads and writes outside the worker's key groups are mistakes of routing: another worker owns that state.
pub(crate) fn check_group(
    range: aquifer_store::KeyGroupRange,
    group: u16,
) -> Result<(), StateError> {
    if group < range.start || group > range.end {
        return Err(StateError::Usage(format!(
            "key group {group} does not belong to this worker, which owns {}..={}",
            range.start, range.end
        )));
    }
    Ok(())
}
