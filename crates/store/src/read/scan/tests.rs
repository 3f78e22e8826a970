//! Scans over a cache that changes while they look.
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

use super::run::FileRun;
use super::*;
use crate::cache::BlockCache;
use crate::row::RowRef;
use crate::sst::file::{FileId, SstFile};
use crate::sst::part::Part;
use crate::sst::writer::SstWriter;
use crate::version::VersionFile;
use crate::{Environment, StoreOptions, TableId, key};

const TABLE: TableId = TableId(1);

/// What is in memory, except that in each round the first new part is not there at the first look: as if another thread
/// brought it in between two looks.
struct Late<'c> {
    cache: &'c BlockCache,
    asked: RefCell<BTreeSet<(FileId, u64)>>,
    is_late: Cell<bool>,
}

impl Blocks for Late<'_> {
    fn part(&self, file: &SstFile, offset: u64) -> Option<Part> {
        let is_new = self.asked.borrow_mut().insert((file.id(), offset));
        if is_new && self.is_late.replace(false) {
            return None;
        }
        self.cache.data(file.id(), offset)
    }
}

fn window(rows_max: usize) -> Window {
    Window {
        lower: key::encode(0, TABLE, b""),
        upper: key::successor(&key::encode(0, TABLE, b"")),
        rows_max,
        rules: Rules::UNKNOWN.into(),
        now_ms: 0,
        prefix_hash: None,
        before: u64::MAX,
    }
}

/// Two overlapping files of many blocks, all in memory.
fn written() -> (tokio::runtime::Runtime, Arc<Context>, Version) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_time()
        .build()
        .unwrap();
    let env = Environment::new(
        Arc::new(object_store::memory::InMemory::new()),
        "d".into(),
        runtime.handle().clone(),
        BlockCache::new(8 << 20),
        "p",
    );
    let options = StoreOptions {
        block_bytes: 256,
        ..StoreOptions::default()
    };
    let context = Context::new(env, options);
    let mut version = Version::default();
    for odd in 0..2u32 {
        let mut writer = SstWriter::new(&context, 1 << 20);
        for i in (odd..2_000).step_by(2) {
            let key = key::encode(0, TABLE, &i.to_be_bytes());
            let hash = key::hash(&key).unwrap();
            let row = RowRef::plain(Some(b"value"));
            writer.add(&key, hash, row, true).unwrap();
        }
        let file = writer.finish().unwrap().unwrap().warm(&context);
        let file = VersionFile::whole(file, 0).into_iter().collect();
        version = version.with_flushed(file, 0);
    }
    (runtime, context, version)
}

/// Scans in pieces over many small files of L0, each with keys of its own, opened all of them for every piece: reading the first of
/// twenty maps took as many bytes as reading all of them.
#[test]
fn files_that_begin_after_a_piece_are_not_looked_at() {
    let (_runtime, context, _) = written();
    let mut version = Version::default();
    for file in 0..20u32 {
        let mut writer = SstWriter::new(&context, 1 << 20);
        for i in 0..100 {
            let key = key::encode(0, TABLE, &(file * 100 + i).to_be_bytes());
            let hash = key::hash(&key).unwrap();
            let row = RowRef::plain(Some(b"value"));
            writer.add(&key, hash, row, true).unwrap();
        }
        let file = writer.finish().unwrap().unwrap().warm(&context);
        let file = VersionFile::whole(file, 0).into_iter().collect();
        version = version.with_flushed(file, 0);
    }
    /// Notes the files that were asked for.
    struct Noting<'c>(&'c BlockCache, RefCell<BTreeSet<FileId>>);
    impl Blocks for Noting<'_> {
        fn part(&self, file: &SstFile, offset: u64) -> Option<Part> {
            self.1.borrow_mut().insert(file.id());
            self.0.data(file.id(), offset)
        }
    }
    for (rows_max, files_max, files_min) in [(50, 2, 1), (250, 6, 3), (usize::MAX, 20, 20)] {
        let window = window(rows_max);
        let noting = Noting(&context.env.block_cache, RefCell::default());
        let scanned = scan(&version, &window, &MemoryRows::default(), &noting);
        let rows = scanned.unwrap().unwrap().rows;
        let keys = (0..2000u32).take(rows_max).map(u32::to_be_bytes);
        assert!(
            rows.iter()
                .map(|(key, _)| key.to_vec())
                .eq(keys.map(Vec::from))
        );
        let looked_at = noting.1.borrow().len();
        assert!(
            (files_min..=files_max).contains(&looked_at),
            "{looked_at} of {rows_max} rows"
        );
    }
}

/// A scan that ran into a missing block looked once more before it asked for it, together with those that follow. When
/// another thread had brought the block in between the two looks, the scan stopped and asked for nothing, and what should
/// have finished it failed: "a scan stopped although nothing was missing".
#[test]
fn a_block_that_arrives_between_two_looks_is_asked_for_all_the_same() {
    let (_runtime, context, version) = written();
    let window = window(usize::MAX);
    let memory = MemoryRows::default();
    let late = Late {
        cache: &context.env.block_cache,
        asked: RefCell::default(),
        is_late: Cell::new(true),
    };
    let mut merge = Merge::new(&version, &window, &memory);
    let mut rounds = 0;
    loop {
        let mut needs = Needs::default();
        if let Some(done) = merge.run(&late, &mut needs).unwrap() {
            assert!(done);
            break;
        }
        assert!(!needs.is_empty(), "the scan stopped and does not say why");
        rounds += 1;
        late.is_late.set(true);
    }
    assert!(rounds > 3, "blocks were late {rounds} times");
    let rows = merge.finish(true).rows;
    let keys: Vec<u32> = (rows.iter())
        .map(|(key, _)| u32::from_be_bytes(key[..].try_into().unwrap()))
        .collect();
    assert_eq!(keys, (0..2_000).collect::<Vec<_>>());
}

#[test]
fn the_longer_a_scan_is_cold_the_more_it_asks_for_at_once() {
    struct Nothing;
    impl Blocks for Nothing {
        fn part(&self, _: &SstFile, _: u64) -> Option<Part> {
            None
        }
    }
    let (_runtime, _context, version) = written();
    let window = Window {
        lower: version.levels[0][0].lower.to_vec(),
        ..window(usize::MAX)
    };
    let mut run = FileRun::new(&version.levels[0][..1], &window);
    let mut asked = Vec::new();
    for _ in 0..6 {
        let mut needs = Needs::default();
        assert!(!run.settle(&Nothing, &window, &mut needs));
        asked.push(needs.0.values().map(|n| n.parts.len()).sum::<usize>());
    }
    assert_eq!(asked, [4, 8, 16, 32, 32, 32]);
}
