//! The memtables of a table that have become files and stay in memory as long as there is room.
//!
//! A checkpoint makes files of all memtables, although what was written last is what is read next. So the newest memtables are kept: a
//! read finds in them what it would find in the files of the same flushes, and need not ask those. What is kept of a table has no gap:
//! it is all that the table's flushes have written since some flush, so nothing in a file is newer than a row that is found here. An
//! operand is never taken from here, because the files below have it, too: whoever meets one asks the files.
//!
//! A get looks into each memtable, so there are few of them: of more, a small one is taken up by the one before it, and if none is small
//! the oldest goes. Their bytes are counted, and they are given back, oldest first, before any write has to wait for memory.
use std::sync::Arc;

use crate::memtable::Memtable;
use crate::options::TableId;

/// Memtables that are kept of a table.
const MEMTABLES_MAX: usize = 4;
/// Rows and bytes of a memtable that another takes up while the worker waits: some milliseconds.
const TAKEN_ROWS_MAX: usize = 16 << 10;
const TAKEN_BYTES_MAX: usize = 8 << 20;

/// See the module.
pub(super) struct Retained {
    /// Oldest first.
    memtables: Vec<Kept>,
    /// What flushes from this one on have written of the table is all in `memtables`.
    since: u64,
    /// Scans take the memtables from this flush on instead of files; see [`Self::note_files`].
    scanned_since: u64,
    /// A scan of memtables need not read any file.
    stands_alone: bool,
}

struct Kept {
    /// The newest flush that its rows are of.
    flush: u64,
    memtable: Arc<Memtable>,
}

impl Retained {
    /// Nothing, of a table of which no flush has written anything.
    pub(super) fn new() -> Self {
        Self {
            memtables: Vec::new(),
            // Files that no flush has written are not of any flush from the first on.
            since: 1,
            scanned_since: u64::MAX,
            stands_alone: false,
        }
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.memtables.is_empty()
    }

    #[inline]
    pub(super) fn are_several(&self) -> bool {
        self.memtables.len() > 1
    }

    /// Files of this flush and of newer ones have no row of the table that is not here.
    #[inline]
    pub(super) fn since(&self) -> u64 {
        self.since
    }

    #[inline]
    pub(super) fn newest_first(&self) -> impl Iterator<Item = &Memtable> {
        self.memtables.iter().rev().map(|kept| &*kept.memtable)
    }

    /// What a scan reads instead of the files of some flush and of newer ones: that flush, and the memtables, newest first.
    pub(super) fn for_scan(&self) -> (u64, impl Iterator<Item = &Memtable>) {
        let since = self.scanned_since;
        let newest = self.memtables.iter().rev();
        let newest = newest.take_while(move |kept| kept.flush >= since);
        (since, newest.map(|kept| &*kept.memtable))
    }

    /// Whether what [`Self::for_scan`] leaves of the files is nothing.
    #[inline]
    pub(super) fn stands_alone(&self) -> bool {
        self.stands_alone
    }

    pub(super) fn bytes(&self) -> usize {
        let memtables = self.newest_first();
        memtables.map(Memtable::retained_bytes).sum()
    }

