//! Bytes in, bytes out: reads, multi-gets and scans through `StateAccess`, and what a backend refuses.
use std::collections::BTreeMap;

use aquifer_state::access::{Keys, StateAccess, Values};
use aquifer_state::{StateDescription, StateError};
use aquifer_store::{TableId, TableOptions};
use aquifer_testkit::Rng;

use crate::cases::conformance;
use crate::world::{MAX_PARALLELISM, Worker, World};

conformance!(
    reads_agree_with_a_model,
    other_workers_key_groups_are_refused,
    unknown_tables_are_refused,
    empty_keys_and_values_are_values,
    prefetched_keys_are_hot,
    large_values_survive,
);

pub fn table(worker: &Worker, state: &str, ordered: bool) -> TableId {
    worker
        .backend
        .borrow_mut()
        .register(&StateDescription::raw(
            "op",
            state,
            TableOptions {
                ordered,
                ..TableOptions::default()
            },
            "raw",
        ))
        .unwrap()
}

fn get(world: &World, worker: &Worker, table: TableId, group: u16, key: &[u8]) -> Option<Vec<u8>> {
    let access = &worker.access;
    if world.asynchronous.get() {
        worker.run(access.get(table, group, key))
    } else {
        access.get_blocking(table, group, key)
    }
    .unwrap()
    .map(|value| value.to_vec())
}

type Model = BTreeMap<(u16, Vec<u8>), Vec<u8>>;

fn scan_all(
    worker: &Worker,
    table: TableId,
    group: u16,
    prefix: &[u8],
    until: Option<&[u8]>,
    piece: usize,
) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut rows = Vec::new();
    let mut from = prefix.to_vec();
    loop {
        let answer = worker
            .run(
                worker
                    .access
                    .scan(table, group, prefix, &from, until, piece),
            )
            .unwrap();
        assert!(answer.rows.len() <= piece);
        if let Some((key, _)) = answer.rows.last() {
            from = [key, &[0][..]].concat();
        }
        rows.extend(answer.rows.iter().map(|(k, v)| (k.to_vec(), v.to_vec())));
        if answer.done {
            return rows;
        }
    }
}

fn multi_get(
    access: &StateAccess,
    worker: &Worker,
    table: TableId,
    keys: &Keys,
) -> Vec<Option<Vec<u8>>> {
    let mut values = Values::default();
    worker
        .run(access.multi_get(table, keys, &mut values))
        .unwrap();
    assert_eq!(values.len(), keys.len());
    values
        .iter()
        .map(|value| value.map(<[u8]>::to_vec))
        .collect()
}

fn reads_agree_with_a_model(world: &World) {
    let mut rng = Rng::new(5);
    let worker = world.worker();
    let tables = [
        table(&worker, "hashed", false),
        table(&worker, "ordered", true),
    ];
    let mut models = [Model::new(), Model::new()];
    for step in 0..4000u64 {
        let which = rng.below(2) as usize;
        let (table, model) = (tables[which], &mut models[which]);
        let group = rng.below(u64::from(MAX_PARALLELISM)) as u16;
        let key = vec![rng.below(5) as u8, rng.below(40) as u8];
        match rng.below(12) {
            0..=5 => {
                let value = vec![rng.below(256) as u8; rng.below(60) as usize];
                worker.access.put(table, group, &key, &value).unwrap();
                model.insert((group, key), value);
            }
            6..=7 => {
                worker.access.delete(table, group, &key).unwrap();
                model.remove(&(group, key));
            }
            8..=9 => {
                assert_eq!(
                    get(world, &worker, table, group, &key).as_ref(),
                    model.get(&(group, key)),
                    "step {step}"
                );
            }
            10 => {
                let mut keys = Keys::default();
                let mut expected = Vec::new();
                for _ in 0..rng.below(50) {
                    let group = rng.below(u64::from(MAX_PARALLELISM)) as u16;
                    let key = vec![rng.below(5) as u8, rng.below(40) as u8];
                    keys.push(group, &key);
                    expected.push(model.get(&(group, key)).cloned());
                }
                assert_eq!(
                    multi_get(&worker.access, &worker, table, &keys),
                    expected,
                    "step {step}"
                );
            }
            _ => {
                let prefix = &key[..rng.below(2) as usize];
                let until = rng.chance(300).then_some(&[3u8, 20][..]);
                let expected: Vec<_> = model
                    .range((group, prefix.to_vec())..)
                    .take_while(|((g, k), _)| {
                        *g == group
                            && k.starts_with(prefix)
                            && until.is_none_or(|u| k.as_slice() < u)
                    })
                    .map(|((_, k), v)| (k.clone(), v.clone()))
                    .collect();
                let piece = 1 + rng.below(20) as usize;
                assert_eq!(
                    scan_all(&worker, table, group, prefix, until, piece),
                    expected,
                    "step {step}"
                );
            }
        }
        if step % 16 == 0 {
            worker.backend.borrow_mut().poll().unwrap();
        }
    }
}

