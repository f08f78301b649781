//! Batches of a bounded size in bytes. DataFusion counts rows: 8,192 make a batch, whatever they weigh, and no step accounts for the batches that it
//! makes or passes on.
//!
//! Footers say how large rows are. Before a plan runs, each of its steps is given the number of rows that makes a batch of about
//! [`batch_bytes`]; steps that do not see the large columns keep the usual one. What still comes out larger, because a few rows are much
//! larger than the others of their row group, is cut where it is read ([`bounded`]).

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::future::ready;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Schema};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, internal_err};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileScanConfig, FileSource, ParquetFileReaderFactory, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::DataFusionError;
use datafusion::execution::memory_pool::{MemoryLimit, MemoryPool};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::joins::{CrossJoinExec, NestedLoopJoinExec, PiecewiseMergeJoinExec};
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::union::{InterleaveExec, UnionExec};
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, replace_children_if_necessary};
use futures::{FutureExt, StreamExt, TryStreamExt, stream};

use crate::accounted::accounted;
use crate::damage::caught;
use crate::limits::{
    BATCH_BYTES_MAX, BATCH_BYTES_MIN, BATCHES_IN_MEMORY, FOOTERS_AT_ONCE, FOOTERS_LOOKED_AT, LARGE_ROW_BYTES, REQUEST_TIMEOUT,
    SCANS_AT_ONCE,
};
use crate::pieces::{compacted, pieces, row_bytes, viewed_bytes};
use crate::row_width::{RowWidth, rows_of};

/// Bytes that a reference to a value takes where the value itself has no fixed size.
const REFERENCE_BYTES: usize = 16;

/// What a batch should have at most within this pool's limit. A query has some dozens of batches in memory that nobody accounts for.
pub fn batch_bytes(pool: &dyn MemoryPool) -> usize {
    match pool.memory_limit() {
        MemoryLimit::Finite(bytes) => (bytes / BATCHES_IN_MEMORY).clamp(BATCH_BYTES_MIN, BATCH_BYTES_MAX),
        MemoryLimit::Infinite | MemoryLimit::Unknown => BATCH_BYTES_MAX,
    }
}

/// The same plan, in which batches of large rows have few of them. For plans that are ready to run in `task`, before
/// [`with_damage_named`](crate::with_damage_named).
pub async fn with_bounded_batches(plan: Arc<dyn ExecutionPlan>, task: &TaskContext) -> Result<Arc<dyn ExecutionPlan>> {
    let widths = widths(scans(&plan)?).boxed().await;
    let sizes = Sizes { bytes: batch_bytes(task.memory_pool().as_ref()), rows_max: task.session_config().batch_size() };
    let mut known: HashMap<usize, Size> = HashMap::new();
    let plan = plan.transform_up(|node| {
        let inputs: Vec<Size> = node.children().iter().map(|input| known.get(&address(input)).copied().unwrap_or_default()).collect();
        let of_values = match widths.get(&address(&node)) {
            Some(width) => *width,
            None if node.is::<UnionExec>() || node.is::<InterleaveExec>() => inputs.iter().map(|size| size.of_values).fold(0.0, f64::max),
            None => inputs.iter().map(|size| size.of_values).sum(),
        };
        let size = sizes.of(&node.schema(), of_values);
        let before = address(&node);
        let node = accounted(sized(node, size, &inputs)?)?;
        known.insert(address(&node), size);
        Ok(if address(&node) == before { Transformed::no(node) } else { Transformed::yes(node) })
    });
    let plan = plan.data()?;
    let rows = known.get(&address(&plan)).map_or(sizes.rows_max, |size| size.rows);
    Ok(if rows < sizes.rows_max { Arc::new(RowsAtOnce { input: plan, rows }) as Arc<dyn ExecutionPlan> } else { plan })
}

