//! A source and a sink in memory: for examples and tests.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::connector::{ConnectorContext, Sink, SinkWriter, Source, SourcePoll, SourceReader};
use crate::{ChangeBatch, JobError};

/// Delivers the same batches on every run; they are dealt out to the workers one by one.
#[derive(Clone, Debug)]
pub struct MemorySource {
    batches: Arc<Vec<ChangeBatch>>,
}

impl MemorySource {
    /// A source of these batches.
    pub fn new(batches: Vec<ChangeBatch>) -> Self {
        Self {
            batches: Arc::new(batches),
        }
    }
}

/// A split is one batch: its index and whether it was delivered.
struct MemoryReader {
    batches: Arc<Vec<ChangeBatch>>,
    splits: Vec<(u64, bool)>,
}

impl Source for MemorySource {
    fn splits(&self, _workers: usize) -> Result<Vec<Vec<u8>>, JobError> {
        Ok((0..self.batches.len() as u64)
            .map(|index| encode(index, false))
            .collect())
    }

    fn reader(
        &self,
        splits: Vec<Vec<u8>>,
        _context: ConnectorContext,
    ) -> Result<Box<dyn SourceReader>, JobError> {
        let splits = splits
            .iter()
            .map(|split| decode(split))
            .collect::<Result<_, _>>()?;
        Ok(Box::new(MemoryReader {
            batches: Arc::clone(&self.batches),
            splits,
        }))
    }

    fn bounded(&self) -> bool {
        true
    }
}

impl SourceReader for MemoryReader {
    fn poll(&mut self, _rows_max: usize) -> Result<SourcePoll, JobError> {
        let Some((index, delivered)) = self.splits.iter_mut().find(|(_, delivered)| !delivered)
        else {
            return Ok(SourcePoll::Finished);
        };
        *delivered = true;
        let batch = usize::try_from(*index)
            .ok()
            .and_then(|index| self.batches.get(index));
        match batch {
            Some(batch) => Ok(SourcePoll::Batch(batch.clone())),
            None => Err(JobError::failed(format!(
                "expected a batch below {}, found {index}",
                self.batches.len()
            ))),
        }
    }

    fn snapshot(&mut self) -> Result<Vec<Vec<u8>>, JobError> {
        Ok(self
            .splits
            .iter()
            .map(|(index, delivered)| encode(*index, *delivered))
            .collect())
    }
}

fn encode(index: u64, delivered: bool) -> Vec<u8> {
    let mut bytes = index.to_be_bytes().to_vec();
    bytes.push(u8::from(delivered));
    bytes
}

fn decode(bytes: &[u8]) -> Result<(u64, bool), JobError> {
    match bytes.split_first_chunk() {
        Some((index, [delivered])) => Ok((u64::from_be_bytes(*index), *delivered != 0)),
        _ => Err(JobError::failed(format!(
            "a split of a memory source has 9 bytes, found {}",
            bytes.len()
        ))),
    }
}

/// Collects what complete checkpoints have committed. Clones share it.
#[derive(Clone, Default)]
pub struct MemorySink {
    tables: Arc<Mutex<Tables>>,
}

#[derive(Default)]
struct Tables {
    next: u64,
    prepared: BTreeMap<u64, Vec<ChangeBatch>>,
    committed: Vec<ChangeBatch>,
}

impl MemorySink {
    /// Takes what was committed so far.
    pub fn take(&self) -> Vec<ChangeBatch> {
        std::mem::take(&mut self.tables.lock().committed)
    }
}

struct MemoryWriter {
    sink: MemorySink,
    open: Vec<ChangeBatch>,
}

impl Sink for MemorySink {
    fn writer(&self, _context: ConnectorContext) -> Result<Box<dyn SinkWriter>, JobError> {
        Ok(Box::new(MemoryWriter {
            sink: self.clone(),
            open: Vec::new(),
        }))
    }

    fn commit(
        &self,
        committables: Vec<Vec<u8>>,
        _context: &ConnectorContext,
    ) -> Result<(), JobError> {
        let mut tables = self.tables.lock();
        for committable in committables {
            let id = committable
                .try_into()
                .map(u64::from_be_bytes)
                .map_err(|found: Vec<u8>| {
                    JobError::failed(format!(
                        "a committable of a memory sink has 8 bytes, found {}",
                        found.len()
                    ))
                })?;
            // Committed before: there is nothing left to do.
            if let Some(batches) = tables.prepared.remove(&id) {
                tables.committed.extend(batches);
            }
        }
        Ok(())
    }

    fn accepts_updates(&self) -> bool {
        true
    }
}

impl SinkWriter for MemoryWriter {
    fn write(&mut self, batch: &ChangeBatch) -> Result<(), JobError> {
        self.open.push(batch.clone());
        Ok(())
    }

    fn prepare_commit(&mut self, _checkpoint_id: u64) -> Result<Vec<Vec<u8>>, JobError> {
        if self.open.is_empty() {
            return Ok(Vec::new());
        }
        let mut tables = self.sink.tables.lock();
        let id = tables.next;
        tables.next += 1;
        tables.prepared.insert(id, std::mem::take(&mut self.open));
        Ok(vec![id.to_be_bytes().to_vec()])
    }
}
