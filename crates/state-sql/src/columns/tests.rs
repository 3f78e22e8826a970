//! Types of state as types of Arrow, and values as columns.

use arrow::array::{Array, AsArray};
use arrow::datatypes::Int64Type;

use super::*;

fn field(name: &str, kind: LogicalType) -> Part {
    Part {
        name: name.into(),
        kind,
    }
}

#[test]
fn arrays_have_the_type_that_is_said() {
    let list = |kind| LogicalType::List(Box::new(kind));
    let kinds = [
        LogicalType::Unit,
        LogicalType::Bool,
        LogicalType::I8,
        LogicalType::U64,
        LogicalType::I128,
        LogicalType::U128,
        LogicalType::F32,
        LogicalType::Char,
        LogicalType::Bytes,
        LogicalType::Any,
        LogicalType::Opaque("raw".into()),
        LogicalType::Option(Box::new(list(list(LogicalType::I16)))),
        LogicalType::Map(
            Box::new(LogicalType::String),
            Box::new(list(LogicalType::Bool)),
        ),
        // Shown as JSON: its keys may be null.
        LogicalType::Map(
            Box::new(LogicalType::Option(Box::new(LogicalType::I8))),
            Box::new(LogicalType::Bool),
        ),
        LogicalType::Tuple(vec![LogicalType::I8, LogicalType::Unit]),
        LogicalType::Struct {
            name: "Empty".into(),
            fields: vec![],
        },
        LogicalType::Enum {
            name: "Plain".into(),
            variants: vec![field("A", LogicalType::Unit)],
        },
        LogicalType::Enum {
            name: "Held".into(),
            variants: vec![field("A", LogicalType::Unit), field("B", LogicalType::I8)],
        },
    ];
    for kind in kinds {
        for rows in [0, 3] {
            let nothing = vec![None; rows];
            let column = array(&kind, &nothing).unwrap();
            assert_eq!(*column.data_type(), data_type(&kind), "{kind}");
            assert_eq!(column.len(), rows);
        }
    }
}

#[test]
fn a_value_of_another_type_is_an_error() {
    let text = DynamicValue::String("seven".repeat(100));
    let large = DynamicValue::Int(300);
    for (kind, value) in [
        (LogicalType::I64, &text),
        (LogicalType::Bool, &text),
        (LogicalType::List(Box::new(LogicalType::I8)), &text),
        (LogicalType::Tuple(vec![LogicalType::I8]), &text),
        (LogicalType::I8, &large),
        (LogicalType::U8, &DynamicValue::Int(-1)),
    ] {
        let error = array(&kind, &[None, Some(value)]).unwrap_err();
        let message = error.to_string();
        assert!(matches!(error, StateError::Corrupt(_)), "{kind}: {message}");
        assert!(message.len() < 200, "{message}");
    }
}

#[test]
fn nested_nothing_stays_nothing() {
    let kind = LogicalType::List(Box::new(LogicalType::Option(Box::new(LogicalType::I64))));
    let list = DynamicValue::List(vec![DynamicValue::Int(1), DynamicValue::Null]);
    let empty = DynamicValue::List(vec![]);
    let column = array(&kind, &[Some(&list), None, Some(&empty)]).unwrap();
    let lists = column.as_list::<i32>();
    assert!(lists.is_null(1) && !lists.is_null(2) && lists.value(2).is_empty());
    let first = lists.value(0);
    let numbers = first.as_primitive::<Int64Type>();
    assert_eq!(numbers.iter().collect::<Vec<_>>(), [Some(1), None]);
}
