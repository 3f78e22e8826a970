//! Runs scripts of Flink SQL: statements in order, inserts gathered into one job, every job under the configuration in force when it starts.
//!
//! What always holds: a script is parsed whole before its first statement runs; all inserts of a script run together as one job, at its end or
//! before the next bare `SELECT`; the n-th job of a script has the same name on every run, so that a resumed script finds each job's checkpoints.
//! What can go wrong is a [`RunError`], which says whether the text or the run was wrong.

mod console;
mod table;

use std::sync::{Arc, Mutex};

use aquifer_connectors::print::{PrintFactory, PrintTarget};
use aquifer_dataflow::config::{ConfigError, Configuration, JobSurroundings, options};
use aquifer_dataflow::connector::ConnectorRegistry;
use aquifer_dataflow::job::{self, JobCounters};
use aquifer_dataflow::{JobError, JobErrorKind};
use aquifer_sql::runtime::{StreamJob, StreamOptions};
use aquifer_sql::session::{Clock, JobPlan, Outcome, Session, SinkTarget};

pub use console::{Console, Silent};

/// Why a script ended early.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RunError {
    /// The text or the configuration is wrong; exit status 2. For text, the message shows the line with a caret.
    #[error("{0}")]
    Usage(String),
    /// A job failed; exit status 1.
    #[error("{0}")]
    Failed(String),
}

impl From<ConfigError> for RunError {
    fn from(error: ConfigError) -> Self {
        RunError::Usage(format!("error: {error}"))
    }
}

impl From<JobError> for RunError {
    fn from(error: JobError) -> Self {
        let message = format!("error: {}", error.message);
        match error.kind {
            JobErrorKind::Usage => RunError::Usage(message),
            JobErrorKind::Failed => RunError::Failed(message),
        }
    }
}

/// What a runner is given from outside.
#[derive(Clone)]
pub struct RunnerSettings {
    /// The configuration of the file and the command line; `SET` comes on top.
    pub configuration: Configuration,
    /// The name of a script's first job when `pipeline.name` is not set.
    pub default_job_name: String,
    /// Where checkpoints go when `execution.checkpointing.dir` is not set. Without either a job cannot start.
    pub default_checkpoint_dir: Option<String>,
    /// Where local files go when `state.backend.forst.local-dir` is not set; only needed for what is kept on the local disk.
    pub default_local_dir: Option<String>,
    /// Go on from the newest checkpoint of each job.
    pub resume: bool,
    /// Milliseconds since 1970.
    pub now_ms: Arc<dyn Fn() -> i64 + Send + Sync>,
    /// Where rows of print tables and of bare `SELECT`s go.
    pub rows: PrintTarget,
    /// Is told everything else.
    pub console: Arc<dyn Console>,
}

/// A session that runs scripts; tables and settings of one script are there in the next.
pub struct Runner {
    settings: RunnerSettings,
    session: Session,
    notes_shown: Vec<String>,
}

impl Runner {
    /// A runner with an empty catalog.
    pub fn new(settings: RunnerSettings) -> Self {
        let check = |key: &str, value: &str| {
            Configuration::check(key, value).map_err(|error| error.message)
        };
        let now_ms = settings.now_ms.clone();
        let session = Session::new(Clock::new(move || now_ms()), Box::new(check));
        let mut runner = Self {
            settings,
            session,
            notes_shown: Vec::new(),
        };
        runner.show_new_notes();
        runner
    }

    /// Runs a script to its end; `name` is for messages.
    pub fn run_script(&mut self, name: &str, text: &str) -> Result<(), RunError> {
        self.run_statements(name, text)?;
        if self.session.in_statement_set() {
            let message = format!(
                "error: {name}: expected END; at the end of the statement set, found the end of the script"
            );
            return Err(RunError::Usage(message));
        }
        Ok(())
    }

