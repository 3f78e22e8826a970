//! `aquifer state`: the keyed and operator state of a checkpoint or savepoint as typed rows. Reads only; `savepoint` writes into
//! a directory of its own.
//!
//! Rows and answers go to standard output, as lines of JSON where programs read them; everything else to standard error.

pub mod arguments;
mod count;
mod get;
mod nothing;
mod output;
mod savepoint;
mod scan;
mod sql;
mod tables;

use std::collections::BTreeMap;

use aquifer::config_file;
use aquifer::runner::RunError;
use aquifer_dataflow::JobError;
use aquifer_dataflow::config::Configuration;
use aquifer_state::StateError;
use aquifer_state::reader::{ReadableTable, ReaderOptions, StateReader};
use aquifer_store::KeyGroupRange;
use tokio::runtime::Runtime;

use self::arguments::{StateArguments, StateCommand};
use super::arguments::CheckpointArguments;
use super::clock;
use super::key_groups::group_range;
use super::screen::Screen;

/// Threads that read.
const THREADS: usize = 2;
/// Memory for blocks of files.
const CACHE_BYTES: u64 = 32 << 20;

/// Runs a subcommand.
pub fn run(command: &StateCommand, screen: &Screen) -> Result<(), RunError> {
    match command {
        StateCommand::Tables(arguments) => tables::run(
            &Opened::new(&arguments.checkpoint, false)?,
            arguments,
            screen,
        ),
        StateCommand::Get(arguments) => {
            let opened = Opened::with_state(&arguments.checkpoint, arguments.expired)?;
            get::run(&opened, arguments, screen)
        }
        StateCommand::Scan(arguments) => {
            let opened = Opened::with_state(&arguments.checkpoint, arguments.expired)?;
            scan::run(&opened, arguments, screen)
        }
        StateCommand::Count(arguments) => {
            let opened = Opened::new(&arguments.checkpoint, arguments.expired)?;
            count::run(&opened, arguments, screen)
        }
        StateCommand::Sql(arguments) => sql::run(arguments, screen),
        StateCommand::Savepoint(arguments) => savepoint::run(arguments, screen),
    }
}

/// A checkpoint that is open, and the threads that read it.
struct Opened {
    reader: StateReader,
    location: String,
    settings: BTreeMap<String, String>,
    /// Ends after the reader.
    runtime: Runtime,
}

impl Opened {
    fn new(arguments: &CheckpointArguments, show_expired: bool) -> Result<Self, RunError> {
        let (settings, runtime) = prepared(arguments)?;
        let options = ReaderOptions {
            settings: settings.clone(),
            cache_bytes: CACHE_BYTES,
            clock: clock::wall(),
            show_expired,
        };
        let opening = StateReader::open(&arguments.uri, options, runtime.handle().clone());
        Ok(Self {
            reader: runtime.block_on(opening).map_err(unreadable)?,
            location: arguments.uri.clone(),
            settings,
            runtime,
        })
    }

    /// The same of a checkpoint that must have state.
    fn with_state(arguments: &CheckpointArguments, show_expired: bool) -> Result<Self, RunError> {
        let opened = Self::new(arguments, show_expired)?;
        match opened.why_empty()? {
            None => Ok(opened),
            Some(why) => Err(failed(why)),
        }
    }

    /// Why there is no state at all; `None` if there is some.
    fn why_empty(&self) -> Result<Option<String>, RunError> {
        if !self.reader.tables().is_empty() {
            return Ok(None);
        }
        let metadata = self.reader.metadata();
        nothing::why(&self.location, &self.settings, metadata, &self.runtime).map(Some)
    }

    /// Key groups as they are asked for; the job must have them.
    fn groups(&self, text: Option<&str>) -> Result<KeyGroupRange, RunError> {
        let Some(text) = text else {
            return Ok(KeyGroupRange::ALL);
        };
        let groups = group_range(text)?;
        let last = self.reader.max_parallelism().saturating_sub(1);
        match groups.end <= last {
            true => Ok(groups),
            false => Err(usage(format!(
                "--group: the job has the key groups 0 to {last}, found '{text}'"
            ))),
        }
    }

    /// The state that arguments name; without a name, the only one.
    fn table(&self, arguments: &StateArguments) -> Result<&ReadableTable, RunError> {
        let operator = arguments.operator.as_deref();
        if let Some(state) = &arguments.state {
            return self.reader.table(operator, state).map_err(unreadable);
        }
        let tables: Vec<&ReadableTable> = self.of(operator).collect();
        match tables.as_slice() {
            [table] => Ok(table),
            [] => Err(self.no_operator(operator.unwrap_or_default())),
            several => {
                let names: Vec<String> = several.iter().map(|t| t.full_name()).collect();
                Err(usage(format!(
                    "--state is missing; the checkpoint has {}",
                    names.join(", ")
                )))
            }
        }
    }

    /// The states that arguments name; without names, all.
    fn tables(&self, arguments: &StateArguments) -> Result<Vec<&ReadableTable>, RunError> {
        if arguments.state.is_some() {
            return Ok(vec![self.table(arguments)?]);
        }
        let operator = arguments.operator.as_deref();
        let tables: Vec<&ReadableTable> = self.of(operator).collect();
        match operator {
            Some(operator) if tables.is_empty() => Err(self.no_operator(operator)),
            _ => Ok(tables),
        }
    }

    fn no_operator(&self, operator: &str) -> RunError {
        let mut names: Vec<&str> = self.of(None).map(|table| table.operator.as_str()).collect();
        names.dedup();
        usage(format!(
            "--operator: the checkpoint has no state of an operator '{operator}'; operators with state: {}",
            names.join(", ")
        ))
    }

    fn of(&self, operator: Option<&str>) -> impl Iterator<Item = &ReadableTable> {
        let tables = self.reader.tables().iter();
        tables.filter(move |table| operator.is_none_or(|name| table.operator == name))
    }
}

/// Keys of the object store, and threads that read.
fn prepared(
    arguments: &CheckpointArguments,
) -> Result<(BTreeMap<String, String>, Runtime), RunError> {
    let mut configuration = Configuration::default();
    if let Some(path) = &arguments.config {
        config_file::load(path, &mut configuration)?;
    }
    arguments.define_in(&mut configuration)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .enable_all()
        .build()
        .map_err(|error| failed(format!("the I/O runtime could not be started: {error}")))?;
    Ok((configuration.object_store_keys(), runtime))
}

fn failed(message: String) -> RunError {
    RunError::Failed(format!("error: {message}"))
}

fn usage(message: String) -> RunError {
    RunError::Usage(format!("error: {message}"))
}

fn unreadable(error: StateError) -> RunError {
    match error {
        StateError::Usage(message) => JobError::usage(message).into(),
        error => JobError::from(error).into(),
    }
}
