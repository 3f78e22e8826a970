//! Flink's dialect, told to sqlparser: back-quoted identifiers, `TABLE t` as a function argument, and the syntax switches that Flink has on.

use std::any::TypeId;

use sqlparser::ast::{Expr, Ident};
use sqlparser::dialect::{Dialect, GenericDialect};
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::Token;

/// Flink SQL for sqlparser.
#[derive(Debug)]
pub(crate) struct FlinkDialect;

impl Dialect for FlinkDialect {
    /// Checks that sqlparser hard-wires to its own dialects see the permissive one.
    fn dialect(&self) -> TypeId {
        TypeId::of::<GenericDialect>()
    }

    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        ch == '`'
    }

    fn is_identifier_start(&self, ch: char) -> bool {
        ch.is_alphabetic() || ch == '_' || ch == '$'
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        ch.is_alphanumeric() || ch == '_' || ch == '$'
    }

    fn identifier_quote_style(&self, _identifier: &str) -> Option<char> {
        Some('`')
    }

    fn supports_unicode_string_literal(&self) -> bool {
        true
    }

    fn supports_filter_during_aggregation(&self) -> bool {
        true
    }

    fn supports_group_by_expr(&self) -> bool {
        true
    }

    fn supports_window_clause_named_window_reference(&self) -> bool {
        true
    }

    fn supports_table_versioning(&self) -> bool {
        true
    }

    fn supports_named_fn_args_with_rarrow_operator(&self) -> bool {
        true
    }

    fn supports_match_recognize(&self) -> bool {
        true
    }

    fn supports_map_literal_with_angle_brackets(&self) -> bool {
        true
    }

    fn require_interval_qualifier(&self) -> bool {
        true
    }

    /// `TABLE t`, the first argument of the windowing functions.
    fn parse_prefix(&self, parser: &mut Parser) -> Option<Result<Expr, ParserError>> {
        if !parser.peek_keyword(Keyword::TABLE)
            || !matches!(parser.peek_nth_token_ref(1).token, Token::Word(_))
        {
            return None;
        }
        let prefix = Ident::with_span(parser.next_token().span, "TABLE");
        Some(parser.parse_object_name(false).map(|name| {
            Expr::Prefixed {
                prefix,
                value: Box::new(Expr::CompoundIdentifier(
                    name.0
                        .iter()
                        .filter_map(|part| part.as_ident().cloned())
                        .collect(),
                )),
            }
        }))
    }
}
