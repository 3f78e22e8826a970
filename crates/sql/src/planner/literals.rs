//! Literals that Flink reads differently from DataFusion: numbers, timestamps, intervals, patterns of LIKE.

use datafusion_common::{Result, plan_datafusion_err};
use sqlparser::ast::{
    CastKind, DataType as SqlType, DateTimeField, ExactNumberInfo, Expr, Interval, TimezoneInfo,
    TypedString, Value, ValueWithSpan,
};

use crate::functions;

/// Evaluation knows one escape character, the backslash; Flink has none unless `ESCAPE` names one. Patterns that are constants are rewritten so that
/// they mean the same.
pub(super) fn plain_escape(pattern: &mut Expr, escape_char: &mut Option<ValueWithSpan>) {
    let Expr::Value(ValueWithSpan {
        value: Value::SingleQuotedString(text),
        ..
    }) = pattern
    else {
        return;
    };
    let escape = match escape_char.as_ref().map(|e| &e.value) {
        Some(Value::SingleQuotedString(c)) => c.chars().next(),
        Some(_) => return,
        None => None,
    };
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if Some(c) == escape {
            out.push('\\');
            out.extend(chars.next());
        } else if c == '\\' {
            out.push_str("\\\\");
        } else {
            out.push(c);
        }
    }
    *text = out;
    *escape_char = None;
}

pub(super) fn number_value(text: String) -> Expr {
    Expr::Value(Value::Number(text, false).into())
}

fn cast(expr: Expr, data_type: SqlType) -> Expr {
    Expr::Cast {
        kind: CastKind::Cast,
        expr: Box::new(expr),
        data_type,
        array: false,
        format: None,
    }
}

pub(super) fn cast_to_int(expr: Expr) -> Expr {
    cast(expr, SqlType::Int(None))
}

pub(super) fn number(text: &str) -> Option<Expr> {
    if text.contains(['e', 'E']) {
        let text = Expr::Value(Value::SingleQuotedString(text.to_string()).into());
        return Some(cast(text, SqlType::Double(ExactNumberInfo::None)));
    }
    text.parse::<i32>()
        .ok()
        .map(|_| cast_to_int(number_value(text.to_string())))
}

/// The digits of what [`number`] made of an integer.
pub(super) fn integer_of(expr: &Expr) -> Option<String> {
    if let Expr::Cast {
        expr: inner,
        data_type: SqlType::Int(None),
        ..
    } = expr
        && let Expr::Value(ValueWithSpan {
            value: Value::Number(text, _),
            ..
        }) = inner.as_ref()
    {
        return Some(text.clone());
    }
    None
}

/// Undoes [`number`] where the grammar wants a plain number.
pub(super) fn plain_integer(expr: &mut Expr) {
    if let Some(text) = integer_of(expr) {
        *expr = number_value(text);
    }
}

pub(super) fn timestamp_literal(typed: &TypedString) -> Result<Option<Expr>> {
    if !matches!(
        typed.data_type,
        SqlType::Timestamp(None, TimezoneInfo::None)
    ) {
        return Ok(None);
    }
    let Value::SingleQuotedString(text) = &typed.value.value else {
        return Ok(None);
    };
    if functions::parse_timestamp_micros(text).is_none() {
        return Err(plan_datafusion_err!(
            "a TIMESTAMP literal is written 'yyyy-MM-dd HH:mm:ss[.fraction]', found '{text}'"
        ));
    }
    let digits = text
        .rsplit_once('.')
        .map_or(0, |(_, fraction)| fraction.len() as u64);
    Ok(Some(Expr::TypedString(TypedString {
        data_type: SqlType::Timestamp(Some(digits.max(3)), TimezoneInfo::None),
        value: typed.value.clone(),
        uses_odbc_syntax: false,
    })))
}

/// `INTERVAL '1 02:03:04' DAY TO SECOND` as `INTERVAL '1 day 2 hour 3 minute 4 second'`, which is how DataFusion reads a list of parts.
pub(super) fn interval_parts(interval: &mut Interval) -> Result<Option<Expr>> {
    interval.leading_precision = None;
    interval.fractional_seconds_precision = None;
    let (Some(first), Some(last)) = (interval.leading_field.clone(), interval.last_field.clone())
    else {
        return Ok(None);
    };
    let Expr::Value(ValueWithSpan {
        value: Value::SingleQuotedString(text),
        ..
    }) = interval.value.as_ref()
    else {
        return Ok(None);
    };
    let units: &[&str] = &["YEAR", "MONTH", "DAY", "HOUR", "MINUTE", "SECOND"];
    let place = |field: &DateTimeField| {
        let name = field.to_string().to_ascii_uppercase();
        units
            .iter()
            .position(|unit| *unit == name.trim_end_matches('S'))
    };
    let wrong = || plan_datafusion_err!("'{text}' is not an interval {first} TO {last}");
    let (from, to) = (
        place(&first).ok_or_else(wrong)?,
        place(&last).ok_or_else(wrong)?,
    );
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", text.as_str()),
    };
    let parts: Vec<&str> = digits.split(['-', ' ', ':']).collect();
    let names = units.get(from..=to).ok_or_else(wrong)?;
    if names.len() != parts.len() || parts.iter().any(|part| part.parse::<f64>().is_err()) {
        return Err(wrong());
    }
    let list: Vec<String> = names
        .iter()
        .zip(parts)
        .map(|(name, part)| format!("{sign}{part} {}", name.to_ascii_lowercase()))
        .collect();
    Ok(Some(Expr::Interval(Interval {
        value: Box::new(Expr::Value(
            Value::SingleQuotedString(list.join(" ")).into(),
        )),
        leading_field: None,
        leading_precision: None,
        last_field: None,
        fractional_seconds_precision: None,
    })))
}

pub(super) fn text_of(unit: impl std::fmt::Display) -> Expr {
    Expr::Value(Value::SingleQuotedString(unit.to_string().to_ascii_uppercase()).into())
}
