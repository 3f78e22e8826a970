//! Schemas of rows: names and types of columns, as bytes and as verdicts.

use std::fmt::{self, Display};
use std::sync::Arc;

use arrow::datatypes::{DataType, Schema, TimeUnit};

use crate::StateError;
use crate::encoding::{Reader, put_bytes, put_u64};

/// Bytes of the text of a type at most.
const TYPE_BYTES_MAX: usize = 256;

/// A column.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) kind: DataType,
    pub(super) nullable: bool,
}

/// The columns of a schema, each name once.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Columns(pub(super) Vec<Column>);

/// Types that are their name.
const PLAIN: [(DataType, &str); 18] = [
    (DataType::Boolean, "Boolean"),
    (DataType::Int8, "Int8"),
    (DataType::Int16, "Int16"),
    (DataType::Int32, "Int32"),
    (DataType::Int64, "Int64"),
    (DataType::UInt8, "UInt8"),
    (DataType::UInt16, "UInt16"),
    (DataType::UInt32, "UInt32"),
    (DataType::UInt64, "UInt64"),
    (DataType::Float32, "Float32"),
    (DataType::Float64, "Float64"),
    (DataType::Utf8, "Utf8"),
    (DataType::LargeUtf8, "LargeUtf8"),
    (DataType::Binary, "Binary"),
    (DataType::LargeBinary, "LargeBinary"),
    (DataType::Date32, "Date32"),
    (DataType::Date64, "Date64"),
    (DataType::Null, "Null"),
];

const UNITS: [(TimeUnit, &str); 4] = [
    (TimeUnit::Second, "s"),
    (TimeUnit::Millisecond, "ms"),
    (TimeUnit::Microsecond, "us"),
    (TimeUnit::Nanosecond, "ns"),
];

fn unit_name(unit: TimeUnit) -> &'static str {
    UNITS
        .iter()
        .find(|(known, _)| *known == unit)
        .map_or("", |(_, name)| name)
}

/// The text of a type; `None` for one that is not written.
fn type_name(kind: &DataType) -> Option<String> {
    if let Some((_, name)) = PLAIN.iter().find(|(plain, _)| plain == kind) {
        return Some((*name).to_owned());
    }
    match kind {
        DataType::Time32(unit @ (TimeUnit::Second | TimeUnit::Millisecond)) => {
            Some(format!("Time32({})", unit_name(*unit)))
        }
        DataType::Time64(unit @ (TimeUnit::Microsecond | TimeUnit::Nanosecond)) => {
            Some(format!("Time64({})", unit_name(*unit)))
        }
        DataType::Timestamp(unit, None) => Some(format!("Timestamp({})", unit_name(*unit))),
        DataType::Timestamp(unit, Some(zone)) => {
            let name = format!("Timestamp({},{zone})", unit_name(*unit));
            (name.len() <= TYPE_BYTES_MAX).then_some(name)
        }
        DataType::Decimal128(precision, scale) => Some(format!("Decimal128({precision},{scale})")),
        _ => None,
    }
}

/// Reads what `type_name` wrote.
fn parse_type(text: &str) -> Option<DataType> {
    if let Some((plain, _)) = PLAIN.iter().find(|(_, name)| *name == text) {
        return Some(plain.clone());
    }
    let (name, rest) = text.split_once('(')?;
    let inner = rest.strip_suffix(')')?;
    let unit = |name: &str| {
        UNITS
            .iter()
            .find(|(_, known)| *known == name)
            .map(|one| one.0)
    };
    let kind = match name {
        "Time32" => DataType::Time32(unit(inner)?),
        "Time64" => DataType::Time64(unit(inner)?),
        "Timestamp" => match inner.split_once(',') {
            None => DataType::Timestamp(unit(inner)?, None),
            Some((inner, zone)) => DataType::Timestamp(unit(inner)?, Some(Arc::from(zone))),
        },
        "Decimal128" => {
            let (precision, scale) = inner.split_once(',')?;
            let (precision, scale) = (precision.parse().ok()?, scale.parse().ok()?);
            (1..=38).contains(&precision).then_some(())?;
            DataType::Decimal128(precision, scale)
        }
        _ => return None,
    };
    // Only what would be written like this.
    (type_name(&kind)? == text).then_some(kind)
}

/// Whether an integer type has a sign, and its bits.
fn integer(kind: &DataType) -> Option<(bool, u32)> {
    Some(match kind {
        DataType::Int8 => (true, 8),
        DataType::Int16 => (true, 16),
        DataType::Int32 => (true, 32),
        DataType::Int64 => (true, 64),
        DataType::UInt8 => (false, 8),
        DataType::UInt16 => (false, 16),
        DataType::UInt32 => (false, 32),
        DataType::UInt64 => (false, 64),
        _ => return None,
    })
}

