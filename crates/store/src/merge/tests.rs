//! Any grouping of rows into sources gives what writing them one after the other gives.
use std::sync::Arc;

use super::*;
use crate::fold::{Fold, Folds};

/// Remembers every operand with a mark, and never combines.
struct Log;
impl Fold for Log {
    fn fold(&self, value: Option<&[u8]>, operand: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(value.unwrap_or(b"^"));
        out.push(b'.');
        out.extend_from_slice(operand);
    }
}

fn rules(merge: MergeRule, ttl_ms: Option<u64>) -> Rules {
    Rules {
        merge,
        merges: true,
        ttl_ms,
        ..Rules::UNKNOWN
    }
}

fn below(random: &mut u64, n: u64) -> u64 {
    *random = random
        .wrapping_mul(6364136223846793005)
        .wrapping_add(1442695040888963407);
    (*random >> 33) % n
}

#[derive(Clone, Debug)]
enum Write {
    Put(Vec<u8>),
    Delete,
    Merge(Vec<u8>),
}

type Owned = (RowKind, Option<i64>, Vec<u8>);

fn owned(row: RowRef<'_>) -> Owned {
    (row.kind, row.time_ms, row.value.to_vec())
}

fn merged(rows: &[Owned], open: bool, rules: &Rules) -> Option<Owned> {
    let mut merging = Merging::default();
    merging.start(open);
    for (kind, time_ms, value) in rows {
        let row = RowRef::new(*kind, *time_ms, value);
        merging.add(&row.open().unwrap(), rules);
    }
    merging.row().map(owned)
}

fn single(write: &Write, time_ms: Option<i64>) -> Owned {
    match write {
        Write::Put(value) => (RowKind::Value, time_ms, value.clone()),
        Write::Delete => (RowKind::Tombstone, None, Vec::new()),
        Write::Merge(operand) => {
            let operands = Operands {
                rooted: false,
                base: None,
                first_ms: time_ms,
                list: List::One(operand),
            };
            let mut bytes = Vec::new();
            put_operands(&mut bytes, &operands, time_ms);
            (RowKind::Operands, time_ms, bytes)
        }
    }
}

#[test]
fn grouping_does_not_matter() {
    let folds: Vec<(MergeRule, bool)> = vec![
        (MergeRule::Append, false),
        (
            MergeRule::Fold(Folds::default().get("sum-i64").unwrap()),
            true,
        ),
        (MergeRule::Fold(Arc::new(Log)), false),
    ];
    for seed in 0..3_000u64 {
        let mut random = seed;
        let (rule, numbers) = &folds[seed as usize % folds.len()];
        let ttl = (seed % 2 == 0).then_some(20);
        // Some tables have a TTL only since a moment, and rows from before have no time or an earlier one.
        let switched_on_ms = (seed % 4 == 0).then_some(130);
        let [known, unknown] = [rule.clone(), MergeRule::Unknown].map(|merge| Rules {
            untimed_as_ms: switched_on_ms,
            ..rules(merge, ttl)
        });
        let mut time = 100;
        let mut writes = Vec::new();
        for i in 0..1 + below(&mut random, 9) {
            time += below(&mut random, 15) as i64;
            let bytes = if *numbers {
                (i as i64 + 1).to_le_bytes().to_vec()
            } else {
                format!("{i}").into_bytes()
            };
            let write = match below(&mut random, 8) {
                0 => Write::Put(bytes),
                1 => Write::Delete,
                _ => Write::Merge(bytes),
            };
            let untimed = switched_on_ms.is_some_and(|on| time <= on) && below(&mut random, 2) == 0;
            writes.push((write, ttl.map(|_| time).filter(|_| !untimed)));
        }
        let rows: Vec<Owned> = writes.iter().map(|(w, t)| single(w, *t)).collect();
        // What a store that folds each operand at once would hold.
        let mut model: Option<(Vec<u8>, Option<i64>)> = None;
        for (write, time_ms) in &writes {
            let expired = match (&model, (*time_ms).max(switched_on_ms)) {
                (Some((_, then)), Some(now)) => known.expired(*then, now),
                _ => false,
            };
            let before = model.take();
            model = match write {
                Write::Put(value) => Some((value.clone(), *time_ms)),
                Write::Delete => None,
                Write::Merge(operand) => {
                    let before = before.filter(|_| !expired);
                    let mut out = Vec::new();
                    match &known.merge {
                        MergeRule::Fold(fold) => {
                            fold.fold(before.as_ref().map(|(v, _)| &v[..]), operand, &mut out);
                        }
                        _ => {
                            out.extend(before.iter().flat_map(|(v, _)| v));
                            out.extend(operand);
                        }
                    }
                    Some((out, before.and_then(|(_, t)| t).max(*time_ms)))
                }
            };
        }
        // Group neighbours at random, several times over, some of them where nobody knows the fold.
        let mut sources = rows.clone();
        while sources.len() > 1 {
            let start = below(&mut random, sources.len() as u64) as usize;
            let end = start + 1 + below(&mut random, (sources.len() - start) as u64) as usize;
            let by = if below(&mut random, 3) == 0 {
                &unknown
            } else {
                &known
            };
            let bottom = start == 0 && below(&mut random, 2) == 0;
            let joined = merged(&sources[start..end], !bottom, by);
            sources.splice(start..end, joined);
        }
        let found = merged(&sources, false, &known)
            .filter(|(kind, ..)| *kind != RowKind::Tombstone)
            .map(|(kind, time_ms, value)| {
                assert_eq!(kind, RowKind::Value);
                (value, time_ms)
            });
        assert_eq!(found, model, "seed {seed}: {writes:?}");
    }
}

