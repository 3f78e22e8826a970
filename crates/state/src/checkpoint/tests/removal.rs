//! Deleting: only what is ours and what nobody needs.

use aquifer_testkit::{Fault, FaultPlan, RequestKind};

use super::*;

fn below(storage: &CheckpointStorage, names: &[&str]) -> Vec<String> {
    names
        .iter()
        .map(|name| storage.shared().join(*name).to_string())
        .collect()
}

#[tokio::test]
async fn files_are_deleted_and_those_already_gone_are_fine() {
    for place in places() {
        let storage = place.create().await;
        let files = below(
            &storage,
            &["000001-w0-1.sst", "000001-w0-2.sst", "000001-w0-3.sst"],
        );
        put(&*place.truth, &*files[0]).await;
        put(&*place.truth, &*files[1]).await;
        storage.delete_files(&files[1..]).await.unwrap();
        storage.delete_files(&[]).await.unwrap();
        let shared: Vec<String> = place
            .names()
            .await
            .into_iter()
            .filter(|n| n.contains("shared"))
            .collect();
        assert_eq!(shared, files[..1]);
    }
}

#[tokio::test]
async fn paths_outside_the_run_are_never_deleted() {
    let place = &places()[0];
    let storage = place.create().await;
    let own = below(&storage, &["000001-w0-1.sst"]).remove(0);
    put(&*place.truth, &*own).await;
    let run = storage.run.to_string();
    for foreign in [
        format!("{run}/_run"),
        format!("{run}/shared"),
        format!("{run}/shared/../_run"),
        format!("{run}/sharedx/a.sst"),
        "other/run-000001/shared/000001-w0-1.sst".to_owned(),
        String::new(),
    ] {
        let error = storage
            .delete_files(&[own.clone(), foreign.clone()])
            .await
            .unwrap_err();
        assert!(
            matches!(&error, StateError::Usage(text) if text.contains("not a state file")),
            "{foreign}: {error}"
        );
    }
    assert_eq!(place.names().await.len(), 2);
}

#[tokio::test]
async fn one_failed_delete_does_not_stop_the_others() {
    let place = &places()[0];
    place.create().await;
    let (storage, objects) = place.find().await;
    let files = below(
        &storage,
        &["000001-w0-1.sst", "000001-w0-2.sst", "000001-w0-3.sst"],
    );
    for file in &files {
        put(&*place.truth, &**file).await;
    }
    objects.fail_next(RequestKind::Delete, Fault::ErrorNotApplied);
    assert!(storage.delete_files(&files).await.is_err());
    let left: Vec<String> = place
        .names()
        .await
        .into_iter()
        .filter(|n| n.contains("shared"))
        .collect();
    assert_eq!(left, files[..1]);
}

#[tokio::test]
async fn the_sweep_takes_what_earlier_attempts_left_and_no_checkpoint_names() {
    for place in places() {
        let storage = place.create().await;
        storage.begin_attempt().await.unwrap();
        let names = [
            "000001-w0-1.sst", // named by checkpoint 1 only, which is still retained
            "000001-w0-2.sst", // named by both
            "000001-w1-3.sst", // uploaded, but its checkpoint never came
            "000002-w0-1.sst", // of the attempt that sweeps
            "000003-w0-1.sst", // of a later attempt: we are the zombie
            "notes.sst",       // not ours
        ];
        let files = below(&storage, &names);
        for file in &files {
            put(&*place.truth, &**file).await;
        }
        storage.commit(&metadata(1, 1, &files[..2])).await.unwrap();
        storage.commit(&metadata(1, 2, &files[1..2])).await.unwrap();
        let (storage, _) = place.find().await;
        storage.begin_attempt().await.unwrap();
        assert_eq!(storage.sweep_orphans(2).await.unwrap(), 1);
        assert_eq!(storage.sweep_orphans(2).await.unwrap(), 0);
        let left: Vec<String> = place
            .names()
            .await
            .into_iter()
            .filter(|n| n.contains("shared"))
            .collect();
        let mut expected = files.clone();
        expected.remove(2);
        assert_eq!(left, expected);
        // What the restored checkpoint names may still be read when newer checkpoints have replaced it.
        commit(&storage, 2, 4).await;
        for id in 1..=3 {
            storage.discard(id).await.unwrap();
        }
        assert_eq!(
            storage.sweep_orphans(2).await.unwrap(),
            1,
            "only the first file is needed by nobody"
        );
        let left: Vec<String> = place
            .names()
            .await
            .into_iter()
            .filter(|n| n.contains("shared"))
            .collect();
        assert_eq!(left, expected[1..]);
    }
}

