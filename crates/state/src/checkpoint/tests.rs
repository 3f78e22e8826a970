//! The storage of checkpoints on memory and local files, with failing stores, zombies and late puts.

mod chaos;
mod fencing;
mod foreign;
mod layout;
mod removal;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aquifer_store::{Checkpoint, FileRef, KeyGroupRange};
use aquifer_testkit::FaultyObjects;
use bytes::Bytes;
use futures_util::TryStreamExt;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use super::*;
use crate::{BackendKind, KeyedSnapshot, StateError};

/// A store to test on, and the directory that must outlive it.
struct Place {
    truth: Arc<dyn ObjectStore>,
    base: Path,
    _directory: Option<tempfile::TempDir>,
}

/// Every store that the tests run on: memory, local files, and the S3 server that `AQUIFER_TEST_S3_ENDPOINT` names, if it is set, with
/// the bucket `AQUIFER_TEST_S3_BUCKET` and the usual variables for keys.
fn places() -> Vec<Place> {
    let directory = tempfile::tempdir().unwrap();
    let local = LocalFileSystem::new_with_prefix(directory.path())
        .unwrap()
        .with_automatic_cleanup(true);
    let mut places = vec![
        Place {
            truth: Arc::new(InMemory::new()),
            base: Path::from("dir/below"),
            _directory: None,
        },
        Place {
            truth: Arc::new(local),
            base: Path::default(),
            _directory: Some(directory),
        },
    ];
    if let Ok(endpoint) = std::env::var("AQUIFER_TEST_S3_ENDPOINT") {
        static PLACES: AtomicU64 = AtomicU64::new(0);
        let bucket = std::env::var("AQUIFER_TEST_S3_BUCKET").expect("the bucket's name");
        let place = PLACES.fetch_add(1, Ordering::Relaxed);
        let uri = format!(
            "s3://{bucket}/checkpoint-tests/{}-{place}",
            std::process::id()
        );
        let settings = [("s3.endpoint".to_owned(), endpoint)].into();
        let (truth, base) = aquifer_store::objects::open(&uri, &settings).unwrap();
        places.push(Place {
            truth,
            base,
            _directory: None,
        });
    }
    places
}

impl Place {
    async fn create(&self) -> CheckpointStorage {
        CheckpointStorage::create_run(self.truth.clone(), &self.base, "job", false)
            .await
            .unwrap()
    }

    /// Another process that looks at the newest run, with faults of its own.
    async fn find(&self) -> (CheckpointStorage, FaultyObjects) {
        let objects = FaultyObjects::new(self.truth.clone());
        let found =
            CheckpointStorage::find_run(Arc::new(objects.clone()), &self.base, "job", false).await;
        (found.unwrap().unwrap(), objects)
    }

    async fn names(&self) -> Vec<String> {
        let listing = self
            .truth
            .list(Some(&self.base))
            .map_ok(|meta| meta.location.to_string());
        let mut names: Vec<String> = listing.try_collect().await.unwrap();
        names.sort();
        names
    }
}

async fn put(objects: &dyn ObjectStore, path: impl Into<Path>) {
    objects.put(&path.into(), "x".into()).await.unwrap();
}

fn metadata(attempt: u64, checkpoint_id: u64, files: &[String]) -> CheckpointMetadata {
    let file = |path: &String| FileRef {
        path: path.clone(),
        size_bytes: 10,
        level: 0,
        smallest: Bytes::from_static(b"\0\0\0\x01a"),
        upper: Bytes::from_static(b"\0\0\0\x01b"),
        clip: KeyGroupRange { start: 0, end: 127 },
        entries: 2,
        end_bytes: 5,
        checksum: 1,
        ..FileRef::default()
    };
    let files = Checkpoint {
        files: files.iter().map(file).collect(),
        ..Checkpoint::default()
    };
    CheckpointMetadata {
        checkpoint_id,
        job_name: "job".into(),
        attempt,
        created_unix_ms: 1,
        parallelism: 1,
        max_parallelism: 128,
        plan: "plan".into(),
        finished: false,
        kind: CheckpointKind::Checkpoint,
        backend: BackendKind::Forst,
        tables: vec![],
        keyed: vec![(
            KeyGroupRange { start: 0, end: 127 },
            KeyedSnapshot::of_files(files),
        )],
        operators: vec![OperatorSnapshot {
            operator: "sink".into(),
            elements: vec![],
            committables: vec![b"part".to_vec()],
            ..OperatorSnapshot::default()
        }],
        origin: Origin::default(),
    }
}

async fn commit(storage: &CheckpointStorage, attempt: u64, id: u64) -> CommitOutcome {
    storage.commit(&metadata(attempt, id, &[])).await.unwrap()
}
