//! Going on from checkpoints of other runs, in the same store and in another one.

use std::collections::BTreeMap;

use super::*;

/// Two stores of this process and a run with one checkpoint of two files in the first.
struct Two {
    there: String,
    here: String,
    uri: String,
    files: Vec<String>,
}

async fn two(name: &str, same_store: bool) -> Two {
    let there = format!("memory://foreign-{name}-there/a");
    let here = if same_store {
        format!("memory://foreign-{name}-there/b")
    } else {
        format!("memory://foreign-{name}-here/b")
    };
    let (objects, base) = aquifer_store::objects::open(&there, &BTreeMap::new()).unwrap();
    let run = CheckpointStorage::create_run(objects.clone(), &base, "old job", false)
        .await
        .unwrap();
    let (attempt, _) = run.begin_attempt().await.unwrap();
    let files = ["000001-w0-00000000.sst", "000001-w0-00000001.sst"]
        .map(|name| run.shared().join(name).to_string());
    for file in &files {
        objects
            .put(&Path::from(file.as_str()), "0123456789".into())
            .await
            .unwrap();
    }
    let committed = run.commit(&metadata(attempt, 1, &files)).await.unwrap();
    assert_eq!(committed, CommitOutcome::Committed);
    let uri = format!(
        "memory://foreign-{name}-there/{}",
        run.metadata_path(1).as_ref()
    );
    Two {
        there,
        here,
        uri,
        files: files.into(),
    }
}

impl Two {
    /// A new run that begins with the old checkpoint.
    async fn begin(&self, mode: ClaimMode) -> (CheckpointStorage, u64, CheckpointMetadata) {
        let settings = BTreeMap::new();
        let foreign = ForeignCheckpoint::open(&self.uri, &settings).await.unwrap();
        let (root, _) = aquifer_store::objects::root_of(&self.here).unwrap();
        let adopted = foreign.adopt(&root, mode).unwrap();
        let (objects, base) = aquifer_store::objects::open(&self.here, &settings).unwrap();
        let mut run = CheckpointStorage::create_run(objects, &base, "new job", false)
            .await
            .unwrap();
        run.mount(&root, &adopted.origin.mounts, &settings).unwrap();
        let (attempt, restored) = run.begin_attempt_from(Some(adopted)).await.unwrap();
        (run, attempt, restored.unwrap())
    }

    async fn exists(&self, path: &str) -> bool {
        let (objects, _) = aquifer_store::objects::open(&self.there, &BTreeMap::new()).unwrap();
        objects.head(&Path::from(path)).await.is_ok()
    }
}

async fn content(run: &CheckpointStorage, path: &str) -> String {
    let body = run.objects.get(&Path::from(path)).await.unwrap();
    String::from_utf8(body.bytes().await.unwrap().to_vec()).unwrap()
}

#[tokio::test]
async fn without_a_claim_the_first_checkpoint_stands_alone() {
    for same_store in [true, false] {
        let two = two(&format!("no-claim-{same_store}"), same_store).await;
        let (run, attempt, restored) = two.begin(ClaimMode::NoClaim).await;
        assert_eq!((attempt, restored.checkpoint_id), (1, 1));
        assert_eq!(restored.origin.mounts.is_empty(), same_store);
        for file in restored.files() {
            assert_eq!(content(&run, &file).await, "0123456789", "{file}");
        }
        // The first checkpoint still names one of the two files, and one of its own.
        let own = run.shared().join("000001-w0-00000000.sst").to_string();
        put(&*run.objects, own.as_str()).await;
        let named = [restored.files().remove(1), own.clone()];
        let mut placement = Placement::default();
        let mut second = CheckpointMetadata {
            origin: restored.origin.clone(),
            ..metadata(attempt, 2, &named)
        };
        let mut next = second.clone();
        let copies = run.place(&mut second, &mut placement).await.unwrap();
        assert_eq!(copies.len(), 1);
        assert_eq!(copies[0].0.as_ref(), named[0]);
        assert!(second.files().contains(&own));
        for file in second.files() {
            assert!(
                Path::from(file.as_str()).prefix_matches(&run.shared()),
                "{file}"
            );
        }
        assert_eq!(second.origin, Origin::default(), "no other store is needed");
        let copy = copies[0].1.as_ref();
        assert_eq!(content(&run, copy).await, "0123456789");
        assert_eq!(run.commit(&second).await.unwrap(), CommitOutcome::Committed);
        // What was copied once is not copied again, even though the worker goes on naming the original.
        next.checkpoint_id = 3;
        assert_eq!(run.place(&mut next, &mut placement).await.unwrap(), []);
        assert_eq!(next.files(), second.files());
        // The old files cannot be deleted from here, and need not be there any more.
        let deleted = run.delete_files(&restored.files()).await;
        assert!(matches!(deleted, Err(StateError::Usage(_))));
        for file in &two.files {
            assert!(two.exists(file).await);
        }
    }
}

