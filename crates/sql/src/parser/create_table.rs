//! `CREATE TABLE`: the column list that sqlparser does not know (computed columns, `WATERMARK FOR`, `PRIMARY KEY … NOT ENFORCED`) and the options.

use sqlparser::ast::{Expr, Ident};
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Location, Token};

use super::data_type::parse_column_type;
use super::statement::{ColumnDefinition, ColumnDefinitionKind, CreateTable};

/// An error with sqlparser's own way to tell a place.
pub(super) fn refuse<T>(message: impl std::fmt::Display, at: Location) -> Result<T, ParserError> {
    Err(ParserError::ParserError(format!("{message}{at}")))
}

/// True if the next word is this one, which is not a keyword of sqlparser's, or not always; it is consumed.
pub(super) fn parse_word(parser: &mut Parser, word: &str) -> bool {
    let found = peek_word(parser, 0, word);
    if found {
        parser.next_token();
    }
    found
}

/// True if the `n`-th word from here is this one, unquoted.
pub(super) fn peek_word(parser: &Parser, n: usize, word: &str) -> bool {
    matches!(&parser.peek_nth_token_ref(n).token,
        Token::Word(w) if w.quote_style.is_none() && w.value.eq_ignore_ascii_case(word))
}

/// A table, view or function name. Only the default catalog and database exist, so qualified names must name those.
pub(super) fn parse_name(parser: &mut Parser) -> Result<Ident, ParserError> {
    let start = parser.peek_token_ref().span.start;
    let name = parser.parse_object_name(false)?;
    let mut parts: Vec<Ident> = name
        .0
        .iter()
        .filter_map(|part| part.as_ident().cloned())
        .collect();
    let qualified = match parts.len() {
        1 => true,
        2 => parts[0].value == "default_database",
        3 => parts[0].value == "default_catalog" && parts[1].value == "default_database",
        _ => false,
    };
    match parts.pop() {
        Some(last) if qualified => Ok(last),
        _ => refuse(
            format!(
                "'{name}' is in a catalog or database that does not exist; there is only `default_catalog`.`default_database`"
            ),
            start,
        ),
    }
}

/// What follows `CREATE [TEMPORARY] TABLE`.
pub(super) fn parse_create_table(
    parser: &mut Parser,
    temporary: bool,
) -> Result<CreateTable, ParserError> {
    let if_not_exists = parser.parse_keywords(&[Keyword::IF, Keyword::NOT, Keyword::EXISTS]);
    let name = parse_name(parser)?;
    let mut table = CreateTable {
        name,
        temporary,
        if_not_exists,
        columns: Vec::new(),
        watermark: None,
        primary_key: Vec::new(),
        comment: None,
        partitioned_by: Vec::new(),
        options: Vec::new(),
    };
    let at = parser.peek_token_ref().span.start;
    if parser.peek_keyword(Keyword::AS) {
        return refuse(
            "CREATE TABLE … AS SELECT is not supported; create the table, then INSERT INTO it",
            at,
        );
    }
    parser.expect_token(&Token::LParen)?;
    loop {
        parse_element(parser, &mut table)?;
        if !parser.consume_token(&Token::Comma) {
            break;
        }
    }
    parser.expect_token(&Token::RParen)?;
    if parser.parse_keyword(Keyword::COMMENT) {
        table.comment = Some(parser.parse_literal_string()?);
    }
    let at = parser.peek_token_ref().span.start;
    if parse_word(parser, "DISTRIBUTED") {
        return refuse("DISTRIBUTED BY is not supported", at);
    }
    if parse_word(parser, "PARTITIONED") {
        parser.expect_keyword(Keyword::BY)?;
        table.partitioned_by = parse_names_in_parentheses(parser)?;
    }
    if parser.parse_keyword(Keyword::WITH) {
        table.options = parse_options(parser)?;
    }
    let at = parser.peek_token_ref().span.start;
    if parser.peek_keyword(Keyword::LIKE) {
        return refuse(
            "CREATE TABLE … LIKE is not supported; write the columns out",
            at,
        );
    }
    if parser.peek_keyword(Keyword::AS) {
        return refuse(
            "CREATE TABLE … AS SELECT is not supported; create the table, then INSERT INTO it",
            at,
        );
    }
    Ok(table)
}

