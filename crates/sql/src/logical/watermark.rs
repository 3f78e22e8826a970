//! `WATERMARK FOR c AS e`: rows pass unchanged, and the greatest `e` seen becomes the watermark.
//!
//! Filters must stay above this node (a row that a query drops still moves time on), and the time column is never pruned.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion_common::{Column, DFSchema, DFSchemaRef, Result, plan_err};
use datafusion_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore};

use super::{ROWTIME, mark_time_attribute};

/// Assigns watermarks to the rows of its input.
#[derive(Clone, PartialEq, Eq)]
pub struct WatermarkAssigner {
    /// The event time column, an `Expr::Column` of the input.
    time_column: Expr,
    /// The watermark of one row, over the input's columns.
    watermark: Expr,
    /// The rows.
    input: Arc<LogicalPlan>,
    schema: DFSchemaRef,
}

impl WatermarkAssigner {
    /// A watermark assigner over `input`; its schema is the input's with the time column marked as event time.
    pub fn try_new(time_column: Expr, watermark: Expr, input: Arc<LogicalPlan>) -> Result<Self> {
        let Expr::Column(column) = &time_column else {
            return plan_err!("the time column of a watermark is a column, not '{time_column}'");
        };
        let at = input.schema().index_of_column(column)?;
        let fields = input
            .schema()
            .iter()
            .enumerate()
            .map(|(i, (qualifier, field))| {
                let field = if i == at {
                    Arc::new(mark_time_attribute(field, ROWTIME))
                } else {
                    Arc::clone(field)
                };
                (qualifier.cloned(), field)
            })
            .collect();
        let schema = DFSchema::new_with_metadata(fields, input.schema().metadata().clone())?
            .with_functional_dependencies(input.schema().functional_dependencies().clone())?;
        Ok(Self {
            time_column,
            watermark,
            input,
            schema: Arc::new(schema),
        })
    }

    /// The event time column, a column of the input.
    pub fn time_column(&self) -> Result<&Column> {
        match &self.time_column {
            Expr::Column(column) => Ok(column),
            other => plan_err!("the time column of a watermark is a column, not '{other}'"),
        }
    }

    /// The watermark that one row carries, an expression over the input's columns.
    pub fn watermark(&self) -> &Expr {
        &self.watermark
    }

    /// Where the rows come from.
    pub fn input(&self) -> &Arc<LogicalPlan> {
        &self.input
    }
}

impl UserDefinedLogicalNodeCore for WatermarkAssigner {
    fn name(&self) -> &str {
        "WatermarkAssigner"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        vec![self.time_column.clone(), self.watermark.clone()]
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(
            f,
            "WatermarkAssigner: rowtime={}, watermark={}",
            self.time_column, self.watermark
        )
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        let (Ok([time_column, watermark]), Ok([input])) = (
            <[Expr; 2]>::try_from(exprs),
            <[LogicalPlan; 1]>::try_from(inputs),
        ) else {
            return plan_err!("a watermark assigner has two expressions and one input");
        };
        Self::try_new(time_column, watermark, Arc::new(input))
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        Some(vec![output_columns.to_vec()])
    }
}

// The schema follows from the other fields, so it takes no part in comparing and hashing.
impl PartialOrd for WatermarkAssigner {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (&self.time_column, &self.watermark, &self.input)
            .partial_cmp(&(&other.time_column, &other.watermark, &other.input))
            .filter(|order| *order != Ordering::Equal || self == other)
    }
}

impl Hash for WatermarkAssigner {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.time_column.hash(state);
        self.watermark.hash(state);
        self.input.hash(state);
    }
}

impl fmt::Debug for WatermarkAssigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_for_explain(f)
    }
}
