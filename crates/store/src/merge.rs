//! Rows of one key from several sources become one row.
//!
//! [`Merging`] is given the rows from old to new. It starts *open* if there may be older rows elsewhere, or *gone* if there
//! are none. Whatever the grouping, the outcome is the same: operands fold in order, and a gap between two writes of a key
//! that is as long as the table's TTL ends what was before, as it would have for a reader who looked in between. Not so in tables that go
//! by event time ([`Rules::ended`]): there an operand joins what has expired as long as no compaction has dropped it.
use std::mem::swap;

use bytes::Bytes;

use crate::encoding::put_bytes;
use crate::error::{Error, Result};
use crate::planted::{self, Bug};
use crate::row::{Content, List, Operands, RowKind, RowRef, SourceRow, is_rooted, put_operands};
use crate::rules::{MergeRule, Rules};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing so far; older rows may exist.
    Open,
    /// Nothing, and nothing older counts.
    Gone,
    /// A value.
    Value,
    /// One operand on what is older; it lies in `value`.
    One,
    /// Several operands on what is older.
    Many,
    /// Several operands on nothing, or, if `has_base`, on the value.
    Rooted { has_base: bool },
}

/// See the module's documentation. Buffers are used again from key to key.
#[derive(Debug)]
pub(crate) struct Merging {
    state: State,
    first_ms: Option<i64>,
    time_ms: Option<i64>,
    value: Vec<u8>,
    list: Vec<u8>,
    scratch: Vec<u8>,
    out: Vec<u8>,
}

impl Default for Merging {
    fn default() -> Self {
        Self {
            state: State::Open,
            first_ms: None,
            time_ms: None,
            value: Vec::new(),
            list: Vec::new(),
            scratch: Vec::new(),
            out: Vec::new(),
        }
    }
}

impl Merging {
    /// Starts with a key; `open` if sources that are not seen may hold older rows of it.
    pub(crate) fn start(&mut self, open: bool) {
        self.set(if open { State::Open } else { State::Gone }, &[], None);
    }

    fn set(&mut self, state: State, value: &[u8], time_ms: Option<i64>) {
        self.state = state;
        self.first_ms = time_ms;
        self.time_ms = time_ms;
        self.value.clear();
        self.value.extend_from_slice(value);
        self.list.clear();
    }

    /// Takes the next newer row.
    pub(crate) fn add(&mut self, row: &SourceRow<'_>, rules: &Rules) {
        let operands = match &row.content {
            Content::Tombstone => return self.set(State::Gone, &[], None),
            Content::Value(value) => return self.set(State::Value, value, row.time_ms),
            Content::Operands(operands) => operands,
        };
        match (operands.rooted, operands.base) {
            (true, Some(base)) => self.set(State::Value, base, operands.first_ms),
            (true, None) => self.set(State::Gone, &[], operands.first_ms),
            // What had expired when the operands came does not count. Rows that are not seen have no time, and may count.
            (false, _)
                if self.state != State::Open && rules.ended(self.time_ms, operands.first_ms) =>
            {
                self.set(State::Gone, &[], None);
            }
            _ => {}
        }
        if matches!(self.state, State::Open | State::Gone) {
            self.first_ms = operands.first_ms;
        } else if self.first_ms.is_none() {
            // A row in a file has two times or none, so what came without one gets that by which it counts.
            let counted = [rules.untimed_as_ms, operands.first_ms];
            self.first_ms = counted.into_iter().flatten().min();
        }
        for operand in operands.list {
            self.operand(operand, &rules.merge);
        }
        self.time_ms = self.time_ms.max(row.time_ms);
    }

    fn operand(&mut self, operand: &[u8], rule: &MergeRule) {
        match (rule, self.state) {
            (MergeRule::Append, State::Open) => self.first(State::One, operand),
            (MergeRule::Append, State::Gone) => self.first(State::Value, operand),
            (MergeRule::Append, State::One | State::Value) => self.value.extend_from_slice(operand),
            (MergeRule::Fold(_), State::Open) => self.first(State::One, operand),
            (MergeRule::Fold(fold), State::Gone | State::Value) => {
                let value = (self.state == State::Value).then_some(self.value.as_slice());
                self.scratch.clear();
                fold.fold(value, operand, &mut self.scratch);
                swap(&mut self.value, &mut self.scratch);
                self.state = State::Value;
            }
            (MergeRule::Fold(fold), State::One) => {
                self.scratch.clear();
                if fold.combine(&self.value, operand, &mut self.scratch) {
                    swap(&mut self.value, &mut self.scratch);
                } else {
                    put_bytes(&mut self.list, &self.value);
                    put_bytes(&mut self.list, operand);
                    self.state = State::Many;
                }
            }
            (MergeRule::Unknown, State::One) => {
                put_bytes(&mut self.list, &self.value);
                put_bytes(&mut self.list, operand);
                self.state = State::Many;
            }
            (_, State::Many | State::Rooted { .. }) => put_bytes(&mut self.list, operand),
            (MergeRule::Unknown, state) => {
                put_bytes(&mut self.list, operand);
                self.state = match state {
                    State::Open => State::Many,
                    state => State::Rooted {
                        has_base: state == State::Value,
                    },
                };
            }
        }
    }

