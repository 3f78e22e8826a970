//! A job as a tree of streaming operators per sink: what `translate` makes and `build` puts into a dataflow.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aquifer_dataflow::connector::{Sink, Source};
use arrow::datatypes::SchemaRef;
use xxhash_rust::xxh3::xxh3_128;

use super::aggregate::GroupAggregateSpec;
use super::calc::CalcStep;
use super::watermark::WatermarkSpec;
use super::window::{WindowAggregateSpec, WindowAssignSpec};
use crate::changelog::ChangelogMode;

/// What the configuration says about how a job runs.
#[derive(Clone, Default)]
pub struct StreamOptions {
    /// `table.exec.mini-batch.enabled`: updating aggregates tell one change per key and batch instead of one per row.
    pub mini_batch: bool,
    /// Where the rows of a bare `SELECT` go; without it, to the `print` connector.
    pub collect: Option<Arc<dyn Sink>>,
}

/// A job that has been checked and can be built on every worker.
pub struct StreamJob {
    pub(super) sinks: Vec<StreamSink>,
    pub(super) late_rows: Arc<AtomicU64>,
}

/// A sink and what flows into it.
pub(super) struct StreamSink {
    pub uid: String,
    pub input: StreamNode,
    pub sink: Arc<dyn Sink>,
    /// The table, or `collect`.
    pub name: String,
}

/// An operator.
pub(super) struct StreamNode {
    /// Its stable name in checkpoints: `<n>-<kind>`.
    pub uid: String,
    /// What it computes, in words: stays the same as long as it computes the same.
    pub description: String,
    pub operator: StreamOperator,
    /// The columns it makes.
    pub schema: SchemaRef,
    pub mode: ChangelogMode,
    /// The operator (in words) that first made updates of what were inserts.
    pub updates_by: Option<String>,
    /// Columns that are bounds of event-time windows.
    pub windows: WindowColumns,
}

/// Which columns of an operator are the bounds of the window that a row belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct WindowColumns {
    pub start: Option<usize>,
    pub end: Option<usize>,
    pub time: Option<usize>,
}

impl WindowColumns {
    /// The same bounds where column `old` has become column `new(old)`.
    pub fn mapped(self, new: impl Fn(usize) -> Option<usize>) -> Self {
        Self {
            start: self.start.and_then(&new),
            end: self.end.and_then(&new),
            time: self.time.and_then(&new),
        }
    }
}

/// What an operator does, and to what.
pub(super) enum StreamOperator {
    Source(Arc<dyn Source>),
    Calc(Box<StreamNode>, Arc<[CalcStep]>),
    Watermark(Box<StreamNode>, WatermarkSpec),
    WindowAssign(Box<StreamNode>, WindowAssignSpec),
    GroupAggregate(Box<StreamNode>, GroupAggregateSpec),
    WindowAggregate(Box<StreamNode>, WindowAggregateSpec),
    Union(Vec<StreamNode>),
}

impl StreamNode {
    fn inputs(&self) -> &[StreamNode] {
        match &self.operator {
            StreamOperator::Source(_) => &[],
            StreamOperator::Calc(input, _)
            | StreamOperator::Watermark(input, _)
            | StreamOperator::WindowAssign(input, _)
            | StreamOperator::GroupAggregate(input, _)
            | StreamOperator::WindowAggregate(input, _) => std::slice::from_ref(input),
            StreamOperator::Union(inputs) => inputs,
        }
    }

    fn write(&self, depth: usize, out: &mut String) {
        let indent = "  ".repeat(depth);
        // Writing to a string cannot fail.
        let _ = writeln!(
            out,
            "{indent}{} {} {}",
            self.uid, self.description, self.mode
        );
        for input in self.inputs() {
            input.write(depth + 1, out);
        }
    }
}

impl StreamJob {
    /// The operators, one per line, with the kinds of rows that each makes: `EXPLAIN CHANGELOG_MODE`.
    pub fn describe(&self) -> String {
        let mut out = String::new();
        for sink in &self.sinks {
            let _ = writeln!(out, "{} {}", sink.uid, sink.name);
            sink.input.write(1, &mut out);
        }
        out
    }

    /// Identifies what the job computes: a checkpoint of a job with another fingerprint is not for this job.
    pub fn fingerprint(&self) -> String {
        format!("{:032x}", xxh3_128(self.describe().as_bytes()))
    }

    /// Rows that came too late for their window and were dropped, on all workers of this process (`numLateRecordsDropped`).
    pub fn late_rows(&self) -> u64 {
        self.late_rows.load(Ordering::Relaxed)
    }
}
