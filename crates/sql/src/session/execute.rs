//! Carries out statements.

use std::sync::Arc;

use datafusion_expr::LogicalPlan;
use sqlparser::ast::{Ident, Query};

use super::{JobPlan, Outcome, PlannedSink, Session, SinkTarget};
use crate::catalog::{self, Entry, create_statement, define_table, define_view};
use crate::changelog::explain_changelog;
use crate::error::{Location, SqlError};
use crate::functions::Adopted;
use crate::optimize::optimize;
use crate::parser::{
    CreateTable, CreateView, ExplainTarget, Insert, ObjectKind, ParsedStatement, Statement,
};
use crate::planner::{PlanContext, plan_insert};

/// Only what is used of it costs memory.
const STACK_BYTES: usize = 64 << 20;

impl Session {
    /// Carries out one statement. Queries and inserts are planned and handed back as a job; everything else is done at once.
    ///
    /// Plans are walked by recursion, so this runs on a thread with a stack that holds the deepest plan the parser lets through.
    pub fn execute(&mut self, statement: &ParsedStatement) -> Result<Outcome, SqlError> {
        let outcome = std::thread::scope(|scope| {
            std::thread::Builder::new()
                .name("planner".to_string())
                .stack_size(STACK_BYTES)
                .spawn_scoped(scope, || self.statement(&statement.statement))
                .map_err(|e| SqlError::new(format!("no thread to plan the statement on: {e}")))?
                .join()
                .unwrap_or_else(|_| {
                    Err(SqlError::new(
                        "planning the statement failed with an internal error",
                    ))
                })
        });
        outcome.map_err(|e| e.or_at(statement.location))
    }

    fn statement(&mut self, statement: &Statement) -> Result<Outcome, SqlError> {
        if let Some(inserts) = &mut self.statement_set {
            return match statement {
                Statement::Insert(insert) => {
                    inserts.push(insert.clone());
                    Ok(Outcome::Done)
                }
                Statement::EndStatementSet => {
                    let inserts = self.statement_set.take().unwrap_or_default();
                    if inserts.is_empty() {
                        return Err(SqlError::new("the statement set has no INSERT"));
                    }
                    self.job(&inserts)
                }
                _ => Err(SqlError::new(
                    "a statement set holds only INSERT INTO; close it with END",
                )),
            };
        }
        match statement {
            Statement::CreateTable(definition) => self.create_table(definition),
            Statement::CreateView(definition) => self.create_view(definition),
            Statement::CreateFunction {
                name,
                implementation,
                ..
            } => self.create_function(&name.value, implementation),
            Statement::Drop {
                kind,
                name,
                if_exists,
            } => self.drop_object(*kind, name, *if_exists),
            Statement::Set { key, value } => {
                (self.check)(key, value).map_err(SqlError::new)?;
                self.options.insert(key.clone(), value.clone());
                Ok(Outcome::Done)
            }
            Statement::ShowOptions => Ok(rows(
                &["key", "value"],
                self.options
                    .iter()
                    .map(|(key, value)| vec![key.clone(), value.clone()])
                    .collect(),
            )),
            Statement::Reset { key: Some(key) } => {
                self.options.remove(key);
                Ok(Outcome::Done)
            }
            Statement::Reset { key: None } => {
                self.options.clear();
                Ok(Outcome::Done)
            }
            Statement::Insert(insert) => self.job(std::slice::from_ref(insert)),
            Statement::StatementSet(inserts) => self.job(inserts),
            Statement::BeginStatementSet => {
                self.statement_set = Some(Vec::new());
                Ok(Outcome::Done)
            }
            Statement::EndStatementSet => Err(SqlError::new("END without BEGIN STATEMENT SET")),
            Statement::Query(query) => Ok(Outcome::Job(JobPlan::new(vec![self.select(query)?]))),
            Statement::Explain {
                changelog_mode,
                target,
            } => self.explain(*changelog_mode, target),
            Statement::Show(kind) => Ok(self.show(*kind)),
            Statement::ShowCreate { kind, name } => match self.object(*kind, name)? {
                Some(entry) => Ok(Outcome::Text(create_statement(entry))),
                None => Err(at(self.catalog.unknown(&name.value), name)),
            },
            Statement::Describe { name } => match catalog::describe(&self.catalog, &name.value) {
                Some(described) => Ok(rows(&catalog::DESCRIBE_COLUMNS, described)),
                None => Err(at(self.catalog.unknown(&name.value), name)),
            },
        }
    }

