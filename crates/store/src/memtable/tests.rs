//! A memtable beside a `BTreeMap` under random operations.
use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::TableId;
use crate::fold::{Fold, Folds};
use crate::row::{Content, List, SourceRow};
use crate::rules::{MergeRule, Rules};

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

fn header(group: u16) -> [u8; KEY_HEADER_BYTES] {
    key::header(group, TableId(1))
}

fn hash(group: u16, key: &[u8]) -> u64 {
    key::hash_parts(header(group), key)
}

/// Never combines.
struct Log;
impl Fold for Log {
    fn fold(&self, value: Option<&[u8]>, operand: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(value.unwrap_or(b"^"));
        out.extend_from_slice(operand);
    }
}

/// What a key holds: a value, nothing, or operands on something unknown.
#[derive(Clone, Debug, PartialEq)]
enum Known {
    Value(Vec<u8>, Option<i64>),
    Nothing,
    Operands(Vec<Vec<u8>>, Option<i64>),
}

fn known(row: SourceRow<'_>) -> Known {
    match row.content {
        Content::Tombstone => Known::Nothing,
        Content::Value(value) => Known::Value(value.to_vec(), row.time_ms),
        Content::Operands(operands) => {
            let list = operands.list.map(<[u8]>::to_vec).collect();
            Known::Operands(list, row.time_ms)
        }
    }
}

fn rules(merge: MergeRule) -> Rules {
    Rules {
        merge,
        ..Rules::UNKNOWN
    }
}

type Model = BTreeMap<(u16, Vec<u8>), Known>;

fn merge_into(
    model: &mut Model,
    at: (u16, Vec<u8>),
    operand: &[u8],
    time: Option<i64>,
    older: bool,
    rule: &MergeRule,
) {
    let fold = |value: Option<&[u8]>| {
        let mut out = Vec::new();
        match rule {
            MergeRule::Fold(fold) => fold.fold(value, operand, &mut out),
            _ => {
                out.extend_from_slice(value.unwrap_or_default());
                out.extend_from_slice(operand);
            }
        }
        out
    };
    let made = match model.remove(&at) {
        Some(Known::Value(value, then)) => Known::Value(fold(Some(&value)), then.max(time)),
        Some(Known::Nothing) => Known::Value(fold(None), time),
        None if !older => Known::Value(fold(None), time),
        None => Known::Operands(vec![operand.to_vec()], time),
        Some(Known::Operands(mut list, then)) => {
            match rule {
                MergeRule::Fold(fold) => {
                    let mut out = Vec::new();
                    let last = list.last().cloned().unwrap_or_default();
                    if fold.combine(&last, operand, &mut out) {
                        list = vec![out];
                    } else {
                        list.push(operand.to_vec());
                    }
                }
                _ => list[0].extend_from_slice(operand),
            }
            Known::Operands(list, then.max(time))
        }
    };
    model.insert(at, made);
}

