//! The accumulators of one call, with the table of its values where it keeps them.

use aquifer_dataflow::JobError;
use aquifer_store::TableId;

use super::accumulator::Accumulators;
use super::call::{AggregateCall, AggregateFunction};
use super::extreme::ExtremeAccumulators;
use super::functions;
use super::values::ValueCounts;

/// How a call is computed.
pub(super) enum Slot {
    Plain(Box<dyn Accumulators>),
    Distinct(Box<dyn Accumulators>, Option<TableId>),
    Counted(ExtremeAccumulators, Option<TableId>),
}

impl Slot {
    pub(super) fn new(
        call: &AggregateCall,
        index: usize,
        updating: bool,
    ) -> Result<Self, JobError> {
        let name = format!("aggregate {} ({})", index + 1, call.layout(updating));
        if call.distinct {
            return Ok(Slot::Distinct(functions::accumulators(call, &name)?, None));
        }
        match &call.input {
            Some((_, input)) if call.keeps_all_values(updating) => {
                let largest = call.function == AggregateFunction::Max;
                Ok(Slot::Counted(
                    ExtremeAccumulators::new(input, largest)?,
                    None,
                ))
            }
            _ => Ok(Slot::Plain(functions::accumulators(call, &name)?)),
        }
    }

    pub(super) fn accumulators(&mut self) -> &mut dyn Accumulators {
        match self {
            Slot::Plain(accumulators) | Slot::Distinct(accumulators, _) => accumulators.as_mut(),
            Slot::Counted(accumulators, _) => accumulators,
        }
    }

    pub(super) fn store(&self, group: usize, to: &mut Vec<u8>) {
        match self {
            Slot::Plain(accumulators) | Slot::Distinct(accumulators, _) => {
                accumulators.store(group, to);
            }
            Slot::Counted(accumulators, _) => accumulators.store(group, to),
        }
    }

    pub(super) fn values_table(&self) -> Option<TableId> {
        match self {
            Slot::Plain(_) => None,
            Slot::Distinct(_, table) | Slot::Counted(_, table) => *table,
        }
    }

    pub(super) fn inverted(&self) -> bool {
        matches!(self, Slot::Counted(accumulators, _) if accumulators.inverted())
    }
}

/// What a row means to a DISTINCT aggregate: a value counts when it comes for the first time and goes with its last.
pub(super) fn distinct_sign(
    counts: &mut ValueCounts<'_>,
    row: usize,
    sign: i8,
    updating: bool,
) -> i8 {
    if sign == 0 {
        return 0;
    }
    if !updating {
        // Nothing is ever taken back: it is enough to know that the value was there, and writes are saved.
        return match counts.count(row) {
            Some(0) => {
                counts.change(row, 1);
                1
            }
            _ => 0,
        };
    }
    match counts.change(row, sign) {
        (0, 1) => 1,
        (1, 0) => -1,
        _ => 0,
    }
}
