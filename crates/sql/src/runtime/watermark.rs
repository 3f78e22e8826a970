//! Assigns watermarks: the greatest value of the `WATERMARK FOR` expression seen so far, told after the batch in which it appeared.
//!
//! Watermarks from above are dropped (this operator makes its own), except the last one, which says that no row will follow.

use std::sync::Arc;

use aquifer_dataflow::operator::{Collector, StatelessOperator, WATERMARK_MAX};
use aquifer_dataflow::{ChangeBatch, JobError};
use arrow::array::{Array, AsArray};
use arrow::compute::max;
use arrow::datatypes::{DataType, TimeUnit, TimestampMillisecondType};
use datafusion_physical_expr::PhysicalExpr;

use super::calc::evaluate;

/// What a watermark assigner does.
#[derive(Clone, Debug)]
pub struct WatermarkSpec {
    /// The event time column.
    pub time_column: usize,
    /// The watermark of a row: a TIMESTAMP or TIMESTAMP_LTZ.
    pub expression: Arc<dyn PhysicalExpr>,
}

/// The operator.
pub struct WatermarkAssign {
    spec: WatermarkSpec,
    watermark_ms: i64,
}

impl WatermarkAssign {
    /// Starts without a watermark.
    pub fn new(spec: WatermarkSpec) -> Self {
        Self {
            spec,
            watermark_ms: i64::MIN,
        }
    }
}

impl StatelessOperator<ChangeBatch, ChangeBatch> for WatermarkAssign {
    fn on_batch(
        &mut self,
        batch: ChangeBatch,
        out: &mut Collector<ChangeBatch>,
    ) -> Result<(), JobError> {
        let column = self.spec.time_column;
        if batch.rows.column(column).null_count() > 0 {
            let schema = batch.rows.schema();
            let name = schema.field(column).name();
            return Err(JobError::failed(format!(
                "the event time column '{name}' is null in a row, but a watermark is declared for it: event times may not be null"
            )));
        }
        let milliseconds = DataType::Timestamp(TimeUnit::Millisecond, None);
        let values = evaluate(&self.spec.expression, &batch.rows, &milliseconds)?;
        let greatest = max(values.as_primitive::<TimestampMillisecondType>());
        out.emit(batch);
        if let Some(watermark_ms) = greatest.filter(|greatest| *greatest > self.watermark_ms) {
            self.watermark_ms = watermark_ms;
            out.watermark(watermark_ms);
        }
        Ok(())
    }

    fn on_watermark(
        &mut self,
        watermark_ms: i64,
        out: &mut Collector<ChangeBatch>,
    ) -> Result<(), JobError> {
        if watermark_ms == WATERMARK_MAX {
            out.watermark(WATERMARK_MAX);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
