//! Stateful operators on the real backends: state that is flushed and read back cold, checkpoints, crashes, and other parallelisms.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use aquifer_dataflow::operator::{Collector, KeyedOperator, OpenContext, Router};
use aquifer_dataflow::{ChangeBatch, RowKind};
use aquifer_state::access::StateAccess;
use aquifer_state::key_group::range_of;
use aquifer_state::{BackendKind, KeyedSnapshot, StateDescription, open_backend};
use aquifer_store::{BlockCache, Environment, KeyGroupRange, StoreOptions, TableId};
use arrow::array::{ArrayRef, Int64Array, StringArray, TimestampMillisecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use object_store::memory::InMemory;

use super::aggregate::{AggregateCall, AggregateFunction, GroupAggregate, GroupAggregateSpec};
use super::harness::{Random, changes, lines, materialised};
use super::row_key::KeyRouter;
use super::window::{WindowAggregate, WindowAggregateSpec, WindowOutput};

mod reading;

const MAX_PARALLELISM: u16 = 16;

/// What a checkpoint holds, and who wrote it.
#[derive(Clone, Default)]
struct Saved {
    tables: Vec<(StateDescription, TableId)>,
    parts: Vec<(KeyGroupRange, KeyedSnapshot)>,
}

/// What outlives a crash.
struct Site {
    kind: BackendKind,
    objects: Arc<InMemory>,
    runtime: tokio::runtime::Runtime,
    attempts: usize,
    checkpoints: u64,
}

/// One worker of the present attempt.
struct Worker<O> {
    range: KeyGroupRange,
    state: StateAccess,
    operator: O,
    tables: Vec<TableId>,
    out: Collector<ChangeBatch>,
}

impl Site {
    fn new(kind: BackendKind) -> Self {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(2).enable_all().build().unwrap();
        Self {
            kind,
            objects: Arc::new(InMemory::new()),
            runtime,
            attempts: 0,
            checkpoints: 0,
        }
    }

    /// Starts an attempt from a checkpoint.
    fn start<O>(&mut self, workers: u16, saved: &Saved, operator: impl Fn() -> O) -> Vec<Worker<O>>
    where
        O: KeyedOperator<ChangeBatch, ChangeBatch>,
    {
        self.attempts += 1;
        // No cache to speak of and tiny files: nearly every read of what was flushed is cold.
        let cache = BlockCache::new(1 << 10);
        let options = StoreOptions {
            block_bytes: 128,
            memtable_bytes_max: 4 << 10,
            l0_files_max: 3,
            file_bytes_target: 2 << 10,
            ..StoreOptions::default()
        };
        (0..workers)
            .map(|index| {
                let range = range_of(index, MAX_PARALLELISM, workers);
                let environment = Environment::new(
                    Arc::clone(&self.objects) as _,
                    "shared".into(),
                    self.runtime.handle().clone(),
                    Arc::clone(&cache),
                    format!("{:06}-w{index}", self.attempts),
                );
                let parts = saved
                    .parts
                    .iter()
                    .filter_map(|(old, part)| Some((part.clone(), old.intersection(range)?)))
                    .collect();
                let tables = saved.tables.clone();
                let backend = open_backend(
                    self.kind,
                    environment,
                    options.clone(),
                    range,
                    tables,
                    parts,
                )
                .unwrap();
                let runtime = self.runtime.handle().clone();
                let state = StateAccess::new(backend, runtime, range, MAX_PARALLELISM, true);
                let mut operator = operator();
                let mut tables = Vec::new();
                operator
                    .open(&mut OpenContext::new("1-test", &state, &mut tables))
                    .unwrap();
                Worker {
                    range,
                    state,
                    operator,
                    tables,
                    out: Collector::default(),
                }
            })
            .collect()
    }

    fn checkpoint<O>(&mut self, workers: &mut [Worker<O>]) -> Saved
    where
        O: KeyedOperator<ChangeBatch, ChangeBatch>,
    {
        self.checkpoints += 1;
        let mut saved = Saved::default();
        for worker in workers {
            let barrier = worker.operator.on_barrier(&worker.state, &mut worker.out);
            worker.state.run(barrier).unwrap();
            let backend = worker.state.backend();
            for table in &worker.tables {
                backend.borrow_mut().freeze(*table).unwrap();
            }
            backend.borrow_mut().snapshot(self.checkpoints).unwrap();
            let snapshot = loop {
                let done = backend.borrow_mut().poll().unwrap();
                if let Some((id, snapshot)) = done {
                    assert_eq!(id, self.checkpoints);
                    break snapshot;
                }
                std::thread::yield_now();
            };
            saved.tables = backend.borrow().tables();
            saved.parts.push((worker.range, snapshot));
        }
        saved
    }
}

impl<O: KeyedOperator<ChangeBatch, ChangeBatch>> Worker<O> {
    fn batch(&mut self, batch: ChangeBatch) {
        let prepared = self.operator.prepare(batch, &self.state).unwrap();
        let work = self.operator.on_batch(prepared, &self.state, &mut self.out);
        self.state.run(work).unwrap();
        self.state.backend().borrow_mut().poll().unwrap();
    }

    fn watermark(&mut self, watermark_ms: i64) {
        let work = self
            .operator
            .on_watermark(watermark_ms, &self.state, &mut self.out);
        self.state.run(work).unwrap();
        self.state.backend().borrow_mut().poll().unwrap();
    }
}

fn send<O: KeyedOperator<ChangeBatch, ChangeBatch>>(workers: &mut [Worker<O>], batch: ChangeBatch) {
    let count = workers.len();
    KeyRouter::new(1, MAX_PARALLELISM)
        .route(batch, count, &mut |worker, part| {
            workers[worker].batch(part)
        })
        .unwrap();
}

fn drained<O>(workers: &mut [Worker<O>]) -> Vec<Result<ChangeBatch, i64>> {
    workers
        .iter_mut()
        .flat_map(|worker| worker.out.drain())
        .collect()
}

fn call(function: AggregateFunction, distinct: bool) -> AggregateCall {
    let input = Some((1, DataType::Int64));
    AggregateCall {
        name: function.name().to_owned(),
        function,
        input,
        filter: None,
        distinct,
        output: DataType::Int64,
    }
}

fn calls() -> Vec<AggregateCall> {
    vec![
        call(AggregateFunction::Sum, false),
        call(AggregateFunction::Min, false),
        call(AggregateFunction::Count, true),
    ]
}

fn column(name: &str, data_type: DataType) -> Field {
    Field::new(name, data_type, true)
}

fn group_spec() -> GroupAggregateSpec {
    let output = ["sum", "min", "values"].map(|name| column(name, DataType::Int64));
    let fields = [column("k", DataType::Utf8)]
        .into_iter()
        .chain(output)
        .collect::<Vec<_>>();
    GroupAggregateSpec {
        key_columns: 1,
        calls: calls(),
        output: Arc::new(Schema::new(fields)),
        updating: true,
        mini_batch: false,
    }
}

fn group_batch(rows: &[(u64, i64, RowKind)]) -> ChangeBatch {
    let schema: SchemaRef = Arc::new(Schema::new(vec![
        column("k", DataType::Utf8),
        column("v", DataType::Int64),
    ]));
    let keys = StringArray::from_iter_values(rows.iter().map(|row| format!("key {}", row.0)));
    let values = Int64Array::from_iter_values(rows.iter().map(|row| row.1));
    let kinds = rows.iter().map(|row| row.2).collect();
    changes(&schema, vec![Arc::new(keys), Arc::new(values)], Some(kinds))
}

fn expected_groups(live: &[(u64, i64)]) -> BTreeMap<String, i64> {
    let mut groups: BTreeMap<u64, Vec<i64>> = BTreeMap::new();
    for (key, value) in live {
        groups.entry(*key).or_default().push(*value);
    }
    let line = |(key, values): (u64, Vec<i64>)| {
        let sum: i64 = values.iter().sum();
        let unique: BTreeSet<i64> = values.into_iter().collect();
        let min = unique.first().copied().unwrap_or_default();
        (format!("[key {key}, {sum}, {min}, {}]", unique.len()), 1)
    };
    groups.into_iter().map(line).collect()
}

fn groups_survive(kind: BackendKind, seed: u64) {
    let mut random = Random(seed);
    let mut site = Site::new(kind);
    let operator = || GroupAggregate::new(group_spec()).unwrap();
    let mut saved = Saved::default();
    let mut workers = site.start(2, &saved, operator);
    let mut live: Vec<(u64, i64)> = Vec::new();
    let mut out = Vec::new();
    // What there was at the checkpoint: the source replays from there.
    let mut at_checkpoint = (live.clone(), out.len());
    for _ in 0..60 {
        let mut rows = Vec::new();
        for _ in 0..random.below(40) {
            if !live.is_empty() && random.below(3) == 0 {
                let (key, value) = live.swap_remove(random.below(live.len() as u64) as usize);
                rows.push((key, value, RowKind::UpdateBefore));
            } else {
                let row = (random.below(60), random.below(30) as i64);
                live.push(row);
                rows.push((row.0, row.1, RowKind::Insert));
            }
        }
        send(&mut workers, group_batch(&rows));
        out.extend(drained(&mut workers));
        match random.below(8) {
            0 | 1 => {
                saved = site.checkpoint(&mut workers);
                at_checkpoint = (live.clone(), out.len());
            }
            2 => {
                workers = site.start(1 + random.below(3) as u16, &saved, operator);
                live = at_checkpoint.0.clone();
                out.truncate(at_checkpoint.1);
            }
            _ => {}
        }
    }
    assert_eq!(
        materialised(&out),
        expected_groups(&live),
        "{kind:?}, seed {seed}"
    );
}

fn time() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, None)
}

