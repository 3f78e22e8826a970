//! Memtables that stay in memory after they have become files: what is read there, and when they go.
use aquifer_store::{Lookup, Merge, StoreOptions, TableId, TableOptions};

use crate::harness::{POINTS, SORTED, Worker, World, small};

const LISTS: TableId = TableId(5);

fn key(i: u32) -> [u8; 4] {
    i.to_be_bytes()
}

fn roomy() -> StoreOptions {
    StoreOptions {
        memtable_bytes_max: 8 << 20,
        ..small()
    }
}

fn checkpoint_with_lists(worker: &mut Worker) {
    worker.store.freeze(LISTS).unwrap();
    worker.checkpoint();
}

#[test]
fn gets_of_what_was_written_lately_ask_no_file() {
    let world = World::new(8 << 20);
    let mut worker = world.open(roomy(), vec![]);
    let value = |i: u32| (!i.is_multiple_of(10)).then(|| key(i + 1_000 * (i % 7)).to_vec());
    for round in 0..7u32 {
        for i in 0..300 {
            match value(i) {
                Some(_) if i % 7 < round => {}
                Some(_) => worker.put(SORTED, 3, &key(i), &key(i + 1_000 * round)),
                None if round == i % 7 => worker.delete(SORTED, 3, &key(i)),
                None => worker.put(SORTED, 3, &key(i), b"soon gone"),
            }
            if value(i).is_none() && round > i % 7 {
                worker.delete(SORTED, 3, &key(i));
            }
        }
        worker.checkpoint();
    }
    worker.settle();
    let before = worker.store.stats();
    assert!(before.retained_bytes > 0 && before.files > 0, "{before:?}");
    let keys: Vec<[u8; 4]> = (0..300).map(key).collect();
    let asked: Vec<(u16, &[u8])> = keys.iter().map(|key| (3, &key[..])).collect();
    for (i, answer) in (0..).zip(worker.multi_get(SORTED, &asked)) {
        assert_eq!(answer, value(i), "{i}");
        assert_eq!(worker.get(SORTED, 3, &key(i)), value(i), "{i}");
    }
    let after = worker.store.stats();
    assert_eq!(after.block_cache_hits, before.block_cache_hits);
    let expected: Vec<Vec<u8>> = (0..300).filter_map(value).collect();
    let found = worker.rows(SORTED, 3).into_values();
    assert_eq!(found.collect::<Vec<_>>(), expected);
}

#[test]
fn scans_read_memtables_instead_of_the_files_they_have_become() {
    let world = World::new(8 << 20);
    let mut worker = world.open(roomy(), vec![]);
    for i in 0..100 {
        worker.put(SORTED, 0, &[&[(i % 4) as u8], &key(i)[..]].concat(), b"1");
    }
    worker.checkpoint();
    for i in 0..100 {
        worker.put(POINTS, 0, &key(i), b"p");
    }
    worker.store.delete_prefix(SORTED, 0, &[1]).unwrap();
    worker.put(SORTED, 0, &[&[1], &key(7)[..]].concat(), b"2");
    worker.checkpoint();
    worker.delete(SORTED, 0, &[&[2], &key(2)[..]].concat());
    let before = worker.store.stats();
    let len = |prefix: &[u8]| worker.scan(SORTED, 0, prefix, b"", None, 1_000).rows.len();
    assert_eq!(
        [len(&[0]), len(&[1]), len(&[2]), len(&[3])],
        [25, 1, 24, 25]
    );
    assert_eq!((len(&[4]), len(b"")), (0, 75));
    let some = worker.scan(
        SORTED,
        0,
        &[0],
        &[0, 0, 0, 0, 8],
        Some(&[0, 0, 0, 0, 20]),
        2,
    );
    let keys: Vec<&[u8]> = some.rows.iter().map(|(key, _)| &key[1..]).collect();
    assert_eq!((keys, some.done), (vec![&key(8)[..], &key(12)], false));
    // The other table has no companion that keeps its order.
    let points = worker.scan(POINTS, 0, b"", &key(98), None, 9);
    assert_eq!((points.rows.len(), points.done), (2, true));
    let after = worker.store.stats();
    assert_eq!(after.block_cache_hits, before.block_cache_hits);
}

