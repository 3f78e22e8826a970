//! Values come back, agree with JSON, survive changes of their type; hostile bytes are errors.

mod evolution;
mod random;

use std::collections::BTreeMap;

use aquifer_testkit::Rng;
use serde::Deserialize;

use super::*;

fn written<T: Serialize + DeserializeOwned + 'static>(tagged: &Tagged<T>, value: &T) -> Vec<u8> {
    let mut bytes = b"kept".to_vec();
    tagged.serialize(value, &mut bytes).unwrap();
    bytes.split_off(4)
}

fn check<T>(value: T, expected: &[u8])
where
    T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug + 'static,
{
    let tagged = Tagged::<T>::default();
    let bytes = written(&tagged, &value);
    assert_eq!(bytes, expected, "{value:?}");
    assert_eq!(tagged.deserialize(&bytes).unwrap(), value);
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Limit {
    None,
    Daily(u32),
    Both { daily: u32, weekly: u16 },
    Pair(u8, Option<i8>),
}

#[test]
fn bytes_are_as_the_format_says() {
    check(63u8, &[63]);
    check(64u64, &[0xd5, 64]);
    check(255u16, &[0xd5, 255]);
    check(256u32, &[0xd6, 0x80, 2]);
    check(-1i8, &[0xc0]);
    check(-16i64, &[0xcf]);
    check(-17i32, &[0xd7, 16]);
    check(
        i64::MIN,
        &[0xd7, 255, 255, 255, 255, 255, 255, 255, 255, 0x7f],
    );
    check(1.0f32, &[0xd8, 0, 0, 0x80, 0x3f]);
    check(1.0f64, &[0xd9, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f]);
    check('ü', &[0xda, 0xfc, 1]);
    check(true, &[0xd4]);
    check((), &[0xd2]);
    check("ab".to_owned(), &[0x42, b'a', b'b']);
    check("x".repeat(32), &[&[0xdb, 32][..], &[b'x'; 32]].concat());
    check(vec![1u8, 2], &[0x72, 1, 2]);
    check(vec![1u8; 16], &[&[0xde, 16][..], &[1; 16]].concat());
    check((1u8, false), &[0x72, 1, 0xd3]);
    check(BTreeMap::from([(1u8, 2u8)]), &[0x81, 1, 2]);
    check(None::<u8>, &[0xd0]);
    check(Some(1u8), &[1]);
    check(Some(None::<u8>), &[0xd1, 0xd0]);
    check(Some(Some(None::<u8>)), &[0xd1, 0xd1, 0xd0]);
    check(None::<Option<Option<u8>>>, &[0xd0]);
    check(Some(Some(Some(1u8))), &[1]);
    check(Some(()), &[0xd2]);
    check(Limit::None, &[0x90]);
    check(Limit::Daily(5), &[0xa9, 5]);
    // Names of variants come first in the dictionary: daily is the fifth.
    check(
        Limit::Both {
            daily: 1,
            weekly: 2,
        },
        &[0xaa, 0x62, 5, 1, 6, 2],
    );
    check(Limit::Pair(1, Some(-2)), &[0xab, 0x72, 1, 0xc1]);
    check(u128::MAX, &[&[0xd6][..], &[255; 18], &[3]].concat());
    check(i128::MIN, &[&[0xd7][..], &[255; 18], &[1]].concat());
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Typical {
    user_id: u64,
    name: String,
    country: String,
    opened_at_ms: i64,
    balance_cents: i64,
    visits: u32,
    is_blocked: bool,
    last_seen_ms: Option<i64>,
    tags: Vec<String>,
    limit: Limit,
    score: f64,
}

fn typical() -> Typical {
    Typical {
        user_id: 48_201_773,
        name: "Grace Hopper".into(),
        country: "US".into(),
        opened_at_ms: 1_700_000_000_000,
        balance_cents: -15_075,
        visits: 412,
        is_blocked: false,
        last_seen_ms: Some(1_763_000_000_000),
        tags: vec!["navy".into(), "compiler".into()],
        limit: Limit::Both {
            daily: 50_000,
            weekly: 20_000,
        },
        score: 0.75,
    }
}

#[test]
fn values_are_not_much_larger_than_positional_ones() {
    use crate::serializer::Postcard;
    fn sizes<T: Serialize + DeserializeOwned + 'static>(what: &str, value: &T) -> (usize, usize) {
        let tagged = written(&Tagged::<T>::default(), value).len();
        let mut postcard = Vec::new();
        Postcard::<T>::default()
            .serialize(value, &mut postcard)
            .unwrap();
        println!("{what}: postcard {} bytes, tagged {tagged}", postcard.len());
        (postcard.len(), tagged)
    }
    let (postcard, tagged) = sizes("a typical struct", &typical());
    assert!(
        tagged * 10 <= postcard * 16,
        "{tagged} against {postcard} bytes"
    );
    let (postcard, tagged) = sizes("a hundred of them", &vec![typical(); 100]);
    assert!(
        tagged * 10 <= postcard * 16,
        "{tagged} against {postcard} bytes"
    );
    sizes("a number", &1_700_000_000_000u64);
    sizes("a text", &"Grace Hopper".to_owned());
    sizes("five small fields", &(1u8, 2u8, 3u8, 4u8, 5u8));
}

#[test]
fn a_value_that_cannot_be_written_leaves_no_bytes() {
    struct Odd;
    impl Serialize for Odd {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            use serde::ser::SerializeSeq;
            let mut seq = serializer.serialize_seq(Some(2))?;
            seq.serialize_element(&1u8)?;
            seq.end()
        }
    }
    impl<'de> Deserialize<'de> for Odd {
        fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
            u8::deserialize(d).map(|_| Self)
        }
    }
    let mut out = b"kept".to_vec();
    let error = Tagged::<Odd>::default()
        .serialize(&Odd, &mut out)
        .unwrap_err();
    assert!(
        matches!(&error, StateError::Usage(text) if text.contains("announced 2")),
        "{error}"
    );
    assert_eq!(out, b"kept");
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Nest(Vec<Nest>);

