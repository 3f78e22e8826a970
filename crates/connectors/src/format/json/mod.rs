//! JSON lines, with Flink's options: one object per line, a member per column.
//!
//! | option | default | meaning |
//! |---|---|---|
//! | `json.fail-on-missing-field` | false | a member that is not there is an error instead of null |
//! | `json.ignore-parse-errors` | false | what cannot be read is null; a line that is no JSON object is skipped |
//! | `json.timestamp-format.standard` | SQL | `2020-01-01 08:00:00.5`, or with ISO-8601 `2020-01-01T08:00:00.5`; both are read either way |
//! | `json.map-null-key.mode` | FAIL | what to do with a null key of a MAP: FAIL, DROP the entry, or write the LITERAL |
//! | `json.map-null-key.literal` | null | that literal |
//! | `json.encode.decimal-as-plain-number` | false | small decimals without an exponent |
//! | `json.encode.ignore-null-fields` | false | nulls are left out |
//!
//! Numbers are read from their text, so decimals are exact. BYTES are base64.

mod decode;
mod encode;
mod parse;

#[cfg(test)]
mod tests;

use arrow::datatypes::{DataType, FieldRef};

use aquifer_dataflow::JobError;

use super::Malformed;
use crate::cells::Cells;
use crate::column::{Column, supported};
use crate::options::Options;
use crate::types::sql_name;

pub(super) const KNOWN: &[&str] = &[
    "json.encode.decimal-as-plain-number",
    "json.encode.ignore-null-fields",
    "json.fail-on-missing-field",
    "json.ignore-parse-errors",
    "json.map-null-key.literal",
    "json.map-null-key.mode",
    "json.timestamp-format.standard",
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum NullKeys {
    Fail,
    Drop,
    Literal,
}

/// JSON as one table reads and writes it.
pub(crate) struct JsonFormat {
    fail_on_missing: bool,
    ignore_errors: bool,
    /// Between date and time when writing.
    separator: char,
    null_keys: NullKeys,
    null_key_literal: String,
    plain_decimals: bool,
    leave_out_nulls: bool,
}

impl JsonFormat {
    pub(super) fn read(
        options: &Options<'_>,
        table: &str,
        columns: &[FieldRef],
    ) -> Result<Self, JobError> {
        for column in columns {
            if !representable(column.data_type()) {
                return Err(JobError::usage(format!(
                    "table '{table}': column '{}' of type {} has no JSON form; the keys of a MAP must be STRING",
                    column.name(),
                    sql_name(column.data_type())
                )));
            }
        }
        let fail_on_missing = options.flag("json.fail-on-missing-field", false)?;
        let ignore_errors = options.flag("json.ignore-parse-errors", false)?;
        if fail_on_missing && ignore_errors {
            let expected = "false when 'json.fail-on-missing-field' is true";
            return Err(options.malformed("json.ignore-parse-errors", expected, "true"));
        }
        let standard = options.choice("json.timestamp-format.standard", &["SQL", "ISO-8601"], 0)?;
        let modes = [NullKeys::Fail, NullKeys::Drop, NullKeys::Literal];
        let mode = options.choice("json.map-null-key.mode", &["FAIL", "DROP", "LITERAL"], 0)?;
        Ok(Self {
            fail_on_missing,
            ignore_errors,
            separator: if standard == 0 { ' ' } else { 'T' },
            null_keys: modes.get(mode).copied().unwrap_or(NullKeys::Fail),
            null_key_literal: options
                .text("json.map-null-key.literal")
                .unwrap_or("null")
                .to_owned(),
            plain_decimals: options.flag("json.encode.decimal-as-plain-number", false)?,
            leave_out_nulls: options.flag("json.encode.ignore-null-fields", false)?,
        })
    }

    pub(super) fn decode(
        &self,
        record: &[u8],
        fields: &[FieldRef],
        columns: &mut [Column],
    ) -> Result<bool, Malformed> {
        decode::decode(self, record, fields, columns)
    }

    pub(super) fn encode(
        &self,
        columns: &[(&str, Cells<'_>)],
        row: usize,
        out: &mut String,
    ) -> Result<(), String> {
        encode::encode(self, columns, row, out)
    }
}

fn representable(data_type: &DataType) -> bool {
    let inner = match data_type {
        DataType::Struct(fields) => fields.iter().all(|field| representable(field.data_type())),
        DataType::List(element) => representable(element.data_type()),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(pair) => {
                pair.first()
                    .is_some_and(|key| key.data_type() == &DataType::Utf8)
                    && pair.iter().all(|field| representable(field.data_type()))
            }
            _ => false,
        },
        _ => true,
    };
    inner && supported(data_type)
}
