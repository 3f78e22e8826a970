//! Whole files: what was written comes back, however little memory there is, and damage does not pass for data.
use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use tokio::runtime::Runtime;

use super::block::BlockCursor;
use super::file::SstFile;
use super::writer::SstWriter;
use crate::compaction::input::RunInput;
use crate::context::Context;
use crate::error::Result;
use crate::inspect::verify::verify;
use crate::options::{Compression, KeyPart, TableId};
use crate::read::load::Fetched;
use crate::read::{Blocks, Needs};
use crate::row::{RowKind, RowRef};
use crate::rules::{Rules, TableRules};
use crate::version::VersionFile;
use crate::{BlockCache, Environment, FileRef, StoreOptions, key};

struct Random(u64);

impl Random {
    fn below(&mut self, below: u64) -> u64 {
        self.0 = (self.0)
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (self.0 >> 33) % below
    }
}

type Row = (RowKind, Option<i64>, Vec<u8>);
type Rows = BTreeMap<Vec<u8>, Row>;

struct Place {
    bucket: Arc<InMemory>,
    runtime: Runtime,
    context: Arc<Context>,
}

fn place(cache_bytes: u64, options: StoreOptions) -> Place {
    let bucket = Arc::new(InMemory::new());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_time()
        .build()
        .unwrap();
    let env = Environment::new(
        bucket.clone(),
        "d".into(),
        runtime.handle().clone(),
        BlockCache::new(cache_bytes),
        "p",
    );
    Place {
        bucket,
        runtime,
        context: Context::new(env, options),
    }
}

fn options() -> StoreOptions {
    StoreOptions {
        block_bytes: 300,
        value_aside_bytes: 200,
        ..StoreOptions::default()
    }
}

fn rows(count: u64, random: &mut Random) -> Rows {
    let mut rows = Rows::new();
    for _ in 0..count {
        let (group, table) = (random.below(3) as u16, TableId(random.below(2) as u16));
        let user = format!("key-{:06}", random.below(count * 2));
        let key = key::encode(group, table, user.as_bytes());
        let time_ms = (random.below(2) == 0).then(|| random.below(1 << 41) as i64);
        let len = if random.below(20) == 0 { 900 } else { 60 };
        let mut value: Vec<u8> = (0..random.below(len))
            .map(|_| random.below(256) as u8)
            .collect();
        let kind = match random.below(5) {
            0 => RowKind::Tombstone,
            1 => RowKind::Operands,
            _ => RowKind::Value,
        };
        match kind {
            RowKind::Tombstone => value.clear(),
            RowKind::Operands => value = vec![0, 1, value.first().copied().unwrap_or(7)],
            RowKind::Value => {}
        }
        rows.insert(key, (kind, time_ms, value));
    }
    rows
}

impl Place {
    fn writer(&self) -> SstWriter {
        SstWriter::new(&self.context, 1 << 20)
    }

    fn write(&self, rows: &Rows) -> Arc<SstFile> {
        let mut writer = self.writer();
        for (key, (kind, time_ms, value)) in rows {
            let hash = key::hash(key).unwrap();
            let row = RowRef::new(*kind, *time_ms, value);
            writer.add(key, hash, row, false).unwrap();
        }
        writer.finish().unwrap().unwrap().warm(&self.context)
    }

    /// The file as another process sees it, with nothing in memory.
    fn again(&self, file: &SstFile, cache_bytes: u64) -> (Arc<Context>, Arc<SstFile>) {
        let mut env = self.context.env.clone();
        env.block_cache = BlockCache::new(cache_bytes);
        let context = Context::new(env, self.context.options.clone());
        let file = SstFile::restored(&context, &FileRef::clone(file)).unwrap();
        (context, file)
    }

    fn load(&self, fetched: &mut Fetched, needs: Needs) -> Result<()> {
        self.runtime.block_on(fetched.load(needs))
    }

    fn get(&self, context: &Arc<Context>, file: &Arc<SstFile>, key: &[u8]) -> Result<Option<Row>> {
        let mut fetched = Fetched::new(context.clone());
        loop {
            match file.look(key::hash(key).unwrap(), key, &fetched) {
                Ok(row) => return Ok(row.map(|r| (r.kind, r.time_ms, r.value.to_vec()))),
                Err(missing) => {
                    let mut needs = Needs::default();
                    needs.missing(file, missing);
                    self.load(&mut fetched, needs)?;
                }
            }
        }
    }

