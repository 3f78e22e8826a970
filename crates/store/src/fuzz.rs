//! Every decoder of the crate as a function of bytes, for fuzzers and mutation tests. Not part of the API.
//!
//! A target must return on any bytes: no panic, no allocation far beyond what it was given, no endless loop. Where a checksum
//! stands before the decoder, the target puts the right one on the bytes first, as an attacker would; otherwise a fuzzer would
//! never get past it. [`samples`] are valid inputs to start from.
use std::hint::black_box;

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::compaction::remote::board::Name as BoardName;
use crate::compaction::remote::message::{self, JobMessage, Outcome, ResultMessage};
use crate::compaction::task::CompactionTask;
use crate::encoding::Reader;
use crate::expiry::ExpiryClock;
use crate::file_cache::{decode_sidecar, sample_sidecar};
use crate::key;
use crate::objects;
use crate::options::{Compression, KeyGroupRange, KeyPart, Merge, TableId, TableOptions};
use crate::row::{RowKind, RowRef};
use crate::sst::block::{BlockBuilder, BlockCursor, DataBlock};
use crate::sst::filter::{self, FilterShape};
use crate::sst::footer::{FOOTER_BYTES, FileEnd};
use crate::sst::index::{IndexBlock, IndexBuilder, Place};
use crate::sst::properties::{Counter, Properties};
use crate::sst::ranges::RangeTombstones;
use crate::sst::seal::{Sealer, put_checksum, unseal};
use crate::{Checkpoint, FileRef};

/// A name and a decoder.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: &[Target] = &[
    ("sealed-block", sealed_block),
    ("block", block),
    ("unseal", unsealed),
    ("filter", filter_pages),
    ("index", index),
    ("file-end", file_end),
    ("ranges", ranges),
    ("properties", properties),
    ("checkpoint", checkpoint),
    ("table-options", table_options),
    ("warm-chunks", warm_chunks),
    ("compaction-job", compaction_job),
    ("compaction-task", compaction_task),
    ("compaction-result", compaction_result),
    ("compaction-names", compaction_names),
    ("cache-sidecar", cache_sidecar),
    ("row", row),
    ("key", keys),
    ("uri", uri),
];

/// The target of this name.
pub fn target(name: &str) -> Option<fn(&[u8])> {
    let found = TARGETS.iter().find(|(known, _)| *known == name);
    found.map(|(_, target)| *target)
}

fn name() -> String {
    "the fuzzed piece".into()
}

fn visit(block: &DataBlock) {
    let mut cursor = BlockCursor::default();
    let mut rows = 0;
    while cursor.advance(block) {
        rows += 1;
        let key = cursor.key().to_vec();
        let hash = key::hash(&key).unwrap_or_default();
        black_box(block.get(hash, &key));
        if let Some(row) = cursor.row(block) {
            let _ = black_box(row.open());
        }
        black_box(cursor.aside());
        assert!(rows <= block.rows(), "a block has more rows than it says");
    }
    for key in [&b""[..], &[0; 4], &[0xff; 40]] {
        black_box(block.get(key::hash(key).unwrap_or(7), key));
        cursor.reset();
        black_box(cursor.seek(block, key));
    }
    let _ = block.check(&name, |key| key::hash(key).unwrap_or_default());
}

fn sealed_block(data: &[u8]) {
    if let Ok(block) = DataBlock::decode(&name, data, 7, 99) {
        visit(&block);
    }
}

fn block(data: &[u8]) {
    if let Ok(block) = DataBlock::from_plain(&name, Bytes::copy_from_slice(data)) {
        visit(&block);
    }
}

/// The bytes are what a valid checksum stands behind.
fn unsealed(data: &[u8]) {
    let mut piece = data.to_vec();
    put_checksum(&mut piece, 0, 7, 99);
    if let Ok(plain) = unseal(&name, &piece, 7, 99) {
        assert!(
            plain.len() <= 64 << 20,
            "{} bytes from {}",
            plain.len(),
            data.len()
        );
    }
}

