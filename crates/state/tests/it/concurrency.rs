//! Many records at once on one worker: a read that waits must never return a value that is no longer the newest.
use aquifer_state::access::{Keys, Values};
use aquifer_state::{BackendKind, StateDescription, ValueState, ValueStateDescriptor};
use aquifer_store::{Merge, TableOptions};
use aquifer_testkit::{RequestKind, Rng};
use futures_util::future::{join, join_all, try_join_all};

use crate::backends::table;
use crate::world::{Saved, Worker, World};

fn cold_world() -> World {
    World::forst(true)
}

fn counts(worker: &Worker) -> (aquifer_state::KeyedStateStore<u32>, ValueState<u64>) {
    let store = worker.store::<u32>("op");
    let state = store
        .value_state(&ValueStateDescriptor::new("count"))
        .unwrap();
    (store, state)
}

fn saved_counts(world: &World, keys: u32) -> Saved {
    let worker = world.worker();
    let (store, state) = counts(&worker);
    for key in 0..keys {
        store.set_current_key(&key);
        state.put(u64::from(key)).unwrap();
    }
    worker.checkpoint(1)
}

#[test]
fn a_write_during_a_cold_read_wins() {
    let world = cold_world();
    let worker = world.restore(&saved_counts(&world, 100));
    let (store, state) = counts(&worker);
    store.set_current_key(&7);
    let read = state.get();
    assert!(!read.is_ready(), "the cache is empty");
    let (value, ()) = worker.run(join(read, async {
        store.set_current_key(&7);
        state.put(1000).unwrap();
    }));
    assert_eq!(value.unwrap(), Some(1000));
    store.set_current_key(&8);
    let read = state.get();
    let (value, ()) = worker.run(join(read, async {
        store.set_current_key(&8);
        state.clear().unwrap();
    }));
    assert_eq!(value.unwrap(), None);
}

/// The newer value is already in a file when the read comes back: the memtable holds nothing any more, and still the old must not win.
#[test]
fn a_write_that_was_flushed_during_a_cold_read_wins() {
    flushed_during_a_cold_read(64 << 10);
}

/// The same when even the new file is cold, so that memory cannot say anything at all: only the count of installs tells.
#[test]
fn a_write_that_was_flushed_and_evicted_during_a_cold_read_wins() {
    flushed_during_a_cold_read(0);
}

/// A list in a file that is cold, and an element that is appended while it is read: memory then knows a part of the list and must still
/// go to the file for the rest. That no file was installed meanwhile says nothing: the appended element must be in the answer.
#[test]
fn an_operand_that_comes_during_a_cold_read_is_in_the_answer() {
    let mut world = cold_world();
    // Even the blocks that the read fetches are not kept: the second look is as cold as the first.
    world.cache_bytes = 0;
    let lists = |worker: &Worker| {
        let options = TableOptions {
            ordered: true,
            merge: Merge::Append,
            ..TableOptions::default()
        };
        let description = StateDescription::raw("op", "list", options, "raw");
        let mut backend = worker.backend.borrow_mut();
        backend.register(&description).unwrap()
    };
    let saved = {
        let worker = world.worker();
        let table = lists(&worker);
        for key in [b"a", b"b"] {
            worker.access.merge(table, 3, key, b"1", None).unwrap();
        }
        worker.checkpoint(1)
    };
    let worker = world.restore(&saved);
    let table = lists(&worker);
    let access = &worker.access;
    let (value, ()) = worker.run(join(access.get(table, 3, b"a"), async {
        access.merge(table, 3, b"a", b"2", None).unwrap();
    }));
    assert_eq!(value.unwrap().as_deref(), Some(&b"12"[..]));
    // The same when memory has operands from the beginning, and for many keys at once.
    let mut keys = Keys::default();
    keys.push(3, b"a");
    keys.push(3, b"b");
    let mut values = Values::default();
    let (many, (value, ())) = worker.run(join(
        access.multi_get(table, &keys, &mut values),
        join(access.get(table, 3, b"a"), async {
            access.merge(table, 3, b"a", b"3", None).unwrap();
            access.merge(table, 3, b"b", b"4", None).unwrap();
        }),
    ));
    many.unwrap();
    assert_eq!(value.unwrap().as_deref(), Some(&b"123"[..]));
    let values: Vec<_> = values.iter().map(Option::unwrap).collect();
    assert_eq!(values, [&b"123"[..], b"14"]);
}

