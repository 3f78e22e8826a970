//! Plans built by hand, run through all operators on one thread.

use std::collections::BTreeMap;

use aquifer_dataflow::ChangeBatch;
use aquifer_dataflow::connector::{ConnectorContext, ConnectorFactory, Sink, SinkWriter, Source};
use aquifer_dataflow::operator::WATERMARK_MAX;
use arrow::array::{ArrayRef, Int64Array, RecordBatch, TimestampMillisecondArray};
use arrow::datatypes::{Field, TimeUnit};
use datafusion_common::ScalarValue;
use datafusion_expr::{LogicalPlanBuilder, col, lit};
use datafusion_functions_aggregate::expr_fn::{count, max, sum};

use super::*;
use crate::catalog::{CatalogTable, PhysicalScan};
use crate::logical::WindowKind;
use crate::runtime::harness::{Worker, lines, materialised};
use crate::runtime::values::ValuesSource;

/// Reads the rows of EVENTS; writes nowhere. The option `updates` says what the sink takes.
struct Listed;

fn events_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("k", DataType::Int64, true),
        Field::new("v", DataType::Int64, true),
        Field::new("ts", DataType::Timestamp(TimeUnit::Millisecond, None), true),
    ]))
}

const EVENTS: [(i64, i64, i64); 9] = [
    (1, 10, 1000),
    (1, 20, 2000),
    (2, 5, 3000),
    (1, 15, 1500),
    (2, 7, 2500),
    (3, 1, 9000),
    (1, 20, 2000),
    (1, 1, 1_000_000),
    (1, 99, 1),
];

impl ConnectorFactory for Listed {
    fn name(&self) -> &'static str {
        "listed"
    }
    fn source(&self, _table: &TableSpec) -> Result<Arc<dyn Source>, JobError> {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from_iter_values(EVENTS.iter().map(|e| e.0))),
            Arc::new(Int64Array::from_iter_values(EVENTS.iter().map(|e| e.1))),
            Arc::new(TimestampMillisecondArray::from_iter_values(
                EVENTS.iter().map(|e| e.2),
            )),
        ];
        Ok(Arc::new(ValuesSource::new(RecordBatch::try_new(
            events_schema(),
            columns,
        )?)))
    }
    fn sink(&self, table: &TableSpec) -> Result<Arc<dyn Sink>, JobError> {
        Ok(Arc::new(Nowhere(
            table
                .options
                .get("updates")
                .is_some_and(|value| value == "true"),
        )))
    }
}

struct Nowhere(bool);

impl Sink for Nowhere {
    fn writer(&self, _context: ConnectorContext) -> Result<Box<dyn SinkWriter>, JobError> {
        Err(JobError::failed("the tests write nothing"))
    }
    fn commit(&self, _: Vec<Vec<u8>>, _: &ConnectorContext) -> Result<(), JobError> {
        Ok(())
    }
    fn accepts_updates(&self) -> bool {
        self.0
    }
}

fn table(name: &str, schema: SchemaRef, updates: bool) -> Arc<CatalogTable> {
    Arc::new(CatalogTable {
        spec: TableSpec {
            name: name.to_owned(),
            schema,
            options: BTreeMap::from([("updates".to_owned(), updates.to_string())]),
            primary_key: vec![],
            partitioned_by: vec![],
        },
        connector: "listed".to_owned(),
        columns: vec![],
        watermark: None,
        temporary: false,
        comment: None,
    })
}

fn events() -> LogicalPlanBuilder {
    let source = Arc::new(PhysicalScan::new(table("ev", events_schema(), false)));
    LogicalPlanBuilder::scan("ev", source, None).unwrap()
}

fn collected() -> StreamOptions {
    StreamOptions {
        mini_batch: false,
        collect: Some(Arc::new(Nowhere(true))),
    }
}

fn translated(plan: LogicalPlan, target: SinkTarget) -> Result<StreamJob, JobError> {
    let mut registry = ConnectorRegistry::default();
    registry.register(Arc::new(Listed));
    StreamJob::translate(
        &JobPlan::new(vec![PlannedSink { plan, target }]),
        &registry,
        &collected(),
    )
}

fn run(plan: LogicalPlan) -> Vec<Result<ChangeBatch, i64>> {
    let job = translated(plan, SinkTarget::Collect).unwrap();
    Worker::new().run(&job).unwrap()
}

