//! INTERSECT ALL and EXCEPT ALL count how often a row comes: `n` and `m` times on the two sides make `min(n, m)` and `max(n − m, 0)` rows.
//!
//! DataFusion plans both as a semi or anti join over all columns, which only asks whether a row comes. Here equal rows are numbered on both sides,
//! and the number takes part in the join: the third of a kind meets the third of its kind.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TransformedResult};
use datafusion::common::{Column, NullEquality, Result};
use datafusion::functions_window::row_number::row_number;
use datafusion::logical_expr::{Expr, ExprFunctionExt, Join, JoinType, LogicalPlan, LogicalPlanBuilder};

/// The plan with every INTERSECT ALL and EXCEPT ALL in it, also in its subqueries, counting rows.
pub(crate) fn with_rows_counted(plan: LogicalPlan) -> Result<LogicalPlan> {
    plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Join(join) if is_multiset(&join) => counted(join).map(Transformed::yes),
        other => Ok(Transformed::no(other)),
    })
    .data()
}

/// Before any rule has run, only set operations join so. Those without ALL begin with distinct rows, each of which comes once.
fn is_multiset(join: &Join) -> bool {
    matches!(join.join_type, JoinType::LeftSemi | JoinType::LeftAnti)
        && join.null_equality == NullEquality::NullEqualsNull
        && !matches!(*join.left, LogicalPlan::Distinct(_))
}

fn counted(join: Join) -> Result<LogicalPlan> {
    let columns = join.left.schema().columns();
    let (mut lefts, mut rights): (Vec<Expr>, Vec<Expr>) = join.on.into_iter().unzip();
    let (left, number) = numbered(&join.left, "__left_nth", &lefts)?;
    lefts.push(number);
    let (right, number) = numbered(&join.right, "__right_nth", &rights)?;
    rights.push(number);
    let on = lefts.into_iter().zip(rights).collect();
    let join = Join::try_new(left, right, on, join.filter, join.join_type, join.join_constraint, join.null_equality, false)?;
    LogicalPlanBuilder::from(LogicalPlan::Join(join)).project(columns.into_iter().map(Expr::Column))?.build()
}

/// The rows with a column that numbers those with equal `keys`.
fn numbered(input: &Arc<LogicalPlan>, name: &str, keys: &[Expr]) -> Result<(Arc<LogicalPlan>, Expr)> {
    let number = row_number().partition_by(keys.to_vec()).build()?.alias(name);
    let plan = LogicalPlanBuilder::from(Arc::clone(input)).window([number])?.build()?;
    Ok((Arc::new(plan), Expr::Column(Column::from_name(name))))
}
