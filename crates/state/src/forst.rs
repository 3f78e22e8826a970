//! The `forst` backend: a worker's keyed state in the LSM store on the object store.
//!
//! A thin coat over [`Store`]: it knows states by name, turns key groups that are not the worker's into a clear error, and gives a
//! snapshot the number of its checkpoint. A snapshot costs what has changed since the last one.

use std::collections::BTreeSet;
use std::sync::Arc;

use aquifer_store::{
    Clock, ColdRead, ColdScan, Environment, KeyGroupRange, Lookup, ScanLookup, ScanRows, SeeValue,
    Store, TableId, TableOptions,
};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::backend::Moments;
use crate::registry::{Registered, TableRegistry};
use crate::rows::{LocalCopies, counted, row_source_with};
use crate::serializer::Compatibility;
use crate::{
    BackendSetup, BackendStats, KeyedSnapshot, KeyedStateBackend, ListChunk, ListTimes, Row,
    StateDescription, StateError, TableMoment,
};

/// Rows of a part that is not the store's own that are read together.
const ROWS_PER_PIECE: usize = 4096;

/// See the module.
pub(crate) struct ForstBackend {
    store: Store,
    registry: TableRegistry,
    range: KeyGroupRange,
    /// Tables that this program uses. The rows of others stay in the files.
    registered: BTreeSet<TableId>,
    /// The store knows the tables that are not used, too: compactions need their merges and TTLs.
    knows_all: bool,
    moments: Moments,
    clock: Clock,
    /// Restored parts that the store cannot open, and the tables whose rows have been read from them.
    foreign: Vec<(KeyedSnapshot, KeyGroupRange)>,
    copies: LocalCopies,
    loaded: BTreeSet<TableId>,
    environment: Environment,
    /// The checkpoint that is being made durable, and the moment of its tables.
    pending: Option<(u64, Vec<TableMoment>)>,
}

impl ForstBackend {
    /// Opens the store on the restored files. Reads nothing.
    pub(crate) fn open(setup: BackendSetup, registry: TableRegistry) -> Result<Self, StateError> {
        let moments = Moments::restored(setup.restored.iter().map(|(part, _)| part));
        let clock = Arc::clone(&setup.environment.clock);
        let parts = setup.restored.into_iter();
        // Files that lie in a store are opened; what has another form is read row by row.
        let (foreign, own): (Vec<_>, Vec<_>) =
            parts.partition(|(part, _)| !part.inline.is_empty() || !part.databases.is_empty());
        let files = own
            .into_iter()
            .map(|(part, clip)| (part.files, clip))
            .collect();
        let environment = setup.environment.clone();
        Ok(Self {
            store: Store::open(setup.environment, setup.store, files)?,
            registry,
            range: setup.range,
            registered: BTreeSet::new(),
            knows_all: false,
            moments,
            clock,
            foreign,
            copies: LocalCopies::default(),
            loaded: BTreeSet::new(),
            environment,
            pending: None,
        })
    }

    fn registered(&mut self, found: Registered) -> Result<TableId, StateError> {
        let (Registered::New(table) | Registered::Known(table)) = found;
        let options = self.registry.options_of(table).unwrap_or_default();
        self.create(table, options)?;
        self.registered.insert(table);
        self.load(table)?;
        Ok(table)
    }

    /// Makes a table known to the store, and how far its event time had come.
    fn create(&mut self, table: TableId, options: TableOptions) -> Result<(), StateError> {
        let event_time_ms = self.moments.event_time(table);
        let known = event_time_ms.filter(|_| options.event_time);
        self.store.create_table(table, options)?;
        if let Some(now_ms) = known {
            self.store.advance_event_time(table, now_ms)?;
        }
        Ok(())
    }

    /// Reads the rows of a table from the parts that are not the store's own, once.
    fn load(&mut self, table: TableId) -> Result<(), StateError> {
        if self.foreign.is_empty() || !self.loaded.insert(table) {
            return Ok(());
        }
        let mut known = self.registry.tables();
        known.retain(|(_, id)| *id == table);
        for (description, _) in &mut known {
            // The store decides itself what has expired.
            description.options.ttl_ms = None;
        }
        for (part, clip) in &self.foreign {
            let Some(clip) = clip.intersection(self.range) else {
                continue;
            };
            let store = &mut self.store;
            let source = row_source_with(part, clip, &known, &self.environment, &self.copies)?;
            let mut source = counted(source, part);
            while source.next(ROWS_PER_PIECE, &mut |row| {
                match row.time_ms {
                    None => store.put(table, row.group, row.key, row.value)?,
                    Some(time_ms) => {
                        store.put_at(table, row.group, row.key, row.value, time_ms)?;
                    }
                }
                Ok(())
            })? {}
        }
        Ok(())
    }

