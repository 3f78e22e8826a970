//! The statements of a script, parsed but not yet understood.

use arrow::datatypes::DataType;
use sqlparser::ast::{Expr, Ident, Query};

use crate::error::Location;

/// One statement of a script.
#[derive(Clone, Debug)]
pub struct ParsedStatement {
    /// What it says.
    pub statement: Statement,
    /// Its text, without the semicolon.
    pub text: String,
    /// Its first word.
    pub location: Location,
}

/// What a statement says.
#[derive(Clone, Debug)]
pub enum Statement {
    /// `CREATE TABLE`.
    CreateTable(Box<CreateTable>),
    /// `CREATE VIEW`.
    CreateView(Box<CreateView>),
    /// `CREATE FUNCTION name AS 'class'`.
    CreateFunction {
        /// The name.
        name: Ident,
        /// The class or resource it names.
        implementation: String,
        /// `IF NOT EXISTS`.
        if_not_exists: bool,
    },
    /// `DROP TABLE`, `DROP VIEW`, `DROP FUNCTION`.
    Drop {
        /// What kind of object.
        kind: ObjectKind,
        /// Its name.
        name: Ident,
        /// `IF EXISTS`.
        if_exists: bool,
    },
    /// `SET 'key' = 'value'`.
    Set {
        /// The option.
        key: String,
        /// Its value.
        value: String,
    },
    /// `SET` alone: show the options.
    ShowOptions,
    /// `RESET 'key'`, or `RESET` for all.
    Reset {
        /// The option, or all.
        key: Option<String>,
    },
    /// `INSERT INTO`.
    Insert(Insert),
    /// `EXECUTE STATEMENT SET BEGIN … END`.
    StatementSet(Vec<Insert>),
    /// `BEGIN STATEMENT SET`: the inserts up to `END` are one job.
    BeginStatementSet,
    /// `END`.
    EndStatementSet,
    /// A bare `SELECT` or `VALUES`.
    Query(Box<Query>),
    /// `EXPLAIN`.
    Explain {
        /// `CHANGELOG_MODE` was asked for.
        changelog_mode: bool,
        /// What to explain.
        target: ExplainTarget,
    },
    /// `SHOW TABLES`, `SHOW VIEWS`, `SHOW FUNCTIONS`.
    Show(ObjectKind),
    /// `SHOW CREATE TABLE t`, `SHOW CREATE VIEW v`.
    ShowCreate {
        /// What kind of object.
        kind: ObjectKind,
        /// Its name.
        name: Ident,
    },
    /// `DESCRIBE t`.
    Describe {
        /// A table or view.
        name: Ident,
    },
}

/// Kinds of catalog objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectKind {
    /// A table.
    Table,
    /// A view.
    View,
    /// A function.
    Function,
}

impl ObjectKind {
    /// The word in messages.
    pub fn noun(self) -> &'static str {
        match self {
            ObjectKind::Table => "table",
            ObjectKind::View => "view",
            ObjectKind::Function => "function",
        }
    }
}

/// What `EXPLAIN` explains.
#[derive(Clone, Debug)]
pub enum ExplainTarget {
    /// A query.
    Query(Box<Query>),
    /// One insert, or the inserts of a statement set.
    Inserts(Vec<Insert>),
}

/// `INSERT INTO table [(columns)] query`.
#[derive(Clone, Debug)]
pub struct Insert {
    /// The table.
    pub table: Ident,
    /// The columns named behind the table; empty means all.
    pub columns: Vec<Ident>,
    /// The rows.
    pub query: Box<Query>,
    /// Its first word.
    pub location: Location,
}

/// `CREATE VIEW name [(columns)] AS query`.
#[derive(Clone, Debug)]
pub struct CreateView {
    /// The name.
    pub name: Ident,
    /// `TEMPORARY`.
    pub temporary: bool,
    /// `IF NOT EXISTS`.
    pub if_not_exists: bool,
    /// New names of the columns; empty keeps the query's.
    pub columns: Vec<Ident>,
    /// `COMMENT '…'`.
    pub comment: Option<String>,
    /// The query.
    pub query: Box<Query>,
    /// The query as written.
    pub query_text: String,
}

/// `CREATE TABLE`.
#[derive(Clone, Debug)]
pub struct CreateTable {
    /// The name.
    pub name: Ident,
    /// `TEMPORARY`.
    pub temporary: bool,
    /// `IF NOT EXISTS`.
    pub if_not_exists: bool,
    /// The columns, in order.
    pub columns: Vec<ColumnDefinition>,
    /// `WATERMARK FOR column AS expression`.
    pub watermark: Option<(Ident, Expr)>,
    /// `PRIMARY KEY (…) NOT ENFORCED`.
    pub primary_key: Vec<Ident>,
    /// `COMMENT '…'`.
    pub comment: Option<String>,
    /// `PARTITIONED BY (…)`.
    pub partitioned_by: Vec<Ident>,
    /// `WITH ('key' = 'value', …)`, in order.
    pub options: Vec<(String, String)>,
}

/// A column of `CREATE TABLE`.
#[derive(Clone, Debug)]
pub struct ColumnDefinition {
    /// Its name.
    pub name: Ident,
    /// Physical or computed.
    pub kind: ColumnDefinitionKind,
    /// `COMMENT '…'`.
    pub comment: Option<String>,
}

/// What a column of `CREATE TABLE` is.
#[derive(Clone, Debug)]
pub enum ColumnDefinitionKind {
    /// `name TYPE`.
    Physical(ColumnType),
    /// `name AS expression`.
    Computed(Box<Expr>),
}

/// A type as declared: an Arrow type and whether nulls are allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnType {
    /// The type.
    pub data_type: DataType,
    /// False for `NOT NULL`.
    pub nullable: bool,
}
