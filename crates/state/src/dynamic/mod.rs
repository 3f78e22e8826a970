//! Values of state without the program that wrote them.
//!
//! A checkpoint says of every state how its keys and values became bytes ([`SerializerSnapshot`]). A [`DynamicType`] is that, understood: it
//! turns bytes into a [`DynamicValue`], which shows itself as JSON and whose parts have names. Operators that lay out rows themselves, as SQL's
//! do, say so by [`RowColumn`]s. What is not understood (keys and serializers of the user's own) is bytes, and the type says how
//! its writer called their layout.
//!
//! Bytes may be hostile: they are an error ([`StateError::Corrupt`]) or a value, never a panic, and no value takes more memory than a bounded
//! multiple of its bytes. Types are bounded in depth where they are parsed.

mod budget;
mod columns;
mod conform;
mod described;
mod json;
mod key;
mod logical;
mod plain;
mod positional;
mod tagged;
mod temporal;
mod text;
mod value;

use std::sync::Arc;

use self::budget::Budget;
pub use self::columns::{ColumnForm, RowColumn};
pub use self::logical::{Field, LogicalType};
pub use self::temporal::{Temporal, TimeUnit};
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
#[derive(Clone, Debug, PartialEq, Eq)]
enum Encoding {
    /// Nothing is written.
    Void,
    /// Bytes that sort like the values (`crate::ordered`).
    Ordered,
    /// postcard's format, version 1.
    Postcard,
    /// Each value says what it is; names are meant by number.
    Tagged(Arc<[Arc<str>]>),
    /// Nothing but the value.
    Plain,
    /// A byte that says whether a value follows.
    Nullable(Box<DynamicType>),
    /// Rows of columns, each of one of these schemas.
    ArrowRows(Arc<[Vec<described::Column>]>),
    /// Columns as their operator lays them out.
    Columns(Arc<[RowColumn]>),
    /// Not understood.
    Bytes,
}

/// Snapshots of serializers within snapshots.
const DEPTH_MAX: usize = 8;

impl DynamicType {
    /// What the serializer of values, elements or accumulators said of itself. What is not understood is bytes.
    pub fn parse(snapshot: &SerializerSnapshot) -> Self {
        Self::known_or_bytes(Self::described(snapshot, 0), snapshot)
    }

    fn described(snapshot: &SerializerSnapshot, depth: usize) -> Option<(Encoding, LogicalType)> {
        match snapshot.encoding.as_str() {
            "void" => Some((Encoding::Void, LogicalType::Unit)),
            "postcard-1" => {
                described::of_postcard(snapshot).map(|logical| (Encoding::Postcard, logical))
            }
            "tagged-1" => described::of_tagged(snapshot)
                .map(|(logical, names)| (Encoding::Tagged(names.into()), logical)),
            "plain-1" => described::of_plain(snapshot).map(|logical| (Encoding::Plain, logical)),
            "arrow-row-1" => described::of_arrow_rows(snapshot)
                .map(|(logical, schemas)| (Encoding::ArrowRows(schemas.into()), logical)),
            "columns-1" => columns::parse(snapshot)
                .map(|(columns, logical)| (Encoding::Columns(columns.into()), logical)),
            "nullable-1" if snapshot.version == 1 && depth < DEPTH_MAX => {
                let inner = SerializerSnapshot::decode(&snapshot.payload).ok()?;
                let (encoding, logical) = Self::described(&inner, depth + 1)?;
                let optional = LogicalType::Option(Box::new(logical.clone()));
                let inner = Self { encoding, logical };
                Some((Encoding::Nullable(Box::new(inner)), optional))
            }
            _ => None,
        }
    }

    /// What was said of keys, namespaces or user keys.
    pub fn parse_key(snapshot: &SerializerSnapshot) -> Self {
        let known = match snapshot.encoding.as_str() {
            "opaque" => std::str::from_utf8(&snapshot.payload)
                .ok()
                .and_then(LogicalType::of_key_type)
                .map(|logical| (Encoding::Ordered, logical)),
            // Keys of broadcast maps may be written by any serializer.
            _ => Self::described(snapshot, 0),
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
        matches!(
            self.encoding,
            Encoding::Void | Encoding::Ordered | Encoding::Columns(_)
        )
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
        let budget = &mut budget;
        match &self.encoding {
            Encoding::Void => Ok(DynamicValue::Null),
            Encoding::Ordered => key::take(&self.logical, input, budget),
            Encoding::Postcard => positional::take(&self.logical, input, budget),
            Encoding::Tagged(names) => {
                let value = tagged::take(names, input, budget)?;
                Ok(conform::conform(&self.logical, value))
            }
            Encoding::ArrowRows(schemas) => {
                let row = plain::take_row(schemas, input, budget)?;
                Ok(conform::conform(&self.logical, row))
            }
            Encoding::Columns(columns) => columns::take(columns, input, budget),
            Encoding::Plain => plain::whole(&self.logical, std::mem::take(input)),
            Encoding::Nullable(inner) => match positional::byte(input)? {
                0 => Ok(DynamicValue::Null),
                1 => inner.take(input),
                other => Err(StateError::Corrupt(format!(
                    "a value that may be null begins with {other}, expected 0 or 1"
                ))),
            },
            Encoding::Bytes => Ok(DynamicValue::Bytes(std::mem::take(input).to_vec())),
        }
    }

    /// The bytes of a key, namespace or user key as they stand in rows.
    pub fn encode_key(&self, value: &DynamicValue) -> Result<Vec<u8>, StateError> {
        let mut out = Vec::new();
        match (&self.encoding, value) {
            (Encoding::Void, DynamicValue::Null) => {}
            (Encoding::Bytes, DynamicValue::Bytes(bytes)) => out.extend_from_slice(bytes),
            (Encoding::Ordered, value) => key::encode(&self.logical, value, &mut out)?,
            (Encoding::Columns(columns), value) => columns::encode_key(columns, value, &mut out)?,
            (Encoding::Plain, DynamicValue::String(text)) => out.extend_from_slice(text.as_bytes()),
            _ => return Err(key::mismatch(&self.logical, value)),
        }
        Ok(out)
    }

    /// The key group of a key, if its type is one of which every program computes it alike: keys of a type of the user's own may lie in any.
    pub fn key_group(&self, key: &DynamicValue, max_parallelism: u16) -> Option<u16> {
        let hash = match &self.encoding {
            Encoding::Ordered => key::hash_code(&self.logical, key)?,
            Encoding::Columns(columns) => {
                let hash = xxhash_rust::xxh3::xxh3_64(&columns::encode_hashed(columns, key)?);
                ((hash >> 32) as u32 ^ hash as u32) as i32
            }
            _ => return None,
        };
        Some(crate::key_group::assign_to_key_group(hash, max_parallelism))
    }

    /// A key written as text: a number, `true`, the characters of a string as they are, `0x` and hexadecimal digits for bytes, a date or time as
    /// ISO 8601 has it, and JSON for what has parts (`["ada", 7]`, `{"auction": 7}`, `null`). Where a string may be null, JSON's quotes work, too.
    /// Of a struct of one field its value is enough.
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
