//! The aggregates of one operator over the groups of a batch: loaded, folded, told, written back.

use std::future::{Future, poll_fn};
use std::pin::pin;

use aquifer_dataflow::operator::OpenContext;
use aquifer_dataflow::{ChangeBatch, JobError};
use aquifer_state::access::{StateAccess, Values};
use aquifer_store::{TableId, TableOptions};
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::kernels::cmp::distinct;
use futures_util::future::LocalBoxFuture;

use super::accumulator::{FoldRows, Step, Trace};
use super::call::AggregateCall;
use super::codec;
use super::columns::{KeyColumns, groups_layout};
use super::fold::KeyFold;
use super::slot::{Slot, distinct_sign};
use super::values::{ValueCounts, ValuePairs, delete_values, passes};

/// What is to be told about a batch's effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tell {
    /// Nothing.
    Nothing,
    /// The results of each group before and after the batch.
    Groups,
    /// The results of the row's group before and after each row.
    Rows,
}

/// A batch on its way: folded per key, its reads under way.
pub struct PreparedBatch {
    /// The rows.
    pub rows: ChangeBatch,
    /// Its groups.
    pub fold: KeyFold,
    pairs: Vec<Option<ValuePairs>>,
    reads: Vec<LocalBoxFuture<'static, Result<(), aquifer_state::StateError>>>,
}

/// What a batch did, by rows or by groups as asked: for unit i, the results before and after, and what to make of it.
pub struct Applied {
    /// Results just before, a column per call.
    pub before: Vec<ArrayRef>,
    /// Results just after.
    pub after: Vec<ArrayRef>,
    /// What happened to the group.
    pub steps: Vec<Step>,
    /// Whether any result differs.
    pub changed: Vec<bool>,
}

/// The aggregates of one operator.
pub struct Aggregates {
    calls: Vec<AggregateCall>,
    slots: Vec<Slot>,
    /// Rows can be taken back: the number of records of each group is kept.
    updating: bool,
    /// A group never ends (the one group of an aggregate without keys).
    everlasting: bool,
    table: Option<TableId>,
    // The groups of the batch in hand.
    records: Vec<u64>,
    present: Vec<bool>,
    // Kept for their memory.
    loaded: Values,
    loaded_counts: Values,
    /// Batches whose reads are still to be started on arrival; see `AHEAD_BATCHES`.
    ahead_batches: u32,
    bytes: Vec<u8>,
}

/// How many batches after a read that had to wait have their reads started on arrival.
///
/// Starting a read ahead looks every key up, and so does the read itself: worth it only where state is cold.
const AHEAD_BATCHES: u32 = 32;

/// Awaits a read and tells whether it had to wait.
async fn noticing<T>(read: impl Future<Output = T>) -> (T, bool) {
    let mut read = pin!(read);
    let mut waited = false;
    let result = poll_fn(|context| {
        let poll = read.as_mut().poll(context);
        waited |= poll.is_pending();
        poll
    })
    .await;
    (result, waited)
}

fn not_open() -> JobError {
    JobError::failed("an aggregate was used before it was opened")
}

