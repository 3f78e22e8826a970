//! Decoding: key bytes to columns.

use std::sync::Arc;

use aquifer_dataflow::JobError;
use arrow::array::{
    ArrayRef, BinaryBuilder, BinaryViewBuilder, BooleanBuilder, LargeBinaryBuilder,
    LargeStringBuilder, NullBufferBuilder, PrimitiveArray, PrimitiveBuilder, StringBuilder,
    StringViewBuilder, StructArray,
};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Date64Type, Decimal128Type, DurationMicrosecondType,
    DurationMillisecondType, DurationNanosecondType, DurationSecondType, Fields, Float32Type,
    Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, Time32MillisecondType,
    Time32SecondType, Time64MicrosecondType, Time64NanosecondType, TimeUnit,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};

use super::ordered::{Ordered, read_bytes};

/// Collects decoded keys into columns.
pub struct KeyDecoder {
    columns: Vec<ValueDecoder>,
}

impl KeyDecoder {
    /// For keys of these types.
    pub fn new<'a>(types: impl IntoIterator<Item = &'a DataType>) -> Result<Self, JobError> {
        Ok(Self {
            columns: types
                .into_iter()
                .map(ValueDecoder::new)
                .collect::<Result<_, _>>()?,
        })
    }

    /// Takes one key off the front of `bytes` and appends it to the columns.
    pub fn push(&mut self, bytes: &mut &[u8]) -> Result<(), JobError> {
        self.columns
            .iter_mut()
            .try_for_each(|column| column.push(bytes))
    }

    /// The columns so far; the decoder starts again empty.
    pub fn finish(&mut self) -> Vec<ArrayRef> {
        self.columns.iter_mut().map(ValueDecoder::finish).collect()
    }
}

/// Collects decoded values into one column.
pub struct ValueDecoder {
    data_type: DataType,
    builder: Box<dyn Builder>,
}

impl ValueDecoder {
    /// For values of this type.
    pub fn new(data_type: &DataType) -> Result<Self, JobError> {
        Ok(Self {
            data_type: data_type.clone(),
            builder: builder(data_type)?,
        })
    }

    /// Takes one value (with its null byte) off the front of `bytes` and appends it.
    pub fn push(&mut self, bytes: &mut &[u8]) -> Result<(), JobError> {
        let error = || {
            let data_type = &self.data_type;
            JobError::failed(format!(
                "an encoded {data_type} value in state is cut short or malformed"
            ))
        };
        let (present, rest) = bytes.split_first().ok_or_else(error)?;
        *bytes = rest;
        match present {
            0 => self.builder.push_null(),
            1 => self.builder.push(bytes).ok_or_else(error)?,
            _ => return Err(error()),
        }
        Ok(())
    }

    /// Appends a null.
    pub fn push_null(&mut self) {
        self.builder.push_null();
    }

    /// The column so far; the decoder starts again empty.
    pub fn finish(&mut self) -> ArrayRef {
        self.builder.finish()
    }
}

/// A typed column under construction. `push` sees the bytes behind the null byte and gives `None` when they are malformed.
trait Builder {
    fn push(&mut self, bytes: &mut &[u8]) -> Option<()>;
    fn push_null(&mut self);
    fn finish(&mut self) -> ArrayRef;
}

struct Primitive<T: ArrowPrimitiveType> {
    builder: PrimitiveBuilder<T>,
    data_type: DataType,
}

impl<T: ArrowPrimitiveType<Native: Ordered>> Builder for Primitive<T> {
    fn push(&mut self, bytes: &mut &[u8]) -> Option<()> {
        self.builder.append_value(T::Native::read(bytes)?);
        Some(())
    }
    fn push_null(&mut self) {
        self.builder.append_null();
    }
    fn finish(&mut self) -> ArrayRef {
        let array: PrimitiveArray<T> = self.builder.finish();
        Arc::new(array.with_data_type(self.data_type.clone()))
    }
}

impl Builder for BooleanBuilder {
    fn push(&mut self, bytes: &mut &[u8]) -> Option<()> {
        let value = u8::read(bytes)?;
        self.append_value(match value {
            0 => false,
            1 => true,
            _ => return None,
        });
        Some(())
    }
    fn push_null(&mut self) {
        self.append_null();
    }
    fn finish(&mut self) -> ArrayRef {
        Arc::new(BooleanBuilder::finish(self))
    }
}

struct Text<B> {
    builder: B,
    scratch: Vec<u8>,
}

macro_rules! text {
    ($($builder:ty, $convert:expr);*) => {$(
        impl Builder for Text<$builder> {
            fn push(&mut self, bytes: &mut &[u8]) -> Option<()> {
                self.scratch.clear();
                read_bytes(bytes, &mut self.scratch)?;
                self.builder.append_value($convert(&self.scratch)?);
                Some(())
            }
            fn push_null(&mut self) {
                self.builder.append_null();
            }
            fn finish(&mut self) -> ArrayRef {
                Arc::new(self.builder.finish())
            }
        }
    )*};
}

