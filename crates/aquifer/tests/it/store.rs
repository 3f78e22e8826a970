//! `aquifer store`: what it says of whole checkpoints and of damaged ones; and beginning with a checkpoint of another run.

use crate::support::{Ended, Place, files};

/// Counts of a thousand users, by a job whose last checkpoint stays.
const SCRIPT: &str = "SET 'execution.checkpointing.dir' = 'checkpoints';
SET 'execution.checkpointing.externalized-checkpoint-retention' = 'RETAIN_ON_CANCELLATION';
SET 'pipeline.max-parallelism' = '16';
SET 'parallelism.default' = '2';
CREATE TABLE clicks (id BIGINT, who BIGINT) WITH ('connector' = 'datagen', 'number-of-rows' = '4000',
  'fields.id.kind' = 'sequence', 'fields.id.start' = '0', 'fields.id.end' = '3999', 'fields.who.min' = '0', 'fields.who.max' = '999');
CREATE TABLE counts (who BIGINT, n BIGINT) WITH ('connector' = 'blackhole');
INSERT INTO counts SELECT who, COUNT(*) FROM clicks GROUP BY who;";

fn counted() -> Place {
    let place = Place::new();
    place.sql(SCRIPT).with_status(0);
    place
}

fn store(place: &Place, arguments: &[&str]) -> Ended {
    place.run(&[&["store"], arguments].concat())
}

#[test]
fn stats_tell_what_a_checkpoint_holds() {
    let place = counted();
    let stats = store(&place, &["stats", "checkpoints/script"]).with_status(0);
    for words in [
        "of job 'script', finished: script/run-000001/chk-",
        "2 workers, 16 key groups",
        "level  files",
        "rows outside of the clips",
        "16 of 16 key groups have rows",
    ] {
        assert!(stats.stdout.contains(words), "{words}:\n{}", stats.stdout);
    }
    let state = stats
        .stdout
        .lines()
        .find(|line| line.contains("group-aggregate/"));
    assert!(
        state.is_some_and(|line| line.contains(" 9")),
        "{}",
        stats.stdout
    );
    let groups = store(
        &place,
        &["stats", "checkpoints/script/run-000001", "--groups"],
    );
    assert!(groups.with_status(0).stdout.contains("\n15 "));
}

#[test]
fn dump_prints_every_row_once() {
    let place = counted();
    let all = store(&place, &["dump", "checkpoints/script"]).with_status(0);
    let rows: Vec<Vec<&str>> = all
        .stdout
        .lines()
        .map(|row| row.split('\t').collect())
        .collect();
    assert!((950..=1000).contains(&rows.len()), "{} rows", rows.len());
    assert!(
        rows.iter().all(|row| row.len() == 4),
        "state, group, key, value"
    );
    let mut keys: Vec<&str> = rows.iter().map(|row| row[2]).collect();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), rows.len());
    // A part of it, chosen in each way.
    let seventh = rows.iter().filter(|row| row[1] == "7").count();
    let group = store(&place, &["dump", "checkpoints/script", "--group", "7"]).with_status(0);
    assert_eq!(group.stdout.lines().count(), seventh);
    let limited = store(
        &place,
        &["dump", "checkpoints/script", "--limit", "5", "--hex"],
    );
    assert_eq!(limited.with_status(0).stdout.lines().count(), 5);
    let one = &rows[0];
    let found = [
        "dump",
        "checkpoints/script",
        "--table",
        one[0],
        "--prefix",
        one[2],
    ];
    let found = store(&place, &found).with_status(0);
    assert_eq!(found.stdout.lines().next(), Some(one.join("\t").as_str()));
    let unknown = store(
        &place,
        &["dump", "checkpoints/script", "--table", "nothing"],
    );
    let unknown = unknown.with_status(2);
    assert!(
        unknown.stderr.contains("no state 'nothing'"),
        "{}",
        unknown.stderr
    );
}

#[test]
fn verify_finds_damage_and_says_where() {
    let place = counted();
    let whole = store(&place, &["verify", "checkpoints/script"]).with_status(0);
    assert!(whole.stdout.contains("is whole"), "{}", whole.stdout);
    assert_eq!(whole.stderr, "", "no progress where nobody watches");
    let sst = files(&place.path().join("checkpoints"));
    let sst = sst
        .iter()
        .find(|path| path.extension().is_some_and(|e| e == "sst"));
    let sst = sst.expect("a state file");
    let mut bytes = std::fs::read(sst).unwrap();
    bytes[20] ^= 4;
    std::fs::write(sst, &bytes).unwrap();
    let damaged = store(&place, &["verify", "checkpoints/script"]).with_status(1);
    let name = sst.file_name().unwrap().to_str().unwrap();
    assert!(
        damaged.stdout.contains(&format!("{name} at offset 0: ")),
        "{}",
        damaged.stdout
    );
    assert!(damaged.stderr.contains("1 of "), "{}", damaged.stderr);
    std::fs::remove_file(sst).unwrap();
    let gone = store(&place, &["verify", "checkpoints/script"]).with_status(1);
    assert!(gone.stdout.contains("no such file"), "{}", gone.stdout);
    let metadata = files(&place.path().join("checkpoints"));
    let metadata = metadata
        .iter()
        .rfind(|path| path.ends_with("_metadata"))
        .unwrap();
    std::fs::write(metadata, [7; 500]).unwrap();
    let lost = store(&place, &["verify", metadata.to_str().unwrap()]).with_status(1);
    assert!(lost.stderr.contains("_metadata"), "{}", lost.stderr);
}

#[test]
fn what_is_not_a_checkpoint_is_said() {
    let place = Place::new();
    for (uri, status) in [("nothing/here/run-000001", 1), ("chk-000001", 2)] {
        let run = store(&place, &["stats", uri]).with_status(status);
        assert_eq!(run.stdout, "");
        assert!(run.stderr.starts_with("error: "), "{}", run.stderr);
    }
    assert!(
        !place.path().join("nothing").exists(),
        "looking creates nothing"
    );
}

/// A finished job has nothing to go on with; a wrong mode is an error of the command line.
#[test]
fn beginning_with_another_runs_checkpoint_is_asked_for_on_the_command_line() {
    let place = counted();
    let from = [
        "sql",
        "-f",
        "script.sql",
        "--from",
        "checkpoints/script/run-000001",
    ];
    let finished = place.run(&from).with_status(2);
    assert!(
        finished.stderr.contains("finished job"),
        "{}",
        finished.stderr
    );
    let wrong = place
        .run(&[&from[..], &["--claim-mode", "legacy"]].concat())
        .with_status(2);
    assert!(wrong.stderr.contains("--claim-mode: "), "{}", wrong.stderr);
}
