//! `aquifer compactor` beside a running job, in processes of their own.

use std::collections::BTreeMap;
use std::path::Path;

use aquifer::state::checkpoint::CheckpointMetadata;

use crate::support::{Place, ended, files, kill, wait_until};

/// Many keys and small memtables. `stays`: made by the clock, and the job waits for ever when there are no more.
fn script(stays: bool) -> String {
    format!(
        "SET 'pipeline.name' = 'compacted';
SET 'execution.checkpointing.interval' = '100 ms';
SET 'execution.checkpointing.dir' = 'checkpoints';
SET 'state.backend.forst.writebuffer.size' = '64 kb';
CREATE TABLE nexmark (event_type INT, bid ROW<price BIGINT>) WITH ('connector' = 'nexmark', 'events.num' = '60000',
  'first-event.rate' = '10000', 'next-event.rate' = '10000', 'rate.limited' = '{stays}', 'keep-alive' = '{stays}');
CREATE TABLE counts (n BIGINT, c BIGINT) WITH ('connector' = 'print');
INSERT INTO counts SELECT MOD(bid.price, 7000), COUNT(*) FROM nexmark WHERE event_type = 2 GROUP BY MOD(bid.price, 7000);
"
    )
}

/// Every compaction is left to others, and waits for them however late they come.
const OFFERED: &str = "state.backend.forst.compaction.remote.enabled: true
state.backend.forst.compaction.remote.min-size: 0 b
state.backend.forst.compaction.remote.claim-timeout: 1 h
state.backend.forst.compaction.remote.lease: 1 h
";

/// The last count of each number. Rows that were printed behind the last checkpoint are there twice, and the last row may be cut off.
fn counts(printed: &[&str]) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    let rows = printed.iter().flat_map(|printed| printed.lines());
    for row in rows.filter(|row| row.starts_with("+I") || row.starts_with("+U")) {
        let cells = row
            .split_once('[')
            .and_then(|(_, cells)| cells.strip_suffix(']'));
        if let Some((n, count)) = cells.and_then(|cells| cells.split_once(", ")) {
            let last = counts.entry(n.to_owned()).or_default();
            *last = count.parse::<u64>().unwrap().max(*last);
        }
    }
    counts
}

/// Whether a complete checkpoint has a file that a compactor wrote: its name says under which claim.
fn merged_elsewhere(checkpoints: &Path) -> bool {
    let all = files(checkpoints);
    let metadata = all.iter().filter(|path| path.ends_with("_metadata"));
    // One that has just gone holds nothing.
    let metadata =
        metadata.filter_map(|path| CheckpointMetadata::decode(&std::fs::read(path).ok()?).ok());
    let mut named = metadata.flat_map(|metadata| metadata.files());
    named.any(|file| file.contains("k1-"))
}

/// A compactor merges files of a running job and is told to stop. The job dies, and goes on alone with what the compactor has made.
#[test]
fn a_job_and_a_compactor_in_two_processes() {
    let calm = Place::new().sql(&script(false)).with_status(0);
    let expected = counts(&[&calm.stdout]);
    assert!(expected.len() > 5000, "{} numbers", expected.len());

    let place = Place::new();
    let (stays, ends) = (script(true), script(false));
    let (stays, ends) = (
        place.file("stays.sql", &stays),
        place.file("ends.sql", &ends),
    );
    let offered = place.file("offered.yaml", OFFERED);
    let printed = std::fs::File::create(place.path().join("printed")).unwrap();
    let job = place
        .aquifer(&["sql", "-f", &stays, "-c", &offered])
        .stdout(printed)
        .spawn()
        .expect("the job starts");
    let compactor = place
        .aquifer(&["compactor", "--dir", "checkpoints"])
        .spawn()
        .expect("the compactor starts");
    let checkpoints = place.path().join("checkpoints");
    wait_until("a checkpoint names a file of the compactor", || {
        merged_elsewhere(&checkpoints)
    });
    // An interrupt from the terminal.
    let interrupt = std::process::Command::new("kill")
        .args(["-INT", &compactor.id().to_string()])
        .status();
    assert!(interrupt.expect("kill runs").success());
    let compactor = ended(compactor.wait_with_output().expect("it ends")).with_status(0);
    let done: u64 = compactor
        .stderr
        .lines()
        .last()
        .and_then(|line| line.split_once(" compactions done"))
        .and_then(|(done, _)| done.parse().ok())
        .unwrap_or_default();
    assert!(done > 0, "{}", compactor.stderr);
    assert_eq!(compactor.stdout, "");
    assert!(kill(job), "the job stays");
    let before = std::fs::read_to_string(place.path().join("printed")).unwrap();
    let rest = place.run(&["sql", "-f", &ends, "--resume"]).with_status(0);
    // The last count of each number is right, whoever merged it.
    let found = counts(&[&before, &rest.stdout]);
    let wrong = expected
        .iter()
        .find(|(n, count)| found.get(*n) != Some(*count));
    assert_eq!(wrong, None, "{}", rest.stderr);
    assert_eq!(found.len(), expected.len());
}

#[test]
fn once_ends_when_there_is_nothing_to_do() {
    let place = Place::new();
    let run = place
        .run(&["compactor", "--dir", "empty", "--once"])
        .with_status(0);
    assert!(run.stderr.contains("0 compactions done"), "{}", run.stderr);
    assert!(files(&place.path().join("empty")).is_empty());
    place
        .run(&["compactor", "--dir", "nosuch://place"])
        .with_status(2);
    place.run(&["compactor"]).with_status(2);
}
