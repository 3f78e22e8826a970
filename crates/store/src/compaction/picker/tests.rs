//! Shapes of trees and what the picker makes of them.
use super::*;
use crate::compaction::split::{cut, cuts};
use crate::context::Context;
use crate::options::KeyGroupRange;
use crate::sst::file::SstFile;
use crate::version::Sought;
use crate::{BlockCache, Environment, FileRef};

/// Levels from L1 on, so that shapes are easy to see.
const OPTIONS: CompactionOptions = CompactionOptions {
    l0_files_max: 4,
    file_bytes_target: 100,
    level_bytes_base: 400,
    dynamic_levels: false,
    periodic_ms: None,
};

/// The pick when nothing else is going on.
fn pick(version: &Version, options: &CompactionOptions) -> Option<CompactionJob> {
    super::pick(version, options, &Surroundings::default())
}

fn context() -> Arc<Context> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let env = Environment::new(
        Arc::new(object_store::memory::InMemory::new()),
        "d".into(),
        runtime.handle().clone(),
        BlockCache::new(0),
        "p",
    );
    Context::new(env, StoreOptions::default())
}

fn described(number: usize, (level, start, end, size): (u8, u16, u16, u64)) -> FileRef {
    FileRef {
        path: format!("{number}"),
        size_bytes: size,
        level,
        smallest: crate::key::encode(start, crate::TableId(0), b"a").into(),
        upper: crate::key::encode(end, crate::TableId(0), b"z\0").into(),
        clip: KeyGroupRange { start, end },
        entries: 1,
        end_bytes: 96,
        checksum: number as u64,
        ..FileRef::default()
    }
}

fn add(version: &mut Version, context: &Arc<Context>, about: FileRef) {
    let level = about.level;
    let file = SstFile::written(context, about.path.as_str().into(), about);
    file.name();
    version.levels[usize::from(level)].extend(VersionFile::whole(file, level));
}

/// Files as (level, first key group, last key group, size); L0 newest first.
fn version(files: &[(u8, u16, u16, u64)]) -> Version {
    let context = context();
    let mut version = Version::default();
    for (number, &file) in files.iter().enumerate() {
        add(&mut version, &context, described(number, file));
    }
    version
}

fn shape(job: &CompactionJob) -> Vec<Vec<String>> {
    let names =
        |run: &Vec<Arc<VersionFile>>| run.iter().map(|f| f.file.path().to_string()).collect();
    job.runs.iter().map(names).collect()
}

#[test]
fn a_tidy_tree_is_left_alone() {
    assert!(pick(&version(&[]), &OPTIONS).is_none());
    assert!(
        pick(
            &version(&[(0, 0, 9, 10), (0, 0, 9, 10), (0, 0, 9, 10), (1, 0, 9, 400)]),
            &OPTIONS
        )
        .is_none()
    );
}

#[test]
fn a_heavy_l0_goes_down_with_what_it_overlaps() {
    let files = [
        (0, 0, 4, 50),
        (0, 2, 3, 10),
        (0, 0, 2, 10),
        (0, 1, 1, 10),
        (1, 0, 2, 90),
        (1, 4, 5, 90),
        (1, 6, 9, 90),
    ];
    let job = pick(&version(&files), &OPTIONS).unwrap();
    assert_eq!(
        shape(&job),
        [vec!["0"], vec!["1"], vec!["2"], vec!["3"], vec!["4", "5"]]
    );
    assert_eq!(
        (job.output_level, job.drop_tombstones, job.action),
        (1, true, Action::Merge)
    );
}

#[test]
fn tombstones_stay_while_something_lies_below() {
    let files = [
        (0, 0, 4, 50),
        (0, 0, 4, 50),
        (0, 0, 4, 50),
        (0, 0, 4, 50),
        (2, 3, 3, 10),
    ];
    assert!(!pick(&version(&files), &OPTIONS).unwrap().drop_tombstones);
}

