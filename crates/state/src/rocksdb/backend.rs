//! The backend over the databases of one worker.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use aquifer_store::{
    ColdRead, ColdScan, Environment, KeyGroupRange, Lookup, ScanLookup, ScanRows, StoreOptions,
    TableId, Value,
};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{self, BoxFuture};

use super::database::{Batch, Database, Family, Making};
use super::directory::LocalDirectory;
use super::expiry::{Expiry, Rule};
use super::rows::DatabaseRows;
use super::snapshot::{Frozen, SnapshotJob, Surroundings};
use super::table::Table;
use super::transfer::Transfers;
use super::uploaded::{Files, Uploaded};
use super::{restore, row};
use crate::backend::{Moments, check_group};
use crate::registry::{Registered, TableRegistry};
use crate::rows::{RowRefs, RowSource, row_source};
use crate::serializer::Compatibility;
use crate::{
    BackendSetup, BackendStats, DbSnapshot, KeyedSnapshot, KeyedStateBackend, ListChunk, ListTimes,
    StateDescription, StateError, TableMoment,
};

/// Rows that a restore asks for at once.
const ROWS_PER_PIECE: usize = 4096;

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

/// A snapshot under way.
struct Pending {
    job: SnapshotJob,
    tables: Vec<TableMoment>,
    /// Writes to each database when it was frozen, in the order of the databases.
    writes: Vec<u64>,
}

