//! Accumulators of fixed size, over typed columns: COUNT, SUM, AVG, and MIN and MAX of numbers that are never taken back.

use std::sync::Arc;

use aquifer_dataflow::JobError;
use arrow::array::{Array, ArrayRef, AsArray, NullBufferBuilder, PrimitiveArray, make_array};
use arrow::compute::cast;
use arrow::datatypes::{ArrowPrimitiveType, DataType};

use super::accumulator::{Accumulators, FoldRows, Step, Trace};

/// An aggregate function over one typed column.
pub(super) trait FixedFunction: 'static {
    /// What it reads.
    type Input: ArrowPrimitiveType;
    /// What it gives.
    type Output: ArrowPrimitiveType;
    /// The accumulator; the default is that of no rows.
    type State: Copy + Default;
    /// Whether values matter, or only how many there are.
    const READS_VALUES: bool = true;

    /// Adds (`sign` 1) or takes back (-1) a value; `None` when the accumulator overflows.
    fn apply(
        &self,
        state: &mut Self::State,
        value: <Self::Input as ArrowPrimitiveType>::Native,
        sign: i8,
    ) -> Option<()>;
    /// The result so far.
    fn value(&self, state: &Self::State) -> Option<<Self::Output as ArrowPrimitiveType>::Native>;
    /// Appends the accumulator to `to`.
    fn write(&self, state: &Self::State, to: &mut Vec<u8>);
    /// Takes an accumulator off the front; `None` if it is malformed.
    fn read(&self, from: &mut &[u8]) -> Option<Self::State>;
}

/// The accumulators of one call.
pub(super) struct FixedAccumulators<F: FixedFunction> {
    function: F,
    /// The call, for messages.
    name: String,
    /// The type the column is brought to before it is read as `F::Input`.
    input_type: DataType,
    /// The type of results.
    output_type: DataType,
    states: Vec<F::State>,
}

impl<F: FixedFunction> FixedAccumulators<F> {
    /// Inputs are cast to `input_type`; results are `F::Output` and are cast to `output_type`.
    pub(super) fn new(
        function: F,
        name: String,
        input_type: DataType,
        output_type: DataType,
    ) -> Self {
        Self {
            function,
            name,
            input_type,
            output_type,
            states: Vec::new(),
        }
    }
}

/// One column of results under construction.
struct Results<T: ArrowPrimitiveType> {
    values: Vec<T::Native>,
    nulls: NullBufferBuilder,
}

impl<T: ArrowPrimitiveType> Results<T> {
    fn with_capacity(rows: usize) -> Self {
        Self {
            values: Vec::with_capacity(rows),
            nulls: NullBufferBuilder::new(rows),
        }
    }

    #[inline]
    fn push(&mut self, value: Option<T::Native>) {
        match value {
            Some(value) => {
                self.values.push(value);
                self.nulls.append_non_null();
            }
            None => {
                self.values.push(T::Native::default());
                self.nulls.append_null();
            }
        }
    }

    fn finish(mut self, output_type: &DataType) -> Result<ArrayRef, JobError> {
        let array = PrimitiveArray::<T>::new(self.values.into(), self.nulls.finish());
        relabel(Arc::new(array), output_type)
    }
}

/// Results in the type of the call: the same numbers under another name where the type is stored alike, else a cast.
fn relabel(array: ArrayRef, to: &DataType) -> Result<ArrayRef, JobError> {
    let from = array.data_type();
    if from == to {
        return Ok(array);
    }
    // Decimals were computed at the scale of the call; dates and times are kept as integers.
    let alike = match (from, to) {
        (DataType::Decimal128(_, _), DataType::Decimal128(_, _)) => true,
        (from, to) => {
            from.is_integer() && to.is_temporal() && from.primitive_width() == to.primitive_width()
        }
    };
    if alike {
        let data = array
            .to_data()
            .into_builder()
            .data_type(to.clone())
            .build()?;
        return Ok(make_array(data));
    }
    Ok(cast(&array, to)?)
}

/// A column in the type that a function reads.
fn readable(array: &ArrayRef, to: &DataType) -> Result<ArrayRef, JobError> {
    match (array.data_type(), to) {
        (from, to) if from == to => Ok(Arc::clone(array)),
        (DataType::Decimal128(_, from), DataType::Decimal128(_, to)) if from == to => {
            Ok(Arc::clone(array))
        }
        (from, to) if from.is_temporal() && to.is_integer() => {
            let data = array
                .to_data()
                .into_builder()
                .data_type(to.clone())
                .build()?;
            Ok(make_array(data))
        }
        _ => Ok(cast(array, to)?),
    }
}

impl<F: FixedFunction> Accumulators for FixedAccumulators<F> {
    fn clear(&mut self) {
        self.states.clear();
    }

    fn push_empty(&mut self) {
        self.states.push(F::State::default());
    }

    fn push(&mut self, state: &mut &[u8]) -> Option<()> {
        self.states.push(self.function.read(state)?);
        Some(())
    }

    fn store(&self, group: usize, to: &mut Vec<u8>) {
        self.function.write(&self.states[group], to);
    }

    fn values(&mut self) -> Result<ArrayRef, JobError> {
        let mut results = Results::<F::Output>::with_capacity(self.states.len());
        for state in &self.states {
            results.push(self.function.value(state));
        }
        results.finish(&self.output_type)
    }

    fn fold(
        &mut self,
        input: Option<&ArrayRef>,
        rows: FoldRows<'_>,
        trace: bool,
    ) -> Result<Option<Trace>, JobError> {
        let count = rows.groups.len();
        let input = match input {
            Some(input) if F::READS_VALUES => Some(readable(input, &self.input_type)?),
            _ => None,
        };
        let values = input
            .as_ref()
            .map(|input| input.as_primitive::<F::Input>().values().as_ref());
        let traced = if trace { count } else { 0 };
        let mut before = Results::<F::Output>::with_capacity(traced);
        let mut after = Results::<F::Output>::with_capacity(traced);
        for row in 0..count {
            let step = rows.steps[row];
            if step == Step::Ignore {
                if trace {
                    before.push(None);
                    after.push(None);
                }
                continue;
            }
            let state = &mut self.states[rows.groups[row] as usize];
            if step == Step::First {
                *state = F::State::default();
            }
            if trace {
                before.push(self.function.value(state));
            }
            let sign = rows.signs[row];
            if sign != 0 {
                let value = values.map_or_else(Default::default, |values| values[row]);
                self.function.apply(state, value, sign).ok_or_else(|| {
                    JobError::failed(format!("{} exceeds the 38 digits of a DECIMAL", self.name))
                })?;
            }
            if trace {
                after.push(self.function.value(state));
            }
        }
        if !trace {
            return Ok(None);
        }
        Ok(Some(Trace {
            before: before.finish(&self.output_type)?,
            after: after.finish(&self.output_type)?,
        }))
    }
}
