//! A JSON object becomes one value per column.

use arrow::datatypes::{DataType, FieldRef};

use super::super::{Malformed, quoted};
use super::JsonFormat;
use super::parse::{Json, Value};
use crate::column::Column;
use crate::numbers;
use crate::scalar::{self, Scalar};
use crate::types::sql_name;

pub(super) fn decode(
    format: &JsonFormat,
    record: &[u8],
    fields: &[FieldRef],
    columns: &mut [Column],
) -> Result<bool, Malformed> {
    let parsed = std::str::from_utf8(record)
        .map_err(|error| Malformed::new(error.valid_up_to(), "the text must be UTF-8"))
        .and_then(Json::parse);
    let json = match parsed {
        Ok(json) => json,
        Err(_) if format.ignore_errors => return Ok(false),
        Err(error) => return Err(error),
    };
    let Value::Object(members) = &json.value else {
        if format.ignore_errors {
            return Ok(false);
        }
        let what = format!("a row must be a JSON object, found {}", quoted(json.raw));
        return Err(Malformed::new(json.at, what));
    };
    push_members(format, members, json.at, "", fields, columns)?;
    Ok(true)
}

/// Adds one value to each column, from the member of its name.
fn push_members<'f>(
    format: &JsonFormat,
    members: &[(std::borrow::Cow<'_, str>, Json<'_>)],
    at: usize,
    path: &str,
    fields: impl IntoIterator<Item = &'f FieldRef>,
    columns: &mut [Column],
) -> Result<(), Malformed> {
    for (field, column) in fields.into_iter().zip(columns) {
        let name = field.name();
        let member = members.iter().rev().find(|(member, _)| member == name);
        let full_name = || {
            if path.is_empty() {
                name.clone()
            } else {
                format!("{path}.{name}")
            }
        };
        match member {
            Some((_, json)) => push(format, json, column, &full_name(), field.is_nullable())?,
            None if format.fail_on_missing || !field.is_nullable() => {
                let what = format!(
                    "the object must have the member '{}', found none",
                    full_name()
                );
                return Err(Malformed::new(at, what));
            }
            None => column.push_null(),
        }
    }
    Ok(())
}

/// Adds exactly one value.
fn push(
    format: &JsonFormat,
    json: &Json<'_>,
    column: &mut Column,
    name: &str,
    nullable: bool,
) -> Result<(), Malformed> {
    if json.value == Value::Null {
        if !nullable {
            return Err(Malformed::new(
                json.at,
                format!("column '{name}' must not be null, found null"),
            ));
        }
        column.push_null();
        return Ok(());
    }
    let data_type = column.data_type().clone();
    match (&data_type, &json.value) {
        (DataType::Struct(_), Value::Object(members)) => {
            return column.push_row(|fields, columns| {
                push_members(format, members, json.at, name, fields.iter(), columns)
            });
        }
        (DataType::List(_), Value::Array(elements)) => {
            return column.push_list(|column| {
                elements
                    .iter()
                    .try_for_each(|element| push(format, element, column, name, true))
            });
        }
        (DataType::Map(_, _), Value::Object(members)) => {
            return column.push_map(|keys, values| {
                members.iter().try_for_each(|(key, json)| {
                    keys.push(Scalar::Text(key));
                    push(format, json, values, name, true)
                })
            });
        }
        _ => {}
    }
    match scalar_of(&data_type, json) {
        Some(value) => column.push(value),
        None if format.ignore_errors && nullable => column.push_null(),
        None => {
            let what = format!(
                "column '{name}' must be {}, found {}",
                sql_name(&data_type),
                quoted(json.raw)
            );
            return Err(Malformed::new(json.at, what));
        }
    }
    Ok(())
}

/// A scalar column takes texts and numbers alike, as Flink does; a STRING column takes any value as it is written.
fn scalar_of<'j>(data_type: &DataType, json: &'j Json<'_>) -> Option<Scalar<'j>> {
    match (&json.value, data_type) {
        (Value::Text(text), DataType::Utf8) => Some(Scalar::Text(text)),
        (_, DataType::Utf8) => Some(Scalar::Text(json.raw)),
        (Value::Boolean(value), DataType::Boolean) => Some(Scalar::Boolean(*value)),
        (Value::Text(text), _) => scalar::parse(data_type, text.trim()),
        (Value::Number, _) => match scalar::whole_range(data_type) {
            // 1.0 and 1e3 are whole numbers too.
            Some((smallest, largest)) if json.raw.contains(['.', 'e', 'E']) => {
                let value = numbers::parse_decimal(json.raw, 38, 18)?;
                let unit = 10_i128.pow(18);
                let whole = i64::try_from(value / unit).ok()?;
                (value % unit == 0 && (smallest..=largest).contains(&whole))
                    .then_some(Scalar::Whole(whole))
            }
            _ => match data_type {
                DataType::Boolean | DataType::Date32 => None,
                _ => scalar::parse(data_type, json.raw),
            },
        },
        _ => None,
    }
}
