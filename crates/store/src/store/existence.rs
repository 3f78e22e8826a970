//! Whether any key with a prefix has a value: what `isEmpty` of a map asks, without the merge that a scan is.
//!
//! Sources are asked for their rows under the prefix, newest first. A value of the newest source that has anything there lives, and ends the
//! search. The key of any other row is read like every key, so what newer sources say of it (tombstones, range tombstones, operands) and what has
//! expired is decided by reads and nowhere else. Where several rows one after the other are dead, or memory lacks something, nothing is said:
//! a scan skips what is deleted, and knows how to wait.
use std::sync::Arc;

use super::Store;
use super::reads::prefix_hash;
use super::table::Table;
use crate::error::Result;
use crate::key::{self, KEY_HEADER_BYTES, KeyBuffer};
use crate::options::TableId;
use crate::read::Blocks;
use crate::row::RowKind;
use crate::sst::block::BlockCursor;
use crate::version::{Sought, VersionFile};

/// Rows that are looked at before the search is left to a scan.
const ROWS_MAX: usize = 16;

/// What one source says.
enum Said {
    /// There is a key with a value.
    Yes,
    /// No row of this source is the one; `known`: it has said something of keys with the prefix.
    No { known: bool },
    /// A scan finds out.
    Unclear,
}

/// A search under way.
struct Search<'a> {
    table: &'a Table,
    id: TableId,
    group: u16,
    prefix: &'a [u8],
    now_ms: i64,
    /// No source so far has said anything of keys with the prefix.
    newest: bool,
    rows_left: usize,
}

