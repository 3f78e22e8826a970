//! Types and values of state as Arrow's.
//!
//! Every column may be null: a value that its type does not allow is an error, and none is made up.

pub(crate) mod times;

use std::sync::Arc;

use aquifer_state::StateError;
use aquifer_state::dynamic::{DynamicValue, Field as Part, LogicalType};
use arrow::array::{
    ArrayRef, ArrowPrimitiveType, BinaryArray, BooleanArray, Decimal128Array, Float32Array,
    Float64Array, Int64Array, ListArray, MapArray, NullArray, PrimitiveArray, StringArray,
    StructArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{
    DataType, Decimal256Type, Field, Fields, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type,
    UInt16Type, UInt32Type, UInt64Type, i256,
};

/// Field of an enum's struct that says which variant it is.
const VARIANT: &str = "variant";
/// Digits of a whole number of 128 bits.
const DIGITS_OF_128_BITS: u8 = 39;

/// The Arrow type of a type.
pub(crate) fn data_type(kind: &LogicalType) -> DataType {
    match kind {
        LogicalType::Unit => DataType::Null,
        LogicalType::Bool => DataType::Boolean,
        LogicalType::I8 => DataType::Int8,
        LogicalType::I16 => DataType::Int16,
        LogicalType::I32 => DataType::Int32,
        LogicalType::I64 => DataType::Int64,
        LogicalType::U8 => DataType::UInt8,
        LogicalType::U16 => DataType::UInt16,
        LogicalType::U32 => DataType::UInt32,
        LogicalType::U64 => DataType::UInt64,
        LogicalType::I128 | LogicalType::U128 => DataType::Decimal256(DIGITS_OF_128_BITS, 0),
        LogicalType::F32 => DataType::Float32,
        LogicalType::F64 => DataType::Float64,
        LogicalType::Bytes | LogicalType::Opaque(_) => DataType::Binary,
        LogicalType::Decimal { precision, scale } => DataType::Decimal128(*precision, *scale),
        LogicalType::Temporal(kind) => times::data_type(*kind),
        LogicalType::Option(inner) | LogicalType::Named { inner, .. } => data_type(inner),
        LogicalType::List(element) => DataType::List(item("item", element)),
        LogicalType::Map(key, value) if is_map_key(key) => {
            DataType::Map(entries_field(key, value), false)
        }
        LogicalType::Tuple(_) | LogicalType::Struct { .. } => match parts_of(kind) {
            parts if parts.is_empty() => DataType::Null,
            parts => DataType::Struct(fields(&parts)),
        },
        LogicalType::Enum { variants, .. } => match held_variants(variants) {
            Some(held) => DataType::Struct(variant_fields(&held)),
            None => DataType::Utf8,
        },
        // Text, and what is shown as JSON.
        _ => DataType::Utf8,
    }
}

fn item(name: &str, kind: &LogicalType) -> Arc<Field> {
    Arc::new(Field::new(name, data_type(kind), true))
}

fn fields(parts: &[Part]) -> Fields {
    parts
        .iter()
        .map(|part| item(&part.name, &part.kind))
        .collect()
}

/// Arrow's maps have no keys that are null.
fn is_map_key(kind: &LogicalType) -> bool {
    !matches!(
        kind,
        LogicalType::Option(_) | LogicalType::Unit | LogicalType::Any
    )
}

fn entries_field(key: &LogicalType, value: &LogicalType) -> Arc<Field> {
    let entries = Fields::from(vec![
        Field::new("key", data_type(key), false),
        Field::new("value", data_type(value), true),
    ]);
    Arc::new(Field::new("entries", DataType::Struct(entries), false))
}

/// The fields of a struct or tuple.
pub(crate) fn parts_of(kind: &LogicalType) -> Vec<Part> {
    match kind {
        LogicalType::Struct { fields, .. } => fields.clone(),
        LogicalType::Tuple(kinds) => kinds
            .iter()
            .enumerate()
            .map(|(at, kind)| Part {
                name: format!("f{at}").into(),
                kind: kind.clone(),
            })
            .collect(),
        _ => Vec::new(),
    }
}

/// The variants of an enum that hold something; `None` if none does, or if one is called like the field that tells them apart.
fn held_variants(variants: &[Part]) -> Option<Vec<Part>> {
    let held = variants
        .iter()
        .filter(|variant| variant.kind != LogicalType::Unit);
    let held: Vec<Part> = held.cloned().collect();
    let distinct = held.iter().all(|variant| &*variant.name != VARIANT);
    (distinct && !held.is_empty()).then_some(held)
}

fn variant_fields(held: &[Part]) -> Fields {
    let name = Arc::new(Field::new(VARIANT, DataType::Utf8, true));
    let held = held
        .iter()
        .map(|variant| item(&variant.name, &variant.kind));
    std::iter::once(name).chain(held).collect()
}

/// Values as an array of the type's Arrow type.
pub(crate) fn array(
    kind: &LogicalType,
    values: &[Option<&DynamicValue>],
) -> Result<ArrayRef, StateError> {
    use DynamicValue as Value;
    Ok(match kind {
        LogicalType::Unit => Arc::new(NullArray::new(values.len())),
        LogicalType::Bool => {
            let column: BooleanArray = each(kind, values, |value| match value {
                Value::Bool(value) => Some(*value),
                _ => None,
            })?;
            Arc::new(column)
        }
        LogicalType::I8 => integers::<Int8Type>(kind, values)?,
        LogicalType::I16 => integers::<Int16Type>(kind, values)?,
        LogicalType::I32 => integers::<Int32Type>(kind, values)?,
        LogicalType::I64 => integers::<Int64Type>(kind, values)?,
        LogicalType::U8 => integers::<UInt8Type>(kind, values)?,
        LogicalType::U16 => integers::<UInt16Type>(kind, values)?,
        LogicalType::U32 => integers::<UInt32Type>(kind, values)?,
        LogicalType::U64 => integers::<UInt64Type>(kind, values)?,
        LogicalType::I128 | LogicalType::U128 => {
            let column: PrimitiveArray<Decimal256Type> = each(kind, values, |value| match value {
                Value::UInt128(value) => Some(i256::from_parts(*value, 0)),
                value => integer(value).map(i256::from_i128),
            })?;
            Arc::new(column.with_data_type(data_type(kind)))
        }
        LogicalType::F32 => {
            let column: Float32Array = each(kind, values, |value| match value {
                Value::F32(value) => Some(*value),
                _ => None,
            })?;
            Arc::new(column)
        }
        LogicalType::F64 => {
            let column: Float64Array = each(kind, values, |value| match value {
                Value::F64(value) => Some(*value),
                _ => None,
            })?;
            Arc::new(column)
        }
        LogicalType::Char | LogicalType::String => {
            let text = |value: &'_ &DynamicValue| match value {
                Value::String(text) => Some(text.len()),
                _ => None,
            };
            fits(values.iter().flatten().filter_map(text).sum())?;
            let column: StringArray = each(kind, values, |value| match value {
                Value::String(text) => Some(text.as_str()),
                _ => None,
            })?;
            Arc::new(column)
        }
        LogicalType::Bytes | LogicalType::Opaque(_) => {
            let bytes = |value: &'_ &DynamicValue| match value {
                Value::Bytes(bytes) => Some(bytes.len()),
                _ => None,
            };
            fits(values.iter().flatten().filter_map(bytes).sum())?;
            let column: BinaryArray = each(kind, values, |value| match value {
                Value::Bytes(bytes) => Some(bytes.as_slice()),
                _ => None,
            })?;
            Arc::new(column)
        }
        LogicalType::Decimal { scale, .. } => {
            let column: Decimal128Array = each(kind, values, |value| match value {
                Value::Decimal(number, of) if of == scale => Some(*number),
                _ => None,
            })?;
            Arc::new(column.with_data_type(data_type(kind)))
        }
        LogicalType::Temporal(kind_of_time) => {
            let numbers: Int64Array = each(kind, values, |value| match value {
                Value::Temporal(number, of) if of == kind_of_time => Some(*number),
                _ => None,
            })?;
            times::array(*kind_of_time, &numbers).map_err(unfit)?
        }
        LogicalType::Option(inner) | LogicalType::Named { inner, .. } => array(inner, values)?,
        LogicalType::List(element) => lists(kind, element, values)?,
        LogicalType::Map(key, value) if is_map_key(key) => maps(kind, (key, value), values)?,
        LogicalType::Tuple(_) | LogicalType::Struct { .. } => structs(kind, values)?,
        LogicalType::Enum { variants, .. } => match held_variants(variants) {
            Some(held) => enums(kind, &held, values)?,
            None => {
                let column: StringArray = each(kind, values, |value| match value {
                    Value::Variant(name, _) => Some(name.to_string()),
                    _ => None,
                })?;
                Arc::new(column)
            }
        },
        _ => {
            // Bytes take twice the room as text.
            let shown: Vec<Option<String>> = each(kind, values, |value| Some(value.to_string()))?;
            fits(shown.iter().flatten().map(String::len).sum())?;
            Arc::new(StringArray::from(shown))
        }
    })
}

