//! Flink's statements, by driving sqlparser's parser.

use sqlparser::ast::{Ident, Query};
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Token, TokenWithSpan};

use super::create_table::{
    parse_create_table, parse_name, parse_names_in_parentheses, parse_word, peek_word, refuse,
};
use super::dialect::FlinkDialect;
use super::source::{Source, location, parser_error};
use super::statement::{CreateView, ExplainTarget, Insert, ObjectKind, Statement};
use crate::error::SqlError;

/// Statements that Flink has and this does not, with what to say about them.
const REFUSED: &[(&str, &str)] = &[
    (
        "USE",
        "USE is not supported: there is one catalog and one database",
    ),
    (
        "ALTER",
        "ALTER is not supported; drop the object and create it anew",
    ),
    ("LOAD", "modules cannot be loaded"),
    ("UNLOAD", "modules cannot be unloaded"),
    ("ADD", "ADD JAR is not supported: there is no JVM"),
    ("REMOVE", "REMOVE JAR is not supported: there is no JVM"),
    ("ANALYZE", "ANALYZE is not supported"),
    ("CALL", "procedures are not supported"),
    ("UPDATE", "UPDATE is not supported in streaming"),
    ("DELETE", "DELETE is not supported in streaming"),
    ("TRUNCATE", "TRUNCATE is not supported in streaming"),
    ("STOP", "STOP JOB is not supported; end the process"),
    ("COMPILE", "compiled plans are not supported"),
];

pub(super) fn is_space(token: &Token) -> bool {
    matches!(token, Token::Whitespace(_) | Token::EOF)
}

pub(super) fn is_word(token: &Token, word: &str) -> bool {
    matches!(token, Token::Word(w) if w.quote_style.is_none() && w.value.eq_ignore_ascii_case(word))
}

/// Parses the tokens of one statement, all of them.
pub(super) fn parse_statement(
    tokens: &[TokenWithSpan],
    source: &Source,
) -> Result<Statement, SqlError> {
    let mut split_shifts = Vec::with_capacity(tokens.len());
    let is_table = {
        let mut words = tokens.iter().filter(|t| !is_space(&t.token));
        words.next().is_some_and(|t| is_word(&t.token, "CREATE"))
            && words.take(2).any(|t| is_word(&t.token, "TABLE"))
    };
    for token in tokens {
        // `ROW<a ROW<b INT>>` ends with what the tokenizer takes for a shift.
        if is_table && token.token == Token::ShiftRight {
            split_shifts.extend([
                TokenWithSpan {
                    token: Token::Gt,
                    span: token.span,
                },
                TokenWithSpan {
                    token: Token::Gt,
                    span: token.span,
                },
            ]);
        } else {
            split_shifts.push(token.clone());
        }
    }
    let mut parser = Parser::new(&FlinkDialect).with_tokens_with_locations(split_shifts);
    statement(&mut parser, source)
        .and_then(|statement| {
            let token = parser.next_token();
            if token.token == Token::EOF {
                Ok(statement)
            } else {
                parser.expected("the end of the statement", token)
            }
        })
        .map_err(parser_error)
}

