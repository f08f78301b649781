//! How long planning may take. The limits of [`bounds`](crate::bounds) keep it within seconds; a statement that they let through and that takes
//! longer all the same ends here, by name, between two steps of a rule.
//!
//! Only the time that a thread spends on planning counts, not the time that planning waits for the warehouse.

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, NullEquality, Result, plan_err};
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{BinaryExpr, Expr, JoinType, LogicalPlan, Operator, when};
use datafusion::optimizer::optimizer::ApplyOrder;
use datafusion::optimizer::{Optimizer, OptimizerConfig, OptimizerRule};

use crate::accumulators::Accumulators;
use crate::unique::{self, BELIEVERS, Unique};
use crate::value_sets::ValueSets;

/// Some ten times what the largest statements need on a busy machine.
const PLANNING_MAX: Duration = Duration::from_secs(30);

/// Rules that take fields of structs out where tables are read. They, or the rules after them, fail over some plans with names that two inputs
/// of a join have; the plan is right without.
const FORGONE: [&str; 2] = ["extract_leaf_expressions", "push_down_leaf_projections"];

/// Nodes of a plan, and of its expressions, up to which it is optimised within milliseconds.
const BRIEF_NODES_MAX: usize = 500;

/// Whether a plan is so small that the rest of planning is brief.
pub fn is_brief(plan: &LogicalPlan) -> bool {
    let mut nodes = 0;
    let mut counted = || {
        nodes += 1;
        if nodes > BRIEF_NODES_MAX { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue }
    };
    let walked = plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| expr.apply(|_| Ok(counted())))?;
        Ok(counted())
    });
    walked.is_ok() && nodes <= BRIEF_NODES_MAX
}

thread_local! {
    /// When the planning that this thread works on would have begun, had it never waited.
    static BEGAN: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Runs a part of planning that has taken `spent` before; adds what this part takes. A part of a part counts once.
pub(crate) fn counted<R>(spent: &mut Duration, part: impl FnOnce() -> R) -> R {
    if BEGAN.get().is_some() {
        return part();
    }
    /// The thread is free for another statement also where this one panics.
    struct Ends;
    impl Drop for Ends {
        fn drop(&mut self) {
            BEGAN.set(None);
        }
    }
    let now = Instant::now();
    BEGAN.set(now.checked_sub(*spent));
    let ends = Ends;
    let result = part();
    drop(ends);
    *spent += now.elapsed();
    result
}

/// DataFusion's rules, each of which ends when planning has taken too long, ours before those that would make mistakes, and a last look.
pub(crate) fn timed_rules() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    let mut rules: Vec<Arc<dyn OptimizerRule + Send + Sync>> = Vec::new();
    for rule in Optimizer::new().rules {
        match rule.name() {
            "simplify_expressions" => rules.push(Arc::new(ValueSets)),
            name if BELIEVERS.contains(&name) => rules.push(Arc::new(Unique)),
            _ => {}
        }
        rules.push(Arc::new(Timed(rule)));
    }
    rules.push(Arc::new(Accumulators));
    rules
}

/// True for a condition that names no column, over an aggregate that has a row even of no rows: moved below it, it would take away what is
/// aggregated, and leave that row.
fn keeps_its_place(plan: &LogicalPlan) -> bool {
    let LogicalPlan::Filter(filter) = plan else { return false };
    let LogicalPlan::Aggregate(aggregate) = filter.input.as_ref() else { return false };
    let has_row = aggregate.group_expr.is_empty() || aggregate.group_expr.iter().any(|key| matches!(key, Expr::GroupingSet(_)));
    has_row && split_conjunction(&filter.predicate).into_iter().any(|condition| condition.column_refs().is_empty())
}

/// Whether a projection says of which table a computed column is, as it does in the place of an outer join with a table that gives no rows.
fn names_tables(plan: &LogicalPlan) -> bool {
    let LogicalPlan::Projection(projection) = plan else { return false };
    projection.expr.iter().any(|expr| matches!(expr, Expr::Alias(alias) if alias.relation.is_some()))
}

