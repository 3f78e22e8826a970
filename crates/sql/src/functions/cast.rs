//! `CAST` where Flink's differs from Arrow's.
//!
//! - to STRING: timestamps as `2020-01-01 00:00:00.000`, booleans as `TRUE` and `FALSE`, floating-point numbers as Java writes them; CHAR(n) and
//!   VARCHAR(n) cut (and CHAR pads) the text;
//! - from STRING: blanks around a number or time are ignored; what cannot be read fails the job, or is null with `TRY_CAST`;
//! - between numbers: integers wrap as in Java, floating-point numbers saturate, a DECIMAL that does not fit is null.
//!
//! [`FlinkCast`] puts a function in the place of such casts, after types have been coerced.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray, StringArray};
use arrow::compute::CastOptions;
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Field, FieldRef, Float32Type, Float64Type, Int8Type, Int16Type,
    Int32Type, Int64Type, TimeUnit,
};
use datafusion_common::config::ConfigOptions;
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{DFSchema, Result, exec_err, internal_err};
use datafusion_expr::expr::ScalarFunction;
use datafusion_expr::expr_rewriter::NamePreserver;
use datafusion_expr::utils::merge_schema;
use datafusion_expr::{
    Cast, ColumnarValue, Expr, ExprSchemable, LogicalPlan, ReturnFieldArgs, ScalarFunctionArgs,
    ScalarUDF, ScalarUDFImpl, Signature, TryCast, Volatility,
};
use datafusion_optimizer::AnalyzerRule;

use super::arguments::build_text;
use super::conversion::{
    MS_PER_DAY, parse_date, parse_time_micros, parse_timestamp_micros, write_date, write_double,
    write_float, write_time, write_timestamp,
};
use crate::planner::{LENGTH, type_name};

/// Replaces casts by Flink's.
#[derive(Debug)]
pub(crate) struct FlinkCast;

impl AnalyzerRule for FlinkCast {
    fn name(&self) -> &str {
        "flink_cast"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(rewrite_node)
            .map(|t| t.data)
    }
}

fn rewrite_node(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let mut schema = merge_schema(&plan.inputs());
    if let LogicalPlan::TableScan(scan) = &plan {
        schema.merge(&DFSchema::try_from_qualified_schema(
            scan.table_name.clone(),
            &scan.source.schema(),
        )?);
    }
    let names = NamePreserver::new(&plan);
    plan.map_expressions(|expr| {
        let name = names.save(&expr);
        let rewritten = expr.transform_up(|expr| rewrite_expr(expr, &schema))?;
        Ok(if rewritten.transformed {
            rewritten.update_data(|expr| name.restore(expr))
        } else {
            rewritten
        })
    })?
    .map_data(|plan| plan.recompute_schema())
}

fn rewrite_expr(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let (inner, field, lenient) = match &expr {
        Expr::Cast(Cast { expr, field }) => (expr, field, false),
        Expr::TryCast(TryCast { expr, field }) => (expr, field, true),
        _ => return Ok(Transformed::no(expr)),
    };
    let from = inner.get_type(schema)?;
    let length = field.metadata().get(LENGTH).and_then(|n| n.parse().ok());
    if !differs(&from, field.data_type(), length) {
        return Ok(Transformed::no(expr));
    }
    let function = CastFunction {
        name: format!(
            "{}cast_as_{}",
            if lenient { "try_" } else { "" },
            type_name(field.data_type())
        ),
        to: field.data_type().clone(),
        length,
        lenient,
        signature: Signature::any(1, Volatility::Immutable),
    };
    let udf = Arc::new(ScalarUDF::new_from_impl(function));
    Ok(Transformed::yes(Expr::ScalarFunction(
        ScalarFunction::new_udf(udf, vec![inner.as_ref().clone()]),
    )))
}

/// Whether Flink's cast is another one than Arrow's.
fn differs(from: &DataType, to: &DataType, length: Option<usize>) -> bool {
    use DataType as T;
    match (from, to) {
        (T::Null, _) => false,
        (_, T::Utf8) if length.is_some() => true,
        (
            T::Boolean | T::Float32 | T::Float64 | T::Timestamp(..) | T::Date32 | T::Time32(_),
            T::Utf8,
        ) => true,
        (T::Utf8, T::Utf8 | T::Binary) => false,
        (T::Utf8, _) => true,
        (f, T::Int8 | T::Int16 | T::Int32 | T::Int64) => {
            f.is_floating() || (f.is_integer() && f.primitive_width() > to.primitive_width())
        }
        (T::Decimal128(p, s), T::Decimal128(to_p, to_s)) => {
            i16::from(*to_p) - i16::from(*to_s) < i16::from(*p) - i16::from(*s)
        }
        (f, T::Decimal128(..)) => f.is_numeric(),
        _ => false,
    }
}

