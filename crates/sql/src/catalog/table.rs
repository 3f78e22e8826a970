//! A table as its `CREATE TABLE` declares it, and how a plan scans it.
//!
//! Registering a table does not make its connector: a scan in a plan leads back to the [`CatalogTable`], and the runtime makes the source from that.

use std::fmt;
use std::sync::Arc;

use aquifer_dataflow::connector::TableSpec;
use arrow::datatypes::{DataType, SchemaRef};
use datafusion_expr::{TableScan, TableSource};

/// What a declared column is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ColumnKind {
    /// The connector reads or writes it.
    Physical,
    /// `c AS expr`: computed from other columns; the text of the expression. Never written.
    Computed(String),
}

/// A declared column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableColumn {
    /// Its name, as written.
    pub name: String,
    /// Its type; of a computed column, the type of its expression.
    pub data_type: DataType,
    /// False for `NOT NULL`.
    pub nullable: bool,
    /// Physical or computed.
    pub kind: ColumnKind,
}

/// `WATERMARK FOR column AS expression`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatermarkDefinition {
    /// The event time column.
    pub column: String,
    /// The text of the expression.
    pub expression: String,
}

/// A table in the catalog.
#[derive(Clone, Debug)]
pub struct CatalogTable {
    /// What the connector needs to know: physical columns and options.
    pub spec: TableSpec,
    /// The value of the `connector` option.
    pub connector: String,
    /// All columns, in the declared order.
    pub columns: Vec<TableColumn>,
    /// The declared watermark.
    pub watermark: Option<WatermarkDefinition>,
    /// `CREATE TEMPORARY TABLE`.
    pub temporary: bool,
    /// `COMMENT '…'`.
    pub comment: Option<String>,
}

/// A scan of a table's physical columns. Computed columns and the watermark are plan nodes above it.
pub struct PhysicalScan {
    table: Arc<CatalogTable>,
}

impl PhysicalScan {
    /// A scan of `table`.
    pub fn new(table: Arc<CatalogTable>) -> Self {
        Self { table }
    }

    /// The table.
    pub fn table(&self) -> &Arc<CatalogTable> {
        &self.table
    }
}

impl fmt::Debug for PhysicalScan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PhysicalScan({})", self.table.spec.name)
    }
}

impl TableSource for PhysicalScan {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.table.spec.schema)
    }
}

/// The table that a scan in a plan reads; `None` for a scan of something that is not a table of this catalog.
pub fn scanned_table(scan: &TableScan) -> Option<&Arc<CatalogTable>> {
    scan.source
        .downcast_ref::<PhysicalScan>()
        .map(PhysicalScan::table)
}
