//! From SQL text to rows: scripts planned by a session and run through the streaming operators on one thread.

use std::sync::Arc;

use aquifer_dataflow::JobError;
use aquifer_dataflow::connector::{ConnectorFactory, ConnectorRegistry, Sink, Source, TableSpec};
use arrow::array::{ArrayRef, RecordBatch, StringArray};

use crate::runtime::harness::{AnyRows, changelog_of, source_of};
use crate::session::{Clock, Outcome, Session};

/// 1970-01-02 00:00:00.5.
const NOW_MS: i64 = 86_400_500;

/// A table whose rows stand in its options: cells between `|`, rows between `;`, `null` for nulls.
struct Inline;

impl ConnectorFactory for Inline {
    fn name(&self) -> &'static str {
        "inline"
    }

    fn source(&self, table: &TableSpec) -> Result<Arc<dyn Source>, JobError> {
        let text = table.options.get("rows").map_or("", String::as_str);
        let rows: Vec<Vec<&str>> = text
            .split(';')
            .map(|row| row.trim().split('|').collect())
            .filter(|r: &Vec<&str>| r != &[""])
            .collect();
        let columns = table
            .schema
            .fields()
            .iter()
            .enumerate()
            .map(|(i, field)| {
                let cells = rows
                    .iter()
                    .map(|row| row.get(i).copied().filter(|cell| *cell != "null"));
                let cells: ArrayRef = Arc::new(cells.collect::<StringArray>());
                Ok(arrow::compute::cast(&cells, field.data_type())?)
            })
            .collect::<Result<Vec<_>, JobError>>()?;
        Ok(source_of(RecordBatch::try_new(
            Arc::clone(&table.schema),
            columns,
        )?))
    }

    fn sink(&self, _table: &TableSpec) -> Result<Arc<dyn Sink>, JobError> {
        Ok(Arc::new(AnyRows))
    }
}

/// The changelog of a script's last statement, or what is wrong.
fn try_run(script: &str) -> Result<Vec<String>, String> {
    let mut registry = ConnectorRegistry::default();
    registry.register(Arc::new(Inline));
    let mut session = Session::new(Clock::new(|| NOW_MS), Box::new(|_, _| Ok(())));
    let mut last = None;
    for statement in Session::parse_script(script).map_err(|e| e.render("script", script))? {
        if let Outcome::Job(job) = session
            .execute(&statement)
            .map_err(|e| e.render("script", script))?
        {
            last = Some(job);
        }
    }
    changelog_of(&last.expect("the script has a job"), &registry).map_err(|e| e.message)
}

fn run(script: &str) -> Vec<String> {
    try_run(script).unwrap_or_else(|error| panic!("{error}"))
}

/// The text of an expression's value, once as a constant and once with columns: both must agree.
fn value(expression: &str) -> Result<String, String> {
    let rows = try_run(&format!("SELECT CAST({expression} AS STRING)"))?;
    assert_eq!(rows.len(), 1, "{expression}");
    Ok(rows[0]
        .trim_start_matches("+I[")
        .trim_end_matches(']')
        .to_string())
}

fn check(expressions: &[(&str, &str)]) {
    for (expression, expected) in expressions {
        match value(expression) {
            Ok(found) => assert_eq!(found, *expected, "{expression}"),
            Err(error) => panic!("{expression}: {error}"),
        }
    }
}

