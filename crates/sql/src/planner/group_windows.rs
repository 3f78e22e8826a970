//! The older way to write windows, `GROUP BY TUMBLE(ts, INTERVAL …)` with `TUMBLE_START`, `TUMBLE_END` and `TUMBLE_ROWTIME`, said with the
//! table-valued function. `HOP` likewise.

use std::ops::ControlFlow;

use datafusion_common::{Result, plan_err};
use sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments,
    GroupByExpr, Ident, ObjectName, Select, SelectItem, TableAlias, TableFactor,
    visit_expressions_mut,
};

use crate::logical::{WINDOW_END, WINDOW_START, WINDOW_TIME};

/// Rewrites a SELECT that groups by a window function; others are left as they are.
pub(super) fn rewrite_group_window(select: &mut Select) -> Result<()> {
    let GroupByExpr::Expressions(keys, _) = &mut select.group_by else {
        return Ok(());
    };
    let Some((at, window)) = keys
        .iter()
        .enumerate()
        .find_map(|(i, key)| Some((i, GroupWindow::of(key)?)))
    else {
        return Ok(());
    };
    if window.name == "SESSION" {
        return plan_err!("GROUP BY SESSION(…) is not supported yet; there are TUMBLE and HOP");
    }
    let [from] = select.from.as_mut_slice() else {
        return plan_err!("GROUP BY {}(…) takes one table in FROM", window.name);
    };
    if !from.joins.is_empty() {
        return plan_err!(
            "GROUP BY {}(…) over a join is not supported; put the join into a view",
            window.name
        );
    }
    let (data, alias) = match &from.relation {
        TableFactor::Table {
            name,
            alias,
            args: None,
            ..
        } => {
            let parts: Vec<Ident> = name
                .0
                .iter()
                .filter_map(|part| part.as_ident().cloned())
                .collect();
            let own = parts.last().cloned();
            let data = Expr::Prefixed {
                prefix: Ident::new("TABLE"),
                value: Box::new(Expr::CompoundIdentifier(parts)),
            };
            (data, alias.clone().or_else(|| own.map(plain_alias)))
        }
        TableFactor::Derived {
            subquery, alias, ..
        } => (Expr::Subquery(subquery.clone()), alias.clone()),
        _ => {
            return plan_err!(
                "GROUP BY {}(…) takes a table or a subquery in FROM",
                window.name
            );
        }
    };
    let mut args = vec![
        data,
        call("DESCRIPTOR", vec![Expr::Identifier(window.time.clone())]),
    ];
    args.extend(window.lengths.iter().cloned());
    from.relation = TableFactor::TableFunction {
        expr: call(&window.name, args),
        alias,
    };
    let mut uses_time = false;
    let mut replace = |expr: &mut Expr| {
        if let Some(bound) = window.bound(expr) {
            uses_time |= bound == WINDOW_TIME;
            *expr = Expr::Identifier(Ident::new(bound));
        }
        ControlFlow::<()>::Continue(())
    };
    for item in &mut select.projection {
        // The columns keep the names that their calls would have had.
        let _ = match item {
            SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => {
                visit_expressions_mut(expr, &mut replace)
            }
            _ => ControlFlow::Continue(()),
        };
    }
    if let Some(having) = &mut select.having {
        let _ = visit_expressions_mut(having, &mut replace);
    }
    let mut bounds = vec![WINDOW_START, WINDOW_END];
    if uses_time {
        bounds.push(WINDOW_TIME);
    }
    keys.splice(
        at..=at,
        bounds
            .into_iter()
            .map(|bound| Expr::Identifier(Ident::new(bound))),
    );
    Ok(())
}

/// `TUMBLE(ts, size)` or `HOP(ts, slide, size)` in GROUP BY.
struct GroupWindow {
    name: String,
    time: Ident,
    lengths: Vec<Expr>,
}

impl GroupWindow {
    fn of(key: &Expr) -> Option<Self> {
        let (name, args) = named_call(key)?;
        if !["TUMBLE", "HOP", "SESSION"].contains(&name.as_str()) {
            return None;
        }
        let (time, lengths) = args.split_first()?;
        let time = match time {
            Expr::Identifier(column) => column.clone(),
            Expr::CompoundIdentifier(parts) => parts.last()?.clone(),
            _ => return None,
        };
        Some(Self {
            name,
            time,
            lengths: lengths.to_vec(),
        })
    }

    /// The window column that `TUMBLE_START(ts, size)` and its like stand for, if they speak of this window.
    fn bound(&self, expr: &Expr) -> Option<&'static str> {
        let (name, _) = named_call(expr)?;
        match name.strip_prefix(&self.name)? {
            "_START" => Some(WINDOW_START),
            "_END" => Some(WINDOW_END),
            "_ROWTIME" => Some(WINDOW_TIME),
            _ => None,
        }
    }
}

/// Name in capitals and arguments of a plain call.
fn named_call(expr: &Expr) -> Option<(String, Vec<Expr>)> {
    let Expr::Function(function) = expr else {
        return None;
    };
    let FunctionArguments::List(list) = &function.args else {
        return None;
    };
    let args = list.args.iter().map(|arg| match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
        _ => None,
    });
    Some((
        function.name.to_string().to_ascii_uppercase(),
        args.collect::<Option<_>>()?,
    ))
}

fn plain_alias(name: Ident) -> TableAlias {
    TableAlias {
        explicit: true,
        name,
        columns: Vec::new(),
        at: None,
    }
}

/// A plain call.
pub(super) fn call(name: &str, args: Vec<Expr>) -> Expr {
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args: args
                .into_iter()
                .map(|e| FunctionArg::Unnamed(FunctionArgExpr::Expr(e)))
                .collect(),
            clauses: Vec::new(),
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}