/// A file has the operands of a retained memtable, too: they must not count twice, however many memtables became one.
#[test]
fn operands_count_once() {
    for retained_memtables_max in [0, 1] {
        let world = World::new(8 << 20);
        let options = StoreOptions {
            retained_memtables_max,
            ..roomy()
        };
        let mut worker = world.open(options, vec![]);
        let lists = TableOptions {
            merge: Merge::Append,
            ordered: true,
            ..TableOptions::default()
        };
        worker.store.create_table(LISTS, lists).unwrap();
        let mut model = vec![Vec::new(); 40];
        for round in 0..12u32 {
            for i in (0..40u32).filter(|i| !(i + round).is_multiple_of(3)) {
                let at = &mut model[i as usize];
                match (i + round) % 11 {
                    0 => {
                        worker.delete(LISTS, 0, &key(i));
                        at.clear();
                    }
                    1 => {
                        worker.put(LISTS, 0, &key(i), b"new ");
                        *at = b"new ".to_vec();
                    }
                    n => {
                        let operand = [b'a' + n as u8, b' '];
                        worker.store.merge(LISTS, 0, &key(i), &operand).unwrap();
                        at.extend(operand);
                    }
                }
            }
            if round % 4 == 3 {
                worker.store.delete_prefix(LISTS, 0, &[0, 0, 0]).unwrap();
                model.iter_mut().for_each(Vec::clear);
            }
            if round % 5 != 4 {
                checkpoint_with_lists(&mut worker);
            }
            let expected: Vec<Option<Vec<u8>>> = model
                .iter()
                .map(|list| (!list.is_empty()).then(|| list.clone()))
                .collect();
            let keys: Vec<[u8; 4]> = (0..40).map(key).collect();
            let asked: Vec<(u16, &[u8])> = keys.iter().map(|key| (0, &key[..])).collect();
            assert_eq!(worker.multi_get(LISTS, &asked), expected, "{round}");
            let got: Vec<_> = keys.iter().map(|key| worker.get(LISTS, 0, key)).collect();
            assert_eq!(got, expected, "{round}");
            let scanned = worker.rows(LISTS, 0).into_values();
            let there: Vec<_> = expected.into_iter().flatten().collect();
            assert_eq!(scanned.collect::<Vec<_>>(), there, "{round}");
        }
    }
}

#[test]
fn memory_is_given_back_before_there_is_too_much() {
    let world = World::new(8 << 20);
    let options = small();
    let limit = 2 * options.memtable_bytes_max as u64;
    let mut worker = world.open(options, vec![]);
    let (mut most, mut given_back) = (0, false);
    for i in 0..30_000u32 {
        worker.put(POINTS, 0, &key(i % 5_000), &key(i).repeat(8));
        if i.is_multiple_of(700) {
            worker.checkpoint();
        }
        let stats = worker.store.stats();
        let all = stats.memtable_bytes + stats.retained_bytes;
        assert!(stats.retained_bytes == 0 || all <= limit, "{stats:?}");
        given_back |= stats.retained_bytes < most;
        most = most.max(stats.retained_bytes);
    }
    assert!(most > 0 && given_back, "{most} bytes");
    for i in 25_000..30_000 {
        let value = worker.get(POINTS, 0, &key(i % 5_000));
        assert_eq!(value, Some(key(i).repeat(8)));
    }
}

/// What a barrier froze left room for as much again before anybody looked: memtables took up to three times the size of one.
#[test]
fn memory_is_given_back_while_a_checkpoint_is_written() {
    const MEMTABLE_BYTES: u64 = 16 << 20;
    let world = World::new(8 << 20);
    let options = StoreOptions {
        memtable_bytes_max: MEMTABLE_BYTES as usize,
        ..small()
    };
    let mut worker = world.open(options, vec![]);
    let write = |worker: &mut Worker, i: u32| {
        worker.put(POINTS, 0, &key(i), &key(i).repeat(256));
        let stats = worker.store.stats();
        let all = stats.memtable_bytes + stats.retained_bytes;
        assert!(
            stats.retained_bytes == 0 || all <= 2 * MEMTABLE_BYTES,
            "write {i}: {stats:?}"
        );
        stats.memtable_bytes
    };
    let mut retained = 0;
    for _ in 0..4 {
        let mut rows = 0..;
        while write(&mut worker, rows.next().unwrap()) < MEMTABLE_BYTES / 2 {}
        let before = worker.store.stats();
        retained += before.retained_bytes;
        // Nobody waits until it is written.
        worker.start_checkpoint();
        let full = before.memtable_bytes + MEMTABLE_BYTES * 9 / 10;
        for i in 0..100_000 {
            if write(&mut worker, i) > full {
                break;
            }
        }
        worker.wait();
    }
    assert!(retained > 0, "nothing was retained");
}

#[test]
fn nothing_stays_if_nothing_is_asked_to() {
    let world = World::new(8 << 20);
    let options = StoreOptions {
        retained_memtables_max: 0,
        ..roomy()
    };
    let mut worker = world.open(options, vec![]);
    worker.put(POINTS, 0, b"k", b"v");
    worker.checkpoint();
    let before = worker.store.stats();
    assert_eq!(before.retained_bytes, 0);
    let Lookup::Found(value) = worker.store.get(POINTS, 0, b"k").unwrap() else {
        panic!("files that were just written are in memory")
    };
    assert_eq!(&*value, b"v");
    assert!(worker.store.stats().block_cache_hits > before.block_cache_hits);
}
