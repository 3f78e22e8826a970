//! Lines on standard output, gathered before they are written, and a count of them on a terminal.

use std::io::{ErrorKind, Write};

use aquifer::runner::RunError;
use aquifer_state::dynamic::DynamicValue;
use aquifer_state::reader::StateRow;

use super::failed;
use crate::cli::clock;
use crate::cli::progress::grouped;
use crate::cli::screen::{Rows, Screen};

/// Bytes gathered before they are written.
const OUTPUT_BYTES: usize = 64 << 10;
/// Between two drawings of the progress.
const DRAWN_EVERY_MS: i64 = 200;

/// Writes lines.
pub struct Lines {
    out: Rows,
    text: String,
    /// Whoever reads has seen enough.
    closed: bool,
}

impl Lines {
    /// On this screen.
    pub fn new(screen: &Screen) -> Self {
        Self {
            out: Rows::new(screen.clone()),
            text: String::new(),
            closed: false,
        }
    }

    /// Adds a line; false if nobody reads any more.
    pub fn line(&mut self, line: &str) -> Result<bool, RunError> {
        self.text.push_str(line);
        self.text.push('\n');
        if self.text.len() >= OUTPUT_BYTES {
            self.flush()?;
        }
        Ok(!self.closed)
    }

    /// Writes what is gathered.
    pub fn flush(&mut self) -> Result<(), RunError> {
        let written = self.out.write_all(self.text.as_bytes());
        let written = written.and_then(|()| self.out.flush());
        self.text.clear();
        match written {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                self.closed = true;
                Ok(())
            }
            written => written.map_err(|error| failed(format!("cannot write rows: {error}"))),
        }
    }
}

/// A JSON object, field by field.
pub struct Object(String);

impl Object {
    /// Without fields.
    pub fn new() -> Self {
        Self("{".to_owned())
    }

    /// Adds a field that is JSON as it is shown.
    pub fn json(&mut self, name: &str, value: &impl std::fmt::Display) -> &mut Self {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        self.0.push_str(&format!("\"{name}\":{value}"));
        self
    }

    /// Adds a field if there is one.
    pub fn some(&mut self, name: &str, value: Option<&impl std::fmt::Display>) -> &mut Self {
        match value {
            Some(value) => self.json(name, value),
            None => self,
        }
    }

    /// Adds a text.
    pub fn text(&mut self, name: &str, text: &str) -> &mut Self {
        self.json(name, &DynamicValue::String(text.to_owned()))
    }

    /// The line.
    pub fn end(&mut self) -> String {
        self.0.push('}');
        std::mem::take(&mut self.0)
    }
}

/// A row as an object in one line.
pub fn row(row: &StateRow) -> String {
    let mut object = Object::new();
    // What is in no key group has a key all the same if it is an entry of a map.
    let has_key = row.key_group.is_some() || row.key != DynamicValue::Null;
    object
        .some("key_group", row.key_group.as_ref())
        .some("key", has_key.then_some(&row.key))
        .some("namespace", row.namespace.as_ref())
        .some("user_key", row.user_key.as_ref())
        .some("index", row.index.as_ref())
        .json("value", &row.value)
        .some("written_ms", row.written_ms.as_ref())
        .some("expires_ms", row.expires_ms.as_ref())
        .end()
}

/// How many rows there have been, on a terminal.
pub struct Counting {
    screen: Screen,
    now_ms: Option<std::sync::Arc<dyn Fn() -> i64 + Send + Sync>>,
    drawn_ms: i64,
}

impl Counting {
    /// Nothing is shown where `quiet`, nor without a terminal.
    pub fn new(screen: Screen, quiet: bool) -> Self {
        Self {
            now_ms: (screen.has_status() && !quiet).then(clock::wall),
            screen,
            drawn_ms: i64::MIN,
        }
    }

    /// Clears it; nothing is drawn any more.
    pub fn end(&mut self) {
        if self.now_ms.take().is_some() {
            self.screen.clear_status();
        }
    }

    /// Draws the count, not too often.
    pub fn at(&mut self, rows: u64) {
        let Some(now_ms) = &self.now_ms else { return };
        let now_ms = now_ms();
        if now_ms >= self.drawn_ms.saturating_add(DRAWN_EVERY_MS) {
            self.drawn_ms = now_ms;
            self.screen.status(&format!("{} rows", grouped(rows)));
        }
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_objects_without_what_is_not_there() {
        let bare = StateRow {
            key_group: Some(7),
            key: DynamicValue::String("a\"b".into()),
            namespace: None,
            user_key: None,
            value: DynamicValue::Null,
            index: None,
            written_ms: None,
            expires_ms: None,
        };
        assert_eq!(row(&bare), r#"{"key_group":7,"key":"a\"b","value":null}"#);
        let full = StateRow {
            key_group: None,
            key: DynamicValue::Null,
            namespace: Some(DynamicValue::Int(-1)),
            user_key: Some(DynamicValue::Bool(true)),
            value: DynamicValue::UInt(u64::MAX),
            index: Some(3),
            written_ms: Some(5),
            expires_ms: Some(6),
        };
        assert_eq!(
            row(&full),
            r#"{"namespace":-1,"user_key":true,"index":3,"value":18446744073709551615,"written_ms":5,"expires_ms":6}"#
        );
    }
}
