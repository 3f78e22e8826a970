//! Golden changelogs as Flink gives them, retractions against a model, what is left in state, and arithmetic at its edges.

use std::collections::BTreeMap;

use arrow::array::{
    BooleanArray, Decimal128Array, Float64Array, Int32Array, Int64Array, StringArray,
    TimestampMillisecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};

use super::super::AggregateFunction;
use super::super::AggregateFunction::{Avg, Count, Max, Min, Sum};
use super::*;
use crate::runtime::harness::{Random, Worker, changes, lines, materialised};

const INSERT: RowKind = RowKind::Insert;
const DELETE: RowKind = RowKind::Delete;

fn call(function: AggregateFunction, input: Option<(usize, DataType)>) -> AggregateCall {
    let output = match (function, &input) {
        (Count, _) => DataType::Int64,
        (Sum, Some((_, DataType::Decimal128(_, scale)))) => DataType::Decimal128(38, *scale),
        (Avg, Some((_, DataType::Decimal128(_, scale)))) => {
            DataType::Decimal128(38, (*scale).max(6))
        }
        (_, Some((_, input))) => input.clone(),
        _ => unreachable!("only COUNT has no argument"),
    };
    AggregateCall {
        name: function.name().to_owned(),
        function,
        input,
        filter: None,
        distinct: false,
        output,
    }
    .checked("the call")
    .unwrap()
}

fn distinct(mut call: AggregateCall) -> AggregateCall {
    call.distinct = true;
    call
}

fn filtered(mut call: AggregateCall, column: usize) -> AggregateCall {
    call.filter = Some(column);
    call
}

fn spec(keys: &[DataType], calls: Vec<AggregateCall>, updating: bool) -> GroupAggregateSpec {
    let keys_fields = keys
        .iter()
        .enumerate()
        .map(|(i, t)| (format!("k{i}"), t.clone()));
    let call_fields = calls
        .iter()
        .enumerate()
        .map(|(i, c)| (format!("a{i}"), c.output.clone()));
    let fields: Vec<Field> = keys_fields
        .chain(call_fields)
        .map(|(name, t)| Field::new(name, t, true))
        .collect();
    GroupAggregateSpec {
        key_columns: keys.len(),
        calls,
        output: Arc::new(Schema::new(fields)),
        updating,
        mini_batch: false,
    }
}

fn opened(worker: &Worker, uid: &str, spec: &GroupAggregateSpec) -> GroupAggregate {
    let mut operator = GroupAggregate::new(spec.clone()).unwrap();
    worker.open(uid, &mut operator);
    operator
}

fn pairs_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("k", DataType::Int64, true),
        Field::new("v", DataType::Int64, true),
    ]))
}

fn pairs(rows: &[(i64, Option<i64>)], kinds: Option<Vec<RowKind>>) -> ChangeBatch {
    let keys = Int64Array::from_iter_values(rows.iter().map(|row| row.0));
    let values: Int64Array = rows.iter().map(|row| row.1).collect();
    changes(
        &pairs_schema(),
        vec![Arc::new(keys), Arc::new(values)],
        kinds,
    )
}

fn v() -> Option<(usize, DataType)> {
    Some((1, DataType::Int64))
}

const EVENTS: [(i64, Option<i64>); 7] = [
    (1, Some(10)),
    (1, Some(20)),
    (2, Some(5)),
    (1, Some(15)),
    (2, Some(7)),
    (3, Some(1)),
    (1, Some(20)),
];

#[test]
fn every_row_tells_its_change_in_order() {
    let calls = vec![
        call(Count, None),
        call(Sum, v()),
        call(Avg, v()),
        call(Min, v()),
        call(Max, v()),
    ];
    for updating in [false, true] {
        let worker = Worker::new();
        let spec = spec(&[DataType::Int64], calls.clone(), updating);
        let mut operator = opened(&worker, "1", &spec);
        let out = worker
            .feed(&mut operator, [Ok(pairs(&EVENTS, None))])
            .unwrap();
        assert_eq!(
            lines(&out),
            [
                "+I[1, 1, 10, 10, 10, 10]",
                "-U[1, 1, 10, 10, 10, 10]",
                "+U[1, 2, 30, 15, 10, 20]",
                "+I[2, 1, 5, 5, 5, 5]",
                "-U[1, 2, 30, 15, 10, 20]",
                "+U[1, 3, 45, 15, 10, 20]",
                "-U[2, 1, 5, 5, 5, 5]",
                "+U[2, 2, 12, 6, 5, 7]",
                "+I[3, 1, 1, 1, 1, 1]",
                "-U[1, 3, 45, 15, 10, 20]",
                "+U[1, 4, 65, 16, 10, 20]",
            ]
        );
    }
}