    fn context(&self) -> PlanContext<'_> {
        PlanContext::new(&self.catalog, &self.functions)
    }

    /// The optimised plan of a query.
    pub fn plan_query(&self, query: &Query) -> Result<LogicalPlan, SqlError> {
        Ok(optimize(self.context().plan_query(query)?)?)
    }

    fn select(&self, query: &Query) -> Result<PlannedSink, SqlError> {
        Ok(PlannedSink {
            plan: self.plan_query(query)?,
            target: SinkTarget::Collect,
        })
    }

    fn insert(&self, insert: &Insert) -> Result<PlannedSink, SqlError> {
        let planned = || {
            let table = match self.catalog.get(&insert.table.value) {
                Some(Entry::Table(table)) => table,
                Some(Entry::View(_)) => {
                    return Err(at(
                        format!(
                            "'{}' is a view; INSERT INTO takes a table",
                            insert.table.value
                        ),
                        &insert.table,
                    ));
                }
                None => return Err(at(self.catalog.unknown(&insert.table.value), &insert.table)),
            };
            let plan = optimize(plan_insert(&self.context(), insert, table)?)?;
            Ok(PlannedSink {
                plan,
                target: SinkTarget::Table(Arc::clone(table)),
            })
        };
        planned().map_err(|e: SqlError| e.or_at(insert.location))
    }

    fn sinks(&self, inserts: &[Insert]) -> Result<Vec<PlannedSink>, SqlError> {
        inserts.iter().map(|insert| self.insert(insert)).collect()
    }

    fn job(&self, inserts: &[Insert]) -> Result<Outcome, SqlError> {
        Ok(Outcome::Job(JobPlan::new(self.sinks(inserts)?)))
    }

    fn explain(&self, changelog_mode: bool, target: &ExplainTarget) -> Result<Outcome, SqlError> {
        let sinks = match target {
            ExplainTarget::Query(query) => vec![self.select(query)?],
            ExplainTarget::Inserts(inserts) => self.sinks(inserts)?,
        };
        let job = JobPlan::new(sinks);
        Ok(Outcome::Text(if changelog_mode {
            explain_changelog(&job)
        } else {
            job.explain()
        }))
    }

    fn create_table(&mut self, definition: &CreateTable) -> Result<Outcome, SqlError> {
        if !self.is_free(&definition.name, definition.if_not_exists)? {
            return Ok(Outcome::Done);
        }
        let (table, relation) = define_table(definition, &self.context())
            .map_err(|e| e.or_at(place(&definition.name)))?;
        self.catalog.insert(
            definition.name.value.clone(),
            Entry::Table(Arc::new(table)),
            relation,
        );
        Ok(Outcome::Done)
    }

    fn create_view(&mut self, definition: &CreateView) -> Result<Outcome, SqlError> {
        if !self.is_free(&definition.name, definition.if_not_exists)? {
            return Ok(Outcome::Done);
        }
        let (view, relation) = define_view(definition, &self.context())
            .map_err(|e| e.or_at(place(&definition.name)))?;
        self.catalog.insert(
            definition.name.value.clone(),
            Entry::View(Arc::new(view)),
            relation,
        );
        Ok(Outcome::Done)
    }

    /// False if the name is taken and that is no error.
    fn is_free(&self, name: &Ident, if_not_exists: bool) -> Result<bool, SqlError> {
        match self.catalog.get(&name.value) {
            None => Ok(true),
            Some(_) if if_not_exists => Ok(false),
            Some(entry) => Err(at(
                format!("there is already a {} '{}'", kind(entry).noun(), name.value),
                name,
            )),
        }
    }

    fn create_function(&mut self, name: &str, implementation: &str) -> Result<Outcome, SqlError> {
        match self.functions.adopt(name, implementation) {
            Some(Adopted::BuiltIn(built_in)) => Ok(Outcome::Note(format!(
                "the function {name} is the built-in {built_in}; '{implementation}' is not loaded"
            ))),
            None => Err(SqlError::new(format!(
                "the function '{name}' cannot be loaded from '{implementation}': there is no JVM, and no built-in function of that name"
            ))),
        }
    }

    fn drop_object(
        &mut self,
        kind: ObjectKind,
        name: &Ident,
        if_exists: bool,
    ) -> Result<Outcome, SqlError> {
        if kind == ObjectKind::Function {
            return match (self.functions.forget(&name.value), if_exists) {
                (true, _) | (false, true) => Ok(Outcome::Done),
                (false, false) => Err(at(
                    format!("there is no function '{}' to drop", name.value),
                    name,
                )),
            };
        }
        match self.object(kind, name)? {
            Some(_) => {
                self.catalog.remove(&name.value);
                Ok(Outcome::Done)
            }
            None if if_exists => Ok(Outcome::Done),
            None => Err(at(self.catalog.unknown(&name.value), name)),
        }
    }

    /// The object of this name; an error if it is of the other kind.
    fn object(&self, wanted: ObjectKind, name: &Ident) -> Result<Option<&Entry>, SqlError> {
        match self.catalog.get(&name.value) {
            Some(entry) if kind(entry) != wanted => Err(at(
                format!(
                    "'{}' is a {}, not a {}",
                    name.value,
                    kind(entry).noun(),
                    wanted.noun()
                ),
                name,
            )),
            found => Ok(found),
        }
    }

    fn show(&self, wanted: ObjectKind) -> Outcome {
        let names: Vec<String> = match wanted {
            ObjectKind::Function => {
                let mut names = self.functions.names();
                names.extend(self.functions.aggregate_names());
                names.sort();
                names
            }
            // Flink lists views among the tables.
            ObjectKind::Table => self.catalog.iter().map(|(name, _)| name.clone()).collect(),
            ObjectKind::View => self
                .catalog
                .iter()
                .filter(|(_, e)| kind(e) == wanted)
                .map(|(name, _)| name.clone())
                .collect(),
        };
        rows(
            &[&format!("{} name", wanted.noun())],
            names.into_iter().map(|name| vec![name]).collect(),
        )
    }
}

fn kind(entry: &Entry) -> ObjectKind {
    match entry {
        Entry::Table(_) => ObjectKind::Table,
        Entry::View(_) => ObjectKind::View,
    }
}

fn rows(columns: &[&str], rows: Vec<Vec<String>>) -> Outcome {
    Outcome::Rows {
        columns: columns.iter().map(|c| (*c).to_string()).collect(),
        rows,
    }
}

fn place(name: &Ident) -> Location {
    Location {
        line: name.span.start.line.max(1),
        column: name.span.start.column.max(1),
    }
}

fn at(message: impl Into<String>, name: &Ident) -> SqlError {
    SqlError::at(message, place(name))
}
