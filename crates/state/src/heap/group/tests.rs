//! A group against a `BTreeMap`, under random writes, freezes, snapshots that finish late, and folding.
use std::collections::BTreeMap;

use super::*;

/// Values with their times.
type Timed = BTreeMap<Vec<u8>, (Vec<u8>, Option<i64>)>;

/// A small generator of numbers, so that a failure repeats.
struct Random(u64);
impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (self.0 >> 33) % n
    }
}

/// What a snapshot of this one key group would hold.
fn freeze(group: &mut Group) -> Vec<Arc<Rows>> {
    let mut frozen = FrozenGroups::with_capacity(1, 1);
    group.freeze(&mut frozen);
    frozen.get(0).unwrap().to_vec()
}

fn live(layers: &[Arc<Rows>]) -> Timed {
    let rows: Vec<_> = LiveRows::all(layers.iter().rev().map(Arc::as_ref)).collect();
    assert!(rows.is_sorted_by(|a, b| a.0 < b.0));
    rows.into_iter()
        .map(|(key, value, time)| (key.to_vec(), (value.to_vec(), time)))
        .collect()
}

fn scan_all(group: &Group, prefix: &[u8], piece: usize) -> Timed {
    let mut rows = Timed::new();
    let mut from = Vec::new();
    loop {
        let answer = group.scan(prefix, &from, None, piece, &|_| false);
        assert!(answer.rows.len() <= piece);
        assert!(answer.rows.is_sorted_by(|a, b| a.0 < b.0));
        if let Some((key, _)) = answer.rows.last() {
            from = key.to_vec();
            from.push(0);
        }
        assert!(answer.times.is_empty() || answer.times.len() == answer.rows.len());
        for (at, (key, value)) in answer.rows.iter().enumerate() {
            rows.insert(key.to_vec(), (value.to_vec(), answer.time_ms(at)));
        }
        if answer.done {
            return rows;
        }
    }
}

fn run(seed: u64, ordered: bool) {
    let mut random = Random(seed);
    let mut group = Group::new(ordered);
    let mut model = Timed::new();
    let mut snapshots: Vec<(Vec<Arc<Rows>>, Timed)> = Vec::new();
    for step in 0..3000 {
        let key = vec![random.below(4) as u8, random.below(30) as u8];
        match random.below(20) {
            0..=9 => {
                let value = vec![random.below(256) as u8; 1 + random.below(3) as usize];
                let time = (random.below(2) == 0).then(|| random.below(9) as i64 - 4);
                group.put(&key, &value, time);
                model.insert(key, (value, time));
            }
            10..=14 => {
                group.delete(&key);
                model.remove(&key);
            }
            15 if snapshots.len() < 6 => snapshots.push((freeze(&mut group), model.clone())),
            16 if !snapshots.is_empty() => {
                let (layers, expected) =
                    snapshots.remove(random.below(snapshots.len() as u64) as usize);
                assert_eq!(live(&layers), expected, "snapshot, seed {seed} step {step}");
            }
            17 => {
                let work_max = [1, 5, usize::MAX][random.below(3) as usize];
                let folded = group.fold(work_max);
                assert!(folded.work <= work_max && (folded.done || folded.work > 0));
            }
            18 => {
                let prefix = [key[0]];
                let mut expected = model.clone();
                expected.retain(|k, _| k[0] == key[0]);
                assert_eq!(
                    scan_all(&group, &prefix, 1 + random.below(8) as usize),
                    expected
                );
            }
            _ => assert_eq!(
                group.get(&key),
                model.get(&key).map(|(value, time)| (&value[..], *time)),
                "seed {seed} step {step}"
            ),
        }
    }
    for (layers, expected) in snapshots {
        assert_eq!(live(&layers), expected);
    }
    assert!(group.fold(usize::MAX).done);
    assert!(!group.is_layered());
    assert_eq!(scan_all(&group, b"", 1000), model);
    let mut other = group.reordered(!ordered);
    assert_eq!(scan_all(&other, b"", 7), model);
    assert_eq!(live(&freeze(&mut other)), model);
    assert_eq!(group.active.len(), model.len(), "tombstones must be gone");
    let bytes_of = |(k, (v, time)): (&Vec<u8>, &(Vec<u8>, Option<i64>))| {
        k.len() + v.len() + time.map_or(0, |_| 8)
    };
    let bytes: usize = model.iter().map(bytes_of).sum();
    assert_eq!(group.bytes(), bytes as u64, "bytes are accounted for");
}

