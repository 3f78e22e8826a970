//! How background work reports back to the worker's thread.
//!
//! Every task that is started sends exactly one [`Done`], even if it panics or its runtime is shut down, so that nobody
//! waits for ever. The queue is bounded by the number of tasks under way.
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use crate::context::Context;
use crate::error::{Error, ErrorKind, Result};
use crate::sst::new_file::NewFile;

const ATTEMPTS: u32 = 4;
const PAUSE_FIRST: Duration = Duration::from_millis(50);

/// What a background task has to say.
pub(crate) enum Done {
    Flush {
        number: u64,
        result: Result<Vec<NewFile>>,
    },
    Compaction {
        number: u64,
        result: Result<Vec<NewFile>>,
    },
}

/// Runs `work` on a background thread, again if it fails with an error that may pass, and reports what `report` makes of it.
pub(crate) fn run<T: Send + 'static>(
    context: &Arc<Context>,
    done: &Sender<Done>,
    name: &'static str,
    work: impl Fn(&Arc<Context>) -> Result<T> + Send + 'static,
    report: impl FnOnce(Result<T>) -> Done + Send + 'static,
) {
    run_with(Slip::new(context, done, name, report), work);
}

/// Like [`run`], for a slip that was written before.
pub(crate) fn run_with<T: Send + 'static, F: FnOnce(Result<T>) -> Done + Send + 'static>(
    mut slip: Slip<T, F>,
    work: impl Fn(&Arc<Context>) -> Result<T> + Send + 'static,
) {
    let (executor, name) = (slip.context.env.executor.clone(), slip.name);
    let job = move || {
        let context = slip.context.clone();
        if context.is_stopped() {
            return;
        }
        let mut pause = PAUSE_FIRST;
        let mut attempt = 1;
        let result = loop {
            match work(&context) {
                Err(error)
                    if error.kind == ErrorKind::Retry
                        && attempt < ATTEMPTS
                        && context.pause(pause) =>
                {
                    tracing::warn!(%error, attempt, "a {name} failed and is tried again");
                    pause *= 4;
                    attempt += 1;
                }
                result => break result,
            }
        };
        drop(work);
        slip.send(result);
    };
    executor.start(name, Box::new(job));
}

/// Sends the report; if it is dropped before, a report of failure.
pub(crate) struct Slip<T, F: FnOnce(Result<T>) -> Done> {
    what: PhantomData<fn(T)>,
    context: Arc<Context>,
    done: Sender<Done>,
    name: &'static str,
    report: Option<F>,
}

impl<T, F: FnOnce(Result<T>) -> Done> Slip<T, F> {
    pub(crate) fn new(
        context: &Arc<Context>,
        done: &Sender<Done>,
        name: &'static str,
        report: F,
    ) -> Self {
        Self {
            what: PhantomData,
            context: context.clone(),
            done: done.clone(),
            name,
            report: Some(report),
        }
    }

    pub(crate) fn send(&mut self, result: Result<T>) {
        if let Some(report) = self.report.take() {
            // The store may be gone; then nobody wants to know.
            let _ = self.done.send(report(result));
            (self.context.env.waker)();
        }
    }
}

impl<T, F: FnOnce(Result<T>) -> Done> Drop for Slip<T, F> {
    fn drop(&mut self) {
        let name = self.name;
        self.send(Err(Error::retry(format!(
            "a {name} was stopped before it was done"
        ))));
    }
}
