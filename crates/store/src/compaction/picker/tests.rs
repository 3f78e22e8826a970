//! Shapes of trees and what the picker makes of them.
use super::*;
use crate::context::Context;
use crate::options::KeyGroupRange;
use crate::sst::file::SstFile;
use crate::{BlockCache, Environment, FileRef};

const OPTIONS: CompactionOptions = CompactionOptions {
    l0_files_max: 4,
    file_bytes_target: 100,
    l1_bytes_max: 400,
};

/// Files as (level, first key group, last key group, size); L0 newest first.
fn version(files: &[(u8, u16, u16, u64)]) -> Version {
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
    let context = Context::new(env, StoreOptions::default());
    let mut version = Version::default();
    for (i, &(level, start, end, size)) in files.iter().enumerate() {
        let described = FileRef {
            path: format!("{i}"),
            size_bytes: size,
            level,
            smallest: crate::key::encode(start, crate::TableId(0), b"a").into(),
            largest: crate::key::encode(end, crate::TableId(0), b"z").into(),
            clip: KeyGroupRange { start, end },
            entries: 1,
            tail_bytes: 64,
            checksum: i as u64,
        };
        let file = SstFile::written(&context, described.path.as_str().into(), &described);
        file.name();
        version.levels[usize::from(level)].extend(VersionFile::whole(file, level));
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
        (0, 0, 1, 10),
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
        (job.output_level, job.drop_tombstones, job.trivial_move),
        (1, true, false)
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
        (job.output_level, job.drop_tombstones, job.trivial_move),
        (2, true, false)
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
    assert!(job.trivial_move);
    let small = pick(
        &version(&[(1, 0, 1, 500), (1, 2, 3, 20), (2, 0, 1, 900)]),
        &OPTIONS,
    )
    .unwrap();
    assert!(!small.trivial_move, "small files would pile up");
}
