//! Which columns of a plan determine which others. DataFusion notes it beside each plan, leaves out DISTINCT where rows are unique by it, and keys
//! of GROUP BY that others determine.
//!
//! What it notes of an aggregate is wrong where a key was unique before a join: it takes it for unique again, and all columns for determined by it,
//! whatever other keys there are. Here such a note is taken back, while a statement is planned and before each rule that believes it.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Dependency, FunctionalDependencies, Result};
use datafusion::logical_expr::{Aggregate, Distinct, Expr, LogicalPlan, Projection};
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

/// The rules of DataFusion that believe the notes.
pub(crate) const BELIEVERS: [&str; 2] = ["eliminate_join", "optimize_projections"];

/// The rule that takes wrong notes back.
#[derive(Debug)]
pub(crate) struct Unique;

impl OptimizerRule for Unique {
    fn name(&self) -> &str {
        "unique"
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        match has_wrong_notes(&plan)? {
            true => corrected(plan),
            false => Ok(Transformed::no(plan)),
        }
    }
}

/// DISTINCT as an aggregate: whether rows are unique is seen in the plan itself.
pub(crate) fn distinct(input: &Arc<LogicalPlan>) -> Result<LogicalPlan> {
    let keys: Vec<Expr> = input.schema().columns().into_iter().map(Expr::Column).collect();
    if let LogicalPlan::Aggregate(aggregate) = input.as_ref()
        && aggregate.aggr_expr.is_empty()
        && aggregate.group_expr.len() == keys.len()
    {
        return Ok(input.as_ref().clone());
    }
    Ok(LogicalPlan::Aggregate(Aggregate::try_new(Arc::clone(input), keys, vec![])?))
}

/// DISTINCT of all columns, of which there is one.
pub(crate) fn is_distinct(plan: &LogicalPlan) -> Option<&Arc<LogicalPlan>> {
    match plan {
        LogicalPlan::Distinct(Distinct::All(input)) if !input.schema().fields().is_empty() => Some(input),
        _ => None,
    }
}

/// A plan in FROM without notes, if some of them are wrong: the keys of a GROUP BY over it are those that are written.
pub(crate) fn without_wrong_notes(plan: LogicalPlan) -> Result<LogicalPlan> {
    if !has_wrong_notes(&plan)? {
        return Ok(plan);
    }
    let schema = Arc::new(plan.schema().as_ref().clone().with_functional_dependencies(FunctionalDependencies::empty())?);
    let columns = plan.schema().columns().into_iter().map(Expr::Column).collect();
    Ok(LogicalPlan::Projection(Projection::try_new_with_schema(columns, Arc::new(plan), schema)?))
}

fn has_wrong_notes(plan: &LogicalPlan) -> Result<bool> {
    let mut found = false;
    plan.apply_with_subqueries(|node| {
        found |= matches!(node, LogicalPlan::Aggregate(aggregate) if had_unique_keys(aggregate.input.schema()));
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}

/// True for the columns of a join with a side whose rows are unique by some of them.
fn had_unique_keys(schema: &DFSchema) -> bool {
    schema.functional_dependencies().iter().any(|note| note.mode == Dependency::Multi)
}

/// The plan, and all above what changes, with notes that are right.
fn corrected(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let plan = plan.map_subqueries(corrected)?;
    let within = plan.transformed;
    let plan = plan.data.map_children(corrected)?;
    let changed = within || plan.transformed;
    let plan = if plan.transformed { plan.data.recompute_schema()? } else { plan.data };
    match plan {
        LogicalPlan::Aggregate(mut aggregate) if had_unique_keys(aggregate.input.schema()) => {
            let keys: Vec<usize> = (0..aggregate.group_expr_len()?).collect();
            let notes = aggregate.schema.functional_dependencies();
            let right = notes.iter().filter(|note| note.source_indices == keys && note.mode == Dependency::Single).cloned().collect();
            let schema = aggregate.schema.as_ref().clone().with_functional_dependencies(FunctionalDependencies::new(right))?;
            // Whatever makes an aggregate notes it again.
            aggregate.schema = Arc::new(schema);
            Ok(Transformed::yes(LogicalPlan::Aggregate(aggregate)))
        }
        plan => Ok(Transformed::new_transformed(plan, changed)),
    }
}