    /// Runs some statements as a script of their own; a statement set may stay open for the next ones, as at a prompt.
    pub fn run_statements(&mut self, name: &str, text: &str) -> Result<(), RunError> {
        let located = |error: aquifer_sql::SqlError| RunError::Usage(error.render(name, text));
        let statements = Session::parse_script(text).map_err(located)?;
        let mut inserts = Vec::new();
        let mut jobs = JobNames::default();
        for statement in &statements {
            match self.session.execute(statement).map_err(located)? {
                Outcome::Done => {}
                Outcome::Note(note) => self.settings.console.note(&note),
                Outcome::Rows { columns, rows } => {
                    self.settings.console.answer(&table::draw(&columns, &rows))
                }
                Outcome::Text(text) => self.settings.console.answer(text.trim_end()),
                Outcome::Job(plan) if collects(&plan) => {
                    self.run_together(&mut inserts, &mut jobs)?;
                    self.run_job(&plan, &mut jobs)?;
                }
                Outcome::Job(plan) => inserts.push(plan),
            }
            self.settings
                .configuration
                .replace_session(self.session.options())?;
            self.show_new_notes();
        }
        self.run_together(&mut inserts, &mut jobs)
    }

    /// Runs the inserts gathered so far as one job.
    fn run_together(
        &mut self,
        inserts: &mut Vec<JobPlan>,
        jobs: &mut JobNames,
    ) -> Result<(), RunError> {
        if inserts.is_empty() {
            return Ok(());
        }
        self.run_job(&JobPlan::merge(inserts.drain(..)), jobs)
    }

    fn run_job(&mut self, plan: &JobPlan, jobs: &mut JobNames) -> Result<(), RunError> {
        let RunnerSettings {
            configuration,
            console,
            ..
        } = &self.settings;
        let streaming = StreamOptions {
            mini_batch: configuration.mini_batch()?.is_some(),
            collect: None,
        };
        let job = Arc::new(StreamJob::translate(plan, &self.connectors(), &streaming)?);
        let name = configuration
            .get(&options::JOB_NAME)
            .unwrap_or_else(|| self.settings.default_job_name.clone());
        let name = jobs.unique(name);
        let counters = Arc::new(JobCounters::default());
        let mut options = configuration.job_options(JobSurroundings {
            name: name.clone(),
            default_checkpoint_dir: self.settings.default_checkpoint_dir.clone(),
            default_local_dir: self.settings.default_local_dir.clone(),
            resume: self.settings.resume,
            plan: job.fingerprint(),
            now_ms: self.settings.now_ms.clone(),
            counters: counters.clone(),
            observer: Arc::new(Silent),
        })?;
        // Only now, when nothing is left that could refuse the job.
        options.observer = console.job_starts(&name, counters);
        let graph = job.clone();
        let result = job::run(options, Arc::new(move |env| graph.build(env)));
        console.job_ended(&name, result.as_ref().ok());
        if job.late_rows() > 0 {
            let late = job.late_rows();
            console.note(&format!(
                "note: {late} rows came too late for their window and were dropped"
            ));
        }
        result?;
        Ok(())
    }

    /// Every connector there is, with the object store keys in force now.
    fn connectors(&self) -> ConnectorRegistry {
        let mut registry = ConnectorRegistry::default();
        let store_keys = self.settings.configuration.object_store_keys();
        aquifer_connectors::register_all_with(&mut registry, store_keys);
        let standard_error = Arc::new(Mutex::new(std::io::stderr()));
        registry.register(Arc::new(PrintFactory::new(
            self.settings.rows.clone(),
            standard_error,
        )));
        registry
    }

    /// Tells each thing about the configuration once.
    fn show_new_notes(&mut self) {
        for note in self.settings.configuration.notes() {
            if !self.notes_shown.contains(&note) {
                self.settings.console.note(&format!("note: {note}"));
                self.notes_shown.push(note);
            }
        }
    }
}

/// Whether the job is a bare `SELECT`.
fn collects(plan: &JobPlan) -> bool {
    plan.sinks
        .iter()
        .any(|sink| matches!(sink.target, SinkTarget::Collect))
}

/// The names that jobs of one script have taken. A second job of the same name gets a number, the same on every run of the script.
#[derive(Default)]
struct JobNames {
    taken: Vec<String>,
}

impl JobNames {
    fn unique(&mut self, name: String) -> String {
        let earlier = self.taken.iter().filter(|taken| **taken == name).count();
        self.taken.push(name.clone());
        if earlier == 0 {
            name
        } else {
            format!("{name}-{}", earlier + 1)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::JobNames;

    #[test]
    fn jobs_of_one_script_have_different_names() {
        let mut names = JobNames::default();
        let taken = ["a", "a", "b", "a"].map(|name| names.unique(name.to_owned()));
        assert_eq!(taken, ["a", "a-2", "b", "a-3"]);
    }
}
