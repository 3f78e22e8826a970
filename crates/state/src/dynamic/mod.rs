//! Values of state without the program that wrote them.
//!
//! A checkpoint says of every state how its keys and values became bytes ([`SerializerSnapshot`]). A [`DynamicType`] is that, understood: it
//! turns bytes into a [`DynamicValue`], which shows itself as JSON and whose parts have names. What is not understood (rows of SQL's tables, keys
//! and serializers of the user's own) is bytes, and the type says how its writer called their layout.
//!
//! Bytes may be hostile: they are an error ([`StateError::Corrupt`]) or a value, never a panic, and no value takes more memory than a bounded
//! multiple of its bytes. Types are bounded in depth where they are parsed.

mod budget;
mod json;
mod key;
mod logical;
mod positional;
mod shapes;
mod text;
mod value;

use self::budget::Budget;
pub use self::logical::{Field, LogicalType};
pub use self::value::DynamicValue;
use crate::StateError;
use crate::serializer::SerializerSnapshot;

/// How bytes of state are read, and what they mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DynamicType {
    encoding: Encoding,
    logical: LogicalType,
}

/// How values lie in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    /// Nothing is written.
    Void,
    /// Bytes that sort like the values (`crate::ordered`).
    Ordered,
    /// postcard's format, version 1.
    Postcard,
    /// Not understood.
    Bytes,
}

impl DynamicType {
    /// What the serializer of values, elements or accumulators said of itself. What is not understood is bytes.
    pub fn parse(snapshot: &SerializerSnapshot) -> Self {
        let known = match snapshot.encoding.as_str() {
            "void" => Some((Encoding::Void, LogicalType::Unit)),
            "postcard-1" => crate::serializer::postcard_shape(snapshot)
                .and_then(|shape| LogicalType::of_shape(&shape))
                .map(|logical| (Encoding::Postcard, logical)),
            "opaque" => std::str::from_utf8(&snapshot.payload)
                .ok()
                .and_then(|text| text.strip_prefix("postcard-1:"))
                .and_then(LogicalType::of_rust_type)
                .map(|logical| (Encoding::Postcard, logical)),
            _ => None,
        };
        Self::known_or_bytes(known, snapshot)
    }

    /// What was said of keys, namespaces or user keys.
    pub fn parse_key(snapshot: &SerializerSnapshot) -> Self {
        let known = match snapshot.encoding.as_str() {
            "void" => Some((Encoding::Void, LogicalType::Unit)),
            "opaque" => std::str::from_utf8(&snapshot.payload)
                .ok()
                .and_then(LogicalType::of_key_type)
                .map(|logical| (Encoding::Ordered, logical)),
            _ => None,
        };
        Self::known_or_bytes(known, snapshot)
    }

    fn known_or_bytes(
        known: Option<(Encoding, LogicalType)>,
        snapshot: &SerializerSnapshot,
    ) -> Self {
        match known {
            Some((encoding, logical)) => Self { encoding, logical },
            None => Self::bytes(&snapshot.describe()),
        }
    }

    /// Bytes that are not understood; `layout` is what their writer calls them.
    pub fn bytes(layout: &str) -> Self {
        Self {
            encoding: Encoding::Bytes,
            logical: LogicalType::Opaque(layout.into()),
        }
    }

    /// A whole number that is not in the bytes of a state, such as the time of a timer.
    pub(crate) fn integer() -> Self {
        Self {
            encoding: Encoding::Ordered,
            logical: LogicalType::I64,
        }
    }

    /// What the values mean.
    pub fn logical(&self) -> &LogicalType {
        &self.logical
    }

    /// Whether nothing is written at all: a state without namespaces has such ones.
    pub fn is_void(&self) -> bool {
        self.encoding == Encoding::Void
    }

    /// Whether the values are understood, and not bytes.
    pub fn is_understood(&self) -> bool {
        self.encoding != Encoding::Bytes
    }

    /// Whether a value can be taken off the front of a row's key, because it ends by itself.
    pub(crate) fn ends_by_itself(&self) -> bool {
        matches!(self.encoding, Encoding::Void | Encoding::Ordered)
    }

    /// The value that these bytes hold, all of them.
    pub fn decode(&self, bytes: &[u8]) -> Result<DynamicValue, StateError> {
        let mut rest = bytes;
        let value = self.take(&mut rest)?;
        if rest.is_empty() {
            return Ok(value);
        }
        Err(StateError::Corrupt(format!(
            "{} bytes of state hold a {} and {} bytes more, expected nothing after it",
            bytes.len(),
            self.logical,
            rest.len()
        )))
    }

    /// Takes a value off the front of `input`; all of it if nothing says where the value ends.
    pub(crate) fn take(&self, input: &mut &[u8]) -> Result<DynamicValue, StateError> {
        let mut budget = Budget::of(input.len());
        match self.encoding {
            Encoding::Void => Ok(DynamicValue::Null),
            Encoding::Ordered => key::take(&self.logical, input, &mut budget),
            Encoding::Postcard => positional::take(&self.logical, input, &mut budget),
            Encoding::Bytes => Ok(DynamicValue::Bytes(std::mem::take(input).to_vec())),
        }
    }

    /// The bytes of a key, namespace or user key as they stand in rows.
    pub fn encode_key(&self, value: &DynamicValue) -> Result<Vec<u8>, StateError> {
        let mut out = Vec::new();
        match (self.encoding, value) {
            (Encoding::Void, DynamicValue::Null) => {}
            (Encoding::Bytes, DynamicValue::Bytes(bytes)) => out.extend_from_slice(bytes),
            (Encoding::Ordered, value) => key::encode(&self.logical, value, &mut out)?,
            _ => return Err(key::mismatch(&self.logical, value)),
        }
        Ok(out)
    }

    /// The key group of a key, if its type is one of which every program computes it alike: keys of a type of the user's own may lie in any.
    pub fn key_group(&self, key: &DynamicValue, max_parallelism: u16) -> Option<u16> {
        let hash = match self.encoding {
            Encoding::Ordered => key::hash_code(&self.logical, key)?,
            _ => return None,
        };
        Some(crate::key_group::assign_to_key_group(hash, max_parallelism))
    }

    /// A key written as text: a number, `true`, the characters of a string as they are, `0x` and hexadecimal digits for bytes, and JSON for what
    /// has parts (`["ada", 7]`, `null`).
    pub fn parse_text(&self, text: &str) -> Result<DynamicValue, StateError> {
        text::parse(&self.logical, text)
    }
}

impl std::fmt::Display for DynamicType {
    /// The type as people write it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.logical.fmt(f)
    }
}

#[cfg(test)]
mod tests;
