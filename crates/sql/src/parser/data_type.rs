//! Flink's types in `CREATE TABLE`, as Arrow types.
//!
//! `TIMESTAMP(p)` keeps the coarsest Arrow unit that holds `p` digits: TIMESTAMP(3) is milliseconds, TIMESTAMP alone (6 digits) microseconds. Lengths
//! of CHAR, VARCHAR, BINARY and VARBINARY are accepted and not enforced, which is Flink's default too.

use std::sync::Arc;

use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, Field, Fields, TimeUnit};
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::Token;

use super::statement::ColumnType;

/// Time zone of `TIMESTAMP_LTZ` in Arrow: instants are kept in UTC.
pub(crate) const LTZ_ZONE: &str = "UTC";

/// A type nested deeper than this is refused (the parser recurses).
const NESTING_MAX: usize = 32;

/// The Arrow unit for a timestamp of `precision` digits, 0 to 9.
pub(crate) fn timestamp_unit(precision: u64) -> Option<TimeUnit> {
    match precision {
        0..=3 => Some(TimeUnit::Millisecond),
        4..=6 => Some(TimeUnit::Microsecond),
        7..=9 => Some(TimeUnit::Nanosecond),
        _ => None,
    }
}

/// `DECIMAL(precision, scale)`, or why there is none.
pub(crate) fn decimal_type(precision: u64, scale: i64) -> Result<DataType, String> {
    let max = u64::from(DECIMAL128_MAX_PRECISION);
    match (u8::try_from(precision), i8::try_from(scale)) {
        (Ok(p), Ok(s))
            if (1..=DECIMAL128_MAX_PRECISION).contains(&p) && s >= 0 && s.unsigned_abs() <= p =>
        {
            Ok(DataType::Decimal128(p, s))
        }
        _ => Err(format!(
            "DECIMAL takes a precision of 1 to {max} and a scale of 0 to the precision, found DECIMAL({precision}, {scale})"
        )),
    }
}

/// Parses a type with its `NULL` or `NOT NULL`.
pub(super) fn parse_column_type(parser: &mut Parser) -> Result<ColumnType, ParserError> {
    nested_type(parser, 0)
}

fn nested_type(parser: &mut Parser, depth: usize) -> Result<ColumnType, ParserError> {
    if depth > NESTING_MAX {
        return Err(ParserError::ParserError(format!(
            "a type is nested more than {NESTING_MAX} deep"
        )));
    }
    let mut column_type = ColumnType {
        data_type: base_type(parser, depth)?,
        nullable: true,
    };
    loop {
        if parser.parse_keywords(&[Keyword::NOT, Keyword::NULL]) {
            column_type.nullable = false;
        } else if parser.parse_keyword(Keyword::NULL) {
            column_type.nullable = true;
        } else if parser.parse_keyword(Keyword::ARRAY) {
            // `INT ARRAY` is another way to write `ARRAY<INT>`.
            column_type = ColumnType {
                data_type: list_of(column_type),
                nullable: true,
            };
        } else {
            return Ok(column_type);
        }
    }
}

fn list_of(element: ColumnType) -> DataType {
    DataType::List(Arc::new(Field::new(
        "item",
        element.data_type,
        element.nullable,
    )))
}

