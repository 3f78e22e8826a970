//! Runs, names, finding and reading.

use aquifer_testkit::{Fault, FaultPlan, RequestKind};

use super::*;

#[tokio::test]
async fn a_run_is_claimed_found_and_numbered() {
    for place in places() {
        let none = CheckpointStorage::find_run(place.truth.clone(), &place.base, "job", false)
            .await
            .unwrap();
        assert!(none.is_none());
        let first = place.create().await;
        assert_eq!(first.run, place.base.clone().join("job").join("run-000001"));
        assert_eq!(first.shared(), first.run.clone().join("shared"));
        let second = place.create().await;
        assert_eq!(second.run.filename(), Some("run-000002"));
        assert_eq!(place.find().await.0.run, second.run);
        let other =
            CheckpointStorage::create_run(place.truth.clone(), &place.base, "../job", false)
                .await
                .unwrap();
        assert!(other.run.prefix_matches(&place.base));
        assert_eq!(other.run.filename(), Some("run-000001"));
        assert_eq!(place.names().await.len(), 3, "the probe leaves nothing");
    }
}

#[tokio::test]
async fn many_starters_get_a_run_each() {
    for place in places() {
        let created = futures_util::future::join_all((0..8).map(|_| place.create())).await;
        let mut runs: Vec<Path> = created.into_iter().map(|storage| storage.run).collect();
        runs.sort();
        runs.dedup();
        assert_eq!(runs.len(), 8);
    }
}

#[tokio::test]
async fn a_directory_of_another_job_is_refused() {
    let place = &places()[0];
    let storage = place.create().await;
    place
        .truth
        .put(&storage.run.join("_run"), "a run of job\nother\n".into())
        .await
        .unwrap();
    let found = CheckpointStorage::find_run(place.truth.clone(), &place.base, "job", false).await;
    assert!(
        matches!(found, Err(StateError::Corrupt(text)) if text.contains("does not belong to job `job`"))
    );
}

#[tokio::test]
async fn checkpoints_are_committed_in_order_and_read() {
    for place in places() {
        let storage = place.create().await;
        assert_eq!(storage.latest().await.unwrap(), None);
        assert!(storage.completed().await.unwrap().is_empty());
        let (attempt, restored) = storage.begin_attempt().await.unwrap();
        assert_eq!((attempt, restored), (1, None));
        for id in 1..=20 {
            assert_eq!(commit(&storage, 1, id).await, CommitOutcome::Committed);
        }
        let latest = place.find().await.0.latest().await.unwrap().unwrap();
        assert_eq!(latest, metadata(1, 20, &[]));
        assert_eq!(storage.read(7).await.unwrap(), metadata(1, 7, &[]));
        for id in 1..=17 {
            storage.discard(id).await.unwrap();
            storage.discard(id).await.unwrap();
        }
        assert_eq!(storage.completed().await.unwrap(), [18, 19, 20]);
        assert_eq!(
            place.find().await.0.completed().await.unwrap(),
            [18, 19, 20]
        );
        for gone in [1, 7, 99] {
            let error = storage.read(gone).await.unwrap_err();
            assert!(
                matches!(&error, StateError::Store(e) if e.kind == aquifer_store::ErrorKind::Missing),
                "{error}"
            );
        }
        assert!(storage.discard(20).await.is_err(), "the newest stays");
    }
}

#[tokio::test]
async fn ids_have_no_gaps() {
    let place = &places()[0];
    let storage = place.create().await;
    let usage = |result| matches!(result, Err(StateError::Usage(_)));
    storage.begin_attempt().await.unwrap();
    assert!(usage(storage.commit(&metadata(1, 2, &[])).await));
    assert!(usage(storage.commit(&metadata(1, 0, &[])).await));
    assert_eq!(commit(&storage, 1, 1).await, CommitOutcome::Committed);
    assert!(usage(storage.commit(&metadata(1, 3, &[])).await));
    // Asking again after an error is fine; going back is not.
    assert_eq!(commit(&storage, 1, 1).await, CommitOutcome::Committed);
    assert_eq!(commit(&storage, 1, 2).await, CommitOutcome::Committed);
    assert!(usage(storage.commit(&metadata(1, 1, &[])).await));
    // Who has not begun an attempt here must follow what exists.
    let (fresh, _) = place.find().await;
    assert!(usage(fresh.commit(&metadata(1, 4, &[])).await));
    assert_eq!(commit(&fresh, 1, 3).await, CommitOutcome::Committed);
}

#[tokio::test]
async fn listings_are_only_hints() {
    let place = &places()[0];
    let storage = place.create().await;
    storage.begin_attempt().await.unwrap();
    for id in 1..=6 {
        commit(&storage, 1, id).await;
    }
    // Names that are not ours, and directories without metadata, confuse nobody.
    for stray in ["chk-9", "chk-0000007", "chk-x", "chk-000008"] {
        put(&*place.truth, storage.run.clone().join(stray).join("stray")).await;
    }
    assert_eq!(storage.latest().await.unwrap().unwrap().checkpoint_id, 6);
    assert_eq!(storage.completed().await.unwrap(), [1, 2, 3, 4, 5, 6]);
    // A listing from the past: the run's directory shows nothing at all.
    let blind = CheckpointStorage::new(Arc::new(Blind(place.truth.clone())), storage.run.clone());
    assert_eq!(
        blind.latest().await.unwrap().unwrap().checkpoint_id,
        6,
        "found by probing upwards"
    );
    for id in 1..=5 {
        storage.discard(id).await.unwrap();
    }
    let error = blind.latest().await.unwrap_err();
    assert!(
        error.to_string().contains("listing is old"),
        "never a silent start from nothing: {error}"
    );
}