#[test]
fn an_unknown_fold_keeps_operands_and_an_unknown_table_says_so() {
    let mut merging = Merging::default();
    merging.start(false);
    for row in [
        single(&Write::Put(b"base".to_vec()), None),
        single(&Write::Merge(b"a".to_vec()), None),
        single(&Write::Merge(b"b".to_vec()), None),
    ] {
        let row = RowRef::new(row.0, row.1, &row.2);
        merging.add(&row.open().unwrap(), &Rules::UNKNOWN);
    }
    let error = merging.take_value().unwrap_err();
    assert_eq!(error.kind, crate::ErrorKind::Usage);
    let kept = merging.row().map(owned).unwrap();
    assert_eq!(kept.0, RowKind::Operands);
    let log = rules(MergeRule::Fold(Arc::new(Log)), None);
    let value = merged(&[kept], true, &log).unwrap();
    assert_eq!(value, (RowKind::Value, None, b"base.a.b".to_vec()));
}

#[test]
fn expired_rows_become_tombstones() {
    let rules = rules(MergeRule::Append, Some(10));
    let mut merging = Merging::default();
    for (row, kind) in [
        (single(&Write::Put(b"v".to_vec()), Some(5)), RowKind::Value),
        (
            single(&Write::Merge(b"v".to_vec()), Some(5)),
            RowKind::Operands,
        ),
    ] {
        for (now, expected) in [(14, kind), (15, RowKind::Tombstone)] {
            merging.start(true);
            let row = RowRef::new(row.0, row.1, &row.2);
            merging.add(&row.open().unwrap(), &rules);
            merging.expire(&rules, now);
            assert_eq!(merging.row().unwrap().kind, expected);
        }
    }
}

/// Operands on rows that are not seen: those have no time here, which does not mean that they were written without one.
#[test]
fn what_is_not_seen_has_not_expired() {
    let rules = Rules {
        untimed_as_ms: Some(100),
        ..rules(MergeRule::Append, Some(10))
    };
    let late = [single(&Write::Merge(b"+".to_vec()), Some(500))];
    let open = merged(&late, true, &rules).unwrap();
    assert_eq!(open.0, RowKind::Operands);
    let seen = [single(&Write::Put(b"v".to_vec()), Some(495)), open];
    let value = merged(&seen, false, &rules).unwrap();
    assert_eq!(value, (RowKind::Value, Some(500), b"v+".to_vec()));
    let untimed = [single(&Write::Put(b"v".to_vec()), None), late[0].clone()];
    let value = merged(&untimed, true, &rules).unwrap();
    assert_eq!(value, (RowKind::Value, Some(500), b"+".to_vec()));
}

/// The times of events may lie far ahead of the event time that decides what has expired.
#[test]
fn events_far_ahead_end_nothing() {
    let clock = rules(MergeRule::Append, Some(10));
    let events = Rules {
        event_time: true,
        ..clock.clone()
    };
    let rows = [
        single(&Write::Put(b"v".to_vec()), Some(0)),
        single(&Write::Merge(b"+a".to_vec()), Some(1000)),
        single(&Write::Merge(b"+b".to_vec()), Some(5)),
    ];
    let value = merged(&rows, false, &events).unwrap();
    assert_eq!(value, (RowKind::Value, Some(1000), b"v+a+b".to_vec()));
    let open = merged(&rows[1..], true, &events).unwrap();
    assert_eq!(
        merged(&[rows[0].clone(), open], false, &events),
        Some(value)
    );
    let value = merged(&rows[..2], false, &clock).unwrap();
    assert_eq!(value, (RowKind::Value, Some(1000), b"+a".to_vec()));
}
