//! Rows that their operators lay out: keys there and back, forms of values, and whatever forged bytes say.

use aquifer_testkit::Rng;

use super::super::columns::{encode_hashed, encode_key};
use crate::StateError;
use crate::dynamic::{
    ColumnForm, DynamicType, DynamicValue, Field, LogicalType, RowColumn, Temporal, TimeUnit,
};
use crate::serializer::SerializerSnapshot;

fn column(name: &str, kind: LogicalType, form: ColumnForm) -> RowColumn {
    RowColumn::new(name, kind, form)
}

/// A key of every type.
fn key_columns() -> Vec<RowColumn> {
    let place = LogicalType::Struct {
        name: "".into(),
        fields: vec![
            Field {
                name: "x".into(),
                kind: LogicalType::F64,
            },
            Field {
                name: "name".into(),
                kind: LogicalType::String,
            },
        ],
    };
    let nullable = ColumnForm::Nullable;
    let at = Temporal::Timestamp(TimeUnit::Millisecond);
    vec![
        column("end", LogicalType::Temporal(at), ColumnForm::Sorted),
        column("id", LogicalType::I32, nullable),
        column("name", LogicalType::String, nullable),
        column("bytes", LogicalType::Bytes, nullable),
        column("place", place, nullable),
        column("ok", LogicalType::Bool, nullable),
        column(
            "price",
            LogicalType::Decimal {
                precision: 10,
                scale: 2,
            },
            nullable,
        ),
        column("day", LogicalType::Temporal(Temporal::Date), nullable),
        column("last", LogicalType::U64, ColumnForm::NullableReversed),
    ]
}

const KEY: &str = r#"{"end":"2023-11-14T22:13:20.123","id":-5,"name":"a\u0000b","bytes":"0x00ff","place":{"x":-0.5,"name":null},"ok":true,"price":"-1.05","day":"2024-02-29","last":7}"#;

#[test]
fn keys_are_typed_encoded_and_shown() {
    let columns = key_columns();
    let kind = DynamicType::parse_key(&RowColumn::snapshot(&columns).unwrap());
    assert!(kind.is_understood());
    assert_eq!(
        kind.to_string(),
        "{ end: timestamp(ms), id: Option<i32>, name: Option<String>, bytes: Option<bytes>, place: Option<{ x: Option<f64>, name: Option<String> }>, ok: Option<bool>, price: Option<decimal(10,2)>, day: Option<date>, last: Option<u64> }"
    );
    let value = kind.parse_text(KEY).unwrap();
    assert_eq!(value.to_string(), KEY);
    let bytes = kind.encode_key(&value).unwrap();
    let expected = [
        &(1_700_000_000_123u64 ^ (1 << 63)).to_be_bytes()[..],
        &[1],
        &(0x7fff_fffb_u32).to_be_bytes(),
        b"\x01a\x00\xffb\x00\x00",
        b"\x01\x00\xff\xff\x00\x00",
        &[1, 1],
        &(!(-0.5f64).to_bits()).to_be_bytes(),
        &[0],
        &[1, 1],
        &[1],
        &((-105i128) as u128 ^ (1 << 127)).to_be_bytes(),
        &[1],
        &(19_782u32 ^ (1 << 31)).to_be_bytes(),
        &[!1],
        &(!7u64).to_be_bytes(),
    ]
    .concat();
    assert_eq!(bytes, expected);
    assert_eq!(kind.decode(&bytes).unwrap(), value);
    for cut in 0..bytes.len() {
        let part = kind.decode(&bytes[..cut]);
        assert!(matches!(part, Err(StateError::Corrupt(_))), "cut at {cut}");
    }
    // What stands before it does not decide about the key group.
    let hashed = encode_hashed(&columns, &value).unwrap();
    assert_eq!(hashed, expected[8..]);
    // Columns in any order, or as a list.
    let list = r#"["2023-11-14 22:13:20.123Z",-5,"a\u0000b","0x00ff",[-0.5,null],true,-1.05,"2024-02-29",7]"#;
    assert_eq!(kind.parse_text(list).unwrap(), value);
    for wrong in [
        "7",
        "{}",
        r#"{"id":-5}"#,
        &KEY.replace("\"id\"", "\"other\""),
        &KEY.replace("-1.05", "-1.055"),
        &KEY.replace("2024-02-29", "2023-02-29"),
    ] {
        let refused = kind.parse_text(wrong);
        assert!(matches!(refused, Err(StateError::Usage(_))), "{wrong}");
    }
}

