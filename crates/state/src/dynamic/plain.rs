//! Bare values (`plain-1`), and rows of Arrow columns (`arrow-row-1`): see `docs/format/serializers.md`.

use super::budget::Budget;
use super::described::Column;
use super::positional::{array, byte, bytes, string, varint};
use super::{DynamicValue, LogicalType};
use crate::StateError;
use crate::serializer::PlainValue;

/// The value that these bytes are, all of them.
pub(super) fn whole(kind: &LogicalType, bytes: &[u8]) -> Result<DynamicValue, StateError> {
    use DynamicValue as Value;
    let value = match kind {
        LogicalType::Bool => bool::read(bytes).map(Value::Bool),
        LogicalType::I8 => i8::read(bytes).map(|n| Value::Int(n.into())),
        LogicalType::I16 => i16::read(bytes).map(|n| Value::Int(n.into())),
        LogicalType::I32 => i32::read(bytes).map(|n| Value::Int(n.into())),
        LogicalType::I64 => i64::read(bytes).map(Value::Int),
        LogicalType::I128 => i128::read(bytes).map(Value::Int128),
        LogicalType::U8 => u8::read(bytes).map(|n| Value::UInt(n.into())),
        LogicalType::U16 => u16::read(bytes).map(|n| Value::UInt(n.into())),
        LogicalType::U32 => u32::read(bytes).map(|n| Value::UInt(n.into())),
        LogicalType::U64 => u64::read(bytes).map(Value::UInt),
        LogicalType::U128 => u128::read(bytes).map(Value::UInt128),
        LogicalType::F32 => f32::read(bytes).map(Value::F32),
        LogicalType::F64 => f64::read(bytes).map(Value::F64),
        LogicalType::String => String::read(bytes).map(Value::String),
        LogicalType::Bytes => Some(Value::Bytes(bytes.to_vec())),
        _ => None,
    };
    value
        .ok_or_else(|| StateError::Corrupt(format!("{} bytes of state are no {kind}", bytes.len())))
}

/// Takes a row off the front of `input`, as a struct of the columns of its own schema.
pub(super) fn take_row(
    schemas: &[Vec<Column>],
    input: &mut &[u8],
    budget: &mut Budget,
) -> Result<DynamicValue, StateError> {
    let number = varint(input, 64)?;
    let schema = usize::try_from(number).ok().and_then(|at| schemas.get(at));
    let columns = schema.ok_or_else(|| {
        wrong(&format!(
            "it is of schema {number}, but there are {}",
            schemas.len()
        ))
    })?;
    let bitmap = input.split_at_checked(columns.len().div_ceil(8));
    let (nulls, rest) = bitmap.ok_or_else(|| wrong("it ends too early"))?;
    *input = rest;
    let mut fields = Vec::with_capacity(columns.len());
    for (at, column) in columns.iter().enumerate() {
        budget.pay()?;
        let is_null = nulls
            .get(at / 8)
            .is_some_and(|byte| byte >> (at % 8) & 1 == 1);
        let value = match is_null {
            true => DynamicValue::Null,
            false => cell(&column.kind, input)?,
        };
        fields.push((column.name.clone(), value));
    }
    Ok(DynamicValue::Struct(fields))
}

fn cell(kind: &LogicalType, input: &mut &[u8]) -> Result<DynamicValue, StateError> {
    use DynamicValue as Value;
    Ok(match kind {
        LogicalType::Unit => Value::Null,
        LogicalType::Bool => match byte(input)? {
            0 => Value::Bool(false),
            1 => Value::Bool(true),
            other => return Err(wrong(&format!("a truth value is {other}"))),
        },
        LogicalType::I8 => Value::Int(i8::from_le_bytes(array(input)?).into()),
        LogicalType::I16 => Value::Int(i16::from_le_bytes(array(input)?).into()),
        LogicalType::I32 => Value::Int(i32::from_le_bytes(array(input)?).into()),
        LogicalType::I64 => Value::Int(i64::from_le_bytes(array(input)?)),
        LogicalType::U8 => Value::UInt(byte(input)?.into()),
        LogicalType::U16 => Value::UInt(u16::from_le_bytes(array(input)?).into()),
        LogicalType::U32 => Value::UInt(u32::from_le_bytes(array(input)?).into()),
        LogicalType::U64 => Value::UInt(u64::from_le_bytes(array(input)?)),
        LogicalType::F32 => Value::F32(f32::from_le_bytes(array(input)?)),
        LogicalType::F64 => Value::F64(f64::from_le_bytes(array(input)?)),
        LogicalType::String => Value::String(string(input)?),
        LogicalType::Bytes => Value::Bytes(bytes(input)?.to_vec()),
        LogicalType::Decimal { scale, .. } => {
            Value::Decimal(i128::from_le_bytes(array(input)?), *scale)
        }
        LogicalType::Temporal(kind) if kind.width() == 4 => {
            Value::Temporal(i32::from_le_bytes(array(input)?).into(), *kind)
        }
        LogicalType::Temporal(kind) => Value::Temporal(i64::from_le_bytes(array(input)?), *kind),
        other => return Err(wrong(&format!("no column is a {other}"))),
    })
}

fn wrong(what: &str) -> StateError {
    StateError::Corrupt(format!("a row of columns is damaged: {what}"))
}