/// Whether some inner join has keys of which NULL equals NULL, `ON a.x IS NOT DISTINCT FROM b.x`. The rule that puts such joins and their neighbours into
/// another order gives all of them keys of one kind; conditions with `=` must not become keys of such a join, either.
fn joins_on_null(plan: &LogicalPlan) -> Result<bool> {
    let mut found = false;
    plan.apply_with_subqueries(|node| {
        found = matches!(node, LogicalPlan::Join(join) if join.join_type == JoinType::Inner && join.null_equality == NullEquality::NullEqualsNull);
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}

/// `ON a.n <> 0 AND 10 / a.n = b.m`, where the rows of `a` for which it is false stay: what is to become a key of the join is NULL for those, and not
/// computed. A key that is NULL is equal to none.
fn with_keys_guarded(plan: LogicalPlan) -> Result<LogicalPlan> {
    let LogicalPlan::Join(mut join) = plan else { return Ok(plan) };
    let (left, right) = match join.join_type {
        JoinType::Left | JoinType::LeftAnti | JoinType::LeftMark => (true, false),
        JoinType::Right | JoinType::RightAnti | JoinType::RightMark => (false, true),
        JoinType::Full => (true, true),
        // Conditions of one side alone are moved below the join.
        JoinType::Inner | JoinType::LeftSemi | JoinType::RightSemi => (false, false),
    };
    let conditions = join.filter.as_ref().map(split_conjunction).unwrap_or_default();
    let may_be_key = |condition: &Expr| matches!(condition, Expr::BinaryExpr(sides) if sides.op == Operator::Eq && (may_fail(&sides.left) || may_fail(&sides.right)));
    if !(left || right) || join.null_equality == NullEquality::NullEqualsNull || !conditions.iter().any(|condition| may_be_key(condition)) {
        return Ok(LogicalPlan::Join(join));
    }
    let sides: Vec<&DFSchema> = [(left, &join.left), (right, &join.right)]
        .into_iter()
        .filter(|(stays, _)| *stays)
        .map(|(_, side)| side.schema().as_ref())
        .collect();
    let is_of = |expr: &Expr, side: &DFSchema| {
        let columns = expr.column_refs();
        !columns.is_empty() && columns.into_iter().all(|column| side.has_column(column))
    };
    let mut guarded: Vec<Expr> = Vec::with_capacity(conditions.len());
    for (at, condition) in conditions.iter().enumerate() {
        let mut condition = (*condition).clone();
        if may_be_key(&condition)
            && let Expr::BinaryExpr(BinaryExpr { left, right, .. }) = &mut condition
        {
            for part in [left, right] {
                if matches!(part.as_ref(), Expr::Case(_)) || !may_fail(part) {
                    continue;
                }
                let Some(side) = sides.iter().find(|side| is_of(part, side)) else { continue };
                let before = conditions[..at].iter().filter(|condition| is_of(condition, side)).map(|condition| (*condition).clone());
                if let Some(guard) = conjunction(before) {
                    **part = when(guard, std::mem::take(part.as_mut())).end()?;
                }
            }
        }
        guarded.push(condition);
    }
    join.filter = conjunction(guarded);
    Ok(LogicalPlan::Join(join))
}

/// Whether an expression computes something that may fail.
fn may_fail(expr: &Expr) -> bool {
    let found = expr.exists(|part| {
        Ok(match part {
            Expr::BinaryExpr(sides) => sides.op.is_numerical_operators(),
            Expr::Cast(_) | Expr::ScalarFunction(_) => true,
            _ => false,
        })
    });
    found.unwrap_or(true)
}

#[derive(Debug)]
struct Timed(Arc<dyn OptimizerRule + Send + Sync>);

impl OptimizerRule for Timed {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        if BEGAN.get().is_some_and(|began| began.elapsed() > PLANNING_MAX) {
            return plan_err!(
                "planning the statement takes longer than {} s; split it: keep a part of it as a materialized view, or ask for fewer columns",
                PLANNING_MAX.as_secs()
            );
        }
        if self.0.name() == "push_down_filter" && keeps_its_place(&plan) {
            return Ok(Transformed::no(plan));
        }
        if self.0.name() == "eliminate_cross_join" && joins_on_null(&plan)? {
            return Ok(Transformed::no(plan));
        }
        if self.0.name() == "extract_equijoin_predicate"
            && matches!(&plan, LogicalPlan::Join(join) if join.null_equality == NullEquality::NullEqualsNull)
        {
            return Ok(Transformed::no(plan));
        }
        if self.0.name() == "replace_distinct_aggregate"
            && let Some(input) = unique::is_distinct(&plan)
        {
            return Ok(Transformed::yes(unique::distinct(input)?));
        }
        if FORGONE.contains(&self.0.name()) {
            if plan.exists(|node| Ok(matches!(node, LogicalPlan::Join(_)) || names_tables(node)))? {
                return Ok(Transformed::no(plan));
            }
            let before = plan.clone();
            return Ok(self.0.rewrite(plan, config).unwrap_or_else(|_| Transformed::no(before)));
        }
        let plan = if self.0.name() == "extract_equijoin_predicate" { with_keys_guarded(plan)? } else { plan };
        self.0.rewrite(plan, config)
    }
}

#[cfg(test)]
mod tests {
    use datafusion::prelude::SessionContext;

    use super::*;
    use crate::{session_config, session_state};

    #[tokio::test]
    async fn planning_that_takes_too_long_ends_by_name() {
        let ctx = SessionContext::new_with_state(session_state(session_config(), None));
        let plan = crate::plan_text(&ctx, "SELECT 1 + v FROM (VALUES (1)) AS t(v) WHERE v > 0").await.unwrap();
        let optimized = |spent: Duration| {
            let mut spent = spent;
            let result = counted(&mut spent, || ctx.state().optimize(&plan));
            (result.map_err(|error| error.to_string()), spent)
        };
        let (result, spent) = optimized(Duration::from_secs(1));
        assert!(result.is_ok() && spent > Duration::from_secs(1), "{result:?} {spent:?}");
        let (result, _) = optimized(PLANNING_MAX);
        assert!(result.unwrap_err().contains("takes longer than 30 s"));
        let panicked = std::panic::catch_unwind(|| counted(&mut PLANNING_MAX.clone(), || panic!("a rule does")));
        assert!(panicked.is_err() && BEGAN.get().is_none(), "the thread's next statement has all its time");
    }
}