impl Aggregates {
    /// For these calls; `updating` if input rows can be taken back, `everlasting` if the group stays when its last row is taken back.
    pub fn new(
        calls: Vec<AggregateCall>,
        updating: bool,
        everlasting: bool,
    ) -> Result<Self, JobError> {
        let slots = calls
            .iter()
            .enumerate()
            .map(|(index, call)| Slot::new(call, index, updating))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            calls,
            slots,
            updating,
            everlasting,
            table: None,
            records: Vec::new(),
            present: Vec::new(),
            loaded: Values::default(),
            loaded_counts: Values::default(),
            ahead_batches: 0,
            bytes: Vec::new(),
        })
    }

    /// Registers the states: the groups under `state`, and a table for each call that keeps its values.
    pub fn open(
        &mut self,
        context: &mut OpenContext<'_>,
        state: &str,
        ordered: bool,
        key: &KeyColumns,
    ) -> Result<TableId, JobError> {
        let (layout, schema) = key.groups(&self.calls, self.updating);
        let options = |ordered| TableOptions {
            ordered,
            ..TableOptions::default()
        };
        let table = context.register_rows(state, options(ordered), &layout, schema)?;
        self.table = Some(table);
        for (index, (slot, call)) in self.slots.iter_mut().zip(&self.calls).enumerate() {
            let values_table = match slot {
                Slot::Plain(_) => continue,
                Slot::Distinct(_, table) => table,
                Slot::Counted(_, table) => table,
            };
            let (layout, schema) = key.values(call, self.updating);
            let state = format!("values-{index}");
            let registered = context.register_rows(&state, options(true), &layout, schema);
            *values_table = Some(registered?);
        }
        Ok(table)
    }

    /// Folds a batch's values and starts its reads, if reads have had to wait of late.
    pub fn prepare(
        &mut self,
        rows: ChangeBatch,
        fold: KeyFold,
        state: &StateAccess,
    ) -> Result<PreparedBatch, JobError> {
        let mut pairs = Vec::with_capacity(self.calls.len());
        for (call, slot) in self.calls.iter().zip(&self.slots) {
            let (Some(_), Some((column, _))) = (slot.values_table(), &call.input) else {
                pairs.push(None);
                continue;
            };
            let filter = call
                .filter
                .map(|column| rows.rows.column(column).as_boolean());
            let input = rows.rows.column(*column);
            pairs.push(Some(ValuePairs::new(
                &fold,
                input,
                filter,
                slot.inverted(),
            )?));
        }
        let mut reads = Vec::new();
        if self.ahead_batches > 0 {
            self.ahead_batches -= 1;
            reads.extend(state.prefetch(self.table.ok_or_else(not_open)?, &fold.keys)?);
            for (slot, pairs) in self.slots.iter().zip(&pairs) {
                if let (Some(table), Some(pairs)) = (slot.values_table(), pairs) {
                    reads.extend(state.prefetch(table, &pairs.keys)?);
                }
            }
            if !reads.is_empty() {
                self.ahead_batches = AHEAD_BATCHES;
            }
        }
        Ok(PreparedBatch {
            rows,
            fold,
            pairs,
            reads,
        })
    }

    /// Folds a batch into state.
    pub async fn apply(
        &mut self,
        prepared: &mut PreparedBatch,
        state: &StateAccess,
        tell: Tell,
    ) -> Result<Applied, JobError> {
        for read in prepared.reads.drain(..) {
            read.await?;
        }
        let table = self.table.ok_or_else(not_open)?;
        let fold = &prepared.fold;
        let mut loaded = std::mem::take(&mut self.loaded);
        let read = state.multi_get(table, &fold.keys, &mut loaded);
        let (read, waited) = noticing(read).await;
        read?;
        self.ahead_batches = if waited {
            AHEAD_BATCHES
        } else {
            self.ahead_batches
        };
        self.clear();
        for group in 0..fold.groups() {
            self.push(loaded.get(group))?;
        }
        let was_present = self.present.clone();
        let (steps, signs) = self.count_records(&prepared.rows, &fold.group_of_row)?;

        let mut applied = Applied {
            before: Vec::new(),
            after: Vec::new(),
            changed: vec![
                false;
                if tell == Tell::Rows {
                    steps.len()
                } else {
                    fold.groups()
                }
            ],
            steps: Vec::new(),
        };
        if tell == Tell::Groups {
            applied.before = self.values()?;
        }
        for index in 0..self.calls.len() {
            let trace = self
                .fold_call(index, prepared, &steps, &signs, state, tell)
                .await?;
            if let Some(trace) = trace {
                applied.before.push(trace.before);
                applied.after.push(trace.after);
            }
        }
        match tell {
            Tell::Nothing => {}
            Tell::Rows => applied.steps = steps,
            Tell::Groups => {
                applied.after = self.values()?;
                applied.steps = was_present
                    .iter()
                    .zip(&self.present)
                    .map(|presence| match presence {
                        (false, false) => Step::Ignore,
                        (false, true) => Step::First,
                        (true, true) => Step::Update,
                        (true, false) => Step::Last,
                    })
                    .collect();
            }
        }
        for (before, after) in applied.before.iter().zip(&applied.after) {
            let differs = distinct(before, after)?;
            for (changed, differs) in applied.changed.iter_mut().zip(differs.values().iter()) {
                *changed |= differs;
            }
        }
        self.write(&prepared.fold, &loaded, state, table)?;
        self.loaded = loaded;
        Ok(applied)
    }

    /// Forgets the groups in hand.
    pub fn clear(&mut self) {
        self.records.clear();
        self.present.clear();
        for slot in &mut self.slots {
            slot.accumulators().clear();
        }
    }

    /// Appends a group from its state row, or an empty one.
    pub fn push(&mut self, bytes: Option<&[u8]>) -> Result<(), JobError> {
        let Some(bytes) = bytes else {
            self.records.push(0);
            self.present.push(false);
            self.slots
                .iter_mut()
                .for_each(|slot| slot.accumulators().push_empty());
            return Ok(());
        };
        self.push_state(bytes).ok_or_else(|| {
            let length = bytes.len();
            let layout = groups_layout("", &self.calls, self.updating);
            JobError::failed(format!(
                "accumulators of {length} bytes in state do not have the layout{layout}"
            ))
        })
    }

    fn push_state(&mut self, mut bytes: &[u8]) -> Option<()> {
        let records = if self.updating {
            codec::read_count(&mut bytes)?
        } else {
            0
        };
        self.records.push(records);
        self.present.push(true);
        for slot in &mut self.slots {
            slot.accumulators().push(&mut bytes)?;
        }
        bytes.is_empty().then_some(())
    }

    /// The results of the groups in hand, a column per call.
    pub fn values(&mut self) -> Result<Vec<ArrayRef>, JobError> {
        self.slots
            .iter_mut()
            .map(|slot| slot.accumulators().values())
            .collect()
    }

    /// Deletes what the groups whose state keys begin with `prefix` keep beside their state rows.
    pub async fn delete_values(
        &self,
        state: &StateAccess,
        key_group: u16,
        prefix: &[u8],
    ) -> Result<(), JobError> {
        for table in self.slots.iter().filter_map(Slot::values_table) {
            delete_values(table, state, key_group, prefix).await?;
        }
        Ok(())
    }

    /// Counts records, which tells which rows begin and end groups, and the sign of each row.
    fn count_records(
        &mut self,
        rows: &ChangeBatch,
        group_of_row: &[u32],
    ) -> Result<(Vec<Step>, Vec<i8>), JobError> {
        let mut steps = Vec::with_capacity(group_of_row.len());
        let mut signs = Vec::with_capacity(group_of_row.len());
        for (row, group) in group_of_row.iter().enumerate() {
            let adds = rows.kind(row).adds();
            if !adds && !self.updating {
                return Err(JobError::failed(format!(
                    "a {} row came to an aggregate that was planned for inserts only",
                    rows.kind(row).short()
                )));
            }
            let group = *group as usize;
            let (Some(present), Some(records)) =
                (self.present.get_mut(group), self.records.get_mut(group))
            else {
                steps.push(Step::Ignore);
                signs.push(0);
                continue;
            };
            let step = match (*present, adds) {
                (false, true) => {
                    *present = true;
                    *records = 1;
                    Step::First
                }
                (false, false) => Step::Ignore,
                (true, true) => {
                    *records += 1;
                    Step::Update
                }
                (true, false) => {
                    *records = records.saturating_sub(1);
                    if *records == 0 && !self.everlasting {
                        *present = false;
                        Step::Last
                    } else {
                        Step::Update
                    }
                }
            };
            steps.push(step);
            signs.push(match step {
                Step::Ignore => 0,
                _ if adds => 1,
                _ => -1,
            });
        }
        Ok((steps, signs))
    }

    async fn fold_call(
        &mut self,
        index: usize,
        prepared: &PreparedBatch,
        steps: &[Step],
        signs: &[i8],
        state: &StateAccess,
        tell: Tell,
    ) -> Result<Option<Trace>, JobError> {
        let trace = tell == Tell::Rows;
        let call = &self.calls[index];
        let rows = &prepared.rows.rows;
        let input = call.input.as_ref().map(|(column, _)| rows.column(*column));
        let filter = call.filter.map(|column| rows.column(column).as_boolean());
        let nulls = input.and_then(|input| input.nulls());
        // Each call has signs of its own where rows are left out.
        let mut own: Option<Vec<i8>> = None;
        if filter.is_some() || nulls.is_some() {
            let mut masked = signs.to_vec();
            for (row, sign) in masked.iter_mut().enumerate() {
                let left_out = nulls.is_some_and(|nulls| nulls.is_null(row))
                    || filter.is_some_and(|filter| !passes(filter, row));
                if left_out {
                    *sign = 0;
                }
            }
            own = Some(masked);
        }
        let groups = prepared.fold.group_of_row.as_slice();
        let fold_rows = |signs| FoldRows {
            groups,
            steps,
            signs,
        };
        let pairs = prepared.pairs[index].as_ref();
        match (&mut self.slots[index], pairs) {
            (Slot::Distinct(accumulators, Some(table)), Some(pairs)) => {
                let load = ValueCounts::load(*table, pairs, state, &mut self.loaded_counts);
                let (counts, waited) = noticing(load).await;
                let mut counts = counts?;
                self.ahead_batches = if waited {
                    AHEAD_BATCHES
                } else {
                    self.ahead_batches
                };
                let mut signs = own.unwrap_or_else(|| signs.to_vec());
                for (row, sign) in signs.iter_mut().enumerate() {
                    *sign = distinct_sign(&mut counts, row, *sign, self.updating);
                }
                counts.write(state)?;
                accumulators.fold(input, fold_rows(&signs), trace)
            }
            (Slot::Counted(accumulators, Some(table)), Some(pairs)) => {
                let load = ValueCounts::load(*table, pairs, state, &mut self.loaded_counts);
                let (counts, waited) = noticing(load).await;
                let mut counts = counts?;
                self.ahead_batches = if waited {
                    AHEAD_BATCHES
                } else {
                    self.ahead_batches
                };
                let rows = fold_rows(own.as_deref().unwrap_or(signs));
                accumulators
                    .fold_counted(&prepared.fold, &mut counts, state, rows, trace)
                    .await
            }
            (Slot::Plain(accumulators), _) => {
                accumulators.fold(input, fold_rows(own.as_deref().unwrap_or(signs)), trace)
            }
            _ => Err(not_open()),
        }
    }

    fn write(
        &mut self,
        fold: &KeyFold,
        loaded: &Values,
        state: &StateAccess,
        table: TableId,
    ) -> Result<(), JobError> {
        for group in 0..fold.groups() {
            let (key_group, key) = fold.keys.get(group);
            let before = loaded.get(group);
            if !self.present[group] {
                if before.is_some() {
                    state.delete(table, key_group, key)?;
                }
                continue;
            }
            self.bytes.clear();
            if self.updating {
                codec::write_count(self.records[group], &mut self.bytes);
            }
            for slot in &self.slots {
                slot.store(group, &mut self.bytes);
            }
            if before != Some(self.bytes.as_slice()) {
                state.put(table, key_group, key, &self.bytes)?;
            }
        }
        Ok(())
    }
}
