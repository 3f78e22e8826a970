//! Scripts in the dialect of the Nexmark suite, planned whole; and how statements and their errors answer.

use arrow::datatypes::{DataType, TimeUnit};

use super::*;
use crate::planner::type_name;

/// A stream of auction events as the Nexmark benchmark defines it, and its three views.
pub(crate) const EVENTS: &str = "
CREATE TABLE events (
    event_type INT,
    person ROW<id BIGINT, name VARCHAR, emailAddress VARCHAR, creditCard VARCHAR, city VARCHAR, state VARCHAR,
               `dateTime` TIMESTAMP(3), extra VARCHAR>,
    auction ROW<id BIGINT, itemName VARCHAR, description VARCHAR, initialBid BIGINT, reserve BIGINT,
                `dateTime` TIMESTAMP(3), expires TIMESTAMP(3), seller BIGINT, category BIGINT, extra VARCHAR>,
    bid ROW<auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, url VARCHAR, `dateTime` TIMESTAMP(3),
            extra VARCHAR>,
    `dateTime` AS CASE WHEN event_type = 0 THEN person.`dateTime`
                       WHEN event_type = 1 THEN auction.`dateTime` ELSE bid.`dateTime` END,
    WATERMARK FOR `dateTime` AS `dateTime` - INTERVAL '4' SECOND
) WITH ('connector' = 'nexmark', 'events.num' = '1000');
CREATE VIEW person AS SELECT person.id, person.name, person.emailAddress, person.creditCard, person.city, person.state,
    `dateTime`, person.extra FROM events WHERE event_type = 0;
CREATE VIEW auction AS SELECT auction.id, auction.itemName, auction.description, auction.initialBid, auction.reserve,
    `dateTime`, auction.expires, auction.seller, auction.category, auction.extra FROM events WHERE event_type = 1;
CREATE VIEW bid AS SELECT bid.auction, bid.bidder, bid.price, bid.channel, bid.url, `dateTime`, bid.extra
    FROM events WHERE event_type = 2;
";

fn session() -> Session {
    let check: OptionCheck = Box::new(|key, _| {
        if key.starts_with("bad") {
            Err(format!("unknown option '{key}'"))
        } else {
            Ok(())
        }
    });
    Session::new(Clock::new(|| 86_400_000), check)
}

/// Runs a script in a session that knows the events; the outcome of its last statement.
fn run(script: &str) -> Result<Outcome, SqlError> {
    let mut session = session();
    run_in(&mut session, EVENTS)?;
    run_in(&mut session, script)
}

fn run_in(session: &mut Session, script: &str) -> Result<Outcome, SqlError> {
    let mut last = Outcome::Done;
    for statement in Session::parse_script(script)? {
        last = session.execute(&statement)?;
    }
    Ok(last)
}

fn job(script: &str) -> JobPlan {
    match run(script) {
        Ok(Outcome::Job(job)) => job,
        Ok(other) => panic!("{script} is no job: {other:?}"),
        Err(error) => panic!("{}", error.render("script.sql", script)),
    }
}

/// Names and types of the columns of a query.
fn columns(query: &str) -> Vec<(String, String)> {
    let job = job(query);
    job.sinks[0]
        .plan
        .schema()
        .fields()
        .iter()
        .map(|f| (f.name().clone(), type_name(f.data_type())))
        .collect()
}

fn types(query: &str) -> Vec<String> {
    columns(query).into_iter().map(|(_, t)| t).collect()
}

fn error(script: &str) -> SqlError {
    match run(script) {
        Ok(outcome) => panic!("{script} was accepted: {outcome:?}"),
        Err(error) => error,
    }
}

fn sink(columns: &str) -> String {
    format!("CREATE TABLE result ({columns}) WITH ('connector' = 'blackhole');")
}

#[test]
fn pass_through() {
    let text =
        sink("auction BIGINT, bidder BIGINT, price BIGINT, `dateTime` TIMESTAMP(3), extra VARCHAR")
            + "INSERT INTO result SELECT auction, bidder, price, `dateTime`, extra FROM bid";
    let plan = job(&text).explain();
    assert!(
        plan.contains("WatermarkAssigner: rowtime=dateTime"),
        "{plan}"
    );
    // The filter stays above the watermark, and only what is needed is scanned.
    let (filter, watermark) = (
        plan.find("Filter:").expect("a filter"),
        plan.find("WatermarkAssigner").expect("one"),
    );
    assert!(filter < watermark, "{plan}");
    assert!(plan.contains("TableScan: events"), "{plan}");
}