fn flushed_during_a_cold_read(cache_bytes: u64) {
    let mut world = cold_world();
    world.cache_bytes = cache_bytes;
    let worker = world.restore(&saved_counts(&world, 100));
    let (store, state) = counts(&worker);
    store.set_current_key(&7);
    let read = state.get();
    assert!(!read.is_ready());
    let table = store.tables()[0];
    let mut keys = Keys::default();
    store
        .current_key()
        .with(|group, key| keys.push(group, key))
        .unwrap();
    store.set_current_key(&9);
    store
        .current_key()
        .with(|group, key| keys.push(group, key))
        .unwrap();
    let mut values = Values::default();
    let many = worker.access.multi_get(table, &keys, &mut values);
    let installs = worker.backend.borrow().installs();
    let (value, (many, ())) = worker.run(join(
        read,
        join(many, async {
            store.set_current_key(&7);
            state.put(1000).unwrap();
            worker.checkpoint(2);
            assert!(
                worker.backend.borrow().installs() > installs,
                "the flush is installed"
            );
        }),
    ));
    many.unwrap();
    assert_eq!(value.unwrap(), Some(1000));
    assert_eq!(
        values.get(0),
        Some(&[0xe8, 0x07][..]),
        "1000 as postcard writes it"
    );
    assert_eq!(values.get(1), Some(&[9][..]));
}

#[test]
fn counters_of_many_keys_stay_exact_under_flushes() {
    exact_counters(64 << 10);
}

#[test]
fn counters_stay_exact_without_a_cache() {
    exact_counters(0);
}

fn exact_counters(cache_bytes: u64) {
    let mut world = cold_world();
    world.cache_bytes = cache_bytes;
    let mut saved = saved_counts(&world, 200);
    let mut expected: Vec<u64> = (0..200).collect();
    let mut rng = Rng::new(3);
    for round in 0..4 {
        let worker = world.restore(&saved);
        let (store, state) = counts(&worker);
        // One task per key works on its records in order; tasks of different keys overlap.
        let mut records = vec![0u64; 200];
        for _ in 0..3000 {
            records[rng.below(200) as usize] += 1;
        }
        let tasks = records.iter().enumerate().map(|(key, records)| {
            let (store, state, worker) = (&store, &state, &worker);
            async move {
                for _ in 0..*records {
                    store.set_current_key(&(key as u32));
                    let value = state.get().await.unwrap().unwrap();
                    store.set_current_key(&(key as u32));
                    state.put(value + 1).unwrap();
                    worker.backend.borrow_mut().poll().unwrap();
                }
            }
        });
        worker.run(join_all(tasks));
        for (expected, records) in expected.iter_mut().zip(&records) {
            *expected += records;
        }
        for (key, expected) in expected.iter().enumerate() {
            store.set_current_key(&(key as u32));
            assert_eq!(
                worker.value(&state),
                Some(*expected),
                "key {key} in round {round}"
            );
        }
        saved = worker.checkpoint(10 + round);
    }
}

#[test]
fn cold_reads_of_one_schedule_go_out_together() {
    let mut world = cold_world();
    // One file, so that neighbours can be coalesced.
    world.options.block_bytes = 1024;
    world.options.memtable_bytes_max = 16 << 20;
    world.options.file_bytes_target = 16 << 20;
    world.cache_bytes = 16 << 20;
    let saved = saved_counts(&world, 2000);
    let worker = world.restore(&saved);
    let (store, state) = counts(&worker);
    // The first read opens the file.
    store.set_current_key(&0);
    assert_eq!(worker.value(&state), Some(0));
    world.objects.take_counts();
    let reads: Vec<_> = (1..500)
        .map(|key| {
            store.set_current_key(&key);
            state.get()
        })
        .collect();
    let cold = reads.iter().filter(|read| !read.is_ready()).count();
    assert!(cold > 100, "only {cold} reads were cold");
    let all = worker.run(try_join_all(reads)).unwrap();
    assert_eq!(all, (1..500).map(Some).collect::<Vec<_>>());
    let requests = world.objects.take_counts().requests(RequestKind::Get);
    assert!(
        requests <= 16,
        "{requests} requests for {cold} cold reads of one schedule"
    );
    assert_eq!(worker.access.waiting(), 0);
}

