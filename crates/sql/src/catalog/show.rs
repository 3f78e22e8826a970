//! Tables and views as `DESCRIBE` and `SHOW CREATE` tell them.

use std::fmt::Write as _;

use super::{Catalog, CatalogTable, ColumnKind, Entry};
use crate::logical::time_attribute;
use crate::planner::type_name;

/// Columns of `DESCRIBE`'s answer.
pub(crate) const DESCRIBE_COLUMNS: [&str; 6] =
    ["name", "type", "null", "key", "extras", "watermark"];

/// The rows of `DESCRIBE name`; `None` if there is no such table or view.
pub(crate) fn describe(catalog: &Catalog, name: &str) -> Option<Vec<Vec<String>>> {
    let plan = catalog.plan(name)?;
    let table = catalog.table(name);
    let rows = plan.schema().fields().iter().map(|field| {
        let mut kind = type_name(field.data_type());
        if let Some(attribute) = time_attribute(field) {
            let _ = write!(kind, " *{}*", attribute.to_ascii_uppercase());
        }
        let column = table.and_then(|t| t.columns.iter().find(|c| c.name == *field.name()));
        let key = table.filter(|t| t.spec.primary_key.contains(field.name()));
        let watermark = table
            .and_then(|t| t.watermark.as_ref())
            .filter(|w| w.column == *field.name());
        vec![
            field.name().clone(),
            kind,
            if field.is_nullable() { "TRUE" } else { "FALSE" }.to_string(),
            key.map(|t| format!("PRI({})", t.spec.primary_key.join(", ")))
                .unwrap_or_default(),
            match column.map(|c| &c.kind) {
                Some(ColumnKind::Computed(expression)) => format!("AS {expression}"),
                _ => String::new(),
            },
            watermark.map(|w| w.expression.clone()).unwrap_or_default(),
        ]
    });
    Some(rows.collect())
}

fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// The statement that makes a table or view anew.
pub(crate) fn create_statement(entry: &Entry) -> String {
    match entry {
        Entry::Table(table) => create_table(table),
        Entry::View(view) => {
            let columns: Vec<String> = view.columns.iter().map(|c| quoted(c)).collect();
            let columns = if columns.is_empty() {
                String::new()
            } else {
                format!(" ({})", columns.join(", "))
            };
            let comment = view
                .comment
                .as_ref()
                .map(|c| format!("COMMENT {}\n", literal(c)))
                .unwrap_or_default();
            let temporary = if view.temporary { "TEMPORARY " } else { "" };
            format!(
                "CREATE {temporary}VIEW {}{columns}\n{comment}AS {}",
                quoted(&view.name),
                view.query
            )
        }
    }
}

/// Whether the option's value must not be shown.
fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    [
        "password",
        "secret",
        "token",
        "credential",
        "access-key",
        "access.key",
    ]
    .iter()
    .any(|word| key.contains(word))
}

fn create_table(table: &CatalogTable) -> String {
    let mut elements: Vec<String> = table
        .columns
        .iter()
        .map(|column| match &column.kind {
            ColumnKind::Computed(expression) => format!("{} AS {expression}", quoted(&column.name)),
            ColumnKind::Physical => {
                let not_null = if column.nullable { "" } else { " NOT NULL" };
                format!(
                    "{} {}{not_null}",
                    quoted(&column.name),
                    type_name(&column.data_type)
                )
            }
        })
        .collect();
    if let Some(watermark) = &table.watermark {
        elements.push(format!(
            "WATERMARK FOR {} AS {}",
            quoted(&watermark.column),
            watermark.expression
        ));
    }
    let names = |names: &[String]| {
        names
            .iter()
            .map(|n| quoted(n))
            .collect::<Vec<_>>()
            .join(", ")
    };
    if !table.spec.primary_key.is_empty() {
        elements.push(format!(
            "PRIMARY KEY ({}) NOT ENFORCED",
            names(&table.spec.primary_key)
        ));
    }
    let temporary = if table.temporary { "TEMPORARY " } else { "" };
    let mut out = format!(
        "CREATE {temporary}TABLE {} (\n  {}\n)",
        quoted(&table.spec.name),
        elements.join(",\n  ")
    );
    if let Some(comment) = &table.comment {
        let _ = write!(out, " COMMENT {}", literal(comment));
    }
    if !table.spec.partitioned_by.is_empty() {
        let _ = write!(
            out,
            "\nPARTITIONED BY ({})",
            names(&table.spec.partitioned_by)
        );
    }
    let mut options = vec![format!("'connector' = {}", literal(&table.connector))];
    options.extend(table.spec.options.iter().map(|(key, value)| {
        let value = if is_secret(key) { "******" } else { value };
        format!("{} = {}", literal(key), literal(value))
    }));
    let _ = write!(out, "\nWITH (\n  {}\n)", options.join(",\n  "));
    out
}
