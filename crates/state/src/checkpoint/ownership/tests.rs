//! The machine against a plain history of what was retained when.

use aquifer_testkit::Rng;

use super::*;

fn names(numbers: &[u32]) -> Vec<String> {
    numbers.iter().map(|n| format!("f{n}")).collect()
}

#[test]
fn a_file_goes_one_checkpoint_after_the_last_that_names_it() {
    let mut ownership = FileOwnership::new(1);
    assert_eq!(ownership.complete(1, names(&[1, 2])), (vec![], vec![]));
    assert_eq!(ownership.complete(2, names(&[2, 3])), (vec![1], vec![]));
    assert_eq!(ownership.complete(3, names(&[3])), (vec![2], names(&[1])));
    assert_eq!(
        ownership.complete(3, names(&[3])),
        (vec![], vec![]),
        "told twice"
    );
    assert_eq!(ownership.complete(4, names(&[3])), (vec![3], names(&[2])));
}

#[test]
fn restored_checkpoints_are_retained_like_others() {
    let mut ownership = FileOwnership::new(2);
    ownership.restore(5, names(&[1]));
    ownership.restore(6, names(&[1, 2]));
    ownership.restore(7, names(&[2]));
    assert_eq!(ownership.complete(8, names(&[3])), (vec![5, 6], vec![]));
    assert_eq!(ownership.complete(9, names(&[3])), (vec![7], names(&[1])));
    assert_eq!(ownership.complete(10, vec![]), (vec![8], names(&[2])));
}

#[test]
fn foreign_files_are_never_returned() {
    let mut ownership = FileOwnership::default();
    ownership.exclude_foreign(names(&[1]));
    ownership.restore(1, names(&[1, 2]));
    let mut returned = Vec::new();
    for id in 2..6 {
        returned.extend(
            ownership
                .complete(id, if id < 4 { names(&[1]) } else { vec![] })
                .1,
        );
    }
    assert_eq!(returned, names(&[2]));
}

#[test]
fn random_histories_agree_with_the_model() {
    for seed in 0..300 {
        let mut rng = Rng::new(seed);
        let retained_max = 1 + rng.below(4) as usize;
        let mut ownership = FileOwnership::new(retained_max);
        // Every checkpoint so far with its files, oldest first; the model never forgets.
        let mut history: Vec<(u64, BTreeSet<String>)> = Vec::new();
        let mut discarded = BTreeSet::new();
        let mut returned = BTreeSet::new();
        let mut ever = BTreeSet::new();
        let foreign: BTreeSet<String> = names(&[0, 1, 2, 3]).into_iter().collect();
        ownership.exclude_foreign(foreign.clone());
        let mut live: BTreeSet<String> = foreign.clone();
        let (mut next_file, mut id) = (4, 0);
        let restored = rng.below(4);
        let steps = 40 + retained_max as u64 + 1;
        for step in 0..steps {
            id += 1 + rng.below(2);
            // Compaction drops some files, flushes add others, and in the end nothing is left.
            live.retain(|_| !rng.chance(250));
            for _ in 0..rng.below(4) {
                live.insert(format!("f{next_file}"));
                next_file += 1;
            }
            if step >= 40 {
                live.clear();
            }
            let files: Vec<String> = live.iter().cloned().collect();
            ever.extend(
                files
                    .iter()
                    .filter(|file| !foreign.contains(*file))
                    .cloned(),
            );
            history.push((id, live.clone()));
            if step < restored {
                ownership.restore(id, files);
                continue;
            }
            let (to_discard, to_delete) = ownership.complete(id, files);
            for old in to_discard {
                assert!(
                    discarded.insert(old),
                    "seed {seed}: {old} is discarded twice"
                );
            }
            let keep = history.len().saturating_sub(retained_max);
            let expected: BTreeSet<u64> = history[..keep].iter().map(|(id, _)| *id).collect();
            assert_eq!(discarded, expected, "seed {seed}");
            // Named neither by what is retained now nor by what was retained until this checkpoint.
            let until_now = if step > restored {
                keep.saturating_sub(1)
            } else {
                0
            };
            let needed: BTreeSet<&String> = history[until_now..]
                .iter()
                .flat_map(|(_, files)| files)
                .collect();
            for file in to_delete {
                assert!(!needed.contains(&file), "seed {seed}: {file} is needed");
                assert!(!foreign.contains(&file), "seed {seed}: {file} is foreign");
                assert!(
                    returned.insert(file.clone()),
                    "seed {seed}: {file} is returned twice"
                );
            }
        }
        assert_eq!(
            returned, ever,
            "seed {seed}: every file is returned in the end"
        );
    }
}

/// A savepoint is written from a checkpoint while newer ones are completed.
#[test]
fn a_pinned_checkpoint_and_newer_ones_stay() {
    let mut files = FileOwnership::new(1);
    let name = |name: &str| vec![name.to_owned()];
    assert_eq!(files.complete(1, name("a")), (vec![], vec![]));
    files.pin(1);
    files.pin(1);
    assert_eq!(files.complete(2, name("b")), (vec![], vec![]));
    assert_eq!(files.complete(3, name("c")), (vec![], vec![]));
    files.unpin(1);
    assert_eq!(files.complete(4, name("d")), (vec![], vec![]));
    files.unpin(1);
    assert_eq!(files.complete(5, name("e")), (vec![1, 2, 3, 4], vec![]));
    let gone = ["a", "b", "c", "d"].map(str::to_owned).to_vec();
    assert_eq!(files.complete(6, name("f")), (vec![5], gone));
    // An end that nobody began is none.
    files.unpin(9);
}
