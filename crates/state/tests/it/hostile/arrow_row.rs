//! Rows of Arrow tables, as `targets` has other values: what a checkpoint says of schemas, then bytes of a row.
use std::sync::Arc;

use aquifer_state::dynamic::DynamicType;
use aquifer_state::serializer::{ArrowRow, Cell, Compatibility, Serializer, SerializerSnapshot};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};

/// Columns of many types, some of which older schemas had otherwise.
fn rows(widened: bool) -> ArrowRow {
    let number = if widened {
        DataType::Int64
    } else {
        DataType::Int16
    };
    let text = if widened {
        DataType::LargeUtf8
    } else {
        DataType::Utf8
    };
    let mut fields = vec![
        Field::new("number", number, false),
        Field::new("text", text, true),
        Field::new("flag", DataType::Boolean, true),
        Field::new("bytes", DataType::Binary, true),
        Field::new("price", DataType::Decimal128(20, 3), true),
        Field::new("rate", DataType::Float64, true),
        Field::new("at", DataType::Timestamp(TimeUnit::Millisecond, None), true),
        Field::new("count", DataType::UInt32, true),
        Field::new("day", DataType::Date32, true),
    ];
    if widened {
        fields.reverse();
        fields.push(Field::new("new", DataType::UInt8, true));
    }
    ArrowRow::new(Arc::new(Schema::new(fields))).unwrap()
}

/// A value of a NaN is no value of itself, so what is compared is text.
fn shown(row: &[Cell]) -> String {
    format!("{row:?}")
}

/// The first two bytes say how long the snapshot of a serializer is that follows; the rest is a row. What a program of today makes of both, and
/// what is shown of them without a program.
pub fn arrow_row(data: &[u8]) {
    let Some((&[low, high], rest)) = data.split_first_chunk() else {
        return;
    };
    let cut = usize::from(u16::from_le_bytes([low, high])).min(rest.len());
    let (snapshot, row) = rest.split_at(cut);
    let today = rows(true);
    // Rows of its own schema alone, and of those that were said.
    read_again(&today, row);
    let Ok(snapshot) = SerializerSnapshot::decode(snapshot) else {
        return;
    };
    let verdict = today.compatibility(&snapshot);
    if let Ok(restored) = today.restored(&snapshot) {
        read_again(&restored, row);
        // What goes on once goes on again, as it is.
        if !matches!(verdict, Compatibility::Incompatible(_)) {
            let again = rows(true).compatibility(&restored.snapshot());
            assert_eq!(again, Compatibility::AsIs);
        }
    }
    if let Ok(read) = DynamicType::parse(&snapshot).decode(row) {
        let _ = read.to_string();
    }
}

fn read_again(rows: &ArrowRow, bytes: &[u8]) {
    let Ok(row) = rows.deserialize(bytes) else {
        return;
    };
    let mut written = Vec::new();
    // An old row may lack what is not null now, where the verdict was not asked for.
    if rows.serialize(&row, &mut written).is_ok() {
        let again = rows.deserialize(&written).unwrap();
        assert_eq!(shown(&again), shown(&row));
    }
}

/// Valid inputs to start from.
pub fn samples() -> Vec<(&'static str, Vec<u8>)> {
    let row = vec![
        Cell::Int(-5),
        Cell::Text("some text".into()),
        Cell::Bool(true),
        Cell::Bytes(vec![0, 255, 7]),
        Cell::Decimal(-(1 << 70)),
        Cell::F64(0.1),
        Cell::Int(1 << 41),
        Cell::UInt(9),
        Cell::Null,
    ];
    let (old, new) = (rows(false), rows(true));
    let both = new.clone().restored(&old.snapshot()).unwrap();
    let written = |rows: &ArrowRow, row: &Vec<Cell>| {
        let mut bytes = Vec::new();
        rows.serialize(row, &mut bytes).unwrap();
        bytes
    };
    let old_row = written(&old, &row);
    let new_row = written(&both, &both.deserialize(&old_row).unwrap());
    let inputs = [
        (&old, &old_row),
        (&both, &old_row),
        (&both, &new_row),
        (&new, &old_row),
    ];
    let input = |(rows, row): (&ArrowRow, &Vec<u8>)| {
        let mut bytes = Vec::new();
        rows.snapshot().encode(&mut bytes);
        let cut = bytes.len() as u16;
        ("arrow_row", [&cut.to_le_bytes()[..], &bytes, row].concat())
    };
    inputs.into_iter().map(input).collect()
}
