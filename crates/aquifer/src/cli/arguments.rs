//! The command line and its help texts.

use std::path::PathBuf;

use aquifer_dataflow::config::{ConfigError, Configuration, Layer, options};
use clap::{Args, Parser, Subcommand};

use super::state::arguments::StateCommand;

/// Stream processing whose state lives on an object store.
#[derive(Debug, Parser)]
#[command(name = "aquifer", version, about, long_about = None, arg_required_else_help = true)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a script of Flink SQL, or open a prompt.
    ///
    /// Rows of print tables and of SELECTs go to standard output, everything else to standard error. All INSERTs of a script run together as one job,
    /// at its end or before the next SELECT; a SELECT runs as a job of its own and prints its changelog.
    ///
    /// Exit status: 0 finished, 1 the job failed, 2 the text or the configuration is wrong.
    Sql(SqlArguments),

    /// Do compactions that jobs leave on the object store, so that their workers need not.
    ///
    /// Jobs leave them when state.backend.forst.compaction.remote.enabled is set. Any number of compactors may run, on any machine; one that
    /// is killed does no harm. Ctrl-C ends it when the compactions under way are done.
    ///
    /// Exit status: 0 ended, 1 the object store failed, 2 the arguments or the configuration are wrong.
    Compactor(CompactorArguments),

    /// Look into the state of a checkpoint: what it holds, whether it is whole, and its rows.
    ///
    /// Nothing is changed. Exit status: 0 all is well, 1 the checkpoint is damaged or cannot be read, 2 the arguments are wrong.
    #[command(subcommand)]
    Store(StoreCommand),

    /// Read the state of a checkpoint or savepoint as typed rows: its states, single keys, scans and counts.
    ///
    /// Rows are lines of JSON on standard output. Nothing is changed. Exit status: 0 read, 1 the checkpoint is damaged or cannot be read, 2 the
    /// arguments are wrong.
    #[command(subcommand)]
    State(StateCommand),
}

/// Arguments of `aquifer compactor`.
#[derive(Debug, Args)]
pub struct CompactorArguments {
    /// The checkpoint directory of the jobs, or the directory of one job or run: a path, or a URI such as s3://bucket/path.
    #[arg(long, value_name = "URI")]
    pub dir: String,

    /// Compactions done at the same time.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: u16,

    /// Bytes that may be written a second, in MiB; 0 is no limit.
    #[arg(long, value_name = "MIB", default_value_t = 0)]
    pub megabytes_per_second: u64,

    /// End when there is nothing to do.
    #[arg(long)]
    pub once: bool,

    /// A configuration file with Flink's keys, of which those of object stores count.
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Set a configuration key; wins over the file. May be given several times.
    #[arg(short = 'D', value_name = "KEY=VALUE")]
    pub define: Vec<String>,
}

impl CompactorArguments {
    /// Puts `-D` into its layer of the configuration.
    pub fn define_in(&self, configuration: &mut Configuration) -> Result<(), ConfigError> {
        define(&self.define, configuration)
    }
}

/// Puts what `-D` says into its layer of the configuration.
fn define(definitions: &[String], configuration: &mut Configuration) -> Result<(), ConfigError> {
    for definition in definitions {
        let (key, value) = definition.split_once('=').ok_or_else(|| {
            ConfigError::new(format!(
                "-D: expected key=value, found '{}'",
                key_only(definition)
            ))
        })?;
        configuration
            .put(Layer::CommandLine, key.trim(), value)
            .map_err(|error| ConfigError::new(format!("-D {}", error.message)))?;
    }
    Ok(())
}

/// What to do with a checkpoint.
#[derive(Debug, Subcommand)]
pub enum StoreCommand {
    /// Levels, files and sizes, and rows per state (and per key group).
    Stats(StatsArguments),
    /// Read every byte of every file and check it: checksums, order and bounds of keys, filters, indexes, counts.
    Verify(CheckpointArguments),
    /// Print rows as text: state, key group, key and value, separated by tabs.
    Dump(DumpArguments),
}

/// Which checkpoint.
#[derive(Debug, Args)]
pub struct CheckpointArguments {
    /// A checkpoint (…/chk-000017 or its _metadata), or a run (…/run-000001) or a job, of which the newest is taken.
    #[arg(value_name = "URI")]
    pub uri: String,

    /// A configuration file with keys for the object store.
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Set a configuration key, such as s3.endpoint; wins over the file.
    #[arg(short = 'D', value_name = "KEY=VALUE")]
    pub define: Vec<String>,
}

/// Arguments of `aquifer store stats`.
#[derive(Debug, Args)]
pub struct StatsArguments {
    #[command(flatten)]
    pub checkpoint: CheckpointArguments,

    /// One line per key group, too.
    #[arg(long)]
    pub groups: bool,
}

/// Arguments of `aquifer store dump`.
#[derive(Debug, Args)]
#[command(after_help = DUMP_NOTES)]
pub struct DumpArguments {
    #[command(flatten)]
    pub checkpoint: CheckpointArguments,

    /// Only this state: operator/state, or the number of its table.
    #[arg(long, value_name = "NAME")]
    pub table: Option<String>,

    /// Only this key group, or those from A to B.
    #[arg(long, value_name = "N|A-B")]
    pub group: Option<String>,

