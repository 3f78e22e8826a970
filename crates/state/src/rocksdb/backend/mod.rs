//! The backend over the databases of one worker.

mod barrier;
mod restoring;
mod tables;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use aquifer_store::{Environment, KeyGroupRange, Lookup, ScanLookup, StoreOptions, TableId, Value};
use bytes::Bytes;

use self::barrier::Pending;
use self::tables::{known, known_mut};
use super::database::{Database, Making};
use super::directory::LocalDirectory;
use super::row;
use super::table::Table;
use crate::backend::{Moments, check_group};
use crate::registry::TableRegistry;
use crate::serializer::Compatibility;
use crate::{
    BackendSetup, BackendStats, KeyedSnapshot, KeyedStateBackend, ListChunk, ListTimes,
    StateDescription, StateError,
};

/// See the module.
pub(crate) struct RocksdbBackend {
    /// One for each operator.
    databases: Vec<Database>,
    by_operator: BTreeMap<String, usize>,
    /// By number.
    tables: Vec<Option<Table>>,
    registry: TableRegistry,
    moments: Moments,
    environment: Environment,
    store: StoreOptions,
    making: Making,
    range: KeyGroupRange,
    /// A key that is being read, and a key and a value that are being written.
    read_key: RefCell<Vec<u8>>,
    write_key: Vec<u8>,
    write_value: Vec<u8>,
    job: Option<Pending>,
    /// Numbers of uploaded files.
    named: Arc<AtomicU64>,
    bytes_uploaded: u64,
    files_of_last_snapshot: u64,
    /// Dropped after the databases.
    directory: Arc<LocalDirectory>,
}

impl RocksdbBackend {
    /// Opens empty databases, or those of a checkpoint.
    pub(crate) fn open(setup: BackendSetup, registry: TableRegistry) -> Result<Self, StateError> {
        let options = setup.rocksdb;
        let turn = options.shared.next_turn();
        let owner = &setup.environment.file_prefix;
        let directory = LocalDirectory::create(&options.local_directories, turn, owner)?;
        let mut backend = Self {
            databases: Vec::new(),
            by_operator: BTreeMap::new(),
            tables: Vec::new(),
            moments: Moments::restored(setup.restored.iter().map(|(part, _)| part)),
            registry,
            making: Making {
                options,
                clock: Arc::clone(&setup.environment.clock),
            },
            environment: setup.environment,
            store: setup.store,
            range: setup.range,
            read_key: RefCell::default(),
            write_key: Vec::new(),
            write_value: Vec::new(),
            job: None,
            named: Arc::default(),
            bytes_uploaded: 0,
            files_of_last_snapshot: 0,
            directory,
        };
        backend.restore_databases(&setup.restored)?;
        backend.restore_rows(&setup.restored)?;
        backend.databases.iter_mut().for_each(Database::count_bytes);
        Ok(backend)
    }

    /// Makes `write_key` and `write_value` the stored forms.
    #[inline]
    fn stored(
        &mut self,
        group: u16,
        key: &[u8],
        value: &[u8],
        time_ms: Option<i64>,
    ) -> (Vec<u8>, Vec<u8>) {
        let mut stored_key = std::mem::take(&mut self.write_key);
        let mut stored_value = std::mem::take(&mut self.write_value);
        row::key_into(group, key, &mut stored_key);
        row::value_into(value, time_ms, &mut stored_value);
        (stored_key, stored_value)
    }

    fn give_back(&mut self, (key, value): (Vec<u8>, Vec<u8>)) {
        (self.write_key, self.write_value) = (key, value);
    }
}

impl KeyedStateBackend for RocksdbBackend {
    fn register(&mut self, description: &StateDescription) -> Result<TableId, StateError> {
        let found = self.registry.register(description, &mut self.moments)?;
        self.registered(found, description)
    }

