//! Keys, namespaces and user keys: bytes that sort like the values (`crate::ordered`), there and back, and their key groups.

use super::budget::Budget;
use super::{DynamicValue, LogicalType};
use crate::StateError;
use crate::key_group::KeyHash;
use crate::ordered::{OrderedKey, decode_bytes, encode_bytes};

/// Takes one value off the front of `input`.
pub(super) fn take(
    kind: &LogicalType,
    input: &mut &[u8],
    budget: &mut Budget,
) -> Result<DynamicValue, StateError> {
    use DynamicValue as Value;
    Ok(match kind {
        LogicalType::Unit => Value::Null,
        LogicalType::Bool => Value::Bool(bool::decode_ordered(input)?),
        LogicalType::I8 => Value::Int(i8::decode_ordered(input)?.into()),
        LogicalType::I16 => Value::Int(i16::decode_ordered(input)?.into()),
        LogicalType::I32 => Value::Int(i32::decode_ordered(input)?.into()),
        LogicalType::I64 => Value::Int(i64::decode_ordered(input)?),
        LogicalType::I128 => Value::Int128(i128::decode_ordered(input)?),
        LogicalType::U8 => Value::UInt(u8::decode_ordered(input)?.into()),
        LogicalType::U16 => Value::UInt(u16::decode_ordered(input)?.into()),
        LogicalType::U32 => Value::UInt(u32::decode_ordered(input)?.into()),
        LogicalType::U64 => Value::UInt(u64::decode_ordered(input)?),
        LogicalType::U128 => Value::UInt128(u128::decode_ordered(input)?),
        LogicalType::F32 => Value::F32(f32::decode_ordered(input)?),
        LogicalType::F64 => Value::F64(f64::decode_ordered(input)?),
        LogicalType::String => Value::String(String::decode_ordered(input)?),
        LogicalType::Bytes => Value::Bytes(decode_bytes(input)?),
        LogicalType::Decimal { scale, .. } => Value::Decimal(i128::decode_ordered(input)?, *scale),
        LogicalType::Temporal(kind) if kind.width() == 4 => {
            Value::Temporal(i32::decode_ordered(input)?.into(), *kind)
        }
        LogicalType::Temporal(kind) => Value::Temporal(i64::decode_ordered(input)?, *kind),
        LogicalType::Option(inner) => match Option::<()>::decode_ordered(input)? {
            None => Value::Null,
            Some(()) => budget.within(|budget| take(inner, input, budget))?,
        },
        LogicalType::Tuple(parts) => {
            let parts = parts
                .iter()
                .map(|part| budget.within(|budget| take(part, input, budget)));
            Value::List(parts.collect::<Result<_, _>>()?)
        }
        other => return Err(not_a_key(other)),
    })
}

fn not_a_key(kind: &LogicalType) -> StateError {
    StateError::Usage(format!("a {kind} cannot be a key"))
}