    /// Only keys that begin so: text with \xNN for other bytes, or 0x and hexadecimal digits.
    #[arg(long, value_name = "BYTES")]
    pub prefix: Option<String>,

    /// At most so many rows.
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,

    /// Keys and values as hexadecimal digits.
    #[arg(long)]
    pub hex: bool,
}

const DUMP_NOTES: &str = "Keys and values are the bytes of the state's layout: printable characters as they are, others as \\xNN.
Rows that are deleted or have expired are not shown.";

/// Arguments of `aquifer sql`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct SqlArguments {
    /// The script; `-` reads standard input. Without it: a prompt on a terminal, else standard input.
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,

    /// A configuration file with Flink's keys, nested or flat.
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Set a configuration key; wins over the file and over SET in the script. May be given several times.
    #[arg(short = 'D', value_name = "KEY=VALUE")]
    pub define: Vec<String>,

    /// Number of workers: short for -D parallelism.default=N.
    #[arg(short, long, value_name = "N")]
    pub parallelism: Option<String>,

    /// Begin with a checkpoint of another run: its chk-… directory, a run-… directory or a job's; short for
    /// -D execution.state-recovery.path=URI. Not used when --resume finds a checkpoint of the job itself.
    #[arg(long, value_name = "URI")]
    pub from: Option<String>,

    /// Who owns that checkpoint afterwards: no-claim (it stays as it is) or claim (its files are deleted when they are no longer
    /// needed); short for -D execution.state-recovery.claim-mode=MODE.
    #[arg(long, value_name = "MODE")]
    pub claim_mode: Option<String>,

    /// Go on from the newest checkpoint of the job of this name (pipeline.name, or else the script's file name without its ending).
    #[arg(long)]
    pub resume: bool,
}

const EXAMPLES: &str = "Examples:
  aquifer sql -f auctions.sql
  aquifer sql -f auctions.sql --resume -p 3
  aquifer sql -f auctions.sql --from s3://bucket/checkpoints/auctions/run-000001 --claim-mode claim
  aquifer sql -f auctions.sql -D execution.checkpointing.interval=10s -D execution.checkpointing.dir=s3://bucket/checkpoints
  echo \"SHOW TABLES;\" | aquifer sql -f -";

impl SqlArguments {
    /// Puts `-D` and its short forms into their layer of the configuration.
    pub fn define_in(&self, configuration: &mut Configuration) -> Result<(), ConfigError> {
        define(&self.define, configuration)?;
        for (name, key, value) in [
            ("-p", options::PARALLELISM.key, &self.parallelism),
            ("--from", options::RESTORE_PATH.key, &self.from),
            ("--claim-mode", options::CLAIM_MODE.key, &self.claim_mode),
        ] {
            if let Some(value) = value {
                configuration
                    .put(Layer::CommandLine, key, value)
                    .map_err(|error| ConfigError::new(format!("{name}: {}", error.message)))?;
            }
        }
        Ok(())
    }
}

impl CheckpointArguments {
    /// Puts `-D` into its layer of the configuration.
    pub fn define_in(&self, configuration: &mut Configuration) -> Result<(), ConfigError> {
        define(&self.define, configuration)
    }
}

/// What may be shown of a definition without `=`: it could be a secret that was put in the wrong place.
fn key_only(definition: &str) -> String {
    definition
        .chars()
        .take_while(|c| c.is_ascii_alphanumeric() || ".-_".contains(*c))
        .take(80)
        .collect()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn sql(arguments: &[&str]) -> SqlArguments {
        let all = ["aquifer", "sql"].iter().chain(arguments);
        match Arguments::try_parse_from(all).unwrap().command {
            Command::Sql(sql) => sql,
            other => panic!("{other:?} is not sql"),
        }
    }

    #[test]
    fn the_command_is_well_formed() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn definitions_and_parallelism_are_the_command_lines_layer() {
        let mut configuration = Configuration::default();
        configuration
            .put(Layer::Session, "parallelism.default", "1")
            .unwrap();
        let arguments = sql(&[
            "-f",
            "-",
            "-D",
            "pipeline.name=a=b",
            "-Dexecution.checkpointing.interval=1 s",
            "-p",
            "3",
            "--resume",
        ]);
        assert!(arguments.resume);
        arguments.define_in(&mut configuration).unwrap();
        assert_eq!(configuration.get(&options::PARALLELISM), 3);
        assert_eq!(
            configuration.get(&options::JOB_NAME).as_deref(),
            Some("a=b")
        );
        assert_eq!(
            configuration
                .get(&options::CHECKPOINT_INTERVAL)
                .unwrap()
                .as_secs(),
            1
        );
    }

    #[test]
    fn wrong_definitions_say_where_they_came_from() {
        let refusal = |arguments: &[&str]| {
            sql(arguments)
                .define_in(&mut Configuration::default())
                .unwrap_err()
                .message
        };
        assert_eq!(
            refusal(&["-D", "pipeline.name"]),
            "-D: expected key=value, found 'pipeline.name'"
        );
        assert_eq!(
            refusal(&["-p", "many"]),
            "-p: parallelism.default: expected a whole number from 1 to 32768, found 'many'"
        );
        assert!(refusal(&["-D", "pipline.name=x"]).ends_with("did you mean 'pipeline.name'?"));
    }
}
