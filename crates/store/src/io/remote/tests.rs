//! Requests that fail, hang, are slow or lose their answer, on a clock that stands still unless everyone waits.
use std::sync::atomic::{AtomicU64, Ordering};

use aquifer_testkit::{Fault, FaultPlan, FaultyObjects, RequestKind};
use object_store::memory::InMemory;

use super::*;

struct World {
    objects: FaultyObjects,
    truth: Arc<InMemory>,
    meter: Arc<Meter>,
    remote: Remote,
}

fn world(options: IoOptions) -> World {
    let truth = Arc::new(InMemory::new());
    let objects = FaultyObjects::new(truth.clone());
    let meter = Arc::new(Meter::default());
    let chance = AtomicU64::new(1);
    let random: Random = Arc::new(move || chance.fetch_add(7_919, Ordering::Relaxed));
    World {
        remote: Remote::new(
            Arc::new(objects.clone()),
            options,
            random,
            true,
            meter.clone(),
        ),
        objects,
        truth,
        meter,
    }
}

impl World {
    /// The requests of a kind with these numbers (from 0) take so many milliseconds.
    fn delay(&self, kind: RequestKind, delays: &[(u64, u64)]) {
        let delays = delays.to_vec();
        let seen = Arc::new(AtomicU64::new(0));
        self.objects.set_hook(Some(Arc::new(move |asked| {
            let number = seen.fetch_add(u64::from(asked == kind), Ordering::Relaxed);
            let delay = delays.iter().find(|(n, _)| asked == kind && *n == number);
            let delay = Duration::from_millis(delay.map_or(0, |(_, delay)| *delay));
            Box::pin(sleep(delay))
        })));
    }

    async fn fill(&self) -> Path {
        let path = Path::from("a");
        self.truth.put(&path, "0123456789".into()).await.unwrap();
        path
    }

    fn stats(&self) -> super::super::IoStats {
        self.meter.stats(&self.remote.options.prices)
    }
}

const FOREVER: u64 = 1 << 40;

#[tokio::test(start_paused = true)]
async fn errors_that_pass_are_outlived_and_others_are_not() {
    let world = world(IoOptions::default());
    let path = world.fill().await;
    for fault in [
        Fault::Throttled,
        Fault::ErrorNotApplied,
        Fault::ErrorApplied,
    ] {
        world.objects.fail_next(RequestKind::Get, fault);
    }
    assert_eq!(world.remote.get(&path, 2..5).await.unwrap(), "234");
    assert_eq!((world.stats().gets, world.stats().retries), (4, 3));
    for _ in 0..5 {
        world.objects.fail_next(RequestKind::Get, Fault::Throttled);
    }
    let error = world.remote.get(&path, 2..5).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Retry);
    let error = world.remote.get(&"b".into(), 2..5).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Missing);
    let error = world.remote.get(&path, 2..50).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Corrupt);
    assert_eq!(world.stats().retries, 7);
}