impl Search<'_> {
    /// What a row under the prefix means, if it ends the search.
    fn judge(
        &mut self,
        store: &Store,
        key: &[u8],
        kind: RowKind,
        time_ms: Option<i64>,
    ) -> Result<Option<Said>> {
        if self.rows_left == 0 {
            return Ok(Some(Said::Unclear));
        }
        self.rows_left -= 1;
        match kind {
            RowKind::Tombstone => Ok(None),
            RowKind::Value if self.newest && !self.table.rules.hides(time_ms, self.now_ms) => {
                Ok(Some(Said::Yes))
            }
            RowKind::Value | RowKind::Operands => {
                let mut has_value = false;
                let see = &mut |value: Option<&[u8]>, _: Option<i64>| has_value = value.is_some();
                let cold = store.look_up(self.id, self.group, key, see)?;
                Ok(match (cold, has_value) {
                    (Some(_), _) => Some(Said::Unclear),
                    (None, true) => Some(Said::Yes),
                    (None, false) => None,
                })
            }
        }
    }

    fn ask_memtables(&mut self, store: &Store) -> Result<Said> {
        let (_, memtables) = self.table.for_scan();
        for memtable in memtables.filter(|memtable| !memtable.is_empty()) {
            if !memtable.is_sorted() {
                return Ok(Said::Unclear);
            }
            let mut known = !memtable.ranges().is_empty();
            let mut rows = memtable.rows_from(self.group, self.prefix, None);
            while let Some(row) = rows.next_found()
                && row.key().starts_with(self.prefix)
            {
                known = true;
                let (kind, time_ms) = match row.value() {
                    Some((_, time_ms)) => (RowKind::Value, time_ms),
                    None if row.is_tombstone() => (RowKind::Tombstone, None),
                    None => (RowKind::Operands, None),
                };
                if let Some(end) = self.judge(store, row.key(), kind, time_ms)? {
                    return Ok(end);
                }
            }
            self.newest &= !known;
        }
        Ok(Said::No { known: false })
    }

    /// Asks files that lie one after the other: one of L0, or those of a deeper level from the first that may have the prefix on.
    fn ask_run<'f>(
        &mut self,
        store: &Store,
        files: impl Iterator<Item = &'f VersionFile>,
        (prefix, hash): (Sought<'_>, Option<u64>),
        cursor: &mut BlockCursor,
    ) -> Result<Said> {
        let (before, _) = self.table.for_scan();
        let mut known = false;
        for file in files {
            if !file.begins_by(prefix) && !file.lower.starts_with(prefix.key) {
                break;
            }
            if file.flush >= before {
                continue;
            }
            match self.ask_file(store, file, (prefix.key, hash), cursor)? {
                Said::No { known: more } => known |= more,
                end => return Ok(end),
            }
        }
        Ok(Said::No { known })
    }

    fn ask_file(
        &mut self,
        store: &Store,
        file: &VersionFile,
        (prefix, hash): (&[u8], Option<u64>),
        cursor: &mut BlockCursor,
    ) -> Result<Said> {
        let (sst, blocks) = (&file.file, store.cached());
        let mut known = sst.range_tombstones > 0;
        if let Some(hash) =
            hash.filter(|_| sst.has_prefixes(self.id, self.table.rules.prefix_shape))
        {
            match sst.may_contain(hash, &blocks) {
                Ok(true) => {}
                Ok(false) => return Ok(Said::No { known }),
                Err(_) => return Ok(Said::Unclear),
            }
        }
        let lower = prefix.max(file.lower.as_ref());
        let mut next = sst.seek(lower, &blocks);
        let mut begun = false;
        loop {
            let at = match next {
                Ok(Some(at)) => at,
                Ok(None) => return Ok(Said::No { known }),
                Err(_) => return Ok(Said::Unclear),
            };
            let Some(block) = blocks.located(sst, sst.located(at)) else {
                return Ok(Said::Unclear);
            };
            cursor.reset();
            let mut stands = match std::mem::replace(&mut begun, true) {
                false => cursor.seek(&block, lower),
                true => cursor.advance(&block),
            };
            while stands {
                let key = cursor.key();
                if !key.starts_with(prefix) || key >= file.upper.as_ref() {
                    return Ok(Said::No { known });
                }
                known = true;
                if let Some(row) = cursor.row(&block) {
                    let user_key = key.get(KEY_HEADER_BYTES..).unwrap_or_default();
                    if let Some(end) = self.judge(store, user_key, row.kind, row.time_ms)? {
                        return Ok(end);
                    }
                }
                stands = cursor.advance(&block);
            }
            next = sst.block_after(at, &blocks);
        }
    }

    fn ask_files(&mut self, store: &Store) -> Result<Said> {
        let whole = KeyBuffer::new(key::header(self.group, self.id), self.prefix);
        let sought = Sought::new(whole.as_slice());
        let hash = prefix_hash(&self.table.rules, self.group, self.id, self.prefix);
        let mut cursor = BlockCursor::default();
        let [newest, deeper @ ..] = &store.version.levels;
        if let Some(hash) = hash {
            // What decides lies somewhere else in each filter: it is fetched at once, so that the search waits for one of them and not for
            // one after the other.
            let first = |level: &Vec<Arc<VersionFile>>| {
                let at = level.partition_point(|file| file.ends_by(sought));
                level.get(at).map_or(0, |file| file.file.touch_filter(hash))
            };
            let deeper = deeper.iter().fold(0, |all, level| all ^ first(level));
            let newest = newest.iter().map(|file| file.file.touch_filter(hash));
            std::hint::black_box(newest.fold(deeper, |all, line| all ^ line));
        }
        for file in newest.iter().filter(|file| !file.ends_by(sought)) {
            let one = std::iter::once(&**file);
            match self.ask_run(store, one, (sought, hash), &mut cursor)? {
                Said::No { known } => self.newest &= !known,
                end => return Ok(end),
            }
        }
        for level in deeper {
            let start = level.partition_point(|file| file.ends_by(sought));
            let files = level.iter().skip(start).map(|file| &**file);
            match self.ask_run(store, files, (sought, hash), &mut cursor)? {
                Said::No { known } => self.newest &= !known,
                end => return Ok(end),
            }
        }
        Ok(Said::No { known: false })
    }
}

impl Store {
    /// Whether a key of `table` and `group` that starts with `prefix` has a value, if memory finds that out in a few steps; `None`: a
    /// [`Self::scan`] for one row does.
    pub fn holds_any(&self, table: TableId, group: u16, prefix: &[u8]) -> Result<Option<bool>> {
        let found = self.table(table)?;
        let mut search = Search {
            table: found,
            id: table,
            group,
            prefix,
            now_ms: self.now_ms(found),
            newest: true,
            rows_left: ROWS_MAX,
        };
        let mut said = search.ask_memtables(self)?;
        if matches!(said, Said::No { .. }) && !found.retained.stands_alone() {
            said = search.ask_files(self)?;
        }
        Ok(match said {
            Said::Yes => Some(true),
            Said::No { .. } => Some(false),
            Said::Unclear => None,
        })
    }
}
