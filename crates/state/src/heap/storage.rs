//! Where the rows of a snapshot go: into files, or, if the storage says so or they are few, into memory, to be kept by the metadata.
//!
//! Either way they are written as files of the same form. What is kept in memory is bounded: by the limits of storage `jobmanager`, or by a
//! small multiple of the threshold below which storage `filesystem` keeps a snapshot inline. A state that is past its limit is
//! not kept any more, but counted to its end, so that the error can say how large it is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use aquifer_store::{Checkpoint, Environment, StoreOptions, TableId};
use bytes::Bytes;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use crate::blocking::wait;
use crate::rows::{RowRefs, RowSink, SstRowSink};
use crate::{InlineFile, KeyedSnapshot, SnapshotStorage, StateDescription, StateError};

/// Rows are compressed and otherwise packed: those that may become files below the threshold are kept up to so many times its bytes.
const HELD_PER_INLINE_BYTE: u64 = 4;
/// Bytes that a row's time counts as.
const TIME_BYTES: u64 = size_of::<i64>() as u64;

/// What was written of a snapshot.
#[derive(Debug, Default)]
pub(super) struct Stored {
    pub(super) files: Checkpoint,
    pub(super) inline: Vec<InlineFile>,
    /// Into the object store.
    pub(super) bytes_uploaded: u64,
}

/// What a sink is made of.
pub(super) struct SinkSetup {
    pub(super) environment: Environment,
    pub(super) options: StoreOptions,
    /// Of the files; nobody else uses it.
    pub(super) file_prefix: String,
    pub(super) storage: SnapshotStorage,
    /// The states that rows come of.
    pub(super) states: Vec<(StateDescription, TableId)>,
    pub(super) cancelled: Arc<AtomicBool>,
}

impl SinkSetup {
    /// A sink into the object store.
    fn files(&self) -> Result<Box<SstRowSink>, StateError> {
        self.sink(&self.environment).map(Box::new)
    }

    /// A sink into memory, and the memory.
    fn memory(&self) -> Result<(SstRowSink, Arc<InMemory>), StateError> {
        let objects = Arc::new(InMemory::new());
        let mut environment = self.environment.clone();
        environment.objects = Arc::clone(&objects) as Arc<dyn ObjectStore>;
        // Its paths lead to no disk.
        environment.local_root = None;
        environment.local_paths = None;
        environment.file_cache = None;
        Ok((self.sink(&environment)?, objects))
    }

    fn sink(&self, environment: &Environment) -> Result<SstRowSink, StateError> {
        SstRowSink::new(
            environment,
            self.options.clone(),
            self.file_prefix.clone(),
            Arc::clone(&self.cancelled),
        )
    }

    /// The files that were written into memory, as files that the metadata holds.
    fn inlined(
        &self,
        mut files: Checkpoint,
        objects: &Arc<InMemory>,
    ) -> Result<Stored, StateError> {
        let mut inline = Vec::with_capacity(files.files.len());
        for file in &mut files.files {
            let path = Path::from(file.path.as_str());
            let objects = Arc::clone(objects);
            let name = path.filename().unwrap_or_default().to_owned();
            let read = async move { objects.get(&path).await?.bytes().await };
            let bytes: Result<Bytes, object_store::Error> =
                wait(&self.environment.runtime, "a snapshot in memory", read)?;
            let bytes = bytes.map_err(|error| {
                StateError::Corrupt(format!(
                    "file `{}` of a snapshot in memory cannot be read: {error}",
                    file.path
                ))
            })?;
            file.path = KeyedSnapshot::inline_path(&name);
            inline.push(InlineFile { name, bytes });
        }
        Ok(Stored {
            files,
            inline,
            bytes_uploaded: 0,
        })
    }
}

/// Takes the rows of a snapshot.
pub(super) struct StorageSink {
    setup: SinkSetup,
    to: To,
}

enum To {
    Files(Box<SstRowSink>),
    /// Storage `jobmanager`.
    Limited(Box<Limited>),
    /// Storage `filesystem`, as long as everything may go inline.
    Held(Held),
}

struct Limited {
    sink: SstRowSink,
    objects: Arc<InMemory>,
    /// Bytes of each state, and of all.
    states: BTreeMap<TableId, u64>,
    total: u64,
    /// Something is past its limit: rows are only counted.
    exceeded: bool,
}

impl StorageSink {
    pub(super) fn new(setup: SinkSetup) -> Result<Self, StateError> {
        let to = match setup.storage {
            SnapshotStorage::JobManager { .. } => {
                let (sink, objects) = setup.memory()?;
                To::Limited(Box::new(Limited {
                    sink,
                    objects,
                    states: BTreeMap::new(),
                    total: 0,
                    exceeded: false,
                }))
            }
            SnapshotStorage::FileSystem {
                inline_bytes_max: 0,
                ..
            } => To::Files(setup.files()?),
            SnapshotStorage::FileSystem { .. } => To::Held(Held::default()),
        };
        Ok(Self { setup, to })
    }

