//! The faults do what they say: what is applied is in the store underneath, and nothing else is.

use object_store::memory::InMemory;

use super::*;

fn wrapped(plan: FaultPlan) -> (Arc<InMemory>, FaultyObjects) {
    let truth = Arc::new(InMemory::new());
    let objects = FaultyObjects::with_plan(truth.clone(), plan);
    (truth, objects)
}

async fn body(objects: &dyn ObjectStore, path: &str) -> Option<String> {
    let bytes = objects.get(&path.into()).await.ok()?.bytes().await.unwrap();
    Some(String::from_utf8(bytes.to_vec()).unwrap())
}

#[tokio::test]
async fn without_a_plan_it_behaves_as_the_store_underneath() {
    let (truth, objects) = wrapped(FaultPlan::default());
    for path in ["dir/a", "dir/b", "dir/deep/c"] {
        objects.put(&path.into(), path.into()).await.unwrap();
    }
    let range = objects.get_range(&"dir/deep/c".into(), 4..8).await.unwrap();
    assert_eq!(&range[..], b"deep");
    assert!(matches!(
        objects.get(&"none".into()).await,
        Err(Error::NotFound { .. })
    ));
    let dir = objects
        .list_with_delimiter(Some(&"dir".into()))
        .await
        .unwrap();
    assert_eq!(dir.objects.len(), 2);
    assert_eq!(dir.common_prefixes, [Path::from("dir/deep")]);
    objects
        .copy(&"dir/a".into(), &"dir/d".into())
        .await
        .unwrap();
    objects
        .rename(&"dir/b".into(), &"dir/e".into())
        .await
        .unwrap();
    let gone = stream::iter([Ok("dir/a".into()), Ok("dir/deep/c".into())]).boxed();
    assert_eq!(
        objects
            .delete_stream(gone)
            .try_collect::<Vec<_>>()
            .await
            .unwrap()
            .len(),
        2
    );
    let left: Vec<_> = truth
        .list(None)
        .map_ok(|m| m.location.to_string())
        .try_collect()
        .await
        .unwrap();
    assert_eq!(left, ["dir/d", "dir/e"]);
    assert_eq!(body(&objects, "dir/e").await.as_deref(), Some("dir/b"));
}

#[tokio::test]
async fn an_error_says_nothing_about_what_was_applied() {
    let (truth, objects) = wrapped(FaultPlan::default());
    objects.fail_next(RequestKind::Put, Fault::ErrorApplied);
    objects.fail_next(RequestKind::Put, Fault::ErrorNotApplied);
    assert!(objects.put(&"a".into(), "1".into()).await.is_err());
    assert!(objects.put(&"b".into(), "22".into()).await.is_err());
    assert!(objects.put(&"c".into(), "333".into()).await.is_ok());
    assert_eq!(body(&*truth, "a").await.as_deref(), Some("1"));
    assert_eq!(body(&*truth, "b").await, None);
    assert_eq!(body(&objects, "c").await.as_deref(), Some("333"));
    objects.fail_next(RequestKind::Delete, Fault::ErrorNotApplied);
    assert!(objects.delete(&"c".into()).await.is_err());
    assert_eq!(body(&*truth, "c").await.as_deref(), Some("333"));
    let counts = objects.take_counts();
    assert_eq!(
        (counts.requests(RequestKind::Put), counts.bytes_written),
        (3, 6)
    );
    assert_eq!(
        (counts.requests(RequestKind::Get), counts.bytes_read),
        (1, 3)
    );
    assert_eq!(counts.total(), 5);
    assert_eq!(objects.counts(), Counts::default());
}

#[tokio::test]
async fn create_if_absent_can_be_ignored() {
    let (truth, objects) = wrapped(FaultPlan::default());
    let create = || PutOptions::from(PutMode::Create);
    objects
        .put_opts(&"a".into(), "1".into(), create())
        .await
        .unwrap();
    let second = objects.put_opts(&"a".into(), "2".into(), create()).await;
    assert!(matches!(second, Err(Error::AlreadyExists { .. })));
    objects.set_plan(FaultPlan {
        ignore_create_if_absent: true,
        ..FaultPlan::default()
    });
    objects
        .put_opts(&"a".into(), "3".into(), create())
        .await
        .unwrap();
    assert_eq!(body(&*truth, "a").await.as_deref(), Some("3"));
}

