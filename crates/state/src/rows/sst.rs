//! The rows of SSTs, read through a store of their own.

use aquifer_store::{
    Environment, KeyGroupRange, ScanLookup, ScanRows, Store, StoreOptions, TableId,
};
use tokio::runtime::Handle;

use super::{RowRefs, RowSource, inline};
use crate::blocking::wait;
use crate::{KeyedSnapshot, StateDescription, StateError};

/// See the module.
pub(super) struct SstRowSource {
    store: Store,
    runtime: Handle,
    /// The key groups in which files have rows; none if there are none.
    groups: Option<KeyGroupRange>,
    /// Ascending.
    tables: Vec<TableId>,
    /// Where reading goes on: key group, place in `tables`, and the least key.
    group: u16,
    at: usize,
    from: Vec<u8>,
    done: bool,
}

impl SstRowSource {
    pub(super) fn open(
        snapshot: &KeyedSnapshot,
        clip: KeyGroupRange,
        tables: &[(StateDescription, TableId)],
        environment: &Environment,
    ) -> Result<Self, StateError> {
        // Nothing is written through this store: it must not compact.
        let options = StoreOptions {
            l0_files_max: usize::MAX,
            ..StoreOptions::default()
        };
        let environment = inline::environment(environment, [snapshot])?;
        let runtime = environment.runtime.clone();
        let mut store = Store::open(environment, options, vec![(snapshot.files.clone(), clip)])?;
        let mut ids = Vec::with_capacity(tables.len());
        for (description, table) in tables {
            store.create_table(*table, description.options.clone())?;
            ids.push(*table);
            let moment = snapshot.moment(*table);
            if description.options.event_time
                && let Some(now_ms) = moment.and_then(|moment| moment.event_time_ms)
            {
                store.advance_event_time(*table, now_ms)?;
            }
        }
        ids.sort_unstable();
        ids.dedup();
        let groups = groups_of(snapshot, clip);
        Ok(Self {
            store,
            runtime,
            group: groups.map_or(0, |groups| groups.start),
            done: groups.is_none() || ids.is_empty(),
            groups,
            tables: ids,
            at: 0,
            from: Vec::new(),
        })
    }

    fn scan(&self, table: TableId, rows_max: usize) -> Result<ScanRows, StateError> {
        let found = self
            .store
            .scan(table, self.group, b"", &self.from, None, rows_max)?;
        Ok(match found {
            ScanLookup::Rows(rows) => rows,
            ScanLookup::Cold(scan) => wait(
                &self.runtime,
                "reading the rows of a checkpoint",
                self.store.fetch_scan(scan),
            )??,
        })
    }

    /// Goes to the next table, or to the first one of the next key group.
    fn advance(&mut self) {
        self.from.clear();
        self.at += 1;
        if self.at < self.tables.len() {
            return;
        }
        self.at = 0;
        match self.groups {
            Some(groups) if self.group < groups.end => self.group += 1,
            _ => self.done = true,
        }
    }
}

impl RowSource for SstRowSource {
    fn next(
        &mut self,
        rows_max: usize,
        each: &mut dyn FnMut(RowRefs<'_>) -> Result<(), StateError>,
    ) -> Result<bool, StateError> {
        let mut left = rows_max.max(1);
        while !self.done && left > 0 {
            let Some(table) = self.tables.get(self.at).copied() else {
                self.done = true;
                break;
            };
            let piece = self.scan(table, left)?;
            left -= piece.rows.len().min(left);
            for (at, (key, value)) in piece.rows.iter().enumerate() {
                each(RowRefs {
                    group: self.group,
                    table,
                    key,
                    value,
                    time_ms: piece.time_ms(at),
                })?;
            }
            match piece.rows.last() {
                Some((key, _)) if !piece.done => {
                    // The least key above the last one.
                    self.from.clear();
                    self.from.extend_from_slice(key);
                    self.from.push(0);
                }
                _ => self.advance(),
            }
        }
        Ok(!self.done)
    }

    fn seek(&mut self, group: u16, table: TableId, key: &[u8]) -> Result<(), StateError> {
        self.from.clear();
        let Some(groups) = self.groups.filter(|groups| group <= groups.end) else {
            self.done = true;
            return Ok(());
        };
        self.done = self.tables.is_empty();
        if self.done {
            return Ok(());
        }
        (self.group, self.at) = (group.max(groups.start), 0);
        if group < groups.start {
            return Ok(());
        }
        self.at = self.tables.partition_point(|known| *known < table);
        if self.tables.get(self.at) == Some(&table) {
            self.from.extend_from_slice(key);
        } else if self.at == self.tables.len() {
            self.at -= 1;
            self.advance();
        }
        Ok(())
    }
}

/// The key groups within `clip` in which some file may have rows.
fn groups_of(snapshot: &KeyedSnapshot, clip: KeyGroupRange) -> Option<KeyGroupRange> {
    let group_of = |key: &[u8]| key.first_chunk().map(|group| u16::from_be_bytes(*group));
    let spans = snapshot.files.files.iter().filter_map(|file| {
        let within = KeyGroupRange {
            start: group_of(&file.smallest).unwrap_or(0),
            end: group_of(&file.upper).unwrap_or(u16::MAX),
        };
        file.clip.intersection(within)?.intersection(clip)
    });
    spans.reduce(|all, one| KeyGroupRange {
        start: all.start.min(one.start),
        end: all.end.max(one.end),
    })
}
