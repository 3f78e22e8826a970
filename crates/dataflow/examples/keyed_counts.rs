//! How fast a function over keys runs: counts the records of each key, with or without timers, and says how long it took.
//!
//! `cargo run --release -p aquifer-dataflow --example keyed_counts -- [counts|timers] [hashmap|forst] [keys] [records] [workers]`
//!
//! `timers` has each record register an event-time timer of its key, one for all records of 1024 batches, which clears the count when it fires.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use aquifer_dataflow::connector::{
    ConnectorContext, Sink, SinkWriter, Source, SourcePoll, SourceReader,
};
use aquifer_dataflow::job::{self, Build, JobOptions};
use aquifer_dataflow::operator::{Collector, StatelessOperator};
use aquifer_dataflow::process::{KeyedProcess, ProcessContext};
use aquifer_dataflow::{ChangeBatch, JobError};
use aquifer_state::{BackendKind, KeyedStateStore, ValueState, ValueStateDescriptor};
use arrow::array::{AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};

/// Records of one batch.
const BATCH: i64 = 4096;
/// Batches between two firings of a key's timer.
const ROUND_BATCHES: i64 = 1024;

/// A key and a time.
type Record = (i64, i64);

/// Numbers from 0 on, every worker its share.
struct Numbers {
    records: i64,
    workers: i64,
}

struct Reader {
    next: i64,
    end: i64,
    step: i64,
    schema: Arc<Schema>,
}

impl Source for Numbers {
    fn splits(&self, workers: usize) -> Result<Vec<Vec<u8>>, JobError> {
        Ok((0..workers).map(|split| vec![split as u8]).collect())
    }

    fn reader(
        &self,
        splits: Vec<Vec<u8>>,
        _context: ConnectorContext,
    ) -> Result<Box<dyn SourceReader>, JobError> {
        let split = splits.first().and_then(|split| split.first());
        Ok(Box::new(Reader {
            next: split.map_or(self.records, |split| i64::from(*split)),
            end: self.records,
            step: self.workers,
            schema: Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)])),
        }))
    }

    fn bounded(&self) -> bool {
        true
    }
}

impl SourceReader for Reader {
    fn poll(&mut self, _rows_max: usize) -> Result<SourcePoll, JobError> {
        if self.next >= self.end {
            return Ok(SourcePoll::Finished);
        }
        let until = self.end.min(self.next + BATCH * self.step);
        let numbers = (self.next..until).step_by(self.step as usize);
        let column = Int64Array::from_iter_values(numbers);
        self.next += column.len() as i64 * self.step;
        let rows = RecordBatch::try_new(Arc::clone(&self.schema), vec![Arc::new(column)]);
        let rows = rows.map_err(|error| JobError::failed(error.to_string()))?;
        Ok(SourcePoll::Batch(ChangeBatch::inserts(rows)))
    }

    fn snapshot(&mut self) -> Result<Vec<Vec<u8>>, JobError> {
        Ok(Vec::new())
    }
}

/// Rows to records: a key that looks random, and the number as the time.
struct ToRecords {
    keys: i64,
}

impl StatelessOperator<ChangeBatch, Vec<Record>> for ToRecords {
    fn on_batch(
        &mut self,
        batch: ChangeBatch,
        out: &mut Collector<Vec<Record>>,
    ) -> Result<(), JobError> {
        let numbers = batch.rows.column(0).as_primitive::<Int64Type>().values();
        let key = |n: i64| (n.wrapping_mul(0x9E37_79B9_7F4A_7C15_u64 as i64) >> 20) & i64::MAX;
        out.emit(numbers.iter().map(|n| (key(*n) % self.keys, *n)).collect());
        if let Some(last) = numbers.last() {
            out.watermark(last - BATCH);
        }
        Ok(())
    }
}

/// Records to rows, of which the sink only needs the number.
struct ToRows;

impl StatelessOperator<Vec<Record>, ChangeBatch> for ToRows {
    fn on_batch(
        &mut self,
        records: Vec<Record>,
        out: &mut Collector<ChangeBatch>,
    ) -> Result<(), JobError> {
        let schema = Schema::new(vec![Field::new("count", DataType::Int64, false)]);
        let counts = Int64Array::from_iter_values(records.iter().map(|record| record.1));
        let rows = RecordBatch::try_new(Arc::new(schema), vec![Arc::new(counts)]);
        let rows = rows.map_err(|error| JobError::failed(error.to_string()))?;
        out.emit(ChangeBatch::inserts(rows));
        Ok(())
    }
}

