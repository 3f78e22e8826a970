//! `aquifer state`: what it says of checkpoints whose states are known, whole and damaged.

use std::io::{BufRead, BufReader, Read};

use serde_json::Value;

use crate::checkpoint::{BACKENDS, Written, written};
use crate::support::{Ended, Place, ended, files};

fn state(place: &Place, arguments: &[&str]) -> Ended {
    place.run(&[&["state"], arguments].concat())
}

/// Lines of JSON.
fn rows(ended: &Ended) -> Vec<Value> {
    let parse = |line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
    ended.stdout.lines().map(parse).collect()
}

fn each(test: impl Fn(&Place, &Written)) {
    for backend in BACKENDS {
        let place = Place::new();
        let written = written(place.path(), backend);
        test(&place, &written);
    }
}

#[test]
fn tables_tell_names_kinds_and_types() {
    each(|place, written| {
        let plain = state(place, &["tables", &written.uri]).with_status(0);
        assert_eq!(plain.stderr, "");
        let lines: Vec<Vec<&str>> = plain
            .stdout
            .lines()
            .map(|line| line.split('\t').collect())
            .collect();
        let heads: Vec<String> = lines.iter().map(|line| line[..7].join(" | ")).collect();
        assert_eq!(
            heads,
            [
                "2-users/_timer_state/event_t | timers | (String, i32) | bytes of namespaces of timers | - | i64 | -",
                "2-users/clicks | list | (String, i32) | - | - | String | -",
                "2-users/counts | value | (String, i32) | - | - | u64 | -",
                "2-users/pages | map | (String, i32) | - | String | Option<i64> | 1000",
                "3-sums/counts | reducing | i64 | i32 | - | i64 | -",
                "source/_elements | operator-list | - | - | - | bytes of the operator's own | -",
            ]
        );
        for line in &lines {
            assert_eq!(line.len(), 9, "{line:?}");
            let untold = written.in_databases && !line[1].starts_with("operator");
            for size in &line[7..] {
                assert_eq!(size.parse::<u64>().is_err(), untold, "{line:?}");
            }
        }
        let json = state(place, &["tables", &written.uri, "--json"]).with_status(0);
        let tables = rows(&json);
        assert_eq!(tables[3]["state"], "pages");
        assert_eq!(tables[3]["user_key"], "String");
        assert_eq!(tables[3]["ttl_ms"], 1000);
        assert_eq!(tables[2].get("namespace"), None);
    });
}

#[test]
fn a_key_is_written_by_its_type() {
    each(|place, written| {
        let get = |more: &[&str]| state(place, &[&["get", written.uri.as_str()], more].concat());
        let counts = ["--state", "counts", "--operator", "2-users", "--key"];
        let found = get(&[&counts[..], &["[\"user-3\", -3]"]].concat()).with_status(0);
        let row = &rows(&found)[0];
        assert_eq!(row["key"], serde_json::json!(["user-3", -3]));
        // Every digit of it.
        assert!(
            found
                .stdout
                .contains(&format!("\"value\":{}}}", u64::MAX - 3)),
            "{}",
            found.stdout
        );
        assert_eq!(found.stdout.lines().count(), 1);
        let none = get(&[&counts[..], &["[\"user-3\", 4]"]].concat()).with_status(0);
        assert_eq!(none.stdout, "");
        assert!(
            none.stderr.contains("no row of this key"),
            "{}",
            none.stderr
        );
        let wrong = get(&[&counts[..], &["user-3"]].concat()).with_status(2);
        assert!(
            wrong.stderr.contains("--key: expected a (String, i32)"),
            "{}",
            wrong.stderr
        );
        // Of a map, all entries or one.
        let pages = [
            "--state",
            "2-users/pages",
            "--expired",
            "--key",
            "[\"user-5\",-5]",
        ];
        let entries = rows(&get(&pages).with_status(0));
        assert_eq!(entries.len(), 3);
        assert_eq!(entries[0]["user_key"], "page-0");
        assert_eq!(entries[0]["value"], Value::Null);
        assert_eq!(entries[1]["value"], 1);
        let one = get(&[&pages[..], &["--user-key", "page-2"]].concat()).with_status(0);
        assert_eq!(rows(&one), entries[2..]);
        // Of a state with namespaces, all or one; a number may be negative.
        let sums = ["--state", "3-sums/counts", "--key", "-1"];
        assert_eq!(rows(&get(&sums).with_status(0)).len(), 2);
        let one = get(&[&sums[..], &["--namespace", "-7"]].concat()).with_status(0);
        assert_eq!(rows(&one)[0]["value"], 70);
        let elements = get(&["--state", "clicks", "--key", "[\"user-9\",-9]"]).with_status(0);
        let elements = rows(&elements);
        let texts: Vec<_> = elements.iter().map(|row| row["value"].as_str()).collect();
        assert_eq!(texts, [Some("a-9"), Some("b-9")]);
        assert_eq!(elements[1]["index"], 1);
    });
}