#[test]
fn string_functions() {
    check(&[
        ("LOWER('AbÇ')", "abç"),
        ("UPPER('abß')", "ABSS"),
        ("TRIM('  a b ')", "a b"),
        ("TRIM(LEADING 'x' FROM 'xxaxx')", "axx"),
        ("TRIM(TRAILING 'x' FROM 'xxaxx')", "xxa"),
        ("LTRIM('  a ') || '|'", "a |"),
        ("CHAR_LENGTH('añb')", "3"),
        ("CHARACTER_LENGTH('')", "0"),
        ("SUBSTRING('abcdef' FROM 2 FOR 3)", "bcd"),
        ("SUBSTRING('abcdef', -2)", "ef"),
        ("SUBSTR('abcdef', 2)", "bcdef"),
        ("LEFT('abc', 2) || RIGHT('abc', 2)", "abbc"),
        ("CONCAT('a', 'b', 'c')", "abc"),
        ("CONCAT('a', NULL)", "null"),
        ("CONCAT_WS('-', 'a', NULL, 'b')", "a-b"),
        ("'a' || 'b' || 'c'", "abc"),
        ("REPLACE('aXbX', 'X', 'yy')", "ayybyy"),
        ("POSITION('b' IN 'abcb')", "2"),
        ("POSITION('z' IN 'abcb')", "0"),
        ("LOCATE('b', 'abcb', 3)", "4"),
        ("INSTR('abcb', 'c')", "3"),
        ("LPAD('hi', 4, '??')", "??hi"),
        ("LPAD('hi', 1, '??')", "h"),
        ("RPAD('hi', 5, 'xy')", "hixyx"),
        ("LPAD('hi', 4, '')", "null"),
        ("REVERSE('abc')", "cba"),
        ("REPEAT('ab', 3)", "ababab"),
        ("INITCAP('hello big-world')", "Hello Big-World"),
        ("OVERLAY('xxxxxtest' PLACING 'xxxx' FROM 6)", "xxxxxxxxx"),
        (
            "OVERLAY('xxxxxtest' PLACING 'xxxx' FROM 6 FOR 2)",
            "xxxxxxxxxst",
        ),
        ("SPLIT_INDEX('a/b//d', '/', 1)", "b"),
        ("SPLIT_INDEX('a/b//d', '/', 2)", ""),
        ("SPLIT_INDEX('a/b//d', '/', 4)", "null"),
        ("SPLIT_INDEX('a/b', '/', -1)", "null"),
        ("count_char('abcac', 'ac')", "2"),
        ("HASH_CODE('hello')", "99162322"),
        ("ASCII('a') + 0", "97"),
        ("CHR(97)", "a"),
        ("STARTSWITH('abc', 'ab')", "TRUE"),
        ("IS_DECIMAL('-1.5')", "TRUE"),
        ("IS_DIGIT('12a')", "FALSE"),
        ("'abc' LIKE 'a%'", "TRUE"),
        ("'abc' NOT LIKE '_c%'", "TRUE"),
        ("'a%c' LIKE 'a!%c' ESCAPE '!'", "TRUE"),
        ("'abc' LIKE 'a!%c' ESCAPE '!'", "FALSE"),
        ("'a\\c' LIKE 'a\\_'", "TRUE"),
        (
            "REGEXP_EXTRACT('https://x/?channel_id=42&a', '(&|^|\\?)channel_id=([^&]*)', 2)",
            "42",
        ),
        (
            "REGEXP_EXTRACT('none', '(&|^)channel_id=([^&]*)', 2)",
            "null",
        ),
        (
            "REGEXP_EXTRACT('foothebar', 'foo(.*?)(bar)', 0)",
            "foothebar",
        ),
        ("REGEXP_REPLACE('foobar', 'oo|ar', 'X')", "fXbX"),
        ("REGEXP_REPLACE('foobar', '(o)(b)', '$2$1')", "foboar"),
        ("REGEXP('abc123', '[0-9]+')", "TRUE"),
    ]);
}

#[test]
fn numbers() {
    check(&[
        ("0.908 * 3", "2.724"),
        ("CAST(1 AS BIGINT) * 0.908", "0.908"),
        ("7 / 2", "3"),
        ("-7 / 2", "-3"),
        ("MOD(-7, 3)", "-1"),
        ("7 % 4", "3"),
        ("1.0 / 3", "0.333333333333"),
        ("2.00 / 3.0", "0.666667"),
        ("1e3 + 0.5", "1000.5"),
        ("5 / 2.0", "2.500000"),
        ("ABS(-2.5)", "2.5"),
        ("FLOOR(-2.5)", "-3"),
        ("CEIL(2.1)", "3"),
        ("CEILING(CAST(2.1 AS DOUBLE))", "3.0"),
        ("ROUND(2.675, 2)", "2.68"),
        ("ROUND(-2.5)", "-3"),
        ("ROUND(125, -1)", "130"),
        ("TRUNCATE(2.679, 2)", "2.67"),
        ("POWER(2, 10)", "1024.0"),
        ("SQRT(16)", "4.0"),
        ("LN(1)", "0.0"),
        ("LOG(2, 8)", "3.0"),
        ("LOG10(1000)", "3.0"),
        ("EXP(0)", "1.0"),
        ("SIGN(-3.5)", "-1.0"),
        ("GREATEST(1, 3, 2)", "3"),
        ("LEAST(1, 3, NULL)", "null"),
        ("2147483647 + 1", "-2147483648"),
        ("CAST(2147483647 AS BIGINT) + 1", "2147483648"),
    ]);
    assert!(
        value("1 / (1 - 1)")
            .expect_err("fails")
            .to_lowercase()
            .contains("divi")
    );
    assert!(
        value("1.5 / (1 - 1)")
            .expect_err("fails")
            .contains("division by zero")
    );
}

