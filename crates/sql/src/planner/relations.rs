//! Windowing table-valued functions in `FROM`, and the relations of Flink that are refused.

use std::sync::Arc;

use datafusion_common::{DFSchema, Result, ScalarValue, not_impl_err, plan_err};
use datafusion_expr::planner::{
    PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning,
};
use datafusion_expr::{Expr, ExprSchemable, Extension, LogicalPlan};
use sqlparser::ast::{
    Expr as SqlExpr, FunctionArg, FunctionArgExpr, FunctionArguments, ObjectName, TableAlias,
    TableFactor, TableFunctionArgs, TableVersion,
};

use super::types::type_name;
use crate::logical::{PROCTIME, ROWTIME, WindowKind, WindowTvf, time_attribute};

/// Plans `TUMBLE`, `HOP` and `CUMULATE`.
#[derive(Debug)]
pub(super) struct FlinkRelations;

impl RelationPlanner for FlinkRelations {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning> {
        match relation {
            TableFactor::TableFunction {
                expr: SqlExpr::Function(function),
                alias,
            } => {
                let FunctionArguments::List(list) = function.args else {
                    return plan_err!("the table function {} has no arguments", function.name);
                };
                plan_function(&function.name, list.args, alias, context)
            }
            TableFactor::Table {
                name,
                alias,
                args: Some(TableFunctionArgs { args, .. }),
                ..
            } => plan_function(&name, args, alias, context),
            TableFactor::Table {
                version: Some(TableVersion::ForSystemTimeAsOf(_)),
                name,
                ..
            } => {
                not_impl_err!(
                    "the join with '{name} FOR SYSTEM_TIME AS OF …' (temporal and lookup joins) is not supported yet"
                )
            }
            TableFactor::TableFunction { .. } => {
                not_impl_err!("FROM TABLE(…) takes a table function")
            }
            TableFactor::Function { name, .. } => {
                not_impl_err!("the table function {name} is not known")
            }
            TableFactor::UNNEST { .. } => not_impl_err!("UNNEST is not supported yet"),
            TableFactor::MatchRecognize { .. } => {
                not_impl_err!("MATCH_RECOGNIZE is not supported yet")
            }
            other => Ok(RelationPlanning::Original(Box::new(other))),
        }
    }
}

/// The names that Flink gives the parameters, in order.
fn parameters(function: &str) -> Option<&'static [&'static str]> {
    match function {
        "TUMBLE" => Some(&["DATA", "TIMECOL", "SIZE", "OFFSET"]),
        "HOP" => Some(&["DATA", "TIMECOL", "SLIDE", "SIZE", "OFFSET"]),
        "CUMULATE" => Some(&["DATA", "TIMECOL", "STEP", "SIZE", "OFFSET"]),
        _ => None,
    }
}

fn plan_function(
    name: &ObjectName,
    args: Vec<FunctionArg>,
    alias: Option<TableAlias>,
    context: &mut dyn RelationPlannerContext,
) -> Result<RelationPlanning> {
    let function = name.to_string().trim_matches('`').to_ascii_uppercase();
    let Some(names) = parameters(&function) else {
        return match function.as_str() {
            "SESSION" => not_impl_err!(
                "the window function SESSION is not supported yet; there are TUMBLE, HOP and CUMULATE"
            ),
            _ => not_impl_err!(
                "the table function {function} is not known; there are TUMBLE, HOP and CUMULATE"
            ),
        };
    };
    let mut values: Vec<Option<SqlExpr>> = vec![None; names.len()];
    for (i, arg) in args.into_iter().enumerate() {
        let (at, value) = match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) => (Some(i), value),
            FunctionArg::Named {
                name,
                arg: FunctionArgExpr::Expr(value),
                ..
            } => (
                names
                    .iter()
                    .position(|n| name.value.eq_ignore_ascii_case(n)),
                value,
            ),
            other => return plan_err!("{function} does not take the argument {other}"),
        };
        match at.and_then(|at| values.get_mut(at)) {
            Some(slot @ None) => *slot = Some(value),
            _ => return plan_err!("{function} takes {}, found {value}", names.join(", ")),
        }
    }
    let mut values = values.into_iter();
    let (Some(Some(data)), Some(Some(descriptor))) = (values.next(), values.next()) else {
        return plan_err!("{function} begins with TABLE name, DESCRIPTOR(column)");
    };
    let rest: Vec<Option<SqlExpr>> = values.collect();
    let input = context.plan(table_factor(data, &function)?)?;
    let time_column = descriptor_column(descriptor, &function, &input, context)?;
    check_time_attribute(&time_column, &function, input.schema())?;
    let mut lengths = Vec::with_capacity(rest.len());
    for (value, name) in rest.into_iter().zip(names.iter().skip(2)) {
        lengths.push(match value {
            Some(value) => Some(milliseconds(value, &function, name, context)?),
            None => None,
        });
    }
    let kind = window_kind(&function, &lengths)?;
    let node = WindowTvf::try_new(kind, time_column, Arc::new(input))?;
    let plan = LogicalPlan::Extension(Extension {
        node: Arc::new(node),
    });
    Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(
        plan, alias,
    ))))
}

