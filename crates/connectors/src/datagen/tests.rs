//! Bounds of every type, sequences, determinism across readers and restarts, pacing and refusals.

use std::sync::atomic::{AtomicI64, Ordering};

use aquifer_dataflow::JobErrorKind;
use arrow::array::{Array, AsArray};
use arrow::datatypes::{
    DataType, Decimal128Type, Field, Fields, Float64Type, Int8Type, Int64Type, TimeUnit,
    TimestampMillisecondType,
};

use super::*;
use crate::testing::{context_with_clock, printed, runtime, table};

const START_MS: i64 = 1_577_836_800_000;

fn every_type() -> Vec<Field> {
    let inner = Fields::from(vec![
        Field::new("a", DataType::Int64, true),
        Field::new("b", DataType::Utf8, true),
    ]);
    vec![
        Field::new("id", DataType::Int64, false),
        Field::new("tiny", DataType::Int8, true),
        Field::new("yes", DataType::Boolean, true),
        Field::new("price", DataType::Decimal128(10, 2), true),
        Field::new("ratio", DataType::Float64, true),
        Field::new("name", DataType::Utf8, true),
        Field::new("raw", DataType::Binary, true),
        Field::new("day", DataType::Date32, true),
        Field::new("at", DataType::Timestamp(TimeUnit::Millisecond, None), true),
        Field::new("pair", DataType::Struct(inner), true),
    ]
}

const OPTIONS: &[(&str, &str)] = &[
    ("number-of-rows", "2000"),
    ("rows-per-second", "1000000000"),
    ("fields.id.kind", "sequence"),
    ("fields.id.start", "5"),
    ("fields.id.end", "100000"),
    ("fields.tiny.min", "-3"),
    ("fields.tiny.max", "4"),
    ("fields.price.min", "1.50"),
    ("fields.price.max", "9.99"),
    ("fields.ratio.min", "0.25"),
    ("fields.ratio.max", "0.75"),
    ("fields.name.length", "20"),
    ("fields.name.var-len", "true"),
    ("fields.raw.length", "5"),
    ("fields.at.max-past", "10 s"),
    ("fields.pair.a.min", "1"),
    ("fields.pair.a.max", "1"),
    ("fields.pair.b.null-rate", "0.5"),
];

fn source(options: &[(&str, &str)]) -> Arc<dyn Source> {
    DatagenFactory
        .source(&table("made", every_type(), options))
        .unwrap()
}

/// Reads everything with a clock that moves when a reader waits, starting from `splits`.
fn read(source: &dyn Source, splits: Vec<Vec<u8>>, workers: usize) -> Vec<ChangeBatch> {
    let runtime = runtime();
    let mut batches = Vec::new();
    for worker in 0..workers {
        let mine = splits
            .iter()
            .skip(worker)
            .step_by(workers)
            .cloned()
            .collect();
        let clock = Arc::new(AtomicI64::new(START_MS));
        let context = context_with_clock(&runtime, worker, workers, Arc::clone(&clock));
        let mut reader = source.reader(mine, context).unwrap();
        loop {
            match reader.poll(300).unwrap() {
                SourcePoll::Batch(batch) => batches.push(batch),
                SourcePoll::Pending { retry_ms } => {
                    clock.fetch_add(retry_ms as i64, Ordering::Relaxed);
                }
                SourcePoll::Finished => break,
            }
        }
    }
    batches
}

fn lines(batches: &[ChangeBatch]) -> Vec<String> {
    let mut lines: Vec<String> = batches.iter().flat_map(printed).collect();
    lines.sort_unstable();
    lines
}

#[test]
fn values_keep_to_their_bounds() {
    let source = source(OPTIONS);
    assert!(source.bounded());
    let mut ids = Vec::new();
    let (mut nulls, mut lengths) = (0, [false; 21]);
    for batch in read(source.as_ref(), source.splits(2).unwrap(), 2) {
        let column = |name: &str| batch.rows.column_by_name(name).unwrap().as_ref();
        let at = column("at").as_primitive::<TimestampMillisecondType>();
        let pair = column("pair").as_struct();
        for i in 0..batch.rows.num_rows() {
            ids.push(column("id").as_primitive::<Int64Type>().value(i));
            assert!((-3..=4).contains(&column("tiny").as_primitive::<Int8Type>().value(i)));
            let price = column("price").as_primitive::<Decimal128Type>().value(i);
            assert!((150..=999).contains(&price));
            let ratio = column("ratio").as_primitive::<Float64Type>().value(i);
            assert!((0.25..=0.75).contains(&ratio));
            let name = column("name").as_string::<i32>().value(i);
            assert!(name.bytes().all(|byte| byte.is_ascii_hexdigit()));
            lengths[name.len()] = true;
            assert_eq!(column("raw").as_binary::<i32>().value(i).len(), 5);
            assert!((START_MS - 10_000..=START_MS + 1).contains(&at.value(i)));
            assert_eq!(pair.column(0).as_primitive::<Int64Type>().value(i), 1);
            nulls += usize::from(pair.column(1).is_null(i));
        }
    }
    ids.sort_unstable();
    assert_eq!(ids, (5..2_005).collect::<Vec<_>>());
    assert!((850..1_150).contains(&nulls), "{nulls}");
    assert!(!lengths[0] && lengths[1..].iter().all(|seen| *seen));
}