#[test]
fn currency_conversion_is_exact() {
    let text = sink(
        "auction BIGINT, bidder BIGINT, price DECIMAL(23, 3), `dateTime` TIMESTAMP(3), extra VARCHAR",
    ) + "INSERT INTO result SELECT auction, bidder, 0.908 * price AS price, `dateTime`, extra FROM bid";
    let plan = job(&text);
    assert_eq!(
        plan.sinks[0].plan.schema().field(2).data_type(),
        &DataType::Decimal128(23, 3)
    );
    // No cast of the product: its type is right as it is.
    assert!(
        !plan.explain().contains("AS Decimal128(23, 3)"),
        "{}",
        plan.explain()
    );
    assert_eq!(
        types("SELECT 0.908 * price, price * 2, price / 3, price + 0.5, 2 / 3 FROM bid"),
        [
            "DECIMAL(23, 3)",
            "BIGINT",
            "BIGINT",
            "DECIMAL(21, 1)",
            "INT"
        ]
    );
}

#[test]
fn selection_and_calculation() {
    assert_eq!(
        types("SELECT auction, price FROM bid WHERE MOD(auction, 123) = 0"),
        ["BIGINT", "BIGINT"]
    );
    let text = String::from("CREATE FUNCTION count_char AS 'com.example.udf.CountChar';")
        + &sink("auction BIGINT, bidder BIGINT, price DECIMAL(23, 3), bidTimeType VARCHAR, `dateTime` TIMESTAMP(3), extra VARCHAR, c_counts BIGINT")
        + "INSERT INTO result
           SELECT auction, bidder, 0.908 * price AS price,
             CASE WHEN HOUR(`dateTime`) >= 8 AND HOUR(`dateTime`) <= 18 THEN 'dayTime'
                  WHEN HOUR(`dateTime`) <= 6 OR HOUR(`dateTime`) >= 20 THEN 'nightTime' ELSE 'otherTime' END AS bidTimeType,
             `dateTime`, extra, count_char(extra, 'c') AS c_counts
           FROM bid WHERE 0.908 * price > 1000000 AND 0.908 * price < 50000000;";
    let plan = job(&text).explain();
    assert!(plan.contains("count_char"), "{plan}");
}

#[test]
fn auction_statistics() {
    let text = sink(
        "auction BIGINT, `day` VARCHAR, total_bids BIGINT, rank1_bids BIGINT, rank2_bids BIGINT, rank3_bids BIGINT,
         min_price BIGINT, max_price BIGINT, avg_price BIGINT, sum_price BIGINT",
    ) + "INSERT INTO result
         SELECT auction, DATE_FORMAT(`dateTime`, 'yyyy-MM-dd') AS `day`, COUNT(*) AS total_bids,
           COUNT(*) FILTER (WHERE price < 10000) AS rank1_bids,
           COUNT(*) FILTER (WHERE price >= 10000 AND price < 1000000) AS rank2_bids,
           COUNT(*) FILTER (WHERE price >= 1000000) AS rank3_bids,
           MIN(price) AS min_price, MAX(price) AS max_price, AVG(price) AS avg_price, SUM(price) AS sum_price
         FROM bid GROUP BY auction, DATE_FORMAT(`dateTime`, 'yyyy-MM-dd')";
    let job = job(&text);
    assert_eq!(
        crate::changelog::changelog_mode(&job.sinks[0].plan),
        crate::changelog::ChangelogMode::Updating
    );
    let plan = job.explain();
    assert!(plan.contains("Aggregate: groupBy="), "{plan}");
}

#[test]
fn channels_and_directories() {
    let query = "SELECT auction, bidder, price, channel,
          CASE WHEN LOWER(channel) = 'apple' THEN '0' WHEN LOWER(channel) = 'google' THEN '1'
               WHEN LOWER(channel) = 'facebook' THEN '2' WHEN LOWER(channel) = 'baidu' THEN '3'
               ELSE REGEXP_EXTRACT(url, '(&|^)channel_id=([^&]*)', 2) END AS channel_id
        FROM bid WHERE REGEXP_EXTRACT(url, '(&|^)channel_id=([^&]*)', 2) IS NOT NULL
          OR LOWER(channel) IN ('apple', 'google', 'facebook', 'baidu')";
    assert_eq!(types(query)[4], "STRING");
    let query = "SELECT auction, bidder, price, channel, SPLIT_INDEX(url, '/', 3) AS dir1,
          SPLIT_INDEX(url, '/', 4) AS dir2, SPLIT_INDEX(url, '/', 5) AS dir3 FROM bid";
    assert_eq!(
        columns(query)[6],
        ("dir3".to_string(), "STRING".to_string())
    );
}

