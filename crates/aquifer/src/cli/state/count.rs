//! `aquifer state count`: how many rows and keys states have.

use std::io::IsTerminal;

use aquifer::runner::RunError;

use super::arguments::CountArguments;
use super::output::{Counting, Lines, Object};
use super::{Opened, unreadable};
use crate::cli::progress::grouped;
use crate::cli::screen::Screen;
use crate::cli::store::Columns;

/// Prints the counts: a table on a terminal, lines of JSON elsewhere.
pub fn run(opened: &Opened, arguments: &CountArguments, screen: &Screen) -> Result<(), RunError> {
    if let Some(why) = opened.why_empty()? {
        screen.tell(&format!("note: {why}"));
        return Ok(());
    }
    let tables = opened.tables(&arguments.state)?;
    let groups = opened.groups(arguments.group.as_deref())?;
    let drawn = std::io::stdout().is_terminal();
    let mut columns = Columns::new(1, &["state", "key group", "keys", "rows"]);
    let mut lines = Lines::new(screen);
    for table in tables {
        let counts = {
            let mut counting = Counting::new(screen.clone(), false);
            let counted = opened.reader.count(table, groups, &mut |rows| {
                counting.at(rows);
                true
            });
            counted.map_err(unreadable)?
        };
        let keys = table.tells_keys().then_some(counts.keys);
        if table.kind.is_keyed() && keys.is_none() {
            screen.tell(&format!(
                "note: the keys of `{}` are not counted: they are {}, and nothing says where they end",
                table.full_name(),
                table.key
            ));
        }
        columns.add(vec![
            table.full_name(),
            String::new(),
            keys.map_or(String::new(), grouped),
            grouped(counts.rows),
        ]);
        let mut object = Object::new();
        object
            .text("operator", &table.operator)
            .text("state", &table.state)
            .some("keys", keys.as_ref());
        let mut go_on = drawn || lines.line(&object.json("rows", &counts.rows).end())?;
        for (group, rows) in counts.groups.iter().filter(|_| arguments.groups) {
            columns.add(vec![
                String::new(),
                group.to_string(),
                String::new(),
                grouped(*rows),
            ]);
            let mut object = Object::new();
            object
                .text("operator", &table.operator)
                .text("state", &table.state)
                .json("key_group", group)
                .json("rows", rows);
            go_on = go_on && (drawn || lines.line(&object.end())?);
        }
        if !go_on {
            return Ok(());
        }
    }
    if drawn {
        screen.answer(&columns.to_string());
    }
    lines.flush()
}
