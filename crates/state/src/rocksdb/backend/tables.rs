//! Which table is in which database: made when a state is registered or restored, found at every read and write.

use aquifer_store::{TableId, TableOptions};

use super::RocksdbBackend;
use crate::backend::{check_group, unknown_table};
use crate::registry::Registered;
use crate::rocksdb::database::{Database, Family};
use crate::rocksdb::expiry::{Dropping, Expiry};
use crate::rocksdb::table::Table;
use crate::{StateDescription, StateError};

impl RocksdbBackend {
    /// The database of an operator. A new one is opened with families for all tables of the operator that are known by now: those that are added
    /// later cost more.
    pub(super) fn database(&mut self, operator: &str) -> Result<usize, StateError> {
        if let Some(index) = self.by_operator.get(operator) {
            return Ok(*index);
        }
        let index = self.databases.len();
        let described = self.registry.tables().into_iter();
        let mut families = Vec::new();
        for (description, table) in described.filter(|(known, _)| known.operator == operator) {
            if known(&self.tables, table).is_ok() {
                continue;
            }
            let family = Family {
                name: Database::family_name(table),
                table,
                expiry: Expiry::unknown(),
                periodic_seconds: self.periodic_seconds(&description.options),
            };
            self.add_table(table, Table::new(index, &family))?;
            families.push(family);
        }
        let path = self.directory.fresh_directory("db")?;
        let database = Database::open(&path, operator, families, &self.making)?;
        self.databases.push(database);
        self.by_operator.insert(operator.to_owned(), index);
        Ok(index)
    }

    /// Makes room for the rows of a table that is new, and returns the place of its database.
    pub(super) fn create_table(
        &mut self,
        operator: &str,
        table: TableId,
    ) -> Result<usize, StateError> {
        let index = self.database(operator)?;
        if known(&self.tables, table).is_ok() {
            return Ok(index);
        }
        let options = self.registry.options_of(table).unwrap_or_default();
        let family = Family {
            name: Database::family_name(table),
            table,
            expiry: Expiry::unknown(),
            periodic_seconds: self.periodic_seconds(&options),
        };
        let database = self
            .databases
            .get_mut(index)
            .ok_or_else(|| unknown_table(table))?;
        database.create_family(&family)?;
        self.add_table(table, Table::new(index, &family))?;
        Ok(index)
    }

    pub(super) fn add_table(&mut self, id: TableId, table: Table) -> Result<(), StateError> {
        let at = usize::from(id.0);
        if self.tables.len() <= at {
            self.tables.resize_with(at + 1, || None);
        }
        match self.tables.get_mut(at) {
            Some(empty @ None) => *empty = Some(table),
            _ => {
                return Err(StateError::Corrupt(format!(
                    "table {} is in two databases of the checkpoint",
                    id.0
                )));
            }
        }
        Ok(())
    }

    /// After how long files of a table with these options are rewritten, in seconds; 0: never.
    pub(super) fn periodic_seconds(&self, options: &TableOptions) -> u64 {
        let configured = self.making.options.periodic_compaction_seconds;
        Dropping::of(options).map_or(0, |dropping| dropping.periodic_seconds(configured))
    }

    /// The program has registered a state.
    pub(super) fn registered(
        &mut self,
        found: Registered,
        description: &StateDescription,
    ) -> Result<TableId, StateError> {
        let (Registered::New(id) | Registered::Known(id)) = found;
        if known(&self.tables, id).is_err() {
            self.create_table(&description.operator, id)?;
        }
        let options = self.registry.options_of(id).unwrap_or_default();
        let event_time_ms = self.moments.event_time(id);
        let seconds = self.periodic_seconds(&options);
        let table = known_mut(&mut self.tables, id)?;
        table.set_options(&options);
        if let Some(event_time_ms) = event_time_ms {
            table.expiry.advance(event_time_ms);
        }
        if table.periodic_seconds != seconds
            && let Some(database) = self.databases.get(table.database)
        {
            database.rewrite_after(&table.family, seconds)?;
            table.periodic_seconds = seconds;
        }
        Ok(id)
    }

    /// A table and its database.
    #[inline]
    pub(super) fn find(&self, id: TableId, group: u16) -> Result<(&Table, &Database), StateError> {
        check_group(self.range, group)?;
        let table = known(&self.tables, id)?;
        let database = self.databases.get(table.database);
        Ok((table, database.ok_or_else(|| unknown_table(id))?))
    }

    #[inline]
    pub(super) fn find_mut(
        &mut self,
        id: TableId,
        group: u16,
    ) -> Result<(&mut Table, &mut Database), StateError> {
        check_group(self.range, group)?;
        let table = known_mut(&mut self.tables, id)?;
        let database = self.databases.get_mut(table.database);
        Ok((table, database.ok_or_else(|| unknown_table(id))?))
    }

    #[inline]
    pub(super) fn hides(&self, id: TableId, table: &Table, time_ms: Option<i64>) -> bool {
        let clock = || (self.environment.clock)();
        table.hides(time_ms, clock, || self.moments.event_time(id))
    }
}

#[inline]
pub(super) fn known(tables: &[Option<Table>], id: TableId) -> Result<&Table, StateError> {
    let table = tables.get(usize::from(id.0)).and_then(Option::as_ref);
    table.ok_or_else(|| unknown_table(id))
}

#[inline]
pub(super) fn known_mut(
    tables: &mut [Option<Table>],
    id: TableId,
) -> Result<&mut Table, StateError> {
    let table = tables.get_mut(usize::from(id.0)).and_then(Option::as_mut);
    table.ok_or_else(|| unknown_table(id))
}