/// What a value is as the element of a column; nothing is null.
fn each<'a, T, C: FromIterator<Option<T>>>(
    kind: &LogicalType,
    values: &[Option<&'a DynamicValue>],
    get: impl Fn(&'a DynamicValue) -> Option<T>,
) -> Result<C, StateError> {
    let element = |value: &Option<&'a DynamicValue>| match value {
        None | Some(DynamicValue::Null) => Ok(None),
        Some(value) => get(value).map(Some).ok_or_else(|| unlike(kind, value)),
    };
    values.iter().map(element).collect()
}

fn unlike(kind: &LogicalType, value: &DynamicValue) -> StateError {
    let mut shown = value.to_string();
    if let Some((end, _)) = shown.char_indices().nth(80) {
        shown.truncate(end);
        shown.push('…');
    }
    StateError::Corrupt(format!("a value of type {kind} is expected, found {shown}"))
}

/// Arrow counts the bytes and elements of a piece in 31 bits.
fn fits(total: usize) -> Result<(), StateError> {
    match i32::try_from(total) {
        Ok(_) => Ok(()),
        Err(_) => Err(StateError::Limit(format!(
            "rows that are read together hold {total} bytes or elements in one column, more than the {} that SQL takes",
            i32::MAX
        ))),
    }
}

