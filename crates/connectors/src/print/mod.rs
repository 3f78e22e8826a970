//! `'connector' = 'print'`: a sink that shows every change of a result, one line each, in Flink's format.
//!
//! | option | default | meaning |
//! |---|---|---|
//! | `print-identifier` | none | a name before each row: `name> +I[1, a]` |
//! | `standard-error` | false | write to standard error instead of standard output |
//! | `sink.parallelism` | – | only the job's own parallelism is possible |
//!
//! With several writers a row also tells whose it is, counted from 1: `name:2> …`, or `2> …` without a name. The rows of a batch
//! are written at once and flushed, so lines of different writers never mix. What was shown cannot be taken back: after a restart,
//! rows since the last checkpoint are shown again. A reader that goes away (a closed pipe) fails the job.

mod format;

#[cfg(test)]
mod tests;

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use aquifer_dataflow::connector::{
    ConnectorContext, ConnectorFactory, Sink, SinkWriter, Source, TableSpec,
};
use aquifer_dataflow::{ChangeBatch, JobError};

pub use self::format::format_change_batch;
use crate::options::Options;

const NAME: &str = "print";

/// Where lines go; shared by all writers.
pub type PrintTarget = Arc<Mutex<dyn Write + Send>>;

/// Makes print sinks.
pub struct PrintFactory {
    standard_output: PrintTarget,
    standard_error: PrintTarget,
}

impl Default for PrintFactory {
    /// Prints to the process's standard output and standard error.
    fn default() -> Self {
        Self::new(
            Arc::new(Mutex::new(std::io::stdout())),
            Arc::new(Mutex::new(std::io::stderr())),
        )
    }
}

impl PrintFactory {
    /// Prints to these instead.
    pub fn new(standard_output: PrintTarget, standard_error: PrintTarget) -> Self {
        Self {
            standard_output,
            standard_error,
        }
    }
}

impl ConnectorFactory for PrintFactory {
    fn name(&self) -> &'static str {
        NAME
    }

    fn source(&self, table: &TableSpec) -> Result<Arc<dyn Source>, JobError> {
        Err(crate::not_readable(table, NAME))
    }

    fn sink(&self, table: &TableSpec) -> Result<Arc<dyn Sink>, JobError> {
        let options = Options::new(table, NAME);
        options.check_known([
            "print-identifier",
            "standard-error",
            crate::SINK_PARALLELISM,
        ])?;
        crate::check_sink_parallelism(table, NAME)?;
        let target = if options.flag("standard-error", false)? {
            &self.standard_error
        } else {
            &self.standard_output
        };
        let identifier = options.text("print-identifier").unwrap_or("").to_owned();
        Ok(Arc::new(PrintSink {
            identifier,
            target: Arc::clone(target),
        }))
    }
}

struct PrintSink {
    identifier: String,
    target: PrintTarget,
}

impl Sink for PrintSink {
    fn writer(&self, context: ConnectorContext) -> Result<Box<dyn SinkWriter>, JobError> {
        let writer = context.worker + 1;
        let prefix = match (self.identifier.as_str(), context.workers) {
            ("", 0 | 1) => String::new(),
            ("", _) => format!("{writer}> "),
            (name, 0 | 1) => format!("{name}> "),
            (name, _) => format!("{name}:{writer}> "),
        };
        Ok(Box::new(PrintWriter {
            prefix,
            target: Arc::clone(&self.target),
            text: String::new(),
        }))
    }

    fn commit(&self, _committables: Vec<Vec<u8>>, _: &ConnectorContext) -> Result<(), JobError> {
        Ok(())
    }

    fn accepts_updates(&self) -> bool {
        true
    }
}

struct PrintWriter {
    prefix: String,
    target: PrintTarget,
    text: String,
}

impl SinkWriter for PrintWriter {
    fn write(&mut self, batch: &ChangeBatch) -> Result<(), JobError> {
        self.text.clear();
        format::format_prefixed(batch, &self.prefix, &mut self.text);
        // A writer that panicked while it held the lock has at worst written part of its lines.
        let mut target = self.target.lock().unwrap_or_else(PoisonError::into_inner);
        target
            .write_all(self.text.as_bytes())
            .and_then(|()| target.flush())
            .map_err(|error| {
                JobError::failed(if error.kind() == std::io::ErrorKind::BrokenPipe {
                    "the output was closed by whoever read it".to_owned()
                } else {
                    format!("the output could not be written: {error}")
                })
            })
    }

    fn prepare_commit(&mut self, _checkpoint_id: u64) -> Result<Vec<Vec<u8>>, JobError> {
        Ok(Vec::new())
    }
}
