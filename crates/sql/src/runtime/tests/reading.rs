//! What operators keep in state is read by others, by the columns that they describe: every kind of accumulator, keys, values kept one by one.

use aquifer_state::checkpoint::{CheckpointKind, CheckpointMetadata, Origin};
use aquifer_state::reader::{StateReader, StateRow};
use arrow::array::{BooleanArray, Decimal128Array, Float32Array, Int32Array, RecordBatch};

use super::*;

/// A reader of what was saved.
fn reader(site: &Site, saved: &Saved) -> StateReader {
    let metadata = CheckpointMetadata {
        checkpoint_id: 1,
        job_name: "job".into(),
        attempt: 1,
        created_unix_ms: 0,
        parallelism: 1,
        max_parallelism: MAX_PARALLELISM,
        plan: String::new(),
        finished: false,
        kind: CheckpointKind::Checkpoint,
        backend: site.kind,
        tables: saved.tables.clone(),
        keyed: saved.parts.clone(),
        operators: Vec::new(),
        origin: Origin::default(),
    };
    let environment = Environment::new(
        Arc::clone(&site.objects) as _,
        "shared".into(),
        site.runtime.handle().clone(),
        BlockCache::new(1 << 20),
        "reader",
    );
    StateReader::new(metadata, environment, false)
}

fn rows(reader: &StateReader, state: &str) -> Vec<StateRow> {
    let table = reader.table(None, state).unwrap();
    let read = |key| {
        let mut rows = reader.rows(table, KeyGroupRange::ALL, key).unwrap();
        let mut all = Vec::new();
        while let Some(piece) = rows.next_piece(3).unwrap() {
            all.extend(piece);
        }
        all
    };
    let all = read(None);
    for row in &all {
        // A key finds its rows, in the key group in which the operator put them.
        let found = read(Some(&row.key));
        let same: Vec<&StateRow> = all.iter().filter(|other| other.key == row.key).collect();
        assert_eq!(found.iter().collect::<Vec<_>>(), same, "{}", row.key);
        if !table.key.is_void() && state != "watermark" {
            let group = table.key.key_group(&row.key, MAX_PARALLELISM);
            assert_eq!(group, row.key_group, "{}", row.key);
        }
    }
    all
}

/// Key, user key and value of each row, in the order of keys.
fn shown(reader: &StateReader, state: &str) -> Vec<String> {
    let mut all = rows(reader, state);
    all.sort_by_key(|row| row.key.to_string());
    let line = |row: &StateRow| match &row.user_key {
        Some(user_key) => format!("{} {user_key}: {}", row.key, row.value),
        None => format!("{}: {}", row.key, row.value),
    };
    all.iter().map(line).collect()
}

const AT_MS: i64 = 1_700_000_000_123;

/// Two rows of one group, and one of another in which all is null.
fn input() -> RecordBatch {
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("k", Arc::new(StringArray::from(vec!["a\0b", "z", "a\0b"]))),
        (
            "at",
            Arc::new(TimestampMillisecondArray::from(vec![
                None,
                Some(AT_MS),
                None,
            ])),
        ),
        (
            "v",
            Arc::new(Int64Array::from(vec![Some(5), None, Some(-7)])),
        ),
        (
            "price",
            Arc::new(
                Decimal128Array::from(vec![Some(125), None, Some(250)])
                    .with_precision_and_scale(10, 2)
                    .unwrap(),
            ),
        ),
        (
            "name",
            Arc::new(StringArray::from(vec![Some("x"), None, Some("w\0")])),
        ),
        (
            "flag",
            Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)])),
        ),
        (
            "ratio",
            Arc::new(Float32Array::from(vec![Some(1.5), None, Some(2.5)])),
        ),
        (
            "n",
            Arc::new(Int32Array::from(vec![Some(3), None, Some(4)])),
        ),
    ];
    RecordBatch::try_from_iter_with_nullable(
        columns
            .into_iter()
            .map(|(name, column)| (name, column, true)),
    )
    .unwrap()
}

/// Every function, over every kind of accumulator.
fn every_call() -> Vec<AggregateCall> {
    use AggregateFunction::{Avg, Count, Max, Min, Sum};
    let schema = input().schema();
    let of = |function: AggregateFunction, column: &str, output: Option<DataType>| {
        let index = schema.index_of(column).unwrap();
        let data_type = schema.field(index).data_type().clone();
        AggregateCall {
            name: format!("{}_{column}", function.name()),
            function,
            output: output.unwrap_or(data_type.clone()),
            input: Some((index, data_type)),
            filter: None,
            distinct: false,
        }
    };
    let mut distinct = of(Count, "v", Some(DataType::Int64));
    distinct.distinct = true;
    let mut records = of(Count, "v", Some(DataType::Int64));
    records.input = None;
    records.name = "count".into();
    vec![
        records,
        of(Sum, "v", None),
        of(Avg, "v", None),
        of(Sum, "price", Some(DataType::Decimal128(38, 2))),
        of(Avg, "price", Some(DataType::Decimal128(38, 6))),
        of(Min, "name", None),
        of(Max, "name", None),
        of(Max, "v", None),
        of(Min, "flag", None),
        of(Avg, "ratio", None),
        of(Avg, "n", None),
        distinct,
        of(Max, "at", None),
    ]
}

fn every_spec(updating: bool) -> GroupAggregateSpec {
    let calls = every_call();
    let results = calls
        .iter()
        .map(|call| column(&call.name, call.output.clone()));
    let keys = [column("k", DataType::Utf8), column("at", time())];
    GroupAggregateSpec {
        key_columns: 2,
        output: Arc::new(Schema::new(
            keys.into_iter().chain(results).collect::<Vec<_>>(),
        )),
        calls,
        updating,
        mini_batch: false,
    }
}

