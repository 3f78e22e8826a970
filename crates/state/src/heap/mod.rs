//! The `hashmap` backend: a worker's keyed state on the heap.
//!
//! Every table has one [`group::Group`] per key group of the worker, hashed, or ordered if the table asks for it. Reads are never cold.
//! A snapshot shares the frozen layers with a background thread, which writes **all** live rows through a private store into the same
//! kind of files that the `forst` backend writes: so either backend restores the other's. The cost to the operator is one moved layer per
//! key group at the barrier, a second look-up per read while the snapshot is under way, and the folding of what was written meanwhile
//! afterwards (in bounded pieces, by `poll`; see [`barrier`] for what that means for memory). The files lie in the object store or, small ones, in the metadata ([`storage`]).
//!
//! Typed handles keep their values in typed tables instead ([`typed`]); of such a table the raw one is empty, and scans of it make rows
//! of the values. What was restored waits as rows until its state is asked for, and then moves key group by key group, so that it is
//! not held twice; states that nobody asks for stay rows and are in the next snapshot.
//!
//! A snapshot that fails, or is given up, leaves the backend as it was: no file of it is named anywhere, and the next one is whole.

mod barrier;
mod fold;
mod frozen_groups;
mod group;
mod live;
mod raw;
mod rows;
mod snapshot;
mod storage;
pub(crate) mod typed;

use aquifer_store::{Environment, KeyGroupRange, Lookup, ScanLookup, StoreOptions, TableId, Value};

use self::barrier::Folding;
use self::group::Group;
use self::raw::{RawTable, RawTtl};
use self::snapshot::{FrozenTable, SnapshotJob};
use self::typed::HeapStates;
use crate::backend::{Moments, unknown_table};
use crate::registry::{Registered, TableRegistry};
use crate::rows::row_source;
use crate::serializer::{Compatibility, StateKind};
use crate::{
    BackendSetup, BackendStats, KeyedSnapshot, KeyedStateBackend, ListChunk, ListTimes,
    SnapshotStorage, StateDescription, StateError, TableMoment, TakeRow,
};

/// Rows of a prefix that are deleted together.
const DELETED_PER_PIECE: usize = 1024;
/// Rows that a restore asks for at once.
const RESTORE_ROWS_PER_SCAN: usize = 4096;

/// See the module.
pub(crate) struct HeapBackend {
    environment: Environment,
    options: StoreOptions,
    storage: SnapshotStorage,
    range: KeyGroupRange,
    registry: TableRegistry,
    /// By table number.
    tables: Vec<Option<RawTable>>,
    /// Those that typed handles have opened.
    typed: HeapStates,
    /// Tables that the barrier has passed, by table number, until the snapshot starts.
    frozen: Vec<Option<FrozenTable>>,
    job: Option<(SnapshotJob, Vec<TableMoment>)>,
    /// Snapshots that were given up and hold on to their layers until they notice.
    cancelled: Vec<SnapshotJob>,
    /// A table of which some rows have gone where they could not be read: no snapshot may be taken of what is left.
    torn: Option<TableId>,
    moments: Moments,
    snapshots_started: u64,
    /// Where folding goes on, or None when there is nothing to fold.
    folding: Option<Folding>,
    bytes_uploaded: u64,
    files_of_last_snapshot: u64,
}

impl HeapBackend {
    /// Opens an empty backend, or loads what a checkpoint holds for these key groups.
    pub(crate) fn open(setup: BackendSetup, registry: TableRegistry) -> Result<Self, StateError> {
        setup.storage.check()?;
        let restored = setup.restored;
        let mut backend = Self {
            moments: Moments::restored(restored.iter().map(|(part, _)| part)),
            environment: setup.environment,
            options: setup.store,
            storage: setup.storage,
            range: setup.range,
            registry,
            tables: Vec::new(),
            typed: HeapStates::new(setup.range),
            frozen: Vec::new(),
            job: None,
            cancelled: Vec::new(),
            torn: None,
            snapshots_started: 0,
            folding: None,
            bytes_uploaded: 0,
            files_of_last_snapshot: 0,
        };
        let known: Vec<_> = backend.registry.options().collect();
        for (table, options) in known {
            backend.create(table, options.ordered);
        }
        // Nothing is hidden before the program has said how it is used.
        backend.load(&restored)?;
        Ok(backend)
    }

