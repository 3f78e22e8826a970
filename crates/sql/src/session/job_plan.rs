//! What a job computes: one optimised plan per sink.

use std::fmt::Write as _;
use std::sync::Arc;

use datafusion_expr::LogicalPlan;

use crate::catalog::CatalogTable;

/// Where the rows of a plan go.
#[derive(Clone, Debug)]
pub enum SinkTarget {
    /// Into a table. The plan's columns are the table's physical columns: same number, order and types.
    Table(Arc<CatalogTable>),
    /// A bare `SELECT`: the changelog is shown to the user.
    Collect,
}

/// An optimised plan and where its rows go.
#[derive(Clone, Debug)]
pub struct PlannedSink {
    /// The optimised plan of the query.
    pub plan: LogicalPlan,
    /// Where its rows go.
    pub target: SinkTarget,
}

/// A job: one or several inserts, or one bare `SELECT`.
#[derive(Clone, Debug)]
pub struct JobPlan {
    /// At least one; a `Collect` is alone.
    pub sinks: Vec<PlannedSink>,
    /// What the job is, for people: `insert-into_a,b` or `collect`, as Flink names it.
    pub description: String,
}

impl JobPlan {
    /// One job for some sinks.
    pub fn new(sinks: Vec<PlannedSink>) -> Self {
        let tables: Vec<&str> = sinks
            .iter()
            .filter_map(|sink| match &sink.target {
                SinkTarget::Table(table) => Some(table.spec.name.as_str()),
                SinkTarget::Collect => None,
            })
            .collect();
        let description = if tables.is_empty() {
            "collect".to_string()
        } else {
            format!("insert-into_{}", tables.join(","))
        };
        Self { sinks, description }
    }

    /// Several jobs as one; inserts of one script run together.
    pub fn merge(jobs: impl IntoIterator<Item = JobPlan>) -> Self {
        Self::new(jobs.into_iter().flat_map(|job| job.sinks).collect())
    }

    /// The whole job as text, one operator per line: the same text means the same computation.
    pub fn explain(&self) -> String {
        let mut out = String::new();
        for sink in &self.sinks {
            let target = match &sink.target {
                SinkTarget::Table(table) => table.spec.name.as_str(),
                SinkTarget::Collect => "(collect)",
            };
            let _ = writeln!(out, "Sink: {target}");
            for line in sink.plan.display_indent().to_string().lines() {
                let _ = writeln!(out, "  {line}");
            }
        }
        out
    }
}