/// The file of L1 that is dragged along reaches farther than L0 does, and its tombstones hide what lies in L2 out there:
/// dropping them once brought timers back that had fired.
#[test]
fn tombstones_of_a_dragged_file_stay_while_something_lies_below_it() {
    let files = [
        (0, 4, 5, 50),
        (0, 4, 5, 50),
        (0, 4, 5, 50),
        (0, 4, 5, 50),
        (1, 0, 9, 90),
        (2, 1, 1, 10),
    ];
    let job = pick(&version(&files), &OPTIONS).unwrap();
    assert_eq!((job.runs.len(), job.drop_tombstones), (5, false));
}

#[test]
fn light_files_are_merged_within_l0() {
    let files = [
        (0, 0, 9, 1),
        (0, 0, 9, 1),
        (0, 0, 9, 1),
        (0, 0, 9, 4),
        (0, 0, 9, 30),
        (1, 0, 9, 390),
    ];
    let job = pick(&version(&files), &OPTIONS).unwrap();
    assert_eq!(shape(&job), [["0"], ["1"], ["2"], ["3"]]);
    assert_eq!((job.output_level, job.drop_tombstones), (0, false));
}

#[test]
fn a_crowded_l0_goes_down_however_light() {
    let mut files = vec![(0, 0, 9, 1); 12];
    files.push((1, 0, 9, 390));
    assert_eq!(pick(&version(&files), &OPTIONS).unwrap().output_level, 1);
}

#[test]
fn an_output_in_l0_stays_behind_newer_flushes() {
    let before = version(&[(0, 0, 9, 1), (0, 0, 9, 2), (0, 0, 9, 3), (0, 0, 9, 4)]);
    let output = before.levels[0][1].clone();
    let after = before.with_compacted(&before.levels[0][1..3], vec![output]);
    let sizes: Vec<u64> = after.levels[0].iter().map(|f| f.file.size_bytes).collect();
    assert_eq!(sizes, [1, 2, 4]);
}

#[test]
fn a_large_level_hands_its_cheapest_file_down() {
    let files = [
        (1, 0, 1, 200),
        (1, 2, 3, 150),
        (1, 4, 5, 100),
        (2, 0, 1, 900),
        (2, 2, 3, 10),
        (2, 4, 5, 900),
    ];
    let job = pick(&version(&files), &OPTIONS).unwrap();
    assert_eq!(shape(&job), [["1"], ["4"]]);
    assert_eq!(
        (job.output_level, job.drop_tombstones, job.action),
        (2, true, Action::Merge)
    );
}

#[test]
fn a_file_over_nothing_just_moves() {
    let job = pick(
        &version(&[(1, 0, 1, 200), (1, 2, 3, 210), (2, 0, 1, 900)]),
        &OPTIONS,
    )
    .unwrap();
    assert_eq!(shape(&job), [["1"]]);
    assert_eq!(job.action, Action::Move);
    let small = pick(
        &version(&[(1, 0, 1, 500), (1, 2, 3, 20), (2, 0, 1, 900)]),
        &OPTIONS,
    )
    .unwrap();
    assert_eq!(small.action, Action::Merge, "small files would pile up");
}

#[test]
fn files_of_one_flush_are_one_run() {
    let flushed_in_two = |n: usize| {
        let mut files = Vec::new();
        for _ in 0..n {
            files.extend([(0, 0, 4, 10), (0, 5, 9, 10)]);
        }
        version(&files)
    };
    assert_eq!(l0_depth(&flushed_in_two(3).levels[0]), 3);
    assert!(pick(&flushed_in_two(3), &OPTIONS).is_none());
    let job = pick(&flushed_in_two(4), &OPTIONS).unwrap();
    assert_eq!(
        shape(&job),
        [["0", "1"], ["2", "3"], ["4", "5"], ["6", "7"]]
    );
}

