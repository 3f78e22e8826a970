//! A store on an object store in memory, driven the way a worker drives it.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use aquifer_store::{
    BlockCache, Checkpoint, Environment, KeyGroupRange, Lookup, ScanLookup, ScanRows, Store,
    StoreOptions, TableId, TableOptions,
};
use aquifer_testkit::FaultyObjects;
use bytes::Bytes;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use tokio::runtime::Runtime;

/// Point access.
pub const POINTS: TableId = TableId(0);
/// Scanned often.
pub const SORTED: TableId = TableId(1);
pub const ALL: KeyGroupRange = KeyGroupRange::ALL;

/// Nothing takes this long, however busy the machine is: a bound on hanging, not on speed.
const PATIENCE: Duration = Duration::from_secs(300);
/// How often something that tells nobody is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// One process: an object store that outlives it, a runtime, and names that are never used twice.
pub struct World {
    pub bucket: Arc<InMemory>,
    pub objects: FaultyObjects,
    pub runtime: Runtime,
    pub cache: Arc<BlockCache>,
    /// The directory that `objects` is, if it is one.
    pub local_root: Option<std::path::PathBuf>,
    pub file_cache: Option<Arc<aquifer_store::FileCache>>,
    writers: AtomicU64,
}

impl World {
    pub fn new(cache_bytes: u64) -> Self {
        let bucket = Arc::new(InMemory::new());
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_time()
            .build()
            .unwrap();
        Self {
            objects: FaultyObjects::new(bucket.clone()),
            bucket,
            runtime,
            cache: BlockCache::new(cache_bytes),
            local_root: None,
            file_cache: None,
            writers: AtomicU64::new(0),
        }
    }

    /// Forgets everything that was cached, like a new process.
    pub fn forget_cache(&mut self) {
        self.cache = BlockCache::new(self.cache.capacity_bytes());
    }

    pub fn open(
        &self,
        options: StoreOptions,
        restored: Vec<(Checkpoint, KeyGroupRange)>,
    ) -> Worker {
        self.open_with(options, restored, |_| {})
    }

    /// Opens a store whose environment is changed first.
    pub fn open_with(
        &self,
        options: StoreOptions,
        restored: Vec<(Checkpoint, KeyGroupRange)>,
        change: impl FnOnce(&mut Environment),
    ) -> Worker {
        let (wake, woken) = channel();
        let writer = self.writers.fetch_add(1, Ordering::Relaxed);
        let mut env = Environment::new(
            Arc::new(self.objects.clone()),
            Path::from("job/shared"),
            self.runtime.handle().clone(),
            self.cache.clone(),
            format!("{writer:06}-w0"),
        );
        env.local_root.clone_from(&self.local_root);
        env.file_cache.clone_from(&self.file_cache);
        env.waker = Arc::new(move || {
            let _ = wake.send(());
        });
        change(&mut env);
        let mut store = Store::open(env, options, restored).unwrap();
        store.create_table(POINTS, TableOptions::default()).unwrap();
        store
            .create_table(
                SORTED,
                TableOptions {
                    ordered: true,
                    ..Default::default()
                },
            )
            .unwrap();
        Worker {
            store,
            woken,
            handle: self.runtime.handle().clone(),
        }
    }

    /// Waits until something has come about that the background tells nobody of.
    pub fn until(&self, true_of: impl Fn(&Self) -> bool) {
        for _ in 0..PATIENCE.as_millis() / LOOK_EVERY.as_millis() {
            if true_of(self) {
                return;
            }
            self.runtime
                .block_on(async { tokio::time::sleep(LOOK_EVERY).await });
        }
        panic!(
            "it has not come about after {PATIENCE:?}; there are {:?}",
            self.files()
        );
    }

    /// Waits until nothing is on its way into the file cache or out of it any more. All stores must be closed.
    pub fn until_file_cache_rests(&self) {
        self.until(|world| {
            let cache = world.file_cache.as_ref();
            cache.is_none_or(|cache| Arc::strong_count(cache) == 1)
        });
    }

    /// Names of all objects there are.
    pub fn files(&self) -> Vec<String> {
        use futures_util::TryStreamExt;
        let list = self
            .bucket
            .list(None)
            .map_ok(|object| object.location.to_string());
        let mut files: Vec<String> = self.runtime.block_on(list.try_collect()).unwrap();
        files.sort();
        files
    }

    pub fn read(&self, path: &str) -> Bytes {
        let path = Path::from(path);
        self.runtime
            .block_on(async { self.bucket.get(&path).await.unwrap().bytes().await.unwrap() })
    }

    pub fn overwrite(&self, path: &str, bytes: Vec<u8>) {
        let path = Path::from(path);
        self.runtime
            .block_on(self.bucket.put(&path, bytes.into()))
            .unwrap();
    }
}

