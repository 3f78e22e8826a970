//! The back half: from optimised plans to a streaming dataflow.
//!
//! `translate` turns each logical plan into a tree of streaming operators (`stream`), checks that it can run, and derives which operators make updates;
//! `build` puts the tree into a dataflow, once per worker. The operators: `calc` (projections and filters), `watermark`, `window` (windows for rows,
//! and aggregates over them), `aggregate` (unbounded groups), `values` (rows from the query's text). `row_key` files keys in state.
//!
//! What always holds: columns of a batch have the types of the operator's schema; a row's kind stays with the row; a key's rows keep their order.

pub mod aggregate;
mod build;
pub mod calc;
#[cfg(test)]
pub(crate) mod harness;
pub mod row_key;
#[cfg(test)]
mod sql_tests;
mod stream;
#[cfg(test)]
mod tests;
mod translate;
mod values;
pub mod watermark;
pub mod window;

pub use build::build_job;
pub use stream::{StreamJob, StreamOptions};
pub use translate::explain_changelog;

use aquifer_dataflow::JobError;
use datafusion_common::DataFusionError;

/// An expression failed on data.
pub(crate) fn failed(error: &DataFusionError) -> JobError {
    JobError::failed(crate::error::plan_message(error))
}

/// A plan cannot run.
pub(crate) fn refused(error: &DataFusionError) -> JobError {
    JobError::usage(crate::error::plan_message(error))
}
