//! Projections, filters and casts: steps of calculations, fused where they follow each other.

use std::sync::Arc;

use aquifer_dataflow::JobError;
use aquifer_dataflow::connector::TableSpec;
use arrow::datatypes::SchemaRef;
use datafusion_common::DFSchemaRef;
use datafusion_expr::Expr;

use super::{Translator, column_index, list, physical, schema_of};
use crate::runtime::calc::CalcStep;
use crate::runtime::stream::{StreamNode, StreamOperator, WindowColumns};

impl Translator<'_> {
    /// Rows as the table wants them.
    pub(super) fn conform(
        &mut self,
        input: StreamNode,
        table: &TableSpec,
    ) -> Result<StreamNode, JobError> {
        if input.schema.fields() == table.schema.fields() {
            return Ok(input);
        }
        let (found, wanted) = (input.schema.fields().len(), table.schema.fields().len());
        if found != wanted {
            return Err(JobError::usage(format!(
                "table '{}' has {wanted} columns, but the query has {found}",
                table.name
            )));
        }
        let step = CalcStep::Conform {
            table: Arc::from(table.name.as_str()),
            schema: Arc::clone(&table.schema),
        };
        let windows = input.windows;
        let schema = Arc::clone(&table.schema);
        Ok(self.calc(
            input,
            step,
            "as the sink's columns".to_owned(),
            schema,
            windows,
        ))
    }

    /// Adds a step to the calculation at the top, or begins one.
    pub(super) fn calc(
        &mut self,
        input: StreamNode,
        step: CalcStep,
        description: String,
        schema: SchemaRef,
        windows: WindowColumns,
    ) -> StreamNode {
        let (mode, updates_by) = (input.mode, input.updates_by.clone());
        if let StreamOperator::Calc(below, steps) = input.operator {
            let steps = steps.iter().cloned().chain([step]).collect();
            return StreamNode {
                uid: input.uid,
                description: format!("{}; {description}", input.description),
                operator: StreamOperator::Calc(below, steps),
                schema,
                mode,
                updates_by,
                windows,
            };
        }
        StreamNode {
            uid: self.uid("calc"),
            description,
            operator: StreamOperator::Calc(Box::new(input), Arc::new([step])),
            schema,
            mode,
            updates_by,
            windows,
        }
    }

    pub(super) fn filter(
        &mut self,
        input: StreamNode,
        input_schema: &DFSchemaRef,
        predicate: &Expr,
    ) -> Result<StreamNode, JobError> {
        let step = CalcStep::Filter(physical(predicate, input_schema)?);
        let (schema, windows) = (Arc::clone(&input.schema), input.windows);
        Ok(self.calc(input, step, format!("where {predicate}"), schema, windows))
    }

    pub(super) fn project(
        &mut self,
        input: StreamNode,
        input_schema: &DFSchemaRef,
        columns: &[Expr],
        output_schema: &DFSchemaRef,
    ) -> Result<StreamNode, JobError> {
        let schema = schema_of(output_schema);
        let expressions = columns
            .iter()
            .map(|c| physical(c, input_schema))
            .collect::<Result<_, _>>()?;
        let windows = input.windows.mapped(|old| {
            columns
                .iter()
                .position(|column| column_index(column, input_schema) == Some(old))
        });
        let step = CalcStep::Project {
            expressions,
            schema: Arc::clone(&schema),
        };
        let description = format!("select {}", list(columns));
        Ok(self.calc(input, step, description, schema, windows))
    }

    /// The same columns under other names and in other types, where they differ.
    pub(super) fn cast_columns(
        &mut self,
        input: StreamNode,
        schema: &SchemaRef,
    ) -> Result<StreamNode, JobError> {
        if input.schema.fields() == schema.fields() {
            return Ok(input);
        }
        let step = CalcStep::Conform {
            table: Arc::from("UNION"),
            schema: Arc::clone(schema),
        };
        let windows = input.windows;
        Ok(self.calc(
            input,
            step,
            "cast for UNION".to_owned(),
            Arc::clone(schema),
            windows,
        ))
    }
}
