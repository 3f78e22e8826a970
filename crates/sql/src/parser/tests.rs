//! The statements of Flink, their places, and how errors read.

use arrow::datatypes::{DataType, TimeUnit};

use super::*;
use crate::error::SqlError;

fn one(text: &str) -> Statement {
    let mut all = parse_script(text).unwrap_or_else(|e| panic!("{}", e.render("test.sql", text)));
    assert_eq!(all.len(), 1, "{text}");
    all.remove(0).statement
}

fn error(text: &str) -> SqlError {
    match parse_script(text) {
        Ok(statements) => panic!("{text} was accepted: {statements:?}"),
        Err(error) => error,
    }
}

#[test]
fn a_script_is_split_at_semicolons_outside_strings_and_comments() {
    let text = "-- one; two\nSET 'a;b' = 'c;d';\n\n /* ; */ SELECT ';' AS `x;y`;;\nSHOW TABLES";
    let statements = parse_script(text).expect("parses");
    let texts: Vec<&str> = statements.iter().map(|s| s.text.as_str()).collect();
    assert_eq!(
        texts,
        ["SET 'a;b' = 'c;d'", "SELECT ';' AS `x;y`", "SHOW TABLES"]
    );
    let places: Vec<(u64, u64)> = statements
        .iter()
        .map(|s| (s.location.line, s.location.column))
        .collect();
    assert_eq!(places, [(2, 1), (4, 10), (5, 1)]);
}

#[test]
fn the_column_list_of_create_table() {
    let Statement::CreateTable(table) = one(
        "CREATE TEMPORARY TABLE IF NOT EXISTS `t-1` (
            k BIGINT NOT NULL COMMENT 'the key',
            r ROW<a INT, b ROW<c VARCHAR(5), d TIMESTAMP(3)>>,
            l ARRAY<STRING>, m MAP<STRING, DECIMAL(10, 2)>,
            ts AS r.b.d,
            WATERMARK FOR ts AS ts - INTERVAL '4' SECOND,
            PRIMARY KEY (k) NOT ENFORCED
        ) COMMENT 'all' PARTITIONED BY (k) WITH ('connector' = 'datagen', 'rows-per-second' = '5')",
    ) else {
        panic!("not a table")
    };
    assert!(table.temporary && table.if_not_exists);
    assert_eq!(table.name.value, "t-1");
    let names: Vec<&str> = table
        .columns
        .iter()
        .map(|c| c.name.value.as_str())
        .collect();
    assert_eq!(names, ["k", "r", "l", "m", "ts"]);
    let ColumnDefinitionKind::Physical(k) = &table.columns[0].kind else {
        panic!("physical")
    };
    assert_eq!((&k.data_type, k.nullable), (&DataType::Int64, false));
    let ColumnDefinitionKind::Physical(r) = &table.columns[1].kind else {
        panic!("physical")
    };
    let DataType::Struct(fields) = &r.data_type else {
        panic!("a row")
    };
    let DataType::Struct(inner) = fields[1].data_type() else {
        panic!("a row")
    };
    assert_eq!(
        inner[1].data_type(),
        &DataType::Timestamp(TimeUnit::Millisecond, None)
    );
    assert!(
        matches!(&table.columns[4].kind, ColumnDefinitionKind::Computed(e) if e.to_string() == "r.b.d")
    );
    let (column, watermark) = table.watermark.expect("a watermark");
    assert_eq!(
        (column.value.as_str(), watermark.to_string().as_str()),
        ("ts", "ts - INTERVAL '4' SECOND")
    );
    assert_eq!(table.primary_key.len(), 1);
    assert_eq!(table.partitioned_by.len(), 1);
    assert_eq!(
        table.options[1],
        ("rows-per-second".to_string(), "5".to_string())
    );
}

#[test]
fn every_type_has_its_arrow_type() {
    let ms = TimeUnit::Millisecond;
    for (sql, expected) in [
        ("boolean", DataType::Boolean),
        ("TINYINT", DataType::Int8),
        ("SMALLINT", DataType::Int16),
        ("int", DataType::Int32),
        ("DOUBLE PRECISION", DataType::Float64),
        ("FLOAT", DataType::Float32),
        ("DECIMAL", DataType::Decimal128(10, 0)),
        ("NUMERIC(38,18)", DataType::Decimal128(38, 18)),
        ("CHAR(3)", DataType::Utf8),
        ("VARBINARY(3)", DataType::Binary),
        ("BYTES", DataType::Binary),
        ("DATE", DataType::Date32),
        ("TIME(0)", DataType::Time32(ms)),
        ("TIMESTAMP(3)", DataType::Timestamp(ms, None)),
        (
            "TIMESTAMP",
            DataType::Timestamp(TimeUnit::Microsecond, None),
        ),
        (
            "TIMESTAMP(9) WITHOUT TIME ZONE",
            DataType::Timestamp(TimeUnit::Nanosecond, None),
        ),
        (
            "TIMESTAMP_LTZ(3)",
            DataType::Timestamp(ms, Some("UTC".into())),
        ),
        (
            "TIMESTAMP(3) WITH LOCAL TIME ZONE",
            DataType::Timestamp(ms, Some("UTC".into())),
        ),
    ] {
        let Statement::CreateTable(table) =
            one(&format!("CREATE TABLE t (c {sql}) WITH ('connector'='x')"))
        else {
            panic!("not a table")
        };
        let ColumnDefinitionKind::Physical(column) = &table.columns[0].kind else {
            panic!("physical")
        };
        assert_eq!(column.data_type, expected, "{sql}");
    }
}