#[test]
fn the_changelog_does_not_depend_on_where_batches_end() {
    let calls = vec![call(Count, None), call(Max, v())];
    let spec = spec(&[DataType::Int64], calls, false);
    let whole = {
        let worker = Worker::new();
        worker
            .feed(&mut opened(&worker, "1", &spec), [Ok(pairs(&EVENTS, None))])
            .unwrap()
    };
    let worker = Worker::new();
    let mut out = Vec::new();
    for event in EVENTS {
        // A new operator each time: everything it knows is in state.
        let mut operator = opened(&worker, "1", &spec);
        out.extend(
            worker
                .feed(&mut operator, [Ok(pairs(&[event], None))])
                .unwrap(),
        );
    }
    assert_eq!(lines(&out), lines(&whole));
}

#[test]
fn an_unchanged_result_tells_nothing() {
    let worker = Worker::new();
    let spec = spec(&[DataType::Int64], vec![call(Max, v())], false);
    let rows = [
        (1, Some(5)),
        (1, Some(4)),
        (1, None),
        (1, Some(5)),
        (1, Some(6)),
    ];
    let out = worker
        .feed(&mut opened(&worker, "1", &spec), [Ok(pairs(&rows, None))])
        .unwrap();
    assert_eq!(lines(&out), ["+I[1, 5]", "-U[1, 5]", "+U[1, 6]"]);
}

#[test]
fn count_of_counts() {
    let worker = Worker::new();
    let inner = spec(&[DataType::Int64], vec![call(Count, None)], false);
    let outer = spec(&[DataType::Int64], vec![call(Count, None)], true);
    let events = worker
        .feed(
            &mut opened(&worker, "1", &inner),
            [Ok(pairs(&EVENTS, None))],
        )
        .unwrap();
    // GROUP BY the count, which is the second column.
    let events = events.into_iter().map(|event| {
        let batch = event.unwrap();
        let rows = batch.rows.project(&[1]).unwrap();
        Ok(ChangeBatch {
            rows,
            kinds: batch.kinds,
        })
    });
    let out = worker
        .feed(&mut opened(&worker, "2", &outer), events)
        .unwrap();
    assert_eq!(
        lines(&out),
        [
            "+I[1, 1]", "-D[1, 1]", "+I[2, 1]", "+I[1, 1]", "-D[2, 1]", "+I[3, 1]", "-D[1, 1]",
            "+I[2, 1]", "+I[1, 1]", "-D[3, 1]", "+I[4, 1]",
        ]
    );
}

#[test]
fn mini_batch_tells_one_change_per_key() {
    let worker = Worker::new();
    let mut spec = spec(
        &[DataType::Int64],
        vec![call(Count, None), call(Sum, v())],
        true,
    );
    spec.mini_batch = true;
    let mut operator = opened(&worker, "1", &spec);
    let first = worker
        .feed(&mut operator, [Ok(pairs(&EVENTS, None))])
        .unwrap();
    assert_eq!(
        lines(&first),
        ["+I[1, 4, 65]", "+I[2, 2, 12]", "+I[3, 1, 1]"]
    );
    let rows = [
        (3, Some(1)),
        (1, Some(10)),
        (1, Some(10)),
        (4, Some(1)),
        (4, Some(1)),
    ];
    let kinds = vec![DELETE, INSERT, DELETE, INSERT, DELETE];
    let second = worker
        .feed(&mut operator, [Ok(pairs(&rows, Some(kinds)))])
        .unwrap();
    assert_eq!(
        lines(&second),
        ["-D[3, 1, 1]"],
        "1 has not changed, 4 was never seen"
    );
}

