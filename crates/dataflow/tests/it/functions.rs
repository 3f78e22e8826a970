//! Functions over keys with asynchronous state: order per key, overlap between keys, timers, restore, and a bound in flight.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use aquifer_dataflow::job::Build;
use aquifer_dataflow::operator::{Collector, StatelessOperator};
use aquifer_dataflow::process::{KeyedProcess, ProcessContext};
use aquifer_dataflow::{ChangeBatch, JobError};
use aquifer_state::{
    KeyedStateStore, MapState, MapStateDescriptor, ValueState, ValueStateDescriptor,
};

use crate::fixtures::{
    BACKENDS, Database, DatabaseSink, Numbers, batch, expected_counts, options, rows, run,
};

/// Arrow rows to records; the value is the event time, and the watermark the least of what each split has reached.
#[derive(Default)]
struct ToRecords {
    watermarks: bool,
    reached: BTreeMap<i64, i64>,
    batches: usize,
}

const SPLITS: i64 = 4;

impl StatelessOperator<ChangeBatch, Vec<(i64, i64)>> for ToRecords {
    fn on_batch(
        &mut self,
        batch: ChangeBatch,
        out: &mut Collector<Vec<(i64, i64)>>,
    ) -> Result<(), JobError> {
        let rows = rows(&batch);
        for (_, time) in &rows {
            self.reached.insert(time % SPLITS, *time);
        }
        self.batches += 1;
        out.emit(rows);
        // A reader takes its splits in turn: by then it has shown all of them.
        if self.watermarks && self.batches >= 2 * SPLITS as usize {
            out.watermark(self.reached.values().copied().min().unwrap_or(i64::MIN));
        }
        Ok(())
    }
}

struct ToBatch;

impl StatelessOperator<Vec<(i64, i64)>, ChangeBatch> for ToBatch {
    fn on_batch(
        &mut self,
        rows: Vec<(i64, i64)>,
        out: &mut Collector<ChangeBatch>,
    ) -> Result<(), JobError> {
        out.emit(batch(&rows));
        Ok(())
    }
}

/// Futures that wait for a task on another thread, so that records really overlap.
async fn elsewhere(runtime: &tokio::runtime::Handle) -> Result<(), JobError> {
    let task = runtime.spawn(tokio::task::yield_now());
    task.await
        .map_err(|error| JobError::failed(error.to_string()))
}

/// Counts the records of a key, with an await between read and write: only per-key order makes it right.
struct Count {
    runtime: tokio::runtime::Handle,
    count: Option<ValueState<i64>>,
    in_flight: Arc<AtomicUsize>,
    in_flight_max: Arc<AtomicUsize>,
}

impl KeyedProcess for Count {
    type Key = i64;
    type In = (i64, i64);
    type Out = (i64, i64);

    fn open(&mut self, states: &KeyedStateStore<i64>) -> Result<(), JobError> {
        self.count = Some(states.value_state(&ValueStateDescriptor::new("count"))?);
        Ok(())
    }

    fn key(&self, record: &(i64, i64)) -> i64 {
        record.0
    }

    async fn process(
        self: Rc<Self>,
        record: (i64, i64),
        context: ProcessContext<(i64, i64)>,
    ) -> Result<(), JobError> {
        let now = self.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        self.in_flight_max.fetch_max(now, Ordering::Relaxed);
        let state = self.count.as_ref().expect("opened");
        let count = state.get().await?.unwrap_or(0) + 1;
        elsewhere(&self.runtime).await?;
        state.put(count)?;
        context.emit((record.0, count));
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        Ok(())
    }
}

#[test]
fn records_of_a_key_keep_their_order_and_others_overlap_within_the_bound() {
    for backend in BACKENDS {
        let source = Numbers {
            keys: 50,
            ..Numbers::default()
        };
        let database = Database::new();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let in_flight_max = Arc::new(AtomicUsize::new(0));
        let build: Build = {
            let (source, database) = (source.clone(), Arc::clone(&database));
            let (runtime, most) = (runtime.handle().clone(), Arc::clone(&in_flight_max));
            Arc::new(move |env| {
                let count = Count {
                    runtime: runtime.clone(),
                    count: None,
                    in_flight: Arc::new(AtomicUsize::new(0)),
                    in_flight_max: Arc::clone(&most),
                };
                env.source("source", Arc::new(source.clone()))?
                    .stateless("records", ToRecords::default())
                    .key_by("by key", |record: &(i64, i64)| record.0)
                    .process("count", count)?
                    .stateless("rows", ToBatch)
                    .sink("sink", Arc::new(DatabaseSink(Arc::clone(&database))))
            })
        };
        let mut options = options(&format!("functions-{backend:?}"), 2, backend);
        options.async_in_flight_max = 20;
        run(options, build).unwrap();
        assert_eq!(
            database.committed(),
            expected_counts(&source),
            "{backend:?}"
        );
        let most = in_flight_max.load(Ordering::Relaxed);
        assert!(
            (2..=20).contains(&most),
            "{most} records were under way at most"
        );
    }
}

