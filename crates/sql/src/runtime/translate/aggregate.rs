//! GROUP BY: which columns the key and the calls need, and whether it is a window aggregate or an unbounded one.
//!
//! A projection below the exchange computes just what the aggregate reads, the key first, so that nothing else travels between workers.

use std::sync::Arc;

use aquifer_dataflow::JobError;
use arrow::datatypes::{Field, Schema};
use datafusion_common::DFSchemaRef;
use datafusion_expr::expr::AggregateFunction as CallExpr;
use datafusion_expr::{Aggregate, Expr, LogicalPlan};

use super::{Translator, column_index, list, physical, schema_of, type_of, unsupported};
use crate::changelog::ChangelogMode;
use crate::runtime::aggregate::{AggregateCall, AggregateFunction, GroupAggregateSpec};
use crate::runtime::calc::CalcStep;
use crate::runtime::row_key;
use crate::runtime::stream::{StreamNode, StreamOperator, WindowColumns};
use crate::runtime::window::{WindowAggregateSpec, WindowOutput};

/// The columns that an aggregate reads, each expression once.
struct Reads<'a> {
    input: &'a DFSchemaRef,
    expressions: Vec<Expr>,
}

impl Reads<'_> {
    fn add(&mut self, expression: &Expr) -> usize {
        let expression = unaliased(expression);
        if let Some(index) = self.expressions.iter().position(|read| read == expression) {
            return index;
        }
        self.expressions.push(expression.clone());
        self.expressions.len() - 1
    }

    fn call(&mut self, expression: &Expr) -> Result<AggregateCall, JobError> {
        let Expr::AggregateFunction(CallExpr { func, params }) = unaliased(expression) else {
            return Err(unsupported(&format!("the aggregate {expression}")));
        };
        let name = func.name().to_uppercase();
        let function = AggregateFunction::named(&name)
            .ok_or_else(|| unsupported(&format!("the aggregate function {name}")))?;
        if !params.order_by.is_empty() {
            return Err(unsupported(&format!("ORDER BY inside {name}")));
        }
        let argument = match params.args.as_slice() {
            [] => None,
            // COUNT(*): a wildcard as it is written, a constant after some rules.
            [argument] if function == AggregateFunction::Count && counts_rows(argument) => None,
            [argument] => Some(argument),
            _ => return Err(unsupported(&format!("{name} of several arguments"))),
        };
        if argument.is_none() && function != AggregateFunction::Count {
            return Err(JobError::usage(format!("{name} needs an argument")));
        }
        let input = match argument {
            None => None,
            Some(argument) => Some((self.add(argument), type_of(argument, self.input)?)),
        };
        let filter = params.filter.as_ref().map(|filter| self.add(filter));
        let output = type_of(expression, self.input)?;
        AggregateCall {
            name: name_in_state(function, params.distinct, argument),
            function,
            input,
            filter,
            distinct: params.distinct,
            output,
        }
        .checked(&expression.to_string())
    }
}

/// A word for a call: `count`, `sum_price`, `count_distinct_bidder`.
fn name_in_state(function: AggregateFunction, distinct: bool, argument: Option<&Expr>) -> String {
    let mut name = function.name().to_owned();
    if distinct {
        name.push_str("_distinct");
    }
    if let Some(Expr::Column(column)) = argument.map(unaliased) {
        name.push('_');
        name.push_str(&column.name);
    }
    name
}

/// Whether COUNT of this argument counts all rows.
fn counts_rows(argument: &Expr) -> bool {
    match argument {
        #[expect(
            deprecated,
            reason = "the planner still writes the argument of COUNT(*) so"
        )]
        Expr::Wildcard { .. } => true,
        Expr::Literal(value, _) => !value.is_null(),
        _ => false,
    }
}

fn unaliased(expression: &Expr) -> &Expr {
    match expression {
        Expr::Alias(alias) => unaliased(&alias.expr),
        other => other,
    }
}

