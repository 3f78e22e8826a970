//! Jobs whose files do not all lie beside their checkpoints: a primary directory elsewhere, and checkpoints of other runs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use aquifer_dataflow::job::{JobOptions, RestoreFrom};
use aquifer_state::BackendKind;
use aquifer_state::checkpoint::{ClaimMode, ForeignCheckpoint};

use crate::fixtures::{Database, Notes, Numbers, counting, expected_counts, options, run};

/// All state files below a directory.
fn state_files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(state_files(&path));
        } else if path.extension().is_some_and(|e| e == "sst") {
            found.push(path);
        }
    }
    found
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// At three workers every three thousand rows have a complete checkpoint among them.
fn slow() -> Numbers {
    Numbers {
        rows_per_split: 4000,
        pause_ms: 1,
        rows_per_epoch: 500,
        keys: 997,
        ..Numbers::default()
    }
}

/// Small memtables, so that files come and go between checkpoints, too.
fn small(mut options: JobOptions) -> JobOptions {
    options.store.memtable_bytes_max = 32 << 10;
    options
}

#[test]
fn files_of_a_primary_directory_are_copied_at_checkpoints_and_removed() {
    for remote in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let [checkpoints, primary] =
            ["checkpoints", "primary"].map(|name| directory.path().join(name));
        let source = slow();
        let database = Database::new();
        let build = counting(source.clone(), &database);
        let mut options = small(options(&format!("primary-{remote}"), 2, BackendKind::Forst));
        if !remote {
            options.checkpoint_dir = text(&checkpoints);
        }
        options.primary_dir = Some(text(&primary));
        database.fail_after.store(5_000, Ordering::Relaxed);
        run(options.clone(), Arc::clone(&build)).unwrap_err();
        assert!(!state_files(&primary).is_empty(), "workers write there");
        if !remote {
            assert!(
                !state_files(&checkpoints).is_empty(),
                "and checkpoints have copies"
            );
        }
        // A checkpoint needs nothing of the primary directory.
        std::fs::remove_dir_all(&primary).unwrap();
        database.fail_after.store(10_000, Ordering::Relaxed);
        options.resume = true;
        options.parallelism = 3;
        run(options.clone(), Arc::clone(&build)).unwrap_err();
        // What the failed attempt has left there goes.
        database.fail_after.store(i64::MAX, Ordering::Relaxed);
        options.parallelism = 1;
        options.retain_when_finished = true;
        run(options.clone(), build).unwrap();
        assert_eq!(database.committed(), expected_counts(&source));
        let left = state_files(&primary);
        assert_eq!(left, [] as [PathBuf; 0], "the job has ended");
    }
}

/// Runs a job until it fails somewhere in the middle, and returns the database with what it has committed.
fn first_half(options: JobOptions, source: &Numbers) -> Arc<Database> {
    let database = Database::new();
    database.fail_after.store(7_000, Ordering::Relaxed);
    run(options, counting(source.clone(), &database)).unwrap_err();
    database.fail_after.store(i64::MAX, Ordering::Relaxed);
    database
}

fn newest(uri: &str) -> ForeignCheckpoint {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime
        .block_on(ForeignCheckpoint::open(uri, &BTreeMap::new()))
        .unwrap()
}

#[test]
fn a_job_goes_on_from_another_runs_checkpoint() {
    for (name, mode, elsewhere) in [
        ("no-claim-here", ClaimMode::NoClaim, false),
        ("no-claim-there", ClaimMode::NoClaim, true),
        ("claim-here", ClaimMode::Claim, false),
        ("claim-there", ClaimMode::Claim, true),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let [here, there] = ["here", "there"].map(|name| directory.path().join(name));
        let source = slow();
        let mut old = small(options("old", 2, BackendKind::Forst));
        old.checkpoint_dir = text(&there);
        let database = first_half(old, &source);
        let old_run = there.join("old");
        let before = state_files(&old_run);
        assert!(!before.is_empty());
        let uri = text(&old_run);
        let old = newest(&uri).metadata;
        let old_id = old.checkpoint_id;

        let notes = Arc::new(Notes::default());
        let mut new = small(options("new", 3, BackendKind::Forst));
        new.checkpoint_dir = text(if elsewhere { &here } else { &there });
        new.restore = Some(RestoreFrom {
            uri: uri.clone(),
            mode,
        });
        new.observer = Arc::clone(&notes) as _;
        new.retain_when_finished = true;
        // The job fails once more on its way; its restart finds its own checkpoints.
        database.fail_after.store(11_000, Ordering::Relaxed);
        run(new.clone(), counting(source.clone(), &database)).unwrap_err();
        assert_eq!(*notes.restored.lock(), [old_id], "{name}");
        new.resume = true;
        database.fail_after.store(i64::MAX, Ordering::Relaxed);
        if mode == ClaimMode::NoClaim {
            assert_eq!(state_files(&old_run), before, "{name}: nothing was touched");
            // The first checkpoint stands alone.
            assert!(!notes.checkpoints.lock().is_empty(), "{name}");
            std::fs::remove_dir_all(&old_run).unwrap();
        }
        run(new.clone(), counting(source.clone(), &database)).unwrap();
        assert_eq!(database.committed(), expected_counts(&source), "{name}");
        let last = newest(&text(&Path::new(&new.checkpoint_dir).join("new"))).metadata;
        let own = "new/run-000001/shared/";
        match mode {
            ClaimMode::NoClaim => {
                assert!(
                    last.files().iter().all(|file| file.starts_with(own)),
                    "{name}"
                );
                assert!(last.origin.mounts.is_empty() && last.origin.claimed.is_empty());
            }
            ClaimMode::Claim => {
                let runtime = tokio::runtime::Runtime::new().unwrap();
                let again = runtime.block_on(ForeignCheckpoint::open(
                    &format!("{uri}/run-000001/chk-{old_id:06}"),
                    &BTreeMap::new(),
                ));
                assert!(
                    again.unwrap_err().to_string().contains("discarded"),
                    "{name}"
                );
            }
        }
        // When its checkpoint need not be kept, what was claimed goes with it.
        new.retain_when_finished = false;
        let report = run(new, counting(source, &database)).unwrap();
        assert!(report.already_finished);
        let left = state_files(&old_run);
        match mode {
            ClaimMode::NoClaim => assert!(!old_run.exists(), "{name}"),
            // Others may have been left behind by the run that failed.
            ClaimMode::Claim => {
                let named = old.files();
                assert!(
                    !named.iter().any(|file| left.contains(&there.join(file))),
                    "{name}"
                );
            }
        }
    }
}

