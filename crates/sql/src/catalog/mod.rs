//! Tables and views of a session, by name. Names are case-sensitive.

mod define;
mod show;
mod table;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion_common::TableReference;
use datafusion_expr::{LogicalPlan, TableSource, TableType};

pub(crate) use define::{define_table, define_view};
pub(crate) use show::{DESCRIBE_COLUMNS, create_statement, describe};
pub use table::{
    CatalogTable, ColumnKind, PhysicalScan, TableColumn, WatermarkDefinition, scanned_table,
};

use crate::nearest::nearest;

/// A view: a query under a name.
#[derive(Clone, Debug)]
pub struct View {
    /// Its name.
    pub name: String,
    /// Its query as written.
    pub query: String,
    /// Its columns, if they were renamed.
    pub columns: Vec<String>,
    /// `CREATE TEMPORARY VIEW`.
    pub temporary: bool,
    /// `COMMENT '…'`.
    pub comment: Option<String>,
}

/// What a name stands for.
#[derive(Clone, Debug)]
pub(crate) enum Entry {
    Table(Arc<CatalogTable>),
    View(Arc<View>),
}

/// Tables and views.
#[derive(Default)]
pub(crate) struct Catalog {
    entries: BTreeMap<String, (Entry, Arc<Relation>)>,
}

impl Catalog {
    /// Puts a table or view with its plan; a name is put once.
    pub fn insert(&mut self, name: String, entry: Entry, relation: Relation) {
        self.entries.insert(name, (entry, Arc::new(relation)));
    }

    pub fn remove(&mut self, name: &str) -> Option<Entry> {
        self.entries.remove(name).map(|(entry, _)| entry)
    }

    pub fn get(&self, name: &str) -> Option<&Entry> {
        self.entries.get(name).map(|(entry, _)| entry)
    }

    /// The table that an insert writes to.
    pub fn table(&self, name: &str) -> Option<&Arc<CatalogTable>> {
        match self.get(name) {
            Some(Entry::Table(table)) => Some(table),
            _ => None,
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (&String, &Entry)> {
        self.entries.iter().map(|(name, (entry, _))| (name, entry))
    }

    /// The plan of a table or view.
    pub fn plan(&self, name: &str) -> Option<&LogicalPlan> {
        self.entries.get(name).map(|(_, relation)| &relation.plan)
    }

    /// What a query scans under this name; qualified names must name the only catalog and database.
    pub fn source(&self, name: &TableReference) -> Option<Arc<dyn TableSource>> {
        let here = name.catalog().is_none_or(|c| c == "default_catalog")
            && name.schema().is_none_or(|s| s == "default_database");
        let (_, relation) = self.entries.get(name.table()).filter(|_| here)?;
        Some(Arc::clone(relation) as Arc<dyn TableSource>)
    }

    /// What to say about a name that is not there.
    pub fn unknown(&self, name: &str) -> String {
        match nearest(name, self.entries.keys().map(String::as_str)) {
            Some(known) => format!("there is no table or view '{name}'; did you mean '{known}'?"),
            None => format!("there is no table or view '{name}'"),
        }
    }
}

/// What a query scans: the plan of a table (its scan, computed columns and watermark) or of a view, put in its place.
pub(crate) struct Relation {
    plan: LogicalPlan,
    schema: SchemaRef,
    is_view: bool,
}

impl Relation {
    pub fn new(plan: LogicalPlan, is_view: bool) -> Self {
        let schema = Arc::new(plan.schema().as_arrow().clone());
        Self {
            plan,
            schema,
            is_view,
        }
    }
}

impl fmt::Debug for Relation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Relation")
    }
}

impl TableSource for Relation {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        if self.is_view {
            TableType::View
        } else {
            TableType::Base
        }
    }

    fn get_logical_plan(&self) -> Option<Cow<'_, LogicalPlan>> {
        Some(Cow::Borrowed(&self.plan))
    }
}
