//! What may change about a type, at any depth, and what not.

use super::*;

/// Writes `old`, restores as `New`, reads.
fn evolved<Old, New>(old: &Old) -> New
where
    Old: Serialize + DeserializeOwned + 'static,
    New: Serialize + DeserializeOwned + 'static,
{
    let before = Tagged::<Old>::default();
    let bytes = written(&before, old);
    let after = Tagged::<New>::default();
    let verdict = after.compatibility(&before.snapshot());
    assert!(
        matches!(verdict, Compatibility::AsIs | Compatibility::Reconfigured),
        "{verdict:?}"
    );
    let after = after.restored(&before.snapshot()).unwrap();
    let value = after.deserialize(&bytes).unwrap();
    // And the new type goes on from itself, old rows and new ones alike.
    let again = Tagged::<New>::default();
    assert_eq!(
        again
            .form
            .continued(Said::of(&after.snapshot()).unwrap().unwrap().dictionary)
            .snapshot(),
        after.snapshot()
    );
    let again = again.restored(&after.snapshot()).unwrap();
    let rewritten = written(&after, &value);
    again.deserialize(&bytes).unwrap();
    again.deserialize(&rewritten).unwrap();
    assert_eq!(written(&again, &value), rewritten);
    value
}

fn refused<Old, New>(text: &str)
where
    Old: Serialize + DeserializeOwned + 'static,
    New: Serialize + DeserializeOwned + 'static,
{
    let verdict = Tagged::<New>::default().compatibility(&Tagged::<Old>::default().snapshot());
    match verdict {
        Compatibility::Incompatible(why) => assert!(why.contains(text), "{why}"),
        other => panic!("{other:?}, expected a refusal with {text:?}"),
    }
}

mod v1 {
    use super::*;
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub struct Account {
        pub owner: String,
        pub cents: u32,
        pub status: Status,
        pub history: Vec<Option<Entry>>,
    }
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub enum Status {
        Open,
        Frozen { since: i16, by: String },
        Closed(Entry),
    }
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub struct Entry {
        pub at: i32,
        pub note: char,
        pub rate: f32,
    }
}

mod v2 {
    use super::*;
    /// Reordered, widened, renamed, with new and lost fields, at every depth.
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub struct Konto {
        #[serde(default)]
        pub blocked: bool,
        pub history: Vec<Option<Item>>,
        pub status: State,
        pub cents: Option<i64>,
        #[serde(alias = "owner")]
        pub holder: Holder,
    }
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub struct Holder(pub String);
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub enum State {
        Closed(Item),
        Pending,
        #[serde(alias = "Frozen")]
        Stopped {
            since: f64,
            until: Option<u8>,
        },
        Open,
    }
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub struct Item {
        pub rate: f64,
        #[serde(default = "seven")]
        pub weight: u8,
        pub note: String,
    }
    fn seven() -> u8 {
        7
    }
}

#[test]
fn types_change_at_every_depth() {
    let entry = v1::Entry {
        at: -5,
        note: 'n',
        rate: 0.5,
    };
    let item = v2::Item {
        rate: 0.5,
        weight: 7,
        note: "n".into(),
    };
    let states = [
        (v1::Status::Open, v2::State::Open),
        (
            v1::Status::Frozen {
                since: -3,
                by: "x".into(),
            },
            v2::State::Stopped {
                since: -3.0,
                until: None,
            },
        ),
        (
            v1::Status::Closed(entry.clone()),
            v2::State::Closed(item.clone()),
        ),
    ];
    for (status, state) in states {
        let old = v1::Account {
            owner: "ada".into(),
            cents: u32::MAX,
            status,
            history: vec![Some(entry.clone()), None],
        };
        let expected = v2::Konto {
            blocked: false,
            history: vec![Some(item.clone()), None],
            status: state,
            cents: Some(u32::MAX.into()),
            holder: v2::Holder("ada".into()),
        };
        assert_eq!(evolved::<_, v2::Konto>(&old), expected);
        let map = BTreeMap::from([(3u8, old.clone())]);
        assert_eq!(
            evolved::<_, BTreeMap<u64, v2::Konto>>(&map),
            BTreeMap::from([(3, expected.clone())])
        );
        assert_eq!(
            evolved::<_, Option<(v2::Konto,)>>(&(old,)),
            Some((expected,))
        );
    }
}

#[test]
fn extremes_of_wider_numbers() {
    assert_eq!(evolved::<u8, i16>(&255), 255);
    assert_eq!(evolved::<i8, i128>(&-128), -128);
    assert_eq!(evolved::<u64, i128>(&u64::MAX), u64::MAX.into());
    assert_eq!(evolved::<i64, i64>(&i64::MIN), i64::MIN);
    assert_eq!(evolved::<i32, f64>(&i32::MIN), f64::from(i32::MIN));
    assert_eq!(evolved::<u16, f32>(&u16::MAX), f32::from(u16::MAX));
    assert_eq!(evolved::<f32, f64>(&f32::MAX), f64::from(f32::MAX));
    assert_eq!(evolved::<[u8; 2], Vec<u32>>(&[1, 2]), [1, 2]);
    assert_eq!(evolved::<Option<u8>, Option<Option<u8>>>(&None), None);
    assert_eq!(
        evolved::<Option<u8>, Option<Option<u8>>>(&Some(1)),
        Some(Some(1))
    );
}

