//! Elements of Arrow arrays as JSON.

use std::fmt::Write as _;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type,
    Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow::util::display::{ArrayFormatter, FormatOptions};

/// Appends element `row` as JSON.
pub(super) fn json(array: &dyn Array, row: usize, out: &mut String) {
    if is_null(array, row) {
        out.push_str("null");
        return;
    }
    match array.data_type() {
        DataType::Boolean => put(array.as_boolean().value(row), out),
        DataType::Int8 => number::<Int8Type>(array, row, out),
        DataType::Int16 => number::<Int16Type>(array, row, out),
        DataType::Int32 => number::<Int32Type>(array, row, out),
        DataType::Int64 => number::<Int64Type>(array, row, out),
        DataType::UInt8 => number::<UInt8Type>(array, row, out),
        DataType::UInt16 => number::<UInt16Type>(array, row, out),
        DataType::UInt32 => number::<UInt32Type>(array, row, out),
        DataType::UInt64 => number::<UInt64Type>(array, row, out),
        DataType::Float16 => {
            let value = array.as_primitive::<Float16Type>().value(row).to_f32();
            float(value.into(), value, out);
        }
        DataType::Float32 => {
            let value = array.as_primitive::<Float32Type>().value(row);
            float(value.into(), value, out);
        }
        DataType::Float64 => {
            let value = array.as_primitive::<Float64Type>().value(row);
            float(value, value, out);
        }
        DataType::Decimal128(..) | DataType::Decimal256(..) => out.push_str(&shown(array, row)),
        DataType::List(_) => elements(&*array.as_list::<i32>().value(row), out),
        DataType::LargeList(_) => elements(&*array.as_list::<i64>().value(row), out),
        DataType::Struct(fields) => {
            let structs = array.as_struct();
            let fields = fields.iter().zip(structs.columns());
            list(
                '{',
                fields,
                '}',
                |(field, column), out| {
                    quoted(field.name(), out);
                    out.push(':');
                    json(&**column, row, out);
                },
                out,
            );
        }
        DataType::Map(..) => {
            let entries = array.as_map().value(row);
            let (keys, values) = (entries.column(0), entries.column(1));
            list(
                '{',
                0..entries.len(),
                '}',
                |at, out| {
                    match text_of(&**keys, at) {
                        Some(key) => quoted(&key, out),
                        None => {
                            let mut key = String::new();
                            json(&**keys, at, &mut key);
                            quoted(&key, out);
                        }
                    }
                    out.push(':');
                    json(&**values, at, out);
                },
                out,
            );
        }
        _ => match text_of(array, row) {
            Some(text) => quoted(&text, out),
            None => quoted(&shown(array, row), out),
        },
    }
}

/// Element `row` as text for a cell of a table: text as it is, the rest as JSON; `None` if it is null.
pub fn cell(array: &dyn Array, row: usize) -> Option<String> {
    if is_null(array, row) {
        return None;
    }
    let mut out = String::new();
    match array.data_type() {
        DataType::Struct(_) | DataType::Map(..) | DataType::List(_) | DataType::LargeList(_) => {
            json(array, row, &mut out);
        }
        kind if kind.is_primitive() && !kind.is_temporal() => {
            json(array, row, &mut out);
            // Floats that JSON has no numbers for.
            out = out.trim_matches('"').to_owned();
        }
        _ => out = text_of(array, row).unwrap_or_else(|| shown(array, row)),
    }
    Some(out)
}

fn is_null(array: &dyn Array, row: usize) -> bool {
    array.is_null(row) || *array.data_type() == DataType::Null
}

/// Text, and bytes as hexadecimal digits.
fn text_of(array: &dyn Array, row: usize) -> Option<String> {
    Some(match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().value(row).to_owned(),
        DataType::LargeUtf8 => array.as_string::<i64>().value(row).to_owned(),
        DataType::Utf8View => array.as_string_view().value(row).to_owned(),
        DataType::Binary => hex(array.as_binary::<i32>().value(row)),
        DataType::LargeBinary => hex(array.as_binary::<i64>().value(row)),
        DataType::BinaryView => hex(array.as_binary_view().value(row)),
        DataType::FixedSizeBinary(_) => hex(array.as_fixed_size_binary().value(row)),
        _ => return None,
    })
}

fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(2 + 2 * bytes.len());
    out.push_str("0x");
    for byte in bytes {
        let _ = write!(out, "{byte:02x}");
    }
    out
}

/// As Arrow shows it: times, intervals, decimals.
fn shown(array: &dyn Array, row: usize) -> String {
    let options = FormatOptions::new().with_display_error(true);
    match ArrayFormatter::try_new(array, &options) {
        Ok(formatter) => formatter.value(row).to_string(),
        Err(error) => format!("cannot be shown: {error}"),
    }
}

fn put(value: impl std::fmt::Display, out: &mut String) {
    let _ = write!(out, "{value}");
}

fn number<T>(array: &dyn Array, row: usize, out: &mut String)
where
    T: ArrowPrimitiveType,
    T::Native: std::fmt::Display,
{
    put(array.as_primitive::<T>().value(row), out);
}

fn float(value: f64, shown: impl std::fmt::Debug, out: &mut String) {
    if value.is_finite() {
        let _ = write!(out, "{shown:?}");
    } else if value.is_nan() {
        out.push_str("\"NaN\"");
    } else if value > 0.0 {
        out.push_str("\"Infinity\"");
    } else {
        out.push_str("\"-Infinity\"");
    }
}

fn elements(array: &dyn Array, out: &mut String) {
    list(
        '[',
        0..array.len(),
        ']',
        |at, out| json(array, at, out),
        out,
    );
}

fn list<T>(
    open: char,
    items: impl IntoIterator<Item = T>,
    close: char,
    mut each: impl FnMut(T, &mut String),
    out: &mut String,
) {
    out.push(open);
    for (at, item) in items.into_iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        each(item, out);
    }
    out.push(close);
}

/// A JSON string. Control characters are escaped, also those that terminals take for commands.
pub(super) fn quoted(text: &str, out: &mut String) {
    out.push('"');
    escaped(text, true, out);
    out.push('"');
}

/// Text with control characters escaped, and with `quotes` also quotes and backslashes.
pub(super) fn escaped(text: &str, quotes: bool, out: &mut String) {
    for c in text.chars() {
        match c {
            '"' | '\\' if quotes => {
                out.push('\\');
                out.push(c);
            }
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
}
