//! Values come back, other bytes do not pass, and verdicts compare shapes.

use super::*;
use serde::Deserialize;

#[test]
fn values_survive_and_other_bytes_do_not_pass() {
    type Value = (i64, Option<String>, Vec<u32>);
    let serializer = Postcard::<Value>::default();
    let value: Value = (-5, Some("ü".into()), vec![1, 2, 3]);
    let mut bytes = b"kept".to_vec();
    serializer.serialize(&value, &mut bytes).unwrap();
    let bytes = bytes.strip_prefix(b"kept").unwrap();
    assert_eq!(serializer.deserialize(bytes).unwrap(), value);
    for cut in 0..bytes.len() {
        assert!(matches!(
            serializer.deserialize(&bytes[..cut]),
            Err(StateError::Corrupt(_))
        ));
    }
    let longer = [bytes, &[0]].concat();
    assert!(matches!(
        serializer.deserialize(&longer),
        Err(StateError::Corrupt(_))
    ));
    // A length that promises more than there is must not be believed.
    let hostile = [0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f];
    assert!(serializer.deserialize(&hostile).is_err());
}

#[test]
fn a_value_that_cannot_be_written_leaves_no_bytes() {
    struct Odd;
    impl Serialize for Odd {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("this is odd"))
        }
    }
    impl<'de> Deserialize<'de> for Odd {
        fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
            Ok(Self)
        }
    }
    let mut bytes = b"kept".to_vec();
    let written = Postcard::<(u32, Odd)>::default().serialize(&(7, Odd), &mut bytes);
    assert!(matches!(written, Err(StateError::Usage(_))));
    assert_eq!(bytes, b"kept");
}

#[test]
fn layouts_name_types_without_their_paths() {
    assert_eq!(Postcard::<u64>::default().layout(), "postcard-1:u64");
    assert_eq!(
        Postcard::<(String, Option<Vec<i32>>)>::default().layout(),
        "postcard-1:(String, Option<Vec<i32>>)"
    );
    let limits = Postcard::<std::collections::BTreeMap<u8, Option<bool>>>::default().layout();
    let (name, digest) = limits.split_once('#').unwrap();
    assert_eq!(name, "postcard-1:BTreeMap<u8, Option<bool>>");
    assert_eq!(digest, format!("{:016x}", xxh3_64(b"{u8=>Option<bool>}")));
    assert_eq!(
        Postcard::<u64>::named("count-2").layout(),
        "postcard-1:count-2"
    );
    assert_eq!(
        short_type_name("a::B<c::d::E, &f::G, [h::I; 3]>"),
        "B<E, &G, [I; 3]>"
    );
}

fn verdict<Old, New>() -> Compatibility
where
    Old: Serialize + DeserializeOwned + 'static,
    New: Serialize + DeserializeOwned + 'static,
{
    Postcard::<New>::default().compatibility(&Postcard::<Old>::default().snapshot())
}

fn refused<Old, New>(text: &str)
where
    Old: Serialize + DeserializeOwned + 'static,
    New: Serialize + DeserializeOwned + 'static,
{
    match verdict::<Old, New>() {
        Compatibility::Incompatible(why) => assert!(why.contains(text), "{why}"),
        other => panic!("{other:?}, expected a refusal with {text:?}"),
    }
}

#[derive(Serialize, Deserialize)]
struct Account {
    owner: String,
    cents: u64,
}

#[test]
fn bytes_that_stay_the_same_go_on() {
    #[derive(Serialize, Deserialize)]
    struct Renamed {
        owner: Name,
        cents: u64,
    }
    #[derive(Serialize, Deserialize)]
    struct Name(String);
    #[derive(Serialize, Deserialize)]
    enum Two {
        A,
        B(u8),
    }
    #[derive(Serialize, Deserialize)]
    enum Three {
        A,
        B(u8),
        C,
    }
    assert_eq!(verdict::<Account, Account>(), Compatibility::AsIs);
    assert_eq!(verdict::<Account, Renamed>(), Compatibility::Reconfigured);
    assert_eq!(verdict::<Two, Three>(), Compatibility::Reconfigured);
    refused::<Three, Two>("variant `C`");
    refused::<Account, Two>("`Two[A|B(u8)]`");
}

#[test]
fn other_bytes_are_refused_with_the_difference() {
    #[derive(Serialize, Deserialize)]
    struct Wider {
        owner: String,
        cents: u128,
    }
    #[derive(Serialize, Deserialize)]
    struct Swapped {
        cents: u64,
        owner: String,
    }
    refused::<Account, Wider>("`cents` was `u64` and is now `u128`");
    refused::<Account, Swapped>("the fields owner, cents and now has cents, owner");
    refused::<Vec<(u8, Account)>, Vec<(u8, Wider)>>("`[].1.cents`");
    refused::<u32, u64>("`u32`");
    refused::<String, u64>("`str`");
    let named = |name: &str| Postcard::<Wider>::named(name);
    let old = Postcard::<Account>::named("a").snapshot();
    assert_eq!(named("a").compatibility(&old), Compatibility::Reconfigured);
    assert!(matches!(
        named("b").compatibility(&old),
        Compatibility::Incompatible(_)
    ));
    assert!(matches!(
        Postcard::<Account>::default().compatibility(&old),
        Compatibility::Incompatible(_)
    ));
}

#[test]
fn snapshots_hold_the_shape() {
    let snapshot = Postcard::<Account>::default().snapshot();
    assert_eq!(snapshot.payload, b"Account{owner:str,cents:u64}");
    let named = Postcard::<Account>::named("x").snapshot();
    assert_eq!(named.payload, b"x\0Account{owner:str,cents:u64}");
    assert_eq!((snapshot.version, named.version), (1, 2));
    // Without a shape the name decides.
    let opaque = Postcard::<serde_json_like::Any>::default().snapshot();
    assert_eq!(opaque, SerializerSnapshot::opaque("postcard-1:Any"));
}

mod serde_json_like {
    /// A type that says what it is while it is read.
    #[derive(serde::Serialize, serde::Deserialize)]
    #[serde(untagged)]
    pub enum Any {
        A(u8),
    }
}
