//! Makes tables and views from their parsed definitions.
//!
//! A table's plan is its scan, then a projection with the computed columns, then the watermark: exactly what a query over the table runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use aquifer_dataflow::connector::TableSpec;
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use datafusion_expr::{Expr, Extension, LogicalPlan, LogicalPlanBuilder};

use super::{
    CatalogTable, ColumnKind, PhysicalScan, Relation, TableColumn, View, WatermarkDefinition,
};
use crate::error::SqlError;
use crate::logical::WatermarkAssigner;
use crate::parser::{ColumnDefinitionKind, CreateTable, CreateView};
use crate::planner::{PlanContext, type_name};

/// The table and what a query over it scans.
pub(crate) fn define_table(
    definition: &CreateTable,
    context: &PlanContext<'_>,
) -> Result<(CatalogTable, Relation), SqlError> {
    let name = definition.name.value.clone();
    let mut options: BTreeMap<String, String> = definition.options.iter().cloned().collect();
    let Some(connector) = options.remove("connector") else {
        return Err(SqlError::new(format!(
            "table '{name}' has no option 'connector'; write WITH ('connector' = '…')"
        )));
    };
    let physical = physical_schema(definition)?;
    if physical.fields().is_empty() {
        return Err(SqlError::new(format!(
            "table '{name}' has no physical column"
        )));
    }
    let named = |columns: &[sqlparser::ast::Ident], what: &str| {
        columns
            .iter()
            .map(|column| match physical.index_of(&column.value) {
                Ok(_) => Ok(column.value.clone()),
                Err(_) => Err(SqlError::new(format!(
                    "{what} of table '{name}' names the column '{}', which is not a physical column",
                    column.value
                ))),
            })
            .collect::<Result<Vec<String>, SqlError>>()
    };
    let primary_key = named(&definition.primary_key, "the PRIMARY KEY")?;
    let partitioned_by = named(&definition.partitioned_by, "PARTITIONED BY")?;
    let mut table = CatalogTable {
        spec: TableSpec {
            name: name.clone(),
            schema: Arc::new(physical),
            options,
            primary_key,
            partitioned_by,
        },
        connector,
        columns: Vec::new(),
        watermark: definition
            .watermark
            .as_ref()
            .map(|(column, e)| WatermarkDefinition {
                column: column.value.clone(),
                expression: e.to_string(),
            }),
        temporary: definition.temporary,
        comment: definition.comment.clone(),
    };
    let scan = PhysicalScan::new(Arc::new(table.clone()));
    let scan = LogicalPlanBuilder::scan(name.as_str(), Arc::new(scan), None)
        .and_then(LogicalPlanBuilder::build)?;
    let computed = with_computed_columns(definition, scan, context)?;
    table.columns = declared_columns(definition, &computed);
    let plan = with_watermark(definition, computed, context)?;
    Ok((table, Relation::new(plan, false)))
}

fn physical_schema(definition: &CreateTable) -> Result<Schema, SqlError> {
    let fields: Vec<Field> = definition
        .columns
        .iter()
        .filter_map(|column| match &column.kind {
            ColumnDefinitionKind::Physical(t) => {
                // A key column is never null, whether its type says so or not.
                let key = definition
                    .primary_key
                    .iter()
                    .any(|k| k.value == column.name.value);
                Some(Field::new(
                    &column.name.value,
                    t.data_type.clone(),
                    t.nullable && !key,
                ))
            }
            ColumnDefinitionKind::Computed(_) => None,
        })
        .collect();
    Ok(Schema::new(fields))
}