fn filter_pages(data: &[u8]) {
    let mut piece = data.to_vec();
    put_checksum(&mut piece, 0, 7, 0);
    for piece in [data, &piece] {
        let Some(shape) = FilterShape::new(piece.len() as u32) else {
            continue;
        };
        if let Ok(filter) = shape.decode(&name, piece, 7, 0) {
            for hash in [0, 1, u64::MAX, 0x9e37_79b9_7f4a_7c15] {
                black_box(filter.may_contain(hash));
            }
            black_box(filter.pages().count());
        }
        if let Ok(page) = shape.decode_page(&name, piece, 7, 0) {
            black_box((page.may_contain(0), page.may_contain(u64::MAX)));
        }
    }
}

fn index(data: &[u8]) {
    if let Ok(index) = IndexBlock::decode(&name, data, 0..1 << 40) {
        for i in 0..index.len() {
            let separator = index.separator(i);
            assert!(index.find(&separator) <= index.len());
            assert!(index.place(i).is_some_and(|place| place.end() <= 1 << 40));
        }
        black_box((index.find(b""), index.find(&[0xff; 20]), index.bytes()));
    }
}

/// The bytes are the end of a file without its checksum and magic.
fn file_end(data: &[u8]) {
    let _ = black_box(FileEnd::decode("the fuzzed file", data, data.len() as u64));
    let fixed = FOOTER_BYTES - 16;
    let Some(footer) = data.len().checked_sub(fixed).and_then(|at| data.get(at..)) else {
        return;
    };
    let word = |at: usize| match footer.get(at..).and_then(|rest| rest.first_chunk()) {
        Some(bytes) => u64::from_le_bytes(*bytes),
        None => 0,
    };
    let mut end = data.to_vec();
    end.extend_from_slice(&xxh3_64_with_seed(data, word(0)).to_le_bytes());
    end.extend_from_slice(crate::sst::footer::MAGIC);
    // The size that fits what the footer says of the parts before the end.
    let parts = word(32);
    let before = (parts & 0xffff_ffff)
        .saturating_add(parts >> 32)
        .saturating_add(word(8));
    let size = before.saturating_add(end.len() as u64);
    if let Ok(end) = FileEnd::decode("the fuzzed file", &end, size) {
        black_box((
            end.directory.find(b"k"),
            end.ranges.covers(b"k"),
            end.bytes(),
        ));
    }
}

fn ranges(data: &[u8]) {
    if let Ok(ranges) = RangeTombstones::decode(&name, data) {
        let clipped = ranges.clip(b"b", Some(b"y"));
        assert!(clipped.len() <= ranges.len());
        black_box((ranges.covers(b"k"), ranges.covers_all(b"a", b"z")));
        let mut out = Vec::new();
        ranges.encode(&mut out);
        let again = RangeTombstones::decode(&name, &out).map(|again| again.len());
        assert_eq!(again.ok(), Some(ranges.len()));
    }
}

fn properties(data: &[u8]) {
    let _ = black_box(Properties::decode(&name, data));
}

fn checkpoint(data: &[u8]) {
    if let Ok(list) = Checkpoint::decode(data) {
        assert!(list.files.len() <= data.len());
        let mut out = Vec::new();
        list.encode(&mut out);
        assert_eq!(Checkpoint::decode(&out).ok(), Some(list));
    }
}

fn table_options(data: &[u8]) {
    if let Ok(options) = TableOptions::decode(data) {
        let mut out = Vec::new();
        options.encode(&mut out);
        assert_eq!(TableOptions::decode(&out).ok(), Some(options));
    }
}

fn warm_chunks(data: &[u8]) {
    if let Ok(chunks) = crate::io::decode_warm(data) {
        assert!(chunks.len() <= data.len());
    }
}

