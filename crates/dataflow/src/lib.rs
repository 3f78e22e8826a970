//! Streaming operators on timely dataflow: barriers, watermarks, timers, coordinator, recovery.

pub mod change;
pub mod config;
pub mod connector;
mod error;
pub mod graph;
pub mod job;
mod envelope;
pub mod operator;
mod payload;
pub mod process;
mod control;
mod runner;
mod time;
mod worker;

pub use change::{ChangeBatch, RowKind};
pub use error::{JobError, JobErrorKind};
