//! Opening the backend of one worker.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use aquifer_store::{Environment, KeyGroupRange, StoreOptions, TableId};

use super::{BackendKind, KeyedSnapshot, SharedBackend, SnapshotStorage, StateDescription};
use crate::StateError;
use crate::forst::ForstBackend;
use crate::heap::HeapBackend;
use crate::registry::TableRegistry;
pub use crate::rocksdb::RocksdbOptions;

/// All that a backend needs.
pub struct BackendSetup {
    /// Which one.
    pub kind: BackendKind,
    /// Where snapshots go.
    pub storage: SnapshotStorage,
    /// The store's surroundings: object store, names of files, clock, runtime.
    pub environment: Environment,
    /// Options of the store: of `forst`, and of the files that the others write.
    pub store: StoreOptions,
    /// Options of `rocksdb`.
    pub rocksdb: RocksdbOptions,
    /// The worker's key groups.
    pub range: KeyGroupRange,
    /// Key groups of the job.
    pub max_parallelism: u16,
    /// The tables of the checkpoint.
    pub tables: Vec<(StateDescription, TableId)>,
    /// Its parts, each with the key groups that are wanted of it.
    pub restored: Vec<(KeyedSnapshot, KeyGroupRange)>,
}

impl BackendSetup {
    /// An empty backend of this kind, with snapshots in files.
    pub fn new(
        kind: BackendKind,
        environment: Environment,
        store: StoreOptions,
        range: KeyGroupRange,
        max_parallelism: u16,
    ) -> Self {
        Self {
            kind,
            storage: SnapshotStorage::default(),
            environment,
            store,
            rocksdb: RocksdbOptions::default(),
            range,
            max_parallelism,
            tables: Vec::new(),
            restored: Vec::new(),
        }
    }
}

/// Opens one worker's backend, empty or from the tables and parts of a checkpoint. All kinds write and read the same files, so a job may
/// change its backend on resume.
///
/// `forst` reads nothing here. The others read all rows of their range, which blocks until they are loaded. Either way
/// `environment.runtime` must have worker threads of its own, because this thread waits for it.
pub fn open(mut setup: BackendSetup) -> Result<SharedBackend, StateError> {
    if setup.environment.temporary_directories.is_empty() {
        // Whatever the backend: the databases of a checkpoint are laid there to be read.
        let directories = setup.rocksdb.local_directories.clone();
        setup.environment.temporary_directories = directories;
    }
    let registry = TableRegistry::new(setup.tables.clone(), Arc::clone(&setup.environment.clock))?;
    Ok(match setup.kind {
        BackendKind::Forst => Rc::new(RefCell::new(ForstBackend::open(setup, registry)?)),
        BackendKind::Hashmap => Rc::new(RefCell::new(HeapBackend::open(setup, registry)?)),
        #[cfg(feature = "rocksdb")]
        BackendKind::Rocksdb => Rc::new(RefCell::new(crate::rocksdb::RocksdbBackend::open(
            setup, registry,
        )?)),
        #[cfg(not(feature = "rocksdb"))]
        BackendKind::Rocksdb => {
            return Err(StateError::Usage(
                "this build has no rocksdb backend: build with --features rocksdb, or set state.backend.type to forst or hashmap"
                    .into(),
            ));
        }
    })
}

/// Like [`open`], with snapshots in files.
pub fn open_backend(
    kind: BackendKind,
    environment: Environment,
    options: StoreOptions,
    range: KeyGroupRange,
    tables: Vec<(StateDescription, TableId)>,
    restored: Vec<(KeyedSnapshot, KeyGroupRange)>,
) -> Result<SharedBackend, StateError> {
    // Nothing in these two backends depends on how many key groups the job has.
    let max_parallelism = range.end.saturating_add(1);
    open(BackendSetup {
        storage: SnapshotStorage::FileSystem {
            inline_bytes_max: 0,
            asynchronous: true,
        },
        tables,
        restored,
        ..BackendSetup::new(kind, environment, options, range, max_parallelism)
    })
}