#[test]
fn casts() {
    check(&[
        ("CAST('  42 ' AS INT)", "42"),
        ("CAST('1.256' AS DECIMAL(5, 2))", "1.26"),
        ("TRY_CAST('x' AS INT)", "null"),
        ("CAST(3.99 AS INT)", "3"),
        ("CAST(CAST(3.99 AS DOUBLE) AS BIGINT)", "3"),
        ("CAST(300 AS TINYINT)", "44"),
        ("CAST(1e20 AS INT)", "2147483647"),
        ("CAST(12345.678 AS DECIMAL(5, 2))", "null"),
        ("CAST(1.255 AS DECIMAL(5, 2))", "1.26"),
        ("TRUE", "TRUE"),
        ("CAST('yes' AS BOOLEAN)", "TRUE"),
        ("CAST(0 AS BOOLEAN)", "FALSE"),
        ("1e7", "1.0E7"),
        ("CAST(1.5 AS FLOAT)", "1.5"),
        ("TIMESTAMP '2020-01-01 00:00:00'", "2020-01-01 00:00:00.000"),
        (
            "TIMESTAMP '2020-01-01 00:00:00.123456'",
            "2020-01-01 00:00:00.123456",
        ),
        (
            "CAST('2020-01-01 08:30' AS TIMESTAMP(3))",
            "2020-01-01 08:30:00.000",
        ),
        (
            "CAST('2020-01-01T08:30:00.5' AS TIMESTAMP(3))",
            "2020-01-01 08:30:00.500",
        ),
        ("DATE '2020-02-29'", "2020-02-29"),
        (
            "CAST(TIMESTAMP '2020-02-29 23:59:59' AS DATE)",
            "2020-02-29",
        ),
        ("TIME '12:34:56'", "12:34:56"),
        ("CAST('abcdef' AS VARCHAR(3))", "abc"),
        ("CAST(12345 AS CHAR(2))", "12"),
        ("CAST(NULL AS INT)", "null"),
    ]);
    let error = value("CAST('abc' AS INT)").expect_err("fails");
    assert!(error.contains("cannot CAST 'abc' AS INT"), "{error}");
    assert!(
        value("TIMESTAMP '2020-13-01 00:00:00'")
            .expect_err("fails")
            .contains("TIMESTAMP literal")
    );
}