/// `TABLE name` or a subquery, as something to plan.
fn table_factor(data: SqlExpr, function: &str) -> Result<TableFactor> {
    match data {
        SqlExpr::Prefixed { value, .. } => {
            let SqlExpr::CompoundIdentifier(parts) = *value else {
                return plan_err!("{function} takes TABLE name, found TABLE {value}");
            };
            Ok(TableFactor::Table {
                name: ObjectName::from(parts),
                alias: None,
                args: None,
                with_hints: Vec::new(),
                version: None,
                with_ordinality: false,
                partitions: Vec::new(),
                json_path: None,
                sample: None,
                index_hints: Vec::new(),
            })
        }
        SqlExpr::Subquery(subquery) => Ok(TableFactor::Derived {
            lateral: false,
            subquery,
            alias: None,
            sample: None,
        }),
        other => plan_err!("the first argument of {function} is TABLE name, found {other}"),
    }
}

fn descriptor_column(
    descriptor: SqlExpr,
    function: &str,
    input: &LogicalPlan,
    context: &mut dyn RelationPlannerContext,
) -> Result<Expr> {
    if let SqlExpr::Function(call) = &descriptor
        && call.name.to_string().eq_ignore_ascii_case("DESCRIPTOR")
        && let FunctionArguments::List(list) = &call.args
        && let [FunctionArg::Unnamed(FunctionArgExpr::Expr(column))] = list.args.as_slice()
    {
        let planned = context.sql_to_expr(column.clone(), input.schema())?;
        return match planned {
            Expr::Column(_) => Ok(planned),
            other => plan_err!("the DESCRIPTOR of {function} names a column, not {other}"),
        };
    }
    plan_err!("the second argument of {function} is DESCRIPTOR(column), found {descriptor}")
}

fn check_time_attribute(column: &Expr, function: &str, schema: &DFSchema) -> Result<()> {
    let (_, field) = column.to_field(schema)?;
    match time_attribute(&field) {
        Some(ROWTIME | PROCTIME) => Ok(()),
        _ => plan_err!(
            "{function} needs a time attribute, and '{}' of type {} is none: its table declares no WATERMARK FOR it, or the column was computed from it",
            field.name(),
            type_name(field.data_type())
        ),
    }
}

fn milliseconds(
    value: SqlExpr,
    function: &str,
    parameter: &str,
    context: &mut dyn RelationPlannerContext,
) -> Result<i64> {
    let text = value.to_string();
    let planned = context.sql_to_expr(value, &DFSchema::empty())?;
    let (sign, literal) = match planned {
        Expr::Negative(inner) => (-1, *inner),
        other => (1, other),
    };
    if let Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(interval)), _) = literal
        && interval.months == 0
        && interval.nanoseconds % 1_000_000 == 0
    {
        return Ok(
            sign * (i64::from(interval.days) * 86_400_000 + interval.nanoseconds / 1_000_000)
        );
    }
    plan_err!("{parameter} of {function} is an interval of days to milliseconds, found {text}")
}

/// Checks what windows need of their lengths; `lengths` are those behind the DESCRIPTOR, in order.
fn window_kind(function: &str, lengths: &[Option<i64>]) -> Result<WindowKind> {
    let positive = |i: usize, name: &str| match lengths.get(i).copied().flatten() {
        Some(ms) if ms > 0 => Ok(ms),
        Some(ms) => plan_err!("{function} needs a positive {name}, found {ms} ms"),
        None => plan_err!("{function} needs its {name}"),
    };
    let offset = |i: usize| lengths.get(i).copied().flatten().unwrap_or(0);
    let within = |offset_ms: i64, length_ms: i64, name: &str| {
        if offset_ms.abs() < length_ms {
            return Ok(());
        }
        plan_err!(
            "{function} needs an OFFSET shorter than its {name}, found {offset_ms} ms and {length_ms} ms"
        )
    };
    match function {
        "TUMBLE" => {
            let (size_ms, offset_ms) = (positive(0, "SIZE")?, offset(1));
            within(offset_ms, size_ms, "SIZE")?;
            Ok(WindowKind::Tumble { size_ms, offset_ms })
        }
        "HOP" => {
            let (slide_ms, size_ms, offset_ms) =
                (positive(0, "SLIDE")?, positive(1, "SIZE")?, offset(2));
            if size_ms % slide_ms != 0 {
                return plan_err!(
                    "HOP needs a SIZE that is a multiple of its SLIDE, found size {size_ms} ms and slide {slide_ms} ms"
                );
            }
            within(offset_ms, slide_ms, "SLIDE")?;
            Ok(WindowKind::Hop {
                slide_ms,
                size_ms,
                offset_ms,
            })
        }
        _ => {
            let (step_ms, size_ms, offset_ms) =
                (positive(0, "STEP")?, positive(1, "SIZE")?, offset(2));
            if size_ms % step_ms != 0 {
                return plan_err!(
                    "CUMULATE needs a SIZE that is a multiple of its STEP, found size {size_ms} ms and step {step_ms} ms"
                );
            }
            within(offset_ms, step_ms, "STEP")?;
            Ok(WindowKind::Cumulate {
                step_ms,
                size_ms,
                offset_ms,
            })
        }
    }
}
