//! Records read and written, compared with the `csv` crate where it can say what is right.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Fields, Schema, TimeUnit};

use super::super::{Format, Malformed};
use crate::cells::cells_of;
use crate::column::Column;
use crate::options::Options;
use crate::testing::{printed, table};
use aquifer_dataflow::ChangeBatch;

/// A format for these columns, or the message of the refusal.
pub(in crate::format) fn format(
    columns: &[Field],
    options: &[(&str, &str)],
) -> Result<(Format, Vec<Arc<Field>>), String> {
    let spec = table("t", columns.to_vec(), options);
    let fields: Vec<Arc<Field>> = spec.schema.fields().iter().cloned().collect();
    let format = Format::read(&Options::new(&spec, "filesystem"), "t", &fields);
    format
        .map(|format| (format, fields))
        .map_err(|error| error.message)
}

/// Reads records, each on its own, into one batch.
pub(in crate::format) fn read(
    format: &Format,
    fields: &[Arc<Field>],
    records: &[&str],
) -> Result<RecordBatch, Malformed> {
    let mut columns: Vec<Column> = fields
        .iter()
        .map(|field| Column::new(field.data_type()).unwrap())
        .collect();
    for record in records {
        format.decode(record.as_bytes(), fields, &mut columns)?;
    }
    let arrays = columns
        .iter_mut()
        .map(|column| column.finish().unwrap())
        .collect();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields.to_vec())), arrays).unwrap())
}

/// Writes all rows.
pub(in crate::format) fn write(format: &Format, rows: &RecordBatch) -> String {
    let schema = rows.schema();
    let columns: Vec<_> = schema
        .fields()
        .iter()
        .map(|field| field.name().as_str())
        .zip(cells_of(rows.columns()))
        .collect();
    let mut out = String::new();
    for row in 0..rows.num_rows() {
        format.encode(&columns, row, &mut out).unwrap();
    }
    out
}

fn text(name: &str) -> Field {
    Field::new(name, DataType::Utf8, true)
}

fn every_type() -> Vec<Field> {
    let element = Arc::new(Field::new_list_field(DataType::Int32, true));
    let row = Fields::from(vec![text("x"), Field::new("y", DataType::Int64, true)]);
    vec![
        Field::new("i", DataType::Int32, true),
        text("s"),
        Field::new("d", DataType::Decimal128(12, 3), true),
        Field::new("f", DataType::Float64, true),
        Field::new("b", DataType::Boolean, true),
        Field::new("day", DataType::Date32, true),
        Field::new("at", DataType::Timestamp(TimeUnit::Millisecond, None), true),
        Field::new(
            "z",
            DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())),
            true,
        ),
        Field::new("t", DataType::Time32(TimeUnit::Millisecond), true),
        Field::new("raw", DataType::Binary, true),
        Field::new("a", DataType::List(element), true),
        Field::new("r", DataType::Struct(row), true),
    ]
}

#[test]
fn every_type_is_read_and_written_back() {
    let (format, fields) = format(&every_type(), &[("format", "csv")]).unwrap();
    let record = "-7,\"a \"\"b\"\", c\",12.5,1.0E10,true,2020-01-01,2020-01-01 08:00:00.5,2020-01-01 08:00:00Z,08:00:01,AQI=,1;2;,x;5";
    let rows = read(&format, &fields, &[record, "", ",,,,,,,,,,,"]).unwrap();
    assert_eq!(
        printed(&ChangeBatch::inserts(rows.clone())),
        [
            "+I[-7, a \"b\", c, 12.500, 1.0E10, true, 2020-01-01, 2020-01-01T08:00:00.500, 2020-01-01T08:00:00Z, 08:00:01, [1, 2], [1, 2, null], +I[x, 5]]",
            "+I[null, , null, null, null, null, null, null, null, null, null, null]",
        ]
    );
    let written = write(&format, &rows);
    assert_eq!(
        written,
        format!("{}\n,\"\",,,,,,,,,,\n", record.replace("12.5,", "12.500,"))
    );
    let lines: Vec<&str> = written.lines().collect();
    assert_eq!(read(&format, &fields, &lines).unwrap(), rows);
}

#[test]
fn texts_survive_and_other_readers_agree() {
    let nasty = [
        "",
        " ",
        "a,b",
        "\"",
        "\"\"",
        "a\"b",
        "line\nend",
        "\r",
        "#no comment",
        "é€",
        "'",
        "a\\b",
        ";",
        "null",
    ];
    let columns = [text("a"), text("b")];
    let (format, fields) = format(
        &columns,
        &[("format", "csv"), ("csv.allow-comments", "true")],
    )
    .unwrap();
    let mut column = Column::new(&DataType::Utf8).unwrap();
    let mut other = Column::new(&DataType::Utf8).unwrap();
    for (i, value) in nasty.iter().enumerate() {
        column.push(crate::scalar::Scalar::Text(value));
        other.push(crate::scalar::Scalar::Text(nasty[(i + 3) % nasty.len()]));
    }
    let arrays = vec![column.finish().unwrap(), other.finish().unwrap()];
    let rows = RecordBatch::try_new(Arc::new(Schema::new(fields.clone())), arrays).unwrap();
    let written = write(&format, &rows);

    let mut oracle = csv::ReaderBuilder::new()
        .has_headers(false)
        .from_reader(written.as_bytes());
    let records: Vec<csv::StringRecord> = oracle.records().map(Result::unwrap).collect();
    assert_eq!(records.len(), nasty.len());
    for (i, record) in records.iter().enumerate() {
        assert_eq!(
            (&record[0], &record[1]),
            (nasty[i], nasty[(i + 3) % nasty.len()])
        );
    }

    let mut framer = format.framer();
    let mut rest = written.as_str();
    let mut found = Vec::new();
    while let Some(end) = framer.find_end(rest.as_bytes()) {
        found.push(&rest[..end]);
        rest = &rest[end + 1..];
    }
    assert_eq!(read(&format, &fields, &found).unwrap(), rows);
}

