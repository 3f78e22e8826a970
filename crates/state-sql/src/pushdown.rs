//! Conditions that decide what is read: on the key, on the parts of a key that has some, and on the key group.

use aquifer_state::dynamic::{DynamicValue, Field as Part, LogicalType};
use aquifer_state::reader::ReadableTable;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{Expr, Operator};

use crate::columns::{parts_of, times};
use crate::table::{KEY, KEY_GROUP};

/// Keys that are sought one by one at most; where conditions on parts of a key leave more, all rows are read.
const KEYS_MAX: usize = 1024;

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
        let names = parts_of(table.key.logical());
        let mut parts: Vec<Option<Vec<DynamicValue>>> = vec![None; names.len()];
        for condition in conditions {
            if let Some(keys) = keys_of(table, condition) {
                this.keys = Some(both(this.keys.take(), keys));
            }
            if let Some((at, values)) = part_of(table, condition)
                && let Some(part) = parts.get_mut(at)
            {
                *part = Some(both(part.take(), values));
            }
            if let Some(group) = key_group_of(condition) {
                this.nothing |= this.key_group.is_some_and(|known| known != group);
                this.key_group = Some(group);
            }
        }
        let parts: Option<Vec<Vec<DynamicValue>>> = parts.into_iter().collect();
        let keys = parts.and_then(|parts| combined(table.key.logical(), &names, parts));
        if let Some(keys) = keys {
            this.keys = Some(both(this.keys.take(), keys));
        }
        this
    }
}

/// What two conditions leave.
fn both(known: Option<Vec<DynamicValue>>, values: Vec<DynamicValue>) -> Vec<DynamicValue> {
    match known {
        Some(known) => known
            .into_iter()
            .filter(|key| values.contains(key))
            .collect(),
        None => values,
    }
}

/// Every key of these parts; `None` if the key has no parts, or if there are too many.
fn combined(
    kind: &LogicalType,
    names: &[Part],
    parts: Vec<Vec<DynamicValue>>,
) -> Option<Vec<DynamicValue>> {
    let count = parts
        .iter()
        .map(Vec::len)
        .try_fold(1usize, usize::checked_mul);
    (!names.is_empty() && count? <= KEYS_MAX).then_some(())?;
    let mut keys: Vec<Vec<DynamicValue>> = vec![Vec::new()];
    for values in parts {
        let longer = keys.iter().flat_map(|key| {
            values
                .iter()
                .map(move |value| [key.as_slice(), std::slice::from_ref(value)].concat())
        });
        keys = longer.collect();
    }
    let key = |values: Vec<DynamicValue>| match kind {
        LogicalType::Tuple(_) => DynamicValue::List(values),
        _ => {
            let names = names.iter().map(|part| part.name.clone());
            DynamicValue::Struct(names.zip(values).collect())
        }
    };
    Some(keys.into_iter().map(key).collect())
}

/// Whether a condition may leave fewer keys to read; it has to be looked at again in what is read.
pub(crate) fn is_about_a_part(table: &ReadableTable, condition: &Expr) -> bool {
    part_of(table, condition).is_some()
}

/// The values that a condition leaves of one part of the key, each once: `key.auction = 7`.
fn part_of(table: &ReadableTable, condition: &Expr) -> Option<(usize, Vec<DynamicValue>)> {
    if !table.kind.is_keyed() {
        return None;
    }
    let found = |column: &Expr| {
        let (at, part) = named_part(table.key.logical(), column)?;
        Some((at, part.kind))
    };
    let (at, mut values) = match condition {
        Expr::BinaryExpr(binary) if binary.op == Operator::Eq => {
            let (column, value) = match literal(&binary.right) {
                Some(value) => (&binary.left, value),
                None => (&binary.right, literal(&binary.left)?),
            };
            let (at, kind) = found(column)?;
            (at, vec![key(&kind, value)?])
        }
        Expr::BinaryExpr(binary) if binary.op == Operator::Or => {
            let (at, mut values) = part_of(table, &binary.left)?;
            let (other, more) = part_of(table, &binary.right)?;
            values.extend(more);
            (at == other).then_some((at, values))?
        }
        Expr::InList(list) if !list.negated => {
            let (at, kind) = found(&list.expr)?;
            let values = list.list.iter().map(|value| key(&kind, literal(value)?));
            (at, values.collect::<Option<Vec<_>>>()?)
        }
        _ => return None,
    };
    distinct(&mut values);
    Some((at, values))
}

/// The part of the key that an expression names.
fn named_part(kind: &LogicalType, expression: &Expr) -> Option<(usize, Part)> {
    let Expr::ScalarFunction(call) = expression else {
        return None;
    };
    let [of, name] = call.args.as_slice() else {
        return None;
    };
    (call.func.name() == "get_field" && is_column(of, KEY)).then_some(())?;
    let name = match literal(name)? {
        ScalarValue::Utf8(Some(name))
        | ScalarValue::LargeUtf8(Some(name))
        | ScalarValue::Utf8View(Some(name)) => name,
        _ => return None,
    };
    let parts = parts_of(kind).into_iter().enumerate();
    let mut named = parts.filter(|(_, part)| *part.name == **name);
    named.next()
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
    distinct(&mut keys);
    Some(keys)
}

/// Leaves the first of equal ones.
fn distinct(values: &mut Vec<DynamicValue>) {
    let mut at = 0;
    while at < values.len() {
        let (before, rest) = values.split_at(at);
        match rest.first().is_some_and(|value| before.contains(value)) {
            true => drop(values.remove(at)),
            false => at += 1,
        }
    }
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
        (LogicalType::Option(inner), value) => key(inner, value),
        (LogicalType::Decimal { scale, .. }, ScalarValue::Decimal128(Some(number), _, of))
            if scale == of =>
        {
            Some(Value::Decimal(*number, *scale))
        }
        (LogicalType::Temporal(kind), value) => {
            Some(Value::Temporal(times::number(*kind, value)?, *kind))
        }
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