#[test]
fn scans_print_every_row_once() {
    each(|place, written| {
        let scan = |more: &[&str]| {
            let arguments = [&["scan", written.uri.as_str()], more].concat();
            rows(&state(place, &arguments).with_status(0))
        };
        let counts = ["--state", "counts", "--operator", "2-users"];
        let all = scan(&counts);
        assert_eq!(all.len(), written.users);
        let mut keys: Vec<String> = all.iter().map(|row| row["key"].to_string()).collect();
        let groups: Vec<u64> = all
            .iter()
            .map(|row| row["key_group"].as_u64().unwrap())
            .collect();
        assert!(groups.is_sorted());
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), written.users);
        let some = scan(&[&counts[..], &["--group", "3-5"]].concat());
        let expected: Vec<Value> = all
            .iter()
            .filter(|row| (3..=5).contains(&row["key_group"].as_u64().unwrap()))
            .cloned()
            .collect();
        assert_eq!(some, expected);
        assert_eq!(scan(&[&counts[..], &["--limit", "7"]].concat()), all[..7]);
        assert!(scan(&[&counts[..], &["--limit", "0"]].concat()).is_empty());
        // Expired long ago by the clock of this machine.
        let pages = ["scan", &written.uri, "--state", "pages"];
        let pages = state(place, &pages).with_status(0);
        assert_eq!(pages.stdout, "");
        assert!(
            pages
                .stderr
                .contains("has no row that has not expired (see --expired)"),
            "{}",
            pages.stderr
        );
        let expired = scan(&["--state", "pages", "--expired"]);
        assert_eq!(expired.len(), written.users * 3);
        assert_eq!(
            (&expired[0]["written_ms"], &expired[0]["expires_ms"]),
            (&5.into(), &1005.into())
        );
        // Timers, and what lies in no key group.
        let timers = scan(&["--state", "_timer_state/event_t"]);
        assert_eq!(timers.len(), written.users);
        assert_eq!(
            timers[0]["key"][0].as_str().map(|key| &key[..5]),
            Some("user-")
        );
        let source = state(place, &["scan", &written.uri, "--operator", "source"]);
        let source = source.with_status(0);
        assert_eq!(
            source.stdout,
            "{\"index\":0,\"value\":\"0x0708\"}\n{\"index\":1,\"value\":\"0x\"}\n"
        );
        assert!(
            source.stderr.contains("shown as bytes"),
            "{}",
            source.stderr
        );
    });
}

#[test]
fn counts_are_what_a_scan_shows() {
    each(|place, written| {
        let count = |more: &[&str]| {
            let arguments = [&["count", written.uri.as_str()], more].concat();
            rows(&state(place, &arguments).with_status(0))
        };
        let counts = count(&["--expired"]);
        let figures: Vec<_> = counts
            .iter()
            .map(|row| {
                let name = format!("{}/{}", row["operator"], row["state"]).replace('"', "");
                (name, row["keys"].as_u64(), row["rows"].as_u64().unwrap())
            })
            .collect();
        let users = written.users as u64;
        let of = |name: &str, keys: Option<u64>, rows: u64| (name.to_owned(), keys, rows);
        assert_eq!(
            figures,
            [
                of("2-users/_timer_state/event_t", Some(users), users),
                of("2-users/clicks", Some(users), users * 2),
                of("2-users/counts", Some(users), users),
                of("2-users/pages", Some(users), users * 3),
                of("3-sums/counts", Some(4), 4),
                of("source/_elements", None, 2),
            ]
        );
        let groups = count(&["--state", "clicks", "--groups"]);
        let sum: u64 = groups[1..]
            .iter()
            .map(|row| row["rows"].as_u64().unwrap())
            .sum();
        assert_eq!(sum, users * 2);
        assert_eq!(count(&["--state", "pages"])[0]["rows"], 0);
    });
}

