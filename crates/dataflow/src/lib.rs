//! Streaming operators on timely dataflow: barriers, watermarks, timers, coordinator, recovery.

pub mod change;
pub mod connector;
mod error;
pub mod graph;
pub mod job;
pub mod operator;
mod payload;

pub use change::{ChangeBatch, RowKind};
pub use error::{JobError, JobErrorKind};