#[test]
fn inserts_statement_sets_and_the_other_statements() {
    let Statement::Insert(insert) =
        one("INSERT INTO default_catalog.default_database.t (a, b) SELECT 1, 2;")
    else {
        panic!("an insert")
    };
    assert_eq!(
        (insert.table.value.as_str(), insert.columns.len()),
        ("t", 2)
    );
    assert!(
        matches!(one("INSERT INTO t (SELECT 1)"), Statement::Insert(i) if i.columns.is_empty())
    );
    assert!(matches!(
        one("INSERT INTO t VALUES (1, 'a'), (2, 'b')"),
        Statement::Insert(_)
    ));
    let set = "EXECUTE STATEMENT SET BEGIN\n INSERT INTO a SELECT CASE WHEN x THEN 1 END FROM t;\n INSERT INTO b SELECT 2; END;";
    assert!(matches!(one(set), Statement::StatementSet(inserts) if inserts.len() == 2));
    let three = parse_script("BEGIN STATEMENT SET; INSERT INTO a SELECT 1; END;").expect("parses");
    assert!(matches!(three[0].statement, Statement::BeginStatementSet));
    assert!(matches!(three[2].statement, Statement::EndStatementSet));
    assert!(
        matches!(one("SET 'a.b'='c'"), Statement::Set { key, value } if key == "a.b" && value == "c")
    );
    assert!(
        matches!(one("SET a.b-c = 10"), Statement::Set { key, value } if key == "a.b-c" && value == "10")
    );
    assert!(matches!(one("SET"), Statement::ShowOptions));
    assert!(matches!(one("RESET"), Statement::Reset { key: None }));
    assert!(matches!(
        one("RESET 'a'"),
        Statement::Reset { key: Some(_) }
    ));
    assert!(matches!(
        one("DROP TEMPORARY VIEW IF EXISTS v"),
        Statement::Drop {
            kind: ObjectKind::View,
            if_exists: true,
            ..
        }
    ));
    assert!(matches!(
        one("CREATE FUNCTION f AS 'com.x.F' LANGUAGE JAVA"),
        Statement::CreateFunction { .. }
    ));
    assert!(matches!(
        one("EXPLAIN PLAN FOR SELECT 1"),
        Statement::Explain {
            changelog_mode: false,
            ..
        }
    ));
    assert!(matches!(
        one("EXPLAIN CHANGELOG_MODE INSERT INTO t SELECT 1"),
        Statement::Explain {
            changelog_mode: true,
            ..
        }
    ));
    assert!(matches!(one("DESC t"), Statement::Describe { .. }));
    assert!(matches!(
        one("SHOW CREATE TABLE t"),
        Statement::ShowCreate { .. }
    ));
}

#[test]
fn a_view_keeps_the_text_of_its_query() {
    let Statement::CreateView(view) = one("CREATE VIEW v (x)\nAS\n  SELECT a -- why\n  FROM t ;")
    else {
        panic!("a view")
    };
    assert_eq!(view.query_text, "SELECT a -- why\n  FROM t");
}

#[test]
fn errors_stand_at_the_word_that_is_wrong() {
    for (text, at, says) in [
        (
            "SHOW TABLES;\nSELEC * FROM bid",
            (2, 1),
            "expected a statement, found SELEC",
        ),
        (
            "SELECT a FROM",
            (1, 13),
            "expected identifier, found the end of the statement",
        ),
        (
            "SELECT a b c FROM t",
            (1, 12),
            "expected the end of the statement, found c",
        ),
        ("CREATE TABLE t (a INT METADATA)", (1, 23), "METADATA"),
        (
            "CREATE TABLE t (a INTT)",
            (1, 19),
            "expected a type, found INTT",
        ),
        (
            "CREATE TABLE t (a DECIMAL(50, 2))",
            (1, 19),
            "DECIMAL takes a precision of 1 to 38",
        ),
        (
            "CREATE TABLE t (a INT, a INT)",
            (1, 24),
            "two columns named 'a'",
        ),
        (
            "CREATE TABLE t (a INT, PRIMARY KEY (a))",
            (1, 24),
            "NOT ENFORCED",
        ),
        ("USE CATALOG c", (1, 1), "one catalog"),
        ("SELECT 'abc", (1, 8), "nterminated"),
        (
            "SELECT 1 FROM t /*+ OPTIONS('a'='b') */",
            (1, 17),
            "OPTIONS",
        ),
        ("INSERT INTO c.d.t SELECT 1", (1, 13), "does not exist"),
    ] {
        let error = error(text);
        assert!(error.message.contains(says), "{text}: {}", error.message);
        let found = error.location.map(|l| (l.line, l.column));
        assert_eq!(found, Some(at), "{text}: {}", error.message);
    }
}

#[test]
fn a_prompt_knows_when_a_statement_is_whole() {
    for (text, complete) in [
        ("SELECT 1", false),
        ("SELECT 1;", true),
        ("SELECT 1; -- done", true),
        ("SELECT ';", false),
        ("/* ;", false),
        ("EXECUTE STATEMENT SET BEGIN INSERT INTO a SELECT 1;", false),
        (
            "EXECUTE STATEMENT SET BEGIN INSERT INTO a SELECT 1; END;",
            true,
        ),
        ("", false),
    ] {
        assert_eq!(is_complete(text), complete, "{text}");
    }
}
