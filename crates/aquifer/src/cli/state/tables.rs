//! `aquifer state tables`: the states of a checkpoint, their types and sizes.

use std::io::IsTerminal;

use aquifer::runner::RunError;
use aquifer_state::dynamic::DynamicType;
use aquifer_state::reader::{ReadableTable, TableEstimate};

use super::arguments::TablesArguments;
use super::output::{Lines, Object};
use super::{Opened, unreadable};
use crate::cli::progress::{bytes, grouped};
use crate::cli::screen::Screen;
use crate::cli::store::Columns;

/// Characters of a type in the table; all of them are shown elsewhere.
const TYPE_CHARS_MAX: usize = 60;

/// Prints the states on standard output.
pub fn run(opened: &Opened, arguments: &TablesArguments, screen: &Screen) -> Result<(), RunError> {
    if let Some(why) = opened.why_empty()? {
        screen.tell(&format!("note: {why}"));
        return Ok(());
    }
    let estimates = opened.reader.estimates().map_err(unreadable)?;
    let tables = opened.reader.tables().iter().zip(estimates);
    if !arguments.json && std::io::stdout().is_terminal() {
        screen.answer(&drawn(tables));
        return Ok(());
    }
    let mut lines = Lines::new(screen);
    for (table, estimate) in tables {
        let line = match arguments.json {
            true => json(table, estimate),
            false => plain(table, estimate),
        };
        if !lines.line(&line)? {
            break;
        }
    }
    lines.flush()
}

fn drawn<'a>(tables: impl Iterator<Item = (&'a ReadableTable, Option<TableEstimate>)>) -> String {
    let heading = [
        "state",
        "kind",
        "key",
        "namespace",
        "user key",
        "value",
        "ttl",
        "rows",
        "size",
    ];
    let mut columns = Columns::new(6, &heading);
    for (table, estimate) in tables {
        let shown = |kind: Option<&DynamicType>| kind.map_or(String::new(), short);
        columns.add(vec![
            table.full_name(),
            table.kind.word().to_owned(),
            shown(Some(&table.key).filter(|key| !key.is_void())),
            shown(table.namespace.as_ref()),
            shown(table.user_key.as_ref()),
            short(&table.value),
            table
                .ttl_ms
                .map_or(String::new(), |ttl| format!("{} ms", grouped(ttl))),
            estimate.map_or("?".to_owned(), |known| grouped(known.rows)),
            estimate.map_or("?".to_owned(), |known| bytes(known.bytes)),
        ]);
    }
    columns.to_string()
}

/// A type in few characters.
fn short(kind: &DynamicType) -> String {
    let text = kind.to_string();
    match text.char_indices().nth(TYPE_CHARS_MAX) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
        None => text,
    }
}

/// One line with tabs.
fn plain(table: &ReadableTable, estimate: Option<TableEstimate>) -> String {
    let nothing = || "-".to_owned();
    let kind = |kind: Option<&DynamicType>| kind.map_or_else(nothing, DynamicType::to_string);
    let cells = [
        table.full_name(),
        table.kind.word().to_owned(),
        kind(Some(&table.key).filter(|key| !key.is_void())),
        kind(table.namespace.as_ref()),
        kind(table.user_key.as_ref()),
        table.value.to_string(),
        table.ttl_ms.map_or_else(nothing, |ttl| ttl.to_string()),
        estimate.map_or_else(nothing, |known| known.rows.to_string()),
        estimate.map_or_else(nothing, |known| known.bytes.to_string()),
    ];
    // Names are the user's: none of them may break the line or the terminal.
    let cells = cells.map(|cell| cell.replace(char::is_control, " "));
    cells.join("\t")
}

fn json(table: &ReadableTable, estimate: Option<TableEstimate>) -> String {
    let mut object = Object::new();
    object
        .text("operator", &table.operator)
        .text("state", &table.state)
        .text("kind", table.kind.word());
    let types = [
        ("key", Some(&table.key).filter(|key| !key.is_void())),
        ("namespace", table.namespace.as_ref()),
        ("user_key", table.user_key.as_ref()),
        ("value", Some(&table.value)),
    ];
    for (name, kind) in types {
        if let Some(kind) = kind {
            object.text(name, &kind.to_string());
        }
    }
    object
        .some("ttl_ms", table.ttl_ms.as_ref())
        .text("layout", &table.layout)
        .some("rows", estimate.map(|known| known.rows).as_ref())
        .some("bytes", estimate.map(|known| known.bytes).as_ref())
        .end()
}
