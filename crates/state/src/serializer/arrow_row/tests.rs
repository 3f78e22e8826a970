//! Rows come back, schemas change, hostile bytes are errors.

use std::sync::Arc;

use aquifer_testkit::Rng;
use arrow::datatypes::{DataType, Field, TimeUnit};

use super::*;

fn schema(fields: &[(&str, DataType, bool)]) -> SchemaRef {
    let fields = fields.iter();
    let fields = fields.map(|(name, kind, nullable)| Field::new(*name, kind.clone(), *nullable));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

fn every_type() -> Vec<DataType> {
    use DataType::*;
    let zone: Arc<str> = "Europe/Berlin".into();
    vec![
        Boolean,
        Int8,
        Int16,
        Int32,
        Int64,
        UInt8,
        UInt16,
        UInt32,
        UInt64,
        Float32,
        Float64,
        Utf8,
        LargeUtf8,
        Binary,
        LargeBinary,
        Date32,
        Date64,
        Null,
        Time32(TimeUnit::Second),
        Time32(TimeUnit::Millisecond),
        Time64(TimeUnit::Microsecond),
        Time64(TimeUnit::Nanosecond),
        Timestamp(TimeUnit::Second, None),
        Timestamp(TimeUnit::Millisecond, Some(zone)),
        Timestamp(TimeUnit::Microsecond, None),
        Timestamp(TimeUnit::Nanosecond, None),
        Decimal128(38, 10),
    ]
}

fn random(kind: &DataType, rng: &mut Rng) -> Cell {
    use DataType::*;
    let any = rng.next_u64();
    if rng.chance(200) {
        return Cell::Null;
    }
    match kind {
        Null => Cell::Null,
        Boolean => Cell::Bool(any & 1 == 1),
        Int8 => Cell::Int((any as i8).into()),
        Int16 => Cell::Int((any as i16).into()),
        Int32 | Date32 | Time32(_) => Cell::Int((any as i32).into()),
        UInt8 => Cell::UInt((any as u8).into()),
        UInt16 => Cell::UInt((any as u16).into()),
        UInt32 => Cell::UInt((any as u32).into()),
        UInt64 => Cell::UInt(any),
        Float32 => Cell::F32(any as i32 as f32 / 3.0),
        Float64 => Cell::F64(any as i64 as f64 / 3.0),
        Decimal128(..) => Cell::Decimal(i128::from(any as i64) * 1_000_000),
        Utf8 | LargeUtf8 => Cell::Text("ü€".repeat(any as usize % 70)),
        Binary | LargeBinary => Cell::Bytes(vec![any as u8; any as usize % 200]),
        _ => Cell::Int(any as i64),
    }
}

fn wide() -> ArrowRow {
    let fields: Vec<_> = every_type().into_iter().enumerate().collect();
    let fields = fields.into_iter();
    let fields = fields.map(|(at, kind)| Field::new(format!("c{at}"), kind, true));
    ArrowRow::new(Arc::new(Schema::new(fields.collect::<Vec<_>>()))).unwrap()
}

fn random_row(rng: &mut Rng) -> Vec<Cell> {
    every_type().iter().map(|kind| random(kind, rng)).collect()
}

#[test]
fn rows_of_every_type_come_back_through_bytes_and_batches() {
    let rows = wide();
    let mut rng = Rng::new(3);
    let all: Vec<Vec<Cell>> = (0..500).map(|_| random_row(&mut rng)).collect();
    let batch = rows.batch(all.iter().map(Vec::as_slice)).unwrap();
    assert_eq!(&batch.schema(), rows.schema());
    for (at, row) in all.iter().enumerate() {
        assert_eq!(&rows.cells(&batch, at).unwrap(), row);
        let mut bytes = Vec::new();
        rows.serialize(row, &mut bytes).unwrap();
        assert_eq!(&rows.deserialize(&bytes).unwrap(), row);
        let cut = rng.below(bytes.len() as u64) as usize;
        assert!(matches!(
            rows.deserialize(&bytes[..cut]),
            Err(StateError::Corrupt(_))
        ));
        bytes.push(0);
        assert!(rows.deserialize(&bytes).is_err());
    }
    assert!(rows.cells(&batch, 500).is_err());
    let empty = ArrowRow::new(Arc::new(Schema::empty())).unwrap();
    assert_eq!(empty.batch([&[][..], &[]]).unwrap().num_rows(), 2);
}

#[test]
fn bytes_are_as_the_format_says() {
    let rows = ArrowRow::new(schema(&[
        ("a", DataType::Int16, false),
        ("b", DataType::Utf8, true),
        ("c", DataType::UInt8, true),
    ]))
    .unwrap();
    let mut bytes = Vec::new();
    rows.serialize(
        &vec![Cell::Int(-2), Cell::Text("xy".into()), Cell::Null],
        &mut bytes,
    )
    .unwrap();
    assert_eq!(bytes, [0, 0b100, 0xfe, 0xff, 2, b'x', b'y']);
    for bad in [
        &[][..],
        &[1, 0, 0, 0, 0, 0],
        &[0, 0b1000, 0, 0, 0, 0],
        &[0, 0b111],
        &[0, 0b100, 0, 0, 1, 0xff],
        &[
            0, 0b100, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1,
        ],
        &[
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        ],
    ] {
        assert!(
            matches!(rows.deserialize(bad), Err(StateError::Corrupt(_))),
            "{bad:?}"
        );
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let rows = ArrowRow::new(schema(&[
        ("a", DataType::Int8, false),
        ("b", DataType::Utf8, true),
    ]))
    .unwrap();
    let mut out = b"kept".to_vec();
    for row in [
        vec![],
        vec![Cell::Int(1)],
        vec![Cell::Null, Cell::Null],
        vec![Cell::Int(128), Cell::Null],
        vec![Cell::UInt(1), Cell::Null],
        vec![Cell::Int(1), Cell::Bytes(vec![])],
    ] {
        assert!(
            matches!(rows.serialize(&row, &mut out), Err(StateError::Usage(_))),
            "{row:?}"
        );
        assert!(rows.batch([row.as_slice()]).is_err(), "{row:?}");
        assert_eq!(out, b"kept");
    }
    let nested = DataType::new_list(DataType::Int8, true);
    for fields in [
        &[("x", nested, true)][..],
        &[("x", DataType::Int8, true), ("x", DataType::Utf8, true)],
    ] {
        let error = ArrowRow::new(schema(fields)).map(|_| ()).unwrap_err();
        assert!(
            matches!(&error, StateError::Usage(text) if text.contains("`x`")),
            "{error}"
        );
    }
}

#[test]
fn columns_come_and_go_and_become_wider() {
    let first = ArrowRow::new(schema(&[
        ("id", DataType::UInt32, false),
        ("gone", DataType::Utf8, true),
        ("rate", DataType::Int16, true),
        ("name", DataType::Utf8, true),
    ]))
    .unwrap();
    let mut old = Vec::new();
    let row = vec![
        Cell::UInt(u32::MAX.into()),
        Cell::Text("x".into()),
        Cell::Int(-5),
        Cell::Null,
    ];
    first.serialize(&row, &mut old).unwrap();

    let wanted = schema(&[
        ("new", DataType::Float64, true),
        ("name", DataType::LargeUtf8, true),
        ("rate", DataType::Float64, true),
        ("id", DataType::Int64, true),
    ]);
    let second = ArrowRow::new(wanted).unwrap();
    assert_eq!(
        second.compatibility(&first.snapshot()),
        Compatibility::Reconfigured
    );
    let second = second.restored(&first.snapshot()).unwrap();
    let expected = [
        Cell::Null,
        Cell::Null,
        Cell::F64(-5.0),
        Cell::Int(u32::MAX.into()),
    ];
    assert_eq!(second.deserialize(&old).unwrap(), expected);
    let mut newer = Vec::new();
    second.serialize(&expected.to_vec(), &mut newer).unwrap();
    assert_eq!(newer[0], 1, "the second schema");

    // Once more: rows of both are left.
    let third = ArrowRow::new(schema(&[("rate", DataType::Float64, true)])).unwrap();
    let third = third.restored(&second.snapshot()).unwrap();
    for bytes in [&old, &newer] {
        assert_eq!(third.deserialize(bytes).unwrap(), [Cell::F64(-5.0)]);
    }
    // A restart of the same program changes nothing.
    let again = ArrowRow::new(Arc::clone(third.schema())).unwrap();
    assert_eq!(again.compatibility(&third.snapshot()), Compatibility::AsIs);
    assert_eq!(
        again.restored(&third.snapshot()).unwrap().snapshot(),
        third.snapshot()
    );

    let refused = |fields: &[(&str, DataType, bool)], part: &str| {
        let verdict = ArrowRow::new(schema(fields))
            .unwrap()
            .compatibility(&second.snapshot());
        match verdict {
            Compatibility::Incompatible(why) => assert!(why.contains(part), "{why}"),
            other => panic!("{other:?}"),
        }
    };
    refused(
        &[("rate", DataType::Int64, true)],
        "column `rate` was Float64",
    );
    refused(
        &[("more", DataType::Int64, false)],
        "column `more` is new and not nullable",
    );
    refused(
        &[("name", DataType::LargeUtf8, false)],
        "column `name` was nullable",
    );
    refused(&[("id", DataType::Int32, true)], "column `id` was UInt32");
    refused(
        &[("gone", DataType::Binary, true)],
        "(id UInt32 NOT NULL, gone Utf8,",
    );
}

#[test]
fn snapshots_come_back_and_are_hostile_safe() {
    let rows = wide();
    let snapshot = rows.snapshot();
    assert_eq!(rows.compatibility(&snapshot), Compatibility::AsIs);
    assert_eq!(
        rows.clone().restored(&snapshot).unwrap().snapshot(),
        snapshot
    );
    let payload = &snapshot.payload;
    let changed = |payload: Vec<u8>| SerializerSnapshot {
        payload,
        ..snapshot.clone()
    };
    for end in 0..payload.len() {
        let cut = changed(payload[..end].to_vec());
        assert!(matches!(
            rows.compatibility(&cut),
            Compatibility::Incompatible(_)
        ));
    }
    for bit in 0..payload.len() * 8 {
        let mut bad = payload.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        let bad = changed(bad);
        assert_ne!(rows.compatibility(&bad), Compatibility::AsIs, "bit {bit}");
        if let Ok(restored) = rows.clone().restored(&bad) {
            drop(restored.deserialize(&[0, 0, 0]));
        }
    }
    let mut rng = Rng::new(9);
    for _ in 0..20_000 {
        let bytes: Vec<u8> = (0..rng.below(60))
            .map(|_| rng.next_u64() as u8 & 3)
            .collect();
        drop(rows.deserialize(&bytes));
    }
}

/// A checkpoint was written that no program could read.
#[test]
fn more_schemas_than_a_checkpoint_holds_are_refused() {
    let rows = |letter: &str| {
        let name = letter.repeat(SerializerSnapshot::PAYLOAD_BYTES_MAX / 2);
        ArrowRow::new(schema(&[(&name, DataType::Int64, true)])).unwrap()
    };
    let (old, new) = (rows("a"), rows("b"));
    assert_eq!(old.compatibility(&old.snapshot()), Compatibility::AsIs);
    let verdict = new.compatibility(&old.snapshot());
    let Compatibility::Incompatible(why) = verdict else {
        panic!("{verdict:?}");
    };
    assert!(why.contains("expected at most 1048576"), "{why}");
}
