//! Compaction from outside: files stay few, content stays the same.
use std::collections::BTreeMap;

use aquifer_store::{KeyGroupRange, StoreOptions};
use aquifer_testkit::{Fault, RequestKind, Rng};

use crate::harness::{ALL, POINTS, SORTED, World, small};

#[test]
fn files_stay_few_and_content_stays_the_same() {
    let world = World::new(4 << 20);
    let mut worker = world.open(small(), vec![]);
    let mut random = Rng::new(3);
    let mut model = BTreeMap::new();
    for _ in 0..120 {
        for _ in 0..150 {
            let key = format!("{:05}", random.below(4_000)).into_bytes();
            if random.chance(200) {
                worker.delete(SORTED, 2, &key);
                model.remove(&key);
            } else {
                let value = random.next_u64().to_le_bytes().repeat(3);
                worker.put(SORTED, 2, &key, &value);
                model.insert(key, value);
            }
        }
        worker.checkpoint();
    }
    worker.settle();
    let stats = worker.store.stats();
    let data: usize = model.iter().map(|(k, v)| k.len() + v.len()).sum();
    assert!(stats.compactions > 5, "{stats:?}");
    assert!(
        stats.files <= 9 + 4 * (data as u64 / (16 << 10)),
        "{data} bytes of rows, {stats:?}"
    );
    assert_eq!(worker.rows(SORTED, 2), model);

    let last = worker.checkpoint();
    assert!(last.files.iter().any(|file| file.level > 0));
    let again = world.open(small(), vec![(last, ALL)]);
    assert_eq!(again.rows(SORTED, 2), model);
}

#[test]
fn what_was_deleted_leaves_no_trace_in_the_end() {
    let world = World::new(4 << 20);
    let mut worker = world.open(small(), vec![]);
    for i in 0..3_000u32 {
        worker.put(POINTS, 0, &i.to_be_bytes(), &[1; 30]);
    }
    worker.checkpoint();
    for i in 0..3_000u32 {
        worker.delete(POINTS, 0, &i.to_be_bytes());
    }
    for round in 0..20u8 {
        worker.put(POINTS, 0, b"last", &[round]);
        worker.checkpoint();
        worker.settle();
    }
    let entries: u64 = worker
        .checkpoint()
        .files
        .iter()
        .map(|file| file.entries)
        .sum();
    assert!(entries < 30, "{entries} entries are left of one row");
}

#[test]
fn rows_outside_of_the_clip_fall_out() {
    let world = World::new(4 << 20);
    let mut one = world.open(small(), vec![]);
    for i in 0..4_000u32 {
        one.put(POINTS, (i % 4) as u16, &i.to_be_bytes(), &[2; 30]);
    }
    let whole = one.checkpoint();
    let range = KeyGroupRange { start: 1, end: 1 };
    let mut part = world.open(small(), vec![(whole, range)]);
    for round in 0..12u8 {
        part.put(POINTS, 1, b"x", &[round]);
        part.checkpoint();
        part.settle();
    }
    let last = part.checkpoint();
    let entries: u64 = last.files.iter().map(|file| file.entries).sum();
    assert!(
        (1_001..1_020).contains(&entries),
        "{entries} entries for 1001 rows"
    );
    assert!(last.files.iter().all(|file| file.clip == range), "{last:?}");
}

#[test]
fn a_failed_compaction_changes_nothing_and_is_tried_again() {
    let world = World::new(4 << 20);
    let mut worker = world.open(small(), vec![]);
    for round in 0..2u8 {
        worker.put(POINTS, 0, b"k", &[round]);
        worker.checkpoint();
    }
    worker.put(POINTS, 0, b"k", &[2]);
    worker.start_checkpoint();
    // The flush goes through; then the four attempts of the compaction fail.
    let third = worker.wait();
    for _ in 0..4 {
        world
            .objects
            .fail_next(RequestKind::Put, Fault::ErrorNotApplied);
    }
    worker.settle();
    for round in 3..9u8 {
        worker.put(POINTS, 0, b"k", &[round]);
        worker.checkpoint();
        worker.settle();
    }
    assert_eq!(worker.get(POINTS, 0, b"k"), Some(vec![8]));
    assert!(worker.store.stats().files < 4, "{:?}", worker.store.stats());
    let restored = world.open(small(), vec![(third, ALL)]);
    assert_eq!(restored.get(POINTS, 0, b"k"), Some(vec![2]));
}

/// Writes that stay in one neighbourhood at a time drag files along that reach farther than L0 does. Deletions of such a
/// file once lost their tombstones while older rows lay deeper, and the rows came back.
#[test]
fn wandering_writes_over_many_levels_lose_nothing_and_bring_nothing_back() {
    for seed in 0..4 {
        let world = World::new(4 << 20);
        let options = StoreOptions {
            file_bytes_target: 512,
            level_bytes_base: 512,
            dynamic_levels: seed % 2 == 1,
            l0_files_max: 2,
            ..small()
        };
        let mut worker = world.open(options, vec![]);
        let mut random = Rng::new(seed);
        let mut model = BTreeMap::new();
        let mut levels = std::collections::BTreeSet::new();
        for round in 0..300u64 {
            // The key space grows, so that deep levels have gaps.
            let neighbourhood = random.below(round + 1) * 15;
            for _ in 0..25 {
                let key = format!("{:05}", neighbourhood + random.below(15)).into_bytes();
                if random.chance(400) {
                    worker.delete(SORTED, 2, &key);
                    model.remove(&key);
                } else {
                    let value = random.next_u64().to_le_bytes().to_vec();
                    worker.put(SORTED, 2, &key, &value);
                    model.insert(key, value);
                }
            }
            let checkpoint = worker.checkpoint();
            levels.extend(checkpoint.files.iter().map(|file| file.level));
            if round % 5 == 0 {
                worker.wait_for_compactions();
                assert_eq!(worker.rows(SORTED, 2), model, "seed {seed}, round {round}");
            }
        }
        assert!(levels.len() >= 4, "the tree used levels {levels:?} only");
    }
}