fn base_type(parser: &mut Parser, depth: usize) -> Result<DataType, ParserError> {
    let token = parser.next_token();
    let Token::Word(word) = &token.token else {
        return parser.expected("a type", token);
    };
    let refuse =
        |message: String| ParserError::ParserError(format!("{message}{}", token.span.start));
    let data_type = match word.value.to_ascii_uppercase().as_str() {
        "BOOLEAN" => DataType::Boolean,
        "TINYINT" => DataType::Int8,
        "SMALLINT" => DataType::Int16,
        "INT" | "INTEGER" => DataType::Int32,
        "BIGINT" => DataType::Int64,
        "FLOAT" => DataType::Float32,
        "DOUBLE" => {
            let _ = parser.parse_keyword(Keyword::PRECISION);
            DataType::Float64
        }
        "DECIMAL" | "DEC" | "NUMERIC" => {
            let (precision, scale) = optional_two_numbers(parser)?.unwrap_or((10, None));
            let scale = i64::try_from(scale.unwrap_or(0)).unwrap_or(i64::MAX);
            decimal_type(precision, scale).map_err(refuse)?
        }
        "STRING" => DataType::Utf8,
        "CHAR" | "CHARACTER" | "VARCHAR" => {
            let _ = parser.parse_keyword(Keyword::VARYING);
            optional_length(parser)?;
            DataType::Utf8
        }
        "BYTES" => DataType::Binary,
        "BINARY" | "VARBINARY" => {
            let _ = parser.parse_keyword(Keyword::VARYING);
            optional_length(parser)?;
            DataType::Binary
        }
        "DATE" => DataType::Date32,
        "TIME" => {
            optional_two_numbers(parser)?;
            skip_without_time_zone(parser);
            DataType::Time32(TimeUnit::Millisecond)
        }
        "TIMESTAMP" => {
            let precision = optional_two_numbers(parser)?.map_or(6, |(p, _)| p);
            let unit = timestamp_unit(precision).ok_or_else(|| {
                refuse(format!(
                    "TIMESTAMP takes a precision of 0 to 9, found {precision}"
                ))
            })?;
            let local = with_local_time_zone(parser).map_err(refuse)?;
            DataType::Timestamp(unit, local.then(|| LTZ_ZONE.into()))
        }
        "TIMESTAMP_LTZ" => {
            let precision = optional_two_numbers(parser)?.map_or(6, |(p, _)| p);
            let unit = timestamp_unit(precision).ok_or_else(|| {
                refuse(format!(
                    "TIMESTAMP_LTZ takes a precision of 0 to 9, found {precision}"
                ))
            })?;
            DataType::Timestamp(unit, Some(LTZ_ZONE.into()))
        }
        "ARRAY" => {
            parser.expect_token(&Token::Lt)?;
            let element = nested_type(parser, depth + 1)?;
            parser.expect_token(&Token::Gt)?;
            list_of(element)
        }
        "MAP" => {
            parser.expect_token(&Token::Lt)?;
            let key = nested_type(parser, depth + 1)?;
            parser.expect_token(&Token::Comma)?;
            let value = nested_type(parser, depth + 1)?;
            parser.expect_token(&Token::Gt)?;
            map_of(key.data_type, value)
        }
        "ROW" => row_type(parser, depth)?,
        "MULTISET" | "RAW" | "STRUCTURED" | "VARIANT" | "INTERVAL" => {
            return Err(refuse(format!(
                "the type {} is not supported for columns",
                word.value
            )));
        }
        _ => return parser.expected("a type", token),
    };
    Ok(data_type)
}

fn map_of(key: DataType, value: ColumnType) -> DataType {
    let entries = Fields::from(vec![
        Field::new("key", key, false),
        Field::new("value", value.data_type, value.nullable),
    ]);
    DataType::Map(
        Arc::new(Field::new("entries", DataType::Struct(entries), false)),
        false,
    )
}

/// `ROW<a INT, b STRING 'comment'>` or `ROW(a INT, b STRING)`.
fn row_type(parser: &mut Parser, depth: usize) -> Result<DataType, ParserError> {
    let close = if parser.consume_token(&Token::LParen) {
        Token::RParen
    } else {
        if parser.consume_token(&Token::Neq) {
            return Ok(DataType::Struct(Fields::empty()));
        }
        parser.expect_token(&Token::Lt)?;
        Token::Gt
    };
    let mut fields: Vec<Field> = Vec::new();
    loop {
        let start = parser.peek_token().span.start;
        let name = parser.parse_identifier()?;
        if fields.iter().any(|f| *f.name() == name.value) {
            return Err(ParserError::ParserError(format!(
                "ROW has two fields named '{}'{start}",
                name.value
            )));
        }
        let field_type = nested_type(parser, depth + 1)?;
        if matches!(parser.peek_token_ref().token, Token::SingleQuotedString(_)) {
            parser.next_token();
        }
        fields.push(Field::new(
            name.value,
            field_type.data_type,
            field_type.nullable,
        ));
        if !parser.consume_token(&Token::Comma) {
            break;
        }
    }
    parser.expect_token(&close)?;
    Ok(DataType::Struct(fields.into()))
}

fn optional_two_numbers(parser: &mut Parser) -> Result<Option<(u64, Option<u64>)>, ParserError> {
    if !parser.consume_token(&Token::LParen) {
        return Ok(None);
    }
    let first = parser.parse_literal_uint()?;
    let second = if parser.consume_token(&Token::Comma) {
        Some(parser.parse_literal_uint()?)
    } else {
        None
    };
    parser.expect_token(&Token::RParen)?;
    Ok(Some((first, second)))
}

fn optional_length(parser: &mut Parser) -> Result<(), ParserError> {
    if parser.consume_token(&Token::LParen) {
        parser.parse_literal_uint()?;
        parser.expect_token(&Token::RParen)?;
    }
    Ok(())
}

fn skip_without_time_zone(parser: &mut Parser) {
    let _ = parser.parse_keywords(&[Keyword::WITHOUT, Keyword::TIME, Keyword::ZONE]);
}

/// True for `WITH LOCAL TIME ZONE`; `WITH TIME ZONE` alone is refused, as Flink refuses it.
fn with_local_time_zone(parser: &mut Parser) -> Result<bool, String> {
    skip_without_time_zone(parser);
    if !parser.parse_keyword(Keyword::WITH) {
        return Ok(false);
    }
    if parser.parse_keywords(&[Keyword::LOCAL, Keyword::TIME, Keyword::ZONE]) {
        return Ok(true);
    }
    Err("TIMESTAMP WITH TIME ZONE is not supported; use TIMESTAMP_LTZ".to_string())
}
