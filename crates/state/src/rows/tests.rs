//! Rows that went into a sink come out of a source: all, in order, from anywhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aquifer_store::{BlockCache, StoreOptions, TableOptions};
use bytes::Bytes;
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use object_store::path::Path;

use super::*;
use crate::InlineFile;

struct Place {
    runtime: tokio::runtime::Runtime,
    environment: Environment,
    objects: Arc<InMemory>,
}

impl Place {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let objects = Arc::new(InMemory::new());
        let environment = Environment::new(
            objects.clone(),
            "shared".into(),
            runtime.handle().clone(),
            BlockCache::new(1 << 20),
            "1-w0",
        );
        Self {
            runtime,
            environment,
            objects,
        }
    }

    fn sink(&self, name: &str) -> SstRowSink {
        let options = StoreOptions {
            memtable_bytes_max: 64 << 10,
            ..StoreOptions::default()
        };
        let go = Arc::new(AtomicBool::new(false));
        SstRowSink::new(&self.environment, options, name.into(), go).unwrap()
    }

    fn write(&self, name: &str, rows: &[Owned]) -> KeyedSnapshot {
        let mut sink = self.sink(name);
        for row in rows {
            sink.put(row.refs()).unwrap();
        }
        KeyedSnapshot::of_files(sink.finish().unwrap().files)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Owned {
    group: u16,
    table: TableId,
    key: Vec<u8>,
    value: Vec<u8>,
    time_ms: Option<i64>,
}

impl Owned {
    fn refs(&self) -> RowRefs<'_> {
        RowRefs {
            group: self.group,
            table: self.table,
            key: &self.key,
            value: &self.value,
            time_ms: self.time_ms,
        }
    }
}

/// Groups 3, 4 and 9; tables 1 and 5; enough rows for several files.
fn rows() -> Vec<Owned> {
    let mut rows = Vec::new();
    for group in [3, 4, 9] {
        for table in [1, 5] {
            for key in 0..200u8 {
                rows.push(Owned {
                    group,
                    table: TableId(table),
                    key: vec![key, 0],
                    value: vec![key; 40 * (1 + usize::from(key % 7))],
                    time_ms: (key % 3 != 0).then(|| i64::from(key) - 100),
                });
            }
        }
    }
    rows
}

fn tables(ids: &[u16]) -> Vec<(StateDescription, TableId)> {
    let describe = |id: &u16| {
        let description =
            StateDescription::raw("op", id.to_string(), TableOptions::default(), "test");
        (description, TableId(*id))
    };
    ids.iter().map(describe).collect()
}

fn read(source: &mut dyn RowSource, rows_max: usize) -> Vec<Owned> {
    let mut all = Vec::new();
    loop {
        let before = all.len();
        let more = source.next(rows_max, &mut |row| {
            all.push(Owned {
                group: row.group,
                table: row.table,
                key: row.key.to_vec(),
                value: row.value.to_vec(),
                time_ms: row.time_ms,
            });
            Ok(())
        });
        let more = more.unwrap();
        assert!(all.len() - before <= rows_max);
        if !more {
            return all;
        }
    }
}

#[test]
fn rows_come_out_as_they_went_in() {
    let place = Place::new();
    let snapshot = place.write("1-w0-h1", &rows());
    let files = snapshot.files.files.len();
    assert!((2..100).contains(&files), "{files}");
    assert!(snapshot.files.files.iter().all(|file| file.level == 1));
    let source =
        |clip, ids: &[u16]| row_source(&snapshot, clip, &tables(ids), &place.environment).unwrap();
    for rows_max in [1, 7, 10_000] {
        let mut all = source(KeyGroupRange::ALL, &[5, 1]);
        assert_eq!(read(&mut *all, rows_max), rows());
    }
    // A clip, and one of the tables.
    let clip = KeyGroupRange { start: 4, end: 8 };
    let mut expected = rows();
    expected.retain(|row| row.group == 4 && row.table == TableId(5));
    assert_eq!(read(&mut *source(clip, &[5]), 64), expected);
    let nowhere = KeyGroupRange { start: 10, end: 11 };
    assert!(read(&mut *source(nowhere, &[1, 5]), 64).is_empty());
    assert!(read(&mut *source(KeyGroupRange::ALL, &[]), 64).is_empty());
}

