//! Objects read and written, compared with `serde_json` where it can say what is right.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, TimeUnit};

use super::super::csv::tests::{format, read, write};
use super::parse::Json;
use crate::testing::printed;
use aquifer_dataflow::ChangeBatch;

fn text(name: &str) -> Field {
    Field::new(name, DataType::Utf8, true)
}

fn every_type() -> Vec<Field> {
    let element = Arc::new(Field::new_list_field(DataType::Int32, true));
    let row = Fields::from(vec![text("x"), Field::new("y", DataType::Int64, true)]);
    let map = Field::new_map(
        "m",
        "entries",
        Field::new("key", DataType::Utf8, false),
        Field::new("value", DataType::Int32, true),
        false,
        true,
    );
    vec![
        Field::new("i", DataType::Int32, true),
        text("s"),
        Field::new("d", DataType::Decimal128(22, 3), true),
        Field::new("f", DataType::Float64, true),
        Field::new("b", DataType::Boolean, true),
        Field::new("day", DataType::Date32, true),
        Field::new("at", DataType::Timestamp(TimeUnit::Millisecond, None), true),
        Field::new(
            "z",
            DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())),
            true,
        ),
        Field::new("raw", DataType::Binary, true),
        Field::new("a", DataType::List(element), true),
        Field::new("r", DataType::Struct(row), true),
        map,
    ]
}

const LINE: &str = r#"{"i":-7,"s":"a \"b\"\n\\","d":1234567890123456789.125,"f":1.5,"b":true,"day":"2020-01-01","at":"2020-01-01 08:00:00.5","z":"2020-01-01 08:00:00Z","raw":"AQI=","a":[1,null],"r":{"x":"y","y":5},"m":{"k":1,"l":null}}"#;

#[test]
fn every_type_is_read_and_written_back() {
    let (format, fields) = format(&every_type(), &[("format", "json")]).unwrap();
    let rows = read(&format, &fields, &[LINE, "", " { } \r"]).unwrap();
    assert_eq!(
        printed(&ChangeBatch::inserts(rows.clone())).concat(),
        "+I[-7, a \"b\"\\, 1234567890123456789.125, 1.5, true, 2020-01-01, 2020-01-01T08:00:00.500, 2020-01-01T08:00:00Z, [1, 2], [1, null], +I[y, 5], {k=1, l=null}]\
         +I[null, null, null, null, null, null, null, null, null, null, null, null]"
    );
    let written = write(&format, &rows);
    assert_eq!(written.lines().next(), Some(LINE));
    for line in written.lines() {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(value.as_object().unwrap().len(), 12);
    }
    let lines: Vec<&str> = written.lines().collect();
    assert_eq!(read(&format, &fields, &lines).unwrap(), rows);
}

