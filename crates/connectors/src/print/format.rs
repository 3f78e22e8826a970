//! Rows as Flink's print sink shows them: `+I[1, a]`.
//!
//! Nulls are `null`, decimals have all digits of their scale, timestamps are Java's ISO date-times without the parts that are
//! zero, a ROW inside a row is `+I[…]`, an ARRAY `[a, b]`, a MAP `{k=v}`, BYTES the signed numbers `[1, -2]`.

use std::fmt::Write;

use aquifer_dataflow::ChangeBatch;

use crate::calendar;
use crate::cells::{Cell, Cells, cells_of};
use crate::numbers;

/// Writes every row of `batch` to `out`, each with its kind and a line end.
///
/// ```
/// use std::sync::Arc;
/// use aquifer_connectors::print::format_change_batch;
/// use aquifer_dataflow::{ChangeBatch, RowKind};
/// use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
///
/// let names: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None]));
/// let counts: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
/// let rows = RecordBatch::try_from_iter_with_nullable([("n", names, true), ("c", counts, true)])?;
/// let mut out = String::new();
/// format_change_batch(&ChangeBatch::new(rows, vec![RowKind::Insert, RowKind::Delete]), &mut out);
/// assert_eq!(out, "+I[a, 1]\n-D[null, 2]\n");
/// # Ok::<(), arrow::error::ArrowError>(())
/// ```
pub fn format_change_batch(batch: &ChangeBatch, out: &mut String) {
    format_prefixed(batch, "", out);
}

/// The same with `prefix` before each row.
pub(super) fn format_prefixed(batch: &ChangeBatch, prefix: &str, out: &mut String) {
    let columns = cells_of(batch.rows.columns());
    for row in 0..batch.rows.num_rows() {
        out.push_str(prefix);
        out.push_str(batch.kind(row).short());
        write_row(out, columns.iter(), row);
        out.push('\n');
    }
}

fn write_row<'c, 'a: 'c>(
    out: &mut String,
    columns: impl Iterator<Item = &'c Cells<'a>>,
    row: usize,
) {
    out.push('[');
    for (i, column) in columns.enumerate() {
        if i > 0 {
            out.push_str(", ");
        }
        write_cell(out, column, row);
    }
    out.push(']');
}

fn write_cell(out: &mut String, column: &Cells<'_>, row: usize) {
    // Writing to a String cannot fail.
    let _ = match column.get(row) {
        Cell::Null => out.write_str("null"),
        Cell::Boolean(value) => write!(out, "{value}"),
        Cell::Whole(value) => write!(out, "{value}"),
        Cell::Unsigned(value) => write!(out, "{value}"),
        Cell::Float(value) => {
            numbers::write_float(out, value);
            Ok(())
        }
        Cell::Double(value) => {
            numbers::write_double(out, value);
            Ok(())
        }
        Cell::Decimal(unscaled, scale) => {
            numbers::write_decimal(out, unscaled, scale);
            Ok(())
        }
        Cell::Date(day) => {
            calendar::write_date(out, day);
            Ok(())
        }
        Cell::Time(nano_of_day) => {
            calendar::write_time_java(out, nano_of_day, false);
            Ok(())
        }
        Cell::Moment { moment, zoned } => {
            calendar::write_date(out, moment.day);
            out.push('T');
            calendar::write_time_java(out, moment.nano_of_day, zoned);
            if zoned {
                out.push('Z');
            }
            Ok(())
        }
        Cell::Text(text) => out.write_str(text),
        Cell::Bytes(bytes) => {
            out.push('[');
            for (i, byte) in bytes.iter().enumerate() {
                let comma = if i > 0 { ", " } else { "" };
                let _ = write!(out, "{comma}{}", *byte as i8);
            }
            out.write_str("]")
        }
        Cell::Row(fields) => {
            out.push_str("+I");
            write_row(out, fields.iter().map(|(_, cells)| cells), row);
            Ok(())
        }
        Cell::List(elements, range) => {
            out.push('[');
            for (i, element) in range.enumerate() {
                if i > 0 {
                    out.push_str(", ");
                }
                write_cell(out, elements, element);
            }
            out.write_str("]")
        }
        Cell::Map {
            keys,
            values,
            range,
        } => {
            out.push('{');
            for (i, entry) in range.enumerate() {
                if i > 0 {
                    out.push_str(", ");
                }
                write_cell(out, keys, entry);
                out.push('=');
                write_cell(out, values, entry);
            }
            out.write_str("}")
        }
        Cell::Other(formatter) => write!(out, "{}", formatter.value(row)),
    };
}