/// Tells a step of a plan from the others while the plan is there.
fn address(node: &Arc<dyn ExecutionPlan>) -> usize {
    Arc::as_ptr(node).cast::<()>() as usize
}

/// What batches may have.
struct Sizes {
    bytes: usize,
    rows_max: usize,
}

/// Of the batches of one step.
#[derive(Debug, Clone, Copy, Default)]
struct Size {
    /// Rows of a batch; 0 if nothing is known.
    rows: usize,
    /// Bytes of a row in columns without a fixed size.
    of_values: f64,
}

impl Sizes {
    /// What comes out of a step whose input has rows of that size in columns without a fixed size.
    fn of(&self, schema: &Schema, of_values: f64) -> Size {
        let fixed: usize = schema.fields().iter().map(|field| field.data_type().primitive_width().unwrap_or(REFERENCE_BYTES)).sum();
        let has_values = schema.fields().iter().any(|field| is_of_any_size(field.data_type()));
        let of_values = if has_values { of_values } else { 0.0 };
        Size { rows: rows_of(fixed as f64 + of_values, self.bytes, self.rows_max), of_values }
    }
}

fn is_of_any_size(data_type: &DataType) -> bool {
    data_type.primitive_width().is_none() && !matches!(data_type, DataType::Boolean | DataType::Null | DataType::FixedSizeBinary(_))
}

/// The step with this size of batches, above inputs that have their own.
fn sized(node: Arc<dyn ExecutionPlan>, size: Size, inputs: &[Size]) -> Result<Arc<dyn ExecutionPlan>> {
    // It knows its number of rows from when it was planned.
    let node = match node.downcast_ref::<FilterExec>() {
        Some(filter) if filter.batch_size() > size.rows => Arc::new(filter.with_batch_size(size.rows)?) as Arc<dyn ExecutionPlan>,
        _ => node,
    };
    // These put a row of one side beside all rows of a batch of the other.
    let multiplies = node.is::<CrossJoinExec>() || node.is::<NestedLoopJoinExec>() || node.is::<PiecewiseMergeJoinExec>();
    let differs = |input: &Size| input.rows > 0 && input.rows != size.rows && !(multiplies && input.rows > size.rows);
    if !inputs.iter().any(differs) {
        return Ok(node);
    }
    let wrapped = node.children().into_iter().zip(inputs).map(|(input, of_input)| {
        let input = Arc::clone(input);
        if differs(of_input) { Arc::new(RowsAtOnce { input, rows: of_input.rows }) as Arc<dyn ExecutionPlan> } else { input }
    });
    let wrapped = wrapped.collect();
    replace_children_if_necessary(node, wrapped)
}

/// A scan of data files, and what is looked at to tell how large its rows are.
struct Scan {
    address: usize,
    columns: HashSet<String>,
    readers: Arc<dyn ParquetFileReaderFactory>,
    files: Vec<PartitionedFile>,
}

