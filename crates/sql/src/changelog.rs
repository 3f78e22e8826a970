//! Which rows a plan makes: only inserts, or updates too.

use std::fmt::{self, Write as _};

use datafusion_common::Column;
use datafusion_expr::{Aggregate, Expr, LogicalPlan};

use crate::logical::{WINDOW_END, WINDOW_START, WindowTvf};
use crate::session::{JobPlan, SinkTarget};

/// The kinds of rows a plan node emits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangelogMode {
    /// Only `+I`.
    InsertOnly,
    /// `+I`, `-U`, `+U` and `-D`.
    Updating,
}

impl fmt::Display for ChangelogMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ChangelogMode::InsertOnly => "[I]",
            ChangelogMode::Updating => "[I,UB,UA,D]",
        })
    }
}

/// The rows that a plan emits.
pub fn changelog_mode(plan: &LogicalPlan) -> ChangelogMode {
    let inputs = || {
        let updating = plan
            .inputs()
            .into_iter()
            .any(|input| changelog_mode(input) == ChangelogMode::Updating);
        if updating {
            ChangelogMode::Updating
        } else {
            ChangelogMode::InsertOnly
        }
    };
    match plan {
        LogicalPlan::Aggregate(aggregate) if is_window_aggregate(aggregate) => inputs(),
        // Outer joins take padded rows back; limits and rankings take back what falls out.
        LogicalPlan::Aggregate(_)
        | LogicalPlan::Distinct(_)
        | LogicalPlan::Limit(_)
        | LogicalPlan::Sort(_)
        | LogicalPlan::Window(_) => ChangelogMode::Updating,
        LogicalPlan::Join(join) if join.join_type != datafusion_common::JoinType::Inner => {
            ChangelogMode::Updating
        }
        _ => inputs(),
    }
}

/// Whether an aggregation is over windows: its input has window bounds and it groups by both.
///
/// Such an aggregate emits each window once, when it ends.
pub fn is_window_aggregate(aggregate: &Aggregate) -> bool {
    let groups_by = |name: &str| {
        aggregate
            .group_expr
            .iter()
            .any(|e| match e.clone().unalias() {
                Expr::Column(column) => {
                    window_bound(&aggregate.input, &column) == Some(name.to_string())
                }
                _ => false,
            })
    };
    groups_by(WINDOW_START) && groups_by(WINDOW_END)
}

/// The bound of a windowing function that a column of `plan` is, through projections that only rename it.
fn window_bound(plan: &LogicalPlan, column: &Column) -> Option<String> {
    let at = plan.schema().maybe_index_of_column(column)?;
    match plan {
        LogicalPlan::Projection(projection) => match projection.expr.get(at)?.clone().unalias() {
            Expr::Column(inner) => window_bound(&projection.input, &inner),
            _ => None,
        },
        LogicalPlan::SubqueryAlias(alias) => {
            let inner = Column::from(alias.input.schema().qualified_field(at));
            window_bound(&alias.input, &inner)
        }
        LogicalPlan::Filter(filter) => window_bound(&filter.input, column),
        LogicalPlan::Extension(extension) => {
            let window = extension.node.as_any().downcast_ref::<WindowTvf>()?;
            let own = window.input().schema().fields().len();
            (at >= own && [WINDOW_START, WINDOW_END].contains(&column.name.as_str()))
                .then(|| column.name.clone())
        }
        _ => None,
    }
}

/// The job as text, each operator with the rows it emits.
pub(crate) fn explain_changelog(job: &JobPlan) -> String {
    let mut out = String::new();
    for sink in &job.sinks {
        let target = match &sink.target {
            SinkTarget::Table(table) => table.spec.name.as_str(),
            SinkTarget::Collect => "(collect)",
        };
        let _ = writeln!(
            out,
            "Sink: {target}, changelogMode={}",
            changelog_mode(&sink.plan)
        );
        node(&sink.plan, 1, &mut out);
    }
    out
}

fn node(plan: &LogicalPlan, depth: usize, out: &mut String) {
    let _ = writeln!(
        out,
        "{}{}, changelogMode={}",
        "  ".repeat(depth),
        plan.display(),
        changelog_mode(plan)
    );
    for input in plan.inputs() {
        node(input, depth + 1, out);
    }
}
