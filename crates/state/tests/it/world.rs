//! What the tests run in: an object store that outlives workers, and workers that live on it.
use std::cell::Cell;
use std::future::Future;
use std::hash::Hash;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use aquifer_state::access::StateAccess;
use aquifer_state::checkpoint::{CheckpointKind, CheckpointMetadata, Origin};
use aquifer_state::key_group::{KeyHash, range_of};
use aquifer_state::ordered::OrderedKey;
use aquifer_state::{
    BackendKind, BackendSetup, KeyedSnapshot, KeyedStateStore, MapState, MemoryBudget,
    RocksdbOptions, RocksdbShared, SharedBackend, SnapshotStorage, StateDescription, StateError,
    StateValue, TimerService, ValueState, open,
};
use aquifer_store::{BlockCache, Environment, IoOptions, KeyGroupRange, StoreOptions, TableId};
use aquifer_testkit::FaultyObjects;
use futures_util::StreamExt;
use object_store::memory::InMemory;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cases::Case;

pub const MAX_PARALLELISM: u16 = 16;
/// How often a test rests for what runs in the background before it gives up: some minutes at least.
const RESTS_MAX: u32 = 100_000;

/// Where databases lie: in memory, if there is such a directory with room for the tests that run at the same time, for nothing here has to
/// outlive a crash. In containers it often has 64 MiB.
pub fn local_directory() -> PathBuf {
    const FREE_BYTES_MIN: u64 = 1 << 30;
    let memory = Path::new("/dev/shm");
    let free_bytes = rustix::fs::statvfs(memory)
        .map_or(0, |space| space.f_bavail.saturating_mul(space.f_frsize));
    match free_bytes >= FREE_BYTES_MIN {
        true => memory.to_owned(),
        false => std::env::temp_dir(),
    }
}

/// A place where jobs run: files stay, workers come and go.
pub struct World {
    pub kind: Cell<BackendKind>,
    /// Where snapshots go.
    pub storage: Cell<SnapshotStorage>,
    /// Whether its workers go through the asynchronous API.
    pub asynchronous: Cell<bool>,
    pub objects: FaultyObjects,
    pub runtime: tokio::runtime::Runtime,
    pub options: StoreOptions,
    pub rocksdb: RocksdbOptions,
    pub cache_bytes: u64,
    /// What every clock says.
    pub time_ms: Arc<AtomicI64>,
    attempts: AtomicU64,
}

/// What a checkpoint keeps.
#[derive(Clone, Debug, Default)]
pub struct Saved {
    pub tables: Vec<(StateDescription, TableId)>,
    pub keyed: Vec<(KeyGroupRange, KeyedSnapshot)>,
}

impl World {
    /// Snapshots go into files.
    pub fn new(kind: BackendKind, asynchronous: bool) -> Self {
        Self::of(Case::files(kind, 0, true), asynchronous)
    }

