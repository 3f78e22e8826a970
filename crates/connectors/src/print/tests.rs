//! Vectors of the line format, the prefixes, and what a closed pipe does.

use std::collections::BTreeMap;
use std::io;

use aquifer_dataflow::{JobErrorKind, RowKind};
use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array,
    Int64Array, ListArray, MapBuilder, RecordBatch, StringArray, StringBuilder, StructArray,
    Time32MillisecondArray, TimestampMillisecondArray,
};
use arrow::datatypes::{DataType, Field, Fields, Int32Type, Schema};

use super::*;
use crate::testing::context;

fn one_column(array: ArrayRef) -> ChangeBatch {
    ChangeBatch::inserts(RecordBatch::try_from_iter_with_nullable([("c", array, true)]).unwrap())
}

fn lines(array: impl arrow::array::Array + 'static) -> Vec<String> {
    let mut out = String::new();
    format_change_batch(&one_column(Arc::new(array)), &mut out);
    out.lines().map(str::to_owned).collect()
}

#[test]
fn scalars_look_as_in_flink() {
    assert_eq!(
        lines(Int64Array::from(vec![Some(-7), None])),
        ["+I[-7]", "+I[null]"]
    );
    assert_eq!(
        lines(BooleanArray::from(vec![true, false])),
        ["+I[true]", "+I[false]"]
    );
    assert_eq!(
        lines(Float64Array::from(vec![1.0, 1e10, f64::NAN])),
        ["+I[1.0]", "+I[1.0E10]", "+I[NaN]"]
    );
    let decimals = Decimal128Array::from(vec![1_234_500, -5]).with_precision_and_scale(23, 3);
    assert_eq!(lines(decimals.unwrap()), ["+I[1234.500]", "+I[-0.005]"]);
    assert_eq!(lines(Date32Array::from(vec![18_262])), ["+I[2020-01-01]"]);
    assert_eq!(
        lines(Time32MillisecondArray::from(vec![28_800_000])),
        ["+I[08:00]"]
    );
    assert_eq!(
        lines(StringArray::from(vec!["", "a, b"])),
        ["+I[]", "+I[a, b]"]
    );
    assert_eq!(
        lines(BinaryArray::from(vec![&[1_u8, 254][..], &[]])),
        ["+I[[1, -2]]", "+I[[]]"]
    );
}

#[test]
fn timestamps_leave_out_what_is_zero() {
    let ms = vec![1_586_937_600_000, 1_577_836_802_500, -1];
    assert_eq!(
        lines(TimestampMillisecondArray::from(ms.clone())),
        [
            "+I[2020-04-15T08:00]",
            "+I[2020-01-01T00:00:02.500]",
            "+I[1969-12-31T23:59:59.999]"
        ]
    );
    assert_eq!(
        lines(TimestampMillisecondArray::from(ms).with_timezone("UTC")),
        [
            "+I[2020-04-15T08:00:00Z]",
            "+I[2020-01-01T00:00:02.500Z]",
            "+I[1969-12-31T23:59:59.999Z]"
        ]
    );
}

#[test]
fn rows_arrays_and_maps_nest() {
    let fields = Fields::from(vec![
        Field::new("a", DataType::Int32, true),
        Field::new("b", DataType::Utf8, true),
    ]);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int32Array::from(vec![Some(2), None])),
        Arc::new(StringArray::from(vec!["x", "y"])),
    ];
    assert_eq!(
        lines(StructArray::new(
            fields,
            columns,
            Some(vec![true, false].into())
        )),
        ["+I[+I[2, x]]", "+I[null]"]
    );
    let lists = ListArray::from_iter_primitive::<Int32Type, _, _>(vec![
        Some(vec![Some(1), None]),
        Some(vec![]),
        None,
    ]);
    assert_eq!(lines(lists), ["+I[[1, null]]", "+I[[]]", "+I[null]"]);
    let mut maps = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    maps.keys().append_value("k");
    maps.values().append_value("v");
    maps.keys().append_value("l");
    maps.values().append_null();
    maps.append(true).unwrap();
    assert_eq!(lines(maps.finish()), ["+I[{k=v, l=null}]"]);
}

#[test]
fn every_kind_of_change_has_its_mark() {
    let rows = one_column(Arc::new(Int32Array::from(vec![1, 2, 3, 4]))).rows;
    let kinds = vec![
        RowKind::Insert,
        RowKind::UpdateBefore,
        RowKind::UpdateAfter,
        RowKind::Delete,
    ];
    let mut out = String::new();
    format_change_batch(&ChangeBatch::new(rows, kinds), &mut out);
    assert_eq!(out, "+I[1]\n-U[2]\n+U[3]\n-D[4]\n");
}

fn table(options: &[(&str, &str)]) -> TableSpec {
    TableSpec {
        name: "shown".to_owned(),
        schema: Arc::new(Schema::new(vec![Field::new("c", DataType::Int32, true)])),
        options: options
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect(),
        primary_key: Vec::new(),
        partitioned_by: Vec::new(),
    }
}

#[test]
fn writers_are_told_apart() {
    let runtime = crate::testing::runtime();
    for (identifier, workers, expected) in [
        (None, 1, "+I[5]\n"),
        (None, 3, "2> +I[5]\n"),
        (Some("out"), 1, "out> +I[5]\n"),
        (Some("out"), 3, "out:2> +I[5]\n"),
    ] {
        let written = Arc::new(Mutex::new(Vec::new()));
        let nowhere = Arc::new(Mutex::new(io::sink()));
        let factory = PrintFactory::new(written.clone(), nowhere);
        let mut spec = table(&[]);
        if let Some(identifier) = identifier {
            spec.options = BTreeMap::from([("print-identifier".into(), identifier.into())]);
        }
        let sink = factory.sink(&spec).unwrap();
        let worker = usize::from(workers > 1);
        let mut writer = sink.writer(context(&runtime, worker, workers)).unwrap();
        writer
            .write(&one_column(Arc::new(Int32Array::from(vec![5]))))
            .unwrap();
        assert_eq!(writer.prepare_commit(1).unwrap(), Vec::<Vec<u8>>::new());
        assert_eq!(
            String::from_utf8(written.lock().unwrap().clone()).unwrap(),
            expected
        );
    }
}

struct ClosedPipe;

impl Write for ClosedPipe {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_closed_pipe_fails_the_job() {
    let runtime = crate::testing::runtime();
    let factory = PrintFactory::new(
        Arc::new(Mutex::new(ClosedPipe)),
        Arc::new(Mutex::new(io::sink())),
    );
    let sink = factory.sink(&table(&[])).unwrap();
    let mut writer = sink.writer(context(&runtime, 0, 1)).unwrap();
    let error = writer
        .write(&one_column(Arc::new(Int32Array::from(vec![5]))))
        .unwrap_err();
    assert_eq!(error.kind, JobErrorKind::Failed);
    assert_eq!(error.message, "the output was closed by whoever read it");
}

#[test]
fn unknown_options_name_the_nearest_one() {
    let error = PrintFactory::default()
        .sink(&table(&[("print-identifer", "x")]))
        .err()
        .unwrap();
    assert_eq!(error.kind, JobErrorKind::Usage);
    assert_eq!(
        error.message,
        "table 'shown': connector 'print' has no option 'print-identifer'; the nearest one is 'print-identifier'"
    );
    assert!(PrintFactory::default().source(&table(&[])).is_err());
}