    fn scan(&self, context: &Arc<Context>, file: &Arc<SstFile>, from: &[u8]) -> Vec<Vec<u8>> {
        let mut fetched = Fetched::new(context.clone());
        let mut at = None;
        let mut keys = Vec::new();
        loop {
            let next = match at {
                None => file.seek(from, &fetched),
                Some(at) => file.block_after(at, &fetched),
            };
            let missing = match next {
                Ok(None) => return keys,
                Ok(Some(next)) => match fetched.block(file, next.place) {
                    Some(block) => {
                        let mut cursor = BlockCursor::default();
                        let mut more = match at {
                            None => cursor.seek(&block, from),
                            Some(_) => cursor.advance(&block),
                        };
                        while more {
                            keys.push(cursor.key().to_vec());
                            more = cursor.advance(&block);
                        }
                        at = Some(next);
                        continue;
                    }
                    None => super::part::PartPlace::block(next.place),
                },
                Err(part) => part,
            };
            let mut needs = Needs::default();
            needs.part(file, missing);
            self.load(&mut fetched, needs).unwrap();
        }
    }

    fn scrub(&self, file: &Arc<SstFile>) -> Result<usize> {
        let verified = self.runtime.block_on(verify(&self.context, file, &|_| {}));
        verified.map(|damages| damages.len())
    }
}

#[test]
fn files_come_back_whole_or_paged() {
    let mut random = Random(5);
    for (i, compression) in [Compression::None, Compression::Lz4, Compression::Zstd]
        .into_iter()
        .enumerate()
    {
        let mut options = options();
        options.compression = vec![compression];
        let place = place(8 << 20, options);
        let rows = rows([1, 300, 12_000][i], &mut random);
        let written = place.write(&rows);
        assert_eq!(written.entries, rows.len() as u64);
        assert_eq!(place.scrub(&written).unwrap(), 0);
        // With room for everything, for some pages, and for nothing at all.
        for cache_bytes in [8 << 20, 64 << 10, 0] {
            let (context, file) = place.again(&written, cache_bytes);
            for (key, row) in rows.iter().step_by(1 + rows.len() / 150) {
                assert_eq!(place.get(&context, &file, key).unwrap().as_ref(), Some(row));
                let absent = [key, &b"x"[..]].concat();
                assert_eq!(place.get(&context, &file, &absent).unwrap(), None);
            }
            for key in rows.keys().step_by(1 + rows.len() / 3) {
                let expected = rows.range(key.clone()..).map(|(k, _)| k.clone());
                assert_eq!(
                    place.scan(&context, &file, key),
                    expected.collect::<Vec<_>>()
                );
            }
            let past = key::encode(9, TableId(0), b"");
            assert!(place.scan(&context, &file, &past).is_empty());
        }
    }
}

#[test]
fn a_file_that_is_asked_often_is_pinned() {
    // A filter of more than 64 KiB is read in pages.
    let place = place(
        8 << 20,
        StoreOptions {
            filter_bits_per_key: 60,
            ..options()
        },
    );
    let rows = rows(12_000, &mut Random(1));
    let (context, file) = place.again(&place.write(&rows), 8 << 20);
    let mut keys = rows.keys().cycle().step_by(97);
    for _ in 0..400 {
        place.get(&context, &file, keys.next().unwrap()).unwrap();
    }
    // A minute at least: a bound on hanging, not on speed.
    for _ in 0..6_000 {
        if file.filter.get().is_some() && file.index.get().is_some() {
            return;
        }
        place
            .runtime
            .block_on(tokio::time::sleep(std::time::Duration::from_millis(10)));
    }
    panic!("filter and index are still paged");
}