/// Whether every value of type `old` is one of type `new`.
fn widens(old: &DataType, new: &DataType) -> bool {
    if old == new {
        return true;
    }
    match (old, new) {
        (DataType::Null, _)
        | (DataType::Utf8, DataType::LargeUtf8)
        | (DataType::LargeUtf8, DataType::Utf8)
        | (DataType::Binary, DataType::LargeBinary)
        | (DataType::LargeBinary, DataType::Binary)
        | (DataType::Float32, DataType::Float64) => true,
        (DataType::Decimal128(old, old_scale), DataType::Decimal128(new, scale)) => {
            old <= new && old_scale == scale
        }
        (old, new) => match (integer(old), integer(new), new) {
            (Some((true, _)), Some((false, _)), _) => false,
            (Some((false, old)), Some((true, new)), _) => old < new,
            (Some((_, old)), Some((_, new)), _) => old <= new,
            (Some((signed, bits)), None, DataType::Float32) => bits - u32::from(signed) <= 24,
            (Some((signed, bits)), None, DataType::Float64) => bits - u32::from(signed) <= 53,
            _ => false,
        },
    }
}

impl Columns {
    pub(super) fn of(schema: &Schema) -> Result<Self, StateError> {
        let mut columns = Self(Vec::with_capacity(schema.fields().len()));
        for field in schema.fields() {
            let (name, kind) = (field.name(), field.data_type());
            if type_name(kind).is_none() {
                return Err(StateError::Usage(format!(
                    "column `{name}` has type {kind}, which rows of state cannot hold"
                )));
            }
            if columns.position(name).is_some() {
                return Err(StateError::Usage(format!(
                    "two columns of a schema are called `{name}`"
                )));
            }
            columns.0.push(Column {
                name: name.clone(),
                kind: kind.clone(),
                nullable: field.is_nullable(),
            });
        }
        Ok(columns)
    }

    pub(super) fn position(&self, name: &str) -> Option<usize> {
        self.0.iter().position(|column| column.name == name)
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        put_u64(out, self.0.len() as u64);
        for column in &self.0 {
            put_bytes(out, column.name.as_bytes());
            put_bytes(out, type_name(&column.kind).unwrap_or_default().as_bytes());
            out.push(u8::from(column.nullable));
        }
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, StateError> {
        // Two lengths and a flag.
        let count = reader.list::<()>(17)?.count;
        let mut columns = Self(Vec::new());
        for _ in 0..count {
            let name = reader.text()?;
            let text = reader.text_at_most(TYPE_BYTES_MAX, "the type of a column")?;
            let Some(kind) = parse_type(&text) else {
                return Err(reader.wrong(&format!("column `{name}` has the unknown type `{text}`")));
            };
            let nullable = reader.flag()?;
            columns.0.push(Column {
                name,
                kind,
                nullable,
            });
        }
        // Sorted, because hostile bytes may hold many.
        let mut names: Vec<&str> = columns
            .0
            .iter()
            .map(|column| column.name.as_str())
            .collect();
        names.sort_unstable();
        if names.windows(2).any(|pair| pair.first() == pair.last()) {
            return Err(reader.wrong("two columns of a schema have the same name"));
        }
        Ok(columns)
    }

    /// Whether rows of this schema can be read as rows of `new`; the error says which column is in the way.
    pub(super) fn readable_as(&self, new: &Self) -> Result<(), String> {
        for column in &new.0 {
            let name = &column.name;
            let Some(old) = self.position(name).and_then(|at| self.0.get(at)) else {
                if column.nullable {
                    continue;
                }
                return Err(format!("column `{name}` is new and not nullable"));
            };
            if !widens(&old.kind, &column.kind) {
                return Err(format!(
                    "column `{name}` was {} and is now {}",
                    type_name(&old.kind).unwrap_or_default(),
                    type_name(&column.kind).unwrap_or_default()
                ));
            }
            if old.nullable && !column.nullable {
                return Err(format!("column `{name}` was nullable and is not any more"));
            }
        }
        Ok(())
    }
}

impl Display for Columns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const COLUMNS_SHOWN_MAX: usize = 16;
        f.write_str("(")?;
        for (at, column) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str(", ")?;
            }
            if at == COLUMNS_SHOWN_MAX {
                f.write_str("…")?;
                break;
            }
            let kind = type_name(&column.kind).unwrap_or_default();
            let null = if column.nullable { "" } else { " NOT NULL" };
            write!(f, "{} {kind}{null}", column.name)?;
        }
        f.write_str(")")
    }
}
