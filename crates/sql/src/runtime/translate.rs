//! From logical plans to streaming operators: one match, bottom-up.
//!
//! Refuses what cannot run on a stream (yet) with the construct's SQL name, and queries whose changes a sink does not take. Operator ids are
//! numbered in the order of the walk, so the same plan always gets the same ids.

mod aggregate;

use std::sync::Arc;

use aquifer_dataflow::JobError;
use aquifer_dataflow::connector::{ConnectorRegistry, TableSpec};
use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::compute::concat;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion_common::{Column, DFSchema, DFSchemaRef};
use datafusion_expr::execution_props::ExecutionProps;
use datafusion_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion_expr::{Distinct, EmptyRelation, Expr, Extension, LogicalPlan, TableScan, Values};
use datafusion_physical_expr::{PhysicalExpr, create_physical_expr};

use super::calc::{CalcStep, batch, evaluate};
use super::refused;
use super::stream::{
    StreamJob, StreamNode, StreamOperator, StreamOptions, StreamSink, WindowColumns,
};
use super::values::ValuesSource;
use super::watermark::WatermarkSpec;
use super::window::WindowAssignSpec;
use crate::catalog::scanned_table;
use crate::changelog::ChangelogMode;
use crate::logical::{ROWTIME, WatermarkAssigner, WindowTvf, time_attribute};
use crate::session::{JobPlan, PlannedSink, SinkTarget};

impl StreamJob {
    /// Checks a plan and turns it into operators. Makes the connectors' sources and sinks, but starts nothing.
    pub fn translate(
        plan: &JobPlan,
        registry: &ConnectorRegistry,
        options: &StreamOptions,
    ) -> Result<Self, JobError> {
        let mut translator = Translator {
            registry,
            options,
            operators: 0,
        };
        let sinks = plan
            .sinks
            .iter()
            .map(|sink| translator.sink(sink))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            sinks,
            late_rows: Arc::default(),
        })
    }
}

struct Translator<'a> {
    registry: &'a ConnectorRegistry,
    options: &'a StreamOptions,
    operators: usize,
}

