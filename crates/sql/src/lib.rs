//! Flink SQL, planned and run as a streaming dataflow over keyed state.
//!
//! The front half turns text into optimised logical plans: `parser` splits a script into statements, `session` runs the ones that only change the
//! session and plans the others, `catalog` holds tables and views, `logical` the plan nodes that DataFusion lacks, `optimize` the chosen rules. The
//! back half, `runtime`, turns those plans into operators of a dataflow.

pub mod catalog;
pub mod changelog;
pub mod error;
pub mod functions;
pub mod logical;
mod nearest;
mod optimize;
pub mod parser;
mod planner;
pub mod runtime;
pub mod session;

pub use error::{Location, SqlError};

#[cfg(test)]
mod tests;