#[test]
fn what_is_not_there_is_said_with_what_is() {
    let place = Place::new();
    let written = written(place.path(), "forst");
    let uri = written.uri.as_str();
    std::fs::create_dir(place.path().join("empty")).unwrap();
    for (arguments, status, words) in [
        (
            &["scan", uri][..],
            2,
            &["--state is missing", "2-users/clicks"][..],
        ),
        (
            &["scan", uri, "--state", "nothing"],
            2,
            &["no state `nothing`", "`3-sums/counts`"],
        ),
        (
            &["scan", uri, "--state", "counts"],
            2,
            &["more than one operator", "`2-users/counts`"],
        ),
        (
            &["scan", uri, "--operator", "9"],
            2,
            &["operator '9'", "2-users, 3-sums, source"],
        ),
        (
            &["count", uri, "--operator", "9"],
            2,
            &["operator '9'", "2-users"],
        ),
        (
            &["scan", uri, "--state", "clicks", "--group", "3-16"],
            2,
            &["--group: ", "0 to 15"],
        ),
        (
            &["scan", uri, "--state", "clicks", "--group", "9-3"],
            2,
            &["--group: "],
        ),
        (
            &[
                "get",
                uri,
                "--state",
                "clicks",
                "--key",
                "[\"a\",1]",
                "--user-key",
                "x",
            ],
            2,
            &["--user-key: "],
        ),
        (
            &["scan", uri, "--operator", "source", "--key", "1"],
            2,
            &["has no keys"],
        ),
        (
            &["tables", "nothing/here/run-000001"],
            1,
            &["no checkpoint was found"],
        ),
        (
            &["tables", "chk-000001"],
            2,
            &["does not name a checkpoint"],
        ),
        // A directory of jobs is not a job, but its jobs can be named.
        (
            &["tables", "checkpoints"],
            1,
            &["no checkpoint was found at checkpoints", "there is `job`"],
        ),
        (
            &["tables", "checkpoints/job/run-000001/chk-000077"],
            1,
            &["checkpoint 77", "there is `chk-000001`"],
        ),
        (
            &["tables", "empty"],
            1,
            &["no checkpoint was found at empty", "no other directory"],
        ),
    ] {
        let run = state(&place, arguments).with_status(status);
        assert_eq!(run.stdout, "", "{arguments:?}");
        assert!(run.stderr.starts_with("error: "), "{}", run.stderr);
        for word in words {
            assert!(run.stderr.contains(word), "{arguments:?}: {}", run.stderr);
        }
    }
}

/// A job that counts clicks by user and ends. With `retained` its last checkpoint stays.
fn counted(place: &Place, retained: bool) {
    let retention = match retained {
        true => "RETAIN_ON_CANCELLATION",
        false => "DELETE_ON_CANCELLATION",
    };
    place
        .sql(&format!(
            "SET 'execution.checkpointing.dir' = 'checkpoints';
SET 'execution.checkpointing.externalized-checkpoint-retention' = '{retention}';
CREATE TABLE clicks (id BIGINT, who BIGINT) WITH ('connector' = 'datagen', 'number-of-rows' = '500',
  'fields.id.kind' = 'sequence', 'fields.id.start' = '0', 'fields.id.end' = '499', 'fields.who.min' = '0', 'fields.who.max' = '99');
CREATE TABLE counts (who BIGINT, n BIGINT, first_id BIGINT, ids DOUBLE) WITH ('connector' = 'blackhole');
INSERT INTO counts SELECT who, COUNT(*), MIN(id), AVG(CAST(id AS DOUBLE)) FROM clicks GROUP BY who;"
        ))
        .with_status(0);
}

