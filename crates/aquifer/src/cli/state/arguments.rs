//! Arguments of `aquifer state`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use crate::cli::arguments::CheckpointArguments;

/// What to read of a checkpoint or savepoint.
#[derive(Debug, Subcommand)]
pub enum StateCommand {
    /// List the states: operator, name, kind, types, time to live, and what files say of their size.
    ///
    /// On a terminal a table; elsewhere a line for each state with tabs between: state, kind, key, namespace, user key, value, TTL in milliseconds, rows
    /// and bytes in files, `-` for what is not there or not known.
    Tables(TablesArguments),
    /// Print the rows of one key as lines of JSON.
    Get(GetArguments),
    /// Print the rows of a state as lines of JSON.
    #[command(after_help = SCAN_NOTES)]
    Scan(ScanArguments),
    /// Count the rows and keys of states, by reading them.
    Count(CountArguments),
    /// Ask for rows in SQL: filters, aggregations, sorts and joins over states as tables.
    ///
    /// Only queries are taken. States are read as streams; sorts and aggregations that need more than --memory go on on disk.
    #[command(after_help = SQL_NOTES)]
    Sql(SqlArguments),
    /// Write a savepoint: the state of a checkpoint in a directory of its own, which can be copied anywhere.
    ///
    /// The checkpoint stays as it is and must not be removed meanwhile: the newest one of a job that was killed or stopped, or a retained one. The savepoint's
    /// place is printed on standard output; `aquifer sql --from` goes on from it, unless the job has finished: then it can be read only.
    Savepoint(SavepointArguments),
}

/// Arguments of `aquifer state savepoint`.
#[derive(Debug, Args)]
pub struct SavepointArguments {
    #[command(flatten)]
    pub checkpoint: CheckpointArguments,

    /// The directory in which the savepoint gets one of its own: a path, or a URI.
    #[arg(value_name = "DIR")]
    pub directory: String,

    /// canonical: sorted rows that every backend restores. native: a copy of the backend's files.
    #[arg(long = "type", value_enum, value_name = "TYPE", default_value_t = SavepointType::Canonical)]
    pub kind: SavepointType,
}

/// In which form a savepoint holds the state.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum SavepointType {
    /// Rows.
    Canonical,
    /// Files.
    Native,
}

/// Arguments of `aquifer state tables`.
#[derive(Debug, Args)]
pub struct TablesArguments {
    #[command(flatten)]
    pub checkpoint: CheckpointArguments,

    /// Lines of JSON.
    #[arg(long)]
    pub json: bool,
}

/// Which state.
#[derive(Debug, Args)]
pub struct StateArguments {
    /// The state: its name, or operator/name. Not needed if the checkpoint has only one.
    #[arg(long, value_name = "NAME")]
    pub state: Option<String>,

    /// Its operator, where more than one has a state of this name.
    #[arg(long, value_name = "ID")]
    pub operator: Option<String>,
}

/// Arguments of `aquifer state get`.
#[derive(Debug, Args)]
#[command(after_help = GET_NOTES)]
pub struct GetArguments {
    #[command(flatten)]
    pub checkpoint: CheckpointArguments,

    #[command(flatten)]
    pub state: StateArguments,

    /// The key.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub key: String,

    /// Only this namespace.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub namespace: Option<String>,

    /// Only this key of the map.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub user_key: Option<String>,

    /// Rows that have expired and are still there, too.
    #[arg(long)]
    pub expired: bool,
}

/// Arguments of `aquifer state scan`.
#[derive(Debug, Args)]
pub struct ScanArguments {
    #[command(flatten)]
    pub checkpoint: CheckpointArguments,

    #[command(flatten)]
    pub state: StateArguments,

    /// Only this key, written as for `get`.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub key: Option<String>,

    /// Only this key group, or those from A to B.
    #[arg(long, value_name = "N|A-B")]
    pub group: Option<String>,

    /// At most so many rows.
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,

    /// Rows that have expired and are still there, too.
    #[arg(long)]
    pub expired: bool,
}

/// Arguments of `aquifer state count`.
#[derive(Debug, Args)]
pub struct CountArguments {
    #[command(flatten)]
    pub checkpoint: CheckpointArguments,

    #[command(flatten)]
    pub state: StateArguments,

    /// Only this key group, or those from A to B.
    #[arg(long, value_name = "N|A-B")]
    pub group: Option<String>,

    /// Rows of each key group, too.
    #[arg(long)]
    pub groups: bool,

    /// Rows that have expired and are still there, too.
    #[arg(long)]
    pub expired: bool,
}

/// Arguments of `aquifer state sql`.
#[derive(Debug, Args)]
pub struct SqlArguments {
    #[command(flatten)]
    pub checkpoint: CheckpointArguments,

    /// The query.
    #[arg(value_name = "QUERY")]
    pub query: String,

    /// The form of the rows [default: table on a terminal, else json].
    #[arg(long, value_enum, value_name = "FORM")]
    pub format: Option<SqlFormat>,

    /// Memory for sorts, aggregations and joins, in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    pub memory: u32,

    /// Where they go on when that is full [default: the system's directory for temporary files].
    #[arg(long, value_name = "DIR")]
    pub temporary_directory: Option<PathBuf>,

    /// Rows that have expired and are still there, too.
    #[arg(long)]
    pub expired: bool,
}

/// A form of rows.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum SqlFormat {
    /// Columns under each other, with a frame.
    Table,
    /// One object per row and line.
    Json,
    /// With a line of names; nothing stands for null.
    Csv,
}

const SQL_NOTES: &str = "A state is a table of its name; where several operators have one of that name, it is \"operator\".state. `SELECT * FROM tables` lists them.
Columns: key, namespace and user_key if there are such, index in a list, value (a struct's fields are value.field), written_at and
expires_at if the state has a time to live, key_group. `WHERE key = …` reads that key only, and so do conditions on all parts of a key
(`WHERE key.auction = 7`). Names are case-sensitive.

States of SQL jobs: accState has a row per group, \"window-aggs\" one per window and group; their keys have the columns of GROUP BY, their values a
column per call: count, min_price, sum_price.sum and sum_price.count, and records where rows can be taken back. \"values-N\" has the distinct
values of call N as user_key.

Examples:
  aquifer state sql checkpoints/job \"SELECT key.auction, value.count FROM accState WHERE value.count > 100\"
  aquifer state sql checkpoints/job \"SELECT key, value FROM counts WHERE value > 100 ORDER BY value DESC LIMIT 10\"
  aquifer state sql s3://bucket/savepoints/savepoint-1f2e3d-0123456789ab \"SELECT value.channel, count(*) FROM bids GROUP BY value.channel\" --format csv";

const GET_NOTES: &str = "A key is written by its type: a number, true or false, a text as it is, 0x and hexadecimal digits for bytes, and JSON for a key with
parts: --key '[\"ada\", 7]', --key '{\"auction\": 7}', --key null (--key '\"null\"' is a text where a key may be null). Of a key of one column its value is enough: --key 7. Nothing is printed if the state
has no such key.";

const SCAN_NOTES: &str = "Rows come in the order of key groups and keys. Each is an object: key_group, key, namespace and user_key if there are such, index in a list, value, and
written_ms and expires_ms if times are kept. Whole numbers have all their digits; dates and times are text; bytes, and what this program has no types for, are \"0x…\".";
