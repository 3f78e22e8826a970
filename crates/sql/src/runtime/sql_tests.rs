//! SQL text through planner, translation and operators, on one thread: golden changelogs, the documentation's window examples, and queries
//! compared with what a batch computation gives.

use std::sync::Arc;

use aquifer_dataflow::connector::{
    ConnectorContext, ConnectorFactory, ConnectorRegistry, Sink, SinkWriter, Source, TableSpec,
};
use aquifer_dataflow::{ChangeBatch, JobError};
use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::compute::cast;

use super::harness::{Worker, lines, materialised};
use super::values::ValuesSource;
use super::{StreamJob, StreamOptions, explain_changelog};
use crate::session::{Clock, JobPlan, Outcome, Session};

/// Reads the rows that its option `rows` lists: columns parted by commas, rows by semicolons, `-` for null. Writes nowhere.
struct Listed;

impl ConnectorFactory for Listed {
    fn name(&self) -> &'static str {
        "listed"
    }

    fn source(&self, table: &TableSpec) -> Result<Arc<dyn Source>, JobError> {
        let rows = table.options.get("rows").expect("a listed table has rows");
        let rows: Vec<Vec<&str>> = rows
            .split(';')
            .map(|row| row.split(',').map(str::trim).collect())
            .collect();
        let mut columns: Vec<ArrayRef> = Vec::new();
        for (index, field) in table.schema.fields().iter().enumerate() {
            let cells: StringArray = rows
                .iter()
                .map(|row| Some(row[index]).filter(|cell| *cell != "-"))
                .collect();
            columns.push(cast(&cells, field.data_type())?);
        }
        let rows = RecordBatch::try_new(Arc::clone(&table.schema), columns)?;
        Ok(Arc::new(ValuesSource::new(rows)))
    }

    fn sink(&self, table: &TableSpec) -> Result<Arc<dyn Sink>, JobError> {
        Ok(Arc::new(Nowhere {
            inserts_only: table.options.contains_key("inserts-only"),
        }))
    }
}

struct Nowhere {
    inserts_only: bool,
}

impl Sink for Nowhere {
    fn writer(&self, _context: ConnectorContext) -> Result<Box<dyn SinkWriter>, JobError> {
        Err(JobError::failed("the tests write nothing"))
    }
    fn commit(&self, _: Vec<Vec<u8>>, _: &ConnectorContext) -> Result<(), JobError> {
        Ok(())
    }
    fn accepts_updates(&self) -> bool {
        !self.inserts_only
    }
}

