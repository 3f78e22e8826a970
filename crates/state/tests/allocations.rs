//! What memory answers is answered without allocating: counted, in a binary of its own, because the counting allocator is that of the process.
use std::sync::Arc;

use aquifer_state::access::StateAccess;
use aquifer_state::{
    BackendKind, KeyedStateStore, MapState, MapStateDescriptor, ValueState, ValueStateDescriptor,
    open_backend,
};
use aquifer_store::{BlockCache, Environment, KeyGroupRange, StoreOptions};
use futures_util::FutureExt;
use object_store::memory::InMemory;

fn store(kind: BackendKind, runtime: &tokio::runtime::Runtime) -> KeyedStateStore<u32> {
    let range = KeyGroupRange { start: 0, end: 127 };
    let environment = Environment::new(
        Arc::new(InMemory::new()),
        "job/shared".into(),
        runtime.handle().clone(),
        BlockCache::new(8 << 20),
        "w0",
    );
    let options = StoreOptions::default();
    let backend = open_backend(kind, environment, options, range, vec![], vec![]).unwrap();
    let access = StateAccess::new(backend, runtime.handle().clone(), range, 128, true);
    KeyedStateStore::new(access, "op")
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
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_time()
        .build()
        .unwrap();
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