fn statement(parser: &mut Parser, source: &Source) -> Result<Statement, ParserError> {
    let token = parser.peek_token();
    let at = token.span.start;
    let word = match &token.token {
        Token::Word(word) if word.quote_style.is_none() => word.value.to_ascii_uppercase(),
        Token::LParen => return Ok(Statement::Query(parser.parse_query()?)),
        _ => return parser.expected("a statement", token),
    };
    if let Some((_, why)) = REFUSED.iter().find(|(name, _)| *name == word) {
        return refuse(why, at);
    }
    match word.as_str() {
        "SELECT" | "WITH" | "VALUES" => Ok(Statement::Query(parser.parse_query()?)),
        "INSERT" => Ok(Statement::Insert(insert(parser)?)),
        "CREATE" => create(parser, source),
        "DROP" => drop_statement(parser),
        "SET" => {
            parser.next_token();
            if parser.peek_token_ref().token == Token::EOF {
                return Ok(Statement::ShowOptions);
            }
            let key = option_key(parser)?;
            parser.expect_token(&Token::Eq)?;
            let value = option_value(parser)?;
            Ok(Statement::Set { key, value })
        }
        "RESET" => {
            parser.next_token();
            let key = if parser.peek_token_ref().token == Token::EOF {
                None
            } else {
                Some(option_key(parser)?)
            };
            Ok(Statement::Reset { key })
        }
        "EXECUTE" => {
            parser.next_token();
            if parse_word(parser, "STATEMENT") {
                parser.expect_keyword(Keyword::SET)?;
                return Ok(Statement::StatementSet(statement_set_body(parser)?));
            }
            if peek_word(parser, 0, "PLAN") {
                return refuse("compiled plans are not supported", at);
            }
            // EXECUTE INSERT …, EXECUTE SELECT …
            statement(parser, source)
        }
        "BEGIN" => {
            parser.next_token();
            if !parse_word(parser, "STATEMENT") {
                return parser.expected("STATEMENT SET", parser.peek_token());
            }
            parser.expect_keyword(Keyword::SET)?;
            Ok(Statement::BeginStatementSet)
        }
        "END" => {
            parser.next_token();
            Ok(Statement::EndStatementSet)
        }
        "EXPLAIN" => explain(parser),
        "SHOW" => show(parser),
        "DESCRIBE" | "DESC" => {
            parser.next_token();
            let _ = parse_word(parser, "EXTENDED");
            Ok(Statement::Describe {
                name: parse_name(parser)?,
            })
        }
        _ => parser.expected("a statement", token),
    }
}

/// `'key'`, or a bare `a.b-c`, which Flink's client accepts too.
fn option_key(parser: &mut Parser) -> Result<String, ParserError> {
    if let Token::SingleQuotedString(key) = &parser.peek_token_ref().token {
        let key = key.clone();
        parser.next_token();
        return Ok(key);
    }
    let mut key = String::new();
    loop {
        let token = parser.peek_token();
        match &token.token {
            Token::Word(word) => key.push_str(&word.value),
            Token::Period => key.push('.'),
            Token::Minus => key.push('-'),
            _ if key.is_empty() => return parser.expected("an option's name in quotes", token),
            _ => return Ok(key),
        }
        parser.next_token();
    }
}

fn option_value(parser: &mut Parser) -> Result<String, ParserError> {
    let token = parser.next_token();
    match token.token {
        Token::SingleQuotedString(value) => Ok(value),
        Token::Number(value, _) => Ok(value),
        Token::Word(word) => Ok(word.value),
        _ => parser.expected("an option's value in quotes", token),
    }
}

fn insert(parser: &mut Parser) -> Result<Insert, ParserError> {
    let first = parser.peek_token().span.start;
    parser.expect_keyword(Keyword::INSERT)?;
    let at = parser.peek_token_ref().span.start;
    if parse_word(parser, "OVERWRITE") {
        return refuse(
            "INSERT OVERWRITE is not supported in streaming; use INSERT INTO",
            at,
        );
    }
    parser.expect_keyword(Keyword::INTO)?;
    let _ = parser.parse_keyword(Keyword::TABLE);
    let table = parse_name(parser)?;
    let at = parser.peek_token_ref().span.start;
    if parser.peek_keyword(Keyword::PARTITION) {
        return refuse(
            "INSERT INTO … PARTITION is not supported; select the partition's value as a column",
            at,
        );
    }
    // `(SELECT …)` is a query, `(a, b)` a list of columns.
    let columns = if parser.peek_token_ref().token == Token::LParen
        && !["SELECT", "WITH", "VALUES"]
            .iter()
            .any(|word| peek_word(parser, 1, word))
        && parser.peek_nth_token_ref(1).token != Token::LParen
    {
        parse_names_in_parentheses(parser)?
    } else {
        Vec::new()
    };
    let query = parser.parse_query()?;
    Ok(Insert {
        table,
        columns,
        query,
        location: location(first),
    })
}

