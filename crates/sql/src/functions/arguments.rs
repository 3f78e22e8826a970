//! What arguments a function takes, and how it reads them row by row.

use arrow::array::{
    Array, ArrayRef, AsArray, Int64Array, PrimitiveArray, StringArray, TimestampMillisecondArray,
};
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimeUnit, TimestampMillisecondType};
use datafusion_common::{Result, ScalarValue, internal_datafusion_err, plan_err};
use datafusion_expr::ColumnarValue;

use crate::planner::type_name;

/// A kind of argument and the type it is brought to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// STRING.
    Text,
    /// Any integer, as BIGINT.
    Whole,
    /// Any number, as DOUBLE.
    Double,
    /// Any number, as it is.
    Number,
    /// TIMESTAMP, TIMESTAMP_LTZ or DATE, as TIMESTAMP(3).
    Time,
    /// A time or a STRING that is read as one.
    TimeOrText,
    /// A time, TIMESTAMP(3) or TIMESTAMP_LTZ(3) kept apart.
    Instant,
}

impl Kind {
    fn coerce(self, found: &DataType) -> Option<DataType> {
        let ms = |zone: &Option<std::sync::Arc<str>>| {
            DataType::Timestamp(TimeUnit::Millisecond, zone.clone())
        };
        let text = matches!(
            found,
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null
        );
        match self {
            Kind::Text => text.then_some(DataType::Utf8),
            Kind::Whole => (found.is_integer() || found.is_null()).then_some(DataType::Int64),
            Kind::Double => (found.is_numeric() || found.is_null()).then_some(DataType::Float64),
            Kind::Number => found.is_numeric().then(|| found.clone()),
            Kind::Time => match found {
                DataType::Timestamp(..) | DataType::Date32 | DataType::Null => Some(ms(&None)),
                _ => None,
            },
            Kind::TimeOrText if text => Some(DataType::Utf8),
            Kind::TimeOrText => Kind::Time.coerce(found),
            Kind::Instant => match found {
                DataType::Timestamp(_, zone) => Some(ms(zone)),
                DataType::Date32 | DataType::Null => Some(ms(&None)),
                _ => None,
            },
        }
    }

    fn noun(self) -> &'static str {
        match self {
            Kind::Text => "a STRING",
            Kind::Whole => "an integer",
            Kind::Double | Kind::Number => "a number",
            Kind::Time | Kind::Instant => "a TIMESTAMP or DATE",
            Kind::TimeOrText => "a TIMESTAMP, DATE or STRING",
        }
    }
}

/// The arguments a function takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parameters {
    /// These always.
    pub required: &'static [Kind],
    /// Then as many of these as are given.
    pub optional: &'static [Kind],
    /// Then any number of these.
    pub rest: Option<Kind>,
}

impl Parameters {
    /// Exactly these.
    pub const fn exact(required: &'static [Kind]) -> Self {
        Self {
            required,
            optional: &[],
            rest: None,
        }
    }

    /// These, and perhaps those.
    pub const fn with_optional(required: &'static [Kind], optional: &'static [Kind]) -> Self {
        Self {
            required,
            optional,
            rest: None,
        }
    }

    /// These, and then any number of that.
    pub const fn with_rest(required: &'static [Kind], rest: Kind) -> Self {
        Self {
            required,
            optional: &[],
            rest: Some(rest),
        }
    }

    /// The types that arguments of these types are cast to.
    pub fn coerce(&self, function: &str, found: &[DataType]) -> Result<Vec<DataType>> {
        let function = function.to_ascii_uppercase();
        let max = if self.rest.is_some() {
            usize::MAX
        } else {
            self.required.len() + self.optional.len()
        };
        if found.len() < self.required.len() || found.len() > max {
            let takes = match (self.rest, self.optional.len()) {
                (Some(_), _) => format!("at least {}", self.required.len()),
                (None, 0) => self.required.len().to_string(),
                (None, n) => format!("{} to {}", self.required.len(), self.required.len() + n),
            };
            return plan_err!("{function} takes {takes} arguments, found {}", found.len());
        }
        let kinds = self
            .required
            .iter()
            .chain(self.optional)
            .copied()
            .chain(std::iter::repeat_with(|| self.rest.unwrap_or(Kind::Text)));
        let mut types = Vec::with_capacity(found.len());
        for (i, (found, kind)) in found.iter().zip(kinds).enumerate() {
            match kind.coerce(found) {
                Some(data_type) => types.push(data_type),
                None => {
                    return plan_err!(
                        "argument {} of {function} is {}, found {}; write a CAST",
                        i + 1,
                        kind.noun(),
                        type_name(found)
                    );
                }
            }
        }
        Ok(types)
    }
}

/// The arguments of one call on one batch.
pub(super) struct Call<'a> {
    pub args: &'a [ColumnarValue],
    pub rows: usize,
    pub return_type: &'a DataType,
}