/// A file that lies deeper than its neighbours in the list is merged with the run it belongs to, and nothing overtakes anything.
#[test]
fn runs_follow_from_what_overlaps_and_not_from_the_list() {
    let files = version(&[
        (0, 0, 1, 1),
        (0, 5, 9, 1),
        (0, 1, 2, 1),
        (0, 2, 6, 1),
        (0, 8, 9, 1),
    ]);
    assert_eq!(l0_depth(&files.levels[0]), 3);
    let options = CompactionOptions {
        l0_files_max: 3,
        ..OPTIONS
    };
    let job = pick(&files, &options).unwrap();
    assert_eq!(shape(&job), [vec!["0", "1"], vec!["2", "4"], vec!["3"]]);
}

#[test]
fn what_is_ahead_of_a_checkpoint_is_left_alone() {
    let files = version(&[(0, 0, 9, 1); 5]);
    let around = Surroundings {
        ahead: 2,
        leisure: true,
        ..Surroundings::default()
    };
    assert!(super::pick(&files, &OPTIONS, &around).is_none());
    let around = Surroundings {
        ahead: 1,
        ..Surroundings::default()
    };
    let job = super::pick(&files, &OPTIONS, &around).unwrap();
    assert_eq!(shape(&job), [["1"], ["2"], ["3"], ["4"]]);
}

#[test]
fn newer_files_are_merged_beside_a_compaction_of_older_ones() {
    let older = version(&[(0, 0, 9, 10); 4]);
    let running = pick(&older, &OPTIONS).unwrap();
    assert_eq!(running.output_level, 1);
    let flushed = version(&[(0, 0, 9, 1); 3]).levels[0].clone();
    let around = Surroundings {
        running: vec![&running],
        ..Surroundings::default()
    };
    let now = older.with_flushed(flushed, 0);
    assert!(super::pick(&now, &OPTIONS, &around).is_none());
    let one_more = version(&[(0, 0, 9, 1)]).levels[0].clone();
    let now = now.with_flushed(one_more, 0);
    let job = super::pick(&now, &OPTIONS, &around).unwrap();
    assert_eq!((job.output_level, job.runs.len()), (0, 4));
    assert!(!job.drop_tombstones, "older rows are on their way down");
}

#[test]
fn two_compactions_never_meet_in_a_level() {
    let tree = version(&[
        (1, 0, 1, 300),
        (1, 2, 3, 310),
        (1, 4, 5, 320),
        (2, 0, 2, 10),
        (2, 4, 5, 10),
    ]);
    let first = pick(&tree, &OPTIONS).unwrap();
    assert_eq!(shape(&first), [["2"], ["4"]]);
    let around = Surroundings {
        running: vec![&first],
        ..Surroundings::default()
    };
    let second = super::pick(&tree, &OPTIONS, &around).unwrap();
    // The first file of L1 overlaps what the second would have to merge with.
    assert_eq!(shape(&second).concat()[1..], ["3"]);
    let around = Surroundings {
        running: vec![&first, &second],
        ..Surroundings::default()
    };
    assert!(super::pick(&tree, &OPTIONS, &around).is_none());
}

#[test]
fn with_dynamic_levels_a_small_tree_is_l0_and_the_deepest_level() {
    let options = CompactionOptions {
        dynamic_levels: true,
        ..OPTIONS
    };
    let job = pick(&version(&[(0, 0, 9, 50); 4]), &options).unwrap();
    assert_eq!((job.output_level, job.drop_tombstones), (6, true));
    let mut files = vec![(0, 0, 9, 500); 4];
    files.push((6, 0, 9, 5_000));
    assert_eq!(pick(&version(&files), &options).unwrap().output_level, 4);
}

#[test]
fn a_file_that_is_mostly_clipped_is_rewritten_when_there_is_leisure() {
    let mut tree = version(&[(6, 0, 9, 500)]);
    let file = tree.levels[6][0].file.clone();
    let clipped = |start, end| VersionFile::new(file.clone(), 6, KeyGroupRange { start, end });
    let around = Surroundings {
        leisure: true,
        ..Surroundings::default()
    };
    tree.levels[6] = vec![clipped(0, 5).unwrap()];
    assert!(super::pick(&tree, &OPTIONS, &around).is_none());
    tree.levels[6] = vec![clipped(6, 9).unwrap()];
    let job = super::pick(&tree, &OPTIONS, &around).unwrap();
    assert_eq!((job.output_level, job.reason), (6, Reason::Clip));
    assert_eq!(job.action, Action::Merge);
    assert!(pick(&tree, &OPTIONS).is_none());
}

