//! What a connector implements: sources, sinks, and the registry in which SQL finds them by name.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;

use crate::{ChangeBatch, JobError};

/// A table as its `CREATE TABLE` says it, with computed columns left out: what the connector reads or writes.
#[derive(Clone, Debug)]
pub struct TableSpec {
    /// The table's name, for messages.
    pub name: String,
    /// Physical columns, in the declared order. ROW is Arrow's Struct, TIMESTAMP(3) is Timestamp(Millisecond, None),
    /// TIMESTAMP_LTZ(3) is Timestamp(Millisecond, Some("UTC")), STRING and VARCHAR are Utf8, BYTES is Binary.
    pub schema: SchemaRef,
    /// The options of `WITH (…)`, without `connector`.
    pub options: BTreeMap<String, String>,
    /// Columns of `PRIMARY KEY … NOT ENFORCED`.
    pub primary_key: Vec<String>,
    /// Columns of `PARTITIONED BY`.
    pub partitioned_by: Vec<String>,
}

/// What a reader or writer knows about its surroundings.
#[derive(Clone)]
pub struct ConnectorContext {
    /// Index of this worker, 0-based.
    pub worker: usize,
    /// Number of workers.
    pub workers: usize,
    /// The attempt of the job this is: unique among all writers that ever wrote for this job run.
    pub attempt: u64,
    /// A stable name of this run of the job (the same after `--resume`): for names of files that must not clash with other jobs' files.
    pub run_id: String,
    /// Stable id of the source or sink in the job graph, which the runner fills in: what tells apart two sinks that write to one place.
    pub operator: String,
    /// For I/O in the background.
    pub runtime: tokio::runtime::Handle,
    /// Wakes the worker: call it when a reader that was `Pending` has data.
    pub waker: Arc<dyn Fn() + Send + Sync>,
    /// Milliseconds since 1970: the only clock a connector may ask.
    pub now_ms: Arc<dyn Fn() -> i64 + Send + Sync>,
}

/// What a reader has for now.
pub enum SourcePoll {
    /// Rows. The offsets that `snapshot` tells from now on lie behind them.
    Batch(ChangeBatch),
    /// Nothing now; ask again when woken, or after this many milliseconds.
    Pending {
        /// Ask again after this many milliseconds at the latest.
        retry_ms: u64,
    },
    /// A bounded source has delivered all its rows.
    Finished,
}

/// Reads some splits of a source on one worker. All calls come from the worker's thread and must not block for long.
pub trait SourceReader {
    /// The next rows, at most `rows_max`.
    fn poll(&mut self, rows_max: usize) -> Result<SourcePoll, JobError>;
    /// Every split this reader was given, finished ones too, with the position it has reached; opaque bytes that `reader` accepts.
    fn snapshot(&mut self) -> Result<Vec<Vec<u8>>, JobError>;
}

/// A source: splits that can be read on any worker, each from any position.
pub trait Source: Send + Sync {
    /// All splits at their start. Called once, before a job's first attempt; `workers` is only a hint for their number.
    fn splits(&self, workers: usize) -> Result<Vec<Vec<u8>>, JobError>;
    /// A reader for these splits (from `splits` or from a snapshot at any parallelism; may be empty: then it is finished at once).
    fn reader(
        &self,
        splits: Vec<Vec<u8>>,
        context: ConnectorContext,
    ) -> Result<Box<dyn SourceReader>, JobError>;
    /// Whether the source ends by itself.
    fn bounded(&self) -> bool;
}

/// Writes on one worker.
pub trait SinkWriter {
    /// Takes rows; may block for I/O.
    fn write(&mut self, batch: &ChangeBatch) -> Result<(), JobError>;
    /// The barrier of `checkpoint_id` has arrived: make everything written so far durable but invisible, and say what would make it visible.
    /// Sinks that write at once (print, blackhole) flush and return nothing.
    fn prepare_commit(&mut self, checkpoint_id: u64) -> Result<Vec<Vec<u8>>, JobError>;
}

/// A sink.
pub trait Sink: Send + Sync {
    /// A writer for one worker.
    fn writer(&self, context: ConnectorContext) -> Result<Box<dyn SinkWriter>, JobError>;
    /// Makes prepared data visible. Must be idempotent: after a crash the same committables come again.
    fn commit(
        &self,
        committables: Vec<Vec<u8>>,
        context: &ConnectorContext,
    ) -> Result<(), JobError>;
    /// Called once at the start of every attempt, after the restored committables were committed and before any writer is made, on one worker:
    /// removes what earlier attempts of this run left uncommitted.
    fn recover(&self, context: &ConnectorContext) -> Result<(), JobError> {
        let _ = context;
        Ok(())
    }
    /// Whether `-U`, `+U` and `-D` rows may be written.
    fn accepts_updates(&self) -> bool;
}

/// Makes sources and sinks of one `connector` name. Unknown, missing or malformed options are `JobError::usage` errors that name the table, the
/// option, what was expected and what was found (and, for an unknown option, the nearest known one).
pub trait ConnectorFactory: Send + Sync {
    /// The value of the `connector` option.
    fn name(&self) -> &'static str;
    /// The table as a source; a usage error if this connector cannot be read.
    fn source(&self, table: &TableSpec) -> Result<Arc<dyn Source>, JobError>;
    /// The table as a sink; a usage error if this connector cannot be written.
    fn sink(&self, table: &TableSpec) -> Result<Arc<dyn Sink>, JobError>;
}

/// The connectors by name.
#[derive(Clone, Default)]
pub struct ConnectorRegistry {
    factories: BTreeMap<&'static str, Arc<dyn ConnectorFactory>>,
}

impl ConnectorRegistry {
    /// Adds a connector; one of the same name is replaced.
    pub fn register(&mut self, factory: Arc<dyn ConnectorFactory>) {
        self.factories.insert(factory.name(), factory);
    }

    /// The connector of this name, or a usage error that lists the names there are.
    pub fn get(&self, name: &str) -> Result<&Arc<dyn ConnectorFactory>, JobError> {
        self.factories.get(name).ok_or_else(|| {
            let known = self
                .factories
                .keys()
                .copied()
                .collect::<Vec<_>>()
                .join(", ");
            JobError::usage(format!(
                "there is no connector '{name}'; there are: {known}"
            ))
        })
    }
}
