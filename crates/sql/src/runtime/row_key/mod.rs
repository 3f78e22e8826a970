//! Group keys as bytes: what state is filed under and what decides which worker holds it.
//!
//! The encoding is our own and part of the state format, so it must never change: a key is the concatenation of its columns, each
//!
//! ```text
//! null                0x00
//! otherwise           0x01 followed by
//!   BOOLEAN           1 byte, 0 or 1
//!   signed integers, DATE, TIME, TIMESTAMP, DECIMAL, durations
//!                     big-endian two's complement with the sign bit flipped (1, 2, 4, 8, 16 bytes)
//!   unsigned integers big-endian
//!   FLOAT, DOUBLE     IEEE bits, big-endian; all bits flipped when negative, else only the sign bit
//!   STRING, BYTES     the bytes with 0x00 written as 0x00 0xff, ended by 0x00 0x00
//!   ROW               its fields, each encoded like a column
//! ```
//!
//! What holds: encodings compare (as bytes) like the values, nulls first; no encoding is a prefix of another of the same types, so that
//! anything may follow a key and `key ‖ value` can be scanned by the key; inverting every byte reverses the order.
//! Decoding checks every length: bytes come from state files.

mod decode;
mod encode;
mod logical;
mod ordered;
mod router;

pub use decode::{KeyDecoder, ValueDecoder};
pub use encode::KeyEncoder;
pub use logical::logical_type;
pub(super) use ordered::Ordered;
pub use router::KeyRouter;

use aquifer_dataflow::JobError;
use arrow::datatypes::{DataType, TimeUnit};
use xxhash_rust::xxh3::xxh3_64;

/// Hash of an encoded key: xxh3 with 64 bits and seed 0. Part of the state format.
pub fn hash(key: &[u8]) -> u64 {
    xxh3_64(key)
}

/// The hash as the 32 bits from which a key group is computed: both halves of the 64 bits, xored.
pub fn hash_code(hash: u64) -> i32 {
    ((hash >> 32) as u32 ^ hash as u32) as i32
}

/// The key group of an encoded key with this hash.
pub fn key_group(hash: u64, max_parallelism: u16) -> u16 {
    aquifer_state::key_group::assign_to_key_group(hash_code(hash), max_parallelism)
}

/// Refuses types that cannot be (part of) a key; `what` names the column in the message.
pub fn check_type(what: &str, data_type: &DataType) -> Result<(), JobError> {
    match data_type {
        DataType::Struct(fields) => fields
            .iter()
            .try_for_each(|field| check_type(what, field.data_type())),
        DataType::Boolean
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::UInt8
        | DataType::UInt16
        | DataType::UInt32
        | DataType::UInt64
        | DataType::Float32
        | DataType::Float64
        | DataType::Decimal128(_, _)
        | DataType::Date32
        | DataType::Date64
        | DataType::Time32(_)
        | DataType::Time64(_)
        | DataType::Timestamp(_, _)
        | DataType::Duration(_)
        | DataType::Utf8
        | DataType::LargeUtf8
        | DataType::Utf8View
        | DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView => Ok(()),
        other => Err(JobError::usage(format!(
            "{what} is of type {other}, which cannot be compared: a key, DISTINCT, MIN and MAX take numbers, strings, bytes, \
             booleans, dates, times, timestamps and rows of these"
        ))),
    }
}

/// A short name of a type for descriptions of state layouts: it says how values are encoded and is as lasting as the encoding.
pub fn type_tag(data_type: &DataType) -> String {
    match data_type {
        DataType::Boolean => "bool".to_owned(),
        DataType::Int8 => "i8".to_owned(),
        DataType::Int16 => "i16".to_owned(),
        DataType::Int32 => "i32".to_owned(),
        DataType::Int64 => "i64".to_owned(),
        DataType::UInt8 => "u8".to_owned(),
        DataType::UInt16 => "u16".to_owned(),
        DataType::UInt32 => "u32".to_owned(),
        DataType::UInt64 => "u64".to_owned(),
        DataType::Float32 => "f32".to_owned(),
        DataType::Float64 => "f64".to_owned(),
        DataType::Decimal128(precision, scale) => format!("decimal({precision},{scale})"),
        DataType::Date32 => "date".to_owned(),
        DataType::Date64 => "date64".to_owned(),
        DataType::Time32(unit) => format!("time32-{}", unit_tag(*unit)),
        DataType::Time64(unit) => format!("time64-{}", unit_tag(*unit)),
        DataType::Timestamp(unit, None) => format!("timestamp-{}", unit_tag(*unit)),
        DataType::Timestamp(unit, Some(_)) => format!("timestamp-ltz-{}", unit_tag(*unit)),
        DataType::Duration(unit) => format!("duration-{}", unit_tag(*unit)),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "string".to_owned(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "bytes".to_owned(),
        DataType::Struct(fields) => {
            let fields: Vec<String> = fields.iter().map(|f| type_tag(f.data_type())).collect();
            format!("row({})", fields.join(","))
        }
        other => other.to_string(),
    }
}

fn unit_tag(unit: TimeUnit) -> &'static str {
    match unit {
        TimeUnit::Second => "s",
        TimeUnit::Millisecond => "ms",
        TimeUnit::Microsecond => "us",
        TimeUnit::Nanosecond => "ns",
    }
}

#[cfg(test)]
mod tests;
