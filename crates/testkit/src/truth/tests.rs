//! The store behaves like one, and remembers.
use futures_util::TryStreamExt;
use object_store::ObjectStoreExt;

use super::*;

fn path(text: &str) -> Path {
    Path::from(text)
}

async fn names(truth: &Truth) -> Vec<String> {
    let listed = truth.list(None).map_ok(|meta| meta.location.to_string());
    listed.try_collect().await.unwrap()
}

#[tokio::test]
async fn it_is_an_object_store() {
    let truth = Truth::new();
    for name in ["dir/a", "dir/b", "dir/deep/c"] {
        truth.put(&path(name), name.into()).await.unwrap();
    }
    let range = truth.get_range(&path("dir/deep/c"), 4..8).await.unwrap();
    assert_eq!(&range[..], b"deep");
    let none = truth.get(&path("none")).await;
    assert!(matches!(none, Err(Error::NotFound { .. })));
    let past_the_end = truth.get_range(&path("dir/a"), 9..12).await;
    assert!(past_the_end.is_err());
    let dir = truth.list_with_delimiter(Some(&path("dir"))).await.unwrap();
    assert_eq!(dir.objects.len(), 2);
    assert_eq!(dir.common_prefixes, [path("dir/deep")]);
    let create = || PutOptions::from(PutMode::Create);
    let taken = truth.put_opts(&path("dir/a"), "x".into(), create()).await;
    assert!(matches!(taken, Err(Error::AlreadyExists { .. })));
    truth.copy(&path("dir/a"), &path("e")).await.unwrap();
    truth.delete(&path("dir/a")).await.unwrap();
    assert_eq!(names(&truth).await, ["dir/b", "dir/deep/c", "e"]);
    assert_eq!(truth.take_deleted(), [path("dir/a")]);
    assert_eq!(truth.versions(&path("dir/a")), 2);
    let again = truth.put_opts(&path("dir/a"), "x".into(), create()).await;
    assert!(again.is_ok(), "a deleted name is free");
    assert_eq!(truth.earlier_bodies(&path("dir/a")), ["dir/a"]);
}

#[tokio::test]
async fn uploads_are_visible_when_they_are_complete() {
    let truth = Truth::new();
    let mut upload = truth.put_multipart(&path("a")).await.unwrap();
    let (one, two) = (upload.put_part("1".into()), upload.put_part("2".into()));
    two.await.unwrap();
    one.await.unwrap();
    assert_eq!(names(&truth).await, [""; 0]);
    assert_eq!(truth.open_uploads(), [path("a")]);
    upload.complete().await.unwrap();
    assert_eq!(truth.body(&path("a")).as_deref(), Some(&b"12"[..]));
    assert!(upload.complete().await.is_err());
    let mut upload = truth.put_multipart(&path("b")).await.unwrap();
    drop(upload.put_part("1".into()));
    assert!(upload.complete().await.is_err(), "a part never arrived");
    upload.abort().await.unwrap();
    assert!(truth.open_uploads().is_empty());
}

#[test]
fn puts_can_land_late_and_lose() {
    let truth = Truth::new();
    truth.put_later(&path("a"), "late".into(), true, 3);
    truth.put_later(&path("b"), "late".into(), false, 3);
    let now = |name, body: &'static str| truth.put_now(&path(name), body.into(), &PutMode::Create);
    now("a", "first").unwrap();
    now("b", "first").unwrap();
    assert_eq!((truth.tick(), truth.tick(), truth.tick()), (0, 0, 2));
    assert_eq!(truth.body(&path("a")).as_deref(), Some(&b"first"[..]));
    assert_eq!(truth.body(&path("b")).as_deref(), Some(&b"late"[..]));
    truth.put_later(&path("c"), "x".into(), true, 100);
    assert_eq!((truth.land_all(), truth.land_all()), (1, 0));
}

#[test]
fn listings_can_be_old_and_unordered() {
    let truth = Truth::new();
    for name in ["a", "b", "c", "d"] {
        truth
            .put_now(&path(name), name.into(), &PutMode::Create)
            .unwrap();
    }
    truth.delete_now(&path("a"));
    let names = |view: ListView| -> Vec<String> {
        let listed = truth.list_as(None, &view).into_iter();
        listed.map(|meta| meta.location.to_string()).collect()
    };
    assert_eq!(names(ListView::default()), ["b", "c", "d"]);
    let stale = ListView {
        misses_newest: 2,
        ..ListView::default()
    };
    assert_eq!(names(stale), ["b", "c"]);
    let ghosts = ListView {
        shows_deleted: 5,
        ..ListView::default()
    };
    assert_eq!(names(ghosts), ["a", "b", "c", "d"]);
    let mut orders = BTreeMap::new();
    for seed in 0..20 {
        let shuffled = ListView {
            shuffled: Some(seed),
            ..ListView::default()
        };
        *orders.entry(names(shuffled)).or_insert(0) += 1;
    }
    assert!(orders.len() > 3, "{orders:?}");
}

#[test]
fn a_fork_goes_its_own_way() {
    let truth = Truth::new();
    truth
        .put_now(&path("a"), "1".into(), &PutMode::Create)
        .unwrap();
    let fork = truth.fork();
    fork.delete_now(&path("a"));
    fork.replace(&path("a"), "rot".into());
    assert_eq!(truth.body(&path("a")).as_deref(), Some(&b"1"[..]));
    truth.replace(&path("a"), "rot".into());
    assert_eq!(truth.body(&path("a")).as_deref(), Some(&b"rot"[..]));
}