#[test]
fn times() {
    check(&[
        (
            "DATE_FORMAT(TIMESTAMP '2020-04-15 08:05:07', 'yyyy-MM-dd')",
            "2020-04-15",
        ),
        (
            "DATE_FORMAT(TIMESTAMP '2020-04-15 08:05:07', 'HH:mm')",
            "08:05",
        ),
        (
            "DATE_FORMAT('2020-04-15 08:05:07', 'yyyyMMdd HHmmss')",
            "20200415 080507",
        ),
        ("HOUR(TIMESTAMP '2020-04-15 08:05:07')", "8"),
        ("EXTRACT(MINUTE FROM TIMESTAMP '2020-04-15 08:05:07')", "5"),
        ("EXTRACT(YEAR FROM DATE '2020-04-15')", "2020"),
        ("DAYOFMONTH(DATE '2020-04-15')", "15"),
        ("DAYOFWEEK(DATE '2020-04-15')", "4"),
        ("QUARTER(DATE '2020-04-15')", "2"),
        (
            "FLOOR(TIMESTAMP '2020-04-15 08:05:07' TO HOUR)",
            "2020-04-15 08:00:00.000",
        ),
        (
            "CEIL(TIMESTAMP '2020-04-15 08:05:07' TO DAY)",
            "2020-04-16 00:00:00.000",
        ),
        (
            "TIMESTAMP '2020-04-15 08:05:07' + INTERVAL '10' SECOND",
            "2020-04-15 08:05:17.000",
        ),
        (
            "TIMESTAMP '2020-04-15 08:05:07' - INTERVAL '1' DAY",
            "2020-04-14 08:05:07.000",
        ),
        (
            "TIMESTAMP '2020-01-31 00:00:00' + INTERVAL '1' MONTH",
            "2020-02-29 00:00:00.000",
        ),
        (
            "TIMESTAMP '2020-04-15 00:00:00' + INTERVAL '1 02:03:04.5' DAY TO SECOND",
            "2020-04-16 02:03:04.500",
        ),
        (
            "TIMESTAMP '2020-04-15 00:00:00' + INTERVAL '1-2' YEAR TO MONTH",
            "2021-06-15 00:00:00.000",
        ),
        (
            "TIMESTAMPADD(DAY, 2, TIMESTAMP '2020-04-15 00:00:00')",
            "2020-04-17 00:00:00.000",
        ),
        (
            "TIMESTAMPDIFF(HOUR, TIMESTAMP '2020-04-15 00:00:00', TIMESTAMP '2020-04-15 23:59:00')",
            "23",
        ),
        (
            "TIMESTAMPDIFF(MONTH, TIMESTAMP '2020-01-31 00:00:00', TIMESTAMP '2020-03-30 00:00:00')",
            "1",
        ),
        (
            "TO_TIMESTAMP('2020-04-15 08:00:00')",
            "2020-04-15 08:00:00.000",
        ),
        (
            "TO_TIMESTAMP('15/04/2020', 'dd/MM/yyyy')",
            "2020-04-15 00:00:00.000",
        ),
        ("TO_TIMESTAMP('nonsense')", "null"),
        ("TO_TIMESTAMP_LTZ(1000, 3)", "1970-01-01 00:00:01.000"),
        ("TO_TIMESTAMP_LTZ(1, 0)", "1970-01-01 00:00:01.000"),
        ("TO_DATE('2020-04-15')", "2020-04-15"),
        ("FROM_UNIXTIME(3600)", "1970-01-01 01:00:00"),
        ("FROM_UNIXTIME(3600, 'HH')", "01"),
        ("UNIX_TIMESTAMP('1970-01-01 01:00:00')", "3600"),
        ("UNIX_TIMESTAMP()", "86400"),
        ("CURRENT_DATE", "1970-01-02"),
        ("LOCALTIMESTAMP", "1970-01-02 00:00:00.500"),
        ("CURRENT_TIMESTAMP", "1970-01-02 00:00:00.500"),
        ("PROCTIME()", "1970-01-02 00:00:00.500"),
        (
            "TIMESTAMP '2020-04-15 00:00:00' > TIMESTAMP '2020-04-14 00:00:00'",
            "TRUE",
        ),
    ]);
}

#[test]
fn conditions() {
    check(&[
        ("IF(1 > 2, 'a', 'b')", "b"),
        ("IF(1 = 1, 0, 1 / 0)", "0"),
        ("IFNULL(NULL, 'x')", "x"),
        ("COALESCE(NULL, NULL, 3)", "3"),
        ("NULLIF(1, 1)", "null"),
        ("CASE 2 WHEN 1 THEN 'a' WHEN 2 THEN 'b' END", "b"),
        ("NULL IS NULL", "TRUE"),
        ("3 BETWEEN 1 AND 5", "TRUE"),
        ("3 IN (1, 2)", "FALSE"),
        ("1 IS DISTINCT FROM NULL", "TRUE"),
    ]);
}

