//! A session: its tables, its options, and what each statement does to them.

mod job_plan;

pub use job_plan::{JobPlan, PlannedSink, SinkTarget};

/// What a statement did, or asks to be done.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Done; nothing to show.
    Done,
    /// Done; something the user should know.
    Note(String),
    /// The answer of `SHOW …`, `DESCRIBE` or `SET` as a small table.
    Rows {
        /// Column names.
        columns: Vec<String>,
        /// Rows, one text per column.
        rows: Vec<Vec<String>>,
    },
    /// The answer of `EXPLAIN` or `SHOW CREATE …`, several lines.
    Text(String),
    /// A job to run: `INSERT`, a statement set, or a bare `SELECT`.
    Job(JobPlan),
}
