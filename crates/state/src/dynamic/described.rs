//! What serializers say of values, as types: shapes of serde types and schemas of Arrow rows.

use std::sync::Arc;

use super::{Field, LogicalType};
use crate::StateError;
use crate::encoding::Reader;
use crate::serializer::shape::{Content, Shape};
use crate::serializer::{SerializerSnapshot, postcard_shape};

/// Columns of a schema at most, and schemas of a state.
const COLUMNS_MAX: usize = 1 << 14;

impl LogicalType {
    /// A serde type. Structs that wrap one value are that value, because serde formats write them so.
    pub(super) fn of_shape(shape: &Shape) -> Self {
        let boxed = |inner: &Shape| Box::new(Self::of_shape(inner));
        match shape {
            Shape::Bool => Self::Bool,
            Shape::I8 => Self::I8,
            Shape::I16 => Self::I16,
            Shape::I32 => Self::I32,
            Shape::I64 => Self::I64,
            Shape::I128 => Self::I128,
            Shape::U8 => Self::U8,
            Shape::U16 => Self::U16,
            Shape::U32 => Self::U32,
            Shape::U64 => Self::U64,
            Shape::U128 => Self::U128,
            Shape::F32 => Self::F32,
            Shape::F64 => Self::F64,
            Shape::Char => Self::Char,
            Shape::Str => Self::String,
            Shape::Bytes => Self::Bytes,
            Shape::Unit => Self::Unit,
            Shape::Option(inner) => Self::Option(boxed(inner)),
            Shape::List(element) => Self::list_of(Self::of_shape(element)),
            Shape::Map(key, value) => Self::Map(boxed(key), boxed(value)),
            Shape::Tuple(parts) => Self::Tuple(parts.iter().map(Self::of_shape).collect()),
            Shape::Struct { name, content } => match Self::of_content(name, content) {
                fields @ Self::Struct { .. } => fields,
                inner if inner.mentions(name) => Self::Named {
                    name: name.as_str().into(),
                    inner: Box::new(inner),
                },
                inner => inner,
            },
            Shape::Enum { name, variants } => Self::Enum {
                name: name.as_str().into(),
                variants: variants
                    .iter()
                    .map(|variant| Field {
                        name: variant.name.as_str().into(),
                        kind: Self::of_content("", &variant.content),
                    })
                    .collect(),
            },
            Shape::Again(name) => Self::Again(name.as_str().into()),
        }
    }

    fn of_content(name: &str, content: &Content) -> Self {
        match content {
            Content::Unit => Self::Unit,
            Content::Newtype(inner) => Self::of_shape(inner),
            Content::Tuple(parts) => Self::Tuple(parts.iter().map(Self::of_shape).collect()),
            Content::Fields(fields) => Self::Struct {
                name: name.into(),
                fields: fields
                    .iter()
                    .map(|field| Field {
                        name: field.name.as_str().into(),
                        kind: Self::of_shape(&field.shape),
                    })
                    .collect(),
            },
        }
    }

    /// Whether the type of this name is meant somewhere within.
    fn mentions(&self, name: &str) -> bool {
        match self {
            Self::Again(again) => &**again == name,
            Self::Option(inner) | Self::List(inner) | Self::Named { inner, .. } => {
                inner.mentions(name)
            }
            Self::Map(key, value) => key.mentions(name) || value.mentions(name),
            Self::Tuple(parts) => parts.iter().any(|part| part.mentions(name)),
            Self::Struct { fields, .. } => fields.iter().any(|field| field.kind.mentions(name)),
            Self::Enum { variants, .. } => variants.iter().any(|field| field.kind.mentions(name)),
            _ => false,
        }
    }
}

/// The type of values in postcard's format.
pub(super) fn of_postcard(snapshot: &SerializerSnapshot) -> Option<LogicalType> {
    postcard_shape(snapshot).map(|shape| LogicalType::of_shape(&shape))
}

/// The type of bare values: the name of a plain type.
pub(super) fn of_plain(snapshot: &SerializerSnapshot) -> Option<LogicalType> {
    let name = std::str::from_utf8(&snapshot.payload).ok()?;
    let shape = (snapshot.version == 1).then(|| Shape::parse(name).ok())??;
    match LogicalType::of_shape(&shape) {
        kind @ (LogicalType::Bool
        | LogicalType::I8
        | LogicalType::I16
        | LogicalType::I32
        | LogicalType::I64
        | LogicalType::I128
        | LogicalType::U8
        | LogicalType::U16
        | LogicalType::U32
        | LogicalType::U64
        | LogicalType::U128
        | LogicalType::F32
        | LogicalType::F64
        | LogicalType::String
        | LogicalType::Bytes) => Some(kind),
        _ => None,
    }
}

/// The type of self-describing values, and the names that they mean by number.
pub(super) fn of_tagged(snapshot: &SerializerSnapshot) -> Option<(LogicalType, Vec<Arc<str>>)> {
    if snapshot.version != 1 {
        return None;
    }
    let read = || -> Result<_, StateError> {
        let mut reader = Reader::new("snapshot of a self-describing type", &snapshot.payload);
        let _ = reader.text()?;
        let kind = match reader.text()?.as_str() {
            // The type could not be found out; values say themselves what they are.
            "" => LogicalType::Any,
            shape => LogicalType::of_shape(&Shape::parse(shape)?),
        };
        let mut names = reader.list(8)?;
        for _ in 0..names.count {
            names.items.push(Arc::from(reader.text()?));
        }
        reader.end()?;
        Ok((kind, names.items))
    };
    read().ok()
}

/// A column of Arrow rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: Arc<str>,
    pub(super) kind: LogicalType,
}

/// The type of Arrow rows, which is that of the last schema, and all schemas.
pub(super) fn of_arrow_rows(
    snapshot: &SerializerSnapshot,
) -> Option<(LogicalType, Vec<Vec<Column>>)> {
    if snapshot.version != 1 {
        return None;
    }
    let read = || -> Result<_, StateError> {
        let mut reader = Reader::new("schemas of rows", &snapshot.payload);
        let mut schemas = reader.list::<Vec<Column>>(8)?;
        for _ in 0..schemas.count.min(COLUMNS_MAX) {
            let mut columns = reader.list::<Column>(17)?;
            for _ in 0..columns.count.min(COLUMNS_MAX) {
                let name = reader.text()?;
                let kind = reader.text()?;
                reader.flag()?;
                let kind = LogicalType::of_column(&kind);
                columns.items.push(Column {
                    name: name.into(),
                    kind: kind.ok_or_else(|| reader.wrong("a type is not known"))?,
                });
            }
            schemas.items.push(columns.items);
        }
        reader.end()?;
        Ok(schemas.items)
    };
    let schemas = read().ok()?;
    let fields = schemas.last()?.iter().map(|column| Field {
        name: Arc::clone(&column.name),
        // Columns that came later are null in older rows.
        kind: LogicalType::Option(Box::new(column.kind.clone())),
    });
    let kind = LogicalType::Struct {
        name: "row".into(),
        fields: fields.collect(),
    };
    Some((kind, schemas))
}
