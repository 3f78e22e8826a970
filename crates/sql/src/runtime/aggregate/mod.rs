//! Aggregates over keyed state, batch by batch: what group aggregates and window aggregates have in common.
//!
//! A batch is folded per key first (`KeyFold`); then the state of its groups is read at once, every aggregate folds its column over the rows in
//! their order, and what changed is written once per group. One state row per group holds, in this order, the number of its records (only if
//! rows can be taken back) and the accumulator of each call; DISTINCT, and MIN and MAX of values that can be taken back, keep their values in
//! an ordered table each (`values`).

mod accumulator;
mod call;
mod codec;
mod columns;
mod extreme;
mod fixed;
mod fold;
mod functions;
mod group;
mod set;
mod slot;
mod values;

pub use call::{AggregateCall, AggregateFunction};
pub use columns::KeyColumns;
pub use fold::KeyFold;
pub use group::{GroupAggregate, GroupAggregateSpec};
pub use set::{Aggregates, Applied, PreparedBatch, Tell};
