//! Values that say what they are (`tagged-1` in `docs/format/serializers.md`).

use std::sync::Arc;

use super::DynamicValue;
use super::budget::Budget;
use super::positional::{array, byte, varint};
use crate::StateError;

/// Takes one value off the front of `input`. `names` are those of the dictionary.
pub(super) fn take(
    names: &[Arc<str>],
    input: &mut &[u8],
    budget: &mut Budget,
) -> Result<DynamicValue, StateError> {
    budget.within(|budget| take_within(names, input, budget))
}

fn take_within(
    names: &[Arc<str>],
    input: &mut &[u8],
    budget: &mut Budget,
) -> Result<DynamicValue, StateError> {
    use DynamicValue as Value;
    let tag = byte(input)?;
    Ok(match tag {
        0x00..=0x3f => Value::UInt(tag.into()),
        0x40..=0x5f => Value::String(text(input, usize::from(tag - 0x40))?),
        0x60..=0x6f => fields(names, input, usize::from(tag - 0x60), budget)?,
        0x70..=0x7f => list(names, input, usize::from(tag - 0x70), budget)?,
        0x80..=0x8f => map(names, input, usize::from(tag - 0x80), budget)?,
        0x90..=0xa7 => variant(numbered(names, (tag - 0x90).into())?, Value::Null),
        0xa8..=0xbf => {
            let name = numbered(names, (tag - 0xa8).into())?;
            variant(name, take(names, input, budget)?)
        }
        0xc0..=0xcf => Value::Int(-1 - i64::from(tag - 0xc0)),
        // None, and ().
        0xd0 | 0xd2 => Value::Null,
        0xd1 => take(names, input, budget)?,
        0xd3 => Value::Bool(false),
        0xd4 => Value::Bool(true),
        0xd5 => Value::UInt(byte(input)?.into()),
        0xd6 => match varint(input, 128)? {
            wide if wide > u128::from(u64::MAX) => Value::UInt128(wide),
            number => Value::UInt(number as u64),
        },
        0xd7 => {
            let below = i128::try_from(varint(input, 128)?);
            let below = below.map_err(|_| wrong("a number has more than 128 bits"))?;
            match i64::try_from(!below) {
                Ok(number) => Value::Int(number),
                Err(_) => Value::Int128(!below),
            }
        }
        0xd8 => Value::F32(f32::from_le_bytes(array(input)?)),
        0xd9 => Value::F64(f64::from_le_bytes(array(input)?)),
        0xda => {
            let code = u32::try_from(varint(input, 128)?).ok();
            let c = code.and_then(char::from_u32);
            Value::String(c.ok_or_else(|| wrong("a char is none"))?.into())
        }
        0xdb => {
            let len = count(input)?;
            Value::String(text(input, len)?)
        }
        0xdc => {
            let len = count(input)?;
            Value::Bytes(split(input, len)?.to_vec())
        }
        0xdd => {
            let count = count(input)?;
            fields(names, input, count, budget)?
        }
        0xde => {
            let count = count(input)?;
            list(names, input, count, budget)?
        }
        0xdf => {
            let count = count(input)?;
            map(names, input, count, budget)?
        }
        0xe0 => variant(name(names, input)?, Value::Null),
        0xe1 => {
            let name = name(names, input)?;
            variant(name, take(names, input, budget)?)
        }
        _ => return Err(wrong(&format!("byte {tag:#04x} begins no value"))),
    })
}

fn wrong(what: &str) -> StateError {
    StateError::Corrupt(format!("a self-describing value is damaged: {what}"))
}

fn variant(name: Arc<str>, value: DynamicValue) -> DynamicValue {
    DynamicValue::Variant(name, Box::new(value))
}

fn list(
    names: &[Arc<str>],
    input: &mut &[u8],
    count: usize,
    budget: &mut Budget,
) -> Result<DynamicValue, StateError> {
    let elements = (0..count).map(|_| take(names, input, budget));
    Ok(DynamicValue::List(elements.collect::<Result<_, _>>()?))
}

fn map(
    names: &[Arc<str>],
    input: &mut &[u8],
    count: usize,
    budget: &mut Budget,
) -> Result<DynamicValue, StateError> {
    let entries =
        (0..count).map(|_| Ok((take(names, input, budget)?, take(names, input, budget)?)));
    Ok(DynamicValue::Map(
        entries.collect::<Result<_, StateError>>()?,
    ))
}

fn fields(
    names: &[Arc<str>],
    input: &mut &[u8],
    count: usize,
    budget: &mut Budget,
) -> Result<DynamicValue, StateError> {
    let fields = (0..count).map(|_| Ok((name(names, input)?, take(names, input, budget)?)));
    Ok(DynamicValue::Struct(
        fields.collect::<Result<_, StateError>>()?,
    ))
}

/// The name of a field or variant: by number, or in line.
fn name(names: &[Arc<str>], input: &mut &[u8]) -> Result<Arc<str>, StateError> {
    match varint(input, 128)? {
        0 => {
            let len = count(input)?;
            Ok(text(input, len)?.into())
        }
        number => numbered(names, number - 1),
    }
}

fn numbered(names: &[Arc<str>], number: u128) -> Result<Arc<str>, StateError> {
    let name = usize::try_from(number).ok().and_then(|at| names.get(at));
    name.map(Arc::clone).ok_or_else(|| {
        wrong(&format!(
            "name {number} of a dictionary of {} is meant",
            names.len()
        ))
    })
}

/// How much follows: as each takes a byte at least, not more than there are bytes.
fn count(input: &mut &[u8]) -> Result<usize, StateError> {
    let announced = varint(input, 128)?;
    match usize::try_from(announced) {
        Ok(count) if count <= input.len() => Ok(count),
        _ => Err(wrong(&format!(
            "{announced} parts are announced, but {} bytes are left",
            input.len()
        ))),
    }
}

fn split<'a>(input: &mut &'a [u8], len: usize) -> Result<&'a [u8], StateError> {
    let cut = input.split_at_checked(len);
    let (head, tail) = cut.ok_or_else(|| wrong("it ends too early"))?;
    *input = tail;
    Ok(head)
}

fn text(input: &mut &[u8], len: usize) -> Result<String, StateError> {
    let text = std::str::from_utf8(split(input, len)?);
    Ok(text.map_err(|_| wrong("a text is not UTF-8"))?.to_owned())
}
