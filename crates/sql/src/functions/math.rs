//! Mathematical functions. Rounding of exact numbers stays exact.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Decimal128Array};
use arrow::datatypes::{DataType, Decimal128Type, Float64Type};
use datafusion_common::{Result, ScalarValue, internal_datafusion_err, internal_err};

use super::arguments::Kind::{Double, Number, Whole};
use super::arguments::{Call, Parameters, Values, build_double, constant_int};
use super::definition::{Definition, Returns, always};
use crate::planner::DecimalType;

const DOUBLE: Returns = always!(DataType::Float64);

macro_rules! of_double {
    ($names:expr, $f:expr) => {
        Definition {
            names: $names,
            parameters: Parameters::exact(&[Double]),
            returns: DOUBLE,
            evaluate: |call| {
                let x = call.double(0)?;
                let f: fn(f64) -> f64 = $f;
                Ok(build_double(call.rows, |i| x.get(i).map(f)))
            },
        }
    };
}

macro_rules! of_two_doubles {
    ($names:expr, $f:expr) => {
        Definition {
            names: $names,
            parameters: Parameters::exact(&[Double, Double]),
            returns: DOUBLE,
            evaluate: |call| {
                let (x, y) = (call.double(0)?, call.double(1)?);
                let f: fn(f64, f64) -> f64 = $f;
                Ok(build_double(call.rows, |i| Some(f(x.get(i)?, y.get(i)?))))
            },
        }
    };
}

macro_rules! constant {
    ($name:literal, $value:expr) => {
        Definition {
            names: &[$name],
            parameters: Parameters::exact(&[]),
            returns: DOUBLE,
            evaluate: |call| Ok(build_double(call.rows, |_| Some($value))),
        }
    };
}

pub(super) const FUNCTIONS: &[Definition] = &[
    of_double!(&["sqrt"], f64::sqrt),
    of_double!(&["cbrt"], f64::cbrt),
    of_double!(&["ln"], f64::ln),
    of_double!(&["log10"], f64::log10),
    of_double!(&["log2"], f64::log2),
    of_double!(&["exp"], f64::exp),
    of_double!(&["sin"], f64::sin),
    of_double!(&["cos"], f64::cos),
    of_double!(&["tan"], f64::tan),
    of_double!(&["cot"], |x| 1.0 / x.tan()),
    of_double!(&["asin"], f64::asin),
    of_double!(&["acos"], f64::acos),
    of_double!(&["atan"], f64::atan),
    of_double!(&["sinh"], f64::sinh),
    of_double!(&["cosh"], f64::cosh),
    of_double!(&["tanh"], f64::tanh),
    of_double!(&["degrees"], f64::to_degrees),
    of_double!(&["radians"], f64::to_radians),
    of_two_doubles!(&["power", "pow"], f64::powf),
    of_two_doubles!(&["atan2"], f64::atan2),
    constant!("pi", std::f64::consts::PI),
    constant!("e", std::f64::consts::E),
    Definition {
        names: &["log"],
        parameters: Parameters::with_optional(&[Double], &[Double]),
        returns: DOUBLE,
        evaluate: log,
    },
    Definition {
        names: &["sign"],
        parameters: Parameters::exact(&[Number]),
        returns: same_type,
        evaluate: sign,
    },
    Definition {
        names: &["floor"],
        parameters: Parameters::exact(&[Number]),
        returns: whole_type,
        evaluate: floor,
    },
    Definition {
        names: &["ceil", "ceiling"],
        parameters: Parameters::exact(&[Number]),
        returns: whole_type,
        evaluate: ceil,
    },
    Definition {
        names: &["round"],
        parameters: Parameters::with_optional(&[Number], &[Whole]),
        returns: rounded_type,
        evaluate: |call| rounded(call, Towards::Nearest),
    },
    Definition {
        names: &["truncate"],
        parameters: Parameters::with_optional(&[Number], &[Whole]),
        returns: rounded_type,
        evaluate: |call| rounded(call, Towards::Zero),
    },
];

/// `LOG(x)` is natural, `LOG(base, x)` of a base.
fn log(call: &Call) -> Result<ArrayRef> {
    let x = call.double(0)?;
    if call.len() == 1 {
        return Ok(build_double(call.rows, |i| x.get(i).map(f64::ln)));
    }
    let (base, x) = (x, call.double(1)?);
    Ok(build_double(call.rows, |i| {
        Some(x.get(i)?.ln() / base.get(i)?.ln())
    }))
}

fn argument(types: &[DataType]) -> Result<&DataType> {
    types
        .first()
        .ok_or_else(|| internal_datafusion_err!("a function of a number has no argument"))
}

fn same_type(types: &[DataType], _: &[Option<&ScalarValue>]) -> Result<DataType> {
    argument(types).cloned()
}

/// FLOOR and CEIL: a DECIMAL loses its scale, other types stay.
fn whole_type(types: &[DataType], _: &[Option<&ScalarValue>]) -> Result<DataType> {
    Ok(match argument(types)? {
        DataType::Decimal128(precision, _) => DataType::Decimal128(*precision, 0),
        other => other.clone(),
    })
}

