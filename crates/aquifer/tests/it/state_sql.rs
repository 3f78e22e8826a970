//! `aquifer state sql`: what it prints in which form, how it ends, and how much memory it takes.

use std::io::Read;
use std::process::Command;

use crate::checkpoint::{BACKENDS, large, written};
use crate::support::{Ended, Place, ended, files, wait_ms};

fn query(place: &Place, uri: &str, text: &str, more: &[&str]) -> Ended {
    place.run(&[&["state", "sql", uri, text], more].concat())
}

#[test]
fn rows_are_json_csv_or_a_table() {
    for backend in BACKENDS {
        let place = Place::new();
        let uri = written(place.path(), backend).uri;
        let text =
            "SELECT key.f0 AS who, value FROM \"2-users\".counts WHERE key.f1 >= -1 ORDER BY who";
        let (most, less) = (u64::MAX, u64::MAX - 1);
        // Not a terminal: for programs.
        let json = query(&place, &uri, text, &[]).with_status(0);
        assert_eq!(
            json.stdout,
            format!(
                "{{\"who\":\"user-0\",\"value\":{most}}}\n{{\"who\":\"user-1\",\"value\":{less}}}\n"
            )
        );
        assert_eq!(json.stderr, "");
        let csv = query(&place, &uri, text, &["--format", "csv"]).with_status(0);
        assert_eq!(
            csv.stdout,
            format!("who,value\nuser-0,{most}\nuser-1,{less}\n")
        );
        let table = query(&place, &uri, text, &["--format", "table"]).with_status(0);
        assert!(
            table
                .stdout
                .contains(&format!("\n| user-1 | {less} |\n+--------+")),
            "{}",
            table.stdout
        );
        let entries =
            "SELECT user_key, count(*) AS n FROM pages GROUP BY user_key ORDER BY user_key";
        // By the clock of today they have expired long ago.
        let expired = query(&place, &uri, entries, &["--expired"]).with_status(0);
        assert_eq!(
            expired.stdout.lines().next(),
            Some("{\"user_key\":\"page-0\",\"n\":120}")
        );
        assert_eq!(query(&place, &uri, entries, &[]).with_status(0).stdout, "");
        let sums = query(
            &place,
            &uri,
            "SELECT sum(value) AS s FROM \"3-sums\".counts WHERE namespace = -7 AND key = -1",
            &[],
        );
        assert_eq!(sums.with_status(0).stdout, "{\"s\":70}\n");
        let elements = "SELECT index, value FROM source._elements ORDER BY index";
        assert_eq!(
            query(&place, &uri, elements, &[]).with_status(0).stdout,
            "{\"index\":0,\"value\":\"0x0708\"}\n{\"index\":1,\"value\":\"0x\"}\n"
        );
    }
}

#[test]
fn wrong_queries_and_damage_end_with_their_status() {
    let place = Place::new();
    let uri = written(place.path(), "forst").uri;
    for (text, said) in [
        (
            "SELECT * FROM counts",
            "more than one operator has a state `counts`",
        ),
        (
            "SELECT * FROM nothing",
            "the checkpoint has no state `nothing`",
        ),
        ("DROP TABLE pages", "DDL not supported"),
        ("SELECT", "error:"),
    ] {
        let ended = query(&place, &uri, text, &[]).with_status(2);
        assert!(ended.stderr.contains(said), "{text}: {}", ended.stderr);
        assert_eq!(ended.stdout, "");
    }
    let wrong = query(&place, &uri, "SELECT 1", &["--memory", "0"]).with_status(2);
    assert!(wrong.stderr.contains("--memory"), "{}", wrong.stderr);
    let missing = query(&place, "checkpoints/other", "SELECT 1", &[]);
    assert_ne!(missing.status, Some(0));
    let all = files(&place.path().join("checkpoints"));
    let file = all.iter().find(|path| !path.ends_with("_metadata"));
    let file = file.expect("state lies in files");
    let mut bytes = std::fs::read(file).unwrap();
    bytes[100] ^= 0x20;
    std::fs::write(file, bytes).unwrap();
    let text = "SELECT value FROM clicks";
    let damaged = query(&place, &uri, text, &[]).with_status(1);
    let name = file.file_name().unwrap().to_str().unwrap();
    assert!(damaged.stderr.contains(name), "{}", damaged.stderr);
}