#[test]
fn random_operations_agree_with_a_model() {
    for seed in 0..16 {
        run(seed, seed % 2 == 0);
    }
}

#[test]
fn a_snapshot_holds_what_the_group_held_at_freeze() {
    let mut group = Group::new(false);
    group.put(b"a", b"1", None);
    group.put(b"b", b"1", Some(7));
    let layers = freeze(&mut group);
    group.put(b"a", b"2", None);
    group.delete(b"b");
    group.put(b"c", b"2", None);
    assert_eq!(
        live(&layers),
        Timed::from([
            (b"a".into(), (b"1".into(), None)),
            (b"b".into(), (b"1".into(), Some(7)))
        ])
    );
    assert_eq!(group.get(b"b"), None);
    let folded = group.fold(usize::MAX);
    assert_eq!(folded.work, 0, "the snapshot still holds the layer");
    drop(layers);
    assert!(group.fold(usize::MAX).work > 0);
    assert_eq!(
        scan_all(&group, b"", 9),
        Timed::from([
            (b"a".into(), (b"2".into(), None)),
            (b"c".into(), (b"2".into(), None))
        ])
    );
}

/// Barriers used to fold all of a key group once four layers had piled up.
#[test]
fn a_barrier_folds_nothing_however_many_layers_there_are_and_a_fold_is_as_small_as_it_is_told() {
    for ordered in [false, true] {
        let mut group = Group::new(ordered);
        for round in 0..10u8 {
            for key in 0..200u8 {
                match (round + key) % 7 {
                    0 => group.delete(&[key]),
                    _ => group.put(&[key], &[round], None),
                }
            }
            drop(freeze(&mut group));
            assert_eq!(group.frozen.len(), usize::from(round) + 1);
        }
        let rows = scan_all(&group, b"", 1000);
        let mut pieces = 0;
        loop {
            let folded = group.fold(30);
            assert!(folded.work <= 30, "{folded:?}");
            assert_eq!(scan_all(&group, b"", 1000), rows, "after {pieces} pieces");
            if folded.done {
                break;
            }
            pieces += 1;
        }
        assert!(!group.is_layered() && group.active.tombstones() == 0);
        assert!((8 * 150 / 30..1000).contains(&pieces), "{pieces}");
    }
}

#[test]
fn scans_respect_prefix_start_and_end() {
    for ordered in [false, true] {
        let mut group = Group::new(ordered);
        for key in [[1, 1], [2, 1], [2, 2], [2, 3], [3, 1]] {
            group.put(&key, b"v", None);
        }
        let keys = |prefix: &[u8], from: &[u8], until: Option<&[u8]>| -> Vec<Vec<u8>> {
            group
                .scan(prefix, from, until, 10, &|_| false)
                .rows
                .iter()
                .map(|(k, _)| k.to_vec())
                .collect()
        };
        assert_eq!(keys(&[2], &[], None), [[2, 1], [2, 2], [2, 3]]);
        assert_eq!(keys(&[2], &[2, 2], None), [[2, 2], [2, 3]]);
        assert_eq!(keys(&[2], &[2, 2], Some(&[2, 3])), [[2, 2]]);
        assert_eq!(keys(&[], &[2, 3], None), [[2, 3], [3, 1]]);
        assert_eq!(keys(&[2], &[3], None), Vec::<Vec<u8>>::new());
    }
}
