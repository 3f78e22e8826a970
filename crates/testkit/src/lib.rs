//! Fault injection for testing Aquifer. For development only: nothing that ships depends on it.
//!
//! * [`FaultyObjects`] wraps any object store and makes its requests fail as real stores do: errors after which the request was
//!   or was not applied, bursts of throttling, latency, conditional puts that are silently ignored, a crash at the N-th request.
//!   It also counts requests, for tests that promise how many there are.
//! * [`Truth`] is an object store in memory that keeps every version of every object, and [`Stormy`] one process's way to it:
//!   requests are numbered and recorded in a [`History`], meet the faults of a [`Storm`], and end with the process.
//! * [`Rng`] is the only source of chance in tests, so that a seed repeats a run.
//!
//! ```
//! use std::sync::Arc;
//!
//! use aquifer_testkit::{Fault, FaultyObjects, RequestKind};
//! use object_store::memory::InMemory;
//! use object_store::path::Path;
//! use object_store::{ObjectStore, ObjectStoreExt};
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let truth: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
//! let objects = FaultyObjects::new(truth.clone());
//! objects.fail_next(RequestKind::Put, Fault::ErrorApplied);
//! let path = Path::from("a");
//! assert!(objects.put(&path, "1".into()).await.is_err());
//! assert!(truth.get(&path).await.is_ok(), "the error came after the put was done");
//! assert_eq!(objects.counts().requests(RequestKind::Put), 1);
//! # });
//! ```

mod counts;
mod history;
mod objects;
mod plan;
mod rng;
mod storm;
mod stormy;
mod truth;

pub use counts::{Counts, RequestKind};
pub use history::History;
pub use objects::{FaultyObjects, Hook};
pub use plan::{Fault, FaultPlan};
pub use rng::Rng;
pub use storm::{Crash, FaultKind, Storm};
pub use stormy::Stormy;
pub use truth::{ListView, Truth};