/// A store and its worker's thread.
pub struct Worker {
    pub store: Store,
    woken: Receiver<()>,
    handle: tokio::runtime::Handle,
}

impl Worker {
    pub fn put(&mut self, table: TableId, group: u16, key: &[u8], value: &[u8]) {
        self.store.put(table, group, key, value).unwrap();
    }

    pub fn delete(&mut self, table: TableId, group: u16, key: &[u8]) {
        self.store.delete(table, group, key).unwrap();
    }

    pub fn get(&self, table: TableId, group: u16, key: &[u8]) -> Option<Vec<u8>> {
        self.try_get(table, group, key).unwrap()
    }

    pub fn try_get(
        &self,
        table: TableId,
        group: u16,
        key: &[u8],
    ) -> Result<Option<Vec<u8>>, aquifer_store::Error> {
        match self.store.get(table, group, key)? {
            Lookup::Found(value) => Ok(Some(value.to_vec())),
            Lookup::Absent => Ok(None),
            Lookup::Cold(read) => {
                let mut values = self.handle.block_on(self.store.fetch(vec![read]))?;
                Ok(values.remove(0).map(|value| value.to_vec()))
            }
        }
    }

    pub fn multi_get(&self, table: TableId, keys: &[(u16, &[u8])]) -> Vec<Option<Vec<u8>>> {
        let mut answers = vec![None; keys.len()];
        let mut answered = vec![0; keys.len()];
        let mut cold = Vec::new();
        self.store
            .multi_get(table, keys, &mut |i, lookup| {
                answered[i] += 1;
                match lookup {
                    Lookup::Found(value) => answers[i] = Some(value.to_vec()),
                    Lookup::Absent => {}
                    Lookup::Cold(read) => cold.push((i, read)),
                }
            })
            .unwrap();
        assert!(
            answered.iter().all(|&n| n == 1),
            "every key is answered once: {answered:?}"
        );
        let (at, reads): (Vec<usize>, Vec<_>) = cold.into_iter().unzip();
        let values = self.handle.block_on(self.store.fetch(reads)).unwrap();
        for (i, value) in at.into_iter().zip(values) {
            answers[i] = value.map(|value| value.to_vec());
        }
        answers
    }

    pub fn scan(
        &self,
        table: TableId,
        group: u16,
        prefix: &[u8],
        from: &[u8],
        until: Option<&[u8]>,
        rows_max: usize,
    ) -> ScanRows {
        match self
            .store
            .scan(table, group, prefix, from, until, rows_max)
            .unwrap()
        {
            ScanLookup::Rows(rows) => rows,
            ScanLookup::Cold(scan) => self.handle.block_on(self.store.fetch_scan(scan)).unwrap(),
        }
    }

    /// All rows of a group, in pieces.
    pub fn rows(&self, table: TableId, group: u16) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let mut all = BTreeMap::new();
        let mut from = Vec::new();
        loop {
            let piece = self.scan(table, group, b"", &from, None, 100);
            for (key, value) in &piece.rows {
                from = [&key[..], &[0]].concat();
                all.insert(key.to_vec(), value.to_vec());
            }
            if piece.done {
                return all;
            }
        }
    }

    pub fn start_checkpoint(&mut self) {
        self.store.freeze(POINTS).unwrap();
        self.store.freeze(SORTED).unwrap();
        self.store.checkpoint().unwrap();
    }

    pub fn wait(&mut self) -> Checkpoint {
        self.try_wait().unwrap()
    }

    pub fn try_wait(&mut self) -> Result<Checkpoint, aquifer_store::Error> {
        loop {
            if let Some(checkpoint) = self.store.poll()? {
                return Ok(checkpoint);
            }
            self.wait_for_report();
        }
    }

    pub fn checkpoint(&mut self) -> Checkpoint {
        self.start_checkpoint();
        self.wait()
    }

    /// Waits until nothing is under way in the background: flushes and compactions that were due are installed, and no others are due.
    /// What they leave to the runtime, such as deletions, may still be on its way: see [`World::until`].
    pub fn settle(&mut self) {
        loop {
            let checkpoint = self.store.poll().unwrap();
            assert_eq!(checkpoint, None, "nobody has waited for a checkpoint");
            if self.store.stats().background_tasks == 0 {
                return;
            }
            self.wait_for_report();
        }
    }

    /// While something is under way: waits until it may have ended.
    fn wait_for_report(&self) {
        let woken = self.woken.recv_timeout(PATIENCE);
        woken.expect("background work reports back");
    }
}

/// Options that make small data go through every part of the store.
pub fn small() -> StoreOptions {
    StoreOptions {
        compaction_part_bytes_min: 4 << 10,
        block_bytes: 256,
        memtable_bytes_max: 64 << 10,
        l0_files_max: 3,
        file_bytes_target: 16 << 10,
        level_bytes_base: 64 << 10,
        ..StoreOptions::default()
    }
}
