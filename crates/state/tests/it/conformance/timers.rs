//! Timers.
use aquifer_state::TimerService;
use aquifer_testkit::Rng;

use crate::cases::conformance;
use crate::world::{MAX_PARALLELISM, Saved, World, checkpoint_all};

conformance!(
    timers_fire_in_order_once,
    timers_registered_while_firing_fire_in_the_same_round,
    the_greatest_timestamp_fires_at_the_end,
    timers_survive_a_restore,
    many_timers_come_in_bounded_pieces,
    random_timers_agree_with_a_model,
    a_key_group_holds_only_its_own_timers,
    processing_time_timers_fire_at_their_time,
    timers_of_a_namespace_are_listed_and_removed,
    a_service_asked_for_twice_is_one,
);

fn key(i: u64) -> (u16, Vec<u8>) {
    (
        (i % u64::from(MAX_PARALLELISM)) as u16,
        format!("k{i}").into_bytes(),
    )
}

fn add(timers: &TimerService, timestamp: i64, i: u64, namespace: &[u8]) {
    let (group, key) = key(i);
    timers.register(timestamp, group, &key, namespace).unwrap();
}

fn timers_fire_in_order_once(world: &World) {
    let worker = world.worker();
    let timers = worker
        .store::<Vec<u8>>("op")
        .timer_service("window")
        .unwrap();
    for (timestamp, i) in [(30, 1), (10, 2), (20, 3), (-5, 4), (10, 5), (40, 1)] {
        add(&timers, timestamp, i, b"");
        add(&timers, timestamp, i, b"");
    }
    add(&timers, 10, 2, b"another namespace");
    let (group, deleted) = key(3);
    timers.delete(20, group, &deleted, b"").unwrap();
    timers.delete(21, group, &deleted, b"").unwrap();
    assert!(worker.fire(&timers, -6).is_empty());
    assert_eq!(worker.fire(&timers, 9), [(-5, b"k4".to_vec(), vec![])]);
    let mut at_ten = worker.fire(&timers, 29);
    at_ten.sort();
    assert_eq!(
        at_ten,
        [
            (10, b"k2".to_vec(), vec![]),
            (10, b"k2".to_vec(), b"another namespace".to_vec()),
            (10, b"k5".to_vec(), vec![])
        ]
    );
    assert!(worker.fire(&timers, 29).is_empty());
    assert_eq!(timers.current_watermark(), 29);
    assert_eq!(
        worker
            .fire(&timers, 100)
            .iter()
            .map(|t| t.0)
            .collect::<Vec<_>>(),
        [30, 40]
    );
    // A timer in the past fires with the next watermark.
    add(&timers, 3, 9, b"");
    assert_eq!(worker.fire(&timers, 101), [(3, b"k9".to_vec(), vec![])]);
}

/// Flink's asynchronous timers lose these when no watermark follows: the last window of a bounded input.
fn timers_registered_while_firing_fire_in_the_same_round(world: &World) {
    let worker = world.worker();
    let timers = worker
        .store::<Vec<u8>>("op")
        .timer_service("window")
        .unwrap();
    add(&timers, 5, 1, b"");
    let mut fired = Vec::new();
    worker.run(async {
        while let Some(piece) = timers.next_due(i64::MAX).await.unwrap() {
            for timer in piece {
                fired.push(timer.timestamp);
                if timer.timestamp < 50 {
                    // Like a hopping window: each firing registers the next one, for other keys as well.
                    add(&timers, timer.timestamp + 10, 1, b"");
                    add(&timers, timer.timestamp + 10, 2, b"");
                }
            }
        }
    });
    fired.dedup();
    assert_eq!(fired, [5, 15, 25, 35, 45, 55]);
    assert!(worker.fire(&timers, i64::MAX).is_empty());
}

fn the_greatest_timestamp_fires_at_the_end(world: &World) {
    let worker = world.worker();
    let timers = worker
        .store::<Vec<u8>>("op")
        .timer_service("cleanup")
        .unwrap();
    add(&timers, i64::MAX, 1, b"");
    add(&timers, i64::MIN, 2, b"");
    assert_eq!(worker.fire(&timers, i64::MAX - 1).len(), 1);
    assert_eq!(worker.fire(&timers, i64::MAX).len(), 1);
    assert!(worker.fire(&timers, i64::MAX).is_empty());
}

