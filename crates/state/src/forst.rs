//! The `forst` backend: a worker's keyed state in the LSM store on the object store.
//!
//! A thin coat over [`Store`]: it knows states by name, turns key groups that are not the worker's into a clear error, and gives a
//! snapshot the number of its checkpoint. A snapshot costs what has changed since the last one.

use std::collections::BTreeSet;

use aquifer_store::{
    Checkpoint, ColdRead, ColdScan, Environment, KeyGroupRange, Lookup, ScanLookup, ScanRows,
    Store, StoreOptions, TableId,
};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::registry::{Registered, TableRegistry};
use crate::{BackendStats, KeyedSnapshot, KeyedStateBackend, StateDescription, StateError};

/// See the module.
pub(crate) struct ForstBackend {
    store: Store,
    registry: TableRegistry,
    range: KeyGroupRange,
    /// Tables that this program uses. The rows of others stay in the files.
    registered: BTreeSet<TableId>,
    /// The store knows the tables that are not used, too: compactions need their merges and TTLs.
    knows_all: bool,
    /// The checkpoint that is being made durable.
    pending: Option<u64>,
}

impl ForstBackend {
    /// Opens the store on the restored files. Reads nothing.
    pub(crate) fn open(
        environment: Environment,
        options: StoreOptions,
        range: KeyGroupRange,
        registry: TableRegistry,
        restored: Vec<(Checkpoint, KeyGroupRange)>,
    ) -> Result<Self, StateError> {
        Ok(Self {
            store: Store::open(environment, options, restored)?,
            registry,
            range,
            registered: BTreeSet::new(),
            knows_all: false,
            pending: None,
        })
    }

    /// Tells the store of the tables that only the checkpoint knows. Not before the program has registered its own, whose
    /// options may have changed.
    fn know_all(&mut self) -> Result<(), StateError> {
        if !std::mem::replace(&mut self.knows_all, true) {
            for (table, options) in self.registry.options() {
                if !self.registered.contains(&table) {
                    self.store.create_table(table, options)?;
                }
            }
        }
        Ok(())
    }

    fn check(&self, group: u16) -> Result<(), StateError> {
        crate::backend::check_group(self.range, group)
    }
}

impl KeyedStateBackend for ForstBackend {
    fn register(&mut self, description: &StateDescription) -> Result<TableId, StateError> {
        Ok(match self.registry.register(description)? {
            Registered::New(table) | Registered::Known(table) => {
                self.store
                    .create_table(table, description.options.clone())?;
                self.registered.insert(table);
                table
            }
        })
    }

    fn get(&self, table: TableId, group: u16, key: &[u8]) -> Result<Lookup<'_>, StateError> {
        self.check(group)?;
        Ok(self.store.get(table, group, key)?)
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

    fn fetch(
        &self,
        reads: Vec<ColdRead>,
    ) -> BoxFuture<'static, Result<Vec<Option<Bytes>>, StateError>> {
        self.store.fetch(reads).map(|answer| Ok(answer?)).boxed()
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

    fn freeze(&mut self, table: TableId) -> Result<(), StateError> {
        if !self.registered.contains(&table) && self.registry.contains(table) {
            // A state that this program does not have: nothing was written to it.
            return Ok(());
        }
        Ok(self.store.freeze(table)?)
    }

    fn snapshot(&mut self, checkpoint_id: u64) -> Result<(), StateError> {
        if let Some(pending) = self.pending {
            return Err(StateError::Usage(format!(
                "checkpoint {checkpoint_id} was started while checkpoint {pending} is being written"
            )));
        }
        self.know_all()?;
        self.store.checkpoint()?;
        self.pending = Some(checkpoint_id);
        Ok(())
    }

    fn poll(&mut self) -> Result<Option<(u64, KeyedSnapshot)>, StateError> {
        self.know_all()?;
        let Some(files) = self.store.poll()? else {
            return Ok(None);
        };
        match self.pending.take() {
            Some(id) => Ok(Some((id, KeyedSnapshot { files }))),
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
        }
    }
}
