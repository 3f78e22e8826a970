//! The functions with accumulators of fixed size, and which accumulators a call gets.

use std::marker::PhantomData;

use aquifer_dataflow::JobError;
use arrow::array::ArrowNativeTypeOp;
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type,
    Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};

use super::accumulator::Accumulators;
use super::call::{AggregateCall, AggregateFunction};
use super::codec::{read_count, read_signed, write_count, write_signed};
use super::extreme::ExtremeAccumulators;
use super::fixed::{FixedAccumulators, FixedFunction};
use crate::runtime::row_key::Ordered;

/// Largest absolute value of DECIMAL(38, s).
const DECIMAL_MAX: u128 = 10u128.pow(38) - 1;

/// COUNT.
struct Count;

impl FixedFunction for Count {
    type Input = Int64Type;
    type Output = Int64Type;
    type State = i64;
    const READS_VALUES: bool = false;

    #[inline]
    fn apply(&self, state: &mut i64, _value: i64, sign: i8) -> Option<()> {
        *state += i64::from(sign);
        Some(())
    }
    #[inline]
    fn value(&self, state: &i64) -> Option<i64> {
        Some(*state)
    }
    fn write(&self, state: &i64, to: &mut Vec<u8>) {
        write_signed(*state, to);
    }
    fn read(&self, from: &mut &[u8]) -> Option<i64> {
        read_signed(from)
    }
}

/// A running sum and how many values are in it: what SUM and AVG keep. A retraction may come before its value, so the count is signed.
#[derive(Clone, Copy, Default)]
struct Total<N> {
    sum: N,
    count: i64,
}

/// Arithmetic of sums.
trait Summable: Ordered + Default {
    /// The sum after adding (`sign` 1) or subtracting (-1); `None` when it does not fit.
    fn accumulate(self, value: Self, sign: i8) -> Option<Self>;
}

macro_rules! summable_integer {
    ($($native:ty),*) => {$(
        impl Summable for $native {
            #[inline]
            fn accumulate(self, value: Self, sign: i8) -> Option<Self> {
                Some(if sign > 0 { self.wrapping_add(value) } else { self.wrapping_sub(value) })
            }
        }
    )*};
}
summable_integer!(i8, i16, i32, i64, u8, u16, u32, u64);

macro_rules! summable_float {
    ($($native:ty),*) => {$(
        impl Summable for $native {
            #[inline]
            fn accumulate(self, value: Self, sign: i8) -> Option<Self> {
                Some(if sign > 0 { self + value } else { self - value })
            }
        }
    )*};
}
summable_float!(f32, f64);

impl Summable for i128 {
    #[inline]
    fn accumulate(self, value: Self, sign: i8) -> Option<Self> {
        if sign > 0 {
            self.checked_add(value)
        } else {
            self.checked_sub(value)
        }
    }
}

impl<N: Summable> Total<N> {
    #[inline]
    fn apply(&mut self, value: N, sign: i8) -> Option<()> {
        self.sum = self.sum.accumulate(value, sign)?;
        self.count += i64::from(sign);
        if self.count == 0 {
            // Nothing is left: forget what rounding left of the floats.
            self.sum = N::default();
        }
        Some(())
    }
    fn write(&self, to: &mut Vec<u8>) {
        write_signed(self.count, to);
        if self.count != 0 {
            self.sum.write(to);
        }
    }
    fn read(from: &mut &[u8]) -> Option<Self> {
        let count = read_signed(from)?;
        let sum = if count == 0 {
            N::default()
        } else {
            N::read(from)?
        };
        Some(Self { sum, count })
    }
}

/// SUM and AVG: `result` makes the result of a total with at least one value.
struct OfTotal<T, R> {
    result: R,
    values: PhantomData<T>,
}

impl<T, R> OfTotal<T, R> {
    fn new(result: R) -> Self {
        Self {
            result,
            values: PhantomData,
        }
    }
}

