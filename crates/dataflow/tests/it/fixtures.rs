//! A replayable source, a transactional sink, a keyed counter, and job options: the pieces of the jobs in these tests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use aquifer_dataflow::connector::{
    ConnectorContext, Sink, SinkWriter, Source, SourcePoll, SourceReader,
};
use aquifer_dataflow::job::{Build, JobCounters, JobObserver, JobOptions, JobReport};
use aquifer_dataflow::operator::{
    Collector, KeyedOperator, OpenContext, Router, StatelessOperator,
};
use aquifer_dataflow::{ChangeBatch, JobError, job};
use aquifer_state::access::{Keys, StateAccess, Values};
use aquifer_state::{BackendKind, key_group};
use aquifer_store::TableId;
use arrow::array::{AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use parking_lot::Mutex;

/// Two BIGINT columns: key and value.
pub fn batch(rows: &[(i64, i64)]) -> ChangeBatch {
    let schema = Schema::new(vec![
        Field::new("key", DataType::Int64, false),
        Field::new("value", DataType::Int64, false),
    ]);
    let key = Int64Array::from_iter_values(rows.iter().map(|r| r.0));
    let value = Int64Array::from_iter_values(rows.iter().map(|r| r.1));
    ChangeBatch::inserts(
        RecordBatch::try_new(Arc::new(schema), vec![Arc::new(key), Arc::new(value)]).unwrap(),
    )
}

/// The rows of a batch.
pub fn rows(batch: &ChangeBatch) -> Vec<(i64, i64)> {
    let column = |i: usize| batch.rows.column(i).as_primitive::<Int64Type>();
    (0..batch.rows.num_rows())
        .map(|i| (column(0).value(i), column(1).value(i)))
        .collect()
}

/// Row `n` of split `s` is `(n % keys, n * splits + s)`.
#[derive(Clone)]
pub struct Numbers {
    pub splits: u64,
    pub rows_per_split: u64,
    pub keys: u64,
    /// Splits with this number or above deliver nothing for ever.
    pub idle_from: u64,
    /// Milliseconds between batches of a split, by the reader's own waiting; 0 = none.
    pub pause_ms: u64,
    /// Rows that a reader delivers between two barriers at most; then it waits for the next one. That is not triggered before the checkpoint
    /// of the last one is complete: that there were checkpoints before a row comes depends on no clock, disk or thread.
    pub rows_per_epoch: u64,
    /// Whether the source may end after its last row; `None` = it may.
    pub may_end: Option<MayEnd>,
}

/// Asked until it says so.
pub type MayEnd = Arc<dyn Fn() -> bool + Send + Sync>;

impl Default for Numbers {
    fn default() -> Self {
        Self {
            splits: 4,
            rows_per_split: 1000,
            keys: 10,
            idle_from: u64::MAX,
            pause_ms: 0,
            rows_per_epoch: u64::MAX,
            may_end: None,
        }
    }
}

struct NumbersReader {
    spec: Numbers,
    splits: Vec<(u64, u64)>,
    turn: usize,
    paused: bool,
    rows_of_epoch: u64,
}

impl Source for Numbers {
    fn splits(&self, _workers: usize) -> Result<Vec<Vec<u8>>, JobError> {
        Ok((0..self.splits)
            .map(|s| [s.to_be_bytes(), 0u64.to_be_bytes()].concat())
            .collect())
    }

    fn reader(
        &self,
        splits: Vec<Vec<u8>>,
        _context: ConnectorContext,
    ) -> Result<Box<dyn SourceReader>, JobError> {
        let number = |bytes: &[u8]| u64::from_be_bytes(bytes.try_into().unwrap());
        let splits = splits
            .iter()
            .map(|s| (number(&s[..8]), number(&s[8..])))
            .collect();
        Ok(Box::new(NumbersReader {
            spec: self.clone(),
            splits,
            turn: 0,
            paused: false,
            rows_of_epoch: 0,
        }))
    }

    fn bounded(&self) -> bool {
        true
    }
}

impl SourceReader for NumbersReader {
    fn poll(&mut self, rows_max: usize) -> Result<SourcePoll, JobError> {
        if self.spec.pause_ms > 0 && !std::mem::replace(&mut self.paused, true) {
            return Ok(SourcePoll::Pending {
                retry_ms: self.spec.pause_ms,
            });
        }
        self.paused = false;
        if self.rows_of_epoch >= self.spec.rows_per_epoch {
            return Ok(SourcePoll::Pending { retry_ms: 1 });
        }
        let mut idle = false;
        for _ in 0..self.splits.len() {
            self.turn = (self.turn + 1) % self.splits.len();
            let (split, position) = &mut self.splits[self.turn];
            if *split >= self.spec.idle_from {
                idle = true;
                continue;
            }
            let end = self
                .spec
                .rows_per_split
                .min(*position + rows_max.min(100) as u64);
            if *position < end {
                let row = |n: u64| {
                    (
                        (n % self.spec.keys) as i64,
                        (n * self.spec.splits + *split) as i64,
                    )
                };
                let rows: Vec<_> = (*position..end).map(row).collect();
                *position = end;
                self.rows_of_epoch += rows.len() as u64;
                return Ok(SourcePoll::Batch(batch(&rows)));
            }
        }
        let held = self.spec.may_end.as_ref().is_some_and(|may_end| !may_end());
        Ok(if idle || held {
            SourcePoll::Pending { retry_ms: 1 }
        } else {
            SourcePoll::Finished
        })
    }

    fn snapshot(&mut self) -> Result<Vec<Vec<u8>>, JobError> {
        self.rows_of_epoch = 0;
        Ok(self
            .splits
            .iter()
            .map(|(s, p)| [s.to_be_bytes(), p.to_be_bytes()].concat())
            .collect())
    }
}

/// A sink with transactions, in memory: what it holds outlives the job, as a database would.
#[derive(Default)]
pub struct Database {
    prepared: Mutex<BTreeMap<u64, Vec<(i64, i64)>>>,
    committed: Mutex<Vec<(i64, i64)>>,
    done: Mutex<BTreeSet<u64>>,
    tokens: AtomicU64,
    written: AtomicI64,
    /// The writer that takes this many rows fails.
    pub fail_after: AtomicI64,
    /// The writer that takes this many rows panics.
    pub panic_after: AtomicI64,
}

impl Database {
    /// One that never fails.
    pub fn new() -> Arc<Self> {
        let database = Self::default();
        database.fail_after.store(i64::MAX, Ordering::Relaxed);
        database.panic_after.store(i64::MAX, Ordering::Relaxed);
        Arc::new(database)
    }

    /// What is visible, sorted.
    pub fn committed(&self) -> Vec<(i64, i64)> {
        let mut rows = self.committed.lock().clone();
        rows.sort_unstable();
        rows
    }
}

/// The sink of a job that writes to a database.
pub struct DatabaseSink(pub Arc<Database>);

struct DatabaseWriter {
    database: Arc<Database>,
    open: Vec<(i64, i64)>,
}

impl Sink for DatabaseSink {
    fn writer(&self, _context: ConnectorContext) -> Result<Box<dyn SinkWriter>, JobError> {
        Ok(Box::new(DatabaseWriter {
            database: Arc::clone(&self.0),
            open: Vec::new(),
        }))
    }

    fn commit(
        &self,
        committables: Vec<Vec<u8>>,
        _context: &ConnectorContext,
    ) -> Result<(), JobError> {
        for token in committables {
            let token = u64::from_be_bytes(token.try_into().unwrap());
            if self.0.done.lock().insert(token) {
                let rows = self
                    .0
                    .prepared
                    .lock()
                    .remove(&token)
                    .expect("prepared data must not be lost");
                self.0.committed.lock().extend(rows);
            }
        }
        Ok(())
    }

    fn accepts_updates(&self) -> bool {
        true
    }
}

impl SinkWriter for DatabaseWriter {
    fn write(&mut self, batch: &ChangeBatch) -> Result<(), JobError> {
        let rows = rows(batch);
        let written = self
            .database
            .written
            .fetch_add(rows.len() as i64, Ordering::Relaxed);
        if written >= self.database.fail_after.load(Ordering::Relaxed) {
            return Err(JobError::failed("the database is full"));
        }
        assert!(
            written < self.database.panic_after.load(Ordering::Relaxed),
            "planted panic"
        );
        self.open.extend(rows);
        Ok(())
    }

    fn prepare_commit(&mut self, _checkpoint_id: u64) -> Result<Vec<Vec<u8>>, JobError> {
        let token = self.database.tokens.fetch_add(1, Ordering::Relaxed);
        self.database
            .prepared
            .lock()
            .insert(token, std::mem::take(&mut self.open));
        Ok(vec![token.to_be_bytes().to_vec()])
    }
}

/// By the key column.
pub struct ByKey(pub u16);

/// The key group of a key.
fn group_of(key: i64, max_parallelism: u16) -> u16 {
    key_group::assign_to_key_group(key_group::KeyHash::hash_code(&key), max_parallelism)
}

impl Router<ChangeBatch> for ByKey {
    fn route(
        &mut self,
        input: ChangeBatch,
        workers: usize,
        give: &mut dyn FnMut(usize, ChangeBatch),
    ) -> Result<(), JobError> {
        let mut parts = vec![Vec::new(); workers];
        for row in rows(&input) {
            let group = group_of(row.0, self.0);
            parts[usize::from(key_group::operator_index(group, self.0, workers as u16))].push(row);
        }
        for (worker, part) in parts
            .into_iter()
            .enumerate()
            .filter(|(_, part)| !part.is_empty())
        {
            give(worker, batch(&part));
        }
        Ok(())
    }
}

/// For each row: how many rows of its key there were so far, in state. Emits `(key, count)`; the sum of values is checked too.
pub struct Count {
    table: Option<TableId>,
}

impl Count {
    pub fn new() -> Self {
        Self { table: None }
    }
}

impl KeyedOperator<ChangeBatch, ChangeBatch> for Count {
    type Prepared = (Vec<(i64, i64)>, Keys);

    fn open(&mut self, context: &mut OpenContext<'_>) -> Result<(), JobError> {
        self.table = Some(context.register("count", false, "i64 -> i64")?);
        Ok(())
    }

    fn prepare(
        &mut self,
        batch: ChangeBatch,
        state: &StateAccess,
    ) -> Result<Self::Prepared, JobError> {
        let rows = rows(&batch);
        let mut keys = Keys::default();
        for (key, _) in &rows {
            keys.push(group_of(*key, state.max_parallelism()), &key.to_be_bytes());
        }
        // Not awaited here: the loads go on while earlier batches are applied.
        drop(state.prefetch(self.table.unwrap(), &keys)?);
        Ok((rows, keys))
    }

    async fn on_batch(
        &mut self,
        (rows, keys): Self::Prepared,
        state: &StateAccess,
        out: &mut Collector<ChangeBatch>,
    ) -> Result<(), JobError> {
        let table = self.table.unwrap();
        let mut values = Values::default();
        state.multi_get(table, &keys, &mut values).await?;
        let mut counts: BTreeMap<i64, i64> = BTreeMap::new();
        let mut emitted = Vec::new();
        for (i, (key, _)) in rows.iter().enumerate() {
            let stored = values
                .get(i)
                .map_or(0, |v| i64::from_be_bytes(v.try_into().unwrap()));
            let count = counts.entry(*key).or_insert(stored);
            *count += 1;
            emitted.push((*key, *count));
        }
        for (i, (key, _)) in rows.iter().enumerate() {
            let (group, bytes) = keys.get(i);
            state.put(table, group, bytes, &counts[key].to_be_bytes())?;
        }
        out.emit(batch(&emitted));
        Ok(())
    }

    async fn on_watermark(
        &mut self,
        watermark_ms: i64,
        _state: &StateAccess,
        _out: &mut Collector<ChangeBatch>,
    ) -> Result<i64, JobError> {
        Ok(watermark_ms)
    }
}

/// Takes a while over each batch, so that queues would fill without flow control; looks at each batch how many rows are under way.
pub struct Slow {
    pub each: Duration,
    pub counters: Arc<JobCounters>,
    /// Rows that were handed on.
    pub seen: Arc<AtomicU64>,
    /// The most that sources had read and nobody had handed on.
    pub widest: Arc<AtomicU64>,
}

impl StatelessOperator<ChangeBatch, ChangeBatch> for Slow {
    fn on_batch(
        &mut self,
        batch: ChangeBatch,
        out: &mut Collector<ChangeBatch>,
    ) -> Result<(), JobError> {
        // In this order: rows that come meanwhile are not counted twice.
        let read = self.counters.rows_in.load(Ordering::Relaxed);
        let under_way = read.saturating_sub(self.seen.load(Ordering::Relaxed));
        self.widest.fetch_max(under_way, Ordering::Relaxed);
        #[allow(clippy::disallowed_methods, reason = "a slow operator is what this is")]
        std::thread::sleep(self.each);
        self.seen
            .fetch_add(batch.rows.num_rows() as u64, Ordering::Relaxed);
        out.emit(batch);
        Ok(())
    }
}

/// Remembers what a job tells.
#[derive(Default)]
pub struct Notes {
    pub checkpoints: Mutex<Vec<u64>>,
    pub restored: Mutex<Vec<u64>>,
}

impl JobObserver for Notes {
    fn restored(&self, checkpoint_id: u64, _then: u16, _now: u16) {
        self.restored.lock().push(checkpoint_id);
    }

    fn checkpoint(&self, checkpoint_id: u64, _duration_ms: u64, _state_bytes: u64) {
        self.checkpoints.lock().push(checkpoint_id);
    }
}

/// The backends of this build.
#[cfg(not(feature = "rocksdb"))]
pub const BACKENDS: [BackendKind; 2] = [BackendKind::Hashmap, BackendKind::Forst];
/// The backends of this build.
#[cfg(feature = "rocksdb")]
pub const BACKENDS: [BackendKind; 3] = [
    BackendKind::Hashmap,
    BackendKind::Forst,
    BackendKind::Rocksdb,
];

/// No job of these tests takes so long, on however slow a machine: it hangs.
const HANGS_AFTER: Duration = Duration::from_secs(300);

/// Options of a job in a memory store of this name.
pub fn options(name: &str, parallelism: u16, backend: BackendKind) -> JobOptions {
    #[allow(clippy::disallowed_methods, reason = "tests run on the real clock")]
    let now_ms = || {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        i64::try_from(since.unwrap().as_millis()).unwrap()
    };
    JobOptions {
        parallelism,
        max_parallelism: Some(64),
        checkpoint_dir: format!("memory://{name}"),
        checkpoint_interval_ms: Some(5),
        backend,
        checkpoint_timeout_ms: HANGS_AFTER.as_millis() as u64,
        plan: "test".to_owned(),
        observer: Arc::new(Notes::default()),
        rocksdb: aquifer_state::RocksdbOptions {
            incremental: true,
            ..Default::default()
        },
        ..JobOptions::new(name, Arc::new(now_ms))
    }
}

/// source → exchange by key → count → sink.
pub fn counting(source: Numbers, database: &Arc<Database>) -> Build {
    let database = Arc::clone(database);
    Arc::new(move |env| {
        let by_key = ByKey(env.max_parallelism());
        env.source("source", Arc::new(source.clone()))?
            .exchange("by key", by_key)
            .keyed("count", Count::new())?
            .sink("sink", Arc::new(DatabaseSink(Arc::clone(&database))))
    })
}

/// Runs a job; hangs become failures.
pub fn run(options: JobOptions, build: Build) -> Result<JobReport, JobError> {
    let (done, result) = std::sync::mpsc::channel();
    std::thread::spawn(move || done.send(job::run(options, build)));
    result.recv_timeout(HANGS_AFTER).expect("the job must end")
}

/// What a counting job commits: for each key, 1 to its number of rows.
pub fn expected_counts(source: &Numbers) -> Vec<(i64, i64)> {
    let mut counts: BTreeMap<i64, i64> = BTreeMap::new();
    let mut rows = Vec::new();
    for n in 0..source.rows_per_split {
        for _ in 0..source.splits {
            let count = counts.entry((n % source.keys) as i64).or_default();
            *count += 1;
            rows.push(((n % source.keys) as i64, *count));
        }
    }
    rows.sort_unstable();
    rows
}
