//! Savepoints of running jobs: asked for in code, while the job goes on or to end it.

use std::collections::BTreeSet;
use std::sync::Arc;

use aquifer_dataflow::JobErrorKind;
use aquifer_dataflow::job::{
    JobObserver, JobOptions, JobReport, RestoreFrom, SavepointAnswer, SavepointRequest,
    SavepointRequests,
};
use aquifer_state::BackendKind;
use aquifer_state::checkpoint::{CheckpointKind, ClaimMode, ForeignCheckpoint, SavepointFormat};
use parking_lot::Mutex;

use crate::fixtures::{
    BACKENDS, Database, DatabaseSink, Numbers, counting, expected_counts, options, run,
};

const FORMATS: [SavepointFormat; 2] = [SavepointFormat::Canonical, SavepointFormat::Native];

/// Asks for a savepoint when the job has taken some checkpoints.
struct Ask {
    requests: Arc<SavepointRequests>,
    request: SavepointRequest,
    answer: Mutex<Option<SavepointAnswer>>,
    seen: Mutex<u64>,
    notes: Mutex<Vec<String>>,
}

const ASKED_AFTER: u64 = 4;

impl Ask {
    fn new(request: SavepointRequest) -> Arc<Self> {
        Arc::new(Self {
            requests: SavepointRequests::new(),
            request,
            answer: Mutex::default(),
            seen: Mutex::default(),
            notes: Mutex::default(),
        })
    }

    /// What the job was answered.
    fn answered(&self) -> Result<String, aquifer_dataflow::JobError> {
        let answer = self.answer.lock().take();
        answer.expect("the job took enough checkpoints").wait()
    }
}

impl JobObserver for Ask {
    fn checkpoint(&self, _checkpoint_id: u64, _duration_ms: u64, _state_bytes: u64) {
        let mut seen = self.seen.lock();
        *seen += 1;
        if *seen == ASKED_AFTER {
            let answer = self.requests.request(self.request.clone());
            *self.answer.lock() = Some(answer.unwrap());
        }
    }

    fn note(&self, message: &str) {
        self.notes.lock().push(message.to_owned());
    }
}

/// All rows of [`source`].
const ROWS: u64 = 16_000;

/// A job that runs for a while: on up to three workers it takes twenty checkpoints at least.
fn source() -> Numbers {
    Numbers {
        rows_per_split: ROWS / 4,
        pause_ms: 1,
        rows_per_epoch: 400,
        keys: 97,
        ..Numbers::default()
    }
}

fn asking(options: JobOptions, ask: &Arc<Ask>) -> JobOptions {
    JobOptions {
        savepoints: Some(Arc::clone(&ask.requests)),
        observer: Arc::clone(ask) as _,
        ..options
    }
}

fn from(options: JobOptions, uri: &str, mode: ClaimMode) -> JobOptions {
    let uri = uri.to_owned();
    JobOptions {
        restore: Some(RestoreFrom { uri, mode }),
        ..options
    }
}

fn opened(uri: &str) -> Result<ForeignCheckpoint, aquifer_state::StateError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime
        .unwrap()
        .block_on(ForeignCheckpoint::open(uri, &Default::default()))
}

/// A job that was stopped with a savepoint, what it has committed, and where the savepoint is.
fn stopped(
    name: &str,
    backend: BackendKind,
    format: SavepointFormat,
) -> (Arc<Database>, String, JobReport) {
    let ask = Ask::new(SavepointRequest {
        directory: Some(format!("memory://{name}-savepoints/of/mine")),
        format,
        stop: true,
    });
    let database = Database::new();
    let options = asking(options(name, 2, backend), &ask);
    let report = run(options, counting(source(), &database)).unwrap();
    let uri = ask.answered().unwrap();
    assert_eq!(report.stopped_at.as_deref(), Some(uri.as_str()));
    assert!(
        uri.starts_with(&format!("memory://{name}-savepoints/of/mine/savepoint-")),
        "{uri}"
    );
    (database, uri, report)
}

