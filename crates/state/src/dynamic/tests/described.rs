//! Values by what their serializers say of themselves: shapes, dictionaries, schemas.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::super::conform::conform;
use super::super::json::decimal;
use super::{by_shape, value, written};
use crate::StateError;
use crate::dynamic::{DynamicType, DynamicValue, LogicalType};
use crate::encoding::{put_bytes, put_u64};
use crate::serializer::{
    Nullable, Plain, PlainValue, Postcard, Serializer, SerializerSnapshot, Tagged,
};

#[derive(Serialize, Deserialize)]
pub(super) struct Account {
    id: u64,
    owner: Option<String>,
    history: Vec<(i64, f64)>,
    limits: BTreeMap<String, Limit>,
    by_number: BTreeMap<i16, Marker>,
    wrapped: Wrapper,
    raw: [u8; 2],
}

#[derive(Serialize, Deserialize)]
enum Limit {
    None,
    Daily(u32),
    Both { daily: u32, weekly: Option<u16> },
    Pair(u8, i8),
}

#[derive(Serialize, Deserialize)]
struct Marker;

#[derive(Serialize, Deserialize)]
struct Wrapper(Vec<u8>);

fn account() -> Account {
    let limits = [
        ("a", Limit::None),
        ("b", Limit::Daily(70_000)),
        (
            "c",
            Limit::Both {
                daily: 1,
                weekly: None,
            },
        ),
        ("d", Limit::Pair(200, -100)),
    ];
    Account {
        id: u64::MAX,
        owner: Some("ada".into()),
        history: vec![(-1, 0.5)],
        limits: limits.map(|(name, limit)| (name.to_owned(), limit)).into(),
        by_number: [(-7, Marker)].into(),
        wrapped: Wrapper(vec![1, 255]),
        raw: [3, 4],
    }
}

const ACCOUNT: &str = r#"{"id":18446744073709551615,"owner":"ada","history":[[-1,0.5]],"limits":{"a":"None","b":{"Daily":70000},"c":{"Both":{"daily":1,"weekly":null}},"d":{"Pair":[200,-100]}},"by_number":{"-7":null},"wrapped":"0x01ff","raw":[3,4]}"#;

