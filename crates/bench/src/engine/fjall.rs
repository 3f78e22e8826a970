//! fjall with its own defaults (4 KiB blocks, filters of 10 bits, LZ4), a keyspace per state. Its journal cannot be turned off; it is
//! never synced.
use std::time::Duration;

use fjall::{Database, Keyspace, KeyspaceCreateOptions};

use super::{Engine, Result, Setup, Table};
use crate::data::Key;
use crate::measure::pause;

pub struct Fjall {
    tables: [Keyspace; 3],
    // After what it holds.
    db: Database,
}

impl Fjall {
    #[inline]
    fn table(&self, table: Table) -> &Keyspace {
        &self.tables[usize::from(table.byte())]
    }
}

impl Engine for Fjall {
    fn open(setup: &Setup) -> Result<Self> {
        let db = Database::builder(&setup.directory)
            .cache_size(setup.cache_bytes)
            .worker_threads(2)
            .manual_journal_persist(true)
            .open()?;
        let [values, maps, lists] = Table::ALL.map(|table| {
            let options = || {
                KeyspaceCreateOptions::default()
                    .max_memtable_size(setup.memtable_bytes as u64)
                    .manual_journal_persist(true)
            };
            db.keyspace(table.name(), options)
        });
        Ok(Self {
            tables: [values?, maps?, lists?],
            db,
        })
    }

    #[inline]
    fn put(&mut self, table: Table, key: &Key, value: &[u8]) -> Result<()> {
        Ok(self.table(table).insert(key.bytes(), value)?)
    }

    #[inline]
    fn get<R>(
        &mut self,
        table: Table,
        key: &Key,
        with: impl FnOnce(Option<&[u8]>) -> R,
    ) -> Result<R> {
        let value = self.table(table).get(key.bytes())?;
        Ok(with(value.as_deref()))
    }

    fn delete(&mut self, table: Table, key: &Key) -> Result<()> {
        Ok(self.table(table).remove(key.bytes())?)
    }

    fn multi_get(
        &mut self,
        table: Table,
        keys: &[Key],
        with: &mut impl FnMut(usize, Option<&[u8]>),
    ) -> Result<()> {
        // There is no multi-get.
        for (i, key) in keys.iter().enumerate() {
            with(i, self.table(table).get(key.bytes())?.as_deref());
        }
        Ok(())
    }

    fn scan(
        &mut self,
        table: Table,
        prefix: &Key,
        rows_max: usize,
        with: &mut impl FnMut(&[u8], &[u8]),
    ) -> Result<()> {
        for row in self.table(table).prefix(prefix.bytes()).take(rows_max) {
            let (key, value) = row.into_inner()?;
            with(&key, &value);
        }
        Ok(())
    }

    fn append(&mut self, table: Table, key: &Key, operand: &[u8]) -> Result<()> {
        // There is no merge operator.
        let table = self.table(table);
        let mut list = table
            .get(key.bytes())?
            .map(|value| value.to_vec())
            .unwrap_or_default();
        list.extend_from_slice(operand);
        Ok(table.insert(key.bytes(), list)?)
    }

    fn flush(&mut self) -> Result<()> {
        for table in &self.tables {
            table.rotate_memtable_and_wait()?;
        }
        Ok(())
    }

    fn settle(&mut self) -> Result<()> {
        while self.db.outstanding_flushes() > 0 || self.db.active_compactions() > 0 {
            pause(Duration::from_millis(2));
        }
        Ok(())
    }

    fn warm(&mut self) -> Result<()> {
        for table in &self.tables {
            for row in table.iter() {
                std::hint::black_box(row.into_inner()?);
            }
        }
        Ok(())
    }

    fn close(mut self) -> Result<()> {
        self.flush()?;
        self.settle()
    }
}
