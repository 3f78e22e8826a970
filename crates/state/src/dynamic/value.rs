//! A value whose type was not known when this program was compiled.

use std::sync::Arc;

use super::Temporal;

/// A value of state. Parts have the names that their program gives them.
#[derive(Clone, Debug, PartialEq)]
pub enum DynamicValue {
    /// `None`, `()`, or what has no fields.
    Null,
    /// A truth value.
    Bool(bool),
    /// A whole number of at most 64 bits with a sign.
    Int(i64),
    /// A whole number of at most 64 bits without a sign.
    UInt(u64),
    /// A whole number of 128 bits with a sign.
    Int128(i128),
    /// A whole number of 128 bits without a sign.
    UInt128(u128),
    /// A float of 32 bits.
    F32(f32),
    /// A float of 64 bits.
    F64(f64),
    /// A number with so many digits behind the point.
    Decimal(i128, i8),
    /// A date or time, counted as its type says.
    Temporal(i64, Temporal),
    /// Text.
    String(String),
    /// Bytes, or what is not understood.
    Bytes(Vec<u8>),
    /// Elements of a sequence or a tuple.
    List(Vec<DynamicValue>),
    /// Entries in the order in which they were written.
    Map(Vec<(DynamicValue, DynamicValue)>),
    /// Fields in the order in which they were declared.
    Struct(Vec<(Arc<str>, DynamicValue)>),
    /// A variant of an enum, and what it holds; [`Self::Null`] if that is nothing.
    Variant(Arc<str>, Box<DynamicValue>),
}

impl DynamicValue {
    /// A field of a struct.
    pub fn field(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Struct(fields) => fields
                .iter()
                .find(|(known, _)| &**known == name)
                .map(|(_, value)| value),
            _ => None,
        }
    }

    /// What it is, for messages.
    pub(super) fn what(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "a truth value",
            Self::Int(_) | Self::UInt(_) | Self::Int128(_) | Self::UInt128(_) => "a whole number",
            Self::F32(_) | Self::F64(_) => "a float",
            Self::Decimal(..) => "a decimal",
            Self::Temporal(..) => "a date or time",
            Self::String(_) => "text",
            Self::Bytes(_) => "bytes",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
            Self::Struct(_) => "a struct",
            Self::Variant(..) => "a variant of an enum",
        }
    }
}
