//! A session: its tables, its options, and what each statement does to them.

mod execute;
mod job_plan;

use std::collections::BTreeMap;
use std::fmt;

use crate::catalog::Catalog;
use crate::error::SqlError;
pub use crate::functions::Clock;
use crate::functions::FunctionRegistry;
use crate::parser::{Insert, ParsedStatement, parse_script};

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

/// Judges an option before `SET` keeps it: the key, the value; an error says what is wrong with them.
pub type OptionCheck = Box<dyn Fn(&str, &str) -> Result<(), String> + Send + Sync>;

/// A session.
///
/// ```
/// use aquifer_sql::session::{Clock, Outcome, Session};
///
/// let mut session = Session::new(Clock::new(|| 0), Box::new(|_, _| Ok(())));
/// let script = "
///     CREATE TABLE numbers (n BIGINT) WITH ('connector' = 'datagen');
///     SELECT n, n * 2 AS twice FROM numbers WHERE n > 10;";
/// let statements = Session::parse_script(script)?;
/// assert!(matches!(session.execute(&statements[0])?, Outcome::Done));
/// let Outcome::Job(job) = session.execute(&statements[1])? else { panic!("a SELECT is a job") };
/// assert_eq!(job.sinks.len(), 1);
/// # Ok::<(), aquifer_sql::SqlError>(())
/// ```
pub struct Session {
    catalog: Catalog,
    functions: FunctionRegistry,
    options: BTreeMap<String, String>,
    check: OptionCheck,
    /// The inserts since `BEGIN STATEMENT SET`.
    statement_set: Option<Vec<Insert>>,
}

impl Session {
    /// An empty session; functions of the present ask `clock`, `SET` asks `check`.
    pub fn new(clock: Clock, check: OptionCheck) -> Self {
        Self {
            catalog: Catalog::default(),
            functions: FunctionRegistry::new(&clock),
            options: BTreeMap::new(),
            check,
            statement_set: None,
        }
    }

    /// The statements of a script. The first error ends it.
    pub fn parse_script(text: &str) -> Result<Vec<ParsedStatement>, SqlError> {
        parse_script(text)
    }

    /// What `SET` has set, by key.
    pub fn options(&self) -> &BTreeMap<String, String> {
        &self.options
    }

    /// Whether `BEGIN STATEMENT SET` waits for its `END`.
    pub fn in_statement_set(&self) -> bool {
        self.statement_set.is_some()
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(crate) mod tests;