fn integer(value: &DynamicValue) -> Option<i128> {
    match value {
        DynamicValue::Int(value) => Some((*value).into()),
        DynamicValue::UInt(value) => Some((*value).into()),
        DynamicValue::Int128(value) => Some(*value),
        DynamicValue::UInt128(value) => i128::try_from(*value).ok(),
        _ => None,
    }
}

fn integers<T>(kind: &LogicalType, values: &[Option<&DynamicValue>]) -> Result<ArrayRef, StateError>
where
    T: ArrowPrimitiveType,
    T::Native: TryFrom<i128>,
    PrimitiveArray<T>: FromIterator<Option<T::Native>>,
{
    let column: PrimitiveArray<T> = each(kind, values, |value| {
        T::Native::try_from(integer(value)?).ok()
    })?;
    Ok(Arc::new(column))
}

/// Elements of all lists one after the other, how many each has, and which lists there are.
type Flat<T> = (Vec<T>, Vec<usize>, NullBuffer);

fn flat<'a, T: 'a>(
    kind: &LogicalType,
    values: &[Option<&'a DynamicValue>],
    elements: impl Fn(&'a DynamicValue) -> Option<&'a [T]>,
) -> Result<Flat<&'a T>, StateError> {
    let mut all = Vec::new();
    let mut lengths = Vec::with_capacity(values.len());
    let mut there = Vec::with_capacity(values.len());
    for value in values {
        let list = match value {
            None | Some(DynamicValue::Null) => None,
            Some(value) => Some(elements(value).ok_or_else(|| unlike(kind, value))?),
        };
        lengths.push(list.map_or(0, <[T]>::len));
        there.push(list.is_some());
        all.extend(list.unwrap_or_default());
    }
    fits(all.len())?;
    Ok((all, lengths, NullBuffer::from(there)))
}

fn lists(
    kind: &LogicalType,
    element: &LogicalType,
    values: &[Option<&DynamicValue>],
) -> Result<ArrayRef, StateError> {
    let (elements, lengths, there) = flat(kind, values, |value| match value {
        DynamicValue::List(elements) => Some(elements.as_slice()),
        _ => None,
    })?;
    let elements: Vec<Option<&DynamicValue>> = elements.into_iter().map(Some).collect();
    let lists = ListArray::try_new(
        item("item", element),
        OffsetBuffer::from_lengths(lengths),
        array(element, &elements)?,
        Some(there),
    );
    Ok(Arc::new(lists.map_err(unfit)?))
}

fn maps(
    kind: &LogicalType,
    (key, value): (&LogicalType, &LogicalType),
    values: &[Option<&DynamicValue>],
) -> Result<ArrayRef, StateError> {
    let (entries, lengths, there) = flat(kind, values, |value| match value {
        DynamicValue::Map(entries) => Some(entries.as_slice()),
        _ => None,
    })?;
    let keys: Vec<Option<&DynamicValue>> = entries.iter().map(|(key, _)| Some(key)).collect();
    let held: Vec<Option<&DynamicValue>> = entries.iter().map(|(_, value)| Some(value)).collect();
    let field = entries_field(key, value);
    let DataType::Struct(fields) = field.data_type() else {
        return Err(StateError::Usage(
            "the entries of a map are no struct".into(),
        ));
    };
    let columns = vec![array(key, &keys)?, array(value, &held)?];
    let entries = StructArray::try_new(fields.clone(), columns, None).map_err(unfit)?;
    let offsets = OffsetBuffer::from_lengths(lengths);
    let maps = MapArray::try_new(field, offsets, entries, Some(there), false);
    Ok(Arc::new(maps.map_err(unfit)?))
}

fn structs(kind: &LogicalType, values: &[Option<&DynamicValue>]) -> Result<ArrayRef, StateError> {
    let parts = parts_of(kind);
    if parts.is_empty() {
        return Ok(Arc::new(NullArray::new(values.len())));
    }
    let there = there(kind, values, |value| match value {
        DynamicValue::Struct(_) => true,
        DynamicValue::List(elements) => elements.len() == parts.len(),
        _ => false,
    })?;
    let columns = parts.iter().enumerate().map(|(at, part)| {
        let column: Vec<Option<&DynamicValue>> = values
            .iter()
            .map(|value| match value {
                Some(DynamicValue::Struct(fields)) => named(fields, at, &part.name),
                Some(DynamicValue::List(elements)) => elements.get(at),
                _ => None,
            })
            .collect();
        array(&part.kind, &column)
    });
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    let structs = StructArray::try_new(fields(&parts), columns, Some(there));
    Ok(Arc::new(structs.map_err(unfit)?))
}

/// A field, which is where it should be unless the value was written before the type had all of its fields.
fn named<'a>(
    fields: &'a [(Arc<str>, DynamicValue)],
    at: usize,
    name: &str,
) -> Option<&'a DynamicValue> {
    let is_named = |field: &&(Arc<str>, DynamicValue)| &*field.0 == name;
    let found = fields.get(at).filter(is_named);
    let found = found.or_else(|| fields.iter().find(is_named));
    found.map(|(_, value)| value)
}

