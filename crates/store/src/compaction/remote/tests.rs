//! Messages: they come back as they were, and hostile bytes are errors.
use super::message::{JobMessage, Outcome, ResultMessage, Sign};
use crate::compaction::task::CompactionTask;
use crate::expiry::ExpiryClock;
use crate::{Compression, FileRef, KeyGroupRange, Merge, TableId, TableOptions};

fn file(number: u8) -> FileRef {
    FileRef {
        path: format!("job/shared/{number}.sst"),
        size_bytes: 1_000_003 * u64::from(number),
        level: number % 7,
        smallest: vec![0, number, 0, 1].into(),
        upper: vec![9; 4 + usize::from(number)].into(),
        clip: KeyGroupRange {
            start: u16::from(number),
            end: 900,
        },
        entries: 17,
        end_bytes: 4000,
        checksum: 0x9e37_79b9_7f4a_7c15,
        ..FileRef::default()
    }
}

fn task() -> CompactionTask {
    CompactionTask {
        runs: vec![vec![file(1), file(2)], vec![], vec![file(3)]],
        output_level: 5,
        drop_tombstones: true,
        file_bytes_target: 64 << 20,
        block_bytes: 8192,
        filter_bits_per_key: 10,
        compression: Compression::Zstd,
        value_aside_bytes: 4096,
        tables: vec![
            (TableId(0), TableOptions::default()),
            (
                TableId(900),
                TableOptions {
                    ttl_ms: Some(u64::MAX),
                    event_time: true,
                    untimed_as_ms: Some(-9),
                    merge: Merge::Fold("sum-i64".into()),
                    ..TableOptions::default()
                },
            ),
        ],
        clock: ExpiryClock::new(-5, [(TableId(900), i64::MAX)]),
        operands_since_ms: i64::MIN,
        directory: "job/shared".into(),
        file_prefix: "000001-w0-c7".into(),
    }
}

fn job() -> JobMessage {
    JobMessage {
        place: "job/compactions/000001-w0-00000007".into(),
        lease_ms: 30_000,
        task: task(),
    }
}

fn result(outcome: Outcome) -> ResultMessage {
    ResultMessage {
        by: "host-17".into(),
        claim: 3,
        outcome,
    }
}

#[test]
fn messages_come_back() {
    assert_eq!(JobMessage::decode(&job().encode()).unwrap(), job());
    for outcome in [
        Outcome::Done(vec![file(1), file(9)]),
        Outcome::Done(vec![]),
        Outcome::Failed("no such file".into()),
        Outcome::TakenBack,
    ] {
        let message = result(outcome);
        assert_eq!(ResultMessage::decode(&message.encode()).unwrap(), message);
    }
}

#[test]
fn every_flipped_bit_and_every_cut_is_noticed() {
    let good = [
        job().encode(),
        result(Outcome::Done(vec![file(4)])).encode(),
    ];
    let decode = |i: usize, bytes: &[u8]| match i {
        0 => JobMessage::decode(bytes).map(drop),
        _ => ResultMessage::decode(bytes).map(drop),
    };
    for (i, good) in good.iter().enumerate() {
        assert!(decode(i, good).is_ok());
        assert!(decode(1 - i, good).is_err(), "a message of another kind");
        for len in 0..good.len() {
            assert!(decode(i, &good[..len]).is_err(), "cut at {len}");
        }
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(i, &bad).is_err(), "bit {bit}");
        }
    }
}

/// Whoever can write to the object store can also compute checksums: what is inside must hold on its own.
#[test]
fn hostile_contents_are_errors_or_tasks_but_never_panics() {
    let mut content = Vec::new();
    task().encode(&mut content);
    let decode = |bytes: &[u8]| {
        let mut reader = crate::encoding::Reader::new("a task", bytes);
        CompactionTask::decode(&mut reader).and_then(|task| reader.finish().map(|()| task))
    };
    assert_eq!(decode(&content).unwrap(), task());
    for len in 0..content.len() {
        assert!(decode(&content[..len]).is_err(), "cut at {len}");
    }
    for bit in 0..content.len() * 8 {
        let mut bad = content.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        if let Ok(task) = decode(&bad) {
            assert!(task.runs.iter().flatten().count() <= content.len());
        }
    }
}

#[test]
fn two_signs_of_one_compactor_differ_and_two_compactors_too() {
    let sign = |by: &str, at_ms| {
        let by = by.into();
        Sign { by, at_ms }.encode()
    };
    assert_ne!(sign("a", 1), sign("a", 2));
    assert_ne!(sign("a", 1), sign("b", 1));
    assert_ne!(
        result(Outcome::TakenBack).encode(),
        result(Outcome::Done(vec![])).encode()
    );
}

#[test]
fn a_task_moves_with_its_files_or_not_at_all() {
    let mut task = task();
    for file in task.runs.iter_mut().flatten() {
        file.path = format!("job/shared/{}", file.path.replace('/', "-"));
        file.clip = KeyGroupRange::ALL;
    }
    let moved = task.clone().moved("job", "a/b").unwrap();
    assert_eq!(moved.directory, "a/b/shared");
    assert!(moved.runs[0][0].path.starts_with("a/b/shared/"));
    assert_eq!(moved.moved("a/b", "job").unwrap(), task);
    assert_eq!(task.clone().moved("elsewhere", ""), None);
    assert_eq!(task.clone().moved("", "").unwrap(), task);
}