/// Columns of the input: key, value, start and end of the window.
fn window_spec() -> WindowAggregateSpec {
    let output = ["sum", "min", "values"].map(|name| column(name, DataType::Int64));
    let keys = [column("e", time()), column("k", DataType::Utf8)];
    WindowAggregateSpec {
        key_types: vec![DataType::Utf8],
        start_column: 2,
        end_column: 3,
        calls: calls(),
        output: Arc::new(Schema::new(
            keys.into_iter().chain(output).collect::<Vec<_>>(),
        )),
        sources: vec![
            WindowOutput::WindowTime,
            WindowOutput::Key(0),
            WindowOutput::Call(0),
            WindowOutput::Call(1),
            WindowOutput::Call(2),
        ],
        updating: false,
    }
}

const WINDOW_MS: i64 = 100;

fn window_batch(rows: &[(u64, i64, i64)]) -> ChangeBatch {
    let names = ["k", "v", "s", "e"];
    let types = [DataType::Utf8, DataType::Int64, time(), time()];
    let fields: Vec<Field> = names.iter().zip(types).map(|(n, t)| column(n, t)).collect();
    let start = |ms: i64| ms - ms.rem_euclid(WINDOW_MS);
    let starts = rows.iter().map(|row| start(row.2));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(
            rows.iter().map(|row| format!("key {}", row.0)),
        )),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.1))),
        Arc::new(TimestampMillisecondArray::from_iter_values(starts.clone())),
        Arc::new(TimestampMillisecondArray::from_iter_values(
            starts.map(|s| s + WINDOW_MS),
        )),
    ];
    changes(&(Arc::new(Schema::new(fields)) as SchemaRef), columns, None)
}