struct Nowhere;

impl Sink for Nowhere {
    fn writer(&self, _context: ConnectorContext) -> Result<Box<dyn SinkWriter>, JobError> {
        Ok(Box::new(Self))
    }

    fn commit(&self, _: Vec<Vec<u8>>, _: &ConnectorContext) -> Result<(), JobError> {
        Ok(())
    }

    fn accepts_updates(&self) -> bool {
        true
    }
}

impl SinkWriter for Nowhere {
    fn write(&mut self, _batch: &ChangeBatch) -> Result<(), JobError> {
        Ok(())
    }

    fn prepare_commit(&mut self, _checkpoint_id: u64) -> Result<Vec<Vec<u8>>, JobError> {
        Ok(Vec::new())
    }
}

/// Counts the records of each key.
#[derive(Clone)]
struct Count {
    timers: bool,
    count: Option<ValueState<i64>>,
}

impl KeyedProcess for Count {
    type Key = i64;
    type In = Record;
    type Out = Record;

    fn open(&mut self, states: &KeyedStateStore<i64>) -> Result<(), JobError> {
        self.count = Some(states.value_state(&ValueStateDescriptor::new("count"))?);
        Ok(())
    }

    fn key(&self, record: &Record) -> i64 {
        record.0
    }

    async fn process(
        self: Rc<Self>,
        (key, time): Record,
        context: ProcessContext<Record>,
    ) -> Result<(), JobError> {
        let Some(state) = &self.count else {
            return Ok(());
        };
        let count = state.get().await?.unwrap_or(0) + 1;
        state.put(count)?;
        if self.timers {
            let round = BATCH * ROUND_BATCHES;
            context.register_event_time_timer((time / round + 1) * round)?;
        }
        context.emit((key, count));
        Ok(())
    }

    async fn on_timer(
        self: Rc<Self>,
        _timestamp_ms: i64,
        _context: ProcessContext<Record>,
    ) -> Result<(), JobError> {
        match &self.count {
            Some(state) => Ok(state.clear()?),
            None => Ok(()),
        }
    }
}

fn main() -> Result<(), JobError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let argument = |at: usize, default: &str| {
        let given = arguments.get(at).map(String::as_str);
        given.unwrap_or(default).to_owned()
    };
    let number = |at: usize, default: &str| {
        let given = argument(at, default).parse::<u32>();
        given.map_err(|error| JobError::usage(format!("argument {}: {error}", at + 1)))
    };
    let (what, backend) = (argument(0, "counts"), argument(1, "forst"));
    let (keys, records, workers) = (
        number(2, "100000")?,
        number(3, "10000000")?,
        number(4, "1")?,
    );
    let timers = what == "timers";
    let build: Build = Arc::new(move |env| {
        let source = Numbers {
            records: i64::from(records),
            workers: i64::from(workers),
        };
        let count = Count {
            timers,
            count: None,
        };
        env.source("numbers", Arc::new(source))?
            .stateless(
                "records",
                ToRecords {
                    keys: i64::from(keys),
                },
            )
            .key_by("by key", |record: &Record| record.0)
            .process("count", count)?
            .stateless("rows", ToRows)
            .sink("sink", Arc::new(Nowhere))
    });
    #[allow(clippy::disallowed_methods, reason = "programs have a real clock")]
    let now_ms = || {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.map_or(0, |since| since.as_millis() as i64)
    };
    let options = JobOptions {
        parallelism: workers as u16,
        checkpoint_dir: "memory://keyed-counts".to_owned(),
        checkpoint_interval_ms: Some(1000),
        backend: match backend.as_str() {
            "hashmap" => BackendKind::Hashmap,
            _ => BackendKind::Forst,
        },
        ..JobOptions::new("keyed-counts", Arc::new(now_ms))
    };
    let report = job::run(options, build)?;
    println!(
        "{what} {backend} {keys} keys, {workers} workers: {} records in {} ms, {:.2} M/s, {} checkpoints, {} bytes of state",
        report.rows_in,
        report.elapsed_ms,
        report.rows_in as f64 / report.elapsed_ms.max(1) as f64 / 1000.0,
        report.checkpoints,
        report.state_bytes
    );
    Ok(())
}