/// A run that began with somebody's checkpoint and failed before it had one of its own names files that are not its own. Who claimed it
/// deleted them.
#[test]
fn a_claimed_run_does_not_bring_what_it_did_not_own() {
    let directory = tempfile::tempdir().unwrap();
    let source = slow();
    let job = |name: &str| {
        let mut job = small(options(name, 2, BackendKind::Forst));
        job.checkpoint_dir = text(directory.path());
        job
    };
    let database = first_half(job("old"), &source);
    let old_run = directory.path().join("old");
    let (before, uri) = (state_files(&old_run), text(&old_run));
    let old = newest(&uri).metadata;

    let from = |name: &str, uri: String, mode| {
        let mut job = job(name);
        job.restore = Some(RestoreFrom { uri, mode });
        job
    };
    // Its first row fails, and there is no checkpoint before.
    database.fail_after.store(0, Ordering::Relaxed);
    let mut loops = from("loops", uri.clone(), ClaimMode::NoClaim);
    loops.checkpoint_interval_ms = None;
    run(loops, counting(source.clone(), &database)).unwrap_err();
    let looped = text(&directory.path().join("loops"));
    assert_eq!(newest(&looped).metadata.files(), old.files());

    database.fail_after.store(i64::MAX, Ordering::Relaxed);
    let last = from("last", looped.clone(), ClaimMode::Claim);
    run(last, counting(source.clone(), &database)).unwrap();
    assert_eq!(database.committed(), expected_counts(&source));
    assert_eq!(state_files(&old_run), before, "nothing was touched");
    assert_eq!(newest(&uri).metadata, old);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let again = runtime.block_on(ForeignCheckpoint::open(
        &format!("{looped}/run-000001/chk-000001"),
        &BTreeMap::new(),
    ));
    assert!(again.unwrap_err().to_string().contains("discarded"));
}

/// The snapshot may go as soon as one checkpoint is complete, while the job that was restored from it still runs.
#[test]
fn a_snapshot_may_go_while_the_job_that_began_with_it_runs() {
    for elsewhere in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let [here, there] = ["here", "there"].map(|name| directory.path().join(name));
        let source = slow();
        let mut old = small(options("old", 2, BackendKind::Forst));
        old.checkpoint_dir = text(&there);
        let database = first_half(old, &source);
        let old_run = there.join("old");

        /// Removes the snapshot when the second checkpoint is complete.
        struct Remover(PathBuf, Notes);
        impl aquifer_dataflow::job::JobObserver for Remover {
            fn checkpoint(&self, id: u64, duration_ms: u64, state_bytes: u64) {
                self.1.checkpoint(id, duration_ms, state_bytes);
                if self.1.checkpoints.lock().len() == 2 {
                    std::fs::remove_dir_all(&self.0).unwrap();
                }
            }
        }
        let remover = Arc::new(Remover(old_run.clone(), Notes::default()));
        let mut new = small(options("new", 1, BackendKind::Forst));
        new.checkpoint_dir = text(if elsewhere { &here } else { &there });
        new.restore = Some(RestoreFrom {
            uri: text(&old_run),
            mode: ClaimMode::NoClaim,
        });
        // Nothing stays in memory, so that the copies must really be read.
        new.block_cache_bytes = 0;
        new.observer = Arc::clone(&remover) as _;
        run(new, counting(source.clone(), &database)).unwrap();
        assert!(remover.1.checkpoints.lock().len() > 2 && !old_run.exists());
        assert_eq!(database.committed(), expected_counts(&source));
    }
}

#[test]
fn what_cannot_be_begun_with_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let source = Numbers::default();
    let database = Database::new();
    let mut old = options("done", 1, BackendKind::Forst);
    old.checkpoint_dir = text(directory.path());
    old.retain_when_finished = true;
    run(old.clone(), counting(source.clone(), &database)).unwrap();
    for (uri, plan, says) in [
        (text(&directory.path().join("done")), "test", "finished job"),
        (
            text(&directory.path().join("none")),
            "test",
            "no checkpoint was found",
        ),
    ] {
        let mut new = options("new", 1, BackendKind::Forst);
        new.plan = plan.to_owned();
        new.checkpoint_dir = text(directory.path());
        new.restore = Some(RestoreFrom {
            uri,
            mode: ClaimMode::NoClaim,
        });
        let error = run(new, counting(source.clone(), &database)).unwrap_err();
        assert!(error.message.contains(says), "{error}");
    }
    assert!(!directory.path().join("new").exists(), "no run was begun");
}
