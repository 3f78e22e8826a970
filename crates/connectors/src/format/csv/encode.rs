//! A row becomes a CSV record.

use std::fmt::Write;

use super::CsvFormat;
use crate::cells::{Cell, Cells};
use crate::{base64, calendar, numbers};

pub(super) fn encode(
    format: &CsvFormat,
    columns: &[(&str, Cells<'_>)],
    row: usize,
    out: &mut String,
) {
    let start = out.len();
    let mut text = String::new();
    for (i, (_, column)) in columns.iter().enumerate() {
        if i > 0 {
            out.push(char::from(format.marks.delimiter));
        }
        match column.get(row) {
            Cell::Null => out.push_str(format.null_literal.as_deref().unwrap_or("")),
            cell => {
                text.clear();
                let is_text = matches!(cell, Cell::Text(_));
                write_cell(format, &mut text, cell, row);
                push_field(format, &text, is_text, i == 0, out);
            }
        }
    }
    // An empty line would be no row.
    if out.len() == start
        && let Some(quote) = format.marks.quote
    {
        out.push(char::from(quote));
        out.push(char::from(quote));
    }
}

/// Adds a field, with quotes if it would not be read back without them.
fn push_field(format: &CsvFormat, text: &str, is_text: bool, first: bool, out: &mut String) {
    let marks = &format.marks;
    let special = |byte: u8| {
        byte == marks.delimiter
            || Some(byte) == marks.quote
            || Some(byte) == marks.escape
            || byte == b'\n'
            || byte == b'\r'
    };
    let must_quote = text.bytes().any(special)
        || (first && marks.comments && text.starts_with('#'))
        || (is_text && text.is_empty());
    let Some(quote) = marks.quote.map(char::from) else {
        // Without quotes only the escape character can help.
        for c in text.chars() {
            if let Some(escape) = marks.escape
                && c.is_ascii()
                && special(c as u8)
            {
                out.push(char::from(escape));
            }
            out.push(c);
        }
        return;
    };
    if !must_quote {
        out.push_str(text);
        return;
    }
    out.push(quote);
    for c in text.chars() {
        if c == quote {
            out.push(quote);
        } else if Some(c) == marks.escape.map(char::from) {
            out.push(c);
        }
        out.push(c);
    }
    out.push(quote);
}

fn write_cell(format: &CsvFormat, out: &mut String, cell: Cell<'_, '_>, row: usize) {
    let write_inner = |column: &Cells<'_>, row: usize, first: bool, out: &mut String| {
        if !first {
            out.push_str(&format.element_delimiter);
        }
        match column.get(row) {
            Cell::Null => out.push_str(format.null_literal.as_deref().unwrap_or("")),
            cell => write_cell(format, out, cell, row),
        }
    };
    match cell {
        Cell::Null => {}
        // Writing to a String cannot fail.
        Cell::Boolean(value) => drop(write!(out, "{value}")),
        Cell::Whole(value) => drop(write!(out, "{value}")),
        Cell::Unsigned(value) => drop(write!(out, "{value}")),
        Cell::Float(value) => numbers::write_float(out, value),
        Cell::Double(value) => numbers::write_double(out, value),
        Cell::Decimal(unscaled, scale) if format.scientific_decimals => {
            numbers::write_decimal_scientific(out, unscaled, scale);
        }
        Cell::Decimal(unscaled, scale) => numbers::write_decimal(out, unscaled, scale),
        Cell::Date(day) => calendar::write_date(out, day),
        Cell::Time(nano_of_day) => calendar::write_time_sql(out, nano_of_day),
        Cell::Moment { moment, zoned } => {
            calendar::write_date(out, moment.day);
            out.push(' ');
            calendar::write_time_sql(out, moment.nano_of_day);
            if zoned {
                out.push('Z');
            }
        }
        Cell::Text(text) => out.push_str(text),
        Cell::Bytes(bytes) => base64::encode(out, bytes),
        Cell::Row(fields) => {
            for (i, (_, column)) in fields.iter().enumerate() {
                write_inner(column, row, i == 0, out);
            }
        }
        Cell::List(elements, range) => {
            let start = range.start;
            for i in range {
                write_inner(elements, i, i == start, out);
            }
        }
        Cell::Map { .. } => {}
        Cell::Other(formatter) => drop(write!(out, "{}", formatter.value(row))),
    }
}
