//! Steps of a plan that hold all of their rows and account for none: the memory of queries accounts for them here.

use std::fmt;
use std::sync::Arc;

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, internal_err};
use datafusion::error::DataFusionError;
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::windows::WindowAggExec;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, replace_children_if_necessary};
use futures::StreamExt;

use crate::pieces::row_bytes;

/// The step, above inputs that are accounted for if it holds them.
pub(crate) fn accounted(node: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    if !node.is::<WindowAggExec>() {
        return Ok(node);
    }
    let inputs = node.children().into_iter().map(|input| Arc::new(HeldInput { input: Arc::clone(input) }) as Arc<dyn ExecutionPlan>);
    let inputs = inputs.collect();
    replace_children_if_necessary(node, inputs)
}

/// Rows of which each is there until all have been taken and what they are taken for has ended.
#[derive(Debug)]
struct HeldInput {
    input: Arc<dyn ExecutionPlan>,
}

impl DisplayAs for HeldInput {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("HeldInputExec")
    }
}

impl ExecutionPlan for HeldInput {
    fn name(&self) -> &str {
        "HeldInputExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(&self, _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        match (children.pop(), children.is_empty()) {
            (Some(input), true) => Ok(Arc::new(Self { input })),
            _ => internal_err!("it has one input"),
        }
    }

    fn execute(&self, partition: usize, task: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let held = MemoryConsumer::new("window").register(task.memory_pool());
        let rows = self.input.execute(partition, task)?;
        let schema = rows.schema();
        let rows = rows.map(move |batch| {
            let batch = batch?;
            held.try_grow(row_bytes(&batch))?;
            Ok::<_, DataFusionError>(batch)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
    }
}
