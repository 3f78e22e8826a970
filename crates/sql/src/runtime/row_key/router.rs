//! Sends each row to the worker that owns its key group.

use std::sync::Arc;

use aquifer_dataflow::operator::Router;
use aquifer_dataflow::{ChangeBatch, JobError, RowKind};
use aquifer_state::key_group::operator_index;
use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;

use super::{KeyEncoder, hash, key_group};

/// Routes by the key in the first `key_columns` columns. Rows of one key keep their order.
pub struct KeyRouter {
    key_columns: usize,
    max_parallelism: u16,
    scratch: Vec<u8>,
    targets: Vec<Vec<u32>>,
}

impl KeyRouter {
    /// `max_parallelism` is the job's number of key groups.
    pub fn new(key_columns: usize, max_parallelism: u16) -> Self {
        Self {
            key_columns,
            max_parallelism,
            scratch: Vec::new(),
            targets: Vec::new(),
        }
    }

    fn target(&self, key: &[u8], workers: usize) -> usize {
        let group = key_group(hash(key), self.max_parallelism);
        usize::from(operator_index(group, self.max_parallelism, workers as u16))
    }
}

impl Router<ChangeBatch> for KeyRouter {
    fn route(
        &mut self,
        batch: ChangeBatch,
        workers: usize,
        give: &mut dyn FnMut(usize, ChangeBatch),
    ) -> Result<(), JobError> {
        if workers <= 1 {
            give(0, batch);
            return Ok(());
        }
        if self.key_columns == 0 {
            give(self.target(&[], workers), batch);
            return Ok(());
        }
        self.targets.resize_with(workers, Vec::new);
        self.targets.iter_mut().for_each(Vec::clear);
        let encoder = KeyEncoder::new(&batch.rows.columns()[..self.key_columns])?;
        for row in 0..batch.rows.num_rows() {
            self.scratch.clear();
            encoder.encode(row, &mut self.scratch);
            let target = self.target(&self.scratch, workers);
            self.targets[target].push(row as u32);
        }
        let rows_total = batch.rows.num_rows();
        for (worker, rows) in self.targets.iter_mut().enumerate() {
            if rows.is_empty() {
                continue;
            }
            if rows.len() == rows_total {
                give(worker, batch);
                return Ok(());
            }
            let rows = UInt32Array::from(std::mem::take(rows));
            give(worker, take_changes(&batch, &rows)?);
        }
        Ok(())
    }
}

/// The rows with these indices, with their kinds.
fn take_changes(batch: &ChangeBatch, rows: &UInt32Array) -> Result<ChangeBatch, JobError> {
    let taken: RecordBatch = take_record_batch(&batch.rows, rows)?;
    let kinds: Option<Arc<[RowKind]>> = batch.kinds.as_ref().map(|kinds| {
        rows.values()
            .iter()
            .map(|row| kinds[*row as usize])
            .collect()
    });
    Ok(ChangeBatch { rows: taken, kinds })
}
