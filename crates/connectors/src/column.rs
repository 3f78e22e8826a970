//! Builds an Arrow column of any type the connectors read, value by value.
//!
//! Pushing never fails: a value that does not fit its column is a mistake of the caller and becomes null. The caller bounds the
//! rows and bytes of a batch, so offsets stay far below 2 GiB.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, FixedSizeBinaryBuilder, ListArray, MapArray,
    NullBufferBuilder, PrimitiveArray, StringArray, StructArray, new_null_array,
};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Decimal128Type, Fields, Float32Type, Float64Type,
    Int8Type, Int16Type, Int32Type, Int64Type, Time32MillisecondType, Time32SecondType,
    Time64MicrosecondType, Time64NanosecondType, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
};
use arrow::error::ArrowError;

use crate::scalar::Scalar;

/// A column being built.
pub(crate) struct Column {
    data_type: DataType,
    nulls: NullBufferBuilder,
    store: Store,
}

enum Store {
    Boolean(Vec<bool>),
    Whole(Vec<i64>),
    Double(Vec<f64>),
    Decimal(Vec<i128>),
    /// Text or bytes.
    Bytes {
        bytes: Vec<u8>,
        ends: Vec<i32>,
    },
    Row(Vec<Column>),
    List {
        ends: Vec<i32>,
        element: Box<Column>,
    },
    Map {
        ends: Vec<i32>,
        key: Box<Column>,
        value: Box<Column>,
    },
}

/// Whether columns of this type can be built.
pub(crate) fn supported(data_type: &DataType) -> bool {
    Column::new(data_type).is_some()
}

impl Column {
    /// An empty column, or `None` if the type is not one that connectors read.
    pub(crate) fn new(data_type: &DataType) -> Option<Self> {
        let store = match data_type {
            DataType::Boolean => Store::Boolean(Vec::new()),
            DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => {
                Store::Whole(Vec::new())
            }
            DataType::Date32
            | DataType::Time32(TimeUnit::Second | TimeUnit::Millisecond)
            | DataType::Time64(TimeUnit::Microsecond | TimeUnit::Nanosecond)
            | DataType::Timestamp(_, _) => Store::Whole(Vec::new()),
            DataType::Float32 | DataType::Float64 => Store::Double(Vec::new()),
            DataType::Decimal128(_, _) => Store::Decimal(Vec::new()),
            DataType::Utf8 | DataType::Binary | DataType::FixedSizeBinary(_) => Store::Bytes {
                bytes: Vec::new(),
                ends: vec![0],
            },
            DataType::Struct(fields) if !fields.is_empty() => Store::Row(
                fields
                    .iter()
                    .map(|f| Self::new(f.data_type()))
                    .collect::<Option<_>>()?,
            ),
            DataType::List(element) => Store::List {
                ends: vec![0],
                element: Box::new(Self::new(element.data_type())?),
            },
            DataType::Map(entries, _) => {
                let DataType::Struct(pair) = entries.data_type() else {
                    return None;
                };
                let [key, value] = pair.as_ref() else {
                    return None;
                };
                Store::Map {
                    ends: vec![0],
                    key: Box::new(Self::new(key.data_type())?),
                    value: Box::new(Self::new(value.data_type())?),
                }
            }
            _ => return None,
        };
        Some(Self {
            data_type: data_type.clone(),
            nulls: NullBufferBuilder::new(0),
            store,
        })
    }

    /// The column's type.
    pub(crate) fn data_type(&self) -> &DataType {
        &self.data_type
    }

    /// Adds a null.
    pub(crate) fn push_null(&mut self) {
        self.nulls.append_null();
        match &mut self.store {
            Store::Boolean(values) => values.push(false),
            Store::Whole(values) => values.push(0),
            Store::Double(values) => values.push(0.0),
            Store::Decimal(values) => values.push(0),
            Store::Bytes { bytes, ends } => ends.push(bytes.len() as i32),
            Store::Row(columns) => columns.iter_mut().for_each(Column::push_null),
            Store::List { ends, .. } | Store::Map { ends, .. } => {
                ends.push(ends.last().copied().unwrap_or(0));
            }
        }
    }

