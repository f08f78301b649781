//! Batch execution of [`WindowAssign`](super::WindowAssign): keeps no state, output is cut to the session's batch size.

use std::fmt;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::compute::{cast, take_record_batch};
use arrow::datatypes::{SchemaRef, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;
use datafusion::common::Result;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, Partitioning, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{ExecutionPlan, ExecutionPlanProperties, PlanProperties};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet, RecordOutput};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType};
use futures::{StreamExt, TryStreamExt, stream};

use super::{WindowKind, assign};
use crate::event_time_type;

#[derive(Debug)]
pub struct WindowAssignExec {
    input: Arc<dyn ExecutionPlan>,
    time_index: usize,
    kind: WindowKind,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl WindowAssignExec {
    /// `schema` is the input's schema plus the window columns.
    pub fn new(input: Arc<dyn ExecutionPlan>, time_index: usize, kind: WindowKind, schema: SchemaRef) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(input.output_partitioning().partition_count()),
            input.pipeline_behavior(),
            input.boundedness(),
        );
        Self { input, time_index, kind, properties: Arc::new(properties), metrics: ExecutionPlanMetricsSet::new() }
    }
}

/// Appends the window columns to a batch, multiplying rows as needed. `schema` is the batch's schema plus the window columns.
fn append_windows(batch: &RecordBatch, time_index: usize, kind: &WindowKind, schema: SchemaRef) -> Result<RecordBatch> {
    let times = cast(batch.column(time_index), &event_time_type())?;
    let assigned = assign(times.as_primitive::<TimestampMicrosecondType>(), kind);
    let mut columns = match &assigned.rows {
        None => batch.columns().to_vec(),
        Some(rows) => take_record_batch(batch, rows)?.columns().to_vec(),
    };
    let time = assigned.time();
    columns.extend([assigned.start, assigned.end, time]);
    Ok(RecordBatch::try_new(schema, columns)?)
}

impl DisplayAs for WindowAssignExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "WindowAssignExec: {} time={}", self.kind, self.input.schema().field(self.time_index).name())
    }
}

impl ExecutionPlan for WindowAssignExec {
    fn name(&self) -> &str {
        "WindowAssignExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(&self, _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        match (children.pop(), children.is_empty()) {
            (Some(input), true) => Ok(Arc::new(Self::new(input, self.time_index, self.kind, self.schema()))),
            _ => datafusion::common::internal_err!("WindowAssignExec takes one input"),
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let input = self.input.execute(partition, context.clone())?;
        let (schema, kind, time_index) = (self.schema(), self.kind, self.time_index);
        let rows_at_once = (context.session_config().batch_size() / kind.windows_per_row().max(1) as usize).max(1);
        let out_schema = schema.clone();
        let batches = input.map_ok(move |batch| {
            let (schema, metrics) = (schema.clone(), metrics.clone());
            let pieces = (0..batch.num_rows()).step_by(rows_at_once).map(move |from| {
                let _timer = metrics.elapsed_compute().timer();
                let piece = batch.slice(from, rows_at_once.min(batch.num_rows() - from));
                Ok(append_windows(&piece, time_index, &kind, schema.clone())?.record_output(&metrics))
            });
            stream::iter(pieces)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(out_schema, batches.try_flatten().boxed())))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}