#[tokio::test]
async fn a_claimed_checkpoint_is_used_and_then_removed() {
    for same_store in [true, false] {
        let two = two(&format!("claim-{same_store}"), same_store).await;
        let (run, attempt, restored) = two.begin(ClaimMode::Claim).await;
        let mut second = CheckpointMetadata {
            origin: restored.origin.clone(),
            ..metadata(attempt, 2, &restored.files()[..1])
        };
        let mut placement = Placement::default();
        assert_eq!(run.place(&mut second, &mut placement).await.unwrap(), []);
        assert_eq!(
            second.files(),
            restored.files()[..1],
            "claimed files stay where they are"
        );
        assert_eq!(run.commit(&second).await.unwrap(), CommitOutcome::Committed);
        run.discard_claimed(&restored.origin.claimed[0])
            .await
            .unwrap();
        assert_eq!(second.origin.claimed_files, restored.files());
        run.discard(1).await.unwrap();
        run.delete_files(&restored.files()[1..]).await.unwrap();
        assert!(two.exists(&two.files[0]).await && !two.exists(&two.files[1]).await);
        // What the process forgot to delete when it died is found by the sweep.
        put(&*run.objects, restored.files()[1].as_str()).await;
        let again = ForeignCheckpoint::open(&two.uri, &BTreeMap::new()).await;
        assert!(again.unwrap_err().to_string().contains("discarded"));
        // A restart knows from the metadata what belongs to it.
        let other = CheckpointStorage::new(run.objects.clone(), run.run.clone());
        let (_, restored) = other.begin_attempt().await.unwrap();
        assert_eq!(other.sweep_orphans(2).await.unwrap(), 1);
        assert!(two.exists(&two.files[0]).await && !two.exists(&two.files[1]).await);
        other
            .delete_files(&restored.unwrap().files())
            .await
            .unwrap();
        assert!(!two.exists(&two.files[0]).await);
    }
}

/// A third run that begins with the only checkpoint of the second one.
async fn third(two: &Two, second: &CheckpointStorage) -> (CheckpointStorage, CheckpointMetadata) {
    let settings = BTreeMap::new();
    let (root, _) = aquifer_store::objects::root_of(&two.here).unwrap();
    let uri = format!("{}/{}", root.trim_end_matches('/'), second.metadata_path(1));
    let foreign = ForeignCheckpoint::open(&uri, &settings).await.unwrap();
    let adopted = foreign.adopt(&root, ClaimMode::Claim).unwrap();
    let (objects, base) = aquifer_store::objects::open(&two.here, &settings).unwrap();
    let mut run = CheckpointStorage::create_run(objects, &base, "third job", false)
        .await
        .unwrap();
    run.mount(&root, &adopted.origin.mounts, &settings).unwrap();
    let (_, restored) = run.begin_attempt_from(Some(adopted)).await.unwrap();
    (run, restored.unwrap())
}

/// A run began under `NO_CLAIM` and died before it had a checkpoint of its own. Who claimed it deleted the files of the checkpoint that it had
/// begun with, although that one went on saying that it is whole.
#[tokio::test]
async fn what_a_claimed_run_did_not_own_is_not_claimed() {
    for same_store in [true, false] {
        let two = two(&format!("not-owned-{same_store}"), same_store).await;
        let (second, _, _) = two.begin(ClaimMode::NoClaim).await;
        let (run, restored) = third(&two, &second).await;
        assert_eq!(restored.files().len(), 2);
        assert_eq!(restored.origin.claimed_files, [""; 0]);
        assert_eq!(restored.files_of_others(&run.shared()), restored.files());
        let deleted = run.delete_files(&restored.files()).await;
        assert!(matches!(deleted, Err(StateError::Usage(_))));
        // They are copied, as under NO_CLAIM.
        let mut next = CheckpointMetadata {
            checkpoint_id: 2,
            ..restored.clone()
        };
        let copies = run
            .place(&mut next, &mut Placement::default())
            .await
            .unwrap();
        assert_eq!(copies.len(), 2);
        assert_eq!(run.commit(&next).await.unwrap(), CommitOutcome::Committed);
        // What was claimed is the second run's checkpoint, and nothing else.
        let [claimed] = &restored.origin.claimed[..] else {
            panic!("{:?}", restored.origin);
        };
        run.discard_claimed(claimed).await.unwrap();
        run.discard(1).await.unwrap();
        run.sweep_orphans(1).await.unwrap();
        assert!(second.read(1).await.is_err());
        for file in &two.files {
            assert!(two.exists(file).await, "{file}");
        }
        ForeignCheckpoint::open(&two.uri, &BTreeMap::new())
            .await
            .unwrap();
    }
}

