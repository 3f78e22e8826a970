//! Aquifer's store, driven as an operator of a job drives it: on its own thread, polled now and then, cold reads finished by `fetch`.
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use aquifer_store::{
    BackgroundPool, BackgroundThreads, BlockCache, Checkpoint, Environment, Executor,
    KeyGroupRange, KeyPart, Lookup, Merge, ScanLookup, Store, StoreOptions, TableId, TableOptions,
    objects,
};
use object_store::ObjectStore;
use tokio::runtime::Runtime;

use super::{Engine, Result, Setup, Table};
use crate::data::{KEY_GROUPS, Key, MAP_PREFIX_BYTES};
use crate::measure::Stretch;

/// Operations between two looks at what the background has finished.
const POLL_EVERY: u64 = 64;
/// Where the newest checkpoint is written down when the engine is closed.
const CHECKPOINT_FILE: &str = "CHECKPOINT";

pub struct Aquifer {
    pub store: Store,
    woken: Receiver<()>,
    directory: PathBuf,
    operations: u64,
    // Last: it must outlive the store.
    runtime: Arc<Runtime>,
}

pub fn table_id(table: Table) -> TableId {
    TableId(u16::from(table.byte()))
}

/// Two threads, as many as the machine has, for all that is not the operator's. There is one runtime in the process, as in a worker; it
/// is never shut down, so that stores may be dropped with work under way.
pub fn runtime() -> Result<Arc<Runtime>> {
    static RUNTIME: OnceLock<Arc<Runtime>> = OnceLock::new();
    if let Some(runtime) = RUNTIME.get() {
        return Ok(runtime.clone());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()?;
    Ok(RUNTIME.get_or_init(|| Arc::new(runtime)).clone())
}

/// The threads that flush and compact, one pool for the process.
pub fn background(runtime: &Runtime) -> Arc<dyn Executor> {
    static POOL: OnceLock<Arc<BackgroundPool>> = OnceLock::new();
    POOL.get_or_init(|| BackgroundPool::new(BackgroundThreads::default(), runtime.handle().clone()))
        .clone()
}

/// Where files lie.
pub struct Place {
    pub objects: Arc<dyn ObjectStore>,
    /// The directory that `objects` is a view of, if it is one.
    pub local_root: Option<PathBuf>,
}

impl Place {
    /// A local directory as the product opens it: every file is synced to disk before it counts.
    pub fn local(directory: &Path) -> Result<Self> {
        let root = std::path::absolute(directory)?;
        let (objects, _) =
            objects::open(&format!("file://{}", root.display()), &Default::default())?;
        Ok(Self {
            objects,
            local_root: Some(root),
        })
    }
}

/// A name that no earlier attempt in the directory had.
fn attempt(directory: &Path) -> Result<String> {
    let path = directory.join("ATTEMPT");
    let last: u64 = std::fs::read_to_string(&path)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    std::fs::write(&path, format!("{}", last + 1))?;
    Ok(format!("{:06}-w0", last + 1))
}

impl Aquifer {
    /// Opens checkpoints in any place.
    pub fn open_with(
        setup: &Setup,
        runtime: Arc<Runtime>,
        place: Place,
        restored: Vec<(Checkpoint, KeyGroupRange)>,
    ) -> Result<Self> {
        let (wake, woken) = channel();
        let mut environment = Environment::new(
            place.objects,
            "shared".into(),
            runtime.handle().clone(),
            BlockCache::new(setup.cache_bytes),
            attempt(&setup.directory)?,
        );
        environment.waker = Arc::new(move || {
            let _ = wake.send(());
        });
        environment.local_root = place.local_root;
        environment.executor = background(&runtime);
        let options = StoreOptions {
            memtable_bytes_max: setup.memtable_bytes,
            block_bytes: setup
                .block_bytes
                .unwrap_or(StoreOptions::default().block_bytes),
            ..StoreOptions::default()
        };
        let mut store = Store::open(environment, options, restored)?;
        for table in Table::ALL {
            let options = match table {
                Table::Values => TableOptions::default(),
                Table::Maps => TableOptions {
                    ordered: true,
                    prefix: vec![KeyPart::Fixed(MAP_PREFIX_BYTES as u16)],
                    ..TableOptions::default()
                },
                Table::Lists => TableOptions {
                    merge: Merge::Append,
                    ..TableOptions::default()
                },
            };
            store.create_table(table_id(table), options)?;
        }
        Ok(Self {
            store,
            woken,
            directory: setup.directory.clone(),
            operations: 0,
            runtime,
        })
    }

    #[inline]
    fn tick(&mut self) -> Result<()> {
        self.operations += 1;
        if self.operations.is_multiple_of(POLL_EVERY) {
            self.store.poll()?;
        }
        Ok(())
    }

    /// Sets a row of value state.
    pub fn write(&mut self, key: &Key, value: &[u8]) -> Result<()> {
        self.put(Table::Values, key, value)
    }

    /// Freezes all tables and asks for a checkpoint: all that the operator's thread does at a barrier.
    pub fn begin_checkpoint(&mut self) -> Result<()> {
        for table in Table::ALL {
            self.store.freeze(table_id(table))?;
        }
        Ok(self.store.checkpoint()?)
    }

    /// Waits until nothing runs in the background, but not longer than this.
    pub fn settle_within(&mut self, most: Duration) -> Result<()> {
        let stretch = Stretch::start();
        loop {
            self.store.poll()?;
            if self.store.stats().background_tasks == 0 || stretch.wall() > most {
                return Ok(());
            }
            // The time only bounds what a lost wake-up would cost.
            let _ = self.woken.recv_timeout(Duration::from_millis(100));
        }
    }

    /// Waits for the checkpoint that was begun.
    pub fn finish_checkpoint(&mut self) -> Result<Checkpoint> {
        loop {
            if let Some(checkpoint) = self.store.poll()? {
                return Ok(checkpoint);
            }
            self.woken.recv()?;
        }
    }
}

/// The checkpoint that a closed engine left in a directory.
pub fn saved_checkpoint(directory: &Path) -> Result<Option<Checkpoint>> {
    match std::fs::read(directory.join(CHECKPOINT_FILE)) {
        Ok(bytes) => Ok(Some(Checkpoint::decode(&bytes)?)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

impl Engine for Aquifer {
    fn open(setup: &Setup) -> Result<Self> {
        let place = Place::local(&setup.directory)?;
        let all = KeyGroupRange {
            start: 0,
            end: KEY_GROUPS - 1,
        };
        let restored = saved_checkpoint(&setup.directory)?.map(|checkpoint| (checkpoint, all));
        Self::open_with(setup, runtime()?, place, restored.into_iter().collect())
    }

    #[inline]
    fn put(&mut self, table: Table, key: &Key, value: &[u8]) -> Result<()> {
        self.tick()?;
        Ok(self
            .store
            .put(table_id(table), key.group, key.bytes(), value)?)
    }

    #[inline]
    fn get<R>(
        &mut self,
        table: Table,
        key: &Key,
        with: impl FnOnce(Option<&[u8]>) -> R,
    ) -> Result<R> {
        self.tick()?;
        let read = match self.store.get(table_id(table), key.group, key.bytes())? {
            Lookup::Found(value) => return Ok(with(Some(&value))),
            Lookup::Absent => return Ok(with(None)),
            Lookup::Cold(read) => read,
        };
        let values = self.runtime.block_on(self.store.fetch(vec![read]))?;
        Ok(with(values.first().and_then(Option::as_deref)))
    }

    fn delete(&mut self, table: Table, key: &Key) -> Result<()> {
        self.tick()?;
        Ok(self.store.delete(table_id(table), key.group, key.bytes())?)
    }

    fn multi_get(
        &mut self,
        table: Table,
        keys: &[Key],
        with: &mut impl FnMut(usize, Option<&[u8]>),
    ) -> Result<()> {
        self.tick()?;
        let (mut cold, mut reads) = (Vec::new(), Vec::new());
        let asked: Vec<(u16, &[u8])> = keys.iter().map(|key| (key.group, key.bytes())).collect();
        self.store
            .multi_get(table_id(table), &asked, &mut |i, lookup| match lookup {
                Lookup::Found(value) => with(i, Some(&value)),
                Lookup::Absent => with(i, None),
                Lookup::Cold(read) => {
                    cold.push(i);
                    reads.push(read);
                }
            })?;
        if !reads.is_empty() {
            let values = self.runtime.block_on(self.store.fetch(reads))?;
            cold.into_iter()
                .zip(&values)
                .for_each(|(i, value)| with(i, value.as_deref()));
        }
        Ok(())
    }

    fn scan(
        &mut self,
        table: Table,
        prefix: &Key,
        rows_max: usize,
        with: &mut impl FnMut(&[u8], &[u8]),
    ) -> Result<()> {
        self.tick()?;
        let rows = match self.store.scan(
            table_id(table),
            prefix.group,
            prefix.bytes(),
            b"",
            None,
            rows_max,
        )? {
            ScanLookup::Rows(rows) => rows,
            ScanLookup::Cold(scan) => self.runtime.block_on(self.store.fetch_scan(scan))?,
        };
        rows.rows.iter().for_each(|(key, value)| with(key, value));
        Ok(())
    }

    #[inline]
    fn append(&mut self, table: Table, key: &Key, operand: &[u8]) -> Result<()> {
        self.tick()?;
        self.store
            .merge(table_id(table), key.group, key.bytes(), operand)?;
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.begin_checkpoint()?;
        self.finish_checkpoint()?;
        Ok(())
    }

    fn settle(&mut self) -> Result<()> {
        self.settle_within(Duration::MAX)
    }

    fn warm(&mut self) -> Result<()> {
        const ROWS: usize = 10_000;
        for table in Table::ALL {
            for group in 0..KEY_GROUPS {
                let mut from = Vec::new();
                loop {
                    let rows =
                        match self
                            .store
                            .scan(table_id(table), group, b"", &from, None, ROWS)?
                        {
                            ScanLookup::Rows(rows) => rows,
                            ScanLookup::Cold(scan) => {
                                self.runtime.block_on(self.store.fetch_scan(scan))?
                            }
                        };
                    match rows.rows.last() {
                        Some((last, _)) if !rows.done => from = [last, &b"\0"[..]].concat(),
                        _ => break,
                    }
                }
            }
        }
        Ok(())
    }

    fn kept_bytes(&self, _: &Path) -> Result<u64> {
        Ok(self.store.stats().file_bytes)
    }

    fn close(mut self) -> Result<()> {
        self.begin_checkpoint()?;
        let checkpoint = self.finish_checkpoint()?;
        self.settle()?;
        let mut bytes = Vec::new();
        checkpoint.encode(&mut bytes);
        Ok(std::fs::write(self.directory.join(CHECKPOINT_FILE), bytes)?)
    }
}
