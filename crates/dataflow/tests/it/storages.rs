//! Where snapshots of a job go: within the metadata or in files, and what happens when they are too large for it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use aquifer_dataflow::JobErrorKind;
use aquifer_dataflow::job::JobOptions;
use aquifer_state::{BackendKind, SnapshotStorage, StorageKind};

use crate::fixtures::{Database, Numbers, counting, expected_counts, options, run};

fn stored(name: &str, directory: &Path, storage: SnapshotStorage) -> JobOptions {
    JobOptions {
        checkpoint_dir: directory.to_str().unwrap().to_owned(),
        storage,
        ..options(name, 2, BackendKind::Hashmap)
    }
}

fn files(directory: &Path) -> usize {
    let entries = std::fs::read_dir(directory).into_iter().flatten();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .map(|path| match path.is_dir() {
            true => files(&path),
            false => usize::from(path.extension().is_some_and(|e| e == "sst")),
        })
        .sum()
}

/// Whether the operator waits for it or not, and whether it is in the metadata or in files: a job that fails goes on where it was.
#[test]
fn a_job_goes_on_from_every_place_of_snapshots() {
    for (index, (storage, has_files)) in [
        (StorageKind::JobManager.into(), false),
        (
            SnapshotStorage::JobManager {
                state_bytes_max: 1 << 20,
                total_bytes_max: 1 << 20,
                asynchronous: false,
            },
            false,
        ),
        (StorageKind::FileSystem.into(), false),
        (
            SnapshotStorage::FileSystem {
                inline_bytes_max: 0,
                asynchronous: true,
            },
            true,
        ),
        (
            SnapshotStorage::FileSystem {
                inline_bytes_max: 0,
                asynchronous: false,
            },
            true,
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let directory = tempfile::tempdir().unwrap();
        let source = Numbers {
            pause_ms: 1,
            rows_per_epoch: 400,
            ..Numbers::default()
        };
        let database = Database::new();
        database.fail_after.store(2500, Ordering::Relaxed);
        let mut options = stored(&format!("storage-{index}"), directory.path(), storage);
        run(options.clone(), counting(source.clone(), &database)).unwrap_err();
        assert_eq!(files(directory.path()) > 0, has_files, "{storage:?}");
        database.fail_after.store(i64::MAX, Ordering::Relaxed);
        options.resume = true;
        options.parallelism = 3;
        run(options, counting(source.clone(), &database)).unwrap();
        assert_eq!(
            database.committed(),
            expected_counts(&source),
            "{storage:?}"
        );
    }
}

#[test]
fn a_state_that_is_too_large_for_the_metadata_ends_the_job_with_its_name() {
    let directory = tempfile::tempdir().unwrap();
    let storage = SnapshotStorage::JobManager {
        state_bytes_max: 2_000,
        total_bytes_max: 1 << 20,
        asynchronous: true,
    };
    let source = Numbers {
        keys: 1000,
        ..Numbers::default()
    };
    let database = Database::new();
    let options = stored("too-large", directory.path(), storage);
    let error = run(options, counting(source, &database)).unwrap_err();
    for part in [
        "State `count` of operator `count`",
        "2000",
        "execution.checkpointing.max-memory-state-size",
    ] {
        assert!(error.message.contains(part), "{error}");
    }
}

/// Options made in code are checked like those of a file.
#[test]
fn a_backend_that_writes_files_needs_a_place_for_them() {
    let database = Database::new();
    let options = JobOptions {
        storage: StorageKind::JobManager.into(),
        ..options("forst-in-metadata", 1, BackendKind::Forst)
    };
    let error = run(
        options,
        counting(Numbers::default(), &Arc::clone(&database)),
    )
    .unwrap_err();
    assert_eq!(error.kind, JobErrorKind::Usage);
    assert!(error.message.contains("writes files"), "{error}");
}
