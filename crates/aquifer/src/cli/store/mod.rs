//! `aquifer store`: looking into the files of a checkpoint. Reads only.

mod columns;
mod dump;
mod stats;
mod verify;

use std::collections::BTreeMap;

use aquifer::runner::RunError;
use aquifer::{config_file, state::StateError};
use aquifer_dataflow::JobError;
use aquifer_dataflow::config::Configuration;
use aquifer_state::KeyedSnapshot;
use aquifer_state::checkpoint::{CheckpointMetadata, CheckpointStorage, ForeignCheckpoint};
use aquifer_store::{BlockCache, Environment, FileRef, KeyGroupRange};
use tokio::runtime::Runtime;

pub use self::columns::Columns;
use super::arguments::{CheckpointArguments, StoreCommand};
use super::clock;
use super::screen::Screen;

/// Memory for what is read.
const CACHE_BYTES: u64 = 64 << 20;

/// Runs a subcommand.
pub fn run(command: &StoreCommand, screen: &Screen) -> Result<(), RunError> {
    match command {
        StoreCommand::Stats(arguments) => stats::run(
            &Opened::new(&arguments.checkpoint)?.without_databases()?,
            arguments.groups,
            screen,
        ),
        StoreCommand::Verify(arguments) => {
            verify::run(&Opened::new(arguments)?.without_databases()?, screen)
        }
        StoreCommand::Dump(arguments) => {
            let opened = Opened::new(&arguments.checkpoint)?;
            dump::run(&opened.without_databases()?, arguments, screen)
        }
    }
}

/// A checkpoint that was found.
struct Opened {
    runtime: Runtime,
    metadata: CheckpointMetadata,
    storage: CheckpointStorage,
}

impl Opened {
    fn new(arguments: &CheckpointArguments) -> Result<Self, RunError> {
        let mut configuration = Configuration::default();
        if let Some(path) = &arguments.config {
            config_file::load(path, &mut configuration)?;
        }
        arguments.define_in(&mut configuration)?;
        let settings = configuration.object_store_keys();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .map_err(|error| failed(format!("the I/O runtime could not be started: {error}")))?;
        let opening = ForeignCheckpoint::open(&arguments.uri, &settings);
        let ForeignCheckpoint {
            storage, metadata, ..
        } = runtime.block_on(opening).map_err(unreadable)?;
        Ok(Self {
            runtime,
            metadata,
            storage,
        })
    }

    /// A surrounding for reading the files; it writes nothing as long as nobody writes.
    fn environment(&self) -> Environment {
        let mut environment = Environment::new(
            self.storage.objects.clone(),
            self.storage.shared(),
            self.runtime.handle().clone(),
            BlockCache::new(CACHE_BYTES),
            "inspection",
        );
        environment.clock = clock::wall();
        environment
    }

    /// Each file once, with every way in which the checkpoint names it.
    fn files(&self) -> BTreeMap<&str, Vec<&FileRef>> {
        let mut files: BTreeMap<&str, Vec<&FileRef>> = BTreeMap::new();
        for (_, part) in &self.metadata.keyed {
            for file in &part.files.files {
                // What the metadata holds itself was checked with it, and lies in no store.
                if KeyedSnapshot::inline_name(&file.path).is_none() {
                    files.entry(&file.path).or_default().push(file);
                }
            }
        }
        files
    }

    /// An error for what only another command can look into: databases of the `rocksdb` backend.
    fn without_databases(self) -> Result<Self, RunError> {
        let databases = |(_, part): &(KeyGroupRange, KeyedSnapshot)| !part.databases.is_empty();
        if self.metadata.keyed.iter().any(databases) {
            return Err(failed(
                "the checkpoint holds databases of the rocksdb backend, which this command does not look into".to_owned(),
            ));
        }
        Ok(self)
    }

    /// The checkpoint's directory below the root of its store.
    fn directory(&self) -> String {
        let id = self.metadata.checkpoint_id;
        format!("{}/chk-{id:06}", self.storage.run)
    }
}

fn failed(message: String) -> RunError {
    RunError::Failed(format!("error: {message}"))
}

fn unreadable(error: StateError) -> RunError {
    match error {
        StateError::Usage(message) => JobError::usage(message).into(),
        error => JobError::from(error).into(),
    }
}
