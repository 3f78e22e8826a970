//! List state.
use std::time::Duration;

use aquifer_state::serializer::{Postcard, Serializer};
use aquifer_state::{
    BackendKind, KeyedStateStore, ListState, ListStateDescriptor, StateError, TtlConfig,
    ValueState, ValueStateDescriptor,
};
use aquifer_testkit::{RequestKind, Rng};
use futures_util::StreamExt;

use crate::cases::{all, ask, conformance};
use crate::world::{Worker, World, checkpoint_all, owner};

conformance!(
    elements_keep_their_order,
    two_snapshots_restore_as_of_their_time,
    none_is_an_element_like_another,
    an_add_or_update_that_fails_changes_nothing,
    updating_with_nothing_clears_and_adding_nothing_does_nothing,
    an_absent_list_is_empty,
    clearing_a_long_list_leaves_nothing,
    a_list_outgrows_every_chunk,
    a_list_goes_on_on_another_backend,
    random_lists_agree_with_a_model,
);

type Numbers = ListState<i32>;

fn numbers(worker: &Worker) -> (KeyedStateStore<u32>, Numbers) {
    let store = worker.store::<u32>("op");
    let list = store.list_state(&ListStateDescriptor::new("l")).unwrap();
    (store, list)
}

fn read(worker: &Worker, store: &KeyedStateStore<u32>, list: &Numbers, key: u32) -> Vec<i32> {
    store.set_current_key(&key);
    let read = all!(worker, list.get());
    assert_eq!(ask!(worker, list.is_empty()), read.is_empty());
    read
}

fn elements_keep_their_order(world: &World) {
    let worker = world.worker();
    let (store, list) = numbers(&worker);
    store.set_current_key(&1);
    for element in [17, 3, 17] {
        list.add(&element).unwrap();
    }
    store.set_current_key(&2);
    list.add(&4).unwrap();
    assert_eq!(read(&worker, &store, &list, 1), [17, 3, 17]);
    assert_eq!(read(&worker, &store, &list, 2), [4]);
    store.set_current_key(&1);
    list.add_all(&[5, 6]).unwrap();
    assert_eq!(read(&worker, &store, &list, 1), [17, 3, 17, 5, 6]);
    // Over flushes: the other keys fill the memtable.
    for i in 0..40 {
        store.set_current_key(&1);
        list.add(&i).unwrap();
        for other in 10..60 {
            store.set_current_key(&other);
            list.add_all(&[i; 20]).unwrap();
        }
        worker.backend.borrow_mut().poll().unwrap();
    }
    let expected: Vec<i32> = [17, 3, 17, 5, 6].into_iter().chain(0..40).collect();
    assert_eq!(
        read(&worker, &store, &list, 1),
        expected,
        "{}",
        world.name()
    );
    let other: Vec<i32> = (0..40).flat_map(|i| [i; 20]).collect();
    assert_eq!(read(&worker, &store, &list, 59), other);
}

fn two_snapshots_restore_as_of_their_time(world: &World) {
    let worker = world.worker();
    let (store, list) = numbers(&worker);
    let add = |key: u32, elements: &[i32]| {
        store.set_current_key(&key);
        list.add_all(elements).unwrap();
    };
    add(1, &[1, 2]);
    add(2, &[3]);
    let first = worker.checkpoint(1);
    add(1, &[9]);
    add(2, &[9]);
    store.set_current_key(&3);
    list.update(&[7]).unwrap();
    let second = worker.checkpoint(2);
    for (saved, expected) in [
        (&first, [vec![1, 2], vec![3], vec![]]),
        (&second, [vec![1, 2, 9], vec![3, 9], vec![7]]),
        (&first, [vec![1, 2], vec![3], vec![]]),
    ] {
        let worker = world.restore(saved);
        let (store, list) = numbers(&worker);
        for (key, expected) in (1..).zip(expected) {
            assert_eq!(
                read(&worker, &store, &list, key),
                expected,
                "key {key}, {}",
                world.name()
            );
        }
    }
}

