//! The documentation's windows, late rows, the order of firing, and windows across recovery and rescaling.

use arrow::array::{Int64Array, StringArray};
use arrow::datatypes::{Field, Schema, TimeUnit};

use super::*;
use crate::logical::WindowKind;
use crate::runtime::aggregate::AggregateFunction;
use crate::runtime::harness::{MAX_PARALLELISM, Random, Worker, changes, lines, stateless};
use crate::runtime::window::{WindowAssign, WindowAssignSpec};

const MINUTE: i64 = 60_000;

fn time() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, None)
}

fn bids_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("item", DataType::Utf8, true),
        Field::new("price", DataType::Int64, true),
        Field::new("bidtime", time(), true),
    ]))
}

/// (item, price, time)
fn bids(rows: &[(&str, i64, i64)]) -> ChangeBatch {
    let items = StringArray::from_iter_values(rows.iter().map(|row| row.0));
    let prices = Int64Array::from_iter_values(rows.iter().map(|row| row.1));
    let times = TimestampMillisecondArray::from_iter_values(rows.iter().map(|row| row.2));
    let columns: Vec<ArrayRef> = vec![Arc::new(items), Arc::new(prices), Arc::new(times)];
    changes(&bids_schema(), columns, None)
}

fn assigned(kind: WindowKind, batch: ChangeBatch) -> Vec<Result<ChangeBatch, i64>> {
    let mut fields: Vec<_> = bids_schema().fields().iter().cloned().collect();
    for name in ["window_start", "window_end", "window_time"] {
        fields.push(Arc::new(Field::new(name, time(), true)));
    }
    let output = Arc::new(Schema::new(fields));
    let spec = WindowAssignSpec {
        kind,
        time_column: 2,
        output,
    };
    stateless(&mut WindowAssign::new(spec), vec![Ok(batch)]).unwrap()
}

/// SELECT window_start, window_end, [item,] SUM(price), COUNT(DISTINCT price)
fn spec(by_item: bool) -> WindowAggregateSpec {
    let mut fields = vec![
        Field::new("window_start", time(), true),
        Field::new("window_end", time(), true),
    ];
    let mut sources = vec![WindowOutput::WindowStart, WindowOutput::WindowEnd];
    if by_item {
        fields.push(Field::new("item", DataType::Utf8, true));
        sources.push(WindowOutput::Key(0));
    }
    fields.push(Field::new("sum", DataType::Int64, true));
    fields.push(Field::new("prices", DataType::Int64, true));
    sources.extend([WindowOutput::Call(0), WindowOutput::Call(1)]);
    let call = |function: AggregateFunction, distinct| AggregateCall {
        name: function.name().to_owned(),
        function,
        input: Some((1, DataType::Int64)),
        filter: None,
        distinct,
        output: DataType::Int64,
    };
    WindowAggregateSpec {
        key_types: if by_item {
            vec![DataType::Utf8]
        } else {
            vec![]
        },
        start_column: 3,
        end_column: 4,
        calls: vec![
            call(AggregateFunction::Sum, false),
            call(AggregateFunction::Count, true),
        ],
        output: Arc::new(Schema::new(fields)),
        sources,
        updating: false,
    }
}

struct Windows {
    kind: WindowKind,
    operator: WindowAggregate,
    late_rows: Arc<AtomicU64>,
}

impl Windows {
    fn new(worker: &Worker, kind: WindowKind, by_item: bool) -> Self {
        let late_rows = Arc::new(AtomicU64::new(0));
        let mut operator = WindowAggregate::new(spec(by_item), Arc::clone(&late_rows)).unwrap();
        worker.open("1", &mut operator);
        Self {
            kind,
            operator,
            late_rows,
        }
    }

    fn rows(&mut self, worker: &Worker, rows: &[(&str, i64, i64)]) {
        let out = worker
            .feed(&mut self.operator, assigned(self.kind, bids(rows)))
            .unwrap();
        assert!(out.is_empty(), "rows alone let nothing out");
    }

    fn watermark(&mut self, worker: &Worker, watermark_ms: i64) -> Vec<String> {
        let out = worker
            .feed(&mut self.operator, [Err(watermark_ms)])
            .unwrap();
        assert_eq!(out.last().unwrap().as_ref().unwrap_err(), &watermark_ms);
        lines(&out)
    }
}

/// Minutes after eight o'clock.
fn at(minutes: i64) -> i64 {
    (8 * 60 + minutes) * MINUTE
}

fn documented() -> Vec<(&'static str, i64, i64)> {
    [
        ("C", 4, 5),
        ("A", 2, 7),
        ("D", 5, 9),
        ("B", 3, 11),
        ("E", 1, 13),
        ("F", 6, 17),
    ]
    .map(|(item, price, minute)| (item, price, at(minute)))
    .to_vec()
}

/// `start-end sum` in minutes after eight.
fn documented_result(kind: WindowKind) -> Vec<String> {
    let worker = Worker::new();
    let mut windows = Windows::new(&worker, kind, false);
    windows.rows(&worker, &documented());
    let out = windows.watermark(&worker, i64::MAX);
    assert_eq!(worker.rows(), 0, "what has fired is deleted");
    let time = |text: &str| {
        let (_, clock) = text.split_once('T').unwrap();
        let (hours, minutes) = clock.split_once(':').unwrap();
        let hours: i64 = hours.parse().unwrap();
        let minutes: i64 = minutes[..2].parse().unwrap();
        hours * 60 + minutes - 8 * 60
    };
    out.iter()
        .map(|line| {
            let cells = line.strip_prefix("+I[").unwrap().trim_end_matches(']');
            let cells: Vec<_> = cells.split(", ").collect();
            format!("{}-{} {}", time(cells[0]), time(cells[1]), cells[2])
        })
        .collect()
}

