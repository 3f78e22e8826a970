//! Projections and filters, fused into one operator that works through a batch step by step.
//!
//! Each row is judged by itself and keeps its kind: of an update whose old row passes a filter and whose new row does not, the `-U` goes on alone
//! (and the other way round), as in Flink.

use std::sync::Arc;

use aquifer_dataflow::operator::{Collector, StatelessOperator};
use aquifer_dataflow::{ChangeBatch, JobError, RowKind};
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::compute::{CastOptions, FilterBuilder, cast_with_options};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion_physical_expr::PhysicalExpr;

use super::failed;

/// One step of a calculation.
#[derive(Clone, Debug)]
pub enum CalcStep {
    /// Keeps the rows for which this is true.
    Filter(Arc<dyn PhysicalExpr>),
    /// New columns from old ones.
    Project {
        /// One expression per column.
        expressions: Vec<Arc<dyn PhysicalExpr>>,
        /// The new columns.
        schema: SchemaRef,
    },
    /// The same columns under the names and types of a table, which may not take nulls everywhere.
    Conform {
        /// The table, for messages.
        table: Arc<str>,
        /// Its columns.
        schema: SchemaRef,
    },
}

/// The operator.
pub struct Calc {
    steps: Arc<[CalcStep]>,
}

impl Calc {
    /// Steps in their order.
    pub fn new(steps: Arc<[CalcStep]>) -> Self {
        Self { steps }
    }

    /// Works through one batch; `None` if no row is left.
    pub fn apply(&self, mut batch: ChangeBatch) -> Result<Option<ChangeBatch>, JobError> {
        for step in self.steps.iter() {
            if batch.rows.num_rows() == 0 {
                return Ok(None);
            }
            match step {
                CalcStep::Filter(predicate) => batch = filter(batch, predicate)?,
                CalcStep::Project {
                    expressions,
                    schema,
                } => {
                    batch.rows = project(&batch.rows, expressions, schema)?;
                }
                CalcStep::Conform { table, schema } => {
                    batch.rows = conform(&batch.rows, table, schema)?;
                }
            }
        }
        Ok((batch.rows.num_rows() > 0).then_some(batch))
    }
}

impl StatelessOperator<ChangeBatch, ChangeBatch> for Calc {
    fn on_batch(
        &mut self,
        batch: ChangeBatch,
        out: &mut Collector<ChangeBatch>,
    ) -> Result<(), JobError> {
        if let Some(batch) = self.apply(batch)? {
            out.emit(batch);
        }
        Ok(())
    }
}

/// Evaluates an expression to a column of the type it should have.
pub(super) fn evaluate(
    expression: &Arc<dyn PhysicalExpr>,
    rows: &RecordBatch,
    data_type: &DataType,
) -> Result<ArrayRef, JobError> {
    let column = expression
        .evaluate(rows)
        .and_then(|value| value.into_array(rows.num_rows()))
        .map_err(|error| failed(&error))?;
    to_type(column, data_type)
}

fn to_type(column: ArrayRef, data_type: &DataType) -> Result<ArrayRef, JobError> {
    if column.data_type() == data_type {
        return Ok(column);
    }
    let options = CastOptions {
        safe: false,
        ..CastOptions::default()
    };
    Ok(cast_with_options(&column, data_type, &options)?)
}

fn filter(batch: ChangeBatch, predicate: &Arc<dyn PhysicalExpr>) -> Result<ChangeBatch, JobError> {
    let mask = evaluate(predicate, &batch.rows, &DataType::Boolean)?;
    let mask: &BooleanArray = mask.as_boolean();
    let kept = mask.true_count();
    if kept == mask.len() {
        return Ok(batch);
    }
    let filter = FilterBuilder::new(mask).optimize().build();
    let rows = filter.filter_record_batch(&batch.rows)?;
    let kinds = batch.kinds.as_ref().map(|kinds| {
        let passes = |row: usize| mask.is_valid(row) && mask.value(row);
        let kept = kinds.iter().enumerate().filter(|(row, _)| passes(*row));
        kept.map(|(_, kind)| *kind).collect::<Arc<[RowKind]>>()
    });
    Ok(ChangeBatch { rows, kinds })
}

fn project(
    rows: &RecordBatch,
    expressions: &[Arc<dyn PhysicalExpr>],
    schema: &SchemaRef,
) -> Result<RecordBatch, JobError> {
    let columns = expressions
        .iter()
        .zip(schema.fields())
        .map(|(expression, field)| evaluate(expression, rows, field.data_type()))
        .collect::<Result<_, _>>()?;
    batch(schema, columns, rows.num_rows())
}

fn conform(rows: &RecordBatch, table: &str, schema: &SchemaRef) -> Result<RecordBatch, JobError> {
    let mut columns = Vec::with_capacity(rows.num_columns());
    for (column, field) in rows.columns().iter().zip(schema.fields()) {
        if !field.is_nullable() && column.null_count() > 0 {
            let name = field.name();
            return Err(JobError::failed(format!(
                "column '{name}' of table '{table}' is NOT NULL, but a null value is to be written into it"
            )));
        }
        columns.push(to_type(Arc::clone(column), field.data_type())?);
    }
    batch(schema, columns, rows.num_rows())
}

/// A batch that may have no columns.
pub(super) fn batch(
    schema: &SchemaRef,
    columns: Vec<ArrayRef>,
    rows: usize,
) -> Result<RecordBatch, JobError> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(
        Arc::clone(schema),
        columns,
        &options,
    )?)
}

#[cfg(test)]
mod tests;
