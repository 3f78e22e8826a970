//! Savepoints hold what their checkpoints hold, whichever backend wrote them and in whichever form they are.

use aquifer_state::checkpoint::SavepointFormat;

use crate::tables::every_kind;
use crate::world::{KINDS, World};

/// Every row of every state, by its name.
fn everything(world: &World) -> Vec<(String, Vec<String>)> {
    let tables = world.reader().tables().to_vec();
    let rows = tables.into_iter().map(|table| {
        let name = format!("\"{}\".\"{}\"", table.operator, table.state);
        let rows = world.sorted(&format!("SELECT * FROM {name}"));
        assert!(!rows.is_empty(), "{name}");
        (name, rows)
    });
    rows.collect()
}

fn savepoints_are_read(format: SavepointFormat) {
    for &kind in KINDS {
        let world = World::new(kind, 3, every_kind);
        let rows = everything(&world);
        assert_eq!(rows.len(), 7);
        let savepoint = world.into_savepoint(format);
        assert_eq!(everything(&savepoint), rows, "{kind:?}");
        // A key is found without reading the others.
        let query = "SELECT value FROM counts WHERE key = 7";
        let (sql, form) = (savepoint.sql(), aquifer_state_sql::output::Format::Csv);
        let (text, query) = savepoint.run(&sql, form, query).unwrap();
        assert_eq!((text.as_str(), query.rows_read()), ("value\n70\n", 1));
    }
}

#[test]
fn canonical_savepoints_are_read() {
    savepoints_are_read(SavepointFormat::Canonical);
}

#[test]
fn native_savepoints_are_read() {
    savepoints_are_read(SavepointFormat::Native);
}
