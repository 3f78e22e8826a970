//! A value on its way into a column, and how it is read from text.
//!
//! Text comes from files and options: whatever it says, reading it gives a value or nothing, never a panic.

use arrow::datatypes::{DataType, TimeUnit};

use crate::calendar::{self, Moment, NANOS_PER_SECOND};
use crate::{base64, numbers};

/// One value, in the form a column of its type stores.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Scalar<'t> {
    Null,
    Boolean(bool),
    /// Integers; days of a DATE; units of a TIME or TIMESTAMP.
    Whole(i64),
    Double(f64),
    /// The unscaled value of a DECIMAL.
    Decimal(i128),
    Text(&'t str),
    Bytes(Vec<u8>),
}

/// How many of a unit make a second.
pub(crate) fn units_per_second(unit: &TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => NANOS_PER_SECOND,
    }
}

/// Smallest and largest value of an integer type.
pub(crate) fn whole_range(data_type: &DataType) -> Option<(i64, i64)> {
    Some(match data_type {
        DataType::Int8 => (i8::MIN.into(), i8::MAX.into()),
        DataType::Int16 => (i16::MIN.into(), i16::MAX.into()),
        DataType::Int32 => (i32::MIN.into(), i32::MAX.into()),
        DataType::Int64 => (i64::MIN, i64::MAX),
        _ => return None,
    })
}

/// Reads a value of `data_type`; `None` if the text is not one. BYTES are base64.
pub(crate) fn parse<'t>(data_type: &DataType, text: &'t str) -> Option<Scalar<'t>> {
    if let Some((smallest, largest)) = whole_range(data_type) {
        let value: i64 = text.parse().ok()?;
        return (smallest..=largest)
            .contains(&value)
            .then_some(Scalar::Whole(value));
    }
    Some(match data_type {
        DataType::Boolean if text.eq_ignore_ascii_case("true") => Scalar::Boolean(true),
        DataType::Boolean if text.eq_ignore_ascii_case("false") => Scalar::Boolean(false),
        DataType::Float32 => Scalar::Double(parse_float(text)?),
        DataType::Float64 => Scalar::Double(parse_float(text)?),
        DataType::Decimal128(precision, scale) => {
            Scalar::Decimal(numbers::parse_decimal(text, *precision, *scale)?)
        }
        DataType::Utf8 => Scalar::Text(text),
        DataType::Binary => Scalar::Bytes(base64::decode(text)?),
        DataType::FixedSizeBinary(length) => {
            let bytes = base64::decode(text)?;
            if bytes.len() != usize::try_from(*length).ok()? {
                return None;
            }
            Scalar::Bytes(bytes)
        }
        DataType::Date32 => {
            let day = calendar::parse_date(text)?;
            Scalar::Whole(i32::try_from(day).ok()?.into())
        }
        DataType::Time32(unit) | DataType::Time64(unit) => {
            let nano_of_day = calendar::parse_time(text)?;
            Scalar::Whole(nano_of_day / (NANOS_PER_SECOND / units_per_second(unit)))
        }
        DataType::Timestamp(unit, zone) => {
            let text = match zone {
                Some(_) => text.strip_suffix('Z').unwrap_or(text),
                None => text,
            };
            let moment: Moment = calendar::parse_moment(text)?;
            Scalar::Whole(moment.to_units(units_per_second(unit))?)
        }
        _ => return None,
    })
}

/// Rust's syntax, and Java's words for what is no number.
fn parse_float(text: &str) -> Option<f64> {
    match text {
        "Infinity" | "+Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        "NaN" => Some(f64::NAN),
        _ if text.bytes().any(|byte| byte.is_ascii_digit()) => text.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_becomes_what_its_type_says_or_nothing() {
        assert_eq!(parse(&DataType::Int8, "-128"), Some(Scalar::Whole(-128)));
        assert_eq!(parse(&DataType::Int8, "128"), None);
        assert_eq!(
            parse(&DataType::Boolean, "TRUE"),
            Some(Scalar::Boolean(true))
        );
        assert_eq!(parse(&DataType::Boolean, "1"), None);
        assert_eq!(
            parse(&DataType::Float64, "1.5e3"),
            Some(Scalar::Double(1_500.0))
        );
        assert_eq!(parse(&DataType::Float64, "inf"), None);
        assert_eq!(
            parse(&DataType::Float64, "-Infinity"),
            Some(Scalar::Double(f64::NEG_INFINITY))
        );
        assert_eq!(
            parse(&DataType::Decimal128(5, 2), "12.3"),
            Some(Scalar::Decimal(1_230))
        );
        assert_eq!(
            parse(&DataType::Date32, "1970-01-02"),
            Some(Scalar::Whole(1))
        );
        let time = DataType::Time32(TimeUnit::Millisecond);
        assert_eq!(parse(&time, "00:00:01.5"), Some(Scalar::Whole(1_500)));
        let local = DataType::Timestamp(TimeUnit::Millisecond, None);
        assert_eq!(
            parse(&local, "1970-01-01 00:00:01"),
            Some(Scalar::Whole(1_000))
        );
        assert_eq!(parse(&local, "1970-01-01 00:00:01Z"), None);
        let zoned = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
        assert_eq!(
            parse(&zoned, "1970-01-01T00:00:01Z"),
            Some(Scalar::Whole(1_000))
        );
        assert_eq!(
            parse(&DataType::Binary, "AQI="),
            Some(Scalar::Bytes(vec![1, 2]))
        );
        assert_eq!(parse(&DataType::FixedSizeBinary(3), "AQI="), None);
    }
}