impl Translator<'_> {
    fn uid(&mut self, kind: &str) -> String {
        self.operators += 1;
        format!("{}-{kind}", self.operators)
    }

    fn sink(&mut self, planned: &PlannedSink) -> Result<StreamSink, JobError> {
        let input = self.node(&planned.plan)?;
        let (sink, input, name) = match &planned.target {
            SinkTarget::Collect => {
                let sink = match &self.options.collect {
                    Some(sink) => Arc::clone(sink),
                    None => self.registry.get("print")?.sink(&TableSpec {
                        name: "SELECT".to_owned(),
                        schema: Arc::clone(&input.schema),
                        options: Default::default(),
                        primary_key: Vec::new(),
                        partitioned_by: Vec::new(),
                    })?,
                };
                (sink, input, "collect".to_owned())
            }
            SinkTarget::Table(table) => {
                let sink = self.registry.get(&table.connector)?.sink(&table.spec)?;
                let input = self.conform(input, &table.spec)?;
                (sink, input, table.spec.name.clone())
            }
        };
        if input.mode == ChangelogMode::Updating && !sink.accepts_updates() {
            let by = input.updates_by.as_deref().unwrap_or("the query");
            return Err(JobError::usage(format!(
                "the sink '{name}' takes inserts only, but the query changes rows that it has already given: {by} does"
            )));
        }
        Ok(StreamSink {
            uid: self.uid("sink"),
            input,
            sink,
            name,
        })
    }

    /// Rows as the table wants them.
    fn conform(&mut self, input: StreamNode, table: &TableSpec) -> Result<StreamNode, JobError> {
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

    fn node(&mut self, plan: &LogicalPlan) -> Result<StreamNode, JobError> {
        match plan {
            LogicalPlan::TableScan(scan) => self.scan(scan),
            LogicalPlan::SubqueryAlias(alias) => self.node(&alias.input),
            LogicalPlan::Projection(projection) => {
                let input = self.node(&projection.input)?;
                self.project(
                    input,
                    projection.input.schema(),
                    &projection.expr,
                    &projection.schema,
                )
            }
            LogicalPlan::Filter(filter) => {
                let input = self.node(&filter.input)?;
                self.filter(input, filter.input.schema(), &filter.predicate)
            }
            LogicalPlan::Aggregate(aggregate) => self.aggregate(aggregate),
            LogicalPlan::Distinct(Distinct::All(input)) => self.distinct(input),
            LogicalPlan::Union(union) => {
                let schema = schema_of(&union.schema);
                let mut inputs = Vec::with_capacity(union.inputs.len());
                for input in &union.inputs {
                    let input = self.node(input)?;
                    inputs.push(self.cast_columns(input, &schema)?);
                }
                let updating = inputs
                    .iter()
                    .find(|input| input.mode == ChangelogMode::Updating);
                let mode = updating.map_or(ChangelogMode::InsertOnly, |input| input.mode);
                let updates_by = updating.and_then(|input| input.updates_by.clone());
                Ok(StreamNode {
                    uid: self.uid("union"),
                    description: "UNION ALL".to_owned(),
                    operator: StreamOperator::Union(inputs),
                    schema,
                    mode,
                    updates_by,
                    windows: WindowColumns::default(),
                })
            }
            LogicalPlan::Values(values) => self.values(values),
            LogicalPlan::EmptyRelation(empty) => self.empty(empty),
            LogicalPlan::Extension(extension) => self.extension(extension),
            LogicalPlan::Sort(_) => Err(unsupported("ORDER BY (a stream has no end to sort)")),
            LogicalPlan::Limit(_) => Err(unsupported("LIMIT and FETCH")),
            LogicalPlan::Join(_) => Err(unsupported("JOIN")),
            LogicalPlan::Window(_) => Err(unsupported(
                "OVER (ROW_NUMBER() and other window functions)",
            )),
            LogicalPlan::Distinct(Distinct::On(_)) => Err(unsupported("DISTINCT ON")),
            LogicalPlan::Unnest(_) => Err(unsupported("UNNEST")),
            LogicalPlan::RecursiveQuery(_) => Err(unsupported("WITH RECURSIVE")),
            LogicalPlan::Subquery(_) => Err(unsupported("a subquery inside an expression")),
            other => {
                let name = other.display().to_string();
                Err(unsupported(
                    name.split([':', ' ']).next().unwrap_or("this statement"),
                ))
            }
        }
    }

    fn scan(&mut self, scan: &TableScan) -> Result<StreamNode, JobError> {
        let table = scanned_table(scan).ok_or_else(|| {
            JobError::usage(format!(
                "'{}' is not a table that can be read",
                scan.table_name
            ))
        })?;
        if scan.fetch.is_some() {
            return Err(unsupported("LIMIT and FETCH"));
        }
        let source = self.registry.get(&table.connector)?.source(&table.spec)?;
        let physical = &table.spec.schema;
        let mut node = StreamNode {
            uid: self.uid("source"),
            description: format!("table {} ({})", table.spec.name, table.connector),
            operator: StreamOperator::Source(source),
            schema: Arc::clone(physical),
            mode: ChangelogMode::InsertOnly,
            updates_by: None,
            windows: WindowColumns::default(),
        };
        let all = DFSchema::try_from_qualified_schema(scan.table_name.clone(), physical)
            .map_err(|error| refused(&error))?;
        for filter in &scan.filters {
            node = self.filter(node, &Arc::new(all.clone()), filter)?;
        }
        let Some(projection) = &scan.projection else {
            return Ok(node);
        };
        if projection.iter().copied().eq(0..physical.fields().len()) {
            return Ok(node);
        }
        let columns: Vec<Expr> = projection
            .iter()
            .map(|index| Expr::Column(Column::from(all.qualified_field(*index))))
            .collect();
        self.project(node, &Arc::new(all), &columns, &scan.projected_schema)
    }

    /// Adds a step to the calculation at the top, or begins one.
    fn calc(
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

    fn filter(
        &mut self,
        input: StreamNode,
        input_schema: &DFSchemaRef,
        predicate: &Expr,
    ) -> Result<StreamNode, JobError> {
        let step = CalcStep::Filter(physical(predicate, input_schema)?);
        let (schema, windows) = (Arc::clone(&input.schema), input.windows);
        Ok(self.calc(input, step, format!("where {predicate}"), schema, windows))
    }

    fn project(
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
    fn cast_columns(
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

    fn values(&mut self, values: &Values) -> Result<StreamNode, JobError> {
        let schema = schema_of(&values.schema);
        let one_row = RecordBatch::try_new_with_options(
            Arc::new(Schema::empty()),
            Vec::new(),
            &RecordBatchOptions::new().with_row_count(Some(1)),
        )?;
        let nothing: DFSchemaRef = Arc::new(DFSchema::empty());
        let mut columns = Vec::with_capacity(schema.fields().len());
        for (index, field) in schema.fields().iter().enumerate() {
            let mut cells = Vec::with_capacity(values.values.len());
            for row in &values.values {
                let cell = row.get(index).ok_or_else(|| {
                    JobError::usage("the rows of VALUES do not all have the same number of columns")
                })?;
                let cell = evaluate(&physical(cell, &nothing)?, &one_row, field.data_type())
                    .map_err(|error| JobError::usage(error.message))?;
                cells.push(cell);
            }
            let cells: Vec<_> = cells.iter().map(AsRef::as_ref).collect();
            columns.push(concat(&cells)?);
        }
        let rows = batch(&schema, columns, values.values.len())?;
        let cells: Vec<String> = values.values.iter().map(|row| list(row)).collect();
        let description = format!("VALUES ({})", cells.join("), ("));
        Ok(self.values_source(rows, description))
    }

    fn empty(&mut self, empty: &EmptyRelation) -> Result<StreamNode, JobError> {
        let schema = schema_of(&empty.schema);
        let rows = usize::from(empty.produce_one_row);
        let columns = schema
            .fields()
            .iter()
            .map(|field| arrow::array::new_null_array(field.data_type(), rows))
            .collect();
        let rows = batch(&schema, columns, rows)?;
        let description = format!("{} rows without a table", rows.num_rows());
        Ok(self.values_source(rows, description))
    }

    fn values_source(&mut self, rows: RecordBatch, description: String) -> StreamNode {
        StreamNode {
            uid: self.uid("values"),
            description,
            schema: rows.schema(),
            operator: StreamOperator::Source(Arc::new(ValuesSource::new(rows))),
            mode: ChangelogMode::InsertOnly,
            updates_by: None,
            windows: WindowColumns::default(),
        }
    }

    fn extension(&mut self, extension: &Extension) -> Result<StreamNode, JobError> {
        if let Some(node) = extension.node.as_any().downcast_ref::<WatermarkAssigner>() {
            return self.watermark(node);
        }
        if let Some(node) = extension.node.as_any().downcast_ref::<WindowTvf>() {
            return self.window_tvf(node);
        }
        Err(unsupported(extension.node.name()))
    }

    fn watermark(&mut self, node: &WatermarkAssigner) -> Result<StreamNode, JobError> {
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

    fn window_tvf(&mut self, node: &WindowTvf) -> Result<StreamNode, JobError> {
        let input = self.node(node.input())?;
        let below = node.input().schema();
        let column = node.time_column().map_err(|error| refused(&error))?;
        let time_column = below
            .index_of_column(column)
            .map_err(|error| refused(&error))?;
        let field = below.field(time_column);
        let function = node.kind().name();
        if time_attribute(field) != Some(ROWTIME) {
            let (name, data_type) = (field.name(), field.data_type());
            return Err(JobError::usage(format!(
                "the time column of {function} must be an event time attribute (a column with a watermark), but '{name}' is an ordinary {data_type}"
            )));
        }
        let schema = schema_of(&node_schema(node));
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

fn node_schema(node: &WindowTvf) -> DFSchemaRef {
    use datafusion_expr::UserDefinedLogicalNodeCore;
    Arc::clone(UserDefinedLogicalNodeCore::schema(node))
}

/// The columns of a plan as batches carry them. Everything may be null in a batch: what is promised is checked where it is written.
fn schema_of(schema: &DFSchemaRef) -> SchemaRef {
    let fields = schema.as_arrow().fields().iter();
    let fields: Vec<_> = fields
        .map(|field| field.as_ref().clone().with_nullable(true))
        .collect();
    Arc::new(Schema::new(fields))
}

/// An expression that can be evaluated on batches of this schema.
fn physical(expression: &Expr, schema: &DFSchemaRef) -> Result<Arc<dyn PhysicalExpr>, JobError> {
    let properties = ExecutionProps::new();
    let context = PhysicalPlanningContext::default();
    create_physical_expr(expression, schema, &properties, &context).map_err(|error| refused(&error))
}

/// The column that an expression is, under whatever name.
fn column_index(expression: &Expr, schema: &DFSchemaRef) -> Option<usize> {
    match expression {
        Expr::Alias(alias) => column_index(&alias.expr, schema),
        Expr::Column(column) => schema.index_of_column(column).ok(),
        _ => None,
    }
}

fn list(expressions: &[Expr]) -> String {
    expressions
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

fn unsupported(construct: &str) -> JobError {
    JobError::usage(format!("{construct} is not supported on streams yet"))
}

/// The type of an expression's result.
fn type_of(expression: &Expr, schema: &DFSchemaRef) -> Result<DataType, JobError> {
    use datafusion_expr::ExprSchemable;
    expression
        .get_type(schema.as_ref())
        .map_err(|error| refused(&error))
}

#[cfg(test)]
mod tests;
