//! Bare values (`plain-1`), and rows of Arrow columns (`arrow-row-1`): see `docs/format/serializers.md`.

use super::budget::Budget;
use super::described::{Cell, Column};
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
            false => cell(column.cell, input)?,
        };
        fields.push((column.name.clone(), value));
    }
    Ok(DynamicValue::Struct(fields))
}

fn cell(kind: Cell, input: &mut &[u8]) -> Result<DynamicValue, StateError> {
    use DynamicValue as Value;
    Ok(match kind {
        Cell::Bool => match byte(input)? {
            0 => Value::Bool(false),
            1 => Value::Bool(true),
            other => return Err(wrong(&format!("a truth value is {other}"))),
        },
        Cell::Integer(1, true) => Value::Int(i8::from_le_bytes(array(input)?).into()),
        Cell::Integer(2, true) => Value::Int(i16::from_le_bytes(array(input)?).into()),
        Cell::Integer(4, true) => Value::Int(i32::from_le_bytes(array(input)?).into()),
        Cell::Integer(_, true) => Value::Int(i64::from_le_bytes(array(input)?)),
        Cell::Integer(1, false) => Value::UInt(byte(input)?.into()),
        Cell::Integer(2, false) => Value::UInt(u16::from_le_bytes(array(input)?).into()),
        Cell::Integer(4, false) => Value::UInt(u32::from_le_bytes(array(input)?).into()),
        Cell::Integer(_, false) => Value::UInt(u64::from_le_bytes(array(input)?)),
        Cell::F32 => Value::F32(f32::from_le_bytes(array(input)?)),
        Cell::F64 => Value::F64(f64::from_le_bytes(array(input)?)),
        Cell::Text => Value::String(string(input)?),
        Cell::Bytes => Value::Bytes(bytes(input)?.to_vec()),
        Cell::Decimal(scale) => Value::String(decimal(i128::from_le_bytes(array(input)?), scale)),
    })
}

/// A whole number of so many digits after the point, as text.
pub(super) fn decimal(number: i128, scale: i32) -> String {
    let sign = if number < 0 { "-" } else { "" };
    let digits = number.unsigned_abs().to_string();
    let places = scale.unsigned_abs() as usize;
    if number == 0 || scale == 0 {
        return format!("{sign}{digits}");
    }
    if scale < 0 {
        return format!("{sign}{digits}{}", "0".repeat(places));
    }
    let digits = format!("{digits:0>width$}", width = places + 1);
    let (whole, fraction) = digits.split_at(digits.len() - places);
    format!("{sign}{whole}.{fraction}")
}

fn wrong(what: &str) -> StateError {
    StateError::Corrupt(format!("a row of columns is damaged: {what}"))
}
