//! `aquifer state scan`: the rows of a state, in pieces, as lines of JSON.

use std::io::IsTerminal;

use aquifer::runner::RunError;
use aquifer_state::dynamic::DynamicValue;
use aquifer_state::reader::{ReadableTable, StateRow};
use aquifer_store::KeyGroupRange;

use super::arguments::ScanArguments;
use super::output::{Counting, Lines, row};
use super::{Opened, unreadable, usage};
use crate::cli::screen::Screen;

/// Rows asked for together.
const PIECE_ROWS: usize = 1024;

/// Prints the rows that the arguments choose.
pub fn run(opened: &Opened, arguments: &ScanArguments, screen: &Screen) -> Result<(), RunError> {
    let table = opened.table(&arguments.state)?;
    let groups = opened.groups(arguments.group.as_deref())?;
    let key = match &arguments.key {
        None => None,
        Some(text) => Some(key_of(table, text)?),
    };
    note_of_bytes(table, screen);
    let limit = arguments.limit.unwrap_or(u64::MAX);
    let wanted = |_: &StateRow| true;
    let printed = print(opened, table, groups, key.as_ref(), limit, &wanted, screen)?;
    if printed == 0 && limit > 0 {
        let place = match (&arguments.group, &arguments.key) {
            (_, Some(_)) => " of this key",
            (Some(_), None) => " in these key groups",
            (None, None) => "",
        };
        tell_of_no_rows(table, place, arguments.expired, screen);
    }
    Ok(())
}

/// A key of a table from its text.
pub fn key_of(table: &ReadableTable, text: &str) -> Result<DynamicValue, RunError> {
    if table.key.is_void() {
        return Err(usage(format!(
            "--key: state `{}` has no keys",
            table.full_name()
        )));
    }
    let parsed = table.key.parse_text(text);
    parsed.map_err(|error| usage(format!("--key: {error}")))
}

/// Says that nothing was printed, because there was nothing.
pub fn tell_of_no_rows(table: &ReadableTable, place: &str, expired: bool, screen: &Screen) {
    let alive = match table.ttl_ms.is_some() && !expired {
        true => " that has not expired (see --expired)",
        false => "",
    };
    screen.tell(&format!(
        "note: state `{}` has no row{place}{alive}",
        table.full_name()
    ));
}

/// Says once why values are bytes.
pub fn note_of_bytes(table: &ReadableTable, screen: &Screen) {
    let parts = [("keys", &table.key), ("values", &table.value)];
    for (name, kind) in parts {
        if !kind.is_understood() {
            screen.tell(&format!("note: {name} are shown as bytes: they are {kind}"));
        }
    }
}

/// Prints rows that pass `wanted`, at most so many; says how many there were.
pub fn print(
    opened: &Opened,
    table: &ReadableTable,
    groups: KeyGroupRange,
    key: Option<&DynamicValue>,
    limit: u64,
    wanted: &dyn Fn(&StateRow) -> bool,
    screen: &Screen,
) -> Result<u64, RunError> {
    let mut rows = opened.reader.rows(table, groups, key).map_err(unreadable)?;
    let mut lines = Lines::new(screen);
    // Rows on the same screen are progress enough.
    let mut counting = Counting::new(screen.clone(), std::io::stdout().is_terminal());
    let mut printed = 0u64;
    while printed < limit {
        let left = usize::try_from(limit - printed).unwrap_or(usize::MAX);
        let piece = match rows.next_piece(PIECE_ROWS.min(left)) {
            Ok(Some(piece)) => piece,
            Ok(None) => break,
            Err(error) => {
                // What came before the damage is true.
                lines.flush()?;
                return Err(unreadable(error));
            }
        };
        for found in piece.iter().filter(|found| wanted(found)) {
            printed += 1;
            if !lines.line(&row(found))? {
                return Ok(printed);
            }
        }
        counting.at(printed);
    }
    lines.flush()?;
    Ok(printed)
}
