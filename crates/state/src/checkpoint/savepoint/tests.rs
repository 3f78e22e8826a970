//! Savepoints of files that nobody looks into: where they are found, who owns them, and how they are copied.

use std::collections::BTreeMap;

use aquifer_store::objects;
use aquifer_store::{BlockCache, Checkpoint, FileRef, KeyGroupRange};
use aquifer_testkit::{FaultyObjects, RequestKind};
use futures_util::TryStreamExt;
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};

use super::*;
use crate::checkpoint::{ClaimMode, CommitOutcome, ForeignCheckpoint, Placement};
use crate::{BackendKind, KeyedSnapshot};

fn settings() -> BTreeMap<String, String> {
    BTreeMap::new()
}

fn environment() -> Environment {
    let handle = tokio::runtime::Handle::current();
    let objects = Arc::new(InMemory::new());
    Environment::new(objects, "x".into(), handle, BlockCache::new(1 << 20), "x")
}

/// A checkpoint that names two files of ten bytes.
async fn checkpoint(storage: &CheckpointStorage) -> CheckpointMetadata {
    let mut files = Vec::new();
    for name in ["a.sst", "b.sst"] {
        let path = storage.shared().join(name);
        storage
            .objects
            .put(&path, "0123456789".into())
            .await
            .unwrap();
        files.push(FileRef {
            path: path.to_string(),
            size_bytes: 10,
            ..FileRef::default()
        });
    }
    let files = Checkpoint {
        files,
        ..Checkpoint::default()
    };
    let range = KeyGroupRange { start: 0, end: 127 };
    CheckpointMetadata {
        checkpoint_id: 3,
        job_name: "job".into(),
        attempt: 1,
        created_unix_ms: 1,
        parallelism: 1,
        max_parallelism: 128,
        plan: "plan".into(),
        finished: false,
        kind: CheckpointKind::Checkpoint,
        backend: BackendKind::Forst,
        tables: vec![],
        keyed: vec![(range, KeyedSnapshot::of_files(files))],
        operators: vec![],
        origin: Origin::default(),
    }
}

async fn written(
    storage: &CheckpointStorage,
    root: &str,
    to: &SavepointLocation,
) -> CheckpointMetadata {
    let metadata = checkpoint(storage).await;
    try_written(&metadata, storage, root, to).await.unwrap()
}

async fn try_written(
    metadata: &CheckpointMetadata,
    storage: &CheckpointStorage,
    root: &str,
    to: &SavepointLocation,
) -> Result<CheckpointMetadata, StateError> {
    let source = SavepointSource {
        metadata,
        storage,
        root,
    };
    let progress: Progress = Arc::new(|_| ());
    let format = SavepointFormat::Native;
    write_savepoint(source, to, format, &environment(), progress).await
}

/// The names of all objects of a directory.
async fn names(objects: &dyn ObjectStore, directory: &str) -> Vec<String> {
    let directory = Path::from(directory);
    let listing = objects.list(Some(&directory));
    let names = listing.map_ok(|meta| meta.location.to_string());
    let mut names: Vec<String> = names.try_collect().await.unwrap();
    names.sort();
    names
}

async fn content(storage: &CheckpointStorage, path: &str) -> String {
    let body = storage.objects.get(&Path::from(path)).await.unwrap();
    String::from_utf8(body.bytes().await.unwrap().to_vec()).unwrap()
}

#[tokio::test]
async fn a_savepoint_is_found_by_its_uri_wherever_it_was_copied_to() {
    let directory = tempfile::tempdir().unwrap();
    let base = directory.path().join("savepoints");
    std::fs::create_dir(&base).unwrap();
    let storage = CheckpointStorage::new(Arc::new(InMemory::new()), "job/run-000001".into());
    let to = SavepointLocation::below(base.to_str().unwrap(), &settings(), "savepoint-1").unwrap();
    let metadata = written(&storage, "memory://elsewhere", &to).await;
    assert_eq!(
        metadata.files(),
        ["./data/000000-a.sst", "./data/000001-b.sst"]
    );
    assert_eq!(metadata.kind, CheckpointKind::NativeSavepoint);

    let moved = directory.path().join("moved");
    std::fs::rename(base.join("savepoint-1"), &moved).unwrap();
    let moved = moved.to_str().unwrap();
    for uri in [
        moved.to_owned(),
        format!("{moved}/"),
        format!("{moved}/_metadata"),
        format!("file://{moved}"),
    ] {
        let found = ForeignCheckpoint::open(&uri, &settings()).await.unwrap();
        assert_eq!(found.metadata.checkpoint_id, 3);
        for path in found.metadata.files() {
            assert!(path.contains("data/00000"), "{path}");
            assert_eq!(content(&found.storage, &path).await, "0123456789");
        }
    }
    let gone = ForeignCheckpoint::open(to.uri(), &settings()).await;
    assert!(gone.is_err());
}

