//! A job is killed with SIGKILL at ten random moments and resumed each time with another parallelism: its committed rows are those of a run that was
//! never killed, nothing lost, nothing twice, nothing left behind.

use std::collections::BTreeMap;
use std::process::Stdio;

use crate::support::{Place, Seeded, files, kill, now_ms, wait_ms};

/// Events of the stream; enough that a job in a development build outlives ten kills.
const EVENTS: u64 = 60_000;
const KILLS: usize = 10;

/// A window aggregate and a plain filter over the same stream, both exactly once into files.
pub fn script(events: u64) -> String {
    format!(
        "SET 'pipeline.name' = 'killed';
SET 'execution.checkpointing.interval' = '100 ms';
CREATE TABLE nexmark (
  event_type INT,
  person ROW<id BIGINT, name VARCHAR, emailAddress VARCHAR, creditCard VARCHAR, city VARCHAR, state VARCHAR, `dateTime` TIMESTAMP(3), extra VARCHAR>,
  auction ROW<id BIGINT, itemName VARCHAR, description VARCHAR, initialBid BIGINT, reserve BIGINT, `dateTime` TIMESTAMP(3), expires TIMESTAMP(3), seller BIGINT, category BIGINT, extra VARCHAR>,
  bid ROW<auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, url VARCHAR, `dateTime` TIMESTAMP(3), extra VARCHAR>,
  `dateTime` AS CASE WHEN event_type = 0 THEN person.`dateTime` WHEN event_type = 1 THEN auction.`dateTime` ELSE bid.`dateTime` END,
  WATERMARK FOR `dateTime` AS `dateTime` - INTERVAL '1' SECOND
) WITH ('connector' = 'nexmark', 'events.num' = '{events}');
CREATE VIEW bid AS SELECT bid.auction, bid.bidder, bid.price, `dateTime` FROM nexmark WHERE event_type = 2;
CREATE TABLE windows (window_start TIMESTAMP(3), window_end TIMESTAMP(3), auction BIGINT, bids BIGINT, total BIGINT)
  WITH ('connector' = 'filesystem', 'path' = 'windows', 'format' = 'json');
CREATE TABLE chosen (auction BIGINT, bidder BIGINT, price BIGINT, `dateTime` TIMESTAMP(3))
  WITH ('connector' = 'filesystem', 'path' = 'chosen', 'format' = 'json');
INSERT INTO windows
  SELECT window_start, window_end, auction, COUNT(*), SUM(price)
  FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '1' SECOND))
  GROUP BY window_start, window_end, auction;
INSERT INTO chosen SELECT auction, bidder, price, `dateTime` FROM bid WHERE MOD(bidder, 7) = 0;
"
    )
}

/// Committed rows of both sinks with how often each is there, in-progress files left out.
pub fn committed(place: &Place) -> BTreeMap<String, usize> {
    let mut rows = BTreeMap::new();
    for sink in ["windows", "chosen"] {
        for path in files(&place.path().join(sink))
            .into_iter()
            .filter(|path| !hidden(path))
        {
            let text = std::fs::read_to_string(&path).expect("a committed file can be read");
            assert!(
                text.is_empty() || text.ends_with('\n'),
                "{} ends in the middle of a row",
                path.display()
            );
            for line in text.lines() {
                let row: serde_json::Value =
                    serde_json::from_str(line).expect("a committed row is JSON");
                *rows.entry(format!("{sink} {row}")).or_insert(0) += 1;
            }
        }
    }
    rows
}

fn hidden(path: &std::path::Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with('.') || name.starts_with('_')
}

fn in_progress(place: &Place) -> Vec<std::path::PathBuf> {
    ["windows", "chosen"]
        .iter()
        .flat_map(|sink| files(&place.path().join(sink)))
        .filter(|path| hidden(path))
        .collect()
}

/// Kills and resumes the job in `place` until it has been killed [`KILLS`] times, then runs it to its end, and compares. `surroundings` are
/// arguments and environment that every run gets.
pub fn survives(seed: u64, events: u64, arguments: &[&str], environment: &[(&str, &str)]) {
    let text = script(events);

    let calm = Place::new();
    let file = calm.file("killed.sql", &text);
    let before = now_ms();
    calm.run(&["sql", "-f", &file, "-p", "2"]).with_status(0);
    let calm_ms = now_ms() - before;
    let expected = committed(&calm);
    assert!(
        expected.len() > 1_000,
        "only {} rows to compare",
        expected.len()
    );
    assert_eq!(in_progress(&calm), Vec::<std::path::PathBuf>::new());

    let place = Place::new();
    let file = place.file("killed.sql", &text);
    let mut random = Seeded(seed);
    let mut parallelisms = Vec::new();
    let start = |parallelism: &str, resume: bool| {
        let mut all = vec!["sql", "-f", file.as_str(), "-p", parallelism];
        all.extend(arguments);
        all.extend(resume.then_some("--resume"));
        let mut command = place.aquifer(&all);
        command.envs(environment.iter().copied());
        command
    };
    let mut kills = 0;
    while kills < KILLS {
        let parallelism = (1 + random.below(3)).to_string();
        let command = &mut start(&parallelism, !parallelisms.is_empty());
        let child = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary starts");
        parallelisms.push(parallelism);
        // On average each life gets a fourteenth of the job done, so that ten kills fall before its end.
        wait_ms(100 + random.below(calm_ms / 7 + 1));
        assert!(
            kill(child),
            "the job ended after {kills} kills with parallelisms {parallelisms:?}; it has too few events"
        );
        kills += 1;
        for (row, times) in committed(&place) {
            assert!(
                expected.get(&row).is_some_and(|there| times <= *there),
                "after kill {kills} this row is there {times} times: {row}"
            );
        }
    }
    let last = start("2", true).output().expect("the binary starts");
    let stderr = String::from_utf8_lossy(&last.stderr);
    assert_eq!(last.status.code(), Some(0), "{stderr}");
    assert!(stderr.contains("Resumed from checkpoint"), "{stderr}");
    let found = committed(&place);
    let lost: Vec<_> = expected
        .iter()
        .filter(|(row, times)| found.get(*row) < Some(times))
        .take(3)
        .collect();
    let more: Vec<_> = found
        .iter()
        .filter(|(row, times)| expected.get(*row) < Some(times))
        .take(3)
        .collect();
    assert!(
        lost.is_empty() && more.is_empty(),
        "parallelisms {parallelisms:?}\nlost: {lost:?}\ntwice or wrong: {more:?}"
    );
    assert_eq!(
        in_progress(&place),
        Vec::<std::path::PathBuf>::new(),
        "in-progress files are left"
    );
}

#[test]
fn ten_kills_lose_nothing_and_double_nothing() {
    survives(2026, EVENTS, &[], &[]);
}