#[test]
fn tumbling_window() {
    let query = "SELECT bidder, COUNT(*) AS bids, window_start AS starttime, window_end AS endtime
        FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '10' SECOND))
        GROUP BY bidder, window_start, window_end";
    assert_eq!(
        types(query),
        ["BIGINT", "BIGINT", "TIMESTAMP(3)", "TIMESTAMP(3)"]
    );
    let job = job(query);
    assert_eq!(
        crate::changelog::changelog_mode(&job.sinks[0].plan),
        crate::changelog::ChangelogMode::InsertOnly
    );
    assert!(
        job.explain()
            .contains("WindowTableFunction: TUMBLE(size=10000 ms) on bid.dateTime"),
        "{}",
        job.explain()
    );
    // Bare, with named arguments, with an offset; and a second window over the first.
    types(
        "SELECT * FROM TUMBLE(DATA => TABLE bid, TIMECOL => DESCRIPTOR(`dateTime`), SIZE => INTERVAL '1' MINUTE, OFFSET => INTERVAL '-5' SECOND) AS w",
    );
    types("SELECT window_start, window_end, MAX(n) FROM TABLE(TUMBLE(TABLE small, DESCRIPTOR(wt), INTERVAL '1' HOUR)) GROUP BY window_start, window_end"
        .replace("TABLE small", "(SELECT window_time AS wt, COUNT(*) AS n FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '1' MINUTE)) GROUP BY window_start, window_end, window_time)")
        .as_str());
}