#[test]
fn dropped_reads_wait_no_longer() {
    let world = cold_world();
    let worker = world.restore(&saved_counts(&world, 100));
    let (store, state) = counts(&worker);
    store.set_current_key(&7);
    let mut read = Box::pin(state.get());
    let waker = futures_util::task::noop_waker();
    let mut context = std::task::Context::from_waker(&waker);
    assert!(read.as_mut().poll(&mut context).is_pending());
    assert_eq!(worker.access.waiting(), 1);
    drop(read);
    assert_eq!(worker.access.waiting(), 0);
    worker.access.issue();
    store.set_current_key(&7);
    assert_eq!(worker.value(&state), Some(7));
}

#[test]
fn a_failing_read_is_an_error_for_everyone_who_waits() {
    use aquifer_testkit::FaultPlan;
    let world = cold_world();
    let worker = world.restore(&saved_counts(&world, 100));
    let (store, state) = counts(&worker);
    world.objects.set_plan(FaultPlan {
        crash_at: Some(0),
        ..FaultPlan::default()
    });
    let reads: Vec<_> = (0..10)
        .map(|key| {
            store.set_current_key(&key);
            state.get()
        })
        .collect();
    for answer in worker.run(join_all(reads)) {
        answer.unwrap_err();
    }
    store.set_current_key(&1);
    state.value().unwrap_err();
}

#[test]
fn a_scan_sees_writes_that_were_made_while_it_waited() {
    let world = cold_world();
    let saved = {
        let worker = world.worker();
        let rows = table(&worker, "s", true);
        for i in 0..200u8 {
            worker.access.put(rows, 0, &[i], b"old").unwrap();
        }
        worker.checkpoint(1)
    };
    let worker = world.restore(&saved);
    let rows = table(&worker, "s", true);
    let scan = worker.access.scan(rows, 0, b"", b"", None, 300);
    let (answer, ()) = worker.run(join(scan, async {
        worker.access.delete(rows, 0, &[3]).unwrap();
        worker.access.put(rows, 0, &[5], b"new").unwrap();
        worker.access.put(rows, 0, &[5, 5], b"new").unwrap();
    }));
    let answer = answer.unwrap().rows;
    assert_eq!(answer.len(), 200);
    assert!(answer.iter().all(|(key, _)| key[..] != [3]));
    assert_eq!(
        answer
            .iter()
            .filter(|(_, value)| value[..] == b"new"[..])
            .count(),
        2
    );
}

#[test]
fn the_heap_backend_never_waits() {
    let world = World::hashmap(true);
    let worker = world.restore(&saved_counts(&world, 100));
    assert_eq!(world.kind.get(), BackendKind::Hashmap);
    let (store, state) = counts(&worker);
    for key in 0..100 {
        store.set_current_key(&key);
        assert!(state.get().is_ready());
    }
}

/// The scan for due timers has started at the first timer known when another one is registered before it.
#[test]
fn timers_registered_while_a_scan_waits_fire_in_order() {
    let mut world = cold_world();
    world.cache_bytes = 0;
    let saved = {
        let worker = world.worker();
        let timers = worker.store::<u32>("op").timer_service("t").unwrap();
        for i in 0..300 {
            timers.register(100 + i, 3, b"k", b"").unwrap();
        }
        worker.checkpoint(1)
    };
    let worker = world.restore(&saved);
    let timers = worker.store::<u32>("op").timer_service("t").unwrap();
    assert_eq!(worker.fire(&timers, 100).len(), 1);
    let waiting = timers.next_due(395);
    let (first, ()) = worker.run(join(waiting, async {
        // The bound of the group is 101 by now.
        assert!(worker.access.waiting() > 0, "nothing is cached");
        timers.register(50, 3, b"early", b"").unwrap();
        timers.register(60, 5, b"elsewhere", b"").unwrap();
    }));
    let mut fired: Vec<i64> = first
        .unwrap()
        .unwrap()
        .iter()
        .map(|t| t.timestamp)
        .collect();
    fired.extend(worker.fire(&timers, 1000).iter().map(|t| t.0));
    assert_eq!(worker.access.waiting(), 0);
    assert_eq!(
        fired.iter().filter(|t| **t == 50 || **t == 60).count(),
        2,
        "{fired:?}"
    );
    assert_eq!(fired.len(), 301);
}
