//! Jobs that fail and go on, at the same or another parallelism, on either backend: nothing lost, nothing twice.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use aquifer_state::BackendKind;

use crate::fixtures::{
    BACKENDS, Database, Notes, Numbers, counting, expected_counts, options, run,
};

#[test]
fn a_bounded_job_commits_every_row_once() {
    for backend in BACKENDS {
        for parallelism in 1..=3 {
            let source = Numbers::default();
            let database = Database::new();
            let options = options(
                &format!("bounded-{backend:?}-{parallelism}"),
                parallelism,
                backend,
            );
            let report = run(options, counting(source.clone(), &database)).unwrap();
            assert_eq!(
                database.committed(),
                expected_counts(&source),
                "{backend:?} at {parallelism}"
            );
            assert_eq!((report.rows_in, report.rows_out), (4000, 4000));
            assert!(report.checkpoints >= 1);
        }
    }
}

#[test]
fn a_failed_job_goes_on_from_its_checkpoint_at_another_parallelism() {
    for (name, first, then) in [
        ("forst", BackendKind::Forst, BackendKind::Forst),
        ("hashmap", BackendKind::Hashmap, BackendKind::Hashmap),
        ("switch", BackendKind::Hashmap, BackendKind::Forst),
        ("back", BackendKind::Forst, BackendKind::Hashmap),
        #[cfg(feature = "rocksdb")]
        ("rocksdb", BackendKind::Rocksdb, BackendKind::Rocksdb),
        #[cfg(feature = "rocksdb")]
        ("to-rocksdb", BackendKind::Forst, BackendKind::Rocksdb),
        #[cfg(feature = "rocksdb")]
        ("from-rocksdb", BackendKind::Rocksdb, BackendKind::Hashmap),
    ] {
        // Each attempt takes some 3000 rows, on three workers at most: there is a complete checkpoint among them.
        let source = Numbers {
            rows_per_split: 4000,
            pause_ms: 1,
            rows_per_epoch: 400,
            keys: 97,
            ..Numbers::default()
        };
        let database = Database::new();
        let build = counting(source.clone(), &database);
        for (attempt, parallelism) in [2, 3, 1, 2, 3, 1].into_iter().enumerate() {
            let backend = if attempt % 2 == 0 { first } else { then };
            let notes = Arc::new(Notes::default());
            let mut options = options(&format!("resume-{name}"), parallelism, backend);
            options.resume = attempt > 0;
            options.observer = Arc::clone(&notes) as _;
            let limit = if attempt == 5 {
                i64::MAX
            } else {
                (attempt as i64 + 1) * 3000
            };
            database.fail_after.store(limit, Ordering::Relaxed);
            let ended = run(options, Arc::clone(&build));
            match attempt {
                5 => drop(ended.unwrap()),
                _ => {
                    let error = ended.unwrap_err();
                    assert!(error.message.contains("database is full"), "{error}");
                }
            }
            let restored = notes.restored.lock().len();
            assert_eq!(restored, usize::from(attempt > 0), "attempt {attempt}");
        }
        assert_eq!(database.committed(), expected_counts(&source), "{name}");
    }
}

#[test]
fn a_finished_job_is_not_run_again() {
    let source = Numbers::default();
    let database = Database::new();
    let mut options = options("finished", 2, BackendKind::Forst);
    run(options.clone(), counting(source.clone(), &database)).unwrap();
    options.resume = true;
    let report = run(options, counting(source.clone(), &database)).unwrap();
    assert!(report.already_finished);
    assert_eq!(database.committed(), expected_counts(&source));
}

#[test]
fn another_graph_is_refused() {
    let source = Numbers {
        rows_per_split: 4000,
        pause_ms: 1,
        rows_per_epoch: 500,
        ..Numbers::default()
    };
    let database = Database::new();
    database.fail_after.store(5000, Ordering::Relaxed);
    let mut options = options("another-graph", 1, BackendKind::Forst);
    run(options.clone(), counting(source.clone(), &database)).unwrap_err();
    options.resume = true;
    options.plan = "another".to_owned();
    let error = run(options.clone(), counting(source.clone(), &database)).unwrap_err();
    assert!(error.message.contains("another job graph"), "{error}");
    options.plan = "test".to_owned();
    options.max_parallelism = Some(32);
    let error = run(options, counting(source, &database)).unwrap_err();
    assert!(
        error.message.contains("pipeline.max-parallelism"),
        "{error}"
    );
}

/// Every worker builds the coordinator's operator, and the last one had itself woken when metadata was written: the one that
/// coordinates went on only when its checkpoint had taken too long. Here every source waits for the next checkpoint, again and again.
#[test]
fn checkpoints_follow_each_other_at_any_parallelism() {
    for parallelism in 1..=3 {
        let source = Numbers {
            rows_per_epoch: 100,
            ..Numbers::default()
        };
        let database = Database::new();
        let mut options = options(
            &format!("follow-{parallelism}"),
            parallelism,
            BackendKind::Forst,
        );
        options.checkpoint_timeout_ms = 60_000;
        let report = run(options, counting(source, &database)).unwrap();
        assert!(
            report.checkpoints >= 10,
            "{} checkpoints at {parallelism}",
            report.checkpoints
        );
    }
}
