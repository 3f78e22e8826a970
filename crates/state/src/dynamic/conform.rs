//! Making values that were written by an older type look like those of the newest one.
//!
//! The time grows with the value and no faster, and recursion is bounded, whatever type and value say.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{DynamicValue, Field, LogicalType};

/// A value as one of this type: fields in the order of their declaration, those that are lacking as null, those that the type has no more after
/// them; numbers as wide as the type says. What does not fit stays as it is.
pub(super) fn conform(kind: &LogicalType, value: DynamicValue) -> DynamicValue {
    let mut conforming = Conforming {
        around: Vec::new(),
        steps: 0,
    };
    conforming.value(kind, value)
}

/// Types within types, and values within values, that are gone into.
const STEPS_MAX: usize = 512;

/// Brings a value and those within it to their types.
struct Conforming<'t> {
    /// Types around the present place that may be meant within, with their names.
    around: Vec<(&'t str, &'t LogicalType)>,
    /// How deep it is: a forged type may be made of nothing but itself.
    steps: usize,
}

impl<'t> Conforming<'t> {
    fn value(&mut self, kind: &'t LogicalType, value: DynamicValue) -> DynamicValue {
        if self.steps == STEPS_MAX {
            return value;
        }
        self.steps += 1;
        let value = self.within(kind, value);
        self.steps -= 1;
        value
    }

    /// A value of a type that may be meant within itself.
    fn named(
        &mut self,
        (name, kind): (&'t str, &'t LogicalType),
        inner: impl FnOnce(&mut Self) -> DynamicValue,
    ) -> DynamicValue {
        self.around.push((name, kind));
        let value = inner(self);
        self.around.pop();
        value
    }

    fn within(&mut self, kind: &'t LogicalType, value: DynamicValue) -> DynamicValue {
        use DynamicValue as Value;
        match (kind, value) {
            (LogicalType::Option(_), Value::Null) => Value::Null,
            (LogicalType::Option(inner), value) => self.value(inner, value),
            (LogicalType::Named { name, inner }, value) => {
                self.named((name, kind), |this| this.value(inner, value))
            }
            (LogicalType::Again(name), value) => {
                let found = self.around.iter().rposition(|(known, _)| *known == &**name);
                let Some(at) = found else { return value };
                // What is around that type is around it here, too, and nothing else.
                let within = self.around.split_off(at);
                let value = match within.first() {
                    Some((_, again)) => self.value(again, value),
                    None => value,
                };
                self.around.truncate(at);
                self.around.extend(within);
                value
            }
            (LogicalType::Struct { name, fields }, Value::Struct(found)) => {
                self.named((name, kind), |this| this.fields(fields, found))
            }
            (LogicalType::Enum { name, variants }, Value::Variant(variant, value)) => {
                let known = variants.iter().find(|known| known.name == variant);
                let value = match known {
                    Some(known) => {
                        let inner = |this: &mut Self| this.value(&known.kind, *value);
                        Box::new(self.named((name, kind), inner))
                    }
                    None => value,
                };
                Value::Variant(variant, value)
            }
            (LogicalType::List(element), Value::List(values)) => {
                let values = values.into_iter();
                Value::List(values.map(|value| self.value(element, value)).collect())
            }
            (LogicalType::Bytes, Value::List(values)) => bytes_of(values),
            (LogicalType::Tuple(kinds), Value::List(values)) if kinds.len() == values.len() => {
                let pairs = kinds.iter().zip(values);
                Value::List(pairs.map(|(kind, value)| self.value(kind, value)).collect())
            }
            (LogicalType::Map(key, value), Value::Map(entries)) => {
                let entries = entries.into_iter();
                let entries = entries.map(|(k, v)| (self.value(key, k), self.value(value, v)));
                Value::Map(entries.collect())
            }
            (kind, value) => number(kind, value),
        }
    }

    /// Each field once, in time that grows with their number and no faster.
    fn fields(
        &mut self,
        fields: &'t [Field],
        found: Vec<(Arc<str>, DynamicValue)>,
    ) -> DynamicValue {
        let mut ordered = Vec::with_capacity(fields.len().max(found.len()));
        let mut found: Vec<Option<(Arc<str>, DynamicValue)>> =
            found.into_iter().map(Some).collect();
        // Of fields that are not where they are declared: of several of one name the first.
        let mut places: Option<BTreeMap<Arc<str>, usize>> = None;
        for (at, field) in fields.iter().enumerate() {
            let here = found.get(at).and_then(Option::as_ref);
            let place = match here.is_some_and(|(name, _)| *name == field.name) {
                true => Some(at),
                false => {
                    let places = places.get_or_insert_with(|| {
                        let named = found.iter().enumerate().rev();
                        let named = named.filter_map(|(at, field)| {
                            field.as_ref().map(|(name, _)| (Arc::clone(name), at))
                        });
                        named.collect()
                    });
                    places.get(&field.name).copied()
                }
            };
            let value = place.and_then(|at| found.get_mut(at)?.take());
            let value = match value {
                Some((_, value)) => self.value(&field.kind, value),
                None => DynamicValue::Null,
            };
            ordered.push((Arc::clone(&field.name), value));
        }
        ordered.extend(found.into_iter().flatten());
        DynamicValue::Struct(ordered)
    }
}

/// A number as wide as the type says, if it is one.
fn number(kind: &LogicalType, value: DynamicValue) -> DynamicValue {
    use DynamicValue as Value;
    match (kind, value) {
        (
            LogicalType::I8 | LogicalType::I16 | LogicalType::I32 | LogicalType::I64,
            Value::UInt(number),
        ) => i64::try_from(number).map_or(Value::UInt(number), Value::Int),
        (LogicalType::I128, Value::UInt(number)) => Value::Int128(number.into()),
        (LogicalType::I128, Value::Int(number)) => Value::Int128(number.into()),
        (LogicalType::I128, Value::UInt128(number)) => {
            i128::try_from(number).map_or(Value::UInt128(number), Value::Int128)
        }
        (LogicalType::U128, Value::UInt(number)) => Value::UInt128(number.into()),
        (LogicalType::F64, Value::F32(number)) => Value::F64(number.into()),
        // Columns of whole numbers may become floats that hold all of them.
        (LogicalType::F64, Value::Int(number)) => Value::F64(number as f64),
        (LogicalType::F64, Value::UInt(number)) => Value::F64(number as f64),
        (LogicalType::F32, Value::Int(number)) => Value::F32(number as f32),
        (LogicalType::F32, Value::UInt(number)) => Value::F32(number as f32),
        (_, value) => value,
    }
}

/// Elements as bytes, if all of them are.
fn bytes_of(values: Vec<DynamicValue>) -> DynamicValue {
    let byte = |value: &DynamicValue| match value {
        DynamicValue::UInt(number) => u8::try_from(*number).ok(),
        _ => None,
    };
    match values.iter().map(byte).collect() {
        Some(bytes) => DynamicValue::Bytes(bytes),
        None => DynamicValue::List(values),
    }
}
