//! The chosen rules that a plan goes through before it runs.
//!
//! Not DataFusion's own list: rules that make what a stream cannot run are left out (joins turned into semi joins, a distinct aggregate turned into two
//! aggregates, leaf projections made for Parquet), and Flink's casts and time arithmetic are put in.

use std::sync::Arc;

use datafusion_common::config::ConfigOptions;
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{Result, ScalarValue};
use datafusion_expr::expr_rewriter::NamePreserver;
use datafusion_expr::utils::merge_schema;
use datafusion_expr::{BinaryExpr, Expr, ExprSchemable, LogicalPlan, Operator};
use datafusion_optimizer::analyzer::resolve_grouping_function::ResolveGroupingFunction;
use datafusion_optimizer::analyzer::type_coercion::TypeCoercion;
use datafusion_optimizer::common_subexpr_eliminate::CommonSubexprEliminate;
use datafusion_optimizer::decorrelate_predicate_subquery::DecorrelatePredicateSubquery;
use datafusion_optimizer::eliminate_cross_join::EliminateCrossJoin;
use datafusion_optimizer::eliminate_duplicated_expr::EliminateDuplicatedExpr;
use datafusion_optimizer::eliminate_filter::EliminateFilter;
use datafusion_optimizer::eliminate_limit::EliminateLimit;
use datafusion_optimizer::eliminate_outer_join::EliminateOuterJoin;
use datafusion_optimizer::extract_equijoin_predicate::ExtractEquijoinPredicate;
use datafusion_optimizer::filter_null_join_keys::FilterNullJoinKeys;
use datafusion_optimizer::optimize_projections::OptimizeProjections;
use datafusion_optimizer::optimize_unions::OptimizeUnions;
use datafusion_optimizer::push_down_filter::PushDownFilter;
use datafusion_optimizer::replace_distinct_aggregate::ReplaceDistinctWithAggregate;
use datafusion_optimizer::rewrite_set_comparison::RewriteSetComparison;
use datafusion_optimizer::scalar_subquery_to_join::ScalarSubqueryToJoin;
use datafusion_optimizer::simplify_expressions::SimplifyExpressions;
use datafusion_optimizer::{Analyzer, AnalyzerRule, Optimizer, OptimizerContext};

use crate::functions::{FlinkCast, add_milliseconds};

/// The plan with its types coerced, simplified, its filters pushed down and its columns pruned.
pub(crate) fn optimize(plan: LogicalPlan) -> Result<LogicalPlan> {
    let mut options = ConfigOptions::default();
    options.optimizer.filter_null_join_keys = true;
    options.optimizer.max_passes = 8;
    options.optimizer.skip_failed_rules = false;
    let analyzer = Analyzer::with_rules(vec![
        Arc::new(ResolveGroupingFunction::new()),
        Arc::new(TypeCoercion::new()),
        Arc::new(FlinkCast),
        Arc::new(IntervalArithmetic),
    ]);
    let plan = analyzer.execute_and_check(plan, &options, |_, _| {})?;
    let optimizer = Optimizer::with_rules(vec![
        Arc::new(RewriteSetComparison::new()),
        Arc::new(OptimizeUnions::new()),
        Arc::new(SimplifyExpressions::new()),
        Arc::new(ReplaceDistinctWithAggregate::new()),
        Arc::new(DecorrelatePredicateSubquery::new()),
        Arc::new(ScalarSubqueryToJoin::new()),
        Arc::new(ExtractEquijoinPredicate::new()),
        Arc::new(EliminateDuplicatedExpr::new()),
        Arc::new(EliminateFilter::new()),
        Arc::new(EliminateCrossJoin::new()),
        Arc::new(EliminateLimit::new()),
        Arc::new(FilterNullJoinKeys::default()),
        Arc::new(EliminateOuterJoin::new()),
        Arc::new(PushDownFilter::new()),
        Arc::new(CommonSubexprEliminate::new()),
        Arc::new(OptimizeProjections::new()),
    ]);
    // Functions of the present ask the session's clock when they run, never the planner's.
    let context = OptimizerContext::new_with_config_options(Arc::new(options))
        .without_query_execution_start_time();
    optimizer.optimize(plan, &context, |_, _| {})
}

/// `ts + INTERVAL '…'` of a fixed length becomes an addition of milliseconds, which needs no calendar.
#[derive(Debug)]
struct IntervalArithmetic;

impl AnalyzerRule for IntervalArithmetic {
    fn name(&self) -> &str {
        "interval_arithmetic"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(|plan| {
            let schema = merge_schema(&plan.inputs());
            let names = NamePreserver::new(&plan);
            plan.map_expressions(|expr| {
                let name = names.save(&expr);
                let rewritten = expr.transform_up(|expr| match fixed_shift(&expr, &schema) {
                    Some(shifted) => Ok(Transformed::yes(shifted)),
                    None => Ok(Transformed::no(expr)),
                })?;
                Ok(if rewritten.transformed {
                    rewritten.update_data(|e| name.restore(e))
                } else {
                    rewritten
                })
            })?
            .map_data(|plan| plan.recompute_schema())
        })
        .map(|t| t.data)
    }
}

fn fixed_shift(expr: &Expr, schema: &datafusion_common::DFSchema) -> Option<Expr> {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = expr else {
        return None;
    };
    let (time, interval, sign) = match op {
        Operator::Plus if is_interval(right) => (left, right, 1),
        Operator::Plus if is_interval(left) => (right, left, 1),
        Operator::Minus if is_interval(right) => (left, right, -1),
        _ => return None,
    };
    let data_type = time.get_type(schema).ok()?;
    if !matches!(
        data_type,
        arrow::datatypes::DataType::Timestamp(arrow::datatypes::TimeUnit::Millisecond, _)
    ) {
        return None;
    }
    let Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(interval)), _) = interval.as_ref()
    else {
        return None;
    };
    if interval.months != 0 || interval.nanoseconds % 1_000_000 != 0 {
        return None;
    }
    let ms = i64::from(interval.days)
        .checked_mul(86_400_000)?
        .checked_add(interval.nanoseconds / 1_000_000)?;
    add_milliseconds(time.as_ref().clone(), sign * ms)
}

fn is_interval(expr: &Expr) -> bool {
    matches!(
        expr,
        Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(_)), _)
    )
}
