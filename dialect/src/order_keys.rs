//! `SELECT -k AS k FROM t ORDER BY k + 0`: a name by itself is that of the result's column, within an expression it is that of the table's, as in
//! PostgreSQL, DuckDB and SQLite. DataFusion takes the result's in both. A name that the table has not is the result's everywhere.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Column, Result};
use datafusion::logical_expr::{Expr, LogicalPlan, Projection, Sort};
use datafusion::sql::sqlparser::ast::{Expr as SqlExpr, OrderBy, OrderByKind, Query, SelectItem, SetExpr, Visitor};

use crate::streamable::unaliased;
use crate::syntax::normalised;
use crate::walk::{self, End, Flow};

/// Whether a query orders its rows by an expression with a name that it gives to something else.
pub(crate) fn has_name_of_result(query: &Query) -> bool {
    let Some(OrderBy { kind: OrderByKind::Expressions(keys), .. }) = &query.order_by else { return false };
    let SetExpr::Select(select) = query.body.as_ref() else { return false };
    let given = |item: &SelectItem| match item {
        SelectItem::ExprWithAlias { expr: SqlExpr::Identifier(name), alias } if normalised(name) == normalised(alias) => None,
        SelectItem::ExprWithAlias { alias, .. } => Some(normalised(alias)),
        _ => None,
    };
    let is_computed = |key: &SqlExpr| !matches!(key, SqlExpr::Identifier(_) | SqlExpr::CompoundIdentifier(_) | SqlExpr::Value(_));
    let mut computed = keys.iter().map(|key| &key.expr).filter(|key| is_computed(key)).peekable();
    if computed.peek().is_none() {
        return false;
    }
    let names: Vec<String> = select.projection.iter().filter_map(given).collect();
    !names.is_empty() && computed.any(|key| walk::finds(key, &mut OneOf(&names)))
}

struct OneOf<'a>(&'a [String]);

impl Visitor for OneOf<'_> {
    type Break = End;

    fn pre_visit_expr(&mut self, expr: &SqlExpr) -> Flow {
        match expr {
            SqlExpr::Identifier(name) if self.0.contains(&normalised(name)) => Flow::Break(End::Found),
            _ => Flow::Continue(()),
        }
    }
}

/// The plan with such names read as those of the tables.
pub(crate) fn with_names_of_input(plan: LogicalPlan) -> Result<LogicalPlan> {
    let sorted = |node| match node {
        LogicalPlan::Sort(sort) => sorted_by_input(sort),
        other => Ok(Transformed::no(other)),
    };
    plan.transform_up_with_subqueries(sorted).data()
}

fn sorted_by_input(mut sort: Sort) -> Result<Transformed<LogicalPlan>> {
    let LogicalPlan::Projection(projection) = sort.input.as_ref() else { return Ok(Transformed::no(LogicalPlan::Sort(sort))) };
    let mut exprs = projection.expr.clone();
    let own = exprs.len();
    for key in &mut sort.expr {
        if matches!(key.expr, Expr::Column(_)) {
            continue;
        }
        let read = std::mem::take(&mut key.expr).transform_up(|part| {
            let Expr::Column(column) = &part else { return Ok(Transformed::no(part)) };
            let Some(meant) = of_input(column, projection) else { return Ok(Transformed::no(part)) };
            let name = format!("__key_{}", exprs.len() - own + 1);
            exprs.push(Expr::Column(meant).alias(name.clone()));
            Ok(Transformed::yes(Expr::Column(Column::from_name(name))))
        });
        key.expr = read.data()?;
    }
    if exprs.len() == own {
        return Ok(Transformed::no(LogicalPlan::Sort(sort)));
    }
    let columns = projection.schema.columns().into_iter().map(Expr::Column).collect();
    let input = LogicalPlan::Projection(Projection::try_new(exprs, Arc::clone(&projection.input))?);
    let sorted = LogicalPlan::Sort(Sort { input: Arc::new(input), ..sort });
    Ok(Transformed::yes(LogicalPlan::Projection(Projection::try_new(columns, Arc::new(sorted))?)))
}

/// The one column of a projection's input that has the name of a column of its result which is something else.
fn of_input(column: &Column, projection: &Projection) -> Option<Column> {
    if column.relation.is_some() {
        return None;
    }
    let result = projection.expr.get(projection.schema.maybe_index_of_column(column)?)?;
    let input = projection.input.schema();
    let mut found = input.iter().filter(|(_, field)| *field.name() == column.name).map(Column::from);
    let (Some(meant), None) = (found.next(), found.next()) else { return None };
    (*unaliased(result) != Expr::Column(meant.clone())).then_some(meant)
}
