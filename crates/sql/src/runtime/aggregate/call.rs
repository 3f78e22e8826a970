//! What one aggregate call of a query computes.

use aquifer_dataflow::JobError;
use arrow::datatypes::DataType;

use crate::runtime::row_key;

/// The aggregate functions there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AggregateFunction {
    /// Rows, or non-null values.
    Count,
    /// Sum of non-null values; NULL if there are none. Integers wrap around, as in Flink.
    Sum,
    /// Smallest non-null value.
    Min,
    /// Largest non-null value.
    Max,
    /// Mean of non-null values: truncated toward zero for integers, rounded half up for decimals.
    Avg,
}

impl AggregateFunction {
    /// By its SQL name.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "count" => Self::Count,
            "sum" => Self::Sum,
            "min" => Self::Min,
            "max" => Self::Max,
            "avg" | "mean" => Self::Avg,
            _ => return None,
        })
    }

    /// Its SQL name in small letters.
    pub fn name(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Sum => "sum",
            Self::Min => "min",
            Self::Max => "max",
            Self::Avg => "avg",
        }
    }
}

/// One call, with its columns in the operator's input.
#[derive(Clone, Debug)]
pub struct AggregateCall {
    /// What its accumulator is called where people look into state.
    pub name: String,
    /// The function.
    pub function: AggregateFunction,
    /// The argument's column and type; `None` for `COUNT(*)`.
    pub input: Option<(usize, DataType)>,
    /// The column of `FILTER (WHERE …)`: BOOLEAN, and only true counts.
    pub filter: Option<usize>,
    /// Each distinct value counts once. Never set for MIN and MAX.
    pub distinct: bool,
    /// Type of the result.
    pub output: DataType,
}

impl AggregateCall {
    /// Checks the types and drops a DISTINCT that changes nothing. `what` names the call in messages.
    pub fn checked(mut self, what: &str) -> Result<Self, JobError> {
        let extreme = matches!(
            self.function,
            AggregateFunction::Min | AggregateFunction::Max
        );
        if extreme || self.input.is_none() {
            self.distinct = false;
        }
        if let Some((_, input)) = &self.input {
            if extreme || self.distinct {
                row_key::check_type(&format!("the argument of {what}"), input)?;
            }
            let numeric = matches!(
                self.function,
                AggregateFunction::Sum | AggregateFunction::Avg
            );
            let refused = match input {
                DataType::Struct(_) => extreme,
                input => numeric && !input.is_numeric(),
            };
            if refused {
                return Err(JobError::usage(format!(
                    "{what} does not take a value of type {input}"
                )));
            }
        }
        Ok(self)
    }

    /// What lies in state for this call: part of the state's layout.
    pub fn layout(&self, updating: bool) -> String {
        let mut layout = self.function.name().to_owned();
        if self.distinct {
            layout.push_str("-distinct");
        }
        if updating && self.keeps_all_values(updating) && !self.distinct {
            layout.push_str("-multiset");
        }
        layout.push('(');
        if let Some((_, input)) = &self.input {
            layout.push_str(&row_key::type_tag(input));
        }
        layout.push(')');
        layout.push_str(&row_key::type_tag(&self.output));
        layout
    }

    /// Whether every distinct value is kept in a table of its own: for DISTINCT, and for MIN and MAX when values can be taken back.
    pub fn keeps_all_values(&self, updating: bool) -> bool {
        self.distinct
            || updating
                && matches!(
                    self.function,
                    AggregateFunction::Min | AggregateFunction::Max
                )
    }
}