/// A store whose only table has this TTL, at a time.
fn at(now_ms: i64, ttl_ms: u64) -> Surroundings<'static> {
    let options = crate::TableOptions {
        ttl_ms: Some(ttl_ms),
        ..Default::default()
    };
    let mut rules = TableRules::default();
    let rule = crate::rules::Rules::new(&options, &crate::Folds::default());
    rules.set(crate::TableId(0), Arc::new(rule));
    Surroundings {
        clock: ExpiryClock::new(now_ms, []),
        rules,
        leisure: true,
        ..Surroundings::default()
    }
}

/// A tree of one file of a thousand rows in this level, changed.
fn one_file(level: u8, change: impl FnOnce(&mut FileRef)) -> Version {
    let mut about = described(0, (level, 0, 9, 500));
    about.entries = 1_000;
    change(&mut about);
    let mut tree = Version::default();
    add(&mut tree, &context(), about);
    tree
}

#[test]
fn files_are_rewritten_when_most_of_them_has_expired() {
    let tree = one_file(6, |about| about.times_ms = Some((1_000, 2_000)));
    let picked = |now_ms| super::pick(&tree, &OPTIONS, &at(now_ms, 100));
    assert!(picked(1_500).is_none());
    let job = picked(1_700).unwrap();
    assert_eq!((job.reason, job.output_level), (Reason::Age, 6));
    let mut around = at(9_999, 100);
    around.ageless.insert(tree.levels[6][0].file.id());
    assert!(super::pick(&tree, &OPTIONS, &around).is_none());
    around.ageless.clear();
    around.rules = TableRules::default();
    assert!(super::pick(&tree, &OPTIONS, &around).is_none());
    let untimed = one_file(6, |about| {
        about.times_ms = Some((1_000, 2_000));
        about.untimed = 900;
    });
    assert!(super::pick(&untimed, &OPTIONS, &at(9_999, 100)).is_none());
    let options = CompactionOptions {
        periodic_ms: Some(5_000),
        ..OPTIONS
    };
    assert!(super::pick(&untimed, &options, &at(5_999, 100)).is_none());
    assert!(super::pick(&untimed, &options, &at(6_000, 100)).is_some());
}

/// How old rows may become, and whether they go at all, is for their table to say.
#[test]
fn tables_say_whether_and_when_files_are_rewritten() {
    let untimed = one_file(6, |about| {
        about.times_ms = Some((1_000, 2_000));
        about.untimed = 900;
    });
    let picked = |configured: Option<u64>, own: Option<u64>, in_compactions| {
        let table = crate::TableOptions {
            ttl_ms: Some(100),
            cleanup: crate::ExpiryCleanup {
                periodic_ms: own,
                in_compactions,
                ..Default::default()
            },
            ..Default::default()
        };
        let mut around = at(6_000, 100);
        let rules = crate::rules::Rules::new(&table, &crate::Folds::default());
        around.rules.set(crate::TableId(0), rules.into());
        let options = CompactionOptions {
            periodic_ms: configured,
            ..OPTIONS
        };
        super::pick(&untimed, &options, &around).is_some()
    };
    assert!(!picked(None, None, true));
    assert!(picked(Some(5_000), None, true));
    assert!(picked(None, Some(5_000), true), "its own age");
    assert!(!picked(Some(5_000), Some(5_001), true));
    assert!(!picked(Some(5_000), Some(0), true), "never");
    assert!(!picked(Some(5_000), None, false), "kept");
}

