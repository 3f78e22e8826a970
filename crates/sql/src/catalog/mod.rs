//! Tables and views of a session, by name.

mod table;

pub use table::{
    CatalogTable, ColumnKind, PhysicalScan, TableColumn, WatermarkDefinition, scanned_table,
};
