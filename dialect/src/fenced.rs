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
        name if name.starts_with("FilterPushdown") => Arc::new(Enclosing { rule, enclosed: in_fence }) as _,
        "ProjectionPushdown" => Arc::new(Enclosing { rule, enclosed: in_seal }) as _,
        _ => rule,
    };
    rules.into_iter().map(fence).collect()
}

type Node = Arc<dyn ExecutionPlan>;

/// A rule that runs while some nodes of the plan are enclosed.
#[derive(Debug)]
struct Enclosing {
    rule: Arc<dyn PhysicalOptimizerRule + Send + Sync>,
    /// What encloses a node; `None` if nothing need.
    enclosed: fn(&Node) -> Option<Node>,
}

impl PhysicalOptimizerRule for Enclosing {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let enclosed = plan.transform_up(|node| Ok(replaced((self.enclosed)(&node), node)))?;
        let moved = self.rule.optimize(enclosed.data, config)?;
        if !enclosed.transformed {
            return Ok(moved);
        }
        let open = |node: &Node| {
            let fenced = node.downcast_ref::<Fence>().map(|Fence(inner)| Arc::clone(inner));
            fenced.or_else(|| node.downcast_ref::<Sealed>().map(|Sealed(inner)| Arc::clone(inner)))
        };
        moved.transform_up(|node| Ok(replaced(open(&node), node))).data()
    }

    fn name(&self) -> &str {
        self.rule.name()
    }

    fn schema_check(&self) -> bool {
        self.rule.schema_check()
    }
}

fn replaced(by: Option<Node>, node: Node) -> Transformed<Node> {
    by.map_or_else(|| Transformed::no(node), Transformed::yes)
}

fn in_fence(node: &Node) -> Option<Node> {
    has_one_name_twice(node.as_ref()).then(|| Arc::new(Fence(Arc::clone(node))) as _)
}

fn in_seal(node: &Node) -> Option<Node> {
    let condition = node.downcast_ref::<NestedLoopJoinExec>()?.filter()?;
    guards(condition.expression()).then(|| Arc::new(Sealed(Arc::clone(node))) as _)
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
