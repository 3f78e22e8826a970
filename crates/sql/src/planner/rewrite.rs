//! Rewrites a parsed query where Flink reads the same text differently from DataFusion.
//!
//! - `5` is an INT (DataFusion: BIGINT), `1e3` a DOUBLE;
//! - `TIMESTAMP '…'` has as many digits as are written (DataFusion: nanoseconds);
//! - `INTERVAL '1:30' MINUTE TO SECOND` is given in its parts;
//! - `TIMESTAMPADD(unit, …)`, `TIMESTAMPDIFF(unit, …)`, `FLOOR(x TO unit)`, `CEIL(x TO unit)` become calls with the unit as text;
//! - `IF`, `IFNULL`, `MOD`, `GREATEST` and `LEAST` are said with `CASE`, `COALESCE` and `%`: they keep Flink's types and read only what they need;
//! - columns without a name are called `EXPR$0`, `EXPR$1`, …; a second column of the same name gets a number behind it;
//! - `GROUP BY TUMBLE(…)` is said with the table-valued function.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion_common::{DataFusionError, Result, plan_datafusion_err};
use sqlparser::ast::helpers::attached_token::AttachedToken;
use sqlparser::ast::{
    BinaryOperator, CaseWhen, CeilFloorKind, DateTimeField, Expr, Fetch, Function, FunctionArg,
    FunctionArgExpr, FunctionArguments, GroupByExpr, Ident, LimitClause, ObjectName, OrderByKind,
    Query, Select, SelectItem, UnaryOperator, Value, ValueWithSpan, VisitMut, VisitorMut,
    WindowFrameBound, WindowType,
};

use super::group_windows::{call, rewrite_group_window};
use super::literals::{
    cast_to_int, integer_of, interval_parts, number, number_value, plain_escape, plain_integer,
    text_of, timestamp_literal,
};
use crate::functions;

/// Rewrites a query in place.
pub(crate) fn rewrite_query(query: &mut Query) -> Result<()> {
    finish(query.visit(&mut Rewriter))
}

/// Rewrites an expression in place.
pub(crate) fn rewrite_expression(expr: &mut Expr) -> Result<()> {
    finish(expr.visit(&mut Rewriter))
}

