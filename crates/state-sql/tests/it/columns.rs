//! Rows that operators lay out themselves, such as groups of SQL: their columns are reached by name, and keys are found by their parts.

use aquifer_state::StateDescription;
use aquifer_state::dynamic::{
    ColumnForm, DynamicType, DynamicValue, LogicalType, RowColumn, Temporal, TimeUnit,
};
use aquifer_state::ordered::OrderedKey;
use aquifer_state::serializer::StateSchema;
use aquifer_state_sql::output::Format;
use aquifer_store::TableOptions;

use crate::world::{KINDS, MAX_PARALLELISM, Worker, World};

const END_MS: i64 = 1_700_000_000_000;
const DAY: i32 = 19_782;

fn decimal() -> LogicalType {
    LogicalType::Decimal {
        precision: 38,
        scale: 2,
    }
}

/// A number of less than 64 as a varint with a sign.
fn signed(number: i64) -> u8 {
    (number << 1) as u8
}

/// Forty groups; with `windows`, twenty in each of two windows.
fn groups(worker: &Worker, state: &str, windows: bool) {
    let end = Temporal::Timestamp(TimeUnit::Millisecond);
    let mut key = vec![RowColumn::new(
        "auction",
        LogicalType::I64,
        ColumnForm::Nullable,
    )];
    if windows {
        let bound = RowColumn::new("window_end", LogicalType::Temporal(end), ColumnForm::Sorted);
        key.insert(0, bound);
    }
    let value = [
        RowColumn::new("count", LogicalType::I64, ColumnForm::Signed),
        RowColumn::new("sum_price", decimal(), ColumnForm::Total),
        RowColumn::new(
            "max_day",
            LogicalType::Temporal(Temporal::Date),
            ColumnForm::Nullable,
        ),
    ];
    let key = RowColumn::snapshot(&key).unwrap();
    let value = RowColumn::snapshot(&value).unwrap();
    let keys = DynamicType::parse_key(&key);
    let options = TableOptions {
        ordered: true,
        ..TableOptions::default()
    };
    let description = StateDescription {
        schema: StateSchema::rows(key, None, value),
        ..StateDescription::raw("3-group-aggregate", state, options, "i64")
    };
    let backend = worker.access.backend();
    let table = backend.borrow_mut().register(&description).unwrap();
    for i in 0..40i64 {
        let mut parts = vec![("auction".into(), DynamicValue::Int(i))];
        if windows {
            let at = END_MS + i % 2 * 1000;
            parts.insert(0, ("window_end".into(), DynamicValue::Temporal(at, end)));
        }
        let key = DynamicValue::Struct(parts);
        let group = keys.key_group(&key, MAX_PARALLELISM).unwrap();
        if !worker.access.key_groups().contains(group) {
            continue;
        }
        let mut row = vec![signed(i), signed(i)];
        if i > 0 {
            (i128::from(i) * 125).encode_ordered(&mut row);
        }
        row.push(1);
        (DAY + i as i32).encode_ordered(&mut row);
        let key = keys.encode_key(&key).unwrap();
        worker.access.put(table, group, &key, &row).unwrap();
    }
}

fn laid_out(worker: &Worker) {
    groups(worker, "accState", false);
    groups(worker, "window-aggs", true);
}

#[test]
fn columns_are_reached_by_name() {
    for &kind in KINDS {
        let world = World::new(kind, 2, laid_out);
        assert_eq!(
            world.json(
                "SELECT key.auction AS a, value.count AS n FROM \"3-group-aggregate\".\"accState\" WHERE value.count > 37 ORDER BY a"
            ),
            ["{\"a\":38,\"n\":38}", "{\"a\":39,\"n\":39}"]
        );
        assert_eq!(
            world.json("SELECT key, value FROM accState WHERE key.auction = 3"),
            [
                "{\"key\":{\"auction\":3},\"value\":{\"count\":3,\"sum_price\":{\"sum\":3.75,\"count\":3},\"max_day\":\"2024-03-03\"}}"
            ]
        );
        assert_eq!(
            world.json(
                "SELECT sum(value.sum_price.sum) AS total, count(value.sum_price.sum) AS n FROM accState"
            ),
            ["{\"total\":975.00,\"n\":39}"]
        );
        assert_eq!(
            world.json("SELECT count(*) AS n FROM accState WHERE value.max_day < '2024-03-01'"),
            ["{\"n\":1}"]
        );
        assert_eq!(
            world.json(
                "SELECT key.window_end AS e, sum(value.count) AS n FROM \"window-aggs\" GROUP BY key.window_end ORDER BY e"
            ),
            [
                "{\"e\":\"2023-11-14T22:13:20\",\"n\":380}",
                "{\"e\":\"2023-11-14T22:13:21\",\"n\":400}"
            ]
        );
        let columns = "SELECT columns FROM tables WHERE state = 'accState'";
        assert_eq!(
            world.json(columns),
            [
                "{\"columns\":\"key { auction: Option<i64> }, value { count: i64, sum_price: { sum: Option<decimal(38,2)>, count: i64 }, max_day: Option<date> }, key_group\"}"
            ]
        );
    }
}

#[test]
fn a_key_is_found_by_its_parts() {
    let read = |world: &World, query: &str| {
        let (text, query) = world.run(&world.sql(), Format::Json, query).unwrap();
        (text.lines().count(), query.rows_read())
    };
    for &kind in KINDS {
        let world = World::new(kind, 3, laid_out);
        for (condition, rows, rows_read) in [
            ("key.auction = 7", 1, 1),
            ("key.auction IN (7, 8, 9, 10, 1000)", 4, 4),
            ("key.auction = 7 AND value.count = 8", 0, 1),
            ("key.auction > 37", 2, 40),
            ("key.auction IS NULL", 0, 40),
            ("key.auction = 7 OR value.count = 8", 2, 40),
        ] {
            let query = format!("SELECT value.count FROM accState WHERE {condition}");
            assert_eq!(read(&world, &query), (rows, rows_read), "{condition}");
        }
        let one = "key.auction = 7 AND key.window_end = arrow_cast('2023-11-14T22:13:21', 'Timestamp(Millisecond, None)')";
        let query = format!("SELECT value.count FROM \"window-aggs\" WHERE {one}");
        let (rows, rows_read) = read(&world, &query);
        assert_eq!((rows, rows_read), (1, 1));
        // A part of a key leaves all rows to be looked at.
        let query = "SELECT value.count FROM \"window-aggs\" WHERE key.auction = 7";
        assert_eq!(read(&world, query), (1, 40));
    }
}
