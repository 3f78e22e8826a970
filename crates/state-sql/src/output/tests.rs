//! Batches as text.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, StringArray, UInt64Array};
use arrow::datatypes::{DataType, Field};

use super::*;

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(
        columns
            .into_iter()
            .map(|(name, column)| (name, column, true)),
    )
    .unwrap()
}

fn written(format: Format, batches: &[RecordBatch]) -> String {
    let mut text = Vec::new();
    let mut writer = RowWriter::new(&mut text, format, &batches[0].schema());
    for batch in batches {
        writer.write(batch).unwrap();
    }
    writer.finish().unwrap();
    String::from_utf8(text).unwrap()
}

#[test]
fn json_keeps_digits_and_escapes() {
    let numbers: ArrayRef = Arc::new(UInt64Array::from(vec![Some(u64::MAX), None]));
    let floats: ArrayRef = Arc::new(Float64Array::from(vec![f64::NEG_INFINITY, 1e300]));
    let text: ArrayRef = Arc::new(StringArray::from(vec!["a\"\\\u{1b}[2J", "ü\u{2028}"]));
    let rows = batch(vec![("n", numbers), ("f\"", floats), ("t", text)]);
    assert_eq!(
        written(Format::Json, &[rows]),
        "{\"n\":18446744073709551615,\"f\\\"\":\"-Infinity\",\"t\":\"a\\\"\\\\\\u001b[2J\"}\n\
         {\"n\":null,\"f\\\"\":1e300,\"t\":\"ü\\u2028\"}\n"
    );
}

#[test]
fn tables_show_nothing_that_a_terminal_takes_for_a_command() {
    let text: ArrayRef = Arc::new(StringArray::from(vec!["\u{1b}[2J\r\n"]));
    let shown = written(Format::Table, &[batch(vec![("a\u{7}", text)])]);
    assert!(
        shown.chars().all(|c| c == '\n' || !c.is_control()),
        "{shown:?}"
    );
}

#[test]
fn a_table_of_many_rows_is_written_as_it_comes() {
    let rows = |from: u64| {
        let column: ArrayRef = Arc::new(UInt64Array::from_iter_values(from..from + 400));
        batch(vec![("n", column)])
    };
    let mut text = Vec::new();
    let mut writer = RowWriter::new(&mut text, Format::Table, &rows(0).schema());
    writer.write(&rows(0)).unwrap();
    writer.write(&rows(400)).unwrap();
    // More than the sample has come: the rows are out.
    assert!(writer.table.is_begun());
    writer.write(&rows(1_000_000)).unwrap();
    writer.finish().unwrap();
    let text = String::from_utf8(text).unwrap();
    assert_eq!(text.lines().count(), 4 + 1200);
    assert!(text.contains("\n| 799 |\n| 1000000 |\n"), "{text}");
}

#[test]
fn csv_of_no_columns_and_no_rows_is_well_formed() {
    let none = RecordBatch::new_empty(Arc::new(Schema::new(vec![Field::new(
        "a,b",
        DataType::Int8,
        true,
    )])));
    assert_eq!(written(Format::Csv, &[none]), "\"a,b\"\n");
}
