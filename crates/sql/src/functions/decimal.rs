//! Division of exact numbers: rounded half up to the result's scale, as Flink divides.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Decimal128Array};
use arrow::datatypes::{DataType, Decimal128Type};
use datafusion_common::{Result, ScalarValue, exec_err, internal_err, plan_err};
use datafusion_expr::expr::ScalarFunction;
use datafusion_expr::{Expr, lit};

use super::BUILT_IN;
use super::arguments::Kind::{Number, Whole};
use super::arguments::{Call, Parameters};
use super::definition::Definition;

const DIVIDE: &str = "decimal_divide";

/// Arguments: dividend, divisor, and the precision and scale of the result as BIGINT literals.
pub(super) const FUNCTIONS: &[Definition] = &[Definition {
    names: &[DIVIDE],
    parameters: Parameters::exact(&[Number, Number, Whole, Whole]),
    returns: |_, constants| match constants {
        [
            _,
            _,
            Some(ScalarValue::Int64(Some(precision))),
            Some(ScalarValue::Int64(Some(scale))),
        ] => match (u8::try_from(*precision), i8::try_from(*scale)) {
            (Ok(precision), Ok(scale)) => Ok(DataType::Decimal128(precision, scale)),
            _ => plan_err!("a division cannot result in DECIMAL({precision}, {scale})"),
        },
        _ => internal_err!("the type of a division's result is not given"),
    },
    evaluate: divide,
}];

/// `left / right` with this type of the result; both are decimals.
pub(crate) fn decimal_divide(left: Expr, right: Expr, result: DataType) -> Expr {
    let (precision, scale) = match result {
        DataType::Decimal128(precision, scale) => (precision, scale),
        _ => (38, 6),
    };
    let args = vec![
        left,
        right,
        lit(i64::from(precision)),
        lit(i64::from(scale)),
    ];
    match BUILT_IN.get(DIVIDE) {
        Some(udf) => Expr::ScalarFunction(ScalarFunction::new_udf(Arc::clone(udf), args)),
        None => lit(ScalarValue::Null),
    }
}

fn divide(call: &Call) -> Result<ArrayRef> {
    let (left, right) = (call.array(0)?, call.array(1)?);
    let (Some(left), Some(right)) = (
        left.as_primitive_opt::<Decimal128Type>(),
        right.as_primitive_opt::<Decimal128Type>(),
    ) else {
        return internal_err!("a decimal division got something else than decimals");
    };
    let DataType::Decimal128(precision, scale) = call.return_type else {
        return internal_err!("a decimal division results in a DECIMAL");
    };
    let shift = i32::from(*scale) - i32::from(left.scale()) + i32::from(right.scale());
    let limit = 10i128
        .checked_pow(u32::from(*precision))
        .unwrap_or(i128::MAX);
    let mut values = Vec::with_capacity(call.rows);
    for row in 0..call.rows {
        if left.is_null(row) || right.is_null(row) {
            values.push(None);
            continue;
        }
        let divisor = right.value(row);
        if divisor == 0 {
            return exec_err!("division by zero");
        }
        values.push(quotient(left.value(row), divisor, shift).filter(|q| q.abs() < limit));
    }
    Ok(Arc::new(
        Decimal128Array::from(values).with_precision_and_scale(*precision, *scale)?,
    ))
}

/// `left * 10^shift / right`, rounded half away from zero; `None` if it does not fit.
fn quotient(left: i128, right: i128, shift: i32) -> Option<i128> {
    let power = 10i128.checked_pow(shift.unsigned_abs())?;
    let (quotient, rest, divisor) = if shift < 0 {
        let divisor = right.checked_mul(power)?;
        (
            left.checked_div(divisor)?,
            left.checked_rem(divisor)?,
            divisor,
        )
    } else {
        match left.checked_mul(power) {
            Some(scaled) => (
                scaled.checked_div(right)?,
                scaled.checked_rem(right)?,
                right,
            ),
            None => long_division(left, right, shift)?,
        }
    };
    let up = rest.unsigned_abs() >= divisor.unsigned_abs() - rest.unsigned_abs();
    let sign = if (left < 0) == (right < 0) { 1 } else { -1 };
    if up && rest != 0 {
        quotient.checked_add(sign)
    } else {
        Some(quotient)
    }
}

/// The same digit by digit, for what does not fit when scaled at once.
fn long_division(left: i128, right: i128, shift: i32) -> Option<(i128, i128, i128)> {
    let mut quotient = left.checked_div(right)?;
    let mut rest = left.checked_rem(right)?;
    for _ in 0..shift {
        rest = rest.checked_mul(10)?;
        quotient = quotient.checked_mul(10)?.checked_add(rest / right)?;
        rest %= right;
    }
    Some((quotient, rest, right))
}

#[cfg(test)]
mod tests {
    use super::quotient;

    #[test]
    fn quotients_round_half_up() {
        assert_eq!(quotient(1, 3, 6), Some(333_333));
        assert_eq!(quotient(2, 3, 6), Some(666_667));
        assert_eq!(quotient(-2, 3, 6), Some(-666_667));
        assert_eq!(quotient(1, 8, 2), Some(13));
        assert_eq!(quotient(1, -8, 2), Some(-13));
        assert_eq!(quotient(125, 1, -1), Some(13));
        assert_eq!(
            quotient(10i128.pow(37), 10i128.pow(30), 10),
            Some(10i128.pow(17))
        );
        assert_eq!(quotient(10i128.pow(38), 1, 10), None);
    }
}
