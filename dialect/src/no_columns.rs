//! Rows without columns are all equal, so that any order is theirs. Arrow cannot sort them: it forgets how many there are.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::config::ConfigOptions;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::sorts::sort::SortExec;

/// The rule that leaves such sorts out. It runs when no other asks for an order.
#[derive(Debug)]
pub(crate) struct NoColumns;

impl PhysicalOptimizerRule for NoColumns {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let unsorted = |node: Arc<dyn ExecutionPlan>| match node.downcast_ref::<SortExec>() {
            Some(sort) if sort.fetch().is_none() && sort.input().schema().fields().is_empty() => {
                Ok(Transformed::yes(Arc::clone(sort.input())))
            }
            _ => Ok(Transformed::no(node)),
        };
        plan.transform_up(unsorted).data()
    }

    fn name(&self) -> &str {
        "no_columns"
    }

    fn schema_check(&self) -> bool {
        true
    }
}
