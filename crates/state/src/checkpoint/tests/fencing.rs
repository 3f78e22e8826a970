//! Attempts: claimed once each, older ones fenced, finished jobs left alone.

use aquifer_testkit::{Fault, RequestKind};

use super::*;

#[tokio::test]
async fn a_new_attempt_copies_the_latest_checkpoint_and_the_zombie_loses() {
    for place in places() {
        let zombie = place.create().await;
        zombie.begin_attempt().await.unwrap();
        commit(&zombie, 1, 1).await;
        commit(&zombie, 1, 2).await;
        let (storage, _) = place.find().await;
        let (attempt, restored) = storage.begin_attempt().await.unwrap();
        let fence = CheckpointMetadata {
            attempt: 2,
            checkpoint_id: 3,
            ..metadata(1, 2, &[])
        };
        assert_eq!((attempt, restored.as_ref()), (2, Some(&fence)));
        assert_eq!(storage.latest().await.unwrap().unwrap(), fence);
        assert_eq!(commit(&zombie, 1, 3).await, CommitOutcome::Lost);
        assert_eq!(commit(&zombie, 1, 3).await, CommitOutcome::Lost);
        assert_eq!(
            commit(&zombie, 1, 4).await,
            CommitOutcome::Lost,
            "a loser stays one"
        );
        assert_eq!(commit(&storage, 2, 4).await, CommitOutcome::Committed);
        assert_eq!(storage.completed().await.unwrap(), [1, 2, 3, 4]);
    }
}

#[tokio::test]
async fn a_restart_in_the_same_process_replaces_the_old_attempt() {
    let place = &places()[0];
    let storage = place.create().await;
    storage.begin_attempt().await.unwrap();
    commit(&storage, 1, 1).await;
    let old = storage.clone();
    assert_eq!(storage.begin_attempt().await.unwrap().0, 2);
    assert_eq!(commit(&old, 1, 2).await, CommitOutcome::Lost);
    assert_eq!(commit(&storage, 2, 3).await, CommitOutcome::Committed);
}

/// A put that was sent before the fence can land when the fence has long been discarded. If discarding freed the name, the zombie
/// would believe that it has committed, and its sinks would publish rows twice.
#[tokio::test]
async fn a_late_put_finds_its_name_taken_even_after_the_fence_was_discarded() {
    for place in places() {
        let zombie = place.create().await;
        zombie.begin_attempt().await.unwrap();
        commit(&zombie, 1, 1).await;
        let (first, _) = place.find().await;
        first.begin_attempt().await.unwrap();
        for id in 3..=8 {
            assert_eq!(commit(&first, 2, id).await, CommitOutcome::Committed);
            first.discard(id - 2).await.unwrap();
            first.discard(id - 1).await.unwrap();
        }
        // The next attempt discards what the one before it fenced with, too.
        let (second, _) = place.find().await;
        second.begin_attempt().await.unwrap();
        second.discard(8).await.unwrap();
        assert_eq!(commit(&second, 3, 10).await, CommitOutcome::Committed);
        second.discard(9).await.unwrap();
        assert_eq!(commit(&zombie, 1, 2).await, CommitOutcome::Lost);
        assert_eq!(commit(&first, 2, 9).await, CommitOutcome::Lost);
        assert_eq!(second.completed().await.unwrap(), [10]);
        // Names that no zombie can try are freed.
        let names = place.names().await;
        assert!(
            names.iter().any(|name| name.contains("chk-000002")),
            "{names:?}"
        );
        assert!(
            !names.iter().any(|name| name.contains("chk-000005")),
            "{names:?}"
        );
    }
}

#[tokio::test]
async fn before_the_first_checkpoint_one_of_two_attempts_wins() {
    for place in places() {
        place.create().await;
        let ((first, _), (second, _)) = (place.find().await, place.find().await);
        assert_eq!(first.begin_attempt().await.unwrap(), (1, None));
        assert_eq!(second.begin_attempt().await.unwrap(), (2, None));
        assert_eq!(commit(&first, 1, 1).await, CommitOutcome::Committed);
        assert_eq!(commit(&second, 2, 1).await, CommitOutcome::Lost);
        let (third, _) = place.find().await;
        let (attempt, restored) = third.begin_attempt().await.unwrap();
        assert_eq!((attempt, restored.map(|r| r.checkpoint_id)), (3, Some(2)));
        commit(&third, 3, 3).await;
        third.discard(1).await.unwrap();
        // Checkpoint 1 was discarded, but its name is not free for a late first commit.
        assert_eq!(
            commit(&place.find().await.0, 2, 1).await,
            CommitOutcome::Lost
        );
    }
}

#[tokio::test]
async fn a_zombie_that_is_faster_than_the_fence_is_followed() {
    let place = &places()[0];
    let zombie = place.create().await;
    zombie.begin_attempt().await.unwrap();
    commit(&zombie, 1, 1).await;
    let (storage, objects) = place.find().await;
    // Each of the next three puts of the new attempt (its claim and two fences) is preceded by a commit of the zombie.
    let next = Arc::new(AtomicU64::new(2));
    objects.set_hook(Some(Arc::new(move |kind| {
        let (zombie, next) = (zombie.clone(), next.clone());
        Box::pin(async move {
            if kind == RequestKind::Put {
                let id = next.fetch_add(1, Ordering::Relaxed);
                if id <= 4 {
                    assert_eq!(commit(&zombie, 1, id).await, CommitOutcome::Committed);
                }
            }
        })
    })));
    let (attempt, restored) = storage.begin_attempt().await.unwrap();
    let restored = restored.unwrap();
    assert_eq!(
        (attempt, restored.checkpoint_id, restored.attempt),
        (2, 5, 2)
    );
}

