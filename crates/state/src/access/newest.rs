//! What must not have changed for a fetched value to be the newest.
//!
//! Every write to a table is counted. If none came while a read was under way, nothing is newer; otherwise the key is looked up again, and
//! if that is as cold as before and planned on the same, nothing newer is known of this key.

use std::cell::RefMut;

use aquifer_store::{ColdRead, Moment, TableId};

use super::StateAccess;

/// What a cold read was planned on. As long as later look-ups of the same key are cold and planned on the same, its answer is the newest.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Basis {
    /// The files. Memory knew nothing of the key.
    Files(u64),
    /// The files, and the operands that memory had for the key.
    Operands(Moment),
}

/// What was written to a table through this access.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Written {
    /// Rows, operands and deletions so far.
    pub(super) count: u64,
    /// Whether an operand was among them: then memory may hold some for a key that is cold.
    merged: bool,
}

impl Written {
    /// What a read that was cold just now is planned on.
    pub(super) fn basis(self, read: &ColdRead, installs: u64) -> Basis {
        if self.merged {
            Basis::Operands(read.moment())
        } else {
            Basis::Files(installs)
        }
    }
}

impl StateAccess {
    pub(super) fn written(&self, table: TableId) -> Written {
        let writes = self.inner.writes.borrow();
        let written = writes.get(usize::from(table.0));
        written.copied().unwrap_or_default()
    }

    /// How often a table was written to: if that is the same as before, it holds the same.
    pub(crate) fn writes(&self, table: TableId) -> u64 {
        self.written(table).count
    }

    #[inline]
    pub(super) fn count_write(&self, table: TableId) {
        self.count(table).count += 1;
    }

    pub(super) fn count_merge(&self, table: TableId) {
        let mut written = self.count(table);
        written.count += 1;
        written.merged = true;
    }

    #[inline]
    fn count(&self, table: TableId) -> RefMut<'_, Written> {
        let mut writes = self.inner.writes.borrow_mut();
        let index = usize::from(table.0);
        if writes.len() <= index {
            writes.resize(index + 1, Written::default());
        }
        RefMut::map(writes, |writes| &mut writes[index])
    }
}