fn none_is_an_element_like_another(world: &World) {
    let open = |worker: &Worker| {
        let store = worker.store::<u32>("op");
        let options: ListState<Option<i32>> = store
            .list_state(&ListStateDescriptor::new("options"))
            .unwrap();
        let units: ListState<()> = store
            .list_state(&ListStateDescriptor::new("units"))
            .unwrap();
        store.set_current_key(&1);
        (options, units)
    };
    let check = |worker: &Worker, options: &ListState<Option<i32>>, units: &ListState<()>| {
        assert_eq!(all!(worker, options.get()), [None, Some(1), None]);
        assert_eq!(all!(worker, units.get()).len(), 3);
    };
    let worker = world.worker();
    let (options, units) = open(&worker);
    options.add_all(&[None, Some(1), None]).unwrap();
    units.add_all(&[(), (), ()]).unwrap();
    check(&worker, &options, &units);
    let worker = world.restore(&worker.checkpoint(1));
    let (options, units) = open(&worker);
    check(&worker, &options, &units);
}

/// Numbers but 13.
#[derive(Clone, Default)]
struct No13(Postcard<i32>);

impl Serializer<i32> for No13 {
    fn serialize(&self, value: &i32, out: &mut Vec<u8>) -> Result<(), StateError> {
        if *value == 13 {
            return Err(StateError::Usage("13 cannot be serialized".into()));
        }
        self.0.serialize(value, out)
    }

    fn deserialize(&self, bytes: &[u8]) -> Result<i32, StateError> {
        self.0.deserialize(bytes)
    }

    fn layout(&self) -> String {
        "no-13".into()
    }
}

/// On the heap elements become bytes in snapshots only, so there a value that cannot is found then.
fn an_add_or_update_that_fails_changes_nothing(world: &World) {
    if world.kind.get() == BackendKind::Hashmap {
        return;
    }
    let worker = world.worker();
    let store = worker.store::<u32>("op");
    let descriptor = ListStateDescriptor::<i32, No13>::new("l");
    let list = store.list_state(&descriptor).unwrap();
    store.set_current_key(&1);
    list.add(&1).unwrap();
    assert!(matches!(list.add(&13), Err(StateError::Usage(_))));
    assert!(matches!(
        list.add_all(&[2, 13, 3]),
        Err(StateError::Usage(_))
    ));
    assert!(matches!(list.update(&[2, 13]), Err(StateError::Usage(_))));
    assert_eq!(all!(worker, list.get()), [1]);
    list.add(&2).unwrap();
    assert_eq!(all!(worker, list.get()), [1, 2]);
}

fn updating_with_nothing_clears_and_adding_nothing_does_nothing(world: &World) {
    let worker = world.worker();
    let (store, list) = numbers(&worker);
    store.set_current_key(&1);
    list.add_all(&[1, 2]).unwrap();
    list.add_all(&[]).unwrap();
    assert_eq!(read(&worker, &store, &list, 1), [1, 2]);
    list.update(&[9, 8]).unwrap();
    assert_eq!(read(&worker, &store, &list, 1), [9, 8]);
    assert_eq!(ask!(worker, store.entry_count(&list)), 1);
    list.update(&[]).unwrap();
    assert!(read(&worker, &store, &list, 1).is_empty());
    assert_eq!(ask!(worker, store.entry_count(&list)), 0);
    list.clear().unwrap();
    store.set_current_key(&2);
    list.add_all(&[]).unwrap();
    assert_eq!(ask!(worker, store.entry_count(&list)), 0);
    let worker = world.restore(&worker.checkpoint(1));
    let (store, list) = numbers(&worker);
    assert!(read(&worker, &store, &list, 1).is_empty());
}

fn an_absent_list_is_empty(world: &World) {
    let worker = world.worker();
    let (store, list) = numbers(&worker);
    assert!(read(&worker, &store, &list, 1).is_empty());
    list.add(&1).unwrap();
    list.clear().unwrap();
    assert!(read(&worker, &store, &list, 1).is_empty());
    let worker = world.restore(&worker.checkpoint(1));
    let (store, list) = numbers(&worker);
    assert!(read(&worker, &store, &list, 1).is_empty());
}

