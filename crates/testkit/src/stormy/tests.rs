//! Each fault does what its name says, and nothing else.
use futures_util::TryStreamExt;
use object_store::ObjectStoreExt;
use tokio::time::Instant;

use super::*;

fn process(truth: &Truth, kind: Kind) -> Stormy {
    let storm = Storm {
        seed: 5,
        per_mille: vec![(kind, 1000)],
        ends_at: u64::MAX,
    };
    Stormy::new(truth.clone(), storm, Arc::default())
}

fn path() -> Path {
    Path::from("d/a")
}

fn create() -> PutOptions {
    PutMode::Create.into()
}

fn is(truth: &Truth, body: &str) -> bool {
    truth
        .body(&path())
        .is_some_and(|found| found == body.as_bytes())
}

#[tokio::test(start_paused = true)]
async fn errors_of_puts_say_nothing() {
    for (kind, applied) in [
        (Kind::NotApplied, false),
        (Kind::Applied, true),
        (Kind::Throttled, false),
        (Kind::Conflict, false),
        (Kind::AlreadyThere, true),
        (Kind::Denied, false),
        (Kind::Hangs, false),
    ] {
        let truth = Truth::new();
        let answer = process(&truth, kind)
            .put_opts(&path(), "x".into(), create())
            .await;
        assert!(answer.is_err(), "{kind:?}");
        assert_eq!(is(&truth, "x"), applied, "{kind:?}");
    }
    let truth = Truth::new();
    let before = Instant::now();
    process(&truth, Kind::Slow)
        .put(&path(), "x".into())
        .await
        .unwrap();
    assert!(is(&truth, "x") && before.elapsed() > Duration::ZERO);
}

#[tokio::test]
async fn a_late_put_lands_late() {
    let truth = Truth::new();
    let stormy = process(&truth, Kind::LandsLater);
    assert!(stormy.put(&path(), "late".into()).await.is_err());
    assert!(!is(&truth, "late"));
    for _ in 0..LATE_REQUESTS_MAX {
        let _ = stormy.head(&Path::from("other")).await;
    }
    assert!(is(&truth, "late"));
}

#[tokio::test]
async fn answers_of_reads_are_damaged_on_their_way() {
    let truth = Truth::new();
    let body = "0123456789".repeat(10);
    truth.put(&path(), body.clone().into()).await.unwrap();
    let read = |kind| {
        let stormy = process(&truth, kind);
        async move { stormy.get_range(&path(), 0..100).await }
    };
    assert!(read(Kind::CutBody).await.is_err());
    assert!(read(Kind::WrongLength).await.unwrap().len() < 100);
    let flipped = read(Kind::FlippedOnTheWire).await.unwrap();
    let differ = flipped.iter().zip(body.bytes()).filter(|(a, b)| *a != b);
    assert_eq!(differ.count(), 1);
    assert!(is(&truth, &body), "the object itself is whole");
}

#[tokio::test]
async fn after_the_crash_nothing_works_and_a_new_process_goes_on() {
    for applied in [false, true] {
        let truth = Truth::new();
        let history = Arc::<Mutex<History>>::default();
        let stormy = Stormy::new(truth.clone(), Storm::none(), history.clone());
        stormy.crash_at(Some(Crash { at: 1, applied }));
        stormy.put(&Path::from("first"), "x".into()).await.unwrap();
        assert!(stormy.put(&path(), "x".into()).await.is_err());
        assert!(stormy.is_dead());
        assert_eq!(is(&truth, "x"), applied);
        assert!(stormy.head(&Path::from("first")).await.is_err());
        assert!(stormy.delete(&Path::from("first")).await.is_err());
        let next = Stormy::new(truth.clone(), Storm::none(), history.clone());
        assert!(next.head(&Path::from("first")).await.is_ok());
        let history = history.lock();
        assert_eq!(history.events(), 3, "requests of the dead are not counted");
        assert_eq!(history.faults().values().sum::<u64>(), 1);
    }
}

#[tokio::test]
async fn uploads_meet_faults_too() {
    let upload = |kind| {
        let truth = Truth::new();
        let stormy = process(&truth, kind);
        async move {
            let mut upload = stormy.put_multipart(&path()).await?;
            let parts = [upload.put_part("1".into()), upload.put_part("2".into())];
            futures_util::future::try_join_all(parts).await?;
            let result = upload.complete().await;
            Ok::<_, Error>((result.is_ok(), truth.body(&path())))
        }
    };
    let (ok, body) = upload(Kind::PartTwice).await.unwrap();
    assert!(ok && body.as_deref() == Some(b"12"));
    let (ok, body) = upload(Kind::CompleteUnclear).await.unwrap();
    assert!(!ok && body.as_deref() == Some(b"12"));
    assert!(upload(Kind::NotApplied).await.is_err());
}

#[tokio::test]
async fn listings_lie() {
    let truth = Truth::new();
    for i in 0..30 {
        let path = Path::from(format!("d/{i:02}"));
        truth.put(&path, "x".into()).await.unwrap();
    }
    for i in 0..5 {
        truth
            .delete(&Path::from(format!("d/{i:02}")))
            .await
            .unwrap();
    }
    let list = |kind| {
        let stormy = process(&truth, kind);
        async move {
            let metas: Vec<ObjectMeta> = stormy.list(None).try_collect().await.unwrap();
            metas
                .iter()
                .map(|m| m.location.to_string())
                .collect::<Vec<_>>()
        }
    };
    let fresh = list(Kind::CutBody).await;
    assert_eq!(fresh.len(), 25);
    assert!(list(Kind::GhostList).await.len() > 25);
    assert!(list(Kind::StaleList).await.len() <= 25);
    assert_eq!(list(Kind::PagedList).await, fresh);
    let unordered = list(Kind::UnorderedList).await;
    assert!(unordered != fresh && unordered.len() == 25);
    let delimited = process(&truth, Kind::GhostList)
        .list_with_delimiter(Some(&"d".into()))
        .await;
    assert!(delimited.unwrap().objects.len() > 25);
}