#[tokio::test]
async fn after_the_crash_nothing_works_and_nothing_changes() {
    let (truth, objects) = wrapped(FaultPlan {
        crash_at: Some(2),
        ..FaultPlan::default()
    });
    for (i, name) in ["a", "b", "c", "d"].into_iter().enumerate() {
        assert_eq!(
            objects.put(&name.into(), "x".into()).await.is_ok(),
            i < 2,
            "{name}"
        );
    }
    assert!(objects.list(None).next().await.unwrap().is_err());
    assert!(objects.list_with_delimiter(None).await.is_err());
    assert!(objects.delete(&"a".into()).await.is_err());
    let left: Vec<_> = truth
        .list(None)
        .map_ok(|m| m.location.to_string())
        .try_collect()
        .await
        .unwrap();
    assert_eq!(left, ["a", "b"]);
}

#[tokio::test]
async fn a_failed_upload_leaves_no_object() {
    let (truth, objects) = wrapped(FaultPlan::default());
    let mut upload = objects.put_multipart(&"a".into()).await.unwrap();
    upload.put_part("12".into()).await.unwrap();
    objects.fail_next(RequestKind::MultipartPart, Fault::ErrorNotApplied);
    assert!(upload.put_part("34".into()).await.is_err());
    upload.abort().await.unwrap();
    assert_eq!(body(&*truth, "a").await, None);
    let mut upload = objects.put_multipart(&"a".into()).await.unwrap();
    upload.put_part("12".into()).await.unwrap();
    objects.fail_next(RequestKind::MultipartComplete, Fault::ErrorApplied);
    assert!(upload.complete().await.is_err());
    assert_eq!(body(&*truth, "a").await.as_deref(), Some("12"));
}

#[tokio::test]
async fn a_seed_repeats_the_faults_and_bursts_are_as_long_as_asked() {
    let plan = FaultPlan {
        seed: 3,
        error_applied_per_mille: 50,
        error_not_applied_per_mille: 50,
        throttle_per_mille: 20,
        throttle_burst_requests: 4,
        ..FaultPlan::default()
    };
    let mut runs = Vec::new();
    for _ in 0..2 {
        let (_, objects) = wrapped(plan.clone());
        let mut run = Vec::new();
        for _ in 0..2000 {
            let answer = objects.put(&"a".into(), "x".into()).await;
            run.push(answer.map(|_| ()).map_err(|e| e.to_string()).err());
        }
        runs.push(run);
    }
    assert_eq!(runs[0], runs[1]);
    let failed = runs[0].iter().filter(|e| e.is_some()).count();
    assert!((200..600).contains(&failed), "{failed} of 2000 failed");
    let throttled = |e: &Option<String>| e.as_ref().is_some_and(|e| e.contains("503"));
    let mut burst = 0;
    for error in &runs[0] {
        if throttled(error) {
            burst += 1;
        } else {
            assert_eq!(burst % 4, 0);
            burst = 0;
        }
    }
}

#[tokio::test]
async fn the_hook_runs_before_the_request() {
    let (truth, objects) = wrapped(FaultPlan::default());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (hook_truth, hook_seen) = (truth.clone(), seen.clone());
    objects.set_hook(Some(Arc::new(move |kind| {
        let (truth, seen) = (hook_truth.clone(), hook_seen.clone());
        Box::pin(async move {
            let there = truth.head(&"a".into()).await.is_ok();
            seen.lock().push((kind, there));
        })
    })));
    objects.put(&"a".into(), "x".into()).await.unwrap();
    objects.head(&"a".into()).await.unwrap();
    assert_eq!(
        *seen.lock(),
        [(RequestKind::Put, false), (RequestKind::Head, true)]
    );
}
