//! Blocks against a model: rows come back by key and in order, whatever their kinds, and damaged bytes are errors or rows, never a panic.

use std::collections::BTreeMap;

use super::*;
use crate::key;
use crate::options::Compression;
use crate::row::RowRef;
use crate::sst::seal::{Sealer, put_checksum};

fn name() -> String {
    "block".into()
}

struct Random(u64);

impl Random {
    fn below(&mut self, below: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (self.0 >> 33) % below
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Row {
    kind: RowKind,
    time_ms: Option<i64>,
    value: Vec<u8>,
    aside: Option<Aside>,
}

fn random_row(random: &mut Random, value_max: u64) -> Row {
    let kind = [RowKind::Tombstone, RowKind::Value, RowKind::Operands][random.below(3) as usize];
    let time_ms = match random.below(4) {
        0 => Some(1_700_000_000_000 + random.below(1 << 40) as i64 - (1 << 39)),
        1 => Some([i64::MIN, i64::MAX, 0, -1][random.below(4) as usize]),
        _ => None,
    };
    let aside = (kind != RowKind::Tombstone && random.below(10) == 0).then(|| Aside {
        place: Place {
            offset: random.below(1 << 33),
            bytes: random.below(1 << 32) as u32,
        },
        plain_bytes: random.below(1 << 32) as u32,
    });
    let value = match kind {
        RowKind::Tombstone => Vec::new(),
        _ if aside.is_some() => Vec::new(),
        _ => vec![random.below(256) as u8; random.below(value_max) as usize],
    };
    Row {
        kind,
        time_ms,
        value,
        aside,
    }
}

fn hash(key: &[u8]) -> u64 {
    key::hash(key).unwrap_or_else(|| key.iter().fold(7, |h, &b| h * 31 + u64::from(b)))
}

fn build(rows: &BTreeMap<Vec<u8>, Row>) -> Vec<u8> {
    let mut builder = BlockBuilder::default();
    let mut out = Vec::new();
    // A builder that was used before behaves like a new one.
    builder.add(
        b"other",
        1,
        &RowRef::new(RowKind::Value, Some(5), b"row"),
        None,
    );
    builder.finish(&mut out);
    assert!(builder.is_empty());
    for (key, row) in rows {
        let given = RowRef::new(row.kind, row.time_ms, &row.value);
        builder.add(key, hash(key), &given, row.aside);
    }
    builder.finish(&mut out);
    out
}

fn read(block: &DataBlock, row: &BlockRow) -> Row {
    let (value, aside) = match &row.value {
        BlockValue::Inline(range) => (block.data()[range.clone()].to_vec(), None),
        BlockValue::Aside(aside) => (Vec::new(), Some(*aside)),
    };
    Row {
        kind: row.kind,
        time_ms: row.time_ms,
        value,
        aside,
    }
}

/// Random blocks against a `BTreeMap`: every row comes back by key and in order, every seek stands where it should.
#[test]
fn blocks_are_what_was_put_in() {
    let mut random = Random(1);
    for round in 0..400 {
        let prefix = vec![b'p'; [0, 3, 31, 32, 33, 100][random.below(6) as usize]];
        let make = |random: &mut Random| {
            let mut key = prefix.clone();
            // Heads of rows do not decide between these.
            if random.below(2) == 0 {
                key.extend_from_slice(b"bbbbbbbb");
            }
            for _ in 0..random.below(7) {
                key.push(b'a' + random.below(3) as u8);
            }
            key
        };
        // Some blocks are longer than 64 KiB.
        let (count, value_max) = match round % 20 {
            0 => (900, 300),
            1 => (1, 1 << 17),
            _ => (random.below(60), 20),
        };
        let mut rows = BTreeMap::new();
        for _ in 0..count {
            let (key, row) = (make(&mut random), random_row(&mut random, value_max));
            rows.insert(key, row);
        }
        let mut sealed = Vec::new();
        let compression =
            [Compression::None, Compression::Lz4, Compression::Zstd][random.below(3) as usize];
        Sealer::default().seal(&build(&rows), compression, 5, 77, &mut sealed);
        let block = DataBlock::decode(&name, &sealed, 5, 77).unwrap();
        block.check(&name, hash).unwrap();
        assert_eq!(block.rows(), rows.len());
        let mut cursor = BlockCursor::default();
        for (key, row) in &rows {
            let found = block.get(hash(key), key).expect("the row is there");
            assert_eq!(read(&block, &found), *row);
            assert!(cursor.advance(&block));
            assert_eq!(cursor.key(), key);
            let given = RowRef::new(row.kind, row.time_ms, &row.value);
            assert_eq!(cursor.row(&block), Some(given));
            assert_eq!(cursor.aside(), row.aside);
        }
        assert!(!cursor.advance(&block));
        assert_eq!(cursor.row(&block), None);
        for _ in 0..100 {
            let mut key = make(&mut random);
            if random.below(3) == 0 {
                key = [&b""[..], b"p", b"q", b"pz", b"o"][random.below(5) as usize].to_vec();
            }
            let known = block.get(hash(&key), &key).is_some();
            assert_eq!(known, rows.contains_key(&key), "{key:?}");
            let expected: Vec<&Vec<u8>> =
                rows.range(key.clone()..).map(|(k, _)| k).take(3).collect();
            let mut found = Vec::new();
            let mut more = cursor.seek(&block, &key);
            while more && found.len() < 3 {
                found.push(cursor.key().to_vec());
                more = cursor.advance(&block);
            }
            assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{key:?}");
        }
    }
}

#[test]
fn nonsense_behind_a_right_checksum_does_not_panic() {
    let mut random = Random(7);
    let mut decoded = 0;
    for round in 0..20_000u64 {
        let mut plain: Vec<u8> = (0..random.below(97))
            .map(|_| random.below(20) as u8)
            .collect();
        if round % 2 == 0 {
            // A frame that fits, around nonsense.
            for small in [random.below(4), random.below(5), 1 + random.below(6)] {
                plain.extend_from_slice(&(small as u32).to_le_bytes());
            }
            plain.extend_from_slice(&random.below(u64::MAX).to_le_bytes());
            plain.push(random.below(2) as u8);
        }
        plain.push(0);
        plain.extend_from_slice(&(plain.len() as u32 - 1).to_le_bytes());
        let (body, len) = plain.split_at(plain.len() - 5);
        let mut sealed = [body, len].concat();
        put_checksum(&mut sealed, 0, 0, 0);
        let Ok(block) = DataBlock::decode(&name, &sealed, 0, 0) else {
            continue;
        };
        decoded += 1;
        block.get(random.below(u64::MAX), b"some key");
        block.get(random.below(u64::MAX), b"");
        let _ = block.check(&name, hash);
        let mut cursor = BlockCursor::default();
        cursor.seek(&block, b"k");
        for _ in 0..200 {
            cursor.advance(&block);
            cursor.row(&block);
        }
    }
    assert!(decoded > 1_000, "only {decoded} were read at all");
}

#[test]
fn a_hash_index_that_does_not_find_a_row_is_noticed() {
    let mut random = Random(3);
    let rows: BTreeMap<Vec<u8>, Row> = (0..50u32)
        .map(|i| (i.to_be_bytes().repeat(2), random_row(&mut random, 9)))
        .collect();
    let good = build(&rows);
    let block = DataBlock::from_plain(&name, good.clone().into()).unwrap();
    block.check(&name, hash).unwrap();
    let (start, end) = (block.rows_end as usize, block.offsets_at as usize);
    let mut noticed = 0;
    for at in start..end {
        let mut bad = good.clone();
        bad[at] ^= 0x5a;
        let block = DataBlock::from_plain(&name, bad.into()).unwrap();
        noticed += usize::from(block.check(&name, hash).is_err());
    }
    // What goes unnoticed are tags and offsets of empty buckets.
    assert!(noticed * 2 > end - start, "{noticed} of {}", end - start);
}
