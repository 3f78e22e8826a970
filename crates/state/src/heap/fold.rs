//! What folding layers of raw and of typed tables has in common: a bounded number of rows is moved at a time.

use hashbrown::HashTable;

/// Buckets that are passed over for the work of moving one row.
const BUCKETS_PER_ROW: usize = 16;

/// How far the folding of a key group has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GroupFolded {
    /// Rows that were moved, and what passing over empty buckets counts as.
    pub(super) work: usize,
    /// False if there is more that could be folded now.
    pub(super) done: bool,
}

/// Takes out what lies in the buckets from `at` on, until about so much work is done or nothing is left; returns how much was done.
/// Starts over at the end: what was put in meanwhile may lie before `at`.
pub(super) fn drain_some<T>(
    table: &mut HashTable<T>,
    at: &mut usize,
    work_max: usize,
    mut take: impl FnMut(T),
) -> usize {
    let (mut taken, mut passed) = (0, 0);
    while !table.is_empty() && taken + passed / BUCKETS_PER_ROW < work_max {
        if *at >= table.num_buckets() {
            *at = 0;
        }
        match table.get_bucket_entry(*at) {
            Ok(found) => {
                take(found.remove().0);
                taken += 1;
            }
            Err(_) => passed += 1,
        }
        *at += 1;
    }
    taken + passed / BUCKETS_PER_ROW
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_drained_in_bounded_pieces_whatever_is_added_meanwhile() {
        let hash = |n: &u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut table = HashTable::new();
        let mut expected = Vec::new();
        let mut add = |table: &mut HashTable<u64>, n: u64| {
            table.insert_unique(hash(&n), n, hash);
            expected.push(n);
        };
        for n in 0..1000 {
            add(&mut table, n);
        }
        let (mut at, mut taken, mut pieces) = (0, Vec::new(), 0);
        while !table.is_empty() {
            let before = taken.len();
            let work = drain_some(&mut table, &mut at, 10, |n| taken.push(n));
            assert!(taken.len() - before <= 10 && work <= 10, "{work}");
            pieces += 1;
            if pieces < 100 {
                add(&mut table, 1000 + pieces);
            }
        }
        taken.sort_unstable();
        assert_eq!(taken, expected);
        assert!((100..400).contains(&pieces), "{pieces}");
    }
}
