//! Cases that seeds of the simulation have found, made small.
use crate::simulation::case::{Case, Shape};
use crate::simulation::op::Op;
use crate::simulation::shrink::check;
use aquifer_testkit::Storm;

/// A value that lies aside was damaged in the file cache. Compactions copy such values under their seal, and looked at it too late to
/// read the value again: the attempt ended, and so did every one after it.
#[test]
fn a_damaged_copy_of_a_value_does_not_end_a_compaction() {
    let burst = |seed, count| Op::Burst {
        table: 1,
        seed,
        count,
    };
    let ops = vec![
        burst(2884344702, 131),
        Op::Checkpoint,
        burst(2785412182, 117),
        Op::Checkpoint,
        Op::Disk {
            kind: 6,
            pick: 1721000806,
            at: 3142352344,
        },
        Op::Settle,
    ];
    let storm = Storm {
        seed: 73947,
        per_mille: vec![],
        ends_at: 38,
    };
    let shape = Shape {
        workers: 3,
        retained: 1,
        cache_bytes: 4096,
        block_bytes: 1024,
        memtable_bytes: 32768,
        memtables_retained: 1,
        l0_files: 1,
        file_bytes: 4096,
        level_bytes: 65536,
        dynamic_levels: false,
        filter_bits: 0,
        aside_bytes: 40,
        part_bytes: 8388608,
        compression: 2,
        hedge: false,
        threads: 3,
        disk: true,
    };
    let case = Case {
        seed: 73947,
        shape,
        storm,
        crashes: vec![],
        ops,
    };
    check(&case).unwrap();
}