/// WATERMARK FOR ts AS ts - INTERVAL '1' SECOND, then TUMBLE of five seconds.
fn tumbled(kind: WindowKind) -> LogicalPlanBuilder {
    let second = Expr::Literal(ScalarValue::new_interval_mdn(0, 0, 1_000_000_000), None);
    let input = events().build().unwrap();
    let watermark =
        WatermarkAssigner::try_new(col("ev.ts"), col("ev.ts") - second, Arc::new(input)).unwrap();
    let watermark = LogicalPlan::Extension(Extension {
        node: Arc::new(watermark),
    });
    let windows = WindowTvf::try_new(kind, col("ev.ts"), Arc::new(watermark)).unwrap();
    LogicalPlanBuilder::new(LogicalPlan::Extension(Extension {
        node: Arc::new(windows),
    }))
}

const FIVE_SECONDS: WindowKind = WindowKind::Tumble {
    size_ms: 5000,
    offset_ms: 0,
};

#[test]
fn projections_and_filters_become_one_operator() {
    let plan = events()
        .filter(col("v").gt(lit(9i64)))
        .unwrap()
        .project(vec![col("k"), (col("v") * lit(2i64)).alias("w")])
        .unwrap()
        .filter(col("w").lt(lit(40i64)))
        .unwrap()
        .build()
        .unwrap();
    let job = translated(plan, SinkTarget::Collect).unwrap();
    assert!(
        job.describe()
            .starts_with("3-sink collect\n  2-calc where ev.v > Int64(9); select")
    );
    let out = Worker::new().run(&job).unwrap();
    assert_eq!(lines(&out), ["+I[1, 20]", "+I[1, 30]"]);
    assert_eq!(out.last().unwrap().as_ref().unwrap_err(), &WATERMARK_MAX);
}

#[test]
fn having_sees_each_change_by_itself() {
    let plan = events()
        .aggregate(vec![col("k")], vec![count(lit(1i64)).alias("n")])
        .unwrap()
        .filter(col("n").gt(lit(1i64)))
        .unwrap()
        .build()
        .unwrap();
    let out = lines(&run(plan));
    assert_eq!(
        out[..5],
        ["+U[1, 2]", "-U[1, 2]", "+U[1, 3]", "+U[2, 2]", "-U[1, 3]"],
        "the first row that passes is an update"
    );
}

#[test]
fn an_aggregate_of_an_aggregate_takes_changes_back() {
    let plan = events()
        .aggregate(
            vec![col("k")],
            vec![count(lit(1i64)).alias("n"), sum(col("v")).alias("s")],
        )
        .unwrap()
        .aggregate(vec![col("n")], vec![max(col("s")).alias("m")])
        .unwrap()
        .build()
        .unwrap();
    let out = materialised(&run(plan));
    let rows: Vec<_> = out.keys().map(String::as_str).collect();
    assert_eq!(rows, ["[1, 1]", "[2, 12]", "[6, 165]"]);
}

#[test]
fn a_window_aggregate_is_found_through_projections_and_late_rows_are_dropped() {
    let plan = tumbled(FIVE_SECONDS)
        .project(vec![
            col("window_end").alias("e"),
            col("window_start").alias("s"),
            col("ev.v"),
        ])
        .unwrap()
        .aggregate(vec![col("e"), col("s")], vec![sum(col("v")).alias("total")])
        .unwrap()
        .project(vec![col("total"), col("s")])
        .unwrap()
        .build()
        .unwrap();
    let job = translated(plan, SinkTarget::Table(table("t", insert_schema(), false))).unwrap();
    assert!(
        job.describe().contains("window-aggregate"),
        "{}",
        job.describe()
    );
    let out = Worker::new().run(&job).unwrap();
    assert_eq!(
        lines(&out),
        [
            "+I[77, 1970-01-01T00:00:00]",
            "+I[1, 1970-01-01T00:00:05]",
            "+I[1, 1970-01-01T00:16:40]",
        ]
    );
}

fn insert_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("total", DataType::Int64, true),
        Field::new(
            "start",
            DataType::Timestamp(TimeUnit::Millisecond, None),
            true,
        ),
    ]))
}