fn parse_element(parser: &mut Parser, table: &mut CreateTable) -> Result<(), ParserError> {
    let at = parser.peek_token_ref().span.start;
    if peek_word(parser, 0, "WATERMARK") && peek_word(parser, 1, "FOR") {
        let (column, expression) = parse_watermark(parser)?;
        if table.watermark.is_some() {
            return refuse("a table has at most one WATERMARK", at);
        }
        table.watermark = Some((column, expression));
        return Ok(());
    }
    let constraint = parser.peek_keyword(Keyword::CONSTRAINT);
    if constraint {
        parser.next_token();
        parser.parse_identifier()?;
    }
    if constraint || (peek_word(parser, 0, "PRIMARY") && peek_word(parser, 1, "KEY")) {
        if parser.parse_keyword(Keyword::UNIQUE) {
            return refuse(
                "UNIQUE constraints are not supported, only PRIMARY KEY … NOT ENFORCED",
                at,
            );
        }
        parser.expect_keywords(&[Keyword::PRIMARY, Keyword::KEY])?;
        let columns = parse_names_in_parentheses(parser)?;
        return set_primary_key(parser, table, columns, at);
    }
    parse_column(parser, table)
}

fn set_primary_key(
    parser: &mut Parser,
    table: &mut CreateTable,
    columns: Vec<Ident>,
    at: Location,
) -> Result<(), ParserError> {
    if !parser.parse_keywords(&[Keyword::NOT, Keyword::ENFORCED]) {
        return refuse(
            "PRIMARY KEY needs NOT ENFORCED behind it: the key is promised, not checked",
            at,
        );
    }
    if !table.primary_key.is_empty() {
        return refuse("a table has at most one PRIMARY KEY", at);
    }
    table.primary_key = columns;
    Ok(())
}

fn parse_watermark(parser: &mut Parser) -> Result<(Ident, Expr), ParserError> {
    parser.next_token();
    parser.next_token();
    let column = parser.parse_identifier()?;
    let at = parser.peek_token_ref().span.start;
    if parser.peek_token_ref().token == Token::Period {
        return refuse(
            "WATERMARK FOR names a top-level column; add a computed column for a field of a ROW",
            at,
        );
    }
    parser.expect_keyword(Keyword::AS)?;
    Ok((column, parser.parse_expr()?))
}

fn parse_column(parser: &mut Parser, table: &mut CreateTable) -> Result<(), ParserError> {
    let start = parser.peek_token_ref().span.start;
    let name = parser.parse_identifier()?;
    if table.columns.iter().any(|c| c.name.value == name.value) {
        return refuse(
            format!(
                "table '{}' has two columns named '{}'",
                table.name.value, name.value
            ),
            start,
        );
    }
    let kind = if parser.parse_keyword(Keyword::AS) {
        ColumnDefinitionKind::Computed(Box::new(parser.parse_expr()?))
    } else {
        let mut column_type = parse_column_type(parser)?;
        let at = parser.peek_token_ref().span.start;
        if parse_word(parser, "METADATA") {
            return refuse(
                format!(
                    "column '{}': METADATA columns are not supported yet",
                    name.value
                ),
                at,
            );
        }
        if peek_word(parser, 0, "PRIMARY") {
            parser.expect_keywords(&[Keyword::PRIMARY, Keyword::KEY])?;
            column_type.nullable = false;
            set_primary_key(parser, table, vec![name.clone()], at)?;
        }
        ColumnDefinitionKind::Physical(column_type)
    };
    let comment = if parser.parse_keyword(Keyword::COMMENT) {
        Some(parser.parse_literal_string()?)
    } else {
        None
    };
    table.columns.push(ColumnDefinition {
        name,
        kind,
        comment,
    });
    Ok(())
}

/// `(a, b)`.
pub(super) fn parse_names_in_parentheses(parser: &mut Parser) -> Result<Vec<Ident>, ParserError> {
    parser.expect_token(&Token::LParen)?;
    let names = parser.parse_comma_separated(Parser::parse_identifier)?;
    parser.expect_token(&Token::RParen)?;
    Ok(names)
}

/// `('key' = 'value', …)`.
fn parse_options(parser: &mut Parser) -> Result<Vec<(String, String)>, ParserError> {
    parser.expect_token(&Token::LParen)?;
    let mut options: Vec<(String, String)> = Vec::new();
    if parser.consume_token(&Token::RParen) {
        return Ok(options);
    }
    loop {
        let at = parser.peek_token_ref().span.start;
        let key = parser.parse_literal_string()?;
        parser.expect_token(&Token::Eq)?;
        let value = parser.parse_literal_string()?;
        if options.iter().any(|(k, _)| *k == key) {
            return refuse(format!("the option '{key}' is given twice"), at);
        }
        options.push((key, value));
        if !parser.consume_token(&Token::Comma) {
            break;
        }
    }
    parser.expect_token(&Token::RParen)?;
    Ok(options)
}
