//! Aggregates over event-time windows: a window's results come out once, as `+I`, when the watermark reaches its last millisecond.
//!
//! State is one ordered table, `window end ‖ window start ‖ key → accumulators`, so that the windows that are due are the first rows of each key group.
//! Of each key group a lower bound of its first window end is remembered: a watermark that fires nothing looks at one number. What fired is
//! deleted; rows that come later for it are dropped and counted. The watermark up to which a key group has fired is part of the checkpoint, so a
//! window that has come out does not come out again after recovery, at any parallelism.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aquifer_dataflow::operator::{Collector, KeyedOperator, OpenContext};
use aquifer_dataflow::{ChangeBatch, JobError};
use aquifer_state::access::{Keys, StateAccess, Values};
use aquifer_state::dynamic::{ColumnForm, LogicalType, RowColumn};
use aquifer_state::serializer::{Plain, Serializer, StateSchema};
use aquifer_store::{TableId, TableOptions};
use arrow::array::{ArrayRef, AsArray, TimestampMillisecondArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, SchemaRef, TimestampMillisecondType};

use crate::runtime::aggregate::{
    AggregateCall, Aggregates, KeyColumns, KeyFold, PreparedBatch, Tell,
};
use crate::runtime::calc::batch;
use crate::runtime::row_key::{KeyDecoder, Ordered};

/// Rows of one emitted batch at most, and of one piece of a scan.
const ROWS_MAX: usize = 4096;

/// State key of a key group's watermark.
const WATERMARK_KEY: &[u8] = b"watermark";

/// Nothing is known yet about a key group's windows.
const UNKNOWN: i64 = i64::MIN;

/// Where a column of the result comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowOutput {
    /// A column of the key.
    Key(usize),
    /// The window's first millisecond.
    WindowStart,
    /// The first millisecond after the window.
    WindowEnd,
    /// The window's last millisecond.
    WindowTime,
    /// The result of a call.
    Call(usize),
}

/// What a window aggregate computes.
#[derive(Clone, Debug)]
pub struct WindowAggregateSpec {
    /// Types of the key, which is the first columns of the input; without the window's bounds.
    pub key_types: Vec<DataType>,
    /// Column of the window's start.
    pub start_column: usize,
    /// Column of the window's end.
    pub end_column: usize,
    /// The calls.
    pub calls: Vec<AggregateCall>,
    /// Columns of the result.
    pub output: SchemaRef,
    /// Where each comes from.
    pub sources: Vec<WindowOutput>,
    /// Input rows can be taken back.
    pub updating: bool,
}

impl WindowAggregateSpec {
    /// What a column of the key is called in the result; one that is not in it has no name of its own.
    fn key_name(&self, index: usize) -> &str {
        let mut sources = self.sources.iter().zip(self.output.fields());
        let found = sources.find(|(source, _)| **source == WindowOutput::Key(index));
        found.map_or("key", |(_, field)| field.name())
    }
}

/// The operator.
pub struct WindowAggregate {
    spec: WindowAggregateSpec,
    aggregates: Aggregates,
    decoder: KeyDecoder,
    windows: Option<TableId>,
    watermarks: Option<TableId>,
    watermark_ms: i64,
    groups: Vec<GroupTimes>,
    /// First of this worker's key groups.
    first_group: u16,
    /// No window end is smaller than this.
    head_ms: i64,
    /// `numLateRecordsDropped`, of all workers.
    late_rows: Arc<AtomicU64>,
}

/// What is known of one key group's time.
#[derive(Clone, Copy)]
struct GroupTimes {
    /// No window of the group ends before this.
    head_ms: i64,
    /// Windows up to this watermark have fired in the checkpoint that was restored.
    fired_ms: i64,
    /// The watermark in state.
    stored_ms: Option<i64>,
}

impl WindowAggregate {
    /// For one worker; late rows are counted in `late_rows`.
    pub fn new(spec: WindowAggregateSpec, late_rows: Arc<AtomicU64>) -> Result<Self, JobError> {
        let aggregates = Aggregates::new(spec.calls.clone(), spec.updating, false)?;
        let decoder = KeyDecoder::new(&spec.key_types)?;
        Ok(Self {
            spec,
            aggregates,
            decoder,
            windows: None,
            watermarks: None,
            watermark_ms: i64::MIN,
            groups: Vec::new(),
            first_group: 0,
            head_ms: UNKNOWN,
            late_rows,
        })
    }

    fn tables(&self) -> Result<(TableId, TableId), JobError> {
        self.windows
            .zip(self.watermarks)
            .ok_or_else(|| JobError::failed("a window aggregate was used before it was opened"))
    }

