//! What a checkpoint holds comes into the databases of the worker, before it reads or writes anything.

use std::collections::BTreeMap;
use std::sync::Arc;

use aquifer_store::{KeyGroupRange, TableId};

use super::RocksdbBackend;
use super::tables::known;
use crate::rocksdb::database::{Batch, Database, Family};
use crate::rocksdb::expiry::Expiry;
use crate::rocksdb::rows::DatabaseRows;
use crate::rocksdb::table::Table;
use crate::rocksdb::transfer::Transfers;
use crate::rocksdb::uploaded::{Files, Uploaded};
use crate::rocksdb::{restore, row};
use crate::rows::{RowRefs, RowSource, row_source};
use crate::{DbSnapshot, KeyedSnapshot, StateError};

/// Rows that a restore asks for at once.
const ROWS_PER_PIECE: usize = 4096;

/// A database of a checkpoint, and what is wanted of it.
struct Wanted<'a> {
    database: &'a DbSnapshot,
    groups: KeyGroupRange,
}

impl RocksdbBackend {
    /// Opens what the checkpoint has in RocksDB's own form.
    pub(super) fn restore_databases(
        &mut self,
        restored: &[(KeyedSnapshot, KeyGroupRange)],
    ) -> Result<(), StateError> {
        let mut operators: BTreeMap<&str, Vec<Wanted<'_>>> = BTreeMap::new();
        for (part, clip) in restored {
            for database in &part.databases {
                let clip = clip.intersection(self.range);
                let groups = clip.and_then(|clip| clip.intersection(database.range));
                if let Some(groups) = groups {
                    let wanted = operators.entry(&database.operator).or_default();
                    wanted.push(Wanted { database, groups });
                }
            }
        }
        let objects = Arc::clone(&self.environment.objects);
        let transfers = Transfers::new(objects, self.environment.runtime.clone());
        for (operator, mut wanted) in operators {
            let ranges: Vec<_> = wanted
                .iter()
                .map(|wanted| (wanted.database.range, wanted.groups))
                .collect();
            let base = restore::choose_base(&ranges, self.making.options.overlap_fraction_min);
            match base {
                Some(base) => {
                    let base = wanted.remove(base);
                    self.restore_base(operator, &base, &transfers)?;
                }
                None => drop(self.database(operator)?),
            }
            for other in wanted {
                self.copy_rows(&other, &transfers)?;
            }
        }
        Ok(())
    }

    /// Makes a database of the checkpoint the worker's.
    fn restore_base(
        &mut self,
        operator: &str,
        base: &Wanted<'_>,
        transfers: &Transfers,
    ) -> Result<(), StateError> {
        let at_once = self.making.options.transfers;
        let laid = restore::download(&[base.database], &self.directory, transfers, at_once)?;
        let Some(laid) = laid.into_iter().next() else {
            return Ok(());
        };
        let index = self.databases.len();
        let mut families = Vec::with_capacity(laid.families.len());
        for (name, table) in laid.families {
            let options = self.registry.options_of(table).unwrap_or_default();
            let family = Family {
                name,
                table,
                expiry: Expiry::unknown(),
                periodic_seconds: self.periodic_seconds(&options),
            };
            self.add_table(table, Table::new(index, &family))?;
            families.push(family);
        }
        let mut database = Database::open(&laid.path, operator, families, &self.making)?;
        database.restored = true;
        database.clip(base.database.range, base.groups)?;
        let whole = base.database.range == base.groups;
        database.uploaded = Uploaded::restored(Files {
            // What was cut off is a change.
            writes: whole.then(|| database.writes()),
            files: base.database.files.clone(),
        });
        self.databases.push(database);
        self.by_operator.insert(operator.to_owned(), index);
        Ok(())
    }

    /// Puts the rows of a database of the checkpoint into that of its operator.
    fn copy_rows(&mut self, from: &Wanted<'_>, transfers: &Transfers) -> Result<(), StateError> {
        let at_once = self.making.options.transfers;
        let laid = restore::download(&[from.database], &self.directory, transfers, at_once)?;
        let paths = laid
            .iter()
            .map(|laid| laid.path.clone())
            .collect::<Vec<_>>();
        let mut rows = DatabaseRows::read(&laid, from.groups)?;
        self.put_rows(&mut rows)?;
        drop(rows);
        restore::remove(&paths, Arc::clone(&self.directory));
        Ok(())
    }

    /// Reads what the checkpoint has as rows in files, also what has expired by its options: the program's may be others.
    pub(super) fn restore_rows(
        &mut self,
        restored: &[(KeyedSnapshot, KeyGroupRange)],
    ) -> Result<(), StateError> {
        let mut known = self.registry.tables();
        for (description, _) in &mut known {
            description.options.ttl_ms = None;
        }
        for (part, clip) in restored {
            let Some(clip) = clip.intersection(self.range) else {
                continue;
            };
            if part.files.files.is_empty() {
                continue;
            }
            let files = KeyedSnapshot {
                databases: Vec::new(),
                ..part.clone()
            };
            let mut rows = row_source(&files, clip, &known, &self.environment)?;
            self.put_rows(&mut *rows)?;
        }
        Ok(())
    }

    fn put_rows(&mut self, rows: &mut dyn RowSource) -> Result<(), StateError> {
        let mut batches: BTreeMap<usize, Batch> = BTreeMap::new();
        let bytes_max = self.making.options.write_batch_bytes.max(1);
        while rows.next(ROWS_PER_PIECE, &mut |row: RowRefs<'_>| {
            let index = self.table_to_load(row.table)?;
            let table = known(&self.tables, row.table)?;
            let (mut key, mut value) = (Vec::new(), Vec::new());
            row::key_into(row.group, row.key, &mut key);
            row::value_into(row.value, row.time_ms, &mut value);
            let batch = batches.entry(index).or_default();
            if batch.push(&table.family, key, value) >= bytes_max {
                load(&mut self.databases, index, batch)?;
            }
            Ok(())
        })? {}
        for (index, mut batch) in batches {
            if !batch.is_empty() {
                load(&mut self.databases, index, &mut batch)?;
            }
        }
        Ok(())
    }

    /// The database of a table that rows are restored of.
    fn table_to_load(&mut self, table: TableId) -> Result<usize, StateError> {
        if let Some(Some(known)) = self.tables.get(usize::from(table.0)) {
            return Ok(known.database);
        }
        let described = self.registry.tables();
        let described = described.into_iter().find(|(_, id)| *id == table);
        let (description, _) = described.ok_or_else(|| {
            StateError::Corrupt(format!(
                "the checkpoint has rows of table {}, which it does not describe",
                table.0
            ))
        })?;
        self.create_table(&description.operator, table)
    }
}

fn load(databases: &mut [Database], index: usize, batch: &mut Batch) -> Result<(), StateError> {
    match databases.get_mut(index) {
        Some(database) => database.load(batch),
        None => Ok(()),
    }
}