    /// Tells the store of the tables that only the checkpoint knows. Not before the program has registered its own, whose
    /// options may have changed.
    fn know_all(&mut self) -> Result<(), StateError> {
        if !std::mem::replace(&mut self.knows_all, true) {
            let all: Vec<_> = self.registry.options().collect();
            for (table, options) in all {
                if !self.registered.contains(&table) {
                    self.create(table, options)?;
                    self.load(table)?;
                }
            }
            self.foreign.clear();
            self.copies = LocalCopies::default();
        }
        Ok(())
    }

    #[inline]
    fn check(&self, group: u16) -> Result<(), StateError> {
        crate::backend::check_group(self.range, group)
    }
}

impl KeyedStateBackend for ForstBackend {
    fn register(&mut self, description: &StateDescription) -> Result<TableId, StateError> {
        let found = self.registry.register(description, &mut self.moments)?;
        self.registered(found)
    }

    fn register_typed(
        &mut self,
        description: &StateDescription,
        value: &Compatibility,
    ) -> Result<TableId, StateError> {
        let found = self
            .registry
            .register_typed(description, value, &mut self.moments)?;
        self.registered(found)
    }

    fn description(&self, operator: &str, state: &str) -> Option<StateDescription> {
        self.registry.find(operator, state).cloned()
    }