fn compaction_job(data: &[u8]) {
    let _ = black_box(JobMessage::decode(data));
    let _ = black_box(JobMessage::decode(&message::resealed(true, data)));
}

fn compaction_task(data: &[u8]) {
    let _ = black_box(CompactionTask::decode(&mut Reader::new("a task", data)));
}

fn compaction_result(data: &[u8]) {
    let _ = black_box(ResultMessage::decode(data));
    let _ = black_box(ResultMessage::decode(&message::resealed(false, data)));
}

fn compaction_names(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data)
        && let Some(name) = BoardName::parse(text)
    {
        assert_eq!(name.text(), text);
    }
}

fn cache_sidecar(data: &[u8]) {
    assert!(decode_sidecar(data) <= data.len());
}

fn row(data: &[u8]) {
    for kind in [RowKind::Operands, RowKind::Value, RowKind::Tombstone] {
        let row = RowRef::new(kind, Some(5), data);
        if let Ok(row) = row.open()
            && let crate::row::Content::Operands(operands) = row.content
        {
            assert!(operands.list.count() <= data.len());
        }
    }
}

/// Two keys, group and table first: they order like their parts, and a prefix lies below its successor.
fn keys(data: &[u8]) {
    let (a, b) = data.split_at(data.len() / 2);
    let parts = |bytes: &[u8]| {
        let at = |i: usize| bytes.get(i).copied().unwrap_or_default();
        let (group, table) = ([at(0), at(1)], [at(2), at(3)]);
        let user = bytes.get(4..).unwrap_or_default().to_vec();
        (u16::from_be_bytes(group), u16::from_be_bytes(table), user)
    };
    let (a, b) = (parts(a), parts(b));
    let whole =
        |(group, table, user): &(u16, u16, Vec<u8>)| key::encode(*group, TableId(*table), user);
    assert_eq!(a.cmp(&b), whole(&a).cmp(&whole(&b)));
    assert_eq!(key::group(&whole(&a)), Some(a.0));
    if let Some(successor) = key::successor(&whole(&a)) {
        let below = [whole(&a), b.2.clone()].concat();
        assert!(
            below < successor,
            "what starts with a prefix is below its successor"
        );
    }
}

fn uri(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = black_box(objects::is_understood(text));
    }
}

