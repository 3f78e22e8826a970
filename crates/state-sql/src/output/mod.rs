//! Rows of queries as text: an aligned table, JSON lines, or CSV. Written as they come; nothing is kept but the table's first rows.
//!
//! Values are shown as `aquifer state scan` shows them: whole numbers with all their digits, bytes as `0x` and hexadecimal digits, times in UTC,
//! what has parts as JSON.

mod json;
mod rows;
mod table;

use std::io::{self, Write};

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;

pub use self::json::cell;
use self::rows::{csv_head, csv_row, json_row};
use self::table::Table;

/// A form of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Columns under each other, with a frame.
    Table,
    /// One object per row and line.
    Json,
    /// As in RFC 4180, with a line of names; nothing stands for null.
    Csv,
}

/// Bytes gathered before they are written.
const OUTPUT_BYTES: usize = 64 << 10;

/// Writes the rows of one query.
pub struct RowWriter<W> {
    out: W,
    format: Format,
    names: Vec<String>,
    table: Table,
    text: String,
    begun: bool,
}

impl<W: Write> RowWriter<W> {
    /// Rows with these columns.
    pub fn new(out: W, format: Format, schema: &Schema) -> Self {
        let names: Vec<String> = schema
            .fields()
            .iter()
            .map(|field| field.name().clone())
            .collect();
        Self {
            out,
            format,
            table: Table::new(&names),
            names,
            text: String::new(),
            begun: false,
        }
    }

    /// Writes a batch.
    pub fn write(&mut self, batch: &RecordBatch) -> io::Result<()> {
        self.begin();
        for row in 0..batch.num_rows() {
            match self.format {
                Format::Table => self.table.row(batch, row, &mut self.text),
                Format::Json => json_row(&self.names, batch, row, &mut self.text),
                Format::Csv => csv_row(batch, row, &mut self.text),
            }
            if self.text.len() >= OUTPUT_BYTES {
                self.give()?;
            }
        }
        match self.format {
            // Its first rows are being waited for.
            Format::Table => self.give(),
            _ => self.give().and_then(|()| self.out.flush()),
        }
    }

    /// Writes what is left; how many rows there were.
    pub fn finish(mut self) -> io::Result<()> {
        self.begin();
        if self.format == Format::Table {
            self.table.finish(&mut self.text);
        }
        self.give()?;
        self.out.flush()
    }

    fn begin(&mut self) {
        if !std::mem::replace(&mut self.begun, true) && self.format == Format::Csv {
            csv_head(&self.names, &mut self.text);
        }
    }

    fn give(&mut self) -> io::Result<()> {
        let text = std::mem::take(&mut self.text);
        self.out.write_all(text.as_bytes())
    }
}

#[cfg(test)]
mod tests;
