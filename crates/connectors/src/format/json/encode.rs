//! A row becomes a JSON object on one line.

use std::fmt::Write;

use super::{JsonFormat, NullKeys};
use crate::cells::{Cell, Cells};
use crate::{base64, calendar, numbers};

pub(super) fn encode(
    format: &JsonFormat,
    columns: &[(&str, Cells<'_>)],
    row: usize,
    out: &mut String,
) -> Result<(), String> {
    out.push('{');
    let mut first = true;
    for (name, column) in columns {
        let cell = column.get(row);
        if format.leave_out_nulls && matches!(cell, Cell::Null) {
            continue;
        }
        if !std::mem::take(&mut first) {
            out.push(',');
        }
        write_string(out, name);
        out.push(':');
        write_cell(format, out, cell, row)?;
    }
    out.push('}');
    Ok(())
}

fn write_cell(
    format: &JsonFormat,
    out: &mut String,
    cell: Cell<'_, '_>,
    row: usize,
) -> Result<(), String> {
    match cell {
        Cell::Null => out.push_str("null"),
        // Writing to a String cannot fail.
        Cell::Boolean(value) => drop(write!(out, "{value}")),
        Cell::Whole(value) => drop(write!(out, "{value}")),
        Cell::Unsigned(value) => drop(write!(out, "{value}")),
        Cell::Float(value) => {
            write_float(out, value.is_finite(), |out| {
                numbers::write_float(out, value)
            });
        }
        Cell::Double(value) => {
            write_float(out, value.is_finite(), |out| {
                numbers::write_double(out, value)
            });
        }
        Cell::Decimal(unscaled, scale) if format.plain_decimals => {
            numbers::write_decimal(out, unscaled, scale);
        }
        Cell::Decimal(unscaled, scale) => {
            numbers::write_decimal_scientific(out, unscaled, scale);
        }
        Cell::Date(day) => {
            out.push('"');
            calendar::write_date(out, day);
            out.push('"');
        }
        Cell::Time(nano_of_day) => {
            out.push('"');
            calendar::write_time_sql(out, nano_of_day);
            out.push('"');
        }
        Cell::Moment { moment, zoned } => {
            out.push('"');
            calendar::write_date(out, moment.day);
            out.push(format.separator);
            calendar::write_time_sql(out, moment.nano_of_day);
            if zoned {
                out.push('Z');
            }
            out.push('"');
        }
        Cell::Text(text) => write_string(out, text),
        Cell::Bytes(bytes) => {
            out.push('"');
            base64::encode(out, bytes);
            out.push('"');
        }
        Cell::Row(fields) => encode(format, fields, row, out)?,
        Cell::List(elements, range) => {
            out.push('[');
            let start = range.start;
            for i in range {
                if i > start {
                    out.push(',');
                }
                write_cell(format, out, elements.get(i), i)?;
            }
            out.push(']');
        }
        Cell::Map {
            keys,
            values,
            range,
        } => {
            out.push('{');
            let mut first = true;
            for i in range {
                let key = match (keys.get(i), format.null_keys) {
                    (Cell::Text(key), _) => key,
                    (_, NullKeys::Drop) => continue,
                    (_, NullKeys::Literal) => format.null_key_literal.as_str(),
                    (_, NullKeys::Fail) => {
                        return Err("a MAP must have no null key unless 'json.map-null-key.mode' is DROP or LITERAL, found one".to_owned());
                    }
                };
                if !std::mem::take(&mut first) {
                    out.push(',');
                }
                write_string(out, key);
                out.push(':');
                write_cell(format, out, values.get(i), i)?;
            }
            out.push('}');
        }
        Cell::Other(formatter) => write_string(out, &formatter.value(row).to_string()),
    }
    Ok(())
}

/// JSON has no numbers for NaN and the infinities: they are texts.
fn write_float(out: &mut String, finite: bool, write: impl FnOnce(&mut String)) {
    let quote = if finite { "" } else { "\"" };
    out.push_str(quote);
    write(out);
    out.push_str(quote);
}

fn write_string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\0'..='\x1F' => drop(write!(out, "\\u{:04x}", u32::from(c))),
            _ => out.push(c),
        }
    }
    out.push('"');
}
