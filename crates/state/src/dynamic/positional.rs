//! Values in postcard's format, version 1: no names, no types, so the type says what comes next.
//!
//! Integers of more than eight bits are varints (seven bits a byte, lowest first), signed ones zigzag; floats are little-endian; strings, sequences
//! and maps have their length before them; an option has a byte, an enum the number of its variant.

use super::budget::Budget;
use super::{DynamicValue, LogicalType};
use crate::StateError;

/// Takes one value off the front of `input`.
pub(super) fn take(
    kind: &LogicalType,
    input: &mut &[u8],
    budget: &mut Budget,
) -> Result<DynamicValue, StateError> {
    let mut reader = Positional {
        around: Vec::new(),
        budget,
    };
    reader.take(kind, input)
}

/// Reads a value and those within it.
struct Positional<'t, 'b> {
    /// Types around the present place that may be meant within, with their names.
    around: Vec<(&'t str, &'t LogicalType)>,
    budget: &'b mut Budget,
}

impl<'t> Positional<'t, '_> {
    fn take(
        &mut self,
        kind: &'t LogicalType,
        input: &mut &[u8],
    ) -> Result<DynamicValue, StateError> {
        self.budget.enter()?;
        let value = self.take_within(kind, input)?;
        self.budget.leave();
        Ok(value)
    }

    fn take_within(
        &mut self,
        kind: &'t LogicalType,
        input: &mut &[u8],
    ) -> Result<DynamicValue, StateError> {
        use DynamicValue as Value;
        Ok(match kind {
            LogicalType::Unit => Value::Null,
            LogicalType::Bool => Value::Bool(flag(input)?),
            LogicalType::I8 => Value::Int(i64::from(i8::from_le_bytes(array(input)?))),
            LogicalType::U8 => Value::UInt(u64::from(byte(input)?)),
            LogicalType::I16 => Value::Int(zigzag(varint(input, 16)?) as i64),
            LogicalType::I32 => Value::Int(zigzag(varint(input, 32)?) as i64),
            LogicalType::I64 => Value::Int(zigzag(varint(input, 64)?) as i64),
            LogicalType::I128 => Value::Int128(zigzag(varint(input, 128)?)),
            LogicalType::U16 => Value::UInt(varint(input, 16)? as u64),
            LogicalType::U32 => Value::UInt(varint(input, 32)? as u64),
            LogicalType::U64 => Value::UInt(varint(input, 64)? as u64),
            LogicalType::U128 => Value::UInt128(varint(input, 128)?),
            LogicalType::F32 => Value::F32(f32::from_le_bytes(array(input)?)),
            LogicalType::F64 => Value::F64(f64::from_le_bytes(array(input)?)),
            LogicalType::Char => {
                let text = string(input)?;
                if text.chars().count() != 1 {
                    return Err(wrong("a char is not one character"));
                }
                Value::String(text)
            }
            LogicalType::String => Value::String(string(input)?),
            LogicalType::Bytes => Value::Bytes(bytes(input)?.to_vec()),
            LogicalType::Option(inner) => match flag(input)? {
                false => Value::Null,
                true => self.take(inner, input)?,
            },
            LogicalType::List(element) => {
                let count = length(input)?;
                // Elements may be empty, so nothing is set aside for them before they are there.
                let mut elements = Vec::with_capacity(count.min(input.len()).min(1024));
                for _ in 0..count {
                    elements.push(self.take(element, input)?);
                }
                Value::List(elements)
            }
            LogicalType::Map(key, value) => {
                let count = length(input)?;
                let mut entries = Vec::with_capacity(count.min(input.len()).min(1024));
                for _ in 0..count {
                    entries.push((self.take(key, input)?, self.take(value, input)?));
                }
                Value::Map(entries)
            }
            LogicalType::Tuple(parts) => {
                let parts = parts.iter().map(|part| self.take(part, input));
                Value::List(parts.collect::<Result<_, _>>()?)
            }
            LogicalType::Named { name, inner } => {
                self.around.push((name, kind));
                let value = self.take(inner, input)?;
                self.around.pop();
                value
            }
            LogicalType::Again(name) => {
                let found = self.around.iter().rposition(|(known, _)| *known == &**name);
                let at = found.ok_or_else(|| wrong(&format!("no type around it is a {name}")))?;
                // What is around that type is around it here, too, and nothing else.
                let within = self.around.split_off(at);
                let value = match within.first() {
                    Some((_, again)) => self.take(again, input)?,
                    None => Value::Null,
                };
                self.around.truncate(at);
                self.around.extend(within);
                value
            }
            LogicalType::Struct { name, fields } => {
                self.around.push((name, kind));
                let fields = fields
                    .iter()
                    .map(|field| Ok((field.name.clone(), self.take(&field.kind, input)?)));
                let fields = fields.collect::<Result<_, StateError>>()?;
                self.around.pop();
                Value::Struct(fields)
            }
            LogicalType::Enum { name, variants } => {
                let number = varint(input, 32)? as u64;
                let variant = usize::try_from(number).ok().and_then(|at| variants.get(at));
                let variant = variant.ok_or_else(|| {
                    wrong(&format!(
                        "it is variant {number} of {name}, which has {}",
                        variants.len()
                    ))
                })?;
                self.around.push((name, kind));
                let value = self.take(&variant.kind, input)?;
                self.around.pop();
                Value::Variant(variant.name.clone(), Box::new(value))
            }
            LogicalType::Any | LogicalType::Opaque(_) => {
                return Err(wrong("its type is not known"));
            }
            LogicalType::Decimal { .. } | LogicalType::Temporal(_) => {
                return Err(wrong("its type is one of columns"));
            }
        })
    }
}

