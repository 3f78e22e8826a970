//! How states are named in SQL.
//!
//! Every operator is a schema with its states. The default schema has every state whose name is unique in the checkpoint, and `tables`, which
//! lists them all; asked for a name that several operators have, it answers with an error that shows how to say which.

use std::sync::Arc;

use aquifer_state::reader::{ReadableTable, StateReader};
use arrow::array::{ArrayRef, RecordBatch, StringArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema};
use async_trait::async_trait;
use datafusion::catalog::{
    CatalogProvider, MemTable, MemoryCatalogProvider, MemorySchemaProvider, SchemaProvider,
    TableProvider,
};
use datafusion::common::Result;
use datafusion::error::DataFusionError;

use crate::table::StateTable;

/// Name of the catalog.
pub(crate) const CATALOG: &str = "checkpoint";
/// Name of the default schema.
pub(crate) const SCHEMA: &str = "states";
/// Name of the table of tables.
const TABLES: &str = "tables";

/// The states of a checkpoint; scans have at most `partitions_max` partitions.
pub(crate) fn catalog(
    reader: &StateReader,
    partitions_max: u16,
) -> Result<Arc<dyn CatalogProvider>> {
    let catalog = MemoryCatalogProvider::new();
    let mut states = Vec::new();
    for table in reader.tables() {
        let state = Arc::new(StateTable::new(reader.clone(), table, partitions_max));
        let operator = match catalog.schema(&table.operator) {
            Some(known) => known,
            None => {
                let new: Arc<dyn SchemaProvider> = Arc::new(MemorySchemaProvider::new());
                catalog.register_schema(&table.operator, Arc::clone(&new))?;
                new
            }
        };
        operator.register_table(
            table.state.clone(),
            Arc::clone(&state) as Arc<dyn TableProvider>,
        )?;
        states.push(state);
    }
    // Last: an operator of that name must not hide the others' states.
    let list = list_of(&states)?;
    catalog.register_schema(SCHEMA, Arc::new(States { states, list }))?;
    Ok(Arc::new(catalog))
}

/// The default schema.
#[derive(Debug)]
struct States {
    states: Vec<Arc<StateTable>>,
    list: Arc<MemTable>,
}

impl States {
    fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Arc<StateTable>> {
        let named = move |state: &&Arc<StateTable>| state.table.state == name;
        self.states.iter().filter(named)
    }
}

#[async_trait]
impl SchemaProvider for States {
    fn table_names(&self) -> Vec<String> {
        let unique = |name: &&str| self.named(name).count() == 1;
        let names = self.states.iter().map(|state| state.table.state.as_str());
        let mut names: Vec<String> = names.filter(unique).map(str::to_owned).collect();
        if self.named(TABLES).next().is_none() {
            names.push(TABLES.to_owned());
        }
        names
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let mut named = self.named(name);
        let (first, second) = (named.next(), named.next());
        match (first, second) {
            (Some(state), None) => Ok(Some(Arc::clone(state) as Arc<dyn TableProvider>)),
            (None, _) if name == TABLES => Ok(Some(Arc::clone(&self.list) as _)),
            (None, _) => Err(DataFusionError::Plan(format!(
                "the checkpoint has no state `{name}`; its states are: {}",
                names(self.states.iter())
            ))),
            (Some(_), Some(_)) => Err(DataFusionError::Plan(format!(
                "more than one operator has a state `{name}`; expected one of: {}",
                names(self.named(name))
            ))),
        }
    }

    fn table_exist(&self, name: &str) -> bool {
        name == TABLES || self.named(name).next().is_some()
    }
}

/// As they are written in queries.
fn names<'a>(states: impl Iterator<Item = &'a Arc<StateTable>>) -> String {
    let names: Vec<String> = states.map(|state| sql_name(&state.table)).collect();
    match names.is_empty() {
        true => "none".to_owned(),
        false => names.join(", "),
    }
}

fn sql_name(table: &ReadableTable) -> String {
    format!("{}.{}", quoted(&table.operator), quoted(&table.state))
}

fn quoted(name: &str) -> String {
    let mut characters = name.chars();
    let begins_well = characters
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic());
    match begins_well && characters.all(|c| c.is_ascii_alphanumeric() || c == '_') {
        true => name.to_owned(),
        false => format!("\"{}\"", name.replace('"', "\"\"")),
    }
}

/// The table of tables.
fn list_of(states: &[Arc<StateTable>]) -> Result<Arc<MemTable>> {
    let text = |get: &dyn Fn(&StateTable) -> String| -> ArrayRef {
        let column: StringArray = states.iter().map(|state| Some(get(state))).collect();
        Arc::new(column)
    };
    let ttl: UInt64Array = states.iter().map(|state| state.table.ttl_ms).collect();
    let columns: [(&str, ArrayRef); 6] = [
        ("name", text(&|state| sql_name(&state.table))),
        ("operator", text(&|state| state.table.operator.clone())),
        ("state", text(&|state| state.table.state.clone())),
        ("kind", text(&|state| state.table.kind.word().to_owned())),
        ("columns", text(&StateTable::columns_shown)),
        ("ttl_ms", Arc::new(ttl)),
    ];
    let fields = columns.iter().map(|(name, column)| {
        let kind: &DataType = column.data_type();
        Field::new(*name, kind.clone(), true)
    });
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let columns = columns.into_iter().map(|(_, column)| column).collect();
    let rows = RecordBatch::try_new(Arc::clone(&schema), columns)?;
    Ok(Arc::new(MemTable::try_new(schema, vec![vec![rows]])?))
}
