//! Dates and times as Arrow's.

use aquifer_state::dynamic::{Temporal, TimeUnit};
use arrow::array::{ArrayRef, Int32Array, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, TimeUnit as ArrowUnit};
use arrow::error::ArrowError;
use datafusion::common::ScalarValue;

/// The Arrow type of a date or time.
pub(super) fn data_type(kind: Temporal) -> DataType {
    match kind {
        Temporal::Date => DataType::Date32,
        Temporal::Time(of @ (TimeUnit::Second | TimeUnit::Millisecond)) => {
            DataType::Time32(unit(of))
        }
        Temporal::Time(of) => DataType::Time64(unit(of)),
        Temporal::Timestamp(of) => DataType::Timestamp(unit(of), None),
        Temporal::Instant(of) => DataType::Timestamp(unit(of), Some("+00:00".into())),
        Temporal::Duration(of) => DataType::Duration(unit(of)),
    }
}

fn unit(unit: TimeUnit) -> ArrowUnit {
    match unit {
        TimeUnit::Second => ArrowUnit::Second,
        TimeUnit::Millisecond => ArrowUnit::Millisecond,
        TimeUnit::Microsecond => ArrowUnit::Microsecond,
        TimeUnit::Nanosecond => ArrowUnit::Nanosecond,
    }
}

/// Numbers as what they count.
pub(super) fn array(kind: Temporal, numbers: &Int64Array) -> Result<ArrayRef, ArrowError> {
    let to = data_type(kind);
    if to.primitive_width() == Some(size_of::<i32>()) {
        // None is wider: the state holds 32 bits of each.
        let narrow = numbers.iter().map(|number| i32::try_from(number?).ok());
        return cast(&narrow.collect::<Int32Array>(), &to);
    }
    cast(numbers, &to)
}

/// What a literal of exactly this type counts.
pub(crate) fn number(kind: Temporal, literal: &ScalarValue) -> Option<i64> {
    if literal.data_type() != data_type(kind) {
        return None;
    }
    match literal {
        ScalarValue::Date32(days) => days.map(i64::from),
        ScalarValue::Time32Second(time) | ScalarValue::Time32Millisecond(time) => {
            time.map(i64::from)
        }
        ScalarValue::Time64Microsecond(time) | ScalarValue::Time64Nanosecond(time) => *time,
        ScalarValue::TimestampSecond(time, _)
        | ScalarValue::TimestampMillisecond(time, _)
        | ScalarValue::TimestampMicrosecond(time, _)
        | ScalarValue::TimestampNanosecond(time, _)
        | ScalarValue::DurationSecond(time)
        | ScalarValue::DurationMillisecond(time)
        | ScalarValue::DurationMicrosecond(time)
        | ScalarValue::DurationNanosecond(time) => *time,
        _ => None,
    }
}
