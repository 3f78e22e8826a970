//! The cells of an Arrow column, looked up once per batch so that writing a row only matches on a small enum.
//!
//! Print, CSV and JSON each walk these cells in their own style; what is the same in all of them (which variant a type is, where
//! its nulls are) is here. A type that none of them knows is shown by Arrow's own formatter.

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BinaryViewArray, BooleanArray, FixedSizeBinaryArray,
    LargeBinaryArray, LargeStringArray, StringArray, StringViewArray,
};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{
    DataType, Date32Type, Date64Type, Decimal128Type, Float32Type, Float64Type, Int8Type,
    Int16Type, Int32Type, Int64Type, Time32MillisecondType, Time32SecondType,
    Time64MicrosecondType, Time64NanosecondType, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};
use arrow::util::display::{ArrayFormatter, FormatOptions};

use crate::calendar::{Moment, NANOS_PER_SECOND};

/// One column.
pub(crate) struct Cells<'a> {
    nulls: Option<NullBuffer>,
    kind: Kind<'a>,
}

/// One cell.
pub(crate) enum Cell<'c, 'a> {
    Null,
    Boolean(bool),
    Whole(i64),
    Unsigned(u64),
    Float(f32),
    Double(f64),
    Decimal(i128, i8),
    /// Days since 1970-01-01.
    Date(i64),
    /// Nanoseconds since midnight.
    Time(i64),
    /// A date-time; `zoned` if it is a moment in UTC.
    Moment {
        moment: Moment,
        zoned: bool,
    },
    Text(&'c str),
    Bytes(&'c [u8]),
    Row(&'c [(&'a str, Cells<'a>)]),
    /// The elements from the first index up to, not including, the second.
    List(&'c Cells<'a>, std::ops::Range<usize>),
    Map {
        keys: &'c Cells<'a>,
        values: &'c Cells<'a>,
        range: std::ops::Range<usize>,
    },
    Other(&'c ArrayFormatter<'a>),
}

enum Kind<'a> {
    Null,
    Boolean(&'a BooleanArray),
    Int8(&'a [i8]),
    Int16(&'a [i16]),
    Int32(&'a [i32]),
    Int64(&'a [i64]),
    UInt8(&'a [u8]),
    UInt16(&'a [u16]),
    UInt32(&'a [u32]),
    UInt64(&'a [u64]),
    Float32(&'a [f32]),
    Float64(&'a [f64]),
    Decimal(&'a [i128], i8),
    Date32(&'a [i32]),
    Date64(&'a [i64]),
    /// Values, and nanoseconds of one unit.
    Time32(&'a [i32], i64),
    Time64(&'a [i64], i64),
    /// Values, units per second, and whether it is a moment in UTC.
    Timestamp(&'a [i64], i64, bool),
    Utf8(&'a StringArray),
    LargeUtf8(&'a LargeStringArray),
    Utf8View(&'a StringViewArray),
    Binary(&'a BinaryArray),
    LargeBinary(&'a LargeBinaryArray),
    BinaryView(&'a BinaryViewArray),
    FixedSizeBinary(&'a FixedSizeBinaryArray),
    Struct(Vec<(&'a str, Cells<'a>)>),
    List(&'a [i32], Box<Cells<'a>>),
    Map(&'a [i32], Box<Cells<'a>>, Box<Cells<'a>>),
    Other(ArrayFormatter<'a>),
    /// Not even Arrow can show it.
    Unshowable,
}

/// How Arrow shows what has no style here: like everything else, `null` for nulls.
static OTHER_STYLE: FormatOptions<'static> = FormatOptions::new().with_null("null");

impl<'a> Cells<'a> {
    /// The cells of `array`.
    pub(crate) fn new(array: &'a dyn Array) -> Self {
        let kind = match array.data_type() {
            DataType::Null => Kind::Null,
            DataType::Boolean => Kind::Boolean(array.as_boolean()),
            DataType::Int8 => Kind::Int8(array.as_primitive::<Int8Type>().values()),
            DataType::Int16 => Kind::Int16(array.as_primitive::<Int16Type>().values()),
            DataType::Int32 => Kind::Int32(array.as_primitive::<Int32Type>().values()),
            DataType::Int64 => Kind::Int64(array.as_primitive::<Int64Type>().values()),
            DataType::UInt8 => Kind::UInt8(array.as_primitive::<UInt8Type>().values()),
            DataType::UInt16 => Kind::UInt16(array.as_primitive::<UInt16Type>().values()),
            DataType::UInt32 => Kind::UInt32(array.as_primitive::<UInt32Type>().values()),
            DataType::UInt64 => Kind::UInt64(array.as_primitive::<UInt64Type>().values()),
            DataType::Float32 => Kind::Float32(array.as_primitive::<Float32Type>().values()),
            DataType::Float64 => Kind::Float64(array.as_primitive::<Float64Type>().values()),
            DataType::Decimal128(_, scale) => {
                Kind::Decimal(array.as_primitive::<Decimal128Type>().values(), *scale)
            }
            DataType::Date32 => Kind::Date32(array.as_primitive::<Date32Type>().values()),
            DataType::Date64 => Kind::Date64(array.as_primitive::<Date64Type>().values()),
            DataType::Time32(TimeUnit::Second) => Kind::Time32(
                array.as_primitive::<Time32SecondType>().values(),
                NANOS_PER_SECOND,
            ),
            DataType::Time32(_) => Kind::Time32(
                array.as_primitive::<Time32MillisecondType>().values(),
                1_000_000,
            ),
            DataType::Time64(TimeUnit::Microsecond) => Kind::Time64(
                array.as_primitive::<Time64MicrosecondType>().values(),
                1_000,
            ),
            DataType::Time64(_) => {
                Kind::Time64(array.as_primitive::<Time64NanosecondType>().values(), 1)
            }
            DataType::Timestamp(unit, zone) => {
                let (values, per_second): (&[i64], i64) = match unit {
                    TimeUnit::Second => (array.as_primitive::<TimestampSecondType>().values(), 1),
                    TimeUnit::Millisecond => (
                        array.as_primitive::<TimestampMillisecondType>().values(),
                        1_000,
                    ),
                    TimeUnit::Microsecond => (
                        array.as_primitive::<TimestampMicrosecondType>().values(),
                        1_000_000,
                    ),
                    TimeUnit::Nanosecond => (
                        array.as_primitive::<TimestampNanosecondType>().values(),
                        NANOS_PER_SECOND,
                    ),
                };
                Kind::Timestamp(values, per_second, zone.is_some())
            }
            DataType::Utf8 => Kind::Utf8(array.as_string()),
            DataType::LargeUtf8 => Kind::LargeUtf8(array.as_string()),
            DataType::Utf8View => Kind::Utf8View(array.as_string_view()),
            DataType::Binary => Kind::Binary(array.as_binary()),
            DataType::LargeBinary => Kind::LargeBinary(array.as_binary()),
            DataType::BinaryView => Kind::BinaryView(array.as_binary_view()),
            DataType::FixedSizeBinary(_) => Kind::FixedSizeBinary(array.as_fixed_size_binary()),
            DataType::Struct(fields) => {
                let columns = array.as_struct().columns();
                Kind::Struct(
                    fields
                        .iter()
                        .map(|f| f.name().as_str())
                        .zip(cells_of(columns))
                        .collect(),
                )
            }
            DataType::List(_) => {
                let list = array.as_list::<i32>();
                Kind::List(
                    list.value_offsets(),
                    Box::new(Cells::new(list.values().as_ref())),
                )
            }
            DataType::Map(_, _) => {
                let map = array.as_map();
                Kind::Map(
                    map.value_offsets(),
                    Box::new(Cells::new(map.keys().as_ref())),
                    Box::new(Cells::new(map.values().as_ref())),
                )
            }
            _ => ArrayFormatter::try_new(array, &OTHER_STYLE).map_or(Kind::Unshowable, Kind::Other),
        };
        Self {
            nulls: array.logical_nulls(),
            kind,
        }
    }

    /// The cell of one row, which must be one of the array's.
    pub(crate) fn get(&self, row: usize) -> Cell<'_, 'a> {
        if self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            return Cell::Null;
        }
        match &self.kind {
            Kind::Null | Kind::Unshowable => Cell::Null,
            Kind::Boolean(array) => Cell::Boolean(array.value(row)),
            Kind::Int8(values) => Cell::Whole(values[row].into()),
            Kind::Int16(values) => Cell::Whole(values[row].into()),
            Kind::Int32(values) => Cell::Whole(values[row].into()),
            Kind::Int64(values) => Cell::Whole(values[row]),
            Kind::UInt8(values) => Cell::Whole(values[row].into()),
            Kind::UInt16(values) => Cell::Whole(values[row].into()),
            Kind::UInt32(values) => Cell::Whole(values[row].into()),
            Kind::UInt64(values) => Cell::Unsigned(values[row]),
            Kind::Float32(values) => Cell::Float(values[row]),
            Kind::Float64(values) => Cell::Double(values[row]),
            Kind::Decimal(values, scale) => Cell::Decimal(values[row], *scale),
            Kind::Date32(values) => Cell::Date(values[row].into()),
            Kind::Date64(values) => Cell::Date(values[row].div_euclid(86_400_000)),
            Kind::Time32(values, nanos) => Cell::Time(i64::from(values[row]) * nanos),
            Kind::Time64(values, nanos) => Cell::Time(values[row].saturating_mul(*nanos)),
            Kind::Timestamp(values, per_second, zoned) => Cell::Moment {
                moment: Moment::from_units(values[row], *per_second),
                zoned: *zoned,
            },
            Kind::Utf8(array) => Cell::Text(array.value(row)),
            Kind::LargeUtf8(array) => Cell::Text(array.value(row)),
            Kind::Utf8View(array) => Cell::Text(array.value(row)),
            Kind::Binary(array) => Cell::Bytes(array.value(row)),
            Kind::LargeBinary(array) => Cell::Bytes(array.value(row)),
            Kind::BinaryView(array) => Cell::Bytes(array.value(row)),
            Kind::FixedSizeBinary(array) => Cell::Bytes(array.value(row)),
            Kind::Struct(fields) => Cell::Row(fields),
            Kind::List(offsets, elements) => Cell::List(elements, range(offsets, row)),
            Kind::Map(offsets, keys, values) => Cell::Map {
                keys,
                values,
                range: range(offsets, row),
            },
            Kind::Other(formatter) => Cell::Other(formatter),
        }
    }
}

fn range(offsets: &[i32], row: usize) -> std::ops::Range<usize> {
    offsets[row] as usize..offsets[row + 1] as usize
}

/// The cells of several columns.
pub(crate) fn cells_of(columns: &[ArrayRef]) -> Vec<Cells<'_>> {
    columns
        .iter()
        .map(|column| Cells::new(column.as_ref()))
        .collect()
}
