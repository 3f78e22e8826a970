//! Disaggregated state management for stream processing: the working state of a streaming job lives on an object store, and memory is
//! only a cache. Checkpoints are light, recovery and rescaling copy no state, and the state may be larger than any machine.
//!
//! This crate is the front door. It runs scripts of Flink SQL ([`runner`]), reads configuration files with Flink's keys ([`config_file`]), and
//! names the parts, each of which can be used on its own:
//!
//! * [`sql`]: Flink SQL, from text to streaming operators;
//! * [`connectors`]: sources and sinks by name;
//! * [`dataflow`]: operators, jobs, and what a connector implements;
//! * [`state`]: keyed state with asynchronous and synchronous access, timers, checkpoints;
//! * [`store`]: the log-structured store on an object store.
//!
//! The command `aquifer` is a thin shell around [`runner`].
//!
//! # A job from Rust
//!
//! ```
//! use std::sync::{Arc, Mutex};
//!
//! use aquifer::dataflow::config::Configuration;
//! use aquifer::runner::{Runner, RunnerSettings, Silent};
//!
//! let rows = Arc::new(Mutex::new(Vec::new()));
//! let mut runner = Runner::new(RunnerSettings {
//!     configuration: Configuration::default(),
//!     default_job_name: "orders".to_owned(),
//!     default_checkpoint_dir: Some("memory://orders".to_owned()),
//!     default_local_dir: None,
//!     resume: false,
//!     // A clock that stands still will do for a job without timers; a program passes its own.
//!     now_ms: Arc::new(|| 0),
//!     rows: rows.clone(),
//!     console: Arc::new(Silent),
//! });
//! runner.run_script(
//!     "orders.sql",
//!     "CREATE VIEW orders AS SELECT * FROM (VALUES ('ada', 3), ('bob', 5), ('ada', 4)) AS t(customer, amount);
//!      SELECT customer, SUM(amount) AS total FROM orders GROUP BY customer;",
//! )?;
//! let text = String::from_utf8(rows.lock().unwrap().clone())?;
//! assert!(text.contains("+U[ada, 7]"), "{text}");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod config_file;
pub mod runner;

pub use aquifer_connectors as connectors;
pub use aquifer_dataflow as dataflow;
pub use aquifer_sql as sql;
pub use aquifer_state as state;
pub use aquifer_store as store;
