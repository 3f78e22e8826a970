//! Meanings of shapes: what a checkpoint keeps of serde types.

use super::{Field, LogicalType};
use crate::serializer::shape::{Content, Shape};

impl LogicalType {
    /// The type of this shape; `None` for one that contains itself.
    pub(super) fn of_shape(shape: &Shape) -> Option<Self> {
        let boxed = |shape: &Shape| Some(Box::new(Self::of_shape(shape)?));
        let field = |name: &str, kind| Field {
            name: name.into(),
            kind,
        };
        Some(match shape {
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
            Shape::Option(inner) => Self::Option(boxed(inner)?),
            Shape::List(element) => Self::list_of(Self::of_shape(element)?),
            Shape::Map(key, value) => Self::Map(boxed(key)?, boxed(value)?),
            Shape::Tuple(parts) => {
                Self::Tuple(parts.iter().map(Self::of_shape).collect::<Option<_>>()?)
            }
            Shape::Struct { name, content } => Self::of_content(name, content)?,
            Shape::Enum { name, variants } => {
                let variants = variants.iter().map(|variant| {
                    let kind = Self::of_content(&variant.name, &variant.content)?;
                    Some(field(&variant.name, kind))
                });
                Self::Enum {
                    name: name.as_str().into(),
                    variants: variants.collect::<Option<_>>()?,
                }
            }
            Shape::Again(_) => return None,
        })
    }

    fn of_content(name: &str, content: &Content) -> Option<Self> {
        Some(match content {
            Content::Unit => Self::Unit,
            Content::Newtype(inner) => Self::of_shape(inner)?,
            Content::Tuple(parts) => {
                Self::Tuple(parts.iter().map(Self::of_shape).collect::<Option<_>>()?)
            }
            Content::Fields(fields) => {
                let fields = fields.iter().map(|field| {
                    Some(Field {
                        name: field.name.as_str().into(),
                        kind: Self::of_shape(&field.shape)?,
                    })
                });
                Self::Struct {
                    name: name.into(),
                    fields: fields.collect::<Option<_>>()?,
                }
            }
        })
    }
}
