//! An LSM tree whose files live on an object store, made for the state of streaming jobs.

mod api;
pub mod objects;
pub use api::*;
