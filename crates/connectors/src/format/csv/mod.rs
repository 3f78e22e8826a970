//! CSV, with Flink's options.
//!
//! | option | default | meaning |
//! |---|---|---|
//! | `csv.field-delimiter` | `,` | between fields |
//! | `csv.quote-character` | `"` | around fields; doubled inside them |
//! | `csv.disable-quote-character` | false | no quoting at all |
//! | `csv.escape-character` | none | takes the next character as it is |
//! | `csv.null-literal` | none | text that stands for null |
//! | `csv.array-element-delimiter` | `;` | between the elements of an ARRAY and the fields of a ROW |
//! | `csv.allow-comments` | false | lines that begin with `#` are no rows |
//! | `csv.ignore-parse-errors` | false | a field that cannot be read is null instead of an error |
//! | `csv.write-bigdecimal-in-scientific-notation` | true | small decimals with an exponent |
//!
//! There is no header line. Without a null literal, an empty field is null, except for STRING where it is the empty string; null
//! is written as an empty field. BYTES are base64. MAP has no CSV form.

mod decode;
mod encode;

#[cfg(test)]
pub(in crate::format) mod tests;

use arrow::datatypes::{DataType, FieldRef};

use aquifer_dataflow::JobError;

use super::framer::CsvMarks;
use super::{Framer, Malformed};
use crate::cells::Cells;
use crate::column::{Column, supported};
use crate::options::Options;
use crate::types::sql_name;

pub(super) const KNOWN: &[&str] = &[
    "csv.allow-comments",
    "csv.array-element-delimiter",
    "csv.disable-quote-character",
    "csv.escape-character",
    "csv.field-delimiter",
    "csv.ignore-parse-errors",
    "csv.null-literal",
    "csv.quote-character",
    "csv.write-bigdecimal-in-scientific-notation",
];

/// CSV as one table reads and writes it.
pub(crate) struct CsvFormat {
    marks: CsvMarks,
    null_literal: Option<String>,
    element_delimiter: String,
    ignore_errors: bool,
    scientific_decimals: bool,
}

impl CsvFormat {
    pub(super) fn read(
        options: &Options<'_>,
        table: &str,
        columns: &[FieldRef],
    ) -> Result<Self, JobError> {
        for column in columns {
            if !representable(column.data_type()) {
                return Err(JobError::usage(format!(
                    "table '{table}': column '{}' of type {} has no CSV form; CSV holds scalars, and ARRAYs and ROWs of scalars",
                    column.name(),
                    sql_name(column.data_type())
                )));
            }
        }
        let no_quotes = options.flag("csv.disable-quote-character", false)?;
        let quote = options.character("csv.quote-character")?;
        if let (true, Some(text)) = (no_quotes, options.text("csv.quote-character")) {
            let expected = "left out when 'csv.disable-quote-character' is true";
            return Err(options.malformed("csv.quote-character", expected, text));
        }
        let marks = CsvMarks {
            delimiter: options.character("csv.field-delimiter")?.unwrap_or(b','),
            quote: (!no_quotes).then(|| quote.unwrap_or(b'"')),
            escape: options.character("csv.escape-character")?,
            comments: options.flag("csv.allow-comments", false)?,
        };
        if marks.quote == Some(marks.delimiter) || marks.escape == Some(marks.delimiter) {
            let found = options.text("csv.field-delimiter").unwrap_or(",");
            let expected = "another character than the quote and the escape character";
            return Err(options.malformed("csv.field-delimiter", expected, found));
        }
        let element_delimiter = options.text("csv.array-element-delimiter").unwrap_or(";");
        if element_delimiter.is_empty() {
            return Err(options.malformed("csv.array-element-delimiter", "a text", ""));
        }
        Ok(Self {
            marks,
            null_literal: options.text("csv.null-literal").map(str::to_owned),
            element_delimiter: element_delimiter.to_owned(),
            ignore_errors: options.flag("csv.ignore-parse-errors", false)?,
            scientific_decimals: options
                .flag("csv.write-bigdecimal-in-scientific-notation", true)?,
        })
    }

    pub(super) fn framer(&self) -> Framer {
        Framer::csv(self.marks)
    }

    pub(super) fn decode(
        &self,
        record: &[u8],
        fields: &[FieldRef],
        columns: &mut [Column],
    ) -> Result<bool, Malformed> {
        decode::decode(self, record, fields, columns)
    }

    pub(super) fn encode(&self, columns: &[(&str, Cells<'_>)], row: usize, out: &mut String) {
        encode::encode(self, columns, row, out);
    }
}

fn representable(data_type: &DataType) -> bool {
    match data_type {
        DataType::Struct(fields) => {
            supported(data_type) && fields.iter().all(|field| scalar(field.data_type()))
        }
        DataType::List(element) => supported(data_type) && scalar(element.data_type()),
        _ => scalar(data_type),
    }
}

fn scalar(data_type: &DataType) -> bool {
    let nested = matches!(
        data_type,
        DataType::Struct(_) | DataType::List(_) | DataType::Map(_, _)
    );
    !nested && supported(data_type)
}