    /// Reads every row of the worker's key groups, also those that have expired by the checkpoint's options: the program's may be others.
    /// Tables that the program does not register any more are loaded too: they must be in the next snapshot.
    fn load(&mut self, restored: &[(KeyedSnapshot, KeyGroupRange)]) -> Result<(), StateError> {
        let mut known = self.registry.tables();
        for (description, _) in &mut known {
            description.options.ttl_ms = None;
        }
        for (snapshot, clip) in restored {
            let Some(clip) = clip.intersection(self.range) else {
                continue;
            };
            let mut source = row_source(snapshot, clip, &known, &self.environment)?;
            while source.next(RESTORE_ROWS_PER_SCAN, &mut |row| {
                self.group_mut(row.table, row.group)?
                    .put(row.key, row.value, row.time_ms);
                Ok(())
            })? {}
        }
        Ok(())
    }

    fn registered(&mut self, found: Registered, kind: StateKind) -> TableId {
        let (Registered::New(table) | Registered::Known(table)) = found;
        let options = self.registry.options_of(table).unwrap_or_default();
        let raw = self.create(table, options.ordered);
        // What a typed handle will take over expires by its rules.
        raw.set_ttl(RawTtl::of(&options).filter(|_| kind == StateKind::Raw));
        table
    }

    fn create(&mut self, table: TableId, ordered: bool) -> &mut RawTable {
        let index = usize::from(table.0);
        if self.tables.len() <= index {
            self.tables.resize_with(index + 1, || None);
        }
        let range = self.range;
        let raw = self.tables[index].get_or_insert_with(|| RawTable::new(range, ordered));
        raw.reorder(ordered);
        raw
    }

    fn raw(&self, table: TableId) -> Result<&RawTable, StateError> {
        match self.tables.get(usize::from(table.0)) {
            Some(Some(raw)) => Ok(raw),
            _ => Err(unknown_table(table)),
        }
    }

    fn raw_mut(&mut self, table: TableId) -> Result<&mut RawTable, StateError> {
        match self.tables.get_mut(usize::from(table.0)) {
            Some(Some(raw)) => Ok(raw),
            _ => Err(unknown_table(table)),
        }
    }

    fn group_mut(&mut self, table: TableId, group: u16) -> Result<&mut Group, StateError> {
        self.raw_mut(table)?.group_mut(group)
    }

    /// The present of a table with a TTL; none if time has not begun.
    fn now_ms(&self, table: TableId, ttl: RawTtl) -> Option<i64> {
        if ttl.by_event_time {
            self.moments.event_time(table)
        } else {
            Some((self.environment.clock)())
        }
    }

    /// A table was written to: if its rows expire, a few of them are looked at.
    fn clean(&mut self, table: TableId) -> Result<(), StateError> {
        if let Some(ttl) = self.raw(table)?.ttl() {
            let now_ms = self.now_ms(table, ttl);
            self.raw_mut(table)?.clean(now_ms);
        }
        Ok(())
    }
}

impl KeyedStateBackend for HeapBackend {
    fn register(&mut self, description: &StateDescription) -> Result<TableId, StateError> {
        let found = self.registry.register(description, &mut self.moments)?;
        Ok(self.registered(found, description.schema.kind))
    }

    fn register_typed(
        &mut self,
        description: &StateDescription,
        value: &Compatibility,
    ) -> Result<TableId, StateError> {
        let found = self
            .registry
            .register_typed(description, value, &mut self.moments)?;
        Ok(self.registered(found, description.schema.kind))
    }

    fn description(&self, operator: &str, state: &str) -> Option<StateDescription> {
        self.registry.find(operator, state).cloned()
    }