    pub fn of(case: Case, asynchronous: bool) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_time()
            .build()
            .unwrap();
        Self {
            kind: Cell::new(case.kind),
            storage: Cell::new(case.storage),
            asynchronous: Cell::new(asynchronous),
            objects: FaultyObjects::new(Arc::new(InMemory::new())),
            runtime,
            options: StoreOptions {
                block_bytes: 256,
                memtable_bytes_max: 16 << 10,
                l0_files_max: 3,
                file_bytes_target: 8 << 10,
                filter_bits_per_key: 10,
                // A gate may hold requests back, and a busy machine a thread, for long; a repeated request would be counted.
                io: IoOptions {
                    request_timeout: Duration::from_secs(3600),
                    ..IoOptions::default()
                },
                ..StoreOptions::default()
            },
            rocksdb: RocksdbOptions {
                incremental: case.incremental,
                local_directories: vec![local_directory()],
                shared: RocksdbShared::new(Some(MemoryBudget {
                    cache_bytes: 64 << 10,
                    write_buffer_bytes: 16 << 20,
                })),
                write_buffer_bytes: 64 << 10,
                block_bytes: 256,
                file_bytes_target: 16 << 10,
                level_bytes_base: 64 << 10,
                ..RocksdbOptions::default()
            },
            cache_bytes: 64 << 10,
            time_ms: Arc::default(),
            attempts: AtomicU64::new(0),
        }
    }

    /// Another one, in the same case.
    pub fn like(world: &Self) -> Self {
        let case = Case {
            kind: world.kind.get(),
            storage: world.storage.get(),
            incremental: world.rocksdb.incremental,
        };
        Self::of(case, world.asynchronous.get())
    }

    /// Waits until what runs in the background has brought something about.
    pub fn until(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        let bell = Bell::default();
        for _ in 0..RESTS_MAX {
            if is_so() {
                return;
            }
            bell.rest();
        }
        panic!("{what}: not so after minutes, {}", self.name());
    }

    pub fn hashmap(asynchronous: bool) -> Self {
        Self::new(BackendKind::Hashmap, asynchronous)
    }

    pub fn forst(asynchronous: bool) -> Self {
        Self::new(BackendKind::Forst, asynchronous)
    }

    /// For messages.
    pub fn name(&self) -> String {
        let api = if self.asynchronous.get() { "v2" } else { "v1" };
        format!("{:?}, {:?}, {api}", self.kind.get(), self.storage.get())
    }

    /// Sets every clock.
    pub fn at(&self, time_ms: i64) {
        self.time_ms.store(time_ms, Ordering::Relaxed);
    }

    /// One worker that owns every key group.
    pub fn worker(&self) -> Worker {
        self.restore(&Saved::default())
    }

    /// The same, or why there is none.
    pub fn try_worker(&self) -> Result<Worker, StateError> {
        self.open(
            0,
            0,
            KeyGroupRange {
                start: 0,
                end: MAX_PARALLELISM - 1,
            },
            &Saved::default(),
        )
    }

    /// The same from a checkpoint.
    pub fn restore(&self, saved: &Saved) -> Worker {
        self.workers(1, saved).pop().unwrap()
    }

    /// The same, which may not work.
    #[cfg(feature = "rocksdb")]
    pub fn try_restore(&self, saved: &Saved) -> Result<Worker, StateError> {
        let saved = self.written_and_read(saved);
        let attempt = self.attempts.fetch_add(1, Ordering::Relaxed);
        self.open(attempt, 0, range_of(0, MAX_PARALLELISM, 1), &saved)
    }

    /// As many workers, each with its key groups, from a checkpoint that was written and read. Their caches are empty.
    pub fn workers(&self, parallelism: u16, saved: &Saved) -> Vec<Worker> {
        let saved = &self.written_and_read(saved);
        let attempt = self.attempts.fetch_add(1, Ordering::Relaxed);
        (0..parallelism)
            .map(|index| {
                self.open(
                    attempt,
                    index,
                    range_of(index, MAX_PARALLELISM, parallelism),
                    saved,
                )
                .unwrap()
            })
            .collect()
    }

    /// What the bytes of `_metadata` say of a checkpoint.
    fn written_and_read(&self, saved: &Saved) -> Saved {
        let metadata = CheckpointMetadata {
            checkpoint_id: 1,
            job_name: "job".into(),
            attempt: 1,
            created_unix_ms: 0,
            parallelism: 1,
            max_parallelism: MAX_PARALLELISM,
            plan: String::new(),
            finished: false,
            kind: CheckpointKind::Checkpoint,
            backend: self.kind.get(),
            tables: saved.tables.clone(),
            keyed: saved.keyed.clone(),
            operators: Vec::new(),
            origin: Origin::default(),
        };
        let read = CheckpointMetadata::decode(&metadata.encode()).unwrap();
        assert_eq!(read, metadata);
        Saved {
            tables: read.tables,
            keyed: read.keyed,
        }
    }

    fn open(
        &self,
        attempt: u64,
        index: u16,
        range: KeyGroupRange,
        saved: &Saved,
    ) -> Result<Worker, StateError> {
        let bell = Arc::new(Bell::default());
        let ring = Arc::clone(&bell);
        let mut environment = Environment::new(
            Arc::new(self.objects.clone()),
            "job/shared".into(),
            self.runtime.handle().clone(),
            BlockCache::new(self.cache_bytes),
            format!("{attempt:06}-w{index}"),
        );
        environment.waker = Arc::new(move || ring.ring());
        let time_ms = Arc::clone(&self.time_ms);
        environment.clock = Arc::new(move || time_ms.load(Ordering::Relaxed));
        let restored = saved
            .keyed
            .iter()
            .filter_map(|(part, snapshot)| {
                let (start, end) = (part.start.max(range.start), part.end.min(range.end));
                (start <= end).then(|| (snapshot.clone(), KeyGroupRange { start, end }))
            })
            .collect();
        let kind = self.kind.get();
        let options = self.options.clone();
        let backend = open(BackendSetup {
            storage: self.storage.get(),
            rocksdb: self.rocksdb.clone(),
            tables: saved.tables.clone(),
            restored,
            ..BackendSetup::new(kind, environment, options, range, MAX_PARALLELISM)
        })?;
        let access = StateAccess::new(
            backend.clone(),
            self.runtime.handle().clone(),
            range,
            MAX_PARALLELISM,
            self.asynchronous.get(),
        );
        Ok(Worker {
            backend,
            access,
            range,
            bell,
            asynchronous: Rc::new(Cell::new(self.asynchronous.get())),
        })
    }
}