#[test]
fn seeking_goes_to_the_first_row_that_is_not_before() {
    let place = Place::new();
    let snapshot = place.write("1-w0-h1", &rows());
    let all = KeyGroupRange::ALL;
    let mut source = row_source(&snapshot, all, &tables(&[1, 5]), &place.environment).unwrap();
    for (group, table, key) in [
        (4, 5, &[7, 0][..]),
        (4, 5, &[7][..]),
        (4, 5, &[7, 1][..]),
        (4, 5, &[255][..]),
        (3, 9, &[][..]),
        (9, 9, &[][..]),
        (4, 2, &[][..]),
        (5, 0, &[][..]),
        (0, 1, &[9][..]),
        (9, 5, &[199, 0][..]),
        (10, 0, &[][..]),
        (3, 1, &[][..]),
    ] {
        source.seek(group, TableId(table), key).unwrap();
        let mut expected = rows();
        expected.retain(|row| (row.group, row.table, &row.key[..]) >= (group, TableId(table), key));
        let found = read(&mut *source, 33);
        assert!(found == expected, "{group} {table} {key:?}");
    }
}

#[test]
fn inline_files_are_read_like_others() {
    let place = Place::new();
    let mut snapshot = place.write("1-w0-h1", &rows());
    // Moves one of the files into the metadata; what is left of it in the store must not matter.
    let file = &mut snapshot.files.files[1];
    let path = Path::from(file.path.as_str());
    let bytes: Bytes = place.runtime.block_on(async {
        let bytes = place.objects.get(&path).await.unwrap().bytes().await;
        place.objects.delete(&path).await.unwrap();
        bytes.unwrap()
    });
    file.path = KeyedSnapshot::inline_path("part-1");
    snapshot.inline.push(InlineFile {
        name: "part-1".into(),
        bytes,
    });
    let all = KeyGroupRange::ALL;
    let mut source = row_source(&snapshot, all, &tables(&[1, 5]), &place.environment).unwrap();
    assert_eq!(read(&mut *source, 100), rows());
    // Without its bytes the file is missing, and that is an error.
    snapshot.inline.clear();
    let mut environment = place.environment.clone();
    environment.block_cache = BlockCache::new(1 << 20);
    let opened = row_source(&snapshot, all, &tables(&[1, 5]), &environment);
    let found = opened.and_then(|mut source| source.next(10_000, &mut |_| Ok(())));
    assert!(found.is_err());
}

#[test]
fn sinks_refuse_disorder_and_stop_when_told() {
    let place = Place::new();
    let mut sink = place.sink("1-w0-h1");
    let rows = rows();
    let [first, .., last] = &rows[..] else {
        panic!("there are rows");
    };
    sink.put(last.refs()).unwrap();
    let error = sink.put(first.refs()).unwrap_err();
    assert!(matches!(error, StateError::Usage(text) if text.contains("key group 3")));
    let stop = Arc::new(AtomicBool::new(false));
    let mut sink = SstRowSink::new(
        &place.environment,
        StoreOptions::default(),
        "1-w0-h2".into(),
        Arc::clone(&stop),
    )
    .unwrap();
    sink.put(first.refs()).unwrap();
    stop.store(true, Ordering::Relaxed);
    assert!(sink.put(last.refs()).is_err());
    assert!(sink.finish().is_err());
}

#[cfg(not(feature = "rocksdb"))]
#[test]
fn databases_are_not_taken_for_nothing() {
    let place = Place::new();
    let snapshot = KeyedSnapshot {
        databases: vec![crate::DbSnapshot {
            operator: "7-x".into(),
            range: KeyGroupRange::ALL,
            families: vec![],
            files: vec![],
        }],
        ..KeyedSnapshot::default()
    };
    let opened = row_source(&snapshot, KeyGroupRange::ALL, &[], &place.environment);
    let error = opened.err().map(|error| error.to_string());
    assert!(error.is_some_and(|text| text.contains("`7-x`")));
}