#[test]
fn the_other_queries_of_the_benchmark_plan() {
    for query in [
        // Local item suggestion.
        "SELECT P.name, P.city, P.state, A.id FROM auction AS A INNER JOIN person AS P ON A.seller = P.id
         WHERE A.category = 10 AND (P.state = 'OR' OR P.state = 'ID' OR P.state = 'CA')",
        // Average price for a category.
        "SELECT Q.category, AVG(Q.final) FROM (
           SELECT MAX(B.price) AS final, A.category FROM auction A, bid B
           WHERE A.id = B.auction AND B.`dateTime` BETWEEN A.`dateTime` AND A.expires GROUP BY A.id, A.category) Q
         GROUP BY Q.category",
        // Hot items.
        "SELECT A.auction, A.num FROM (
           SELECT auction, COUNT(*) AS num, window_start AS s, window_end AS e
           FROM TABLE(HOP(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '2' SECOND, INTERVAL '10' SECOND))
           GROUP BY auction, window_start, window_end) AS A
         JOIN (SELECT MAX(C.num) AS maxn, C.s, C.e FROM (
             SELECT COUNT(*) AS num, window_start AS s, window_end AS e
             FROM TABLE(HOP(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '2' SECOND, INTERVAL '10' SECOND))
             GROUP BY auction, window_start, window_end) AS C GROUP BY C.s, C.e) AS M
         ON A.s = M.s AND A.e = M.e AND A.num >= M.maxn",
        // Highest bid.
        "SELECT B.auction, B.price, B.bidder, B.`dateTime`, B.extra FROM bid B JOIN (
           SELECT MAX(price) AS maxprice, window_end AS `dateTime`
           FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '10' SECOND)) GROUP BY window_start, window_end) B1
         ON B.price = B1.maxprice WHERE B.`dateTime` BETWEEN B1.`dateTime` - INTERVAL '10' SECOND AND B1.`dateTime`",
        // Winning bids.
        "SELECT id, itemName, bidder, price FROM (
           SELECT A.*, B.auction, B.bidder, B.price, B.`dateTime` AS bid_time,
             ROW_NUMBER() OVER (PARTITION BY A.id ORDER BY B.price DESC, B.`dateTime` ASC) AS rownum
           FROM auction A, bid B
           WHERE A.id = B.auction AND B.`dateTime` BETWEEN A.`dateTime` AND A.expires) WHERE rownum <= 1",
        // Log to the file system.
        "SELECT auction, bidder, price, `dateTime`, extra, DATE_FORMAT(`dateTime`, 'yyyy-MM-dd'), DATE_FORMAT(`dateTime`, 'HH:mm') FROM bid",
        // Bidding statistics, channel statistics.
        "SELECT channel, DATE_FORMAT(`dateTime`, 'yyyy-MM-dd') AS `day`, MAX(DATE_FORMAT(`dateTime`, 'HH:mm')) AS `minute`,
           COUNT(*) AS total, COUNT(DISTINCT bidder) AS bidders, COUNT(DISTINCT bidder) FILTER (WHERE price < 10000) AS rank1
         FROM bid GROUP BY channel, DATE_FORMAT(`dateTime`, 'yyyy-MM-dd')",
        // Last bid of a bidder, top bids of an auction.
        "SELECT auction, bidder, price FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY bidder, auction ORDER BY `dateTime` DESC) AS r FROM bid) WHERE r <= 1",
        "SELECT * FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY auction ORDER BY price DESC) AS rank_number FROM bid) WHERE rank_number <= 10",
        // Users in windows of processing time.
        "SELECT bidder, COUNT(*), window_start, window_end FROM TABLE(TUMBLE(DATA => (SELECT *, PROCTIME() AS p_time FROM bid),
           TIMECOL => DESCRIPTOR(p_time), SIZE => INTERVAL '10' SECOND)) GROUP BY bidder, window_start, window_end",
        // New users.
        "SELECT P.id, P.name, P.starttime FROM (
           SELECT id, name, window_start AS starttime, window_end AS endtime
           FROM TABLE(TUMBLE(TABLE person, DESCRIPTOR(`dateTime`), INTERVAL '10' SECOND)) GROUP BY id, name, window_start, window_end) P
         JOIN (SELECT seller, window_start AS starttime, window_end AS endtime
           FROM TABLE(TUMBLE(TABLE auction, DESCRIPTOR(`dateTime`), INTERVAL '10' SECOND)) GROUP BY seller, window_start, window_end) A
         ON P.id = A.seller AND P.starttime = A.starttime AND P.endtime = A.endtime",
        // Bids with their bidder and what the bidder sells.
        "SELECT bidder, price, P.id, name, itemName, A.`dateTime` AS t FROM bid B JOIN person P ON P.id = B.bidder JOIN auction A ON A.seller = B.bidder",
        // Bids of auctions of a category.
        "SELECT auction, bidder, price, A.itemName FROM bid AS B INNER JOIN auction AS A ON B.auction = A.id WHERE A.category = 10",
    ] {
        job(query);
    }
}

#[test]
fn names_and_types_of_columns() {
    assert_eq!(
        columns("SELECT bid.price, bid.price + 1, 1, 'a', events.bid.channel FROM events")
            .iter()
            .map(|(n, t)| format!("{n} {t}"))
            .collect::<Vec<_>>(),
        [
            "price BIGINT",
            "EXPR$1 BIGINT",
            "EXPR$2 INT",
            "EXPR$3 STRING",
            "channel STRING"
        ]
    );
    assert_eq!(
        types(
            "SELECT COUNT(*), SUM(CASE WHEN price > 1 THEN 1 ELSE 0 END), AVG(price), AVG(0.5 * price), SUM(price) FROM bid"
        ),
        ["BIGINT", "INT", "BIGINT", "DECIMAL(38, 6)", "BIGINT"]
    );
    assert_eq!(
        types(
            "SELECT 1e3, 1.50, -5, 5000000000, TIMESTAMP '2020-01-01 00:00:00', DATE '2020-01-01', NULL, TRUE"
        ),
        [
            "DOUBLE",
            "DECIMAL(3, 2)",
            "INT",
            "BIGINT",
            "TIMESTAMP(3)",
            "DATE",
            "NULL",
            "BOOLEAN"
        ]
    );
    assert_eq!(
        types("SELECT PROCTIME(), CURRENT_TIMESTAMP, LOCALTIMESTAMP, CURRENT_DATE, NOW()"),
        [
            "TIMESTAMP_LTZ(3)",
            "TIMESTAMP_LTZ(3)",
            "TIMESTAMP(3)",
            "DATE",
            "TIMESTAMP_LTZ(3)"
        ]
    );
    let names = columns("SELECT price, price, 1 AS a, 2 AS a FROM bid AS B");
    assert_eq!(
        names.iter().map(|(n, _)| n.as_str()).collect::<Vec<_>>(),
        ["price", "price0", "a", "a0"]
    );
    let job = job("SELECT * FROM bid");
    let time = job.sinks[0]
        .plan
        .schema()
        .field_with_unqualified_name("dateTime")
        .expect("the column")
        .clone();
    assert_eq!(
        time.data_type(),
        &DataType::Timestamp(TimeUnit::Millisecond, None)
    );
    assert_eq!(crate::logical::time_attribute(&time), Some("rowtime"));
}

