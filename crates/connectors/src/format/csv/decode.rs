//! A CSV record becomes one value per column.

use std::borrow::Cow;

use arrow::datatypes::{DataType, FieldRef};

use super::super::{Malformed, quoted};
use super::CsvFormat;
use crate::column::Column;
use crate::scalar::{self, Scalar};
use crate::types::sql_name;

/// One field of a record.
struct Field<'r> {
    /// Where it begins in the record.
    at: usize,
    /// Without quotes and escapes.
    text: Cow<'r, str>,
}

pub(super) fn decode(
    format: &CsvFormat,
    record: &[u8],
    fields: &[FieldRef],
    columns: &mut [Column],
) -> Result<bool, Malformed> {
    if format.marks.comments && record.first() == Some(&b'#') {
        return Ok(false);
    }
    let cells = match std::str::from_utf8(record)
        .map_err(|error| Malformed::new(error.valid_up_to(), "the text must be UTF-8"))
        .and_then(|record| split(format, record))
    {
        Ok(cells) => cells,
        Err(_) if format.ignore_errors => return Ok(false),
        Err(error) => return Err(error),
    };
    if cells.len() != columns.len() && !format.ignore_errors {
        let what = format!(
            "a row must have {} fields, found {}",
            columns.len(),
            cells.len()
        );
        return Err(Malformed::new(0, what));
    }
    for (i, (field, column)) in fields.iter().zip(columns.iter_mut()).enumerate() {
        let cell = cells.get(i);
        let at = cell.map_or(record.len(), |cell| cell.at);
        let null = match cell {
            None => true,
            Some(cell) => !push(format, &cell.text, column, cell.at, field.name())?,
        };
        if null {
            if !field.is_nullable() {
                let what = format!("column '{}' must not be null, found nothing", field.name());
                return Err(Malformed::new(at, what));
            }
            column.push_null();
        }
    }
    Ok(true)
}

/// Adds the value of a field; false, and nothing added, if it is null.
fn push(
    format: &CsvFormat,
    text: &str,
    column: &mut Column,
    at: usize,
    name: &str,
) -> Result<bool, Malformed> {
    if is_null(format, text, column.data_type()) {
        return Ok(false);
    }
    let elements = || text.split(format.element_delimiter.as_str());
    let data_type = column.data_type().clone();
    match &data_type {
        DataType::List(_) => column.push_list(|element| {
            for part in elements() {
                if !push(format, part, element, at, name)? {
                    element.push_null();
                }
            }
            Ok(())
        })?,
        DataType::Struct(fields) => {
            if elements().count() != fields.len() && !format.ignore_errors {
                let what = format!(
                    "column '{name}' must have {} fields, found {}",
                    fields.len(),
                    quoted(text)
                );
                return Err(Malformed::new(at, what));
            }
            column.push_row(|_, columns| {
                let mut parts = elements();
                for column in columns {
                    let pushed = match parts.next() {
                        Some(part) => push(format, part, column, at, name)?,
                        None => false,
                    };
                    if !pushed {
                        column.push_null();
                    }
                }
                Ok(())
            })?;
        }
        DataType::Utf8 => column.push(Scalar::Text(text)),
        scalar_type => match scalar::parse(scalar_type, text.trim()) {
            Some(value) => column.push(value),
            None if format.ignore_errors => return Ok(false),
            None => {
                let wanted = sql_name(scalar_type);
                let what = format!("column '{name}' must be {wanted}, found {}", quoted(text));
                return Err(Malformed::new(at, what));
            }
        },
    }
    Ok(true)
}

fn is_null(format: &CsvFormat, text: &str, data_type: &DataType) -> bool {
    match &format.null_literal {
        Some(literal) if literal == text => true,
        _ => text.is_empty() && data_type != &DataType::Utf8,
    }
}

/// The fields of a record.
fn split<'r>(format: &CsvFormat, record: &'r str) -> Result<Vec<Field<'r>>, Malformed> {
    let mut fields = Vec::new();
    let mut at = 0;
    loop {
        let rest = record.get(at..).unwrap_or("");
        let quote = format
            .marks
            .quote
            .filter(|quote| rest.as_bytes().first() == Some(quote));
        let (text, length) = match quote {
            Some(quote) => quoted_field(format, rest, quote).map_err(|error| Malformed {
                at: at + error.at,
                ..error
            })?,
            None => unquoted_field(format, rest),
        };
        fields.push(Field { at, text });
        at += length;
        match record.as_bytes().get(at) {
            None => return Ok(fields),
            Some(byte) if *byte == format.marks.delimiter => at += 1,
            Some(_) => {
                let found: String = record.get(at..).unwrap_or("").chars().take(1).collect();
                let delimiter = char::from(format.marks.delimiter);
                let what =
                    format!("after a closing quote there must be '{delimiter}', found '{found}'");
                return Err(Malformed::new(at, what));
            }
        }
    }
}

/// The text of a field and how many bytes it took. All marks are ASCII, so every cut is between characters.
fn unquoted_field<'r>(format: &CsvFormat, rest: &'r str) -> (Cow<'r, str>, usize) {
    let bytes = rest.as_bytes();
    let Some(escape) = format.marks.escape else {
        let end = bytes
            .iter()
            .position(|b| *b == format.marks.delimiter)
            .unwrap_or(bytes.len());
        return (Cow::Borrowed(rest.get(..end).unwrap_or("")), end);
    };
    let mut text = String::new();
    let mut chars = rest.char_indices();
    while let Some((i, c)) = chars.next() {
        if c == char::from(format.marks.delimiter) {
            return (Cow::Owned(text), i);
        }
        if c == char::from(escape) {
            text.extend(chars.next().map(|(_, c)| c));
        } else {
            text.push(c);
        }
    }
    (Cow::Owned(text), rest.len())
}

/// The same for a field that begins with a quote.
fn quoted_field<'r>(
    format: &CsvFormat,
    rest: &'r str,
    quote: u8,
) -> Result<(Cow<'r, str>, usize), Malformed> {
    let plain = rest.get(1..).unwrap_or("");
    let simple_end = plain
        .bytes()
        .position(|b| b == quote || format.marks.escape == Some(b));
    if let Some(end) = simple_end
        && plain.as_bytes().get(end) == Some(&quote)
        && plain.as_bytes().get(end + 1) != Some(&quote)
    {
        return Ok((Cow::Borrowed(plain.get(..end).unwrap_or("")), end + 2));
    }
    let mut text = String::new();
    let mut chars = plain.char_indices().peekable();
    while let Some((i, c)) = chars.next() {
        if format.marks.escape.map(char::from) == Some(c) {
            text.extend(chars.next().map(|(_, c)| c));
        } else if c == char::from(quote) {
            if chars.next_if(|(_, next)| *next == c).is_none() {
                return Ok((Cow::Owned(text), i + 2));
            }
            text.push(c);
        } else {
            text.push(c);
        }
    }
    let what = format!(
        "a field that begins with {} must end with it, found the end of the row",
        char::from(quote)
    );
    Err(Malformed::new(0, what))
}