impl Translator<'_> {
    pub(super) fn aggregate(&mut self, aggregate: &Aggregate) -> Result<StreamNode, JobError> {
        let input = self.node(&aggregate.input)?;
        if matches!(aggregate.group_expr.as_slice(), [Expr::GroupingSet(_)]) {
            return Err(unsupported("GROUPING SETS, ROLLUP and CUBE"));
        }
        self.group(
            input,
            aggregate.input.schema(),
            &aggregate.group_expr,
            &aggregate.aggr_expr,
            &aggregate.schema,
        )
    }

    /// SELECT DISTINCT: groups of all columns, without calls.
    pub(super) fn distinct(&mut self, plan: &LogicalPlan) -> Result<StreamNode, JobError> {
        let input = self.node(plan)?;
        let schema = plan.schema();
        let columns: Vec<Expr> = schema.columns().into_iter().map(Expr::Column).collect();
        self.group(input, schema, &columns, &[], schema)
    }

    fn group(
        &mut self,
        input: StreamNode,
        input_schema: &DFSchemaRef,
        keys: &[Expr],
        calls: &[Expr],
        output_schema: &DFSchemaRef,
    ) -> Result<StreamNode, JobError> {
        let bound = |column: Option<usize>| {
            column.and_then(|column| {
                keys.iter()
                    .position(|key| column_index(unaliased(key), input_schema) == Some(column))
            })
        };
        let bounds = WindowColumns {
            start: bound(input.windows.start),
            end: bound(input.windows.end),
            time: bound(input.windows.time),
        };
        let windowed = bounds.start.zip(bounds.end);
        let is_bound = |key: usize| {
            windowed.is_some() && [bounds.start, bounds.end, bounds.time].contains(&Some(key))
        };

        let mut reads = Reads {
            input: input_schema,
            expressions: Vec::new(),
        };
        let mut key_types = Vec::new();
        let mut sources = Vec::new();
        for (index, key) in keys.iter().enumerate() {
            let data_type = type_of(key, input_schema)?;
            row_key::check_type(&format!("GROUP BY {key}"), &data_type)?;
            if is_bound(index) {
                sources.push(match index {
                    index if bounds.start == Some(index) => WindowOutput::WindowStart,
                    index if bounds.end == Some(index) => WindowOutput::WindowEnd,
                    _ => WindowOutput::WindowTime,
                });
                continue;
            }
            if windowed.is_some() {
                // A key given twice is read once.
                let column = reads.add(key);
                if column == key_types.len() {
                    key_types.push(data_type);
                }
                sources.push(WindowOutput::Key(column));
            } else {
                // The result begins with the key's columns, one by one.
                reads.expressions.push(unaliased(key).clone());
                key_types.push(data_type);
            }
        }
        let bound_columns =
            windowed.map(|(start, end)| (reads.add(&keys[start]), reads.add(&keys[end])));
        let calls_read = calls
            .iter()
            .map(|call| reads.call(call))
            .collect::<Result<Vec<_>, _>>()?;
        sources.extend((0..calls_read.len()).map(WindowOutput::Call));

        let expressions = reads.expressions;
        let updating = input.mode == ChangelogMode::Updating;
        let (updates_below, output) = (input.updates_by.clone(), schema_of(output_schema));
        let read = self.read(input, input_schema, &expressions)?;
        let description = format!("group by [{}], compute [{}]", list(keys), list(calls));
        if let Some((start_column, end_column)) = bound_columns {
            let spec = WindowAggregateSpec {
                key_types,
                start_column,
                end_column,
                calls: calls_read,
                output: Arc::clone(&output),
                sources,
                updating,
            };
            return Ok(StreamNode {
                uid: self.uid("window-aggregate"),
                description: format!("window aggregate: {description}"),
                operator: StreamOperator::WindowAggregate(Box::new(read), spec),
                schema: output,
                mode: ChangelogMode::InsertOnly,
                updates_by: None,
                windows: bounds,
            });
        }
        // Without calls over inserts, a group comes out once and never changes.
        let mode = match calls_read.is_empty() && !updating {
            true => ChangelogMode::InsertOnly,
            false => ChangelogMode::Updating,
        };
        let updates_by = (mode == ChangelogMode::Updating).then(|| {
            updates_below.unwrap_or_else(|| {
                format!(
                    "the aggregate that computes [{}] for each [{}]",
                    list(calls),
                    list(keys)
                )
            })
        });
        let spec = GroupAggregateSpec {
            key_columns: keys.len(),
            calls: calls_read,
            output: Arc::clone(&output),
            updating,
            mini_batch: self.options.mini_batch,
        };
        Ok(StreamNode {
            uid: self.uid("group-aggregate"),
            description,
            operator: StreamOperator::GroupAggregate(Box::new(read), spec),
            schema: output,
            mode,
            updates_by,
            windows: WindowColumns::default(),
        })
    }

    /// The columns that the aggregate reads.
    fn read(
        &mut self,
        input: StreamNode,
        input_schema: &DFSchemaRef,
        expressions: &[Expr],
    ) -> Result<StreamNode, JobError> {
        let mut fields = Vec::with_capacity(expressions.len());
        let mut columns = Vec::with_capacity(expressions.len());
        for (index, expression) in expressions.iter().enumerate() {
            let data_type = type_of(expression, input_schema)?;
            fields.push(Field::new(format!("c{index}"), data_type, true));
            columns.push(physical(expression, input_schema)?);
        }
        let schema = Arc::new(Schema::new(fields));
        let step = CalcStep::Project {
            expressions: columns,
            schema: Arc::clone(&schema),
        };
        let description = format!("select {}", list(expressions));
        Ok(self.calc(input, step, description, schema, WindowColumns::default()))
    }
}
