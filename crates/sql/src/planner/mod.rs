//! From parsed queries to logical plans, by DataFusion's planner with Flink's meaning put in at its hooks.

mod binary;
mod context;
mod decimal;
mod expressions;
mod group_windows;
mod insert;
mod literals;
mod relations;
mod rewrite;
mod types;

pub(crate) use context::PlanContext;
pub(crate) use decimal::DecimalType;
pub(crate) use insert::plan_insert;
pub(crate) use types::{LENGTH, type_name};