#[test]
fn options_change_reading_and_writing() {
    let columns = [
        text("s"),
        Field::new("at", DataType::Timestamp(TimeUnit::Millisecond, None), true),
        Field::new("d", DataType::Decimal128(10, 8), true),
    ];
    let (iso, fields) = format(
        &columns,
        &[
            ("format", "json"),
            ("json.timestamp-format.standard", "ISO-8601"),
            ("json.encode.decimal-as-plain-number", "true"),
            ("json.encode.ignore-null-fields", "true"),
        ],
    )
    .unwrap();
    let line = r#"{"at":"2020-01-01T00:00:00","d":0.00000001}"#;
    let rows = read(&iso, &fields, &[line]).unwrap();
    assert_eq!(write(&iso, &rows).trim_end(), line);
    let (sql, _) = format(&columns, &[("format", "json")]).unwrap();
    assert_eq!(
        write(&sql, &rows).trim_end(),
        r#"{"s":null,"at":"2020-01-01 00:00:00","d":1E-8}"#
    );

    let (strict, _) = format(
        &columns,
        &[("format", "json"), ("json.fail-on-missing-field", "true")],
    )
    .unwrap();
    let error = read(&strict, &fields, &[r#"  {"s":"x","at":null}"#]).unwrap_err();
    assert_eq!(
        (error.at, error.what.as_str()),
        (2, "the object must have the member 'd', found none")
    );

    let (lenient, _) = format(
        &columns,
        &[("format", "json"), ("json.ignore-parse-errors", "true")],
    )
    .unwrap();
    let rows = read(
        &lenient,
        &fields,
        &[r#"{"s":"x","at":"soon","d":7}"#, "{", "[]"],
    )
    .unwrap();
    assert_eq!(
        printed(&ChangeBatch::inserts(rows)),
        ["+I[x, null, 7.00000000]"]
    );
}

#[test]
fn scalars_are_taken_as_numbers_and_as_texts() {
    let columns = [
        Field::new("i", DataType::Int32, true),
        text("s"),
        Field::new("f", DataType::Float32, true),
    ];
    let (format, fields) = format(&columns, &[("format", "json")]).unwrap();
    let rows = read(
        &format,
        &fields,
        &[
            r#"{"i":" 5 ","s":12.50,"f":"NaN"}"#,
            r#"{"i":1e3,"s":{"a": [1]},"f":3}"#,
            r#"{"i":2.0,"s":true,"i":3}"#,
        ],
    )
    .unwrap();
    assert_eq!(
        printed(&ChangeBatch::inserts(rows)),
        [
            "+I[5, 12.50, NaN]",
            "+I[1000, {\"a\": [1]}, 3.0]",
            "+I[3, true, null]"
        ]
    );
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let row = Fields::from(vec![Field::new("y", DataType::Int64, true)]);
    let columns = [
        Field::new("i", DataType::Int32, false),
        Field::new("r", DataType::Struct(row), true),
    ];
    let (format, fields) = format(&columns, &[("format", "json")]).unwrap();
    let wrong = |record: &str| {
        let error = read(&format, &fields, &[record]).unwrap_err();
        (error.at, error.what)
    };
    assert_eq!(
        wrong(r#"{"i": "x"}"#),
        (6, "column 'i' must be INT, found '\\\"x\\\"'".to_owned())
    );
    assert_eq!(
        wrong(r#"{"i":1.5}"#).1,
        "column 'i' must be INT, found '1.5'"
    );
    assert_eq!(
        wrong(r#"{"i":3000000000}"#).1,
        "column 'i' must be INT, found '3000000000'"
    );
    assert_eq!(
        wrong(r#"{"i":1,"r":{"y":[]}}"#),
        (16, "column 'r.y' must be BIGINT, found '[]'".to_owned())
    );
    assert_eq!(
        wrong(r#"{"i":1,"r":[1]}"#).1,
        "column 'r' must be ROW<y BIGINT>, found '[1]'"
    );
    assert_eq!(
        wrong(r#"{"i":null}"#).1,
        "column 'i' must not be null, found null"
    );
    assert_eq!(
        wrong("{}").1,
        "the object must have the member 'i', found none"
    );
    assert_eq!(
        wrong(r#"{"i":1"#),
        (
            6,
            "the JSON must have ',' or '}' here, found the end of the line".to_owned()
        )
    );
    assert_eq!(wrong("17").1, "a row must be a JSON object, found '17'");
}

#[test]
fn map_keys_that_are_not_strings_are_refused() {
    let map = Field::new_map(
        "m",
        "entries",
        Field::new("key", DataType::Int32, false),
        text("value"),
        false,
        true,
    );
    let refusal = format(&[map], &[("format", "json")]).err().unwrap();
    assert!(
        refusal.contains("the keys of a MAP must be STRING"),
        "{refusal}"
    );
}

#[test]
fn the_parser_accepts_what_serde_json_accepts() {
    let seeds = [
        LINE,
        r#"[1, -0, 1.5e+10, 0.0E-1, "\u00e9\ud83d\ude00\/\b\f", true, false, null, [], {}, [[]]]"#,
        r#"{"a":{"b":[{"c":"d"}]}}"#,
    ];
    let mut state = 7_u64;
    let mut next = |n: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) as usize % n
    };
    let alphabet = b"{}[]\",:\\u0123eE+-.tfn \t\x01ad\xc3\xa9";
    let mut accepted = 0;
    for _ in 0..50_000 {
        let mut bytes = seeds[next(seeds.len())].as_bytes().to_vec();
        for _ in 0..next(4) {
            let at = next(bytes.len());
            match next(3) {
                0 => bytes[at] = alphabet[next(alphabet.len())],
                1 => drop(bytes.remove(at)),
                _ => bytes.insert(at, alphabet[next(alphabet.len())]),
            }
        }
        let Ok(text) = std::str::from_utf8(&bytes) else {
            continue;
        };
        let oracle = serde_json::from_str::<serde_json::Value>(text);
        // It gives up at a number beyond the range of a double, before it has seen the rest.
        if oracle
            .as_ref()
            .err()
            .is_some_and(|error| error.to_string().contains("out of range"))
        {
            continue;
        }
        assert_eq!(
            Json::parse(text).is_ok(),
            oracle.is_ok(),
            "{text}: {oracle:?}"
        );
        accepted += usize::from(oracle.is_ok());
    }
    assert!(accepted > 10_000);
    let deep = "[".repeat(100_000);
    assert!(Json::parse(&deep).unwrap_err().what.contains("64 deep"));
}
