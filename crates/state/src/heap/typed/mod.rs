//! Typed tables: what typed handles keep on the heap instead of bytes.
//!
//! A table holds, per key group, one entry per encoded `key ‖ namespace`: a value, a list or a map. Values stay what they are and become bytes
//! only in snapshots, on a background thread, in the same rows that every other backend has (`docs` of [`crate::state`]). A barrier moves
//! one layer per key group out of the way and copies nothing ([`layers`]); what is written afterwards lies above it until it is folded back.
//!
//! Clones of a [`HeapStates`] share the tables. Used from the worker's thread only; frozen tables may go anywhere.

mod cleanup;
mod entry;
mod frozen;
mod key;
mod layer;
mod layers;
mod lists;
mod maps;
mod merge;
mod table;
mod values;

use std::any::Any;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use aquifer_store::{KeyGroupRange, ScanRows, TableId};
use bytes::Bytes;

pub(crate) use self::entry::{HeapEntry, Timed};
pub(crate) use self::key::Key as HeapKey;
pub(crate) use self::lists::HeapLists;
pub(crate) use self::maps::HeapMaps;
pub(crate) use self::table::{HeapTableOf, RowShape};
pub(crate) use self::values::HeapValues;
use crate::StateError;
use crate::rows::{RowRefs, RowSink};

/// How far a fold has come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Folded {
    /// Entries that were moved, and what else is work.
    pub(crate) moved: usize,
    /// The key group to go on with, counted from the start of the range; none at the end.
    pub(crate) next: Option<usize>,
}

/// A typed table, whatever it holds.
pub(crate) trait HeapTable: 'static {
    /// What the table holds now, for a snapshot: one layer of each key group is moved, nothing is copied.
    fn freeze(&mut self) -> Box<dyn FrozenTable>;
    /// True if nothing was written since the last `freeze`.
    fn is_unwritten(&self) -> bool;
    /// Folds the layers that no snapshot holds any more, from a key group on, until so many entries were moved.
    fn fold_some(&mut self, from: usize, entries_max: usize) -> Folded;
    /// Looks at so many entries and removes what has expired in them; returns how many entries went away.
    fn expire_some(&mut self, entries_max: usize, now_ms: i64) -> usize;
    /// Entries without a time count as written then.
    fn count_untimed_as(&mut self, time_ms: i64);
    /// Bytes, estimated.
    fn bytes(&self) -> u64;
    /// The `key ‖ namespace`s of a key group that hold something at `now_ms`, in order.
    fn live_keys(&self, group: u16, now_ms: Option<i64>) -> Result<Vec<Box<[u8]>>, StateError>;
    /// The rows of one key group in order, as bytes, whether expired or not.
    fn write_rows(&self, group: u16, sink: &mut dyn RowSink) -> Result<(), StateError>;
}

/// A table as it was when the barrier passed it.
pub(crate) trait FrozenTable: Send {
    /// Writes the rows of one key group in key order. Leaves out what has expired at `now_ms`, if it is given. Returns the first list chunk
    /// number that no row has.
    fn write(
        &self,
        group: u16,
        now_ms: Option<i64>,
        sink: &mut dyn RowSink,
    ) -> Result<u64, StateError>;
}

/// The rows of a typed table that lie in a range, as bytes.
pub(crate) fn scan(
    table: &dyn HeapTable,
    group: u16,
    prefix: &[u8],
    from: &[u8],
    until: Option<&[u8]>,
    rows_max: usize,
) -> Result<ScanRows, StateError> {
    let mut range = InRange {
        prefix,
        from,
        until,
        rows_max,
        rows: ScanRows {
            done: true,
            ..ScanRows::default()
        },
    };
    table.write_rows(group, &mut range)?;
    Ok(range.rows)
}

/// Keeps the first rows of a range.
struct InRange<'a> {
    prefix: &'a [u8],
    from: &'a [u8],
    until: Option<&'a [u8]>,
    rows_max: usize,
    rows: ScanRows,
}

impl RowSink for InRange<'_> {
    fn put(&mut self, row: RowRefs<'_>) -> Result<(), StateError> {
        let within = row.key >= self.from
            && row.key.starts_with(self.prefix)
            && self.until.is_none_or(|until| row.key < until);
        if within && self.rows.rows.len() < self.rows_max {
            let (key, value) = (row.key, row.value);
            let copied = (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
            self.rows.rows.push(copied);
            self.rows.times.push(row.time_ms);
        } else if within {
            self.rows.done = false;
        }
        Ok(())
    }
}

/// The typed tables of one worker.
#[derive(Clone)]
pub struct HeapStates {
    inner: Rc<Inner>,
}

struct Inner {
    range: KeyGroupRange,
    tables: RefCell<BTreeMap<TableId, Opened>>,
}

struct Opened {
    typed: Rc<dyn Any>,
    table: Rc<RefCell<dyn HeapTable>>,
}

impl HeapStates {
    /// No tables yet, of a worker with these key groups.
    pub(crate) fn new(range: KeyGroupRange) -> Self {
        Self {
            inner: Rc::new(Inner {
                range,
                tables: RefCell::default(),
            }),
        }
    }

    /// The key groups of the tables.
    pub(crate) fn range(&self) -> KeyGroupRange {
        self.inner.range
    }

    /// The table of this number, made by `make` if it is not open. Of one number all calls must ask for the same type.
    pub(crate) fn open<H: HeapTable>(
        &self,
        table: TableId,
        make: impl FnOnce() -> Result<H, StateError>,
    ) -> Result<Rc<RefCell<H>>, StateError> {
        let known = self
            .inner
            .tables
            .borrow()
            .get(&table)
            .map(|opened| Rc::clone(&opened.typed));
        if let Some(known) = known {
            return known.downcast::<RefCell<H>>().map_err(|_| {
                StateError::Usage(format!(
                    "table {} is open with another type of state, value or serializer than it is now asked for with",
                    table.0
                ))
            });
        }
        let made = Rc::new(RefCell::new(make()?));
        let opened = Opened {
            typed: made.clone(),
            table: made.clone(),
        };
        self.inner.tables.borrow_mut().insert(table, opened);
        Ok(made)
    }

    /// The table of this number, if a typed handle has opened it.
    pub(crate) fn get(&self, table: TableId) -> Option<Rc<RefCell<dyn HeapTable>>> {
        let tables = self.inner.tables.borrow();
        tables.get(&table).map(|opened| Rc::clone(&opened.table))
    }

    /// All tables that typed handles have opened.
    pub(crate) fn all(&self) -> Vec<Rc<RefCell<dyn HeapTable>>> {
        let tables = self.inner.tables.borrow();
        tables
            .values()
            .map(|opened| Rc::clone(&opened.table))
            .collect()
    }
}
