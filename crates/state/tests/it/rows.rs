//! What rows are besides bytes: their times, operands, prefixes that are deleted, and what tables are besides their rows. All of it goes
//! through snapshots, on to the same backend or another one.
use aquifer_state::access::{Keys, Values};
use aquifer_state::serializer::{Compatibility, SerializerSnapshot, StateKind, StateSchema};
use aquifer_state::{InlineFile, KeyedSnapshot, ListChunk, StateDescription, StateError};
use aquifer_store::{Merge, TableId, TableOptions};
use bytes::Bytes;
use object_store::ObjectStoreExt;
use object_store::path::Path;

use crate::cases::{BACKENDS, conformance};
use crate::world::{Saved, Worker, World};

conformance!(
    times_stay_with_their_rows,
    operands_are_appended_and_prefixes_deleted,
    chunks_and_event_time_go_on_after_a_restore,
    inline_files_are_restored_and_not_named_again,
    the_serializers_verdict_counts,
);

fn register(worker: &Worker, state: &str, options: TableOptions) -> TableId {
    let description = StateDescription::raw("op", state, options, "raw");
    let mut backend = worker.backend.borrow_mut();
    backend.register(&description).unwrap()
}

fn with(change: impl FnOnce(&mut TableOptions)) -> TableOptions {
    let mut options = TableOptions::default();
    change(&mut options);
    options
}

type Timed = Option<(Vec<u8>, Option<i64>)>;

/// Values and times, by multi-get.
fn read(worker: &Worker, table: TableId, keys: &[&[u8]]) -> Vec<Timed> {
    let mut all = Keys::default();
    for key in keys {
        all.push(3, key);
    }
    let mut values = Values::default();
    let access = &worker.access;
    worker
        .run(access.multi_get(table, &all, &mut values))
        .unwrap();
    let values = values.iter().enumerate().map(|(at, value)| {
        let value = value?;
        Some((value.to_vec(), values.time_ms(at)))
    });
    values.collect()
}

/// Keys and times, by scan.
fn scanned(worker: &Worker, table: TableId) -> Vec<(Vec<u8>, Option<i64>)> {
    let access = &worker.access;
    let found = worker
        .run(access.scan(table, 3, b"", b"", None, 100))
        .unwrap();
    let rows = found.rows.iter().enumerate();
    rows.map(|(at, (key, _))| (key.to_vec(), found.time_ms(at)))
        .collect()
}

fn times_stay_with_their_rows(world: &World) {
    let kind = world.kind.get();
    let worker = world.worker();
    let tables = |worker: &Worker| {
        [true, false].map(|ordered| {
            let name = format!("ordered {ordered}");
            register(worker, &name, with(|options| options.ordered = ordered))
        })
    };
    let expect = |worker: &Worker| {
        for table in tables(worker) {
            let found = read(worker, table, &[b"a", b"b", b"c", b"d"]);
            let row = |value: &[u8], time| Some((value.to_vec(), time));
            let expected = [
                row(b"2", None),
                row(b"1", Some(-7)),
                None,
                row(b"4", Some(9)),
            ];
            assert_eq!(found, expected);
            let keys = [("a", None), ("b", Some(-7)), ("d", Some(9))];
            let keys = keys.map(|(key, time)| (key.as_bytes().to_vec(), time));
            assert_eq!(scanned(worker, table), keys);
        }
    };
    for table in tables(&worker) {
        let put = |key: &[u8], value: &[u8], time| {
            let access = &worker.access;
            access.put_at(table, 3, key, value, time).unwrap();
        };
        put(b"a", b"1", Some(5));
        put(b"a", b"2", None);
        put(b"b", b"1", Some(-8));
        put(b"b", b"1", Some(-7));
        put(b"c", b"1", Some(1));
        worker.access.delete(table, 3, b"c").unwrap();
        put(b"d", b"4", Some(9));
    }
    expect(&worker);
    let saved = worker.checkpoint(1);
    for &to in BACKENDS {
        world.kind.set(to);
        let next = world.restore(&saved);
        expect(&next);
        // And once more, from a worker that has only read.
        let saved = next.checkpoint(2);
        world.kind.set(kind);
        expect(&world.restore(&saved));
    }
}

