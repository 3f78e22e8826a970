//! Types of keys as a checkpoint tells them to whoever looks into it.

use aquifer_state::dynamic::{Field, LogicalType, Temporal, TimeUnit};
use arrow::datatypes::{DataType, TimeUnit as ArrowUnit};

/// The meaning of a type that can be (part of) a key; `None` for others.
pub fn logical_type(data_type: &DataType) -> Option<LogicalType> {
    Some(match data_type {
        DataType::Boolean => LogicalType::Bool,
        DataType::Int8 => LogicalType::I8,
        DataType::Int16 => LogicalType::I16,
        DataType::Int32 => LogicalType::I32,
        DataType::Int64 => LogicalType::I64,
        DataType::UInt8 => LogicalType::U8,
        DataType::UInt16 => LogicalType::U16,
        DataType::UInt32 => LogicalType::U32,
        DataType::UInt64 => LogicalType::U64,
        DataType::Float32 => LogicalType::F32,
        DataType::Float64 => LogicalType::F64,
        DataType::Decimal128(precision, scale) => LogicalType::Decimal {
            precision: *precision,
            scale: *scale,
        },
        DataType::Date32 => LogicalType::Temporal(Temporal::Date),
        DataType::Date64 => LogicalType::Temporal(Temporal::Timestamp(TimeUnit::Millisecond)),
        DataType::Time32(of) | DataType::Time64(of) => {
            LogicalType::Temporal(Temporal::Time(unit(*of)))
        }
        DataType::Timestamp(of, None) => LogicalType::Temporal(Temporal::Timestamp(unit(*of))),
        DataType::Timestamp(of, Some(_)) => LogicalType::Temporal(Temporal::Instant(unit(*of))),
        DataType::Duration(of) => LogicalType::Temporal(Temporal::Duration(unit(*of))),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => LogicalType::String,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => LogicalType::Bytes,
        DataType::Struct(fields) => {
            let fields = fields.iter().map(|field| {
                Some(Field {
                    name: field.name().as_str().into(),
                    kind: logical_type(field.data_type())?,
                })
            });
            LogicalType::Struct {
                name: "".into(),
                fields: fields.collect::<Option<_>>()?,
            }
        }
        _ => return None,
    })
}

fn unit(unit: ArrowUnit) -> TimeUnit {
    match unit {
        ArrowUnit::Second => TimeUnit::Second,
        ArrowUnit::Millisecond => TimeUnit::Millisecond,
        ArrowUnit::Microsecond => TimeUnit::Microsecond,
        ArrowUnit::Nanosecond => TimeUnit::Nanosecond,
    }
}
