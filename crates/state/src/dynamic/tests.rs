//! Values come out as they went in, JSON is JSON, and hostile bytes are errors.

mod columns;
mod described;

use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;

use self::described::{Account, arrow_rows};
use super::*;
use crate::key_group::{KeyHash, assign_to_key_group};
use crate::ordered::{OrderedKey, encode_ordered};
use crate::serializer::{Postcard, Serializer, Tagged};

fn key_type<K: OrderedKey>() -> DynamicType {
    DynamicType::parse_key(&SerializerSnapshot::opaque(K::type_name()))
}

/// A key is shown, typed in and encoded as expected, and lies in the key group in which its program has it.
#[track_caller]
fn key<K: OrderedKey + KeyHash + Debug>(key: K, shown: &str) {
    let kind = key_type::<K>();
    assert!(kind.is_understood(), "{kind}");
    let bytes = encode_ordered(&key);
    let value = kind.decode(&bytes).unwrap();
    assert_eq!(value.to_string(), shown);
    assert_eq!(kind.encode_key(&value).unwrap(), bytes, "{key:?}");
    let group = assign_to_key_group(key.hash_code(), 128);
    assert_eq!(kind.key_group(&value, 128), Some(group), "{key:?}");
    // A text is typed as it is, others as they are shown.
    let typed = match &value {
        DynamicValue::String(text) => text.clone(),
        DynamicValue::Bytes(_) => shown.trim_matches('"').to_owned(),
        _ => shown.to_owned(),
    };
    let typed = kind.parse_text(&typed).unwrap();
    assert_eq!(kind.encode_key(&typed).unwrap(), bytes, "{key:?}");
    for cut in 0..bytes.len() {
        let part = kind.decode(&bytes[..cut]);
        assert!(
            matches!(part, Err(StateError::Corrupt(_))),
            "{key:?} cut at {cut}"
        );
    }
    let longer = [&bytes[..], &[0]].concat();
    assert!(kind.decode(&longer).is_err(), "{key:?}");
}

