//! Checkpoints with states of known types, written without a job.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use aquifer::state::access::StateAccess;
use aquifer::state::checkpoint::{CheckpointKind, CheckpointMetadata, OperatorSnapshot, Origin};
use aquifer::state::key_group::range_of;
use aquifer::state::{
    BackendKind, BackendSetup, KeyedStateStore, ListStateDescriptor, MapStateDescriptor,
    ReducingStateDescriptor, RocksdbOptions, SharedBackend, SnapshotStorage, TtlConfig,
    ValueStateDescriptor, open,
};
use aquifer::store::{BlockCache, Environment, StoreOptions, objects};

const MAX_PARALLELISM: u16 = 16;

/// The backends of this build.
pub const BACKENDS: &[&str] = &[
    "forst",
    "hashmap",
    #[cfg(feature = "rocksdb")]
    "rocksdb",
];

/// A checkpoint.
pub struct Written {
    /// Its directory.
    pub uri: String,
    /// Keys of its states.
    pub users: usize,
    /// Its keyed states lie in databases, which do not say how large each is.
    pub in_databases: bool,
}

/// A worker that writes into a directory.
struct Writer {
    runtime: tokio::runtime::Runtime,
    directory: String,
    kind: BackendKind,
    backend: SharedBackend,
    access: StateAccess,
    rung: std::sync::mpsc::Receiver<()>,
    time_ms: Arc<AtomicI64>,
}

impl Writer {
    fn new(directory: &Path, backend: &str) -> Self {
        let kind = backend.parse().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let directory = directory.join("checkpoints").to_str().unwrap().to_owned();
        let (objects, base) = objects::open(&directory, &Default::default()).unwrap();
        let (ring, rung) = channel();
        let mut environment = Environment::new(
            objects,
            base.join("job").join("run-000001").join("shared"),
            runtime.handle().clone(),
            BlockCache::new(8 << 20),
            "000001-w0",
        );
        environment.waker = Arc::new(move || {
            let _ = ring.send(());
        });
        let time_ms = Arc::new(AtomicI64::new(5));
        let clock = Arc::clone(&time_ms);
        environment.clock = Arc::new(move || clock.load(Ordering::Relaxed));
        let range = range_of(0, MAX_PARALLELISM, 1);
        let options = StoreOptions::default();
        let backend = open(BackendSetup {
            storage: SnapshotStorage::FileSystem {
                inline_bytes_max: 0,
                asynchronous: true,
            },
            // Its own files, not rows.
            rocksdb: RocksdbOptions {
                incremental: true,
                ..RocksdbOptions::default()
            },
            ..BackendSetup::new(kind, environment, options, range, MAX_PARALLELISM)
        });
        let backend = backend.unwrap();
        let handle = runtime.handle().clone();
        let access = StateAccess::new(backend.clone(), handle, range, MAX_PARALLELISM, true);
        Self {
            runtime,
            directory,
            kind,
            backend,
            access,
            rung,
            time_ms,
        }
    }

    /// Writes checkpoint 1 of run 1.
    fn commit(self, users: usize, operators: Vec<OperatorSnapshot>) -> Written {
        let tables = self.backend.borrow().tables();
        for (_, table) in &tables {
            self.backend.borrow_mut().freeze(*table).unwrap();
        }
        self.backend.borrow_mut().snapshot(1).unwrap();
        let snapshot = loop {
            if let Some((_, snapshot)) = self.backend.borrow_mut().poll().unwrap() {
                break snapshot;
            }
            self.rung.recv_timeout(Duration::from_secs(120)).unwrap();
        };
        let metadata = CheckpointMetadata {
            checkpoint_id: 1,
            job_name: "job".into(),
            attempt: 1,
            created_unix_ms: 5,
            parallelism: 1,
            max_parallelism: MAX_PARALLELISM,
            plan: String::new(),
            finished: false,
            kind: CheckpointKind::Checkpoint,
            backend: self.kind,
            tables,
            keyed: vec![(range_of(0, MAX_PARALLELISM, 1), snapshot)],
            operators,
            origin: Origin::default(),
        };
        let uri = format!("{}/job/run-000001/chk-000001", self.directory);
        std::fs::create_dir_all(&uri).unwrap();
        std::fs::write(format!("{uri}/_metadata"), metadata.encode()).unwrap();
        drop(self.access);
        drop(self.backend);
        drop(self.runtime);
        let in_databases = self.kind == BackendKind::Rocksdb;
        Written {
            uri,
            users,
            in_databases,
        }
    }
}

/// Five keyed states of two operators, and the elements of a source.
pub fn written(directory: &Path, backend: &str) -> Written {
    const USERS: usize = 120;
    let writer = Writer::new(directory, backend);
    let store: KeyedStateStore<(String, i32)> =
        KeyedStateStore::new(writer.access.clone(), "2-users");
    let counts = store
        .value_state(&ValueStateDescriptor::<u64>::new("counts"))
        .unwrap();
    let clicks = store
        .list_state(&ListStateDescriptor::<String>::new("clicks"))
        .unwrap();
    let ttl = TtlConfig::new(Duration::from_secs(1)).disable_cleanup_in_background();
    let pages = store
        .map_state(&MapStateDescriptor::<String, Option<i64>>::new("pages").ttl(ttl))
        .unwrap();
    let timers = store.timer_service("t").unwrap();
    for n in 0..USERS {
        let key = (format!("user-{n}"), -(n as i32));
        store.set_current_key(&key);
        counts.put(u64::MAX - n as u64).unwrap();
        clicks.add(&format!("a-{n}")).unwrap();
        clicks.add(&format!("b-{n}")).unwrap();
        for page in 0..3i64 {
            let value = (page > 0).then_some(page);
            pages.put(&format!("page-{page}"), &value).unwrap();
        }
        let (group, key) = store
            .current_key()
            .with(|group, key| (group, key.to_vec()))
            .unwrap();
        timers.register(n as i64, group, &key, b"").unwrap();
    }
    let store: KeyedStateStore<i64> = KeyedStateStore::new(writer.access.clone(), "3-sums");
    let sums = store
        .reducing_state(
            &ReducingStateDescriptor::<i64, _>::new("counts", |a: i64, b: i64| a + b)
                .namespace::<i32>(),
        )
        .unwrap();
    for key in [-1i64, 1] {
        store.set_current_key(&key);
        for namespace in [-7, 7] {
            sums.set_namespace(&namespace);
            writer.access.run(sums.add(70)).unwrap();
        }
    }
    writer.time_ms.store(6, Ordering::Relaxed);
    let source = OperatorSnapshot {
        operator: "source".into(),
        elements: vec![vec![7, 8], vec![]],
        ..OperatorSnapshot::default()
    };
    writer.commit(USERS, vec![source])
}

/// One state of so many bytes, a kilobyte each.
pub fn large(directory: &Path, bytes: u64) -> Written {
    let writer = Writer::new(directory, "forst");
    let store: KeyedStateStore<u64> = KeyedStateStore::new(writer.access.clone(), "1-large");
    let counts = store
        .value_state(&ValueStateDescriptor::<(u64, String)>::new("counts"))
        .unwrap();
    let users = bytes / 1024;
    let mut random = crate::support::Seeded(3);
    for n in 0..users {
        store.set_current_key(&n);
        // Nothing that compression makes small.
        let text: String = (0..64)
            .map(|_| format!("{:016x}", random.below(u64::MAX)))
            .collect();
        counts.put((n, text)).unwrap();
    }
    writer.commit(users as usize, vec![])
}
