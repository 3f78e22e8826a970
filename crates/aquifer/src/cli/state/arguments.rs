//! Arguments of `aquifer state`.

use clap::{Args, Subcommand};

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

const GET_NOTES: &str = "A key is written by its type: a number, true or false, a text as it is, 0x and hexadecimal digits for bytes, and JSON for a key with
parts: --key '[\"ada\", 7]', --key null. Nothing is printed if the state has no such key.";

const SCAN_NOTES: &str = "Rows come in the order of key groups and keys. Each is an object: key_group, key, namespace and user_key if there are such, index in a list, value, and
written_ms and expires_ms if times are kept. Whole numbers have all their digits; bytes, and what this program has no types for, are \"0x…\".";
