//! What values mean, whatever bytes they lie in; and the names by which checkpoints call types of keys.

use std::fmt::{self, Display};
use std::sync::Arc;

use super::temporal::{Temporal, TimeUnit};

/// Digits of a decimal at most.
const PRECISION_MAX: u8 = 38;
/// Types within types; more is not understood.
const DEPTH_MAX: usize = 64;

/// The meaning of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogicalType {
    /// Nothing: `()`, or a struct without fields.
    Unit,
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
    /// One character; values are text.
    Char,
    /// Text.
    String,
    /// Bytes; also a sequence of `u8`.
    Bytes,
    /// A number of so many digits of 128 bits, some of them behind the point.
    Decimal {
        /// All digits.
        precision: u8,
        /// Digits behind the point; below zero, zeros before it.
        scale: i8,
    },
    /// A date or a time.
    Temporal(Temporal),
    /// Something or nothing.
    Option(Box<LogicalType>),
    /// A sequence.
    List(Box<LogicalType>),
    /// Keys and values.
    Map(Box<LogicalType>, Box<LogicalType>),
    /// Parts without names.
    Tuple(Vec<LogicalType>),
    /// Parts with names.
    Struct {
        /// Of the type.
        name: Arc<str>,
        /// In the order of their declaration.
        fields: Vec<Field>,
    },
    /// One of several.
    Enum {
        /// Of the type.
        name: Arc<str>,
        /// In the order of their declaration; one that holds nothing is [`Self::Unit`].
        variants: Vec<Field>,
    },
    /// A type that contains itself, other than a struct or an enum: what is within is all there is.
    Named {
        /// By which it is meant within.
        name: Arc<str>,
        /// What it is.
        inner: Box<LogicalType>,
    },
    /// The nearest type around this place that has this name: it contains itself.
    Again(Arc<str>),
    /// Each value says itself what it is.
    Any,
    /// Not understood: bytes, with what their writer calls them.
    Opaque(Arc<str>),
}

/// Types of columns that have a name of one word; of two names of a type the first is written.
static COLUMNS: [(&str, LogicalType); 18] = [
    ("Null", LogicalType::Unit),
    ("Boolean", LogicalType::Bool),
    ("Int8", LogicalType::I8),
    ("Int16", LogicalType::I16),
    ("Int32", LogicalType::I32),
    ("Int64", LogicalType::I64),
    ("UInt8", LogicalType::U8),
    ("UInt16", LogicalType::U16),
    ("UInt32", LogicalType::U32),
    ("UInt64", LogicalType::U64),
    ("Float32", LogicalType::F32),
    ("Float64", LogicalType::F64),
    ("Utf8", LogicalType::String),
    ("LargeUtf8", LogicalType::String),
    ("Binary", LogicalType::Bytes),
    ("LargeBinary", LogicalType::Bytes),
    ("Date32", LogicalType::Temporal(Temporal::Date)),
    // Milliseconds, of which Arrow wants whole days.
    (
        "Date64",
        LogicalType::Temporal(Temporal::Timestamp(TimeUnit::Millisecond)),
    ),
];

/// A field of a struct, or a variant of an enum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: Arc<str>,
    /// What it holds.
    pub kind: LogicalType,
}

impl LogicalType {
    /// The type that a key is said to have (`OrderedKey::type_name`); `None` for one that is not known here.
    pub(super) fn of_key_type(name: &str) -> Option<Self> {
        Names {
            rest: name,
            depth: 0,
        }
        .whole()
    }

    /// Milliseconds on a clock on some wall: the bounds of windows.
    pub fn of_milliseconds() -> Self {
        Self::Temporal(Temporal::Timestamp(TimeUnit::Millisecond))
    }

    /// The type of a column by its name in schemas of rows (`docs/format/serializers.md`).
    pub(super) fn of_column(name: &str) -> Option<Self> {
        if let Some((_, kind)) = COLUMNS.iter().find(|(known, _)| *known == name) {
            return Some(kind.clone());
        }
        let (name, parameters) = name.strip_suffix(')')?.split_once('(')?;
        Some(match name {
            "Time32" | "Time64" => {
                let kind = Temporal::Time(TimeUnit::named(parameters)?);
                let width = if name == "Time32" { 4 } else { 8 };
                (kind.width() == width).then_some(Self::Temporal(kind))?
            }
            "Timestamp" => Self::Temporal(match parameters.split_once(',') {
                Some((unit, _)) => Temporal::Instant(TimeUnit::named(unit)?),
                None => Temporal::Timestamp(TimeUnit::named(parameters)?),
            }),
            "Duration" => Self::Temporal(Temporal::Duration(TimeUnit::named(parameters)?)),
            "Decimal128" => {
                let (precision, scale) = parameters.split_once(',')?;
                let (precision, scale) = (precision.parse().ok()?, scale.trim().parse().ok()?);
                let sane = (1..=PRECISION_MAX).contains(&precision)
                    && i8::unsigned_abs(scale) <= PRECISION_MAX
                    && scale <= precision as i8;
                sane.then_some(Self::Decimal { precision, scale })?
            }
            _ => return None,
        })
    }

