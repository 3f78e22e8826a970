//! A job is killed with SIGKILL at ten random moments and resumed each time with another parallelism: its committed rows are those of a run that was
//! never killed, nothing lost, nothing twice, nothing left behind.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::support::{Place, Seeded, ended, files, kill, wait_ms, wait_until};

/// How often each row is there.
type Rows = BTreeMap<String, usize>;

/// Events of the stream. While the job is being killed they are made at [`EVENTS_PER_SECOND`] by the clock, and the job stays when there are no more:
/// it does not end before it is killed, however long that takes on a busy machine.
const EVENTS: u64 = 24_000;
const EVENTS_PER_SECOND: u64 = 3_000;
const KILLS: usize = 10;

/// A window aggregate and a plain filter over the same stream, both exactly once into files. `stays`: the job is there to be killed.
fn script(stays: bool) -> String {
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
) WITH (
  'connector' = 'nexmark',
  'events.num' = '{EVENTS}',
  'first-event.rate' = '{EVENTS_PER_SECOND}',
  'next-event.rate' = '{EVENTS_PER_SECOND}',
  'rate.limited' = '{stays}',
  'keep-alive' = '{stays}'
);
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
fn committed(place: &Place) -> Rows {
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

fn hidden(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with('.') || name.starts_with('_')
}

fn in_progress(place: &Place) -> Vec<PathBuf> {
    ["windows", "chosen"]
        .iter()
        .flat_map(|sink| files(&place.path().join(sink)))
        .filter(|path| hidden(path))
        .collect()
}

/// Kills and resumes a job until it has been killed [`KILLS`] times, then runs it to its end, and compares it with a run that was never killed. The killed
/// job gets these arguments and this environment.
pub fn survives(seed: u64, arguments: &[&str], environment: &[(&str, &str)]) {
    let calm = Place::new();
    let file = calm.file("killed.sql", &script(false));
    calm.run(&["sql", "-f", &file, "-p", "2"]).with_status(0);
    let expected = committed(&calm);
    assert!(
        expected.len() > 1_000,
        "only {} rows to compare",
        expected.len()
    );
    assert_eq!(in_progress(&calm), Vec::<PathBuf>::new());

    let place = Place::new();
    let killed = place.file("killed.sql", &script(true));
    let last = place.file("last.sql", &script(false));
    let mut random = Seeded(seed);
    let mut parallelisms = Vec::new();
    let start = |file: &str, parallelism: &str, resume: bool| {
        let mut all = vec!["sql", "-f", file, "-p", parallelism];
        all.extend(arguments);
        all.extend(resume.then_some("--resume"));
        let mut command = place.aquifer(&all);
        command.envs(environment.iter().copied());
        command
    };
    for kills in 1..=KILLS {
        let parallelism = (1 + random.below(3)).to_string();
        let resume = kills > 1;
        let mut child = start(&killed, &parallelism, resume)
            .stdout(Stdio::null())
            .spawn()
            .expect("the binary starts");
        parallelisms.push(parallelism);
        let mut messages = BufReader::new(child.stderr.take().expect("its messages"));
        // One life in four ends while the job starts or restores; the others some time after it has said where it goes on.
        let early = resume && random.below(4) == 0;
        let mut said = String::new();
        if resume && !early {
            messages.read_line(&mut said).expect("a message");
        }
        if !resume {
            // There is a checkpoint to resume then.
            wait_until("rows are committed", || {
                !committed(&place).is_empty() || child.try_wait().is_ok_and(|ended| ended.is_some())
            });
        }
        wait_ms(random.below(match (resume, early) {
            (false, _) => 500,
            (true, true) => 200,
            (true, false) => 900,
        }));
        if !kill(child) {
            // The first line is part of it: it may be the error that has ended the job.
            let _ = messages.read_to_string(&mut said);
            panic!("the job ended before kill {kills}, parallelisms {parallelisms:?}: {said}");
        }
        for (row, times) in committed(&place) {
            let wanted = expected.get(&row).copied().unwrap_or(0);
            assert!(
                times <= wanted,
                "after kill {kills} a row is there {times} times instead of {wanted}: {row}"
            );
        }
    }
    let last = ended(start(&last, "2", true).output().expect("the binary starts")).with_status(0);
    assert!(
        last.stderr.contains("Resumed from checkpoint"),
        "{}",
        last.stderr
    );
    let found = committed(&place);
    let differing = |left: &Rows, right: &Rows| {
        let rows = left
            .iter()
            .filter(|(row, times)| right.get(*row) < Some(times));
        rows.map(|(row, times)| format!("{times} x {row}"))
            .take(3)
            .collect::<Vec<_>>()
    };
    let (lost, doubled) = (differing(&expected, &found), differing(&found, &expected));
    assert!(
        lost.is_empty() && doubled.is_empty(),
        "parallelisms {parallelisms:?}\nmore often in the calm run: {lost:?}\nmore often in the killed run: {doubled:?}\n{}",
        last.stderr
    );
    assert_eq!(
        in_progress(&place),
        Vec::<PathBuf>::new(),
        "in-progress files are left"
    );
}

/// The seed of a test, or the one that `AQUIFER_TEST_SEED` asks for: other seeds are other moments and parallelisms.
pub fn seed(usual: u64) -> u64 {
    let asked = std::env::var("AQUIFER_TEST_SEED");
    asked.map_or(usual, |text| {
        text.parse().expect("AQUIFER_TEST_SEED is a number")
    })
}

#[test]
fn ten_kills_in_memory_lose_nothing_and_double_nothing() {
    survives(seed(4), &["-D", "state.backend.type=hashmap"], &[]);
}

#[test]
fn ten_kills_lose_nothing_and_double_nothing() {
    survives(seed(2026), &[], &[]);
}

/// Its databases on the local disk are as dead as the process; the files of the next life come from the checkpoint.
#[cfg(feature = "rocksdb")]
#[test]
fn ten_kills_on_rocksdb_lose_nothing_and_double_nothing() {
    let backend = ["-D", "state.backend.type=rocksdb"];
    let incremental = ["-D", "execution.checkpointing.incremental=true"];
    survives(seed(6), &[backend, incremental].concat(), &[]);
}