    /// Adds a scalar of the column's type.
    pub(crate) fn push(&mut self, scalar: Scalar<'_>) {
        match (&mut self.store, scalar) {
            (Store::Boolean(values), Scalar::Boolean(value)) => values.push(value),
            (Store::Whole(values), Scalar::Whole(value)) => values.push(value),
            (Store::Double(values), Scalar::Double(value)) => values.push(value),
            (Store::Decimal(values), Scalar::Decimal(value)) => values.push(value),
            (Store::Bytes { bytes, ends }, Scalar::Text(text)) => {
                bytes.extend_from_slice(text.as_bytes());
                ends.push(bytes.len() as i32);
            }
            (Store::Bytes { bytes, ends }, Scalar::Bytes(value))
                if self.data_type != DataType::Utf8 =>
            {
                bytes.extend_from_slice(&value);
                ends.push(bytes.len() as i32);
            }
            _ => return self.push_null(),
        }
        self.nulls.append_non_null();
    }

    /// Adds a row that is not null; `fill` must push one value to each of the columns it is given.
    pub(crate) fn push_row<E>(
        &mut self,
        fill: impl FnOnce(&Fields, &mut [Column]) -> Result<(), E>,
    ) -> Result<(), E> {
        match (&mut self.store, &self.data_type) {
            (Store::Row(columns), DataType::Struct(fields)) => {
                fill(fields, columns)?;
                self.nulls.append_non_null();
            }
            _ => self.push_null(),
        }
        Ok(())
    }

    /// Adds an array that is not null; `fill` pushes its elements.
    pub(crate) fn push_list<E>(
        &mut self,
        fill: impl FnOnce(&mut Column) -> Result<(), E>,
    ) -> Result<(), E> {
        match &mut self.store {
            Store::List { ends, element } => {
                fill(element)?;
                ends.push(element.len() as i32);
                self.nulls.append_non_null();
            }
            _ => self.push_null(),
        }
        Ok(())
    }

    /// Adds a map that is not null; `fill` pushes as many keys as values.
    pub(crate) fn push_map<E>(
        &mut self,
        fill: impl FnOnce(&mut Column, &mut Column) -> Result<(), E>,
    ) -> Result<(), E> {
        match &mut self.store {
            Store::Map { ends, key, value } => {
                fill(key, value)?;
                ends.push(key.len() as i32);
                self.nulls.append_non_null();
            }
            _ => self.push_null(),
        }
        Ok(())
    }

    /// Number of values.
    pub(crate) fn len(&self) -> usize {
        self.nulls.len()
    }

    /// The values so far as an array; the column is empty afterwards.
    pub(crate) fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        let rows = self.len();
        let nulls = self.nulls.finish();
        Ok(match &mut self.store {
            Store::Boolean(values) => {
                Arc::new(BooleanArray::new(std::mem::take(values).into(), nulls))
            }
            Store::Whole(values) => whole_array(&self.data_type, std::mem::take(values), nulls)
                .unwrap_or_else(|| new_null_array(&self.data_type, rows)),
            Store::Double(values) => {
                let values = std::mem::take(values);
                if self.data_type == DataType::Float32 {
                    let values = values.into_iter().map(|value| value as f32).collect();
                    Arc::new(PrimitiveArray::<Float32Type>::try_new(values, nulls)?)
                } else {
                    Arc::new(PrimitiveArray::<Float64Type>::try_new(
                        values.into(),
                        nulls,
                    )?)
                }
            }
            Store::Decimal(values) => {
                let values = std::mem::take(values).into();
                Arc::new(
                    PrimitiveArray::<Decimal128Type>::try_new(values, nulls)?
                        .with_data_type(self.data_type.clone()),
                )
            }
            Store::Bytes { bytes, ends } => {
                let bytes = std::mem::take(bytes);
                let ends = take_ends(ends);
                match &self.data_type {
                    DataType::Utf8 => {
                        Arc::new(StringArray::try_new(ends, Buffer::from_vec(bytes), nulls)?)
                    }
                    DataType::Binary => {
                        Arc::new(BinaryArray::try_new(ends, Buffer::from_vec(bytes), nulls)?)
                    }
                    DataType::FixedSizeBinary(length) => {
                        fixed_binary(*length, &bytes, &ends, nulls.as_ref())?
                    }
                    _ => new_null_array(&self.data_type, rows),
                }
            }
            Store::Row(columns) => {
                let DataType::Struct(fields) = &self.data_type else {
                    return Ok(new_null_array(&self.data_type, rows));
                };
                let parts = columns
                    .iter_mut()
                    .map(Column::finish)
                    .collect::<Result<_, _>>()?;
                Arc::new(StructArray::try_new(fields.clone(), parts, nulls)?)
            }
            Store::List { ends, element } => {
                let DataType::List(field) = &self.data_type else {
                    return Ok(new_null_array(&self.data_type, rows));
                };
                Arc::new(ListArray::try_new(
                    Arc::clone(field),
                    take_ends(ends),
                    element.finish()?,
                    nulls,
                )?)
            }
            Store::Map { ends, key, value } => {
                let DataType::Map(field, ordered) = &self.data_type else {
                    return Ok(new_null_array(&self.data_type, rows));
                };
                let DataType::Struct(pair) = field.data_type() else {
                    return Ok(new_null_array(&self.data_type, rows));
                };
                let parts = vec![key.finish()?, value.finish()?];
                let entries = StructArray::try_new(pair.clone(), parts, None)?;
                let ends = take_ends(ends);
                Arc::new(MapArray::try_new(
                    Arc::clone(field),
                    ends,
                    entries,
                    nulls,
                    *ordered,
                )?)
            }
        })
    }
}