#[test]
fn window_columns_without_an_aggregate_are_just_columns() {
    let kind = WindowKind::Hop {
        slide_ms: 5000,
        size_ms: 10_000,
        offset_ms: 0,
    };
    let plan = tumbled(kind)
        .filter(col("ev.v").eq(lit(10i64)))
        .unwrap()
        .project(vec![col("window_start"), col("window_time")])
        .unwrap()
        .build()
        .unwrap();
    assert_eq!(
        lines(&run(plan)),
        [
            "+I[1970-01-01T00:00:00, 1970-01-01T00:00:09.999]",
            "+I[1969-12-31T23:59:55, 1970-01-01T00:00:04.999]",
        ]
    );
}

#[test]
fn distinct_union_and_values() {
    let keys = events().project(vec![col("k")]).unwrap().build().unwrap();
    let values = LogicalPlanBuilder::values(vec![vec![lit(7i64)], vec![lit(1i64)]])
        .unwrap()
        .build();
    let plan = LogicalPlanBuilder::new(keys)
        .union(values.unwrap())
        .unwrap()
        .distinct()
        .unwrap()
        .build()
        .unwrap();
    assert_eq!(lines(&run(plan)), ["+I[1]", "+I[2]", "+I[3]", "+I[7]"]);
}

#[test]
fn a_sink_that_takes_inserts_only_refuses_updates_by_name() {
    let schema = Arc::new(Schema::new(vec![
        Field::new("k", DataType::Int64, true),
        Field::new("n", DataType::Int64, true),
    ]));
    let plan = || {
        let counts = events().aggregate(vec![col("k")], vec![count(lit(1i64)).alias("n")]);
        counts.unwrap().build().unwrap()
    };
    let target = |updates| SinkTarget::Table(table("out", Arc::clone(&schema), updates));
    assert!(translated(plan(), target(true)).is_ok());
    let error = translated(plan(), target(false)).err().unwrap();
    assert_eq!(error.kind, aquifer_dataflow::JobErrorKind::Usage);
    assert_eq!(
        error.message,
        "the sink 'out' takes inserts only, but the query changes rows that it has already given: \
         the aggregate that computes [count(Int64(1)) AS n] for each [ev.k] does"
    );
}

#[test]
fn what_cannot_run_is_refused_by_its_sql_name() {
    let refused = |plan: LogicalPlanBuilder| {
        translated(plan.build().unwrap(), SinkTarget::Collect)
            .err()
            .unwrap()
            .message
    };
    let sorted = events().sort(vec![col("v").sort(true, false)]).unwrap();
    assert!(refused(sorted).starts_with("ORDER BY"));
    assert!(refused(events().limit(0, Some(3)).unwrap()).starts_with("LIMIT"));
    let ordinary = WindowTvf::try_new(FIVE_SECONDS, col("ev.ts"), events().build().unwrap().into());
    let ordinary = LogicalPlan::Extension(Extension {
        node: Arc::new(ordinary.unwrap()),
    });
    let message = refused(LogicalPlanBuilder::new(ordinary));
    assert!(
        message.contains("event time attribute") && message.contains("'ts'"),
        "{message}"
    );
}

#[test]
fn the_changelog_is_explained_without_connectors() {
    let plan = events()
        .aggregate(vec![col("k")], vec![sum(col("v")).alias("s")])
        .unwrap()
        .build()
        .unwrap();
    let target = SinkTarget::Collect;
    let text = explain_changelog(&JobPlan::new(vec![PlannedSink { plan, target }])).unwrap();
    assert_eq!(
        text,
        "4-sink collect\n  \
         3-group-aggregate group by [ev.k], compute [sum(ev.v) AS s] [I,UB,UA,D]\n    \
         2-calc select ev.k, ev.v [I]\n      \
         1-source table ev (listed) [I]\n"
    );
}

#[test]
fn the_fingerprint_follows_what_is_computed() {
    let fingerprint = |bound: i64| {
        let plan = events()
            .filter(col("v").gt(lit(bound)))
            .unwrap()
            .build()
            .unwrap();
        translated(plan, SinkTarget::Collect).unwrap().fingerprint()
    };
    assert_eq!(fingerprint(1), fingerprint(1));
    assert_ne!(fingerprint(1), fingerprint(2));
}