#[test]
fn a_stopped_job_goes_on_elsewhere_as_if_nothing_had_happened() {
    for backend in BACKENDS {
        for format in FORMATS {
            let name = format!("stop-{backend:?}-{format:?}").to_lowercase();
            let (database, uri, report) = stopped(&name, backend, format);
            let committed = database.committed().len() as u64;
            assert!(committed > 0 && committed < ROWS, "{committed}");
            assert_eq!(
                report.rows_out, committed,
                "no row went out behind the savepoint"
            );
            let found = opened(&uri).unwrap().metadata;
            let kind = match format {
                SavepointFormat::Canonical => CheckpointKind::CanonicalSavepoint,
                SavepointFormat::Native => CheckpointKind::NativeSavepoint,
            };
            assert_eq!((found.kind, found.finished), (kind, false));
            // Another job, in another place, with other workers and another backend.
            let at = BACKENDS.iter().position(|known| *known == backend).unwrap();
            let other = BACKENDS[(at + 1) % BACKENDS.len()];
            let options = options(&format!("{name}-next"), 3, other);
            let options = from(options, &uri, ClaimMode::NoClaim);
            run(options, counting(source(), &database)).unwrap();
            assert_eq!(database.committed(), expected_counts(&source()), "{name}");
            // It is nobody's but the user's.
            assert_eq!(opened(&uri).unwrap().metadata, found);
        }
    }
}

#[test]
fn a_stopped_job_can_be_resumed_as_well() {
    for backend in BACKENDS {
        let name = format!("stop-resume-{backend:?}").to_lowercase();
        let (database, _, _) = stopped(&name, backend, SavepointFormat::Canonical);
        let mut options = options(&name, 1, backend);
        options.resume = true;
        let report = run(options, counting(source(), &database)).unwrap();
        assert!(!report.already_finished);
        assert_eq!(database.committed(), expected_counts(&source()), "{name}");
    }
}

#[test]
fn a_job_goes_on_while_its_savepoint_is_written() {
    for backend in BACKENDS {
        let name = format!("online-{backend:?}").to_lowercase();
        let ask = Ask::new(SavepointRequest::default());
        let database = Database::new();
        let mut first = asking(options(&name, 2, backend), &ask);
        first.savepoint_dir = Some(format!("memory://{name}-savepoints"));
        let report = run(first, counting(source(), &database)).unwrap();
        assert_eq!(report.stopped_at, None);
        assert!(report.checkpoints > ASKED_AFTER + 1);
        let expected = expected_counts(&source());
        assert_eq!(database.committed(), expected);
        // The savepoint is that of an earlier moment: what came after it comes again.
        let uri = ask.answered().unwrap();
        let options = from(
            options(&format!("{name}-next"), 1, backend),
            &uri,
            ClaimMode::NoClaim,
        );
        let report = run(options, counting(source(), &database)).unwrap();
        assert!(
            report.rows_in > 0 && report.rows_in < ROWS,
            "{}",
            report.rows_in
        );
        let all = database.committed();
        assert_eq!(all.len() as u64, ROWS + report.rows_out);
        let distinct: BTreeSet<_> = all.into_iter().collect();
        assert!(distinct.into_iter().eq(expected), "every count is right");
    }
}

#[test]
fn a_claimed_savepoint_is_used_and_then_removed() {
    let all = BACKENDS
        .into_iter()
        .flat_map(|backend| FORMATS.map(|format| (backend, format)));
    for (backend, format) in all {
        let name = format!("claimed-{backend:?}-{format:?}").to_lowercase();
        let (database, uri, _) = stopped(&name, backend, format);
        let options = options(&format!("{name}-next"), 2, backend);
        let options = from(options, &uri, ClaimMode::Claim);
        run(options, counting(source(), &database)).unwrap();
        assert_eq!(database.committed(), expected_counts(&source()));
        let error = opened(&uri).unwrap_err().to_string();
        assert!(error.contains("discarded"), "{error}");
    }
}

