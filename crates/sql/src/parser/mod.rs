//! From a script's text to its statements.
//!
//! sqlparser knows queries and expressions; the statements around them are Flink's own and are parsed here by driving sqlparser's parser, the way
//! DataFusion's parser does. Every statement keeps its place, and so does every error.

mod create_table;
mod data_type;
mod dialect;
mod script;
mod source;
mod statement;
mod statements;

pub(crate) use data_type::{LTZ_ZONE, decimal_type, timestamp_unit};
pub use script::{is_complete, parse_script};
pub use statement::{
    ColumnDefinition, ColumnDefinitionKind, ColumnType, CreateTable, CreateView, ExplainTarget,
    Insert, ObjectKind, ParsedStatement, Statement,
};

#[cfg(test)]
mod tests;
