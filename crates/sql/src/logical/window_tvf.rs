//! `TUMBLE`, `HOP`, `CUMULATE`: each row comes out once for every window it belongs to, with the window's bounds behind its columns.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, TimeUnit};
use datafusion_common::{Column, DFSchema, DFSchemaRef, Result, plan_err};
use datafusion_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore};

use super::{ROWTIME, mark_time_attribute, unmark_time_attribute};

/// First millisecond of the window, `TIMESTAMP(3)`.
pub const WINDOW_START: &str = "window_start";
/// First millisecond after the window, `TIMESTAMP(3)`.
pub const WINDOW_END: &str = "window_end";
/// Last millisecond of the window, a time attribute.
pub const WINDOW_TIME: &str = "window_time";

/// Which windows a row belongs to; all figures are milliseconds.
///
/// Windows begin at `offset` plus whole multiples of the size (TUMBLE, CUMULATE) or slide (HOP), for times before 1970 too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WindowKind {
    /// Fixed windows side by side; `|offset_ms| < size_ms`.
    Tumble {
        /// Length, > 0.
        size_ms: i64,
        /// Shift of the windows' beginnings.
        offset_ms: i64,
    },
    /// Windows of `size_ms` that begin every `slide_ms`; the size is a multiple of the slide.
    Hop {
        /// Distance between beginnings, > 0.
        slide_ms: i64,
        /// Length, > 0.
        size_ms: i64,
        /// Shift of the windows' beginnings.
        offset_ms: i64,
    },
    /// Windows that begin together and end every `step_ms` until they are `size_ms` long; the size is a multiple of the step.
    Cumulate {
        /// Distance between ends, > 0.
        step_ms: i64,
        /// Greatest length, > 0.
        size_ms: i64,
        /// Shift of the windows' beginnings.
        offset_ms: i64,
    },
}

impl WindowKind {
    /// The function's name in SQL.
    pub fn name(self) -> &'static str {
        match self {
            WindowKind::Tumble { .. } => "TUMBLE",
            WindowKind::Hop { .. } => "HOP",
            WindowKind::Cumulate { .. } => "CUMULATE",
        }
    }
}

impl fmt::Display for WindowKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let offset = match *self {
            WindowKind::Tumble { size_ms, offset_ms } => {
                write!(f, "TUMBLE(size={size_ms} ms")?;
                offset_ms
            }
            WindowKind::Hop {
                slide_ms,
                size_ms,
                offset_ms,
            } => {
                write!(f, "HOP(slide={slide_ms} ms, size={size_ms} ms")?;
                offset_ms
            }
            WindowKind::Cumulate {
                step_ms,
                size_ms,
                offset_ms,
            } => {
                write!(f, "CUMULATE(step={step_ms} ms, size={size_ms} ms")?;
                offset_ms
            }
        };
        if offset != 0 {
            write!(f, ", offset={offset} ms")?;
        }
        f.write_str(")")
    }
}

/// A windowing table-valued function over its input.
#[derive(Clone, PartialEq, Eq)]
pub struct WindowTvf {
    kind: WindowKind,
    /// The time attribute, an `Expr::Column` of the input.
    time_column: Expr,
    input: Arc<LogicalPlan>,
    schema: DFSchemaRef,
}

impl WindowTvf {
    /// Windows over `input`. The result has the input's columns (the time column is an ordinary one from here on) and then `window_start`,
    /// `window_end`, `window_time`, without a qualifier.
    pub fn try_new(kind: WindowKind, time_column: Expr, input: Arc<LogicalPlan>) -> Result<Self> {
        let Expr::Column(column) = &time_column else {
            return plan_err!(
                "the DESCRIPTOR of {} names a column, not '{time_column}'",
                kind.name()
            );
        };
        let at = input.schema().index_of_column(column)?;
        let input_time_type = input.schema().field(at).data_type().clone();
        let mut fields: Vec<_> = input
            .schema()
            .iter()
            .enumerate()
            .map(|(i, (qualifier, field))| {
                let field = if i == at {
                    Arc::new(unmark_time_attribute(field))
                } else {
                    Arc::clone(field)
                };
                (qualifier.cloned(), field)
            })
            .collect();
        let bound = DataType::Timestamp(TimeUnit::Millisecond, None);
        fields.push((
            None,
            Arc::new(Field::new(WINDOW_START, bound.clone(), false)),
        ));
        fields.push((None, Arc::new(Field::new(WINDOW_END, bound, false))));
        fields.push((
            None,
            Arc::new(mark_time_attribute(
                &Field::new(WINDOW_TIME, input_time_type, false),
                ROWTIME,
            )),
        ));
        let schema = DFSchema::new_with_metadata(fields, input.schema().metadata().clone())?;
        Ok(Self {
            kind,
            time_column,
            input,
            schema: Arc::new(schema),
        })
    }

    /// Which windows.
    pub fn kind(&self) -> WindowKind {
        self.kind
    }

    /// The time attribute, a column of the input.
    pub fn time_column(&self) -> Result<&Column> {
        match &self.time_column {
            Expr::Column(column) => Ok(column),
            other => plan_err!(
                "the DESCRIPTOR of {} names a column, not '{other}'",
                self.kind.name()
            ),
        }
    }

    /// Where the rows come from.
    pub fn input(&self) -> &Arc<LogicalPlan> {
        &self.input
    }
}

impl UserDefinedLogicalNodeCore for WindowTvf {
    fn name(&self) -> &str {
        "WindowTableFunction"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        vec![self.time_column.clone()]
    }

    /// Filters on the input's own columns may go below: which windows a row belongs to does not depend on other rows.
    #[expect(
        clippy::disallowed_types,
        reason = "the trait of DataFusion wants this type; it is only asked for membership"
    )]
    fn prevent_predicate_push_down_columns(&self) -> std::collections::HashSet<String> {
        [WINDOW_START, WINDOW_END, WINDOW_TIME]
            .map(str::to_string)
            .into_iter()
            .collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(
            f,
            "WindowTableFunction: {} on {}",
            self.kind, self.time_column
        )
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        let (Ok([time_column]), Ok([input])) = (
            <[Expr; 1]>::try_from(exprs),
            <[LogicalPlan; 1]>::try_from(inputs),
        ) else {
            return plan_err!("{} has one expression and one input", self.kind.name());
        };
        Self::try_new(self.kind, time_column, Arc::new(input))
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let width = self.input.schema().fields().len();
        Some(vec![
            output_columns
                .iter()
                .copied()
                .filter(|i| *i < width)
                .collect(),
        ])
    }
}

// The schema follows from the other fields, so it takes no part in comparing and hashing.
impl PartialOrd for WindowTvf {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (&self.kind, &self.time_column, &self.input)
            .partial_cmp(&(&other.kind, &other.time_column, &other.input))
            .filter(|order| *order != Ordering::Equal || self == other)
    }
}

impl Hash for WindowTvf {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.kind.hash(state);
        self.time_column.hash(state);
        self.input.hash(state);
    }
}

impl fmt::Debug for WindowTvf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_for_explain(f)
    }
}