#[test]
fn an_aggregate_without_keys_keeps_its_row() {
    let worker = Worker::new();
    let spec = spec(
        &[],
        vec![call(Count, None), call(Sum, Some((0, DataType::Int64)))],
        true,
    );
    let schema = Arc::new(Schema::new(vec![Field::new("v", DataType::Int64, true)]));
    let rows = Int64Array::from(vec![3, 3, 4]);
    let batch = changes(
        &schema,
        vec![Arc::new(rows)],
        Some(vec![INSERT, DELETE, INSERT]),
    );
    let out = worker
        .feed(&mut opened(&worker, "1", &spec), [Ok(batch)])
        .unwrap();
    assert_eq!(
        lines(&out),
        [
            "+I[1, 3]",
            "-U[1, 3]",
            "+U[0, null]",
            "-U[0, null]",
            "+U[1, 4]"
        ]
    );
}

#[test]
fn distinct_groups_come_out_once() {
    let worker = Worker::new();
    let spec = spec(&[DataType::Int64], vec![], false);
    let mut operator = opened(&worker, "1", &spec);
    let out = worker
        .feed(&mut operator, [Ok(pairs(&EVENTS, None))])
        .unwrap();
    assert_eq!(lines(&out), ["+I[1]", "+I[2]", "+I[3]"]);
    let writes = worker.backend.borrow().writes;
    assert!(
        worker
            .feed(&mut operator, [Ok(pairs(&EVENTS, None))])
            .unwrap()
            .is_empty()
    );
    assert_eq!(
        worker.backend.borrow().writes,
        writes,
        "nothing new, nothing written"
    );
}

#[test]
fn a_retraction_of_an_unknown_group_is_ignored() {
    let worker = Worker::new();
    let spec = spec(&[DataType::Int64], vec![call(Sum, v())], true);
    let rows = [(1, Some(3)), (1, Some(4))];
    let batch = pairs(&rows, Some(vec![DELETE, INSERT]));
    let out = worker
        .feed(&mut opened(&worker, "1", &spec), [Ok(batch)])
        .unwrap();
    assert_eq!(lines(&out), ["+I[1, 4]"]);
}

#[test]
fn a_retraction_into_an_insert_only_aggregate_is_an_error() {
    let worker = Worker::new();
    let spec = spec(&[DataType::Int64], vec![call(Sum, v())], false);
    let batch = pairs(&[(1, Some(3))], Some(vec![DELETE]));
    let error = worker
        .feed(&mut opened(&worker, "1", &spec), [Ok(batch)])
        .unwrap_err();
    assert_eq!(
        error.message,
        "a -D row came to an aggregate that was planned for inserts only"
    );
}

#[test]
fn malformed_state_is_an_error() {
    let worker = Worker::new();
    let spec = spec(&[DataType::Int64], vec![call(Sum, v())], false);
    let mut operator = opened(&worker, "1", &spec);
    worker
        .feed(&mut operator, [Ok(pairs(&[(1, Some(3))], None))])
        .unwrap();
    for bytes in [&[2u8, 1][..], &[], &[0, 0]] {
        worker
            .backend
            .borrow_mut()
            .rows
            .values_mut()
            .for_each(|value| *value = bytes.to_vec());
        let error = worker
            .feed(&mut operator, [Ok(pairs(&[(1, Some(3))], None))])
            .unwrap_err();
        assert!(error.message.contains("do not have the layout"), "{error}");
    }
}

/// One input row of the model: key, value, flag, text.
type Row = (i64, Option<i64>, Option<bool>, Option<String>);

fn every_call() -> Vec<AggregateCall> {
    let text = || Some((3, DataType::Utf8));
    vec![
        call(Count, None),
        call(Count, v()),
        call(Sum, v()),
        call(Avg, v()),
        call(Min, v()),
        call(Max, v()),
        distinct(call(Count, v())),
        distinct(call(Sum, v())),
        call(Min, text()),
        call(Max, text()),
        filtered(call(Count, None), 2),
        filtered(call(Max, v()), 2),
        filtered(distinct(call(Count, text())), 2),
    ]
}