    fn register_typed(
        &mut self,
        description: &StateDescription,
        value: &Compatibility,
    ) -> Result<TableId, StateError> {
        let found = self
            .registry
            .register_typed(description, value, &mut self.moments)?;
        self.registered(found, description)
    }

    fn description(&self, operator: &str, state: &str) -> Option<StateDescription> {
        self.registry.find(operator, state).cloned()
    }

    fn get(&self, table: TableId, group: u16, key: &[u8]) -> Result<Lookup<'_>, StateError> {
        let (found, database) = self.find(table, group)?;
        let mut stored_key = self.read_key.borrow_mut();
        row::key_into(group, key, &mut stored_key);
        let Some(stored) = database.get(&found.family, &stored_key)? else {
            return Ok(Lookup::Absent);
        };
        let (value, time_ms) = row::value_of(&stored)?;
        if self.hides(table, found, time_ms) {
            return Ok(Lookup::Absent);
        }
        let value = Bytes::copy_from_slice(value);
        Ok(Lookup::Found(Value::owned(value, time_ms)))
    }

    fn multi_get(
        &self,
        table: TableId,
        keys: &[(u16, &[u8])],
        answer: &mut dyn FnMut(usize, Lookup<'_>),
    ) -> Result<(), StateError> {
        let Some((first, _)) = keys.first() else {
            return Ok(());
        };
        let (found, database) = self.find(table, *first)?;
        let mut bytes = self.read_key.borrow_mut();
        bytes.clear();
        let mut ends = Vec::with_capacity(keys.len());
        for (group, key) in keys {
            check_group(self.range, *group)?;
            bytes.extend_from_slice(&group.to_be_bytes());
            bytes.extend_from_slice(key);
            ends.push(bytes.len());
        }
        let mut start = 0;
        let stored_keys = ends.iter().map(|end| {
            let key = bytes.get(start..*end).unwrap_or_default();
            start = *end;
            key
        });
        database.multi_get(&found.family, stored_keys, |index, stored| {
            let row = stored.map(row::value_of).transpose()?;
            answer(
                index,
                match row {
                    Some((value, time_ms)) if !self.hides(table, found, time_ms) => {
                        Lookup::Found(Value::with_time(value, time_ms))
                    }
                    _ => Lookup::Absent,
                },
            );
            Ok(())
        })
    }

    fn put(
        &mut self,
        table: TableId,
        group: u16,
        key: &[u8],
        value: &[u8],
    ) -> Result<(), StateError> {
        self.put_at(table, group, key, value, None)
    }

    fn put_at(
        &mut self,
        table: TableId,
        group: u16,
        key: &[u8],
        value: &[u8],
        time_ms: Option<i64>,
    ) -> Result<(), StateError> {
        let stored = self.stored(group, key, value, time_ms);
        let put = self
            .find_mut(table, group)
            .and_then(|(table, database)| database.put(&table.family, &stored.0, &stored.1));
        self.give_back(stored);
        put
    }

    fn delete(&mut self, table: TableId, group: u16, key: &[u8]) -> Result<(), StateError> {
        let stored = self.stored(group, key, b"", None);
        let deleted = self
            .find_mut(table, group)
            .and_then(|(table, database)| database.delete(&table.family, &stored.0));
        self.give_back(stored);
        deleted
    }

    fn merge(
        &mut self,
        table: TableId,
        group: u16,
        key: &[u8],
        operand: &[u8],
        time_ms: Option<i64>,
    ) -> Result<usize, StateError> {
        let stored = self.stored(group, key, operand, time_ms);
        let merged = self.find_mut(table, group).and_then(|(table, database)| {
            database.merge(&table.family, &stored.0, &stored.1)?;
            Ok(table.appended(&stored.0, operand.len()))
        });
        self.give_back(stored);
        self.moments.merged(table, operand.len());
        merged
    }

    fn delete_prefix(
        &mut self,
        table: TableId,
        group: u16,
        prefix: &[u8],
    ) -> Result<(), StateError> {
        let stored = self.stored(group, prefix, b"", None);
        let deleted = self
            .find_mut(table, group)
            .and_then(|(table, database)| database.delete_prefix(&table.family, &stored.0));
        self.give_back(stored);
        deleted
    }

    fn scan(
        &self,
        table: TableId,
        group: u16,
        prefix: &[u8],
        from: &[u8],
        until: Option<&[u8]>,
        rows_max: usize,
    ) -> Result<ScanLookup, StateError> {
        let (found, database) = self.find(table, group)?;
        let mut start = self.read_key.borrow_mut();
        row::key_into(group, from.max(prefix), &mut start);
        let mut end = Vec::with_capacity(2 + prefix.len());
        row::key_into(group, prefix, &mut end);
        // A key group is below the last number there is, so there is a key behind all of its keys.
        row::step_past(&mut end);
        if let Some(until) = until {
            let mut limit = Vec::with_capacity(2 + until.len());
            row::key_into(group, until, &mut limit);
            if limit < end {
                end = limit;
            }
        }
        let hides = |time_ms| self.hides(table, found, time_ms);
        let rows = database.scan(&found.family, &start, &end, rows_max, hides)?;
        Ok(ScanLookup::Rows(rows))
    }

    fn always_hot(&self) -> bool {
        true
    }

    fn show_expired(&mut self, table: TableId, all: bool) -> Result<(), StateError> {
        let options = self.registry.options_of(table).unwrap_or_default();
        known_mut(&mut self.tables, table)?.show_expired = all || options.show_expired;
        Ok(())
    }

    fn advance_event_time(&mut self, table: TableId, now_ms: i64) -> Result<(), StateError> {
        self.moments.advance(table, now_ms);
        known(&self.tables, table)?.expiry.advance(now_ms);
        Ok(())
    }

    fn count_untimed_as(&mut self, table: TableId, time_ms: i64) -> Result<(), StateError> {
        if self.registry.count_untimed_as(table, time_ms) {
            let options = self.registry.options_of(table).unwrap_or_default();
            known_mut(&mut self.tables, table)?.set_options(&options);
        }
        Ok(())
    }

    fn event_time(&self, table: TableId) -> Option<i64> {
        self.moments.event_time(table)
    }

    fn clock_ms(&self) -> i64 {
        (self.environment.clock)()
    }

    fn list_chunk(&mut self, table: TableId, roll: bool) -> Result<ListChunk, StateError> {
        let chunk = self.moments.list_chunk(table, roll);
        known_mut(&mut self.tables, table)?.chunk_is(chunk.number);
        Ok(chunk)
    }

    fn list_times(&mut self, table: TableId, times: ListTimes) -> Result<(), StateError> {
        self.moments.list_times(table, times);
        Ok(())
    }

    fn freeze(&mut self, table: TableId) -> Result<(), StateError> {
        self.freeze_table(table)
    }

    fn snapshot(&mut self, checkpoint_id: u64) -> Result<(), StateError> {
        self.begin_snapshot(checkpoint_id)
    }

    fn poll(&mut self) -> Result<Option<(u64, KeyedSnapshot)>, StateError> {
        self.ended_snapshot()
    }

    fn checkpoint_ended(&mut self, checkpoint_id: u64, complete: bool) -> Result<(), StateError> {
        for database in &mut self.databases {
            database.uploaded.ended(checkpoint_id, complete);
        }
        Ok(())
    }

    fn tables(&self) -> Vec<(StateDescription, TableId)> {
        self.registry.tables()
    }

    fn stats(&self) -> BackendStats {
        BackendStats {
            state_bytes: self.databases.iter().map(Database::bytes).sum(),
            bytes_uploaded: self.bytes_uploaded,
            files: self.files_of_last_snapshot,
            background_tasks: self.databases.iter().map(Database::background_tasks).sum(),
            ..BackendStats::default()
        }
    }
}
