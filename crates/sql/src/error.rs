//! What is wrong with a statement, and where: the error of the whole front half.

use std::fmt::Write as _;

use datafusion_common::DataFusionError;

use crate::nearest::nearest;

/// A place in a script; both count from 1, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Location {
    /// Line, from 1.
    pub line: u64,
    /// Column, from 1.
    pub column: u64,
}

/// A statement that cannot be parsed, planned or carried out.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct SqlError {
    /// One plain sentence: the object, what was expected, what was found.
    pub message: String,
    /// Where in the script, if known.
    pub location: Option<Location>,
}

impl SqlError {
    /// An error whose place is not known (yet).
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            location: None,
        }
    }

    /// An error at a place.
    pub fn at(message: impl Into<String>, location: Location) -> Self {
        Self {
            message: message.into(),
            location: Some(location),
        }
    }

    /// The same error, placed at `location` unless it knows its place already.
    pub fn or_at(mut self, location: Location) -> Self {
        self.location.get_or_insert(location);
        self
    }

    /// The error for people: message, place, the line of the script and a caret below the place. `source_name` is the script's file name.
    pub fn render(&self, source_name: &str, text: &str) -> String {
        let mut out = format!("error: {}", self.message);
        let Some(location) = self.location else {
            return out;
        };
        let _ = write!(
            out,
            "\n  --> {source_name}:{}:{}",
            location.line, location.column
        );
        let line_index = usize::try_from(location.line.saturating_sub(1)).unwrap_or(usize::MAX);
        let Some(line) = text.lines().nth(line_index) else {
            return out;
        };
        let number = location.line.to_string();
        let margin = " ".repeat(number.len());
        // Tabs stay tabs in the line below, so that the caret stands right whatever their width.
        let before: String = line
            .chars()
            .take(usize::try_from(location.column.saturating_sub(1)).unwrap_or(usize::MAX))
            .map(|c| if c == '\t' { '\t' } else { ' ' })
            .collect();
        let _ = write!(out, "\n{margin} |\n{number} | {line}\n{margin} | {before}^");
        out
    }
}

impl From<DataFusionError> for SqlError {
    fn from(error: DataFusionError) -> Self {
        let location = error.diagnostic().and_then(|d| d.span).map(|s| Location {
            line: s.start.line,
            column: s.start.column,
        });
        Self {
            message: plan_message(&error),
            location,
        }
    }
}

/// The message of a planning error without the layers that DataFusion wraps around it.
pub(crate) fn plan_message(error: &DataFusionError) -> String {
    let root = error.find_root();
    if let (DataFusionError::SchemaError(..), Some(diagnostic)) = (root, error.diagnostic()) {
        let mut message = diagnostic.message.clone();
        for note in diagnostic
            .helps
            .iter()
            .map(|h| &h.message)
            .chain(diagnostic.notes.iter().map(|n| &n.message))
        {
            let _ = write!(message, "; {note}");
        }
        return message;
    }
    let message = root.strip_backtrace();
    if let Some(message) = unknown_function(&message) {
        return message;
    }
    let mut text = message.as_str();
    // A function's own complaint about its arguments, without what DataFusion says around it.
    if let Some((_, rest)) = text.split_once("coercion failed with: ") {
        text = rest
            .split_once(". No function matches")
            .map_or(rest, |(own, _)| own);
    }
    while let Some(rest) = LAYERS.iter().find_map(|layer| text.strip_prefix(layer)) {
        text = rest;
    }
    text.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}

/// What DataFusion puts before a message.
const LAYERS: &[&str] = &[
    "Error during planning: ",
    "This feature is not implemented: ",
    "Schema error: ",
    "External error: ",
    "Execution error: ",
    "Arrow error: ",
    "Cast error: ",
];

/// A better message for a function that is not there.
fn unknown_function(message: &str) -> Option<String> {
    let (_, rest) = message.split_once("Invalid function '")?;
    let (name, rest) = rest.split_once('\'')?;
    let guess = rest
        .split_once("Did you mean '")
        .and_then(|(_, rest)| rest.split_once('\''))
        .map(|(guess, _)| guess);
    let upper = name.to_ascii_uppercase();
    let what = if crate::functions::is_known_to_flink(name) {
        format!("Flink's function {upper} is not supported yet")
    } else {
        format!("there is no function {upper}")
    };
    Some(match nearest(name, guess) {
        Some(guess) => format!("{what}; did you mean {}?", guess.to_ascii_uppercase()),
        None => what,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caret_stands_below_the_place() {
        let error = SqlError::at(
            "expected a statement, found 'SELEC'",
            Location { line: 2, column: 3 },
        );
        assert_eq!(
            error.render("file.sql", "-- x\n\t SELEC * FROM bid\n"),
            "error: expected a statement, found 'SELEC'\n  --> file.sql:2:3\n  |\n2 | \t SELEC * FROM bid\n  | \t ^"
        );
    }

    #[test]
    fn a_place_outside_the_text_is_told_without_the_line() {
        let error = SqlError::at(
            "x",
            Location {
                line: 9,
                column: u64::MAX,
            },
        );
        assert_eq!(
            error.render("f", "a"),
            format!("error: x\n  --> f:9:{}", u64::MAX)
        );
    }
}