fn clearing_a_long_list_leaves_nothing(world: &World) {
    let worker = world.worker();
    let store = worker.store::<u32>("op");
    let descriptor = ListStateDescriptor::<i32>::new("l").chunk_bytes_max(1024);
    let list = store.list_state(&descriptor).unwrap();
    store.set_current_key(&1);
    for i in 0..10_000 {
        list.add(&i).unwrap();
        if i % 1000 == 0 {
            worker.backend.borrow_mut().poll().unwrap();
        }
    }
    assert_eq!(all!(worker, list.get()).len(), 10_000);
    list.clear().unwrap();
    list.add(&1).unwrap();
    assert_eq!(all!(worker, list.get()), [1]);
    assert_eq!(worker.rows("l").len(), 1, "{}", world.name());
    let worker = world.restore(&worker.checkpoint(1));
    let (store, list) = numbers(&worker);
    assert_eq!(read(&worker, &store, &list, 1), [1]);
    assert_eq!(worker.rows("l").len(), 1);
}

/// Flink's lists are one value and end at 2 GiB, on RocksDB without an error. Ours are chunks: here of 1 KiB.
fn a_list_outgrows_every_chunk(world: &World) {
    let open = |worker: &Worker| {
        let store = worker.store::<u32>("op");
        let descriptor = ListStateDescriptor::<Vec<u8>>::new("l").chunk_bytes_max(1024);
        let list = store.list_state(&descriptor).unwrap();
        (store, list)
    };
    let element = |i: usize| vec![i as u8; 50 + i % 100];
    let worker = world.worker();
    let (store, list) = open(&worker);
    store.set_current_key(&1);
    for i in 0..2000 {
        list.add(&element(i)).unwrap();
    }
    let many: Vec<Vec<u8>> = (2000..3000).map(element).collect();
    list.add_all(&many).unwrap();
    let expected: Vec<Vec<u8>> = (0..3000).map(element).collect();
    assert_eq!(all!(worker, list.get()), expected);
    if world.kind.get() == BackendKind::Forst {
        let rows = worker.rows("l");
        assert!(rows.len() > 100, "{} rows", rows.len());
        let longest = rows.iter().map(|(_, frames)| frames.len()).max().unwrap();
        assert!(longest <= 2048, "{longest} bytes in one row");
    }
    let worker = world.restore(&worker.checkpoint(1));
    let (store, list) = open(&worker);
    store.set_current_key(&1);
    list.add(&vec![1, 2, 3]).unwrap();
    let mut expected = expected;
    expected.push(vec![1, 2, 3]);
    assert_eq!(all!(worker, list.get()), expected);
    // A list that is replaced by a long one is cut into chunks as well.
    list.update(&expected[..500]).unwrap();
    assert_eq!(all!(worker, list.get()), expected[..500]);
    list.update(&expected[..1]).unwrap();
    assert_eq!(all!(worker, list.get()), expected[..1]);
    assert_eq!(worker.rows("l").len(), 1);
}

fn a_list_goes_on_on_another_backend(world: &World) {
    let open = |worker: &Worker| {
        let store = worker.store::<u32>("op");
        let descriptor = ListStateDescriptor::<u64>::new("l").chunk_bytes_max(64);
        let list = store.list_state(&descriptor).unwrap();
        (store, list)
    };
    let mut expected = Vec::new();
    let mut saved = None;
    for round in 0..6u64 {
        let worker = match &saved {
            None => world.worker(),
            Some(saved) => world.restore(saved),
        };
        let (store, list) = open(&worker);
        store.set_current_key(&1);
        assert_eq!(
            all!(worker, list.get()),
            expected,
            "round {round}, {}",
            world.name()
        );
        for i in 0..50 {
            list.add(&(round * 1000 + i)).unwrap();
            expected.push(round * 1000 + i);
        }
        assert_eq!(all!(worker, list.get()), expected);
        saved = Some(worker.checkpoint(round + 1));
        world.kind.set(crate::cases::after(world.kind.get()));
    }
}