fn wrong(what: &str) -> StateError {
    StateError::Corrupt(format!("a value of state is damaged: {what}"))
}

fn cut_short() -> StateError {
    wrong("it ends too early")
}

pub(super) fn array<const N: usize>(input: &mut &[u8]) -> Result<[u8; N], StateError> {
    let (head, tail) = input.split_first_chunk::<N>().ok_or_else(cut_short)?;
    *input = tail;
    Ok(*head)
}

pub(super) fn byte(input: &mut &[u8]) -> Result<u8, StateError> {
    Ok(u8::from_le_bytes(array(input)?))
}

fn flag(input: &mut &[u8]) -> Result<bool, StateError> {
    match byte(input)? {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(wrong(&format!(
            "byte {other} stands where 0 or 1 is expected"
        ))),
    }
}

/// A number of at most `bits` bits.
pub(super) fn varint(input: &mut &[u8], bits: u32) -> Result<u128, StateError> {
    let mut value = 0u128;
    for shift in (0..bits).step_by(7) {
        let byte = byte(input)?;
        let part = u128::from(byte & 0x7f);
        if bits - shift < 7 && part >> (bits - shift) != 0 {
            return Err(wrong(&format!("a number has more than {bits} bits")));
        }
        value |= part << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(wrong(&format!("a number has more than {bits} bits")))
}

/// Undoes the folding of signs into the lowest bit.
pub(super) fn zigzag(value: u128) -> i128 {
    (value >> 1) as i128 ^ -((value & 1) as i128)
}

/// A count of bytes or elements.
pub(super) fn length(input: &mut &[u8]) -> Result<usize, StateError> {
    let length = varint(input, 64)?;
    usize::try_from(length).map_err(|_| cut_short())
}

pub(super) fn bytes<'a>(input: &mut &'a [u8]) -> Result<&'a [u8], StateError> {
    let length = length(input)?;
    let (head, tail) = input.split_at_checked(length).ok_or_else(cut_short)?;
    *input = tail;
    Ok(head)
}

pub(super) fn string(input: &mut &[u8]) -> Result<String, StateError> {
    let text = std::str::from_utf8(bytes(input)?);
    let text = text.map_err(|error| wrong(&format!("text is not UTF-8: {error}")))?;
    Ok(text.to_owned())
}
