//! Rows of one table as bytes, one after the other, from the parts of a checkpoint that hold its key groups.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use aquifer_store::{KeyGroupRange, TableId, TableOptions};

use super::Shared;
use crate::rows::{RowRefs, RowSource, row_source_with};
use crate::{StateDescription, StateError};

/// Rows asked for together, at first.
const ROWS_FIRST: usize = 64;
/// Rows asked for together, at first, of one key.
const ROWS_OF_KEY_FIRST: usize = 2;
/// Rows asked for together at most.
const ROWS_MAX: usize = 4096;
/// Bytes that are aimed at when rows are asked for.
const BYTES_AIM: usize = 1 << 20;

/// Which rows are wanted.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) groups: KeyGroupRange,
    /// Only rows whose key starts so.
    pub(super) prefix: Vec<u8>,
}

/// Walks the rows of a table.
pub(super) struct RawRows {
    shared: Arc<Shared>,
    /// The table, without a TTL: what has expired is decided by whoever reads, who may want to see it.
    table: (StateDescription, TableId),
    wanted: Wanted,
    /// Parts of the checkpoint that are still to come: their places and the key groups wanted of them.
    parts: VecDeque<(usize, KeyGroupRange)>,
    source: Option<Source>,
    /// Rows that were read and not handed out.
    bytes: Vec<u8>,
    rows: VecDeque<Held>,
    rows_next: usize,
}

/// The part that is being read.
struct Source {
    rows: Box<dyn RowSource>,
    part: usize,
    groups: KeyGroupRange,
    /// With a prefix: the key group in which it is looked for.
    group: u16,
    more: bool,
}

/// A row, as places in the bytes that are held.
struct Held {
    part: usize,
    group: u16,
    key: Range<usize>,
    value: Range<usize>,
    time_ms: Option<i64>,
}

/// One row.
#[derive(Clone, Copy, Debug)]
pub(super) struct RawRow<'a> {
    /// The part of the checkpoint that it is of.
    pub(super) part: usize,
    pub(super) group: u16,
    pub(super) key: &'a [u8],
    pub(super) value: &'a [u8],
    pub(super) time_ms: Option<i64>,
}

impl RawRows {
    pub(super) fn open(
        shared: Arc<Shared>,
        table: TableId,
        wanted: Wanted,
    ) -> Result<Self, StateError> {
        let known = shared.metadata.tables.iter().find(|(_, id)| *id == table);
        let (description, _) = known
            .ok_or_else(|| StateError::Usage(format!("the checkpoint has no table {}", table.0)))?;
        let description = StateDescription {
            options: TableOptions {
                ttl_ms: None,
                untimed_as_ms: None,
                event_time: false,
                ..description.options.clone()
            },
            ..description.clone()
        };
        let keyed = shared.metadata.keyed.iter().enumerate();
        let mut parts: Vec<(usize, KeyGroupRange)> = keyed
            .filter_map(|(place, (range, _))| Some((place, range.intersection(wanted.groups)?)))
            .collect();
        parts.sort_by_key(|(_, range)| range.start);
        Ok(Self {
            shared,
            table: (description, table),
            parts: parts.into(),
            source: None,
            bytes: Vec::new(),
            rows: VecDeque::new(),
            // A key has few rows, mostly.
            rows_next: match wanted.prefix.is_empty() {
                true => ROWS_FIRST,
                false => ROWS_OF_KEY_FIRST,
            },
            wanted,
        })
    }

    /// Goes to the next row; false after the last.
    pub(super) fn advance(&mut self) -> Result<bool, StateError> {
        self.rows.pop_front();
        while self.rows.is_empty() {
            if !self.load()? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The present row, after `advance`.
    pub(super) fn current(&self) -> Option<RawRow<'_>> {
        let held = self.rows.front()?;
        let bytes = |range: &Range<usize>| self.bytes.get(range.clone()).unwrap_or_default();
        Some(RawRow {
            part: held.part,
            group: held.group,
            key: bytes(&held.key),
            value: bytes(&held.value),
            time_ms: held.time_ms,
        })
    }

    /// Bytes of rows that are held.
    pub(super) fn held_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    /// Reads more rows; false if there are none.
    fn load(&mut self) -> Result<bool, StateError> {
        if self.source.is_none() {
            let Some((part, groups)) = self.parts.pop_front() else {
                return Ok(false);
            };
            self.source = Some(self.open_part(part, groups)?);
        }
        let Some(source) = &mut self.source else {
            return Ok(false);
        };
        // Room that one large row has taken is given back.
        self.bytes.clear();
        self.bytes.shrink_to(BYTES_AIM);
        let (bytes, rows, prefix) = (&mut self.bytes, &mut self.rows, &self.wanted.prefix);
        let (part, looked_for) = (source.part, source.group);
        let mut passed = false;
        source.more = source.rows.next(self.rows_next, &mut |row: RowRefs<'_>| {
            passed |=
                !prefix.is_empty() && (row.group != looked_for || !row.key.starts_with(prefix));
            if passed {
                return Ok(());
            }
            let key = bytes.len()..bytes.len() + row.key.len();
            bytes.extend_from_slice(row.key);
            let value = bytes.len()..bytes.len() + row.value.len();
            bytes.extend_from_slice(row.value);
            rows.push_back(Held {
                part,
                group: row.group,
                key,
                value,
                time_ms: row.time_ms,
            });
            Ok(())
        })?;
        if let Some(row_bytes) = self.bytes.len().checked_div(self.rows.len()) {
            let aimed = BYTES_AIM / row_bytes.max(1);
            self.rows_next = aimed.clamp(1, self.rows_next.saturating_mul(2).min(ROWS_MAX));
        }
        if !prefix.is_empty() && (passed || !source.more) {
            // On to the prefix in the next key group.
            match source
                .group
                .checked_add(1)
                .filter(|next| *next <= source.groups.end)
            {
                Some(next) => {
                    source.group = next;
                    source.more = true;
                    source.rows.seek(next, self.table.1, prefix)?;
                }
                None => source.more = false,
            }
        }
        if !source.more {
            self.source = None;
        }
        Ok(true)
    }

    fn open_part(&self, part: usize, groups: KeyGroupRange) -> Result<Source, StateError> {
        let keyed = self.shared.metadata.keyed.get(part);
        let (_, snapshot) = keyed.ok_or_else(|| {
            StateError::Usage(format!("the checkpoint has no part {part} of keyed state"))
        })?;
        let tables = std::slice::from_ref(&self.table);
        let Shared {
            environment,
            copies,
            ..
        } = &*self.shared;
        let mut rows = row_source_with(snapshot, groups, tables, environment, copies)?;
        if !self.wanted.prefix.is_empty() {
            rows.seek(groups.start, self.table.1, &self.wanted.prefix)?;
        }
        Ok(Source {
            rows,
            part,
            groups,
            group: groups.start,
            more: true,
        })
    }
}
