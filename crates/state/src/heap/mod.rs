//! The `hashmap` backend: a worker's keyed state on the heap.
//!
//! Every table has one [`group::Group`] per key group of the worker, hashed, or ordered if the table asks for it. Reads are never cold.
//! A snapshot shares the frozen layers with a background thread, which writes **all** live rows through a private store into the same
//! kind of files that the `forst` backend writes: so either backend restores the other's. The cost to the operator is one moved layer per
//! key group at the barrier, a second look-up per read while the snapshot is under way, and the folding of what was written meanwhile
//! afterwards (in bounded pieces, by `poll`).
//!
//! Typed handles keep their values in typed tables instead ([`typed`]); of such a table the raw one is empty, and scans of it make rows
//! of the values.

mod group;
mod live;
mod rows;
mod snapshot;
pub(crate) mod typed;

use aquifer_store::{
    ColdRead, ColdScan, Environment, KeyGroupRange, Lookup, ScanLookup, ScanRows, StoreOptions,
    TableId, Value,
};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{self, BoxFuture};

use self::group::Group;
use self::snapshot::{FrozenTable, SnapshotJob};
use self::typed::HeapStates;
use crate::backend::{Moments, check_group};
use crate::registry::{Registered, TableRegistry};
use crate::rows::row_source;
use crate::serializer::Compatibility;
use crate::{
    BackendSetup, BackendStats, KeyedSnapshot, KeyedStateBackend, ListChunk, StateDescription,
    StateError, TableMoment,
};

/// Rows that one `poll` folds before it lets the worker go on (the last key group may exceed it).
const FOLD_ROWS_PER_POLL: usize = 16 * 1024;
/// Rows of a prefix that are deleted together.
const DELETED_PER_PIECE: usize = 1024;
/// Rows that a restore asks for at once.
const RESTORE_ROWS_PER_SCAN: usize = 4096;

/// See the module.
pub(crate) struct HeapBackend {
    environment: Environment,
    options: StoreOptions,
    range: KeyGroupRange,
    registry: TableRegistry,
    /// By table number.
    tables: Vec<Option<HeapTable>>,
    /// Those that typed handles have opened.
    typed: HeapStates,
    /// Tables that the barrier has passed, by table number, until the snapshot starts.
    frozen: Vec<Option<FrozenTable>>,
    job: Option<(SnapshotJob, Vec<TableMoment>)>,
    moments: Moments,
    snapshots_started: u64,
    /// Where folding goes on: (table, group), or None when there is nothing to fold.
    folding: Option<(usize, usize)>,
    bytes_uploaded: u64,
    files_of_last_snapshot: u64,
}

struct HeapTable {
    groups: Vec<Group>,
    ordered: bool,
}

impl HeapTable {
    fn new(range: KeyGroupRange, ordered: bool) -> Self {
        let groups = (range.start..=range.end)
            .map(|_| Group::new(ordered))
            .collect();
        Self { groups, ordered }
    }
}