/// `BEGIN INSERT …; INSERT …; END`.
fn statement_set_body(parser: &mut Parser) -> Result<Vec<Insert>, ParserError> {
    parser.expect_keyword(Keyword::BEGIN)?;
    let mut inserts = Vec::new();
    while !parser.parse_keyword(Keyword::END) {
        inserts.push(insert(parser)?);
        parser.expect_token(&Token::SemiColon)?;
    }
    if inserts.is_empty() {
        return parser.expected(
            "at least one INSERT in the statement set",
            parser.peek_token(),
        );
    }
    Ok(inserts)
}

fn create(parser: &mut Parser, source: &Source) -> Result<Statement, ParserError> {
    parser.next_token();
    let at = parser.peek_token_ref().span.start;
    if parser.parse_keywords(&[Keyword::OR, Keyword::REPLACE]) {
        return refuse(
            "CREATE OR REPLACE is not supported; drop the object first",
            at,
        );
    }
    let temporary = parser.parse_keyword(Keyword::TEMPORARY);
    let system = parse_word(parser, "SYSTEM");
    let token = parser.next_token();
    match &token.token {
        Token::Word(word) => match word.value.to_ascii_uppercase().as_str() {
            "TABLE" if !system => Ok(Statement::CreateTable(Box::new(parse_create_table(
                parser, temporary,
            )?))),
            "VIEW" if !system => create_view(parser, temporary, source),
            "FUNCTION" => create_function(parser),
            "CATALOG" | "DATABASE" => refuse(
                format!(
                    "CREATE {} is not supported: there is one catalog and one database",
                    word.value
                ),
                at,
            ),
            "MATERIALIZED" => refuse("materialized tables are not supported", at),
            "MODEL" | "CONNECTION" => refuse(format!("CREATE {} is not supported", word.value), at),
            _ => parser.expected("TABLE, VIEW or FUNCTION", token),
        },
        _ => parser.expected("TABLE, VIEW or FUNCTION", token),
    }
}

fn create_view(
    parser: &mut Parser,
    temporary: bool,
    source: &Source,
) -> Result<Statement, ParserError> {
    let if_not_exists = parser.parse_keywords(&[Keyword::IF, Keyword::NOT, Keyword::EXISTS]);
    let name = parse_name(parser)?;
    let columns = if parser.peek_token_ref().token == Token::LParen {
        parse_names_in_parentheses(parser)?
    } else {
        Vec::new()
    };
    let comment = if parser.parse_keyword(Keyword::COMMENT) {
        Some(parser.parse_literal_string()?)
    } else {
        None
    };
    parser.expect_keyword(Keyword::AS)?;
    let start = location(parser.peek_token_ref().span.start);
    let query: Box<Query> = parser.parse_query()?;
    let end = location(parser.get_current_token().span.end);
    let query_text = source.slice(start, end).to_string();
    Ok(Statement::CreateView(Box::new(CreateView {
        name,
        temporary,
        if_not_exists,
        columns,
        comment,
        query,
        query_text,
    })))
}

fn create_function(parser: &mut Parser) -> Result<Statement, ParserError> {
    let if_not_exists = parser.parse_keywords(&[Keyword::IF, Keyword::NOT, Keyword::EXISTS]);
    let name = parse_name(parser)?;
    parser.expect_keyword(Keyword::AS)?;
    let implementation = parser.parse_literal_string()?;
    // LANGUAGE JAVA, USING JAR '…': whatever the function was, only a built-in one can take its place.
    while parser.peek_token_ref().token != Token::EOF {
        parser.next_token();
    }
    Ok(Statement::CreateFunction {
        name,
        implementation,
        if_not_exists,
    })
}