#[test]
fn who_has_seen_enough_may_close_the_pipe() {
    let place = Place::new();
    let uri = large(place.path(), 8 << 20).uri;
    let mut child = place
        .aquifer(&[
            "state",
            "sql",
            &uri,
            "SELECT key, value.f1 AS text FROM counts",
        ])
        .spawn()
        .unwrap();
    let mut out = child.stdout.take().unwrap();
    let mut some = [0; 1000];
    out.read_exact(&mut some).unwrap();
    drop(out);
    let ended = child.wait_with_output().unwrap();
    assert!(ended.status.success(), "{ended:?}");
    assert_eq!(String::from_utf8(ended.stderr).unwrap(), "");
}

/// What a process has in memory that is no file, in KiB: a test binary alone is a hundred megabytes of file.
fn held_kib(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("RssAnon:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Runs a command to its end. The most that it was seen to hold; nothing, if it was gone before it was looked at.
fn watched(mut command: Command) -> (Ended, u64) {
    let mut child = command.spawn().unwrap();
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        peak = peak.max(held_kib(child.id()).unwrap_or(0));
        wait_ms(5);
    }
    (ended(child.wait_with_output().unwrap()), peak)
}

fn sorting_stays_below(state_bytes: u64, memory_mib: u64, below_kib: u64) {
    let place = Place::new();
    let state = large(place.path(), state_bytes);
    let temporary = place.path().join("temporary");
    std::fs::create_dir(&temporary).unwrap();
    let memory = memory_mib.to_string();
    // There are no system's temporary files: whoever needs the disk fails, unless it is given a directory.
    let command = |text: &str, more: &[&str]| {
        let arguments = ["state", "sql", &state.uri, text, "--memory", &memory];
        let mut command = place.aquifer(&[&arguments[..], more].concat());
        command.env("TMPDIR", place.path().join("nowhere"));
        command
    };
    let sort = "SELECT count(*) AS n FROM (SELECT value, row_number() OVER (ORDER BY value.f1) AS place FROM counts) WHERE place > 0 AND value.f1 <> ''";
    let failed = ended(command(sort, &[]).output().unwrap()).with_status(1);
    assert!(failed.stderr.contains("nowhere"), "{}", failed.stderr);
    let given = ["--temporary-directory", temporary.to_str().unwrap()];
    let sorted = format!("{{\"n\":{}}}\n", state.users);
    let largest = format!("{{\"n\":{}}}\n", state.users - 1);
    for (text, more, answer) in [
        (sort, &given[..], sorted),
        ("SELECT max(value.f0) AS n FROM counts", &[], largest),
    ] {
        let (mut run, mut peak) = watched(command(text, more));
        // This thread may sleep through a whole run, on a busy machine.
        for _ in 0..10 {
            if peak > 0 {
                break;
            }
            (run, peak) = watched(command(text, more));
        }
        let run = run.with_status(0);
        assert_eq!(run.stdout, answer, "{}", run.stderr);
        assert!(peak > 0 && peak < below_kib, "{text}: {peak} KiB");
    }
    assert!(files(temporary.as_ref()).is_empty());
}

/// Reading alone takes some fifty megabytes, most of them blocks of files; a sort in memory would take twice the state.
#[test]
fn sorting_sixty_four_megabytes_holds_a_part_of_them() {
    sorting_stays_below(64 << 20, 16, 120 << 10);
}

#[test]
#[ignore = "writes two gigabytes: cargo test -p aquifer --features state-sql --test it -- --ignored sorting_two_gigabytes"]
fn sorting_two_gigabytes_stays_below_two_hundred_megabytes() {
    sorting_stays_below(2 << 30, 64, 200 << 10);
}