    /// Its name in schemas of rows; `None` if rows have no such columns.
    pub(super) fn column_name(&self) -> Option<String> {
        if let Some((name, _)) = COLUMNS.iter().find(|(_, kind)| kind == self) {
            return Some((*name).to_owned());
        }
        Some(match self {
            Self::Decimal { precision, scale } => format!("Decimal128({precision},{scale})"),
            Self::Temporal(kind) => match kind {
                Temporal::Date => "Date32".to_owned(),
                Temporal::Time(unit) if kind.width() == 4 => format!("Time32({})", unit.name()),
                Temporal::Time(unit) => format!("Time64({})", unit.name()),
                Temporal::Timestamp(unit) => format!("Timestamp({})", unit.name()),
                Temporal::Instant(unit) => format!("Timestamp({},UTC)", unit.name()),
                Temporal::Duration(unit) => format!("Duration({})", unit.name()),
            },
            _ => return None,
        })
    }

    fn plain(name: &str) -> Option<Self> {
        Some(match name {
            "bool" => Self::Bool,
            "i8" => Self::I8,
            "i16" => Self::I16,
            "i32" => Self::I32,
            "i64" => Self::I64,
            "i128" => Self::I128,
            "u8" => Self::U8,
            "u16" => Self::U16,
            "u32" => Self::U32,
            "u64" => Self::U64,
            "u128" => Self::U128,
            "f32" => Self::F32,
            "f64" => Self::F64,
            "String" => Self::String,
            _ => return None,
        })
    }

    /// A sequence of this type.
    pub(super) fn list_of(element: Self) -> Self {
        match element {
            Self::U8 => Self::Bytes,
            element => Self::List(Box::new(element)),
        }
    }
}

/// Reads names of key types.
struct Names<'a> {
    rest: &'a str,
    depth: usize,
}

impl Names<'_> {
    fn whole(mut self) -> Option<LogicalType> {
        let found = self.one()?;
        self.rest.is_empty().then_some(found)
    }

    fn eat(&mut self, token: &str) -> bool {
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn within<T>(&mut self, inner: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        self.depth += 1;
        let result = (self.depth <= DEPTH_MAX).then(|| inner(self)).flatten();
        self.depth -= 1;
        result
    }

    fn one(&mut self) -> Option<LogicalType> {
        if self.eat("()") {
            return Some(LogicalType::Unit);
        }
        if self.eat("(") {
            return self.within(|names| {
                let mut parts = vec![names.one()?];
                while !names.eat(")") {
                    if !names.eat(", ") {
                        return None;
                    }
                    parts.push(names.one()?);
                }
                Some(LogicalType::Tuple(parts))
            });
        }
        let end = self
            .rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        let (name, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        match name {
            "bytes" => Some(LogicalType::Bytes),
            "Option" => Some(LogicalType::Option(Box::new(self.parameter()?))),
            plain => LogicalType::plain(plain),
        }
    }

    /// `<T>`
    fn parameter(&mut self) -> Option<LogicalType> {
        if !self.eat("<") {
            return None;
        }
        let inner = self.within(Self::one)?;
        self.eat(">").then_some(inner)
    }
}

impl Display for LogicalType {
    /// As Rust would call it; structs and enums with what is in them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Unit => "()",
            Self::Bool => "bool",
            Self::I8 => "i8",
            Self::I16 => "i16",
            Self::I32 => "i32",
            Self::I64 => "i64",
            Self::I128 => "i128",
            Self::U8 => "u8",
            Self::U16 => "u16",
            Self::U32 => "u32",
            Self::U64 => "u64",
            Self::U128 => "u128",
            Self::F32 => "f32",
            Self::F64 => "f64",
            Self::Char => "char",
            Self::String => "String",
            Self::Bytes => "bytes",
            Self::Any => "any",
            Self::Decimal { precision, scale } => return write!(f, "decimal({precision},{scale})"),
            Self::Temporal(kind) => return kind.fmt(f),
            Self::Option(inner) => return write!(f, "Option<{inner}>"),
            Self::List(element) => return write!(f, "Vec<{element}>"),
            Self::Map(key, value) => return write!(f, "Map<{key}, {value}>"),
            Self::Tuple(parts) => {
                f.write_str("(")?;
                for (at, part) in parts.iter().enumerate() {
                    write!(f, "{}{part}", if at > 0 { ", " } else { "" })?;
                }
                return f.write_str(")");
            }
            Self::Named { name, inner } => return write!(f, "{name}({inner})"),
            Self::Again(name) => return f.write_str(name),
            Self::Struct { name, fields } => {
                let space = if name.is_empty() { "" } else { " " };
                write!(f, "{name}{space}{{ ")?;
                for (at, field) in fields.iter().enumerate() {
                    let comma = if at > 0 { ", " } else { "" };
                    write!(f, "{comma}{}: {}", field.name, field.kind)?;
                }
                return f.write_str(" }");
            }
            Self::Enum { name, variants } => {
                write!(f, "{name} {{ ")?;
                for (at, variant) in variants.iter().enumerate() {
                    let comma = if at > 0 { " | " } else { "" };
                    write!(f, "{comma}{}", variant.name)?;
                    match &variant.kind {
                        Self::Unit => {}
                        tuple @ Self::Tuple(_) => write!(f, "{tuple}")?,
                        kind => write!(f, "({kind})")?,
                    }
                }
                return f.write_str(" }");
            }
            Self::Opaque(layout) => return write!(f, "bytes of {layout}"),
        };
        f.write_str(name)
    }
}