/// The scans of data files in a plan.
fn scans(plan: &Arc<dyn ExecutionPlan>) -> Result<Vec<Scan>> {
    let mut scans = Vec::new();
    plan.apply(|node| {
        let scan = node.downcast_ref::<DataSourceExec>().and_then(|scan| scan.downcast_to_file_source::<ParquetSource>());
        if let Some((config, source)) = scan
            && let Some(readers) = source.parquet_file_reader_factory()
        {
            let readers = Arc::clone(readers);
            scans.push(Scan { address: address(node), columns: columns(source), readers, files: looked_at(config) });
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(scans)
}

/// Bytes of a row in the columns that each scan reads, by the address of the scan. A scan whose footers cannot be read is left out: it will say why
/// itself.
async fn widths(scans: Vec<Scan>) -> HashMap<usize, f64> {
    let width = |scan: Scan| async move {
        let width = tokio::time::timeout(REQUEST_TIMEOUT, row_width(scan.readers, scan.files)).await.ok()?;
        Some((scan.address, width.bytes(scan.columns.iter().map(String::as_str))))
    };
    stream::iter(scans).map(width).buffer_unordered(SCANS_AT_ONCE).filter_map(ready).collect().await
}

/// The columns that a scan decodes.
fn columns(source: &ParquetSource) -> HashSet<String> {
    let projected = source.projection().into_iter().flat_map(|projection| projection.expr_iter());
    let columns = projected.chain(source.filter()).flat_map(|expr| collect_columns(&expr));
    columns.map(|column| column.name().to_owned()).collect()
}

/// Some of a scan's files: spread over all of them, and the largest.
fn looked_at(config: &FileScanConfig) -> Vec<PartitionedFile> {
    let files: Vec<&PartitionedFile> = config.file_groups.iter().flat_map(|group| group.files()).collect();
    let largest = files.iter().max_by_key(|file| file.object_meta.size);
    let looked_at = files.iter().step_by(files.len().div_ceil(FOOTERS_LOOKED_AT).max(1)).chain(largest);
    looked_at.map(|file| PartitionedFile::new_from_meta(file.object_meta.clone())).collect()
}

/// How large the rows of files are. The readers keep the footers, so the scan need not fetch them again.
async fn row_width(readers: Arc<dyn ParquetFileReaderFactory>, files: Vec<PartitionedFile>) -> RowWidth {
    let read = |file: PartitionedFile| {
        let readers = Arc::clone(&readers);
        async move {
            let mut reader = readers.create_reader(0, file, None, &ExecutionPlanMetricsSet::new()).ok()?;
            caught(reader.get_metadata(None)).await.ok().map(|footer| RowWidth::of(&footer))
        }
    };
    let read: Vec<Option<RowWidth>> = stream::iter(files).map(read).buffer_unordered(FOOTERS_AT_ONCE).collect().await;
    let mut widest = RowWidth::default();
    read.into_iter().flatten().for_each(|width| widest.widen(width));
    widest
}

/// The rows of a scan in batches of about `bytes` at most, which keep alive little else.
pub(crate) fn bounded(rows: SendableRecordBatchStream, bytes: usize) -> SendableRecordBatchStream {
    let schema = rows.schema();
    let cut = rows.map_ok(move |batch| {
        let parts = pieces(batch, bytes).into_iter().map(move |part| if keeps_much(&part, bytes) { compacted(part) } else { part });
        stream::iter(parts.map(Ok::<_, DataFusionError>))
    });
    Box::pin(RecordBatchStreamAdapter::new(schema, cut.try_flatten()))
}

/// Whether a batch of large rows keeps alive much more than these: a view is of a whole page. Small rows are so many that they need most of it.
fn keeps_much(batch: &RecordBatch, bytes: usize) -> bool {
    let needed = row_bytes(batch);
    needed >= LARGE_ROW_BYTES * batch.num_rows() && viewed_bytes(batch) > bytes.max(2 * needed)
}

/// Runs a part of a plan with another number of rows to a batch.
#[derive(Debug)]
struct RowsAtOnce {
    input: Arc<dyn ExecutionPlan>,
    rows: usize,
}

impl DisplayAs for RowsAtOnce {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "RowsAtOnceExec: rows={}", self.rows)
    }
}

impl ExecutionPlan for RowsAtOnce {
    fn name(&self) -> &str {
        "RowsAtOnceExec"
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
            (Some(input), true) => Ok(Arc::new(Self { input, rows: self.rows })),
            _ => internal_err!("it has one input"),
        }
    }

    fn execute(&self, partition: usize, task: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let task = TaskContext::new(
            task.task_id(),
            task.session_id(),
            task.session_config().clone().with_batch_size(self.rows),
            task.scalar_functions().clone(),
            task.higher_order_functions().clone(),
            task.aggregate_functions().clone(),
            task.window_functions().clone(),
            task.runtime_env(),
        );
        self.input.execute(partition, Arc::new(task))
    }
}