#[test]
fn files_age_by_the_time_of_their_tables() {
    let tree = one_file(6, |about| about.times_ms = Some((1_000, 2_000)));
    let picked = |options: crate::TableOptions, now_ms, event_ms: Option<i64>| {
        let mut around = at(now_ms, 100);
        let rules = crate::rules::Rules::new(&options, &crate::Folds::default());
        around.rules.set(crate::TableId(0), rules.into());
        let event_ms = event_ms.map(|event_ms| (crate::TableId(0), event_ms));
        around.clock = ExpiryClock::new(now_ms, event_ms);
        super::pick(&tree, &OPTIONS, &around).map(|job| job.reason)
    };
    let by_event = crate::TableOptions {
        ttl_ms: Some(100),
        event_time: true,
        ..Default::default()
    };
    for (event_ms, reason) in [
        (None, None),
        (Some(i64::MIN), None),
        (Some(1_500), None),
        (Some(1_700), Some(Reason::Age)),
        (Some(i64::MAX), Some(Reason::Age)),
    ] {
        for now_ms in [0, i64::MAX] {
            assert_eq!(picked(by_event.clone(), now_ms, event_ms), reason);
        }
    }
    // What never expires is not waste, not even at the end of time.
    let for_ever = crate::TableOptions {
        ttl_ms: Some(u64::MAX),
        ..by_event.clone()
    };
    assert_eq!(picked(for_ever, 0, Some(i64::MAX)), None);
    // The TTL was switched on at 5,000: until 5,100 everything is still there.
    let since = crate::TableOptions {
        untimed_as_ms: Some(5_000),
        event_time: false,
        ..by_event
    };
    assert_eq!(picked(since.clone(), 5_099, None), None);
    assert_eq!(picked(since, 5_100, None), Some(Reason::Age));
}

/// Expiry at the ends of time: neither the longest TTL nor the widest span of times overflows.
#[test]
fn extreme_times_do_not_overflow() {
    for times_ms in [
        (i64::MIN, i64::MAX),
        (i64::MAX, i64::MAX),
        (i64::MIN, i64::MIN),
    ] {
        let tree = one_file(6, |about| about.times_ms = Some(times_ms));
        for now_ms in [i64::MIN, 0, i64::MAX] {
            for ttl_ms in [0, 1, u64::MAX] {
                let options = CompactionOptions {
                    periodic_ms: Some(u64::MAX),
                    ..OPTIONS
                };
                let _ = super::pick(&tree, &options, &at(now_ms, ttl_ms));
            }
        }
    }
}

#[test]
fn a_file_of_tombstones_is_cleaned_or_goes_to_meet_what_it_hides() {
    let tree = one_file(6, |about| about.tombstones = 600);
    let job = super::pick(&tree, &OPTIONS, &at(0, 1)).unwrap();
    assert_eq!((job.reason, job.output_level), (Reason::Tombstones, 6));
    assert!(job.drop_tombstones);
    let mut tree = one_file(2, |about| about.tombstones = 600);
    tree.levels[3] = version(&[(3, 4, 12, 700)]).levels[3].clone();
    let job = super::pick(&tree, &OPTIONS, &at(0, 1)).unwrap();
    assert_eq!((job.reason, job.output_level), (Reason::Tombstones, 3));
    assert_eq!(job.runs.len(), 2);
    let few = one_file(6, |about| about.tombstones = 400);
    assert!(super::pick(&few, &OPTIONS, &at(0, 1)).is_none());
}

/// Each of two files of L0 used to count as older than the other, so that both stayed for as long as nothing was written.
#[test]
fn the_oldest_file_of_l0_has_nothing_below_it() {
    let mut tree = Version::default();
    for number in 0..2 {
        let mut about = described(number, (0, 0, 9, 500));
        (about.entries, about.tombstones) = (1_000, 600);
        add(&mut tree, &context(), about);
    }
    let job = super::pick(&tree, &OPTIONS, &at(0, 1)).unwrap();
    let oldest = tree.levels[0][1].file.path().to_string();
    assert_eq!(shape(&job), [[oldest]]);
    assert_eq!((job.reason, job.output_level), (Reason::Tombstones, 0));
    assert!(job.drop_tombstones);
}

