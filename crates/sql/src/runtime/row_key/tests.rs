//! Round trips, order, freedom of prefixes, hostile bytes, and routing.

use std::sync::Arc;

use aquifer_dataflow::operator::Router;
use aquifer_dataflow::{ChangeBatch, RowKind};
use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Decimal128Array, Float64Array, Int32Array,
    Int64Array, RecordBatch, StringArray, StructArray, TimestampMillisecondArray,
};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};

use super::*;

fn encode_all(columns: &[ArrayRef]) -> Vec<Vec<u8>> {
    let encoder = KeyEncoder::new(columns).unwrap();
    (0..columns[0].len())
        .map(|row| {
            let mut key = Vec::new();
            encoder.encode(row, &mut key);
            key
        })
        .collect()
}

fn every_type() -> Vec<ArrayRef> {
    let inner: ArrayRef = Arc::new(StringArray::from(vec![Some("x"), None, Some("")]));
    let row = StructArray::from(vec![(
        Arc::new(Field::new("s", DataType::Utf8, true)),
        Arc::clone(&inner),
    )]);
    vec![
        Arc::new(Int64Array::from(vec![Some(i64::MIN), None, Some(7)])),
        Arc::new(Int32Array::from(vec![Some(-1), Some(0), Some(1)])),
        Arc::new(Float64Array::from(vec![
            Some(-1.5),
            Some(f64::INFINITY),
            None,
        ])),
        Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)])),
        Arc::new(StringArray::from(vec![Some("a\0b"), Some(""), None])),
        Arc::new(BinaryArray::from_opt_vec(vec![
            Some(&[0, 0, 255][..]),
            None,
            Some(&[0]),
        ])),
        Arc::new(
            Decimal128Array::from(vec![Some(-12345), None, Some(i128::MAX / 2)])
                .with_precision_and_scale(38, 3)
                .unwrap(),
        ),
        Arc::new(
            TimestampMillisecondArray::from(vec![Some(-1), None, Some(1)]).with_timezone("UTC"),
        ),
        Arc::new(row),
    ]
}

#[test]
fn keys_survive_a_round_trip() {
    let columns = every_type();
    let keys = encode_all(&columns);
    let mut decoder = KeyDecoder::new(columns.iter().map(|c| c.data_type())).unwrap();
    for key in &keys {
        let mut rest = key.as_slice();
        decoder.push(&mut rest).unwrap();
        assert!(rest.is_empty());
    }
    for (decoded, original) in decoder.finish().iter().zip(&columns) {
        assert_eq!(decoded.as_ref(), original.as_ref());
    }
}

#[test]
fn bytes_compare_like_values_and_inverted_the_other_way() {
    let numbers = [
        None,
        Some(i64::MIN),
        Some(-3),
        Some(-1),
        Some(0),
        Some(2),
        Some(i64::MAX),
    ];
    let strings = [
        None,
        Some(""),
        Some("\0"),
        Some("\0a"),
        Some("a"),
        Some("a\0"),
        Some("ab"),
    ];
    let floats = [
        None,
        Some(f64::NEG_INFINITY),
        Some(-2.5),
        Some(-0.0),
        Some(0.0),
        Some(1e-300),
        Some(f64::NAN),
    ];
    let columns: [ArrayRef; 3] = [
        Arc::new(Int64Array::from(numbers.to_vec())),
        Arc::new(StringArray::from(strings.to_vec())),
        Arc::new(Float64Array::from(floats.to_vec())),
    ];
    for column in columns {
        let keys = encode_all(&[column]);
        assert!(keys.is_sorted(), "{keys:?}");
        let mut inverted: Vec<Vec<u8>> = keys
            .iter()
            .map(|key| key.iter().map(|byte| !byte).collect())
            .collect();
        inverted.reverse();
        assert!(inverted.is_sorted());
        for (i, key) in keys.iter().enumerate() {
            assert!(
                keys.iter()
                    .enumerate()
                    .all(|(j, other)| i == j || !other.starts_with(key))
            );
        }
    }
}

#[test]
fn hostile_bytes_are_errors() {
    let columns = every_type();
    let keys = encode_all(&columns);
    for key in &keys {
        for end in 0..key.len() {
            let mut decoder = KeyDecoder::new(columns.iter().map(|c| c.data_type())).unwrap();
            assert!(
                decoder.push(&mut &key[..end]).is_err(),
                "cut at {end} was accepted"
            );
        }
    }
    let mut text = ValueDecoder::new(&DataType::Utf8).unwrap();
    assert!(
        text.push(&mut &[1, 0xff, 0xfe, 0, 0][..]).is_err(),
        "not UTF-8"
    );
    assert!(
        text.push(&mut &[1, b'a', 0, 7][..]).is_err(),
        "not an escape"
    );
    assert!(
        text.push(&mut &[9][..]).is_err(),
        "neither null nor present"
    );
}

#[test]
fn types_without_an_order_are_refused_by_name() {
    let list = DataType::List(Arc::new(Field::new("item", DataType::Int64, true)));
    let error = check_type("GROUP BY column tags", &list).unwrap_err();
    assert!(
        error
            .message
            .starts_with("GROUP BY column tags is of type List"),
        "{error}"
    );
}

/// The hash decides where state lives: these numbers may never change.
#[test]
fn hashes_are_pinned() {
    let keys = encode_all(&[Arc::new(Int64Array::from(vec![Some(1), Some(42), None])) as ArrayRef]);
    assert_eq!(keys[0], [1, 0x80, 0, 0, 0, 0, 0, 0, 1]);
    assert_eq!(keys[2], [0]);
    assert_eq!(hash(b""), 0x2d06_8005_38d3_94c2);
    assert_eq!(hash_code(0x0000_0001_ffff_ffff), -2);
}

#[test]
fn each_row_goes_to_the_owner_of_its_key_group_in_order() {
    let schema = Arc::new(Schema::new(vec![
        Field::new("k", DataType::Int64, true),
        Field::new("n", DataType::Int64, true),
    ]));
    let keys: Vec<i64> = (0..1000).map(|i| i % 50).collect();
    let rows = RecordBatch::try_new(
        schema,
        vec![
            Arc::new(Int64Array::from(keys)),
            Arc::new(Int64Array::from_iter_values(0..1000)),
        ],
    )
    .unwrap();
    let kinds = (0..1000)
        .map(|i| {
            if i % 3 == 0 {
                RowKind::Delete
            } else {
                RowKind::Insert
            }
        })
        .collect();
    let mut router = KeyRouter::new(1, 128);
    let mut seen = 0;
    let mut owner = [usize::MAX; 50];
    router
        .route(ChangeBatch::new(rows, kinds), 3, &mut |worker, part| {
            use arrow::array::AsArray;
            let k = part.rows.column(0).as_primitive::<Int64Type>();
            let n = part.rows.column(1).as_primitive::<Int64Type>();
            assert!(n.values().is_sorted());
            for row in 0..part.rows.num_rows() {
                let key = k.value(row) as usize;
                assert!(owner[key] == usize::MAX || owner[key] == worker);
                owner[key] = worker;
                assert_eq!(part.kind(row) == RowKind::Delete, n.value(row) % 3 == 0);
                seen += 1;
            }
        })
        .unwrap();
    assert_eq!(seen, 1000);
    assert!((0..3).all(|worker| owner.contains(&worker)));
}
