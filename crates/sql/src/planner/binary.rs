//! Arithmetic with Flink's types: INT stays INT, exact numbers stay exact with Flink's precision and scale.

use arrow::datatypes::DataType;
use datafusion_common::{DFSchema, Result, ScalarValue};
use datafusion_expr::planner::{PlannerResult, RawBinaryExpr};
use datafusion_expr::{BinaryExpr, Cast, Expr, ExprSchemable, Operator};
use sqlparser::ast::BinaryOperator;

use super::decimal::DecimalType;
use crate::functions::decimal_divide;

/// Plans `+ - * / %` where an exact decimal is involved; leaves everything else to DataFusion.
pub(super) fn plan_arithmetic(
    raw: RawBinaryExpr,
    schema: &DFSchema,
) -> Result<PlannerResult<RawBinaryExpr>> {
    let operator = match raw.op {
        BinaryOperator::Plus => Operator::Plus,
        BinaryOperator::Minus => Operator::Minus,
        BinaryOperator::Multiply => Operator::Multiply,
        BinaryOperator::Divide => Operator::Divide,
        BinaryOperator::Modulo => Operator::Modulo,
        _ => return Ok(PlannerResult::Original(raw)),
    };
    let left = fold_integer(raw.left);
    let right = fold_integer(raw.right);
    let original = |left, right| {
        Ok(PlannerResult::Original(RawBinaryExpr {
            op: raw.op.clone(),
            left,
            right,
        }))
    };
    // A column that does not exist is reported later, with its place.
    let (Ok(left_type), Ok(right_type)) = (left.get_type(schema), right.get_type(schema)) else {
        return original(left, right);
    };
    let decimal = |t: &DataType| matches!(t, DataType::Decimal128(..));
    if !decimal(&left_type) && !decimal(&right_type) {
        return original(left, right);
    }
    if left_type.is_floating() || right_type.is_floating() {
        return Ok(PlannerResult::Planned(binary(
            cast(left, &left_type, DataType::Float64),
            operator,
            cast(right, &right_type, DataType::Float64),
        )));
    }
    let (Some(l), Some(r)) = (
        exact_type(&left, &left_type),
        exact_type(&right, &right_type),
    ) else {
        return original(left, right);
    };
    let result = match operator {
        Operator::Multiply => l.times(r),
        Operator::Divide => l.divided_by(r),
        Operator::Modulo => l.modulo(r),
        _ => l.plus(r),
    };
    let left = cast(left, &left_type, l.data_type());
    let right = cast(right, &right_type, r.data_type());
    if operator == Operator::Divide {
        return Ok(PlannerResult::Planned(decimal_divide(
            left,
            right,
            result.data_type(),
        )));
    }
    // Arrow counts one digit more for a product; a literal with a spare digit takes it back without a cast.
    let (left, right) = if operator == Operator::Multiply {
        (shrink_literal(left), shrink_literal(right))
    } else {
        (left, right)
    };
    let planned = binary(left, operator, right);
    let planned_type = planned.get_type(schema)?;
    Ok(PlannerResult::Planned(cast(
        planned,
        &planned_type,
        result.data_type(),
    )))
}

fn binary(left: Expr, operator: Operator, right: Expr) -> Expr {
    Expr::BinaryExpr(BinaryExpr::new(Box::new(left), operator, Box::new(right)))
}

/// A cast, unless the type is right already; of a literal, the literal in its new type.
fn cast(expr: Expr, from: &DataType, to: DataType) -> Expr {
    if *from == to {
        return expr;
    }
    if let Expr::Literal(value, metadata) = &expr
        && let Ok(value) = value.cast_to(&to)
    {
        return Expr::Literal(value, metadata.clone());
    }
    Expr::Cast(Cast::new(Box::new(expr), to))
}

/// `CAST(5 AS INT)`, which the rewriting of literals makes, as an INT literal.
fn fold_integer(expr: Expr) -> Expr {
    if let Expr::Cast(Cast { expr: inner, field }) = &expr
        && let (Expr::Literal(ScalarValue::Int64(Some(value)), _), DataType::Int32) =
            (inner.as_ref(), field.data_type())
        && let Ok(value) = i32::try_from(*value)
    {
        return Expr::Literal(ScalarValue::Int32(Some(value)), None);
    }
    expr
}

/// The exact type of an operand. A literal below 1 counts its leading zero, as Flink does: 0.908 is DECIMAL(4, 3).
fn exact_type(expr: &Expr, data_type: &DataType) -> Option<DecimalType> {
    let mut exact = DecimalType::of(data_type)?;
    if matches!(expr, Expr::Literal(..)) && exact.precision == exact.scale {
        exact.precision += 1;
    }
    Some(exact)
}

/// A decimal literal with the smallest precision that holds it.
fn shrink_literal(expr: Expr) -> Expr {
    if let Expr::Literal(ScalarValue::Decimal128(Some(value), precision, scale), metadata) = &expr {
        let digits = value
            .unsigned_abs()
            .checked_ilog10()
            .map_or(1, |log| log + 1);
        let smallest = u8::try_from(digits)
            .unwrap_or(u8::MAX)
            .max(scale.unsigned_abs())
            .max(1);
        // Only the one digit that a product gets too many.
        if smallest < *precision {
            let value = ScalarValue::Decimal128(Some(*value), precision - 1, *scale);
            return Expr::Literal(value, metadata.clone());
        }
    }
    expr
}