    fn get(&self, table: TableId, group: u16, key: &[u8]) -> Result<Lookup<'_>, StateError> {
        self.check(group)?;
        Ok(self.store.get(table, group, key)?)
    }

    fn look_up(
        &self,
        table: TableId,
        group: u16,
        key: &[u8],
        see: SeeValue<'_>,
    ) -> Result<Option<Box<ColdRead>>, StateError> {
        self.check(group)?;
        Ok(self.store.look_up(table, group, key, see)?)
    }

    fn multi_get(
        &self,
        table: TableId,
        keys: &[(u16, &[u8])],
        answer: &mut dyn FnMut(usize, Lookup<'_>),
    ) -> Result<(), StateError> {
        for (group, _) in keys {
            self.check(*group)?;
        }
        Ok(self.store.multi_get(table, keys, answer)?)
    }

    fn put(
        &mut self,
        table: TableId,
        group: u16,
        key: &[u8],
        value: &[u8],
    ) -> Result<(), StateError> {
        self.check(group)?;
        Ok(self.store.put(table, group, key, value)?)
    }

    fn delete(&mut self, table: TableId, group: u16, key: &[u8]) -> Result<(), StateError> {
        self.check(group)?;
        Ok(self.store.delete(table, group, key)?)
    }

    fn put_at(
        &mut self,
        table: TableId,
        group: u16,
        key: &[u8],
        value: &[u8],
        time_ms: Option<i64>,
    ) -> Result<(), StateError> {
        self.check(group)?;
        match time_ms {
            None => self.store.put(table, group, key, value)?,
            Some(time_ms) => self.store.put_at(table, group, key, value, time_ms)?,
        }
        Ok(())
    }

    fn merge(
        &mut self,
        table: TableId,
        group: u16,
        key: &[u8],
        operand: &[u8],
        time_ms: Option<i64>,
    ) -> Result<usize, StateError> {
        self.check(group)?;
        let bytes = match time_ms {
            None => self.store.merge(table, group, key, operand)?,
            Some(time_ms) => self.store.merge_at(table, group, key, operand, time_ms)?,
        };
        self.moments.merged(table, operand.len());
        Ok(bytes)
    }

    fn delete_prefix(
        &mut self,
        table: TableId,
        group: u16,
        prefix: &[u8],
    ) -> Result<(), StateError> {
        self.check(group)?;
        Ok(self.store.delete_prefix(table, group, prefix)?)
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
        self.check(group)?;
        Ok(self
            .store
            .scan(table, group, prefix, from, until, rows_max)?)
    }

    fn holds_any(
        &self,
        table: TableId,
        group: u16,
        prefix: &[u8],
    ) -> Result<Option<bool>, StateError> {
        self.check(group)?;
        if let Some(holds) = self.store.holds_any(table, group, prefix)? {
            return Ok(Some(holds));
        }
        match self.store.scan(table, group, prefix, prefix, None, 1)? {
            ScanLookup::Rows(found) => Ok(Some(!found.rows.is_empty())),
            ScanLookup::Cold(_) => Ok(None),
        }
    }

    fn fetch(
        &self,
        reads: Vec<ColdRead>,
    ) -> BoxFuture<'static, Result<Vec<Option<Bytes>>, StateError>> {
        self.store.fetch(reads).map(|answer| Ok(answer?)).boxed()
    }

    fn fetch_rows(
        &self,
        reads: Vec<ColdRead>,
    ) -> BoxFuture<'static, Result<Vec<Option<Row>>, StateError>> {
        let row = |value: aquifer_store::Value<'static>| Row {
            value: value.to_bytes(),
            time_ms: value.time_ms(),
        };
        self.store
            .fetch_values(reads)
            .map(move |answer| Ok(answer?.into_iter().map(|found| found.map(row)).collect()))
            .boxed()
    }

    fn fetch_scan(&self, scan: ColdScan) -> BoxFuture<'static, Result<ScanRows, StateError>> {
        self.store
            .fetch_scan(scan)
            .map(|answer| Ok(answer?))
            .boxed()
    }

    fn installs(&self) -> u64 {
        self.store.installs()
    }

    fn show_expired(&mut self, table: TableId, all: bool) -> Result<(), StateError> {
        let options = self.registry.options_of(table).unwrap_or_default();
        self.store
            .show_expired(table, all || options.show_expired)?;
        Ok(())
    }

    fn advance_event_time(&mut self, table: TableId, now_ms: i64) -> Result<(), StateError> {
        self.store.advance_event_time(table, now_ms)?;
        self.moments.advance(table, now_ms);
        Ok(())
    }

    fn count_untimed_as(&mut self, table: TableId, time_ms: i64) -> Result<(), StateError> {
        if self.registry.count_untimed_as(table, time_ms) {
            self.store.count_untimed_as(table, time_ms)?;
        }
        Ok(())
    }

    fn event_time(&self, table: TableId) -> Option<i64> {
        self.moments.event_time(table)
    }

    fn clock_ms(&self) -> i64 {
        (self.clock)()
    }

    fn list_chunk(&mut self, table: TableId, roll: bool) -> Result<ListChunk, StateError> {
        Ok(self.moments.list_chunk(table, roll))
    }

    fn list_times(&mut self, table: TableId, times: ListTimes) -> Result<(), StateError> {
        self.moments.list_times(table, times);
        Ok(())
    }

    fn freeze(&mut self, table: TableId) -> Result<(), StateError> {
        if !self.registered.contains(&table) && self.registry.contains(table) {
            // A state that this program does not have: nothing was written to it, but by `load`.
            if !self.foreign.is_empty() || self.loaded.contains(&table) {
                self.know_all()?;
                self.store.freeze(table)?;
            }
            return Ok(());
        }
        self.store.freeze(table)?;
        self.moments.freeze(table);
        Ok(())
    }

    fn snapshot(&mut self, checkpoint_id: u64) -> Result<(), StateError> {
        if let Some((pending, _)) = self.pending {
            return Err(StateError::Usage(format!(
                "checkpoint {checkpoint_id} was started while checkpoint {pending} is being written"
            )));
        }
        self.know_all()?;
        // Nobody freezes tables that this program does not have.
        for table in std::mem::take(&mut self.loaded) {
            if !self.registered.contains(&table) {
                self.store.freeze(table)?;
            }
        }
        self.store.checkpoint()?;
        self.pending = Some((checkpoint_id, self.moments.take()));
        Ok(())
    }

    fn poll(&mut self) -> Result<Option<(u64, KeyedSnapshot)>, StateError> {
        self.know_all()?;
        let Some(files) = self.store.poll()? else {
            return Ok(None);
        };
        match self.pending.take() {
            Some((id, tables)) => {
                let snapshot = KeyedSnapshot {
                    tables,
                    ..KeyedSnapshot::of_files(files)
                };
                Ok(Some((id, snapshot)))
            }
            None => Err(StateError::Corrupt(
                "the store finished a checkpoint that nobody had asked for".into(),
            )),
        }
    }

    fn tables(&self) -> Vec<(StateDescription, TableId)> {
        self.registry.tables()
    }

    fn stats(&self) -> BackendStats {
        let store = self.store.stats();
        BackendStats {
            state_bytes: store.memtable_bytes + store.file_bytes,
            cache_hits: store.block_cache_hits,
            cache_misses: store.block_cache_misses,
            cold_reads: store.cold_reads,
            bytes_uploaded: store.bytes_uploaded,
            files: store.files,
            background_tasks: store.background_tasks,
        }
    }
}