fn rounded_type(types: &[DataType], constants: &[Option<&ScalarValue>]) -> Result<DataType> {
    Ok(match argument(types)? {
        data_type @ DataType::Decimal128(..) => {
            let digits = match constants.get(1) {
                None => 0,
                Some(constant) => constant_int(*constant).unwrap_or(0),
            };
            DecimalType::of(data_type)
                .map_or_else(|| data_type.clone(), |d| d.rounded(digits).data_type())
        }
        other => other.clone(),
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Towards {
    Nearest,
    Zero,
    Down,
    Up,
}

/// `value / 10^digits` as a whole number.
fn divided(value: i128, digits: u32, towards: Towards) -> i128 {
    let Some(power) = 10i128.checked_pow(digits) else {
        return 0;
    };
    let (quotient, rest) = (value / power, value % power);
    match towards {
        Towards::Zero => quotient,
        Towards::Down => quotient - i128::from(rest < 0),
        Towards::Up => quotient + i128::from(rest > 0),
        Towards::Nearest => {
            let away = rest.unsigned_abs() >= power.unsigned_abs() - rest.unsigned_abs();
            if away && rest != 0 {
                quotient + value.signum()
            } else {
                quotient
            }
        }
    }
}

fn decimals(call: &Call, digits: i32, towards: Towards) -> Result<Option<ArrayRef>> {
    let array = call.array(0)?;
    let Some(array) = array.as_primitive_opt::<Decimal128Type>() else {
        return Ok(None);
    };
    let DataType::Decimal128(precision, scale) = call.return_type else {
        return internal_err!("the rounding of a DECIMAL results in a DECIMAL");
    };
    let drop = i32::from(array.scale()) - digits;
    // Digits dropped before the point come back as zeros.
    let zeros = i32::from(*scale) - digits.min(i32::from(array.scale()));
    let result: Decimal128Array = array.unary_opt(|value| {
        let value = match u32::try_from(drop) {
            Ok(drop) if drop > 0 => divided(value, drop, towards),
            _ => value,
        };
        value.checked_mul(10i128.checked_pow(u32::try_from(zeros).ok()?)?)
    });
    Ok(Some(Arc::new(
        result.with_precision_and_scale(*precision, *scale)?,
    )))
}

fn double_then_back(call: &Call, f: impl Fn(f64) -> f64) -> Result<ArrayRef> {
    let array = call.array(0)?;
    if array.data_type().is_integer() {
        return Ok(array);
    }
    let doubles = arrow::compute::cast(&array, &DataType::Float64)?;
    let result: arrow::array::Float64Array = doubles.as_primitive::<Float64Type>().unary(f);
    Ok(arrow::compute::cast(&result, call.return_type)?)
}

fn floor(call: &Call) -> Result<ArrayRef> {
    match decimals(call, 0, Towards::Down)? {
        Some(array) => Ok(array),
        None => double_then_back(call, f64::floor),
    }
}

fn ceil(call: &Call) -> Result<ArrayRef> {
    match decimals(call, 0, Towards::Up)? {
        Some(array) => Ok(array),
        None => double_then_back(call, f64::ceil),
    }
}

fn sign(call: &Call) -> Result<ArrayRef> {
    let doubles = arrow::compute::cast(&call.array(0)?, &DataType::Float64)?;
    let signs: arrow::array::Float64Array = doubles.as_primitive::<Float64Type>().unary(|x| {
        if x > 0.0 {
            1.0
        } else if x < 0.0 {
            -1.0
        } else {
            0.0
        }
    });
    Ok(arrow::compute::cast(&signs, call.return_type)?)
}

fn rounded(call: &Call, towards: Towards) -> Result<ArrayRef> {
    let digits = if call.len() > 1 {
        call.whole(1)?
    } else {
        Values::One(Some(0))
    };
    let digits = match digits {
        Values::One(Some(digits)) => i32::try_from(digits.clamp(-400, 400)).unwrap_or(0),
        Values::One(None) => return Ok(arrow::array::new_null_array(call.return_type, call.rows)),
        Values::Many(_) => {
            return internal_err!("ROUND and TRUNCATE take a constant number of digits");
        }
    };
    if let Some(array) = decimals(call, digits.max(-38), towards)? {
        return Ok(array);
    }
    let array = call.array(0)?;
    if array.data_type().is_integer() {
        if digits >= 0 {
            return Ok(array);
        }
        let wide = arrow::compute::cast(&array, &DataType::Int64)?;
        let power = 10i128.checked_pow(digits.unsigned_abs()).unwrap_or(0);
        let result: arrow::array::Int64Array = wide
            .as_primitive::<arrow::datatypes::Int64Type>()
            .unary_opt(|v| {
                i64::try_from(divided(i128::from(v), digits.unsigned_abs(), towards) * power).ok()
            });
        return Ok(arrow::compute::cast(&result, call.return_type)?);
    }
    double_then_back(call, |x| round_double(x, digits, towards))
}

/// Rounds by the decimal digits that the number is written with, as Java's BigDecimal does.
fn round_double(x: f64, digits: i32, towards: Towards) -> f64 {
    let text = format!("{x:e}");
    let Some((mantissa, exponent)) = text.split_once('e') else {
        return x;
    };
    let Ok(exponent) = exponent.parse::<i32>() else {
        return x;
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let Ok(value) = format!("{whole}{fraction}").parse::<i128>() else {
        return x;
    };
    let scale = i32::try_from(fraction.len()).unwrap_or(0) - exponent;
    match u32::try_from(scale - digits) {
        Ok(drop) if drop > 0 => {
            let kept = divided(value, drop, towards);
            format!("{kept}e{}", -digits).parse().unwrap_or(x)
        }
        _ => x,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_round_by_their_digits() {
        for (x, digits, nearest, zero) in [
            (2.675, 2, 2.68, 2.67),
            (-2.5, 0, -3.0, -2.0),
            (1234.5, -2, 1200.0, 1200.0),
            (1e300, 2, 1e300, 1e300),
            (1e-300, 2, 0.0, 0.0),
        ] {
            assert_eq!(round_double(x, digits, Towards::Nearest), nearest, "{x}");
            assert_eq!(round_double(x, digits, Towards::Zero), zero, "{x}");
        }
        assert!(round_double(f64::NAN, 2, Towards::Nearest).is_nan());
    }
}