    /// Reads how far each key group had fired when the checkpoint was taken; once.
    async fn restore(&mut self, state: &StateAccess) -> Result<(), JobError> {
        if !self.groups.is_empty() {
            return Ok(());
        }
        let (_, watermarks) = self.tables()?;
        let range = state.key_groups();
        let mut keys = Keys::default();
        for group in range.start..=range.end {
            keys.push(group, WATERMARK_KEY);
        }
        let mut values = Values::default();
        state.multi_get(watermarks, &keys, &mut values).await?;
        self.first_group = range.start;
        for index in 0..keys.len() {
            let stored_ms = match values.get(index) {
                None => None,
                Some(mut bytes) => Some(i64::read(&mut bytes).ok_or_else(|| {
                    JobError::failed("the watermark of a key group in state is malformed")
                })?),
            };
            let fired_ms = stored_ms.unwrap_or(i64::MIN);
            self.groups.push(GroupTimes {
                head_ms: UNKNOWN,
                fired_ms,
                stored_ms,
            });
        }
        Ok(())
    }

    fn times(&mut self, group: u16) -> Result<&mut GroupTimes, JobError> {
        let index = usize::from(group.wrapping_sub(self.first_group));
        self.groups.get_mut(index).ok_or_else(|| {
            JobError::failed(format!(
                "a row of key group {group} came to a worker without it"
            ))
        })
    }

