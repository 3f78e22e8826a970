//! Keyed and operator state for stream processing.

pub mod access;
mod api;
pub mod checkpoint;
pub mod key_group;
pub use api::*;