fn enums(
    kind: &LogicalType,
    held: &[Part],
    values: &[Option<&DynamicValue>],
) -> Result<ArrayRef, StateError> {
    let there = there(kind, values, |value| {
        matches!(value, DynamicValue::Variant(..))
    })?;
    let names: StringArray = each(kind, values, |value| match value {
        DynamicValue::Variant(name, _) => Some(name.to_string()),
        _ => None,
    })?;
    let mut columns: Vec<ArrayRef> = vec![Arc::new(names)];
    for variant in held {
        let column: Vec<Option<&DynamicValue>> = values
            .iter()
            .map(|value| match value {
                Some(DynamicValue::Variant(name, value)) if *name == variant.name => Some(&**value),
                _ => None,
            })
            .collect();
        columns.push(array(&variant.kind, &column)?);
    }
    let enums = StructArray::try_new(variant_fields(held), columns, Some(there));
    Ok(Arc::new(enums.map_err(unfit)?))
}

/// Which values there are; an error if one of them is not of the type.
fn there(
    kind: &LogicalType,
    values: &[Option<&DynamicValue>],
    is_of_type: impl Fn(&DynamicValue) -> bool,
) -> Result<NullBuffer, StateError> {
    let there = values.iter().map(|value| match value {
        None | Some(DynamicValue::Null) => Ok(false),
        Some(value) if is_of_type(value) => Ok(true),
        Some(value) => Err(unlike(kind, value)),
    });
    Ok(NullBuffer::from(there.collect::<Result<Vec<bool>, _>>()?))
}

fn unfit(error: arrow::error::ArrowError) -> StateError {
    StateError::Corrupt(format!("values do not make up a column: {error}"))
}

#[cfg(test)]
mod tests;