    fn get(&self, table: TableId, group: u16, key: &[u8]) -> Result<Lookup<'_>, StateError> {
        let raw = self.raw(table)?;
        let Some((value, time_ms)) = raw.group(group)?.get(key) else {
            return Ok(Lookup::Absent);
        };
        if let Some(ttl) = raw.ttl()
            && ttl.hides(time_ms, self.now_ms(table, ttl))
        {
            return Ok(Lookup::Absent);
        }
        Ok(Lookup::Found(Value::with_time(value, time_ms)))
    }

    fn multi_get(
        &self,
        table: TableId,
        keys: &[(u16, &[u8])],
        answer: &mut dyn FnMut(usize, Lookup<'_>),
    ) -> Result<(), StateError> {
        for (index, (group, key)) in keys.iter().enumerate() {
            answer(index, self.get(table, *group, key)?);
        }
        Ok(())
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
        if u32::try_from(key.len()).is_err() {
            return Err(StateError::Usage(format!(
                "a key of {} bytes is too long, expected less than 4 GiB",
                key.len()
            )));
        }
        self.group_mut(table, group)?.put(key, value, time_ms);
        self.clean(table)
    }

    fn delete(&mut self, table: TableId, group: u16, key: &[u8]) -> Result<(), StateError> {
        self.group_mut(table, group)?.delete(key);
        self.clean(table)
    }

    fn merge(
        &mut self,
        table: TableId,
        group: u16,
        key: &[u8],
        operand: &[u8],
        time_ms: Option<i64>,
    ) -> Result<usize, StateError> {
        let rows = self.group_mut(table, group)?;
        let (old, old_time_ms) = rows.get(key).unwrap_or_default();
        // The newest time that is known counts, as in the store.
        let time_ms = time_ms.max(old_time_ms);
        let mut value = Vec::with_capacity(old.len() + operand.len());
        value.extend_from_slice(old);
        value.extend_from_slice(operand);
        self.put_at(table, group, key, &value, time_ms)?;
        self.moments.merged(table, operand.len());
        Ok(value.len())
    }

    fn delete_prefix(
        &mut self,
        table: TableId,
        group: u16,
        prefix: &[u8],
    ) -> Result<(), StateError> {
        let rows = self.group_mut(table, group)?;
        loop {
            let piece = rows.scan(prefix, prefix, None, DELETED_PER_PIECE, &|_| false);
            for (key, _) in &piece.rows {
                rows.delete(key);
            }
            if piece.done {
                return Ok(());
            }
        }
    }

    fn drain(&mut self, table: TableId, group: u16, each: TakeRow<'_>) -> Result<(), StateError> {
        let drained = self.group_mut(table, group)?.drain(each);
        if drained.is_err() {
            // Rows of earlier key groups are gone.
            self.torn = Some(table);
        }
        drained
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
        let rows = match self.typed.get(table) {
            Some(typed) => typed::scan(&*typed.borrow(), group, prefix, from, until, rows_max)?,
            None => {
                let raw = self.raw(table)?;
                let now_ms = raw.ttl().and_then(|ttl| self.now_ms(table, ttl));
                raw.scan(group, (prefix, from, until), rows_max, now_ms)?
            }
        };
        Ok(ScanLookup::Rows(rows))
    }

    fn always_hot(&self) -> bool {
        true
    }

    fn heap(&self) -> Option<HeapStates> {
        Some(self.typed.clone())
    }

    fn advance_event_time(&mut self, table: TableId, now_ms: i64) -> Result<(), StateError> {
        self.moments.advance(table, now_ms);
        Ok(())
    }

    fn count_untimed_as(&mut self, table: TableId, time_ms: i64) -> Result<(), StateError> {
        if !self.registry.count_untimed_as(table, time_ms) {
            return Ok(());
        }
        let options = self.registry.options_of(table).unwrap_or_default();
        let raw = self.raw_mut(table)?;
        if raw.ttl().is_some() {
            raw.set_ttl(RawTtl::of(&options));
        }
        if let Some(typed) = self.typed.get(table) {
            typed.borrow_mut().count_untimed_as(time_ms);
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
        Ok(self.moments.list_chunk(table, roll))
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
        self.end_cancelled();
        let ended = self.ended_snapshot();
        // Also when one has just ended: whoever takes one snapshot after the other may not poll in between.
        self.fold_some();
        ended.transpose()
    }

    fn checkpoint_ended(&mut self, checkpoint_id: u64, complete: bool) -> Result<(), StateError> {
        if !complete {
            self.give_up(checkpoint_id);
        }
        Ok(())
    }

    fn tables(&self) -> Vec<(StateDescription, TableId)> {
        self.registry.tables()
    }

    fn stats(&self) -> BackendStats {
        let groups = self.tables.iter().flatten().flat_map(|table| &table.groups);
        let typed = self.typed.all();
        let typed: u64 = typed.iter().map(|table| table.borrow().bytes()).sum();
        BackendStats {
            state_bytes: groups.map(Group::bytes).sum::<u64>() + typed,
            bytes_uploaded: self.bytes_uploaded,
            files: self.files_of_last_snapshot,
            ..BackendStats::default()
        }
    }
}
