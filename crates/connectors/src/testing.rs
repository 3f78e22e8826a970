//! What the unit tests of several connectors need: surroundings and tables.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use aquifer_dataflow::ChangeBatch;
use aquifer_dataflow::connector::{ConnectorContext, Source, SourcePoll, SourceReader, TableSpec};
use arrow::datatypes::{Field, Schema};

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
}

/// Surroundings of worker `worker` of `workers`, with a clock that stands at 2020-01-01.
pub(crate) fn context(
    runtime: &tokio::runtime::Runtime,
    worker: usize,
    workers: usize,
) -> ConnectorContext {
    context_with_clock(
        runtime,
        worker,
        workers,
        Arc::new(AtomicI64::new(1_577_836_800_000)),
    )
}

pub(crate) fn context_with_clock(
    runtime: &tokio::runtime::Runtime,
    worker: usize,
    workers: usize,
    clock: Arc<AtomicI64>,
) -> ConnectorContext {
    ConnectorContext {
        worker,
        workers,
        attempt: 1,
        run_id: "run".to_owned(),
        operator: "sink".to_owned(),
        runtime: runtime.handle().clone(),
        waker: Arc::new(|| {}),
        now_ms: Arc::new(move || clock.load(Ordering::Relaxed)),
    }
}

pub(crate) fn table(name: &str, columns: Vec<Field>, options: &[(&str, &str)]) -> TableSpec {
    TableSpec {
        name: name.to_owned(),
        schema: Arc::new(Schema::new(columns)),
        options: options
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect(),
        primary_key: Vec::new(),
        partitioned_by: Vec::new(),
    }
}

/// Deals the splits out to `workers` readers, as a job does.
pub(crate) fn readers(
    source: &dyn Source,
    splits: Vec<Vec<u8>>,
    workers: usize,
    runtime: &tokio::runtime::Runtime,
) -> Vec<Box<dyn SourceReader>> {
    (0..workers)
        .map(|worker| {
            let mine = splits
                .iter()
                .skip(worker)
                .step_by(workers)
                .cloned()
                .collect();
            source
                .reader(mine, context(runtime, worker, workers))
                .unwrap()
        })
        .collect()
}

/// The next batch; `None` when the reader has finished. Waits in between if the reader asks for it.
pub(crate) fn next_batch(reader: &mut dyn SourceReader, rows_max: usize) -> Option<ChangeBatch> {
    for _ in 0..60_000 {
        match reader.poll(rows_max).unwrap() {
            SourcePoll::Batch(batch) => return Some(batch),
            SourcePoll::Finished => return None,
            SourcePoll::Pending { .. } => {
                std::thread::park_timeout(std::time::Duration::from_millis(1));
            }
        }
    }
    panic!("the reader never got any data");
}

/// The rows of a batch as printed lines.
pub(crate) fn printed(batch: &ChangeBatch) -> Vec<String> {
    let mut out = String::new();
    crate::print::format_change_batch(batch, &mut out);
    out.lines().map(str::to_owned).collect()
}
