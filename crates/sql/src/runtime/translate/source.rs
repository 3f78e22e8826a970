//! Where rows come from: tables, `VALUES`, and nothing at all.

use std::sync::Arc;

use aquifer_dataflow::JobError;
use aquifer_dataflow::connector::Source;
use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::compute::concat;
use arrow::datatypes::Schema;
use datafusion_common::{Column, DFSchema, DFSchemaRef};
use datafusion_expr::{EmptyRelation, Expr, TableScan, Values};

use super::described::Described;
use super::{Translator, list, physical, schema_of, unsupported};
use crate::catalog::scanned_table;
use crate::changelog::ChangelogMode;
use crate::runtime::calc::{batch, evaluate};
use crate::runtime::refused;
use crate::runtime::stream::{StreamNode, StreamOperator, WindowColumns};
use crate::runtime::values::ValuesSource;

impl Translator<'_> {
    pub(super) fn scan(&mut self, scan: &TableScan) -> Result<StreamNode, JobError> {
        let table = scanned_table(scan).ok_or_else(|| {
            JobError::usage(format!(
                "'{}' is not a table that can be read",
                scan.table_name
            ))
        })?;
        if scan.fetch.is_some() {
            return Err(unsupported("LIMIT and FETCH"));
        }
        // Every sink of the job reads a table by the same source. A table may have been dropped and made anew under its name.
        let known = format!("{:?} {:?}", table.connector, table.spec);
        let (uid, source) = match self.sources.get(&known) {
            Some(source) => source.clone(),
            None => {
                let source = match self.registry {
                    Some(registry) => registry.get(&table.connector)?.source(&table.spec)?,
                    None => Arc::new(Described) as Arc<dyn Source>,
                };
                let made = (self.uid("source"), source);
                self.sources.insert(known, made.clone());
                made
            }
        };
        let physical = &table.spec.schema;
        let mut node = StreamNode {
            uid,
            description: format!("table {} ({})", table.spec.name, table.connector),
            operator: StreamOperator::Source(source),
            schema: Arc::clone(physical),
            mode: ChangelogMode::InsertOnly,
            updates_by: None,
            windows: WindowColumns::default(),
        };
        let all = DFSchema::try_from_qualified_schema(scan.table_name.clone(), physical)
            .map_err(|error| refused(&error))?;
        for filter in &scan.filters {
            node = self.filter(node, &Arc::new(all.clone()), filter)?;
        }
        let Some(projection) = &scan.projection else {
            return Ok(node);
        };
        if projection.iter().copied().eq(0..physical.fields().len()) {
            return Ok(node);
        }
        let columns: Vec<Expr> = projection
            .iter()
            .map(|index| Expr::Column(Column::from(all.qualified_field(*index))))
            .collect();
        self.project(node, &Arc::new(all), &columns, &scan.projected_schema)
    }

    pub(super) fn values(&mut self, values: &Values) -> Result<StreamNode, JobError> {
        let schema = schema_of(&values.schema);
        let one_row = RecordBatch::try_new_with_options(
            Arc::new(Schema::empty()),
            Vec::new(),
            &RecordBatchOptions::new().with_row_count(Some(1)),
        )?;
        let nothing: DFSchemaRef = Arc::new(DFSchema::empty());
        let mut columns = Vec::with_capacity(schema.fields().len());
        for (index, field) in schema.fields().iter().enumerate() {
            let mut cells = Vec::with_capacity(values.values.len());
            for row in &values.values {
                let cell = row.get(index).ok_or_else(|| {
                    JobError::usage("the rows of VALUES do not all have the same number of columns")
                })?;
                let cell = evaluate(&physical(cell, &nothing)?, &one_row, field.data_type())
                    .map_err(|error| JobError::usage(error.message))?;
                cells.push(cell);
            }
            let cells: Vec<_> = cells.iter().map(AsRef::as_ref).collect();
            columns.push(concat(&cells)?);
        }
        let rows = batch(&schema, columns, values.values.len())?;
        let cells: Vec<String> = values.values.iter().map(|row| list(row)).collect();
        let description = format!("VALUES ({})", cells.join("), ("));
        Ok(self.values_source(rows, description))
    }

    pub(super) fn empty(&mut self, empty: &EmptyRelation) -> Result<StreamNode, JobError> {
        let schema = schema_of(&empty.schema);
        let rows = usize::from(empty.produce_one_row);
        let columns = schema
            .fields()
            .iter()
            .map(|field| arrow::array::new_null_array(field.data_type(), rows))
            .collect();
        let rows = batch(&schema, columns, rows)?;
        let description = format!("{} rows without a table", rows.num_rows());
        Ok(self.values_source(rows, description))
    }

    pub(super) fn values_source(&mut self, rows: RecordBatch, description: String) -> StreamNode {
        StreamNode {
            uid: self.uid("values"),
            description,
            schema: rows.schema(),
            operator: StreamOperator::Source(Arc::new(ValuesSource::new(rows))),
            mode: ChangelogMode::InsertOnly,
            updates_by: None,
            windows: WindowColumns::default(),
        }
    }
}
