//! Checkpoints to query: workers of a job write state into memory, and a reader opens what they wrote.

use std::sync::Arc;
use std::sync::mpsc::channel;

use aquifer_state::access::StateAccess;
use aquifer_state::checkpoint::{
    CheckpointKind, CheckpointMetadata, CheckpointStorage, ForeignCheckpoint, OperatorSnapshot,
    Origin, SavepointFormat, SavepointLocation, SavepointSource, write_savepoint,
};
use aquifer_state::key_group::{KeyHash, assign_to_key_group, range_of};
use aquifer_state::reader::StateReader;
use aquifer_state::{BackendKind, BackendSetup, SnapshotStorage};
use aquifer_state_sql::output::{Format, RowWriter};
use aquifer_state_sql::{SqlError, StateQuery, StateSql, StateSqlOptions};
use aquifer_store::{BlockCache, Environment, StoreOptions};
use aquifer_testkit::FaultyObjects;
use futures_util::{StreamExt, TryStreamExt};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use tokio::runtime::Runtime;

pub const MAX_PARALLELISM: u16 = 16;
/// What every clock says.
pub const NOW_MS: i64 = 1_000_000;

/// The backends of this build.
pub const KINDS: &[BackendKind] = &[
    BackendKind::Hashmap,
    BackendKind::Forst,
    #[cfg(feature = "rocksdb")]
    BackendKind::Rocksdb,
];

/// A checkpoint.
pub struct World {
    pub runtime: Runtime,
    pub objects: FaultyObjects,
    metadata: CheckpointMetadata,
    /// Of databases.
    _local: tempfile::TempDir,
}

/// One worker that fills its part of the state.
pub struct Worker {
    pub access: StateAccess,
}

impl Worker {
    /// Whether a key is this worker's.
    pub fn owns<K: KeyHash>(&self, key: &K) -> bool {
        let group = assign_to_key_group(key.hash_code(), MAX_PARALLELISM);
        self.access.key_groups().contains(group)
    }
}