fn expected(rows: &[Row]) -> BTreeMap<String, i64> {
    let mut groups: BTreeMap<i64, Vec<&Row>> = BTreeMap::new();
    for row in rows {
        groups.entry(row.0).or_default().push(row);
    }
    let show = |value: Option<String>| value.unwrap_or_else(|| "null".to_owned());
    let mut lines = BTreeMap::new();
    for (key, rows) in groups {
        let values: Vec<i64> = rows.iter().filter_map(|row| row.1).collect();
        let texts = || rows.iter().filter_map(|row| row.3.clone());
        let passing: Vec<&&Row> = rows.iter().filter(|row| row.2 == Some(true)).collect();
        let mut unique = values.clone();
        unique.sort_unstable();
        unique.dedup();
        let mut unique_texts: Vec<String> =
            passing.iter().filter_map(|row| row.3.clone()).collect();
        unique_texts.sort_unstable();
        unique_texts.dedup();
        let sum = |values: &[i64]| (!values.is_empty()).then(|| values.iter().sum::<i64>());
        let cells = [
            key.to_string(),
            rows.len().to_string(),
            values.len().to_string(),
            show(sum(&values).map(|s| s.to_string())),
            show(sum(&values).map(|s| (s / values.len() as i64).to_string())),
            show(values.iter().min().map(i64::to_string)),
            show(values.iter().max().map(i64::to_string)),
            unique.len().to_string(),
            show(sum(&unique).map(|s| s.to_string())),
            show(texts().min()),
            show(texts().max()),
            passing.len().to_string(),
            show(
                passing
                    .iter()
                    .filter_map(|row| row.1)
                    .max()
                    .map(|m| m.to_string()),
            ),
            unique_texts.len().to_string(),
        ];
        lines.insert(format!("[{}]", cells.join(", ")), 1);
    }
    lines
}

fn model_batch(rows: &[(Row, RowKind)]) -> ChangeBatch {
    let schema: SchemaRef = Arc::new(Schema::new(vec![
        Field::new("k", DataType::Int64, true),
        Field::new("v", DataType::Int64, true),
        Field::new("f", DataType::Boolean, true),
        Field::new("s", DataType::Utf8, true),
    ]));
    let k = Int64Array::from_iter_values(rows.iter().map(|(row, _)| row.0));
    let v: Int64Array = rows.iter().map(|(row, _)| row.1).collect();
    let f: BooleanArray = rows.iter().map(|(row, _)| row.2).collect();
    let s: StringArray = rows.iter().map(|(row, _)| row.3.clone()).collect();
    let kinds = rows.iter().map(|(_, kind)| *kind).collect();
    changes(
        &schema,
        vec![Arc::new(k), Arc::new(v), Arc::new(f), Arc::new(s)],
        Some(kinds),
    )
}

fn random_row(random: &mut Random) -> Row {
    let text = |n: u64| ["", "a", "a\0", "b", "zebra"][n as usize].to_owned();
    (
        random.below(4) as i64,
        (random.below(5) > 0).then(|| random.below(9) as i64 - 4),
        [None, Some(true), Some(false)][random.below(3) as usize],
        (random.below(4) > 0).then(|| text(random.below(5))),
    )
}

#[test]
fn any_stream_of_changes_ends_as_the_same_query_over_what_is_left() {
    for seed in 0..40 {
        let mut random = Random(seed);
        let retract = seed % 4 != 0;
        let worker = Worker::new();
        let mut spec = spec(&[DataType::Int64], every_call(), retract);
        spec.mini_batch = seed % 2 == 1;
        let mut live: Vec<Row> = Vec::new();
        let mut out = Vec::new();
        for _ in 0..30 {
            let mut batch = Vec::new();
            for _ in 0..=random.below(12) {
                if retract && !live.is_empty() && random.below(5) < 2 {
                    let row = live.swap_remove(random.below(live.len() as u64) as usize);
                    let kind = [DELETE, RowKind::UpdateBefore][random.below(2) as usize];
                    batch.push((row, kind));
                } else {
                    let row = random_row(&mut random);
                    live.push(row.clone());
                    let kind = [INSERT, RowKind::UpdateAfter][random.below(2) as usize];
                    batch.push((row, kind));
                }
            }
            let mut operator = opened(&worker, "1", &spec);
            out.extend(
                worker
                    .feed(&mut operator, [Ok(model_batch(&batch))])
                    .unwrap(),
            );
            assert_eq!(materialised(&out), expected(&live), "seed {seed}");
        }
        if retract {
            let rest: Vec<_> = live.drain(..).map(|row| (row, DELETE)).collect();
            let mut operator = opened(&worker, "1", &spec);
            out.extend(
                worker
                    .feed(&mut operator, [Ok(model_batch(&rest))])
                    .unwrap(),
            );
            assert!(materialised(&out).is_empty());
            assert_eq!(
                worker.rows(),
                0,
                "seed {seed}: state is left though all rows are gone"
            );
        }
    }
}

