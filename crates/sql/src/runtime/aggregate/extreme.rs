//! MIN and MAX over encoded values: for types without a fixed width, and for all types when values can be taken back.
//!
//! Values are kept in the encoding of `row_key`, inverted for MAX, so that the extreme is always the smallest bytes.

use aquifer_dataflow::JobError;
use aquifer_state::access::StateAccess;
use arrow::array::ArrayRef;
use arrow::datatypes::DataType;

use super::accumulator::{Accumulators, FoldRows, Step, Trace};
use super::codec::{read_slice, write_slice};
use super::fold::KeyFold;
use super::values::{ValueCounts, first_value};
use crate::runtime::row_key::{KeyEncoder, ValueDecoder};

/// The accumulators of one MIN or MAX.
pub struct ExtremeAccumulators {
    largest: bool,
    decoder: ValueDecoder,
    /// The second column under construction while values are traced.
    decoder_after: ValueDecoder,
    /// The extreme of each group; empty = no value.
    best: Vec<Vec<u8>>,
    scratch: Vec<u8>,
}

impl ExtremeAccumulators {
    /// For values of this type.
    pub fn new(data_type: &DataType, largest: bool) -> Result<Self, JobError> {
        Ok(Self {
            largest,
            decoder: ValueDecoder::new(data_type)?,
            decoder_after: ValueDecoder::new(data_type)?,
            best: Vec::new(),
            scratch: Vec::new(),
        })
    }

    /// True for MAX: its values are filed inverted.
    pub fn inverted(&self) -> bool {
        self.largest
    }

    fn trace(&mut self, group: Option<usize>, after: bool) -> Result<(), JobError> {
        let decoder = if after {
            &mut self.decoder_after
        } else {
            &mut self.decoder
        };
        match group.map(|group| self.best[group].as_slice()) {
            None | Some([]) => decoder.push_null(),
            Some(best) => push_value(decoder, best, self.largest, &mut self.scratch)?,
        }
        Ok(())
    }

    fn offer(&mut self, group: usize, value: &[u8]) {
        let best = &mut self.best[group];
        if best.is_empty() || value < best.as_slice() {
            best.clear();
            best.extend_from_slice(value);
        }
    }

    fn finish_trace(&mut self) -> Trace {
        Trace {
            before: self.decoder.finish(),
            after: self.decoder_after.finish(),
        }
    }

    /// Folds rows whose values can be taken back, with the help of the table of all values.
    pub async fn fold_counted(
        &mut self,
        fold: &KeyFold,
        counts: &mut ValueCounts<'_>,
        state: &StateAccess,
        rows: FoldRows<'_>,
        trace: bool,
    ) -> Result<Option<Trace>, JobError> {
        let (table, pairs) = (counts.table(), counts.pairs());
        // Groups whose extreme went; found again at the end when nobody looks in between.
        let mut lost = vec![false; if trace { 0 } else { fold.groups() }];
        for row in 0..rows.groups.len() {
            let group = rows.groups[row] as usize;
            let step = rows.steps[row];
            if step == Step::Ignore {
                if trace {
                    self.trace(None, false)?;
                    self.trace(None, true)?;
                }
                continue;
            }
            if step == Step::First {
                self.best[group].clear();
            }
            if trace {
                self.trace(Some(group), false)?;
            }
            if let Some(value) = pairs.value(row).filter(|_| rows.signs[row] != 0) {
                match counts.change(row, rows.signs[row]) {
                    (0, 1) => self.offer(group, value),
                    (1, 0) if self.best[group] == value => {
                        if trace {
                            counts.write(state)?;
                            let (key_group, key) = fold.keys.get(group);
                            let next = first_value(table, state, key_group, key, value).await?;
                            self.best[group] = next.unwrap_or_default();
                        } else {
                            lost[group] = true;
                        }
                    }
                    _ => {}
                }
            }
            if trace {
                self.trace(Some(group), true)?;
            }
        }
        counts.write(state)?;
        for group in (0..lost.len()).filter(|group| lost[*group]) {
            let (key_group, key) = fold.keys.get(group);
            self.best[group] = first_value(table, state, key_group, key, &[])
                .await?
                .unwrap_or_default();
        }
        Ok(trace.then(|| self.finish_trace()))
    }
}

fn push_value(
    decoder: &mut ValueDecoder,
    value: &[u8],
    inverted: bool,
    scratch: &mut Vec<u8>,
) -> Result<(), JobError> {
    let mut bytes = value;
    if inverted {
        scratch.clear();
        scratch.extend(value.iter().map(|byte| !byte));
        bytes = scratch;
    }
    decoder.push(&mut bytes)
}

impl Accumulators for ExtremeAccumulators {
    fn clear(&mut self) {
        self.best.clear();
    }

    fn push_empty(&mut self) {
        self.best.push(Vec::new());
    }

    fn push(&mut self, state: &mut &[u8]) -> Option<()> {
        self.best.push(read_slice(state)?.to_vec());
        Some(())
    }

    fn store(&self, group: usize, to: &mut Vec<u8>) {
        write_slice(&self.best[group], to);
    }

    fn values(&mut self) -> Result<ArrayRef, JobError> {
        for group in 0..self.best.len() {
            self.trace(Some(group), false)?;
        }
        Ok(self.decoder.finish())
    }

    fn fold(
        &mut self,
        input: Option<&ArrayRef>,
        rows: FoldRows<'_>,
        trace: bool,
    ) -> Result<Option<Trace>, JobError> {
        let encoder = KeyEncoder::new(input)?;
        let mut value = Vec::new();
        for row in 0..rows.groups.len() {
            let step = rows.steps[row];
            let group = (step != Step::Ignore).then_some(rows.groups[row] as usize);
            if let (Some(group), Step::First) = (group, step) {
                self.best[group].clear();
            }
            if trace {
                self.trace(group, false)?;
            }
            if let Some(group) = group.filter(|_| rows.signs[row] > 0) {
                value.clear();
                encoder.encode(row, &mut value);
                if self.largest {
                    value.iter_mut().for_each(|byte| *byte = !*byte);
                }
                self.offer(group, &value);
            }
            if trace {
                self.trace(group, true)?;
            }
        }
        Ok(trace.then(|| self.finish_trace()))
    }
}
