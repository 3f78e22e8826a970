//! Splits a script into statements and parses each.
//!
//! A statement ends at a semicolon outside strings and comments; `EXECUTE STATEMENT SET BEGIN … END` holds semicolons of its own.

use sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer, Whitespace};

use super::dialect::FlinkDialect;
use super::source::{LineIndex, Source, location};
use super::statement::ParsedStatement;
use super::statements::{is_space, is_word, parse_statement};
use crate::error::{Location, SqlError};

/// Parses a whole script. The first error ends it.
pub fn parse_script(text: &str) -> Result<Vec<ParsedStatement>, SqlError> {
    let tokens = tokenize(text)?;
    let lines = LineIndex::new(text);
    let mut statements = Vec::new();
    for range in split(&tokens) {
        let Some(part) = tokens.get(range.clone()) else {
            continue;
        };
        let (Some(first), Some(last)) = (
            part.iter().find(|t| !is_space(&t.token)),
            part.iter().rfind(|t| !is_space(&t.token)),
        ) else {
            continue;
        };
        check_hints(part)?;
        check_length(part)?;
        let start = location(first.span.start);
        let source = Source {
            text,
            lines: &lines,
        };
        let statement = parse_statement(part, &source).map_err(|e| {
            let end = location(last.span.end);
            e.or_at(Location {
                line: end.line,
                column: end.column.saturating_sub(1).max(1),
            })
        })?;
        let text = source.slice(start, location(last.span.end)).to_string();
        statements.push(ParsedStatement {
            statement,
            text,
            location: start,
        });
    }
    Ok(statements)
}

/// Whether a prompt may hand the text over: it ends with a semicolon that is not inside a string, a comment or a statement set.
pub fn is_complete(text: &str) -> bool {
    let Ok(tokens) = tokenize(text) else {
        return !has_open_literal(text);
    };
    let Some(last) = tokens.iter().rfind(|t| !is_space(&t.token)) else {
        return false;
    };
    last.token == Token::SemiColon
        && split(&tokens).last().cloned().is_some_and(|rest| {
            tokens
                .get(rest)
                .is_none_or(|rest| rest.iter().all(|t| is_space(&t.token)))
        })
}

/// An error of the tokenizer means an open string, comment or quoted name: the prompt should wait for its end.
fn has_open_literal(text: &str) -> bool {
    Tokenizer::new(&FlinkDialect, text)
        .tokenize()
        .is_err_and(|e| e.message.contains("Unterminated") || e.message.contains("EOF"))
}

fn tokenize(text: &str) -> Result<Vec<TokenWithSpan>, SqlError> {
    Tokenizer::new(&FlinkDialect, text)
        .tokenize_with_location()
        .map_err(|e| SqlError::at(e.message, location(e.location)))
}

/// Ranges of tokens between the semicolons, the rest behind the last one included.
fn split(tokens: &[TokenWithSpan]) -> Vec<std::ops::Range<usize>> {
    let mut ranges = Vec::new();
    let mut start = 0;
    // The words of the statement so far, enough to recognise a statement set.
    let mut head: Vec<&Token> = Vec::new();
    let mut in_set = false;
    for (i, token) in tokens.iter().enumerate() {
        if is_space(&token.token) {
            continue;
        }
        if token.token == Token::SemiColon {
            if !in_set {
                ranges.push(start..i);
                start = i + 1;
                head.clear();
            }
            continue;
        }
        if in_set {
            // END closes the set unless it closes a CASE, and then something other than `;` or the end of the text follows.
            let next = tokens
                .iter()
                .skip(i + 1)
                .find(|t| !is_space(&t.token))
                .map(|t| &t.token);
            let previous = tokens
                .iter()
                .take(i)
                .rfind(|t| !is_space(&t.token))
                .map(|t| &t.token);
            if is_word(&token.token, "END")
                && matches!(next, None | Some(Token::SemiColon))
                && matches!(previous, Some(Token::SemiColon))
            {
                in_set = false;
            }
        } else if head.len() < 6 {
            head.push(&token.token);
            let words: Vec<&Token> = head
                .iter()
                .copied()
                .filter(|t| !is_word(t, "EXPLAIN") && !is_word(t, "EXECUTE"))
                .collect();
            in_set = words.len() == 3
                && head.len() > 3
                && is_word(words[0], "STATEMENT")
                && is_word(words[1], "SET")
                && is_word(words[2], "BEGIN");
        }
    }
    ranges.push(start..tokens.len());
    ranges
}

/// Operators and joins of one statement, at most: each nests the plan by one more level, and plans are walked by recursion.
const NESTING_MAX: usize = 500;

/// Refuses a statement whose plan would be nested too deep. Rows and lists may be as long as they like.
fn check_length(tokens: &[TokenWithSpan]) -> Result<(), SqlError> {
    let mut operators = 0;
    let mut in_from = false;
    for token in tokens {
        operators += usize::from(match &token.token {
            Token::Plus
            | Token::Minus
            | Token::Mul
            | Token::Div
            | Token::Mod
            | Token::StringConcat
            | Token::LBracket => true,
            Token::Comma => in_from,
            Token::Word(word) if word.quote_style.is_none() => {
                let upper = word.value.to_ascii_uppercase();
                match upper.as_str() {
                    "FROM" => in_from = true,
                    "WHERE" | "GROUP" | "SELECT" | "VALUES" | "ON" => in_from = false,
                    _ => {}
                }
                matches!(
                    upper.as_str(),
                    "AND"
                        | "OR"
                        | "NOT"
                        | "JOIN"
                        | "UNION"
                        | "INTERSECT"
                        | "EXCEPT"
                        | "IS"
                        | "FROM"
                        | "CASE"
                )
            }
            _ => false,
        });
        if operators > NESTING_MAX {
            return Err(SqlError::at(
                format!(
                    "the statement is too long: it has more than {NESTING_MAX} operators and joins"
                ),
                location(token.span.start),
            ));
        }
    }
    Ok(())
}

/// Hints change a query; one that cannot be honoured is not passed over in silence.
fn check_hints(tokens: &[TokenWithSpan]) -> Result<(), SqlError> {
    for token in tokens {
        let Token::Whitespace(Whitespace::MultiLineComment(comment)) = &token.token else {
            continue;
        };
        let Some(hint) = comment.strip_prefix('+') else {
            continue;
        };
        let upper = hint.to_ascii_uppercase();
        for (name, why) in [
            (
                "OPTIONS",
                "the hint OPTIONS is not supported; give the options in CREATE TABLE",
            ),
            (
                "STATE_TTL",
                "the hint STATE_TTL is not supported yet: state is kept for ever",
            ),
            (
                "LOOKUP",
                "the hint LOOKUP is not supported: there are no lookup joins yet",
            ),
        ] {
            if upper.contains(name) {
                return Err(SqlError::at(why, location(token.span.start)));
            }
        }
    }
    Ok(())
}
