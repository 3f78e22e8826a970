//! One row as a line: JSON or CSV.

use arrow::array::RecordBatch;

use super::json::{cell, json, quoted};

/// Appends a row as a JSON object.
pub(super) fn json_row(names: &[String], batch: &RecordBatch, row: usize, out: &mut String) {
    out.push('{');
    for (at, (name, column)) in names.iter().zip(batch.columns()).enumerate() {
        if at > 0 {
            out.push(',');
        }
        quoted(name, out);
        out.push(':');
        json(&**column, row, out);
    }
    out.push_str("}\n");
}

/// Appends the line of names.
pub(super) fn csv_head(names: &[String], out: &mut String) {
    csv_line(names.iter().map(|name| Some(name.clone())), out);
}

/// Appends a row as a line of CSV.
pub(super) fn csv_row(batch: &RecordBatch, row: usize, out: &mut String) {
    csv_line(
        batch.columns().iter().map(|column| cell(&**column, row)),
        out,
    );
}

fn csv_line(cells: impl Iterator<Item = Option<String>>, out: &mut String) {
    for (at, text) in cells.enumerate() {
        if at > 0 {
            out.push(',');
        }
        match text {
            None => {}
            // An empty text is quoted, so that it is told from null.
            Some(text) if text.is_empty() || text.contains(['"', ',', '\n', '\r']) => {
                out.push('"');
                out.push_str(&text.replace('"', "\"\""));
                out.push('"');
            }
            Some(text) => out.push_str(&text),
        }
    }
    out.push('\n');
}
