//! Cold reads of one schedule, gathered so that they go out as one grouped request.
//!
//! Many records of one schedule miss memory one after the other; each puts its reads here and waits. `issue` sends all of them at once,
//! so that neighbours share a range read. The gatherer holds at most [`READS_PER_REQUEST_MAX`] reads: then it issues by itself.

use aquifer_store::{ColdRead, ColdScan, ScanRows};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::{KeyedStateBackend, Row, StateError};

/// Reads of one grouped request.
pub(super) const READS_PER_REQUEST_MAX: usize = 8192;
/// Scans that wait for `issue`.
const SCANS_MAX: usize = 256;

/// The answer to a set of reads, in their order.
pub(super) type ReadAnswer = Result<Vec<Option<Row>>, StateError>;

struct WaitingReads {
    reads: usize,
    answer: oneshot::Sender<ReadAnswer>,
}

struct WaitingScan {
    scan: ColdScan,
    answer: oneshot::Sender<Result<ScanRows, StateError>>,
}

/// See the module.
#[derive(Default)]
pub(super) struct Gatherer {
    reads: Vec<ColdRead>,
    waiting: Vec<WaitingReads>,
    scans: Vec<WaitingScan>,
}

impl Gatherer {
    /// Adds reads that are answered together.
    pub(super) fn read(&mut self, reads: Vec<ColdRead>) -> oneshot::Receiver<ReadAnswer> {
        let (answer, receiver) = oneshot::channel();
        self.waiting.push(WaitingReads {
            reads: reads.len(),
            answer,
        });
        self.reads.extend(reads);
        receiver
    }

    /// Adds a scan.
    pub(super) fn scan(
        &mut self,
        scan: ColdScan,
    ) -> oneshot::Receiver<Result<ScanRows, StateError>> {
        let (answer, receiver) = oneshot::channel();
        self.scans.push(WaitingScan { scan, answer });
        receiver
    }

    /// How many reads and scans it holds.
    pub(super) fn len(&self) -> usize {
        self.reads.len() + self.scans.len()
    }

    /// True if it holds as much as it may.
    pub(super) fn is_full(&self) -> bool {
        self.reads.len() >= READS_PER_REQUEST_MAX || self.scans.len() >= SCANS_MAX
    }

    /// Sends what was gathered; the answers wake those who wait.
    pub(super) fn issue(&mut self, backend: &dyn KeyedStateBackend, runtime: &Handle) {
        if !self.waiting.is_empty() {
            let waiting = std::mem::take(&mut self.waiting);
            let fetch = backend.fetch_rows(std::mem::take(&mut self.reads));
            runtime.spawn(async move { hand_out(fetch.await, waiting) });
        }
        for WaitingScan { scan, answer } in self.scans.drain(..) {
            let fetch = backend.fetch_scan(scan);
            // Nobody waits any more if the record's future was dropped: the job is ending.
            runtime.spawn(async move { drop(answer.send(fetch.await)) });
        }
    }
}

fn hand_out(answers: ReadAnswer, waiting: Vec<WaitingReads>) {
    let asked: usize = waiting.iter().map(|w| w.reads).sum();
    let mut answers = answers.and_then(|values| {
        if values.len() == asked {
            Ok(values.into_iter())
        } else {
            Err(StateError::Corrupt(format!(
                "the store answered {} of {asked} grouped reads",
                values.len()
            )))
        }
    });
    for WaitingReads { reads, answer } in waiting {
        let part = match &mut answers {
            Ok(values) => Ok(values.by_ref().take(reads).collect()),
            Err(error) => Err(error.clone()),
        };
        let _ = answer.send(part);
    }
}