    /// The flush of the oldest memtable.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.memtables.first().map(|kept| kept.flush)
    }

    /// A flush has written some memtables of the table, oldest first.
    pub(super) fn keep(&mut self, table: TableId, flush: u64, written: Vec<Arc<Memtable>>) {
        for mut memtable in written {
            if let Some(memtable) = Arc::get_mut(&mut memtable) {
                memtable.forget_sorting();
            }
            self.memtables.push(Kept { flush, memtable });
        }
        while self.memtables.len() > MEMTABLES_MAX {
            if !self.take_up(table) {
                let oldest = self.memtables.remove(0);
                self.since = self.since.max(oldest.flush + 1);
            }
        }
    }

    /// Lets the smallest memtable go up in the one before it. False if none is small enough.
    fn take_up(&mut self, table: TableId) -> bool {
        let followers = self.memtables.iter().enumerate().skip(1);
        let small = followers
            .filter(|(_, kept)| {
                let memtable = &kept.memtable;
                memtable.rows() <= TAKEN_ROWS_MAX
                    && memtable.bytes() <= TAKEN_BYTES_MAX
                    && memtable.ranges().is_empty()
            })
            .min_by_key(|(_, kept)| kept.memtable.rows());
        let Some((at, _)) = small else {
            return false;
        };
        let newer = self.memtables.remove(at);
        let Some(older) = at.checked_sub(1).and_then(|at| self.memtables.get_mut(at)) else {
            return false;
        };
        older.flush = newer.flush;
        let taken = match Arc::get_mut(&mut older.memtable) {
            Some(memtable) => memtable.take_up(table, &newer.memtable).is_ok(),
            None => false,
        };
        if !taken {
            // The rows of one are missing, so what is older than they does not count.
            self.since = self.since.max(newer.flush + 1);
            self.memtables.drain(..at);
        }
        true
    }

    /// Lets go of what the flush and older ones have written.
    pub(super) fn release(&mut self, flush: u64) {
        self.memtables.retain(|kept| kept.flush > flush);
        self.since = self.since.max(flush + 1);
    }

    /// Which flushes the files of the tree are of, in ascending order; 0 for files that no flush has written. Where none has, compactions have taken all of them up, and a
    /// scan that has to read those files has nothing from reading memtables, too. Nor has it where operands say that files decide.
    pub(super) fn note_files(&mut self, flushes: &[u64]) {
        let open = self.memtables.iter().rev();
        let open = open.filter(|kept| kept.memtable.has_operands());
        let from = open.map(|kept| kept.flush + 1).next().unwrap_or(0);
        let from = from.max(self.since);
        let at = flushes.partition_point(|&flush| flush < from);
        self.scanned_since = flushes.get(at).copied().unwrap_or(u64::MAX);
        self.stands_alone = at == 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key;
    use crate::row::Content;

    const TABLE: TableId = TableId(3);

    fn memtable(rows: &[(u8, Option<u8>)]) -> Arc<Memtable> {
        let mut memtable = Memtable::new(false);
        for (key, value) in rows {
            let value = value.as_ref().map(std::slice::from_ref);
            let hash = key::hash_parts(key::header(0, TABLE), &[*key]);
            memtable.put(hash, 0, &[*key], value, None).unwrap();
        }
        Arc::new(memtable)
    }

    fn newest(retained: &Retained, key: u8) -> Option<Option<u8>> {
        let hash = key::hash_parts(key::header(0, TABLE), &[key]);
        let row = retained
            .newest_first()
            .find_map(|memtable| memtable.get(hash, 0, &[key]));
        Some(match row?.content {
            Content::Value(value) => Some(value[0]),
            _ => None,
        })
    }

    #[test]
    fn small_memtables_are_taken_up_and_nothing_is_lost() {
        let mut retained = Retained::new();
        for flush in 1..=40u8 {
            let rows = [(flush % 7, Some(flush)), (100 + flush, None)];
            retained.keep(TABLE, u64::from(flush), vec![memtable(&rows)]);
            assert!(retained.newest_first().count() <= MEMTABLES_MAX);
            assert_eq!(newest(&retained, flush % 7), Some(Some(flush)));
        }
        assert_eq!(retained.since(), 1, "all flushes are there");
        for flush in 34..=40u8 {
            assert_eq!(newest(&retained, flush % 7), Some(Some(flush)));
        }
        for flush in 1..=40 {
            assert_eq!(newest(&retained, 100 + flush), Some(None), "{flush}");
        }
        assert!(retained.bytes() > 0);
        retained.release(40);
        assert!(retained.is_empty());
        assert_eq!((retained.since(), retained.bytes()), (41, 0));
    }

    /// Few rows were taken up however large they were: the worker copied a whole memtable of them at every checkpoint.
    #[test]
    fn of_memtables_that_are_not_small_the_newest_stay() {
        let large = TAKEN_BYTES_MAX / 4;
        for (rows, value_bytes) in [(TAKEN_ROWS_MAX as u32 + 1, 1), (4, large)] {
            let mut retained = Retained::new();
            for flush in 1..=6u8 {
                let mut memtable = Memtable::new(false);
                for i in 0..rows {
                    let key = i.to_be_bytes();
                    let hash = key::hash_parts(key::header(0, TABLE), &key);
                    let value = vec![flush; value_bytes];
                    memtable.put(hash, 0, &key, Some(&value), None).unwrap();
                }
                retained.keep(TABLE, u64::from(flush), vec![Arc::new(memtable)]);
            }
            assert_eq!(retained.newest_first().count(), MEMTABLES_MAX);
            assert_eq!((retained.oldest(), retained.since()), (Some(3), 3));
        }
    }

    #[test]
    fn one_that_somebody_holds_is_not_written_to() {
        let mut retained = Retained::new();
        let held = memtable(&[(1, Some(1))]);
        retained.keep(TABLE, 1, vec![held.clone()]);
        let all: Vec<_> = (2..=4).map(|flush| memtable(&[(1, Some(flush))])).collect();
        for (flush, memtable) in (2..).zip(&all) {
            retained.keep(TABLE, flush, vec![memtable.clone()]);
        }
        retained.keep(TABLE, 5, vec![memtable(&[(2, Some(5))])]);
        assert_eq!(held.rows(), 1);
        assert_eq!(newest(&retained, 2), Some(Some(5)));
        // What is left has no gap.
        let since = retained.since();
        assert!(since > 1 && retained.oldest().is_none_or(|oldest| oldest >= since));
    }

    #[test]
    fn scans_read_memtables_where_these_stand_for_files() {
        let mut retained = Retained::new();
        retained.keep(TABLE, 2, vec![memtable(&[(1, Some(1))])]);
        retained.keep(TABLE, 5, vec![memtable(&[(2, Some(1))])]);
        let scanned = |retained: &Retained| {
            let (since, memtables) = retained.for_scan();
            (since, memtables.count())
        };
        assert_eq!(scanned(&retained), (u64::MAX, 0));
        retained.note_files(&[1, 2, 5]);
        assert_eq!(scanned(&retained), (1, 2), "flush 1 wrote other tables");
        assert!(retained.stands_alone());
        retained.note_files(&[0, 5]);
        assert_eq!(scanned(&retained), (5, 1));
        assert!(!retained.stands_alone(), "a compaction's file");
        retained.note_files(&[]);
        assert_eq!(scanned(&retained), (u64::MAX, 0));
        retained.release(2);
        retained.note_files(&[1, 2, 5]);
        assert_eq!(scanned(&retained), (5, 1));
    }
}
