//! Values as JSON, in one line.
//!
//! Whole numbers have all their digits, up to 128 bits (a reader that makes floats of them loses some). What JSON has no numbers for is a string:
//! `"NaN"`, `"Infinity"`, `"-Infinity"`, decimals with all their digits, dates and times. Bytes are a string of `0x` and hexadecimal digits. The rest is as serde writes it: structs are objects, a
//! variant is its name or an object of its name and what it holds, and of a map each key that is no string is written as its JSON.

use std::fmt::{self, Display, Write};

use super::{DynamicValue, Temporal};

impl Display for DynamicValue {
    /// As JSON; see the module.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Int(value) => write!(f, "{value}"),
            Self::UInt(value) => write!(f, "{value}"),
            Self::Int128(value) => write!(f, "{value}"),
            Self::UInt128(value) => write!(f, "{value}"),
            Self::F32(value) => float(f, *value, f64::from(*value)),
            Self::F64(value) => float(f, *value, *value),
            Self::Decimal(number, scale) => write!(f, "\"{}\"", decimal(*number, *scale)),
            Self::Temporal(value, kind @ Temporal::Duration(_)) => kind.write(*value, f),
            Self::Temporal(value, kind) => {
                f.write_str("\"")?;
                kind.write(*value, f)?;
                f.write_str("\"")
            }
            Self::String(text) => quoted(f, text),
            Self::Bytes(bytes) => hex(f, bytes),
            Self::List(elements) => list(f, "[", elements.iter(), "]", |f, element| element.fmt(f)),
            Self::Map(entries) => list(f, "{", entries.iter(), "}", |f, (key, value)| {
                match key {
                    Self::String(_) | Self::Bytes(_) => key.fmt(f)?,
                    key => quoted(f, &key.to_string())?,
                }
                write!(f, ":{value}")
            }),
            Self::Struct(fields) => list(f, "{", fields.iter(), "}", |f, (name, value)| {
                quoted(f, name)?;
                write!(f, ":{value}")
            }),
            Self::Variant(name, value) if **value == Self::Null => quoted(f, name),
            Self::Variant(name, value) => {
                f.write_str("{")?;
                quoted(f, name)?;
                write!(f, ":{value}}}")
            }
        }
    }
}

fn float(f: &mut fmt::Formatter<'_>, shown: impl fmt::Debug, value: f64) -> fmt::Result {
    match value {
        value if value.is_finite() => write!(f, "{shown:?}"),
        value if value.is_nan() => f.write_str("\"NaN\""),
        value if value > 0.0 => f.write_str("\"Infinity\""),
        _ => f.write_str("\"-Infinity\""),
    }
}

/// A whole number of so many digits after the point, as text.
pub(super) fn decimal(number: i128, scale: i8) -> String {
    let sign = if number < 0 { "-" } else { "" };
    let digits = number.unsigned_abs().to_string();
    let places = usize::from(scale.unsigned_abs());
    if number == 0 || scale == 0 {
        return format!("{sign}{digits}");
    }
    if scale < 0 {
        return format!("{sign}{digits}{}", "0".repeat(places));
    }
    let digits = format!("{digits:0>width$}", width = places + 1);
    let (whole, fraction) = digits.split_at(digits.len() - places);
    format!("{sign}{whole}.{fraction}")
}

fn list<T>(
    f: &mut fmt::Formatter<'_>,
    open: &str,
    items: impl Iterator<Item = T>,
    close: &str,
    mut each: impl FnMut(&mut fmt::Formatter<'_>, T) -> fmt::Result,
) -> fmt::Result {
    f.write_str(open)?;
    for (at, item) in items.enumerate() {
        if at > 0 {
            f.write_str(",")?;
        }
        each(f, item)?;
    }
    f.write_str(close)
}

fn hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    f.write_str("\"0x")?;
    for byte in bytes {
        write!(f, "{byte:02x}")?;
    }
    f.write_str("\"")
}

/// A string with what JSON wants escaped, escaped.
pub(crate) fn quoted(out: &mut impl Write, text: &str) -> fmt::Result {
    out.write_char('"')?;
    let mut plain = 0;
    for (at, c) in text.char_indices() {
        let escape = match c {
            '"' => "\\\"",
            '\\' => "\\\\",
            '\n' => "\\n",
            '\r' => "\\r",
            '\t' => "\\t",
            // Line ends in the eyes of some readers, and of terminals the beginnings of commands.
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => "",
            _ => continue,
        };
        out.write_str(text.get(plain..at).unwrap_or_default())?;
        plain = at + c.len_utf8();
        match escape {
            "" => write!(out, "\\u{:04x}", c as u32)?,
            escape => out.write_str(escape)?,
        }
    }
    out.write_str(text.get(plain..).unwrap_or_default())?;
    out.write_char('"')
}