#[tokio::test(start_paused = true)]
async fn a_request_without_an_answer_is_given_up_and_made_again() {
    let world = world(IoOptions::default());
    let path = world.fill().await;
    world.delay(RequestKind::Get, &[(0, FOREVER), (1, 29_000)]);
    let began = Instant::now();
    assert_eq!(world.remote.get(&path, 0..1).await.unwrap(), "0");
    assert!(
        (59..61).contains(&began.elapsed().as_secs()),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(world.stats().timeouts, 1);
}

#[tokio::test(start_paused = true)]
async fn a_store_in_trouble_is_not_stormed() {
    let world = world(IoOptions {
        retry_budget: 10,
        retry_budget_per_second: 1,
        retry_pause_max: Duration::from_millis(1),
        ..IoOptions::default()
    });
    let path = world.fill().await;
    world.objects.set_plan(FaultPlan {
        error_not_applied_per_mille: 1_000,
        ..FaultPlan::default()
    });
    let reads = (0..100).map(|_| world.remote.get(&path, 0..1));
    let answers = futures_util::future::join_all(reads).await;
    let held_back = |e: &Error| e.message.contains("too many requests fail");
    assert!(answers.iter().all(|a| a.as_ref().is_err_and(held_back)));
    assert_eq!(world.objects.counts().requests(RequestKind::Get), 110);
    sleep(Duration::from_secs(2)).await;
    world.objects.set_plan(FaultPlan::default());
    world.objects.fail_next(RequestKind::Get, Fault::Throttled);
    world.remote.get(&path, 0..1).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_slow_read_is_asked_twice_and_the_first_answer_counts() {
    let world = world(IoOptions {
        hedge: Hedge::After(Duration::from_millis(30)),
        ..IoOptions::default()
    });
    let path = world.fill().await;
    let second = Duration::from_secs(1);
    world.delay(RequestKind::Get, &[(0, 9_000), (2, 1_000), (3, 9_000)]);
    let began = Instant::now();
    assert_eq!(world.remote.get(&path, 4..6).await.unwrap(), "45");
    assert_eq!(began.elapsed().as_millis(), 30);
    assert_eq!(world.remote.get(&path, 4..6).await.unwrap(), "45");
    assert_eq!(began.elapsed().as_millis(), 30 + second.as_millis());
    assert_eq!((world.stats().hedges, world.stats().hedges_won), (2, 1));
    // A second request that fails does not harm the first.
    world.delay(RequestKind::Get, &[(0, 1_000)]);
    let late = async {
        sleep(Duration::from_millis(10)).await;
        world.objects.fail_next(RequestKind::Get, Fault::Throttled);
    };
    let (answer, ()) = futures_util::join!(world.remote.get(&path, 4..6), late);
    assert_eq!(answer.unwrap(), "45");
}

#[tokio::test(start_paused = true)]
async fn slow_is_what_takes_longer_than_most() {
    let world = world(IoOptions {
        hedge: Hedge::AfterSlowest(Duration::from_millis(5)),
        ..IoOptions::default()
    });
    let path = world.fill().await;
    world.delay(RequestKind::Get, &[(50, 100), (150, 20_000)]);
    for _ in 0..150 {
        world.remote.get(&path, 0..1).await.unwrap();
    }
    assert_eq!(world.stats().hedges, 0);
    let began = Instant::now();
    world.remote.get(&path, 0..1).await.unwrap();
    assert!(
        began.elapsed() < Duration::from_millis(200),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(world.stats().hedges_won, 1);
}

#[tokio::test(start_paused = true)]
async fn a_put_whose_answers_are_lost_is_found_to_be_done() {
    let world = world(IoOptions::default());
    let path = Path::from("new");
    for _ in 0..5 {
        world
            .objects
            .fail_next(RequestKind::Put, Fault::ErrorApplied);
    }
    world.remote.put(&path, "body".into()).await.unwrap();
    assert_eq!(
        (world.stats().puts, world.stats().writes_found_done),
        (5, 1)
    );
    for _ in 0..5 {
        world
            .objects
            .fail_next(RequestKind::Put, Fault::ErrorNotApplied);
    }
    let error = world
        .remote
        .put(&"other".into(), "body".into())
        .await
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::Retry);
    assert!(world.truth.head(&"other".into()).await.is_err());
    world.remote.delete(&path).await.unwrap();
    world.remote.delete(&path).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_upload_whose_completion_is_lost_is_found_to_be_done() {
    for (fault, done) in [(Fault::ErrorApplied, true), (Fault::ErrorNotApplied, false)] {
        let world = world(IoOptions::default());
        let path = Path::from("new");
        let mut upload = world.remote.start_upload(&path).await.unwrap();
        let part = upload.put_part("12345".into());
        world.remote.send_part(&path, 5, part).await.unwrap();
        world
            .objects
            .fail_next(RequestKind::MultipartComplete, fault);
        let answer = world
            .remote
            .complete_upload(&path, 5, upload.as_mut())
            .await;
        assert_eq!(answer.is_ok(), done, "{answer:?}");
        assert_eq!(world.truth.head(&path).await.is_ok(), done);
    }
}
