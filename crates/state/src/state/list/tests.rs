//! Chunks that nobody wrote, read through both APIs: what is whole comes, then an error, then the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aquifer_store::{BlockCache, Environment, KeyGroupRange, StoreOptions};
use futures_util::{FutureExt, StreamExt};
use object_store::memory::InMemory;

use super::*;
use crate::state::chunks::push_frame;
use crate::{BackendKind, KeyedStateStore, ListStateDescriptor, TtlConfig, open_backend};

const GROUPS: KeyGroupRange = KeyGroupRange { start: 0, end: 7 };

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_time()
        .build()
        .unwrap()
}

/// A store of this kind, with a current key, and how often its clock was asked.
fn store(
    kind: BackendKind,
    runtime: &tokio::runtime::Runtime,
) -> (KeyedStateStore<u32>, Arc<AtomicU64>) {
    let asked = Arc::new(AtomicU64::new(0));
    let mut environment = Environment::new(
        Arc::new(InMemory::new()),
        "job/shared".into(),
        runtime.handle().clone(),
        BlockCache::new(8 << 20),
        "w0",
    );
    let counted = Arc::clone(&asked);
    environment.clock = Arc::new(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        1_000
    });
    let options = StoreOptions::default();
    let backend = open_backend(kind, environment, options, GROUPS, vec![], vec![]).unwrap();
    let access = StateAccess::new(backend, runtime.handle().clone(), GROUPS, 8, true);
    let store = KeyedStateStore::new(access, "op");
    store.set_current_key(&1);
    (store, asked)
}

/// Puts bytes in the place of the current key's only chunk.
fn put_chunk(list: &ListState<i64>, bytes: &[u8]) {
    let ListPlace::Rows(chunks) = &list.place else {
        panic!("this backend keeps rows");
    };
    let rows = chunks.rows();
    list.scope
        .with(|group, prefix| rows.put(group, &[prefix, &[0; 8]].concat(), bytes))
        .unwrap()
        .unwrap();
}

/// What a chunk holds, read slowly: the elements before the first one that is damaged, and whether there is such a one.
fn expected(mut chunk: &[u8]) -> (Vec<i64>, bool) {
    let mut elements = Vec::new();
    while !chunk.is_empty() {
        // Headers are written as postcard writes integers.
        let Ok((header, rest)) = postcard::take_from_bytes::<u64>(chunk) else {
            return (elements, true);
        };
        let time_bytes = (header & 1) as usize * 8;
        let end = usize::try_from(header >> 1)
            .unwrap()
            .checked_add(time_bytes);
        let Some((frame, rest)) = end.and_then(|end| rest.split_at_checked(end)) else {
            return (elements, true);
        };
        match postcard::take_from_bytes(&frame[time_bytes..]) {
            Ok((element, [])) => elements.push(element),
            _ => return (elements, true),
        }
        chunk = rest;
    }
    (elements, false)
}

fn check(list: &ListState<i64>, chunk: &[u8]) {
    put_chunk(list, chunk);
    let (elements, damaged) = expected(chunk);
    let mut blocking = list.sync().get();
    let mut stream = list.get();
    let both: [&mut dyn FnMut() -> Option<Result<i64, StateError>>; 2] =
        [&mut || blocking.next(), &mut || {
            stream.next().now_or_never().unwrap()
        }];
    for next in both {
        for element in &elements {
            assert_eq!(next().unwrap().unwrap(), *element, "{chunk:?}");
        }
        if damaged {
            let error = next().unwrap().unwrap_err();
            assert!(matches!(error, StateError::Corrupt(_)), "{error}");
            assert!(error.to_string().contains("`list`"), "{error}");
        }
        assert!(next().is_none(), "{chunk:?}");
    }
}

/// More elements than are decoded at once, of each length, some with a time.
fn sample() -> Vec<u8> {
    let mut chunk = Vec::new();
    for i in 0..100u32 {
        let element = 0x5a5a_5a5a_5a5a_5a5ai64 >> (i * 7 % 64);
        let time_ms = i.is_multiple_of(9).then_some(i64::from(i));
        let bytes = postcard::to_allocvec(&if i % 2 == 0 { element } else { -element });
        push_frame(&mut chunk, time_ms, &bytes.unwrap());
    }
    chunk
}

#[test]
fn damaged_chunks_end_in_an_error_and_never_panic() {
    let runtime = runtime();
    let (store, _) = store(BackendKind::Forst, &runtime);
    let list = store.list_state(&ListStateDescriptor::new("list")).unwrap();
    let sample = sample();
    check(&list, &sample);
    assert_eq!(expected(&sample).0.len(), 100);
    for cut in 0..sample.len() {
        check(&list, &sample[..cut]);
    }
    for at in 0..sample.len() {
        let mut damaged = sample.clone();
        for byte in [0, 1, 0x10, 0x7f, 0x80, 0xff, !sample[at]] {
            damaged[at] = byte;
            check(&list, &damaged);
        }
    }
    for hostile in [&[0xff; 9][..], &[0xff; 10], &[0xff; 11], &[0x80; 12]] {
        check(&list, &[&sample, hostile].concat());
        check(&list, hostile);
    }
}

#[test]
fn elements_are_cut_into_rows_where_they_fill_one() {
    let mut scratch = (Vec::new(), Vec::new());
    let mut writer = FrameWriter {
        frames: &mut scratch.0,
        cuts: &mut scratch.1,
        row_start: 0,
        row_bytes_max: 10,
        time_ms: None,
    };
    for bytes in [3, 3, 3, 40, 0, 0, 9] {
        let written = writer.push(|out| {
            out.extend_from_slice(&vec![7; bytes]);
            Ok(())
        });
        written.unwrap();
    }
    let failed = writer.push(|out| {
        out.push(1);
        Err(StateError::User("no".into()))
    });
    assert!(failed.is_err());
    writer.push_frame(Frame {
        time_ms: Some(5),
        bytes: b"x",
    });
    // A row ends with the element that makes it long enough.
    assert_eq!(*writer.cuts, [12, 53, 65, 75]);
    assert_eq!(writer.frames.len(), 75);
}

#[test]
fn the_clock_is_asked_for_a_list_and_not_for_its_elements() {
    let runtime = runtime();
    for kind in [BackendKind::Forst, BackendKind::Hashmap] {
        let (store, asked) = store(kind, &runtime);
        let ttl = TtlConfig::new(Duration::from_secs(60));
        let descriptor = ListStateDescriptor::<i64>::new("list").ttl(ttl);
        let list = store.list_state(&descriptor).unwrap();
        let elements: Vec<i64> = (0..500).collect();
        list.update(&elements).unwrap();
        list.add_all(&elements).unwrap();
        let before = asked.load(Ordering::Relaxed);
        let seen: Result<Vec<i64>, _> = list.sync().get().collect();
        assert_eq!(seen.unwrap(), [&elements[..], &elements].concat());
        let times = asked.load(Ordering::Relaxed) - before;
        assert!(times <= 10, "{kind:?}: {times} times");
    }
}