#[test]
fn every_flipped_byte_is_damage_and_never_an_answer() {
    let mut small = options();
    small.block_bytes = 200;
    let place = place(1 << 20, small);
    let rows = rows(40, &mut Random(8));
    let written = place.write(&rows);
    let path = written.path().clone();
    let good = place.runtime.block_on(async {
        let object = place.bucket.get(&path).await.unwrap();
        object.bytes().await.unwrap()
    });
    assert_eq!(good.len() as u64, written.size_bytes);
    let put = |bytes: Vec<u8>| {
        let put = place.bucket.put(&path, bytes.into());
        place.runtime.block_on(put).unwrap();
    };
    let keys: Vec<&Vec<u8>> = rows.keys().collect();
    for at in 0..good.len() {
        let mut bad = good.to_vec();
        bad[at] ^= 1 << (at % 8);
        put(bad);
        let (context, file) = place.again(&written, 1 << 20);
        assert!(
            place.scrub(&file).unwrap() > 0,
            "byte {at} passes for right"
        );
        let key = keys[at % keys.len()];
        if let Ok(row) = place.get(&context, &file, key) {
            assert_eq!(row.as_ref(), Some(&rows[key]), "byte {at}");
        }
    }
    // Each of these is tried again and again before it is given up.
    for len in [0, 1, good.len() / 2, good.len() - 1] {
        put(good[..len].to_vec());
        let (context, file) = place.again(&written, 1 << 20);
        let noticed = place.scrub(&file).map_or(true, |damages| damages > 0);
        assert!(noticed, "a file cut at {len} passes for right");
        let key = keys[len % keys.len()];
        if let Ok(row) = place.get(&context, &file, key) {
            assert_eq!(row.as_ref(), Some(&rows[key]), "cut at {len}");
        }
    }
}

/// Two reads of one round may want the end of a file, which contains its index, and a partition of that index, if another
/// fetch brings the end in between them. The request was once cut short after the partition.
#[test]
fn the_end_and_a_partition_within_it_come_together() {
    let place = place(0, options());
    let rows = rows(8_000, &mut Random(6));
    let (context, file) = place.again(&place.write(&rows), 0);
    let end = file.end_part();
    place
        .get(&context, &file, rows.keys().next().unwrap())
        .unwrap();
    let key = rows.keys().next_back().unwrap();
    let partition = file.seek(key, &Fetched::new(context.clone())).unwrap_err();
    assert!(end.place.offset < partition.place.offset && partition.place.end() < end.place.end());
    let mut needs = Needs::default();
    needs.part(&file, end);
    needs.part(&file, partition);
    let mut fetched = Fetched::new(context.clone());
    place.load(&mut fetched, needs).unwrap();
    assert!(file.seek(key, &fetched).unwrap().is_some());
}

/// A file of the same shape with other content: every piece has a right checksum, but not under this file's seed.
#[test]
fn pieces_of_another_file_are_damage() {
    let place = place(1 << 20, options());
    let rows = rows(200, &mut Random(2));
    let (first, second) = (place.write(&rows), place.write(&rows));
    assert_eq!(first.size_bytes, second.size_bytes);
    assert_ne!(first.id(), second.id());
    let bytes = place.runtime.block_on(async {
        let object = place.bucket.get(second.path()).await.unwrap();
        let bytes = object.bytes().await.unwrap();
        let put = place.bucket.put(first.path(), bytes.clone().into());
        put.await.unwrap();
        bytes
    });
    assert!(!bytes.is_empty());
    let (context, file) = place.again(&first, 1 << 20);
    for key in rows.keys().take(20) {
        let error = place.get(&context, &file, key).unwrap_err();
        assert!(error.message.contains(first.path().as_ref()), "{error}");
    }
}