fn with_computed_columns(
    definition: &CreateTable,
    scan: LogicalPlan,
    context: &PlanContext<'_>,
) -> Result<LogicalPlan, SqlError> {
    if definition
        .columns
        .iter()
        .all(|c| matches!(c.kind, ColumnDefinitionKind::Physical(_)))
    {
        return Ok(scan);
    }
    let mut columns = Vec::with_capacity(definition.columns.len());
    for column in &definition.columns {
        let name = &column.name.value;
        columns.push(match &column.kind {
            ColumnDefinitionKind::Physical(_) => {
                let (qualifier, field) =
                    scan.schema().qualified_field_with_unqualified_name(name)?;
                Expr::from((qualifier, field))
            }
            ColumnDefinitionKind::Computed(expression) => {
                let planned = context
                    .plan_expression(expression, scan.schema())
                    .map_err(|e| {
                        let error = SqlError::from(e);
                        SqlError {
                            message: format!("computed column '{name}': {}", error.message),
                            ..error
                        }
                    })?;
                planned.unalias().alias(name)
            }
        });
    }
    Ok(LogicalPlanBuilder::from(scan).project(columns)?.build()?)
}

fn declared_columns(definition: &CreateTable, plan: &LogicalPlan) -> Vec<TableColumn> {
    definition
        .columns
        .iter()
        .zip(plan.schema().fields())
        .map(|(column, field)| TableColumn {
            name: column.name.value.clone(),
            data_type: field.data_type().clone(),
            nullable: field.is_nullable(),
            kind: match &column.kind {
                ColumnDefinitionKind::Physical(_) => ColumnKind::Physical,
                ColumnDefinitionKind::Computed(expression) => {
                    ColumnKind::Computed(expression.to_string())
                }
            },
        })
        .collect()
}

fn with_watermark(
    definition: &CreateTable,
    plan: LogicalPlan,
    context: &PlanContext<'_>,
) -> Result<LogicalPlan, SqlError> {
    let Some((column, expression)) = &definition.watermark else {
        return Ok(plan);
    };
    let table = &definition.name.value;
    let (qualifier, field) = plan
        .schema()
        .qualified_field_with_unqualified_name(&column.value)
        .map_err(|_| {
            SqlError::new(format!(
                "WATERMARK FOR names the column '{}', which table '{table}' does not have",
                column.value
            ))
        })?;
    let is_time = |t: &DataType| matches!(t, DataType::Timestamp(TimeUnit::Millisecond, _));
    if !is_time(field.data_type()) {
        return Err(SqlError::new(format!(
            "WATERMARK FOR '{}' of table '{table}' needs a TIMESTAMP(p) or TIMESTAMP_LTZ(p) with p from 0 to 3, found {}",
            column.value,
            type_name(field.data_type())
        )));
    }
    let time_column = Expr::from((qualifier, field));
    let watermark = context.plan_expression(expression, plan.schema())?;
    let watermark_type =
        datafusion_expr::ExprSchemable::get_type(&watermark, plan.schema().as_ref())?;
    if !is_time(&watermark_type) {
        return Err(SqlError::new(format!(
            "the WATERMARK of table '{table}' must be of the type of '{}', found {}",
            column.value,
            type_name(&watermark_type)
        )));
    }
    let node = WatermarkAssigner::try_new(time_column, watermark, Arc::new(plan))?;
    Ok(LogicalPlan::Extension(Extension {
        node: Arc::new(node),
    }))
}

/// The view and what a query over it scans.
pub(crate) fn define_view(
    definition: &CreateView,
    context: &PlanContext<'_>,
) -> Result<(View, Relation), SqlError> {
    let mut plan = context.plan_query(&definition.query)?;
    let columns: Vec<String> = definition.columns.iter().map(|c| c.value.clone()).collect();
    if !columns.is_empty() {
        let found = plan.schema().fields().len();
        if found != columns.len() {
            return Err(SqlError::new(format!(
                "view '{}' names {} columns, its query has {found}",
                definition.name.value,
                columns.len()
            )));
        }
        let renamed: Vec<Expr> = plan
            .schema()
            .iter()
            .zip(&columns)
            .map(|(field, name)| Expr::from(field).alias(name))
            .collect();
        plan = LogicalPlanBuilder::from(plan).project(renamed)?.build()?;
    }
    let view = View {
        name: definition.name.value.clone(),
        query: definition.query_text.clone(),
        columns,
        temporary: definition.temporary,
        comment: definition.comment.clone(),
    };
    Ok((view, Relation::new(plan, true)))
}
