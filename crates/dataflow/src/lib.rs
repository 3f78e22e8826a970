//! Streaming operators on [timely dataflow](timely): barriers, watermarks, timers, a coordinator, recovery.
//!
//! A job is a function that builds the same graph on every worker. Sources read splits, operators keep keyed state in a backend of
//! `aquifer-state`, sinks make visible what a complete checkpoint has prepared. [`job::run`] finds the newest checkpoint, restores,
//! runs the workers and takes checkpoints until the sources end.
//!
//! ```
//! use std::sync::Arc;
//! use aquifer_dataflow::memory::{MemorySink, MemorySource};
//! use aquifer_dataflow::operator::{Collector, StatelessOperator};
//! use aquifer_dataflow::{ChangeBatch, JobError, job};
//! use arrow::array::{Int64Array, RecordBatch};
//!
//! /// Drops every second row.
//! struct Thin;
//!
//! impl StatelessOperator<ChangeBatch, ChangeBatch> for Thin {
//!     fn on_batch(&mut self, batch: ChangeBatch, out: &mut Collector<ChangeBatch>) -> Result<(), JobError> {
//!         for row in (0..batch.rows.num_rows()).step_by(2) {
//!             out.emit(ChangeBatch::inserts(batch.rows.slice(row, 1)));
//!         }
//!         Ok(())
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let numbers = RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from_iter_values(0..100)) as _)])?;
//! let source = Arc::new(MemorySource::new(vec![ChangeBatch::inserts(numbers)]));
//! let sink = MemorySink::default();
//!
//! let options = job::JobOptions {
//!     parallelism: 2,
//!     checkpoint_dir: "memory://thin".into(),
//!     ..job::JobOptions::new("thin", Arc::new(|| 0))
//! };
//! let written = sink.clone();
//! let report = job::run(options, Arc::new(move |env| {
//!     env.source("numbers", source.clone())?.stateless("thin", Thin).sink("sink", Arc::new(written.clone()))
//! }))?;
//! assert_eq!((report.rows_in, report.rows_out), (100, 50));
//! assert_eq!(sink.take().iter().map(|batch| batch.rows.num_rows()).sum::<usize>(), 50);
//! # Ok(())
//! # }
//! ```
//!
//! # What always holds
//!
//! - **Time is a checkpoint epoch and a tick**; an operator has finished an epoch when its frontier has passed it, and that is the
//!   barrier. Event time travels as watermarks, in band.
//! - **Nothing queues without bound**: a source stops when the slowest sink is a window of batches behind.
//! - **A checkpoint is complete when its metadata is written** under an id that nobody else had taken, and not before every worker's
//!   part is durable. Sinks commit only what a complete checkpoint holds, before the next one is triggered.
//! - **Failure of anything ends the attempt everywhere.** The next run goes on from the newest complete checkpoint, with any number of
//!   workers up to the number of key groups.

pub mod change;
pub mod config;
pub mod connector;
mod control;
mod envelope;
mod error;
pub mod graph;
pub mod job;
pub mod memory;
pub mod operator;
mod payload;
pub mod process;
mod runner;
mod time;
mod worker;

pub use change::{ChangeBatch, RowKind};
pub use error::{JobError, JobErrorKind};
