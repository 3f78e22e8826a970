//! Event-time windows: which windows a row belongs to (`assign`), and aggregates that come out when a window's time is over (`aggregate`).

mod aggregate;
mod assign;
mod bounds;

pub use aggregate::{WindowAggregate, WindowAggregateSpec, WindowOutput};
pub use assign::{WindowAssign, WindowAssignSpec};
