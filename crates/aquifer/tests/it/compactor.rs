//! `aquifer compactor` beside a running job, in processes of their own.

use std::process::Stdio;

use crate::support::{Place, ended, files, wait_ms};

/// Many keys, small memtables, and every compaction offered.
const SCRIPT: &str = "SET 'pipeline.name' = 'compacted';
SET 'execution.checkpointing.interval' = '100 ms';
SET 'execution.checkpointing.dir' = 'checkpoints';
SET 'state.backend.forst.compaction.remote.enabled' = 'true';
SET 'state.backend.forst.compaction.remote.min-size' = '0 b';
SET 'state.backend.forst.compaction.remote.claim-timeout' = '60 s';
SET 'state.backend.forst.writebuffer.size' = '64 kb';
CREATE TABLE numbers (n BIGINT) WITH ('connector' = 'datagen', 'number-of-rows' = '60000', 'rows-per-second' = '10000',
  'fields.n.kind' = 'sequence', 'fields.n.start' = '1', 'fields.n.end' = '60000');
CREATE TABLE counts (n BIGINT, c BIGINT) WITH ('connector' = 'print');
INSERT INTO counts SELECT MOD(n, 7000), COUNT(*) FROM numbers GROUP BY MOD(n, 7000);
";

#[test]
fn a_job_and_a_compactor_in_two_processes() {
    let place = Place::new();
    let script = place.file("job.sql", SCRIPT);
    let job = place
        .aquifer(&["sql", "-f", &script])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the job starts");
    let compactor = place
        .aquifer(&["compactor", "--dir", "checkpoints"])
        .spawn()
        .expect("the compactor starts");
    let job = ended(job.wait_with_output().expect("the job ends")).with_status(0);
    // An interrupt from the terminal; jobs that nobody waits for any more are given up.
    wait_ms(500);
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
    // The last count of each number is right, whoever merged it.
    let newest = job
        .stdout
        .lines()
        .filter(|line| line.starts_with("+U") || line.starts_with("+I"));
    let last: std::collections::BTreeMap<&str, &str> = newest
        .filter_map(|line| line.split_once('[')?.1.strip_suffix(']')?.split_once(", "))
        .collect();
    assert_eq!(last.len(), 7000);
    for (n, count) in last {
        let expected = if (1..=4000).contains(&n.parse::<u64>().unwrap()) {
            "9"
        } else {
            "8"
        };
        assert_eq!(count, expected, "of {n}");
    }
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
