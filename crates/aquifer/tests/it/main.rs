//! Tests of the real binary: what it prints where, how it ends, and that a killed job goes on where its last checkpoint was.

mod checkpoint;
mod command;
mod compactor;
mod configuration;
mod kill;
mod output;
mod prompt;
mod s3;
mod servers;
mod state;
#[cfg(feature = "state-sql")]
mod state_sql;
mod store;
mod support;