/// An attempt that found no checkpoint swept what the one before it had uploaded, while that one was still about to commit it.
#[tokio::test]
async fn before_its_first_checkpoint_an_attempt_sweeps_nothing() {
    let place = &places()[0];
    let storage = place.create().await;
    storage.begin_attempt().await.unwrap();
    let path = storage
        .shared()
        .join(CheckpointStorage::file_prefix(1, 0) + "-1.sst");
    put(&*place.truth, path.clone()).await;
    storage.begin_attempt().await.unwrap();
    assert_eq!(storage.sweep_orphans(2).await.unwrap(), 0);
    assert!(
        matches!(storage.sweep_orphans(1).await, Err(StateError::Usage(_))),
        "replaced"
    );
    commit(&storage, 2, 1).await;
    assert_eq!(storage.sweep_orphans(2).await.unwrap(), 1);
    assert!(place.truth.head(&path).await.is_err());
}

#[tokio::test]
async fn a_finished_run_leaves_a_marker() {
    for place in places() {
        let storage = place.create().await;
        storage.begin_attempt().await.unwrap();
        let files = below(&storage, &["000001-w0-1.sst", "000001-w0-2.sst"]);
        for file in &files {
            put(&*place.truth, &**file).await;
        }
        storage.commit(&metadata(1, 1, &files[..1])).await.unwrap();
        assert!(
            storage.delete_run_keep_marker().await.is_err(),
            "not finished"
        );
        let last = CheckpointMetadata {
            finished: true,
            ..metadata(1, 2, &files[1..])
        };
        storage.commit(&last).await.unwrap();
        let (storage, objects) = place.find().await;
        // Interrupted at every request, it can be repeated.
        let mut request = 0;
        loop {
            objects.set_plan(FaultPlan {
                crash_at: Some(request),
                ..FaultPlan::default()
            });
            if storage.delete_run_keep_marker().await.is_ok() {
                break;
            }
            request += 1;
            let (_, found) = place.find().await.0.begin_attempt().await.unwrap();
            assert!(found.unwrap().finished);
        }
        assert!(request > 5, "{request}");
        let (storage, _) = place.find().await;
        let (_, marker) = storage.begin_attempt().await.unwrap();
        let marker = marker.unwrap();
        assert!(marker.finished && marker.keyed.is_empty() && marker.operators.is_empty());
        assert_eq!(
            (marker.checkpoint_id, &*marker.job_name, &*marker.plan),
            (3, "job", "plan")
        );
        let left = place.names().await;
        assert!(!left.iter().any(|name| name.contains("shared")), "{left:?}");
        assert_eq!(storage.completed().await.unwrap(), [3]);
        // A new run does not collide with what is left.
        assert_eq!(place.create().await.run.filename(), Some("run-000002"));
    }
}

/// What compactors were asked by earlier attempts, nobody waits for any more.
#[tokio::test]
async fn the_sweep_takes_compactions_of_earlier_attempts() {
    for place in places() {
        let first = place.create().await;
        let (attempt, _) = first.begin_attempt().await.unwrap();
        commit(&first, attempt, 1).await;
        let queue = first.run.clone().join("compactions");
        let task = |name: &str, part: &str| queue.clone().join(name).join(part);
        put(&*place.truth, task("000001-w0-00000003", "job")).await;
        put(&*place.truth, task("000001-w0-00000003", "claim-1")).await;
        put(&*place.truth, task("000002-w0-00000001", "job")).await;
        let (second, _) = place.find().await;
        let (attempt, _) = second.begin_attempt().await.unwrap();
        assert_eq!(attempt, 2);
        assert_eq!(second.sweep_orphans(attempt).await.unwrap(), 2);
        let names = place.names().await;
        let left: Vec<_> = names
            .iter()
            .filter(|name| name.contains("compactions"))
            .collect();
        assert_eq!(left.len(), 1, "{left:?}");
        assert!(left[0].ends_with("000002-w0-00000001/job"));
    }
}