#[test]
fn options_change_what_the_characters_mean() {
    let columns = [text("a"), Field::new("b", DataType::Int32, true)];
    let read_one = |options: &[(&str, &str)], records: &[&str]| {
        let mut all = vec![("format", "csv")];
        all.extend_from_slice(options);
        let (format, fields) = format(&columns, &all).unwrap();
        read(&format, &fields, records).map(|rows| printed(&ChangeBatch::inserts(rows)))
    };
    assert_eq!(
        read_one(&[("csv.field-delimiter", "|")], &["a,b|1"]).unwrap(),
        ["+I[a,b, 1]"]
    );
    assert_eq!(
        read_one(&[("csv.field-delimiter", "\\t")], &["x\t1"]).unwrap(),
        ["+I[x, 1]"]
    );
    assert_eq!(
        read_one(&[("csv.quote-character", "'")], &["'a,''b',1"]).unwrap(),
        ["+I[a,'b, 1]"]
    );
    assert_eq!(
        read_one(&[("csv.disable-quote-character", "true")], &["\"a\",1"]).unwrap(),
        ["+I[\"a\", 1]"]
    );
    assert_eq!(
        read_one(
            &[("csv.escape-character", "\\")],
            &["a\\,b,1", "\"a\\\"b\",2"]
        )
        .unwrap(),
        ["+I[a,b, 1]", "+I[a\"b, 2]"]
    );
    assert_eq!(
        read_one(&[("csv.null-literal", "NULL")], &["NULL,NULL", "x,"]).unwrap(),
        ["+I[null, null]", "+I[x, null]"]
    );
    assert_eq!(
        read_one(
            &[("csv.allow-comments", "true")],
            &["# a comment, \"", "x,1"]
        )
        .unwrap(),
        ["+I[x, 1]"]
    );
    assert_eq!(
        read_one(
            &[("csv.ignore-parse-errors", "true")],
            &["x,one", "y", "\"z", "v,2,3"]
        )
        .unwrap(),
        ["+I[x, null]", "+I[y, null]", "+I[v, 2]"]
    );
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let columns = [text("a"), Field::new("b", DataType::Int32, false)];
    let (format, fields) = format(&columns, &[("format", "csv")]).unwrap();
    let wrong = |record: &str| {
        let error = read(&format, &fields, &[record]).unwrap_err();
        (error.at, error.what)
    };
    assert_eq!(
        wrong("abc,4x"),
        (4, "column 'b' must be INT, found '4x'".to_owned())
    );
    assert_eq!(
        wrong("abc,"),
        (4, "column 'b' must not be null, found nothing".to_owned())
    );
    assert_eq!(
        wrong("abc"),
        (0, "a row must have 2 fields, found 1".to_owned())
    );
    assert_eq!(
        wrong("x,1,2"),
        (0, "a row must have 2 fields, found 3".to_owned())
    );
    assert_eq!(wrong("x,\"1").0, 2);
    assert_eq!(
        wrong("\"x\"y,1"),
        (
            3,
            "after a closing quote there must be ',', found 'y'".to_owned()
        )
    );
    let not_utf8 = format.decode(b"ab\xFF,1", &fields, &mut []).unwrap_err();
    assert_eq!(
        (not_utf8.at, not_utf8.what.as_str()),
        (2, "the text must be UTF-8")
    );
}

#[test]
fn options_that_cannot_work_are_refused() {
    let refused =
        |column: Field, options: &[(&str, &str)]| format(&[column], options).err().unwrap();
    assert!(refused(text("a"), &[]).contains("needs the option 'format'"));
    assert!(refused(text("a"), &[("format", "xml")]).contains("one of csv, json, found 'xml'"));
    let csv = ("format", "csv");
    assert!(
        refused(text("a"), &[csv, ("csv.field-delimiter", "::")]).contains("one ASCII character")
    );
    assert!(refused(text("a"), &[csv, ("csv.quote-character", ",")]).contains("another character"));
    assert!(
        refused(
            text("a"),
            &[
                csv,
                ("csv.quote-character", "'"),
                ("csv.disable-quote-character", "true")
            ]
        )
        .contains("left out")
    );
    let entries = Field::new_map(
        "m",
        "entries",
        Field::new("key", DataType::Utf8, false),
        text("value"),
        false,
        true,
    );
    assert!(refused(entries, &[csv]).contains("MAP<STRING, STRING> has no CSV form"));
}

/// Any bytes at all give rows or an error, never a panic.
#[test]
fn random_bytes_do_no_harm() {
    let options = BTreeMap::from([
        ("format", "csv"),
        ("csv.escape-character", "\\"),
        ("csv.ignore-parse-errors", "false"),
    ]);
    let options: Vec<(&str, &str)> = options.into_iter().collect();
    let (format, fields) = format(&every_type(), &options).unwrap();
    let alphabet = b",\"\\;#\n\r1-.eTZ:a\xFF\xC3";
    let mut state = 42_u64;
    for _ in 0..20_000 {
        let mut record = Vec::new();
        for _ in 0..state % 40 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            record.push(alphabet[(state >> 33) as usize % alphabet.len()]);
        }
        state = state.wrapping_add(1);
        let mut columns: Vec<Column> = fields
            .iter()
            .map(|field| Column::new(field.data_type()).unwrap())
            .collect();
        if let Err(error) = format.decode(&record, &fields, &mut columns) {
            assert!(error.at <= record.len());
        }
    }
}
