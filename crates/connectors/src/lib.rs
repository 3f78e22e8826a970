//! Sources and sinks: nexmark, datagen, filesystem, print, blackhole.
//!
//! TODOC

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

use std::sync::Arc;

use aquifer_dataflow::JobError;
use aquifer_dataflow::connector::{ConnectorRegistry, TableSpec};

/// Flink's option for the number of a sink's writers.
const SINK_PARALLELISM: &str = "sink.parallelism";

/// Adds every connector of this crate; `print` writes to the process's standard output and standard error.
pub fn register_all(registry: &mut ConnectorRegistry) {
    registry.register(Arc::new(blackhole::BlackholeFactory));
    registry.register(Arc::new(datagen::DatagenFactory));
    registry.register(Arc::new(filesystem::FilesystemFactory::default()));
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