/// Remembers that it was rung.
#[derive(Default)]
struct Bell {
    rung: Mutex<bool>,
    condvar: Condvar,
}

impl Bell {
    fn ring(&self) {
        *self.rung.lock().unwrap() = true;
        self.condvar.notify_all();
    }

    /// Waits until it is rung, but not for long.
    fn rest(&self) {
        let rung = self.rung.lock().unwrap();
        let rested = self.condvar.wait_timeout(rung, Duration::from_millis(2));
        drop(rested.unwrap());
    }

    fn wait(&self) {
        let rung = self.rung.lock().unwrap();
        let (mut rung, timeout) = self
            .condvar
            .wait_timeout_while(rung, Duration::from_secs(300), |rung| !*rung)
            .unwrap();
        assert!(
            !timeout.timed_out(),
            "the backend did not call its waker for five minutes"
        );
        *rung = false;
    }
}

/// One worker's state.
#[derive(Clone)]
pub struct Worker {
    pub backend: SharedBackend,
    pub access: StateAccess,
    pub range: KeyGroupRange,
    bell: Arc<Bell>,
    asynchronous: Rc<Cell<bool>>,
}

impl Worker {
    pub fn store<K: OrderedKey + KeyHash + 'static>(&self, operator: &str) -> KeyedStateStore<K> {
        KeyedStateStore::new(self.access.clone(), operator)
    }

    /// Freezes every table and makes a snapshot.
    pub fn checkpoint(&self, id: u64) -> Saved {
        self.begin(id);
        self.finish(id)
    }

    /// Freezes every table and begins a snapshot.
    pub fn begin(&self, id: u64) {
        let tables = self.backend.borrow().tables();
        for (_, table) in tables {
            self.backend.borrow_mut().freeze(table).unwrap();
        }
        self.backend.borrow_mut().snapshot(id).unwrap();
    }

    /// Waits for the snapshot under way.
    pub fn finish(&self, id: u64) -> Saved {
        self.finished(id).unwrap()
    }

    /// Waits for the snapshot under way, which may fail.
    pub fn finished(&self, id: u64) -> Result<Saved, StateError> {
        loop {
            let polled = self.backend.borrow_mut().poll()?;
            if let Some((done, snapshot)) = polled {
                assert_eq!(done, id);
                let tables = self.backend.borrow().tables();
                return Ok(Saved {
                    tables,
                    keyed: vec![(self.range, snapshot)],
                });
            }
            self.bell.wait();
        }
    }

    /// Lets background work go on for a moment.
    pub fn rest(&self) {
        self.bell.rest();
    }

    /// Whether tests of this worker go through the asynchronous API.
    pub fn is_v2(&self) -> bool {
        self.asynchronous.get()
    }

    /// From now on tests of this worker go through this API. A worker of the synchronous API blocks in either.
    pub fn use_api(&self, asynchronous: bool) {
        self.asynchronous.set(asynchronous);
    }

    /// The rows of a state of operator `op` as the backend has them, in all key groups.
    pub fn rows(&self, state: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
        let tables = self.backend.borrow().tables();
        let found = tables.iter().find(|(known, _)| known.state == state);
        let (_, table) = found.expect("the state is registered");
        let mut rows = Vec::new();
        for group in self.range.start..=self.range.end {
            let scanned = self
                .access
                .scan_blocking(*table, group, &[], &[], None, usize::MAX);
            let scanned = scanned.unwrap().rows.into_iter();
            rows.extend(scanned.map(|(key, value)| (key.to_vec(), value.to_vec())));
        }
        rows
    }

    /// Waits until no flush and no compaction runs or is due.
    pub fn quiet(&self) {
        for _ in 0..RESTS_MAX {
            let mut backend = self.backend.borrow_mut();
            assert!(
                backend.poll().unwrap().is_none(),
                "no snapshot is under way"
            );
            if backend.stats().background_tasks == 0 {
                return;
            }
            drop(backend);
            self.bell.rest();
        }
        panic!("background work does not come to its end");
    }

    /// Takes checkpoints until background work has nothing left to do: what a test counts must not depend on how far it has come.
    pub fn settled(&self, first_id: u64) -> Saved {
        let paths = |saved: &Saved| -> Vec<String> {
            let files = saved.keyed.iter().flat_map(|(_, part)| &part.files.files);
            files.map(|file| file.path.clone()).collect()
        };
        let mut last = self.checkpoint(first_id);
        for id in first_id + 1..first_id + 500 {
            self.quiet();
            let next = self.checkpoint(id);
            let rested = paths(&next) == paths(&last);
            last = next;
            if rested && self.backend.borrow().stats().background_tasks == 0 {
                break;
            }
        }
        last
    }

    pub fn owns<K: KeyHash>(&self, key: &K) -> bool {
        let group = aquifer_state::key_group::assign_to_key_group(key.hash_code(), MAX_PARALLELISM);
        self.range.start <= group && group <= self.range.end
    }

    /// Runs a future on this worker.
    pub fn run<F: Future>(&self, future: F) -> F::Output {
        self.access.run(future)
    }

    // The two APIs under one name, so that each test is written once.

    pub fn value<V>(&self, state: &ValueState<V>) -> Option<V>
    where
        V: StateValue + Serialize + DeserializeOwned,
    {
        if self.asynchronous.get() {
            self.run(state.get())
        } else {
            state.value()
        }
        .unwrap()
    }

    pub fn map_get<UK, UV>(&self, state: &MapState<UK, UV>, user_key: &UK) -> Option<UV>
    where
        UK: OrderedKey + 'static,
        UV: StateValue + Serialize + DeserializeOwned,
    {
        if self.asynchronous.get() {
            self.run(state.get(user_key))
        } else {
            state.sync().get(user_key)
        }
        .unwrap()
    }

    pub fn map_contains<UK, UV>(&self, state: &MapState<UK, UV>, user_key: &UK) -> bool
    where
        UK: OrderedKey + 'static,
        UV: StateValue + Serialize + DeserializeOwned,
    {
        if self.asynchronous.get() {
            self.run(state.contains(user_key))
        } else {
            state.sync().contains(user_key)
        }
        .unwrap()
    }

    pub fn map_entries<UK, UV>(&self, state: &MapState<UK, UV>) -> Vec<(UK, UV)>
    where
        UK: OrderedKey + 'static,
        UV: StateValue + Serialize + DeserializeOwned,
    {
        if self.asynchronous.get() {
            self.collect(state.entries())
        } else {
            state.sync().entries().collect::<Result<_, _>>().unwrap()
        }
    }

    pub fn map_is_empty<UK, UV>(&self, state: &MapState<UK, UV>) -> bool
    where
        UK: OrderedKey + 'static,
        UV: StateValue + Serialize + DeserializeOwned,
    {
        if self.asynchronous.get() {
            self.run(state.is_empty())
        } else {
            state.sync().is_empty()
        }
        .unwrap()
    }

    pub fn map_clear<UK, UV>(&self, state: &MapState<UK, UV>)
    where
        UK: OrderedKey + 'static,
        UV: StateValue + Serialize + DeserializeOwned,
    {
        if self.asynchronous.get() {
            state.clear()
        } else {
            state.sync().clear()
        }
        .unwrap();
    }

    pub fn collect<T>(&self, stream: aquifer_state::StateStream<T>) -> Vec<T> {
        self.run(stream.map(Result::unwrap).collect::<Vec<T>>())
    }

    /// Fires everything up to the watermark; returns (timestamp, key bytes, namespace) in the order of firing.
    pub fn fire(&self, timers: &TimerService, watermark: i64) -> Vec<(i64, Vec<u8>, Vec<u8>)> {
        let mut fired = Vec::new();
        while let Some(piece) = self.run(timers.next_due(watermark)).unwrap() {
            assert!(!piece.is_empty());
            fired.extend(
                piece
                    .into_iter()
                    .map(|t| (t.timestamp, t.key.to_vec(), t.namespace.to_vec())),
            );
        }
        fired
    }
}

/// The parts of all workers of one checkpoint.
pub fn checkpoint_all(workers: &[Worker], id: u64) -> Saved {
    let mut saved = Saved::default();
    for worker in workers {
        let part = worker.checkpoint(id);
        if saved.tables.is_empty() {
            saved.tables = part.tables.clone();
        }
        assert_eq!(
            saved.tables, part.tables,
            "workers must number tables alike"
        );
        saved.keyed.extend(part.keyed);
    }
    saved
}

/// The worker that owns a key.
pub fn owner<'a, K: KeyHash + Hash>(workers: &'a [Worker], key: &K) -> &'a Worker {
    workers.iter().find(|worker| worker.owns(key)).unwrap()
}