/// One group over one column, all rows inserted at once: the last results.
fn results(calls: Vec<AggregateCall>, column: ArrayRef) -> String {
    let worker = Worker::new();
    let schema = Arc::new(Schema::new(vec![Field::new(
        "v",
        column.data_type().clone(),
        true,
    )]));
    let mut spec = spec(&[], calls, false);
    spec.mini_batch = true;
    let batch = changes(&schema, vec![column], None);
    let out = worker
        .feed(&mut opened(&worker, "1", &spec), [Ok(batch)])
        .unwrap();
    lines(&out).pop().unwrap()
}

fn over(function: AggregateFunction, data_type: DataType) -> AggregateCall {
    call(function, Some((0, data_type)))
}

#[test]
fn integers_wrap_and_means_are_truncated_toward_zero() {
    let column = || Arc::new(Int32Array::from(vec![i32::MAX, 1])) as ArrayRef;
    assert_eq!(
        results(vec![over(Sum, DataType::Int32)], column()),
        "+I[-2147483648]"
    );
    let column = Arc::new(Int64Array::from(vec![-3, -4])) as ArrayRef;
    assert_eq!(results(vec![over(Avg, DataType::Int64)], column), "+I[-3]");
    let nothing = Arc::new(Int64Array::from(vec![None::<i64>])) as ArrayRef;
    let calls = [Sum, Avg, Min, Max, Count]
        .map(|f| over(f, DataType::Int64))
        .to_vec();
    assert_eq!(results(calls, nothing), "+I[null, null, null, null, 0]");
}

#[test]
fn decimals_are_exact_and_null_past_38_digits() {
    let decimals = |values: Vec<i128>, precision, scale| {
        let array = Decimal128Array::from(values).with_precision_and_scale(precision, scale);
        Arc::new(array.unwrap()) as ArrayRef
    };
    let data_type = DataType::Decimal128(10, 2);
    let calls = [Sum, Avg, Min, Max]
        .map(|f| over(f, data_type.clone()))
        .to_vec();
    assert_eq!(
        results(calls.clone(), decimals(vec![100, 201, 100], 10, 2)),
        "+I[4.01, 1.336667, 1.00, 2.01]"
    );
    assert_eq!(
        results(calls, decimals(vec![-100, -201, -100], 10, 2)),
        "+I[-4.01, -1.336667, -2.01, -1.00]"
    );
    let data_type = DataType::Decimal128(38, 0);
    let nines = 10i128.pow(38) - 1;
    let calls = vec![over(Sum, data_type.clone()), over(Max, data_type)];
    assert_eq!(
        results(calls, decimals(vec![nines, 1], 38, 0)),
        format!("+I[null, {nines}]")
    );
}

#[test]
fn other_types() {
    let column = Arc::new(Float64Array::from(vec![1.5, -2.25])) as ArrayRef;
    let calls = [Sum, Avg, Min, Max]
        .map(|f| over(f, DataType::Float64))
        .to_vec();
    assert_eq!(results(calls, column), "+I[-0.75, -0.375, -2.25, 1.5]");
    let data_type = DataType::Timestamp(TimeUnit::Millisecond, None);
    let column = Arc::new(TimestampMillisecondArray::from(vec![2000, -1])) as ArrayRef;
    let calls = [Min, Max].map(|f| over(f, data_type.clone())).to_vec();
    assert_eq!(
        results(calls, column),
        "+I[1969-12-31T23:59:59.999, 1970-01-01T00:00:02]"
    );
    let column = Arc::new(BooleanArray::from(vec![true, false])) as ArrayRef;
    let calls = [Min, Max].map(|f| over(f, DataType::Boolean)).to_vec();
    assert_eq!(results(calls, column), "+I[false, true]");
}

#[test]
fn what_cannot_be_computed_is_refused_by_name() {
    let strings = AggregateCall {
        name: "sum".to_owned(),
        function: Sum,
        input: Some((0, DataType::Utf8)),
        filter: None,
        distinct: false,
        output: DataType::Utf8,
    };
    let error = strings.checked("SUM(name)").unwrap_err();
    assert_eq!(
        error.message,
        "SUM(name) does not take a value of type Utf8"
    );
}