#[test]
fn state_without_an_operator_is_refused_unless_allowed() {
    let (database, uri, _) = stopped("unclaimed", BackendKind::Forst, SavepointFormat::Canonical);
    let without: aquifer_dataflow::job::Build = Arc::new({
        let database = Arc::clone(&database);
        move |env| {
            env.source("source", Arc::new(source()))?
                .sink("sink", Arc::new(DatabaseSink(Arc::clone(&database))))
        }
    });
    let mut next = from(
        options("unclaimed-next", 1, BackendKind::Forst),
        &uri,
        ClaimMode::NoClaim,
    );
    let error = run(next.clone(), Arc::clone(&without)).unwrap_err();
    assert_eq!(error.kind, JobErrorKind::Usage);
    for part in ["`count`", "execution.state-recovery.ignore-unclaimed-state"] {
        assert!(error.message.contains(part), "{error}");
    }
    let ask = Ask::new(SavepointRequest::default());
    next.ignore_unclaimed_state = true;
    next.name = "unclaimed-allowed".into();
    // Such a job mostly is another graph, too.
    next.plan = "without count".into();
    next.observer = Arc::clone(&ask) as _;
    let report = run(next, without).unwrap();
    assert!(report.rows_in > 0 && report.rows_in < ROWS);
    let notes = ask.notes.lock().join("\n");
    assert!(
        notes.contains("`count`") && notes.contains("another job graph"),
        "{notes}"
    );
}

#[test]
fn a_savepoint_that_cannot_be_written_is_told_of() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let nowhere = format!("file://{}/below", file.path().display());
    for (directory, says) in [
        (None, "execution.checkpointing.savepoint-dir"),
        (Some(nowhere), "below"),
    ] {
        let name = format!("nowhere-{}", directory.is_some());
        let ask = Ask::new(SavepointRequest {
            directory,
            ..SavepointRequest::default()
        });
        let database = Database::new();
        let options = asking(options(&name, 1, BackendKind::Forst), &ask);
        run(options, counting(source(), &database)).unwrap();
        let error = ask.answered().unwrap_err();
        assert!(error.message.contains(says), "{error}");
        assert_eq!(
            database.committed(),
            expected_counts(&source()),
            "the job goes on"
        );
    }
}

/// The job failed, and whoever had mistyped a directory had to start it again.
#[test]
fn a_job_that_cannot_stop_with_a_savepoint_goes_on() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let nowhere = format!("file://{}/below", file.path().display());
    for backend in BACKENDS {
        let ask = Ask::new(SavepointRequest {
            directory: Some(nowhere.clone()),
            stop: true,
            ..SavepointRequest::default()
        });
        let database = Database::new();
        let options = options(&format!("nowhere-stop-{backend:?}"), 2, backend);
        let report = run(asking(options, &ask), counting(source(), &database)).unwrap();
        let error = ask.answered().unwrap_err();
        assert!(error.message.contains("below"), "{error}");
        assert_eq!(report.stopped_at, None);
        let notes = ask.notes.lock().join("\n");
        assert!(notes.contains("the job goes on"), "{notes}");
        assert_eq!(database.committed(), expected_counts(&source()));
    }
}

/// Of several that want the job to end one is enough; each gets the answer to its own request.
#[test]
fn savepoints_that_are_asked_for_together_share_a_checkpoint() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let nowhere = format!("file://{}/below", file.path().display());
    let requests = SavepointRequests::new();
    let asked = |directory: &str, stop| {
        let request = SavepointRequest {
            directory: Some(directory.to_owned()),
            stop,
            ..SavepointRequest::default()
        };
        requests.request(request).unwrap()
    };
    let good = "memory://two-at-once-savepoints";
    let answers = [
        asked(good, false),
        asked(good, true),
        asked(&nowhere, true),
        asked(good, true),
    ];
    let database = Database::new();
    // No checkpoint is taken but those that are asked for.
    let options = JobOptions {
        savepoints: Some(Arc::clone(&requests)),
        checkpoint_interval_ms: None,
        ..options("two-at-once", 2, BackendKind::Forst)
    };
    let report = run(options, counting(source(), &database)).unwrap();
    let [online, stopped, failed, again] = answers.map(SavepointAnswer::wait);
    let error = failed.unwrap_err();
    assert!(error.message.contains("below"), "{error}");
    let uris = [online.unwrap(), stopped.unwrap(), again.unwrap()];
    assert_eq!(report.stopped_at.as_ref(), Some(&uris[2]));
    let distinct: BTreeSet<_> = uris.iter().collect();
    assert_eq!(distinct.len(), 3, "each has a directory of its own");
    // The first has a checkpoint of its own; the others came while it was taken.
    let ids = uris.map(|uri| opened(&uri).unwrap().metadata.checkpoint_id);
    assert_eq!(ids, [1, 2, 2]);
    assert_eq!(report.checkpoints, 2);
}