#[test]
fn inserts_check_columns_and_types() {
    let into = |columns: &str, insert: &str| sink(columns) + insert;
    job(&into(
        "r BIGINT",
        "INSERT INTO result SELECT ROW_NUMBER() OVER (PARTITION BY auction ORDER BY price DESC) FROM bid",
    ));
    for (columns, insert, says) in [
        (
            "a BIGINT, b BIGINT",
            "INSERT INTO result SELECT price FROM bid",
            "the query has 1 columns",
        ),
        (
            "a INT",
            "INSERT INTO result SELECT price FROM bid",
            "column 'a' at position 1 is INT, the query gives BIGINT; write CAST(price AS INT)",
        ),
        (
            "a STRING",
            "INSERT INTO result SELECT price FROM bid",
            "is STRING, the query gives BIGINT",
        ),
        (
            "a STRING",
            "INSERT INTO result (b) SELECT extra FROM bid",
            "no column 'b'",
        ),
        (
            "a STRING",
            "INSERT INTO resul SELECT extra FROM bid",
            "did you mean 'result'?",
        ),
        (
            "a STRING",
            "INSERT INTO bid SELECT extra FROM bid",
            "'bid' is a view",
        ),
    ] {
        let error = error(&into(columns, insert));
        assert!(error.message.contains(says), "{}", error.message);
        assert!(error.location.is_some(), "{}", error.message);
    }
    let job = job(&into(
        "a BIGINT, b STRING, c DOUBLE",
        "INSERT INTO result (c, a) SELECT 1, 2",
    ));
    let found: Vec<String> = job.sinks[0]
        .plan
        .schema()
        .fields()
        .iter()
        .map(|f| format!("{} {}", f.name(), type_name(f.data_type())))
        .collect();
    assert_eq!(found, ["a BIGINT", "b STRING", "c DOUBLE"]);
}

#[test]
fn errors_are_placed_and_plain() {
    for (script, at, says) in [
        ("SELECT prise FROM bid", (1, 8), "prise"),
        ("SELECT price\nFROM bids", (2, 6), "bids"),
        (
            "SELECT LOWR(extra) FROM bid",
            (1, 8),
            "there is no function LOWR; did you mean LOWER?",
        ),
        (
            "SELECT JSON_VALUE(extra, '$.a') FROM bid",
            (1, 8),
            "Flink's function JSON_VALUE is not supported yet",
        ),
        (
            "SELECT LOWER(price) FROM bid",
            (1, 1),
            "argument 1 of LOWER is a STRING, found BIGINT",
        ),
        (
            "SELECT SUM(extra) FROM bid",
            (1, 1),
            "SUM takes a number, found STRING",
        ),
        (
            "SELECT * FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(price), INTERVAL '1' SECOND))",
            (1, 1),
            "needs a time attribute",
        ),
        (
            "SELECT * FROM TABLE(HOP(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '3' SECOND, INTERVAL '10' SECOND))",
            (1, 1),
            "multiple of its SLIDE",
        ),
        (
            "SELECT * FROM TABLE(SESSION(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '3' SECOND))",
            (1, 1),
            "SESSION is not supported",
        ),
        (
            "SELECT * FROM bid JOIN auction FOR SYSTEM_TIME AS OF bid.`dateTime` ON auction.id = bid.auction",
            (1, 1),
            "FOR SYSTEM_TIME AS OF",
        ),
        (
            "CREATE VIEW bid AS SELECT 1",
            (1, 13),
            "already a view 'bid'",
        ),
        ("CREATE TABLE t (a INT)", (1, 14), "no option 'connector'"),
        (
            "CREATE TABLE t (a INT, b AS c + 1) WITH ('connector' = 'x')",
            (1, 29),
            "computed column 'b'",
        ),
        (
            "CREATE TABLE t (a INT, WATERMARK FOR a AS a) WITH ('connector' = 'x')",
            (1, 14),
            "needs a TIMESTAMP",
        ),
        (
            "SELECT COUNT(*) FROM bid GROUP BY SESSION(`dateTime`, INTERVAL '1' SECOND)",
            (1, 1),
            "GROUP BY SESSION(…) is not supported yet",
        ),
        ("DROP TABLE bid", (1, 12), "'bid' is a view, not a table"),
        ("CREATE FUNCTION f AS 'com.example.F'", (1, 1), "no JVM"),
        ("SET 'bad' = '1'", (1, 1), "unknown option 'bad'"),
        ("END", (1, 1), "END without"),
    ] {
        let error = error(script);
        assert!(error.message.contains(says), "{script}: {}", error.message);
        assert_eq!(
            error.location.map(|l| (l.line, l.column)),
            Some(at),
            "{script}: {}",
            error.message
        );
        assert!(!error.message.contains('\n'), "{script}: {}", error.message);
    }
}

