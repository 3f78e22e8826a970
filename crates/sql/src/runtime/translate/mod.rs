//! From logical plans to streaming operators: one match, bottom-up.
//!
//! Refuses what cannot run on a stream (yet) with the construct's SQL name, and queries whose changes a sink does not take. Operator ids are
//! numbered in the order of the walk, so the same plan always gets the same ids.

mod aggregate;
mod calc;
mod described;
mod event_time;
mod share;
mod source;

use std::collections::BTreeMap;
use std::sync::Arc;

use aquifer_dataflow::JobError;
use aquifer_dataflow::connector::{ConnectorRegistry, Sink, Source, TableSpec};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion_common::DFSchemaRef;
use datafusion_expr::execution_props::ExecutionProps;
use datafusion_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion_expr::{Distinct, Expr, Extension, LogicalPlan};
use datafusion_physical_expr::{PhysicalExpr, create_physical_expr};

use super::refused;
use super::stream::{
    StreamJob, StreamNode, StreamOperator, StreamOptions, StreamSink, WindowColumns,
};
use crate::changelog::ChangelogMode;
use crate::logical::{WatermarkAssigner, WindowTvf};
use crate::session::{JobPlan, PlannedSink, SinkTarget};

impl StreamJob {
    /// Checks a plan and turns it into operators. Makes the connectors' sources and sinks, but starts nothing.
    pub fn translate(
        plan: &JobPlan,
        registry: &ConnectorRegistry,
        options: &StreamOptions,
    ) -> Result<Self, JobError> {
        Translator::new(Some(registry), options).job(plan)
    }
}

/// The operators that a plan becomes, one per line, with the kinds of rows that each makes, for `EXPLAIN CHANGELOG_MODE`. No connector is asked, so
/// what only a connector refuses is not refused here.
pub fn explain_changelog(plan: &JobPlan) -> Result<String, JobError> {
    let job = Translator::new(None, &StreamOptions::default()).job(plan)?;
    Ok(job.describe())
}

struct Translator<'a> {
    /// Without connectors the result can be described, but not run.
    registry: Option<&'a ConnectorRegistry>,
    options: &'a StreamOptions,
    operators: usize,
    /// Sources by the table they read, with the name of their operator.
    sources: BTreeMap<String, (String, Arc<dyn Source>)>,
}

impl<'a> Translator<'a> {
    fn new(registry: Option<&'a ConnectorRegistry>, options: &'a StreamOptions) -> Self {
        Self {
            registry,
            options,
            operators: 0,
            sources: BTreeMap::new(),
        }
    }

    fn job(mut self, plan: &JobPlan) -> Result<StreamJob, JobError> {
        let mut sinks = plan
            .sinks
            .iter()
            .map(|sink| self.sink(sink))
            .collect::<Result<Vec<_>, _>>()?;
        share::share(&mut sinks);
        Ok(StreamJob {
            sinks,
            late_rows: Arc::default(),
        })
    }

    fn uid(&mut self, kind: &str) -> String {
        self.operators += 1;
        format!("{}-{kind}", self.operators)
    }

    fn sink(&mut self, planned: &PlannedSink) -> Result<StreamSink, JobError> {
        let input = self.node(&planned.plan)?;
        let (spec, connector, name) = match &planned.target {
            SinkTarget::Collect => {
                let spec = TableSpec {
                    name: "SELECT".to_owned(),
                    schema: Arc::clone(&input.schema),
                    options: Default::default(),
                    primary_key: Vec::new(),
                    partitioned_by: Vec::new(),
                };
                (spec, "print", "collect".to_owned())
            }
            SinkTarget::Table(table) => (
                table.spec.clone(),
                table.connector.as_str(),
                table.spec.name.clone(),
            ),
        };
        let sink = match (self.registry, &planned.target, &self.options.collect) {
            (_, SinkTarget::Collect, Some(sink)) => Arc::clone(sink),
            (Some(registry), _, _) => registry.get(connector)?.sink(&spec)?,
            (None, _, _) => Arc::new(described::Described) as Arc<dyn Sink>,
        };
        let input = self.conform(input, &spec)?;
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

    fn extension(&mut self, extension: &Extension) -> Result<StreamNode, JobError> {
        if let Some(node) = extension.node.as_any().downcast_ref::<WatermarkAssigner>() {
            return self.watermark(node);
        }
        if let Some(node) = extension.node.as_any().downcast_ref::<WindowTvf>() {
            return self.window_tvf(node);
        }
        Err(unsupported(extension.node.name()))
    }
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