    /// Waits until everything is written.
    pub(super) fn finish(self) -> Result<Stored, StateError> {
        let setup = self.setup;
        match self.to {
            To::Files(sink) => written(sink),
            To::Limited(limited) => {
                for (table, bytes) in &limited.states {
                    let state = setup.states.iter().find(|(_, known)| known == table);
                    if let Some((state, _)) = state {
                        setup.storage.check_state(state, *bytes)?;
                    }
                }
                setup.storage.check_total(limited.total)?;
                let rows = limited.sink.finish()?;
                setup.inlined(rows.files, &limited.objects)
            }
            To::Held(held) => {
                let (mut sink, objects) = setup.memory()?;
                held.replay(&mut sink)?;
                let files = sink.finish()?.files;
                let bytes: u64 = files.files.iter().map(|file| file.size_bytes).sum();
                match setup.storage {
                    SnapshotStorage::FileSystem {
                        inline_bytes_max, ..
                    } if bytes >= inline_bytes_max => {
                        let mut sink = setup.files()?;
                        held.replay(&mut *sink)?;
                        written(sink)
                    }
                    _ => setup.inlined(files, &objects),
                }
            }
        }
    }
}

fn written(sink: Box<SstRowSink>) -> Result<Stored, StateError> {
    let rows = sink.finish()?;
    Ok(Stored {
        files: rows.files,
        inline: Vec::new(),
        bytes_uploaded: rows.bytes_uploaded,
    })
}

/// What a row counts as: its key, its value and its time.
fn bytes_of(row: &RowRefs<'_>) -> u64 {
    let time_bytes = row.time_ms.map_or(0, |_| TIME_BYTES);
    (row.key.len() as u64) + (row.value.len() as u64) + time_bytes
}

impl RowSink for StorageSink {
    fn put(&mut self, row: RowRefs<'_>) -> Result<(), StateError> {
        match &mut self.to {
            To::Files(sink) => sink.put(row),
            To::Limited(limited) => limited.put(self.setup.storage, row),
            To::Held(held) => {
                let most = match self.setup.storage {
                    SnapshotStorage::FileSystem {
                        inline_bytes_max, ..
                    } => inline_bytes_max.saturating_mul(HELD_PER_INLINE_BYTE),
                    SnapshotStorage::JobManager { .. } => 0,
                };
                if held.row_bytes.saturating_add(bytes_of(&row)) <= most {
                    held.push(row);
                    return Ok(());
                }
                let mut sink = self.setup.files()?;
                held.replay(&mut *sink)?;
                sink.put(row)?;
                self.to = To::Files(sink);
                Ok(())
            }
        }
    }
}

impl Limited {
    fn put(&mut self, storage: SnapshotStorage, row: RowRefs<'_>) -> Result<(), StateError> {
        let SnapshotStorage::JobManager {
            state_bytes_max,
            total_bytes_max,
            ..
        } = storage
        else {
            return self.sink.put(row);
        };
        let bytes = bytes_of(&row);
        self.total = self.total.saturating_add(bytes);
        let state = self.states.entry(row.table).or_default();
        *state = state.saturating_add(bytes);
        self.exceeded |= *state > state_bytes_max || self.total > total_bytes_max;
        if self.exceeded {
            return self.sink.check_cancelled();
        }
        self.sink.put(row)
    }
}

/// Rows that are kept until it is known how many there are.
#[derive(Default)]
struct Held {
    rows: Vec<HeldRow>,
    /// Keys and values, one after the other.
    bytes: Vec<u8>,
    row_bytes: u64,
}

struct HeldRow {
    group: u16,
    table: TableId,
    key_bytes: usize,
    value_bytes: usize,
    time_ms: Option<i64>,
}

impl Held {
    fn push(&mut self, row: RowRefs<'_>) {
        self.row_bytes += bytes_of(&row);
        self.bytes.extend_from_slice(row.key);
        self.bytes.extend_from_slice(row.value);
        self.rows.push(HeldRow {
            group: row.group,
            table: row.table,
            key_bytes: row.key.len(),
            value_bytes: row.value.len(),
            time_ms: row.time_ms,
        });
    }

    fn replay(&self, sink: &mut dyn RowSink) -> Result<(), StateError> {
        let mut rest = &self.bytes[..];
        for row in &self.rows {
            let (key, after) = rest.split_at_checked(row.key_bytes).unwrap_or_default();
            let (value, after) = after.split_at_checked(row.value_bytes).unwrap_or_default();
            rest = after;
            sink.put(RowRefs {
                group: row.group,
                table: row.table,
                key,
                value,
                time_ms: row.time_ms,
            })?;
        }
        Ok(())
    }
}
