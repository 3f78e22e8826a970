//! Flink's types in expressions (`CAST(x AS …)`), and types as text.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use datafusion_common::{Result, plan_datafusion_err, plan_err};
use datafusion_expr::planner::TypePlanner;
use sqlparser::ast::{
    ArrayElemTypeDef, CharacterLength, DataType as SqlType, ExactNumberInfo, TimezoneInfo,
};

use crate::parser::{LTZ_ZONE, decimal_type, timestamp_unit};

/// Field metadata of the target of `CAST(x AS CHAR(n))` and `CAST(x AS VARCHAR(n))`: the length `n`, at which the text is cut.
pub(crate) const LENGTH: &str = "aquifer.char-length";

/// Maps sqlparser's types to Arrow's.
#[derive(Debug)]
pub(super) struct FlinkTypes;

impl TypePlanner for FlinkTypes {
    fn plan_type_field(&self, sql_type: &SqlType) -> Result<Option<FieldRef>> {
        let length = match sql_type {
            SqlType::Char(length)
            | SqlType::Character(length)
            | SqlType::Varchar(length)
            | SqlType::CharacterVarying(length)
            | SqlType::CharVarying(length) => match length {
                Some(CharacterLength::IntegerLength { length, .. }) => Some(*length),
                Some(CharacterLength::Max) => None,
                None => match sql_type {
                    SqlType::Char(_) | SqlType::Character(_) => Some(1),
                    _ => None,
                },
            },
            _ => None,
        };
        let mut field = Field::new("", arrow_type(sql_type)?, true);
        if let Some(length) = length {
            field = field.with_metadata([(LENGTH.to_string(), length.to_string())].into());
        }
        Ok(Some(Arc::new(field)))
    }
}

fn arrow_type(sql_type: &SqlType) -> Result<DataType> {
    let timestamp = |precision: Option<u64>, zone: Option<Arc<str>>| {
        let precision = precision.unwrap_or(6);
        timestamp_unit(precision)
            .map(|unit| DataType::Timestamp(unit, zone))
            .ok_or_else(|| {
                plan_datafusion_err!("TIMESTAMP takes a precision of 0 to 9, found {precision}")
            })
    };
    Ok(match sql_type {
        SqlType::Boolean | SqlType::Bool => DataType::Boolean,
        SqlType::TinyInt(_) => DataType::Int8,
        SqlType::SmallInt(_) => DataType::Int16,
        SqlType::Int(_) | SqlType::Integer(_) => DataType::Int32,
        SqlType::BigInt(_) => DataType::Int64,
        SqlType::Float(_) => DataType::Float32,
        SqlType::Double(_) | SqlType::DoublePrecision => DataType::Float64,
        SqlType::Decimal(info) | SqlType::Numeric(info) | SqlType::Dec(info) => {
            let (precision, scale) = match *info {
                ExactNumberInfo::None => (10, 0),
                ExactNumberInfo::Precision(p) => (p, 0),
                ExactNumberInfo::PrecisionAndScale(p, s) => (p, s),
            };
            decimal_type(precision, scale).map_err(|e| plan_datafusion_err!("{e}"))?
        }
        SqlType::Char(_)
        | SqlType::Character(_)
        | SqlType::Varchar(_)
        | SqlType::CharacterVarying(_)
        | SqlType::CharVarying(_)
        | SqlType::String(_) => DataType::Utf8,
        SqlType::Binary(_) | SqlType::Varbinary(_) | SqlType::Bytes(_) => DataType::Binary,
        SqlType::Date => DataType::Date32,
        SqlType::Time(_, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => {
            DataType::Time32(TimeUnit::Millisecond)
        }
        SqlType::Timestamp(p, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => {
            timestamp(*p, None)?
        }
        SqlType::Custom(name, modifiers)
            if name.to_string().eq_ignore_ascii_case("TIMESTAMP_LTZ") =>
        {
            let precision = match modifiers.as_slice() {
                [] => None,
                [p] => Some(p.parse().map_err(|_| {
                    plan_datafusion_err!("TIMESTAMP_LTZ takes a precision of 0 to 9, found {p}")
                })?),
                _ => return plan_err!("TIMESTAMP_LTZ takes one precision"),
            };
            timestamp(precision, Some(LTZ_ZONE.into()))?
        }
        SqlType::Array(ArrayElemTypeDef::AngleBracket(element)) => {
            DataType::List(Arc::new(Field::new("item", arrow_type(element)?, true)))
        }
        other => return plan_err!("the type {other} is not supported in a CAST"),
    })
}

/// A type as Flink writes it.
pub(crate) fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Null => "NULL".to_string(),
        DataType::Boolean => "BOOLEAN".to_string(),
        DataType::Int8 => "TINYINT".to_string(),
        DataType::Int16 => "SMALLINT".to_string(),
        DataType::Int32 => "INT".to_string(),
        DataType::Int64 => "BIGINT".to_string(),
        DataType::Float32 => "FLOAT".to_string(),
        DataType::Float64 => "DOUBLE".to_string(),
        DataType::Decimal128(precision, scale) => format!("DECIMAL({precision}, {scale})"),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "STRING".to_string(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "BYTES".to_string(),
        DataType::Date32 => "DATE".to_string(),
        DataType::Time32(_) | DataType::Time64(_) => "TIME".to_string(),
        DataType::Timestamp(unit, zone) => {
            let precision = match unit {
                TimeUnit::Second => 0,
                TimeUnit::Millisecond => 3,
                TimeUnit::Microsecond => 6,
                TimeUnit::Nanosecond => 9,
            };
            let name = if zone.is_some() {
                "TIMESTAMP_LTZ"
            } else {
                "TIMESTAMP"
            };
            format!("{name}({precision})")
        }
        DataType::Interval(_) | DataType::Duration(_) => "INTERVAL".to_string(),
        DataType::List(element) => format!("ARRAY<{}>", nullable_type_name(element)),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) if fields.len() == 2 => {
                format!(
                    "MAP<{}, {}>",
                    type_name(fields[0].data_type()),
                    nullable_type_name(&fields[1])
                )
            }
            other => format!("MAP<{other}>"),
        },
        DataType::Struct(fields) => {
            let fields: Vec<String> = fields
                .iter()
                .map(|f| format!("`{}` {}", f.name(), nullable_type_name(f)))
                .collect();
            format!("ROW<{}>", fields.join(", "))
        }
        other => other.to_string(),
    }
}

fn nullable_type_name(field: &Field) -> String {
    let name = type_name(field.data_type());
    if field.is_nullable() {
        name
    } else {
        format!("{name} NOT NULL")
    }
}