/// Valid inputs, by the name of their target.
pub fn samples() -> Vec<(&'static str, Vec<u8>)> {
    let mut samples = Vec::new();
    let plain = sample_block();
    let mut sealer = Sealer::default();
    for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
        let mut sealed = Vec::new();
        sealer.seal(&plain, compression, 7, 99, &mut sealed);
        let unsealed = sealed.get(..sealed.len() - 8).unwrap_or_default();
        samples.push(("unseal", unsealed.to_vec()));
        samples.push(("sealed-block", sealed));
    }
    samples.push(("block", plain));
    let hashes: Vec<u64> = (0..900u64)
        .map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15))
        .collect();
    let mut pages = Vec::new();
    filter::build(&hashes, 10, 7, 0, &mut pages);
    samples.push(("filter", pages));
    let mut indexes = IndexBuilder::default();
    for i in 0..40u64 {
        let place = Place {
            offset: i * 5000,
            bytes: 4000,
        };
        indexes.add(format!("table/key {i:04}").as_bytes(), place);
    }
    let mut encoded = Vec::new();
    indexes.finish(0, &mut encoded);
    samples.push(("index", encoded));
    let union = [("a", "c"), ("f", "k"), ("x", "zz")];
    let union = union.map(|(a, b)| {
        (
            Bytes::from_static(a.as_bytes()),
            Bytes::from_static(b.as_bytes()),
        )
    });
    let mut encoded = Vec::new();
    RangeTombstones::union(union).encode(&mut encoded);
    samples.push(("ranges", encoded));
    let mut counter = Counter::default();
    for group in 0..20 {
        let key = key::encode(group, TableId(group % 3), b"user");
        counter.add(&key, &RowRef::plain(Some(b"value")), 5);
    }
    let mut encoded = Vec::new();
    counter.finish().encode(&mut encoded);
    samples.push(("properties", encoded));
    let options = TableOptions {
        ordered: true,
        merge: Merge::Fold("sum-i64".into()),
        ttl_ms: Some(1000),
        prefix: vec![
            KeyPart::Fixed(4),
            KeyPart::Optional(vec![KeyPart::Terminated, KeyPart::Fixed(2)]),
        ],
        ..TableOptions::default()
    };
    let mut encoded = Vec::new();
    options.encode(&mut encoded);
    samples.push(("table-options", encoded));
    let list = Checkpoint {
        files: (0..5).map(sample_file).collect(),
        ..Checkpoint::default()
    };
    let mut encoded = Vec::new();
    list.encode(&mut encoded);
    samples.push(("checkpoint", encoded));
    let task = CompactionTask {
        runs: vec![list.files.clone(), Vec::new(), vec![sample_file(9)]],
        output_level: 2,
        drop_tombstones: true,
        file_bytes_target: 1 << 20,
        block_bytes: 8 << 10,
        filter_bits_per_key: 10,
        compression: Compression::Lz4,
        value_aside_bytes: 4 << 10,
        tables: vec![(TableId(1), options)],
        clock: ExpiryClock::new(12, [(TableId(1), -3)]),
        operands_since_ms: -5,
        directory: "job/shared".into(),
        file_prefix: "000001-w0".into(),
    };
    let mut encoded = Vec::new();
    task.encode(&mut encoded);
    samples.push(("compaction-task", encoded));
    let job = JobMessage {
        place: "job".into(),
        lease_ms: 5,
        task,
    };
    samples.push(("compaction-job", job.encode()));
    for outcome in [
        Outcome::Done(list.files),
        Outcome::Failed("no disk".into()),
        Outcome::TakenBack,
    ] {
        let result = ResultMessage {
            by: "compactor".into(),
            claim: 3,
            outcome,
        };
        samples.push(("compaction-result", result.encode()));
    }
    samples.push(("compaction-names", b"beat-000001-00000002".to_vec()));
    samples.push(("cache-sidecar", sample_sidecar()));
    samples.push(("row", vec![0, 1, b'a', 3, b'x', b'y', b'z']));
    samples.push((
        "key",
        vec![0, 1, 0, 2, b'k', b'e', b'y', 0, 1, 0, 2, b'k', b'f', 0xff],
    ));
    samples.push(("uri", b"s3a://bucket/prefix/deep".to_vec()));
    samples
}

fn sample_block() -> Vec<u8> {
    let mut builder = BlockBuilder::default();
    for i in 0..60u16 {
        let key = key::encode(3, TableId(1), format!("user {i:05}").as_bytes());
        let value = vec![i as u8; usize::from(i)];
        let (kind, value) = match i % 5 {
            0 => (RowKind::Tombstone, &[][..]),
            _ => (RowKind::Value, &value[..]),
        };
        let time = (i % 3 == 0).then_some(i64::from(i) * 1000);
        let row = RowRef::new(kind, time, value);
        builder.add(&key, key::hash(&key).unwrap_or_default(), &row, None);
    }
    let mut out = Vec::new();
    builder.finish(&mut out);
    out
}

fn sample_file(number: u64) -> FileRef {
    FileRef {
        path: format!("job/shared/000001-w0-{number:08}.sst"),
        size_bytes: 100_000 + number,
        level: (number % 3) as u8,
        clip: KeyGroupRange { start: 0, end: 127 },
        entries: number * 7,
        checksum: number.wrapping_mul(0x9e37_79b9_7f4a_7c15),
        smallest: Bytes::from(vec![0, number as u8, 0, 1]),
        upper: Bytes::from(vec![9; 5]),
        end_bytes: 200,
        times_ms: number.is_multiple_of(2).then_some((-5, number as i64)),
        ..FileRef::default()
    }
}
