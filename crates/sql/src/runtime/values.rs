//! `VALUES` as a bounded source: its rows are in the query's text.

use aquifer_dataflow::connector::{ConnectorContext, Source, SourcePoll, SourceReader};
use aquifer_dataflow::{ChangeBatch, JobError};
use arrow::array::RecordBatch;

/// Rows known when the job is planned. One split, whose position is the number of rows read, in 8 bytes.
pub(super) struct ValuesSource {
    rows: RecordBatch,
}

impl ValuesSource {
    pub(super) fn new(rows: RecordBatch) -> Self {
        Self { rows }
    }
}

impl Source for ValuesSource {
    fn splits(&self, _workers: usize) -> Result<Vec<Vec<u8>>, JobError> {
        Ok(vec![0u64.to_be_bytes().to_vec()])
    }

    fn reader(
        &self,
        splits: Vec<Vec<u8>>,
        _context: ConnectorContext,
    ) -> Result<Box<dyn SourceReader>, JobError> {
        let mut positions = Vec::with_capacity(splits.len());
        for split in splits {
            let position = split
                .as_slice()
                .try_into()
                .ok()
                .and_then(|bytes| usize::try_from(u64::from_be_bytes(bytes)).ok())
                .filter(|position| *position <= self.rows.num_rows())
                .ok_or_else(|| {
                    let rows = self.rows.num_rows();
                    JobError::failed(format!(
                        "the position of a VALUES source is not a number from 0 to {rows}"
                    ))
                })?;
            positions.push(position);
        }
        Ok(Box::new(ValuesReader {
            rows: self.rows.clone(),
            positions,
        }))
    }

    fn bounded(&self) -> bool {
        true
    }
}

struct ValuesReader {
    rows: RecordBatch,
    positions: Vec<usize>,
}

impl SourceReader for ValuesReader {
    fn poll(&mut self, rows_max: usize) -> Result<SourcePoll, JobError> {
        let total = self.rows.num_rows();
        match self
            .positions
            .iter_mut()
            .find(|position| **position < total)
        {
            None => Ok(SourcePoll::Finished),
            Some(position) => {
                let count = rows_max.max(1).min(total - *position);
                let rows = self.rows.slice(*position, count);
                *position += count;
                Ok(SourcePoll::Batch(ChangeBatch::inserts(rows)))
            }
        }
    }

    fn snapshot(&mut self) -> Result<Vec<Vec<u8>>, JobError> {
        Ok(self
            .positions
            .iter()
            .map(|p| (*p as u64).to_be_bytes().to_vec())
            .collect())
    }
}