/// Fails while the savepoint is wanted, taken or written: it is written, or whoever asked is told that it is not, and the job can be resumed.
#[test]
fn a_job_that_fails_answers_for_its_savepoints() {
    for (index, rows) in [0, 1, 100, 1000, 5000].into_iter().enumerate() {
        let name = format!("fails-with-savepoint-{index}");
        let ask = Ask::new(SavepointRequest {
            directory: Some(format!("memory://{name}-savepoints")),
            stop: index % 2 == 0,
            ..SavepointRequest::default()
        });
        let early = ask.requests.request(ask.request.clone()).unwrap();
        let database = Database::new();
        database
            .fail_after
            .store(rows, std::sync::atomic::Ordering::Relaxed);
        let mut again = options(&name, 2, BackendKind::Forst);
        let ended = run(asking(again.clone(), &ask), counting(source(), &database));
        match early.wait() {
            Ok(uri) => assert!(!opened(&uri).unwrap().metadata.finished),
            Err(error) => assert!(error.message.contains("the job has failed"), "{error}"),
        }
        if let Err(error) = ended {
            assert!(error.message.contains("database is full"), "{error}");
        }
        database
            .fail_after
            .store(i64::MAX, std::sync::atomic::Ordering::Relaxed);
        again.resume = true;
        run(again, counting(source(), &database)).unwrap();
        assert_eq!(database.committed(), expected_counts(&source()), "{name}");
    }
}

#[test]
fn requests_that_come_too_late_are_answered() {
    let ask = Ask::new(SavepointRequest::default());
    let database = Database::new();
    let mut options = asking(options("too-late", 1, BackendKind::Forst), &ask);
    // Only the last checkpoint is taken, which is that of a finished job.
    options.checkpoint_interval_ms = None;
    options.savepoint_dir = Some("memory://too-late-savepoints".into());
    let source = Numbers {
        rows_per_split: 0,
        ..Numbers::default()
    };
    let answer = ask.requests.request(SavepointRequest::default()).unwrap();
    run(options, counting(source, &database)).unwrap();
    // Taken before the end, or refused after it; but answered.
    if let Err(error) = answer.wait() {
        assert!(error.message.contains("has ended"), "{error}");
    }
}

#[test]
fn another_max_parallelism_is_refused() {
    let (database, uri, _) = stopped("max", BackendKind::Hashmap, SavepointFormat::Canonical);
    let with = |parallelism, max_parallelism| {
        let options = options("max-next", parallelism, BackendKind::Forst);
        let options = JobOptions {
            max_parallelism,
            ..from(options, &uri, ClaimMode::NoClaim)
        };
        run(options, counting(source(), &database)).unwrap_err()
    };
    let error = with(2, Some(32));
    assert_eq!(error.kind, JobErrorKind::Usage);
    for part in ["pipeline.max-parallelism is 32", "was taken with 64"] {
        assert!(error.message.contains(part), "{error}");
    }
    let error = with(65, None);
    assert_eq!(error.kind, JobErrorKind::Usage);
    for part in ["parallelism.default is 65", "64"] {
        assert!(error.message.contains(part), "{error}");
    }
}