/// Sums the records of a key in windows of 500 ms of event time, with one timer per window; its `on_timer` registers a second one
/// that is due at once, which must fire in the same round.
struct Windows {
    sums: Option<MapState<i64, i64>>,
    fired: Arc<AtomicI64>,
}

const WINDOW_MS: i64 = 500;

impl KeyedProcess for Windows {
    type Key = i64;
    type In = (i64, i64);
    type Out = (i64, i64);

    fn open(&mut self, states: &KeyedStateStore<i64>) -> Result<(), JobError> {
        self.sums = Some(states.map_state(&MapStateDescriptor::new("sums"))?);
        Ok(())
    }

    fn key(&self, record: &(i64, i64)) -> i64 {
        record.0
    }

    async fn process(
        self: Rc<Self>,
        (_, time): (i64, i64),
        context: ProcessContext<(i64, i64)>,
    ) -> Result<(), JobError> {
        let end = (time / WINDOW_MS + 1) * WINDOW_MS;
        assert!(
            end - 1 > context.current_watermark(),
            "no record of these tests is late"
        );
        let sums = self.sums.as_ref().expect("opened");
        let sum = sums.get(&end).await?.unwrap_or(0);
        sums.put(&end, &(sum + time))?;
        context.register_event_time_timer(end - 1)
    }

    async fn on_timer(
        self: Rc<Self>,
        timestamp_ms: i64,
        context: ProcessContext<(i64, i64)>,
    ) -> Result<(), JobError> {
        self.fired.fetch_add(1, Ordering::Relaxed);
        let sums = self.sums.as_ref().expect("opened");
        if timestamp_ms % WINDOW_MS == WINDOW_MS - 1 {
            return context.register_event_time_timer(timestamp_ms + 1);
        }
        let sum = sums.get(&timestamp_ms).await?.expect("a window has a sum");
        sums.remove(&timestamp_ms)?;
        context.emit((timestamp_ms, sum));
        Ok(())
    }
}

/// What the windows must emit: for each key and window the sum of its times.
fn expected_windows(source: &Numbers) -> Vec<(i64, i64)> {
    let mut sums: BTreeMap<(i64, i64), i64> = BTreeMap::new();
    for n in 0..source.rows_per_split {
        for split in 0..source.splits {
            let time = (n * source.splits + split) as i64;
            let end = (time / WINDOW_MS + 1) * WINDOW_MS;
            *sums.entry(((n % source.keys) as i64, end)).or_default() += time;
        }
    }
    let mut rows: Vec<_> = sums.into_iter().map(|((_, end), sum)| (end, sum)).collect();
    rows.sort_unstable();
    rows
}

#[test]
fn timers_fire_once_in_order_through_failures_and_rescaling() {
    for backend in BACKENDS {
        let source = Numbers {
            rows_per_split: 3000,
            keys: 7,
            pause_ms: 1,
            rows_per_epoch: 500,
            ..Numbers::default()
        };
        let database = Database::new();
        let fired = Arc::new(AtomicI64::new(0));
        let build: Build = {
            let (source, database, fired) =
                (source.clone(), Arc::clone(&database), Arc::clone(&fired));
            Arc::new(move |env| {
                env.source("source", Arc::new(source.clone()))?
                    .stateless(
                        "records",
                        ToRecords {
                            watermarks: true,
                            ..ToRecords::default()
                        },
                    )
                    .key_by("by key", |record: &(i64, i64)| record.0)
                    .process(
                        "windows",
                        Windows {
                            sums: None,
                            fired: Arc::clone(&fired),
                        },
                    )?
                    .stateless("rows", ToBatch)
                    .sink("sink", Arc::new(DatabaseSink(Arc::clone(&database))))
            })
        };
        let mut failures = 0;
        for (attempt, parallelism) in [2, 3, 1, 2].into_iter().enumerate() {
            let mut options = options(&format!("timers-{backend:?}"), parallelism, backend);
            options.resume = attempt > 0;
            let limit = if attempt == 3 {
                i64::MAX
            } else {
                (attempt as i64 + 1) * 40
            };
            database.fail_after.store(limit, Ordering::Relaxed);
            failures += u32::from(run(options, Arc::clone(&build)).is_err());
        }
        assert_eq!(failures, 3, "the job must fail before it succeeds");
        assert_eq!(
            database.committed(),
            expected_windows(&source),
            "{backend:?}"
        );
        let windows = expected_windows(&source).len() as i64;
        assert!(
            fired.load(Ordering::Relaxed) >= 2 * windows,
            "each window has two timers"
        );
    }
}