#[tokio::test]
async fn damaged_metadata_is_named() {
    let place = &places()[0];
    let storage = place.create().await;
    storage.begin_attempt().await.unwrap();
    commit(&storage, 1, 1).await;
    let path = storage.run.clone().join("chk-000001").join("_metadata");
    for body in ["", "AQCHKPT\n", "something else"] {
        place.truth.put(&path, body.into()).await.unwrap();
        let error = storage.latest().await.unwrap_err();
        assert!(
            matches!(&error, StateError::Corrupt(text) if text.contains("chk-000001/_metadata")),
            "{error}"
        );
    }
    let misplaced = metadata(1, 5, &[]).encode();
    place.truth.put(&path, misplaced.into()).await.unwrap();
    assert!(
        storage
            .latest()
            .await
            .unwrap_err()
            .to_string()
            .contains("metadata of checkpoint 5")
    );
}

#[tokio::test]
async fn a_store_that_overwrites_is_refused_unless_allowed() {
    let place = &places()[0];
    let plan = FaultPlan {
        ignore_create_if_absent: true,
        ..FaultPlan::default()
    };
    let objects: Arc<dyn ObjectStore> =
        Arc::new(FaultyObjects::with_plan(place.truth.clone(), plan));
    let refused = CheckpointStorage::create_run(objects.clone(), &place.base, "job", false).await;
    assert!(
        refused
            .unwrap_err()
            .to_string()
            .contains("execution.checkpointing.allow-unsafe-commits")
    );
    assert!(place.names().await.is_empty());
    let storage = CheckpointStorage::create_run(objects.clone(), &place.base, "job", true)
        .await
        .unwrap();
    storage.begin_attempt().await.unwrap();
    assert_eq!(commit(&storage, 1, 1).await, CommitOutcome::Committed);
    assert_eq!(commit(&storage, 1, 1).await, CommitOutcome::Committed);
    let second = CheckpointStorage::create_run(objects.clone(), &place.base, "job", true)
        .await
        .unwrap();
    assert_ne!(second.run, storage.run);
    let refused = CheckpointStorage::find_run(objects.clone(), &place.base, "job", false).await;
    assert!(refused.is_err());
    let mut same_run = second;
    same_run.run = storage.run.clone();
    // Without rivals at the same moment, looking before writing still tells.
    assert_eq!(same_run.begin_attempt().await.unwrap().0, 2);
    assert_eq!(commit(&storage, 1, 2).await, CommitOutcome::Lost);
}

#[tokio::test]
async fn an_unclear_put_is_resolved_by_reading_back() {
    for place in places() {
        place.create().await;
        let (storage, objects) = place.find().await;
        storage.begin_attempt().await.unwrap();
        let mut id = 0;
        for fault in [
            Fault::ErrorApplied,
            Fault::ErrorNotApplied,
            Fault::Throttled,
        ] {
            for times in 1..=3 {
                for _ in 0..times {
                    objects.fail_next(RequestKind::Put, fault);
                }
                objects.fail_next(RequestKind::Get, Fault::ErrorNotApplied);
                id += 1;
                assert_eq!(
                    commit(&storage, 1, id).await,
                    CommitOutcome::Committed,
                    "{fault:?} x{times}"
                );
                objects.set_plan(FaultPlan::default());
            }
        }
        // The store is gone for good: the outcome is unknown, and that is an error that may be tried again.
        objects.set_plan(FaultPlan {
            crash_at: Some(0),
            ..FaultPlan::default()
        });
        let error = storage.commit(&metadata(1, id + 1, &[])).await.unwrap_err();
        assert!(
            matches!(&error, StateError::Store(e) if e.kind == aquifer_store::ErrorKind::Retry),
            "{error}"
        );
        objects.set_plan(FaultPlan::default());
        assert!(
            storage.commit(&metadata(1, id + 2, &[])).await.is_err(),
            "it is not stepped over"
        );
        assert_eq!(commit(&storage, 1, id + 1).await, CommitOutcome::Committed);
    }
}

/// Lists nothing.
#[derive(Debug)]
struct Blind(Arc<dyn ObjectStore>);

impl std::fmt::Display for Blind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Blind")
    }
}

use futures_util::stream::{self, BoxStream, StreamExt};
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

#[async_trait::async_trait]
impl ObjectStore for Blind {
    async fn put_opts(
        &self,
        path: &Path,
        body: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        self.0.put_opts(path, body, options).await
    }
    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.0.put_multipart_opts(path, options).await
    }
    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        self.0.get_opts(path, options).await
    }
    fn delete_stream(
        &self,
        paths: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.0.delete_stream(paths)
    }
    fn list(&self, _: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        stream::empty().boxed()
    }
    async fn list_with_delimiter(&self, _: Option<&Path>) -> Result<ListResult> {
        let extensions = Default::default();
        Ok(ListResult {
            common_prefixes: vec![],
            objects: vec![],
            extensions,
        })
    }
    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.0.copy_opts(from, to, options).await
    }
}
