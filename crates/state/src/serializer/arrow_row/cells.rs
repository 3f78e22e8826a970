//! Cells: to bytes and back, out of arrays and into arrays.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BinaryArray, BooleanArray, LargeBinaryArray,
    LargeStringArray, NullArray, PrimitiveArray, RecordBatch, RecordBatchOptions, StringArray,
};
use arrow::datatypes::*;

use super::{Column, Columns};
use crate::StateError;

/// One value of a row.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// No value.
    Null,
    /// `Boolean`
    Bool(bool),
    /// Signed integers, dates, times and timestamps, in the unit of their type.
    Int(i64),
    /// Unsigned integers.
    UInt(u64),
    /// `Float32`
    F32(f32),
    /// `Float64`
    F64(f64),
    /// `Decimal128`, without its scale.
    Decimal(i128),
    /// `Utf8`, `LargeUtf8`
    Text(String),
    /// `Binary`, `LargeBinary`
    Bytes(Vec<u8>),
}

fn corrupt(what: &str) -> StateError {
    StateError::Corrupt(format!("a row of an Arrow table is damaged: {what}"))
}

fn misfit(column: &Column, cell: &Cell) -> StateError {
    StateError::Usage(format!(
        "column `{}` of type {} cannot hold {cell:?}",
        column.name, column.kind
    ))
}

fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Takes a varint of at most 64 bits.
pub(super) fn take_varint(rest: &mut &[u8]) -> Result<u64, StateError> {
    let mut value = 0;
    for shift in (0..u64::BITS).step_by(7) {
        let Some((byte, after)) = rest.split_first() else {
            return Err(corrupt("it ends in a number"));
        };
        *rest = after;
        let bits = u64::from(byte & 0x7f);
        if (bits << shift) >> shift != bits {
            break;
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(corrupt("a number has more than 64 bits"))
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], StateError> {
    let Some((taken, after)) = rest.split_first_chunk() else {
        return Err(corrupt("it ends too early"));
    };
    *rest = after;
    Ok(*taken)
}

fn take_bytes<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], StateError> {
    let len = take_varint(rest)?;
    let split = usize::try_from(len).ok();
    let Some((taken, after)) = split.and_then(|len| rest.split_at_checked(len)) else {
        return Err(corrupt(&format!(
            "{len} bytes are announced, {} are left",
            rest.len()
        )));
    };
    *rest = after;
    Ok(taken)
}

/// Appends a row.
pub(super) fn write_row(
    schema: u64,
    columns: &Columns,
    row: &[Cell],
    out: &mut Vec<u8>,
) -> Result<(), StateError> {
    if row.len() != columns.0.len() {
        return Err(StateError::Usage(format!(
            "a row has {} cells, but its schema has {} columns",
            row.len(),
            columns.0.len()
        )));
    }
    put_varint(schema, out);
    for eight in row.chunks(8) {
        let bits = eight
            .iter()
            .enumerate()
            .map(|(at, cell)| u8::from(*cell == Cell::Null) << at);
        out.push(bits.fold(0, |all, bit| all | bit));
    }
    for (column, cell) in columns.0.iter().zip(row) {
        if *cell != Cell::Null {
            write_cell(column, cell, out)?;
        } else if !column.nullable {
            return Err(misfit(column, cell));
        }
    }
    Ok(())
}

fn write_cell(column: &Column, cell: &Cell, out: &mut Vec<u8>) -> Result<(), StateError> {
    macro_rules! number {
        ($value:expr, $type:ty) => {
            match <$type>::try_from(*$value) {
                Ok(value) => out.extend_from_slice(&value.to_le_bytes()),
                Err(_) => return Err(misfit(column, cell)),
            }
        };
    }
    match (&column.kind, cell) {
        (DataType::Boolean, Cell::Bool(value)) => out.push(u8::from(*value)),
        (DataType::Int8, Cell::Int(value)) => number!(value, i8),
        (DataType::Int16, Cell::Int(value)) => number!(value, i16),
        (DataType::Int32 | DataType::Date32 | DataType::Time32(_), Cell::Int(value)) => {
            number!(value, i32);
        }
        (
            DataType::Int64 | DataType::Date64 | DataType::Time64(_) | DataType::Timestamp(..),
            Cell::Int(value),
        ) => number!(value, i64),
        (DataType::UInt8, Cell::UInt(value)) => number!(value, u8),
        (DataType::UInt16, Cell::UInt(value)) => number!(value, u16),
        (DataType::UInt32, Cell::UInt(value)) => number!(value, u32),
        (DataType::UInt64, Cell::UInt(value)) => number!(value, u64),
        (DataType::Float32, Cell::F32(value)) => out.extend_from_slice(&value.to_le_bytes()),
        (DataType::Float64, Cell::F64(value)) => out.extend_from_slice(&value.to_le_bytes()),
        (DataType::Decimal128(..), Cell::Decimal(value)) => {
            out.extend_from_slice(&value.to_le_bytes());
        }
        (DataType::Utf8 | DataType::LargeUtf8, Cell::Text(value)) => {
            put_varint(value.len() as u64, out);
            out.extend_from_slice(value.as_bytes());
        }
        (DataType::Binary | DataType::LargeBinary, Cell::Bytes(value)) => {
            put_varint(value.len() as u64, out);
            out.extend_from_slice(value);
        }
        _ => return Err(misfit(column, cell)),
    }
    Ok(())
}

/// Reads a row after its schema's number; shows each cell that is not null with the place of its column.
pub(super) fn read_row(
    columns: &Columns,
    mut rest: &[u8],
    mut each: impl FnMut(usize, Cell),
) -> Result<(), StateError> {
    let bitmap_bytes = columns.0.len().div_ceil(8);
    let Some((nulls, after)) = rest.split_at_checked(bitmap_bytes) else {
        return Err(corrupt("it ends too early"));
    };
    rest = after;
    for (at, column) in columns.0.iter().enumerate() {
        let is_null = nulls
            .get(at / 8)
            .is_some_and(|bits| bits >> (at % 8) & 1 == 1);
        if !is_null {
            each(at, read_cell(column, &mut rest)?);
        } else if !column.nullable {
            return Err(corrupt(&format!(
                "column `{}` is null, which it cannot be",
                column.name
            )));
        }
    }
    let unused = nulls.last().is_some_and(|bits| match columns.0.len() % 8 {
        0 => false,
        used => bits >> used != 0,
    });
    match rest.len() {
        0 if !unused => Ok(()),
        0 => Err(corrupt("more columns are null than there are")),
        left => Err(corrupt(&format!("{left} bytes are left over"))),
    }
}

fn read_cell(column: &Column, rest: &mut &[u8]) -> Result<Cell, StateError> {
    Ok(match &column.kind {
        DataType::Boolean => match take(rest)? {
            [0] => Cell::Bool(false),
            [1] => Cell::Bool(true),
            [other] => return Err(corrupt(&format!("a boolean is {other}"))),
        },
        DataType::Int8 => Cell::Int(i8::from_le_bytes(take(rest)?).into()),
        DataType::Int16 => Cell::Int(i16::from_le_bytes(take(rest)?).into()),
        DataType::Int32 | DataType::Date32 | DataType::Time32(_) => {
            Cell::Int(i32::from_le_bytes(take(rest)?).into())
        }
        DataType::Int64 | DataType::Date64 | DataType::Time64(_) | DataType::Timestamp(..) => {
            Cell::Int(i64::from_le_bytes(take(rest)?))
        }
        DataType::UInt8 => Cell::UInt(u8::from_le_bytes(take(rest)?).into()),
        DataType::UInt16 => Cell::UInt(u16::from_le_bytes(take(rest)?).into()),
        DataType::UInt32 => Cell::UInt(u32::from_le_bytes(take(rest)?).into()),
        DataType::UInt64 => Cell::UInt(u64::from_le_bytes(take(rest)?)),
        DataType::Float32 => Cell::F32(f32::from_le_bytes(take(rest)?)),
        DataType::Float64 => Cell::F64(f64::from_le_bytes(take(rest)?)),
        DataType::Decimal128(..) => Cell::Decimal(i128::from_le_bytes(take(rest)?)),
        DataType::Utf8 | DataType::LargeUtf8 => match std::str::from_utf8(take_bytes(rest)?) {
            Ok(text) => Cell::Text(text.to_owned()),
            Err(_) => return Err(corrupt("a text is not UTF-8")),
        },
        DataType::Binary | DataType::LargeBinary => Cell::Bytes(take_bytes(rest)?.to_vec()),
        other => return Err(corrupt(&format!("a value of type {other} cannot be there"))),
    })
}

/// A cell that was read, as one of a wider type.
pub(super) fn widened(cell: Cell, kind: &DataType) -> Cell {
    match (cell, kind) {
        (
            Cell::UInt(value),
            DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64,
        ) => {
            // Narrower, or it would not be read.
            Cell::Int(value as i64)
        }
        (Cell::Int(value), DataType::Float32) => Cell::F32(value as f32),
        (Cell::UInt(value), DataType::Float32) => Cell::F32(value as f32),
        (Cell::Int(value), DataType::Float64) => Cell::F64(value as f64),
        (Cell::UInt(value), DataType::Float64) => Cell::F64(value as f64),
        (Cell::F32(value), DataType::Float64) => Cell::F64(value.into()),
        (cell, _) => cell,
    }
}

/// Does `$act` with the array type of each type of numbers, its kind of cell, and the way there.
macro_rules! by_number_type {
    ($kind:expr, $act:ident, $other:expr) => {
        match $kind {
            DataType::Int8 => $act!(Int8Type, Int),
            DataType::Int16 => $act!(Int16Type, Int),
            DataType::Int32 => $act!(Int32Type, Int),
            DataType::Int64 => $act!(Int64Type, Int),
            DataType::UInt8 => $act!(UInt8Type, UInt),
            DataType::UInt16 => $act!(UInt16Type, UInt),
            DataType::UInt32 => $act!(UInt32Type, UInt),
            DataType::UInt64 => $act!(UInt64Type, UInt),
            DataType::Float32 => $act!(Float32Type, F32),
            DataType::Float64 => $act!(Float64Type, F64),
            DataType::Decimal128(..) => $act!(Decimal128Type, Decimal),
            DataType::Date32 => $act!(Date32Type, Int),
            DataType::Date64 => $act!(Date64Type, Int),
            DataType::Time32(TimeUnit::Second) => $act!(Time32SecondType, Int),
            DataType::Time32(_) => $act!(Time32MillisecondType, Int),
            DataType::Time64(TimeUnit::Microsecond) => $act!(Time64MicrosecondType, Int),
            DataType::Time64(_) => $act!(Time64NanosecondType, Int),
            DataType::Timestamp(TimeUnit::Second, _) => $act!(TimestampSecondType, Int),
            DataType::Timestamp(TimeUnit::Millisecond, _) => $act!(TimestampMillisecondType, Int),
            DataType::Timestamp(TimeUnit::Microsecond, _) => $act!(TimestampMicrosecondType, Int),
            DataType::Timestamp(TimeUnit::Nanosecond, _) => $act!(TimestampNanosecondType, Int),
            _ => $other,
        }
    };
}

/// One value of an array of a column.
pub(super) fn cell_of(column: &Column, array: &ArrayRef, row: usize) -> Result<Cell, StateError> {
    if array.data_type() != &column.kind || row >= array.len() {
        return Err(StateError::Usage(format!(
            "row {row} of column `{}` is asked of {} values of type {}, expected type {}",
            column.name,
            array.len(),
            array.data_type(),
            column.kind
        )));
    }
    if array.is_null(row) || column.kind == DataType::Null {
        return Ok(Cell::Null);
    }
    macro_rules! number {
        ($type:ty, $cell:ident) => {
            Cell::$cell(array.as_primitive::<$type>().value(row).into())
        };
    }
    Ok(by_number_type!(
        &column.kind,
        number,
        match &column.kind {
            DataType::Boolean => Cell::Bool(array.as_boolean().value(row)),
            DataType::Utf8 => Cell::Text(array.as_string::<i32>().value(row).to_owned()),
            DataType::LargeUtf8 => Cell::Text(array.as_string::<i64>().value(row).to_owned()),
            DataType::Binary => Cell::Bytes(array.as_binary::<i32>().value(row).to_vec()),
            _ => Cell::Bytes(array.as_binary::<i64>().value(row).to_vec()),
        }
    ))
}

/// An array of numbers from cells of one kind.
fn numbers<P: ArrowPrimitiveType>(
    column: &Column,
    cells: &[&Cell],
    value: impl Fn(&Cell) -> Option<P::Native>,
) -> Result<ArrayRef, StateError> {
    let values = cells.iter().map(|cell| match cell {
        Cell::Null => Ok(None),
        cell => value(cell).map(Some).ok_or_else(|| misfit(column, cell)),
    });
    let array: PrimitiveArray<P> = values.collect::<Result<_, _>>()?;
    Ok(Arc::new(array.with_data_type(column.kind.clone())))
}

/// Values of another kind.
fn others<'a, T>(
    column: &Column,
    cells: &[&'a Cell],
    value: impl Fn(&'a Cell) -> Option<T>,
) -> Result<Vec<Option<T>>, StateError> {
    let values = cells.iter().map(|cell| match cell {
        Cell::Null => Ok(None),
        cell => value(cell).map(Some).ok_or_else(|| misfit(column, cell)),
    });
    values.collect()
}

/// A batch of rows.
pub(super) fn batch_of(
    schema: &SchemaRef,
    columns: &Columns,
    rows: &[&[Cell]],
) -> Result<RecordBatch, StateError> {
    if let Some(row) = rows.iter().find(|row| row.len() != columns.0.len()) {
        return Err(StateError::Usage(format!(
            "a row has {} cells, but its schema has {} columns",
            row.len(),
            columns.0.len()
        )));
    }
    let arrays = columns.0.iter().enumerate().map(|(at, column)| {
        let cells: Vec<&Cell> = rows.iter().filter_map(|row| row.get(at)).collect();
        macro_rules! number {
            ($type:ty, $cell:ident) => {
                numbers::<$type>(column, &cells, |cell| match cell {
                    Cell::$cell(value) => (*value).try_into().ok(),
                    _ => None,
                })?
            };
        }
        let text = |cell: &Cell| match cell {
            Cell::Text(text) => Some(text.clone()),
            _ => None,
        };
        let array: ArrayRef = by_number_type!(
            &column.kind,
            number,
            match &column.kind {
                DataType::Boolean =>
                    Arc::new(BooleanArray::from(others(column, &cells, |cell| {
                        match cell {
                            Cell::Bool(value) => Some(*value),
                            _ => None,
                        }
                    })?)),
                DataType::Utf8 => Arc::new(StringArray::from(others(column, &cells, text)?)),
                DataType::LargeUtf8 =>
                    Arc::new(LargeStringArray::from(others(column, &cells, text)?)),
                DataType::Null => {
                    others(column, &cells, |_| None::<()>)?;
                    Arc::new(NullArray::new(rows.len()))
                }
                kind => {
                    let bytes = others(column, &cells, |cell| match cell {
                        Cell::Bytes(bytes) => Some(bytes.as_slice()),
                        _ => None,
                    })?;
                    if *kind == DataType::Binary {
                        Arc::new(BinaryArray::from(bytes))
                    } else {
                        Arc::new(LargeBinaryArray::from(bytes))
                    }
                }
            }
        );
        Ok(array)
    });
    let arrays = arrays.collect::<Result<Vec<_>, StateError>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
    RecordBatch::try_new_with_options(Arc::clone(schema), arrays, &options)
        .map_err(|error| StateError::Usage(format!("rows do not make a batch: {error}")))
}
