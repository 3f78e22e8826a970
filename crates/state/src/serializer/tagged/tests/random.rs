//! Random values of random types, beside serde_json.

use serde::ser::{
    SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleVariant,
};
use serde_json::Value;

use super::*;

/// A value of a type that is made up, as serde sees it.
#[derive(Clone, Debug)]
enum Any {
    Bool(bool),
    I8(i8),
    I64(i64),
    U8(u8),
    U64(u64),
    F64(f64),
    Char(char),
    Text(String),
    Unit,
    None,
    Some(Box<Any>),
    Newtype(Box<Any>),
    List(Vec<Any>),
    /// Its length is not told beforehand.
    Stream(Vec<Any>),
    Tuple(Vec<Any>),
    Map(Vec<(String, Any)>),
    Struct(Vec<(&'static str, Any)>),
    UnitVariant(&'static str),
    NewtypeVariant(&'static str, Box<Any>),
    TupleVariant(&'static str, Vec<Any>),
    StructVariant(&'static str, Vec<(&'static str, Any)>),
}

impl Serialize for Any {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Bool(value) => s.serialize_bool(*value),
            Self::I8(value) => s.serialize_i8(*value),
            Self::I64(value) => s.serialize_i64(*value),
            Self::U8(value) => s.serialize_u8(*value),
            Self::U64(value) => s.serialize_u64(*value),
            Self::F64(value) => s.serialize_f64(*value),
            Self::Char(value) => s.serialize_char(*value),
            Self::Text(value) => s.serialize_str(value),
            Self::Unit => s.serialize_unit(),
            Self::None => s.serialize_none(),
            Self::Some(value) => s.serialize_some(value),
            Self::Newtype(value) => s.serialize_newtype_struct("N", value),
            Self::List(values) => s.collect_seq(values),
            Self::Stream(values) => {
                let mut seq = s.serialize_seq(None)?;
                for value in values {
                    seq.serialize_element(value)?;
                }
                seq.end()
            }
            Self::Tuple(values) => {
                let mut tuple = s.serialize_tuple(values.len())?;
                for value in values {
                    tuple.serialize_element(value)?;
                }
                tuple.end()
            }
            Self::Map(entries) => {
                let mut map = s.serialize_map(Some(entries.len()))?;
                for (key, value) in entries {
                    map.serialize_entry(key, value)?;
                }
                map.end()
            }
            Self::Struct(fields) => {
                let mut fields_out = s.serialize_struct("S", fields.len())?;
                for (name, value) in fields {
                    fields_out.serialize_field(name, value)?;
                }
                fields_out.end()
            }
            Self::UnitVariant(name) => s.serialize_unit_variant("E", 0, name),
            Self::NewtypeVariant(name, value) => s.serialize_newtype_variant("E", 0, name, value),
            Self::TupleVariant(name, values) => {
                let mut out = s.serialize_tuple_variant("E", 0, name, values.len())?;
                for value in values {
                    out.serialize_field(value)?;
                }
                out.end()
            }
            Self::StructVariant(name, fields) => {
                let mut out = s.serialize_struct_variant("E", 0, name, fields.len())?;
                for (name, value) in fields {
                    out.serialize_field(name, value)?;
                }
                out.end()
            }
        }
    }
}

const NAMES: [&str; 6] = [
    "a",
    "id",
    "owner",
    "größe",
    "a_rather_long_name_of_a_field",
    "",
];

fn random(rng: &mut Rng, depth: u64) -> Any {
    // Leaves only at the bottom.
    match rng.below(if depth == 0 { 10 } else { 21 }) {
        0 => Any::Bool(rng.chance(500)),
        1 => Any::I8(rng.next_u64() as i8),
        2 => Any::I64(rng.next_u64() as i64 >> rng.below(64)),
        3 => Any::U8(rng.next_u64() as u8),
        4 => Any::U64(rng.next_u64() >> rng.below(64)),
        5 => Any::F64(rng.next_u64() as i32 as f64 / 8.0),
        6 => Any::Char(char::from_u32(rng.below(0xd800) as u32).unwrap_or('x')),
        7 => Any::Text("tü".repeat(rng.below(30) as usize)),
        8 => Any::Unit,
        9 => Any::None,
        10 => Any::Some(Box::new(random(rng, depth - 1))),
        11 => Any::Newtype(Box::new(random(rng, depth - 1))),
        12 => Any::List(some(rng, depth)),
        13 => Any::Stream(some(rng, depth)),
        14 => Any::Tuple(some(rng, depth)),
        15 => {
            let entries = some(rng, depth).into_iter().enumerate();
            Any::Map(
                entries
                    .map(|(i, value)| (format!("key {i}"), value))
                    .collect(),
            )
        }
        16 => Any::Struct(fields(rng, depth)),
        17 => Any::UnitVariant(NAMES[rng.below(6) as usize]),
        18 => Any::NewtypeVariant(
            NAMES[rng.below(6) as usize],
            Box::new(random(rng, depth - 1)),
        ),
        19 => Any::TupleVariant(NAMES[rng.below(6) as usize], some(rng, depth)),
        _ => Any::StructVariant(NAMES[rng.below(6) as usize], fields(rng, depth)),
    }
}

fn some(rng: &mut Rng, depth: u64) -> Vec<Any> {
    let count = if rng.chance(100) { 20 } else { rng.below(4) };
    (0..count).map(|_| random(rng, depth - 1)).collect()
}

fn fields(rng: &mut Rng, depth: u64) -> Vec<(&'static str, Any)> {
    let from = rng.below(6) as usize;
    let names = NAMES
        .into_iter()
        .cycle()
        .skip(from)
        .take(rng.below(7) as usize);
    names.map(|name| (name, random(rng, depth - 1))).collect()
}

#[test]
fn random_types_agree_with_json() {
    let mut rng = Rng::new(20_261_121);
    for round in 0..20_000 {
        let value = random(&mut rng, 4);
        // Some names are known, in any order.
        let mut dictionary = Dictionary::default();
        for name in NAMES.into_iter().cycle().skip(round % 6).take(round % 5) {
            dictionary.add(name);
        }
        let mut bytes = Vec::new();
        write::write(&value, &dictionary, &mut bytes).unwrap();
        let read: Value = read::read(&bytes, &dictionary)
            .unwrap_or_else(|error| panic!("round {round}: {error}: {value:?}"));
        assert_eq!(
            read,
            serde_json::to_value(&value).unwrap(),
            "round {round}: {value:?}"
        );
        // What a type does not know is passed over.
        read::read::<serde::de::IgnoredAny>(&bytes, &dictionary).unwrap();
        // A byte less is an error, whatever it was.
        if let Some((_, cut)) = bytes.split_last() {
            assert!(
                read::read::<Value>(cut, &dictionary).is_err(),
                "round {round}: {value:?}"
            );
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Everything {
    a: Option<Option<Option<i8>>>,
    b: BTreeMap<(u8, String), Vec<Limit>>,
    c: (i128, u128, f32),
    d: Box<Option<Everything>>,
    e: Result<char, [u16; 3]>,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    f: Vec<()>,
    #[serde(flatten)]
    g: BTreeMap<String, i32>,
    h: Adjacent,
    i: Internal,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "t", content = "c")]
enum Adjacent {
    A,
    B(u8),
    C { x: i64 },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind")]
enum Internal {
    A,
    C { x: Option<i64>, l: Limit },
}

fn everything(rng: &mut Rng, depth: u32) -> Everything {
    let any = |rng: &mut Rng| rng.next_u64() as i64 >> rng.below(64);
    let limit = |rng: &mut Rng| match rng.below(4) {
        0 => Limit::None,
        1 => Limit::Daily(rng.next_u64() as u32),
        2 => Limit::Both {
            daily: rng.below(9) as u32,
            weekly: rng.next_u64() as u16,
        },
        _ => Limit::Pair(rng.next_u64() as u8, rng.chance(500).then_some(-3)),
    };
    let wide = |rng: &mut Rng| (i128::from(any(rng)) << 64) >> rng.below(128);
    Everything {
        a: match rng.below(4) {
            0 => None,
            1 => Some(None),
            2 => Some(Some(None)),
            _ => Some(Some(Some(any(rng) as i8))),
        },
        b: (0..rng.below(20))
            .map(|i| {
                (
                    (i as u8, format!("{}", any(rng))),
                    (0..rng.below(4)).map(|_| limit(rng)).collect(),
                )
            })
            .collect(),
        c: (wide(rng), wide(rng) as u128, any(rng) as f32),
        d: Box::new((depth > 0).then(|| everything(rng, depth - 1))),
        e: match rng.chance(500) {
            true => Ok('\u{1f600}'),
            false => Err([any(rng) as u16, 0, u16::MAX]),
        },
        f: vec![(); rng.below(3) as usize],
        g: (0..rng.below(3))
            .map(|i| (format!("flat{i}"), any(rng) as i32))
            .collect(),
        h: match rng.below(3) {
            0 => Adjacent::A,
            1 => Adjacent::B(any(rng) as u8),
            _ => Adjacent::C { x: any(rng) },
        },
        i: match rng.chance(500) {
            true => Internal::A,
            false => Internal::C {
                x: rng.chance(500).then(|| any(rng)),
                l: limit(rng),
            },
        },
    }
}

#[test]
fn everything_that_serde_derives_comes_back() {
    let tagged = Tagged::<Everything>::default();
    let mut rng = Rng::new(7);
    for round in 0..2000 {
        let value = everything(&mut rng, 2);
        let bytes = written(&tagged, &value);
        assert_eq!(tagged.deserialize(&bytes).unwrap(), value, "round {round}");
    }
    // The type says what it is only while it is read: its names stand in line, and its name decides.
    assert!(tagged.form.traced.is_none());
    assert_eq!(
        tagged.compatibility(&tagged.snapshot()),
        Compatibility::AsIs
    );
    let other = Tagged::<serde_json::Value>::default();
    match other.compatibility(&tagged.snapshot()) {
        Compatibility::Incompatible(why) => assert!(why.contains("`Everything`"), "{why}"),
        verdict => panic!("{verdict:?}"),
    }
}
