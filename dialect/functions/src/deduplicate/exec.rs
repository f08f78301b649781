//! Batch execution of [`Deduplicate`](super::Deduplicate): asks for its input by key and in order, keeps the last row's key and time.

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
use arrow::compute::{cast, filter_record_batch};
use arrow::datatypes::TimestampMicrosecondType;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{Distribution, EquivalenceProperties, LexOrdering, OrderingRequirements, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::execution_plan::{EmissionType, ExecutionPlan, ExecutionPlanProperties, PlanProperties};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet, RecordOutput};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, InputDistributionRequirements};
use futures::StreamExt;

use super::{KeepFirst, ORDER};
use crate::event_time_type;
use crate::numbers::{has_variants, one_key, physical_key};
use crate::window::Us;

#[derive(Debug)]
pub struct DeduplicateExec {
    input: Arc<dyn ExecutionPlan>,
    key_indices: Vec<usize>,
    time_index: usize,
    within_us: i64,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl DeduplicateExec {
    pub fn new(input: Arc<dyn ExecutionPlan>, key_indices: Vec<usize>, time_index: usize, within_us: i64) -> Self {
        // The input is sorted first, so nothing comes out before all came in.
        let properties = PlanProperties::new(
            EquivalenceProperties::new(input.schema()),
            input.output_partitioning().clone(),
            EmissionType::Final,
            input.boundedness(),
        );
        Self { input, key_indices, time_index, within_us, properties: Arc::new(properties), metrics: ExecutionPlanMetricsSet::new() }
    }

    fn column(&self, index: usize) -> Arc<dyn PhysicalExpr> {
        Arc::new(Column::new(self.input.schema().field(index).name(), index))
    }

    /// The keys, each one value where it is equal.
    fn keys(&self) -> impl Iterator<Item = Arc<dyn PhysicalExpr>> {
        self.key_indices.iter().map(|i| physical_key(self.column(*i), &self.input.schema()))
    }

    /// Keys, then time, then all columns in which rows of one key can differ.
    fn ordering(&self) -> Option<LexOrdering> {
        let schema = self.input.schema();
        let told_by_key = |i: &usize| self.key_indices.contains(i) && !has_variants(schema.field(*i).data_type());
        let others = (0..schema.fields().len()).filter(|i| *i != self.time_index && !told_by_key(i));
        let columns = [self.time_index].into_iter().chain(others).map(|i| self.column(i));
        LexOrdering::new(self.keys().chain(columns).map(|column| PhysicalSortExpr::new(column, ORDER)))
    }
}

impl DisplayAs for DeduplicateExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        let schema = self.input.schema();
        let keys: Vec<&str> = self.key_indices.iter().map(|i| schema.field(*i).name().as_str()).collect();
        write!(f, "DeduplicateExec: keys=[{}] time={} within={}", keys.join(", "), schema.field(self.time_index).name(), Us(self.within_us))
    }
}

impl ExecutionPlan for DeduplicateExec {
    fn name(&self) -> &str {
        "DeduplicateExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn input_distribution_requirements(&self) -> InputDistributionRequirements {
        InputDistributionRequirements::new(vec![Distribution::KeyPartitioned(self.keys().collect())])
    }

    fn required_input_ordering(&self) -> Vec<Option<OrderingRequirements>> {
        vec![self.ordering().map(OrderingRequirements::from)]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn apply_expressions(&self, _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        match (children.pop(), children.is_empty()) {
            (Some(input), true) => Ok(Arc::new(Self::new(input, self.key_indices.clone(), self.time_index, self.within_us))),
            _ => internal_err!("DeduplicateExec takes one input"),
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let input = self.input.execute(partition, context)?;
        let schema = self.schema();
        let key_types = self.key_indices.iter().map(|i| schema.field(*i).data_type().clone());
        let mut keep = KeepFirst::new(key_types, self.within_us)?;
        let (key_indices, time_index) = (self.key_indices.clone(), self.time_index);
        let batches = input.map(move |batch| {
            let batch = batch?;
            let _timer = metrics.elapsed_compute().timer();
            let times = cast(batch.column(time_index), &event_time_type())?;
            let keys: Vec<ArrayRef> = key_indices.iter().map(|i| one_key(batch.column(*i))).collect();
            let kept = keep.keep(&keys, times.as_primitive::<TimestampMicrosecondType>())?;
            Ok(filter_record_batch(&batch, &kept)?.record_output(&metrics))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}