#[test]
fn states_of_sql_have_columns() {
    let place = Place::new();
    counted(&place, true);
    let plain = state(&place, &["tables", "checkpoints/script"]).with_status(0);
    let line = plain
        .stdout
        .lines()
        .find(|line| line.contains("/accState\t"));
    let cells: Vec<&str> = line.expect("the groups are a state").split('\t').collect();
    assert_eq!(
        cells[1..6],
        [
            "raw",
            "{ who: Option<i64> }",
            "-",
            "-",
            "{ count: i64, min_id: Option<i64>, avg: { sum: Option<f64>, count: i64 } }"
        ]
    );
    let scan = ["scan", "checkpoints/script", "--state", "accState"];
    let all = state(&place, &scan).with_status(0);
    assert_eq!(all.stderr, "");
    let all = rows(&all);
    assert!((80..=100).contains(&all.len()), "{} rows", all.len());
    let counted: i64 = all
        .iter()
        .filter_map(|row| row["value"]["count"].as_i64())
        .sum();
    assert_eq!(counted, 500);
    for row in &all {
        assert_eq!(row["value"]["count"], row["value"]["avg"]["count"]);
    }
    // A key is typed as it is shown, or, as it has one column only, as that.
    let who = &all[17]["key"]["who"];
    for key in [all[17]["key"].to_string(), who.to_string()] {
        let get = [
            "get",
            "checkpoints/script",
            "--state",
            "accState",
            "--key",
            &key,
        ];
        let one = state(&place, &get).with_status(0);
        assert_eq!(rows(&one), all[17..18], "{key}");
    }
    let get = [
        "get",
        "checkpoints/script",
        "--state",
        "accState",
        "--key",
        "ada",
    ];
    let wrong = state(&place, &get).with_status(2);
    assert!(
        wrong
            .stderr
            .contains("--key: expected a { who: Option<i64> }"),
        "{}",
        wrong.stderr
    );
    let query =
        format!("SELECT key.who AS who, value.count AS n FROM \"accState\" WHERE key.who = {who}");
    let found = state(&place, &["sql", "checkpoints/script", &query]).with_status(0);
    let row = &rows(&found)[0];
    assert_eq!((&row["who"], &row["n"]), (who, &all[17]["value"]["count"]));
    // It can be read for ever, but nothing goes on from it.
    let savepoint = ["savepoint", "checkpoints/script", "savepoints"];
    let savepoint = state(&place, &savepoint).with_status(0);
    assert!(
        savepoint.stderr.contains("note: the job has finished"),
        "{}",
        savepoint.stderr
    );
    let scan = ["scan", savepoint.stdout.trim(), "--state", "accState"];
    assert_eq!(rows(&state(&place, &scan).with_status(0)), all);
}

/// What a finished job leaves behind holds nothing, and every command says so.
#[test]
fn the_mark_of_a_finished_job_is_explained() {
    let place = Place::new();
    counted(&place, false);
    let uri = "checkpoints/script";
    for command in ["tables", "count"] {
        let run = state(&place, &[command, uri]).with_status(0);
        assert_eq!(run.stdout, "");
        for word in ["note: ", "the job has finished", "RETAIN_ON_CANCELLATION"] {
            assert!(run.stderr.contains(word), "{command}: {}", run.stderr);
        }
    }
    for arguments in [
        &["get", uri, "--state", "accState", "--key", "1"][..],
        &["scan", uri, "--state", "accState"],
        &["sql", uri, "SELECT * FROM accState"],
        &["savepoint", uri, "savepoints"],
    ] {
        let run = state(&place, arguments).with_status(1);
        assert_eq!(run.stdout, "");
        assert!(run.stderr.starts_with("error: "), "{}", run.stderr);
        assert!(
            run.stderr.contains("the job has finished"),
            "{}",
            run.stderr
        );
    }
    // Where an earlier run of the job has kept its state, it is named.
    let place = Place::new();
    counted(&place, true);
    counted(&place, false);
    let run = state(&place, &["tables", uri]).with_status(0);
    let said = "the newest checkpoint of the job with state is ";
    let (_, kept) = run.stderr.split_once(said).expect(&run.stderr);
    let scan = ["scan", kept.trim(), "--state", "accState"];
    assert!(rows(&state(&place, &scan).with_status(0)).len() >= 80);
}

#[test]
fn damage_is_an_error_that_names_the_file() {
    let place = Place::new();
    let written = written(place.path(), "forst");
    let all = files(place.path());
    let ssts: Vec<_> = all
        .iter()
        .filter(|path| path.extension().is_some_and(|e| e == "sst"))
        .collect();
    for sst in &ssts {
        let mut bytes = std::fs::read(sst).unwrap();
        bytes[30] ^= 4;
        std::fs::write(sst, &bytes).unwrap();
    }
    let scan = ["scan", &written.uri, "--state", "clicks"];
    let damaged = state(&place, &scan).with_status(1);
    let named = |text: &str| {
        let names = ssts
            .iter()
            .map(|sst| sst.file_name().unwrap().to_str().unwrap());
        names.into_iter().any(|name| text.contains(name))
    };
    assert!(named(&damaged.stderr), "{}", damaged.stderr);
    for sst in &ssts {
        std::fs::remove_file(sst).unwrap();
    }
    for command in ["tables", "count"] {
        let gone = state(&place, &[command, &written.uri]).with_status(1);
        assert!(named(&gone.stderr), "{}", gone.stderr);
    }
    let metadata = all.iter().find(|path| path.ends_with("_metadata")).unwrap();
    std::fs::write(metadata, [7; 500]).unwrap();
    let lost = state(&place, &scan).with_status(1);
    assert!(lost.stderr.contains("_metadata"), "{}", lost.stderr);
}

