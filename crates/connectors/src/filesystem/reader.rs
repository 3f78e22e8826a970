//! The reader of some ranges of files: hands out what a background task reads.
//!
//! The task reads one range after the other and is at most a few batches ahead. Every row carries the position behind it, so a
//! snapshot tells exactly the rows that were handed out, whatever the task has read since. Dropping the reader ends the task.

use std::sync::Arc;

use arrow::array::RecordBatch;
use tokio::sync::mpsc::{self, error::TryRecvError};
use tokio::task::AbortHandle;

use aquifer_dataflow::connector::{ConnectorContext, SourcePoll, SourceReader};
use aquifer_dataflow::{ChangeBatch, JobError};

use super::Files;
use super::read::{Progress, read_ranges};
use super::split::FileSplit;

/// Batches that may wait for the worker.
const BATCHES_AHEAD: usize = 2;
/// How long to wait for the task's call at most.
const RETRY_MS: u64 = 100;

/// Position and line behind a row.
pub(super) type RowEnd = (u64, u64);

pub(super) struct FileReader {
    table: String,
    splits: Vec<FileSplit>,
    receiver: mpsc::Receiver<Progress>,
    task: AbortHandle,
    /// A batch of which some rows were handed out: its split, the rest of its rows, and the end of each of them.
    rest: Option<(usize, RecordBatch, Vec<RowEnd>)>,
}

impl FileReader {
    pub(super) fn start(
        files: Arc<Files>,
        splits: Vec<FileSplit>,
        context: ConnectorContext,
    ) -> Result<Self, JobError> {
        let (sender, receiver) = mpsc::channel(BATCHES_AHEAD);
        let table = files.table.clone();
        let (opened, _) = if splits.iter().all(FileSplit::finished) {
            // Nothing to read: the files may be gone by now.
            (None, None)
        } else {
            let (opened, only) = files.location.open_existing()?;
            (Some(opened), only)
        };
        let waiting = splits.clone();
        let task = context.runtime.spawn(async move {
            if let Some(opened) = opened {
                read_ranges(&files, &opened, waiting, &sender, &*context.waker).await;
            }
            drop(sender);
            (context.waker)();
        });
        Ok(Self {
            table,
            splits,
            receiver,
            task: task.abort_handle(),
            rest: None,
        })
    }

    /// Up to `rows_max` of the rows that wait.
    fn hand_out(&mut self, rows_max: usize) -> Option<RecordBatch> {
        let (split, rows, ends) = self.rest.take()?;
        let taken = rows.num_rows().min(rows_max.max(1));
        let head = rows.slice(0, taken);
        if let (Some(split), Some((position, line))) = (
            self.splits.get_mut(split),
            taken.checked_sub(1).and_then(|last| ends.get(last)),
        ) {
            split.position = *position;
            split.line = *line;
            split.aligned = true;
        }
        if taken < rows.num_rows() {
            let tail = rows.slice(taken, rows.num_rows() - taken);
            let ends = ends.get(taken..).unwrap_or(&[]).to_vec();
            self.rest = Some((split, tail, ends));
        }
        Some(head)
    }
}

impl SourceReader for FileReader {
    fn poll(&mut self, rows_max: usize) -> Result<SourcePoll, JobError> {
        loop {
            if let Some(rows) = self.hand_out(rows_max) {
                return Ok(SourcePoll::Batch(ChangeBatch::inserts(rows)));
            }
            match self.receiver.try_recv() {
                Ok(Progress::Rows { split, rows, ends }) => self.rest = Some((split, rows, ends)),
                Ok(Progress::Finished { split }) => {
                    if let Some(split) = self.splits.get_mut(split) {
                        split.position = split.position.max(split.end);
                        split.aligned = true;
                    }
                }
                Ok(Progress::Failed(error)) => return Err(error),
                Err(TryRecvError::Empty) => return Ok(SourcePoll::Pending { retry_ms: RETRY_MS }),
                Err(TryRecvError::Disconnected) => {
                    if self.splits.iter().all(FileSplit::finished) {
                        return Ok(SourcePoll::Finished);
                    }
                    return Err(JobError::failed(format!(
                        "reading the files of table '{}' ended before their end",
                        self.table
                    )));
                }
            }
        }
    }

    fn snapshot(&mut self) -> Result<Vec<Vec<u8>>, JobError> {
        Ok(self.splits.iter().map(FileSplit::encode).collect())
    }
}

impl Drop for FileReader {
    fn drop(&mut self) {
        self.task.abort();
    }
}
