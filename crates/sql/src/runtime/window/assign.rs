//! The windowing table-valued functions: each row comes out once for every window it belongs to, with the window's bounds behind its columns.

use std::sync::Arc;

use aquifer_dataflow::operator::{Collector, StatelessOperator};
use aquifer_dataflow::{ChangeBatch, JobError, RowKind};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, TimestampMillisecondArray, UInt32Array};
use arrow::compute::{cast, take_record_batch};
use arrow::datatypes::{DataType, SchemaRef, TimeUnit, TimestampMillisecondType};

use super::bounds::{windows_max, windows_of};
use crate::logical::WindowKind;
use crate::runtime::calc::batch;

/// Rows of one emitted batch at most, where rows are copied.
const ROWS_MAX: usize = 8192;

/// What a window function does.
#[derive(Clone, Debug)]
pub struct WindowAssignSpec {
    /// Which windows.
    pub kind: WindowKind,
    /// The time column.
    pub time_column: usize,
    /// The input's columns, then `window_start`, `window_end`, `window_time`.
    pub output: SchemaRef,
}

/// The operator.
pub struct WindowAssign {
    spec: WindowAssignSpec,
}

impl WindowAssign {
    /// It has no state.
    pub fn new(spec: WindowAssignSpec) -> Self {
        Self { spec }
    }

    fn assign(&self, input: &ChangeBatch) -> Result<ChangeBatch, JobError> {
        let column = input.rows.column(self.spec.time_column);
        if column.null_count() > 0 {
            let schema = input.rows.schema();
            let name = schema.field(self.spec.time_column).name();
            let function = self.spec.kind.name();
            return Err(JobError::failed(format!(
                "the time column '{name}' of {function} is null in a row: event times may not be null"
            )));
        }
        let times = cast(column, &DataType::Timestamp(TimeUnit::Millisecond, None))?;
        let times = times.as_primitive::<TimestampMillisecondType>();
        let capacity = times.len() * windows_max(self.spec.kind);
        let mut rows: Vec<u32> = Vec::with_capacity(capacity);
        let mut starts = Vec::with_capacity(capacity);
        let mut ends = Vec::with_capacity(capacity);
        for (row, time_ms) in times.values().iter().enumerate() {
            windows_of(self.spec.kind, *time_ms, |window| {
                rows.push(row as u32);
                starts.push(window.start_ms);
                ends.push(window.end_ms);
            });
        }
        let count = rows.len();
        let copied = copy(input, rows)?;
        let last_moments: Vec<i64> = ends.iter().map(|end| end.saturating_sub(1)).collect();
        let window_time: ArrayRef = Arc::new(TimestampMillisecondArray::from(last_moments));
        let time_type = self
            .spec
            .output
            .field(self.spec.output.fields().len() - 1)
            .data_type();
        let mut columns = copied.rows.columns().to_vec();
        columns.push(Arc::new(TimestampMillisecondArray::from(starts)));
        columns.push(Arc::new(TimestampMillisecondArray::from(ends)));
        columns.push(cast(&window_time, time_type)?);
        Ok(ChangeBatch {
            rows: batch(&self.spec.output, columns, count)?,
            kinds: copied.kinds,
        })
    }
}

/// The rows with these indices; the batch itself if each row comes once.
fn copy(input: &ChangeBatch, rows: Vec<u32>) -> Result<ChangeBatch, JobError> {
    let once = rows.len() == input.rows.num_rows()
        && rows.iter().enumerate().all(|(at, row)| at == *row as usize);
    if once {
        return Ok(input.clone());
    }
    let kinds: Option<Arc<[RowKind]>> = input
        .kinds
        .as_ref()
        .map(|kinds| rows.iter().map(|row| kinds[*row as usize]).collect());
    let rows: RecordBatch = take_record_batch(&input.rows, &UInt32Array::from(rows))?;
    Ok(ChangeBatch { rows, kinds })
}

impl StatelessOperator<ChangeBatch, ChangeBatch> for WindowAssign {
    fn on_batch(
        &mut self,
        batch: ChangeBatch,
        out: &mut Collector<ChangeBatch>,
    ) -> Result<(), JobError> {
        let rows = batch.rows.num_rows();
        let piece = (ROWS_MAX / windows_max(self.spec.kind)).max(1);
        if piece >= rows || windows_max(self.spec.kind) == 1 {
            out.emit(self.assign(&batch)?);
            return Ok(());
        }
        for start in (0..rows).step_by(piece) {
            let count = piece.min(rows - start);
            let kinds = batch
                .kinds
                .as_ref()
                .map(|kinds| Arc::from(&kinds[start..start + count]));
            let part = ChangeBatch {
                rows: batch.rows.slice(start, count),
                kinds,
            };
            out.emit(self.assign(&part)?);
        }
        Ok(())
    }
}
