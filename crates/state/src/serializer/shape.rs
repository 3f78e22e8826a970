//! The shape of a serde type: what its fields and variants are called and of which types they are, all the way down.
//!
//! postcard writes no names and no types, so bytes of a struct whose fields have changed decode to nonsense or to an error much later. A
//! checkpoint therefore keeps the shape of what was written, as text: verdicts compare it, and whoever has only the checkpoint
//! can decode values by it. The text is in `docs/format/serializers.md`; [`Shape::parse`] reads it and trusts nothing.

mod compare;
mod parse;
mod text;
mod trace;

pub(crate) use self::compare::{Probe, readable_by_name, refusal, same_bytes};
pub(crate) use self::text::shortened;
pub(crate) use self::trace::{Identify, Step, Traced, trace};

/// What a type looks like to serde.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `bool`
    Bool,
    /// `i8`
    I8,
    /// `i16`
    I16,
    /// `i32`
    I32,
    /// `i64`
    I64,
    /// `i128`
    I128,
    /// `u8`
    U8,
    /// `u16`
    U16,
    /// `u32`
    U32,
    /// `u64`
    U64,
    /// `u128`
    U128,
    /// `f32`
    F32,
    /// `f64`
    F64,
    /// `char`
    Char,
    /// Text of any length.
    Str,
    /// Bytes of any length (`serde_bytes`; a `Vec<u8>` is a list of `u8`).
    Bytes,
    /// `()`; also tuples and arrays without elements.
    Unit,
    /// `Option`
    Option(Box<Shape>),
    /// Any number of elements of one type.
    List(Box<Shape>),
    /// Any number of keys with values.
    Map(Box<Shape>, Box<Shape>),
    /// A fixed number of elements, each of its own type: tuples and arrays.
    Tuple(Vec<Shape>),
    /// A struct of any kind.
    Struct {
        /// As serde calls it.
        name: String,
        /// Its fields.
        content: Content,
    },
    /// An enum.
    Enum {
        /// As serde calls it.
        name: String,
        /// In the order of their numbers.
        variants: Vec<Variant>,
    },
    /// The nearest struct or enum around this place that has this name: the type contains itself.
    Again(String),
}

/// What a struct or a variant consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Nothing.
    Unit,
    /// One value, whose bytes are all there is.
    Newtype(Box<Shape>),
    /// Fields without names.
    Tuple(Vec<Shape>),
    /// Fields with names, in the order of the program.
    Fields(Vec<Field>),
}

/// A field with a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// As serde calls it.
    pub name: String,
    /// Its type.
    pub shape: Shape,
}

/// A variant of an enum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variant {
    /// As serde calls it.
    pub name: String,
    /// What belongs to it.
    pub content: Content,
}

impl Shape {
    /// Bytes of a shape's text at most; a larger type is treated as one whose shape cannot be found out.
    pub const TEXT_BYTES_MAX: usize = 1 << 16;
    /// Types within types at most.
    pub const DEPTH_MAX: usize = 64;

    /// Types that are their name, with it.
    const PLAIN: [(Shape, &'static str); 16] = [
        (Self::Bool, "bool"),
        (Self::I8, "i8"),
        (Self::I16, "i16"),
        (Self::I32, "i32"),
        (Self::I64, "i64"),
        (Self::I128, "i128"),
        (Self::U8, "u8"),
        (Self::U16, "u16"),
        (Self::U32, "u32"),
        (Self::U64, "u64"),
        (Self::U128, "u128"),
        (Self::F32, "f32"),
        (Self::F64, "f64"),
        (Self::Char, "char"),
        (Self::Str, "str"),
        (Self::Bytes, "bytes"),
    ];

    /// The shape without structs that only wrap one value: serde formats here write no bytes for them.
    pub fn unwrapped(&self) -> &Self {
        let mut shape = self;
        while let Self::Struct {
            content: Content::Newtype(inner),
            ..
        } = shape
        {
            shape = inner;
        }
        shape
    }
}

#[cfg(test)]
mod tests;
