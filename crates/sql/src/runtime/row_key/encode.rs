//! Encoding: columns of a batch to the key bytes of each row.

use aquifer_dataflow::JobError;
use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BinaryViewArray, BooleanArray, LargeBinaryArray,
    LargeStringArray, StringArray, StringViewArray,
};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{
    DataType, Date32Type, Date64Type, Decimal128Type, DurationMicrosecondType,
    DurationMillisecondType, DurationNanosecondType, DurationSecondType, Float32Type, Float64Type,
    Int8Type, Int16Type, Int32Type, Int64Type, Time32MillisecondType, Time32SecondType,
    Time64MicrosecondType, Time64NanosecondType, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};

use super::ordered::{Ordered, write_bytes};

/// The key columns of one batch, downcast once.
pub struct KeyEncoder<'a> {
    columns: Vec<Column<'a>>,
}

struct Column<'a> {
    nulls: Option<&'a NullBuffer>,
    values: Values<'a>,
}

enum Values<'a> {
    I8(&'a [i8]),
    I16(&'a [i16]),
    I32(&'a [i32]),
    I64(&'a [i64]),
    I128(&'a [i128]),
    U8(&'a [u8]),
    U16(&'a [u16]),
    U32(&'a [u32]),
    U64(&'a [u64]),
    F32(&'a [f32]),
    F64(&'a [f64]),
    Bool(&'a BooleanArray),
    Utf8(&'a StringArray),
    LargeUtf8(&'a LargeStringArray),
    Utf8View(&'a StringViewArray),
    Binary(&'a BinaryArray),
    LargeBinary(&'a LargeBinaryArray),
    BinaryView(&'a BinaryViewArray),
    Row(Vec<Column<'a>>),
}

impl<'a> KeyEncoder<'a> {
    /// For these columns, in this order. Types that cannot be a key were refused when the job was planned (`check_type`).
    pub fn new(columns: impl IntoIterator<Item = &'a ArrayRef>) -> Result<Self, JobError> {
        let columns = columns
            .into_iter()
            .map(Column::new)
            .collect::<Result<_, _>>()?;
        Ok(Self { columns })
    }

    /// Appends the key of row `row`.
    #[inline]
    pub fn encode(&self, row: usize, to: &mut Vec<u8>) {
        for column in &self.columns {
            column.encode(row, to);
        }
    }
}

impl<'a> Column<'a> {
    fn new(array: &'a ArrayRef) -> Result<Self, JobError> {
        macro_rules! primitive {
            ($variant:ident, $type:ty) => {
                Values::$variant(array.as_primitive::<$type>().values())
            };
        }
        let values = match array.data_type() {
            DataType::Boolean => Values::Bool(array.as_boolean()),
            DataType::Int8 => primitive!(I8, Int8Type),
            DataType::Int16 => primitive!(I16, Int16Type),
            DataType::Int32 => primitive!(I32, Int32Type),
            DataType::Int64 => primitive!(I64, Int64Type),
            DataType::UInt8 => primitive!(U8, UInt8Type),
            DataType::UInt16 => primitive!(U16, UInt16Type),
            DataType::UInt32 => primitive!(U32, UInt32Type),
            DataType::UInt64 => primitive!(U64, UInt64Type),
            DataType::Float32 => primitive!(F32, Float32Type),
            DataType::Float64 => primitive!(F64, Float64Type),
            DataType::Decimal128(_, _) => primitive!(I128, Decimal128Type),
            DataType::Date32 => primitive!(I32, Date32Type),
            DataType::Date64 => primitive!(I64, Date64Type),
            DataType::Time32(TimeUnit::Second) => primitive!(I32, Time32SecondType),
            DataType::Time32(_) => primitive!(I32, Time32MillisecondType),
            DataType::Time64(TimeUnit::Microsecond) => primitive!(I64, Time64MicrosecondType),
            DataType::Time64(_) => primitive!(I64, Time64NanosecondType),
            DataType::Timestamp(unit, _) => match unit {
                TimeUnit::Second => primitive!(I64, TimestampSecondType),
                TimeUnit::Millisecond => primitive!(I64, TimestampMillisecondType),
                TimeUnit::Microsecond => primitive!(I64, TimestampMicrosecondType),
                TimeUnit::Nanosecond => primitive!(I64, TimestampNanosecondType),
            },
            DataType::Duration(unit) => match unit {
                TimeUnit::Second => primitive!(I64, DurationSecondType),
                TimeUnit::Millisecond => primitive!(I64, DurationMillisecondType),
                TimeUnit::Microsecond => primitive!(I64, DurationMicrosecondType),
                TimeUnit::Nanosecond => primitive!(I64, DurationNanosecondType),
            },
            DataType::Utf8 => Values::Utf8(array.as_string()),
            DataType::LargeUtf8 => Values::LargeUtf8(array.as_string()),
            DataType::Utf8View => Values::Utf8View(array.as_string_view()),
            DataType::Binary => Values::Binary(array.as_binary()),
            DataType::LargeBinary => Values::LargeBinary(array.as_binary()),
            DataType::BinaryView => Values::BinaryView(array.as_binary_view()),
            DataType::Struct(_) => Values::Row(
                array
                    .as_struct()
                    .columns()
                    .iter()
                    .map(Column::new)
                    .collect::<Result<_, _>>()?,
            ),
            other => {
                return Err(JobError::failed(format!(
                    "a value of type {other} cannot be a key"
                )));
            }
        };
        Ok(Self {
            nulls: array.nulls(),
            values,
        })
    }

    #[inline]
    fn encode(&self, row: usize, to: &mut Vec<u8>) {
        if self.nulls.is_some_and(|nulls| nulls.is_null(row)) {
            to.push(0);
            return;
        }
        to.push(1);
        match &self.values {
            Values::I8(values) => values[row].write(to),
            Values::I16(values) => values[row].write(to),
            Values::I32(values) => values[row].write(to),
            Values::I64(values) => values[row].write(to),
            Values::I128(values) => values[row].write(to),
            Values::U8(values) => values[row].write(to),
            Values::U16(values) => values[row].write(to),
            Values::U32(values) => values[row].write(to),
            Values::U64(values) => values[row].write(to),
            Values::F32(values) => values[row].write(to),
            Values::F64(values) => values[row].write(to),
            Values::Bool(values) => to.push(u8::from(values.value(row))),
            Values::Utf8(values) => write_bytes(values.value(row).as_bytes(), to),
            Values::LargeUtf8(values) => write_bytes(values.value(row).as_bytes(), to),
            Values::Utf8View(values) => write_bytes(values.value(row).as_bytes(), to),
            Values::Binary(values) => write_bytes(values.value(row), to),
            Values::LargeBinary(values) => write_bytes(values.value(row), to),
            Values::BinaryView(values) => write_bytes(values.value(row), to),
            Values::Row(fields) => {
                for field in fields {
                    field.encode(row, to);
                }
            }
        }
    }
}
