//! Reading the state of a checkpoint or savepoint, of any backend, without the program that wrote it.
//!
//! A [`StateReader`] knows the states as tables ([`ReadableTable`]) and hands out their rows ([`StateRows`]) in pieces, with values decoded as far as
//! the checkpoint says how. Nothing is written and nothing is loaded that was not asked for: memory holds the piece under way. Operator
//! state and timers are tables like the others.
//!
//! Rows come in the order of key groups and keys. Reading blocks, on the runtime that the environment names: call it from a thread that is not
//! one of the runtime's. Rows that have expired are left out unless [`ReaderOptions::show_expired`] is set. Damaged bytes are an error that
//! names operator and state, and the file if it is a file's.

mod count;
mod entries;
mod estimate;
mod raw;
mod rows;
mod tables;
mod unkeyed;

use std::collections::BTreeMap;
use std::sync::Arc;

use aquifer_store::{BlockCache, Environment, KeyGroupRange};
use tokio::runtime::Handle;

pub use self::count::StateCounts;
pub use self::estimate::TableEstimate;
pub use self::rows::{StateRow, StateRows};
pub use self::tables::{ReadableTable, TableKind};
use crate::StateError;
use crate::checkpoint::{CheckpointMetadata, ForeignCheckpoint};
use crate::dynamic::DynamicValue;
use crate::rows::LocalCopies;

/// How a checkpoint is read.
#[derive(Clone)]
pub struct ReaderOptions {
    /// Keys of the object store, as in a configuration.
    pub settings: BTreeMap<String, String>,
    /// Memory for blocks of files.
    pub cache_bytes: u64,
    /// Decides what has expired: milliseconds since the Unix epoch.
    pub clock: Arc<dyn Fn() -> i64 + Send + Sync>,
    /// Shows rows that have expired and are still there.
    pub show_expired: bool,
}

impl Default for ReaderOptions {
    /// Without keys, 64 MiB, and with a clock that stands at 1970, by which nothing has expired.
    fn default() -> Self {
        Self {
            settings: BTreeMap::new(),
            cache_bytes: 64 << 20,
            clock: Arc::new(|| 0),
            show_expired: false,
        }
    }
}

/// A checkpoint or savepoint that is open for reading. Clones share it.
#[derive(Clone)]
pub struct StateReader {
    shared: Arc<Shared>,
}

/// What a reader and its cursors share.
struct Shared {
    metadata: CheckpointMetadata,
    environment: Environment,
    show_expired: bool,
    tables: Vec<ReadableTable>,
    /// What was downloaded whole to be read.
    copies: LocalCopies,
}

impl StateReader {
    /// Opens what `location` names: a checkpoint or savepoint (its directory or `_metadata`), or a run or a job, of which the newest
    /// checkpoint is meant; a path or a URI. `runtime` reads the files, and must have threads of its own.
    pub async fn open(
        location: &str,
        options: ReaderOptions,
        runtime: Handle,
    ) -> Result<Self, StateError> {
        let ForeignCheckpoint {
            storage, metadata, ..
        } = ForeignCheckpoint::open(location, &options.settings).await?;
        let mut environment = Environment::new(
            Arc::clone(&storage.objects),
            storage.shared(),
            runtime,
            BlockCache::new(options.cache_bytes),
            "reader",
        );
        environment.clock = Arc::clone(&options.clock);
        Ok(Self::new(metadata, environment, options.show_expired))
    }

    /// A reader of metadata that was read already. `environment` is where its files are; its clock decides what has expired.
    pub fn new(metadata: CheckpointMetadata, environment: Environment, show_expired: bool) -> Self {
        let tables = tables::of(&metadata);
        Self {
            shared: Arc::new(Shared {
                metadata,
                environment,
                show_expired,
                tables,
                copies: LocalCopies::default(),
            }),
        }
    }

    /// What the checkpoint says of itself.
    pub fn metadata(&self) -> &CheckpointMetadata {
        &self.shared.metadata
    }

    /// Every state, ordered by operator and name.
    pub fn tables(&self) -> &[ReadableTable] {
        &self.shared.tables
    }

    /// The state of this name, or of the form `operator/state`; with `operator`, of that operator. If there is none or more than one, the
    /// error lists what there is.
    pub fn table(&self, operator: Option<&str>, state: &str) -> Result<&ReadableTable, StateError> {
        tables::find(&self.shared.tables, operator, state)
    }

    /// The rows of a table in these key groups; with `only_key`, those of that key. Operator state lies in no key group and comes with the first
    /// one (key group 0).
    pub fn rows(
        &self,
        table: &ReadableTable,
        part: KeyGroupRange,
        only_key: Option<&DynamicValue>,
    ) -> Result<StateRows, StateError> {
        StateRows::open(Arc::clone(&self.shared), table, part, only_key)
    }

    /// Key groups of the job.
    pub fn max_parallelism(&self) -> u16 {
        self.shared.metadata.max_parallelism
    }

    /// All key groups in at most so many parts of like size, for scans that run side by side.
    pub fn parts(&self, parts_max: u16) -> Vec<KeyGroupRange> {
        let groups = self.max_parallelism().max(1);
        let parts = parts_max.clamp(1, groups);
        (0..parts)
            .map(|index| crate::key_group::range_of(index, groups, parts))
            .collect()
    }
}
