//! The unbounded group aggregate: `GROUP BY` (or none) over a stream, with a changelog as output.
//!
//! Without mini-batch each input row tells its change in order: `+I` for a group's first row; then, if the result changed, `-U` and `+U`; `-D` when
//! its last row is taken back. With mini-batch there is one such change per group and batch. An aggregate without keys has one group, which stays
//! once its first row has come.

use std::sync::Arc;

use aquifer_dataflow::operator::{Collector, KeyedOperator, OpenContext};
use aquifer_dataflow::{ChangeBatch, JobError, RowKind};
use aquifer_state::access::StateAccess;
use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::{interleave, take};
use arrow::datatypes::SchemaRef;

use super::accumulator::Step;
use super::{AggregateCall, Aggregates, Applied, KeyColumns, KeyFold, PreparedBatch, Tell};

/// What a group aggregate computes.
#[derive(Clone, Debug)]
pub struct GroupAggregateSpec {
    /// The group key is the first so many columns of the input.
    pub key_columns: usize,
    /// The calls.
    pub calls: Vec<AggregateCall>,
    /// Columns of the result: the key, then a column per call.
    pub output: SchemaRef,
    /// Input rows can be taken back.
    pub updating: bool,
    /// `table.exec.mini-batch.enabled`: one change per group and batch.
    pub mini_batch: bool,
}

/// The operator.
pub struct GroupAggregate {
    spec: GroupAggregateSpec,
    aggregates: Aggregates,
}

impl GroupAggregate {
    /// For one worker.
    pub fn new(spec: GroupAggregateSpec) -> Result<Self, JobError> {
        let everlasting = spec.key_columns == 0;
        let aggregates = Aggregates::new(spec.calls.clone(), spec.updating, everlasting)?;
        Ok(Self { spec, aggregates })
    }

    fn emit(
        &self,
        prepared: &PreparedBatch,
        applied: &Applied,
        out: &mut Collector<ChangeBatch>,
    ) -> Result<(), JobError> {
        let units = applied.steps.len();
        let mut kinds = Vec::with_capacity(units * 2);
        // (0 = before, 1 = after; unit)
        let mut picks: Vec<(usize, usize)> = Vec::with_capacity(units * 2);
        for (unit, step) in applied.steps.iter().enumerate() {
            match step {
                Step::Ignore => {}
                Step::First => {
                    kinds.push(RowKind::Insert);
                    picks.push((1, unit));
                }
                Step::Update if !applied.changed[unit] => {}
                Step::Update => {
                    kinds.extend([RowKind::UpdateBefore, RowKind::UpdateAfter]);
                    picks.extend([(0, unit), (1, unit)]);
                }
                Step::Last => {
                    kinds.push(RowKind::Delete);
                    picks.push((0, unit));
                }
            }
        }
        if picks.is_empty() {
            return Ok(());
        }
        let rows: UInt32Array = picks
            .iter()
            .map(|(_, unit)| match self.spec.mini_batch {
                true => prepared.fold.first_row[*unit],
                false => *unit as u32,
            })
            .collect();
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.spec.output.fields().len());
        for column in &prepared.rows.rows.columns()[..self.spec.key_columns] {
            columns.push(take(column, &rows, None)?);
        }
        for (before, after) in applied.before.iter().zip(&applied.after) {
            columns.push(interleave(&[before.as_ref(), after.as_ref()], &picks)?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(picks.len()));
        let schema = Arc::clone(&self.spec.output);
        let rows = RecordBatch::try_new_with_options(schema, columns, &options)?;
        out.emit(ChangeBatch::new(rows, kinds));
        Ok(())
    }
}

impl KeyedOperator<ChangeBatch, ChangeBatch> for GroupAggregate {
    type Prepared = PreparedBatch;

    fn open(&mut self, context: &mut OpenContext<'_>) -> Result<(), JobError> {
        let keys = &self.spec.output.fields()[..self.spec.key_columns];
        let keys = keys
            .iter()
            .map(|key| (key.name().as_str(), key.data_type()));
        let key = KeyColumns::new(&[], keys);
        self.aggregates.open(context, "accState", false, &key)?;
        Ok(())
    }

    fn prepare(
        &mut self,
        batch: ChangeBatch,
        state: &StateAccess,
    ) -> Result<PreparedBatch, JobError> {
        let fold = KeyFold::new(
            &batch.rows.columns()[..self.spec.key_columns],
            batch.rows.num_rows(),
            &[],
            state.max_parallelism(),
        )?;
        self.aggregates.prepare(batch, fold, state)
    }

    async fn on_batch(
        &mut self,
        mut prepared: PreparedBatch,
        state: &StateAccess,
        out: &mut Collector<ChangeBatch>,
    ) -> Result<(), JobError> {
        let tell = if self.spec.mini_batch {
            Tell::Groups
        } else {
            Tell::Rows
        };
        let applied = self.aggregates.apply(&mut prepared, state, tell).await?;
        self.emit(&prepared, &applied, out)
    }

    async fn on_watermark(
        &mut self,
        watermark_ms: i64,
        _state: &StateAccess,
        _out: &mut Collector<ChangeBatch>,
    ) -> Result<i64, JobError> {
        Ok(watermark_ms)
    }
}

#[cfg(test)]
mod tests;