    /// Leaves rows out whose window has fired, and notes the windows of the others.
    fn sort_out_late_rows(&mut self, prepared: &mut PreparedBatch) -> Result<(), JobError> {
        let fold = &mut prepared.fold;
        let mut late = vec![false; fold.groups()];
        let mut any_late = false;
        for (index, late) in late.iter_mut().enumerate() {
            let (group, mut key) = fold.keys.get(index);
            let end_ms = window_bound(&mut key)?;
            let watermark_ms = self.watermark_ms;
            let times = self.times(group)?;
            *late = end_ms.saturating_sub(1) <= watermark_ms.max(times.fired_ms);
            if *late {
                any_late = true;
            } else {
                times.head_ms = times.head_ms.min(end_ms);
                self.head_ms = self.head_ms.min(end_ms);
            }
        }
        if any_late {
            let mut dropped = 0;
            for group in &mut fold.group_of_row {
                if late[*group as usize] {
                    *group = u32::MAX;
                    dropped += 1;
                }
            }
            self.late_rows.fetch_add(dropped, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Lets all windows out that the watermark has passed, in the order of their ends.
    async fn fire(
        &mut self,
        state: &StateAccess,
        out: &mut Collector<ChangeBatch>,
    ) -> Result<(), JobError> {
        let mut bounds: Vec<(i64, i64)> = Vec::new();
        self.aggregates.clear();
        loop {
            self.head_ms = self
                .groups
                .iter()
                .map(|times| times.head_ms)
                .min()
                .unwrap_or(i64::MAX);
            let end_ms = self.head_ms;
            if end_ms == i64::MAX || end_ms.saturating_sub(1) > self.watermark_ms {
                break;
            }
            for index in 0..self.groups.len() {
                if self.groups[index].head_ms == end_ms {
                    self.fire_group(index, end_ms, &mut bounds, state, out)
                        .await?;
                }
            }
        }
        self.emit(&mut bounds, out).await
    }

    /// Lets the windows of one key group out that end at `end_ms`, and finds the group's next window.
    async fn fire_group(
        &mut self,
        index: usize,
        end_ms: i64,
        bounds: &mut Vec<(i64, i64)>,
        state: &StateAccess,
        out: &mut Collector<ChangeBatch>,
    ) -> Result<(), JobError> {
        let (windows, _) = self.tables()?;
        let group = self.first_group + index as u16;
        let mut prefix = Vec::with_capacity(8);
        end_ms.write(&mut prefix);
        let mut from = prefix.clone();
        // A few rows answer the question what comes next; many are read only where many fire.
        let mut rows_max = 32;
        let mut fired = false;
        let next_ms = 'rows: loop {
            let found = state
                .scan(windows, group, &[], &from, None, rows_max)
                .await?;
            for (state_key, accumulators) in &found.rows {
                let mut key: &[u8] = state_key;
                let row_end_ms = window_bound(&mut key)?;
                if row_end_ms != end_ms {
                    break 'rows row_end_ms;
                }
                fired = true;
                let start_ms = window_bound(&mut key)?;
                bounds.push((start_ms, end_ms));
                self.decoder.push(&mut key)?;
                self.aggregates.push(Some(accumulators))?;
                state.delete(windows, group, state_key)?;
                if bounds.len() >= ROWS_MAX {
                    self.emit(bounds, out).await?;
                }
            }
            let Some((last, _)) = found.rows.last().filter(|_| !found.done) else {
                break i64::MAX;
            };
            from.clear();
            from.extend_from_slice(last);
            from.push(0);
            rows_max = ROWS_MAX;
        };
        if fired {
            self.aggregates.delete_values(state, group, &prefix).await?;
        }
        self.groups[index].head_ms = next_ms;
        Ok(())
    }

    async fn emit(
        &mut self,
        bounds: &mut Vec<(i64, i64)>,
        out: &mut Collector<ChangeBatch>,
    ) -> Result<(), JobError> {
        let keys = self.decoder.finish();
        let calls = self.aggregates.values()?;
        self.aggregates.clear();
        if bounds.is_empty() {
            return Ok(());
        }
        let time = |of: &dyn Fn(&(i64, i64)) -> i64| -> ArrayRef {
            Arc::new(TimestampMillisecondArray::from_iter_values(
                bounds.iter().map(of),
            ))
        };
        let mut columns = Vec::with_capacity(self.spec.sources.len());
        for (source, field) in self.spec.sources.iter().zip(self.spec.output.fields()) {
            let column = match source {
                WindowOutput::Key(index) => Arc::clone(&keys[*index]),
                WindowOutput::Call(index) => Arc::clone(&calls[*index]),
                WindowOutput::WindowStart => time(&|(start, _)| *start),
                WindowOutput::WindowEnd => time(&|(_, end)| *end),
                WindowOutput::WindowTime => time(&|(_, end)| end.saturating_sub(1)),
            };
            columns.push(match column.data_type() == field.data_type() {
                true => column,
                false => cast(&column, field.data_type())?,
            });
        }
        let rows = batch(&self.spec.output, columns, bounds.len())?;
        bounds.clear();
        out.emit(ChangeBatch::inserts(rows));
        out.breathe().await;
        Ok(())
    }
}

/// Takes a window bound off the front of a state key.
fn window_bound(key: &mut &[u8]) -> Result<i64, JobError> {
    i64::read(key).ok_or_else(|| JobError::failed("a window's key in state is cut short"))
}

impl KeyedOperator<ChangeBatch, ChangeBatch> for WindowAggregate {
    type Prepared = PreparedBatch;

    fn open(&mut self, context: &mut OpenContext<'_>) -> Result<(), JobError> {
        let keys = self.spec.key_types.iter().enumerate();
        let keys = keys.map(|(index, kind)| (self.spec.key_name(index), kind));
        let key = KeyColumns::new(&["window end", "window start"], keys);
        let windows = self.aggregates.open(context, "window-aggs", true, &key)?;
        self.windows = Some(windows);
        let watermark = RowColumn::new("", LogicalType::I64, ColumnForm::Sorted);
        let layout = "key group watermark i64";
        let schema = match RowColumn::snapshot(&[watermark]) {
            Some(value) => StateSchema::rows(Plain::<String>::default().snapshot(), None, value),
            None => StateSchema::raw(layout),
        };
        let options = TableOptions::default();
        self.watermarks = Some(context.register_rows("watermark", options, layout, schema)?);
        Ok(())
    }

    fn prepare(
        &mut self,
        batch: ChangeBatch,
        state: &StateAccess,
    ) -> Result<PreparedBatch, JobError> {
        let milliseconds = |column: usize| {
            let column = batch.rows.column(column);
            match column.data_type() {
                DataType::Timestamp(arrow::datatypes::TimeUnit::Millisecond, _) => {
                    Ok(column.as_primitive::<TimestampMillisecondType>().values())
                }
                other => Err(JobError::failed(format!(
                    "a window bound is of type {other}"
                ))),
            }
        };
        let ends = milliseconds(self.spec.end_column)?;
        let starts = milliseconds(self.spec.start_column)?;
        let fold = KeyFold::new(
            &batch.rows.columns()[..self.spec.key_types.len()],
            batch.rows.num_rows(),
            &[ends, starts],
            state.max_parallelism(),
        )?;
        self.aggregates.prepare(batch, fold, state)
    }

    async fn on_batch(
        &mut self,
        mut prepared: PreparedBatch,
        state: &StateAccess,
        _out: &mut Collector<ChangeBatch>,
    ) -> Result<(), JobError> {
        self.restore(state).await?;
        self.sort_out_late_rows(&mut prepared)?;
        self.aggregates
            .apply(&mut prepared, state, Tell::Nothing)
            .await?;
        Ok(())
    }

    async fn on_watermark(
        &mut self,
        watermark_ms: i64,
        state: &StateAccess,
        out: &mut Collector<ChangeBatch>,
    ) -> Result<i64, JobError> {
        self.restore(state).await?;
        self.watermark_ms = self.watermark_ms.max(watermark_ms);
        if self.head_ms.saturating_sub(1) <= self.watermark_ms {
            self.fire(state, out).await?;
        }
        Ok(watermark_ms)
    }

    async fn on_barrier(
        &mut self,
        state: &StateAccess,
        _out: &mut Collector<ChangeBatch>,
    ) -> Result<(), JobError> {
        self.restore(state).await?;
        let (_, watermarks) = self.tables()?;
        let mut bytes = Vec::with_capacity(8);
        for (index, times) in self.groups.iter_mut().enumerate() {
            let fired_ms = self.watermark_ms.max(times.fired_ms);
            if fired_ms > i64::MIN && times.stored_ms != Some(fired_ms) {
                times.stored_ms = Some(fired_ms);
                bytes.clear();
                fired_ms.write(&mut bytes);
                state.put(
                    watermarks,
                    self.first_group + index as u16,
                    WATERMARK_KEY,
                    &bytes,
                )?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
