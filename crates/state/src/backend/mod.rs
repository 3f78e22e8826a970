//! What a state backend does: the keyed state of one worker, as bytes.
//!
//! Every operator of a worker shares one backend; typed handles lie above it (`crate::state`). A read answers at once when memory can
//! (`Lookup::Found` or `Absent`), and otherwise hands out the rest of the read (`Lookup::Cold`), which `fetch` finishes elsewhere.
//! A backend is used from its worker's thread only.

mod kind;
mod moments;
mod open;
mod snapshot;

use std::cell::RefCell;
use std::rc::Rc;

use aquifer_store::{
    ColdRead, ColdScan, Lookup, ScanLookup, ScanRows, SeeValue, TableId, TableOptions,
};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{self, BoxFuture};

pub use self::kind::{BackendKind, SnapshotStorage, StorageKind, choose};
pub(crate) use self::moments::{LIST_CHUNKS_CLOSED_MAX, Moments};
pub use self::open::{BackendSetup, RocksdbOptions, open, open_backend};
pub use self::snapshot::{
    ClosedChunks, DbFile, DbSnapshot, InlineFile, KeyedSnapshot, TableMoment,
};
use crate::StateError;
use crate::heap::typed::HeapStates;
use crate::serializer::{Compatibility, StateSchema};

/// One state of one operator, as it is registered with a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateDescription {
    /// Stable identity of the operator across restarts, e.g. `3-group-aggregate`.
    pub operator: String,
    /// Name of the state, unique per operator, e.g. `accState`.
    pub state: String,
    /// Options of the table that holds it.
    pub options: TableOptions,
    /// Describes key and value layout in one line, for people. Of a raw table it decides: a restored table with another layout is
    /// refused with an error that names both.
    pub layout: String,
    /// What the serializers of key, namespace, user key and value said of themselves.
    pub schema: StateSchema,
}

impl StateDescription {
    /// A table whose rows only its user understands: SQL's, for example. `layout` names what they hold.
    pub fn raw(
        operator: impl Into<String>,
        state: impl Into<String>,
        options: TableOptions,
        layout: impl Into<String>,
    ) -> Self {
        let layout = layout.into();
        Self {
            operator: operator.into(),
            state: state.into(),
            options,
            schema: StateSchema::raw(&layout),
            layout,
        }
    }
}

/// A value with the time it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// What was written.
    pub value: Bytes,
    /// When, in milliseconds since the Unix epoch (or event time), if the writer said so.
    pub time_ms: Option<i64>,
}

/// Which chunk of its lists a table appends to: see [`KeyedStateBackend::list_chunk`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListChunk {
    /// Appended to now.
    pub number: u64,
    /// Nothing that counts is in a chunk with a smaller number: such chunks never were, or all in them has expired. Rows of theirs may still
    /// be there as long as nobody has removed them.
    pub oldest: u64,
}

/// What handles tell of the times in a table's lists: see [`KeyedStateBackend::list_times`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListTimes {
    /// Elements were written to a chunk, none later than this; `None`: without a time.
    Written {
        /// The chunk.
        chunk: u64,
        /// The latest of their times, or a later one.
        latest_ms: Option<i64>,
    },
    /// It is so late, and what is older than the TTL has expired.
    Now {
        /// The table's time.
        now_ms: i64,
        /// Its TTL.
        ttl_ms: u64,
    },
}

/// Takes key, value and time of a row.
pub type TakeRow<'a> = &'a mut dyn FnMut(&[u8], &[u8], Option<i64>) -> Result<(), StateError>;

/// What a backend can say about itself.
#[derive(Clone, Debug, Default)]
pub struct BackendStats {
    /// Bytes of state: in memory and, on `forst`, in files.
    pub state_bytes: u64,
    /// Blocks found in the memory cache.
    pub cache_hits: u64,
    /// Blocks that had to be read.
    pub cache_misses: u64,
    /// Reads that memory could not answer.
    pub cold_reads: u64,
    /// Bytes written to the object store.
    pub bytes_uploaded: u64,
    /// Files of the current version (`forst`) or of the last snapshot (`hashmap`).
    pub files: u64,
    /// Flushes and compactions under way, and those that wait for a thread.
    pub background_tasks: u64,
}