impl HeapBackend {
    /// Opens an empty backend, or loads what a checkpoint holds for these key groups.
    pub(crate) fn open(setup: BackendSetup, registry: TableRegistry) -> Result<Self, StateError> {
        let restored = setup.restored;
        let mut backend = Self {
            moments: Moments::restored(restored.iter().map(|(part, _)| part)),
            environment: setup.environment,
            options: setup.store,
            range: setup.range,
            registry,
            tables: Vec::new(),
            typed: HeapStates::new(setup.range),
            frozen: Vec::new(),
            job: None,
            snapshots_started: 0,
            folding: None,
            bytes_uploaded: 0,
            files_of_last_snapshot: 0,
        };
        let known: Vec<_> = backend.registry.options().collect();
        for (table, options) in known {
            backend.create(table, options.ordered);
        }
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

    fn registered(&mut self, found: Registered) -> TableId {
        let (Registered::New(table) | Registered::Known(table)) = found;
        let options = self.registry.options_of(table).unwrap_or_default();
        self.create(table, options.ordered);
        table
    }

    fn create(&mut self, table: TableId, ordered: bool) {
        let index = usize::from(table.0);
        if self.tables.len() <= index {
            self.tables.resize_with(index + 1, || None);
        }
        match &mut self.tables[index] {
            Some(known) if known.ordered == ordered => {}
            // A new version of the program scans what it did not scan before, or the other way round.
            Some(known) => {
                known.ordered = ordered;
                for group in &mut known.groups {
                    *group = group.reordered(ordered);
                }
            }
            empty => *empty = Some(HeapTable::new(self.range, ordered)),
        }
    }

    fn group(&self, table: TableId, group: u16) -> Result<&Group, StateError> {
        check_group(self.range, group)?;
        self.tables
            .get(usize::from(table.0))
            .and_then(Option::as_ref)
            .and_then(|table| table.groups.get(usize::from(group - self.range.start)))
            .ok_or_else(|| unknown_table(table))
    }

    fn group_mut(&mut self, table: TableId, group: u16) -> Result<&mut Group, StateError> {
        check_group(self.range, group)?;
        self.tables
            .get_mut(usize::from(table.0))
            .and_then(Option::as_mut)
            .and_then(|table| table.groups.get_mut(usize::from(group - self.range.start)))
            .ok_or_else(|| unknown_table(table))
    }

    /// Folds a bounded number of rows; asks to be polled again if there is more.
    fn fold_some(&mut self) {
        let Some((mut table, mut group)) = self.folding.take() else {
            return;
        };
        let mut moved = 0;
        while let Some(candidate) = self.tables.get_mut(table) {
            let groups = candidate
                .as_mut()
                .map(|table| &mut table.groups[..])
                .unwrap_or_default();
            let Some(next) = groups.get_mut(group) else {
                (table, group) = (table + 1, 0);
                continue;
            };
            if moved >= FOLD_ROWS_PER_POLL && next.is_layered() {
                self.folding = Some((table, group));
                (self.environment.waker)();
                return;
            }
            moved += next.fold();
            group += 1;
        }
    }
}

fn unknown_table(table: TableId) -> StateError {
    StateError::Usage(format!(
        "table {} is not registered with this backend",
        table.0
    ))
}

impl KeyedStateBackend for HeapBackend {
    fn register(&mut self, description: &StateDescription) -> Result<TableId, StateError> {
        let found = self.registry.register(description, &self.moments)?;
        Ok(self.registered(found))
    }

    fn register_typed(
        &mut self,
        description: &StateDescription,
        value: &Compatibility,
    ) -> Result<TableId, StateError> {
        let found = self
            .registry
            .register_typed(description, value, &self.moments)?;
        Ok(self.registered(found))
    }

    fn description(&self, operator: &str, state: &str) -> Option<StateDescription> {
        self.registry.find(operator, state).cloned()
    }

    fn get(&self, table: TableId, group: u16, key: &[u8]) -> Result<Lookup<'_>, StateError> {
        Ok(match self.group(table, group)?.get(key) {
            Some((value, time_ms)) => Lookup::Found(Value::with_time(value, time_ms)),
            None => Lookup::Absent,
        })
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
        Ok(())
    }

