//! A state as a table of DataFusion.

use std::fmt;
use std::sync::Arc;

use aquifer_state::StateError;
use aquifer_state::dynamic::{DynamicType, DynamicValue};
use aquifer_state::reader::{ReadableTable, StateReader, StateRow, TableKind};
use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, TimestampMillisecondArray};
use arrow::array::{UInt16Array, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;

use crate::columns;
use crate::error::of_state;
use crate::pushdown::{Chosen, is_about_a_part, is_exact};
use crate::scan::StateScan;

/// Name of the column of keys.
pub(crate) const KEY: &str = "key";
/// Name of the column of key groups.
pub(crate) const KEY_GROUP: &str = "key_group";

/// A column: what it shows of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    Key,
    Namespace,
    UserKey,
    Index,
    Value,
    WrittenAt,
    ExpiresAt,
    KeyGroup,
}

impl Column {
    fn name(self) -> &'static str {
        match self {
            Self::Key => KEY,
            Self::Namespace => "namespace",
            Self::UserKey => "user_key",
            Self::Index => "index",
            Self::Value => "value",
            Self::WrittenAt => "written_at",
            Self::ExpiresAt => "expires_at",
            Self::KeyGroup => KEY_GROUP,
        }
    }
}

/// A state, and the columns that it has.
#[derive(Clone)]
pub(crate) struct StateTable {
    pub(crate) reader: StateReader,
    pub(crate) table: Arc<ReadableTable>,
    columns: Arc<[Column]>,
    schema: SchemaRef,
    partitions_max: u16,
}

impl fmt::Debug for StateTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StateTable({})", self.table.full_name())
    }
}

impl StateTable {
    pub(crate) fn new(reader: StateReader, table: &ReadableTable, partitions_max: u16) -> Self {
        let keyed = table.kind.is_keyed();
        let in_groups = keyed || table.kind == TableKind::RawKeyed;
        let all = [
            // A broadcast map has keys and lies in no key group; a raw keyed stream is the other way round.
            (Column::Key, keyed || !table.key.is_void()),
            (Column::Namespace, table.namespace.is_some()),
            (Column::UserKey, table.user_key.is_some()),
            (Column::Index, table.kind.has_index()),
            (Column::Value, true),
            (Column::WrittenAt, table.ttl_ms.is_some()),
            (Column::ExpiresAt, table.ttl_ms.is_some()),
            (Column::KeyGroup, in_groups),
        ];
        let has = |(column, has): (Column, bool)| has.then_some(column);
        let columns: Vec<Column> = all.into_iter().filter_map(has).collect();
        let mut this = Self {
            reader,
            table: Arc::new(table.clone()),
            columns: columns.into(),
            schema: Arc::new(Schema::empty()),
            partitions_max,
        };
        this.schema = this.schema_of_columns();
        this
    }

    /// The same with some of its columns.
    pub(crate) fn project(&self, projection: &[usize]) -> Self {
        let columns = projection.iter().filter_map(|at| self.columns.get(*at));
        let mut this = Self {
            columns: columns.copied().collect(),
            ..self.clone()
        };
        this.schema = this.schema_of_columns();
        this
    }

    fn schema_of_columns(&self) -> SchemaRef {
        let fields = self
            .columns
            .iter()
            .map(|column| Field::new(column.name(), self.data_type(*column), true));
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }

    fn data_type(&self, column: Column) -> DataType {
        match (column, self.dynamic_type(column)) {
            (_, Some(kind)) => columns::data_type(kind.logical()),
            (Column::Index, _) => DataType::UInt64,
            (Column::KeyGroup, _) => DataType::UInt16,
            _ => DataType::Timestamp(TimeUnit::Millisecond, Some("+00:00".into())),
        }
    }

    /// The type of the columns whose type the checkpoint says.
    fn dynamic_type(&self, column: Column) -> Option<&DynamicType> {
        match column {
            Column::Key => Some(&self.table.key),
            Column::Namespace => self.table.namespace.as_ref(),
            Column::UserKey => self.table.user_key.as_ref(),
            Column::Value => Some(&self.table.value),
            _ => None,
        }
    }

    /// Rows as Arrow's columns.
    pub(crate) fn batch(&self, rows: &[StateRow]) -> Result<RecordBatch> {
        let columns = self.columns.iter().map(|column| self.column(*column, rows));
        let columns = columns.collect::<Result<Vec<_>, _>>().map_err(|error| {
            of_state(match error {
                StateError::Corrupt(what) => StateError::Corrupt(format!(
                    "state `{}` of operator `{}` cannot be read: {what}",
                    self.table.state, self.table.operator
                )),
                error => error,
            })
        })?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        let schema = Arc::clone(&self.schema);
        Ok(RecordBatch::try_new_with_options(
            schema, columns, &options,
        )?)
    }

    fn column(&self, column: Column, rows: &[StateRow]) -> Result<ArrayRef, StateError> {
        let dynamic = |get: fn(&StateRow) -> Option<&DynamicValue>| {
            let values: Vec<Option<&DynamicValue>> = rows.iter().map(get).collect();
            match self.dynamic_type(column) {
                Some(kind) => columns::array(kind.logical(), &values),
                None => Err(StateError::Usage(format!(
                    "state `{}` has no {}",
                    self.table.state,
                    column.name()
                ))),
            }
        };
        let times = |get: fn(&StateRow) -> Option<i64>| -> ArrayRef {
            let times: TimestampMillisecondArray = rows.iter().map(get).collect();
            Arc::new(times.with_timezone("+00:00"))
        };
        Ok(match column {
            Column::Key => dynamic(|row| Some(&row.key))?,
            Column::Namespace => dynamic(|row| row.namespace.as_ref())?,
            Column::UserKey => dynamic(|row| row.user_key.as_ref())?,
            Column::Value => dynamic(|row| Some(&row.value))?,
            Column::Index => {
                let places: UInt64Array = rows.iter().map(|row| row.index).collect();
                Arc::new(places)
            }
            Column::WrittenAt => times(|row| row.written_ms),
            Column::ExpiresAt => times(|row| row.expires_ms),
            Column::KeyGroup => {
                let groups: UInt16Array = rows.iter().map(|row| row.key_group).collect();
                Arc::new(groups)
            }
        })
    }

    /// The types of its columns, as people write them.
    pub(crate) fn columns_shown(&self) -> String {
        let shown = |column: &Column| match self.dynamic_type(*column) {
            Some(kind) => format!("{} {kind}", column.name()),
            None => column.name().to_owned(),
        };
        let shown: Vec<String> = self.columns.iter().map(shown).collect();
        shown.join(", ")
    }
}

#[async_trait]
impl TableProvider for StateTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(filters
            .iter()
            .map(|filter| match is_exact(&self.table, filter) {
                true => TableProviderFilterPushDown::Exact,
                false if is_about_a_part(&self.table, filter) => {
                    TableProviderFilterPushDown::Inexact
                }
                false => TableProviderFilterPushDown::Unsupported,
            })
            .collect())
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let chosen = Chosen::by(&self.table, filters);
        let projected = match projection {
            Some(projection) => self.project(projection),
            None => self.clone(),
        };
        let parts = self.reader.parts(self.partitions_max);
        Ok(Arc::new(StateScan::new(projected, &chosen, &parts, limit)))
    }
}