/// The keyed state of one worker: every operator on it shares one backend. Bytes in, bytes out; typed handles lie above.
pub trait KeyedStateBackend {
    /// Registers a state (idempotent) and says under which table it lives. Must happen before the first record, and in the same order
    /// on every worker, because the numbers of tables must agree.
    fn register(&mut self, description: &StateDescription) -> Result<TableId, StateError>;
    /// Like `register`, for a state whose serializer has looked at what the checkpoint says ([`Self::description`]) and found `value`.
    /// A backend that restores nothing need not care.
    fn register_typed(
        &mut self,
        description: &StateDescription,
        value: &Compatibility,
    ) -> Result<TableId, StateError> {
        let _ = value;
        self.register(description)
    }
    /// What a checkpoint or an earlier registration says about a state.
    fn description(&self, operator: &str, state: &str) -> Option<StateDescription> {
        self.tables()
            .into_iter()
            .map(|(description, _)| description)
            .find(|known| known.operator == operator && known.state == state)
    }
    /// Reads one key.
    fn get(&self, table: TableId, group: u16, key: &[u8]) -> Result<Lookup<'_>, StateError>;
    /// Like `get`, but shows the value and its row's time where they lie (`None`: there is no value), once, and hands out only what memory
    /// cannot answer; then nothing is shown.
    fn look_up(
        &self,
        table: TableId,
        group: u16,
        key: &[u8],
        see: SeeValue<'_>,
    ) -> Result<Option<Box<ColdRead>>, StateError> {
        match self.get(table, group, key)? {
            Lookup::Found(value) => see(Some(&value), value.time_ms()),
            Lookup::Absent => see(None, None),
            Lookup::Cold(read) => return Ok(Some(Box::new(read))),
        }
        Ok(None)
    }
    /// Reads many keys; `answer(i, lookup)` is called once per key, in any order.
    fn multi_get(
        &self,
        table: TableId,
        keys: &[(u16, &[u8])],
        answer: &mut dyn FnMut(usize, Lookup<'_>),
    ) -> Result<(), StateError>;
    /// Writes one key.
    fn put(
        &mut self,
        table: TableId,
        group: u16,
        key: &[u8],
        value: &[u8],
    ) -> Result<(), StateError>;
    /// Removes one key, whether it is there or not.
    fn delete(&mut self, table: TableId, group: u16, key: &[u8]) -> Result<(), StateError>;
    /// Writes one row that was written at `time_ms`: what a table with a TTL counts from.
    fn put_at(
        &mut self,
        table: TableId,
        group: u16,
        key: &[u8],
        value: &[u8],
        time_ms: Option<i64>,
    ) -> Result<(), StateError> {
        match time_ms {
            None => self.put(table, group, key, value),
            Some(_) => Err(unsupported("a row with a time was written")),
        }
    }
    /// Appends an operand to a row of a table with `Merge::Append`, without reading it. Returns how many bytes of the row memory holds
    /// now, so that the caller knows when to begin another chunk; 0 if that is not known.
    fn merge(
        &mut self,
        table: TableId,
        group: u16,
        key: &[u8],
        operand: &[u8],
        time_ms: Option<i64>,
    ) -> Result<usize, StateError> {
        let _ = (table, group, key, operand, time_ms);
        Err(unsupported("an operand was merged"))
    }
    /// Removes every row of the group whose key starts with `prefix`, without reading.
    fn delete_prefix(
        &mut self,
        table: TableId,
        group: u16,
        prefix: &[u8],
    ) -> Result<(), StateError> {
        let _ = (table, group, prefix);
        Err(unsupported("a prefix was deleted"))
    }
    /// Hands out every row of a key group, in order and whether it has expired or not, and removes them all. Only of a backend with typed
    /// tables, which take over the rows that waited for them.
    fn drain(&mut self, table: TableId, group: u16, each: TakeRow<'_>) -> Result<(), StateError> {
        let _ = (table, group, each);
        Err(unsupported("rows were to be taken over"))
    }
    /// See `aquifer_store::Store::scan`.
    fn scan(
        &self,
        table: TableId,
        group: u16,
        prefix: &[u8],
        from: &[u8],
        until: Option<&[u8]>,
        rows_max: usize,
    ) -> Result<ScanLookup, StateError>;
    /// Whether a key of the group that starts with `prefix` has a value; `None`: memory cannot tell, and `scan` hands out the rest.
    fn holds_any(
        &self,
        table: TableId,
        group: u16,
        prefix: &[u8],
    ) -> Result<Option<bool>, StateError> {
        match self.scan(table, group, prefix, prefix, None, 1)? {
            ScanLookup::Rows(found) => Ok(Some(!found.rows.is_empty())),
            ScanLookup::Cold(_) => Ok(None),
        }
    }
    /// Finishes cold reads, all in one grouped request; answers come in the order of `reads`. A backend whose reads are always hot has none.
    fn fetch(
        &self,
        reads: Vec<ColdRead>,
    ) -> BoxFuture<'static, Result<Vec<Option<Bytes>>, StateError>> {
        let fetched = match reads.is_empty() {
            true => Ok(Vec::new()),
            false => Err(never_cold()),
        };
        future::ready(fetched).boxed()
    }
    /// Like `fetch`, with the times of rows.
    fn fetch_rows(
        &self,
        reads: Vec<ColdRead>,
    ) -> BoxFuture<'static, Result<Vec<Option<Row>>, StateError>> {
        let untimed = |value: Bytes| Row {
            value,
            time_ms: None,
        };
        self.fetch(reads)
            .map(move |fetched| {
                let values = fetched?.into_iter();
                Ok(values.map(|value| value.map(untimed)).collect())
            })
            .boxed()
    }
    /// Finishes a cold scan.
    fn fetch_scan(&self, scan: ColdScan) -> BoxFuture<'static, Result<ScanRows, StateError>> {
        let _ = scan;
        future::ready(Err(never_cold())).boxed()
    }
    /// See `aquifer_store::Store::installs`. 0 where reads are always hot.
    fn installs(&self) -> u64 {
        0
    }
    /// Whether reads never hand out [`Lookup::Cold`].
    fn always_hot(&self) -> bool {
        false
    }
    /// The typed tables, if this backend keeps values as they are.
    fn heap(&self) -> Option<HeapStates> {
        None
    }
    /// While this is `all`, reads of a table show every row there is, expired or not, whatever its options say; after that they decide again.
    /// A backend that hides nothing of a state before its handle is made need not care.
    fn show_expired(&mut self, table: TableId, all: bool) -> Result<(), StateError> {
        let _ = (table, all);
        Ok(())
    }
    /// Event time of a table whose TTL counts in it. Time that goes back is ignored.
    fn advance_event_time(&mut self, table: TableId, now_ms: i64) -> Result<(), StateError> {
        let _ = (table, now_ms);
        Err(unsupported("event time was advanced"))
    }
    /// Event time of a table has begun: its rows without a time count as written then, in this run and in later ones, unless an earlier moment
    /// is known. A backend that does not care keeps such rows.
    fn count_untimed_as(&mut self, table: TableId, time_ms: i64) -> Result<(), StateError> {
        let _ = (table, time_ms);
        Ok(())
    }
    /// Event time of a table: the last that it was told, or restored.
    fn event_time(&self, table: TableId) -> Option<i64> {
        let _ = table;
        None
    }
    /// Processing time by the clock that the backend was given, in milliseconds since the Unix epoch.
    fn clock_ms(&self) -> i64 {
        0
    }
    /// The chunk that lists of this table append to. `roll` moves on to the next one; a table also moves on by itself when 256 MiB have
    /// been merged into it since it last did, so that no chunk becomes larger than that however slowly it grows.
    fn list_chunk(&mut self, table: TableId, roll: bool) -> Result<ListChunk, StateError> {
        let _ = (table, roll);
        Err(unsupported("a list was asked for"))
    }
    /// Tells of the times in a table's lists, so that chunks in which everything has expired need not be looked for: they come to be below
    /// [`ListChunk::oldest`]. A backend that ignores this looks for all chunks for ever.
    fn list_times(&mut self, table: TableId, times: ListTimes) -> Result<(), StateError> {
        let _ = (table, times);
        Ok(())
    }
    /// The barrier has passed the operator that owns this table.
    fn freeze(&mut self, table: TableId) -> Result<(), StateError>;
    /// Every table is frozen: make the snapshot durable in the background.
    fn snapshot(&mut self, checkpoint_id: u64) -> Result<(), StateError>;
    /// Drives background work; returns a finished snapshot.
    fn poll(&mut self) -> Result<Option<(u64, KeyedSnapshot)>, StateError>;
    /// The job has completed or given up this checkpoint.
    fn checkpoint_ended(&mut self, checkpoint_id: u64, complete: bool) -> Result<(), StateError> {
        let _ = (checkpoint_id, complete);
        Ok(())
    }
    /// The tables registered so far, to be written to the checkpoint's metadata.
    fn tables(&self) -> Vec<(StateDescription, TableId)>;
    /// Figures for the user.
    fn stats(&self) -> BackendStats;
}