#[test]
fn options_statement_sets_and_answers() {
    let mut session = session();
    run_in(&mut session, EVENTS).expect("the events");
    run_in(&mut session, "SET 'a' = '1'; SET 'b' = '2'; RESET 'a'").expect("options");
    assert_eq!(
        session.options().iter().collect::<Vec<_>>(),
        [(&"b".to_string(), &"2".to_string())]
    );
    run_in(&mut session, &sink("p BIGINT")).expect("a sink");
    let set = "BEGIN STATEMENT SET; INSERT INTO result SELECT price FROM bid; INSERT INTO result SELECT id FROM auction; END";
    let Outcome::Job(job) = run_in(&mut session, set).expect("a set") else {
        panic!("a job")
    };
    assert_eq!(
        (job.sinks.len(), job.description.as_str()),
        (2, "insert-into_result,result")
    );
    let set = "EXECUTE STATEMENT SET BEGIN INSERT INTO result SELECT price FROM bid; END";
    assert!(matches!(run_in(&mut session, set), Ok(Outcome::Job(job)) if job.sinks.len() == 1));
    let Ok(Outcome::Rows { rows, .. }) = run_in(&mut session, "SHOW TABLES") else {
        panic!("rows")
    };
    assert_eq!(
        rows.concat(),
        ["auction", "bid", "events", "person", "result"]
    );
    let Ok(Outcome::Rows { rows, .. }) = run_in(&mut session, "DESCRIBE events") else {
        panic!("rows")
    };
    assert_eq!(rows[4][..2], ["dateTime", "TIMESTAMP(3) *ROWTIME*"]);
    assert_eq!(rows[4][5], "`dateTime` - INTERVAL '4' SECOND");
    let Ok(Outcome::Text(text)) = run_in(&mut session, "SHOW CREATE TABLE events") else {
        panic!("text")
    };
    // What is shown makes the same table again.
    run_in(
        &mut session,
        "DROP VIEW person; DROP VIEW auction; DROP VIEW bid; DROP TABLE events",
    )
    .expect("dropped");
    run_in(&mut session, &text).unwrap_or_else(|e| panic!("{}", e.render("shown", &text)));
    assert!(
        matches!(run_in(&mut session, "EXPLAIN CHANGELOG_MODE SELECT COUNT(*) FROM events"), Ok(Outcome::Text(t)) if t.contains("[I,UB,UA,D]") && t.contains("[I]\n"))
    );
}

#[test]
fn comments_bare_names_and_small_letters() {
    let script = "
-- ----------------------------------------------------------
-- A seller's view (not in the original suite); quotes in comments don't matter
-- ----------------------------------------------------------
create table stream (
    event_type int,
    bid ROW<
        auction  BIGINT,
        price  BIGINT,
        dateTime  TIMESTAMP(3)>, /* the event's time */
    dateTime AS bid.dateTime,
    WATERMARK FOR dateTime AS dateTime - INTERVAL '4' SECOND
) with (
    'connector' = 'nexmark',
    'keep-alive' = 'false'
);
CREATE VIEW plain AS SELECT bid.auction, bid.price, dateTime FROM stream WHERE event_type = 2;
CREATE TABLE nowhere (
  auction  BIGINT,
  price  DECIMAL(23, 3),
  dateTime  TIMESTAMP(3)
) PARTITIONED BY (auction) WITH (
  'connector' = 'filesystem',
  'partition.time-extractor.timestamp-pattern' = '$dt $hm:00'
);
INSERT INTO nowhere
select
    auction,
    0.908 * price as price, -- convert dollar to euro
    dateTime
from plain where mod(auction, 123) = 0;
";
    let mut session = session();
    let Ok(Outcome::Job(job)) = run_in(&mut session, script) else {
        panic!("a job")
    };
    assert_eq!(job.description, "insert-into_nowhere");
}