fn other_workers_key_groups_are_refused(world: &World) {
    let worker = world.workers(3, &Default::default()).remove(1);
    let table = table(&worker, "s", true);
    let refused = |result: Result<(), StateError>| match result {
        Err(StateError::Usage(text)) => assert!(text.contains("key group"), "{text}"),
        other => panic!("expected a usage error, got {other:?}"),
    };
    for group in [worker.range.start - 1, worker.range.end + 1] {
        refused(worker.access.put(table, group, b"k", b"v"));
        refused(worker.access.delete(table, group, b"k"));
        refused(worker.access.get_blocking(table, group, b"k").map(|_| ()));
        refused(
            worker
                .access
                .scan_blocking(table, group, b"", b"", None, 1)
                .map(|_| ()),
        );
        let mut keys = Keys::default();
        keys.push(worker.range.start, b"k");
        keys.push(group, b"k");
        refused(
            worker
                .access
                .multi_get_blocking(table, &keys, &mut Values::default()),
        );
    }
    worker
        .access
        .put(table, worker.range.start, b"k", b"v")
        .unwrap();
    worker
        .access
        .put(table, worker.range.end, b"k", b"v")
        .unwrap();
}

fn unknown_tables_are_refused(world: &World) {
    let worker = world.worker();
    assert!(worker.access.put(TableId(9), 0, b"k", b"v").is_err());
    assert!(worker.access.get_blocking(TableId(9), 0, b"k").is_err());
    assert!(worker.backend.borrow_mut().freeze(TableId(9)).is_err());
}

fn empty_keys_and_values_are_values(world: &World) {
    let worker = world.worker();
    for ordered in [false, true] {
        let table = table(&worker, &format!("{ordered}"), ordered);
        assert_eq!(get(world, &worker, table, 0, b""), None);
        worker.access.put(table, 0, b"", b"").unwrap();
        assert_eq!(get(world, &worker, table, 0, b""), Some(vec![]));
        assert_eq!(
            scan_all(&worker, table, 0, b"", None, 10),
            [(vec![], vec![])]
        );
        let mut keys = Keys::default();
        keys.push(0, b"");
        keys.push(0, b"x");
        assert_eq!(
            multi_get(&worker.access, &worker, table, &keys),
            [Some(vec![]), None]
        );
        keys.clear();
        assert!(keys.is_empty());
        assert_eq!(
            multi_get(&worker.access, &worker, table, &keys),
            [] as [Option<Vec<u8>>; 0]
        );
    }
}

fn prefetched_keys_are_hot(world: &World) {
    let saved = {
        let worker = world.worker();
        let table = table(&worker, "s", false);
        for i in 0..200u32 {
            worker
                .access
                .put(table, (i % 16) as u16, &i.to_be_bytes(), &[i as u8; 20])
                .unwrap();
        }
        worker.checkpoint(1)
    };
    let worker = world.restore(&saved);
    let table = table(&worker, "s", false);
    let mut keys = Keys::default();
    for i in 0..20u32 {
        keys.push((i % 16) as u16, &i.to_be_bytes());
    }
    if let Some(loading) = worker.access.prefetch(table, &keys).unwrap() {
        worker.run(loading).unwrap();
        assert!(
            worker.access.prefetch(table, &keys).unwrap().is_none(),
            "everything is hot now"
        );
    } else {
        let cold =
            world.kind.get() == aquifer_state::BackendKind::Forst && world.asynchronous.get();
        assert!(!cold, "after a restore the keys must have been cold");
    }
    let values = multi_get(&worker.access, &worker, table, &keys);
    assert_eq!(
        values,
        (0..20u8).map(|i| Some(vec![i; 20])).collect::<Vec<_>>()
    );
}

fn large_values_survive(world: &World) {
    let worker = world.worker();
    let name = table(&worker, "s", false);
    let large: Vec<u8> = (0..300_000u32).map(|i| (i % 251) as u8).collect();
    for i in 0..4u8 {
        worker
            .access
            .put(name, 0, &[i], &large[usize::from(i)..])
            .unwrap();
    }
    let saved = worker.checkpoint(1);
    let worker = world.restore(&saved);
    let name = table(&worker, "s", false);
    for i in 0..4u8 {
        assert_eq!(
            get(world, &worker, name, 0, &[i]).as_deref(),
            Some(&large[usize::from(i)..])
        );
    }
}