/// The same stream of rows and watermarks, with checkpoints and crashes where `random` wants them; the windows that came out, sorted.
fn windows_of(kind: BackendKind, mut random: Option<Random>) -> Vec<String> {
    let mut site = Site::new(kind);
    let operator = || WindowAggregate::new(window_spec(), Arc::new(AtomicU64::new(0))).unwrap();
    let mut saved = Saved::default();
    let mut workers = site.start(2, &saved, operator);
    let mut out = Vec::new();
    let mut at_checkpoint = (0, 0);
    let mut step = 0;
    while step < 80 {
        let mut content = Random(step);
        let now = step as i64 * 30 - 500;
        // Up to 60 ms out of order, watermark 50 ms behind: some rows are late.
        let rows: Vec<_> = (0..25)
            .map(|_| {
                let key = content.below(12);
                (key, content.below(9) as i64, now - content.below(60) as i64)
            })
            .collect();
        send(&mut workers, window_batch(&rows));
        workers
            .iter_mut()
            .for_each(|worker| worker.watermark(now - 50));
        out.extend(drained(&mut workers));
        step += 1;
        match random.as_mut().map_or(9, |random| random.below(8)) {
            0 | 1 => {
                saved = site.checkpoint(&mut workers);
                at_checkpoint = (step, out.len());
            }
            2 => {
                let count = random.as_mut().map_or(1, |random| 1 + random.below(3)) as u16;
                workers = site.start(count, &saved, operator);
                step = at_checkpoint.0;
                out.truncate(at_checkpoint.1);
            }
            _ => {}
        }
    }
    workers
        .iter_mut()
        .for_each(|worker| worker.watermark(i64::MAX));
    out.extend(drained(&mut workers));
    let mut lines = lines(&out);
    lines.sort();
    lines
}

#[test]
fn groups_survive_crashes_at_any_parallelism() {
    for seed in 0..2 {
        groups_survive(BackendKind::Forst, seed);
    }
    groups_survive(BackendKind::Hashmap, 2);
}

#[test]
fn windows_come_out_once_in_spite_of_crashes() {
    let calm = windows_of(BackendKind::Forst, None);
    assert!(calm.len() > 200, "{} windows", calm.len());
    assert!(calm.windows(2).all(|pair| pair[0] != pair[1]));
    assert_eq!(windows_of(BackendKind::Forst, Some(Random(0))), calm);
    assert_eq!(windows_of(BackendKind::Hashmap, Some(Random(1))), calm);
}