/// Appends the bytes of a value.
pub(super) fn encode(
    kind: &LogicalType,
    value: &DynamicValue,
    out: &mut Vec<u8>,
) -> Result<(), StateError> {
    use DynamicValue as Value;
    let wrong = || mismatch(kind, value);
    match (kind, value) {
        (LogicalType::Unit, Value::Null) => {}
        (LogicalType::Bool, Value::Bool(value)) => value.encode_ordered(out),
        (LogicalType::F32, Value::F32(value)) => value.encode_ordered(out),
        (LogicalType::F64, Value::F64(value)) => value.encode_ordered(out),
        (LogicalType::String, Value::String(text)) => text.encode_ordered(out),
        (LogicalType::Bytes, Value::Bytes(bytes)) => encode_bytes(bytes, out),
        (LogicalType::Decimal { scale, .. }, Value::Decimal(number, of)) if scale == of => {
            number.encode_ordered(out);
        }
        (LogicalType::Temporal(kind), Value::Temporal(value, of)) if kind == of => {
            match (kind.width(), i32::try_from(*value)) {
                (4, value) => value.map_err(|_| wrong())?.encode_ordered(out),
                _ => value.encode_ordered(out),
            }
        }
        (LogicalType::Option(_), Value::Null) => None::<()>.encode_ordered(out),
        (LogicalType::Option(inner), value) => {
            Some(()).encode_ordered(out);
            encode(inner, value, out)?;
        }
        (LogicalType::Tuple(kinds), Value::List(parts)) if kinds.len() == parts.len() => {
            for (kind, part) in kinds.iter().zip(parts) {
                encode(kind, part, out)?;
            }
        }
        (LogicalType::I8, value) => integer::<i8>(value).ok_or_else(wrong)?.encode_ordered(out),
        (LogicalType::I16, value) => integer::<i16>(value).ok_or_else(wrong)?.encode_ordered(out),
        (LogicalType::I32, value) => integer::<i32>(value).ok_or_else(wrong)?.encode_ordered(out),
        (LogicalType::I64, value) => integer::<i64>(value).ok_or_else(wrong)?.encode_ordered(out),
        (LogicalType::I128, value) => integer::<i128>(value)
            .ok_or_else(wrong)?
            .encode_ordered(out),
        (LogicalType::U8, value) => integer::<u8>(value).ok_or_else(wrong)?.encode_ordered(out),
        (LogicalType::U16, value) => integer::<u16>(value).ok_or_else(wrong)?.encode_ordered(out),
        (LogicalType::U32, value) => integer::<u32>(value).ok_or_else(wrong)?.encode_ordered(out),
        (LogicalType::U64, value) => integer::<u64>(value).ok_or_else(wrong)?.encode_ordered(out),
        (LogicalType::U128, value) => integer::<u128>(value)
            .ok_or_else(wrong)?
            .encode_ordered(out),
        _ => return Err(wrong()),
    }
    Ok(())
}

/// A value that is not of the key's type.
pub(super) fn mismatch(kind: &LogicalType, value: &DynamicValue) -> StateError {
    StateError::Usage(format!(
        "a key of type {kind} is expected, found {}",
        value.what()
    ))
}

/// A whole number of any width as one of this width, if it fits.
fn integer<T: TryFrom<i128> + TryFrom<u128>>(value: &DynamicValue) -> Option<T> {
    match value {
        DynamicValue::Int(value) => T::try_from(i128::from(*value)).ok(),
        DynamicValue::UInt(value) => T::try_from(u128::from(*value)).ok(),
        DynamicValue::Int128(value) => T::try_from(*value).ok(),
        DynamicValue::UInt128(value) => T::try_from(*value).ok(),
        _ => None,
    }
}

/// Java's hash code of a key, as `KeyHash` has it; `None` for types that have none there.
pub(super) fn hash_code(kind: &LogicalType, value: &DynamicValue) -> Option<i32> {
    use DynamicValue as Value;
    Some(match (kind, value) {
        (LogicalType::Unit, Value::Null) => ().hash_code(),
        (LogicalType::Bool, Value::Bool(value)) => value.hash_code(),
        (LogicalType::F32, Value::F32(value)) => value.hash_code(),
        (LogicalType::F64, Value::F64(value)) => value.hash_code(),
        (LogicalType::String, Value::String(text)) => text.hash_code(),
        (LogicalType::Bytes, Value::Bytes(bytes)) => bytes.hash_code(),
        (LogicalType::Option(_), Value::Null) => None::<i32>.hash_code(),
        (LogicalType::Option(inner), value) => hash_code(inner, value)?,
        (LogicalType::Tuple(kinds), Value::List(parts)) if kinds.len() == parts.len() => {
            let mut hashes = kinds
                .iter()
                .zip(parts)
                .map(|(kind, part)| hash_code(kind, part));
            let first = hashes.next()??;
            // As Flink's tuples fold them.
            hashes.try_fold(first, |all, one| {
                Some(all.wrapping_mul(31).wrapping_add(one?))
            })?
        }
        (LogicalType::I8, value) => integer::<i8>(value)?.hash_code(),
        (LogicalType::I16, value) => integer::<i16>(value)?.hash_code(),
        (LogicalType::I32, value) => integer::<i32>(value)?.hash_code(),
        (LogicalType::I64, value) => integer::<i64>(value)?.hash_code(),
        (LogicalType::U8, value) => integer::<u8>(value)?.hash_code(),
        (LogicalType::U16, value) => integer::<u16>(value)?.hash_code(),
        (LogicalType::U32, value) => integer::<u32>(value)?.hash_code(),
        (LogicalType::U64, value) => integer::<u64>(value)?.hash_code(),
        _ => return None,
    })
}