const TABLES: &str = "
CREATE TABLE ev (k INT, id STRING, v BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '1' SECOND) WITH (
    'connector' = 'listed',
    'rows' = '1,a,10,2020-01-01T00:00:01; 1,b,20,2020-01-01T00:00:02; 2,c,5,2020-01-01T00:00:03;
              1,d,15,2020-01-01T00:00:01.500; 2,e,7,2020-01-01T00:00:02.500; 3,f,1,2020-01-01T00:00:09;
              1,g,20,2020-01-01T00:00:02');
CREATE TABLE Bid (bidtime TIMESTAMP(3), price DECIMAL(10, 2), item STRING, WATERMARK FOR bidtime AS bidtime - INTERVAL '1' SECOND) WITH (
    'connector' = 'listed',
    'rows' = '2020-04-15T08:05:00,4.00,C; 2020-04-15T08:07:00,2.00,A; 2020-04-15T08:09:00,5.00,D; 2020-04-15T08:11:00,3.00,B;
              2020-04-15T08:13:00,1.00,E; 2020-04-15T08:17:00,6.00,F');
CREATE TABLE strict (n INT NOT NULL) WITH ('connector' = 'listed', 'inserts-only' = 'true');
";

fn planned(sql: &str) -> JobPlan {
    let mut session = Session::new(Clock::new(|| 0), Box::new(|_, _| Ok(())));
    let script = format!("{TABLES}{sql}");
    let mut last = Outcome::Done;
    let statements = Session::parse_script(&script)
        .unwrap_or_else(|error| panic!("{}", error.render("script", &script)));
    for statement in &statements {
        last = session
            .execute(statement)
            .unwrap_or_else(|error| panic!("{}", error.render("script", &script)));
    }
    match last {
        Outcome::Job(plan) => plan,
        other => panic!("not a job: {other:?}"),
    }
}

fn translated(sql: &str) -> Result<StreamJob, JobError> {
    let mut registry = ConnectorRegistry::default();
    registry.register(Arc::new(Listed));
    let collect: Arc<dyn Sink> = Arc::new(Nowhere {
        inserts_only: false,
    });
    let options = StreamOptions {
        mini_batch: false,
        collect: Some(collect),
    };
    StreamJob::translate(&planned(sql), &registry, &options)
}

fn events(sql: &str) -> Vec<Result<ChangeBatch, i64>> {
    Worker::new().run(&translated(sql).unwrap()).unwrap()
}

fn changelog(sql: &str) -> Vec<String> {
    lines(&events(sql))
}

fn refused(sql: &str) -> String {
    translated(sql)
        .err()
        .expect("the query should be refused")
        .message
}

#[test]
fn every_aggregate_in_one_query() {
    let sql = "SELECT k, COUNT(*), SUM(v), AVG(v), MIN(v), MAX(v) FROM ev GROUP BY k";
    assert_eq!(
        changelog(sql),
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

#[test]
fn having_begins_with_an_update() {
    assert_eq!(
        changelog("SELECT k, COUNT(*) FROM ev GROUP BY k HAVING COUNT(*) > 1"),
        [
            "+U[1, 2]", "-U[1, 2]", "+U[1, 3]", "+U[2, 2]", "-U[1, 3]", "+U[1, 4]"
        ]
    );
}

#[test]
fn count_of_counts() {
    let sql = "SELECT n, COUNT(*) FROM (SELECT k, COUNT(*) AS n FROM ev GROUP BY k) GROUP BY n";
    assert_eq!(
        changelog(sql)[..5],
        ["+I[1, 1]", "-D[1, 1]", "+I[2, 1]", "+I[1, 1]", "-D[2, 1]"]
    );
    let rest = materialised(&events(sql));
    assert_eq!(
        rest.into_keys().collect::<Vec<_>>(),
        ["[1, 1]", "[2, 1]", "[4, 1]"]
    );
}

#[test]
fn filters_distinct_and_expressions_inside_aggregates() {
    let sql = "SELECT k, COUNT(*) FILTER (WHERE v < 15) AS low, COUNT(DISTINCT v) AS v, SUM(v * 2) AS twice,
                      MAX(UPPER(id)) AS last, AVG(CAST(v AS DECIMAL(10, 2))) AS mean
               FROM ev GROUP BY k";
    let rest = materialised(&events(sql));
    assert_eq!(
        rest.into_keys().collect::<Vec<_>>(),
        [
            "[1, 1, 3, 130, G, 16.250000]",
            "[2, 2, 2, 24, E, 6.000000]",
            "[3, 1, 1, 2, F, 1.000000]"
        ]
    );
}

#[test]
fn aggregates_without_keys_and_over_constants() {
    let rest = materialised(&events("SELECT COUNT(*), SUM(1), MAX(v) FROM ev"));
    assert_eq!(rest.into_keys().collect::<Vec<_>>(), ["[7, 7, 20]"]);
}

#[test]
fn extremes_are_taken_back() {
    let sql = "SELECT MIN(s), MAX(s) FROM (SELECT k, SUM(v) AS s FROM ev GROUP BY k)";
    let rest = materialised(&events(sql));
    assert_eq!(rest.into_keys().collect::<Vec<_>>(), ["[1, 65]"]);
}

#[test]
fn rows_of_values_and_unions() {
    let sql = "SELECT k FROM ev WHERE v > 15 UNION ALL SELECT * FROM (VALUES (7), (8)) AS t(k)";
    assert_eq!(changelog(sql), ["+I[1]", "+I[1]", "+I[7]", "+I[8]"]);
    let sql = "SELECT DISTINCT k FROM ev";
    assert_eq!(changelog(sql), ["+I[1]", "+I[2]", "+I[3]"]);
    assert_eq!(changelog("SELECT 1 + 1, 'a'"), ["+I[2, a]"]);
}

/// Start, end (as written by arrow, minutes only) and the rest of each row.
fn windows(sql: &str) -> Vec<String> {
    let mut found: Vec<String> = changelog(sql)
        .iter()
        .map(|line| line.replace("2020-04-15T", "").replace(":00,", ","))
        .collect();
    found.sort();
    found
}

#[test]
fn tumbling_windows_of_the_documentation() {
    let sql = "SELECT window_start, window_end, SUM(price) AS total
               FROM TABLE(TUMBLE(TABLE Bid, DESCRIPTOR(bidtime), INTERVAL '10' MINUTES))
               GROUP BY window_start, window_end";
    assert_eq!(
        windows(sql),
        ["+I[08:00, 08:10, 11.00]", "+I[08:10, 08:20, 10.00]"]
    );
    assert!(
        translated(sql)
            .unwrap()
            .describe()
            .contains("window-aggregate")
    );
    let sql = "SELECT window_start, window_end, COUNT(*)
               FROM TUMBLE(DATA => TABLE Bid, TIMECOL => DESCRIPTOR(bidtime), SIZE => INTERVAL '10' MINUTES,
                           `OFFSET` => INTERVAL '1' MINUTES)
               GROUP BY window_start, window_end";
    assert_eq!(windows(sql), ["+I[08:01, 08:11, 3]", "+I[08:11, 08:21, 3]"]);
}

#[test]
fn hopping_and_cumulating_windows_of_the_documentation() {
    let sql = "SELECT window_start, window_end, SUM(price)
               FROM TABLE(HOP(TABLE Bid, DESCRIPTOR(bidtime), INTERVAL '5' MINUTES, INTERVAL '10' MINUTES))
               GROUP BY window_start, window_end";
    assert_eq!(
        windows(sql),
        [
            "+I[08:00, 08:10, 11.00]",
            "+I[08:05, 08:15, 15.00]",
            "+I[08:10, 08:20, 10.00]",
            "+I[08:15, 08:25, 6.00]"
        ]
    );
    let sql = "SELECT window_start, window_end, SUM(price)
               FROM TABLE(CUMULATE(TABLE Bid, DESCRIPTOR(bidtime), INTERVAL '2' MINUTES, INTERVAL '10' MINUTES))
               GROUP BY window_start, window_end";
    assert_eq!(
        windows(sql),
        [
            "+I[08:00, 08:06, 4.00]",
            "+I[08:00, 08:08, 6.00]",
            "+I[08:00, 08:10, 11.00]",
            "+I[08:10, 08:12, 3.00]",
            "+I[08:10, 08:14, 4.00]",
            "+I[08:10, 08:16, 4.00]",
            "+I[08:10, 08:18, 10.00]",
            "+I[08:10, 08:20, 10.00]"
        ]
    );
}

#[test]
fn windows_of_windows() {
    let sql = "CREATE VIEW parts AS
                   SELECT window_time AS rowtime, SUM(price) AS part
                   FROM TABLE(TUMBLE(TABLE Bid, DESCRIPTOR(bidtime), INTERVAL '5' MINUTES))
                   GROUP BY window_start, window_end, window_time;
               SELECT window_start, window_end, SUM(part), COUNT(*)
               FROM TABLE(TUMBLE(TABLE parts, DESCRIPTOR(rowtime), INTERVAL '20' MINUTES))
               GROUP BY window_start, window_end";
    assert_eq!(windows(sql), ["+I[08:00, 08:20, 21.00, 3]"]);
}

#[test]
fn window_functions_without_an_aggregate() {
    let sql = "SELECT item, window_start FROM TABLE(TUMBLE(TABLE Bid, DESCRIPTOR(bidtime), INTERVAL '10' MINUTES))
               WHERE price > 4";
    assert_eq!(
        changelog(sql),
        ["+I[D, 2020-04-15T08:00:00]", "+I[F, 2020-04-15T08:10:00]"]
    );
}

#[test]
fn what_a_table_does_not_take() {
    let error = refused("INSERT INTO strict SELECT CAST(COUNT(*) AS INT) FROM ev");
    assert!(
        error.contains("'strict' takes inserts only") && error.contains("count"),
        "{error}"
    );
    let sql = "INSERT INTO strict SELECT CASE WHEN k < 3 THEN k END FROM ev";
    let error = Worker::new().run(&translated(sql).unwrap()).unwrap_err();
    assert!(
        error
            .message
            .starts_with("column 'n' of table 'strict' is NOT NULL"),
        "{error}"
    );
}

#[test]
fn what_cannot_run_yet_is_named() {
    assert!(refused("SELECT * FROM ev ORDER BY v").starts_with("ORDER BY"));
    assert!(refused("SELECT a.k FROM ev AS a JOIN ev AS b ON a.k = b.k").starts_with("JOIN"));
    assert!(refused("SELECT * FROM ev LIMIT 3").starts_with("LIMIT"));
}

/// The scripts that come with the project become operators, every insert of them.
#[test]
fn the_examples_translate() {
    let examples = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let mut jobs = 0;
    for folder in [examples.clone(), examples.join("nexmark")] {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "sql") {
                continue;
            }
            let script = std::fs::read_to_string(&path).unwrap();
            let mut session = Session::new(Clock::new(|| 0), Box::new(|_, _| Ok(())));
            for statement in Session::parse_script(&script).unwrap() {
                let outcome = session
                    .execute(&statement)
                    .unwrap_or_else(|error| panic!("{}", error.render("example", &script)));
                if let Outcome::Job(plan) = outcome {
                    let text = explain_changelog(&plan);
                    assert!(text.is_ok(), "{}: {text:?}", path.display());
                    jobs += 1;
                }
            }
        }
    }
    assert!(jobs >= 7, "only {jobs} jobs were found");
}