impl Call<'_> {
    fn arg(&self, i: usize) -> Result<&ColumnarValue> {
        self.args
            .get(i)
            .ok_or_else(|| internal_datafusion_err!("the call lacks argument {}", i + 1))
    }

    /// How many arguments there are.
    pub fn len(&self) -> usize {
        self.args.len()
    }

    /// A STRING argument.
    pub fn text(&self, i: usize) -> Result<Text<'_>> {
        match self.arg(i)? {
            ColumnarValue::Scalar(value) => match value.try_as_str() {
                Some(text) => Ok(Text::One(text)),
                None => Err(internal_datafusion_err!(
                    "argument {} is not a STRING",
                    i + 1
                )),
            },
            ColumnarValue::Array(array) => array
                .as_string_opt::<i32>()
                .map(Text::Many)
                .ok_or_else(|| internal_datafusion_err!("argument {} is not a STRING", i + 1)),
        }
    }

    /// An optional STRING argument.
    pub fn optional_text(&self, i: usize) -> Result<Option<Text<'_>>> {
        if i < self.args.len() {
            self.text(i).map(Some)
        } else {
            Ok(None)
        }
    }

    /// A BIGINT argument.
    pub fn whole(&self, i: usize) -> Result<Values<Int64Type>> {
        Values::new(self.arg(i)?, i)
    }

    /// A DOUBLE argument.
    pub fn double(&self, i: usize) -> Result<Values<Float64Type>> {
        Values::new(self.arg(i)?, i)
    }

    /// A TIMESTAMP(3) argument, as milliseconds since 1970.
    pub fn time(&self, i: usize) -> Result<Values<TimestampMillisecondType>> {
        Values::new(self.arg(i)?, i)
    }

    /// The argument as an array.
    pub fn array(&self, i: usize) -> Result<ArrayRef> {
        self.arg(i)?.to_array(self.rows)
    }

    /// Whether the argument is a STRING.
    pub fn is_text(&self, i: usize) -> bool {
        self.args
            .get(i)
            .is_some_and(|arg| arg.data_type() == DataType::Utf8)
    }
}

/// Strings, one for all rows or one each.
pub(super) enum Text<'a> {
    One(Option<&'a str>),
    Many(&'a StringArray),
}

impl<'a> Text<'a> {
    /// The string of a row.
    pub fn get(&self, row: usize) -> Option<&'a str> {
        match self {
            Text::One(text) => *text,
            Text::Many(array) => array.is_valid(row).then(|| array.value(row)),
        }
    }

    /// The string of all rows, if it is the same for all.
    pub fn constant(&self) -> Option<Option<&'a str>> {
        match self {
            Text::One(text) => Some(*text),
            Text::Many(_) => None,
        }
    }
}

/// Numbers, one for all rows or one each.
pub(super) enum Values<T: arrow::datatypes::ArrowPrimitiveType> {
    One(Option<T::Native>),
    Many(PrimitiveArray<T>),
}

impl<T: arrow::datatypes::ArrowPrimitiveType> Values<T> {
    fn new(value: &ColumnarValue, i: usize) -> Result<Self> {
        let wrong =
            || internal_datafusion_err!("argument {} is not of type {}", i + 1, T::DATA_TYPE);
        match value {
            ColumnarValue::Scalar(scalar) => {
                let array = scalar.to_array_of_size(1)?;
                let array = array.as_primitive_opt::<T>().ok_or_else(wrong)?;
                Ok(Values::One(array.is_valid(0).then(|| array.value(0))))
            }
            ColumnarValue::Array(array) => Ok(Values::Many(
                array.as_primitive_opt::<T>().ok_or_else(wrong)?.clone(),
            )),
        }
    }

    /// The value of a row.
    pub fn get(&self, row: usize) -> Option<T::Native> {
        match self {
            Values::One(value) => *value,
            Values::Many(array) => array.is_valid(row).then(|| array.value(row)),
        }
    }
}

/// Strings for all rows: `write` appends a row's string, or says that it is null.
pub(super) fn build_text(
    rows: usize,
    mut write: impl FnMut(usize, &mut String) -> Option<()>,
) -> ArrayRef {
    let mut builder = arrow::array::StringBuilder::with_capacity(rows, rows * 8);
    let mut buffer = String::new();
    for row in 0..rows {
        buffer.clear();
        match write(row, &mut buffer) {
            Some(()) => builder.append_value(&buffer),
            None => builder.append_null(),
        }
    }
    std::sync::Arc::new(builder.finish())
}

/// BIGINTs for all rows.
pub(super) fn build_whole(rows: usize, value: impl FnMut(usize) -> Option<i64>) -> ArrayRef {
    std::sync::Arc::new((0..rows).map(value).collect::<Int64Array>())
}

/// INTs for all rows.
pub(super) fn build_int(rows: usize, value: impl FnMut(usize) -> Option<i32>) -> ArrayRef {
    std::sync::Arc::new((0..rows).map(value).collect::<arrow::array::Int32Array>())
}

/// DOUBLEs for all rows.
pub(super) fn build_double(rows: usize, value: impl FnMut(usize) -> Option<f64>) -> ArrayRef {
    std::sync::Arc::new((0..rows).map(value).collect::<arrow::array::Float64Array>())
}

/// BOOLEANs for all rows.
pub(super) fn build_boolean(rows: usize, value: impl FnMut(usize) -> Option<bool>) -> ArrayRef {
    std::sync::Arc::new((0..rows).map(value).collect::<arrow::array::BooleanArray>())
}

/// TIMESTAMP(3)s for all rows, or TIMESTAMP_LTZ(3)s if `return_type` says so.
pub(super) fn build_time(
    rows: usize,
    return_type: &DataType,
    value: impl FnMut(usize) -> Option<i64>,
) -> ArrayRef {
    let array = (0..rows).map(value).collect::<TimestampMillisecondArray>();
    let zone = match return_type {
        DataType::Timestamp(_, zone) => zone.clone(),
        _ => None,
    };
    std::sync::Arc::new(array.with_timezone_opt(zone))
}

/// An integer literal among the arguments of a function whose type depends on it.
pub(super) fn constant_int(value: Option<&ScalarValue>) -> Option<i32> {
    match value {
        Some(ScalarValue::Int64(Some(v))) => i32::try_from(*v).ok(),
        Some(ScalarValue::Int32(Some(v))) => Some(*v),
        _ => None,
    }
}