#[test]
fn a_key_of_one_column_may_be_typed_as_its_value() {
    let of = |kind| {
        let columns = [column("k", kind, ColumnForm::Nullable)];
        DynamicType::parse_key(&RowColumn::snapshot(&columns).unwrap())
    };
    let numbers = of(LogicalType::I64);
    for text in ["-7", "[-7]", "{\"k\":-7}"] {
        let value = numbers.parse_text(text).unwrap();
        assert_eq!(value.to_string(), "{\"k\":-7}");
    }
    let texts = of(LogicalType::String);
    assert_eq!(
        texts.parse_text("ada l").unwrap().to_string(),
        "{\"k\":\"ada l\"}"
    );
    assert_eq!(
        texts.parse_text("null").unwrap().to_string(),
        "{\"k\":null}"
    );
    // The same hash as the operator has of the column.
    let value = numbers.parse_text("5").unwrap();
    let bytes = [&[1][..], &(5u64 ^ (1 << 63)).to_be_bytes()].concat();
    let hash = xxhash_rust::xxh3::xxh3_64(&bytes);
    let code = ((hash >> 32) as u32 ^ hash as u32) as i32;
    let group = crate::key_group::assign_to_key_group(code, 128);
    assert_eq!(numbers.key_group(&value, 128), Some(group));
}

/// The forms of accumulators.
fn value_columns() -> Vec<RowColumn> {
    vec![
        column("records", LogicalType::U64, ColumnForm::Unsigned),
        column("count", LogicalType::I64, ColumnForm::Signed),
        column("sum", LogicalType::I64, ColumnForm::Total),
        column("sum", LogicalType::F64, ColumnForm::Total),
        column("min", LogicalType::String, ColumnForm::Sized),
        column("max", LogicalType::String, ColumnForm::SizedReversed),
        column("none", LogicalType::I16, ColumnForm::Sized),
    ]
}

fn value_bytes() -> Vec<u8> {
    [
        &[0xac, 0x02][..],
        &[0x03],
        &[0x04],
        &(9u64 ^ (1 << 63)).to_be_bytes(),
        &[0x00],
        &[4, 1, b'a', 0, 0],
        &[4, !1, !b'z', !0, !0],
        &[0],
    ]
    .concat()
}

#[test]
fn accumulators_are_read() {
    let kind = DynamicType::parse(&RowColumn::snapshot(&value_columns()).unwrap());
    let bytes = value_bytes();
    assert_eq!(
        kind.decode(&bytes).unwrap().to_string(),
        r#"{"records":300,"count":-2,"sum":{"sum":9,"count":2},"sum_2":{"sum":null,"count":0},"min":"a","max":"z","none":null}"#
    );
    for cut in 0..bytes.len() {
        assert!(kind.decode(&bytes[..cut]).is_err(), "cut at {cut}");
    }
    assert!(kind.decode(&[&bytes[..], &[0]].concat()).is_err());
    // A size that does not fit what is in it.
    let mut longer = bytes.clone();
    let at = bytes.len() - 11;
    assert_eq!(longer[at], 4);
    longer[at] = 5;
    let wrong = kind.decode(&longer).unwrap_err().to_string();
    assert!(wrong.contains("in column `min`"), "{wrong}");
    // One column without a name is its value.
    let only = [column("", LogicalType::I64, ColumnForm::Signed)];
    let kind = DynamicType::parse(&RowColumn::snapshot(&only).unwrap());
    assert_eq!(kind.to_string(), "i64");
    assert_eq!(kind.decode(&[6]).unwrap(), DynamicValue::Int(3));
}

#[test]
fn forged_columns_and_rows_are_values_or_errors() {
    let mut random = Rng::new(11);
    for (columns, row) in [
        (value_columns(), value_bytes()),
        (key_columns(), {
            let kind = DynamicType::parse_key(&RowColumn::snapshot(&key_columns()).unwrap());
            kind.encode_key(&kind.parse_text(KEY).unwrap()).unwrap()
        }),
    ] {
        let snapshot = RowColumn::snapshot(&columns).unwrap();
        for _ in 0..3000 {
            let mut forged = snapshot.clone();
            let mut bytes = row.clone();
            for part in [&mut forged.payload, &mut bytes] {
                for _ in 0..random.below(3) {
                    let at = random.below(part.len().max(1) as u64) as usize;
                    match part.get_mut(at) {
                        Some(byte) if random.below(4) > 0 => *byte = random.below(256) as u8,
                        _ => part.truncate(at),
                    }
                }
            }
            let kind = DynamicType::parse_key(&forged);
            if let Ok(value) = kind.decode(&bytes) {
                let _ = (value.to_string(), kind.encode_key(&value));
            }
        }
    }
    // Rows within rows without end.
    let mut payload = Vec::new();
    for _ in 0..10_000 {
        payload.extend(1u64.to_le_bytes());
        payload.extend(1u64.to_le_bytes());
        payload.push(b'a');
        payload.extend(3u64.to_le_bytes());
        payload.extend(b"Row");
        payload.push(1);
    }
    let endless = SerializerSnapshot {
        encoding: "columns-1".into(),
        version: 1,
        payload,
    };
    assert!(!DynamicType::parse(&endless).is_understood());
    // A key of which a column is laid out as in values.
    let columns = [column("n", LogicalType::I64, ColumnForm::Signed)];
    let value = DynamicValue::Struct(vec![("n".into(), DynamicValue::Int(1))]);
    assert!(encode_key(&columns, &value, &mut Vec::new()).is_err());
}
