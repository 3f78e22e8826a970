//! What memory answers is answered without allocating: counted, in a binary of its own, because the counting allocator is that of the process.
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use aquifer_state::access::StateAccess;
use aquifer_state::{
    BackendKind, KeyedStateStore, MapState, MapStateDescriptor, ValueState, ValueStateDescriptor,
    open_backend,
};
use aquifer_store::{BlockCache, Environment, KeyGroupRange, StoreOptions};
use futures_util::FutureExt;
use object_store::memory::InMemory;

fn store(kind: BackendKind, runtime: &tokio::runtime::Runtime) -> KeyedStateStore<u32> {
    KeyedStateStore::new(access(kind, runtime, 128).0, "op")
}

/// A worker with all of so many key groups, and what is told when it is to poll its backend.
fn access(
    kind: BackendKind,
    runtime: &tokio::runtime::Runtime,
    key_groups: u16,
) -> (StateAccess, Receiver<()>) {
    let range = KeyGroupRange {
        start: 0,
        end: key_groups - 1,
    };
    let (wake, woken) = channel();
    let mut environment = Environment::new(
        Arc::new(InMemory::new()),
        "job/shared".into(),
        runtime.handle().clone(),
        BlockCache::new(8 << 20),
        "w0",
    );
    environment.waker = Arc::new(move || {
        let _ = wake.send(());
    });
    let options = StoreOptions::default();
    let backend = open_backend(kind, environment, options, range, vec![], vec![]).unwrap();
    let handle = runtime.handle().clone();
    let access = StateAccess::new(backend, handle, range, key_groups, true);
    (access, woken)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_time()
        .build()
        .unwrap()
}

fn count(what: &str, rounds: u64, act: impl Fn(u32)) {
    // The first round fills what is kept for the others.
    act(0);
    let counted = allocation_counter::measure(|| {
        for round in 1..rounds {
            act(round as u32 % 100);
        }
    });
    assert_eq!(counted.count_total, 0, "{what}: {counted:?}");
}

#[test]
fn hot_reads_allocate_nothing() {
    let runtime = runtime();
    for kind in [BackendKind::Hashmap, BackendKind::Forst] {
        let store = store(kind, &runtime);
        let value: ValueState<u64> = store.value_state(&ValueStateDescriptor::new("v")).unwrap();
        let map: MapState<u32, u64> = store.map_state(&MapStateDescriptor::new("m")).unwrap();
        for key in 0..100 {
            store.set_current_key(&key);
            value.put(u64::from(key)).unwrap();
            map.put(&7, &u64::from(key)).unwrap();
        }
        count(&format!("get, {kind:?}"), 1000, |key| {
            store.set_current_key(&key);
            let found = value.get().now_or_never().unwrap().unwrap();
            assert_eq!(found, Some(u64::from(key)));
        });
        count(&format!("value, {kind:?}"), 1000, |key| {
            store.set_current_key(&key);
            assert_eq!(value.value().unwrap(), Some(u64::from(key)));
        });
        count(
            &format!("get of what is not there, {kind:?}"),
            1000,
            |key| {
                store.set_current_key(&(key + 1000));
                assert_eq!(value.get().now_or_never().unwrap().unwrap(), None);
            },
        );
        count(&format!("get of a map, {kind:?}"), 1000, |key| {
            store.set_current_key(&key);
            let found = map.get(&7).now_or_never().unwrap().unwrap();
            assert_eq!(found, Some(u64::from(key)));
        });
    }
}

/// A barrier on the heap made a list and a layer for each key group. Of a gigabyte, a tenth of a second was spent in that: the allocator looked
/// through what had been freed just before.
#[test]
fn a_barrier_on_the_heap_allocates_as_little_for_many_key_groups_as_for_few() {
    let runtime = runtime();
    let allocations = |key_groups: u16| {
        let (access, woken) = access(BackendKind::Hashmap, &runtime, key_groups);
        let backend = access.backend().clone();
        let store: KeyedStateStore<u32> = KeyedStateStore::new(access, "op");
        let value: ValueState<u64> = store.value_state(&ValueStateDescriptor::new("v")).unwrap();
        let write = || {
            for key in 0..20_000 {
                store.set_current_key(&key);
                value.put(u64::from(key)).unwrap();
            }
        };
        write();
        let (_, table) = backend.borrow().tables().remove(0);
        backend.borrow_mut().freeze(table).unwrap();
        backend.borrow_mut().snapshot(1).unwrap();
        write();
        while backend.borrow_mut().poll().unwrap().is_none() {
            woken.recv().unwrap();
        }
        // It asks for another poll as long as there is something to fold.
        while woken.try_recv().is_ok() {
            backend.borrow_mut().poll().unwrap();
        }
        write();
        let counted = allocation_counter::measure(|| {
            backend.borrow_mut().freeze(table).unwrap();
        });
        counted.count_total
    };
    let (few, many) = (allocations(4), allocations(1024));
    assert_eq!(few, many, "allocations of a barrier");
    assert!(many < 32, "{many} allocations");
}