#[test]
fn tumbling() {
    let kind = WindowKind::Tumble {
        size_ms: 10 * MINUTE,
        offset_ms: 0,
    };
    assert_eq!(documented_result(kind), ["0-10 11", "10-20 10"]);
    let kind = WindowKind::Tumble {
        size_ms: 10 * MINUTE,
        offset_ms: MINUTE,
    };
    assert_eq!(documented_result(kind), ["1-11 11", "11-21 10"]);
}

#[test]
fn hopping() {
    let kind = WindowKind::Hop {
        slide_ms: 5 * MINUTE,
        size_ms: 10 * MINUTE,
        offset_ms: 0,
    };
    assert_eq!(
        documented_result(kind),
        ["0-10 11", "5-15 15", "10-20 10", "15-25 6"]
    );
}

#[test]
fn cumulating() {
    let kind = WindowKind::Cumulate {
        step_ms: 2 * MINUTE,
        size_ms: 10 * MINUTE,
        offset_ms: 0,
    };
    assert_eq!(
        documented_result(kind),
        [
            "0-6 4", "0-8 6", "0-10 11", "10-12 3", "10-14 4", "10-16 4", "10-18 10", "10-20 10"
        ]
    );
}

#[test]
fn a_window_comes_out_once_when_the_watermark_reaches_its_last_millisecond() {
    let worker = Worker::new();
    let kind = WindowKind::Tumble {
        size_ms: 10,
        offset_ms: 0,
    };
    let mut windows = Windows::new(&worker, kind, true);
    windows.rows(
        &worker,
        &[("a", 1, 3), ("b", 5, 9), ("a", 1, 4), ("a", 7, 12)],
    );
    assert!(windows.watermark(&worker, 8).is_empty());
    let mut first = windows.watermark(&worker, 9);
    first.sort();
    let bounds = "1970-01-01T00:00:00, 1970-01-01T00:00:00.010";
    assert_eq!(
        first,
        [
            format!("+I[{bounds}, a, 2, 1]"),
            format!("+I[{bounds}, b, 5, 1]")
        ]
    );
    windows.rows(&worker, &[("a", 100, 9), ("c", 100, 0), ("a", 2, 10)]);
    assert_eq!(windows.late_rows.load(Ordering::Relaxed), 2);
    assert!(windows.watermark(&worker, 18).is_empty());
    let second = windows.watermark(&worker, 19);
    let bounds = "1970-01-01T00:00:00.010, 1970-01-01T00:00:00.020";
    assert_eq!(second, [format!("+I[{bounds}, a, 9, 2]")]);
    assert!(windows.watermark(&worker, i64::MAX).is_empty());
    assert_eq!(worker.rows(), 0);
}

#[test]
fn windows_come_out_in_the_order_of_their_ends_before_1970_too() {
    let worker = Worker::new();
    let kind = WindowKind::Tumble {
        size_ms: 10,
        offset_ms: 0,
    };
    let mut windows = Windows::new(&worker, kind, true);
    let mut random = Random(7);
    let names: Vec<String> = (0..50).map(|n| format!("item {n}")).collect();
    let rows: Vec<_> = (0..3000)
        .map(|_| {
            let name = names[random.below(50) as usize].as_str();
            (name, 1, random.below(400) as i64 - 200)
        })
        .collect();
    windows.rows(&worker, &rows);
    let out = worker.feed(&mut windows.operator, [Err(i64::MAX)]).unwrap();
    let mut ends: Vec<i64> = Vec::new();
    let mut sum = 0;
    for batch in out.iter().flatten() {
        ends.extend(
            batch
                .rows
                .column(1)
                .as_primitive::<TimestampMillisecondType>()
                .values(),
        );
        let sums = batch
            .rows
            .column(3)
            .as_primitive::<arrow::datatypes::Int64Type>();
        sum += sums.values().iter().sum::<i64>();
    }
    assert!(ends.is_sorted());
    assert_eq!(sum, 3000);
    assert_eq!(worker.rows(), 0);
}

#[test]
fn what_fired_before_a_checkpoint_does_not_fire_again_after_it() {
    let worker = Worker::new();
    let kind = WindowKind::Tumble {
        size_ms: 10,
        offset_ms: 0,
    };
    let mut windows = Windows::new(&worker, kind, true);
    windows.rows(&worker, &[("a", 1, 3), ("b", 2, 14)]);
    assert_eq!(windows.watermark(&worker, 9).len(), 1);
    worker.barrier(&mut windows.operator);
    assert_eq!(
        worker.rows(),
        usize::from(MAX_PARALLELISM) + 2,
        "watermarks, a window, a value"
    );

    // Restored: the watermark of the stream begins again, but what had fired stays fired.
    let mut restored = Windows::new(&worker, kind, true);
    restored.rows(&worker, &[("a", 1, 5), ("b", 3, 15)]);
    assert_eq!(restored.late_rows.load(Ordering::Relaxed), 1);
    assert!(restored.watermark(&worker, 4).is_empty());
    let out = restored.watermark(&worker, 30);
    assert_eq!(
        out,
        ["+I[1970-01-01T00:00:00.010, 1970-01-01T00:00:00.020, b, 5, 2]"]
    );
}

#[test]
fn restored_windows_fire_without_any_new_row() {
    let worker = Worker::new();
    let kind = WindowKind::Tumble {
        size_ms: 10,
        offset_ms: 0,
    };
    let mut windows = Windows::new(&worker, kind, true);
    windows.rows(&worker, &[("a", 1, 3), ("b", 2, 14)]);
    worker.barrier(&mut windows.operator);
    let mut restored = Windows::new(&worker, kind, true);
    assert_eq!(restored.watermark(&worker, i64::MAX).len(), 2);
}
