//! A memtable beside a `BTreeMap` under random operations.
use std::collections::BTreeMap;

use super::*;
use crate::TableId;
use crate::key;

struct Seeded(u64);
impl Seeded {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (self.0 >> 33) % n
    }
}

fn hash(group: u16, key: &[u8]) -> u64 {
    key::hash_parts(key::header(group, TableId(1)), key)
}

#[test]
fn behaves_like_a_sorted_map() {
    for ordered in [false, true] {
        let mut random = Seeded(42 + u64::from(ordered));
        let mut table = Memtable::new(ordered);
        let mut model: BTreeMap<(u16, Vec<u8>), Option<Vec<u8>>> = BTreeMap::new();
        for step in 0..20_000 {
            let group = random.below(4) as u16;
            let key = format!("{:0w$}", random.below(900), w = 1 + (step % 3)).into_bytes();
            let value = match random.below(5) {
                0 => None,
                n => Some(vec![step as u8; (random.below(40) * n) as usize]),
            };
            table.put(hash(group, &key), group, &key, value.as_deref());
            model.insert((group, key), value);
        }
        assert_eq!(table.rows(), model.len());
        for ((group, key), value) in &model {
            assert_eq!(
                table.get(hash(*group, key), *group, key),
                Some(value.as_deref())
            );
        }
        assert_eq!(table.get(hash(9, b"x"), 9, b"x"), None);
        for sorted in [false, true] {
            if sorted {
                table.sort();
            }
            for _ in 0..200 {
                let group = random.below(5) as u16;
                let from = format!("{}", random.below(900)).into_bytes();
                let seen: Vec<_> = (table.rows_from(group, &from).take(50))
                    .map(|row| (row.key.to_vec(), row.value.map(<[u8]>::to_vec)))
                    .collect();
                let expected: Vec<_> = (model.range((group, from)..))
                    .take_while(|((g, _), _)| *g == group)
                    .take(50)
                    .map(|((_, k), v)| (k.clone(), v.clone()))
                    .collect();
                assert_eq!(seen, expected);
            }
        }
        let all: Vec<_> = (0..)
            .map_while(|i| table.sorted_row(i))
            .map(|r| (r.group, r.key.to_vec()))
            .collect();
        assert_eq!(all, model.keys().cloned().collect::<Vec<_>>());
    }
}

#[test]
fn growing_keys_fill_their_leaves() {
    let mut index = OrderedIndex::default();
    for offset in 0..10_000u32 {
        index.insert(Prefix::default(), Place { chunk: 0, offset }, |p| {
            p.offset.cmp(&offset)
        });
    }
    assert!(
        index.bytes() < 10_000 * 26,
        "leaves of growing keys are full: {}",
        index.bytes()
    );
    let all: Vec<u32> = index.places().iter().map(|p| p.offset).collect();
    assert_eq!(all, (0..10_000).collect::<Vec<_>>());
}

#[test]
fn values_of_the_same_size_take_no_more_memory() {
    let mut table = Memtable::new(false);
    table.put(hash(0, b"k"), 0, b"k", Some(&[1; 100]));
    let before = table.bytes();
    for i in 0..100_000u32 {
        table.put(hash(0, b"k"), 0, b"k", Some(&[i as u8; 100]));
    }
    assert_eq!(table.bytes(), before);
}