/// One kind of cast.
#[derive(Debug, PartialEq, Eq)]
struct CastFunction {
    /// For plans: `cast_as_BIGINT`.
    name: String,
    to: DataType,
    /// Of CHAR(n) and VARCHAR(n).
    length: Option<usize>,
    /// `TRY_CAST`.
    lenient: bool,
    signature: Signature,
}

impl Hash for CastFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.to, self.length, self.lenient).hash(state);
    }
}

impl ScalarUDFImpl for CastFunction {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(self.to.clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        // A text that cannot be read, or a number that does not fit, may become null.
        let nullable = self.lenient
            || args.arg_fields.iter().any(|f| f.is_nullable())
            || matches!(self.to, DataType::Decimal128(..));
        Ok(Arc::new(Field::new(&self.name, self.to.clone(), nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Some(value) = args.args.first() else {
            return internal_err!("a cast has no argument");
        };
        let array = value.to_array(args.number_rows)?;
        let result = match (array.data_type(), &self.to) {
            (_, DataType::Utf8) => self.to_text(&array)?,
            (DataType::Utf8, _) => self.parse_text(array.as_string::<i32>())?,
            (_, DataType::Int8) => to_integer::<Int8Type>(&array)?,
            (_, DataType::Int16) => to_integer::<Int16Type>(&array)?,
            (_, DataType::Int32) => to_integer::<Int32Type>(&array)?,
            (_, DataType::Int64) => to_integer::<Int64Type>(&array)?,
            _ => arrow::compute::cast_with_options(
                &array,
                &self.to,
                &CastOptions {
                    safe: true,
                    ..Default::default()
                },
            )?,
        };
        Ok(ColumnarValue::Array(result))
    }
}

impl CastFunction {
    fn to_text(&self, array: &ArrayRef) -> Result<ArrayRef> {
        let rows = array.len();
        let whole: ArrayRef = match array.data_type() {
            DataType::Utf8 => Arc::clone(array),
            DataType::Boolean => {
                let values = array.as_boolean();
                build_text(rows, |i, out| {
                    out.push_str(if values.is_valid(i) && values.value(i) {
                        "TRUE"
                    } else {
                        "FALSE"
                    });
                    values.is_valid(i).then_some(())
                })
            }
            DataType::Float64 => {
                let values = array.as_primitive::<Float64Type>();
                build_text(rows, |i, out| {
                    write_double(out, values.value(i));
                    values.is_valid(i).then_some(())
                })
            }
            DataType::Float32 => {
                let values = array.as_primitive::<Float32Type>();
                build_text(rows, |i, out| {
                    write_float(out, values.value(i));
                    values.is_valid(i).then_some(())
                })
            }
            DataType::Timestamp(unit, _) => {
                let (to_nanos, digits) = match unit {
                    TimeUnit::Second => (1_000_000_000, 0),
                    TimeUnit::Millisecond => (1_000_000, 3),
                    TimeUnit::Microsecond => (1000, 6),
                    TimeUnit::Nanosecond => (1, 9),
                };
                let plain = arrow::compute::cast(array, &DataType::Int64)?;
                let values = plain.as_primitive::<Int64Type>();
                build_text(rows, |i, out| {
                    write_timestamp(out, i128::from(values.value(i)) * to_nanos, digits);
                    values.is_valid(i).then_some(())
                })
            }
            DataType::Date32 => {
                let plain = arrow::compute::cast(array, &DataType::Int32)?;
                let values = plain.as_primitive::<Int32Type>();
                build_text(rows, |i, out| {
                    write_date(out, i64::from(values.value(i)));
                    values.is_valid(i).then_some(())
                })
            }
            DataType::Time32(TimeUnit::Millisecond) => {
                let plain = arrow::compute::cast(array, &DataType::Int32)?;
                let values = plain.as_primitive::<Int32Type>();
                build_text(rows, |i, out| {
                    write_time(out, i64::from(values.value(i)));
                    values.is_valid(i).then_some(())
                })
            }
            _ => arrow::compute::cast(array, &DataType::Utf8)?,
        };
        let Some(length) = self.length else {
            return Ok(whole);
        };
        let values = whole.as_string::<i32>();
        Ok(build_text(rows, |i, out| {
            out.extend(values.value(i).chars().take(length));
            values.is_valid(i).then_some(())
        }))
    }

    fn parse_text(&self, array: &StringArray) -> Result<ArrayRef> {
        let times = |unit: &TimeUnit, text: &str| {
            let us = parse_timestamp_micros(text)?;
            match unit {
                TimeUnit::Second => Some(us.div_euclid(1_000_000)),
                TimeUnit::Millisecond => Some(us.div_euclid(1000)),
                TimeUnit::Microsecond => Some(us),
                TimeUnit::Nanosecond => us.checked_mul(1000),
            }
        };
        let whole = |value: &dyn Fn(&str) -> Option<i64>| -> ArrayRef {
            let values = array.iter().map(|text| value(text?.trim()));
            Arc::new(values.collect::<arrow::array::Int64Array>())
        };
        let result = match &self.to {
            DataType::Timestamp(unit, _) => {
                arrow::compute::cast(&whole(&|text| times(unit, text)), &self.to)?
            }
            DataType::Date32 => {
                let days = whole(&|text| {
                    parse_timestamp_micros(text)
                        .map(|us| us.div_euclid(1000 * MS_PER_DAY))
                        .or_else(|| parse_date(text))
                });
                arrow::compute::cast(&arrow::compute::cast(&days, &DataType::Int32)?, &self.to)?
            }
            DataType::Time32(_) => {
                let ms = whole(&|text| parse_time_micros(text).map(|us| us / 1000));
                arrow::compute::cast(&arrow::compute::cast(&ms, &DataType::Int32)?, &self.to)?
            }
            DataType::Boolean => {
                let values =
                    array
                        .iter()
                        .map(|text| match text?.trim().to_ascii_lowercase().as_str() {
                            "true" | "t" | "yes" | "y" | "1" => Some(true),
                            "false" | "f" | "no" | "n" | "0" => Some(false),
                            _ => None,
                        });
                Arc::new(values.collect::<arrow::array::BooleanArray>())
            }
            other => {
                let trimmed: StringArray = array.iter().map(|text| text.map(str::trim)).collect();
                arrow::compute::cast_with_options(
                    &trimmed,
                    other,
                    &CastOptions {
                        safe: true,
                        ..Default::default()
                    },
                )?
            }
        };
        if !self.lenient && result.null_count() > array.null_count() {
            let failed = (0..array.len()).find(|i| array.is_valid(*i) && result.is_null(*i));
            let text = failed.map(|i| array.value(i)).unwrap_or_default();
            return exec_err!(
                "cannot CAST '{text}' AS {}; TRY_CAST gives NULL instead",
                type_name(&self.to)
            );
        }
        Ok(result)
    }
}

/// Integers of a smaller type: integers keep their low bits, floating-point numbers end at the type's limits.
fn to_integer<T>(array: &ArrayRef) -> Result<ArrayRef>
where
    T: ArrowPrimitiveType,
    T::Native: FromWide,
{
    let narrowed: PrimitiveArray<T> = if array.data_type().is_floating() {
        let doubles = arrow::compute::cast(array, &DataType::Float64)?;
        doubles
            .as_primitive::<Float64Type>()
            .unary(T::Native::saturated)
    } else {
        let wide = arrow::compute::cast(array, &DataType::Int64)?;
        wide.as_primitive::<Int64Type>().unary(T::Native::wrapped)
    };
    Ok(Arc::new(narrowed))
}

/// How Java narrows numbers.
trait FromWide {
    fn wrapped(value: i64) -> Self;
    fn saturated(value: f64) -> Self;
}

macro_rules! from_wide {
    ($($t:ty),*) => { $(
        impl FromWide for $t {
            fn wrapped(value: i64) -> Self {
                value as $t
            }
            fn saturated(value: f64) -> Self {
                value as $t
            }
        }
    )* };
}
from_wide!(i8, i16, i32, i64);