fn drop_statement(parser: &mut Parser) -> Result<Statement, ParserError> {
    parser.next_token();
    let _ = parser.parse_keyword(Keyword::TEMPORARY);
    let _ = parse_word(parser, "SYSTEM");
    let token = parser.next_token();
    let kind = match &token.token {
        t if is_word(t, "TABLE") => ObjectKind::Table,
        t if is_word(t, "VIEW") => ObjectKind::View,
        t if is_word(t, "FUNCTION") => ObjectKind::Function,
        _ => return parser.expected("TABLE, VIEW or FUNCTION", token),
    };
    let if_exists = parser.parse_keywords(&[Keyword::IF, Keyword::EXISTS]);
    Ok(Statement::Drop {
        kind,
        name: parse_name(parser)?,
        if_exists,
    })
}

fn explain(parser: &mut Parser) -> Result<Statement, ParserError> {
    parser.next_token();
    let mut changelog_mode = false;
    if parse_word(parser, "PLAN") {
        parser.expect_keyword(Keyword::FOR)?;
    } else {
        loop {
            let token = parser.peek_token();
            let known = [
                "ESTIMATED_COST",
                "CHANGELOG_MODE",
                "JSON_EXECUTION_PLAN",
                "PLAN_ADVICE",
            ]
            .into_iter()
            .find(|word| is_word(&token.token, word));
            match known {
                Some("CHANGELOG_MODE") => changelog_mode = true,
                Some(other) => {
                    return refuse(
                        format!("EXPLAIN {other} is not supported"),
                        token.span.start,
                    );
                }
                None => break,
            }
            parser.next_token();
            if !parser.consume_token(&Token::Comma) {
                break;
            }
        }
    }
    let _ = parse_word(parser, "EXECUTE");
    let target = if parse_word(parser, "STATEMENT") {
        parser.expect_keyword(Keyword::SET)?;
        ExplainTarget::Inserts(statement_set_body(parser)?)
    } else if parser.peek_keyword(Keyword::INSERT) {
        ExplainTarget::Inserts(vec![insert(parser)?])
    } else {
        ExplainTarget::Query(parser.parse_query()?)
    };
    Ok(Statement::Explain {
        changelog_mode,
        target,
    })
}

fn show(parser: &mut Parser) -> Result<Statement, ParserError> {
    parser.next_token();
    let token = parser.next_token();
    let Token::Word(word) = &token.token else {
        return parser.expected("TABLES, VIEWS, FUNCTIONS or CREATE TABLE", token);
    };
    match word.value.to_ascii_uppercase().as_str() {
        "TABLES" => Ok(Statement::Show(ObjectKind::Table)),
        "VIEWS" => Ok(Statement::Show(ObjectKind::View)),
        "FUNCTIONS" => Ok(Statement::Show(ObjectKind::Function)),
        "USER" if parse_word(parser, "FUNCTIONS") => Ok(Statement::Show(ObjectKind::Function)),
        "CREATE" => {
            let token = parser.next_token();
            let kind = match &token.token {
                t if is_word(t, "TABLE") => ObjectKind::Table,
                t if is_word(t, "VIEW") => ObjectKind::View,
                _ => return parser.expected("TABLE or VIEW", token),
            };
            let name: Ident = parse_name(parser)?;
            Ok(Statement::ShowCreate { kind, name })
        }
        "COLUMNS" => {
            let _ = parser.parse_one_of_keywords(&[Keyword::FROM, Keyword::IN]);
            Ok(Statement::Describe {
                name: parse_name(parser)?,
            })
        }
        other => refuse(
            format!(
                "SHOW {other} is not supported; there are SHOW TABLES, VIEWS, FUNCTIONS, COLUMNS and CREATE TABLE"
            ),
            token.span.start,
        ),
    }
}