#[test]
fn groups_are_rows_of_columns() {
    let (full, empty) = (
        r#""count":2,"sum_v":{"sum":-2,"count":2},"avg_v":{"sum":-2,"count":2},"sum_price":{"sum":"3.75","count":2},"avg_price":{"sum":"3.75","count":2},"min_name":"w\u0000","max_name":"x","max_v":5,"min_flag":false,"avg_ratio":{"sum":4.0,"count":2},"avg_n":{"sum":7,"count":2},"count_v":2,"max_at":null}"#,
        r#""count":1,"sum_v":{"sum":null,"count":0},"avg_v":{"sum":null,"count":0},"sum_price":{"sum":null,"count":0},"avg_price":{"sum":null,"count":0},"min_name":null,"max_name":null,"max_v":null,"min_flag":null,"avg_ratio":{"sum":null,"count":0},"avg_n":{"sum":null,"count":0},"count_v":0,"max_at":"2023-11-14T22:13:20.123"}"#,
    );
    let (a, z) = (
        r#"{"k":"a\u0000b","at":null}"#,
        r#"{"k":"z","at":"2023-11-14T22:13:20.123"}"#,
    );
    for kind in [BackendKind::Forst, BackendKind::Hashmap] {
        for updating in [false, true] {
            let mut site = Site::new(kind);
            let operator = || GroupAggregate::new(every_spec(updating)).unwrap();
            let mut workers = site.start(1, &Saved::default(), operator);
            workers[0].batch(ChangeBatch::inserts(input()));
            let saved = site.checkpoint(&mut workers);
            let reader = reader(&site, &saved);
            let (two, one) = match updating {
                true => ("{\"records\":2,", "{\"records\":1,"),
                false => ("{", "{"),
            };
            assert_eq!(
                shown(&reader, "accState"),
                [format!("{a}: {two}{full}"), format!("{z}: {one}{empty}")]
            );
            let distinct = [format!("{a} -7: 1"), format!("{a} 5: 1")];
            assert_eq!(shown(&reader, "values-11"), distinct);
            if updating {
                // The largest first.
                let names = [format!("{a} \"x\": 1"), format!("{a} \"w\\u0000\": 1")];
                assert_eq!(shown(&reader, "values-6"), names);
                let times = format!("{z} \"2023-11-14T22:13:20.123\": 1");
                assert_eq!(shown(&reader, "values-12"), [times]);
            } else {
                assert_eq!(reader.tables().len(), 2);
            }
            // Names of columns do not decide whether a checkpoint fits.
            let renamed = || {
                let mut spec = every_spec(updating);
                spec.calls.iter_mut().for_each(|call| call.name.push('!'));
                GroupAggregate::new(spec).unwrap()
            };
            let mut workers = site.start(1, &saved, renamed);
            workers[0].batch(ChangeBatch::inserts(input()));
        }
    }
}

/// All rows are one group, whose key has no columns.
#[test]
fn an_aggregate_without_keys_has_no_key() {
    let mut spec = group_spec();
    spec.key_columns = 0;
    spec.output = Arc::new(Schema::new(spec.output.fields()[1..].to_vec()));
    let mut site = Site::new(BackendKind::Forst);
    let operator = || GroupAggregate::new(spec.clone()).unwrap();
    let mut workers = site.start(1, &Saved::default(), operator);
    let rows = [(1, 5, RowKind::Insert), (2, 7, RowKind::Insert)];
    workers[0].batch(group_batch(&rows));
    let saved = site.checkpoint(&mut workers);
    let reader = reader(&site, &saved);
    assert!(reader.table(None, "accState").unwrap().key.is_void());
    assert_eq!(
        shown(&reader, "accState"),
        [r#"null: {"records":2,"sum":{"sum":12,"count":2},"min":5,"count":2}"#]
    );
}

#[test]
fn windows_are_rows_of_columns() {
    let mut site = Site::new(BackendKind::Forst);
    let operator = || WindowAggregate::new(window_spec(), Arc::new(AtomicU64::new(0))).unwrap();
    let mut workers = site.start(1, &Saved::default(), operator);
    workers[0].batch(window_batch(&[(1, 5, 120), (1, 3, 130), (2, 9, 250)]));
    workers[0].watermark(110);
    let saved = site.checkpoint(&mut workers);
    let reader = reader(&site, &saved);
    let one = r#"{"window_end":"1970-01-01T00:00:00.200","window_start":"1970-01-01T00:00:00.100","k":"key 1"}"#;
    let two = r#"{"window_end":"1970-01-01T00:00:00.300","window_start":"1970-01-01T00:00:00.200","k":"key 2"}"#;
    assert_eq!(
        shown(&reader, "window-aggs"),
        [
            format!(r#"{one}: {{"sum":{{"sum":8,"count":2}},"min":3,"count":2}}"#),
            format!(r#"{two}: {{"sum":{{"sum":9,"count":1}},"min":9,"count":1}}"#),
        ]
    );
    assert_eq!(
        shown(&reader, "values-2"),
        [
            format!("{one} 3: 1"),
            format!("{one} 5: 1"),
            format!("{two} 9: 1")
        ]
    );
    let watermarks = rows(&reader, "watermark");
    assert_eq!(watermarks.len(), usize::from(MAX_PARALLELISM));
    assert_eq!(watermarks[3].key.to_string(), "\"watermark\"");
    assert_eq!(watermarks[3].value.to_string(), "110");
}
