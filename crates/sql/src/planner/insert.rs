//! `INSERT INTO`: a query's columns go to the table's by position, with the casts that lose nothing.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion_common::{Column, Result, ScalarValue, plan_err};
use datafusion_expr::{Cast, Expr, LogicalPlan, LogicalPlanBuilder};

use super::context::PlanContext;
use super::decimal::DecimalType;
use super::types::type_name;
use crate::catalog::CatalogTable;
use crate::parser::Insert;

/// The plan of the insert's query, its columns named and typed as the table's physical columns; neither analysed nor optimised.
pub(crate) fn plan_insert(
    context: &PlanContext<'_>,
    insert: &Insert,
    table: &Arc<CatalogTable>,
) -> Result<LogicalPlan> {
    let query = context.plan_query(&insert.query)?;
    let targets = target_columns(insert, table)?;
    let found: Vec<_> = query.schema().iter().collect();
    let name = &table.spec.name;
    if found.len() != targets.len() {
        let columns = if insert.columns.is_empty() {
            "the table has"
        } else {
            "the list names"
        };
        return plan_err!(
            "INSERT INTO '{name}': the query has {} columns ({}), {columns} {} ({})",
            found.len(),
            found
                .iter()
                .map(|(_, f)| format!("{} {}", f.name(), type_name(f.data_type())))
                .collect::<Vec<_>>()
                .join(", "),
            targets.len(),
            targets
                .iter()
                .map(|i| table.spec.schema.field(*i).name().as_str())
                .collect::<Vec<_>>()
                .join(", ")
        );
    }
    let mut columns: Vec<Expr> = table
        .spec
        .schema
        .fields()
        .iter()
        .map(|field| {
            Expr::Cast(Cast::new(
                Box::new(Expr::Literal(ScalarValue::Null, None)),
                field.data_type().clone(),
            ))
        })
        .collect();
    for (position, (target, (qualifier, source))) in targets.iter().zip(&found).enumerate() {
        let wanted = table.spec.schema.field(*target);
        let (from, to) = (source.data_type(), wanted.data_type());
        if !may_become(from, to) {
            return plan_err!(
                "INSERT INTO '{name}': column '{}' at position {} is {}, the query gives {}; write CAST({} AS {})",
                wanted.name(),
                position + 1,
                type_name(to),
                type_name(from),
                source.name(),
                type_name(to)
            );
        }
        let column = Expr::Column(Column::from((*qualifier, *source)));
        let value = if from == to {
            column
        } else {
            Expr::Cast(Cast::new(Box::new(column), to.clone()))
        };
        if let Some(slot) = columns.get_mut(*target) {
            *slot = value;
        }
    }
    let columns = columns
        .into_iter()
        .zip(table.spec.schema.fields())
        .map(|(e, f)| e.alias(f.name()));
    LogicalPlanBuilder::from(query).project(columns)?.build()
}

/// Positions in the physical schema that the query's columns go to.
fn target_columns(insert: &Insert, table: &CatalogTable) -> Result<Vec<usize>> {
    let schema = &table.spec.schema;
    if insert.columns.is_empty() {
        return Ok((0..schema.fields().len()).collect());
    }
    let mut targets = Vec::with_capacity(insert.columns.len());
    for column in &insert.columns {
        match schema.index_of(&column.value) {
            Ok(i) if targets.contains(&i) => {
                return plan_err!(
                    "INSERT INTO '{}': column '{}' is named twice",
                    table.spec.name,
                    column.value
                );
            }
            Ok(i) => targets.push(i),
            Err(_) => {
                let known: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
                return plan_err!(
                    "INSERT INTO '{}': there is no column '{}' to write; there are {}",
                    table.spec.name,
                    column.value,
                    known.join(", ")
                );
            }
        }
    }
    Ok(targets)
}

/// Whether a value of `from` becomes one of `to` without being asked: Flink's implicit casts.
fn may_become(from: &DataType, to: &DataType) -> bool {
    use DataType as T;
    let rank = |t: &DataType| match t {
        T::Int8 => Some(0),
        T::Int16 => Some(1),
        T::Int32 => Some(2),
        T::Int64 => Some(3),
        T::Float32 => Some(5),
        T::Float64 => Some(6),
        _ => None,
    };
    match (from, to) {
        (T::Null, _) => true,
        (f, t) if f == t => true,
        (f, T::Decimal128(..)) => DecimalType::of(f).is_some(),
        (T::Decimal128(..), T::Float32 | T::Float64) => true,
        (T::Timestamp(..), T::Timestamp(..)) => true,
        (T::Date32, T::Timestamp(..)) => true,
        (T::Utf8 | T::LargeUtf8 | T::Utf8View, T::Utf8) => true,
        (T::Binary | T::LargeBinary | T::BinaryView, T::Binary) => true,
        (T::Time32(_) | T::Time64(_), T::Time32(_)) => true,
        (T::Struct(f), T::Struct(t)) => {
            f.len() == t.len()
                && f.iter()
                    .zip(t)
                    .all(|(f, t)| may_become(f.data_type(), t.data_type()))
        }
        (T::List(f), T::List(t)) => may_become(f.data_type(), t.data_type()),
        (T::Map(f, _), T::Map(t, _)) => may_become(f.data_type(), t.data_type()),
        (f, t) => matches!((rank(f), rank(t)), (Some(f), Some(t)) if f <= t),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_widen_and_never_narrow() {
        use DataType as T;
        for (from, to, may) in [
            (T::Int32, T::Int64, true),
            (T::Int64, T::Int32, false),
            (T::Int64, T::Decimal128(23, 3), true),
            (T::Decimal128(24, 3), T::Decimal128(23, 3), true),
            (T::Decimal128(24, 3), T::Int64, false),
            (T::Float64, T::Float32, false),
            (T::Int32, T::Utf8, false),
            (T::Utf8, T::Int32, false),
            (T::Null, T::Utf8, true),
        ] {
            assert_eq!(may_become(&from, &to), may, "{from} to {to}");
        }
    }
}