#[test]
fn credentials_are_in_no_message() {
    let place = Place::new();
    let written = written(place.path(), "hashmap");
    let secret = "hunter2secret";
    let define = format!("s3.secret-key={secret}");
    for arguments in [
        &["tables", &written.uri, "-D", &define][..],
        &["scan", &written.uri, "--state", "nothing", "-D", &define],
        &["tables", "no/such/run-000001", "-D", &define],
        &["tables", &written.uri, "-D", secret],
        &["tables", "s3://key:hunter2secret@bucket/job/run-000001"],
    ] {
        let run = state(&place, arguments);
        let said = format!("{}{}", run.stdout, run.stderr);
        // A definition that has no value could be a key that was mistyped: only it is shown.
        let shown = arguments.contains(&secret);
        assert!(shown || !said.contains(secret), "{arguments:?}: {said}");
    }
}

/// A savepoint holds what its checkpoint holds, in either form, and wherever its directory is copied to.
#[test]
fn savepoints_are_written_and_read() {
    each(|place, written| {
        let count = |uri: &str| {
            let count = state(place, &["count", uri, "--expired"]).with_status(0);
            count.stdout.lines().map(str::to_owned).collect::<Vec<_>>()
        };
        let scan = |uri: &str| {
            let scan = ["scan", uri, "--state", "clicks"];
            state(place, &scan).with_status(0).stdout
        };
        for form in ["canonical", "native"] {
            let arguments = ["savepoint", &written.uri, "savepoints", "--type", form];
            let run = state(place, &arguments).with_status(0);
            assert_eq!(run.stderr, "", "no progress where nobody watches");
            let uri = run.stdout.trim_end();
            assert!(uri.contains("/savepoints/savepoint-"), "{uri}");
            assert_eq!(scan(uri), scan(&written.uri), "{form}");
            let (all, kept) = (count(&written.uri), count(uri));
            match form {
                "native" => assert_eq!(kept, all),
                // What has expired is not in it.
                _ => assert_eq!(kept.len(), all.len()),
            }
            let moved = place.path().join(format!("moved-{form}"));
            std::fs::rename(uri.trim_start_matches("file://"), &moved).unwrap();
            assert_eq!(scan(moved.to_str().unwrap()), scan(&written.uri), "{form}");
        }
        let nowhere = ["savepoint", "nothing/run-000001", "savepoints"];
        let nowhere = state(place, &nowhere).with_status(1);
        assert_eq!(nowhere.stdout, "");
    });
}

/// The largest resident size of a process so far, in KiB.
fn peak_kib(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

fn scanning_stays_below(state_bytes: u64, below_kib: u64) {
    let place = Place::new();
    let written = crate::checkpoint::large(place.path(), state_bytes);
    let mut child = place
        .aquifer(&["state", "scan", &written.uri, "--state", "counts"])
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let (mut lines, mut bytes, mut peak) = (0usize, 0u64, None);
    let mut line = Vec::new();
    while out.read_until(b'\n', &mut line).unwrap() > 0 {
        lines += 1;
        bytes += line.len() as u64;
        line.clear();
        if lines.is_multiple_of(1000) || lines + 10 > written.users {
            // It cannot have ended while there is something to read.
            peak = peak.max(peak_kib(child.id()));
        }
    }
    let mut errors = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut errors)
        .unwrap();
    let run = ended(child.wait_with_output().unwrap());
    assert_eq!((run.status, errors.as_str()), (Some(0), ""));
    assert_eq!(lines, written.users);
    assert!(bytes > state_bytes, "{bytes} bytes were printed");
    if let Some(peak) = peak {
        println!("{state_bytes} bytes of state were read in {peak} KiB");
        assert!(peak < below_kib, "{peak} KiB");
    }
}

#[test]
fn scanning_sixty_four_megabytes_holds_a_part_of_them() {
    scanning_stays_below(64 << 20, 120 << 10);
}

#[test]
#[ignore = "writes two gigabytes: cargo test -p aquifer --test it -- --ignored scanning_two_gigabytes"]
fn scanning_two_gigabytes_stays_below_two_hundred_megabytes() {
    scanning_stays_below(2 << 30, 200 << 10);
}
