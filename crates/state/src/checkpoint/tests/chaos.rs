//! Several coordinators that take each other for dead, on a store that fails, with their requests interleaved at random.
//!
//! Each checkpoint carries the history of the checkpoints that it grew from. The promise of the commit is then one sentence: whatever a
//! coordinator was told is committed is in the history of every later checkpoint.

use std::collections::BTreeSet;

use aquifer_testkit::{FaultPlan, Rng};

use super::*;

/// A process: it begins attempts, commits, discards and deletes, and dies of any error.
struct Coordinator {
    seed: u64,
    storage: CheckpointStorage,
    /// The same run without faults, for checks.
    truth: CheckpointStorage,
    running: Option<Running>,
}

struct Running {
    attempt: u64,
    newest: u64,
    history: Vec<Vec<u8>>,
    ownership: FileOwnership,
    files: Vec<String>,
    next_file: u64,
}

/// What the world was promised: (checkpoint, its content).
type Promises = std::sync::Mutex<BTreeSet<Vec<u8>>>;

impl Coordinator {
    async fn step(&mut self, rng: &mut Rng, promises: &Promises) -> Result<(), StateError> {
        let Some(running) = &mut self.running else {
            let (attempt, restored) = self.storage.begin_attempt().await?;
            let mut ownership = FileOwnership::new(1 + rng.below(2) as usize);
            for id in self.storage.completed().await? {
                if let Ok(metadata) = self.storage.read(id).await {
                    ownership.restore(id, metadata.files());
                }
            }
            let (newest, history, files) = restored.map_or((0, vec![], vec![]), |restored| {
                let files = restored.files();
                (
                    restored.checkpoint_id,
                    restored.operators[0].elements.clone(),
                    files,
                )
            });
            for file in &files {
                // Restoring opens these files: they must be there, unless yet another attempt has taken over.
                if self.truth.objects.head(&Path::from(&**file)).await.is_err() {
                    let latest = self.truth.latest().await?.unwrap();
                    assert_ne!(
                        latest.attempt, attempt,
                        "seed {}: {file} is gone",
                        self.seed
                    );
                }
            }
            self.running = Some(Running {
                attempt,
                newest,
                history,
                ownership,
                files,
                next_file: 0,
            });
            if rng.chance(500) {
                self.storage.sweep_orphans(attempt).await?;
            }
            return Ok(());
        };
        // New state goes into a new file, some old files are compacted away.
        running.next_file += 1;
        let name = format!(
            "{}-{}.sst",
            CheckpointStorage::file_prefix(running.attempt, 0),
            running.next_file
        );
        let file = self.storage.shared().join(name).to_string();
        self.storage
            .objects
            .put(&Path::from(&*file), "x".into())
            .await
            .map_err(|e| StateError::Usage(e.to_string()))?;
        running.files.retain(|_| !rng.chance(300));
        running.files.push(file);
        let id = running.newest + 1;
        let entry = format!("{id} by {}", running.attempt).into_bytes();
        let mut history = running.history.clone();
        history.push(entry.clone());
        let operator = OperatorSnapshot {
            states: Vec::new(),
            operator: "log".into(),
            elements: history.clone(),
            committables: vec![],
        };
        let metadata = CheckpointMetadata {
            operators: vec![operator],
            ..metadata(running.attempt, id, &running.files)
        };
        match self.storage.commit(&metadata).await? {
            CommitOutcome::Committed => {
                promises.lock().unwrap().insert(entry);
                running.newest = id;
                running.history = history;
                let (discard, delete) = running.ownership.complete(id, running.files.clone());
                for old in discard {
                    self.storage.discard(old).await?;
                }
                self.storage.delete_files(&delete).await
            }
            CommitOutcome::Lost => {
                self.running = None;
                Ok(())
            }
        }
    }
}

async fn run(seed: u64) -> (usize, usize) {
    let place = &places()[0];
    place.create().await;
    let promises = Promises::default();
    let mut rng = Rng::new(seed);
    let faults = rng.below(4) as u32 * 20;
    let processes = (0..3).map(|process| {
        let (mut rng, promises) = (Rng::new(rng.next_u64()), &promises);
        let plan = FaultPlan {
            seed: rng.next_u64(),
            error_applied_per_mille: faults,
            error_not_applied_per_mille: faults,
            throttle_per_mille: faults / 2,
            throttle_burst_requests: 6,
            ..FaultPlan::default()
        };
        let objects = FaultyObjects::with_plan(place.truth.clone(), plan);
        let hook_rng = std::sync::Mutex::new(Rng::new(rng.next_u64()));
        objects.set_hook(Some(Arc::new(move |_| {
            // Others run between any two requests, sometimes for long.
            let pauses = {
                let mut rng = hook_rng.lock().unwrap();
                if rng.chance(30) {
                    rng.below(200)
                } else {
                    rng.below(3)
                }
            };
            Box::pin(async move {
                for _ in 0..pauses {
                    tokio::task::yield_now().await;
                }
            })
        })));
        async move {
            let run = place.base.clone().join("job").join("run-000001");
            let truth = CheckpointStorage::new(place.truth.clone(), run.clone());
            let storage = CheckpointStorage::new(Arc::new(objects), run);
            let mut coordinator = Coordinator {
                seed,
                storage,
                truth,
                running: None,
            };
            let mut failures = 0;
            for _ in 0..25 {
                // A process takes over now and then though nothing failed; the one before it lives on as a zombie.
                if coordinator.running.is_some() && rng.chance(60) && process > 0 {
                    coordinator.running = None;
                }
                if coordinator.step(&mut rng, promises).await.is_err() {
                    failures += 1;
                    coordinator.running = None;
                }
            }
            failures
        }
    });
    let failures: usize = futures_util::future::join_all(processes)
        .await
        .into_iter()
        .sum();
    let storage = place.find().await.0;
    let promises = promises.into_inner().unwrap();
    let last = storage.begin_attempt().await.unwrap().1;
    let history: BTreeSet<Vec<u8>> = last
        .as_ref()
        .map(|last| last.operators[0].elements.iter().cloned().collect())
        .unwrap_or_default();
    for promise in &promises {
        let promise_text = String::from_utf8_lossy(promise);
        assert!(
            history.contains(promise),
            "seed {seed}: checkpoint {promise_text} was promised and is lost"
        );
    }
    for file in last.map(|last| last.files()).unwrap_or_default() {
        assert!(
            place.truth.head(&Path::from(&*file)).await.is_ok(),
            "seed {seed}: {file} is gone"
        );
    }
    (promises.len(), failures)
}

#[tokio::test]
async fn what_was_committed_stays_and_its_files_stay() {
    let (mut promised, mut failed) = (0, 0);
    for seed in 0..40 {
        let (promises, failures) = run(seed).await;
        promised += promises;
        failed += failures;
    }
    // The runs did something, and something went wrong in them.
    assert!(promised > 400, "{promised} checkpoints");
    assert!(failed > 25, "{failed} failures");
}