fn operands_are_appended_and_prefixes_deleted(world: &World) {
    let lists = |worker: &Worker| {
        let options = with(|options| {
            options.ordered = true;
            options.merge = Merge::Append;
        });
        register(worker, "list", options)
    };
    let worker = world.worker();
    let table = lists(&worker);
    let merge = |worker: &Worker, key: &[u8], operand: &[u8], time| {
        let access = &worker.access;
        access.merge(table, 3, key, operand, time).unwrap()
    };
    merge(&worker, b"a1", b"x", None);
    assert!(merge(&worker, b"a1", b"yz", Some(4)) >= 3);
    merge(&worker, b"a2", b"1", None);
    merge(&worker, b"b1", b"2", None);
    let saved = worker.checkpoint(1);
    let worker = world.restore(&saved);
    assert_eq!(lists(&worker), table);
    merge(&worker, b"a1", b"w", Some(3));
    merge(&worker, b"c", b"3", None);
    let found = read(&worker, table, &[b"a1", b"a2", b"b1", b"c"]);
    let values: Vec<_> = found.into_iter().flatten().collect();
    let expected: [(&[u8], Option<i64>); 4] =
        [(b"xyzw", Some(4)), (b"1", None), (b"2", None), (b"3", None)];
    assert_eq!(values, expected.map(|(value, time)| (value.to_vec(), time)));
    worker.access.delete_prefix(table, 3, b"a").unwrap();
    worker.access.delete_prefix(table, 3, b"none").unwrap();
    let keys = |worker: &Worker| -> Vec<Vec<u8>> {
        let rows = scanned(worker, table).into_iter();
        rows.map(|(key, _)| key).collect()
    };
    assert_eq!(keys(&worker), [b"b1".to_vec(), b"c".to_vec()]);
    let saved = worker.checkpoint(2);
    for &kind in BACKENDS {
        world.kind.set(kind);
        let next = world.restore(&saved);
        lists(&next);
        assert_eq!(keys(&next), [b"b1".to_vec(), b"c".to_vec()]);
        next.access.delete_prefix(table, 3, b"").unwrap();
        assert!(keys(&next).is_empty());
    }
}

fn chunks_and_event_time_go_on_after_a_restore(world: &World) {
    let kind = world.kind.get();
    let open = |worker: &Worker| {
        let list = register(worker, "list", with(|o| o.merge = Merge::Append));
        let timed = with(|options| {
            options.ttl_ms = Some(100);
            options.event_time = true;
        });
        (list, register(worker, "timed", timed))
    };
    let chunk = |number| ListChunk { number, oldest: 0 };
    let worker = world.worker();
    let (list, timed) = open(&worker);
    let access = &worker.access;
    assert_eq!(access.list_chunk(list, false).unwrap(), chunk(0));
    assert_eq!(access.list_chunk(list, true).unwrap(), chunk(1));
    assert_eq!(access.list_chunk(list, true).unwrap(), chunk(2));
    assert_eq!(access.event_time(timed), None);
    access.advance_event_time(timed, 5_000).unwrap();
    access.advance_event_time(timed, 4_000).unwrap();
    assert_eq!(access.event_time(timed), Some(5_000));
    // What comes after the barrier is not in the snapshot.
    for table in [list, timed] {
        worker.backend.borrow_mut().freeze(table).unwrap();
    }
    access.advance_event_time(timed, 9_000).unwrap();
    worker.backend.borrow_mut().snapshot(1).unwrap();
    let saved = worker.finish(1);
    for &to in BACKENDS {
        world.kind.set(to);
        let next = world.restore(&saved);
        assert_eq!(open(&next), (list, timed));
        assert_eq!(next.access.list_chunk(list, false).unwrap(), chunk(2));
        assert_eq!(next.access.event_time(timed), Some(5_000));
        let again = next.checkpoint(2);
        assert_eq!(again.keyed[0].1.tables, saved.keyed[0].1.tables);
    }
    world.kind.set(kind);
}