    fn delete(&mut self, table: TableId, group: u16, key: &[u8]) -> Result<(), StateError> {
        self.group_mut(table, group)?.delete(key);
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
            let piece = rows.scan(prefix, prefix, None, DELETED_PER_PIECE);
            for (key, _) in &piece.rows {
                rows.delete(key);
            }
            if piece.done {
                return Ok(());
            }
        }
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
            None => self
                .group(table, group)?
                .scan(prefix, from, until, rows_max),
        };
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

    fn event_time(&self, table: TableId) -> Option<i64> {
        self.moments.event_time(table)
    }

    fn clock_ms(&self) -> i64 {
        (self.environment.clock)()
    }

    fn list_chunk(&mut self, table: TableId, roll: bool) -> Result<ListChunk, StateError> {
        Ok(self.moments.list_chunk(table, roll))
    }

    fn installs(&self) -> u64 {
        0
    }

    fn freeze(&mut self, table: TableId) -> Result<(), StateError> {
        let index = usize::from(table.0);
        let heap = self
            .tables
            .get_mut(index)
            .and_then(Option::as_mut)
            .ok_or_else(|| unknown_table(table))?;
        if matches!(self.frozen.get(index), Some(Some(_))) {
            let typed = self.typed.get(table);
            let unwritten = typed.is_none_or(|typed| typed.borrow().is_unwritten());
            return if unwritten && heap.groups.iter().all(Group::is_unwritten) {
                Ok(())
            } else {
                Err(StateError::Usage(format!(
                    "table {index} was frozen twice in one barrier, with rows written in between"
                )))
            };
        }
        let typed = self
            .typed
            .get(table)
            .map(|typed| typed.borrow_mut().freeze());
        let drops_expired = typed.as_ref().is_some_and(|typed| typed.drops_expired());
        let by_event_time = self
            .registry
            .options_of(table)
            .is_some_and(|options| options.event_time);
        let now_ms = match (drops_expired, by_event_time) {
            (false, _) => None,
            (true, false) => Some((self.environment.clock)()),
            (true, true) => self.moments.event_time(table),
        };
        let frozen = FrozenTable {
            table,
            groups: heap.groups.iter_mut().map(Group::freeze).collect(),
            typed,
            now_ms,
        };
        if self.frozen.len() <= index {
            self.frozen.resize_with(index + 1, || None);
        }
        self.frozen[index] = Some(frozen);
        self.moments.freeze(table);
        Ok(())
    }

    fn snapshot(&mut self, checkpoint_id: u64) -> Result<(), StateError> {
        if let Some((job, _)) = &self.job {
            return Err(StateError::Usage(format!(
                "checkpoint {checkpoint_id} was started while checkpoint {} is being written",
                job.checkpoint_id
            )));
        }
        // Tables that no operator of this program owns are not frozen by anyone.
        let missing: Vec<TableId> = self
            .registry
            .options()
            .map(|(table, _)| table)
            .filter(|table| !matches!(self.frozen.get(usize::from(table.0)), Some(Some(_))))
            .collect();
        for table in missing {
            self.freeze(table)?;
        }
        let tables = std::mem::take(&mut self.frozen)
            .into_iter()
            .flatten()
            .collect();
        self.snapshots_started += 1;
        let job = SnapshotJob::start(
            checkpoint_id,
            self.snapshots_started,
            tables,
            self.range,
            &self.environment,
            &self.options,
        );
        self.job = Some((job, self.moments.take()));
        Ok(())
    }

    fn poll(&mut self) -> Result<Option<(u64, KeyedSnapshot)>, StateError> {
        if let Some((job, tables)) = &mut self.job
            && let Some(written) = job.result()
        {
            let checkpoint_id = job.checkpoint_id;
            let mut tables = std::mem::take(tables);
            self.job = None;
            self.folding = Some((0, 0));
            let (written, chunks) = written?;
            for (table, chunk) in chunks {
                lists_reach(&mut tables, table, chunk);
            }
            self.bytes_uploaded += written.bytes_uploaded;
            self.files_of_last_snapshot = written.files.files.len() as u64;
            (self.environment.waker)();
            return Ok(Some((
                checkpoint_id,
                KeyedSnapshot {
                    tables,
                    ..KeyedSnapshot::of_files(written.files)
                },
            )));
        }
        self.fold_some();
        Ok(None)
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

/// The lists of a table have chunks up to this number: whoever goes on with the snapshot appends there or behind.
fn lists_reach(tables: &mut Vec<TableMoment>, table: TableId, chunk: u64) {
    match tables.iter_mut().find(|moment| moment.table == table) {
        Some(moment) => moment.list_chunk = moment.list_chunk.max(chunk),
        None if chunk == 0 => {}
        None => tables.push(TableMoment {
            table,
            list_chunk: chunk,
            list_bytes: 0,
            event_time_ms: None,
        }),
    }
}

fn never_cold() -> StateError {
    StateError::Usage(
        "a cold read was handed to the hashmap backend, which never gives one out".into(),
    )
}
