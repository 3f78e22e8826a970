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
    BinaryOperator, CaseWhen, CastKind, CeilFloorKind, DataType as SqlType, DateTimeField,
    ExactNumberInfo, Expr, Fetch, Function, FunctionArg, FunctionArgExpr, FunctionArguments,
    GroupByExpr, Ident, Interval, LimitClause, ObjectName, OrderByKind, Query, Select, SelectItem,
    TimezoneInfo, TypedString, UnaryOperator, Value, ValueWithSpan, VisitMut, VisitorMut,
    WindowFrameBound, WindowType,
};

use super::group_windows::{call, rewrite_group_window};
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

/// Evaluation knows one escape character, the backslash; Flink has none unless `ESCAPE` names one. Patterns that are constants are rewritten so that
/// they mean the same.
fn plain_escape(pattern: &mut Expr, escape_char: &mut Option<ValueWithSpan>) {
    let Expr::Value(ValueWithSpan {
        value: Value::SingleQuotedString(text),
        ..
    }) = pattern
    else {
        return;
    };
    let escape = match escape_char.as_ref().map(|e| &e.value) {
        Some(Value::SingleQuotedString(c)) => c.chars().next(),
        Some(_) => return,
        None => None,
    };
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if Some(c) == escape {
            out.push('\\');
            out.extend(chars.next());
        } else if c == '\\' {
            out.push_str("\\\\");
        } else {
            out.push(c);
        }
    }
    *text = out;
    *escape_char = None;
}

fn number_value(text: String) -> Expr {
    Expr::Value(Value::Number(text, false).into())
}

fn cast(expr: Expr, data_type: SqlType) -> Expr {
    Expr::Cast {
        kind: CastKind::Cast,
        expr: Box::new(expr),
        data_type,
        array: false,
        format: None,
    }
}

fn cast_to_int(expr: Expr) -> Expr {
    cast(expr, SqlType::Int(None))
}

fn number(text: &str) -> Option<Expr> {
    if text.contains(['e', 'E']) {
        let text = Expr::Value(Value::SingleQuotedString(text.to_string()).into());
        return Some(cast(text, SqlType::Double(ExactNumberInfo::None)));
    }
    text.parse::<i32>()
        .ok()
        .map(|_| cast_to_int(number_value(text.to_string())))
}

/// The digits of what [`number`] made of an integer.
fn integer_of(expr: &Expr) -> Option<String> {
    if let Expr::Cast {
        expr: inner,
        data_type: SqlType::Int(None),
        ..
    } = expr
        && let Expr::Value(ValueWithSpan {
            value: Value::Number(text, _),
            ..
        }) = inner.as_ref()
    {
        return Some(text.clone());
    }
    None
}

/// Undoes [`number`] where the grammar wants a plain number.
fn plain_integer(expr: &mut Expr) {
    if let Some(text) = integer_of(expr) {
        *expr = number_value(text);
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

fn timestamp_literal(typed: &TypedString) -> Result<Option<Expr>> {
    if !matches!(
        typed.data_type,
        SqlType::Timestamp(None, TimezoneInfo::None)
    ) {
        return Ok(None);
    }
    let Value::SingleQuotedString(text) = &typed.value.value else {
        return Ok(None);
    };
    if functions::parse_timestamp_micros(text).is_none() {
        return Err(plan_datafusion_err!(
            "a TIMESTAMP literal is written 'yyyy-MM-dd HH:mm:ss[.fraction]', found '{text}'"
        ));
    }
    let digits = text
        .rsplit_once('.')
        .map_or(0, |(_, fraction)| fraction.len() as u64);
    Ok(Some(Expr::TypedString(TypedString {
        data_type: SqlType::Timestamp(Some(digits.max(3)), TimezoneInfo::None),
        value: typed.value.clone(),
        uses_odbc_syntax: false,
    })))
}

/// `INTERVAL '1 02:03:04' DAY TO SECOND` as `INTERVAL '1 day 2 hour 3 minute 4 second'`, which is how DataFusion reads a list of parts.
fn interval_parts(interval: &mut Interval) -> Result<Option<Expr>> {
    interval.leading_precision = None;
    interval.fractional_seconds_precision = None;
    let (Some(first), Some(last)) = (interval.leading_field.clone(), interval.last_field.clone())
    else {
        return Ok(None);
    };
    let Expr::Value(ValueWithSpan {
        value: Value::SingleQuotedString(text),
        ..
    }) = interval.value.as_ref()
    else {
        return Ok(None);
    };
    let units: &[&str] = &["YEAR", "MONTH", "DAY", "HOUR", "MINUTE", "SECOND"];
    let place = |field: &DateTimeField| {
        let name = field.to_string().to_ascii_uppercase();
        units
            .iter()
            .position(|unit| *unit == name.trim_end_matches('S'))
    };
    let wrong = || plan_datafusion_err!("'{text}' is not an interval {first} TO {last}");
    let (from, to) = (
        place(&first).ok_or_else(wrong)?,
        place(&last).ok_or_else(wrong)?,
    );
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", text.as_str()),
    };
    let parts: Vec<&str> = digits.split(['-', ' ', ':']).collect();
    let names = units.get(from..=to).ok_or_else(wrong)?;
    if names.len() != parts.len() || parts.iter().any(|part| part.parse::<f64>().is_err()) {
        return Err(wrong());
    }
    let list: Vec<String> = names
        .iter()
        .zip(parts)
        .map(|(name, part)| format!("{sign}{part} {}", name.to_ascii_lowercase()))
        .collect();
    Ok(Some(Expr::Interval(Interval {
        value: Box::new(Expr::Value(
            Value::SingleQuotedString(list.join(" ")).into(),
        )),
        leading_field: None,
        leading_precision: None,
        last_field: None,
        fractional_seconds_precision: None,
    })))
}

fn text_of(unit: impl std::fmt::Display) -> Expr {
    Expr::Value(Value::SingleQuotedString(unit.to_string().to_ascii_uppercase()).into())
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
