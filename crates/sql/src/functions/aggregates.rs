//! Aggregate functions as the planner sees them: names and types.
//!
//! COUNT, MIN and MAX are DataFusion's. SUM and AVG differ in type: SUM keeps the integer type, AVG of integers is an integer. The runtime has its own
//! accumulators, which take rows back as well; the planner's definitions never accumulate.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType};
use datafusion_common::{Result, internal_err, plan_err};
use datafusion_expr::function::AccumulatorArgs;
use datafusion_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility};

use crate::planner::type_name;

/// The type of `SUM(x)`: integers and floating-point numbers keep theirs, DECIMAL(p, s) becomes DECIMAL(38, s).
pub fn sum_type(argument: &DataType) -> Option<DataType> {
    match argument {
        DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::Float32
        | DataType::Float64 => Some(argument.clone()),
        DataType::Decimal128(_, scale) => {
            Some(DataType::Decimal128(DECIMAL128_MAX_PRECISION, *scale))
        }
        _ => None,
    }
}

/// The type of `AVG(x)`: integers and floating-point numbers keep theirs (integers truncated toward zero), DECIMAL(p, s) becomes
/// DECIMAL(38, max(6, s)).
pub fn average_type(argument: &DataType) -> Option<DataType> {
    match argument {
        DataType::Decimal128(_, scale) => Some(DataType::Decimal128(
            DECIMAL128_MAX_PRECISION,
            (*scale).max(6),
        )),
        other => sum_type(other),
    }
}

/// The aggregate functions, by lower-case name.
pub(super) fn all() -> BTreeMap<&'static str, Arc<AggregateUDF>> {
    let own = |name, result| {
        let signature = Signature::user_defined(Volatility::Immutable);
        Arc::new(AggregateUDF::new_from_impl(NumericAggregate {
            name,
            result,
            signature,
        }))
    };
    [
        ("count", datafusion_functions_aggregate::count::count_udaf()),
        ("min", datafusion_functions_aggregate::min_max::min_udaf()),
        ("max", datafusion_functions_aggregate::min_max::max_udaf()),
        ("sum", own("sum", sum_type as ResultType)),
        ("avg", own("avg", average_type as ResultType)),
    ]
    .into_iter()
    .collect()
}

type ResultType = fn(&DataType) -> Option<DataType>;

/// SUM or AVG.
#[derive(Debug)]
struct NumericAggregate {
    name: &'static str,
    result: ResultType,
    signature: Signature,
}

impl PartialEq for NumericAggregate {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for NumericAggregate {}

impl Hash for NumericAggregate {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl AggregateUDFImpl for NumericAggregate {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        match arg_types {
            [argument] if (self.result)(argument).is_some() => Ok(vec![argument.clone()]),
            [DataType::Null] => Ok(vec![DataType::Int32]),
            [argument] => {
                plan_err!(
                    "{} takes a number, found {}",
                    self.name.to_ascii_uppercase(),
                    type_name(argument)
                )
            }
            other => plan_err!(
                "{} takes one argument, found {}",
                self.name.to_ascii_uppercase(),
                other.len()
            ),
        }
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        match arg_types.first().and_then(self.result) {
            Some(result) => Ok(result),
            None => plan_err!("{} takes one number", self.name.to_ascii_uppercase()),
        }
    }

    fn accumulator(&self, _args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        internal_err!(
            "{} runs as a streaming operator, which has its own accumulator",
            self.name
        )
    }
}