fn timers_survive_a_restore(world: &World) {
    let worker = world.worker();
    let timers = worker
        .store::<Vec<u8>>("op")
        .timer_service("window")
        .unwrap();
    for i in 0..200 {
        add(&timers, (i * 37 % 200) as i64, i, b"ns");
    }
    assert_eq!(worker.fire(&timers, 49).len(), 50);
    let saved = worker.checkpoint(1);
    // What happens after the barrier is undone.
    assert_eq!(worker.fire(&timers, 99).len(), 50);
    drop((timers, worker));

    let workers = world.workers(3, &saved);
    let mut fired = Vec::new();
    for worker in &workers {
        let timers = worker
            .store::<Vec<u8>>("op")
            .timer_service("window")
            .unwrap();
        let part = worker.fire(&timers, 120);
        assert!(part.is_sorted_by_key(|t| t.0));
        fired.extend(part.into_iter().map(|t| t.0));
    }
    fired.sort_unstable();
    assert_eq!(fired, (50..=120).collect::<Vec<i64>>());
    let saved: Saved = checkpoint_all(&workers, 2);
    let worker = world.restore(&saved);
    let timers = worker
        .store::<Vec<u8>>("op")
        .timer_service("window")
        .unwrap();
    assert_eq!(worker.fire(&timers, 1000).len(), 79);
}

fn many_timers_come_in_bounded_pieces(world: &World) {
    let worker = world.worker();
    let timers = worker
        .store::<Vec<u8>>("op")
        .timer_service("window")
        .unwrap();
    // Many of the same timestamp in one key group, so that a piece ends in the middle of a timestamp.
    for i in 0..6000u64 {
        timers
            .register((i / 3000) as i64, 3, format!("{i:05}").as_bytes(), b"")
            .unwrap();
    }
    for i in 0..600 {
        add(&timers, (i % 3) as i64, i, b"x");
    }
    let mut fired = Vec::new();
    let mut pieces = 0;
    while let Some(piece) = worker.run(timers.next_due(2)).unwrap() {
        assert!(piece.len() <= 5000, "{} timers at once", piece.len());
        pieces += 1;
        fired.extend(piece.into_iter().map(|t| (t.timestamp, t.key, t.namespace)));
    }
    assert!(pieces > 1);
    assert!(fired.is_sorted_by_key(|t| t.0));
    assert_eq!(fired.len(), 6600);
    fired.sort();
    fired.dedup();
    assert_eq!(fired.len(), 6600, "none came twice");
}

fn random_timers_agree_with_a_model(world: &World) {
    let mut rng = Rng::new(11);
    let mut worker = world.worker();
    let mut timers = worker
        .store::<Vec<u8>>("op")
        .timer_service("window")
        .unwrap();
    let mut model = std::collections::BTreeSet::new();
    let mut watermark = 0;
    for step in 0..3000u64 {
        let timestamp = watermark + rng.below(40) as i64 - 5;
        let i = rng.below(60);
        match rng.below(10) {
            0..=5 => {
                add(&timers, timestamp, i, b"");
                model.insert((timestamp, key(i).1));
            }
            6..=7 => {
                let (group, bytes) = key(i);
                timers.delete(timestamp, group, &bytes, b"").unwrap();
                model.remove(&(timestamp, bytes));
            }
            8 => {
                watermark += rng.below(12) as i64;
                let fired = worker.fire(&timers, watermark);
                assert!(fired.is_sorted_by_key(|t| t.0), "step {step}");
                let mut fired: Vec<_> = fired.into_iter().map(|t| (t.0, t.1)).collect();
                fired.sort();
                let later = model.split_off(&(watermark + 1, vec![]));
                let due = std::mem::replace(&mut model, later);
                assert_eq!(fired, due.into_iter().collect::<Vec<_>>(), "step {step}");
            }
            _ if step % 20 == 0 => {
                let saved = worker.checkpoint(step);
                worker = world.restore(&saved);
                timers = worker
                    .store::<Vec<u8>>("op")
                    .timer_service("window")
                    .unwrap();
            }
            _ => {
                worker.backend.borrow_mut().poll().unwrap();
            }
        }
    }
}

fn a_key_group_holds_only_its_own_timers(world: &World) {
    let workers = world.workers(2, &Saved::default());
    for worker in &workers {
        let timers = worker.store::<Vec<u8>>("op").timer_service("t").unwrap();
        for i in (0..1000).filter(|i| worker.range.contains(key(*i).0)) {
            add(&timers, (i % 37) as i64, i, b"");
        }
    }
    for (worker, expected) in workers.iter().zip([0..=7, 8..=15]) {
        let timers = worker.store::<Vec<u8>>("op").timer_service("t").unwrap();
        let mut groups = std::collections::BTreeMap::new();
        while let Some(piece) = worker.run(timers.next_due(100)).unwrap() {
            for timer in piece {
                *groups.entry(timer.group).or_insert(0) += 1;
            }
        }
        assert!(
            groups.keys().copied().eq(expected.clone()),
            "{}",
            world.name()
        );
        for (group, count) in groups {
            let of_group = (0..1000).filter(|i| key(*i).0 == group).count();
            assert_eq!(count, of_group);
        }
    }
}