fn take_ends(ends: &mut Vec<i32>) -> OffsetBuffer<i32> {
    OffsetBuffer::new(ScalarBuffer::from(std::mem::replace(ends, vec![0])))
}

fn fixed_binary(
    length: i32,
    bytes: &[u8],
    ends: &OffsetBuffer<i32>,
    nulls: Option<&NullBuffer>,
) -> Result<ArrayRef, ArrowError> {
    let mut builder = FixedSizeBinaryBuilder::with_capacity(ends.len() - 1, length);
    for (row, range) in ends.windows(2).enumerate() {
        if nulls.is_some_and(|nulls| nulls.is_null(row)) {
            builder.append_null();
        } else {
            builder.append_value(&bytes[range[0] as usize..range[1] as usize])?;
        }
    }
    Ok(Arc::new(builder.finish()))
}

fn whole_array(
    data_type: &DataType,
    values: Vec<i64>,
    nulls: Option<NullBuffer>,
) -> Option<ArrayRef> {
    fn build<T: ArrowPrimitiveType>(
        data_type: &DataType,
        values: Vec<T::Native>,
        nulls: Option<NullBuffer>,
    ) -> ArrayRef {
        let array = PrimitiveArray::<T>::new(values.into(), nulls);
        Arc::new(array.with_data_type(data_type.clone()))
    }
    // Values were checked against the type's range when they were read.
    let as_i32 = |values: Vec<i64>| values.into_iter().map(|value| value as i32).collect();
    let t = data_type;
    Some(match t {
        DataType::Int8 => build::<Int8Type>(
            t,
            values.into_iter().map(|value| value as i8).collect(),
            nulls,
        ),
        DataType::Int16 => build::<Int16Type>(
            t,
            values.into_iter().map(|value| value as i16).collect(),
            nulls,
        ),
        DataType::Int32 => build::<Int32Type>(t, as_i32(values), nulls),
        DataType::Int64 => build::<Int64Type>(t, values, nulls),
        DataType::Date32 => build::<Date32Type>(t, as_i32(values), nulls),
        DataType::Time32(TimeUnit::Second) => build::<Time32SecondType>(t, as_i32(values), nulls),
        DataType::Time32(_) => build::<Time32MillisecondType>(t, as_i32(values), nulls),
        DataType::Time64(TimeUnit::Microsecond) => build::<Time64MicrosecondType>(t, values, nulls),
        DataType::Time64(_) => build::<Time64NanosecondType>(t, values, nulls),
        DataType::Timestamp(unit, _) => match unit {
            TimeUnit::Second => build::<TimestampSecondType>(t, values, nulls),
            TimeUnit::Millisecond => build::<TimestampMillisecondType>(t, values, nulls),
            TimeUnit::Microsecond => build::<TimestampMicrosecondType>(t, values, nulls),
            TimeUnit::Nanosecond => build::<TimestampNanosecondType>(t, values, nulls),
        },
        _ => return None,
    })
}
