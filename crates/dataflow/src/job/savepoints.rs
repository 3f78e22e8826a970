//! Asking a running job for a savepoint.
//!
//! The requests are a handle that whoever runs the job keeps and that [`JobOptions::savepoints`](super::JobOptions::savepoints) gives to the
//! job. The coordinator takes the next checkpoint for them at once; once it is complete it is rewritten into a savepoint in the
//! background while the job goes on. A request may also ask that the job ends with it: then sources read nothing behind its barrier, and the
//! job ends when the savepoint is written. If it cannot be written, whoever asked is told and the job reads on. Requests that come while a
//! checkpoint is taken share the one after it; of several that ask for the end, one that is written is enough.
//!
//! What always holds: every request gets exactly one answer, also when the job fails or ends first; at most [`REQUESTS_MAX`] wait.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender};

use aquifer_state::checkpoint::SavepointFormat;
use parking_lot::Mutex;

use crate::JobError;

/// Requests that may wait for their answer.
pub const REQUESTS_MAX: usize = 16;

/// What savepoint is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SavepointRequest {
    /// Where, as a URI; a directory of its own is made in it. `None`: in `execution.checkpointing.savepoint-dir`.
    pub directory: Option<String>,
    /// In which form.
    pub format: SavepointFormat,
    /// The job ends with it.
    pub stop: bool,
}

/// The answer to a request, when it comes.
#[derive(Debug)]
pub struct SavepointAnswer {
    receiver: Receiver<Result<String, JobError>>,
}

impl SavepointAnswer {
    /// Waits until the savepoint is written; says where it is, as `execution.state-recovery.path` takes it.
    pub fn wait(self) -> Result<String, JobError> {
        self.receiver.recv().unwrap_or_else(|_| {
            Err(JobError::failed(
                "the job was given up before it answered a request for a savepoint",
            ))
        })
    }
}

/// A handle by which savepoints of a job are asked for.
#[derive(Default)]
pub struct SavepointRequests {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    last_ticket: u64,
    /// Not seen by the coordinator yet.
    new: BTreeMap<u64, SavepointRequest>,
    answers: BTreeMap<u64, SyncSender<Result<String, JobError>>>,
    wake: Option<Wake>,
}

/// Has the coordinator look.
pub(crate) type Wake = Arc<dyn Fn() + Send + Sync>;

impl SavepointRequests {
    /// A handle for one job.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Asks for a savepoint. Before the job runs the request waits for it.
    pub fn request(&self, request: SavepointRequest) -> Result<SavepointAnswer, JobError> {
        let (give, receiver) = mpsc::sync_channel(1);
        let wake = {
            let mut inner = self.inner.lock();
            if inner.answers.len() >= REQUESTS_MAX {
                return Err(JobError::failed(format!(
                    "{REQUESTS_MAX} requests for savepoints wait for their answer already"
                )));
            }
            inner.last_ticket += 1;
            let ticket = inner.last_ticket;
            inner.new.insert(ticket, request);
            inner.answers.insert(ticket, give);
            inner.wake.clone()
        };
        if let Some(wake) = wake {
            wake();
        }
        Ok(SavepointAnswer { receiver })
    }

    /// The coordinator runs; `wake` is called when there is a request.
    pub(crate) fn begin(&self, wake: Wake) {
        self.inner.lock().wake = Some(wake);
    }

    /// Requests that have come since the last call.
    pub(crate) fn take(&self) -> BTreeMap<u64, SavepointRequest> {
        std::mem::take(&mut self.inner.lock().new)
    }

    /// Answers a request.
    pub(crate) fn answer(&self, ticket: u64, answer: Result<String, JobError>) {
        if let Some(give) = self.inner.lock().answers.remove(&ticket) {
            // Whoever asked need not wait for the answer.
            let _ = give.send(answer);
        }
    }

    /// The attempt has ended: whoever still waits is told.
    pub(crate) fn end(&self, why: &str) {
        let mut inner = self.inner.lock();
        inner.wake = None;
        inner.new.clear();
        for (_, give) in std::mem::take(&mut inner.answers) {
            let _ = give.send(Err(JobError::failed(format!(
                "the savepoint was not written: {why}"
            ))));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_is_answered_once_and_they_are_bounded() {
        let requests = SavepointRequests::new();
        let ask = || requests.request(SavepointRequest::default());
        let mut answers: Vec<_> = (0..REQUESTS_MAX).map(|_| ask().unwrap()).collect();
        let error = ask().unwrap_err();
        assert!(error.message.contains("16 requests"), "{error}");
        let taken = requests.take();
        assert_eq!(taken.len(), REQUESTS_MAX);
        assert!(requests.take().is_empty());
        let first = *taken.keys().next().unwrap();
        requests.answer(first, Ok("there".into()));
        requests.answer(first, Ok("elsewhere".into()));
        assert_eq!(answers.remove(0).wait().unwrap(), "there");
        ask().unwrap();
        requests.end("the job has finished");
        for answer in answers {
            let error = answer.wait().unwrap_err();
            assert!(error.message.contains("the job has finished"), "{error}");
        }
    }
}