#[test]
fn damaged_scripts_are_refused_or_planned_but_never_a_panic() {
    let script = format!(
        "{EVENTS} {} INSERT INTO result SELECT auction, 0.908 * price, DATE_FORMAT(`dateTime`, 'yyyy-MM-dd'),
           CASE WHEN LOWER(channel) = 'apple' THEN CAST(price AS VARCHAR(3)) ELSE REGEXP_EXTRACT(url, '(a)', 1) END,
           COUNT(DISTINCT bidder) FILTER (WHERE price >= 10) FROM bid GROUP BY auction, price, channel, url, `dateTime`;
         EXPLAIN CHANGELOG_MODE SELECT window_start, ROW(1, 'x') FROM TABLE(HOP(TABLE bid, DESCRIPTOR(`dateTime`),
           INTERVAL '2' SECOND, INTERVAL '10' SECOND)) WHERE price BETWEEN 1 AND -2 ORDER BY 1 LIMIT 5;",
        sink("a BIGINT, b DECIMAL(24, 3), c STRING, d STRING, e BIGINT")
    );
    run_in(&mut session(), &script).expect("the script is right");
    let tokens: Vec<&str> = script.split_inclusive([' ', '(', ')', ',']).collect();
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    let mut below = |bound: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        usize::try_from(random % bound as u64).expect("small")
    };
    for _ in 0..100 {
        let mut damaged = tokens.clone();
        for _ in 0..=below(3) {
            let (at, from) = (below(damaged.len()), below(tokens.len()));
            match below(3) {
                0 => drop(damaged.remove(at)),
                1 => damaged[at] = tokens[from],
                _ => damaged.insert(at, tokens[from]),
            }
        }
        let text = damaged.concat();
        if let Err(error) = Session::parse_script(&text) {
            assert!(error.location.is_some(), "{}: {text}", error.message);
        }
        // Statements that are right in themselves are carried out, whatever became of the others.
        let mut session = session();
        for statement in text.split(';') {
            if let Err(error) = run_in(&mut session, statement) {
                let message = error.message;
                assert!(
                    !message.to_lowercase().contains("internal"),
                    "{message}: {statement}"
                );
            }
        }
    }
}

#[test]
fn a_statement_that_is_too_deep_is_refused() {
    for text in [
        format!("SELECT {}1{}", "(".repeat(5000), ")".repeat(5000)),
        format!("SELECT 1{}", " + 1".repeat(20_000)),
        format!("SELECT {} 1", "NOT ".repeat(5000)),
        format!("SELECT {} 1", "- ".repeat(5000)),
        format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(20_000)),
        format!("SELECT 'a'{}", " || 'a'".repeat(20_000)),
        format!(
            "CREATE TABLE t (a {}INT{}) WITH ('connector' = 'x')",
            "ARRAY<".repeat(500),
            ">".repeat(500)
        ),
        format!("SELECT * FROM bid{}", " CROSS JOIN bid".repeat(3000)),
        format!("SELECT * FROM bid{}", ", bid".repeat(3000)),
    ] {
        let error = error(&text);
        assert!(
            error.message.contains("deep") || error.message.contains("long"),
            "{}",
            error.message
        );
    }
    job(&format!("SELECT price{} FROM bid", " + 1".repeat(300)));
    job(&format!(
        "SELECT * FROM bid WHERE {}",
        vec!["price = 1"; 300].join(" OR ")
    ));
    job(&format!(
        "SELECT * FROM bid WHERE auction IN ({})",
        vec!["1"; 5000].join(", ")
    ));
    job(&format!(
        "SELECT * FROM (VALUES {}) AS t (a, b)",
        vec!["(1, 'a')"; 5000].join(", ")
    ));
}
