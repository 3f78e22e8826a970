//! A worker of each backend, as a job of one worker has it: files in a local directory, synced before they count, and as much memory as the
//! state needs, because what is measured is hot state.
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use aquifer_state::access::StateAccess;
use aquifer_state::{
    BackendKind, BackendSetup, KeyedStateStore, MemoryBudget, RocksdbShared, SharedBackend,
    SnapshotStorage,
};
use aquifer_store::{BlockCache, Environment, KeyGroupRange, StoreOptions};

use crate::engine::Result;
use crate::engine::aquifer::{Place, background, runtime};
use crate::measure::{pause, wait_until_quiet};

/// Flink's default for a job of one worker.
const MAX_PARALLELISM: u16 = 128;
/// Memory for blocks: more than any state here has.
const CACHE_BYTES: u64 = 6 << 30;
/// Storage `jobmanager` is for small state: with more keys it is left out.
const JOBMANAGER_KEYS_MAX: u64 = 10_000;
/// Its limit: lists of so many keys are 12 MB, more than the default.
const JOBMANAGER_BYTES_MAX: u64 = 64 << 20;
/// How long a snapshot may take.
const SNAPSHOT_SECONDS_MAX: u64 = 600;

/// A backend, with where its snapshots go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// `hashmap` with storage `jobmanager`: a snapshot is kept in the metadata, and so has a limit.
    Jobmanager,
    /// `hashmap` with storage `filesystem`.
    Hashmap,
    Forst,
    Rocksdb,
}

impl Backend {
    pub fn name(self) -> &'static str {
        match self {
            Self::Jobmanager => "jobmanager",
            Self::Hashmap => "hashmap",
            Self::Forst => "forst",
            Self::Rocksdb => "rocksdb",
        }
    }

    /// Whether it takes a state of each kind with so many keys.
    pub fn takes(self, keys: u64) -> bool {
        self != Self::Jobmanager || keys <= JOBMANAGER_KEYS_MAX
    }

    fn kind(self) -> BackendKind {
        match self {
            Self::Jobmanager | Self::Hashmap => BackendKind::Hashmap,
            Self::Forst => BackendKind::Forst,
            Self::Rocksdb => BackendKind::Rocksdb,
        }
    }

    fn storage(self) -> SnapshotStorage {
        match self {
            Self::Jobmanager => SnapshotStorage::JobManager {
                state_bytes_max: JOBMANAGER_BYTES_MAX,
                total_bytes_max: JOBMANAGER_BYTES_MAX,
                asynchronous: true,
            },
            _ => SnapshotStorage::FileSystem {
                inline_bytes_max: 0,
                asynchronous: true,
            },
        }
    }
}

/// The backends of this build.
pub fn all() -> Vec<Backend> {
    vec![
        Backend::Jobmanager,
        Backend::Hashmap,
        Backend::Forst,
        #[cfg(feature = "rocksdb")]
        Backend::Rocksdb,
    ]
}

/// The state of one worker.
pub struct Worker {
    pub kind: Backend,
    pub access: StateAccess,
    backend: SharedBackend,
    woken: Receiver<()>,
    snapshots: u64,
    directory: PathBuf,
}

impl Worker {
    /// An empty one; what was in the directory goes.
    pub fn open(kind: Backend, directory: &Path) -> Result<Self> {
        let directory = directory.join(kind.name());
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::create_dir_all(directory.join("files"))?;
        let runtime = runtime()?;
        let place = Place::local(&directory.join("files"))?;
        let (wake, woken) = channel();
        let mut environment = Environment::new(
            place.objects,
            "shared".into(),
            runtime.handle().clone(),
            BlockCache::new(CACHE_BYTES),
            "000001-w0",
        );
        environment.waker = Arc::new(move || {
            let _ = wake.send(());
        });
        environment.local_root = place.local_root;
        environment.executor = background(&runtime);
        let range = KeyGroupRange {
            start: 0,
            end: MAX_PARALLELISM - 1,
        };
        let mut setup = BackendSetup::new(
            kind.kind(),
            environment,
            StoreOptions::default(),
            range,
            MAX_PARALLELISM,
        );
        setup.storage = kind.storage();
        setup.rocksdb.local_directories = vec![directory.join("local")];
        setup.rocksdb.incremental = true;
        // As in the other sections; Flink has them off by default.
        setup.rocksdb.bloom_bits_per_key = Some(10.0);
        setup.rocksdb.shared = RocksdbShared::new(Some(MemoryBudget::new(CACHE_BYTES, 0.5)));
        let backend = aquifer_state::open(setup)?;
        let access = StateAccess::new(
            backend.clone(),
            runtime.handle().clone(),
            range,
            MAX_PARALLELISM,
            true,
        );
        Ok(Self {
            kind,
            access,
            backend,
            woken,
            snapshots: 0,
            directory,
        })
    }

    /// The states of the one operator.
    pub fn states(&self) -> KeyedStateStore<i64> {
        KeyedStateStore::new(self.access.clone(), "1-bench")
    }

    /// What an operator does between batches. True if a snapshot became complete.
    pub fn poll(&self) -> Result<bool> {
        Ok(self.backend.borrow_mut().poll()?.is_some())
    }

    /// What an operator does at a barrier, and all that holds it up.
    pub fn begin_snapshot(&mut self) -> Result<u64> {
        self.snapshots += 1;
        let tables = self.backend.borrow().tables();
        let mut backend = self.backend.borrow_mut();
        for (_, table) in tables {
            backend.freeze(table)?;
        }
        backend.snapshot(self.snapshots)?;
        Ok(self.snapshots)
    }

    /// What the coordinator says when all workers have handed in their parts.
    pub fn complete_snapshot(&mut self, id: u64) -> Result<()> {
        Ok(self.backend.borrow_mut().checkpoint_ended(id, true)?)
    }

    /// Takes a snapshot, and waits until nothing is left to do in the background.
    pub fn settle(&mut self) -> Result<()> {
        let id = self.begin_snapshot()?;
        while !self.poll()? {
            self.woken
                .recv_timeout(Duration::from_secs(SNAPSHOT_SECONDS_MAX))
                .map_err(|_| format!("a snapshot of {} did not end", self.kind.name()))?;
        }
        self.complete_snapshot(id)?;
        let mut before = None;
        loop {
            wait_until_quiet();
            self.poll()?;
            let stats = self.backend.borrow().stats();
            let now = Some((stats.files, stats.bytes_uploaded));
            if now == before {
                return Ok(());
            }
            before = now;
            pause(Duration::from_millis(20));
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}