/// The new attempt was slow: before its copy arrived, the old coordinator, alive after all, had committed that id, gone on and
/// discarded it. The name was free, the copy was created, and two coordinators believed that they were the only one.
#[tokio::test]
async fn a_slow_fence_on_a_name_that_was_freed_does_not_count() {
    for retained in [1, 2] {
        for place in places() {
            let living = place.create().await;
            living.begin_attempt().await.unwrap();
            for id in 1..=4 {
                commit(&living, 1, id).await;
            }
            for id in 1..4 {
                living.discard(id).await.unwrap();
            }
            let (storage, objects) = place.find().await;
            let (busy, puts) = (living.clone(), Arc::new(AtomicU64::new(0)));
            objects.set_hook(Some(Arc::new(move |kind| {
                let (busy, puts) = (busy.clone(), puts.clone());
                Box::pin(async move {
                    // The first put claims the attempt, the second is the copy of checkpoint 4.
                    if kind == RequestKind::Put && puts.fetch_add(1, Ordering::Relaxed) == 1 {
                        for id in 5..=9 {
                            assert_eq!(commit(&busy, 1, id).await, CommitOutcome::Committed);
                            busy.discard(id - retained).await.unwrap();
                        }
                    }
                })
            })));
            let (attempt, restored) = storage.begin_attempt().await.unwrap();
            let restored = restored.unwrap();
            assert_eq!((attempt, restored.checkpoint_id), (2, 10));
            assert_eq!(commit(&living, 1, 10).await, CommitOutcome::Lost);
            assert_eq!(commit(&storage, 2, 11).await, CommitOutcome::Committed);
            let completed = storage.completed().await.unwrap();
            assert_eq!(
                completed,
                if retained == 1 {
                    vec![9, 10, 11]
                } else {
                    vec![8, 9, 10, 11]
                }
            );
        }
    }
}

#[tokio::test]
async fn checkpoints_are_discarded_in_order() {
    let place = &places()[0];
    place.create().await;
    let (storage, objects) = place.find().await;
    storage.begin_attempt().await.unwrap();
    for id in 1..=9 {
        commit(&storage, 1, id).await;
    }
    storage.discard(1).await.unwrap();
    // One that fails comes first the next time, and until then nothing newer goes.
    for id in 2..=3 {
        objects.fail_next(RequestKind::Delete, Fault::ErrorNotApplied);
        assert!(storage.discard(id).await.is_err());
        assert_eq!(storage.completed().await.unwrap(), [2, 3, 4, 5, 6, 7, 8, 9]);
    }
    // Calls that overtake each other take the older ones along.
    storage.discard(4).await.unwrap();
    assert_eq!(storage.completed().await.unwrap(), [5, 6, 7, 8, 9]);
    storage.discard(3).await.unwrap();
    // A restarted process learns what is left when it asks for it.
    let (storage, _) = place.find().await;
    storage.begin_attempt().await.unwrap();
    assert_eq!(storage.completed().await.unwrap(), [5, 6, 7, 8, 9, 10]);
    storage.discard(8).await.unwrap();
    assert_eq!(storage.completed().await.unwrap(), [9, 10]);
}

#[tokio::test]
async fn attempts_are_claimed_once_even_when_the_answer_is_lost() {
    for place in places() {
        place.create().await;
        let (storage, objects) = place.find().await;
        objects.fail_next(RequestKind::Put, Fault::ErrorApplied);
        assert_eq!(
            storage.begin_attempt().await.unwrap().0,
            2,
            "1 may be somebody else's"
        );
        objects.fail_next(RequestKind::Put, Fault::ErrorNotApplied);
        assert_eq!(storage.begin_attempt().await.unwrap().0, 3);
        let many = futures_util::future::join_all(
            (0..6).map(|_| async { place.find().await.0.begin_attempt().await.unwrap().0 }),
        );
        let mut attempts = many.await;
        attempts.sort_unstable();
        assert_eq!(attempts, [4, 5, 6, 7, 8, 9]);
        // The fence's answer is lost, too.
        commit(&storage, 3, 1).await;
        let (storage, objects) = place.find().await;
        objects.set_hook(Some(lose_second_put(objects.clone())));
        let (attempt, restored) = storage.begin_attempt().await.unwrap();
        let restored = restored.unwrap();
        assert_eq!(
            (attempt, restored.checkpoint_id, restored.attempt),
            (10, 2, 10)
        );
    }
}

fn lose_second_put(objects: FaultyObjects) -> aquifer_testkit::Hook {
    let puts = Arc::new(AtomicU64::new(0));
    Arc::new(move |kind| {
        if kind == RequestKind::Put && puts.fetch_add(1, Ordering::Relaxed) == 1 {
            objects.fail_next(kind, Fault::ErrorApplied);
        }
        Box::pin(std::future::ready(()))
    })
}

#[tokio::test]
async fn a_finished_job_is_not_begun_again() {
    for place in places() {
        let storage = place.create().await;
        storage.begin_attempt().await.unwrap();
        commit(&storage, 1, 1).await;
        let last = CheckpointMetadata {
            finished: true,
            ..metadata(1, 2, &[])
        };
        assert_eq!(
            storage.commit(&last).await.unwrap(),
            CommitOutcome::Committed
        );
        let before = place.names().await;
        let (found, objects) = place.find().await;
        objects.take_counts();
        assert_eq!(
            found.begin_attempt().await.unwrap(),
            (1, Some(last.clone()))
        );
        assert_eq!(objects.counts().requests(RequestKind::Put), 0);
        assert_eq!(place.names().await, before);
    }
}