impl World {
    /// A checkpoint of a job with this many workers, which `fill` their state.
    pub fn new(kind: BackendKind, parallelism: u16, fill: impl Fn(&Worker)) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let objects = FaultyObjects::new(Arc::new(InMemory::new()));
        let local = tempfile::tempdir().unwrap();
        let mut metadata = CheckpointMetadata {
            checkpoint_id: 1,
            job_name: "job".into(),
            attempt: 1,
            created_unix_ms: 0,
            parallelism,
            max_parallelism: MAX_PARALLELISM,
            plan: String::new(),
            finished: false,
            kind: CheckpointKind::Checkpoint,
            backend: kind,
            tables: Vec::new(),
            keyed: Vec::new(),
            operators: Vec::new(),
            origin: Origin::default(),
        };
        for index in 0..parallelism {
            let range = range_of(index, MAX_PARALLELISM, parallelism);
            let mut environment = environment(&runtime, &objects, format!("000001-w{index}"));
            let (wake, woken) = channel();
            environment.waker = Arc::new(move || {
                let _ = wake.send(());
            });
            let options = StoreOptions {
                block_bytes: 4096,
                ..StoreOptions::default()
            };
            let mut setup = BackendSetup::new(kind, environment, options, range, MAX_PARALLELISM);
            setup.storage = SnapshotStorage::FileSystem {
                inline_bytes_max: 0,
                asynchronous: true,
            };
            // Its own files, not rows.
            setup.rocksdb.incremental = true;
            setup.rocksdb.local_directories = vec![local.path().to_owned()];
            let backend = aquifer_state::open(setup).unwrap();
            let handle = runtime.handle().clone();
            let access = StateAccess::new(backend.clone(), handle, range, MAX_PARALLELISM, false);
            fill(&Worker { access });
            let tables = backend.borrow().tables();
            for (_, table) in &tables {
                backend.borrow_mut().freeze(*table).unwrap();
            }
            backend.borrow_mut().snapshot(1).unwrap();
            let snapshot = loop {
                if let Some((_, snapshot)) = backend.borrow_mut().poll().unwrap() {
                    break snapshot;
                }
                woken.recv().unwrap();
            };
            metadata.tables = tables;
            metadata.keyed.push((range, snapshot));
        }
        Self {
            runtime,
            objects,
            metadata,
            _local: local,
        }
    }

    /// The same with what an operator keeps beside keyed state.
    pub fn with_operator(mut self, operator: OperatorSnapshot) -> Self {
        self.metadata.operators.push(operator);
        self
    }

    /// A savepoint of the checkpoint, in the same store.
    pub fn into_savepoint(self, format: SavepointFormat) -> Self {
        const ROOT: &str = "memory://tests";
        let objects: Arc<dyn ObjectStore> = Arc::new(self.objects.clone());
        let storage = CheckpointStorage::new(Arc::clone(&objects), "job".into());
        let source = SavepointSource {
            metadata: &self.metadata,
            storage: &storage,
            root: ROOT,
        };
        let directory = object_store::path::Path::from("savepoints/one");
        let to = SavepointLocation::in_store(Arc::clone(&objects), ROOT, directory.clone());
        let environment = environment(&self.runtime, &self.objects, "savepoint".into());
        let metadata = self.runtime.block_on(async {
            write_savepoint(source, &to, format, &environment, Arc::new(|_| ()))
                .await
                .unwrap();
            let found = ForeignCheckpoint::savepoint_in(objects, ROOT, directory).await;
            found.unwrap().expect("the savepoint is there").metadata
        });
        Self { metadata, ..self }
    }

    /// Every file.
    pub fn paths(&self) -> Vec<object_store::path::Path> {
        let paths = self.objects.list(None).map_ok(|object| object.location);
        self.runtime.block_on(paths.try_collect()).unwrap()
    }

    /// A reader with an empty cache.
    pub fn reader(&self) -> StateReader {
        let environment = environment(&self.runtime, &self.objects, "reader".into());
        StateReader::new(self.metadata.clone(), environment, false)
    }

    pub fn sql(&self) -> StateSql {
        self.sql_with(&StateSqlOptions::default())
    }

    pub fn sql_with(&self, options: &StateSqlOptions) -> StateSql {
        StateSql::new(&self.reader(), options).unwrap()
    }

    /// The rows of a query as lines of JSON, in the order in which they came.
    pub fn json(&self, query: &str) -> Vec<String> {
        let (text, _) = self.run(&self.sql(), Format::Json, query).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    /// The same, sorted.
    pub fn sorted(&self, query: &str) -> Vec<String> {
        let mut lines = self.json(query);
        lines.sort_unstable();
        lines
    }

    /// Why a query fails.
    pub fn refusal(&self, query: &str) -> SqlError {
        match self.run(&self.sql(), Format::Json, query) {
            Ok((text, _)) => panic!("`{query}` has rows:\n{text}"),
            Err(error) => error,
        }
    }

    /// All rows of a query as text, and the query at its end.
    pub fn run(
        &self,
        sql: &StateSql,
        format: Format,
        query: &str,
    ) -> Result<(String, StateQuery), SqlError> {
        self.runtime.block_on(async {
            let mut rows = sql.query(query).await?;
            let mut text = Vec::new();
            let mut writer = RowWriter::new(&mut text, format, &rows.schema());
            while let Some(batch) = rows.next().await {
                writer.write(&batch?).unwrap();
            }
            writer.finish().unwrap();
            Ok((String::from_utf8(text).unwrap(), rows))
        })
    }
}

fn environment(runtime: &Runtime, objects: &FaultyObjects, prefix: String) -> Environment {
    let mut environment = Environment::new(
        Arc::new(objects.clone()),
        "job/shared".into(),
        runtime.handle().clone(),
        BlockCache::new(8 << 20),
        prefix,
    );
    environment.clock = Arc::new(|| NOW_MS);
    environment
}
