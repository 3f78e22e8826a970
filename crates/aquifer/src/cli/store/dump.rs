//! `aquifer store dump`: the rows of a checkpoint as text, read as the job would read them.

use aquifer::runner::RunError;
use aquifer_dataflow::config::ConfigError;
use aquifer_state::StateDescription;
use aquifer_store::{KeyGroupRange, ScanLookup, ScanRows, Store, StoreOptions, TableId};
use std::io::Write;

use super::{Opened, failed};
use crate::cli::arguments::DumpArguments;
use crate::cli::screen::{Rows, Screen};

/// Rows asked for together.
const PIECE_ROWS: usize = 1024;
/// Bytes gathered before they are written.
const OUTPUT_BYTES: usize = 64 << 10;

/// Prints what the arguments choose.
pub fn run(opened: &Opened, arguments: &DumpArguments, screen: &Screen) -> Result<(), RunError> {
    let tables: Vec<&(StateDescription, TableId)> = match &arguments.table {
        None => opened.metadata.tables.iter().collect(),
        Some(name) => vec![chosen(&opened.metadata.tables, name)?],
    };
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
        let files = vec![(part.files.clone(), range)];
        let mut store = Store::open(opened.environment(), StoreOptions::default(), files)
            .map_err(|error| failed(error.to_string()))?;
        for (description, table) in &opened.metadata.tables {
            store
                .create_table(*table, description.options.clone())
                .map_err(|error| failed(error.to_string()))?;
        }
        for group in range.start..=range.end {
            for (description, table) in &tables {
                let name = format!("{}/{}\t{group}\t", description.operator, description.state);
                let whole = scan(
                    opened,
                    &store,
                    (*table, group),
                    &prefix,
                    &mut |key, value| printer.row(&name, key, value),
                )?;
                if !whole {
                    return printer.flush();
                }
            }
        }
    }
    printer.flush()
}

/// Takes key and value of a row; false wants no more.
type Each<'a> = dyn FnMut(&[u8], &[u8]) -> Result<bool, RunError> + 'a;

/// Walks over the rows of a table and key group; false if `each` wants no more.
fn scan(
    opened: &Opened,
    store: &Store,
    (table, group): (TableId, u16),
    prefix: &[u8],
    each: &mut Each<'_>,
) -> Result<bool, RunError> {
    let broken = |error: aquifer_store::Error| failed(error.to_string());
    let mut from = prefix.to_vec();
    loop {
        let found = store.scan(table, group, prefix, &from, None, PIECE_ROWS);
        let ScanRows { rows, done, .. } = match found.map_err(broken)? {
            ScanLookup::Rows(rows) => rows,
            ScanLookup::Cold(cold) => {
                let fetched = opened.runtime.block_on(store.fetch_scan(cold));
                fetched.map_err(broken)?
            }
        };
        for (key, value) in &rows {
            if !each(key, value)? {
                return Ok(false);
            }
        }
        match rows.last() {
            // The least key above the last one.
            Some((last, _)) if !done => from = [last.as_ref(), &[0]].concat(),
            _ => return Ok(true),
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
    fn row(&mut self, name: &str, key: &[u8], value: &[u8]) -> Result<bool, RunError> {
        let Some(left) = self.left.checked_sub(1) else {
            return Ok(false);
        };
        self.left = left;
        self.text.push_str(name);
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

fn group_range(text: &str) -> Result<KeyGroupRange, RunError> {
    let (start, end) = text.split_once('-').unwrap_or((text, text));
    match (start.trim().parse(), end.trim().parse()) {
        (Ok(start), Ok(end)) if start <= end => Ok(KeyGroupRange { start, end }),
        _ => Err(usage(format!(
            "--group: expected a number or two with a dash between, found '{text}'"
        ))),
    }
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

    #[test]
    fn key_groups_are_one_or_from_to() {
        let range = |start, end| KeyGroupRange { start, end };
        assert_eq!(group_range("7").unwrap(), range(7, 7));
        assert_eq!(group_range("7 - 9").unwrap(), range(7, 9));
        for wrong in ["", "a", "9-7", "-1", "70000"] {
            assert!(group_range(wrong).is_err(), "{wrong}");
        }
    }
}