#[test]
fn keys_of_every_type_are_understood() {
    key(true, "true");
    key(i8::MIN, "-128");
    key(-5i16, "-5");
    key(i32::MAX, "2147483647");
    key(i64::MIN, "-9223372036854775808");
    key(7u8, "7");
    key(u16::MAX, "65535");
    key(u32::MAX, "4294967295");
    key(u64::MAX, "18446744073709551615");
    key(-0.5f32, "-0.5");
    key(f32::MAX, "3.4028235e38");
    key(1.0f64, "1.0");
    key(f64::NAN, "\"NaN\"");
    key(f64::NEG_INFINITY, "\"-Infinity\"");
    key(String::new(), "\"\"");
    key("ü\0\n\"".to_owned(), r#""ü\u0000\n\"""#);
    key(vec![0u8, 255, 1], "\"0x00ff01\"");
    key(None::<i32>, "null");
    key(Some(3i32), "3");
    key((), "null");
    key(("ada \"l\"\\".to_owned(), 7u64), r#"["ada \"l\"\\",7]"#);
    key(
        (Some("x".to_owned()), None::<Vec<u8>>, (1u8,)),
        "[\"x\",null,[1]]",
    );
    key((vec![1u8], -1.5f64), "[\"0x01\",-1.5]");
}

/// A text `null` could not be asked for.
#[test]
fn a_key_that_may_be_null_may_be_the_text_null() {
    let kind = key_type::<Option<String>>();
    for (typed, shown) in [
        ("null", "null"),
        ("\"null\"", "\"null\""),
        ("ada", "\"ada\""),
        ("\"ada \\\"l\\\"\"", "\"ada \\\"l\\\"\""),
        ("\"ada", "\"\\\"ada\""),
    ] {
        assert_eq!(
            kind.parse_text(typed).unwrap().to_string(),
            shown,
            "{typed}"
        );
    }
    let error = DynamicType::bytes("mine").parse_text("7").unwrap_err();
    assert_eq!(
        error.to_string(),
        "expected bytes as 0x and pairs of hexadecimal digits, found `7`"
    );
}

#[test]
fn numbers_of_128_bits_are_keys_without_a_key_group() {
    let kind = key_type::<(u128, i128)>();
    let bytes = encode_ordered(&(u128::MAX, i128::MIN));
    let value = kind.decode(&bytes).unwrap();
    assert_eq!(
        value.to_string(),
        "[340282366920938463463374607431768211455,-170141183460469231731687303715884105728]"
    );
    assert_eq!(kind.encode_key(&value).unwrap(), bytes);
    assert_eq!(kind.key_group(&value, 128), None);
}

#[test]
fn what_is_no_key_of_the_type_is_refused() {
    for (kind, texts) in [
        (key_type::<u8>(), &["", "256", "-1", "x", "1 2", "1.0"][..]),
        (key_type::<bool>(), &["TRUE", "1", ""]),
        (
            key_type::<(String, i32)>(),
            &[
                "ada",
                "[\"ada\"]",
                "[\"ada\",1,2]",
                "[\"ada\",\"1\"]",
                "[\"ada\",1] x",
                "[\"a\\x\",1]",
                "[\"\\ud800\",1]",
            ],
        ),
        (key_type::<Vec<u8>>(), &["ff", "0xf", "0xfg", "0x+f"]),
        (key_type::<Option<i32>>(), &["none", ""]),
    ] {
        for text in texts {
            let error = kind.parse_text(text).unwrap_err();
            assert!(matches!(error, StateError::Usage(_)), "{error}");
            assert!(error.to_string().contains(&kind.to_string()), "{error}");
        }
    }
    let kind = key_type::<u8>();
    for value in [
        DynamicValue::UInt(256),
        DynamicValue::Int(-1),
        DynamicValue::Null,
    ] {
        assert!(kind.encode_key(&value).is_err(), "{value:?}");
    }
    // Whole numbers of another width that fit will do.
    assert_eq!(kind.encode_key(&DynamicValue::Int(255)).unwrap(), [255]);
    let text = key_type::<(String, i32)>()
        .parse_text(" [ \"\\u00fc\\ud83d\\ude00\\/\" , -1 ] ")
        .unwrap();
    assert_eq!(text.to_string(), "[\"ü😀/\",-1]");
}

#[test]
fn types_that_are_not_known_are_bytes() {
    for name in [
        "my::Key",
        "Option<Mine>",
        "(u8, ",
        "(u8,, u8)",
        "Vec<u8>",
        "u8 ",
        "char",
        "(u8,)",
    ] {
        let kind = DynamicType::parse_key(&SerializerSnapshot::opaque(name));
        assert!(!kind.is_understood(), "{name}");
        assert_eq!(kind.to_string(), format!("bytes of {name}"));
        assert_eq!(kind.decode(&[0, 0xab]).unwrap().to_string(), "\"0x00ab\"");
    }
    let deep = format!("{}u8{}", "(".repeat(10_000), ")".repeat(10_000));
    assert!(!DynamicType::parse_key(&SerializerSnapshot::opaque(deep)).is_understood());
    let not_text = SerializerSnapshot {
        payload: vec![0xff],
        ..SerializerSnapshot::opaque("")
    };
    assert!(!DynamicType::parse(&not_text).is_understood());
    assert!(!DynamicType::parse(&SerializerSnapshot::raw()).is_understood());
    let void = DynamicType::parse_key(&SerializerSnapshot::void());
    assert!(void.is_void());
    assert_eq!(void.decode(&[]).unwrap(), DynamicValue::Null);
    assert!(void.decode(&[1]).is_err());
}

/// What `Postcard` says of a type of this shape.
fn by_shape(shape: &str) -> SerializerSnapshot {
    SerializerSnapshot {
        encoding: "postcard-1".into(),
        version: 1,
        payload: shape.into(),
    }
}

/// A value is shown as expected, by whatever form it was written.
#[track_caller]
fn value<T>(value: &T, shown: &str)
where
    T: Serialize + DeserializeOwned + 'static,
{
    written(&Postcard::<T>::default(), value, shown);
    written(&Tagged::<T>::default(), value, shown);
}

/// A value is shown as expected, and none of its prefixes passes for a value.
#[track_caller]
fn written<T>(serializer: &impl Serializer<T>, value: &T, shown: &str) {
    let mut bytes = Vec::new();
    serializer.serialize(value, &mut bytes).unwrap();
    let kind = DynamicType::parse(&serializer.snapshot());
    assert!(kind.is_understood(), "{kind}");
    assert_eq!(kind.decode(&bytes).unwrap().to_string(), shown, "{kind}");
    for cut in 0..bytes.len() {
        let part = kind.decode(&bytes[..cut]);
        assert!(
            matches!(part, Err(StateError::Corrupt(_))),
            "{kind} cut at {cut}: {part:?}"
        );
    }
    let longer = [&bytes[..], &[0]].concat();
    assert!(
        matches!(kind.decode(&longer), Err(StateError::Corrupt(_))),
        "{kind}"
    );
}

#[test]
fn positional_values_are_read() {
    value(&false, "false");
    value(&i8::MIN, "-128");
    value(&i16::MIN, "-32768");
    value(&i32::MIN, "-2147483648");
    value(&i64::MIN, "-9223372036854775808");
    value(&i64::MAX, "9223372036854775807");
    value(&i128::MIN, "-170141183460469231731687303715884105728");
    value(&u64::MAX, "18446744073709551615");
    value(&u128::MAX, "340282366920938463463374607431768211455");
    value(&f32::NAN, "\"NaN\"");
    value(&0.1f32, "0.1");
    value(&f64::INFINITY, "\"Infinity\"");
    value(&1e300f64, "1e300");
    value(&'ü', "\"ü\"");
    value(&"a\u{2028}b".to_owned(), "\"a\\u2028b\"");
    value(&vec![1u8, 2], "\"0x0102\"");
    value(
        &(-5i64, Some("x".to_owned()), vec![1u32, 300]),
        "[-5,\"x\",[1,300]]",
    );
    value(&(None::<u8>, (), [7u16; 3]), "[null,null,[7,7,7]]");
    value(&vec![Some(vec![true]), None], "[[true],null]");
}

#[test]
fn hostile_bytes_are_errors() {
    let of = |shape: &str| DynamicType::parse(&by_shape(shape));
    for (name, bytes) in [
        ("bool", &[2u8][..]),
        ("Option<u8>", &[2, 0]),
        // Longer than what it is of, and wider.
        ("u16", &[0xff, 0xff, 0x04]),
        ("u16", &[0x80, 0x80, 0x80, 0x00]),
        ("u64", &[0xff; 11]),
        (
            "u64",
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02],
        ),
        ("char", &[2, b'a', b'b']),
        ("char", &[0]),
        ("str", &[2, 0xff, 0xff]),
        // Lengths that promise more than there is.
        ("str", &[0xff, 0xff, 0xff, 0xff, 0x0f]),
        (
            "[u8]",
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
        ),
        (
            "[u64]",
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
        ),
        // Elements without bytes: a length is all it takes.
        (
            "[()]",
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
        ),
        (
            "[[()]]",
            &[0x02, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff, 0x7f],
        ),
    ] {
        let kind = of(name);
        assert!(kind.is_understood(), "{name}");
        let read = kind.decode(bytes);
        assert!(
            matches!(read, Err(StateError::Corrupt(_))),
            "{name}: {read:?}"
        );
    }
    assert_eq!(
        of("[()]").decode(&[3]).unwrap().to_string(),
        "[null,null,null]"
    );
}

#[test]
fn random_bytes_never_panic() {
    let mut random = aquifer_testkit::Rng::new(7);
    let described = [Tagged::<Account>::default().snapshot(), arrow_rows()];
    let described = described.map(|snapshot| DynamicType::parse(&snapshot));
    let kinds = [
        "(i64,Option<str>,[(u8,f32)],E[A|B(u8)|C{x:()}])",
        "Tree{left:Option<^Tree>,n:[Option<u128>]}",
        "(bool,char,(i16,i16,i16),[u8],{str=>i8})",
    ];
    for round in 0..30_000 {
        let len = random.below(24) as usize;
        let bytes: Vec<u8> = (0..len)
            .map(|_| match random.below(3) {
                0 => random.below(4) as u8,
                _ => random.below(256) as u8,
            })
            .collect();
        let name = kinds[round % kinds.len()];
        let kind = DynamicType::parse(&by_shape(name));
        assert!(kind.is_understood(), "{name}");
        let _ = kind.decode(&bytes);
        for described in &described {
            let _ = described.decode(&bytes);
        }
        let key =
            DynamicType::parse_key(&SerializerSnapshot::opaque("(String, Option<i32>, bytes)"));
        if let Ok(value) = key.decode(&bytes) {
            assert_eq!(key.encode_key(&value).unwrap(), bytes);
        }
    }
}

#[test]
fn values_of_many_parts_are_json() {
    let name = |text: &str| std::sync::Arc::<str>::from(text);
    let value = DynamicValue::Struct(vec![
        (
            name("unit"),
            DynamicValue::Variant(name("None"), Box::new(DynamicValue::Null)),
        ),
        (
            name("one"),
            DynamicValue::Variant(name("Daily"), Box::new(DynamicValue::UInt(5))),
        ),
        (
            name("map"),
            DynamicValue::Map(vec![
                (DynamicValue::String("a".into()), DynamicValue::Bool(true)),
                (DynamicValue::Int(-1), DynamicValue::Null),
                (
                    DynamicValue::List(vec![DynamicValue::String("x".into())]),
                    DynamicValue::F64(0.5),
                ),
                (DynamicValue::Bytes(vec![1]), DynamicValue::List(vec![])),
            ]),
        ),
    ]);
    assert_eq!(
        value.to_string(),
        r#"{"unit":"None","one":{"Daily":5},"map":{"a":true,"-1":null,"[\"x\"]":0.5,"0x01":[]}}"#
    );
    assert_eq!(value.field("unit").unwrap().to_string(), "\"None\"");
    assert_eq!(value.field("two"), None);
}