#[test]
fn rows_are_the_same_at_any_parallelism_and_after_restarts() {
    let source = source(OPTIONS);
    let expected = lines(&read(source.as_ref(), source.splits(1).unwrap(), 1));
    assert_eq!(expected.len(), 2_000);
    assert_eq!(
        lines(&read(source.as_ref(), source.splits(3).unwrap(), 3)),
        expected
    );

    let runtime = runtime();
    let clock = Arc::new(AtomicI64::new(START_MS));
    let context = || context_with_clock(&runtime, 0, 1, Arc::clone(&clock));
    let mut splits = source.splits(1).unwrap();
    let mut batches = Vec::new();
    for rows_max in [1, 17, 333] {
        let mut reader = source.reader(splits, context()).unwrap();
        if let SourcePoll::Batch(batch) = reader.poll(rows_max).unwrap() {
            batches.push(batch);
        }
        splits = reader.snapshot().unwrap();
    }
    // The clock has moved on, but a split keeps the start that its checkpoint tells.
    clock.fetch_add(3_600_000, Ordering::Relaxed);
    batches.extend(read(source.as_ref(), splits, 2));
    assert_eq!(lines(&batches), expected);

    let mut other_seed = OPTIONS.to_vec();
    other_seed.push(("seed", "7"));
    let other = DatagenFactory
        .source(&table("made", every_type(), &other_seed))
        .unwrap();
    assert_ne!(
        lines(&read(other.as_ref(), other.splits(1).unwrap(), 1)),
        expected
    );
}

#[test]
fn the_clock_paces_rows() {
    let source = source(&[("rows-per-second", "100")]);
    assert!(!source.bounded());
    let runtime = runtime();
    let clock = Arc::new(AtomicI64::new(START_MS));
    let context = context_with_clock(&runtime, 0, 1, Arc::clone(&clock));
    let mut reader = source.reader(source.splits(1).unwrap(), context).unwrap();
    let mut rows = 0;
    for elapsed_ms in [0, 9, 10, 990, 2_000] {
        clock.store(START_MS + elapsed_ms, Ordering::Relaxed);
        while let SourcePoll::Batch(batch) = reader.poll(1_000).unwrap() {
            rows += batch.rows.num_rows() as i64;
        }
        assert_eq!(rows, elapsed_ms / 10 + 1);
    }
    assert!(matches!(
        reader.poll(1).unwrap(),
        SourcePoll::Pending { retry_ms: 10 }
    ));
}

#[test]
fn a_sequence_ends_the_table_and_may_be_text() {
    let columns = vec![
        Field::new("a", DataType::Utf8, true),
        Field::new("b", DataType::Decimal128(5, 1), true),
    ];
    let options = [
        ("fields.a.kind", "sequence"),
        ("fields.a.start", "8"),
        ("fields.a.end", "10"),
        ("fields.b.kind", "sequence"),
        ("fields.b.start", "-1"),
        ("fields.b.end", "100"),
    ];
    let source = DatagenFactory
        .source(&table("t", columns, &options))
        .unwrap();
    let rows = lines(&read(source.as_ref(), source.splits(1).unwrap(), 1));
    assert_eq!(rows, ["+I[10, 1.0]", "+I[8, -1.0]", "+I[9, 0.0]"]);
}

#[test]
fn whole_types_can_be_used_to_their_ends() {
    let columns = vec![
        Field::new("a", DataType::Int64, true),
        Field::new("b", DataType::Decimal128(38, 0), true),
        Field::new("c", DataType::Float64, true),
    ];
    let source = DatagenFactory
        .source(&table("t", columns, &[("number-of-rows", "500")]))
        .unwrap();
    let batches = read(source.as_ref(), source.splits(1).unwrap(), 1);
    let mut negative = 0;
    for batch in &batches {
        let values = batch.rows.column(0).as_primitive::<Int64Type>();
        negative += values.values().iter().filter(|value| **value < 0).count();
        let doubles = batch.rows.column(2).as_primitive::<Float64Type>();
        assert!(doubles.values().iter().all(|value| value.is_finite()));
    }
    assert!((150..350).contains(&negative));
}

#[test]
fn wrong_options_are_refused_with_the_reason() {
    let refused = |options: &[(&str, &str)]| {
        let error = DatagenFactory
            .source(&table("t", every_type(), options))
            .err()
            .unwrap();
        assert_eq!(error.kind, JobErrorKind::Usage);
        error.message
    };
    assert_eq!(
        refused(&[("fields.tiny.mim", "1")]),
        "table 't': connector 'datagen' has no option 'fields.tiny.mim'; the nearest one is 'fields.tiny.min'"
    );
    assert_eq!(
        refused(&[("fields.tiny.max", "128")]),
        "table 't': option 'fields.tiny.max' must be a whole number from -128 to 127, found '128'"
    );
    assert!(
        refused(&[("fields.tiny.min", "3"), ("fields.tiny.max", "2")]).contains("from 3 to 127")
    );
    assert!(
        refused(&[("fields.id.kind", "sequence")]).contains("needs the option 'fields.id.start'")
    );
    assert!(refused(&[("fields.yes.kind", "sequence")]).contains("must be random"));
    assert!(refused(&[("fields.name.null-rate", "1.5")]).contains("from 0 to 1"));
    assert!(refused(&[("fields.id.null-rate", "0.5")]).contains("NOT NULL"));
    assert!(refused(&[("rows-per-second", "0")]).contains("at least 1"));
}

#[test]
fn hostile_positions_are_refused() {
    let source = source(OPTIONS);
    let runtime = runtime();
    let good = source.splits(1).unwrap().remove(0);
    for cut in 0..good.len() {
        let context = crate::testing::context(&runtime, 0, 1);
        assert!(source.reader(vec![good[..cut].to_vec()], context).is_err());
    }
}