#[tokio::test]
async fn files_of_one_store_are_copied_by_the_store() {
    let objects = FaultyObjects::new(Arc::new(InMemory::new()));
    let storage = CheckpointStorage::new(Arc::new(objects.clone()), "job/run-000001".into());
    let to = |root: &str, name: &str| {
        SavepointLocation::in_store(Arc::new(objects.clone()), root, Path::from(name))
    };
    for (root, copies) in [("memory://one", 2), ("memory://another", 0)] {
        objects.take_counts();
        written(&storage, "memory://one", &to(root, &format!("s{copies}"))).await;
        assert_eq!(
            objects.take_counts().requests(RequestKind::Copy),
            copies,
            "{root}"
        );
    }
}

/// A run that begins with the savepoint, and its first two checkpoints.
async fn claim_mode(mode: ClaimMode) {
    let root = format!("memory://savepoint-claim-{mode:?}").to_lowercase();
    let (objects, _) = objects::open(&root, &settings()).unwrap();
    let storage = CheckpointStorage::new(objects.clone(), "job/run-000001".into());
    let to = SavepointLocation::below(&format!("{root}/savepoints"), &settings(), "s").unwrap();
    written(&storage, &root, &to).await;
    let names = || async {
        let listing = objects
            .list(Some(&Path::from("savepoints")))
            .map_ok(|meta| meta.location);
        let names: Vec<Path> = listing.try_collect().await.unwrap();
        let mut bodies = Vec::new();
        for name in names {
            bodies.push((name.to_string(), objects.head(&name).await.unwrap().size));
        }
        bodies.sort();
        bodies
    };
    let before = names().await;
    assert_eq!(before.len(), 3);

    let found = ForeignCheckpoint::open(to.uri(), &settings())
        .await
        .unwrap();
    let (own_root, _) = objects::root_of(&root).unwrap();
    let adopted = found.adopt(&own_root, mode).unwrap();
    assert_eq!(adopted.kind, CheckpointKind::Checkpoint);
    let mut run = CheckpointStorage::create_run(objects.clone(), &Path::default(), "job", false)
        .await
        .unwrap();
    run.mount(&own_root, &adopted.origin.mounts, &settings())
        .unwrap();
    let (attempt, restored) = run.begin_attempt_from(Some(adopted)).await.unwrap();
    let restored = restored.unwrap();
    let mut second = CheckpointMetadata {
        checkpoint_id: 2,
        attempt,
        ..restored.clone()
    };
    let copies = run
        .place(&mut second, &mut Placement::default())
        .await
        .unwrap();
    assert_eq!(run.commit(&second).await.unwrap(), CommitOutcome::Committed);
    match mode {
        ClaimMode::NoClaim => {
            assert_eq!(copies.len(), 2);
            assert!(
                second
                    .files()
                    .iter()
                    .all(|file| file.starts_with(run.shared().as_ref()))
            );
            let deleted = run.delete_files(&restored.files()).await;
            assert!(matches!(deleted, Err(StateError::Usage(_))));
            assert_eq!(names().await, before, "it stays as it was");
        }
        ClaimMode::Claim => {
            assert!(copies.is_empty());
            assert_eq!(second.files(), restored.files());
            run.discard_claimed(&restored.origin.claimed[0])
                .await
                .unwrap();
            let again = ForeignCheckpoint::open(to.uri(), &settings()).await;
            let error = again.unwrap_err().to_string();
            assert!(error.contains("discarded"), "{error}");
            run.delete_files(&restored.files()).await.unwrap();
            assert_eq!(names().await.len(), 1, "the mark is left");
        }
    }
}

#[tokio::test]
async fn claim_modes() {
    claim_mode(ClaimMode::NoClaim).await;
    claim_mode(ClaimMode::Claim).await;
}

#[tokio::test]
async fn paths_that_lead_out_of_the_directory_are_refused() {
    let objects: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let storage = CheckpointStorage::new(objects.clone(), "job/run-000001".into());
    let mut metadata = checkpoint(&storage).await;
    for path in [
        "./../secret",
        "./a/../../b",
        ".//x",
        "./a//b",
        "./",
        // Whoever claimed these deleted files of others.
        "job/run-000001/shared/a.sst",
        "/s/a.sst",
        "_at/0f1e/a.sst",
    ] {
        metadata.map_paths(&mut |_| Ok(path.to_owned())).unwrap();
        let at = Path::from("s/_metadata");
        objects.put(&at, metadata.encode().into()).await.unwrap();
        let found =
            ForeignCheckpoint::savepoint_in(objects.clone(), "memory://x", "s".into()).await;
        let error = found.map(|found| found.unwrap().metadata.files());
        assert!(
            matches!(error, Err(StateError::Corrupt(_))),
            "{path}: {error:?}"
        );
    }
}

