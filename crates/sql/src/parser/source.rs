//! A script's text: cutting pieces out of it by place, and the places of sqlparser's errors.

use sqlparser::parser::ParserError;

use crate::error::{Location, SqlError};

/// A place of sqlparser's; it counts from 1 too, and says 0 for none.
pub(super) fn location(at: sqlparser::tokenizer::Location) -> Location {
    Location {
        line: at.line.max(1),
        column: at.column.max(1),
    }
}

/// The script, to cut texts out of it by place.
pub(super) struct Source<'a> {
    pub text: &'a str,
    pub lines: &'a LineIndex,
}

impl<'a> Source<'a> {
    /// The text from one place to another.
    pub fn slice(&self, start: Location, end: Location) -> &'a str {
        let (start, end) = (
            self.lines.offset(self.text, start),
            self.lines.offset(self.text, end),
        );
        self.text
            .get(start..end.max(start))
            .unwrap_or("")
            .trim_end()
    }
}

/// Byte offsets of the lines of a text.
pub(super) struct LineIndex {
    starts: Vec<usize>,
}

impl LineIndex {
    pub fn new(text: &str) -> Self {
        let mut starts = vec![0];
        starts.extend(text.match_indices('\n').map(|(i, _)| i + 1));
        Self { starts }
    }

    fn offset(&self, text: &str, at: Location) -> usize {
        let index = |n: u64| usize::try_from(n.saturating_sub(1)).unwrap_or(usize::MAX);
        let Some(start) = self.starts.get(index(at.line)).copied() else {
            return text.len();
        };
        text.get(start..)
            .and_then(|line| line.char_indices().nth(index(at.column)))
            .map_or(text.len(), |(i, _)| start + i)
    }
}

/// The error of sqlparser, with its place taken out of the message.
pub(super) fn parser_error(error: ParserError) -> SqlError {
    let (ParserError::ParserError(message) | ParserError::TokenizerError(message)) = error else {
        return SqlError::new("the statement is nested too deep");
    };
    let (text, at) = match message.rsplit_once(" at Line: ") {
        Some((text, place)) => {
            let at = place.split_once(", Column: ").and_then(|(line, column)| {
                Some(Location {
                    line: line.trim().parse().ok()?,
                    column: column.trim().parse().ok()?,
                })
            });
            (text, at)
        }
        None => (message.as_str(), None),
    };
    let text = match text.strip_prefix("Expected: ") {
        Some(rest) => format!(
            "expected {}",
            rest.replacen("found: EOF", "found the end of the statement", 1)
                .replacen("found: ", "found ", 1)
        ),
        None => text.to_string(),
    };
    SqlError {
        message: text,
        location: at,
    }
}
