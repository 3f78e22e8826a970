//! Partition directories: `column=value/column=value`, with the characters that a path must not have written as `%XX`.

use super::location::percent_decoded;
use crate::cells::{Cell, Cells};
use crate::{base64, calendar, numbers};

/// Characters that Hive and Flink escape in partition names.
const ESCAPED: &[u8] = b"\"#%'*/:=?\\{[]^\x7f";

/// Appends `text` with what a path must not have escaped.
pub(super) fn escape(text: &str, out: &mut String) {
    for c in text.chars() {
        if c.is_ascii() && (c.is_ascii_control() || ESCAPED.contains(&(c as u8))) {
            out.push_str(&format!("%{:02X}", c as u32));
        } else {
            out.push(c);
        }
    }
}

/// The directory of a row, without a slash at its ends; empty if nothing is partitioned.
pub(super) fn directory(
    columns: &[(&str, Cells<'_>)],
    row: usize,
    default_name: &str,
    out: &mut String,
) {
    out.clear();
    let mut value = String::new();
    for (i, (name, cells)) in columns.iter().enumerate() {
        if i > 0 {
            out.push('/');
        }
        escape(name, out);
        out.push('=');
        value.clear();
        write_value(cells.get(row), row, &mut value);
        // A directory must not be `.` or `..`, which a value alone never is: the name comes before it.
        escape(
            if value.is_empty() {
                default_name
            } else {
                &value
            },
            out,
        );
    }
}

fn write_value(cell: Cell<'_, '_>, row: usize, out: &mut String) {
    match cell {
        Cell::Null | Cell::Row(_) | Cell::List(..) | Cell::Map { .. } => {}
        Cell::Boolean(value) => out.push_str(if value { "true" } else { "false" }),
        Cell::Whole(value) => out.push_str(&value.to_string()),
        Cell::Unsigned(value) => out.push_str(&value.to_string()),
        Cell::Float(value) => numbers::write_float(out, value),
        Cell::Double(value) => numbers::write_double(out, value),
        Cell::Decimal(unscaled, scale) => numbers::write_decimal(out, unscaled, scale),
        Cell::Date(day) => calendar::write_date(out, day),
        Cell::Time(nano_of_day) => calendar::write_time_sql(out, nano_of_day),
        Cell::Moment { moment, .. } => {
            calendar::write_date(out, moment.day);
            out.push(' ');
            calendar::write_time_sql(out, moment.nano_of_day);
        }
        Cell::Text(text) => out.push_str(text),
        Cell::Bytes(bytes) => base64::encode(out, bytes),
        Cell::Other(formatter) => out.push_str(&formatter.value(row).to_string()),
    }
}

/// The value of partition column `column` in the path of a file; the inner `None` is the default name, which stands for null.
pub(super) fn value_in_path(
    path: &str,
    column: &str,
    default_name: &str,
) -> Option<Option<String>> {
    let directories = path.rsplit_once('/')?.0;
    directories.split('/').find_map(|part| {
        let (name, value) = part.split_once('=')?;
        if percent_decoded(name)? != column {
            return None;
        }
        let value = percent_decoded(value)?;
        Some((value != default_name).then_some(value))
    })
}