fn utf8(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

fn any(bytes: &[u8]) -> Option<&[u8]> {
    Some(bytes)
}

text!(
    StringBuilder, utf8; LargeStringBuilder, utf8; StringViewBuilder, utf8;
    BinaryBuilder, any; LargeBinaryBuilder, any; BinaryViewBuilder, any
);

struct Row {
    fields: Fields,
    columns: Vec<ValueDecoder>,
    nulls: NullBufferBuilder,
}

impl Builder for Row {
    fn push(&mut self, bytes: &mut &[u8]) -> Option<()> {
        for column in &mut self.columns {
            column.push(bytes).ok()?;
        }
        self.nulls.append_non_null();
        Some(())
    }
    fn push_null(&mut self) {
        self.columns.iter_mut().for_each(ValueDecoder::push_null);
        self.nulls.append_null();
    }
    fn finish(&mut self) -> ArrayRef {
        let columns = self.columns.iter_mut().map(ValueDecoder::finish).collect();
        Arc::new(StructArray::new(
            self.fields.clone(),
            columns,
            self.nulls.finish(),
        ))
    }
}

fn primitive<T: ArrowPrimitiveType<Native: Ordered>>(data_type: &DataType) -> Box<dyn Builder> {
    Box::new(Primitive::<T> {
        builder: PrimitiveBuilder::new(),
        data_type: data_type.clone(),
    })
}

fn text<B>(builder: B) -> Text<B> {
    Text {
        builder,
        scratch: Vec::new(),
    }
}

fn builder(data_type: &DataType) -> Result<Box<dyn Builder>, JobError> {
    let new = match data_type {
        DataType::Boolean => return Ok(Box::new(BooleanBuilder::new())),
        DataType::Utf8 => return Ok(Box::new(text(StringBuilder::new()))),
        DataType::LargeUtf8 => return Ok(Box::new(text(LargeStringBuilder::new()))),
        DataType::Utf8View => return Ok(Box::new(text(StringViewBuilder::new()))),
        DataType::Binary => return Ok(Box::new(text(BinaryBuilder::new()))),
        DataType::LargeBinary => return Ok(Box::new(text(LargeBinaryBuilder::new()))),
        DataType::BinaryView => return Ok(Box::new(text(BinaryViewBuilder::new()))),
        DataType::Struct(fields) => {
            // Nullable inside: a null row has null fields, whatever the fields were declared.
            let fields: Fields = fields
                .iter()
                .map(|f| f.as_ref().clone().with_nullable(true))
                .collect();
            let columns = fields
                .iter()
                .map(|field| ValueDecoder::new(field.data_type()))
                .collect::<Result<_, _>>()?;
            return Ok(Box::new(Row {
                fields,
                columns,
                nulls: NullBufferBuilder::new(0),
            }));
        }
        DataType::Int8 => primitive::<Int8Type>,
        DataType::Int16 => primitive::<Int16Type>,
        DataType::Int32 => primitive::<Int32Type>,
        DataType::Int64 => primitive::<Int64Type>,
        DataType::UInt8 => primitive::<UInt8Type>,
        DataType::UInt16 => primitive::<UInt16Type>,
        DataType::UInt32 => primitive::<UInt32Type>,
        DataType::UInt64 => primitive::<UInt64Type>,
        DataType::Float32 => primitive::<Float32Type>,
        DataType::Float64 => primitive::<Float64Type>,
        DataType::Decimal128(_, _) => primitive::<Decimal128Type>,
        DataType::Date32 => primitive::<Date32Type>,
        DataType::Date64 => primitive::<Date64Type>,
        DataType::Time32(TimeUnit::Second) => primitive::<Time32SecondType>,
        DataType::Time32(_) => primitive::<Time32MillisecondType>,
        DataType::Time64(TimeUnit::Microsecond) => primitive::<Time64MicrosecondType>,
        DataType::Time64(_) => primitive::<Time64NanosecondType>,
        DataType::Timestamp(TimeUnit::Second, _) => primitive::<TimestampSecondType>,
        DataType::Timestamp(TimeUnit::Millisecond, _) => primitive::<TimestampMillisecondType>,
        DataType::Timestamp(TimeUnit::Microsecond, _) => primitive::<TimestampMicrosecondType>,
        DataType::Timestamp(TimeUnit::Nanosecond, _) => primitive::<TimestampNanosecondType>,
        DataType::Duration(TimeUnit::Second) => primitive::<DurationSecondType>,
        DataType::Duration(TimeUnit::Millisecond) => primitive::<DurationMillisecondType>,
        DataType::Duration(TimeUnit::Microsecond) => primitive::<DurationMicrosecondType>,
        DataType::Duration(TimeUnit::Nanosecond) => primitive::<DurationNanosecondType>,
        other => {
            return Err(JobError::failed(format!(
                "a value of type {other} cannot be a key"
            )));
        }
    };
    Ok(new(data_type))
}