/// How operators of one worker share the backend.
pub type SharedBackend = Rc<RefCell<dyn KeyedStateBackend>>;

/// A call that this backend was not made for.
fn unsupported(what: &str) -> StateError {
    StateError::Usage(format!(
        "{what}, but this state backend keeps plain rows only"
    ))
}

/// Whoever made this cold read, it was not the backend that is to finish it.
fn never_cold() -> StateError {
    StateError::Usage("a cold read was handed to a state backend whose reads are always hot".into())
}

/// The program has not registered the table.
pub(crate) fn unknown_table(table: TableId) -> StateError {
    StateError::Usage(format!(
        "table {} is not registered with this backend",
        table.0
    ))
}

/// Reads and writes outside the worker's key groups are mistakes of routing: another worker owns that state.
#[inline]
pub(crate) fn check_group(
    range: aquifer_store::KeyGroupRange,
    group: u16,
) -> Result<(), StateError> {
    if group < range.start || group > range.end {
        return Err(foreign_group(range, group));
    }
    Ok(())
}

#[cold]
fn foreign_group(range: aquifer_store::KeyGroupRange, group: u16) -> StateError {
    StateError::Usage(format!(
        "key group {group} does not belong to this worker, which owns {}..={}",
        range.start, range.end
    ))
}