fn processing_time_timers_fire_at_their_time(world: &World) {
    let open = |worker: &crate::world::Worker| {
        let store = worker.store::<Vec<u8>>("op");
        let processing = store.processing_timers("t").unwrap();
        let event = store.timer_service("t").unwrap();
        (store, processing, event)
    };
    let worker = world.worker();
    let (store, processing, event) = open(&worker);
    add(&event, 15, 1, b"");
    for timestamp in [10, 20, 20, 30] {
        add(&processing, timestamp, 1, b"");
    }
    let fire = |worker: &crate::world::Worker, timers: &TimerService, now: i64| -> Vec<i64> {
        world.at(now);
        worker
            .fire(timers, now)
            .into_iter()
            .map(|timer| timer.0)
            .collect()
    };
    // Nobody has looked yet, so nothing is known.
    assert!(processing.first_bound().is_some_and(|bound| bound <= 10));
    assert!(fire(&worker, &processing, 9).is_empty());
    assert_eq!(processing.first_bound(), Some(10));
    assert_eq!(fire(&worker, &processing, 19), [10]);
    assert_eq!(fire(&worker, &processing, 20), [20]);
    assert_eq!(processing.first_bound(), Some(30));
    assert_eq!(store.processing_time_ms(), 20);
    let saved = worker.checkpoint(1);
    world.at(40);
    let worker = world.restore(&saved);
    let (store, processing, event) = open(&worker);
    assert_eq!(fire(&worker, &processing, store.processing_time_ms()), [30]);
    assert_eq!(processing.first_bound(), None);
    assert!(fire(&worker, &event, 14).is_empty());
    assert_eq!(fire(&worker, &event, 15), [15]);
}

fn timers_of_a_namespace_are_listed_and_removed(world: &World) {
    let worker = world.worker();
    let timers = worker.store::<Vec<u8>>("op").timer_service("t").unwrap();
    for i in 0..300 {
        add(&timers, (i % 10) as i64, i, b"a");
        add(&timers, (i % 10) as i64, i, b"b");
    }
    let worker = world.restore(&worker.checkpoint(1));
    let timers = worker.store::<Vec<u8>>("op").timer_service("t").unwrap();
    let mut listed = Vec::new();
    let list = timers.for_each(b"a", |timer| {
        listed.push((timer.group, timer.timestamp, timer.key));
        Ok(())
    });
    worker.run(list).unwrap();
    assert_eq!(listed.len(), 300);
    assert!(listed.is_sorted_by_key(|(group, timestamp, _)| (*group, *timestamp)));
    worker.run(timers.delete_all(b"a")).unwrap();
    let fired = worker.fire(&timers, 100);
    assert_eq!(fired.len(), 300);
    assert!(
        fired.iter().all(|timer| timer.2 == b"b"),
        "{}",
        world.name()
    );
}

/// The second service had bounds of its own, which a timer of the first did not lower: it never fired.
fn a_service_asked_for_twice_is_one(world: &World) {
    let worker = world.worker();
    let store = worker.store::<Vec<u8>>("op");
    let first = store.timer_service("t").unwrap();
    let second = store.timer_service("t").unwrap();
    assert!(worker.fire(&second, 0).is_empty());
    add(&first, 5, 1, b"");
    assert_eq!(second.first_bound(), Some(5));
    assert_eq!(second.current_watermark(), 0);
    assert_eq!(worker.fire(&second, 10), [(5, b"k1".to_vec(), vec![])]);
    assert!(worker.fire(&first, 10).is_empty());
    // Other names and the other time are other services.
    let other = store.timer_service("u").unwrap();
    let processing = store.processing_timers("t").unwrap();
    add(&other, 15, 2, b"");
    add(&processing, 16, 3, b"");
    assert!(worker.fire(&first, 20).is_empty());
    assert_eq!(worker.fire(&other, 20), [(15, b"k2".to_vec(), vec![])]);
    assert_eq!(worker.fire(&processing, 20), [(16, b"k3".to_vec(), vec![])]);
}