    fn first(&mut self, state: State, operand: &[u8]) {
        self.state = state;
        self.value.clear();
        self.value.extend_from_slice(operand);
    }

    /// Forgets a row that has expired at `now_ms`.
    pub(crate) fn expire(&mut self, rules: &Rules, now_ms: i64) {
        if self.state != State::Open && rules.expired(self.time_ms, now_ms) {
            self.set(State::Gone, &[], None);
        }
    }

    /// The row that says what all of them said; `None` if they said nothing.
    pub(crate) fn row(&mut self) -> Option<RowRef<'_>> {
        let (rooted, base, list) = match self.state {
            State::Open => return None,
            State::Gone => {
                return Some(RowRef::plain(None));
            }
            State::Value => {
                return Some(RowRef::new(RowKind::Value, self.time_ms, &self.value));
            }
            State::One => (false, None, List::One(&self.value)),
            State::Many => (false, None, List::Many(&self.list)),
            State::Rooted { has_base } => (
                true,
                has_base.then_some(self.value.as_slice()),
                List::Many(&self.list),
            ),
        };
        let operands = Operands {
            rooted,
            base,
            first_ms: self.first_ms,
            list,
        };
        self.out.clear();
        put_operands(&mut self.out, &operands, self.time_ms);
        Some(RowRef::new(RowKind::Operands, self.time_ms, &self.out))
    }

    /// The value and its time, when there is nothing older; takes the value's buffer.
    pub(crate) fn take_value(&mut self) -> Result<Option<(Vec<u8>, Option<i64>)>> {
        match self.state {
            State::Open | State::Gone => Ok(None),
            State::Value => Ok(Some((std::mem::take(&mut self.value), self.time_ms))),
            State::One | State::Many | State::Rooted { .. } => Err(Error::usage(
                "a row has operands, but the table was opened without the fold that makes a value of them",
            )),
        }
    }
}

/// A row of operands from a file, or one that outlives its memtable.
#[derive(Clone, Debug)]
pub(crate) struct HeldOperands {
    pub(crate) time_ms: Option<i64>,
    /// The value of the row as in a file.
    pub(crate) bytes: Bytes,
}

impl HeldOperands {
    /// Copies the operands of a memtable's row.
    pub(crate) fn copy(operands: &Operands<'_>, time_ms: Option<i64>) -> Self {
        let mut bytes = Vec::new();
        put_operands(&mut bytes, operands, time_ms);
        Self {
            time_ms,
            bytes: bytes.into(),
        }
    }

    /// Copies a memtable's row of operands.
    pub(crate) fn copy_row(row: &SourceRow<'_>) -> Option<Self> {
        match &row.content {
            Content::Operands(operands) => Some(Self::copy(operands, row.time_ms)),
            Content::Value(_) | Content::Tombstone => None,
        }
    }

    /// Nothing older counts.
    pub(crate) fn is_rooted(&self) -> bool {
        is_rooted(&self.bytes)
    }

    fn row(&self) -> RowRef<'_> {
        RowRef::new(RowKind::Operands, self.time_ms, &self.bytes)
    }
}

/// Folds operands over what lies below them: rows of files and then of memtables, each list newest first.
pub(crate) fn fold_over(
    below: Option<(&[u8], Option<i64>)>,
    files: &[HeldOperands],
    memory: &[SourceRow<'_>],
    rules: &Rules,
) -> Result<Option<(Vec<u8>, Option<i64>)>> {
    let mut merging = Merging::default();
    merging.start(false);
    if let Some((value, time_ms)) = below {
        merging.set(State::Value, value, time_ms);
    }
    let oldest_first = |at: usize| match planted::is(Bug::OperandsReversed) {
        true => at,
        false => files.len() - 1 - at,
    };
    for held in (0..files.len()).filter_map(|at| files.get(oldest_first(at))) {
        merging.add(&held.row().open()?, rules);
    }
    for row in memory.iter().rev() {
        merging.add(row, rules);
    }
    merging.take_value()
}

/// The held rows taken apart, in the same order.
pub(crate) fn open_all(held: &[HeldOperands]) -> Result<Vec<SourceRow<'_>>> {
    held.iter().map(|held| held.row().open()).collect()
}

#[cfg(test)]
mod tests;