#[tokio::test]
async fn a_savepoint_names_no_other_stores_and_no_claimed_files() {
    let objects: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let storage = CheckpointStorage::new(objects.clone(), "job/run-000001".into());
    let mut good = checkpoint(&storage).await;
    good.map_paths(&mut |_| Ok("./a.sst".to_owned())).unwrap();
    let mount = crate::checkpoint::MountPoint {
        name: "0f1e".into(),
        uri: "memory://y".into(),
    };
    let origins = [
        Origin {
            mounts: vec![mount],
            ..Origin::default()
        },
        Origin {
            claimed: vec!["other/_metadata".into()],
            ..Origin::default()
        },
        Origin {
            claimed_files: vec!["other/a.sst".into()],
            ..Origin::default()
        },
    ];
    let at = Path::from("s/_metadata");
    let found = || ForeignCheckpoint::savepoint_in(objects.clone(), "memory://x", "s".into());
    objects.put(&at, good.encode().into()).await.unwrap();
    found().await.unwrap().unwrap();
    for origin in origins {
        let forged = CheckpointMetadata {
            origin,
            ..good.clone()
        };
        objects.put(&at, forged.encode().into()).await.unwrap();
        let error = found().await.unwrap_err();
        assert!(matches!(error, StateError::Corrupt(_)), "{error}");
    }
}

/// Everything below the directory was removed, also what was there before and what another writer had completed meanwhile.
#[tokio::test]
async fn a_savepoint_that_fails_removes_its_own_files_only() {
    let objects: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let storage = CheckpointStorage::new(objects.clone(), "job/run-000001".into());
    let to = SavepointLocation::in_store(objects.clone(), "memory://x", "s".into());
    let good = checkpoint(&storage).await;
    let mut bad = good.clone();
    bad.map_paths(&mut |path| Ok(path.replace("b.sst", "missing.sst")))
        .unwrap();
    for name in [
        "s/notes",
        "s/data/notes",
        "s/state/notes",
        "s/state/rows-x.sst",
    ] {
        objects.put(&Path::from(name), "mine".into()).await.unwrap();
    }
    let before = names(&*objects, "s").await;
    for _ in 0..2 {
        // Afterwards the name is free again.
        let failed = try_written(&bad, &storage, "memory://x", &to).await;
        assert!(failed.is_err());
        assert_eq!(names(&*objects, "s").await, before);
    }
    try_written(&good, &storage, "memory://x", &to)
        .await
        .unwrap();
    let after = names(&*objects, "s").await;
    assert_eq!(after.len(), before.len() + 3, "{after:?}");
    // A second writer changes nothing, whether it would succeed or fail.
    for metadata in [&good, &bad] {
        let error = try_written(metadata, &storage, "memory://x", &to).await;
        assert!(matches!(&error, Err(StateError::Usage(text)) if text.contains("already")));
        assert_eq!(names(&*objects, "s").await, after);
    }
}

#[tokio::test]
async fn two_writers_of_one_savepoint_do_not_meet() {
    let objects: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let storage = CheckpointStorage::new(objects.clone(), "job/run-000001".into());
    let to = SavepointLocation::in_store(objects.clone(), "memory://x", "s".into());
    let good = checkpoint(&storage).await;
    let first = Reservation::take(&to, true).await.unwrap();
    let held = names(&*objects, "s").await;
    assert_eq!(held, ["s/_writing"]);
    let error = try_written(&good, &storage, "memory://x", &to).await;
    assert!(matches!(&error, Err(StateError::Usage(text)) if text.contains("somebody else")));
    assert_eq!(names(&*objects, "s").await, held);
    first.release().await;
    try_written(&good, &storage, "memory://x", &to)
        .await
        .unwrap();
}

/// Files that the listing of a failed canonical savepoint shows are its own by their names.
#[tokio::test]
async fn files_of_a_canonical_savepoint_are_known_by_their_names() {
    let objects: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let to = SavepointLocation::in_store(objects.clone(), "memory://x", "s".into());
    for name in [
        "rows-00000000.sst",
        "rows-00000017.sst",
        "rows-x.sst",
        "rows-1",
        "other-1.sst",
        "below/rows-1.sst",
    ] {
        let path = Path::from(format!("s/state/{name}"));
        objects.put(&path, "x".into()).await.unwrap();
    }
    let mut found = canonical::files_below(&to).await;
    found.sort();
    assert_eq!(
        found,
        ["rows-00000000.sst", "rows-00000017.sst"]
            .map(|name| Path::from(format!("s/state/{name}")))
    );
}

#[test]
fn names_tell_jobs_and_times_apart() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let storage = CheckpointStorage::new(Arc::new(InMemory::new()), "job/run-000001".into());
    let metadata = runtime.block_on(checkpoint(&storage));
    let name = SavepointLocation::name(&metadata, 1000);
    assert_eq!(name.len(), "savepoint-".len() + 6 + 1 + 12);
    assert_eq!(name, SavepointLocation::name(&metadata, 1000));
    assert_ne!(name, SavepointLocation::name(&metadata, 1001));
    let other = CheckpointMetadata {
        job_name: "other".into(),
        ..metadata
    };
    assert_ne!(name[..17], SavepointLocation::name(&other, 1000)[..17]);
    for wrong in ["", "a/b", "..", ".x", "ä"] {
        let below = SavepointLocation::below("memory://x", &settings(), wrong);
        assert!(matches!(below, Err(StateError::Usage(_))), "{wrong}");
    }
}
