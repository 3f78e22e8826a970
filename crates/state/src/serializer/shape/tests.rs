//! Shapes survive being text; hostile text is an error.

use super::*;
use crate::StateError;

fn sample() -> Shape {
    let field = |name: &str, shape| Field {
        name: name.into(),
        shape,
    };
    let variant = |name: &str, content| Variant {
        name: name.into(),
        content,
    };
    Shape::Struct {
        name: "Account".into(),
        content: Content::Fields(vec![
            field("id", Shape::U64),
            field("", Shape::Option(Box::new(Shape::Str))),
            field("bytes", Shape::Bytes),
            field("a \"b\\\u{7}ü", Shape::List(Box::new(Shape::Unit))),
            field(
                "map",
                Shape::Map(
                    Box::new(Shape::Tuple(vec![Shape::I8])),
                    Box::new(Shape::Tuple(vec![
                        Shape::F64,
                        Shape::Again("Account".into()),
                    ])),
                ),
            ),
            field(
                "limit",
                Shape::Enum {
                    name: "Option".into(),
                    variants: vec![
                        variant("None", Content::Unit),
                        variant("One", Content::Newtype(Box::new(Shape::Char))),
                        variant("Two", Content::Tuple(vec![Shape::I128])),
                        variant("Three", Content::Tuple(vec![])),
                        variant("Four", Content::Fields(vec![field("x", Shape::Bool)])),
                        variant("Five", Content::Fields(vec![])),
                    ],
                },
            ),
            field(
                "never",
                Shape::Enum {
                    name: "Never".into(),
                    variants: vec![],
                },
            ),
            field(
                "unit",
                Shape::Struct {
                    name: "u8".into(),
                    content: Content::Unit,
                },
            ),
        ]),
    }
}

#[test]
fn text_is_stable_and_comes_back() {
    let text = sample().to_string();
    assert_eq!(
        text,
        "Account{id:u64,\"\":Option<str>,bytes:bytes,\"a \\\"b\\\\\\u{7}ü\":[()],map:{(i8)=>(f64,^Account)},\
         limit:\"Option\"[None|One(char)|Two(i128,)|Three()|Four{x:bool}|Five{}],never:Never[],unit:\"u8\"}"
    );
    assert_eq!(Shape::parse(&text).unwrap(), sample());
    for (shape, name) in Shape::PLAIN {
        assert_eq!(shape.to_string(), name);
        assert_eq!(Shape::parse(name).unwrap(), shape);
    }
}

#[test]
fn hostile_text_is_an_error() {
    let text = sample().to_string();
    for (end, _) in text.char_indices() {
        // A name alone is a unit struct.
        let cut = Shape::parse(&text[..end]).ok();
        assert!(cut.is_none() || end <= "Account".len(), "cut at {end}");
    }
    for (at, c) in text.char_indices() {
        let (head, tail) = (&text[..at], &text[at + c.len_utf8()..]);
        for other in [
            "", "(", ")", "[", "]", "{", "}", ",", "|", "\"", "\\", "^", "ü", "0",
        ] {
            // Never a panic; what passes is what it says.
            if let Ok(shape) = Shape::parse(&format!("{head}{other}{tail}")) {
                assert_eq!(Shape::parse(&shape.to_string()).unwrap(), shape);
            }
        }
    }
    for bad in [
        "",
        "Option",
        "Option<u8",
        "u8 ",
        "(,)",
        "(u8,)",
        "^",
        "\"\\u{110000}\"",
        "9a",
    ] {
        assert!(Shape::parse(bad).is_err(), "{bad:?}");
    }
    for (open, close) in [
        ("[", "]"),
        ("(", ")"),
        ("A(", ")"),
        ("A{x:", "}"),
        ("Option<", ">"),
    ] {
        let deep = |n: usize| format!("{}u8{}", open.repeat(n), close.repeat(n));
        assert!(Shape::parse(&deep(Shape::DEPTH_MAX)).is_ok());
        let error = Shape::parse(&deep(10_000)).unwrap_err();
        assert!(matches!(error, StateError::Corrupt(_)));
    }
    assert!(Shape::parse(&"a".repeat(Shape::TEXT_BYTES_MAX + 1)).is_err());
}
