//! What DataFusion's rules must not move. Filters are moved to where rows are read by the names of columns as well as by their places. Where a plan has
//! two columns of one name, as joins have, DataFusion moves some to the wrong one: `WHERE l.name IS NULL` of a join would filter `r.name`. A fence keeps
//! them above. Parts of a join's condition are moved to its sides, and computed for all rows of these: `ON n <> 0 AND 10 / n > m`. A condition that guards
//! what comes after it is sealed.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, internal_err};
use datafusion::config::ConfigOptions;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::joins::NestedLoopJoinExec;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, replace_children_if_necessary};

use crate::in_order::guards;

/// DataFusion's rules; those that move filters and what is computed, with fences and seals while they do.
pub(crate) fn fenced(rules: Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>>) -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let fence = |rule: Arc<dyn PhysicalOptimizerRule + Send + Sync>| match rule.name() {
        name if name.starts_with("FilterPushdown") => Arc::new(Fenced(rule)) as _,
        "ProjectionPushdown" => Arc::new(Sealing(rule)) as _,
        _ => rule,
    };
    rules.into_iter().map(fence).collect()
}

#[derive(Debug)]
struct Fenced(Arc<dyn PhysicalOptimizerRule + Send + Sync>);

impl PhysicalOptimizerRule for Fenced {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let enclosed = plan.transform_up(|node| match has_one_name_twice(node.as_ref()) {
            true => Ok(Transformed::yes(Arc::new(Fence(node)) as _)),
            false => Ok(Transformed::no(node)),
        })?;
        let moved = self.0.optimize(enclosed.data, config)?;
        if !enclosed.transformed {
            return Ok(moved);
        }
        moved
            .transform_up(|node| match node.downcast_ref::<Fence>() {
                Some(Fence(inner)) => Ok(Transformed::yes(Arc::clone(inner))),
                None => Ok(Transformed::no(node)),
            })
            .data()
    }

    fn name(&self) -> &str {
        self.0.name()
    }

    fn schema_check(&self) -> bool {
        self.0.schema_check()
    }
}

fn has_one_name_twice(plan: &dyn ExecutionPlan) -> bool {
    let schema = plan.schema();
    let mut names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    names.sort_unstable();
    names.windows(2).any(|pair| pair[0] == pair[1])
}

/// Lets no filter pass.
#[derive(Debug)]
struct Fence(Arc<dyn ExecutionPlan>);

impl DisplayAs for Fence {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Fence")
    }
}

impl ExecutionPlan for Fence {
    fn name(&self) -> &str {
        "Fence"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.0.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.0]
    }

    fn apply_expressions(&self, _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        match (children.pop(), children.is_empty()) {
            (Some(input), true) => Ok(Arc::new(Self(input))),
            _ => internal_err!("Fence takes one input"),
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        self.0.execute(partition, context)
    }
}

#[derive(Debug)]
struct Sealing(Arc<dyn PhysicalOptimizerRule + Send + Sync>);

impl PhysicalOptimizerRule for Sealing {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let sealed = plan.transform_up(|node| {
            let condition = node.downcast_ref::<NestedLoopJoinExec>().and_then(NestedLoopJoinExec::filter);
            match condition.is_some_and(|condition| guards(condition.expression())) {
                true => Ok(Transformed::yes(Arc::new(Sealed(node)) as _)),
                false => Ok(Transformed::no(node)),
            }
        })?;
        let moved = self.0.optimize(sealed.data, config)?;
        if !sealed.transformed {
            return Ok(moved);
        }
        moved
            .transform_up(|node| match node.downcast_ref::<Sealed>() {
                Some(Sealed(inner)) => Ok(Transformed::yes(Arc::clone(inner))),
                None => Ok(Transformed::no(node)),
            })
            .data()
    }

    fn name(&self) -> &str {
        self.0.name()
    }

    fn schema_check(&self) -> bool {
        self.0.schema_check()
    }
}

/// A join that is not known for one.
#[derive(Debug)]
struct Sealed(Arc<dyn ExecutionPlan>);

impl DisplayAs for Sealed {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealed")
    }
}

impl ExecutionPlan for Sealed {
    fn name(&self) -> &str {
        "Sealed"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.0.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        self.0.children()
    }

    fn apply_expressions(&self, _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Self(replace_children_if_necessary(Arc::clone(&self.0), children)?)))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        self.0.execute(partition, context)
    }
}