/// Moves the bytes of every file into the metadata, as a backend does with small ones.
fn made_inline(world: &World, saved: &Saved) -> Saved {
    let mut saved = saved.clone();
    for (_, part) in &mut saved.keyed {
        for (number, file) in part.files.files.iter_mut().enumerate() {
            if KeyedSnapshot::inline_name(&file.path).is_some() {
                continue;
            }
            let path = Path::from(file.path.as_str());
            let bytes: Bytes = world.runtime.block_on(async {
                let found = world.objects.get(&path).await.unwrap();
                let bytes = found.bytes().await.unwrap();
                world.objects.delete(&path).await.unwrap();
                bytes
            });
            let name = format!("{number}.sst");
            file.path = KeyedSnapshot::inline_path(&name);
            part.inline.push(InlineFile { name, bytes });
        }
    }
    saved
}

fn inline_files_are_restored_and_not_named_again(world: &World) {
    let kind = world.kind.get();
    let tables = |worker: &Worker| {
        let list = with(|options| options.merge = Merge::Append);
        (
            register(worker, "values", TableOptions::default()),
            register(worker, "lists", list),
        )
    };
    let worker = world.worker();
    let (values, lists) = tables(&worker);
    for key in 0..100u8 {
        let access = &worker.access;
        let time = (key % 2 == 0).then_some(i64::from(key));
        access.put_at(values, 3, &[key], &[key; 9], time).unwrap();
        access.merge(lists, 3, &[key], &[key], None).unwrap();
    }
    let saved = worker.checkpoint(1);
    drop(worker);
    if !saved.keyed[0].1.databases.is_empty() {
        // Files of a database are never inline: they are named again.
        return;
    }
    let saved = made_inline(world, &saved);
    assert!(!saved.keyed[0].1.inline.is_empty());
    let expect = |worker: &Worker| {
        let (values, lists) = tables(worker);
        let found = read(worker, values, &[&[7], &[8], &[100]]);
        assert_eq!(
            found,
            [Some((vec![7; 9], None)), Some((vec![8; 9], Some(8))), None]
        );
        assert_eq!(scanned(worker, values).len(), 100);
        let found = read(worker, lists, &[&[7]]);
        assert_eq!(found, [Some((vec![7], None))]);
    };
    for &to in BACKENDS {
        world.kind.set(to);
        let next = world.restore(&saved);
        expect(&next);
        // A program that has forgotten one of its states keeps it none the less.
        let forgetful = world.restore(&saved);
        register(&forgetful, "lists", with(|o| o.merge = Merge::Append));
        for next in [next, forgetful] {
            let again = next.checkpoint(2);
            let known = &saved.keyed[0].1.inline;
            for file in &again.keyed[0].1.inline {
                assert!(known.iter().all(|old| old.name != file.name));
            }
            again.keyed[0].1.for_each_path(&mut |path, _| {
                assert!(path.starts_with("job/shared/"), "{path}");
            });
            drop(next);
            for &back in BACKENDS {
                world.kind.set(back);
                expect(&world.restore(&again));
            }
            world.kind.set(to);
        }
    }
    world.kind.set(kind);
}

fn the_serializers_verdict_counts(world: &World) {
    let described = |value: &str| StateDescription {
        schema: StateSchema {
            kind: StateKind::Value,
            key: SerializerSnapshot::opaque("u32"),
            namespace: SerializerSnapshot::void(),
            user_key: None,
            value: SerializerSnapshot::opaque(value),
            ttl: false,
            untimed_as_ms: None,
        },
        ..StateDescription::raw("op", "s", TableOptions::default(), value)
    };
    let worker = world.worker();
    let table = {
        let mut backend = worker.backend.borrow_mut();
        backend.register(&described("old")).unwrap()
    };
    worker.access.put(table, 3, b"k", b"v").unwrap();
    let saved = worker.checkpoint(1);
    let next = world.restore(&saved);
    let mut backend = next.backend.borrow_mut();
    let known = backend.description("op", "s").unwrap();
    assert_eq!(known.schema, described("old").schema);
    assert_eq!(backend.description("op", "t"), None);
    let refused = backend.register(&described("new")).unwrap_err();
    assert!(matches!(refused, StateError::Incompatible(_)), "{refused}");
    let verdict = Compatibility::Reconfigured;
    assert_eq!(
        backend.register_typed(&described("new"), &verdict).unwrap(),
        table
    );
    drop(backend);
    assert_eq!(read(&next, table, &[b"k"]), [Some((b"v".to_vec(), None))]);
    let tables = next.checkpoint(2).tables;
    assert_eq!(tables, [(described("new"), table)]);
}