/// A database of a checkpoint, and what is wanted of it.
struct Wanted<'a> {
    database: &'a DbSnapshot,
    groups: KeyGroupRange,
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

    /// Opens what the checkpoint has in RocksDB's own form.
    fn restore_databases(
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
            let expiry = Expiry::unknown();
            let options = self.registry.options_of(table).unwrap_or_default();
            self.add_table(table, Table::new(index, name.clone(), Arc::clone(&expiry)))?;
            families.push(Family {
                name,
                table,
                expiry,
                expires: Rule::of(&options).is_some(),
            });
        }
        let mut database = Database::open(&laid.path, operator, families, &self.making)?;
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
        let mut rows = DatabaseRows::read(laid, from.groups, None)?;
        self.put_rows(&mut rows)?;
        drop(rows);
        restore::remove(&paths, Arc::clone(&self.directory));
        Ok(())
    }

    /// Reads what the checkpoint has as rows in files, also what has expired by its options: the program's may be others.
    fn restore_rows(
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

    /// The database of an operator, which is opened if it is new.
    fn database(&mut self, operator: &str) -> Result<usize, StateError> {
        if let Some(index) = self.by_operator.get(operator) {
            return Ok(*index);
        }
        let path = self.directory.fresh_directory("db")?;
        let database = Database::open(&path, operator, Vec::new(), &self.making)?;
        let index = self.databases.len();
        self.databases.push(database);
        self.by_operator.insert(operator.to_owned(), index);
        Ok(index)
    }

    fn create_table(&mut self, operator: &str, table: TableId) -> Result<usize, StateError> {
        let index = self.database(operator)?;
        let options = self.registry.options_of(table).unwrap_or_default();
        let expiry = Expiry::unknown();
        let expires = Rule::of(&options).is_some();
        let database = self
            .databases
            .get_mut(index)
            .ok_or_else(|| unknown(table))?;
        let family = database.create_family(table, &expiry, expires)?;
        self.add_table(table, Table::new(index, family, expiry))?;
        Ok(index)
    }

    fn add_table(&mut self, id: TableId, table: Table) -> Result<(), StateError> {
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

    /// The program has registered a state.
    fn registered(
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
        let table = known_mut(&mut self.tables, id)?;
        let changed = table.set_options(&options);
        if let Some(event_time_ms) = event_time_ms {
            table.expiry.advance(event_time_ms);
        }
        if changed && let Some(database) = self.databases.get(table.database) {
            database.set_expires(&table.family, Rule::of(&options).is_some())?;
        }
        Ok(id)
    }

    /// A table and its database.
    #[inline]
    fn find(&self, id: TableId, group: u16) -> Result<(&Table, &Database), StateError> {
        check_group(self.range, group)?;
        let table = known(&self.tables, id)?;
        let database = self.databases.get(table.database);
        Ok((table, database.ok_or_else(|| unknown(id))?))
    }

    #[inline]
    fn find_mut(
        &mut self,
        id: TableId,
        group: u16,
    ) -> Result<(&mut Table, &mut Database), StateError> {
        check_group(self.range, group)?;
        let table = known_mut(&mut self.tables, id)?;
        let database = self.databases.get_mut(table.database);
        Ok((table, database.ok_or_else(|| unknown(id))?))
    }

    #[inline]
    fn hides(&self, id: TableId, table: &Table, time_ms: Option<i64>) -> bool {
        let clock = || (self.environment.clock)();
        table.hides(time_ms, clock, || self.moments.event_time(id))
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

#[inline]
fn known(tables: &[Option<Table>], id: TableId) -> Result<&Table, StateError> {
    let table = tables.get(usize::from(id.0)).and_then(Option::as_ref);
    table.ok_or_else(|| unknown(id))
}

#[inline]
fn known_mut(tables: &mut [Option<Table>], id: TableId) -> Result<&mut Table, StateError> {
    let table = tables.get_mut(usize::from(id.0)).and_then(Option::as_mut);
    table.ok_or_else(|| unknown(id))
}

fn load(databases: &mut [Database], index: usize, batch: &mut Batch) -> Result<(), StateError> {
    match databases.get_mut(index) {
        Some(database) => database.load(batch),
        None => Ok(()),
    }
}

fn unknown(table: TableId) -> StateError {
    StateError::Usage(format!(
        "table {} is not registered with this backend",
        table.0
    ))
}

fn never_cold() -> StateError {
    StateError::Usage(
        "a cold read was handed to the rocksdb backend, which never gives one out".into(),
    )
}

impl KeyedStateBackend for RocksdbBackend {
    fn register(&mut self, description: &StateDescription) -> Result<TableId, StateError> {
        let found = self.registry.register(description, &self.moments)?;
        self.registered(found, description)
    }

    fn register_typed(
        &mut self,
        description: &StateDescription,
        value: &Compatibility,
    ) -> Result<TableId, StateError> {
        let found = self
            .registry
            .register_typed(description, value, &self.moments)?;
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

    fn fetch(
        &self,
        reads: Vec<ColdRead>,
    ) -> BoxFuture<'static, Result<Vec<Option<Bytes>>, StateError>> {
        future::ready(if reads.is_empty() {
            Ok(Vec::new())
        } else {
            Err(never_cold())
        })
        .boxed()
    }

    fn fetch_scan(&self, _scan: ColdScan) -> BoxFuture<'static, Result<ScanRows, StateError>> {
        future::ready(Err(never_cold())).boxed()
    }

    fn installs(&self) -> u64 {
        0
    }

    fn always_hot(&self) -> bool {
        true
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
        let Ok(found) = known(&self.tables, table) else {
            // A state of the checkpoint without rows, which this program does not have.
            return match self.registry.contains(table) {
                true => Ok(()),
                false => Err(unknown(table)),
            };
        };
        let (directory, full) = (&self.directory, !self.making.options.incremental);
        if let Some(database) = self.databases.get_mut(found.database) {
            database.freeze(|| directory.fresh("frozen"), full)?;
        }
        self.moments.freeze(table);
        Ok(())
    }

    fn snapshot(&mut self, checkpoint_id: u64) -> Result<(), StateError> {
        if let Some(pending) = &self.job {
            return Err(StateError::Usage(format!(
                "checkpoint {checkpoint_id} was started while checkpoint {} is being written",
                pending.job.checkpoint_id
            )));
        }
        let incremental = self.making.options.incremental;
        let (mut frozen, mut writes) = (Vec::new(), Vec::new());
        for database in &mut self.databases {
            // Operators that this program does not have are not frozen by anyone.
            let directory = &self.directory;
            if database.frozen.is_none() {
                database.freeze(|| directory.fresh("frozen"), !incremental)?;
            }
            let Some(taken) = database.frozen.take() else {
                continue;
            };
            writes.push(taken.writes);
            frozen.push(Frozen {
                operator: database.operator.clone(),
                families: database.families().to_vec(),
                form: taken.form,
                shared: database.uploaded.shared(),
            });
        }
        let surroundings = Surroundings {
            environment: self.environment.clone(),
            store: self.store.clone(),
            directory: Arc::clone(&self.directory),
            range: self.range,
            named: Arc::clone(&self.named),
            uploads_at_once: self.making.options.transfers,
        };
        self.job = Some(Pending {
            job: SnapshotJob::start(checkpoint_id, frozen, surroundings, incremental),
            tables: self.moments.take(),
            writes,
        });
        Ok(())
    }

    fn poll(&mut self) -> Result<Option<(u64, KeyedSnapshot)>, StateError> {
        let Some(written) = self.job.as_ref().and_then(|pending| pending.job.result()) else {
            return Ok(None);
        };
        let Some(pending) = self.job.take() else {
            return Ok(None);
        };
        let written = written?;
        let id = pending.job.checkpoint_id;
        let mut snapshot = written.snapshot;
        for (database, writes) in self.databases.iter_mut().zip(pending.writes) {
            let mut own = snapshot.databases.iter();
            if let Some(own) = own.find(|own| own.operator == database.operator) {
                let files = Files {
                    writes: Some(writes),
                    files: own.files.clone(),
                };
                database.uploaded.written(id, files);
            }
        }
        snapshot.tables = pending.tables;
        self.bytes_uploaded += written.bytes_uploaded;
        self.files_of_last_snapshot = 0;
        let count = &mut self.files_of_last_snapshot;
        snapshot.for_each_path(&mut |_, _| *count += 1);
        Ok(Some((id, snapshot)))
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
