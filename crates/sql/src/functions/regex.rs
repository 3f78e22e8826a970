//! Functions of regular expressions.
//!
//! Patterns are those of the `regex` crate: what Java has beside (look-around, back-references) is refused with an error that says so.

use std::sync::Arc;

use ::regex::Regex;
use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion_common::{DataFusionError, Result, exec_datafusion_err};

use super::arguments::Kind::{Text, Whole};
use super::arguments::{self, Call, Parameters, build_boolean, build_text};
use super::definition::{Definition, always};

pub(super) const FUNCTIONS: &[Definition] = &[
    Definition {
        names: &["regexp_extract"],
        parameters: Parameters::with_optional(&[Text, Text], &[Whole]),
        returns: always!(DataType::Utf8),
        evaluate: regexp_extract,
    },
    Definition {
        names: &["regexp_replace"],
        parameters: Parameters::exact(&[Text, Text, Text]),
        returns: always!(DataType::Utf8),
        evaluate: regexp_replace,
    },
    Definition {
        names: &["regexp"],
        parameters: Parameters::exact(&[Text, Text]),
        returns: always!(DataType::Boolean),
        evaluate: regexp,
    },
];

/// The compiled patterns of a call: the last one is kept, so that a constant is compiled once a batch.
#[derive(Default)]
struct Patterns {
    last: Option<(String, Arc<Regex>)>,
}

impl Patterns {
    fn get(&mut self, pattern: &str) -> Result<Arc<Regex>> {
        if let Some((text, compiled)) = &self.last
            && text == pattern
        {
            return Ok(Arc::clone(compiled));
        }
        let compiled = Arc::new(Regex::new(pattern).map_err(|e| unsupported(pattern, &e))?);
        self.last = Some((pattern.to_string(), Arc::clone(&compiled)));
        Ok(compiled)
    }
}

fn unsupported(pattern: &str, error: &::regex::Error) -> DataFusionError {
    let reason = error.to_string();
    let reason = reason
        .lines()
        .last()
        .unwrap_or_default()
        .trim_start_matches("error: ");
    exec_datafusion_err!("the regular expression '{pattern}' is not supported: {reason}")
}

/// Walks the rows; the first error ends it.
struct Rows<'a> {
    text: arguments::Text<'a>,
    pattern: arguments::Text<'a>,
    patterns: Patterns,
    error: Option<DataFusionError>,
}

impl<'a> Rows<'a> {
    fn new(call: &'a Call) -> Result<Self> {
        let pattern = call.text(1)?;
        let mut patterns = Patterns::default();
        if let Some(Some(constant)) = pattern.constant() {
            patterns.get(constant)?;
        }
        Ok(Self {
            text: call.text(0)?,
            pattern,
            patterns,
            error: None,
        })
    }

    fn get(&mut self, row: usize) -> Option<(&'a str, Arc<Regex>)> {
        let (text, pattern) = (self.text.get(row)?, self.pattern.get(row)?);
        match self.patterns.get(pattern) {
            Ok(compiled) => Some((text, compiled)),
            Err(error) => {
                self.error.get_or_insert(error);
                None
            }
        }
    }

    fn finish(self, array: ArrayRef) -> Result<ArrayRef> {
        self.error.map_or(Ok(array), Err)
    }
}

fn regexp_extract(call: &Call) -> Result<ArrayRef> {
    let mut rows = Rows::new(call)?;
    let group = if call.len() > 2 {
        Some(call.whole(2)?)
    } else {
        None
    };
    let array = build_text(call.rows, |i, out| {
        let (text, pattern) = rows.get(i)?;
        let group = match &group {
            Some(group) => usize::try_from(group.get(i)?).ok()?,
            None => 0,
        };
        out.push_str(pattern.captures(text)?.get(group)?.as_str());
        Some(())
    });
    rows.finish(array)
}

fn regexp_replace(call: &Call) -> Result<ArrayRef> {
    let mut rows = Rows::new(call)?;
    let replacement = call.text(2)?;
    let array = build_text(call.rows, |i, out| {
        let (text, pattern) = rows.get(i)?;
        out.push_str(&pattern.replace_all(text, java_replacement(replacement.get(i)?).as_str()));
        Some(())
    });
    rows.finish(array)
}

/// Java's `$1` with braces, so that a letter behind it does not belong to the name; `\$` is a dollar.
fn java_replacement(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('$') => out.push_str("$$"),
                Some(other) => out.push(other),
                None => {}
            },
            '$' => {
                let mut digits = String::new();
                while let Some(digit) = chars.peek().filter(|d| d.is_ascii_digit()) {
                    digits.push(*digit);
                    chars.next();
                }
                if digits.is_empty() {
                    out.push_str("$$");
                } else {
                    out.push_str("${");
                    out.push_str(&digits);
                    out.push('}');
                }
            }
            other => out.push(other),
        }
    }
    out
}

fn regexp(call: &Call) -> Result<ArrayRef> {
    let mut rows = Rows::new(call)?;
    let array = build_boolean(call.rows, |i| {
        let (text, pattern) = rows.get(i)?;
        Some(pattern.is_match(text))
    });
    rows.finish(array)
}

#[cfg(test)]
mod tests {
    use super::java_replacement;

    #[test]
    fn replacements_read_as_java_reads_them() {
        for (java, rust) in [
            ("$1x", "${1}x"),
            ("a\\$b", "a$$b"),
            ("\\\\", "\\"),
            ("$", "$$"),
            ("x", "x"),
        ] {
            assert_eq!(java_replacement(java), rust);
        }
    }
}
