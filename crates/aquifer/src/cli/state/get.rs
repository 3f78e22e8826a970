//! `aquifer state get`: the rows of one key.

use aquifer::runner::RunError;
use aquifer_state::dynamic::{DynamicType, DynamicValue};
use aquifer_state::reader::StateRow;
use aquifer_store::KeyGroupRange;

use super::arguments::GetArguments;
use super::scan::{key_of, note_of_bytes, print, tell_of_no_rows};
use super::{Opened, usage};
use crate::cli::screen::Screen;

/// Prints the rows of the key.
pub fn run(opened: &Opened, arguments: &GetArguments, screen: &Screen) -> Result<(), RunError> {
    let table = opened.table(&arguments.state)?;
    let key = key_of(table, &arguments.key)?;
    let part = |argument: &str, name: &str, kind, text| {
        let lacking = || {
            usage(format!(
                "{argument}: state `{}` has no {name}",
                table.full_name()
            ))
        };
        part_of(argument, kind, text, &lacking)
    };
    let (kind, text) = (table.namespace.as_ref(), arguments.namespace.as_deref());
    let namespace = part("--namespace", "namespaces", kind, text)?;
    let (kind, text) = (table.user_key.as_ref(), arguments.user_key.as_deref());
    let user_key = part("--user-key", "user keys", kind, text)?;
    note_of_bytes(table, screen);
    let is = |wanted: &Option<DynamicValue>, found: &Option<DynamicValue>| {
        wanted.is_none() || wanted == found
    };
    let wanted = |row: &StateRow| is(&namespace, &row.namespace) && is(&user_key, &row.user_key);
    let groups = KeyGroupRange::ALL;
    let printed = print(opened, table, groups, Some(&key), u64::MAX, &wanted, screen)?;
    if printed == 0 {
        tell_of_no_rows(table, " of this key", arguments.expired, screen);
    }
    Ok(())
}

/// A namespace or user key from its text.
fn part_of(
    argument: &str,
    kind: Option<&DynamicType>,
    text: Option<&str>,
    lacking: &dyn Fn() -> RunError,
) -> Result<Option<DynamicValue>, RunError> {
    let Some(text) = text else { return Ok(None) };
    let kind = kind.ok_or_else(lacking)?;
    let parsed = kind.parse_text(text);
    parsed
        .map(Some)
        .map_err(|error| usage(format!("{argument}: {error}")))
}
