//! Sources and sinks: nexmark, datagen, filesystem, print, blackhole.
//!
//! | `'connector' =` | reads | writes | what it is for |
//! |---|---|---|---|
//! | [`nexmark`] | yes | – | the field's standard stream of auction events |
//! | [`datagen`] | yes | – | rows of made-up values |
//! | [`filesystem`] | yes | exactly once | CSV and JSON files, local or on an object store |
//! | [`print`](mod@print) | – | at least once | every change of a result, one line each |
//! | [`blackhole`] | – | counts for nothing | measuring what comes before it |
//!
//! Options have Flink's names; each module's page lists its own. An option that a connector does not know is an error that names
//! the nearest one it knows, and every malformed value is told with the table, the option, what was expected and what was found.
//!
//! ## What always holds
//! * **A source replays.** What a reader gives is a function of its splits' positions; a snapshot tells the positions behind the
//!   rows that were handed out, and any reader can go on from them. The generated sources have a fixed number of splits, so
//!   that any number of workers can share them after a restart; row `n` is the same whoever makes it.
//! * **A sink's rows become visible with their checkpoint**, if it can hold them back (`filesystem`), or at once (`print`).
//! * **Nothing from outside is trusted**: files, positions and committables are decoded with every length checked.
//! * **Time and I/O come from the [context](aquifer_dataflow::connector::ConnectorContext)**: the clock is the passed one, and
//!   files are read on the passed runtime, a bounded number of batches ahead.
//!
//! ## Example
//! Five events of the Nexmark stream, as the print sink would show them:
//! ```
//! use std::sync::Arc;
//! use aquifer_dataflow::connector::{ConnectorContext, ConnectorRegistry, SourcePoll, TableSpec};
//! use arrow::datatypes::{DataType, Field, Schema};
//!
//! let mut registry = ConnectorRegistry::default();
//! aquifer_connectors::register_all(&mut registry);
//!
//! // CREATE TABLE events (event_type INT, bid ROW<auction BIGINT, bidder BIGINT>)
//! //   WITH ('connector' = 'nexmark', 'events.num' = '5')
//! let long = |name: &str| Field::new(name, DataType::Int64, true);
//! let bid = DataType::Struct(vec![long("auction"), long("bidder")].into());
//! let table = TableSpec {
//!     name: "events".to_owned(),
//!     schema: Arc::new(Schema::new(vec![
//!         Field::new("event_type", DataType::Int32, true),
//!         Field::new("bid", bid, true),
//!     ])),
//!     options: [("events.num".to_owned(), "5".to_owned())].into(),
//!     primary_key: Vec::new(),
//!     partitioned_by: Vec::new(),
//! };
//! let source = registry.get("nexmark")?.source(&table)?;
//!
//! let runtime = tokio::runtime::Runtime::new().expect("threads can be started");
//! let context = ConnectorContext {
//!     worker: 0,
//!     workers: 1,
//!     attempt: 1,
//!     run_id: "example".to_owned(),
//!     operator: "events".to_owned(),
//!     runtime: runtime.handle().clone(),
//!     waker: Arc::new(|| {}),
//!     now_ms: Arc::new(|| 0),
//! };
//! let mut reader = source.reader(source.splits(1)?, context)?;
//! let mut shown = String::new();
//! while let SourcePoll::Batch(batch) = reader.poll(100)? {
//!     aquifer_connectors::print::format_change_batch(&batch, &mut shown);
//! }
//! assert_eq!(
//!     shown,
//!     "+I[0, null]\n+I[1, null]\n+I[1, null]\n+I[1, null]\n+I[2, +I[1000, 1001]]\n"
//! );
//! # Ok::<(), aquifer_dataflow::JobError>(())
//! ```
//!
//! ## How it is laid out
//! [`nexmark`], [`datagen`], [`filesystem`], [`print`](mod@print) and [`blackhole`] are connectors. Below them: `format` (CSV and
//! JSON), `column` and `scalar` (values into Arrow), `cells` (Arrow into values), `calendar`, `numbers` and `base64` (values as
//! text), `strided` (splits of a generated source), `draws` (randomness by row number), `pace` (rows per second), `options` (the
//! `WITH` clause).

mod base64;
pub mod blackhole;
mod calendar;
mod cells;
mod column;
pub mod datagen;
mod draws;
pub mod filesystem;
mod format;
pub mod nexmark;
mod numbers;
mod options;
mod pace;
pub mod print;
mod scalar;
mod strided;
mod types;

#[cfg(test)]
mod testing;

use std::collections::BTreeMap;
use std::sync::Arc;

use aquifer_dataflow::JobError;
use aquifer_dataflow::connector::{ConnectorRegistry, TableSpec};

/// Flink's option for the number of a sink's writers.
const SINK_PARALLELISM: &str = "sink.parallelism";

/// Adds every connector of this crate; `print` writes to the process's standard output and standard error, and object stores
/// are reached with the settings of the environment.
pub fn register_all(registry: &mut ConnectorRegistry) {
    register_all_with(registry, BTreeMap::new());
}

/// The same with settings for object stores: `s3.endpoint`, `s3.access-key` and the others that
/// [`aquifer_store::objects::open`] takes. Unknown ones are ignored, so a job's whole configuration may be passed.
pub fn register_all_with(
    registry: &mut ConnectorRegistry,
    store_settings: BTreeMap<String, String>,
) {
    registry.register(Arc::new(blackhole::BlackholeFactory));
    registry.register(Arc::new(datagen::DatagenFactory));
    registry.register(Arc::new(filesystem::FilesystemFactory::new(store_settings)));
    registry.register(Arc::new(nexmark::NexmarkFactory));
    registry.register(Arc::new(print::PrintFactory::default()));
}

fn not_readable(table: &TableSpec, connector: &str) -> JobError {
    JobError::usage(format!(
        "table '{}': connector '{connector}' can only be written, but the table is read",
        table.name
    ))
}

fn not_writable(table: &TableSpec, connector: &str) -> JobError {
    JobError::usage(format!(
        "table '{}': connector '{connector}' can only be read, but the table is written",
        table.name
    ))
}

/// `sink.parallelism` is accepted so that Flink's scripts run, and checked to be a number: every sink runs with the job's parallelism.
fn check_sink_parallelism(table: &TableSpec, connector: &'static str) -> Result<(), JobError> {
    options::Options::new(table, connector)
        .whole(SINK_PARALLELISM, 1, 1..=i64::from(u16::MAX))
        .map(|_| ())
}