fn random_lists_agree_with_a_model(world: &World) {
    let mut rng = Rng::new(5);
    let open = |workers: &[Worker]| -> Vec<(KeyedStateStore<u32>, ListState<u32>)> {
        let open = |worker: &Worker| {
            let store = worker.store::<u32>("op");
            let descriptor = ListStateDescriptor::<u32>::new("l").chunk_bytes_max(200);
            let list = store.list_state(&descriptor).unwrap();
            (store, list)
        };
        workers.iter().map(open).collect()
    };
    let mut workers = world.workers(1, &crate::world::Saved::default());
    let mut states = open(&workers);
    let mut model = vec![Vec::<u32>::new(); 30];
    for step in 0..4000u64 {
        let key = rng.below(30) as u32;
        let at = workers.iter().position(|worker| worker.owns(&key)).unwrap();
        let (worker, (store, list)) = (&workers[at], &states[at]);
        let known = &mut model[key as usize];
        store.set_current_key(&key);
        let some: Vec<u32> = (0..rng.below(60) as u32)
            .map(|i| step as u32 * 100 + i)
            .collect();
        match rng.below(20) {
            0..=8 => {
                list.add(&(step as u32)).unwrap();
                known.push(step as u32);
            }
            9..=10 => {
                list.add_all(&some).unwrap();
                known.extend(&some);
            }
            11 => {
                list.update(&some).unwrap();
                known.clone_from(&some);
            }
            12 => {
                list.clear().unwrap();
                known.clear();
            }
            13..=17 => assert_eq!(
                &all!(worker, list.get()),
                known,
                "step {step}, {}",
                world.name()
            ),
            18 => drop(worker.backend.borrow_mut().poll().unwrap()),
            _ if step % 8 == 0 => {
                let saved = checkpoint_all(&workers, step);
                workers = world.workers(1 + rng.below(3) as u16, &saved);
                states = open(&workers);
            }
            _ => {}
        }
    }
    for (key, expected) in (0..).zip(&model) {
        let worker = owner(&workers, &key);
        let at = workers.iter().position(|worker| worker.owns(&key)).unwrap();
        let (store, list) = &states[at];
        store.set_current_key(&key);
        assert_eq!(
            &all!(worker, list.get()),
            expected,
            "key {key}, {}",
            world.name()
        );
    }
}

/// An element is appended without looking at the list it belongs to, though all of it lies in files.
#[test]
fn adding_reads_nothing() {
    let world = World::forst(true);
    let open = |worker: &Worker| {
        let store = worker.store::<u32>("op");
        let list: ListState<u32> = store.list_state(&ListStateDescriptor::new("l")).unwrap();
        (store, list)
    };
    let worker = world.worker();
    let (store, list) = open(&worker);
    for key in 0..200 {
        store.set_current_key(&key);
        list.add_all(&[key, 1]).unwrap();
    }
    let worker = world.restore(&worker.checkpoint(1));
    let (store, list) = open(&worker);
    let before = world.objects.counts();
    for key in 0..200 {
        store.set_current_key(&key);
        list.add(&2).unwrap();
    }
    let gets =
        world.objects.counts().requests(RequestKind::Get) - before.requests(RequestKind::Get);
    assert_eq!(gets, 0);
    for key in 0..200 {
        store.set_current_key(&key);
        assert_eq!(all!(worker, list.get()), [key, 1, 2]);
    }
}

/// A stream that is dropped early has not read the list to its end.
#[test]
fn a_long_list_is_read_in_pieces() {
    let mut world = World::forst(true);
    world.options.value_aside_bytes = 256;
    world.cache_bytes = 0;
    let open = |worker: &Worker| {
        let store = worker.store::<u32>("op");
        let descriptor = ListStateDescriptor::<Vec<u8>>::new("l").chunk_bytes_max(4096);
        let list = store.list_state(&descriptor).unwrap();
        store.set_current_key(&1);
        list
    };
    let worker = world.worker();
    let list = open(&worker);
    for i in 0..10_000u32 {
        list.add(&i.to_be_bytes().repeat(25)).unwrap();
    }
    // What compactions read is not counted, and how many files there are does not depend on how far they have come.
    let saved = worker.settled(1);
    let bytes_of = |take: usize| {
        let worker = world.restore(&saved);
        let list = open(&worker);
        let before = world.objects.counts().bytes_read;
        let read = worker.run(list.get().take(take).collect::<Vec<_>>());
        let expected = (0..10_000u32)
            .take(take)
            .map(|i| i.to_be_bytes().repeat(25));
        assert!(read.into_iter().map(Result::unwrap).eq(expected));
        world.objects.counts().bytes_read - before
    };
    let (all, few) = (bytes_of(10_000), bytes_of(10));
    assert!(
        few * 4 < all,
        "{few} bytes for 10 elements, {all} for 10,000"
    );
}