#[test]
fn range_tombstones_come_back_and_count_for_the_bounds() {
    let place = place(1 << 20, options());
    let range = |start: &'static [u8], end: &'static [u8]| {
        (Bytes::from_static(start), Bytes::from_static(end))
    };
    let mut writer = place.writer();
    for (start, end) in [
        range(b"\0\x01\0\0", b"\0\x02\0\x01"),
        range(b"\0\x01\0\x05", b"\0\x02\0\x01x"),
        range(b"\0\x07\0\0", b"\0\x08"),
        range(b"\0\x07\0\0", b"\0\x01"),
    ] {
        writer.add_range_tombstone(start, end);
    }
    let file = writer.finish().unwrap().unwrap().warm(&place.context);
    assert_eq!((file.entries, file.range_tombstones), (0, 2));
    assert_eq!(&file.smallest[..], b"\0\x01\0\0");
    assert_eq!(&file.upper[..], b"\0\x08");
    assert_eq!((file.clip.start, file.clip.end), (1, 7));
    let (context, file) = place.again(&file, 1 << 20);
    assert!(
        file.range_tombstones().is_none(),
        "nothing is in memory yet"
    );
    let mut needs = Needs::default();
    needs.part(&file, file.end_part());
    place
        .load(&mut Fetched::new(context.clone()), needs)
        .unwrap();
    let ranges = file.range_tombstones().unwrap();
    assert!(ranges.covers(b"\0\x02\0\x01a") && !ranges.covers(b"\0\x02\0\x01x"));
    assert_eq!(place.get(&context, &file, b"\0\x02\0\x01a").unwrap(), None);
    assert_eq!(place.scrub(&file).unwrap(), 0);
    assert!(
        place.writer().finish().unwrap().is_none(),
        "nothing was added"
    );
}

/// Values that lie aside go from file to file under their seal, also when their block is in the cache and they are not.
#[test]
fn compactions_carry_values_that_lie_aside() {
    for hot in [false, true] {
        let place = place(8 << 20, options());
        let rows = rows(3_000, &mut Random(4));
        let written = place.write(&rows);
        let (context, file) = place.again(&written, if hot { 8 << 20 } else { 0 });
        if hot {
            place.scan(&context, &file, b"");
        }
        let input = VersionFile::whole(file, 0).unwrap();
        let mut run = RunInput::new(&context, vec![input]).unwrap();
        let mut writer = SstWriter::new(&context, 0);
        let (mut sealed, mut hot_rows) = (0, 0);
        while let Some(key) = run.key() {
            let row = run.row().unwrap();
            sealed += usize::from(row.sealed.is_some());
            hot_rows += usize::from(run.is_hot());
            let open = run.open_row().unwrap().unwrap();
            assert_eq!(open.value, rows[key].2);
            writer
                .add(key, key::hash(key).unwrap(), row, run.is_hot())
                .unwrap();
            run.advance().unwrap();
        }
        assert!(sealed > 50, "{sealed} values lay aside");
        assert_eq!(hot_rows, if hot { rows.len() } else { 0 });
        let copy = writer.finish().unwrap().unwrap().warm(&context);
        assert_eq!(place.scrub(&copy).unwrap(), 0);
        let (context, copy) = place.again(&copy, 1 << 20);
        for (key, row) in rows.iter().step_by(13) {
            assert_eq!(place.get(&context, &copy, key).unwrap().as_ref(), Some(row));
        }
    }
}

#[test]
fn prefixes_of_tables_that_have_a_shape_are_in_the_filter() {
    let place = place(1 << 20, options());
    let mut tables = TableRules::default();
    let rules = Rules {
        prefix: vec![KeyPart::Fixed(4)],
        ..Rules::UNKNOWN
    };
    tables.set(TableId(1), rules.into());
    let mut writer = place.writer().with_tables(tables);
    for table in [TableId(0), TableId(1)] {
        for i in (0..20_000u32).step_by(2) {
            let key = key::encode(
                3,
                table,
                &[&(i / 4).to_be_bytes()[..], &i.to_be_bytes()].concat(),
            );
            let row = RowRef::plain(Some(b"v"));
            writer
                .add(&key, key::hash(&key).unwrap(), row, false)
                .unwrap();
        }
    }
    let file = writer.finish().unwrap().unwrap().warm(&place.context);
    let fetched = Fetched::new(place.context.clone());
    let may_hold = |table, prefix: u32| {
        let hash = key::hash_prefix(key::header(3, table), &prefix.to_be_bytes());
        file.may_contain(hash, &fetched).unwrap()
    };
    assert!((0..5_000).all(|prefix| may_hold(TableId(1), prefix)));
    let strangers = (5_000..15_000).filter(|&prefix| may_hold(TableId(1), prefix));
    assert!(strangers.count() < 300);
    let unshaped = (0..5_000).filter(|&prefix| may_hold(TableId(0), prefix));
    assert!(unshaped.count() < 300, "nobody scans table 0 by prefix");
}