#[test]
fn a_large_job_is_cut_where_files_begin() {
    let files = version(&[
        (0, 0, 9, 100),
        (1, 0, 3, 100),
        (1, 4, 6, 100),
        (1, 7, 9, 100),
    ]);
    let job = CompactionJob {
        runs: vec![files.levels[0].clone(), files.levels[1].clone()],
        output_level: 1,
        drop_tombstones: true,
        action: Action::Merge,
        reason: Reason::L0,
        file_bytes_target: 100,
    };
    assert!(cuts(&job, 1).is_empty());
    for (parts, starts) in [(2, vec![4]), (3, vec![4, 7]), (9, vec![4, 7])] {
        let cuts = cuts(&job, parts);
        let groups: Vec<u16> = cuts
            .iter()
            .map(|cut| crate::key::group(cut).unwrap())
            .collect();
        assert_eq!(groups, starts, "{parts} parts");
        let made = cut(&job, &cuts);
        assert_eq!(made.len(), cuts.len() + 1);
        // Each file counts in each part up to where the next begins, and nothing is left out.
        for (run, whole) in job.runs.iter().enumerate() {
            let (lower, upper) = span(whole.iter());
            let bounds = made.iter().map(|part| span(part.runs[run].iter()));
            let bounds: Vec<_> = bounds.collect();
            assert_eq!(bounds.first().map(|b| &b.0), Some(&lower));
            assert_eq!(bounds.last().map(|b| &b.1), Some(&upper));
            assert!(bounds.windows(2).all(|pair| pair[0].1 <= pair[1].0));
        }
        let narrowed: usize = made.iter().map(|part| part.runs[0].len()).sum();
        assert_eq!(narrowed, made.len(), "the file of L0 is in every part");
        let of_level_1: usize = made.iter().map(|part| part.runs[1].len()).sum();
        assert_eq!(of_level_1, 3, "the others are in one each");
        assert!(
            made.iter()
                .all(|part| part.drop_tombstones && part.output_level == 1)
        );
    }
}

/// Bounds are compared by their heads first; that must be the order of the whole keys.
#[test]
fn a_file_is_found_for_every_key_in_its_range() {
    let context = context();
    let mut random = 7u64;
    let mut key = || -> Vec<u8> {
        random = random
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        // Long ties in the first sixteen bytes, and keys that end within them.
        let len = 4 + (random >> 59) as usize;
        let mut key = vec![0; len];
        key[len - 1] = (random >> 33) as u8 & 1;
        key[len / 2] = (random >> 40) as u8 & 1;
        key
    };
    for number in 0..200 {
        let (a, b) = (key(), key());
        if a == b {
            continue;
        }
        let about = FileRef {
            smallest: a.clone().min(b.clone()).into(),
            upper: a.max(b).into(),
            clip: KeyGroupRange {
                start: 0,
                end: u16::MAX,
            },
            ..described(number, (1, 0, 0, 1))
        };
        let file = SstFile::written(&context, about.path.as_str().into(), about);
        file.name();
        let mut version = Version::default();
        version.levels[1].extend(VersionFile::whole(file.clone(), 1));
        for _ in 0..100 {
            let key = key();
            let inside = file.smallest <= key.as_slice() && key.as_slice() < file.upper.as_ref();
            let sought = Sought::new(&key);
            assert_eq!(version.file_for(1, sought).is_some(), inside, "{key:?}");
            assert_eq!(version.levels[1][0].may_hold(sought), inside, "{key:?}");
        }
    }
}

#[test]
fn what_comes_in_the_order_of_keys_does_not_stay_in_l0() {
    let in_order = |files: u16| -> Vec<(u8, u16, u16, u64)> {
        (0..files).rev().map(|i| (0, i, i, 100)).collect()
    };
    assert!(pick(&version(&in_order(15)), &OPTIONS).is_none());
    let job = pick(&version(&in_order(16)), &OPTIONS).unwrap();
    assert_eq!((job.runs.len(), job.output_level), (1, 1));
    assert_eq!(job.action, Action::Move, "nothing lies below");
}