fn finish(flow: ControlFlow<DataFusionError>) -> Result<()> {
    match flow {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

struct Rewriter;

impl VisitorMut for Rewriter {
    type Break = DataFusionError;

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Self::Break> {
        let mut seen: BTreeSet<String> = BTreeSet::new();
        for (i, item) in select.projection.iter_mut().enumerate() {
            if let SelectItem::UnnamedExpr(expr) = item
                && !names_itself(expr)
            {
                let alias = Ident::new(format!("EXPR${i}"));
                *item = SelectItem::ExprWithAlias {
                    expr: expr.clone(),
                    alias,
                };
            }
            distinct_name(item, &mut seen);
        }
        match rewrite_group_window(select) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        }
    }

    fn post_visit_select(&mut self, select: &mut Select) -> ControlFlow<Self::Break> {
        // `GROUP BY 1` is a constant in Flink, and would name the first column here.
        if let GroupByExpr::Expressions(exprs, _) = &mut select.group_by {
            for expr in exprs {
                if integer_of(expr).is_some() {
                    return ControlFlow::Break(plan_datafusion_err!(
                        "GROUP BY names a column by its position, which Flink does not know; name the column"
                    ));
                }
            }
        }
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<Self::Break> {
        match &mut query.limit_clause {
            Some(LimitClause::LimitOffset { limit, offset, .. }) => {
                limit
                    .iter_mut()
                    .chain(offset.iter_mut().map(|o| &mut o.value))
                    .for_each(plain_integer);
            }
            Some(LimitClause::OffsetCommaLimit { offset, limit }) => {
                plain_integer(offset);
                plain_integer(limit);
            }
            None => {}
        }
        if let Some(Fetch {
            quantity: Some(quantity),
            ..
        }) = &mut query.fetch
        {
            plain_integer(quantity);
        }
        if let Some(order_by) = &mut query.order_by
            && let OrderByKind::Expressions(exprs) = &mut order_by.kind
        {
            exprs.iter_mut().for_each(|e| plain_integer(&mut e.expr));
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Self::Break> {
        match rewritten(expr) {
            Ok(Some(new)) => *expr = new,
            Ok(None) => {}
            Err(error) => return ControlFlow::Break(error),
        }
        ControlFlow::Continue(())
    }
}

/// A second column of the same name gets a number behind it: `price`, `price0`.
fn distinct_name(item: &mut SelectItem, seen: &mut BTreeSet<String>) {
    let (expr, name) = match &*item {
        SelectItem::UnnamedExpr(expr @ Expr::Identifier(column)) => {
            (expr.clone(), column.value.clone())
        }
        SelectItem::UnnamedExpr(expr @ Expr::CompoundIdentifier(parts)) => match parts.last() {
            // Columns of two tables may have the same name.
            Some(last) if !seen.contains(&expr.to_string()) => {
                seen.extend([expr.to_string(), last.value.clone()]);
                return;
            }
            Some(last) => (expr.clone(), last.value.clone()),
            None => return,
        },
        SelectItem::ExprWithAlias { expr, alias } => (expr.clone(), alias.value.clone()),
        _ => return,
    };
    if seen.insert(name.clone()) {
        return;
    }
    let numbered = (0..=seen.len())
        .map(|n| format!("{name}{n}"))
        .find(|candidate| !seen.contains(candidate));
    if let Some(alias) = numbered {
        seen.insert(alias.clone());
        *item = SelectItem::ExprWithAlias {
            expr,
            alias: Ident::with_quote('`', alias),
        };
    }
}

/// Columns keep their own name.
fn names_itself(expr: &Expr) -> bool {
    match expr {
        Expr::Identifier(_)
        | Expr::CompoundIdentifier(_)
        | Expr::Wildcard(_)
        | Expr::QualifiedWildcard(..) => true,
        Expr::CompoundFieldAccess { .. } => true,
        Expr::Nested(inner) => names_itself(inner),
        _ => false,
    }
}

fn rewritten(expr: &mut Expr) -> Result<Option<Expr>> {
    match expr {
        Expr::Value(ValueWithSpan {
            value: Value::Number(text, _),
            ..
        }) => Ok(number(text)),
        Expr::TypedString(typed) => timestamp_literal(typed),
        Expr::Interval(interval) => {
            plain_integer(&mut interval.value);
            interval_parts(interval)
        }
        // `-5`: one literal.
        Expr::UnaryOp {
            op: UnaryOperator::Minus,
            expr: inner,
        } => Ok(integer_of(inner).map(|text| {
            cast_to_int(Expr::UnaryOp {
                op: UnaryOperator::Minus,
                expr: Box::new(number_value(text)),
            })
        })),
        Expr::Like {
            pattern,
            escape_char,
            ..
        } => {
            plain_escape(pattern, escape_char);
            Ok(None)
        }
        Expr::Floor {
            expr: inner,
            field: CeilFloorKind::DateTimeField(unit),
        } => Ok(truncation(functions::FLOOR_TO, inner, unit)),
        Expr::Ceil {
            expr: inner,
            field: CeilFloorKind::DateTimeField(unit),
        } => Ok(truncation(functions::CEIL_TO, inner, unit)),
        Expr::Function(function) => {
            plain_frame(function);
            unit_argument(function);
            Ok(said_otherwise(function))
        }
        _ => Ok(None),
    }
}

fn plain_frame(function: &mut Function) {
    if let Some(WindowType::WindowSpec(spec)) = &mut function.over
        && let Some(frame) = &mut spec.window_frame
    {
        for bound in std::iter::once(&mut frame.start_bound).chain(frame.end_bound.as_mut()) {
            if let WindowFrameBound::Preceding(Some(n)) | WindowFrameBound::Following(Some(n)) =
                bound
            {
                plain_integer(n);
            }
        }
    }
}

/// The arguments of a plain call: no DISTINCT, no names, no window.
fn plain_arguments(function: &Function) -> Option<Vec<Expr>> {
    let FunctionArguments::List(list) = &function.args else {
        return None;
    };
    if list.duplicate_treatment.is_some() || function.over.is_some() || function.filter.is_some() {
        return None;
    }
    list.args
        .iter()
        .map(|arg| match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
            _ => None,
        })
        .collect()
}

fn nested(expr: Expr) -> Box<Expr> {
    Box::new(Expr::Nested(Box::new(expr)))
}

fn case(condition: Expr, result: Expr, otherwise: Expr) -> Expr {
    Expr::Case {
        case_token: AttachedToken::empty(),
        end_token: AttachedToken::empty(),
        operand: None,
        conditions: vec![CaseWhen { condition, result }],
        else_result: Some(Box::new(otherwise)),
    }
}

/// The same as another expression, for functions that are one.
fn said_otherwise(function: &mut Function) -> Option<Expr> {
    let name = function.name.to_string().to_ascii_lowercase();
    match name.as_str() {
        "ifnull" | "nvl" => {
            function.name = ObjectName::from(vec![Ident::new("coalesce")]);
            None
        }
        "round" | "truncate" => {
            // How many digits are kept decides the type, so it must be seen as a constant.
            if let FunctionArguments::List(list) = &mut function.args
                && let Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(digits))) =
                    list.args.get_mut(1)
            {
                plain_integer(digits);
            }
            None
        }
        "if" => {
            let [condition, result, otherwise] =
                <[Expr; 3]>::try_from(plain_arguments(function)?).ok()?;
            Some(case(condition, result, otherwise))
        }
        "mod" => {
            let [left, right] = <[Expr; 2]>::try_from(plain_arguments(function)?).ok()?;
            Some(Expr::Nested(Box::new(Expr::BinaryOp {
                left: nested(left),
                op: BinaryOperator::Modulo,
                right: nested(right),
            })))
        }
        "row" => {
            let FunctionArguments::List(list) = &mut function.args else {
                return None;
            };
            let names = (0..list.args.len())
                .map(|i| Expr::Value(Value::SingleQuotedString(format!("EXPR${i}")).into()))
                .map(|name| FunctionArg::Unnamed(FunctionArgExpr::Expr(name)));
            list.args = names
                .zip(std::mem::take(&mut list.args))
                .flat_map(|(name, arg)| [name, arg])
                .collect();
            function.name = ObjectName::from(vec![Ident::new("named_struct")]);
            None
        }
        // DataFusion's pass nulls over; Flink's are null if any argument is.
        "greatest" | "least" => {
            let nulls = plain_arguments(function)?
                .into_iter()
                .map(|arg| Expr::IsNull(nested(arg)))
                .reduce(|left, right| Expr::BinaryOp {
                    left: Box::new(left),
                    op: BinaryOperator::Or,
                    right: Box::new(right),
                })?;
            let all = Expr::Function(function.clone());
            Some(case(nulls, Expr::Value(Value::Null.into()), all))
        }
        _ => None,
    }
}

/// `FLOOR(x TO unit)` as a call of the function with this name.
fn truncation(name: &str, inner: &Expr, unit: &DateTimeField) -> Option<Expr> {
    if *unit == DateTimeField::NoDateTime {
        return None;
    }
    Some(call(name, vec![inner.clone(), text_of(unit)]))
}

/// The unit of `TIMESTAMPADD` and `TIMESTAMPDIFF` is a bare word; as text it is not mistaken for a column.
fn unit_argument(function: &mut Function) {
    let name = function.name.to_string();
    if !name.eq_ignore_ascii_case("timestampadd") && !name.eq_ignore_ascii_case("timestampdiff") {
        return;
    }
    if let FunctionArguments::List(list) = &mut function.args
        && let Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(unit))) = list.args.first_mut()
        && let Expr::Identifier(word) = unit
    {
        *unit = text_of(&word.value);
    }
}