impl<T, R> FixedFunction for OfTotal<T, R>
where
    T: ArrowPrimitiveType<Native: Summable>,
    R: Fn(T::Native, i64) -> Option<T::Native> + 'static,
{
    type Input = T;
    type Output = T;
    type State = Total<T::Native>;

    #[inline]
    fn apply(&self, state: &mut Self::State, value: T::Native, sign: i8) -> Option<()> {
        state.apply(value, sign)
    }
    #[inline]
    fn value(&self, state: &Self::State) -> Option<T::Native> {
        if state.count > 0 {
            (self.result)(state.sum, state.count)
        } else {
            None
        }
    }
    fn write(&self, state: &Self::State, to: &mut Vec<u8>) {
        state.write(to);
    }
    fn read(&self, from: &mut &[u8]) -> Option<Self::State> {
        Total::read(from)
    }
}

/// A sum of decimals, or `None` past 38 digits.
fn decimal_sum(sum: i128) -> Option<i128> {
    (sum.unsigned_abs() <= DECIMAL_MAX).then_some(sum)
}

/// The mean of decimals with `digits` more digits behind the point than the sum has, rounded half up; `None` past 38 digits.
fn decimal_mean(sum: i128, count: i64, digits: u32) -> Option<i128> {
    let count = i128::from(count);
    let factor = 10i128.checked_pow(digits)?;
    let (whole, rest) = (sum / count, sum % count);
    let scaled = rest.checked_mul(factor)?;
    let (mut fraction, rest) = (scaled / count, scaled % count);
    if rest.unsigned_abs() * 2 >= count.unsigned_abs() {
        fraction += if sum < 0 { -1 } else { 1 };
    }
    let mean = whole.checked_mul(factor)?.checked_add(fraction)?;
    (mean.unsigned_abs() <= DECIMAL_MAX).then_some(mean)
}

/// MIN or MAX of numbers that are never taken back.
struct Extreme<T> {
    largest: bool,
    values: PhantomData<T>,
}

impl<T: ArrowPrimitiveType<Native: Ordered>> FixedFunction for Extreme<T> {
    type Input = T;
    type Output = T;
    type State = Option<T::Native>;

    #[inline]
    fn apply(&self, state: &mut Self::State, value: T::Native, _sign: i8) -> Option<()> {
        let better = match *state {
            None => true,
            Some(best) if self.largest => value.is_gt(best),
            Some(best) => value.is_lt(best),
        };
        if better {
            *state = Some(value);
        }
        Some(())
    }
    #[inline]
    fn value(&self, state: &Self::State) -> Option<T::Native> {
        *state
    }
    fn write(&self, state: &Self::State, to: &mut Vec<u8>) {
        write_count(u64::from(state.is_some()), to);
        if let Some(value) = state {
            Ordered::write(*value, to);
        }
    }
    fn read(&self, from: &mut &[u8]) -> Option<Self::State> {
        match read_count(from)? {
            0 => Some(None),
            1 => Some(Some(T::Native::read(from)?)),
            _ => None,
        }
    }
}

/// The accumulators of a call whose values need not be kept one by one (see `AggregateCall::keeps_all_values`; DISTINCT is applied before).
pub(super) fn accumulators(
    call: &AggregateCall,
    name: &str,
) -> Result<Box<dyn Accumulators>, JobError> {
    let input = call
        .input
        .as_ref()
        .map_or(DataType::Int64, |(_, input)| input.clone());
    match call.function {
        AggregateFunction::Count => fixed(Count, name, DataType::Int64, call),
        AggregateFunction::Sum => sum(name, call),
        AggregateFunction::Avg => avg(name, &input, call),
        AggregateFunction::Min => extreme(name, &input, false, call),
        AggregateFunction::Max => extreme(name, &input, true, call),
    }
}

