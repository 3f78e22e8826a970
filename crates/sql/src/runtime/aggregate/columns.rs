//! What lies in the states of aggregates: the text that decides whether a checkpoint fits, and the columns by which other programs read it.
//!
//! Columns have the names of the query; a checkpoint fits whatever they are called. What cannot be described (there is no such type today) is
//! left as bytes.

use aquifer_state::dynamic::{ColumnForm, LogicalType, RowColumn};
use aquifer_state::serializer::{SerializerSnapshot, StateSchema};
use arrow::datatypes::DataType;

use super::call::{AggregateCall, AggregateFunction};
use crate::runtime::row_key;

/// Digits of a sum of decimals.
const SUM_PRECISION: u8 = 38;

/// The key of an aggregate's states.
pub struct KeyColumns {
    /// Of the layout.
    layout: String,
    columns: Option<Vec<RowColumn>>,
}

impl KeyColumns {
    /// A key of these columns. `prefixes` are the names of the window's bounds that stand before it.
    pub fn new<'a>(
        prefixes: &[&str],
        columns: impl Iterator<Item = (&'a str, &'a DataType)>,
    ) -> Self {
        let bound = LogicalType::of_milliseconds();
        let mut described: Option<Vec<RowColumn>> = Some(
            prefixes
                .iter()
                .map(|name| {
                    RowColumn::new(&name.replace(' ', "_"), bound.clone(), ColumnForm::Sorted)
                })
                .collect(),
        );
        let mut tags = Vec::new();
        for (name, data_type) in columns {
            tags.push(row_key::type_tag(data_type));
            let column = row_key::logical_type(data_type)
                .map(|kind| RowColumn::new(name, kind, ColumnForm::Nullable));
            described = described.zip(column).map(|(mut all, column)| {
                all.push(column);
                all
            });
        }
        let mut layout = prefixes.to_vec();
        let tags = tags.join(",");
        layout.push(&tags);
        Self {
            layout: format!("({})", layout.join(", ")),
            columns: described,
        }
    }

    /// Of the groups' accumulators: their layout and their schema.
    pub(super) fn groups(&self, calls: &[AggregateCall], updating: bool) -> (String, StateSchema) {
        let layout = groups_layout(&self.layout, calls, updating);
        let records = RowColumn::new("records", LogicalType::U64, ColumnForm::Unsigned);
        let records = updating.then_some(Some(records)).into_iter();
        let accumulators = calls.iter().map(|call| accumulator(call, updating));
        let value = records.chain(accumulators).collect::<Option<Vec<_>>>();
        let schema = self.schema(&layout, None, value);
        (layout, schema)
    }

    /// Of the values that a call keeps one by one.
    pub(super) fn values(&self, call: &AggregateCall, updating: bool) -> (String, StateSchema) {
        let layout = format!("key {}, value {}", self.layout, call.layout(updating));
        let form = match reversed(call) {
            true => ColumnForm::NullableReversed,
            false => ColumnForm::Nullable,
        };
        let value = call.input.as_ref().and_then(|(_, data_type)| {
            let kind = row_key::logical_type(data_type)?;
            Some(vec![RowColumn::new("", kind, form)])
        });
        let count = RowColumn::new("", LogicalType::I64, ColumnForm::Signed);
        let schema = match value {
            None => StateSchema::raw(&layout),
            Some(value) => self.schema(&layout, Some(value), Some(vec![count])),
        };
        (layout, schema)
    }

    fn schema(
        &self,
        layout: &str,
        user_key: Option<Vec<RowColumn>>,
        value: Option<Vec<RowColumn>>,
    ) -> StateSchema {
        let described = || {
            let key = match self.columns.as_deref()? {
                [] => SerializerSnapshot::void(),
                columns => RowColumn::snapshot(columns)?,
            };
            let user_key = match user_key {
                None => None,
                Some(columns) => Some(RowColumn::snapshot(&columns)?),
            };
            let value = RowColumn::snapshot(&value?)?;
            Some(StateSchema::rows(key, user_key, value))
        };
        described().unwrap_or_else(|| StateSchema::raw(layout))
    }
}

/// Describes what lies in a state row: part of the identity of the state.
pub(super) fn groups_layout(key_layout: &str, calls: &[AggregateCall], updating: bool) -> String {
    let calls: Vec<String> = calls.iter().map(|call| call.layout(updating)).collect();
    let records = if updating { "records " } else { "" };
    format!("key {key_layout}: {records}{}", calls.join(" "))
}

/// Whether the values of a call lie the largest first.
fn reversed(call: &AggregateCall) -> bool {
    call.function == AggregateFunction::Max && !call.distinct
}

/// What a call keeps in the row of its group; see `Slot::store`.
fn accumulator(call: &AggregateCall, updating: bool) -> Option<RowColumn> {
    let input = call.input.as_ref().map(|(_, data_type)| data_type);
    let (data_type, form) = match call.function {
        AggregateFunction::Count => (DataType::Int64, ColumnForm::Signed),
        AggregateFunction::Sum => (sum_type(&call.output), ColumnForm::Total),
        AggregateFunction::Avg => (mean_type(&call.output, input?), ColumnForm::Total),
        AggregateFunction::Min | AggregateFunction::Max => {
            let input = input?;
            let sized = call.keeps_all_values(updating) || !is_fixed(input);
            let form = match (sized, reversed(call)) {
                (false, _) => ColumnForm::Nullable,
                (true, false) => ColumnForm::Sized,
                (true, true) => ColumnForm::SizedReversed,
            };
            (input.clone(), form)
        }
    };
    let kind = row_key::logical_type(&data_type)?;
    Some(RowColumn::new(&call.name, kind, form))
}

/// The type in which values are added up: see `functions::sum`.
fn sum_type(output: &DataType) -> DataType {
    match output {
        DataType::Decimal128(_, scale) => DataType::Decimal128(SUM_PRECISION, *scale),
        output => output.clone(),
    }
}

/// The same for a mean: see `functions::avg`.
fn mean_type(output: &DataType, input: &DataType) -> DataType {
    match (output, input) {
        (DataType::Decimal128(..), DataType::Decimal128(_, scale)) => {
            DataType::Decimal128(SUM_PRECISION, *scale)
        }
        (DataType::Decimal128(..), _) => DataType::Decimal128(SUM_PRECISION, 0),
        (output, _) if output.is_integer() => DataType::Int64,
        _ => DataType::Float64,
    }
}

/// Whether an extreme of this type is kept as a number: see `functions::extreme`.
fn is_fixed(data_type: &DataType) -> bool {
    data_type.primitive_width().is_some()
}
