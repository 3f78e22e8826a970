//! What DataFusion's planner asks about: tables, functions, types and the parser's options.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion_common::config::ConfigOptions;
use datafusion_common::{DFSchema, Result, TableReference, plan_err};
use datafusion_expr::planner::{ContextProvider, ExprPlanner, RelationPlanner, TypePlanner};
use datafusion_expr::{
    AggregateUDF, Expr, HigherOrderUDF, LogicalPlan, ScalarUDF, TableSource, WindowUDF,
};
use datafusion_sql::planner::{NullOrdering, ParserOptions, PlannerContext, SqlToRel};
use sqlparser::ast::{Expr as SqlExpr, Query, Statement};

use super::expressions::FlinkExpressions;
use super::relations::FlinkRelations;
use super::rewrite::{rewrite_expression, rewrite_query};
use super::types::FlinkTypes;
use crate::catalog::Catalog;
use crate::functions::FunctionRegistry;

/// The planner's view of a session.
pub(crate) struct PlanContext<'a> {
    catalog: &'a Catalog,
    functions: &'a FunctionRegistry,
    options: ConfigOptions,
    expr_planners: Vec<Arc<dyn ExprPlanner>>,
    relation_planners: Vec<Arc<dyn RelationPlanner>>,
}

impl<'a> PlanContext<'a> {
    pub fn new(catalog: &'a Catalog, functions: &'a FunctionRegistry) -> Self {
        Self {
            catalog,
            functions,
            options: ConfigOptions::default(),
            expr_planners: vec![Arc::new(FlinkExpressions)],
            relation_planners: vec![Arc::new(FlinkRelations)],
        }
    }

    fn planner(&self) -> SqlToRel<'_, Self> {
        let options = ParserOptions::new()
            .with_parse_float_as_decimal(true)
            .with_enable_ident_normalization(false)
            .with_support_varchar_with_length(true)
            .with_map_string_types_to_utf8view(false)
            .with_collect_spans(true)
            .with_default_null_ordering(NullOrdering::NullsMin);
        SqlToRel::new_with_options(self, options)
    }

    /// The plan of a query, neither analysed nor optimised.
    pub fn plan_query(&self, query: &Query) -> Result<LogicalPlan> {
        let mut query = query.clone();
        rewrite_query(&mut query)?;
        self.planner()
            .sql_statement_to_plan(Statement::Query(Box::new(query)))
    }

    /// An expression over columns.
    pub fn plan_expression(&self, expression: &SqlExpr, schema: &DFSchema) -> Result<Expr> {
        let mut expression = expression.clone();
        rewrite_expression(&mut expression)?;
        self.planner()
            .sql_to_expr(expression, schema, &mut PlannerContext::new())
    }
}

impl ContextProvider for PlanContext<'_> {
    fn get_table_source(&self, name: TableReference) -> Result<Arc<dyn TableSource>> {
        match self.catalog.source(&name) {
            Some(source) => Ok(source),
            None => plan_err!("{}", self.catalog.unknown(&name.to_string())),
        }
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &self.expr_planners
    }

    fn get_relation_planners(&self) -> &[Arc<dyn RelationPlanner>] {
        &self.relation_planners
    }

    fn get_type_planner(&self) -> Option<Arc<dyn TypePlanner>> {
        Some(Arc::new(FlinkTypes))
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        self.functions.scalar(name)
    }

    fn get_higher_order_meta(&self, _name: &str) -> Option<Arc<HigherOrderUDF>> {
        None
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.functions.aggregate(name)
    }

    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        self.functions.window(name)
    }

    fn get_variable_type(&self, _variable_names: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        &self.options
    }

    fn udf_names(&self) -> Vec<String> {
        self.functions.names()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udaf_names(&self) -> Vec<String> {
        self.functions.aggregate_names()
    }

    fn udwf_names(&self) -> Vec<String> {
        Vec::new()
    }
}
