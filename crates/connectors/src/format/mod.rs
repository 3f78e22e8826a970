//! Rows as lines of text: CSV and JSON, reading and writing.
//!
//! Reading is in two steps, so that files can be streamed in chunks: a [`Framer`] finds where a record ends, and
//! [`Format::decode`] turns the record into one value for each column. What a record says wrongly comes back as [`Malformed`];
//! the caller knows the file and the line and tells them.

mod csv;
mod framer;
mod json;

use arrow::datatypes::FieldRef;

use aquifer_dataflow::JobError;

pub(crate) use self::framer::Framer;
use crate::cells::Cells;
use crate::column::Column;
use crate::options::Options;

/// Option that names the format.
pub(crate) const FORMAT: &str = "format";

/// What is wrong with a record.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed {
    /// Byte of the record, 0-based.
    pub(crate) at: usize,
    /// What was expected and what was found.
    pub(crate) what: String,
}

impl Malformed {
    fn new(at: usize, what: impl Into<String>) -> Self {
        Self {
            at,
            what: what.into(),
        }
    }
}

/// How rows are written as text.
pub(crate) enum Format {
    Csv(csv::CsvFormat),
    Json(json::JsonFormat),
}

impl Format {
    /// The options that a format may have.
    pub(crate) fn known_options(options: &Options<'_>) -> &'static [&'static str] {
        match options.text(FORMAT) {
            Some("csv") => csv::KNOWN,
            Some("json") => json::KNOWN,
            _ => &[],
        }
    }

    /// The format that the options ask for, for these columns.
    pub(crate) fn read(
        options: &Options<'_>,
        table: &str,
        columns: &[FieldRef],
    ) -> Result<Self, JobError> {
        let expected = "one of csv, json";
        match options.text(FORMAT) {
            Some("csv") => csv::CsvFormat::read(options, table, columns).map(Format::Csv),
            Some("json") => json::JsonFormat::read(options, table, columns).map(Format::Json),
            Some(other) => Err(options.malformed(FORMAT, expected, other)),
            None => Err(options.missing(FORMAT, expected)),
        }
    }

    /// The ending of the names of files in this format.
    pub(crate) fn extension(&self) -> &'static str {
        match self {
            Format::Csv(_) => "csv",
            Format::Json(_) => "json",
        }
    }

    /// Whether a line end is always the end of a record, so that a file can be read from the middle.
    pub(crate) fn splittable(&self) -> bool {
        match self {
            Format::Csv(_) => false,
            Format::Json(_) => true,
        }
    }

    /// Finds the ends of records.
    pub(crate) fn framer(&self) -> Framer {
        match self {
            Format::Csv(format) => format.framer(),
            Format::Json(_) => Framer::lines(),
        }
    }

    /// Adds one value to each of `columns` and returns true, or adds nothing and returns false if the record holds no row
    /// (it is empty, a comment, or malformed and to be skipped). After an error the columns must not be used.
    pub(crate) fn decode(
        &self,
        record: &[u8],
        fields: &[FieldRef],
        columns: &mut [Column],
    ) -> Result<bool, Malformed> {
        let record = record.strip_suffix(b"\r").unwrap_or(record);
        if record.is_empty() {
            return Ok(false);
        }
        match self {
            Format::Csv(format) => format.decode(record, fields, columns),
            Format::Json(format) => format.decode(record, fields, columns),
        }
    }

    /// Appends row `row` of these named columns, with a line end. An error says why the row has no text.
    pub(crate) fn encode(
        &self,
        columns: &[(&str, Cells<'_>)],
        row: usize,
        out: &mut String,
    ) -> Result<(), String> {
        match self {
            Format::Csv(format) => format.encode(columns, row, out),
            Format::Json(format) => format.encode(columns, row, out)?,
        }
        out.push('\n');
        Ok(())
    }
}

/// A text in an error: not too long, and on one line.
fn quoted(text: &str) -> String {
    const CHARS_MAX: usize = 60;
    let mut shown: String = text
        .chars()
        .take(CHARS_MAX)
        .collect::<String>()
        .escape_debug()
        .collect();
    if text.chars().nth(CHARS_MAX).is_some() {
        shown.push('…');
    }
    format!("'{shown}'")
}