/// `input_type` is what the function reads; its results are brought to the type of the call.
fn fixed<F: FixedFunction>(
    function: F,
    name: &str,
    input_type: DataType,
    call: &AggregateCall,
) -> Result<Box<dyn Accumulators>, JobError> {
    Ok(Box::new(FixedAccumulators::new(
        function,
        name.to_owned(),
        input_type,
        call.output.clone(),
    )))
}

fn unsupported(name: &str, call: &AggregateCall) -> JobError {
    let output = &call.output;
    JobError::usage(format!(
        "{name} with a result of type {output} is not supported"
    ))
}

fn sum(name: &str, call: &AggregateCall) -> Result<Box<dyn Accumulators>, JobError> {
    macro_rules! plain {
        ($($type:ty),*) => {
            match &call.output {
                $(t if *t == <$type>::DATA_TYPE => {
                    fixed(OfTotal::<$type, _>::new(|sum, _| Some(sum)), name, t.clone(), call)
                })*
                DataType::Decimal128(_, scale) => fixed(
                    OfTotal::<Decimal128Type, _>::new(|sum, _| decimal_sum(sum)),
                    name,
                    DataType::Decimal128(38, *scale),
                    call,
                ),
                _ => Err(unsupported(name, call)),
            }
        };
    }
    plain!(
        Int8Type,
        Int16Type,
        Int32Type,
        Int64Type,
        UInt8Type,
        UInt16Type,
        UInt32Type,
        UInt64Type,
        Float32Type,
        Float64Type
    )
}

fn avg(
    name: &str,
    input: &DataType,
    call: &AggregateCall,
) -> Result<Box<dyn Accumulators>, JobError> {
    match &call.output {
        output if output.is_integer() => fixed(
            OfTotal::<Int64Type, _>::new(|sum: i64, count| Some(sum.wrapping_div(count))),
            name,
            DataType::Int64,
            call,
        ),
        DataType::Float32 | DataType::Float64 => fixed(
            OfTotal::<Float64Type, _>::new(|sum: f64, count| Some(sum / count as f64)),
            name,
            DataType::Float64,
            call,
        ),
        DataType::Decimal128(_, scale) => {
            let input_scale = match input {
                DataType::Decimal128(_, input_scale) => *input_scale,
                _ => 0,
            };
            let digits = u32::try_from(i32::from(*scale) - i32::from(input_scale))
                .map_err(|_| unsupported(name, call))?;
            fixed(
                OfTotal::<Decimal128Type, _>::new(move |sum, count| {
                    decimal_mean(sum, count, digits)
                }),
                name,
                DataType::Decimal128(38, input_scale),
                call,
            )
        }
        _ => Err(unsupported(name, call)),
    }
}

fn extreme(
    name: &str,
    input: &DataType,
    largest: bool,
    call: &AggregateCall,
) -> Result<Box<dyn Accumulators>, JobError> {
    macro_rules! plain {
        ($($type:ty),*) => {
            match storage(input) {
                $(t if t == <$type>::DATA_TYPE => {
                    fixed(Extreme::<$type> { largest, values: PhantomData }, name, t, call)
                })*
                t @ DataType::Decimal128(_, _) => {
                    fixed(Extreme::<Decimal128Type> { largest, values: PhantomData }, name, t, call)
                }
                _ => Ok(Box::new(ExtremeAccumulators::new(input, largest)?)),
            }
        };
    }
    plain!(
        Int8Type,
        Int16Type,
        Int32Type,
        Int64Type,
        UInt8Type,
        UInt16Type,
        UInt32Type,
        UInt64Type,
        Float32Type,
        Float64Type
    )
}

/// The integer type in which dates and times are kept; other types as they are.
fn storage(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Date32 | DataType::Time32(_) => DataType::Int32,
        DataType::Date64 | DataType::Time64(_) => DataType::Int64,
        DataType::Timestamp(_, _) | DataType::Duration(_) => DataType::Int64,
        other => other.clone(),
    }
}
