//! Conditions that decide what is read: on the key, and on the key group.

use aquifer_state::dynamic::{DynamicValue, LogicalType};
use aquifer_state::reader::ReadableTable;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{Expr, Operator};

use crate::table::{KEY, KEY_GROUP};

/// What is left of a table when conditions on keys and key groups are met.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Chosen {
    /// Only these keys.
    pub(crate) keys: Option<Vec<DynamicValue>>,
    /// Only this key group.
    pub(crate) key_group: Option<u16>,
    /// Nothing: two conditions exclude each other.
    pub(crate) nothing: bool,
}

impl Chosen {
    /// What is left when all of these conditions, as far as they are understood, are met.
    pub(crate) fn by(table: &ReadableTable, conditions: &[Expr]) -> Self {
        let mut this = Self::default();
        for condition in conditions {
            if let Some(keys) = keys_of(table, condition) {
                this.keys = Some(match this.keys.take() {
                    Some(known) => known.into_iter().filter(|key| keys.contains(key)).collect(),
                    None => keys,
                });
            }
            if let Some(group) = key_group_of(condition) {
                this.nothing |= this.key_group.is_some_and(|known| known != group);
                this.key_group = Some(group);
            }
        }
        this
    }
}

/// Whether a condition is met by exactly what is read for it.
pub(crate) fn is_exact(table: &ReadableTable, condition: &Expr) -> bool {
    keys_of(table, condition).is_some() || key_group_of(condition).is_some()
}

/// The keys for which a condition holds, each once, if it is about the key only and so simple.
fn keys_of(table: &ReadableTable, condition: &Expr) -> Option<Vec<DynamicValue>> {
    if !table.kind.is_keyed() {
        return None;
    }
    let kind = table.key.logical();
    let mut keys = match condition {
        Expr::BinaryExpr(binary) if binary.op == Operator::Eq => {
            vec![key(kind, equated(&binary.left, &binary.right, KEY)?)?]
        }
        Expr::BinaryExpr(binary) if binary.op == Operator::Or => {
            let mut keys = keys_of(table, &binary.left)?;
            keys.extend(keys_of(table, &binary.right)?);
            keys
        }
        // What is left of `key = true` and `key = false`.
        column if *kind == LogicalType::Bool && is_column(column, KEY) => {
            vec![DynamicValue::Bool(true)]
        }
        Expr::Not(column) if *kind == LogicalType::Bool && is_column(column, KEY) => {
            vec![DynamicValue::Bool(false)]
        }
        Expr::InList(list) if !list.negated && is_column(&list.expr, KEY) => list
            .list
            .iter()
            .map(|value| key(kind, literal(value)?))
            .collect::<Option<Vec<_>>>()?,
        _ => return None,
    };
    let mut at = 0;
    while at < keys.len() {
        let (before, rest) = keys.split_at(at);
        match rest.first().is_some_and(|key| before.contains(key)) {
            true => drop(keys.remove(at)),
            false => at += 1,
        }
    }
    Some(keys)
}

/// `key_group = 7`
fn key_group_of(condition: &Expr) -> Option<u16> {
    match condition {
        Expr::BinaryExpr(binary) if binary.op == Operator::Eq => {
            match equated(&binary.left, &binary.right, KEY_GROUP)? {
                ScalarValue::UInt16(group) => *group,
                _ => None,
            }
        }
        _ => None,
    }
}

/// The literal that a column is compared with, on whichever side it is.
fn equated<'a>(left: &'a Expr, right: &'a Expr, column: &str) -> Option<&'a ScalarValue> {
    match (is_column(left, column), is_column(right, column)) {
        (true, false) => literal(right),
        (false, true) => literal(left),
        _ => None,
    }
}

fn is_column(expression: &Expr, name: &str) -> bool {
    matches!(expression, Expr::Column(column) if column.name == name)
}

fn literal(expression: &Expr) -> Option<&ScalarValue> {
    match expression {
        Expr::Literal(value, _) => Some(value),
        _ => None,
    }
}

/// A literal as a key. Floats are left to the filter: of them, equal ones may have different bytes.
fn key(kind: &LogicalType, value: &ScalarValue) -> Option<DynamicValue> {
    use DynamicValue as Value;
    let integer = |value: i128| match kind {
        LogicalType::I8 | LogicalType::I16 | LogicalType::I32 | LogicalType::I64 => {
            i64::try_from(value).ok().map(Value::Int)
        }
        LogicalType::U8 | LogicalType::U16 | LogicalType::U32 | LogicalType::U64 => {
            u64::try_from(value).ok().map(Value::UInt)
        }
        _ => None,
    };
    match (kind, value) {
        (LogicalType::Bool, ScalarValue::Boolean(Some(value))) => Some(Value::Bool(*value)),
        (
            LogicalType::String,
            ScalarValue::Utf8(Some(text))
            | ScalarValue::LargeUtf8(Some(text))
            | ScalarValue::Utf8View(Some(text)),
        ) => Some(Value::String(text.clone())),
        (
            LogicalType::Bytes | LogicalType::Opaque(_),
            ScalarValue::Binary(Some(bytes))
            | ScalarValue::LargeBinary(Some(bytes))
            | ScalarValue::BinaryView(Some(bytes)),
        ) => Some(Value::Bytes(bytes.clone())),
        (_, ScalarValue::Int8(Some(value))) => integer((*value).into()),
        (_, ScalarValue::Int16(Some(value))) => integer((*value).into()),
        (_, ScalarValue::Int32(Some(value))) => integer((*value).into()),
        (_, ScalarValue::Int64(Some(value))) => integer((*value).into()),
        (_, ScalarValue::UInt8(Some(value))) => integer((*value).into()),
        (_, ScalarValue::UInt16(Some(value))) => integer((*value).into()),
        (_, ScalarValue::UInt32(Some(value))) => integer((*value).into()),
        (_, ScalarValue::UInt64(Some(value))) => integer((*value).into()),
        _ => None,
    }
}