/// The files of the first checkpoint went, and its metadata was not marked: it said that it was whole.
#[tokio::test]
async fn a_claim_is_handed_on() {
    for same_store in [true, false] {
        let two = two(&format!("handed-on-{same_store}"), same_store).await;
        let (second, _, _) = two.begin(ClaimMode::Claim).await;
        let (run, restored) = third(&two, &second).await;
        assert_eq!(restored.origin.claimed_files, restored.files());
        assert_eq!(restored.files_of_others(&run.shared()), [""; 0]);
        assert_eq!(restored.origin.claimed.len(), 2);
        for claimed in &restored.origin.claimed {
            run.discard_claimed(claimed).await.unwrap();
        }
        let first = ForeignCheckpoint::open(&two.uri, &BTreeMap::new()).await;
        assert!(first.unwrap_err().to_string().contains("discarded"));
        assert!(second.read(1).await.is_err());
        run.delete_files(&restored.files()).await.unwrap();
        for file in &two.files {
            assert!(!two.exists(file).await, "{file}");
        }
    }
}

#[tokio::test]
async fn a_restart_before_the_first_checkpoint_finds_the_foreign_one() {
    let two = two("restart", false).await;
    let (run, _, restored) = two.begin(ClaimMode::NoClaim).await;
    let (found, _) = aquifer_store::objects::open(&two.here, &BTreeMap::new()).unwrap();
    let mut other = CheckpointStorage::new(found, run.run.clone());
    let (attempt, again) = other.begin_attempt().await.unwrap();
    let again = again.unwrap();
    assert_eq!((attempt, again.checkpoint_id), (2, 2));
    assert_eq!(again.files(), restored.files());
    let (root, _) = aquifer_store::objects::root_of(&two.here).unwrap();
    other
        .mount(&root, &again.origin.mounts, &BTreeMap::new())
        .unwrap();
    assert_eq!(content(&other, &again.files()[0]).await, "0123456789");
}

#[tokio::test]
async fn a_zombie_that_begins_with_a_foreign_checkpoint_loses() {
    let two = two("zombie", true).await;
    let (run, _, restored) = two.begin(ClaimMode::NoClaim).await;
    let other = CheckpointStorage::new(run.objects.clone(), run.run.clone());
    let (attempt, fence) = other.begin_attempt_from(Some(restored)).await.unwrap();
    assert_eq!((attempt, fence.unwrap().checkpoint_id), (2, 2));
    let late = run.commit(&metadata(1, 2, &[])).await.unwrap();
    assert_eq!(late, CommitOutcome::Lost);
}

#[tokio::test]
async fn what_is_not_there_is_said() {
    let settings = BTreeMap::new();
    for (uri, says) in [
        (
            "/no/such/dir/job/run-000001/chk-000001",
            "no such directory",
        ),
        ("memory://foreign-none/job", "neither chk-"),
        (
            "memory://foreign-none/job/run-000001",
            "no complete checkpoint",
        ),
        (
            "memory://foreign-none/job/run-000001/chk-000007",
            "does not exist",
        ),
        (
            "memory://foreign-none/chk-000007",
            "does not name a checkpoint",
        ),
    ] {
        let error = ForeignCheckpoint::open(uri, &settings).await.unwrap_err();
        assert!(error.to_string().contains(says), "{uri}: {error}");
    }
}

#[tokio::test]
async fn bytes_are_carried_where_no_store_can_copy_them() {
    // Longer than one part, so that it is an upload in parts.
    let long: Vec<u8> = (0..(17u32 << 20)).map(|i| (i % 251) as u8).collect();
    let two = two("carry", false).await;
    let (there, _) = aquifer_store::objects::open(&two.there, &BTreeMap::new()).unwrap();
    there
        .put(&Path::from(two.files[0].as_str()), long.clone().into())
        .await
        .unwrap();
    let (run, attempt, restored) = two.begin(ClaimMode::NoClaim).await;
    let mut second = CheckpointMetadata {
        origin: restored.origin.clone(),
        ..metadata(attempt, 2, &restored.files()[..1])
    };
    let wrong_size = run
        .place(&mut second.clone(), &mut Placement::default())
        .await;
    assert!(
        wrong_size
            .unwrap_err()
            .to_string()
            .contains("copy into the checkpoint")
    );
    second.keyed[0].1.files.files[0].size_bytes = long.len() as u64;
    run.place(&mut second, &mut Placement::default())
        .await
        .unwrap();
    let copied = run
        .objects
        .get(&Path::from(second.files()[0].as_str()))
        .await;
    assert_eq!(copied.unwrap().bytes().await.unwrap(), long);
}