#[test]
fn what_cannot_be_read_is_refused_with_its_place() {
    refused::<u64, u32>("was written as `u64` and the program now expects `u32`");
    refused::<i8, u64>("`i8`");
    refused::<u64, f64>("`f64`");
    refused::<f64, f32>("`f32`");
    refused::<bool, u8>("`bool`");
    refused::<String, char>("`char`");
    refused::<Option<u8>, u8>("`Option<u8>`");
    refused::<(u8, u8), (u8, u8, u8)>("`(u8,u8,u8)`");
    refused::<Vec<u8>, BTreeMap<u8, u8>>("`{u8=>u8}`");

    #[derive(Serialize, Deserialize)]
    struct Before {
        inner: Vec<(u8, Inner)>,
    }
    #[derive(Serialize, Deserialize)]
    struct Inner {
        x: u32,
        kind: Kind,
    }
    #[derive(Serialize, Deserialize)]
    enum Kind {
        A,
        B { n: u8 },
    }
    mod other {
        use super::*;
        macro_rules! with {
            ($module:ident, $inner:item, $kind:item) => {
                pub mod $module {
                    use super::*;
                    #[derive(Serialize, Deserialize)]
                    pub struct Before {
                        pub inner: Vec<(u8, Inner)>,
                    }
                    #[derive(Serialize, Deserialize)]
                    $inner
                    #[derive(Serialize, Deserialize)]
                    $kind
                }
            };
        }
        with!(
            text,
            pub struct Inner {
                pub x: String,
                pub kind: Kind,
            },
            pub enum Kind {
                A,
                B { n: u8 },
            }
        );
        with!(
            new,
            pub struct Inner {
                pub x: u32,
                pub kind: Kind,
                pub y: u8,
            },
            pub enum Kind {
                A,
                B { n: u8 },
            }
        );
        with!(
            lost,
            pub struct Inner {
                pub x: u32,
                pub kind: Kind,
            },
            pub enum Kind {
                A,
            }
        );
        with!(
            unit,
            pub struct Inner {
                pub x: u32,
                pub kind: Kind,
            },
            pub enum Kind {
                A,
                B,
            }
        );
        with!(
            deep,
            pub struct Inner {
                pub x: u32,
                pub kind: Kind,
            },
            pub enum Kind {
                A,
                B { n: u8, m: u8 },
            }
        );
        with!(
            strict,
            #[serde(deny_unknown_fields)]
            pub struct Inner {
                pub kind: Kind,
            },
            pub enum Kind {
                A,
                B { n: u8 },
            }
        );
    }
    refused::<Before, other::text::Before>("`inner[].1.x` was `u32` and is now `str`");
    refused::<Before, other::new::Before>("`inner[].1.y` is new, and has neither a default");
    refused::<Before, other::lost::Before>("`inner[].1.kind` had a variant `B`, which is gone");
    refused::<Before, other::unit::Before>("`inner[].1.kind::B` was a struct");
    refused::<Before, other::deep::Before>("`inner[].1.kind::B.m` is new");
    refused::<Before, other::strict::Before>("`inner[].1` refuses unknown fields");
    refused::<Before, other::strict::Before>("Before{inner:[(u8,Inner{x:u32,");
}

#[test]
fn types_that_contain_themselves_change_too() {
    #[derive(Serialize, Deserialize)]
    struct Tree {
        value: u8,
        children: Vec<Tree>,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Wider {
        children: Vec<Wider>,
        value: u16,
        #[serde(default)]
        name: String,
    }
    let leaf = |value| Tree {
        value,
        children: vec![],
    };
    let tree = Tree {
        value: 1,
        children: vec![leaf(2), leaf(3)],
    };
    let wider: Wider = evolved(&tree);
    assert_eq!((wider.children.len(), wider.children[1].value), (2, 3));
    let nest: Nest = evolved(&Nest(vec![Nest(vec![])]));
    assert_eq!(nest, Nest(vec![Nest(vec![])]));
    refused::<Tree, Nest>("`Nest([^Nest])`");
}

#[test]
fn dictionaries_only_grow() {
    #[derive(Serialize, Deserialize)]
    struct First {
        b: u8,
        a: u8,
    }
    #[derive(Serialize, Deserialize)]
    struct Second {
        c: Option<u8>,
        a: u8,
    }
    let names = |snapshot: &SerializerSnapshot| -> Vec<String> {
        let said = Said::of(snapshot).unwrap().unwrap();
        said.dictionary
            .names()
            .iter()
            .map(|name| name.to_string())
            .collect()
    };
    let first = Tagged::<First>::default().snapshot();
    assert_eq!(names(&first), ["b", "a"]);
    let second = Tagged::<Second>::default()
        .restored(&first)
        .unwrap()
        .snapshot();
    assert_eq!(names(&second), ["b", "a", "c"]);
    // Back again: nothing is lost, and all workers come to the same.
    assert_eq!(Tagged::<First>::default().compatibility(&second), Compatibility::Incompatible(
        "it was written as `Second{c:Option<u8>,a:u8}` and the program now expects `First{b:u8,a:u8}`: `b` is new, and has neither a default nor is it optional".into()
    ));
    let third = Tagged::<Second>::default()
        .restored(&second)
        .unwrap()
        .snapshot();
    assert_eq!(third, second);
}

#[test]
fn other_encodings_are_refused() {
    use crate::serializer::Postcard;
    let positional = Postcard::<v1::Account>::default();
    let tagged = Tagged::<v1::Account>::default();
    for verdict in [
        tagged.compatibility(&positional.snapshot()),
        positional.compatibility(&tagged.snapshot()),
    ] {
        match verdict {
            Compatibility::Incompatible(why) => {
                assert!(
                    why.contains("tagged-1:Account{") && why.contains("postcard-1:Account{"),
                    "{why}"
                );
            }
            other => panic!("{other:?}"),
        }
    }
}
