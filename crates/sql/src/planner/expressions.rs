//! Flink's meaning of expressions, at the hooks of DataFusion's planner.

use arrow::datatypes::Field;
use datafusion_common::{Column, DFSchema, Result, TableReference};
use datafusion_expr::planner::{ExprPlanner, PlannerResult, RawAggregateExpr, RawBinaryExpr};
use datafusion_expr::{Expr, lit};

use super::binary::plan_arithmetic;
use crate::functions::{self, call};

/// Plans expressions as Flink understands them.
#[derive(Debug)]
pub(super) struct FlinkExpressions;

impl ExprPlanner for FlinkExpressions {
    fn plan_binary_op(
        &self,
        expr: RawBinaryExpr,
        schema: &DFSchema,
    ) -> Result<PlannerResult<RawBinaryExpr>> {
        plan_arithmetic(expr, schema)
    }

    /// `bid.price` on a ROW column: the field, in a column named `price`.
    fn plan_compound_identifier(
        &self,
        field: &Field,
        qualifier: Option<&TableReference>,
        nested_names: &[String],
    ) -> Result<PlannerResult<Vec<Expr>>> {
        let mut expr = Expr::Column(Column::from((qualifier, field)));
        for name in nested_names {
            expr = functions::field_of(expr, name);
        }
        Ok(PlannerResult::Planned(match nested_names.last() {
            Some(name) => expr.alias(name),
            None => expr,
        }))
    }

    /// `EXTRACT(unit FROM x)`: arguments are the unit's name and `x`.
    fn plan_extract(&self, args: Vec<Expr>) -> Result<PlannerResult<Vec<Expr>>> {
        Ok(PlannerResult::Planned(call(functions::EXTRACT, args)?))
    }

    /// `POSITION(a IN b)`: arguments are `b` and `a`.
    fn plan_position(&self, args: Vec<Expr>) -> Result<PlannerResult<Vec<Expr>>> {
        let mut args = args.into_iter();
        let (Some(text), Some(part)) = (args.next(), args.next()) else {
            return Ok(PlannerResult::Original(args.collect()));
        };
        Ok(PlannerResult::Planned(call("locate", vec![part, text])?))
    }

    /// `SUBSTRING(s FROM start FOR length)`.
    fn plan_substring(&self, args: Vec<Expr>) -> Result<PlannerResult<Vec<Expr>>> {
        Ok(PlannerResult::Planned(call("substring", args)?))
    }

    /// `COUNT(*)` counts a constant.
    fn plan_aggregate(
        &self,
        mut call: RawAggregateExpr,
    ) -> Result<PlannerResult<RawAggregateExpr>> {
        #[expect(deprecated, reason = "the planner still says `*` this way")]
        let star = matches!(
            call.args.as_slice(),
            [Expr::Wildcard {
                qualifier: None,
                ..
            }]
        );
        if star && call.func.name() == "count" && !call.distinct {
            call.args = vec![lit(1i64)];
        }
        Ok(PlannerResult::Original(call))
    }

    /// `OVERLAY(s PLACING t FROM start FOR length)`.
    fn plan_overlay(&self, args: Vec<Expr>) -> Result<PlannerResult<Vec<Expr>>> {
        Ok(PlannerResult::Planned(call("overlay", args)?))
    }

    /// `r['name']` and `a[1]`.
    fn plan_field_access(
        &self,
        expr: datafusion_expr::planner::RawFieldAccessExpr,
        _schema: &DFSchema,
    ) -> Result<PlannerResult<datafusion_expr::planner::RawFieldAccessExpr>> {
        if let datafusion_expr::GetFieldAccess::NamedStructField { name } = &expr.field_access
            && let Some(Some(name)) = name.try_as_str()
        {
            let name = name.to_string();
            return Ok(PlannerResult::Planned(
                functions::field_of(expr.expr, &name).alias(name),
            ));
        }
        Ok(PlannerResult::Original(expr))
    }

    /// `ROW(a, b)`.
    fn plan_struct_literal(
        &self,
        args: Vec<Expr>,
        is_named: bool,
    ) -> Result<PlannerResult<Vec<Expr>>> {
        if is_named {
            return Ok(PlannerResult::Original(args));
        }
        let named = args
            .into_iter()
            .enumerate()
            .flat_map(|(i, arg)| [lit(format!("EXPR${i}")), arg])
            .collect();
        Ok(PlannerResult::Planned(functions::row(named)))
    }
}
