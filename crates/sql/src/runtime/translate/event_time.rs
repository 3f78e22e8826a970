//! Watermarks, and the windowing table-valued functions.

use std::sync::Arc;

use aquifer_dataflow::JobError;
use datafusion_expr::UserDefinedLogicalNodeCore;

use super::{Translator, physical, schema_of, unsupported};
use crate::logical::{PROCTIME, ROWTIME, WatermarkAssigner, WindowTvf, time_attribute};
use crate::runtime::refused;
use crate::runtime::stream::{StreamNode, StreamOperator, WindowColumns};
use crate::runtime::watermark::WatermarkSpec;
use crate::runtime::window::WindowAssignSpec;

impl Translator<'_> {
    pub(super) fn watermark(&mut self, node: &WatermarkAssigner) -> Result<StreamNode, JobError> {
        let input = self.node(node.input())?;
        let below = node.input().schema();
        let column = node.time_column().map_err(|error| refused(&error))?;
        let time_column = below
            .index_of_column(column)
            .map_err(|error| refused(&error))?;
        let expression = physical(node.watermark(), below)?;
        let (mode, updates_by, windows) = (input.mode, input.updates_by.clone(), input.windows);
        Ok(StreamNode {
            uid: self.uid("watermark"),
            description: format!("watermark for {column} as {}", node.watermark()),
            schema: Arc::clone(&input.schema),
            operator: StreamOperator::Watermark(
                Box::new(input),
                WatermarkSpec {
                    time_column,
                    expression,
                },
            ),
            mode,
            updates_by,
            windows,
        })
    }

    pub(super) fn window_tvf(&mut self, node: &WindowTvf) -> Result<StreamNode, JobError> {
        let input = self.node(node.input())?;
        let below = node.input().schema();
        let column = node.time_column().map_err(|error| refused(&error))?;
        let time_column = below
            .index_of_column(column)
            .map_err(|error| refused(&error))?;
        let field = below.field(time_column);
        let function = node.kind().name();
        if time_attribute(field) == Some(PROCTIME) {
            return Err(unsupported(&format!("{function} over processing time")));
        }
        if time_attribute(field) != Some(ROWTIME) {
            let (name, data_type) = (field.name(), field.data_type());
            return Err(JobError::usage(format!(
                "the time column of {function} must be an event time attribute (a column with a watermark), but '{name}' is an ordinary {data_type}"
            )));
        }
        let schema = schema_of(UserDefinedLogicalNodeCore::schema(node));
        let width = input.schema.fields().len();
        let (mode, updates_by) = (input.mode, input.updates_by.clone());
        Ok(StreamNode {
            uid: self.uid("window"),
            description: format!("{} on {column}", node.kind()),
            schema: Arc::clone(&schema),
            operator: StreamOperator::WindowAssign(
                Box::new(input),
                WindowAssignSpec {
                    kind: node.kind(),
                    time_column,
                    output: schema,
                },
            ),
            mode,
            updates_by,
            windows: WindowColumns {
                start: Some(width),
                end: Some(width + 1),
                time: Some(width + 2),
            },
        })
    }
}
