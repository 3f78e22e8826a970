//! What the backend is told of the times in a table's lists, so that it knows which chunks can hold nothing any more.
//!
//! Times are rounded up by a 64th of the TTL, so that it is not told at every element. A chunk is forgotten later by as much, never earlier.

use std::cell::Cell;
use std::rc::Rc;

use aquifer_store::TableId;

use crate::StateError;
use crate::access::StateAccess;
use crate::backend::ListTimes;

/// Parts of a TTL by which times are rounded up.
const NOTES_PER_TTL: u64 = 64;

/// What the backend was told of the times in a table's lists.
#[derive(Clone)]
pub(crate) struct NotedTimes {
    table: TableId,
    ttl_ms: Option<u64>,
    /// The latest time that elements were said to have.
    written_ms: Rc<Cell<Option<i64>>>,
    /// The time that it was last said to be.
    now_ms: Rc<Cell<Option<i64>>>,
}

impl NotedTimes {
    /// Nothing so far. `ttl_ms` is the table's TTL, if it has one.
    pub(crate) fn new(ttl_ms: Option<u64>, table: TableId) -> Self {
        Self {
            table,
            ttl_ms,
            written_ms: Rc::default(),
            now_ms: Rc::default(),
        }
    }

    /// An element is written to a chunk that lists append to.
    #[inline]
    pub(crate) fn written(
        &self,
        access: &StateAccess,
        chunk: u64,
        time_ms: Option<i64>,
    ) -> Result<(), StateError> {
        let Some(ttl_ms) = self.ttl_ms else {
            return Ok(());
        };
        if time_ms.is_some() && time_ms <= self.written_ms.get() {
            return Ok(());
        }
        let latest_ms = time_ms.map(|time| time.saturating_add_unsigned(ttl_ms / NOTES_PER_TTL));
        access.list_times(self.table, ListTimes::Written { chunk, latest_ms })?;
        if latest_ms.is_some() {
            self.written_ms.set(latest_ms);
        }
        Ok(())
    }

    /// An element of a chunk was given this time by reading it.
    pub(super) fn lives_on(
        &self,
        access: &StateAccess,
        chunk: u64,
        latest_ms: Option<i64>,
    ) -> Result<(), StateError> {
        access.list_times(self.table, ListTimes::Written { chunk, latest_ms })
    }

    /// It is so late.
    pub(super) fn now(&self, access: &StateAccess, now_ms: Option<i64>) -> Result<(), StateError> {
        let (Some(ttl_ms), Some(now_ms)) = (self.ttl_ms, now_ms) else {
            return Ok(());
        };
        let every_ms = (ttl_ms / NOTES_PER_TTL).max(1);
        let is_due = |last: i64| last.saturating_add_unsigned(every_ms) <= now_ms;
        if self.now_ms.get().is_none_or(is_due) {
            self.now_ms.set(Some(now_ms));
            access.list_times(self.table, ListTimes::Now { now_ms, ttl_ms })?;
        }
        Ok(())
    }
}
