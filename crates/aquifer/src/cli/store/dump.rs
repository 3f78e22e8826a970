//! `aquifer store dump`: the rows of a checkpoint as text, read as the job would read them.

use aquifer::runner::RunError;
use aquifer_dataflow::config::ConfigError;
use aquifer_state::StateDescription;
use aquifer_state::rows::{RowRefs, RowSource, row_source};
use aquifer_store::{KeyGroupRange, TableId};
use std::collections::BTreeMap;
use std::io::Write;

use super::{Opened, failed};
use crate::cli::arguments::DumpArguments;
use crate::cli::key_groups::group_range;
use crate::cli::screen::{Rows, Screen};

/// Rows asked for together.
const PIECE_ROWS: usize = 1024;
/// Bytes gathered before they are written.
const OUTPUT_BYTES: usize = 64 << 10;

/// Prints what the arguments choose.
pub fn run(opened: &Opened, arguments: &DumpArguments, screen: &Screen) -> Result<(), RunError> {
    let tables: Vec<(StateDescription, TableId)> = match &arguments.table {
        None => opened.metadata.tables.clone(),
        Some(name) => vec![chosen(&opened.metadata.tables, name)?.clone()],
    };
    let names: BTreeMap<TableId, String> = tables
        .iter()
        .map(|(d, table)| (*table, format!("{}/{}", d.operator, d.state)))
        .collect();
    let groups = match &arguments.group {
        None => KeyGroupRange::ALL,
        Some(text) => group_range(text)?,
    };
    let prefix = match &arguments.prefix {
        None => Vec::new(),
        Some(text) => bytes_of(text)?,
    };
    let mut printer = Printer {
        out: Rows::new(screen.clone()),
        text: String::new(),
        left: arguments.limit.unwrap_or(u64::MAX),
        hex: arguments.hex,
    };
    for (range, part) in &opened.metadata.keyed {
        let Some(range) = range.intersection(groups) else {
            continue;
        };
        let mut source = row_source(part, range, &tables, &opened.environment())
            .map_err(|error| failed(error.to_string()))?;
        if prefix.is_empty() {
            if !print(&mut *source, &prefix, &names, &mut printer)? {
                return printer.flush();
            }
            continue;
        }
        for group in range.start..=range.end {
            for (_, table) in &tables {
                source
                    .seek(group, *table, &prefix)
                    .map_err(|error| failed(error.to_string()))?;
                if !print(&mut *source, &prefix, &names, &mut printer)? {
                    return printer.flush();
                }
            }
        }
    }
    printer.flush()
}

/// Prints rows from where the source is on, up to the first one without the prefix; false if the printer wants no more.
fn print(
    source: &mut dyn RowSource,
    prefix: &[u8],
    names: &BTreeMap<TableId, String>,
    printer: &mut Printer,
) -> Result<bool, RunError> {
    let mut ended = None;
    loop {
        let more = source.next(PIECE_ROWS, &mut |row: RowRefs<'_>| {
            if ended.is_some() {
                return Ok(());
            }
            if !row.key.starts_with(prefix) {
                ended = Some(Ok(true));
                return Ok(());
            }
            let name = names.get(&row.table).map_or("", String::as_str);
            match printer.row(name, row.group, row.key, row.value) {
                Ok(true) => {}
                other => ended = Some(other),
            }
            Ok(())
        });
        let more = more.map_err(|error| failed(error.to_string()))?;
        match ended.take() {
            Some(end) => return end,
            None if !more => return Ok(true),
            None => {}
        }
    }
}

struct Printer {
    out: Rows,
    text: String,
    left: u64,
    hex: bool,
}

impl Printer {
    /// Adds a row; false when there have been enough.
    fn row(&mut self, name: &str, group: u16, key: &[u8], value: &[u8]) -> Result<bool, RunError> {
        let Some(left) = self.left.checked_sub(1) else {
            return Ok(false);
        };
        self.left = left;
        self.text.push_str(&format!("{name}\t{group}\t"));
        for (bytes, end) in [(key, '\t'), (value, '\n')] {
            match self.hex {
                true => bytes
                    .iter()
                    .for_each(|byte| self.text.push_str(&format!("{byte:02x}"))),
                false => self.text.extend(bytes.escape_ascii().map(char::from)),
            }
            self.text.push(end);
        }
        if self.text.len() >= OUTPUT_BYTES {
            self.flush()?;
        }
        Ok(left > 0)
    }

    fn flush(&mut self) -> Result<(), RunError> {
        let written = self
            .out
            .write_all(self.text.as_bytes())
            .and_then(|()| self.out.flush());
        self.text.clear();
        match written {
            // Whoever reads has seen enough.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {
                self.left = 0;
                Ok(())
            }
            written => written.map_err(|error| failed(format!("cannot write rows: {error}"))),
        }
    }
}

fn usage(message: String) -> RunError {
    ConfigError::new(message).into()
}

fn chosen<'a>(
    tables: &'a [(StateDescription, TableId)],
    name: &str,
) -> Result<&'a (StateDescription, TableId), RunError> {
    let full = |d: &StateDescription| format!("{}/{}", d.operator, d.state);
    let named = tables
        .iter()
        .find(|(d, table)| full(d) == name || table.0.to_string() == name);
    named.ok_or_else(|| {
        let known: Vec<String> = tables.iter().map(|(d, _)| full(d)).collect();
        usage(format!(
            "--table: the checkpoint has no state '{name}'; it has: {}",
            known.join(", ")
        ))
    })
}

/// `0x6162`, or text with escapes.
fn bytes_of(text: &str) -> Result<Vec<u8>, RunError> {
    let wrong = || {
        usage(format!(
            "--prefix: expected text with \\xNN, \\\\, \\t, \\n and \\r, or 0x and pairs of hexadecimal digits, found '{text}'"
        ))
    };
    let hex = |digits: &str| u8::from_str_radix(digits, 16).ok();
    if let Some(digits) = text.strip_prefix("0x") {
        let pairs = (0..digits.len()).step_by(2);
        let pairs = pairs.map(|at| digits.get(at..at + 2).and_then(hex));
        return pairs.collect::<Option<_>>().ok_or_else(wrong);
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((plain, escape)) = rest.split_once('\\') {
        bytes.extend_from_slice(plain.as_bytes());
        let (byte, taken) = match escape.as_bytes().first() {
            Some(b'x') => (escape.get(1..3).and_then(hex).ok_or_else(wrong)?, 3),
            Some(b't') => (b'\t', 1),
            Some(b'n') => (b'\n', 1),
            Some(b'r') => (b'\r', 1),
            Some(same @ (b'\\' | b'\'' | b'"')) => (*same, 1),
            _ => return Err(wrong()),
        };
        bytes.push(byte);
        rest = escape.get(taken..).unwrap_or_default();
    }
    bytes.extend_from_slice(rest.as_bytes());
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_read_as_keys_are_printed() {
        let all: Vec<u8> = (0..=255).collect();
        let printed: String = all.escape_ascii().map(char::from).collect();
        assert_eq!(bytes_of(&printed).unwrap(), all);
        assert_eq!(bytes_of("0x00fF61").unwrap(), [0, 255, b'a']);
        assert!(bytes_of("").unwrap().is_empty());
        for wrong in ["0x1", "0xzz", "\\", "\\x1", "\\q", "\\xé"] {
            assert!(bytes_of(wrong).is_err(), "{wrong}");
        }
    }
}