/// Reading another state and waiting for it on the way through a list changes nothing.
#[test]
fn a_list_may_be_read_while_other_state_is() {
    let world = World::forst(true);
    let open = |worker: &Worker| {
        let store = worker.store::<u32>("op");
        let list: ListState<u32> = store.list_state(&ListStateDescriptor::new("l")).unwrap();
        let value: ValueState<u32> = store.value_state(&ValueStateDescriptor::new("v")).unwrap();
        (store, list, value)
    };
    let worker = world.worker();
    let (store, list, value) = open(&worker);
    for key in 0..50 {
        store.set_current_key(&key);
        list.add_all(&[1, 2, 3]).unwrap();
        value.put(key).unwrap();
    }
    let worker = world.restore(&worker.checkpoint(1));
    let (store, list, value) = open(&worker);
    store.set_current_key(&7);
    let sum = worker.run(async {
        let mut sum = 0;
        let mut elements = list.get();
        let other = value.get();
        // The list belongs to key 7, whatever is current when it is read.
        store.set_current_key(&8);
        while let Some(element) = elements.next().await {
            sum += element.unwrap() * 100 + value.get().await.unwrap().unwrap();
        }
        sum + other.await.unwrap().unwrap()
    });
    assert_eq!(sum, 600 + 3 * 8 + 7);
}

/// A table with a TTL begins a new chunk with the time, and lists were looked for in all chunks there had ever been: after a while every
/// read was a scan. What has expired is not looked for: neither in a job that goes on and on nor after a restore.
#[test]
fn lists_with_a_ttl_are_read_by_point_for_ever() {
    const TTL_MS: i64 = 600;
    let mut world = World::forst(true);
    world.cache_bytes = 4 << 20;
    let open = |worker: &Worker| {
        let store = worker.store::<u32>("op");
        let ttl = TtlConfig::new(Duration::from_millis(TTL_MS as u64));
        let list: Numbers = store
            .list_state(&ListStateDescriptor::new("l").ttl(ttl))
            .unwrap();
        (store, list)
    };
    let chunks = |worker: &Worker| {
        let tables = worker.backend.borrow().tables();
        let mut backend = worker.backend.borrow_mut();
        backend.list_chunk(tables[0].1, false).unwrap()
    };
    let mut worker = world.worker();
    let (mut store, mut list) = open(&worker);
    let mut written: Vec<(i64, i32)> = Vec::new();
    let mut points = 0;
    for step in 0..200 {
        let now_ms = i64::from(step) * 20;
        world.at(now_ms);
        if step % 60 == 59 {
            let saved = worker.settled(u64::from(step as u32) * 1000);
            worker = world.restore(&saved);
            (store, list) = open(&worker);
        }
        for key in 0..5 {
            store.set_current_key(&key);
            list.add(&step).unwrap();
        }
        written.push((now_ms, step));
        written.retain(|(time, _)| time + TTL_MS > now_ms);
        let live: Vec<i32> = written.iter().map(|(_, element)| *element).collect();
        for key in 0..5 {
            assert_eq!(read(&worker, &store, &list, key), live, "step {step}");
        }
        let chunk = chunks(&worker);
        points += i32::from(chunk.number - chunk.oldest < 8);
    }
    assert!(
        chunks(&worker).number > 30,
        "the time makes chunks: {:?}",
        chunks(&worker)
    );
    assert!(points > 190, "{points} of 200 reads were of few chunks");
    // Each chunk that counts is one row of one list, and only those are read.
    let saved = worker.settled(1_000_000);
    let worker = world.restore(&saved);
    let (store, list) = open(&worker);
    let rows = worker.rows("l").len();
    assert!(rows <= 5 * 8, "{rows} rows");
    let cold_reads = |worker: &Worker| worker.backend.borrow().stats().cold_reads;
    let before = cold_reads(&worker);
    read(&worker, &store, &list, 3);
    let reads = cold_reads(&worker) - before;
    assert!((1..=8).contains(&reads), "{reads} cold reads");
}