#[test]
fn behaves_like_a_sorted_map() {
    let folds = [
        MergeRule::Append,
        MergeRule::Fold(Folds::default().get("max-i64").unwrap()),
        MergeRule::Fold(Arc::new(Log)),
    ];
    for run in 0..6u64 {
        let ordered = run % 2 == 0;
        let rule = &folds[run as usize / 2];
        let mut random = Seeded(42 + run);
        let mut table = Memtable::new(ordered);
        let mut model = Model::new();
        for step in 0..20_000i64 {
            let group = random.below(4) as u16;
            let key =
                format!("{:0w$}", random.below(900), w = 1 + (step as usize % 3)).into_bytes();
            let time = (run % 3 > 0).then_some(step).filter(|_| step % 3 > 0);
            let len = match random.below(200) {
                0 => 3_000 + random.below(6_000),
                n => random.below(40) * (n % 5),
            };
            let bytes = vec![step as u8; len as usize];
            match random.below(12) {
                0..2 => {
                    table
                        .put(hash(group, &key), group, &key, None, time)
                        .unwrap();
                    model.insert((group, key), Known::Nothing);
                }
                2..6 => {
                    table
                        .put(hash(group, &key), group, &key, Some(&bytes), time)
                        .unwrap();
                    model.insert((group, key), Known::Value(bytes, time));
                }
                6 if step % 40 == 0 => {
                    let prefix = format!("{}", random.below(100)).into_bytes();
                    let older = random.below(2) == 0;
                    table.delete_prefix(header(group), &prefix, older).unwrap();
                    for ((g, key), row) in &mut model {
                        if *g == group && key.starts_with(&prefix) {
                            *row = Known::Nothing;
                        }
                    }
                    let inside = [&header(group)[..], &prefix, b"x"].concat();
                    assert!(!older || table.ranges().covering(&inside).is_some());
                }
                _ => {
                    let older = random.below(2) == 0;
                    let rules = rules(rule.clone());
                    let operand = &bytes[..bytes.len().min(50)];
                    table
                        .merge(hash(group, &key), group, &key, operand, time, &rules, older)
                        .unwrap();
                    merge_into(&mut model, (group, key), operand, time, older, rule);
                }
            }
        }
        assert_eq!(table.rows(), model.len());
        for ((group, key), row) in &model {
            let found = table.get(hash(*group, key), *group, key).map(known);
            assert_eq!(found, Some(row.clone()), "{key:?}");
        }
        assert_eq!(table.get(hash(9, b"x"), 9, b"x"), None);
        for sorted in [false, true] {
            if sorted {
                table.sort();
            }
            for _ in 0..200 {
                let group = random.below(5) as u16;
                let from = format!("{}", random.below(900)).into_bytes();
                let seen: Vec<_> = (table.rows_from(group, &from, None).take(50))
                    .map(|row| (row.key.to_vec(), known(row.said)))
                    .collect();
                let expected: Vec<_> = (model.range((group, from)..))
                    .take_while(|((g, _), _)| *g == group)
                    .take(50)
                    .map(|((_, k), row)| (k.clone(), row.clone()))
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
        index.insert(Prefix::default(), Place(offset), |p| p.0.cmp(&offset));
    }
    assert!(
        index.bytes() < 10_000 * 22,
        "leaves of growing keys are full: {}",
        index.bytes()
    );
    let all: Vec<u32> = index.places().iter().map(|p| p.0).collect();
    assert_eq!(all, (0..10_000).collect::<Vec<_>>());
    // All prefixes tie here, over many leaves.
    for sought in (0..10_000).step_by(97) {
        let mut at = index.lower_bound(Prefix::default(), |p| p.0.cmp(&sought));
        assert_eq!(index.next(&mut at), Some(Place(sought)));
        index.moved(Prefix::default(), Place(sought), |p| p.0.cmp(&sought));
    }
    assert_eq!(index.places().len(), 10_000);
}

#[test]
fn values_of_the_same_size_take_no_more_memory() {
    let mut table = Memtable::new(false);
    let mut put = |i: u32| {
        table
            .put(hash(0, b"k"), 0, b"k", Some(&[i as u8; 100]), None)
            .unwrap();
        table.bytes()
    };
    let before = put(1);
    for i in 0..100_000u32 {
        assert_eq!(put(i), before);
    }
}

#[test]
fn appending_costs_memory_in_proportion_to_what_is_appended() {
    let rules = rules(MergeRule::Append);
    for (lists, elements) in [(1u32, 200_000u32), (20_000, 10)] {
        let mut table = Memtable::new(false);
        for element in 0..elements {
            for list in 0..lists {
                let key = list.to_be_bytes();
                let operand = [element as u8; 50];
                table
                    .merge(
                        hash(0, &key),
                        0,
                        &key,
                        &operand,
                        None,
                        &rules,
                        element % 2 == 0,
                    )
                    .unwrap();
            }
        }
        let payload = (lists * elements * 50) as usize;
        assert!(
            table.bytes() < 3 * payload,
            "{} bytes for {payload} of payload",
            table.bytes()
        );
        let key = 7u32.min(lists - 1).to_be_bytes();
        let row = table.get(hash(0, &key), 0, &key).unwrap();
        let Content::Operands(operands) = row.content else {
            panic!("what is below is not known")
        };
        let List::One(list) = operands.list else {
            panic!("appended operands are one")
        };
        assert_eq!(list.len(), 50 * elements as usize);
        assert!(list.chunks(50).enumerate().all(|(i, c)| c == [i as u8; 50]));
    }
}

#[test]
fn an_operand_that_comes_too_late_meets_nothing() {
    let rules = Rules {
        ttl_ms: Some(10),
        ..rules(MergeRule::Append)
    };
    let mut table = Memtable::new(false);
    let at = hash(0, b"k");
    table.put(at, 0, b"k", Some(b"old"), Some(100)).unwrap();
    table
        .merge(at, 0, b"k", b"+a", Some(109), &rules, true)
        .unwrap();
    table
        .merge(at, 0, b"k", b"+b", Some(118), &rules, true)
        .unwrap();
    let row = |table: &Memtable| known(table.get(at, 0, b"k").unwrap());
    assert_eq!(row(&table), Known::Value(b"old+a+b".to_vec(), Some(118)));
    table
        .merge(at, 0, b"k", b"new", Some(128), &rules, true)
        .unwrap();
    assert_eq!(row(&table), Known::Value(b"new".to_vec(), Some(128)));
    // Operands on something unknown: when they have expired, so has what they were written upon.
    let mut table = Memtable::new(false);
    table
        .merge(at, 0, b"k", b"a", Some(5), &rules, true)
        .unwrap();
    assert_eq!(row(&table), Known::Operands(vec![b"a".to_vec()], Some(5)));
    table
        .merge(at, 0, b"k", b"b", Some(15), &rules, true)
        .unwrap();
    assert_eq!(row(&table), Known::Value(b"b".to_vec(), Some(15)));
    assert_eq!(table.oldest_ms(), 5);
    // What has no time counts as written when the table says, and otherwise never ends.
    for (untimed_as_ms, expected) in [(Some(100), &b"b"[..]), (None, b"ab")] {
        let rules = Rules {
            untimed_as_ms,
            ..rules.clone()
        };
        let mut table = Memtable::new(false);
        for (operand, time_ms) in [(b"a", None), (b"b", Some(110))] {
            let merged = table.merge(at, 0, b"k", operand, time_ms, &rules, false);
            merged.unwrap();
        }
        assert_eq!(row(&table), Known::Value(expected.to_vec(), Some(110)));
    }
}

/// A replay brought one list an event far ahead of its watermark after one near it; the first element was gone, although it lived.
#[test]
fn an_event_far_ahead_ends_nothing() {
    let rules = Rules {
        ttl_ms: Some(10),
        event_time: true,
        ..rules(MergeRule::Append)
    };
    let at = hash(0, b"k");
    for older in [false, true] {
        let mut table = Memtable::new(false);
        for (operand, time_ms) in [(b"a", 0), (b"b", 1000), (b"c", 5)] {
            let merged = table.merge(at, 0, b"k", operand, Some(time_ms), &rules, older);
            merged.unwrap();
        }
        let row = known(table.get(at, 0, b"k").unwrap());
        let all = b"abc".to_vec();
        let expected = match older {
            false => Known::Value(all, Some(1000)),
            true => Known::Operands(vec![all], Some(1000)),
        };
        assert_eq!(row, expected);
        assert_eq!(table.oldest_ms(), 0);
    }
}