const NUMBERS: &str = "CREATE TABLE ev (k BIGINT, id STRING, v BIGINT, ts TIMESTAMP(3),
    WATERMARK FOR ts AS ts - INTERVAL '1' SECOND) WITH ('connector' = 'inline', 'rows' =
    '1|a|10|2020-01-01T00:00:01;1|b|20|2020-01-01T00:00:02;2|c|5|2020-01-01T00:00:03;
     1|d|15|2020-01-01T00:00:01.5;2|e|7|2020-01-01T00:00:02.5;3|f|1|2020-01-01T00:00:09;1|g|20|2020-01-01T00:00:02');";

#[test]
fn group_aggregates_run_from_text() {
    let rows = run(&format!(
        "{NUMBERS} SELECT k, COUNT(*), SUM(v), AVG(v), MIN(v), MAX(v) FROM ev GROUP BY k"
    ));
    assert!(
        rows.contains(&"+U[1, 4, 65, 16, 10, 20]".to_string()),
        "{rows:?}"
    );
    let rows = run(&format!(
        "{NUMBERS} SELECT n, COUNT(*) FROM (SELECT k, COUNT(*) AS n FROM ev GROUP BY k) GROUP BY n"
    ));
    assert_eq!(
        rows[..4],
        ["+I[1, 1]", "-D[1, 1]", "+I[2, 1]", "+I[1, 1]"],
        "{rows:?}"
    );
    let rows = run(&format!(
        "{NUMBERS} SELECT COUNT(DISTINCT v), SUM(v) FILTER (WHERE v > 5), SUM(0.5 * v) FROM ev HAVING COUNT(*) = 7"
    ));
    assert_eq!(rows, ["+U[6, 72, 39.0]".to_string()], "{rows:?}");
    let rows = run(&format!("{NUMBERS} SELECT DISTINCT k FROM ev"));
    assert_eq!(rows, ["+I[1]", "+I[2]", "+I[3]"]);
}

#[test]
fn tumbling_windows_run_from_text() {
    let rows = run(&format!(
        "{NUMBERS} SELECT window_start, window_end, k, SUM(v) AS total
         FROM TABLE(TUMBLE(TABLE ev, DESCRIPTOR(ts), INTERVAL '2' SECOND)) GROUP BY window_start, window_end, k"
    ));
    assert!(
        rows.contains(&"+I[2020-01-01T00:00:00, 2020-01-01T00:00:02, 1, 25]".to_string()),
        "{rows:?}"
    );
    assert!(rows.iter().all(|row| row.starts_with("+I")));
    // The older way to write it.
    let rows = run(&format!(
        "{NUMBERS} SELECT TUMBLE_START(e.ts, INTERVAL '2' SECOND), k, SUM(v) AS total FROM ev AS e
         WHERE k = 1 GROUP BY TUMBLE(e.ts, INTERVAL '2' SECOND), k HAVING TUMBLE_END(e.ts, INTERVAL '2' SECOND) > TIMESTAMP '2020-01-01 00:00:02'"
    ));
    assert_eq!(rows, ["+I[2020-01-01T00:00:02, 1, 40]"]);
    // A view between, other names, and a filter above.
    let rows = run(&format!(
        "{NUMBERS} CREATE VIEW w AS SELECT k, v, window_start AS s, window_end AS e
           FROM TABLE(TUMBLE(TABLE ev, DESCRIPTOR(ts), INTERVAL '1' MINUTE));
         SELECT s, COUNT(*) AS n FROM w WHERE k < 3 GROUP BY e, s HAVING COUNT(*) > 1"
    ));
    assert_eq!(rows, ["+I[2020-01-01T00:00:00, 6]"]);
}

#[test]
fn values_unions_and_inserts_run_from_text() {
    assert_eq!(
        run("SELECT a + 1, b FROM (VALUES (1, 'x'), (2, NULL)) AS t (a, b) WHERE a < 5"),
        ["+I[2, x]", "+I[3, null]"]
    );
    assert_eq!(run("SELECT 1 UNION ALL SELECT 2").len(), 2);
    assert_eq!(
        run(
            "CREATE TABLE s (a DECIMAL(10, 2), b STRING, c BIGINT) WITH ('connector' = 'inline');
             INSERT INTO s (c, a) SELECT 7, 1.5"
        ),
        ["+I[1.50, null, 7]"]
    );
    assert_eq!(
        run(
            "CREATE TABLE r (a INT, b AS a * 2, c AS CONCAT('<', CAST(a AS STRING), '>'))
             WITH ('connector' = 'inline', 'rows' = '1;2');
             SELECT * FROM r WHERE b > 2"
        ),
        ["+I[2, 4, <2>]"]
    );
    assert_eq!(run("SELECT ROW(1, 'a')").len(), 1);
}