#[test]
fn structs_and_enums_are_read_with_their_names() {
    value(&account(), ACCOUNT);
    let kind = DynamicType::parse(&Postcard::<Account>::default().snapshot());
    assert_eq!(
        kind.to_string(),
        "Account { id: u64, owner: Option<String>, history: Vec<(i64, f64)>, limits: Map<String, Limit { None | Daily(u32) | Both({ daily: u32, weekly: Option<u16> }) | Pair(u8, i8) }>, by_number: Map<i16, ()>, wrapped: bytes, raw: (u8, u8) }"
    );
    // A name of the program's own does not hide the type.
    let named = Postcard::<Limit>::named("limits-2");
    written(&named, &Limit::Daily(5), r#"{"Daily":5}"#);
}

#[derive(Serialize, Deserialize)]
struct Tree {
    left: Option<Box<Tree>>,
    leaf: Leaf,
    right: Vec<Tree>,
}

/// Contains itself, and has no fields with names.
#[derive(Serialize, Deserialize)]
struct Leaf(u8, Option<Box<Leaf>>);

#[test]
fn types_that_contain_themselves_are_read() {
    let leaf = |n| Leaf(n, Some(Box::new(Leaf(n + 1, None))));
    let tree = Tree {
        left: Some(Box::new(Tree {
            left: None,
            leaf: leaf(1),
            right: vec![],
        })),
        leaf: leaf(5),
        right: vec![Tree {
            left: None,
            leaf: Leaf(9, None),
            right: vec![],
        }],
    };
    value(
        &tree,
        r#"{"left":{"left":null,"leaf":[1,[2,null]],"right":[]},"leaf":[5,[6,null]],"right":[{"left":null,"leaf":[9,null],"right":[]}]}"#,
    );
    // As deep as the bytes say, but no deeper than is sane.
    let list = DynamicType::parse(&by_shape("L{next:Option<^L>}"));
    let two = list.decode(&[1, 0]).unwrap();
    assert_eq!(two.to_string(), r#"{"next":{"next":null}}"#);
    let endless = list.decode(&[1; 100_000]);
    assert!(matches!(endless, Err(StateError::Corrupt(_))));
    // A name that means nothing.
    let lost = DynamicType::parse(&by_shape("Option<^L>"));
    assert!(lost.decode(&[1, 0]).is_err());
}

mod before {
    #[derive(serde::Serialize, serde::Deserialize)]
    pub struct Account {
        pub owner: String,
        pub cents: u32,
        pub gone: Option<bool>,
    }
}

mod after {
    #[derive(serde::Serialize, serde::Deserialize)]
    pub struct Account {
        pub cents: i64,
        #[serde(default)]
        pub blocked: bool,
        pub owner: Option<String>,
    }
}

/// A state whose type has changed holds values of both forms; what was said of it last holds for both.
#[test]
fn old_self_describing_values_look_like_new_ones() {
    let old = Tagged::<before::Account>::default();
    let mut bytes = Vec::new();
    let value = before::Account {
        owner: "ada".into(),
        cents: 5,
        gone: Some(true),
    };
    old.serialize(&value, &mut bytes).unwrap();
    let new = Tagged::<after::Account>::default();
    let new = new.restored(&old.snapshot()).unwrap();
    let kind = DynamicType::parse(&new.snapshot());
    let read = kind.decode(&bytes).unwrap();
    assert_eq!(
        read.to_string(),
        r#"{"cents":5,"blocked":null,"owner":"ada","gone":true}"#
    );
    assert_eq!(read.field("cents"), Some(&DynamicValue::Int(5)));
    let value = after::Account {
        cents: -1,
        blocked: false,
        owner: None,
    };
    written(&new, &value, r#"{"cents":-1,"blocked":false,"owner":null}"#);
}

mod short {
    #[derive(serde::Serialize, serde::Deserialize)]
    pub struct Node {
        pub n: u8,
        pub next: Option<Box<Node>>,
    }
}

mod long {
    #[derive(serde::Serialize, serde::Deserialize)]
    pub struct Node {
        pub n: i64,
        #[serde(default)]
        pub tag: Option<String>,
        pub next: Option<Box<Node>>,
    }
}

/// Within a type that contains itself, values stayed as they were found.
#[test]
fn old_values_look_like_new_ones_however_deep_they_lie() {
    let old = Tagged::<short::Node>::default();
    let inner = short::Node { n: 2, next: None };
    let value = short::Node {
        n: 1,
        next: Some(Box::new(inner)),
    };
    let mut bytes = Vec::new();
    old.serialize(&value, &mut bytes).unwrap();
    let new = Tagged::<long::Node>::default();
    let new = new.restored(&old.snapshot()).unwrap();
    let kind = DynamicType::parse(&new.snapshot());
    let read = kind.decode(&bytes).unwrap();
    assert_eq!(
        read.to_string(),
        r#"{"n":1,"tag":null,"next":{"n":2,"tag":null,"next":null}}"#
    );
    let within = read.field("next").and_then(|next| next.field("n"));
    assert_eq!(within, Some(&DynamicValue::Int(2)));
}

/// It took the product of both numbers: hours.
#[test]
fn fields_that_have_all_changed_places_take_no_time() {
    let name = |at: usize| -> std::sync::Arc<str> { format!("field-{at}").into() };
    let fields = (0..1usize << 14).map(|at| crate::dynamic::Field {
        name: name(at),
        kind: LogicalType::I64,
    });
    let kind = LogicalType::Struct {
        name: "S".into(),
        fields: fields.collect(),
    };
    let found = (0..1usize << 18).rev();
    let found = found.map(|at| (name(at), DynamicValue::UInt(at as u64)));
    let value = conform(&kind, DynamicValue::Struct(found.collect()));
    let DynamicValue::Struct(fields) = value else {
        panic!("it is no struct any more");
    };
    assert_eq!(fields.len(), 1 << 18);
    assert_eq!(fields[77], (name(77), DynamicValue::Int(77)));
    // The others come after them, as they were found.
    assert_eq!(fields[1 << 14].0, name((1 << 18) - 1));
    // A type that is made of nothing but itself.
    let kind = LogicalType::Named {
        name: "L".into(),
        inner: Box::new(LogicalType::Again("L".into())),
    };
    assert_eq!(conform(&kind, DynamicValue::Int(1)), DynamicValue::Int(1));
}

#[test]
fn bare_and_nullable_values_are_read() {
    #[track_caller]
    fn plain<T: PlainValue>(value: &T, shown: &str) {
        let serializer = Plain::<T>::default();
        let mut bytes = Vec::new();
        serializer.serialize(value, &mut bytes).unwrap();
        let kind = DynamicType::parse(&serializer.snapshot());
        assert_eq!(kind.decode(&bytes).unwrap().to_string(), shown, "{kind}");
    }
    plain(&i64::MIN, "-9223372036854775808");
    plain(&u8::MAX, "255");
    plain(&u128::MAX, "340282366920938463463374607431768211455");
    plain(&f32::INFINITY, "\"Infinity\"");
    plain(&true, "true");
    plain(&"ü".to_owned(), "\"ü\"");
    plain(&vec![1u8], "\"0x01\"");
    let kind = DynamicType::parse(&Plain::<u16>::default().snapshot());
    for wrong in [&[1u8][..], &[1, 2, 3]] {
        assert!(matches!(kind.decode(wrong), Err(StateError::Corrupt(_))));
    }
    let nullable = Nullable::new(Plain::<i32>::default());
    let kind = DynamicType::parse(&nullable.snapshot());
    assert_eq!(kind.to_string(), "Option<i32>");
    for (value, shown) in [(None, "null"), (Some(-5), "-5")] {
        let mut bytes = Vec::new();
        nullable.serialize(&value, &mut bytes).unwrap();
        assert_eq!(kind.decode(&bytes).unwrap().to_string(), shown);
    }
    for wrong in [&[][..], &[2], &[0, 0], &[1, 0]] {
        assert!(kind.decode(wrong).is_err(), "{wrong:?}");
    }
    let nullable = Nullable::new(Postcard::<Limit>::default());
    written(&nullable, &Some(Limit::None), "\"None\"");
    // What is within is not understood, so all of it is not.
    let mut payload = Vec::new();
    SerializerSnapshot::opaque("mine").encode(&mut payload);
    let snapshot = SerializerSnapshot {
        encoding: "nullable-1".into(),
        version: 1,
        payload,
    };
    assert!(!DynamicType::parse(&snapshot).is_understood());
}

/// Two schemas: columns were added, and one became wider.
pub(super) fn arrow_rows() -> SerializerSnapshot {
    let schemas: [&[(&str, &str)]; 2] = [
        &[("id", "Int32"), ("gone", "Utf8")],
        &[
            ("id", "Int64"),
            ("price", "Decimal128(10,2)"),
            ("at", "Timestamp(ms,UTC)"),
            ("ok", "Boolean"),
            ("bytes", "Binary"),
            ("ratio", "Float32"),
        ],
    ];
    let mut payload = Vec::new();
    put_u64(&mut payload, schemas.len() as u64);
    for columns in schemas {
        put_u64(&mut payload, columns.len() as u64);
        for (name, kind) in columns {
            put_bytes(&mut payload, name.as_bytes());
            put_bytes(&mut payload, kind.as_bytes());
            payload.push(1);
        }
    }
    SerializerSnapshot {
        encoding: "arrow-row-1".into(),
        version: 1,
        payload,
    }
}

#[test]
fn rows_of_columns_are_read_by_their_own_schema() {
    let kind = DynamicType::parse(&arrow_rows());
    assert!(kind.is_understood(), "{kind}");
    let new = [
        &[1, 0b10_0000][..],
        &(-5i64).to_le_bytes(),
        &(-12_345i128).to_le_bytes(),
        &1_700_000_000_000i64.to_le_bytes(),
        &[1, 2, 0xab, 0xcd],
    ]
    .concat();
    assert_eq!(
        kind.decode(&new).unwrap().to_string(),
        r#"{"id":-5,"price":"-123.45","at":"2023-11-14T22:13:20Z","ok":true,"bytes":"0xabcd","ratio":null}"#
    );
    let old = [&[0, 0][..], &7i32.to_le_bytes(), &[2, b'h', b'i']].concat();
    assert_eq!(
        kind.decode(&old).unwrap().to_string(),
        r#"{"id":7,"price":null,"at":null,"ok":null,"bytes":null,"ratio":null,"gone":"hi"}"#
    );
    for cut in 0..new.len() {
        assert!(kind.decode(&new[..cut]).is_err(), "cut at {cut}");
    }
    assert!(kind.decode(&[2, 0]).is_err(), "there are two schemas");
    for (number, scale, text) in [
        (0, 2, "0"),
        (5, 2, "0.05"),
        (-5, 0, "-5"),
        (123, 3, "0.123"),
        (12, -2, "1200"),
        (i128::MIN, 38, "-1.70141183460469231731687303715884105728"),
    ] {
        assert_eq!(decimal(number, scale), text);
    }
}

/// Whatever a forged checkpoint says of types: they are understood, or bytes.
#[test]
fn hostile_descriptions_are_bytes() {
    let mut random = aquifer_testkit::Rng::new(3);
    for snapshot in [
        Tagged::<Account>::default().snapshot(),
        Postcard::<Account>::default().snapshot(),
        arrow_rows(),
    ] {
        assert!(DynamicType::parse(&snapshot).is_understood());
        for _ in 0..3000 {
            let mut forged = snapshot.clone();
            for _ in 0..=random.below(3) {
                let len = forged.payload.len() as u64;
                let at = random.below(len.max(1)) as usize;
                match forged.payload.get_mut(at) {
                    Some(byte) if random.below(3) > 0 => *byte = random.below(256) as u8,
                    _ => forged.payload.truncate(at),
                }
            }
            let kind = DynamicType::parse(&forged);
            let _ = kind.decode(&[1, 2, 3, 4, 5, 6, 7, 8, 9]);
        }
    }
}
