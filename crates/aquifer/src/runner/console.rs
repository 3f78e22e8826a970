//! What a runner tells beside rows.

use std::sync::Arc;

use aquifer_dataflow::job::{JobCounters, JobObserver, JobReport};

/// Is told what happens. Calls come from the thread that runs the script, calls of the observers from any thread.
pub trait Console: Send + Sync {
    /// The answer of `EXPLAIN`, `SHOW` or `DESCRIBE`, without a line end.
    fn answer(&self, text: &str);
    /// Something the user should know.
    fn note(&self, text: &str);
    /// A job starts; the observer is told of its progress.
    fn job_starts(&self, name: &str, counters: Arc<JobCounters>) -> Arc<dyn JobObserver>;
    /// The job has ended: its report, or `None` when it failed.
    fn job_ended(&self, name: &str, report: Option<&JobReport>);
}

/// Says nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Console for Silent {
    fn answer(&self, _text: &str) {}
    fn note(&self, _text: &str) {}
    fn job_starts(&self, _name: &str, _counters: Arc<JobCounters>) -> Arc<dyn JobObserver> {
        Arc::new(Silent)
    }
    fn job_ended(&self, _name: &str, _report: Option<&JobReport>) {}
}

impl JobObserver for Silent {}
