//! What is found out about types.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
#[allow(dead_code)]
struct Account {
    id: u64,
    owner: Option<String>,
    history: Vec<(i64, f64)>,
    limits: BTreeMap<String, Limit>,
    raw: [u8; 2],
    marker: (),
}

#[derive(Deserialize)]
#[allow(dead_code)]
enum Limit {
    None,
    Daily(Unit),
    Both { daily: u32, weekly: Unit },
}

#[derive(Deserialize)]
#[allow(dead_code)]
enum Unit {
    Cents,
    Euros,
    Custom(u8, u8),
}

fn shape<T: DeserializeOwned>() -> Option<String> {
    trace::<T>(Identify::ByNumber).map(|traced| traced.shape.to_string())
}

#[test]
fn shapes_tell_fields_and_variants() {
    let unit = "Unit[Cents|Euros|Custom(u8,u8)]";
    let expected = format!(
        "Account{{id:u64,owner:Option<str>,history:[(i64,f64)],\
         limits:{{str=>Limit[None|Daily({unit})|Both{{daily:u32,weekly:{unit}}}]}},raw:(u8,u8),marker:()}}"
    );
    assert_eq!(shape::<Account>().unwrap(), expected);
    assert_eq!(shape::<u32>().unwrap(), "u32");
    assert_eq!(
        shape::<std::time::Duration>().unwrap(),
        "Duration{secs:u64,nanos:u32}"
    );
    assert_eq!(shape::<Result<u8, ()>>().unwrap(), "Result[Ok(u8)|Err(())]");
}

#[test]
fn types_that_contain_themselves_end() {
    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct List {
        head: u8,
        next: Option<Box<List>>,
    }
    #[derive(Deserialize)]
    #[allow(dead_code)]
    enum Json {
        List(Vec<Json>),
        Map(BTreeMap<String, Json>),
        Pair(Box<Json>, Box<Json>),
        Number(f64),
    }
    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct Tree(Vec<(u8, Tree)>);
    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct Node {
        children: BTreeMap<u16, Edge>,
    }
    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct Edge {
        to: Box<Node>,
        twin: Option<Box<Edge>>,
    }
    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct Endless {
        next: Box<Endless>,
    }
    assert_eq!(shape::<List>().unwrap(), "List{head:u8,next:Option<^List>}");
    assert_eq!(
        shape::<Json>().unwrap(),
        "Json[List([^Json])|Map({str=>^Json})|Pair(^Json,^Json)|Number(f64)]"
    );
    assert_eq!(shape::<Endless>(), None);
    assert_eq!(shape::<Tree>().unwrap(), "Tree([(u8,^Tree)])");
    assert_eq!(
        shape::<Node>().unwrap(),
        "Node{children:{u16=>Edge{to:^Node,twin:Option<^Edge>}}}"
    );
}

#[test]
fn numbers_that_are_never_zero_have_a_shape() {
    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct Port(std::num::NonZeroU16);
    assert_eq!(shape::<Port>().unwrap(), "Port(u16)");
}

#[test]
fn types_that_accept_no_default_have_none() {
    #[derive(Deserialize)]
    #[serde(try_from = "String")]
    struct Parsed;
    impl TryFrom<String> for Parsed {
        type Error = String;
        fn try_from(_: String) -> Result<Self, String> {
            Err("no".into())
        }
    }
    #[derive(Deserialize)]
    #[serde(untagged)]
    #[allow(dead_code)]
    enum Any {
        A(u8),
    }
    assert_eq!(shape::<Parsed>(), None);
    assert_eq!(shape::<Any>(), None);
}

#[test]
fn other_names_and_defaults_are_found_out() {
    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct Renamed {
        #[serde(alias = "a_old", alias = "z_old")]
        middle: u8,
        #[serde(default)]
        defaulted: u32,
        optional: Option<u8>,
        inner: Vec<Strict>,
    }
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Strict {
        x: u8,
    }
    #[derive(Deserialize)]
    #[allow(dead_code)]
    enum Kind {
        #[serde(alias = "Old")]
        New,
        Other {
            a: u8,
            #[serde(default)]
            b: u8,
        },
    }
    let traced = trace::<Renamed>(Identify::ByName).unwrap();
    assert_eq!(
        traced.shape.to_string(),
        "Renamed{middle:u8,defaulted:u32,optional:Option<u8>,inner:[Strict{x:u8}]}"
    );
    assert_eq!(traced.aliased(&[], "a_old"), Some("middle"));
    assert_eq!(traced.aliased(&[], "z_old"), Some("middle"));
    assert_eq!(traced.aliased(&[], "middle"), None);
    assert!(!traced.may_lack::<Renamed>(&[], "middle"));
    assert!(traced.may_lack::<Renamed>(&[], "defaulted"));
    assert!(traced.may_lack::<Renamed>(&[], "optional"));
    assert!(traced.may_have_more::<Renamed>(&[]));
    let inner = [Step::Field("inner".into()), Step::Element];
    assert!(!traced.may_have_more::<Renamed>(&inner));
    assert!(!traced.may_lack::<Renamed>(&inner, "x"));

    // By number an alias of a variant would shift the numbers.
    assert_eq!(shape::<Kind>(), None);
    let traced = trace::<Kind>(Identify::ByName).unwrap();
    assert_eq!(traced.shape.to_string(), "Kind[New|Old|Other{a:u8,b:u8}]");
    let other = [Step::Variant("Other".into())];
    assert!(traced.may_lack::<Kind>(&other, "b"));
    assert!(!traced.may_lack::<Kind>(&other, "a"));
}