#[test]
fn depth_is_bounded_on_both_ways() {
    let nest = |depth: usize| (1..depth).fold(Nest(vec![]), |inner, _| Nest(vec![inner]));
    let tagged = Tagged::<Nest>::default();
    let deep = nest(128);
    let bytes = written(&tagged, &deep);
    assert_eq!(tagged.deserialize(&bytes).unwrap(), deep);
    let mut out = Vec::new();
    assert!(matches!(
        tagged.serialize(&nest(129), &mut out),
        Err(StateError::Usage(_))
    ));
    let hostile = [0x71].repeat(1 << 20);
    assert!(matches!(
        tagged.deserialize(&hostile),
        Err(StateError::Corrupt(_))
    ));
    let anything = Tagged::<serde_json::Value>::default();
    for tag in [0x71, 0xd1, 0x81, 0xa8] {
        assert!(anything.deserialize(&[tag].repeat(1 << 20)).is_err());
    }
}

#[test]
fn hostile_bytes_are_errors() {
    let tagged = Tagged::<Vec<Typical>>::default();
    let good = written(&tagged, &vec![typical(), typical()]);
    for end in 0..good.len() {
        assert!(tagged.deserialize(&good[..end]).is_err(), "cut at {end}");
    }
    assert!(tagged.deserialize(&[&good[..], &[0]].concat()).is_err());
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        // Often another value, never a panic.
        drop(tagged.deserialize(&bad));
    }
    let mut rng = Rng::new(4);
    let anything = Tagged::<serde_json::Value>::default();
    for _ in 0..20_000 {
        let bytes: Vec<u8> = (0..rng.below(24)).map(|_| rng.next_u64() as u8).collect();
        drop(tagged.deserialize(&bytes));
        drop(anything.deserialize(&bytes));
    }
    // Lengths that promise more than there is.
    for tag in [0xdb, 0xdc, 0xdd, 0xde, 0xdf] {
        let bytes = [tag, 0xff, 0xff, 0xff, 0xff, 0x0f];
        let error = anything.deserialize(&bytes).unwrap_err();
        assert!(error.to_string().contains("announced"), "{error}");
    }
    // More parts than the type has.
    assert!(
        Tagged::<(u8, u8)>::default()
            .deserialize(&[0x73, 1, 2, 3])
            .is_err()
    );
    assert!(
        Tagged::<u64>::default()
            .deserialize(&[0xd6].repeat(30))
            .is_err()
    );
    for bytes in [&[0xe2][..], &[0xff], &[]] {
        assert!(anything.deserialize(bytes).is_err());
    }
}

#[test]
fn snapshots_are_hostile_safe() {
    let tagged = Tagged::<Typical>::default();
    let snapshot = tagged.snapshot();
    assert_eq!(tagged.compatibility(&snapshot), Compatibility::AsIs);
    assert!(
        snapshot
            .describe()
            .starts_with("tagged-1:Typical{user_id:u64,")
    );
    let payload = &snapshot.payload;
    let changed = |payload: Vec<u8>| SerializerSnapshot {
        payload,
        ..snapshot.clone()
    };
    for end in 0..payload.len() {
        let cut = changed(payload[..end].to_vec());
        assert!(matches!(
            tagged.compatibility(&cut),
            Compatibility::Incompatible(_)
        ));
        assert!(tagged.clone().restored(&cut).is_err());
    }
    for at in 0..payload.len() {
        let mut bad = payload.clone();
        bad[at] ^= 0x81;
        let bad = changed(bad);
        assert_ne!(tagged.compatibility(&bad), Compatibility::AsIs);
        drop(tagged.clone().restored(&bad));
    }
}
